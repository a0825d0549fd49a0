"""scikit-learn's multi-layer perceptron under Optuna, each trial a nested MLflow run.

    python -m benchmarks.peers.sklearn_mlp STUDY [--trials N] [--max-epochs E] [--seed S]

It follows scikit-learn's guide "Neural network models (supervised)"
(scikit-learn.org/stable/modules/neural_networks_supervised.html): Adam, the L2 penalty `alpha`, and
early stopping on a tenth of the training rows, which is all the regularization that it has. It
cannot be pruned, as `fit` reports nothing before its end, and it gets neither picture nor weights.
Single precision, as our rows are, was no slower than double. One BLAS thread a process: 19 to 27 ms
an epoch of 1,200 rows, where two took 28 to 34.
"""

from __future__ import annotations

import warnings

import mlflow
import optuna
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import log_loss, mean_squared_error
from sklearn.neural_network import MLPClassifier, MLPRegressor
from threadpoolctl import threadpool_limits

from benchmarks.peers.command import Command, read_command
from benchmarks.peers.optuna_study import run_study
from benchmarks.peers.tracking import log_curves
from pipeline.data import Task

# It has no elu.
ACTIVATIONS = {"relu": "relu", "tanh": "tanh", "sigmoid": "logistic", "elu": "relu"}


def objective(trial: optuna.Trial, command: Command, parent_run_id: str) -> float:
    """Trains one trial and tells Optuna its loss on our validation rows."""
    config, splits = command.config, command.splits
    strength, patience = config.space.lambda_, config.space.patience
    params = {
        "alpha": trial.suggest_float("alpha", strength.low, strength.high, log=strength.log),
        "early_stopping": patience != "off",
        "n_iter_no_change": config.training.max_epochs
        if patience == "off"
        else trial.suggest_int("patience", patience.low, patience.high),
    }
    regression = splits.task is Task.REGRESSION
    estimator = (MLPRegressor if regression else MLPClassifier)(
        hidden_layer_sizes=config.model.hidden,
        activation=ACTIVATIONS[config.model.activation],
        solver="adam",
        batch_size=min(config.training.batch_size, len(splits.x_train)),
        learning_rate_init=config.training.learning_rate,
        max_iter=config.training.max_epochs,
        random_state=config.seed,
        **params,
    )
    name = f"trial-{trial.number:04d}"
    with mlflow.start_run(run_name=name, nested=True, parent_run_id=parent_run_id) as run:
        estimator.fit(splits.x_train, splits.y_train)
        if regression:
            loss = mean_squared_error(splits.y_val, estimator.predict(splits.x_val))
        else:
            loss = log_loss(splits.y_val, estimator.predict_proba(splits.x_val))
        curves = {"loss/train": estimator.loss_curve_, "final/val_loss": [loss]}
        if params["early_stopping"]:
            curves["score/val"] = estimator.validation_scores_
        log_curves(run.info.run_id, curves, params)
    trial.set_user_attr("epochs", estimator.n_iter_)
    return loss


def main() -> None:
    """Runs the study."""
    # A trial that reaches `max_iter` is no reason to worry here.
    warnings.simplefilter("ignore", ConvergenceWarning)
    with threadpool_limits(1):
        run_study(read_command(__doc__), objective)


if __name__ == "__main__":
    main()
