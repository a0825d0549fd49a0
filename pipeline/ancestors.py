"""Owns what a process does once those that it works for are gone: nobody waits for it any more."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

# What Linux tells of processes.
PROCESSES = Path("/proc")

# Seconds between two looks.
PAUSE = 0.5

# Seconds by which two clocks of one machine may differ.
A_MOMENT = 1.0

# What `mlflow run` tells the program of the run that it opened, and those that it starts it by.
RUN_ID = "MLFLOW_RUN_ID"
SHELLS = {"bash", "sh", "dash", "zsh", "fish", "ksh"}


def ancestors() -> Iterator[int]:
    """This process's parent, its parent, and so on. Without /proc only the first is known."""
    process: int | None = os.getppid()
    while process is not None and process > 1:
        yield process
        process = _parent_of(process)


def end_with(parent: int) -> None:
    """From now on this process ends when its parent does, whatever it is at.

    Args:
        parent: As it was known before this process was made: it may be gone by now.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(PAUSE)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def stand(line: list[int]) -> bool:
    """Whether a line of ancestors is as it was, this process's parent first."""
    if os.getppid() != line[0]:
        return False
    return all(_parent_of(child) == parent for child, parent in pairwise(line))


def tell_of_end(line: list[int], tell: Callable[[], None]) -> None:
    """Calls, from another thread, once one of a line of ancestors is gone; never for an empty one.

    Args:
        line: This process's parent first.
        tell: What is called.
    """

    def watch() -> None:
        while stand(line):
            time.sleep(PAUSE)
        tell()

    if line:
        threading.Thread(target=watch, daemon=True).start()


def up_to_mlflow_run() -> list[int]:
    """The ancestors up to the `mlflow run` that started this program, if one did; nearest first.

    It starts the program by a shell, which may or may not make way for it. A shell that is not of
    its making is a person's, in which the run's id was set by hand: nobody is to be watched then.
    """
    run_id = os.environ.get(RUN_ID)
    if not run_id:
        return []
    line: list[int] = []
    for process in ancestors():
        if _name_of(process) not in SHELLS:
            return [*line, process]
        if not _was_told(process, run_id):
            return []
        line.append(process)
    return line


def may_begin(run_id: str, opened: float) -> bool:
    """Whether a run that `mlflow run` opened may still become a study, of this user and machine.

    The program that it was opened for lives, or the `mlflow run` that may have opened it, and
    gets ready: what it installs takes minutes, and until then nothing tells what its run is.

    Args:
        run_id: The run's.
        opened: When it was, in seconds since 1970.
    """
    processes = [int(process.name) for process in PROCESSES.glob("[0-9]*")]
    return any(
        _was_told(process, run_id)
        or (_is_mlflow_run(process) and _started(process) <= opened + A_MOMENT)
        for process in processes
    )


class Work(NamedTuple):
    """What a process does with the processor.

    Attributes:
        wanted: Whether it computes, or would if it were its turn.
        used: What it has had of it so far, in ticks of the clock.
    """

    wanted: bool
    used: int


def work_of(process: int) -> Work | None:
    """What a process does just now; None where nothing tells."""
    found = _status_of(process)
    return None if found is None else Work(found[0] == "R", int(found[11]) + int(found[12]))


def _parent_of(process: int) -> int | None:
    found = _status_of(process)
    return None if found is None else int(found[1])


def _started(process: int) -> float:
    """When a process began, in seconds since 1970 by the clock as it is now; 0 if it is gone."""
    found = _status_of(process)
    if found is None:
        return 0.0
    since_boot = int(found[19]) / os.sysconf("SC_CLK_TCK")
    booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    return booted + since_boot


def _status_of(process: int) -> list[str] | None:
    """What /proc/PID/stat tells: state, parent, ... (proc(5), from the third field on)."""
    try:
        status = (PROCESSES / str(process) / "stat").read_text(encoding="utf-8")
    except OSError:
        return None
    # "pid (name) state ppid ...", where the name may hold spaces and brackets.
    return status.rpartition(")")[2].split()


def _name_of(process: int) -> str:
    try:
        return (PROCESSES / str(process) / "comm").read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _is_mlflow_run(process: int) -> bool:
    try:
        words = (PROCESSES / str(process) / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return any(Path(os.fsdecode(word)).name == "mlflow" for word in words) and b"run" in words


def _was_told(process: int, run_id: str) -> bool:
    """Whether a process was started with a run's id: what a shell exports later does not count."""
    try:
        told = (PROCESSES / str(process) / "environ").read_bytes().split(b"\0")
    except OSError:
        return False
    return f"{RUN_ID}={run_id}".encode() in told
