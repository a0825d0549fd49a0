"""Owns how long a study waits for a store that went away: what is tried again, and when no more."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any, ParamSpec, TypeVar

from pipeline.config import ConfigError
from pipeline.store import StoreLostError, chain, failures, masked, reason, single_tries

Result = TypeVar("Result")
Arguments = ParamSpec("Arguments")

# Seconds between two tries: doubled from the first to the second.
PAUSE, LONGEST_PAUSE = 0.05, 2.0
# Seconds that one request may take, so that one which is never answered is tried again.
TIMEOUT = 30.0
# A server's error 500 may be a bug for ever, or the hiccup of a moment.
HICCUP = 10.0
AWAY, BROKEN = {408, 429, 502, 503, 504}, {500}
FOREVER = float("inf")

STATUS = re.compile(r"too many (\d+) error responses")
NO_ANSWER = re.compile(
    r"Connection aborted|Connection refused|Connection reset|NewConnectionError|timed out"
    r"|RemoteDisconnected|IncompleteRead"
)

# The errors of a database whose server is not there, or whose file another process has locked.
LOCKED = re.compile(r"database (table )?is (locked|busy)")
DISCONNECTED = re.compile(
    r"connect|closed the|gone away|timeout|timed out|starting up|shutting down|deadlock",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Patience:
    """Calls functions of the store until it answers. They must be such as can be called again.

    Within, what a client is asked is repeated by itself where nothing can be done twice by that:
    see `RepeatingClient`.

    Attributes:
        seconds: After which a store that does not answer is given up.
        uri: The store, for the error.
        what: What kind of store it is, likewise.
    """

    seconds: float
    uri: str
    what: str = "the tracking store"

    def __call__(
        self,
        function: Callable[Arguments, Result],
        *args: Arguments.args,
        **kwargs: Arguments.kwargs,
    ) -> Result:
        """What the function returns.

        Raises:
            StoreLostError: The store was away for too long, or refused what was to be written.
            ConfigError: What the function found wrong itself.
        """
        within = _PATIENCE.set(self)
        try:
            with single_tries(min(TIMEOUT, self.seconds)):
                return self.repeat(function, *args, **kwargs)
        except _expected() as error:
            limit = self._limit(error)
            if isinstance(error, ConfigError) and limit < self.seconds:
                raise
            raise StoreLostError(self._told(error, limit)) from error
        finally:
            _PATIENCE.reset(within)

    def repeat(
        self,
        function: Callable[Arguments, Result],
        *args: Arguments.args,
        **kwargs: Arguments.kwargs,
    ) -> Result:
        """What the function returns; raises the error of the last try."""
        pause = PAUSE
        while True:
            started = time.monotonic()
            try:
                result = function(*args, **kwargs)
            except _expected() as error:
                limit = self._limit(error)
                if not limit or (left := limit - Outage.lasted(since=started)) <= 0:
                    raise
            else:
                Outage.end()
                return result
            time.sleep(min(pause, left))
            pause = min(2 * pause, LONGEST_PAUSE)

    def _limit(self, error: Exception) -> float:
        return min(self.seconds, patience_with(error))

    def _told(self, error: Exception, limit: float) -> str:
        place = masked(self.uri)
        rule = f"{self.what} must answer and be writable"
        if limit:
            rule = f"{self.what} must answer within {limit:g} s"
            place += ", tracking.give_up_after" if limit == self.seconds else ""
        cause = error.__cause__ if isinstance(error, ConfigError) else error
        return f"{rule}, however: {reason(cause or error, self.uri)} ({place})"


def _expected() -> tuple[type[Exception], ...]:
    from mlflow.exceptions import MlflowException

    return ConfigError, MlflowException, *failures()


# Of the call that this thread is in.
_PATIENCE: ContextVar[Patience | None] = ContextVar("patience", default=None)

# A client's methods that change nothing if what they ask was done already.
REPEATABLE = ("get_", "search_", "set_", "log_", "update_", "finalize_")
# A second time, MLflow's database refuses the first. The others ask for much: see `log_folder`.
ONCE = {"log_outputs", "log_artifacts", "log_model_artifacts"}


class RepeatingClient:
    """A client whose single requests are patient, too, within a call of `Patience`.

    A function that asks ten things would else get nowhere where every third answer is lost: it
    begins anew each time. What makes or deletes something is left to the function, which looks
    first whether that was done.

    Args:
        client: An `MlflowClient`.
    """

    def __init__(self, client: object) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._client, name)
        repeatable = name.startswith(REPEATABLE) and name not in ONCE
        return partial(_patiently, attribute) if repeatable else attribute


def _patiently(
    method: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
) -> Result:
    patience = _PATIENCE.get()
    return patience.repeat(method, *args, **kwargs) if patience else method(*args, **kwargs)


class Outage:
    """Since when the store has been away from this process: all calls wait for it together."""

    began: float | None = None
    answered = 0.0

    @classmethod
    def end(cls) -> None:
        """The store answered."""
        cls.began, cls.answered = None, time.monotonic()

    @classmethod
    def lasted(cls, since: float) -> float:
        """Seconds; its first sign is when the call began, or got its last answer."""
        cls.began = max(since, cls.answered) if cls.began is None else cls.began
        return time.monotonic() - cls.began


def patience_with(error: BaseException) -> float:
    """For how many seconds a call that failed may succeed if it is repeated; 0 if it never will."""
    return max(map(_patience_with, chain(error)), default=0.0)


def _patience_with(error: BaseException) -> float:
    import requests
    import sqlalchemy
    from mlflow.exceptions import MlflowException

    if isinstance(error, requests.HTTPError) and error.response is not None:
        return _patience_with_status(error.response.status_code)
    if isinstance(error, (requests.exceptions.RetryError, MlflowException)):
        # MLflow's error of a download tells of those that led to it in words alone.
        status = STATUS.search(str(error))
        lost = NO_ANSWER.search(str(error)) is not None
        return FOREVER if lost else _patience_with_status(int(status[1]) if status else 0)
    no_answer = (requests.ConnectionError, requests.Timeout, ConnectionError, TimeoutError)
    if isinstance(error, (*no_answer, requests.exceptions.ChunkedEncodingError)):
        return FOREVER
    if isinstance(error, sqlalchemy.exc.DBAPIError):
        text = str(error.orig)
        sqlite = type(error.orig).__module__.startswith("sqlite3")
        away = (LOCKED if sqlite else DISCONNECTED).search(text)
        return FOREVER if away or error.connection_invalidated else 0.0
    return 0.0


def _patience_with_status(status: int) -> float:
    return FOREVER if status in AWAY else HICCUP if status in BROKEN else 0.0
