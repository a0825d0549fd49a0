"""Measures how well what a study finds predicts rows that nothing was chosen by.

    python -m benchmarks.accuracy --data FOLDER [--seeds 5] [--trials 60] [--only NAME ...]

The eight data sets of `published_accuracy.csv` in FOLDER, which holds what Kadra et al. 2021
("Well-tuned Simple Nets Excel on Tabular Datasets") report of one split without error bars. One
configuration for all of them, `STUDY`, and one protocol:

1. A fifth of the rows is test: stratified, with `random_state=11`, the published split. It takes no
   notice of duplicate rows, of which kc1 has 897 that then stand on both sides, as it did there.
2. A quarter of the rest, drawn by the seed, is validation, and a study of `--trials` trials is
   searched: balanced class weights, the winner by validation loss.
3. The best `FINALISTS` complete trials are trained again on `REPLICATES` fresh divisions of the
   rows that are not test, each with its own early stopping, and their probabilities averaged.
4. Balanced accuracy on test, once a seed; 95 % is Student's interval of the mean over the seeds. It
   tells how far chance in search and training goes, not how far that of the test rows does.

Time is a seed's, for search and finalists together. With `--rehearse` the test rows are put away
and the protocol is run on the other ones alone, of which a fifth, drawn by the seed, stand in for
them: this is how `STUDY` was chosen, and the only way in which it may be changed.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy import stats
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import train_test_split

from benchmarks.storeless import search
from pipeline import reference
from pipeline.config import StudyConfig, parse_assignment, parse_config
from pipeline.data import Rows, Splits, Table, Task, load_table, split_rows
from pipeline.population.trainer import PopulationTrainer
from pipeline.results import TrialResult, TrialState
from pipeline.space import Hyperparameters

STUDY = """
name = "accuracy"
[data]
source = "csv:table.csv"
score = "balanced_accuracy"
[model]
hidden = [128, 128]
[training]
max_epochs = 200
class_weight = "balanced"
[search]
population = 9
[space]
learning_rate = { low = 3e-4, high = 1e-2, log = true }
patience = 20
"""
# Steps an epoch that a batch size is chosen for, and the sizes that it is chosen from.
STEPS, SMALLEST, LARGEST = 20, 32, 512
FINALISTS, REPLICATES = 3, 6
TEST_STATE = 11
PUBLISHED = {
    "mlp_plain": "plain",
    "mlp_dropout": "dropout",
    "mlp_weight_decay": "weight decay",
    "cocktail": "cocktail",
    "xgboost": "XGBoost",
}


def study_of(n_train: int, seed: int, overrides: dict[str, object]) -> StudyConfig:
    """The one configuration; the batch size follows from the number of training rows."""
    size = 2 ** round(np.log2(n_train / STEPS))
    chosen = {"seed": seed, "training.batch_size": int(np.clip(size, SMALLEST, LARGEST))}
    return parse_config(STUDY, "accuracy", Path("/"), chosen | overrides)


def best_of(config: StudyConfig, splits: Splits, count: int) -> list[Hyperparameters]:
    """Of a study's complete trials those with the lowest validation losses, best first."""
    ended: list[TrialResult] = []
    search(config, splits, ended.append)
    complete = [each for each in ended if each.state is TrialState.COMPLETE]
    return [each.hyperparameters for each in sorted(complete, key=lambda r: r.val_loss)[:count]]


def train(config: StudyConfig, splits: Splits, trials: list[Hyperparameters]) -> list[TrialResult]:
    """Some trials to their end, as one population."""
    trainer = PopulationTrainer(config, splits, n_slots=len(trials))
    for slot, trial in enumerate(trials):
        trainer.load(slot, trial)
    while trainer.train_epoch():
        pass
    return [trainer.unload(slot) for slot in range(len(trials))]


