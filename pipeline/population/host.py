"""Owns the far end of a member: the trainers that one process of a fleet has.

A process of a fleet trains slots of the whole population. It has one trainer, and another one for
each time that it took over what a lost process had in training: those slots first have to catch up.
"""

from __future__ import annotations

import platform
import time
import warnings
from collections.abc import Mapping, Sequence
from importlib.metadata import version

import torch

from pipeline.config import StudyConfig
from pipeline.data import Splits
from pipeline.population.replicates import RowsOf, Todo, Trained, train_replicates
from pipeline.population.trainer import PopulationTrainer
from pipeline.results import Point, StopReason, TrialResult
from pipeline.space import Hyperparameters

# What must be the same wherever a study trains.
PACKAGES = ("torch", "numpy")

# A slot's number and its trial.
Load = tuple[int, Hyperparameters]


def versions() -> dict[str, str]:
    """Of what computes here."""
    return {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}


class _Share:
    """A trainer, whose slots have other numbers than those of the whole population."""

    def __init__(self, config: StudyConfig, splits: Splits, n_slots: int) -> None:
        self.trainer = PopulationTrainer(config, splits, n_slots=n_slots)
        self.own: dict[int, int] = {}  # slot of the population -> slot of this trainer

    def load(self, slot: int, hyperparameters: Hyperparameters) -> None:
        own = self.trainer.free_slots[0]
        self.trainer.load(own, hyperparameters)
        self.own[slot] = own

    def train_epoch(self) -> dict[int, Point]:
        points = self.trainer.train_epoch()
        return {slot: points[own] for slot, own in self.own.items() if own in points}

    def unload(self, slot: int, stop_reason: StopReason) -> TrialResult:
        return self.trainer.unload(self.own.pop(slot), stop_reason)


class Host:
    """What a member of a fleet is asked.

    Args:
        n_threads: With which it computes.
    """

    def __init__(self, n_threads: int = 1) -> None:
        torch.set_num_threads(max(1, n_threads))
        # Rows that processes of a machine share may not be written, and are not.
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        self._shares: list[_Share] = []

    def versions(self) -> dict[str, str]:
        """Of what computes here."""
        return versions()

    def begin(self, config: StudyConfig, splits: Splits, n_slots: int) -> None:
        """Forgets what it had, and begins with another search.

        Args:
            config: The study.
            splits: What is trained on.
            n_slots: How many trials it is likely to have at a time.
        """
        self._config, self._splits, self._n_slots = config, splits, n_slots
        self._shares = [_Share(config, splits, n_slots)]

    def advance(self, loads: Sequence[Load]) -> tuple[dict[int, Point], float]:
        """Loads trials, then trains an epoch: a point per slot, and the seconds."""
        start = time.perf_counter()
        self._load(loads)
        points: dict[int, Point] = {}
        for share in self._shares:
            points |= share.train_epoch()
        return points, time.perf_counter() - start

    def catch_up(self, trials: Mapping[int, tuple[Hyperparameters, int]]) -> dict[int, Point]:
        """Takes trials over from a lost process, and trains them as far as they were.

        A trial is a function of its hyperparameters: it comes out the same. Those that were behind
        begin later, so that all arrive together.

        Args:
            trials: By slot: the trial, and how many epochs it is to have trained.

        Returns:
            Each one's last point; none of one that has trained no epoch.
        """
        share = _Share(self._config, self._splits, len(trials))
        points: dict[int, Point] = {}
        for left in range(max(n_epochs for _, n_epochs in trials.values()), 0, -1):
            for slot, (hyperparameters, n_epochs) in trials.items():
                if n_epochs == left:
                    share.load(slot, hyperparameters)
            points |= share.train_epoch()
        for slot, (hyperparameters, n_epochs) in trials.items():
            if n_epochs == 0:
                share.load(slot, hyperparameters)
        self._shares.append(share)
        return points

    def unload(self, loads: Sequence[Load], slot: int, stop_reason: StopReason) -> TrialResult:
        """Empties a slot, after trials were loaded."""
        self._load(loads)
        share = next(share for share in self._shares if slot in share.own)
        result = share.unload(slot, stop_reason)
        self._shares = [each for each in self._shares if each.own] or self._shares[:1]
        return result

    def replicates(
        self, config: StudyConfig, todo: Todo, rows_of: RowsOf, n_slots: int | None
    ) -> list[Trained]:
        """Trains trials on replicates: see `replicates.train_replicates`."""
        self._shares = []  # of a search that is over
        return list(train_replicates(config, todo, rows_of, n_slots=n_slots, n_processes=0))

    def _load(self, loads: Sequence[Load]) -> None:
        for slot, hyperparameters in loads:
            share = next((share for share in self._shares if share.trainer.free_slots), None)
            if share is None:
                share = _Share(self._config, self._splits, self._n_slots)
                self._shares.append(share)
            share.load(slot, hyperparameters)
