"""Owns the moments at which a signal may end a study."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType


class Hurried(KeyboardInterrupt):
    """A second Ctrl-C: whoever sends it waits for nothing more, not even for runs to be closed."""


@contextmanager
def held_back() -> Iterator[Callable[[], None]]:
    """Holds SIGINT and SIGTERM back until the block asks for them.

    A handler that raises does so anywhere: in the release of a lock, between a trial's end and the
    note that it ended, or in the collection of garbage, where the exception is lost.

    Yields:
        What to call where it is safe to stop: it delivers the first signal that arrived, to the
        handler that was there before, or raises SystemExit where there was none. Later ones are
        forgotten. The end of the block delivers it too. A second SIGINT does not wait: both go to
        the handler that was there before, which may end the program. If it raises, so is Hurried.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None  # signals are the main thread's
        return
    arrived: list[signal.Signals] = []

    def hold(number: int, _: FrameType | None) -> None:
        if number == signal.SIGINT and signal.SIGINT in arrived:
            hurry()
        else:
            arrived.append(signal.Signals(number))

    held = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, hold) for number in held}

    def let_go() -> None:
        # Once only: the handler that hears of the first signal may have set others.
        while before:
            signal.signal(*before.popitem())

    def hurry() -> None:
        # What is raised here may be lost or turned into another error by what it passes through: a
        # program that is to end for certain ends in its handler.
        arrived.clear()
        let_go()
        with suppress(BaseException):
            signal.raise_signal(signal.SIGINT)
        try:
            signal.raise_signal(signal.SIGINT)
        except BaseException as error:
            raise Hurried from error

    def deliver() -> None:
        if not arrived:
            return
        first = arrived[0]
        arrived.clear()
        unhandled = before.get(first) is signal.SIG_DFL
        let_go()
        if unhandled:
            raise SystemExit(128 + first)  # the default would end the process on the spot
        os.kill(os.getpid(), first)

    try:
        yield deliver
    finally:
        let_go()
    deliver()
