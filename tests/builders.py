"""Small studies and splits; sizes are distinct primes, so that accidental broadcasting fails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.config import StudyConfig, parse_config
from pipeline.data import Preprocessing, Splits, Target, Task
from pipeline.engine import Population
from pipeline.population.trainer import PopulationTrainer
from pipeline.results import Point, TrialResult
from pipeline.space import Hyperparameters, Regularization

STUDY = """
name = "tiny"
seed = 3
[data]
source = "synthetic:moons"
[model]
hidden = [11, 13]
[training]
max_epochs = 5
batch_size = 5
learning_rate = 0.01
[search]
n_trials = 7
population = 3
[confirm]
replicates = 0
"""

N_FEATURES = 7
N_TRAIN = 23  # four batches of five and one of three
N_VAL = 17
N_CLASSES = 3


def tiny_config(overrides: Mapping[str, Any] | None = None) -> StudyConfig:
    """A study of seconds; `overrides` by dotted key."""
    return parse_config(STUDY, "tiny.toml", Path("/"), overrides)


@cache
def tiny_splits(task: Task = Task.BINARY, replicate: int = 0) -> Splits:
    """Training and validation rows of a task that can be learned and overfitted."""
    draw = np.random.default_rng((17, replicate))
    features = draw.normal(size=(N_TRAIN + N_VAL, N_FEATURES)).astype(np.float32)
    signal = features @ draw.normal(size=N_FEATURES) + draw.normal(size=len(features))
    if task is Task.REGRESSION:
        target = signal / signal.std()
    elif task is Task.BINARY:
        target = signal > 0
    else:
        target = np.digitize(signal, np.quantile(signal, [1 / 3, 2 / 3]))
    target = target.astype(np.float32)
    rows = np.arange(N_TRAIN + N_VAL)
    return Splits(
        task=task,
        n_outputs=N_CLASSES if task is Task.MULTICLASS else 1,
        replicate=replicate,
        x_train=features[:N_TRAIN],
        y_train=target[:N_TRAIN],
        x_val=features[N_TRAIN:],
        y_val=target[N_TRAIN:],
        train_rows=rows[:N_TRAIN],
        val_rows=rows[N_TRAIN:],
        test_rows=rows[:0],
        preprocessing=Preprocessing((), {}, Target("target", task)),
    )


# One trial of each kind.
TRIALS = (
    Hyperparameters(),
    Hyperparameters(Regularization.L1, 0.013),
    Hyperparameters(Regularization.L2, 0.023),
    Hyperparameters(Regularization.ELASTIC_NET, 0.029, l1_ratio=0.37),
    Hyperparameters(Regularization.WEIGHT_DECAY, 1.7),
    Hyperparameters(dropout=0.31),
    Hyperparameters(Regularization.L2, 0.003, dropout=0.53, learning_rate=0.037),
    Hyperparameters(patience=1, learning_rate=0.11),
    Hyperparameters(Regularization.ELASTIC_NET, 0.007, 0.71, dropout=0.19, patience=2),
    Hyperparameters(Regularization.WEIGHT_DECAY, 0.3, patience=1, learning_rate=0.3),
)
# These diverge in float32, or come near it.
DIVERGING = (
    Hyperparameters(Regularization.L1, 0.01, dropout=0.41, learning_rate=1e6),
    Hyperparameters(Regularization.L2, 0.1, patience=3, learning_rate=1e30),
)


def train_all(
    config: StudyConfig,
    splits: Splits,
    trials: Sequence[Hyperparameters],
    n_slots: int,
    dtype: torch.dtype = torch.float32,
) -> list[TrialResult]:
    """Trains all trials to their end, a free slot always given to the next one."""
    trainer = PopulationTrainer(config, splits, n_slots=n_slots, dtype=dtype)
    waiting = list(enumerate(trials))
    running: dict[int, int] = {}
    results: dict[int, TrialResult] = {}
    while waiting or running:
        for slot in trainer.free_slots[: len(waiting)]:
            running[slot], trial = waiting.pop(0)
            trainer.load(slot, trial)
        for slot, point in trainer.train_epoch().items():
            if point.stop_reason is not None:
                results[running.pop(slot)] = trainer.unload(slot)
    return [results[number] for number in range(len(trials))]


def train_refilled(
    trainer: Population, *, early: bool
) -> tuple[list[TrialResult], list[list[Point]]]:
    """All trials, refilled as slots become free; every fourth is pruned after two epochs.

    Args:
        trainer: Who trains them.
        early: Say beforehand how many are loaded, and begin epochs early, as a search does.
    """
    waiting = list(enumerate(TRIALS + DIVERGING))
    running: dict[int, int] = {}
    results: dict[int, TrialResult] = {}
    points: list[list[Point]] = []
    while waiting or running:
        free = trainer.free_slots[: len(waiting)]
        if early:
            trainer.expect(len(free))
        for slot in free:
            running[slot], trial = waiting.pop(0)
            trainer.load(slot, trial)
        if early:
            trainer.begin_epoch()
        measured = trainer.train_epoch()
        assert list(measured) == sorted(running)
        points.append(list(measured.values()))
        for slot, point in measured.items():
            pruned = running[slot] % 4 == 3 and point.epoch == 2
            if point.stop_reason is not None or pruned:
                results[running.pop(slot)] = trainer.unload(slot)
    return [results[number] for number in sorted(results)], points


def assert_identical(result: TrialResult, expected: TrialResult) -> None:
    """Bit for bit: curves, weights, and everything that was decided."""
    assert result.hyperparameters == expected.hyperparameters
    assert result.stop_reason == expected.stop_reason
    assert result.kept_epoch == expected.kept_epoch
    assert result.history == expected.history
    assert result.scores == expected.scores
    assert_same_weights(result, expected)


def assert_same_weights(result: TrialResult, expected: TrialResult) -> None:
    """Bit for bit."""
    assert result.weights.keys() == expected.weights.keys()
    for name, array in expected.weights.items():
        assert np.array_equal(result.weights[name], array, equal_nan=True), name


def assert_close(result: TrialResult, expected: TrialResult, tolerance: float) -> None:
    """Equal but for the order of summation."""
    assert result.hyperparameters == expected.hyperparameters
    assert result.stop_reason == expected.stop_reason
    assert result.kept_epoch == expected.kept_epoch
    for curve in ("train_loss", "val_loss", "train_score", "val_score"):
        np.testing.assert_allclose(
            getattr(result.history, curve),
            getattr(expected.history, curve),
            rtol=tolerance,
            atol=tolerance,
            err_msg=curve,
        )
    assert list(result.scores) == list(expected.scores)
    for name, value in expected.scores.items():
        np.testing.assert_allclose(
            result.scores[name], value, rtol=tolerance, atol=tolerance, err_msg=name
        )
    assert list(result.weights) == list(expected.weights)
    for name, array in expected.weights.items():
        np.testing.assert_allclose(
            result.weights[name], array, rtol=tolerance, atol=tolerance, err_msg=name
        )
