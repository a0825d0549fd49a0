"""Owns the tracking store's address: made absolute, probed, and shown without its password."""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from pipeline.ancestors import ancestors
from pipeline.config import ConfigError
from pipeline.records import StudyRecord

DATABASES = ("sqlite", "postgresql", "mysql", "mssql")

# The key of the view that an experiment opens on: see `tracking.view`.
TRIALS_VIEW = "study-trials"


class TrackingError(ConfigError):
    """The tracking store cannot be reached or written to, or does not hold what was asked for."""


def is_server(uri: str) -> bool:
    """Whether a store is behind an MLflow server."""
    return uri.startswith(("http://", "https://"))


def is_database(uri: str) -> bool:
    """Whether a store is a database that this program itself connects to."""
    return urlsplit(uri).scheme.partition("+")[0] in DATABASES


class StoreLostError(RuntimeError):
    """The tracking store went away, or could not be written to, while a study ran."""


# A port is no password; what follows a user's name and a colon, up to the last @ that belongs to no
# other address, is one, whatever is in it. Paths lose slashes, and keep the rest of an address.
PASSWORD = re.compile(r"(\w:/+[^:/@\s]*):(?!\d+(?:[/?#\s'\"]|$))(?:(?!\w:/)[^\n])*@")
WHOLE_URI = re.compile(r"[\w+.-]+://[^:/@\s]*:(.*)@", re.DOTALL)
SECRETS = ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")
URIS = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")


def masked(text: str, *uris: str) -> str:
    """A text without passwords: those in its URIs, and those that MLflow was given.

    Args:
        text: It.
        uris: Whose passwords are not to be quoted either, as errors may do.
    """
    secrets = {os.environ.get(key, "") for key in SECRETS}
    known = [*uris, *(os.environ.get(key, "") for key in URIS)]
    for uri in known if len(text.split()) > 1 else [text, *known]:
        found = WHOLE_URI.match(uri)
        if found:
            secrets |= {found[1], unquote(found[1]), quote(found[1], safe="")}
    # A shorter one would take common words out of the text, and keeps nobody out.
    for secret in sorted(filter(lambda each: len(each) >= 4, secrets), key=len, reverse=True):
        text = text.replace(secret, "***")
    return PASSWORD.sub(r"\1:***@", text)


def absolute_uri(uri: str, run_id: str | None) -> str:
    """A relative sqlite address, anchored where it was meant.

    `mlflow run` hands a relative address on as it is, to a program in another folder. The folder
    that was meant is that of one of this program's ancestors: the one whose file holds the run
    that `mlflow run` opened.

    Args:
        uri: The store's address.
        run_id: The run that `mlflow run` opened; None without it.

    Raises:
        TrackingError: No such folder is found.
    """
    scheme, separator, path = uri.partition(":///")
    if scheme != "sqlite" or not separator or path.startswith(("/", ":memory:")) or not path:
        return uri
    for folder in ancestor_folders():
        database = (folder / unquote(path)).resolve()
        if run_id is None or _holds(database, run_id):
            return f"sqlite:///{database}"
    raise TrackingError(
        f"the tracking store's address must be absolute under mlflow run, however: {masked(uri)} "
        "(MLFLOW_TRACKING_URI)"
    )


def sqlite_file(uri: str) -> Path | None:
    """The file of a sqlite store; None for any other store."""
    prefix = "sqlite:///"
    return Path(unquote(uri.removeprefix(prefix))) if uri.startswith(prefix) else None


def folder_of(uri: str) -> Path:
    """Where files that belong to a store go: beside its sqlite file, else the working folder."""
    file = sqlite_file(uri)
    return Path.cwd() if file is None else file.parent


def probe(uri: str, patience: float = 5) -> None:
    """Finds out in seconds whether a store answers and can be written to.

    MLflow's own start would retry an unreachable server or database for minutes. Raises whatever
    the store's driver raises.

    Args:
        uri: The store.
        patience: Seconds to wait for another process that has locked a sqlite store: it is there.
    """
    scheme = urlsplit(uri).scheme
    if is_server(uri):
        import requests

        requests.get(uri.rstrip("/") + "/health", timeout=5).raise_for_status()
        return
    file = sqlite_file(uri)
    if file is not None and not file.exists():
        # Opening it would leave an empty file behind.
        if not os.access(file.parent, os.W_OK):
            raise OSError(f"no file can be made in {file.parent}")
    elif is_database(uri):
        import sqlalchemy

        waiting = {"connect_args": {"timeout": patience}} if scheme == "sqlite" else {}
        engine = sqlalchemy.create_engine(uri, **waiting)
        try:
            with engine.connect() as connection:
                if scheme == "sqlite":
                    connection.exec_driver_sql("BEGIN IMMEDIATE")
                    connection.rollback()
        finally:
            engine.dispose()


