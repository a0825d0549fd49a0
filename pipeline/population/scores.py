"""Owns scores of K slots at once, over a split that is read in parts: nothing here mixes slots.

Their values are scikit-learn's. For classes: accuracy, balanced accuracy, area under the ROC curve
(of many classes: each against the rest, averaged) and log loss. For a quantity: R squared, and the
root of the mean squared error and the mean absolute error in the target's own units.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple, final

import torch
from jaxtyping import Float
from torch import Tensor

from pipeline.config import ScoreName
from pipeline.data import Task, r_squared


class Scored(NamedTuple):
    """Some rows of a split; `losses` are without class weights."""

    logits: Float[Tensor, "k b c"]
    losses: Float[Tensor, "k b"]
    target: Float[Tensor, "1 b"]


class Score(ABC):
    """One score, for one pass over a split."""

    @abstractmethod
    def add(self, part: Scored) -> None:
        """Takes the next rows."""

    @abstractmethod
    def values(self, target: Float[Tensor, " n"]) -> list[float]:
        """The score of each slot, given the target of all rows that were added."""


def make_score(name: ScoreName, task: Task, target_scale: float) -> Score:
    """A score that has seen no rows.

    Args:
        name: One of `pipeline.scores.scores_of(task)`.
        task: What the logits stand for.
        target_scale: What a quantity was divided by.
    """
    if name == "roc_auc":
        return _RocAuc(task)
    if name == "balanced_accuracy":
        return _BalancedAccuracy(task)
    rows, conclude = {
        "accuracy": (lambda part: correct(task, part.logits, part.target), _mean),
        "log_loss": (_losses, _mean),
        "r2": (_losses, lambda mse, target: r_squared(mse, float(target.var(correction=0)))),
        "rmse": (_losses, lambda mse, _: mse**0.5 * target_scale),
        "mae": (_absolute_errors, lambda error, _: error * target_scale),
    }[name]
    return _OfTheMean(rows, conclude)


def correct(
    task: Task, logits: Float[Tensor, "k b c"], target: Float[Tensor, "k_or_1 b"]
) -> Float[Tensor, "k b"]:
    """Per row of a classification: 1 where the likeliest class is the right one, else 0."""
    if task is Task.MULTICLASS:
        return (logits.argmax(dim=2) == target).to(logits.dtype)
    return ((logits.squeeze(2) > 0) == (target > 0.5)).to(logits.dtype)


def _losses(part: Scored) -> Tensor:
    return part.losses


def _absolute_errors(part: Scored) -> Tensor:
    return (part.logits.squeeze(2) - part.target).abs_()


def _mean(mean: float, _: Tensor) -> float:
    return mean


@final
class _OfTheMean(Score):
    """A function of what each slot has on average over the rows."""

    def __init__(
        self, rows: Callable[[Scored], Tensor], conclude: Callable[[float, Tensor], float]
    ) -> None:
        self._rows, self._conclude = rows, conclude
        self._total: Tensor | float = 0.0

    def add(self, part: Scored) -> None:
        self._total = self._total + self._rows(part).sum(dim=1, dtype=torch.float64)

    def values(self, target: Tensor) -> list[float]:
        means = (torch.as_tensor(self._total) / len(target)).tolist()
        return [self._conclude(mean, target) for mean in means]


@final
class _BalancedAccuracy(Score):
    """The share of a class's rows that are right, averaged over the classes that there are."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._right: Tensor | float = 0.0

    def add(self, part: Scored) -> None:
        # Counts: whole numbers, exact in any order.
        hits = correct(self._task, part.logits, part.target).double()
        right = hits.new_zeros(len(hits), max(2, part.logits.shape[2]))
        self._right = self._right + right.scatter_add_(1, part.target.long().expand_as(hits), hits)

    def values(self, target: Tensor) -> list[float]:
        right = torch.as_tensor(self._right)
        counts = torch.bincount(target.long(), minlength=right.shape[1])
        present = counts > 0
        recalls: list[float] = (right[:, present] / counts[present]).mean(dim=1).tolist()
        return recalls


@final
class _RocAuc(Score):
    """Of two classes, or each of many against the rest and averaged; NaN where one is absent."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._parts: list[Tensor] = []

    def add(self, part: Scored) -> None:
        # Logits of two classes are ranked as probabilities are; of more they are not.
        binary = self._task is Task.BINARY
        self._parts.append(part.logits if binary else torch.softmax(part.logits, dim=2))

    def values(self, target: Tensor) -> list[float]:
        ranked = torch.cat(self._parts, dim=1)
        numbers = [1] if self._task is Task.BINARY else range(ranked.shape[2])
        total: Tensor | float = 0.0
        for column, number in enumerate(numbers):
            of_it = target == number
            total = total + _area(ranked[:, of_it, column], ranked[:, ~of_it, column])
        areas: list[float] = (torch.as_tensor(total) / len(numbers)).tolist()
        return areas


def _area(positive: Float[Tensor, "k p"], negative: Float[Tensor, "k n"]) -> Float[Tensor, " k"]:
    """The share of pairs that are ranked rightly, a tie being half of one (Mann and Whitney 1947).

    Counted in whole numbers: exact, whatever stands beside.
    """
    ordered, queries = negative.sort(dim=1).values, positive.contiguous()
    below = torch.searchsorted(ordered, queries).sum(dim=1)
    not_above = torch.searchsorted(ordered, queries, right=True).sum(dim=1)
    pairs = positive.shape[1] * negative.shape[1]
    return (below + not_above).double() / (2 * pairs)
