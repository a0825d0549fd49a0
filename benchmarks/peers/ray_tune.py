"""Ray Tune: two trials at a time in processes of their own, OptunaSearch, ASHA, MLflow.

    python -m benchmarks.peers.ray_tune STUDY [--trials N] [--max-epochs E] [--no-pruning]

It follows Ray's guides "Running Tune experiments with Optuna" (define-by-run, as our space is
conditional), "Tune Trial Schedulers" (ASHA with a grace period of 10 and a reduction factor of 3)
and "Using MLflow with Tune", all on docs.ray.io/en/latest/tune.

Of the two ways of the latter it takes `setup_mlflow`: 32 s for 16 trials of up to 30 epochs, where
MLflowLoggerCallback took 88. The callback writes every metric of a report one by one, Ray's own
ones too, in the process that schedules. Curves go to the store in one batch at a trial's end, as in
the Optuna peer. With `--log-each-epoch` it is the callback, which is spared pictures and weights.
"""

from __future__ import annotations

import os
from dataclasses import asdict, fields
from functools import partial
from pathlib import Path
from typing import Any

import mlflow
import optuna
import ray
import torch
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID
from ray import tune
from ray.air.integrations.mlflow import MLflowLoggerCallback, setup_mlflow
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search.optuna import OptunaSearch

from benchmarks.peers.command import print_result, read_command
from benchmarks.peers.plain_loop import Epoch, build_network, train
from benchmarks.peers.records import curves, log_end, params
from pipeline.config import StudyConfig, parse_config
from pipeline.data import Splits
from pipeline.space import Hyperparameters


def read_study(study: str) -> StudyConfig:
    """The study of a text: that travels between processes, and its generic types do not."""
    return parse_config(study, "the study", Path())


def space(trial: optuna.Trial, study: str) -> dict[str, Any]:
    """The define-by-run search space."""
    return asdict(read_study(study).search_space.suggest(trial))


def trainable(
    trial_config: dict[str, Any],
    study: str,
    splits: Splits,
    log_each_epoch: bool,
    tracking_uri: str,
    parent_run_id: str,
) -> dict[str, Any]:
    """Trains one trial within a run of its own and reports once an epoch."""
    torch.set_num_threads(1)
    config = read_study(study)
    by_callback = log_each_epoch
    names = [field.name for field in fields(Hyperparameters)]
    hyperparameters = Hyperparameters(**{name: trial_config[name] for name in names})
    torch.manual_seed(config.seed)
    network = build_network(config, splits, hyperparameters.dropout)
    if not by_callback:
        setup_mlflow(
            tracking_uri=tracking_uri,
            experiment_name=config.name,
            run_name=tune.get_context().get_trial_name(),
            tags={MLFLOW_PARENT_RUN_ID: parent_run_id},
        )
        mlflow.log_params(params(hyperparameters))
    history: list[Epoch] = []
    best_val_loss, status = float("inf"), "KILLED"
    try:
        for step, epoch in enumerate(train(config, splits, hyperparameters, network), start=1):
            history.append(epoch)
            best_val_loss = min(best_val_loss, epoch.val_loss)
            shown = curves(epoch) if by_callback else {}
            tune.report(
                {"best_val_loss": best_val_loss, "epochs": step, "finished": False, **shown}
            )
        status = "FINISHED"
    finally:
        # `report` raises SystemExit in a trial that the scheduler stops. The actor's next trial
        # waits for this; at the study's end nobody does, and up to two runs stay as they are.
        if not by_callback:
            log_end(history, network, with_curves=True)
            mlflow.end_run(status)
    return {"best_val_loss": best_val_loss, "epochs": len(history), "finished": True}


def main() -> None:
    """Runs the study."""
    command = read_command(__doc__)
    config, study = command.config, command.config.to_toml()
    # Documented: no CSV, JSON and TensorBoard files beside what MLflow gets.
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    ray.init(
        num_cpus=command.jobs, include_dashboard=False, log_to_driver=False, logging_level="error"
    )
    optuna.logging.set_verbosity(optuna.logging.WARNING)

    scheduler: TrialScheduler = FIFOScheduler()
    if command.pruning:
        # One report more than there are epochs: the last one says that the trial ended by itself.
        scheduler = ASHAScheduler(
            max_t=config.training.max_epochs + 1, grace_period=10, reduction_factor=3
        )
    mlflow.set_tracking_uri(command.tracking_uri)
    mlflow.set_experiment(config.name)
    with mlflow.start_run(run_name=config.name) as parent:
        mlflow.log_params({"n_trials": config.search.n_trials, "seed": config.seed})
        with_data = tune.with_parameters(
            trainable,
            study=study,
            splits=command.splits,
            log_each_epoch=command.log_each_epoch,
            tracking_uri=command.tracking_uri,
            parent_run_id=parent.info.run_id,
        )
        callbacks = []
        if command.log_each_epoch:
            logger = MLflowLoggerCallback(
                tracking_uri=command.tracking_uri,
                experiment_name=config.name,
                tags={MLFLOW_PARENT_RUN_ID: parent.info.run_id},
            )
            callbacks.append(logger)
        tuner = tune.Tuner(
            tune.with_resources(with_data, {"cpu": 1}),
            tune_config=tune.TuneConfig(
                metric="best_val_loss",
                mode="min",
                search_alg=OptunaSearch(
                    partial(space, study=study),
                    metric="best_val_loss",
                    mode="min",
                    seed=config.seed,
                ),
                scheduler=scheduler,
                num_samples=config.search.n_trials,
                max_concurrent_trials=command.jobs,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                storage_path=str(Path.cwd() / "ray_results"), verbose=0, callbacks=callbacks
            ),
        )
        trials = [result.metrics for result in tuner.fit()]
        best_val_loss = min(trial["best_val_loss"] for trial in trials)
        mlflow.log_metric("best/val_loss", best_val_loss)
    ray.shutdown()

    print_result(
        trials=len(trials),
        pruned=sum(not trial["finished"] for trial in trials),
        epochs=sum(trial["epochs"] for trial in trials),
        best_val_loss=best_val_loss,
    )


if __name__ == "__main__":
    main()