@contextmanager
def single_tries(timeout: float) -> Iterator[None]:
    """MLflow asks a server once and no more within: who tries again is the caller.

    MLflow would send a request again whose answer was lost, and so make a run twice.

    Args:
        timeout: Seconds to wait for an answer, unless MLflow's own variable says fewer.
    """
    key = "MLFLOW_HTTP_REQUEST_TIMEOUT"
    given = os.environ.get(key, "")
    seconds = min(int(given), int(timeout)) if given.isdigit() else int(timeout)
    limits = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", key: str(max(1, seconds))}
    with _environment(limits):
        yield


@contextmanager
def _environment(settings: Mapping[str, str]) -> Iterator[None]:
    before = {key: os.environ.get(key) for key in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value


@contextmanager
def named_failure(
    uri: str, *expected: type[Exception], what: str = "the tracking store"
) -> Iterator[None]:
    """Turns whatever a store raises into one line that says which store it was.

    Args:
        uri: The store.
        expected: What it may raise besides errors of the network, of a database, of a file, and
            of a database driver that is not installed.
        what: What kind of store it is.

    Raises:
        TrackingError: Something did.
    """
    try:
        yield
    except (*failures(), *expected) as error:
        raise TrackingError(
            f"{what} must answer and be writable, however: {reason(error, uri)} ({masked(uri)})"
        ) from error


def failures() -> tuple[type[Exception], ...]:
    """What a store raises besides MLflow's own errors."""
    import requests
    import sqlalchemy

    return OSError, ImportError, requests.RequestException, sqlalchemy.exc.SQLAlchemyError


def reason(error: BaseException, uri: str) -> str:
    """What went wrong at a store, in one line without its password."""
    import requests
    import sqlalchemy

    cause = error
    for each in chain(error):
        # MLflow's error of a database holds SQLAlchemy's whole one, statement and values; that of
        # a server is wrapped four times, and begins with what was asked.
        if isinstance(each, sqlalchemy.exc.DBAPIError):
            cause = each.orig or each
        elif isinstance(each, requests.RequestException):
            cause = each if isinstance(each, requests.HTTPError) else list(chain(each))[-1]
            break
    return (" ".join(masked(str(cause), uri).split()) or type(cause).__name__)[:300]


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error, and those that it came from."""
    while error is not None:
        yield error
        hidden = error.__suppress_context__
        error = error.__cause__ or (None if hidden else error.__context__)


def runs_page(experiment_id: str, view: str | None) -> str:
    """The UI's page of an experiment: a saved view's, by its key, or its trials, best first."""
    # Without this part the UI would open in its GenAI mode.
    page = f"#/experiments/{experiment_id}/runs?workflowType=machine_learning"
    if view is None:
        return f"{page}&orderByKey=metrics.%60final%2Fval_loss%60&orderByAsc=true"
    # With any order or filter beside it, the UI would leave the view alone.
    return f"{page}&viewStateShareKey={view}&compareRunsMode=CHART"


def ui_command_and_link(uri: str, experiment_id: str, *, view: bool) -> tuple[str | None, str]:
    """How to open an experiment: a command that starts the UI (None for a server), and a link.

    Args:
        uri: The store.
        experiment_id: The experiment.
        view: Whether the view that it is to open on is saved in it.
    """
    page = runs_page(experiment_id, TRIALS_VIEW if view else None)
    if is_server(uri):
        return None, f"{masked(uri).rstrip('/')}/{page}"
    command = f"mlflow ui --host 127.0.0.1 --port 5000 --backend-store-uri '{masked(uri)}'"
    return command, f"http://127.0.0.1:5000/{page}"


def run_links(record: StudyRecord, uri: str) -> dict[int, str]:
    """Links to the trials' runs by number; from the UI's root where no server is known."""
    root = masked(uri).rstrip("/") if is_server(uri) else ""
    return {
        trial.number: f"{root}/{run_page(record.experiment_id, trial.run_id)}"
        for trial in record.trials
    }


def run_page(experiment_id: str, run_id: str) -> str:
    """The UI's page of a run."""
    # Without the last part the UI would open a run as one of its GenAI mode.
    return f"#/experiments/{experiment_id}/runs/{run_id}?workflowType=machine_learning"


def ancestor_folders() -> Iterator[Path]:
    """The working folders of this process and of its ancestors, nearest first.

    Without /proc only the first is known.
    """
    yield Path.cwd()
    for process in ancestors():
        try:
            yield Path(f"/proc/{process}/cwd").resolve(strict=True)
        except OSError:
            return


def _holds(database: Path, run_id: str) -> bool:
    if not database.is_file():
        return False
    try:
        with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as connection:
            query = "select 1 from runs where run_uuid = ?"
            return connection.execute(query, (run_id,)).fetchone() is not None
    except sqlite3.Error:
        return False
