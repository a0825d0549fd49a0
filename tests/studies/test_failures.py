"""Trials that raise, by a strength that single precision cannot hold: a real error of one trial."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow import MlflowClient

from pipeline.config import StudyConfig, StudyError, parse_config
from pipeline.failures import (
    Suspect,
    TrainingError,
    find_culprit,
    half_of,
    in_training,
    ran_out_of_memory,
)
from pipeline.population.forked import LostProcessError
from pipeline.reproduce import reproduce
from pipeline.results import StopReason, TrialState
from pipeline.search import Progress
from pipeline.space import Hyperparameters, Regularization
from pipeline.study import run_study
from pipeline.tracking import download
from tests.builders import TRIALS, tiny_config, tiny_splits, train_all
from tests.commands import command, study, with_store
from tests.studies.test_journal import SMALL, table, told

# The middle of the range can still be had, most of what lies above cannot: its slope is twice it.
HIGHEST = 1.7e38
SPACE = 'regularization = ["none", "l2"]\nlambda = { low = 1e35, high = 1e40, log = true }\n'
WORDS = "value cannot be converted to type float without overflow"
RAISES = Hyperparameters(Regularization.L2, 1e39)


def raising(**overrides: object) -> StudyConfig:
    text = SMALL.replace("[space]\n", f"[space]\n{SPACE}")
    return parse_config(text, "raising.toml", Path("/"), overrides)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(with_store(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    return tmp_path


def test_it_fails_alone_and_the_study_goes_on(folder: Path) -> None:
    result = run_study(raising())
    trials = result.record.trials
    assert [trial.number for trial in trials] == list(range(14))
    raised = [trial for trial in trials if trial.stop_reason is StopReason.ERROR]
    assert raised
    assert all(trial.hyperparameters.lambda_ > HIGHEST for trial in raised)
    others = [trial for trial in trials if trial not in raised]
    assert all(trial.hyperparameters.lambda_ < HIGHEST for trial in others)
    client = MlflowClient()
    for trial in raised:
        run = client.get_run(trial.run_id)
        assert trial.state is TrialState.FAILED
        assert run.info.status == "FAILED"
        assert run.data.tags["trial.state"] == "failed"
        assert run.data.tags["trial.stop_reason"] == "error"
        assert run.data.metrics == {"final/epochs": 1.0}
        names = {file.path for file in client.list_artifacts(trial.run_id)}
        assert names == {"learning_curve.png", "history.csv", "traceback.txt"}
        text = download(result.tracking_uri, trial.run_id, "traceback.txt").decode()
        assert text.startswith("Traceback (most recent call last):\n")
        assert text.splitlines()[-1] == f"RuntimeError: {WORDS}"
    # Those that trained beside it are what they are alone.
    assert reproduce(next(t for t in others if t.state is TrialState.COMPLETE).run_id).identical
    (journal,) = (folder / "journals").glob("*.journal")
    states = {trial.number: trial.state.name for trial in told(journal)}
    assert {number for number, state in states.items() if state == "FAIL"} >= {
        trial.number for trial in raised
    }
    assert all(state in ("COMPLETE", "PRUNED", "FAIL") for state in states.values())
    assert result.best_trial not in raised


def test_an_interrupted_study_with_some_becomes_what_it_would_have_been(folder: Path) -> None:
    undisturbed = table(run_study(raising()))

    def stop(progress: Progress) -> None:
        if progress.failed and progress.done >= 9:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_study(raising(), on_progress=stop)
    result = run_study(raising(), resume=True)
    assert any(trial.stop_reason is StopReason.ERROR for trial in result.record.trials)
    assert table(result) == undisturbed


def test_more_than_may_stop_the_study_with_exit_code_1(tmp_path: Path) -> None:
    text = SMALL.replace("[space]\n", f"[space]\n{SPACE}")
    path = study(with_store(tmp_path), text.replace("[search]\n", "[search]\nmax_failures = 0\n"))
    done = command(tmp_path, "run", path)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith(
        "at most 0 trainings may raise, however: 1 did; traceback.txt in "
    )
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    experiment = client.get_experiment_by_name("journal")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = (run for run in runs if "study.state" in run.data.tags)
    assert (parent.info.status, parent.data.tags["study.state"]) == ("FAILED", "failed")
    assert not [run for run in runs if run.info.status == "RUNNING"]
    reasons = [run.data.tags.get("trial.stop_reason") for run in runs]
    assert reasons.count("error") == 1
    # With more allowed it goes on; that is no other study.
    done = command(tmp_path, "run", path, "--resume", "--set", "search.max_failures=14")
    assert done.returncode == 0, done.stderr


class TestTheCulprit:
    CONFIG = tiny_config()

    def found(self, *suspects: Suspect) -> int | None:
        failed = TrainingError(RuntimeError(WORDS))
        failed.suspects = suspects
        culprit = find_culprit(self.CONFIG, tiny_splits(), failed)
        return None if culprit is None else culprit[0].number

    def test_is_who_raises_alone(self) -> None:
        innocent = [Suspect(n, trial, 3, 0) for n, trial in enumerate(TRIALS[:3])]
        assert self.found(*innocent) is None
        assert self.found(*innocent, Suspect(7, RAISES, 5, 0)) == 7

    def test_leaves_its_epochs_behind(self) -> None:
        failed = TrainingError(RuntimeError(WORDS))
        failed.suspects = [Suspect(7, RAISES, 4, 0)]
        found = find_culprit(self.CONFIG, tiny_splits(), failed)
        assert found is not None
        result = found[1]
        assert (result.state, result.stop_reason) == (TrialState.FAILED, StopReason.ERROR)
        assert len(result.history) == 1  # it raised in the first
        assert not result.history.finite.any()
        assert WORDS in result.error

    def test_is_nobody_where_a_process_was_killed(self) -> None:
        failed = TrainingError(LostProcessError("killed"))
        failed.suspects = [Suspect(7, RAISES, 4, 0)]
        assert find_culprit(self.CONFIG, tiny_splits(), failed) is None


def test_what_raises_is_marked_but_for_bad_input() -> None:
    with pytest.raises(TrainingError) as caught, in_training():
        raise ZeroDivisionError
    assert isinstance(caught.value.cause, ZeroDivisionError)
    with pytest.raises(KeyboardInterrupt), in_training():
        raise KeyboardInterrupt


def test_torch_and_numpy_say_that_memory_ran_out() -> None:
    """Asked for more than any machine has."""
    import numpy as np
    import torch

    for ask in (lambda: torch.empty(2**54), lambda: np.empty(2**54), lambda: bytearray(2**56)):
        with pytest.raises((RuntimeError, MemoryError)) as caught:
            ask()
        assert ran_out_of_memory(caught.value), caught.value
    assert ran_out_of_memory(OSError(12, "Cannot allocate memory"))
    assert not ran_out_of_memory(OSError(28, "No space left on device"))
    assert not ran_out_of_memory(RuntimeError(WORDS))
    assert not ran_out_of_memory(ValueError("out of memory"))


def test_half_of_one_is_no_population() -> None:
    assert half_of(5, MemoryError()) == 2
    with pytest.raises(StudyError, match=r"must fit into memory, however: .* \(MemoryError"):
        half_of(1, MemoryError())


def test_neighbours_of_a_trial_that_raises_in_one_trainer_are_as_without() -> None:
    """It raises before anything of it is in the batch."""
    from pipeline.population.trainer import PopulationTrainer

    trainer = PopulationTrainer(tiny_config(), tiny_splits(), n_slots=3)
    with pytest.raises(RuntimeError, match=WORDS):
        trainer.load(0, RAISES)
    assert train_all(tiny_config(), tiny_splits(), TRIALS[:2], 3)
