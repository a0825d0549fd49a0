"""A small study that several populations train, and what must hold of it then."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from tests.commands import parents, runs, with_store
from tests.held import states

N_TRIALS, N_REPLICATES = 14, 8
TEXT = f"""
name = "spread"
seed = 3
[data]
source = "sklearn:wine"
[model]
hidden = [6]
[training]
max_epochs = 200
batch_size = 32
[search]
n_trials = {N_TRIALS}
population = 4
pruner_warmup = 30
[space]
patience = {{ low = 60, high = 90 }}
[confirm]
replicates = {N_REPLICATES}
"""
TABLES = ("trials.csv", "confirm/summary.csv", "confirm/pairs.csv")

SEARCHED = "select count(*) from tags where key = 'stage' and value = 'search'"


def with_study(folder: Path) -> Path:
    (with_store(folder) / "study.toml").write_text(TEXT)
    return folder


def opened(folder: Path) -> Callable[[], bool]:
    """Whether the study has begun, and its populations before it."""
    return _holds(folder, "select count(*) from runs", 1)


def searched(folder: Path, n_trials: int) -> Callable[[], bool]:
    """Whether so many trials stand in the store."""
    return _holds(folder, SEARCHED, n_trials)


def _holds(folder: Path, query: str, least: int) -> Callable[[], bool]:
    def look() -> bool:
        with closing(sqlite3.connect(f"file:{folder}/mlflow.db?mode=ro", uri=True)) as store:
            return bool(store.execute(query).fetchone()[0] >= least)

    return look


def tables(folder: Path) -> dict[str, bytes]:
    (parent,) = parents(folder)
    place = Path(parent.info.artifact_uri)
    return {name: (place / name).read_bytes() for name in TABLES}


def assert_whole(folder: Path) -> None:
    """Each trial and each training once, all of them ended."""
    assert states(folder) == [("complete", "FINISHED")]
    children = [run for run in runs(folder) if "mlflow.parentRunId" in run.data.tags]
    assert {run.info.status for run in children} <= {"FINISHED", "KILLED", "FAILED"}
    search = [run for run in children if run.data.tags["stage"] == "search"]
    assert sorted(int(run.data.tags["trial.number"]) for run in search) == list(range(N_TRIALS))
    confirmed = Counter(
        (run.data.tags["finalist"], run.data.tags.get("replicate"))
        for run in children
        if run.data.tags["stage"] == "confirm"
    )
    assert set(confirmed.values()) == {1}
