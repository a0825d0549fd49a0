"""Owns early stopping of K slots at once: a state that is a value, updated once an epoch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True, eq=False)
class EarlyStoppingState:
    """What is remembered of each slot.

    Attributes:
        best_loss: [K] lowest validation loss that counted as an improvement; infinity at first.
        best_epoch: [K] its epoch, 0 at first.
        patience: [K] epochs without improvement that end a trial; `NEVER` for "off".
    """

    best_loss: NDArray[np.float64]
    best_epoch: NDArray[np.int64]
    patience: NDArray[np.int64]


def init(n_slots: int) -> EarlyStoppingState:
    """A state for slots that have seen no epoch and never stop."""
    return EarlyStoppingState(
        best_loss=np.full(n_slots, np.inf),
        best_epoch=np.zeros(n_slots, dtype=np.int64),
        patience=np.full(n_slots, NEVER, dtype=np.int64),
    )


def update(
    state: EarlyStoppingState,
    val_loss: NDArray[np.float64],
    epoch: NDArray[np.int64],
    min_delta: float,
) -> tuple[EarlyStoppingState, NDArray[np.bool_], NDArray[np.bool_]]:
    """Takes the validation losses of one epoch.

    Args:
        state: Of K slots.
        val_loss: [K]; NaN never improves on anything.
        epoch: [K] each slot's own epoch, from 1.
        min_delta: An improvement is larger than this.

    Returns:
        The new state, [K] which slots improved, [K] which ran out of patience.
    """
    improved = val_loss < state.best_loss - min_delta
    best_loss = np.where(improved, val_loss, state.best_loss)
    best_epoch = np.where(improved, epoch, state.best_epoch)
    stopped = epoch - best_epoch >= state.patience
    return EarlyStoppingState(best_loss, best_epoch, state.patience), improved, stopped
