"""Owns reproduction: one trial trained again alone, its curve held against the logged one."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import numpy as np

from pipeline.config import ConfigError
from pipeline.data import load_table, split
from pipeline.population.trainer import PopulationTrainer
from pipeline.results import History, StopReason, TrialResult
from pipeline.tracking import LoggedTraining, read_training

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Comparison:
    """How far a trial's second curves are from its first.

    Attributes:
        name: `trial 7`, or `winner on replicate 3`.
        epochs: Epochs compared.
        difference: Largest absolute difference of any value at any epoch; infinity where the
            retrained trial ended at another epoch or for another reason.
        curve: Where it is: a field of `History`, or "end".
        epoch: Likewise; 0 where there is no difference.
        end: The epoch and the reason of the end.
    """

    name: str
    epochs: int
    difference: float
    curve: str
    epoch: int
    end: str

    @property
    def identical(self) -> bool:
        """Whether every value is the same to the last bit."""
        return self.difference == 0

    def __str__(self) -> str:
        what = f"{self.name}, {self.epochs} epochs compared, {self.end}"
        if self.identical:
            return f"{what}: identical"
        return (
            f"{what}: differs, largest difference {self.difference:.3g} "
            f"({self.curve}, epoch {self.epoch})"
        )


def reproduce(run_id: str, data: pd.DataFrame | None = None) -> Comparison:
    """Retrains what a run trained from what the run and its parent's study file say.

    Args:
        run_id: A trial's run, or that of a finalist on a replicate.
        data: The table, if it was handed over to the study, too.

    Raises:
        ConfigError: There is no such trial, or its data are not what they were.
    """
    logged = read_training(run_id)
    config = logged.config
    table = load_table(config.data, data)
    if table.digest != logged.digest:
        raise ConfigError(
            f"a trial must be reproduced on the data it was trained on (digest {logged.digest}), "
            f"however: {table.digest} ({table.source})"
        )
    splits = split(table, config.data, config.seed, logged.replicate)
    trainer = PopulationTrainer(config, splits, n_slots=1)
    trainer.load(0, logged.hyperparameters)
    for _ in range(logged.epochs):
        if trainer.train_epoch()[0].stop_reason is not None:
            break
    # A trial that does not stop by itself where its run ended was pruned there, or differs.
    return compare(logged, trainer.unload(0, StopReason.PRUNED))


def compare(training: LoggedTraining, retrained: TrialResult) -> Comparison:
    """Compares the ends, and every epoch that was logged: a diverged trial logs its finite ones."""
    logged, ended = training.history, (training.epochs, training.stop_reason)
    end = f"{training.stop_reason} at epoch {training.epochs}"
    same = Comparison(training.name, len(logged), 0.0, "", 0, end)
    if (len(retrained.history), retrained.stop_reason) != ended:
        return replace(same, difference=float("inf"), curve="end", epoch=len(retrained.history))
    worst = same
    for field in fields(History):
        first, second = getattr(logged, field.name), getattr(retrained.history, field.name)
        if len(first) > len(second):
            return replace(same, difference=float("inf"), curve=field.name, epoch=len(second) + 1)
        apart = np.abs(first - second[: len(first)])
        apart = np.where(np.isnan(apart), np.inf, apart)
        if len(apart) and apart.max() > worst.difference:
            epoch = int(apart.argmax())
            worst = replace(same, difference=float(apart[epoch]), curve=field.name, epoch=epoch + 1)
    return worst
