"""Owns what a trial's run holds: params, results, curves and files. Not where they are kept."""

from __future__ import annotations

import io
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.results import History, TrialRecord, TrialResult, TrialState
from pipeline.space import Regularization

HISTORY_FILE = "history.csv"
WEIGHTS_FILE = "weights.pt"
CURVES = {
    "loss/train": "train_loss",
    "loss/val": "val_loss",
    "gap/loss": "gap",
    "score/train": "train_score",
    "score/val": "val_score",
}


@dataclass(frozen=True)
class FinishedTrial:
    """A trial on its way to the store.

    Attributes:
        number: Optuna's trial number.
        result: What it left behind.
        weights_file: The content of `weights.pt`, from `weights_file`.
        started: When it was loaded, in milliseconds since 1970.
        ended: When it was unloaded, likewise.
        has_dropout: Whether its rate means anything in this study's network.
    """

    number: int
    result: TrialResult
    weights_file: bytes
    started: int
    ended: int
    has_dropout: bool


def weights_file(result: TrialResult) -> bytes:
    """The content of `weights.pt`.

    Made by the process that trains: the one that writes would need a second to import torch.
    """
    import torch

    content = io.BytesIO()
    torch.save({name: torch.from_numpy(array) for name, array in result.weights.items()}, content)
    return content.getvalue()


def final_values(result: TrialResult) -> dict[str, float]:
    """What `final/` shows; a failed trial has no values, only the number of its epochs."""
    values = {
        "val_loss": result.val_loss,
        "train_loss": result.train_loss,
        "gap": result.gap,
        "val_score": result.val_score,
        "best_epoch": float(result.kept_epoch),
        "overfit_gap": result.overfit_gap,
        "weight_norm": result.weight_norm,
        "sparsity": result.sparsity,
    }
    if result.state is TrialState.FAILED:
        values = {}
    finite = {name: value for name, value in values.items() if np.isfinite(value)}
    return {**finite, "epochs": float(len(result.history))}


@lru_cache(maxsize=1)
def learning_curve_figure() -> Any:
    """The one figure that all learning curves of a process are drawn with."""
    from pipeline.figures.learning_curve import LearningCurveFigure

    return LearningCurveFigure()


def write_files(folder: Path, trial: FinishedTrial) -> None:
    """Writes the picture, the curves and the weights into a folder."""
    result = trial.result
    picture = learning_curve_figure().png(
        trial.number, result.hyperparameters, result.history, result.kept_epoch, result.stop_reason
    )
    (folder / "learning_curve.png").write_bytes(picture)
    (folder / HISTORY_FILE).write_text(history_csv(result.history), encoding="utf-8")
    (folder / WEIGHTS_FILE).write_bytes(trial.weights_file)


def history_csv(history: History) -> str:
    """One line an epoch; numbers in full, so that reading them back loses nothing."""
    names = ["epoch", *CURVES.values()]
    columns = [getattr(history, field).tolist() for field in CURVES.values()]
    lines = [",".join(names)]
    for epoch, values in enumerate(zip(*columns, strict=True), start=1):
        lines.append(",".join([str(epoch), *map(repr, values)]))
    return "\n".join(lines) + "\n"


def trial_params(trial: FinishedTrial) -> dict[str, str]:
    """The run's params; those that do not apply are absent, but for `none`'s lambda of 0."""
    chosen = trial.result.hyperparameters
    params: dict[str, Any] = {
        "regularization": chosen.regularization,
        "lambda": chosen.lambda_ if chosen.regularization is not Regularization.NONE else 0,
        "log10_lambda": float(np.log10(chosen.lambda_)) if chosen.lambda_ > 0 else None,
        "l1_ratio": chosen.l1_ratio,
        "dropout": chosen.dropout if trial.has_dropout else None,
        "patience": chosen.patience,
        "learning_rate": chosen.learning_rate,
        "replicate": trial.result.replicate,
    }
    return {key: str(value) for key, value in params.items() if value is not None}


def trial_record(trial: FinishedTrial, run_id: str) -> TrialRecord:
    """A trial as the tracking store will tell of it, without asking the store."""
    result = trial.result
    chosen = result.hyperparameters
    return TrialRecord(
        number=trial.number,
        run_id=run_id,
        state=result.state,
        stop_reason=result.stop_reason,
        hyperparameters=chosen if trial.has_dropout else replace(chosen, dropout=0.0),
        replicate=result.replicate,
        history=_finite_part(result.history),
        scalars=final_values(result),
    )


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
