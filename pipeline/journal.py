"""Owns the journal as a file: what a crash tore off it, and what is no journal any more.

It is a line of JSON an operation, appended; `sampling` has Optuna read and write it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

# Optuna's number of the operation that every journal begins with.
CREATE_STUDY = 0


def mend(path: Path) -> str | None:
    """Cuts off a last line that was not written to its end.

    Optuna would append to it, and then read neither.

    Returns:
        What else is wrong with the journal: a place and why; None where it is sound, or none yet.
    """
    if not path.exists():
        return None
    whole = path.read_bytes()
    end = whole.rfind(b"\n") + 1
    if end < len(whole):
        os.truncate(path, end)
    for number, line in enumerate(whole[:end].splitlines(), start=1):
        operation = _operation(line)
        if operation is None:
            return f"line {number} is no operation of Optuna's"
        if number == 1 and operation["op_code"] != CREATE_STUDY:
            return "line 1 does not begin a study"
    return None


def set_aside(path: Path) -> Path:
    """Gives a journal that cannot be relied on another name, and returns it."""
    names = (path.with_name(f"{path.name}.corrupt{'' if n == 1 else f'-{n}'}") for n in count(1))
    free = next(name for name in names if not name.exists())
    return path.rename(free)


def journals_of(folder: Path, study: str) -> Iterator[Path]:
    """The journals in a folder that begin a study of this name, the newest first."""
    paths = sorted(folder.glob("*.journal"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in paths:
        with path.open("rb") as file:
            operation = _operation(file.readline())
        if operation is not None and operation.get("study_name") == study:
            yield path


def _operation(line: bytes) -> dict[str, Any] | None:
    try:
        read = json.loads(line)
    except ValueError:  # of JSON and of UTF-8
        return None
    return read if isinstance(read, dict) and isinstance(read.get("op_code"), int) else None
