"""What a trial of the Optuna and the Ray peer leaves in its MLflow run: the same as one of ours.

By MLflow's fluent API, as its guides use it (mlflow.org/docs/latest/ml/tracking): `log_params` and
`log_metrics` take a whole dictionary in one transaction.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import mlflow
import torch
from matplotlib.figure import Figure
from torch import nn

from benchmarks.peers.plain_loop import Epoch
from benchmarks.peers.tracking import log_curves
from pipeline.space import Hyperparameters


def curves(epoch: Epoch) -> dict[str, float]:
    """An epoch's metrics, by the names that ours have too."""
    return {
        "loss/train": epoch.train_loss,
        "loss/val": epoch.val_loss,
        "gap/loss": epoch.val_loss - epoch.train_loss,
        "score/train": epoch.train_score,
        "score/val": epoch.val_score,
    }


def params(trial: Hyperparameters) -> dict[str, str | int | float]:
    """A trial's hyperparameters; those that do not apply are absent."""
    values = {
        "regularization": str(trial.regularization),
        "lambda": trial.lambda_,
        "l1_ratio": trial.l1_ratio,
        "dropout": trial.dropout,
        "patience": trial.patience,
        "learning_rate": trial.learning_rate,
    }
    return {key: value for key, value in values.items() if value is not None}


def finals(history: Sequence[Epoch]) -> dict[str, float]:
    """The metrics of the best epoch."""
    best = min(history, key=lambda epoch: epoch.val_loss)
    return {
        "final/val_loss": best.val_loss,
        "final/train_loss": best.train_loss,
        "final/gap": best.val_loss - best.train_loss,
        "final/val_score": best.val_score,
        "final/best_epoch": history.index(best) + 1,
        "final/epochs": len(history),
    }


def log_end(history: Sequence[Epoch], network: nn.Sequential, *, with_curves: bool) -> None:
    """Logs what is known at a trial's end to the active run."""
    if with_curves:
        epochs = [curves(epoch) for epoch in history]
        columns = {name: [epoch[name] for epoch in epochs] for name in epochs[0]}
        log_curves(mlflow.active_run().info.run_id, columns)
    mlflow.log_metrics(finals(history))
    mlflow.log_figure(learning_curve(history), "learning_curve.png")
    mlflow.log_text(history_csv(history), "history.csv")
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder, "weights.pt")
        torch.save(network.state_dict(), weights)
        mlflow.log_artifact(str(weights))


def learning_curve(history: Sequence[Epoch]) -> Figure:
    """Both losses by epoch. A Figure of its own: pyplot would keep it, and choose a backend."""
    figure = Figure()
    axes = figure.subplots()
    epochs = range(1, len(history) + 1)
    axes.plot(epochs, [epoch.train_loss for epoch in history], label="train")
    axes.plot(epochs, [epoch.val_loss for epoch in history], label="validation")
    axes.set(xlabel="epoch", ylabel="loss")
    axes.legend()
    return figure


def history_csv(history: Sequence[Epoch]) -> str:
    """One line an epoch."""
    lines = [",".join(("epoch", *Epoch._fields))]
    lines += [f"{n},{','.join(map(str, epoch))}" for n, epoch in enumerate(history, start=1)]
    return "\n".join(lines) + "\n"
