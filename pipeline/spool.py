"""Owns runs that could not be written: they lie in a folder until the tracking store is back.

A folder a run: `run.json` with all that the store is to hold of it, and its files. JSON and bytes:
nothing in it is ever executed. An entry is there whole or, under another name, not yet.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

from pipeline.contents import EndedRun, MetricPoint

RUN_FILE, FILES_FOLDER = "run.json", "files"
UNFINISHED = ".unfinished-"


def spool_of(journal: str) -> Path:
    """The folder of a study's unwritten runs: beside its journal."""
    return Path(journal).with_suffix(".spool")


def keep(spool: Path, run: EndedRun) -> None:
    """Adds a run; one of the same name is replaced."""
    entry, fresh = spool / run.name, spool / f"{UNFINISHED}{run.name}"
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        (fresh / FILES_FOLDER).mkdir(parents=True)
        plain = {each.name: getattr(run, each.name) for each in fields(run)}
        plain["files"] = list(run.files)
        _write(fresh / RUN_FILE, json.dumps(plain, indent=1).encode())
        for name, content in run.files.items():
            _write(fresh / FILES_FOLDER / name, content)
        _sync(fresh / FILES_FOLDER)
        _sync(fresh)
        drop(entry)
        fresh.rename(entry)
        _sync(spool)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise


def kept(spool: Path) -> Iterator[tuple[Path, EndedRun]]:
    """The runs of a spool by their folders, in the order of their names."""
    for entry in sorted(spool.glob("*")):
        if not entry.name.startswith(UNFINISHED) and (entry / RUN_FILE).is_file():
            plain = json.loads((entry / RUN_FILE).read_bytes())
            files = {name: (entry / FILES_FOLDER / name).read_bytes() for name in plain["files"]}
            metrics = [MetricPoint(*point) for point in plain["metrics"]]
            yield entry, EndedRun(**{**plain, "files": files, "metrics": metrics})


def drop(entry: Path) -> None:
    """Removes a run that stands in the store."""
    if entry.exists():
        gone = entry.with_name(f"{UNFINISHED}{entry.name}-gone")
        shutil.rmtree(gone, ignore_errors=True)
        entry.rename(gone)  # a process that is killed in the middle leaves no half of an entry
        shutil.rmtree(gone, ignore_errors=True)


def clear(spool: Path) -> None:
    """Removes what is left of a spool whose runs stand in the store."""
    shutil.rmtree(spool, ignore_errors=True)


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    """A name outlives a loss of power only once its folder is on the disk."""
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
