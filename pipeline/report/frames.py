"""Owns the tables, one row a trial and one row a type, and how their values are written."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, get_args

import pandas as pd

from pipeline.config import ScoreName
from pipeline.figures.record import epochs_of
from pipeline.records import StudyRecord, TrialRecord
from pipeline.report.facts import types_of
from pipeline.results import TrialState

# Columns that hold words, or words among numbers, and those of whole numbers; others are floats.
WORDS = {"state", "stop_reason", "regularization", "patience", "run_id"}
WHOLE = {"number": "int64", "replicate": "int64", "best_epoch": "Int64", "epochs": "Int64"}

MISSING = "\N{EN DASH}"


def trials_frame(record: StudyRecord) -> pd.DataFrame:
    """One row a trial, by number. `run_id` comes last: all before it is the study's own doing."""
    trials = sorted(record.trials, key=lambda trial: trial.number)
    chosen = [trial.hyperparameters for trial in trials]

    def scalars(*names: str) -> dict[str, list[float]]:
        return {name: [scalar(trial, name) for trial in trials] for name in names}

    frame = pd.DataFrame(
        {
            "number": [trial.number for trial in trials],
            "state": [str(trial.state) for trial in trials],
            "stop_reason": [str(trial.stop_reason) for trial in trials],
            "regularization": [str(each.regularization) for each in chosen],
            "lambda": [each.lambda_ for each in chosen],
            "l1_ratio": [each.l1_ratio for each in chosen],
            "dropout": [each.dropout for each in chosen],
            "patience": [each.patience for each in chosen],
            "learning_rate": [each.learning_rate for each in chosen],
            **scalars("val_loss", "train_loss", "gap", "val_score"),
            **scalars(*_scores_of(trials)),
            **scalars("best_epoch"),
            "epochs": [epochs_of(trial) for trial in trials],
            **scalars("overfit_gap", "weight_norm", "sparsity"),
            "replicate": [trial.replicate for trial in trials],
            "run_id": [trial.run_id for trial in trials],
        }
    )
    if frame["learning_rate"].isna().all():
        del frame["learning_rate"]
    return frame.astype(
        {name: WHOLE.get(name, "float64") for name in frame.columns if name not in WORDS}
    )


def _scores_of(trials: Sequence[TrialRecord]) -> list[str]:
    """What the trials' validation rows were scored by: that depends on the task."""
    names = [f"val_{name}" for name in get_args(ScoreName)]
    return [name for name in names if any(name in trial.scalars for trial in trials)]


def types_frame(record: StudyRecord) -> pd.DataFrame:
    """One row a regularization type, those searched without a trial included; `none` first.

    The best trial is the complete one with the lowest validation loss; the median is over the
    complete ones, because a pruned trial's loss is not what it would have become.
    """
    kinds = types_of(record)
    groups = [
        [trial for trial in record.trials if trial.hyperparameters.regularization is kind]
        for kind in kinds
    ]
    complete = [
        [trial for trial in record.complete if trial.hyperparameters.regularization is kind]
        for kind in kinds
    ]
    of_kind = {trial.hyperparameters.regularization: trial for trial in record.best_of_types}
    best = [of_kind.get(kind) for kind in kinds]
    chosen = [trial.hyperparameters if trial else None for trial in best]
    return pd.DataFrame(
        {
            "regularization": [str(kind) for kind in kinds],
            "trials": [len(trials) for trials in groups],
            **{
                str(state): [sum(trial.state is state for trial in trials) for trials in groups]
                for state in TrialState
            },
            "best_val_loss": [scalar(trial, "val_loss") for trial in best],
            "median_val_loss": [
                pd.Series([trial.val_loss for trial in trials], dtype="float64").median()
                for trials in complete
            ],
            "best_gap": [scalar(trial, "gap") for trial in best],
            "best_lambda": [each.lambda_ if each else math.nan for each in chosen],
            "best_dropout": [each.dropout if each else math.nan for each in chosen],
            "best_epoch": [scalar(trial, "best_epoch") for trial in best],
        }
    )


def scalar(trial: TrialRecord | None, name: str) -> float:
    """What MLflow shows as `final/NAME`, NaN where it is not there."""
    return math.nan if trial is None else trial.scalars.get(name, math.nan)


def number(value: float) -> str:
    """Four significant digits; a dash for what is not there."""
    if not math.isfinite(value):
        return MISSING
    if value == int(value) and abs(value) < 1e6:
        return f"{value:.0f}"
    return f"{value:.4g}"


def cell(value: Any) -> dict[str, Any]:
    """What a cell says, what it is sorted by if that is more, and whether it holds words."""
    if isinstance(value, str):
        return {"text": value, "key": None, "words": True}
    if pd.isna(value):
        return {"text": MISSING, "key": "", "words": False}
    text, key = number(value), f"{value:.8g}"
    return {"text": text, "key": None if float(key) == float(text) else key, "words": False}
