"""Owns who trains for a fleet: members that join, answer, fall silent and are given up.

A member is a process somewhere that has a `Host`. It is lost when its process or machine is known
to be gone, and when it does not answer for a while: it may be stopped, or cut off. What a member
that was given up answers later reaches nobody.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from pipeline.config import ConfigError, StudyError
from pipeline.population.forked import LostProcessError
from pipeline.population.host import Load, versions
from pipeline.population.pace import Pace

# Seconds between two looks for members that could join, and within which whoever waits is asked
# whether it is to stop.
LOOK_AROUND, A_MOMENT = 2.0, 0.2

# Seconds within which the first members are to be there: what cannot be had is said soon.
TO_START = 25.0

logger = logging.getLogger(__name__)


class LostMemberError(LostProcessError):
    """A member is gone, and what it trained with it."""


class LostFleetError(LostMemberError, StudyError):
    """No member is left, or one thing takes down whoever trains it."""


@runtime_checkable
class Member(Protocol):
    """A process with a `Host`, seen from here.

    Attributes:
        name: For people.
    """

    name: str

    def call(self, method: str, *arguments: Any) -> Future[Any]:
        """Has a method of its `Host` called, after those asked for before.

        The future raises `LostMemberError` where the process is gone, else what the method raises.
        """
        ...

    def ping(self) -> Future[Any]:
        """Answers as long as the process lives, whatever it is at."""
        ...

    def close(self) -> None:
        """Ends the process."""
        ...


@runtime_checkable
class Source(Protocol):
    """Where members come from."""

    def hire(self, n_present: int) -> Sequence[Member]:
        """Starts as many members more as there is room for, which may not be ready yet."""
        ...

    def put(self, value: Any) -> Any:
        """What to hand to members in place of a large value, so that each machine gets it once."""
        ...

    def close(self) -> None:
        """Gives back whatever it holds."""
        ...


@dataclass(eq=False)
class Desk:
    """A member, and what this side knows of it.

    Attributes:
        member: It.
        pace: How fast it trains.
        loads: Trials that it is to load before its next epoch.
        advance: The epoch that it has begun, if any.
        pinged: When it was asked whether it lives, and its answer.
    """

    member: Member
    pace: Pace = field(default_factory=Pace)
    loads: list[Load] = field(default_factory=list)
    advance: Future[Any] | None = None
    pinged: tuple[float, Future[Any]] | None = None

    def reset(self) -> None:
        """Forgets what was asked for: another search begins."""
        self.loads, self.advance, self.pinged = [], None, None


class Crew:
    """The members that are present.

    Args:
        source: Where they come from.
        timeout: Seconds without an answer after which a member is lost.

    Attributes:
        desks: Of those present.
        stop_if_asked: Called while waiting; may raise.
        n_lost: How many were lost.
        put: What to hand to members in place of a large value.
        welcome: What is done with whoever joins, before anything else is asked of it.

    Raises:
        ConfigError: Nobody came, or with other versions than are here.
    """

    def __init__(self, source: Source, *, timeout: float) -> None:
        self.desks: list[Desk] = []
        self.n_lost = 0
        self.put = source.put
        self.welcome: Callable[[Desk], None] | None = None
        self.stop_if_asked: Callable[[], None] = _nothing
        self._source, self._timeout = source, timeout
        self._coming: list[tuple[Member, Future[Any]]] = []
        self._refused: list[Member] = []
        self._begun = False  # whether the first ones are there
        self._looked = float("-inf")
        try:
            self._wait_for_the_first()
        except BaseException:
            self.close()
            raise

    def look_around(self) -> None:
        """Takes in whoever is ready, and starts those that there is room for."""
        if time.monotonic() - self._looked < LOOK_AROUND and self.desks:
            return
        self._looked = time.monotonic()
        for member in self._source.hire(self._n_present):
            self._coming.append((member, member.call("versions")))
        for member, hello in list(self._coming):
            if hello.done():
                self._coming.remove((member, hello))
                self._take_in(member, hello)

    @property
    def _n_present(self) -> int:
        return len(self.desks) + len(self._coming) + len(self._refused)

    def _take_in(self, member: Member, hello: Future[Any]) -> None:
        try:
            theirs = hello.result()
        except LostMemberError as error:
            logger.warning("a population that was started is lost: %s", error)
            member.close()
            return
        if theirs != versions():
            wrong = (
                f"a population must have the versions that the study has, {_told(versions())}, "
                f"however: {_told(theirs)} ({member.name})"
            )
            if not self._begun:
                member.close()
                raise ConfigError(wrong)
            # It stays, without work: in its place another like it would be hired again and again.
            self._refused.append(member)
            logger.warning("a machine that joined is not used: %s", wrong)
            return
        desk = Desk(member)
        self.desks.append(desk)
        if self._begun:
            logger.warning("another population trains (%s)", member.name)
        if self.welcome is not None:
            self.welcome(desk)

    def _wait_for_the_first(self) -> None:
        """Those that come together begin together."""
        end = time.monotonic() + TO_START
        self.look_around()
        while self._coming and time.monotonic() < end:
            self._wait_a_moment()
        if not self.desks:
            raise ConfigError(
                f"a population must start within {TO_START:g} s, however: none did (--engine ray)"
            )
        self._begun = True

    def ensure(self) -> None:
        """Waits for a member if there is none.

        Raises:
            LostFleetError: None came.
        """
        end = time.monotonic() + self._timeout
        while not self.desks:
            if time.monotonic() > end:
                raise LostFleetError(
                    f"a study needs at least one population, however: all were lost, and for "
                    f"{self._timeout:g} s no other came; --resume continues the study"
                )
            self._wait_a_moment()

    def _wait_a_moment(self) -> None:
        self.stop_if_asked()
        if self._coming:
            wait([hello for _, hello in self._coming], A_MOMENT, FIRST_COMPLETED)
        else:
            time.sleep(A_MOMENT)
        self._looked = float("-inf")
        self.look_around()

    def answers(self, asked: Mapping[Desk, Future[Any]]) -> Iterator[tuple[Desk, Any]]:
        """What members answer, as they do; None of one that is lost, and no longer at its desk.

        Raises whatever a member's method raised.
        """
        waiting = {future: desk for desk, future in asked.items()}
        while waiting:
            done, _ = wait(waiting, A_MOMENT, FIRST_COMPLETED)
            for future in done:
                desk = waiting.pop(future)
                try:
                    answer = future.result()
                except LostMemberError as error:
                    self._lose(desk, str(error))
                    answer = None
                desk.pinged = None
                yield desk, answer
            if not done:
                self.stop_if_asked()
                self.look_around()  # who joins meanwhile begins to get ready
                for future, desk in list(waiting.items()):
                    if self._is_silent(desk):
                        del waiting[future]
                        self._lose(desk, f"it did not answer for {self._timeout:g} s")
                        yield desk, None

    def _is_silent(self, desk: Desk) -> bool:
        """Asks a member that is waited for whether it lives; judges by when it answered last."""
        now = time.monotonic()
        if desk.pinged is None:
            desk.pinged = now, desk.member.ping()
            return False
        since, ping = desk.pinged
        if ping.done():
            if ping.exception() is None and now - since > self._timeout / 4:
                desk.pinged = None
            return False
        return now - since > self._timeout

    def _lose(self, desk: Desk, why: str) -> None:
        if desk in self.desks:
            self.desks.remove(desk)
        self.n_lost += 1
        self._looked = float("-inf")
        desk.member.close()
        logger.warning(
            "a population is lost (%s: %s); its trials begin again", desk.member.name, why
        )

    def close(self) -> None:
        """Ends all members."""
        coming = [member for member, _ in self._coming]
        for member in [*(desk.member for desk in self.desks), *coming, *self._refused]:
            member.close()
        self.desks.clear()
        self._source.close()


def _nothing() -> None:
    pass


def _told(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())
