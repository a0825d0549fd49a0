"""Owns what the run of a training holds: params, results, curves, files. Not where."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pipeline.records import TrialRecord
from pipeline.results import History, StopReason, TrialResult, TrialState
from pipeline.space import Hyperparameters, Regularization
from pipeline.weights import WEIGHTS_FILE

if TYPE_CHECKING:
    from pipeline.figures.parts import Plot

HISTORY_FILE = "history.csv"
TRACEBACK_FILE = "traceback.txt"
CURVE_FILE = "learning_curve.png"
PREPROCESSING_FILE = "preprocessing.json"
CURVES = {
    "loss/train": "train_loss",
    "loss/val": "val_loss",
    "gap/loss": "gap",
    "score/train": "train_score",
    "score/val": "val_score",
}
# MLflow's own mapping for Optuna's states.
STATUS = {
    TrialState.COMPLETE: "FINISHED",
    TrialState.PRUNED: "KILLED",
    TrialState.FAILED: "FAILED",
}

logger = logging.getLogger(__name__)


class MetricPoint(NamedTuple):
    """One value of a metric, finite."""

    key: str
    value: float
    step: int


@dataclass(frozen=True)
class EndedRun:
    """A child run from its creation to its end.

    Attributes:
        name: Shown in the UI.
        tags, params: As MLflow's client would be given them, but for the parent's tag and those of
            where it ran.
        metrics: In any order; steps of one key are distinct.
        status: One of MLflow's.
        started, ended: Milliseconds since 1970; metrics carry the second.
        files: Artifacts by name.
        write: Given once to whatever is to be one run, however often it is written: the run's id
            where the store lets it be chosen.
    """

    name: str
    tags: Mapping[str, str]
    params: Mapping[str, str]
    metrics: Sequence[MetricPoint]
    status: str
    started: int
    ended: int
    files: Mapping[str, bytes] = field(default_factory=dict)
    write: str = field(default_factory=lambda: uuid.uuid4().hex)


@dataclass(frozen=True)
class FinishedTrial:
    """A trial on its way to the store.

    Attributes:
        number: Optuna's trial number.
        result: What it left behind.
        started: When it was loaded, in milliseconds since 1970.
        ended: When it was unloaded, likewise.
        has_dropout: Whether its rate means anything in this study's network.
        write: As of its run.
    """

    number: int
    result: TrialResult
    started: int
    ended: int
    has_dropout: bool
    write: str = field(default_factory=lambda: uuid.uuid4().hex)


def final_values(result: TrialResult) -> dict[str, float]:
    """What `final/` shows; a failed trial has no values, only the number of its epochs."""
    epochs = {"epochs": float(len(result.history))}
    if result.state is TrialState.FAILED:
        return epochs
    values = {
        "val_loss": result.val_loss,
        "train_loss": result.train_loss,
        "gap": result.gap,
        "val_score": result.val_score,
        **{f"val_{name}": value for name, value in result.scores.items()},
        "best_epoch": float(result.kept_epoch),
        "overfit_gap": result.overfit_gap,
        "weight_norm": result.weight_norm,
        "sparsity": result.sparsity,
    }
    values |= {f"test_{name}": value for name, value in result.test.items()}
    finite = {name: value for name, value in values.items() if np.isfinite(value)}
    return {**finite, **epochs}


def metrics_of(result: TrialResult) -> list[MetricPoint]:
    """A run's metrics: curves from step 1 on, a point an epoch, and `final/` at step 0.

    Finite values only: MLflow's UI hides a metric whose last value is NaN.
    """
    history = result.history
    epochs = np.flatnonzero(history.finite)
    points = []
    for name, curve in CURVES.items():
        values = getattr(history, curve)[epochs]
        finite = np.isfinite(values)
        points += [
            MetricPoint(name, value, step)
            for value, step in zip(
                values[finite].tolist(), (epochs[finite] + 1).tolist(), strict=True
            )
        ]
    scalars = final_values(result).items()
    return points + [MetricPoint(f"final/{name}", value, 0) for name, value in scalars]


@lru_cache(maxsize=1)
def learning_curve_figure() -> Any:
    """The one figure that all learning curves of a process are drawn with."""
    from pipeline.figures.learning_curve import LearningCurveFigure

    return LearningCurveFigure()


def trial_run(trial: FinishedTrial, weights: bytes) -> EndedRun:
    """The run of a trial; `weights` is the content of `weights.pt`."""
    result = trial.result
    return EndedRun(
        name=f"trial-{trial.number:04d}",
        tags={"stage": "search", "trial.number": str(trial.number), **end_tags(result)},
        params=trial_params(trial),
        metrics=metrics_of(result),
        status=STATUS[result.state],
        started=trial.started,
        ended=trial.ended,
        files={
            HISTORY_FILE: history_csv(result.history).encode(),
            **left_behind(result, weights),
            **_picture(trial),
        },
        write=trial.write,
    )


def left_behind(result: TrialResult, weights: bytes) -> dict[str, bytes]:
    """A training's weights; one that raised has none, and the traceback in their place."""
    if result.stop_reason is StopReason.ERROR:
        return {TRACEBACK_FILE: result.error.encode()}
    return {WEIGHTS_FILE: weights}


