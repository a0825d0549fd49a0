"""Owns losses, their gradients and scores over stacked logits: nothing here mixes slots."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from pipeline.data import Task


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
    task: Task, logits: Float[Tensor, "k b c"], target: Float[Tensor, "k_or_1 b"]
) -> Float[Tensor, "k b c"]:
    """Gradient of each slot's mean loss over the batch, by its logits.

    Averaged over rows and summed over slots, so that a slot's gradient does not shrink with K.
    """
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


def correct(
    task: Task, logits: Float[Tensor, "k b c"], target: Float[Tensor, "k_or_1 b"]
) -> Float[Tensor, "k b"]:
    """Per row of a classification: 1 where the likeliest class is the right one, else 0."""
    if task is Task.MULTICLASS:
        return (logits.argmax(dim=2) == target).to(logits.dtype)
    return ((logits.squeeze(2) > 0) == (target > 0.5)).to(logits.dtype)
