"""Commands run as a person runs them, in a folder of their own, and what they leave behind."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run

from pipeline.tracking import database

PROJECT = Path(__file__).parents[1]
STUDY = """
name = "commands"
[data]
source = "sklearn:iris"
[model]
hidden = [5]
[training]
max_epochs = {epochs}
[search]
n_trials = 8
population = 4
pruner = "none"
[space]
patience = "off"
[confirm]
replicates = 0
"""


@cache
def _blank_store() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return database.new_database(folder)


def with_store(folder: Path) -> Path:
    """A folder with an empty store, for what comes after MLflow's seconds of migrations."""
    (folder / "mlflow.db").write_bytes(_blank_store())
    return folder


def environment(folder: Path, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")}
    venv = Path(sys.executable).parent
    return {
        **kept,
        "PATH": f"{venv}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(PROJECT),
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        **(extra or {}),
    }


def command(folder: Path, *arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pipeline", *arguments],
        cwd=folder,
        env=environment(folder, extra),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def study(folder: Path, text: str = "", epochs: int = 3) -> str:
    path = folder / "study.toml"
    path.write_text(text or STUDY.format(epochs=epochs), encoding="utf-8")
    return str(path)


def runs(folder: Path) -> list[Run]:
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    found = client.search_experiments()
    return list(client.search_runs([experiment.experiment_id for experiment in found]))


def parents(folder: Path) -> list[Run]:
    return [run for run in runs(folder) if "mlflow.parentRunId" not in run.data.tags]


def n_ended(folder: Path) -> int:
    """Trials and trainings whose runs stand in the store."""
    return len(children(folder))


def states(folder: Path) -> list[tuple[str | None, str]]:
    """Of the parent runs: the study's, as far as there is one, and MLflow's."""
    return [(run.data.tags.get("study.state"), run.info.status) for run in parents(folder)]


def children(folder: Path) -> list[Run]:
    return [run for run in runs(folder) if "mlflow.parentRunId" in run.data.tags]


# What a study leaves that is the same wherever and however often it was begun.
TABLES = ("trials.csv", "confirm/summary.csv", "confirm/pairs.csv")


def tables(folder: Path) -> dict[str, bytes]:
    """Of the one study in a folder that is complete."""
    (parent,) = (run for run in parents(folder) if run.data.tags["study.state"] == "complete")
    place = Path(parent.info.artifact_uri)
    return {name: (place / name).read_bytes() for name in TABLES}


def assert_each_once(folder: Path, n_trials: int) -> None:
    """Each trial and each training has one run, and all of them have ended."""
    ended = children(folder)
    assert {run.info.status for run in ended} <= {"FINISHED", "KILLED", "FAILED"}
    search = [run for run in ended if run.data.tags["stage"] == "search"]
    assert sorted(int(run.data.tags["trial.number"]) for run in search) == list(range(n_trials))
    confirmed = Counter(
        (run.data.tags["finalist"], run.data.tags.get("replicate"))
        for run in ended
        if run.data.tags["stage"] == "confirm"
    )
    assert set(confirmed.values()) == {1}