def probabilities(
    config: StudyConfig, splits: Splits, result: TrialResult, x: NDArray[np.float32]
) -> NDArray[np.float64]:
    """[N, classes] that a trial's kept weights give."""
    network = reference.build_network(config.model, splits.n_features, splits.n_outputs).eval()
    network.load_state_dict({k: torch.from_numpy(v) for k, v in result.weights.items()})
    with torch.no_grad():
        logits = network(torch.from_numpy(x)).double()
    if splits.task is Task.BINARY:
        logits = torch.cat([torch.zeros_like(logits), logits], dim=1)
    return np.asarray(torch.softmax(logits, dim=1).numpy())


def put_aside(rows: Rows, target: NDArray[np.float64], share: float, state: int) -> list[Rows]:
    """The rest, and a stratified share of some rows."""
    parts: list[Rows] = train_test_split(
        rows, test_size=share, stratify=target[rows], random_state=state
    )
    return parts


def score(
    table: Table, rows: Rows, test: Rows, seed: int, trials: int, overrides: dict[str, object]
) -> float:
    """Balanced accuracy on test rows after a search and its finalists on the other rows."""
    train_rows, val_rows = put_aside(rows, table.target, 0.25, 1000 * seed)
    config = study_of(len(train_rows), seed, {"search.n_trials": trials, **overrides})
    # The search is not even told which the test rows are.
    searched = split_rows(table, config.data, train_rows, val_rows, test[:0])
    finalists = best_of(config, searched, FINALISTS)
    total = np.zeros((len(test), max(2, table.n_outputs)))
    for replicate in range(1, REPLICATES + 1):
        parts = put_aside(rows, table.target, 0.25, 1000 * seed + replicate)
        splits = split_rows(table, config.data, *parts, test, replicate)
        x_test, _ = splits.test_part(table)
        for result in train(config, splits, finalists):
            total += probabilities(config, splits, result, x_test)
    return float(100 * balanced_accuracy_score(table.target[test], total.argmax(axis=1)))


def interval(values: list[float]) -> float:
    """Half the width of the mean's 95 % interval, Student's."""
    if len(values) < 2:
        return float("nan")
    return float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))


def measure(
    folder: Path,
    *,
    seeds: int = 5,
    trials: int = 60,
    only: list[str] | None = None,
    rehearse: bool = False,
    overrides: dict[str, object] | None = None,
) -> pd.DataFrame:
    """Prints a line a data set, and returns the scores, one row a data set, one column a seed."""
    published = pd.read_csv(folder / "published_accuracy.csv", index_col="dataset")
    names = [name for name in published.index if not only or name in only]
    print(f"| data | ours [95 %] | s a seed | {' | '.join(PUBLISHED.values())} |")
    print("|---" * (3 + len(PUBLISHED)) + "|")
    scores: dict[str, list[float]] = {}
    for name in names:
        table = load_table(
            study_of(1, 0, {"data.source": f"csv:{folder.absolute() / name}.csv"}).data
        )
        rows, test = put_aside(np.arange(len(table.target)), table.target, 0.2, TEST_STATE)
        start = time.perf_counter()
        scores[name] = []
        for seed in range(seeds):
            parts = put_aside(rows, table.target, 0.2, seed) if rehearse else (rows, test)
            scores[name].append(score(table, *parts, seed, trials, overrides or {}))
        spent = (time.perf_counter() - start) / seeds
        _print_line(name, scores[name], spent, published.loc[name, list(PUBLISHED)])
    frame = pd.DataFrame(scores).T
    _print_line(
        "mean", list(frame.mean()), float("nan"), published.loc[names, list(PUBLISHED)].mean()
    )
    return frame


def _print_line(name: str, scores: list[float], seconds: float, published: pd.Series) -> None:
    cells = " | ".join(f"{value:.1f}" for value in published)
    ours = f"{np.mean(scores):.2f} +- {interval(scores):.2f}"
    print(f"| {name} | {ours} | {seconds:.0f} | {cells} |", flush=True)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--only", nargs="+", metavar="NAME")
    parser.add_argument("--rehearse", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    measure(
        chosen.data,
        seeds=chosen.seeds,
        trials=chosen.trials,
        only=chosen.only,
        rehearse=chosen.rehearse,
        overrides=dict(map(parse_assignment, chosen.set)),
    )


if __name__ == "__main__":
    main()