def _picture(trial: FinishedTrial) -> dict[str, bytes]:
    """The learning curve, as far as it can be drawn: no trial is lost for its picture."""
    result = trial.result
    try:
        picture = learning_curve_figure().png(
            trial.number,
            result.hyperparameters,
            result.history,
            result.kept_epoch,
            result.stop_reason,
        )
    except Exception as error:  # noqa: BLE001  # whatever it is, the curve itself is kept
        logger.warning("the curve of trial %d was not drawn: %r", trial.number, error)
        return {}
    return {CURVE_FILE: picture}


def end_tags(result: TrialResult) -> dict[str, str]:
    """How a training ended."""
    return {"trial.state": str(result.state), "trial.stop_reason": str(result.stop_reason)}


def study_pictures(plots: Sequence[Plot]) -> dict[str, bytes]:
    """A study's figures, as PNG by file name. Called where matplotlib is imported already."""
    from pipeline.figures.matplotlib_renderer import study_figures

    return study_figures(plots)


def history_csv(history: History) -> str:
    """One line an epoch; numbers in full, so that reading them back loses nothing."""
    names = ["epoch", *CURVES.values()]
    columns = [getattr(history, field).tolist() for field in CURVES.values()]
    lines = [",".join(names)]
    for epoch, values in enumerate(zip(*columns, strict=True), start=1):
        lines.append(",".join([str(epoch), *map(repr, values)]))
    return "\n".join(lines) + "\n"


def trial_params(trial: FinishedTrial) -> dict[str, str]:
    """The run's params."""
    params = params_of(trial.result.hyperparameters, trial.has_dropout)
    return {**params, "replicate": str(trial.result.replicate)}


def params_of(chosen: Hyperparameters, has_dropout: bool) -> dict[str, str]:
    """Hyperparameters; those that do not apply are absent, but for `none`'s lambda of 0."""
    params: dict[str, Any] = {
        "regularization": chosen.regularization,
        "lambda": chosen.lambda_ if chosen.regularization is not Regularization.NONE else 0,
        "log10_lambda": float(np.log10(chosen.lambda_)) if chosen.lambda_ > 0 else None,
        "l1_ratio": chosen.l1_ratio,
        "dropout": chosen.dropout if has_dropout else None,
        "patience": chosen.patience,
        "learning_rate": chosen.learning_rate,
    }
    return {key: str(value) for key, value in params.items() if value is not None}


def trial_record(trial: FinishedTrial, run_id: str) -> TrialRecord:
    """A trial as the tracking store will tell of it, without asking the store."""
    result = trial.result
    return TrialRecord(
        number=trial.number,
        run_id=run_id,
        state=result.state,
        stop_reason=result.stop_reason,
        hyperparameters=logged(result.hyperparameters, trial.has_dropout),
        replicate=result.replicate,
        history=_finite_part(result.history),
        scalars=final_values(result),
    )


def logged(chosen: Hyperparameters, has_dropout: bool) -> Hyperparameters:
    """What a run tells of them: no rate where nothing drops out."""
    return chosen if has_dropout else replace(chosen, dropout=0.0)


def read_history(content: bytes) -> History:
    """The finite epochs of a `history.csv`."""
    lines = content.decode().splitlines()
    names = lines[0].split(",")
    values = np.array([[float(cell) for cell in line.split(",")] for line in lines[1:]])
    values = values.reshape(-1, len(names))
    curves = dict(zip(names, values.T, strict=True))
    return _finite_part(History(*(curves[field.name] for field in fields(History))))


def _finite_part(history: History) -> History:
    finite = history.finite
    return History(*(getattr(history, field.name)[finite] for field in fields(History)))
