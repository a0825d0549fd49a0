"""Owns reproduction: one trial trained again alone, its curve held against the logged one."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from pipeline.config import ConfigError
from pipeline.data import load_table, split
from pipeline.population.trainer import PopulationTrainer
from pipeline.results import History, StopReason
from pipeline.tracking import read_trial


@dataclass(frozen=True)
class Comparison:
    """How far a trial's second curves are from its first.

    Attributes:
        number: The trial's number.
        epochs: Epochs compared.
        difference: Largest absolute difference of any value at any epoch; infinity where the
            retrained trial ended earlier.
        curve, epoch: Where it is.
    """

    number: int
    epochs: int
    difference: float
    curve: str
    epoch: int

    @property
    def identical(self) -> bool:
        """Whether every value is the same to the last bit."""
        return self.difference == 0

    def __str__(self) -> str:
        what = f"trial {self.number}, {self.epochs} epochs"
        if self.identical:
            return f"{what}: identical"
        return (
            f"{what}: differs, largest difference {self.difference:.3g} "
            f"({self.curve}, epoch {self.epoch})"
        )


def reproduce(run_id: str) -> Comparison:
    """Retrains the trial of a run from what its run and its parent's study file say.

    Raises:
        ConfigError: There is no such trial, or its data are not what they were.
    """
    record, config, digest = read_trial(run_id)
    table = load_table(config.data)
    if table.digest != digest:
        raise ConfigError(
            f"a trial must be reproduced on the data it was trained on (digest {digest}), "
            f"however: {table.digest} ({table.source})"
        )
    splits = split(table, config.data, config.seed, record.replicate)
    trainer = PopulationTrainer(config, splits, n_slots=1)
    trainer.load(0, record.hyperparameters)
    n_epochs = int(record.scalars["epochs"])
    for _ in range(n_epochs):
        if trainer.train_epoch()[0].stop_reason is not None:
            break
    retrained = trainer.unload(0, StopReason.PRUNED).history
    return compare(record.number, record.history, retrained)


def compare(number: int, logged: History, retrained: History) -> Comparison:
    """Compares the epochs that were logged; a diverged trial logged its finite ones only."""
    worst = Comparison(number, len(logged), 0.0, "", 0)
    for field in fields(History):
        first, second = getattr(logged, field.name), getattr(retrained, field.name)
        if len(second) < len(first):
            return Comparison(number, len(logged), float("inf"), field.name, len(second) + 1)
        if not len(first):
            continue
        apart = np.abs(first - second[: len(first)])
        apart = np.where(np.isnan(apart), np.inf, apart)
        if apart.max() > worst.difference:
            epoch = int(apart.argmax())
            worst = Comparison(number, len(logged), float(apart[epoch]), field.name, epoch + 1)
    return worst
