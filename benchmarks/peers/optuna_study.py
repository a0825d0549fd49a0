"""Optuna's part of the Optuna and the scikit-learn peer: `study.optimize`, in one process or more.

It follows Optuna's tutorials "Efficient Optimization Algorithms" (TPE and the median rule) and
"Easy Parallelization" (optuna.readthedocs.io/en/stable/tutorial/10_key_features): processes, as
threads would wait for Python's lock, that share a journal; one process alone keeps its study in
memory, which is faster still. `constant_liar` is what TPESampler's reference advises for several.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable

import mlflow
import optuna
from optuna.storages.journal import JournalFileBackend, JournalStorage

from benchmarks.peers.command import Command, print_result

Objective = Callable[[optuna.Trial, Command, str], float]


def run_study(command: Command, objective: Objective) -> None:
    """Runs a study below one parent run and prints its result.

    Args:
        command: What to run.
        objective: Trains a trial within a run of its own below the run whose id it is given; leaves
            the number of its epochs in the trial's user attribute `epochs`.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # Forked, so that none imports and reads anew; before a store is open, as none may share it.
    fork = multiprocessing.get_context("fork")
    parent_run_ids = fork.SimpleQueue()
    workers = [
        fork.Process(
            target=lambda number: work(command, objective, parent_run_ids.get(), number),
            args=(number,),
        )
        for number in range(command.jobs)
        if command.jobs > 1
    ]
    for worker in workers:
        worker.start()

    mlflow.set_tracking_uri(command.tracking_uri)
    mlflow.set_experiment(command.config.name)
    with mlflow.start_run(run_name=command.config.name) as parent:
        run_id = parent.info.run_id
        mlflow.log_params({"n_trials": command.config.search.n_trials, "seed": command.config.seed})
        for _ in workers:
            parent_run_ids.put(run_id)
        for worker in workers:
            worker.join()
        study = make_study(command) if workers else work(command, objective, run_id)
        mlflow.log_metric("best/val_loss", study.best_value)

    trials = study.get_trials(deepcopy=False)
    print_result(
        trials=len(trials),
        pruned=sum(trial.state is optuna.trial.TrialState.PRUNED for trial in trials),
        epochs=sum(trial.user_attrs["epochs"] for trial in trials),
        best_val_loss=study.best_value,
    )


def work(
    command: Command, objective: Objective, parent_run_id: str, number: int = 0
) -> optuna.Study:
    """Tries trials until the study has enough of them."""
    mlflow.set_tracking_uri(command.tracking_uri)
    mlflow.set_experiment(command.config.name)
    study = make_study(command, number)
    n_trials = command.config.search.n_trials
    study.optimize(
        lambda trial: objective(trial, command, parent_run_id),
        n_trials=n_trials,
        # All states: a trial that another process still trains counts too.
        callbacks=[optuna.study.MaxTrialsCallback(n_trials, states=None)],
    )
    return study


def make_study(command: Command, number: int = 0) -> optuna.Study:
    """Makes the study, or opens it where another process has made it."""
    shared = command.jobs > 1
    pruner: optuna.pruners.BasePruner = optuna.pruners.NopPruner()
    if command.pruning:
        pruner = optuna.pruners.MedianPruner(
            n_startup_trials=5, n_warmup_steps=command.config.search.pruner_warmup
        )
    return optuna.create_study(
        storage=JournalStorage(JournalFileBackend("optuna.log")) if shared else None,
        study_name=command.config.name,
        load_if_exists=True,
        sampler=optuna.samplers.TPESampler(seed=command.config.seed + number, constant_liar=shared),
        pruner=pruner,
    )
