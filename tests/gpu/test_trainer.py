"""On a GPU the population computes what the plain loop computes, and a replay what a step does."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from pipeline import reference
from pipeline.config import StudyConfig
from pipeline.data import Task
from pipeline.population import trainer as trainers
from pipeline.population.cuda_graph import FEWEST_STEPS
from pipeline.population.replicates import train_replicates
from pipeline.population.trainer import PopulationTrainer
from pipeline.results import StopReason
from tests.builders import (
    DIVERGING,
    N_TRAIN,
    TRIALS,
    assert_close,
    assert_identical,
    tiny_config,
    tiny_splits,
    train_all,
    train_refilled,
)
from tests.population.test_replicates import rows_of
from tests.population.test_trainer import CASES, Case, on_every_case


def many_steps(case: Case) -> StudyConfig:
    """The case's study with so many batches an epoch, a ragged one at the end, that they count."""
    config = case.config
    training = config.training.model_copy(update={"batch_size": 2, "device": "cuda"})
    assert N_TRAIN % 2
    assert N_TRAIN // 2 > FEWEST_STEPS
    return config.model_copy(update={"training": training})


@on_every_case
@pytest.mark.parametrize("n_slots", [1, 3, 16])
def test_equals_the_reference(case: Case, n_slots: int) -> None:
    config = many_steps(case)
    trials = TRIALS * 2 if n_slots == 16 else TRIALS
    for result in train_all(config, case.splits, trials, n_slots, torch.float64):
        expected = reference.train(config, case.splits, result.hyperparameters, dtype=torch.float64)
        assert_close(result, expected, tolerance=1e-10)


@on_every_case
def test_a_replayed_step_is_the_step_to_the_last_bit(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, trials = many_steps(case), TRIALS + DIVERGING
    replayed = train_all(config, case.splits, trials, 5)
    assert PopulationTrainer(config, case.splits)._recorder is not None
    monkeypatch.setattr(trainers, "FEWEST_STEPS", N_TRAIN)
    assert PopulationTrainer(config, case.splits)._recorder is None
    for result, step_by_step in zip(
        replayed, train_all(config, case.splits, trials, 5), strict=True
    ):
        assert_identical(result, step_by_step)


def test_most_steps_are_replayed(monkeypatch: pytest.MonkeyPatch) -> None:
    replays: list[torch.cuda.CUDAGraph] = []
    replay = torch.cuda.CUDAGraph.replay

    def counted(graph: torch.cuda.CUDAGraph) -> None:
        replays.append(graph)
        replay(graph)

    monkeypatch.setattr(torch.cuda.CUDAGraph, "replay", counted)
    case = CASES[0]
    trainer = PopulationTrainer(many_steps(case), case.splits, n_slots=2)
    trainer.load(0, TRIALS[6])
    trainer.train_epoch()
    # All but the first, which is run to make what is made on first use, and the ragged last one.
    assert len(replays) == N_TRAIN // 2 - 1
    assert len(set(replays)) == 1


def test_few_steps_are_not_recorded() -> None:
    config = tiny_config({"training.device": "cuda"})
    assert PopulationTrainer(config, tiny_splits())._recorder is None


@pytest.mark.parametrize("batch_size", [2, 5])
def test_slots_that_are_refilled_and_pruned(batch_size: int) -> None:
    config = tiny_config({"training.batch_size": batch_size, "training.device": "cuda"})
    splits = tiny_splits(Task.MULTICLASS)
    trainer = PopulationTrainer(config, splits, n_slots=4, dtype=torch.float64)
    results, _ = train_refilled(trainer, early=False)
    assert len(results) == len(TRIALS + DIVERGING)
    for result in results:
        whole = reference.train(config, splits, result.hyperparameters, dtype=torch.float64)
        if result.stop_reason is not StopReason.PRUNED:
            assert_close(result, whole, tolerance=1e-10)
        n_epochs = len(result.history)
        assert result.history.val_loss == pytest.approx(whole.history.val_loss[:n_epochs])


@pytest.mark.parametrize("task", list(Task), ids=str)
def test_replicates(task: Task) -> None:
    config = tiny_config({"training.batch_size": 2, "training.device": "cuda"})
    trials = [replace(trial, patience="off") for trial in TRIALS]
    todo = dict.fromkeys((1, 4, 2), trials)
    n_results = 0
    for trained in train_replicates(config, todo, lambda number: rows_of(task, number)):
        result = trained.result
        splits = rows_of(task, result.replicate).splits
        expected = reference.train(config, splits, result.hyperparameters)
        assert_close(result, expected, tolerance=2e-2)
        n_results += 1
    assert n_results == 3 * len(trials)
