"""Owns what a record tells between its lines: the study file, types, epochs, the losses' unit."""

from __future__ import annotations

import math
from collections.abc import Iterable

from pipeline.config import ConfigError, StudyConfig, parse_logged_config
from pipeline.records import StudyRecord, TrialRecord
from pipeline.results import StopReason
from pipeline.space import Regularization

SPENT = "trained"
SAVED: dict[str, tuple[StopReason, ...]] = {
    "saved by early stopping": (StopReason.EARLY_STOPPING,),
    "saved by pruning": (StopReason.PRUNED,),
    "not trained after failure": (StopReason.DIVERGED, StopReason.ERROR),
}


def config_of(record: StudyRecord) -> StudyConfig | None:
    """The study file, None if it is not legible."""
    try:
        return parse_logged_config(record.study_toml, "study.toml")
    except ConfigError:
        return None


def kinds_of(trials: Iterable[TrialRecord]) -> list[Regularization]:
    """The types that occur, in the order in which they are always listed."""
    present = {trial.hyperparameters.regularization for trial in trials}
    return [kind for kind in Regularization if kind in present]


def loss_unit(record: StudyRecord) -> str:
    """What the study's losses are measured in, as far as the record tells."""
    if "data.task" not in record.params:
        return "mean over rows"
    if record.params["data.task"] == "regression":
        return "squared error, standardized target"
    return "cross-entropy, nats"


def max_epochs(record: StudyRecord) -> int:
    """What the study file allows a trial; without a legible file, the most that any trained."""
    config = config_of(record)
    return config.training.max_epochs if config else max(map(epochs_of, record.trials), default=0)


def epochs_of(trial: TrialRecord) -> int:
    """How many epochs a trial trained."""
    told = trial.scalars.get("epochs", math.nan)
    return int(told) if math.isfinite(told) else len(trial.history)


def epochs_by_type(record: StudyRecord) -> dict[str, dict[Regularization, int]]:
    """Epochs trained, and epochs saved by each way of stopping early, by type."""
    longest = max_epochs(record)
    table = {name: dict.fromkeys(kinds_of(record.trials), 0) for name in (SPENT, *SAVED)}
    for trial in record.trials:
        kind = trial.hyperparameters.regularization
        table[SPENT][kind] += epochs_of(trial)
        for name, reasons in SAVED.items():
            if trial.stop_reason in reasons:
                table[name][kind] += max(0, longest - epochs_of(trial))
    return table
