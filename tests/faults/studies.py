"""A small study that is killed and taken up again, and what must hold of it then."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import NamedTuple

import mlflow
import optuna
import pytest
from mlflow.entities import Run
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from pipeline.config import load_config
from pipeline.study import run_study
from tests.commands import PROJECT, assert_each_once, environment, runs, tables, with_store
from tests.faults.forked import SITE, Forked, get_ready

N_TRIALS, N_REPLICATES = 13, 2
TEXT = f"""
name = "killed"
seed = 3
[data]
source = "sklearn:wine"
[model]
hidden = [6]
[training]
max_epochs = 12
batch_size = 16
[search]
n_trials = {N_TRIALS}
population = 4
pruner_warmup = 2
[space]
patience = {{ low = 1, high = 6 }}
[confirm]
replicates = {N_REPLICATES}
"""


def begin(folder: Path, *arguments: str, **extra: str) -> Forked:
    """Starts the study."""
    (folder / "study.toml").write_text(TEXT)
    command = ["run", "study.toml", "--quiet", *arguments]
    return Forked(folder, command, environment(folder, extra))


def resume(folder: Path, **overrides: object) -> None:
    """Takes the study up again, in this process: it has imported already what takes seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        mlflow.set_tracking_uri(None)
        run_study(load_config("study.toml", overrides), resume=True)


class Undisturbed(NamedTuple):
    """A study that nothing happened to.

    Attributes:
        tables: Its tables.
        seconds: How long it took from its start to its end, here and now.
    """

    tables: Mapping[str, bytes]
    seconds: float


@cache
def undisturbed() -> Undisturbed:
    """The study as it should be."""
    folder = with_store(Path(mkdtemp()))
    get_ready()
    start = time.monotonic()
    try:
        running = begin(folder)
        assert running.end() == 0, running.errors
        return Undisturbed(tables(folder), time.monotonic() - start)
    finally:
        shutil.rmtree(folder)


def ended(folder: Path) -> dict[str, Run]:
    """The runs of trials and replicates that stand ended in the store."""
    done = ("FINISHED", "KILLED", "FAILED")
    return {
        run.info.run_id: run
        for run in (runs(folder) if (folder / "mlflow.db").exists() else [])
        if run.info.status in done and "mlflow.parentRunId" in run.data.tags
    }


def assert_as_if_undisturbed(folder: Path, before: Mapping[str, Run]) -> None:
    """All that must hold after a resume.

    Args:
        folder: The study's.
        before: What had ended before.
    """
    after = ended(folder)
    assert "RUNNING" not in {run.info.status for run in runs(folder)}
    search = [run for run in after.values() if run.data.tags["stage"] == "search"]
    assert_each_once(folder, N_TRIALS)
    for run_id, run in before.items():
        if run.data.tags["stage"] == "search":
            assert after[run_id].data.to_dictionary() == run.data.to_dictionary()
            assert after[run_id].info.end_time == run.info.end_time
    (journal,) = (folder / "journals").glob("*.journal")
    storage = JournalStorage(JournalFileBackend(str(journal)))
    told = optuna.load_study(study_name="killed", storage=storage).trials
    assert [trial.number for trial in told] == list(range(N_TRIALS))
    assert all(trial.state.is_finished() for trial in told)
    assert {trial.user_attrs["mlflow_run_id"] for trial in told} == {
        run.info.run_id for run in search
    }
    assert tables(folder) == undisturbed().tables


def on_path() -> dict[str, str]:
    """What has a program do as `site/sitecustomize.py` says."""
    return {"PYTHONPATH": f"{SITE}{os.pathsep}{PROJECT}"}
