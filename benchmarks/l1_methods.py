"""Compares the two ways of an L1 penalty, `model.l1`, on real tables: what is lost, what is zero.

    python -m benchmarks.l1_methods --data FOLDER [--replicates 5] [--only NAME ...]
        [--variant plain] [--csv FILE]

The tables are those of `SOURCES`; FOLDER holds the files among them. Every lambda of a grid is
trained by both methods on the same replicates (split, initialization, batch order, noise) with what
a study does by default: hidden [64, 64], batch 32, learning rate 1e-3, but for at most 200 epochs,
and with a patience of 20. A variant changes one thing of that.

*lambda* is that of the lowest mean validation loss over the replicates; there are the mean losses
on validation and test rows, *zero*, the share of kernel weights that are exactly zero, *small*, the
share of at most 0.001, and the epochs trained. *sparsest* is the largest mean share of zeros at any
lambda whose mean validation loss is within one standard error of the lowest. *ms* is the time of an
epoch of a trial, all lambdas being one population. Differences are proximal minus subgradient,
paired by replicate, each method at its own lambda, with Student's 95 % interval.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from benchmarks.accuracy import interval, train
from pipeline import reference
from pipeline.config import StudyConfig, parse_config
from pipeline.data import Splits, Table, load_table, split
from pipeline.results import TrialResult
from pipeline.space import Hyperparameters

METHODS = ("subgradient", "proximal")
LAMBDAS = tuple(10 ** (exponent / 2) for exponent in range(-12, -1))
FILES = (
    *("blood-transfusion", "credit-g", "jasmine", "kc1", "kr-vs-kp", "phoneme", "vehicle"),
    "california_housing",
)
SOURCES = {
    "breast_cancer": "sklearn:breast_cancer",
    "digits": "sklearn:digits",
    "diabetes": "sklearn:diabetes",
    "noisy_100": "synthetic:noisy_100",
    **{name: f"csv:{name}.csv" for name in FILES},
}
TRIAL = Hyperparameters("l1", lambda_=1.0, patience=20)
VARIANTS: dict[str, tuple[Hyperparameters, dict[str, object]]] = {
    "plain": (TRIAL, {}),
    "no early stopping": (replace(TRIAL, patience="off"), {}),
    "dropout": (replace(TRIAL, dropout=0.3), {}),
    "elastic net": (replace(TRIAL, regularization="elastic_net", l1_ratio=0.5), {}),
    "first layer": (TRIAL, {"model.penalized_layers": [0]}),
    "fast": (TRIAL, {"training.learning_rate": 1e-2}),
    "full batch": (TRIAL, {"training.batch_size": 10**6, "training.learning_rate": 1e-2}),
    "linear": (TRIAL, {"model.hidden": [], "training.learning_rate": 1e-2}),
}
STUDY = 'name = "l1"\n[data]\nsource = "synthetic:noisy_100"\n[training]\nmax_epochs = 200'
LOSSES = ("validation", "test")
SMALL = 1e-3


def loss_on_test(config: StudyConfig, table: Table, splits: Splits, result: TrialResult) -> float:
    """Mean loss of the test rows."""
    network = reference.build_network(config.model, splits.n_features, splits.n_outputs).eval()
    network.load_state_dict({k: torch.from_numpy(v) for k, v in result.weights.items()})
    x, y = map(torch.from_numpy, splits.test_part(table))
    with torch.no_grad():
        return float(reference.mean_loss(splits.task, network(x), y))


def share_of_small(result: TrialResult) -> float:
    """Of kernel weights."""
    kernels = [w.ravel() for name, w in result.weights.items() if name.endswith(".weight")]
    return float(np.mean(np.abs(np.concatenate(kernels)) <= SMALL))


def measure(source: str, variant: str, replicates: int) -> pd.DataFrame:
    """A row per method, lambda and replicate."""
    trial, changed = VARIANTS[variant]
    configs = {
        method: parse_config(
            STUDY, "l1", Path.cwd(), {"data.source": source, "model.l1": method, **changed}
        )
        for method in METHODS
    }
    table = load_table(configs["proximal"].data)
    trials = [replace(trial, lambda_=strength) for strength in LAMBDAS]
    rows = []
    for replicate in range(1, replicates + 1):
        for method, config in configs.items():
            splits = split(table, config.data, config.seed, replicate)
            start = time.perf_counter()
            results = train(config, splits, trials)
            spent = time.perf_counter() - start
            epochs = sum(len(result.history) for result in results)
            rows += [
                {
                    "method": method,
                    "lambda": result.hyperparameters.lambda_,
                    "replicate": replicate,
                    "validation": result.val_loss,
                    "test": loss_on_test(config, table, splits, result),
                    "zero": result.sparsity,
                    "small": share_of_small(result),
                    "epochs": len(result.history),
                    "ms": 1e3 * spent / epochs,
                }
                for result in results
            ]
    return pd.DataFrame(rows)


def at_best(runs: pd.DataFrame) -> tuple[float, pd.DataFrame, float]:
    """Of one method: the best lambda, its row a replicate, and the sparsest of the good."""
    means = runs.groupby("lambda")[["validation", "zero"]].mean()
    best = float(means["validation"].idxmin())
    chosen = runs[runs["lambda"] == best].set_index("replicate")
    good = means["validation"] <= means["validation"].min() + chosen["validation"].sem()
    return best, chosen, float(means["zero"][good].max())


def print_lines(name: str, runs: pd.DataFrame) -> None:
    """A line a method, and one of their differences."""
    chosen = {}
    for method in METHODS:
        best, chosen[method], sparsest = at_best(runs[runs["method"] == method])
        mean = chosen[method].mean(numeric_only=True)
        ms = runs.loc[runs["method"] == method, "ms"].median()
        print(
            f"| {name} | {method} | {best:.1e} | {mean['validation']:.4f} | {mean['test']:.4f} "
            f"| {mean['zero']:.0%} | {mean['small']:.0%} | {sparsest:.0%} "
            f"| {mean['epochs']:.0f} | {ms:.2f} |"
        )
    apart = chosen["proximal"][[*LOSSES]] - chosen["subgradient"][[*LOSSES]]
    cells = (f"{apart[c].mean():+.4f} +- {interval(list(apart[c])):.4f}" for c in LOSSES)
    print(f"| | difference | | {' | '.join(cells)} | | | | | |", flush=True)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, metavar="FOLDER")
    parser.add_argument("--replicates", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=list(SOURCES), default=list(SOURCES))
    parser.add_argument("--variant", choices=list(VARIANTS), default="plain")
    parser.add_argument("--csv", type=Path, help="where to leave every single value")
    chosen = parser.parse_args()
    if chosen.data is None and set(chosen.only) & set(FILES):
        parser.error("--data must be given for tables that are files, however: it is absent")
    torch.set_num_threads(1)
    columns = "method", "lambda", "validation", "test", "zero", "small", "sparsest", "epochs", "ms"
    print(f"| data | {' | '.join(columns)} |")
    print("|---" * (1 + len(columns)) + "|")
    frames = {}
    for name in chosen.only:
        source = SOURCES[name]
        if name in FILES:
            source = f"csv:{chosen.data.absolute() / name}.csv"
        frames[name] = measure(source, chosen.variant, chosen.replicates)
        print_lines(name, frames[name])
        if chosen.csv:
            pd.concat(frames, names=["data", None]).to_csv(chosen.csv)


if __name__ == "__main__":
    main()
