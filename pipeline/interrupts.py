"""Owns the moments at which a signal may end a study."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def held_back() -> Iterator[Callable[[], None]]:
    """Holds SIGINT and SIGTERM back until the block asks for them.

    A handler that raises does so anywhere: in the release of a lock, between a trial's end and the
    note that it ended, or in the collection of garbage, where the exception is lost.

    Yields:
        What to call where it is safe to stop: it delivers the first signal that arrived, to the
        handler that was there before. The end of the block delivers it too. A second SIGINT does
        not wait: whoever sends it wants no more patience.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None  # signals are the main thread's
        return
    arrived: list[int] = []

    def hold(number: int, _: FrameType | None) -> None:
        if number == signal.SIGINT and signal.SIGINT in arrived:
            raise KeyboardInterrupt
        arrived.append(number)

    held = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, hold) for number in held}

    def let_go() -> None:
        # Once only: the handler that hears of the first signal may have set others.
        while before:
            signal.signal(*before.popitem())

    def deliver() -> None:
        if arrived:
            let_go()
            os.kill(os.getpid(), arrived.pop(0))

    try:
        yield deliver
    finally:
        let_go()
    deliver()
