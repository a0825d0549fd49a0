"""`mlflow run` or its program is killed: nothing trains on, nothing stays open, nothing is lost."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

import pytest

from tests.commands import children, n_ended, parents, states, study, with_store
from tests.faults.studies import resume
from tests.held import descendants, lives, mlflow_program, program, studying, wait_until

LONG = """
name = "commands"
[data]
source = "sklearn:breast_cancer"
[training]
max_epochs = 200
[search]
n_trials = 8
population = 2
pruner = "none"
[space]
patience = "off"
[confirm]
replicates = 0
"""
# What needs no time to be killed in.
AT_ONCE = {"search.population": 8}


def assert_resumed(folder: Path) -> None:
    """The next resume completes the budget, and one parent run is left."""
    resume(folder, **AT_ONCE)
    assert states(folder) == [("complete", "FINISHED")]
    assert n_ended(folder) == 8
    (parent,) = parents(folder)
    ids = {run.data.tags["mlflow.parentRunId"] for run in children(folder)}
    assert ids == {parent.info.run_id}
    numbers = sorted(int(run.data.tags["trial.number"]) for run in children(folder))
    assert numbers == list(range(8))


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM])
def test_a_study_ends_with_the_mlflow_run_that_started_it(
    tmp_path: Path, sent: signal.Signals
) -> None:
    path = study(with_store(tmp_path), LONG)
    settings = {"MLFLOW_EXPERIMENT_NAME": "commands", "OMP_NUM_THREADS": "2"}
    with program(tmp_path, *mlflow_program(f"study={path}"), **settings) as started:
        wait_until(lambda: n_ended(tmp_path))
        below = descendants(started.pid)
        assert studying(started.pid) in below
        started.send_signal(sent)
        started.wait(timeout=30)
    wait_until(lambda: not any(map(lives, below)), within=30)
    assert states(tmp_path) == [("interrupted", "KILLED")]
    assert_resumed(tmp_path)


def test_a_study_that_mlflow_run_left_before_it_began_closes_the_run(tmp_path: Path) -> None:
    path = study(with_store(tmp_path), LONG)
    settings = {"MLFLOW_EXPERIMENT_NAME": "commands"}
    with program(tmp_path, *mlflow_program(f"study={path}"), **settings) as started:
        # The program has its writing process, which is not there yet to write.
        wait_until(lambda: (begun := studying(started.pid)) and descendants(begun))
        below = descendants(started.pid)
        started.kill()
        started.wait(timeout=30)
    wait_until(lambda: not any(map(lives, below)), within=60)
    assert states(tmp_path) == [("interrupted", "KILLED")]


def test_a_program_that_is_killed_fails_the_run_and_the_next_one_takes_it_up(
    tmp_path: Path,
) -> None:
    path = study(with_store(tmp_path), LONG)
    settings = {"MLFLOW_EXPERIMENT_NAME": "commands", "OMP_NUM_THREADS": "2"}
    with program(tmp_path, *mlflow_program(f"study={path}"), **settings) as started:
        wait_until(lambda: n_ended(tmp_path))
        below = descendants(started.pid)
        lock = next((tmp_path / "journals").glob("*.study.lock"))
        holder = int(lock.read_text().split()[1])
        assert holder in below

        os.kill(holder, signal.SIGKILL)
        assert started.wait(timeout=60) != 0
    assert [status for _, status in states(tmp_path)] == ["FAILED"]
    wait_until(lambda: not any(map(lives, below)), within=30)
    assert_resumed(tmp_path)


def test_a_resume_by_mlflow_run_that_is_killed_loses_no_run(tmp_path: Path) -> None:
    """Wherever it was in the move of the runs to the one that `mlflow run` opened."""
    path = study(with_store(tmp_path), LONG)
    settings = {"MLFLOW_EXPERIMENT_NAME": "commands"}
    resume(tmp_path, **AT_ONCE, **{"search.n_trials": 6})
    (old,) = parents(tmp_path)
    before = {run.info.run_id for run in children(tmp_path)}
    words = mlflow_program(f"study={path}", "resume=true")

    def some_moved() -> bool:
        ids = {run.data.tags["mlflow.parentRunId"] for run in children(tmp_path)}
        return ids != {old.info.run_id}

    with program(tmp_path, *words, **settings) as started:
        wait_until(some_moved)
        for process in [started.pid, *descendants(started.pid)]:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        started.wait(timeout=30)
    assert_resumed(tmp_path)
    assert before <= {run.info.run_id for run in children(tmp_path)}
