"""Two processes and one study; runs that a killed program left; a store that is another one."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import mlflow
import pytest

from pipeline import locks
from pipeline.config import load_config
from pipeline.study import run_study
from pipeline.tracking import read_study
from tests.commands import children, command, n_ended, parents, states, study, with_store
from tests.held import program, study_program, wait_until


def test_a_study_that_lives_is_not_resumed_beside_and_a_killed_one_is_at_once(
    tmp_path: Path,
) -> None:
    path = study(with_store(tmp_path), epochs=20_000)
    few = ("--set", "search.population=2", "--set", "training.batch_size=120")
    with program(tmp_path, *study_program(path, *few)) as first:
        wait_until(lambda: list((tmp_path / "journals").glob("*.journal")))
        second = command(tmp_path, "run", path, *few, "--resume")
        assert second.returncode == 2
        (line,) = second.stderr.splitlines()
        assert f"one process's at a time, however: process {first.pid} on " in line
        assert first.poll() is None
        assert states(tmp_path) == [("running", "RUNNING")]
        first.kill()
        # No pause: the writing process of the killed one may still be there.
        with program(tmp_path, *study_program(path, *few, "--resume")) as third:
            lock = next((tmp_path / "journals").glob("*.study.lock"))
            wait_until(lambda: f"process {third.pid} " in lock.read_text() or third.poll())
            third.send_signal(signal.SIGTERM)
            assert third.wait(timeout=60) == 143
    assert states(tmp_path) == [("interrupted", "KILLED")]


def test_what_was_killed_before_it_had_a_journal_is_closed_by_the_next_start(
    tmp_path: Path,
) -> None:
    """As it stands between the making of a parent run and its description."""
    path = study(with_store(tmp_path))
    dead, alive = (str(tmp_path / "journals" / f"{name}.journal") for name in ("dead", "alive"))
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    experiment = client.create_experiment("commands", f"{tmp_path}/mlruns/1")
    for name, journal in (("commands", dead), ("commands", alive), ("another", dead)):
        tags = {"study.claim": journal, "study.state": "running"}
        client.create_run(experiment, run_name=name, tags=tags)
    elsewhere = {"study.claim": str(tmp_path / "elsewhere.journal")}
    client.create_run(experiment, run_name="commands", tags=elsewhere)
    locks.take(locks.writer_lock(dead))
    locks.let_go(locks.writer_lock(dead))
    locks.take(locks.writer_lock(alive))
    try:
        refused = command(tmp_path, "run", path, "--n-trials", "2", "--resume")
        assert refused.returncode == 2
        assert f"however: process {os.getpid()} on " in refused.stderr
        assert command(tmp_path, "run", path, "--n-trials", "2").returncode == 0
    finally:
        locks.let_go(locks.writer_lock(alive))
    found = {
        (run.info.run_name, Path(run.data.tags["study.claim"]).stem): run.info.status
        for run in parents(tmp_path)
        if run.info.status != "FINISHED"
    }
    assert found == {
        ("commands", "dead"): "FAILED",
        ("commands", "alive"): "RUNNING",
        ("another", "dead"): "RUNNING",
        ("commands", "elsewhere"): "RUNNING",
    }
    assert sorted(str(state) for state, _ in states(tmp_path)) == [
        *("None", "complete", "failed", "running", "running")
    ]


def test_a_resume_that_was_cut_off_while_runs_moved_is_resumed_with_all_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it stands under `mlflow run` when half of the children have their new parent."""
    path = study(with_store(tmp_path))
    assert command(tmp_path, "run", path, "--n-trials", "5").returncode == 0
    (old,) = parents(tmp_path)
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    heir = client.create_run(old.info.experiment_id, run_name="commands")
    for key in ("study.journal", "study.claim"):
        client.set_tag(heir.info.run_id, key, old.data.tags[key])
    for key, value in old.data.params.items():
        client.log_param(heir.info.run_id, key, value)
    folder = Path(old.info.artifact_uri)
    client.log_artifacts(heir.info.run_id, str(folder))
    moved = children(tmp_path)[:2]
    for run in moved:
        client.set_tag(run.info.run_id, "mlflow.parentRunId", heir.info.run_id)
    before = {run.info.run_id for run in children(tmp_path)}
    resumed = command(tmp_path, "run", path, "--n-trials", "7", "--resume")
    assert resumed.returncode == 0, resumed.stderr
    (parent,) = parents(tmp_path)
    assert parent.info.run_id == heir.info.run_id
    assert {run.data.tags["mlflow.parentRunId"] for run in children(tmp_path)} == {heir.info.run_id}
    assert before < {run.info.run_id for run in children(tmp_path)}
    assert n_ended(tmp_path) == 7


class TestInOneProcess:
    @pytest.fixture(autouse=True)
    def _in_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(with_store(tmp_path))
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
        monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)

    def run(self, folder: Path, name: str, *, resume: bool = False) -> str:
        overrides = {"name": name, "search.n_trials": 2}
        config = load_config(Path(study(folder)), overrides)
        result = run_study(config, resume=resume)
        assert len(read_study(result.parent_run_id).trials) == 2
        return result.parent_run_id

    def test_only_the_first_study_adopts_the_run_that_mlflow_run_opened(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        client = mlflow.MlflowClient()
        opened = client.create_run(client.create_experiment("a", f"{tmp_path}/mlruns/1"))
        monkeypatch.setenv("MLFLOW_RUN_ID", opened.info.run_id)
        assert self.run(tmp_path, "a") == opened.info.run_id
        second = self.run(tmp_path, "b")
        assert second != opened.info.run_id
        assert client.get_run(opened.info.run_id).info.run_name == "a"
        assert client.get_experiment(client.get_run(second).info.experiment_id).name == "b"
        assert self.run(tmp_path, "b", resume=True) == second

    @pytest.mark.parametrize("how", ["deleted", "moved"])
    def test_a_store_that_was_replaced_is_another_store(self, tmp_path: Path, how: str) -> None:
        """A notebook's writing process outlives the file that a person takes away."""
        first = self.run(tmp_path, "a")
        if how == "deleted":
            Path("mlflow.db").unlink()
        else:
            Path("mlflow.db").rename("old.db")
        second = self.run(tmp_path, "b")
        client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/./mlflow.db")
        names = {experiment.name for experiment in client.search_experiments()}
        assert names == {"Default", "b"}
        assert client.get_run(second).info.status == "FINISHED"
        if how == "moved":
            old = mlflow.MlflowClient(f"sqlite:///{tmp_path}/old.db")
            assert old.get_run(first).info.status == "FINISHED"
            assert old.get_experiment_by_name("b") is None
