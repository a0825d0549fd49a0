"""Owns losses and their gradients over stacked logits: nothing here mixes slots."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from pipeline.config import ConfigError, TrainingConfig
from pipeline.data import Splits, Task


def class_weights(training: TrainingConfig, splits: Splits) -> NDArray[np.float64] | None:
    """What the loss of a class's rows is multiplied by; None where all count alike.

    Balanced as scikit-learn has it, N / (classes * rows of the class), counted in the training
    rows: there the weights average 1. A class without a training row weighs 1.

    Raises:
        ConfigError: A regression, which has no classes.
    """
    if training.class_weight == "none":
        return None
    if splits.task is Task.REGRESSION:
        raise ConfigError(
            'class_weight must be "none" for regression, '
            f"however: {training.class_weight!r} (training.class_weight)"
        )
    counts = np.bincount(splits.y_train.astype(np.int64), minlength=max(2, splits.n_outputs))
    balanced = counts.sum() / (np.count_nonzero(counts) * np.maximum(counts, 1))
    return np.where(counts > 0, balanced, 1.0)


def row_weights(
    weights: Float[Tensor, " classes"], target: Float[Tensor, "k_or_1 b"]
) -> Float[Tensor, "k_or_1 b"]:
    """Each row's weight, by its class."""
    return weights.take(target.long())


def losses(
    task: Task, logits: Float[Tensor, "k b c"], target: Float[Tensor, "k_or_1 b"]
) -> Float[Tensor, "k b"]:
    """Per row: cross-entropy in nats for classes, squared error for regression."""
    if task is Task.MULTICLASS:
        chosen = logits.gather(2, target.long().expand(logits.shape[:2]).unsqueeze(2)).squeeze(2)
        return torch.logsumexp(logits, dim=2) - chosen
    z = logits.squeeze(2)
    if task is Task.REGRESSION:
        return (z - target).square_()
    # Without overflow. Not softplus: see `logistic_`.
    return functional.binary_cross_entropy_with_logits(z, target.expand_as(z), reduction="none")


def loss_gradient(
    task: Task,
    logits: Float[Tensor, "k b c"],
    target: Float[Tensor, "k_or_1 b"],
    weights: Float[Tensor, "k_or_1 b"] | None = None,
) -> Float[Tensor, "k b c"]:
    """Gradient of each slot's mean loss over the batch, by its logits.

    Averaged over rows and summed over slots, so that a slot's gradient does not shrink with K.
    With `weights`, a row's loss is multiplied by its own before that.
    """
    delta = _mean_gradient(task, logits, target)
    return delta if weights is None else delta.mul_(weights.unsqueeze(2))


def _mean_gradient(
    task: Task, logits: Float[Tensor, "k b c"], target: Float[Tensor, "k_or_1 b"]
) -> Float[Tensor, "k b c"]:
    n_rows = logits.shape[1]
    if task is Task.MULTICLASS:
        delta = torch.softmax(logits, dim=2)
        place = target.long().expand(logits.shape[:2]).unsqueeze(2)
        delta.scatter_add_(2, place, delta.new_full((1, 1, 1), -1.0).expand(place.shape))
        return delta.div_(n_rows)
    if task is Task.REGRESSION:
        return (logits - target.unsqueeze(2)).mul_(2 / n_rows)
    # Not sigmoid: see `logistic_`. Where exp overflows, the reciprocal is 0, as it should be.
    probability = logits.neg().exp_().add_(1).reciprocal_()
    return probability.sub_(target.unsqueeze(2)).mul_(1 / n_rows)
