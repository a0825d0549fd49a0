"""Owns the replay of a resumed study: trials that ended before take up the epochs that they took.

What a sampler is asked, and how a pruner judges, depends on what had ended at that epoch. A resumed
study that went on from where it stood would ask at other epochs, with other trials behind it, and
become another study. So it begins anew, on the same epochs and in the same slots, and only those
trials train that had not ended: what it finds is what it would have found undisturbed.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pipeline.records import TrialRecord
from pipeline.results import Point


class Replay:
    """Slots in which nothing trains: a trial's logged curve passes, a point an epoch."""

    def __init__(self) -> None:
        self._playing: dict[int, tuple[TrialRecord, Iterator[Point]]] = {}

    def __contains__(self, slot: int) -> bool:
        return slot in self._playing

    def load(self, slot: int, trial: TrialRecord) -> None:
        """Puts a trial that ended into a slot; its first point comes with the next epoch."""
        self._playing[slot] = trial, points_of(trial)

    def pass_epoch(self) -> dict[int, Point]:
        """The next point of each slot; a trial's last one says why it ended, as it did then."""
        return {slot: next(points) for slot, (_, points) in self._playing.items()}

    def unload(self, slot: int) -> TrialRecord:
        """Empties a slot."""
        return self._playing.pop(slot)[0]


def points_of(trial: TrialRecord) -> Iterator[Point]:
    """What the trainer measured of a trial; epochs that were not logged had no finite loss."""
    history, n_epochs = trial.history, max(1, int(trial.scalars.get("epochs", 1)))
    curves = (history.train_loss, history.val_loss, history.train_score, history.val_score)
    columns = (np.append(curve, [np.nan] * (n_epochs - len(curve))).tolist() for curve in curves)
    for epoch, (train, val, *scores) in enumerate(zip(*columns, strict=True), start=1):
        reason = trial.stop_reason if epoch == n_epochs else None
        yield Point(epoch, train, val, scores[0], scores[1], reason)
