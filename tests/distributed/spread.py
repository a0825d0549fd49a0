"""A small study that several populations train, and what must hold of it then."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from tests.commands import assert_each_once, states, with_store

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


def assert_whole(folder: Path) -> None:
    """Complete, each trial and each training once."""
    assert states(folder) == [("complete", "FINISHED")]
    assert_each_once(folder, N_TRIALS)
