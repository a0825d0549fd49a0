"""Owns what a trial leaves behind: its history, its weights, and the figures derived from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from pipeline.space import Hyperparameters

Array = NDArray[np.float64]


class StopReason(StrEnum):
    """Why a trial's training ended."""

    EARLY_STOPPING = "early_stopping"
    MAX_EPOCHS = "max_epochs"
    PRUNED = "pruned"
    DIVERGED = "diverged"
    ERROR = "error"


class TrialState(StrEnum):
    """What became of a trial, as Optuna divides them."""

    COMPLETE = "complete"
    PRUNED = "pruned"
    FAILED = "failed"


STATE_AFTER = {
    StopReason.EARLY_STOPPING: TrialState.COMPLETE,
    StopReason.MAX_EPOCHS: TrialState.COMPLETE,
    StopReason.PRUNED: TrialState.PRUNED,
    StopReason.DIVERGED: TrialState.FAILED,
    StopReason.ERROR: TrialState.FAILED,
}


@dataclass(frozen=True)
class Point:
    """One epoch of one trial: losses without penalty, both splits in evaluation mode.

    Attributes:
        epoch: Counted from 1.
        train_loss, val_loss: Mean over all rows of the split, weighted as the training is.
        train_score, val_score: The study's `data.score`.
        stop_reason: Why the trainer ended the trial at this epoch, None if it goes on.
    """

    epoch: int
    train_loss: float
    val_loss: float
    train_score: float
    val_score: float
    stop_reason: StopReason | None = None

    @property
    def finite(self) -> bool:
        """Whether both losses are numbers."""
        return bool(np.isfinite(self.train_loss) and np.isfinite(self.val_loss))


@dataclass(frozen=True, eq=False)
class History:
    """A trial's learning curves: four arrays of one value an epoch, epoch 1 first."""

    train_loss: Array
    val_loss: Array
    train_score: Array
    val_score: Array

    @classmethod
    def of(cls, points: Sequence[Point]) -> History:
        """Stacks points in the order of their epochs."""
        columns = (np.array([getattr(p, f.name) for p in points]) for f in fields(cls))
        return cls(*(np.asarray(column, dtype=np.float64) for column in columns))

    def __len__(self) -> int:
        return len(self.val_loss)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, History):
            return NotImplemented
        return all(
            np.array_equal(getattr(self, f.name), getattr(other, f.name), equal_nan=True)
            for f in fields(self)
        )

    __hash__ = None  # type: ignore[assignment]

    @property
    def gap(self) -> Array:
        """Validation minus training loss, an epoch."""
        return generalization_gap(self.train_loss, self.val_loss)

    @property
    def finite(self) -> NDArray[np.bool_]:
        """Epochs at which both losses are numbers: a score is one wherever its loss is."""
        return np.isfinite(self.train_loss) & np.isfinite(self.val_loss)


def generalization_gap(train_loss: Array, val_loss: Array) -> Array:
    """Validation minus training loss; both measured in evaluation mode, without the penalty."""
    return val_loss - train_loss


@dataclass(frozen=True, eq=False)
class TrialResult:
    """What one trial leaves behind.

    Attributes:
        hyperparameters: What was trained.
        replicate: Which split, initialization, batch order and noise it was trained on.
        history: Its curves, up to the last epoch trained.
        kept_epoch: The epoch whose weights are kept, from 1; 0 if no epoch had a finite loss.
        stop_reason: Why it ended.
        weights: A state_dict of `reference.build_network`, as arrays.
        scores: All scores of the validation split with the kept weights; empty without a kept
            epoch.
        test: `loss`, `score` and all scores of the test split likewise; empty in a search, which
            does not know it.
        error: The traceback of what it raised, if that ended it; there are no weights then.
    """

    hyperparameters: Hyperparameters
    replicate: int
    history: History
    kept_epoch: int
    stop_reason: StopReason
    weights: Mapping[str, NDArray[np.floating]]
    scores: Mapping[str, float] = field(default_factory=dict)
    test: Mapping[str, float] = field(default_factory=dict)
    error: str = ""

    @property
    def state(self) -> TrialState:
        """Complete, pruned or failed."""
        return STATE_AFTER[self.stop_reason]

    @property
    def val_loss(self) -> float:
        """Validation loss at the kept epoch: the objective."""
        return self._kept(self.history.val_loss)

    @property
    def train_loss(self) -> float:
        """Training loss at the kept epoch."""
        return self._kept(self.history.train_loss)

    @property
    def val_score(self) -> float:
        """Validation score at the kept epoch."""
        return self._kept(self.history.val_score)

    @property
    def gap(self) -> float:
        """Gap at the kept epoch."""
        return self._kept(self.history.gap)

    @property
    def overfit_gap(self) -> float:
        """Gap at the last epoch trained."""
        return float(self.history.gap[-1]) if len(self.history) else float("nan")

    @property
    def weight_norm(self) -> float:
        """Euclidean norm of all kernels together."""
        squares = (np.sum(np.square(k, dtype=np.float64)) for k in self._kernels())
        return float(np.sqrt(sum(squares)))

    @property
    def sparsity(self) -> float:
        """Share of kernel weights that are exactly zero."""
        kernels = self._kernels()
        zeros = sum(int(np.sum(kernel == 0)) for kernel in kernels)
        return zeros / sum(kernel.size for kernel in kernels)

    def _kept(self, curve: Array) -> float:
        return float(curve[self.kept_epoch - 1]) if self.kept_epoch else float("nan")

    def _kernels(self) -> list[NDArray[np.floating]]:
        return [array for name, array in self.weights.items() if name.endswith(".weight")]
