"""Optuna around a plain PyTorch loop, each trial a nested MLflow run.

    python -m benchmarks.peers.optuna_mlflow STUDY [--trials N] [--max-epochs E] [--no-pruning]

Its objective follows Optuna's tutorial "Efficient Optimization Algorithms" (`report`, then
`should_prune`) and MLflow's guide to nested runs for hyperparameter tuning
(mlflow.org/docs/latest/ml/traditional-ml/tutorials/hyperparameter-tuning). One thread a process:
two were slower. Curves go to the store in one batch at a trial's end, which saves a transaction of
about 11 ms an epoch, as much as the epoch itself; with `--log-each-epoch` they go there at once.
MLflow's asynchronous logging is off: ending a run then waits for about a second (20 s instead of 13
for 8 trials of 10 epochs).
"""

from __future__ import annotations

import mlflow
import optuna
import torch

from benchmarks.peers.command import Command, read_command
from benchmarks.peers.optuna_study import run_study
from benchmarks.peers.plain_loop import Epoch, build_network, train
from benchmarks.peers.records import curves, log_end, params


def objective(trial: optuna.Trial, command: Command, parent_run_id: str) -> float:
    """Trains one trial and tells Optuna its lowest validation loss."""
    config, splits = command.config, command.splits
    hyperparameters = config.search_space.suggest(trial)
    torch.manual_seed(config.seed)
    network = build_network(config, splits, hyperparameters.dropout)
    history: list[Epoch] = []
    status = "FINISHED"
    name = f"trial-{trial.number:04d}"
    with mlflow.start_run(run_name=name, nested=True, parent_run_id=parent_run_id):
        mlflow.log_params(params(hyperparameters))
        for step, epoch in enumerate(train(config, splits, hyperparameters, network), start=1):
            history.append(epoch)
            if command.log_each_epoch:
                mlflow.log_metrics(curves(epoch), step=step)
            trial.report(epoch.val_loss, step)
            if trial.should_prune():
                status = "KILLED"
                break
        log_end(history, network, with_curves=not command.log_each_epoch)
        mlflow.end_run(status)

    trial.set_user_attr("epochs", len(history))
    if status == "KILLED":
        raise optuna.TrialPruned
    return min(epoch.val_loss for epoch in history)


def main() -> None:
    """Runs the study."""
    torch.set_num_threads(1)
    run_study(read_command(__doc__), objective)


if __name__ == "__main__":
    main()
