"""Losses and their gradients, per row: equal to torch's own, and blind to other slots."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor

from pipeline import reference
from pipeline.config import TrainingConfig
from pipeline.data import Task
from pipeline.population.losses import class_weights, loss_gradient, losses, row_weights
from tests.builders import tiny_splits

K, B = 3, 5
TASKS = [(Task.BINARY, 1), (Task.MULTICLASS, 2), (Task.MULTICLASS, 7), (Task.REGRESSION, 1)]
on_classes = pytest.mark.parametrize(("task", "n_outputs"), TASKS[:3])
on_every_task = pytest.mark.parametrize(("task", "n_outputs"), TASKS)


def drawn(
    task: Task, n_outputs: int, k: int, k_target: int, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(11)
    logits = 3 * torch.randn(k, B, n_outputs, generator=source, dtype=torch.float64)
    if task is Task.REGRESSION:
        target = torch.randn(k_target, B, generator=source, dtype=torch.float64)
    else:
        target = torch.randint(0, max(2, n_outputs), (k_target, B), generator=source)
    return logits.to(dtype), target.to(dtype)


@on_every_task
@pytest.mark.parametrize("k_target", [1, K])
def test_loss_averaged_over_rows_is_the_references(
    task: Task, n_outputs: int, k_target: int
) -> None:
    logits, target = drawn(task, n_outputs, K, k_target)
    rows = losses(task, logits, target)
    assert rows.shape == (K, B)
    for slot in range(K):
        expected = reference.mean_loss(task, logits[slot], target[slot % k_target])
        torch.testing.assert_close(rows[slot].mean(), expected, rtol=1e-12, atol=1e-14)


@on_every_task
@pytest.mark.parametrize("k_target", [1, K])
def test_gradient_is_autograds_of_the_sum_over_slots(
    task: Task, n_outputs: int, k_target: int
) -> None:
    logits, target = drawn(task, n_outputs, K, k_target)
    gradient = loss_gradient(task, logits, target)
    logits.requires_grad_(True)
    total = sum(
        reference.mean_loss(task, logits[slot], target[slot % k_target]) for slot in range(K)
    )
    (expected,) = torch.autograd.grad(total, logits)
    torch.testing.assert_close(gradient, expected, rtol=1e-12, atol=1e-15)


@on_classes
@pytest.mark.parametrize("k_target", [1, K])
def test_weights_multiply_each_rows_part(task: Task, n_outputs: int, k_target: int) -> None:
    logits, target = drawn(task, n_outputs, K, k_target)
    weights = torch.tensor([0.3, 2.7, 1.1, 0.7, 1.9, 0.1, 5.0], dtype=torch.float64)
    weights = weights[: max(2, n_outputs)]
    gradient = loss_gradient(task, logits, target, row_weights(weights, target))
    of_rows = losses(task, logits, target) * row_weights(weights, target)
    logits.requires_grad_(True)
    expected = [
        reference.mean_loss(task, logits[slot], target[slot % k_target], weights)
        for slot in range(K)
    ]
    torch.testing.assert_close(of_rows.mean(dim=1), torch.stack(expected).detach())
    (expected_gradient,) = torch.autograd.grad(sum(expected), logits)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-12, atol=1e-15)


@on_classes
def test_a_rows_gradient_does_not_depend_on_the_batchs_other_classes(
    task: Task, n_outputs: int
) -> None:
    logits, target = drawn(task, n_outputs, K, 1)
    weights = torch.linspace(0.5, 3.0, max(2, n_outputs), dtype=torch.float64)
    before = loss_gradient(task, logits, target, row_weights(weights, target))[:, 0]
    target[:, 1:] = 0
    assert torch.equal(
        loss_gradient(task, logits, target, row_weights(weights, target))[:, 0], before
    )


@given(
    labels=st.lists(st.integers(0, 4), min_size=2, max_size=40).filter(lambda y: len(set(y)) > 1)
)
def test_balanced_weights_are_scikit_learns(labels: list[int]) -> None:
    target = np.array(labels, dtype=np.float32)
    splits = replace(tiny_splits(Task.MULTICLASS), n_outputs=5, y_train=target)
    weights = class_weights(TrainingConfig(class_weight="balanced"), splits)
    present = np.unique(target)
    expected = compute_class_weight("balanced", classes=present, y=target)
    np.testing.assert_allclose(weights[present.astype(int)], expected, rtol=1e-15)
    assert weights[target.astype(int)].mean() == pytest.approx(1)
    assert (np.delete(weights, present.astype(int)) == 1).all()


def test_without_balance_there_are_no_weights() -> None:
    for task in Task:
        assert class_weights(TrainingConfig(), tiny_splits(task)) is None


@on_every_task
def test_logits_are_left_as_they_were(task: Task, n_outputs: int) -> None:
    logits, target = drawn(task, n_outputs, K, 1)
    before = logits.clone()
    losses(task, logits, target)
    loss_gradient(task, logits, target)
    assert torch.equal(logits, before)


@on_every_task
def test_a_slot_gets_the_same_bits_wherever_it_stands(task: Task, n_outputs: int) -> None:
    logits, target = drawn(task, n_outputs, 1, 1, torch.float32)
    loss, gradient = losses(task, logits, target), loss_gradient(task, logits, target)
    for k in (2, 3, 5, 16, 31):
        many = logits.repeat(k, 1, 1)
        for slot in range(k):
            assert torch.equal(losses(task, many, target)[slot], loss[0])
            assert torch.equal(loss_gradient(task, many, target)[slot], gradient[0])


def test_extreme_logits_overflow_nowhere() -> None:
    logits = torch.tensor([-1e30, -200.0, 0.0, 200.0, 1e30])[None, :, None]
    for label in (0.0, 1.0):
        target = torch.full((1, 5), label)
        assert torch.isfinite(losses(Task.BINARY, logits, target)).all()
        assert torch.isfinite(loss_gradient(Task.BINARY, logits, target)).all()
        two = torch.cat([logits, -logits], dim=2)
        assert torch.isfinite(losses(Task.MULTICLASS, two, target)).all()
        assert torch.isfinite(loss_gradient(Task.MULTICLASS, two, target)).all()


def test_a_small_probability_keeps_its_relative_precision() -> None:
    logits = torch.full((1, B, 1), -30.0)
    gradient = loss_gradient(Task.BINARY, logits, torch.zeros(1, B)) * B
    torch.testing.assert_close(gradient, torch.sigmoid(logits), rtol=1e-5, atol=0.0)
