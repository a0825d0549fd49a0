"""A real MLflow server, and what a study left in it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import requests
from mlflow import MlflowClient
from mlflow.entities import Run

from tests.commands import environment, with_store


@contextmanager
def mlflow_server(folder: Path) -> Iterator[int]:
    """The port of a server whose store and artifacts lie in a folder."""
    with_store(folder)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    with (folder / "server.log").open("w") as log:
        server = subprocess.Popen(
            [
                *("mlflow", "server", "--host", "127.0.0.1", "--port", str(port)),
                *("--workers", "1", "--backend-store-uri", f"sqlite:///{folder}/mlflow.db"),
                *("--artifacts-destination", str(folder / "artifacts")),
            ],
            cwd=folder,
            env=environment(folder, {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        for _ in range(600):
            with suppress(requests.ConnectionError):
                requests.get(f"http://127.0.0.1:{port}/health", timeout=5).raise_for_status()
                break
            time.sleep(0.1)
        yield port
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def runs_of(folder: Path, experiment: str) -> list[Run]:
    """All active runs of an experiment, read from the server's database."""
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    return list(client.search_runs([found.experiment_id]))


def assert_whole(folder: Path, experiment: str, n_trials: int) -> Run:
    """One parent, ended; exactly the trials, each once, each ended, with its files and curves."""
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    runs = runs_of(folder, experiment)
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert parent.info.status == "FINISHED"
    assert parent.data.tags["study.state"] == "complete"
    trials = [run for run in runs if run.data.tags.get("stage") == "search"]
    numbers = sorted(int(run.data.tags["trial.number"]) for run in trials)
    assert numbers == list(range(n_trials))
    assert not [run for run in runs if run.info.status == "RUNNING"]
    for run in trials:
        epochs = int(run.data.metrics["final/epochs"])
        history = client.get_metric_history(run.info.run_id, "loss/val")
        assert [point.step for point in history] == list(range(1, epochs + 1))
        stored = folder / "artifacts" / run.info.experiment_id / run.info.run_id / "artifacts"
        files = {path.name for path in stored.iterdir()}
        assert files == {"learning_curve.png", "history.csv", "weights.pt"}
    for key in parent.data.metrics:
        assert len(client.get_metric_history(parent.info.run_id, key)) == 1, key
    return parent


def trials_csv(folder: Path, parent: Run) -> bytes:
    """The table that the study ended with."""
    stored = folder / "artifacts" / parent.info.experiment_id / parent.info.run_id / "artifacts"
    return (stored / "trials.csv").read_bytes()
