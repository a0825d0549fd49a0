"""`mlflow run` itself; several seconds a case."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from tests.commands import PROJECT, environment, parents, runs, study, with_store


class TestMlflowRun:
    """`mlflow run` itself; several seconds a case."""

    def mlflow_run(
        self, cwd: Path, store: Path, *arguments: str, **extra: str
    ) -> subprocess.CompletedProcess[str]:
        settings = environment(store, extra)
        if extra.get("MLFLOW_TRACKING_URI") == "":
            del settings["MLFLOW_TRACKING_URI"]
        return subprocess.run(
            ["mlflow", "run", str(PROJECT), "--env-manager", "local", *arguments],
            cwd=cwd,
            env=settings,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )

    @pytest.mark.parametrize("address", ["", "sqlite:///mlflow.db"])
    def test_from_outside_adopts_the_run_that_was_opened(
        self, tmp_path: Path, address: str
    ) -> None:
        path = study(with_store(tmp_path))
        done = self.mlflow_run(
            tmp_path,
            tmp_path,
            *("-P", f"study={path}", "-P", "n_trials=3"),
            MLFLOW_TRACKING_URI=address,
            MLFLOW_EXPERIMENT_NAME="mine",
        )
        assert done.returncode == 0, done.stderr
        (parent,) = parents(tmp_path)
        assert parent.info.status == "FINISHED"
        assert parent.data.tags["mlflow.source.type"] == "PROJECT"
        assert parent.data.metrics["study/trials"] == 3
        self.says_how_it_was_started(parent, path)
        assert len(runs(tmp_path)) == 4
        client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
        assert client.get_experiment(parent.info.experiment_id).name == "mine"
        if address:
            self.resume(tmp_path, path, address, parent.info.run_id)

    def says_how_it_was_started(self, parent: Run, path: str) -> None:
        """Both as typed to `mlflow run` and as that called the program: without empty values."""
        tags = parent.data.tags
        assert tags["study.command"] == f"python -m pipeline run {path} --n-trials=3"
        assert tags["study.project_command"] == f"mlflow run . -P study={path} -P n_trials=3"
        for key in ("study.command", "study.project_command"):
            assert f"\n{tags[key]}\n" in tags["mlflow.note.content"]

    def resume(self, tmp_path: Path, path: str, address: str, parent_id: str) -> None:
        """The run that `mlflow run` opened takes the other's place, and its children."""
        resumed = self.mlflow_run(
            tmp_path,
            tmp_path,
            *("-P", f"study={path}", "-P", "n_trials=5", "-P", "resume=true"),
            MLFLOW_TRACKING_URI=address,
            MLFLOW_EXPERIMENT_NAME="mine",
        )
        assert resumed.returncode == 0, resumed.stderr
        (heir,) = parents(tmp_path)
        assert heir.info.run_id != parent_id
        children = [run for run in runs(tmp_path) if run.info.run_id != heir.info.run_id]
        assert {run.data.tags["mlflow.parentRunId"] for run in children} == {heir.info.run_id}
        assert len(children) == 5
        self.says_how_it_was_started(heir, path)

    def test_unknown_parameter_fails_with_one_line(self, tmp_path: Path) -> None:
        done = self.mlflow_run(with_store(tmp_path), tmp_path, "-P", "nope=1")
        assert done.returncode != 0
        assert "unrecognized arguments: --nope 1" in done.stderr
        (run,) = runs(tmp_path)
        assert run.info.status == "FAILED"
