"""Scores of many slots at once are scikit-learn's of each, and blind to the other slots."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics
from torch import Tensor

from pipeline.data import Task
from pipeline.population.losses import losses
from pipeline.population.scores import Scored, correct, make_score
from pipeline.scores import scores_of

K = 3
SCALE = 7.3
Draw = tuple[Task, Tensor, Tensor]


@st.composite
def drawn(draw: st.DrawFn, *tasks: Task) -> Draw:
    """Logits [K, N, C] on a grid so coarse that many are tied, and every class in the target."""
    task = draw(st.sampled_from(tasks))
    n_outputs = draw(st.integers(3, 5)) if task is Task.MULTICLASS else 1
    n_classes = max(2, n_outputs)
    n_rows = draw(st.integers(n_classes, 40))
    source = np.random.default_rng(draw(st.integers(0, 2**32)))
    levels = draw(st.sampled_from([1, 2, 5, 1000]))
    logits = source.integers(-levels, levels, (K, n_rows, n_outputs), endpoint=True) / levels
    if task is Task.REGRESSION:
        target = source.normal(size=n_rows)
    else:
        target = source.permutation(np.arange(n_rows) % n_classes)
    return task, torch.from_numpy(3.0 * logits), torch.from_numpy(target).double()


def scored(name: str, task: Task, logits: Tensor, target: Tensor, at_a_time: int) -> list[float]:
    score = make_score(name, task, SCALE)
    for part in torch.arange(len(target)).split(at_a_time):
        rows = target[part][None]
        score.add(Scored(logits[:, part], losses(task, logits[:, part], rows), rows))
    return score.values(target)


def probabilities(task: Task, logits: Tensor) -> np.ndarray:
    if task is Task.MULTICLASS:
        return torch.softmax(logits, dim=1).numpy()
    return torch.sigmoid(logits.squeeze(1)).numpy()


def likeliest(task: Task, logits: Tensor) -> np.ndarray:
    return logits.numpy().argmax(axis=1) if task is Task.MULTICLASS else logits.numpy()[:, 0] > 0


ORACLES: dict[str, Callable[[Task, Tensor, np.ndarray], float]] = {
    "accuracy": lambda task, z, y: metrics.accuracy_score(y, likeliest(task, z)),
    "balanced_accuracy": lambda task, z, y: metrics.balanced_accuracy_score(y, likeliest(task, z)),
    "roc_auc": lambda task, z, y: metrics.roc_auc_score(
        y, probabilities(task, z), multi_class="ovr", average="macro"
    ),
    "log_loss": lambda task, z, y: metrics.log_loss(y, probabilities(task, z)),
    "r2": lambda _, z, y: metrics.r2_score(SCALE * y, SCALE * z[:, 0]),
    "rmse": lambda _, z, y: metrics.root_mean_squared_error(SCALE * y, SCALE * z[:, 0]),
    "mae": lambda _, z, y: metrics.mean_absolute_error(SCALE * y, SCALE * z[:, 0]),
}


@given(case=drawn(*Task), at_a_time=st.sampled_from([1, 7, 100]))
def test_is_scikit_learns_ties_and_parts_included(case: Draw, at_a_time: int) -> None:
    task, logits, target = case
    for name in scores_of(task):
        expected = [ORACLES[name](task, z, target.numpy()) for z in logits]
        found = scored(name, task, logits, target, at_a_time)
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12, err_msg=name)


def test_every_score_of_every_task_has_its_oracle() -> None:
    assert {name for task in Task for name in scores_of(task)} == set(ORACLES)


@given(case=drawn(*Task), n_slots=st.sampled_from([2, 3, 5, 16, 31]))
def test_a_slot_gets_the_same_bits_wherever_it_stands(case: Draw, n_slots: int) -> None:
    task, logits, target = case
    logits, target = logits.float(), target.float()
    for name in scores_of(task):
        (alone,) = scored(name, task, logits[:1], target, 11)
        others = logits[1:2].repeat(n_slots, 1, 1)
        for slot in {0, n_slots // 2, n_slots - 1}:
            beside = others.clone()
            beside[slot] = logits[0]
            assert scored(name, task, beside, target, 11)[slot] == alone


@given(case=drawn(Task.BINARY, Task.MULTICLASS))
def test_balanced_accuracy_averages_over_the_classes_that_there_are(case: Draw) -> None:
    task, logits, target = case
    target = target.clamp(min=1)
    expected = [
        metrics.recall_score(y, likeliest(task, z), labels=np.unique(y), average="macro")
        for z, y in ((z, target.numpy()) for z in logits)
    ]
    found = scored("balanced_accuracy", task, logits, target, 7)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("task", [Task.BINARY, Task.MULTICLASS])
def test_roc_auc_without_a_class_is_none(task: Task) -> None:
    logits = torch.randn(K, 5, 3 if task is Task.MULTICLASS else 1)
    assert np.isnan(scored("roc_auc", task, logits, torch.ones(5), 5)).all()


@pytest.mark.parametrize("task", list(Task))
def test_logits_that_are_no_numbers_fail_nothing(task: Task) -> None:
    logits = torch.full((K, 5, 3 if task is Task.MULTICLASS else 1), float("nan"))
    for name in scores_of(task):
        assert len(scored(name, task, logits, torch.tensor([0.0, 1, 1, 0, 1]), 2)) == K


@pytest.mark.parametrize(
    ("task", "logits", "target", "expected"),
    [
        (Task.BINARY, [[1.0], [-1.0], [1.0], [-1.0]], [1, 0, 0, 1], [1, 1, 0, 0]),
        (Task.BINARY, [[0.0], [0.0]], [0, 1], [1, 0]),  # one half is not more likely
        (Task.BINARY, [[float("nan")]], [1], [0]),
        (Task.MULTICLASS, [[1.0, 2, 3], [3.0, 2, 1], [1.0, 3, 2]], [2, 0, 2], [1, 1, 0]),
    ],
)
def test_correct_where_the_likeliest_class_is_right(
    task: Task, logits: list[list[float]], target: list[float], expected: list[float]
) -> None:
    found = correct(task, torch.tensor([logits] * K), torch.tensor([target], dtype=torch.float32))
    assert found.tolist() == [expected] * K
