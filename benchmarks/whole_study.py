"""Measures whole studies, from an empty folder to the last artifact, against other people's ways.

    python -m benchmarks.whole_study [--trials 200] [--max-epochs 100] [--only NAME ...]

All search one space over one table: that of `studies/keras_example.toml`, with 2,000 rows of 100
features, of which 1,200 train; hidden [64, 64], batch 32. Each is a fresh process with a fresh
sqlite store, so that imports count. What the peers are, and why their settings are the fastest,
stands in `benchmarks/peers/`.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from sklearn.datasets import make_classification

from benchmarks.fresh import timed

STUDY = """
name = "whole-study"
seed = 0
[data]
source = "parquet:{table}"
target = "y"
[search]
n_trials = {trials}
population = 30
[training]
max_epochs = {epochs}
[confirm]
replicates = 0
"""
# What scikit-learn's perceptron can search.
L2_ALONE = ("--set", 'space.regularization=["l2"]', "--set", "space.dropout=0.0")


@dataclass(frozen=True)
class Entry:
    """A way to run the study."""

    module: str
    arguments: tuple[str, ...] = ()


ENTRIES = {
    "ours": Entry("pipeline", ("--quiet",)),
    "ours, without pruning": Entry("pipeline", ("--quiet", "--set", 'search.pruner="none"')),
    "ours, L2 and early stopping only": Entry("pipeline", ("--quiet", *L2_ALONE)),
    "Optuna and MLflow, as their tutorials have it": Entry(
        "benchmarks.peers.optuna_mlflow", ("--jobs", "1", "--log-each-epoch")
    ),
    "the same, without pruning": Entry(
        "benchmarks.peers.optuna_mlflow", ("--jobs", "1", "--log-each-epoch", "--no-pruning")
    ),
    "Optuna and MLflow, two processes, curves at a trial's end": Entry(
        "benchmarks.peers.optuna_mlflow", ("--jobs", "2")
    ),
    "Ray Tune, MLflowLoggerCallback": Entry("benchmarks.peers.ray_tune", ("--log-each-epoch",)),
    "Ray Tune, setup_mlflow, curves at a trial's end": Entry("benchmarks.peers.ray_tune"),
    "scikit-learn's MLPClassifier under Optuna": Entry("benchmarks.peers.sklearn_mlp"),
}


@dataclass(frozen=True)
class Outcome:
    """What a whole study took and found."""

    wall: float
    trials: int
    epochs: int
    best_val_loss: float
    phases: dict[str, float]


def write_study(folder: Path, trials: int, max_epochs: int) -> Path:
    """The table and the study file."""
    x, y = make_classification(
        n_samples=2000,
        n_features=100,
        n_informative=20,
        n_redundant=10,
        flip_y=0.1,
        random_state=0,
    )
    frame = pd.DataFrame(x, columns=[f"x{number}" for number in range(x.shape[1])]).assign(y=y)
    frame.to_parquet(folder / "table.parquet")
    study = folder / "study.toml"
    study.write_text(
        STUDY.format(table=folder / "table.parquet", trials=trials, epochs=max_epochs),
        encoding="utf-8",
    )
    return study


def read_ours(folder: Path, _: str) -> Outcome:
    """From the store that the study left."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(experiments, max_results=5000)
    (parent,) = (run for run in runs if "study.state" in run.data.tags)
    metrics = parent.data.metrics
    return Outcome(
        wall=0.0,
        trials=int(metrics["study/trials"]),
        epochs=sum(int(run.data.metrics.get("final/epochs", 0)) for run in runs),
        best_val_loss=metrics["best/val_loss"],
        phases={k.removeprefix("time/"): v for k, v in metrics.items() if k.startswith("time/")},
    )


def read_peer(_: Path, output: str) -> Outcome:
    """From the last line that a peer prints."""
    said = json.loads(output.splitlines()[-1])
    return Outcome(0.0, said["trials"], said["epochs"], said["best_val_loss"], {})


def run(name: str, study: Path) -> Outcome:
    """One entry's study."""
    entry = ENTRIES[name]
    ours = entry.module == "pipeline"
    arguments = ("run", str(study)) if ours else (str(study),)
    wall, outcome = timed(
        entry.module, *arguments, *entry.arguments, read=read_ours if ours else read_peer
    )
    return Outcome(wall, outcome.trials, outcome.epochs, outcome.best_val_loss, outcome.phases)


def outside_training(phases: dict[str, float]) -> float:
    """Share of a study's time, imports and set-up aside, in which it did not train."""
    return 1 - phases["train"] / sum(phases.values())


def measure(trials: int, max_epochs: int, only: list[str] | None = None) -> dict[str, Outcome]:
    """Runs the entries in turn and prints a line for each."""
    outcomes = {}
    print("| study | wall, s | trials | epochs | ms an epoch, all included | best loss |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        study = write_study(Path(folder), trials, max_epochs)
        for name in only or ENTRIES:
            outcomes[name] = run(name, study)
            o = outcomes[name]
            print(
                f"| {name} | {o.wall:.0f} | {o.trials} | {o.epochs} | "
                f"{o.wall / o.epochs * 1e3:.1f} | {o.best_val_loss:.4f} |",
                flush=True,
            )
            if o.phases:
                shares = ", ".join(f"{k} {v:.1f}" for k, v in sorted(o.phases.items()))
                print(f"  (seconds: {shares}; outside training {outside_training(o.phases):.0%})")
    return outcomes


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--max-epochs", type=int, default=100)
    parser.add_argument("--only", nargs="*", choices=list(ENTRIES))
    chosen = parser.parse_args()
    measure(chosen.trials, chosen.max_epochs, chosen.only)


if __name__ == "__main__":
    main()
