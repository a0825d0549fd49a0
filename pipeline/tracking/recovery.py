"""Owns what a resume finds: runs that ended stand or are delivered, what was cut off goes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.contents import STATUS
from pipeline.records import StudyRecord
from pipeline.spool import clear, drop, kept
from pipeline.tracking.client import Parent, children_of, client_of
from pipeline.tracking.reading import read_study
from pipeline.tracking.writing import write_runs

if TYPE_CHECKING:
    from mlflow.entities import Run


def deliver(parent: Parent, spool: Path) -> int:
    """Writes the runs that a start before this one could not write; returns how many.

    It may be cut off at any moment: a run that stands is not written again.
    """
    count = 0
    for entry, run in kept(spool):
        write_runs(parent, [run])
        drop(entry)
        count += 1
    clear(spool)
    return count


def recover_study(parent: Parent, run_ids: Mapping[int, str]) -> StudyRecord:
    """Puts the children of a resumed study in order, and reads what is left.

    What goes: runs that were cut off, which train again; the finalists' averages, which are of
    replicates that may not be all; and of a trial that has two runs, which a process that outlived
    its time can leave, the one that the journal does not know.

    Args:
        parent: The study.
        run_ids: What the journal takes for the runs of finished trials, by trial number.
    """
    client = client_of(parent.uri)
    kept: dict[int, str] = {}
    for run in sorted(children_of(client, parent), key=lambda run: _age(run, run_ids)):
        tags, run_id = run.data.tags, run.info.run_id
        number = int(tags.get("trial.number", -1)) if tags.get("stage") == "search" else None
        average = tags.get("stage") == "confirm" and "replicate" not in tags
        if run.info.status not in STATUS.values():
            client.set_terminated(run_id, "FAILED")
        elif (number is not None and kept.setdefault(number, run_id) == run_id) or (
            number is None and not average
        ):
            continue
        client.delete_run(run_id)
    return read_study(parent.run_id, parent.uri)


def _age(run: Run, run_ids: Mapping[int, str]) -> tuple[bool, int, str]:
    """Those first that the journal knows, then by when they ended."""
    return run.info.run_id not in run_ids.values(), run.info.end_time or 0, run.info.run_id
