"""Programs that tests start, watch and kill."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.commands import PROJECT, environment


@contextmanager
def program(folder: Path, *command: str, **extra: str) -> Iterator[subprocess.Popen[str]]:
    """A command that runs, until the block's end at the latest."""
    running = subprocess.Popen(
        command,
        cwd=folder,
        env=environment(folder, extra),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield running
    finally:
        running.kill()
        running.communicate()


def study_program(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "pipeline", "run", *arguments]


def mlflow_program(*arguments: str) -> list[str]:
    given = [part for each in arguments for part in ("-P", each)]
    return ["mlflow", "run", str(PROJECT), "--env-manager", "local", *given]


def wait_until(happened: Callable[[], object], within: float = 180) -> None:
    for _ in range(int(within / 0.05)):
        if happened():
            return
        time.sleep(0.05)
    pytest.fail(f"it did not happen within {within:g} seconds")


def descendants(process: int) -> list[int]:
    """A process's children, theirs, and so on, as they are now."""
    below = {process}
    parents = dict(filter(None, map(_with_parent, Path("/proc").glob("[0-9]*"))))
    while more := {each for each, parent in parents.items() if parent in below} - below:
        below |= more
    return sorted(below - {process})


def studying(process: int) -> int | None:
    """The program below a process that runs a study, once it is one."""
    words = b"\0-m\0pipeline\0run\0"
    return next((each for each in descendants(process) if words in _command_of(each)), None)


def arguments_of_all_processes() -> bytes:
    return b"".join(_command_of(int(place.name)) for place in Path("/proc").glob("[0-9]*"))


def _command_of(process: int) -> bytes:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return b""


def _with_parent(place: Path) -> tuple[int, int] | None:
    try:
        status = (place / "stat").read_text()
    except OSError:
        return None
    return int(place.name), int(status.rpartition(")")[2].split()[1])


def lives(process: int) -> bool:
    """A zombie that nobody waits for does not."""
    try:
        status = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"
