"""Owns the second process, which writes what the first one hands over, one thing after another."""

from __future__ import annotations

import atexit
import gc
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any, ParamSpec, TypeVar

from pipeline.ancestors import Work, end_with, work_of

Result = TypeVar("Result")
Arguments = ParamSpec("Arguments")

UNTOLD = "ignore::UserWarning:loky.backend.resource_tracker"


def submit(
    function: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
) -> Future[Result]:
    """Calls a function there, after all that was submitted before; starts the process if needed.

    loky's executor needs no `if __name__ == "__main__"` in the caller's script, tells of a worker
    that died, and lets go of the worker once nothing has come for a while.
    """
    future: Future[Result] = _executor().submit(function, *args, **kwargs)
    return future


def forget() -> None:
    """Cancels whatever was submitted and has not begun."""
    for item in list(_executor()._pending_work_items.values()):
        item.future.cancel()


def discard() -> None:
    """Ends the process at once, whatever it is at: nothing of it is wanted any more."""
    executor = _executor()
    # loky would tell those that were cancelled of the end, too, and fail.
    for number, item in list(executor._pending_work_items.items()):
        if item.future.cancelled():
            executor._pending_work_items.pop(number, None)
    executor.shutdown(wait=True, kill_workers=True)


def while_it_works(seconds: float, at_most: float) -> Iterator[None]:
    """Goes on until the process has only waited for so many seconds in all, or for `at_most`.

    So a store that went away is told from a busy machine, on which the process has to wait for its
    turn. Where nothing tells what it does, it is taken to wait.
    """
    now, work = time.monotonic(), _work()
    end = now + at_most
    while seconds > 0 and now < end:
        yield
        before, so_far = now, work
        now, work = time.monotonic(), _work()
        if work is None or (work == so_far and not work.wanted):
            seconds -= now - before


def _work() -> Work | None:
    return next(map(work_of, list(_executor()._processes)), None)


def _executor() -> Any:
    from loky import get_reusable_executor

    # loky's own process hands it on to its interpreter: of a program that ended at once it would
    # tell, after that one's last line, what it had to clean up.
    if UNTOLD not in sys.warnoptions:
        sys.warnoptions.append(UNTOLD)
    begin = {"initializer": _begin_work, "initargs": (os.getpid(),)}
    return get_reusable_executor(max_workers=1, timeout=60, reuse=True, **begin)


def _begin_work(parent: int) -> None:
    from loky import process_executor

    # Ctrl-C reaches every process of a terminal, and SIGTERM may be sent to all of a group; only
    # the study decides what they mean.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # loky replaces a worker that has grown since its first call, where psutil is there to tell.
    # This one grows by all that it imports after that.
    process_executor._MAX_MEMORY_LEAK_SIZE = sys.maxsize
    atexit.register(gc.freeze)  # see __main__
    # A killed study must not go on writing: what it had not told is repaired by a resume.
    end_with(parent)
