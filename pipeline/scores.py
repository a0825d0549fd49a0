"""Owns which scores a task has, and which of them a study's curves show."""

from __future__ import annotations

import numpy as np

from pipeline.config import ConfigError, DataConfig, ScoreName
from pipeline.data import Splits, Task

# The first is what `data.score = "auto"` stands for.
OF_CLASSES: tuple[ScoreName, ...] = ("accuracy", "balanced_accuracy", "roc_auc", "log_loss")
OF_A_QUANTITY: tuple[ScoreName, ...] = ("r2", "rmse", "mae")

# Ranking the rows by each of more classes than these would take as long as an epoch of training.
MOST_RANKED = 100


def scores_of(task: Task) -> tuple[ScoreName, ...]:
    """All scores of a task."""
    return OF_A_QUANTITY if task is Task.REGRESSION else OF_CLASSES


def final_scores(splits: Splits) -> tuple[ScoreName, ...]:
    """The scores of a trial's kept weights: all of its task, but for what would take too long."""
    known = scores_of(splits.task)
    many = splits.n_outputs > MOST_RANKED
    return tuple(name for name in known if name != "roc_auc") if many else known


def chosen_score(data: DataConfig, splits: Splits) -> ScoreName:
    """The score that the curves show.

    Raises:
        ConfigError: The task has no such score, or these splits have none.
    """
    known = scores_of(splits.task)
    if data.score == "auto":
        return known[0]
    place = f"{data.source}, data.score"
    if data.score not in known:
        kind = "a quantity" if splits.task is Task.REGRESSION else "classes"
        raise ConfigError(
            f"the score of {kind} must be one of {', '.join(known)}, "
            f"however: {data.score!r} ({place})"
        )
    n_classes = max(2, splits.n_outputs)
    for name, target in (("training", splits.y_train), ("validation", splits.y_val)):
        n_present = len(np.unique(target))
        if data.score == "roc_auc" and n_present < n_classes:
            raise ConfigError(
                f"roc_auc must have rows of all {n_classes} classes, "
                f"however: {n_present} among the {name} rows ({place})"
            )
    return data.score
