"""Measures whether the intervals of a confirmation are honest, on many small simulated studies.

    python -m benchmarks.calibration [--studies 200] [--replicates 20] [--rows 60 20]
                                     [--hidden 16] [--processes 2] [--seed 0]

Each study draws a fresh pool of rows and a huge test set from one population, and trains the same
finalists on replicates, as a confirmation does: the project's own splits, trainer, statistics and
verdicts. Truth is what fresh pools give on average, for each study the mean of all other studies.

Three intervals stand side by side. They differ in what is added to 1/R in the variance of the mean
of R replicates, (1/R + c) s^2:

- plain: c = 0, the ordinary t-test;
- corrected: c = n_val/n_train, Nadeau and Bengio 2003. This is what the project reports but for
  the means of test loss and score;
- jackknife: c = n_train/n_val. Leaving n_val of the pool's rows out at random is a delete-d
  jackknife, whose variance is n_train/n_val s^2 (Shao and Wu 1989, "A General Theory for Jackknife
  Variance Estimation", Annals of Statistics 17). This is what the project reports of the means of
  losses and scores on rows outside the pool.

"Few test rows" is the same test loss on as many rows as validation has: a study has no huge test.

Two ways of being without effect say how often a guardrail is called helpful that is not:

- other noise: with and without are the same configuration, with other initialization, batch order
  and dropout noise. They are exchangeable on every pool.
- no mean effect: the finalists of the study, each metric shifted so that all have the same truth.
  On one pool a guardrail may still do better or worse; over pools it does neither.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from pipeline import reference
from pipeline.config import StudyConfig, parse_config
from pipeline.confirm.guardrails import Verdict, guardrails
from pipeline.confirm.statistics import estimate
from pipeline.data import Splits, Table, split, table_from_frame
from pipeline.population.trainer import PopulationTrainer
from pipeline.records import Confirmation, Finalist, ReplicateRecord
from pipeline.results import StopReason, TrialResult, TrialState
from pipeline.space import Hyperparameters, Regularization

N_TEST, N_FEATURES = 4000, 13
# Standard deviation of what no feature tells of the target; what they tell has variance 3.
NOISE = 1.5
STUDY = """
name = "calibration"
[data]
source = "frame:data"
task = "regression"
score = "rmse"
[training]
max_epochs = 24
batch_size = 30
learning_rate = 0.03
"""
WINNER = Hyperparameters(Regularization.L2, 0.01, dropout=0.2, patience=4)
FINALISTS = {
    "baseline": Hyperparameters(),
    "early_stopping": Hyperparameters(patience=4),
    "winner best_l2": WINNER,
    "winner_without_penalty": Hyperparameters(dropout=0.2, patience=4),
    "winner_without_dropout": Hyperparameters(Regularization.L2, 0.01, patience=4),
    "best_none": Hyperparameters(dropout=0.1, patience=6),
    "best_l1": Hyperparameters(Regularization.L1, 0.003, dropout=0.1, patience=6),
    "best_weight_decay": Hyperparameters(Regularization.WEIGHT_DECAY, 0.5, dropout=0.1, patience=6),
}
NAMES = tuple(roles.split()[0] for roles in FINALISTS)
# What is compared, as `guardrails` does: with and without.
PAIRS = {
    "early_stopping": ("early_stopping", "baseline"),
    "dropout": ("winner", "winner_without_dropout"),
    "l1": ("best_l1", "best_none"),
    "l2": ("winner", "winner_without_penalty"),
    "weight_decay": ("best_weight_decay", "best_none"),
}
METRICS = ("val_loss", "test_loss", "few_test_loss", "gap")
LABELS = {
    "val_loss": "validation loss",
    "test_loss": "test loss",
    "few_test_loss": "test loss, few test rows",
}
INTERVALS = ("plain", "corrected", "jackknife")
# The second set of initializations, batch orders and dropout noise.
OTHER_NOISE = 1_000_000

# [noise, finalist, replicate, metric] of one study, after an axis of studies where there are many.
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Design:
    """One study.

    Attributes:
        replicates: R.
        rows: How many a replicate trains on, and is validated on: together they are the pool.
        hidden: Units of the one hidden layer; 0 is a linear model.
        seed: What everything is drawn from.
    """

    replicates: int
    rows: tuple[int, int]
    hidden: int
    seed: int

    @property
    def n_rows(self) -> int:
        """Of the pool and the test set."""
        return sum(self.rows) + N_TEST

    def config(self, study: int, noise: int = 0) -> StudyConfig:
        overrides = {
            "seed": self.seed + study + noise * OTHER_NOISE,
            "data.test_size": N_TEST / self.n_rows,
            "data.validation_size": self.rows[1] / self.n_rows,
            "model.hidden": [self.hidden] if self.hidden else [],
        }
        return parse_config(STUDY, "calibration", Path("/"), overrides)

    def rows_for(self, interval: str) -> tuple[int, int]:
        """What makes `estimate` the interval of that name."""
        n_train, n_val = self.rows
        return {
            "plain": (n_train, 0),
            "corrected": (n_train, n_val),
            "jackknife": (n_val, n_train),
        }[interval]


@dataclass(frozen=True, eq=False)
class Studies:
    """Many studies of one design, and their values."""

    design: Design
    values: Values


def draw_table(design: Design, study: int) -> Table:
    """Fresh rows of the one population: two features add, two multiply, the rest is noise."""
    draw = np.random.default_rng((design.seed, study))
    x = draw.normal(size=(design.n_rows, N_FEATURES))
    target = x[:, 0] - x[:, 1] + x[:, 2] * x[:, 3] + NOISE * draw.normal(size=len(x))
    frame = pd.DataFrame(x, columns=[f"x{number}" for number in range(N_FEATURES)])
    return table_from_frame(frame.assign(y=target), design.config(study).data)


def train(config: StudyConfig, splits: Splits) -> list[TrialResult]:
    """The finalists to their end, as one population."""
    trainer = PopulationTrainer(config, splits, n_slots=len(FINALISTS))
    for slot, hyperparameters in enumerate(FINALISTS.values()):
        trainer.load(slot, hyperparameters)
    while trainer.train_epoch():
        pass
    return [trainer.unload(slot) for slot in range(len(FINALISTS))]


def measure(config: StudyConfig, splits: Splits, table: Table) -> Values:
    """[finalist, metric] of one replicate."""
    x, y = map(torch.from_numpy, splits.test_part(table))
    network = reference.build_network(config.model, splits.n_features, splits.n_outputs).eval()
    measured = []
    for result in train(config, splits):
        network.load_state_dict({k: torch.from_numpy(v) for k, v in result.weights.items()})
        with torch.no_grad():
            lost = (network(x)[:, 0] - y).double().square()
        few = float(lost[: len(splits.val_rows)].mean())
        measured.append([result.val_loss, float(lost.mean()), few, result.gap])
    return np.array(measured)


def simulate(study: int, design: Design) -> Values:
    """[noise, finalist, replicate, metric] of one study."""
    torch.set_num_threads(1)
    configs = [design.config(study, noise) for noise in range(2)]
    table = draw_table(design, study)
    values = np.empty((2, len(FINALISTS), design.replicates, len(METRICS)))
    for replicate in range(design.replicates):
        splits = split(table, configs[0].data, configs[0].seed, replicate + 1)
        for noise, config in enumerate(configs):
            values[noise, :, replicate] = measure(config, splits, table)
    return values


def simulate_all(design: Design, studies: int, processes: int) -> Studies:
    """Trains them all."""
    one = partial(simulate, design=design)
    if processes == 1:
        return Studies(design, np.stack(list(map(one, range(studies)))))
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        return Studies(design, np.stack(list(pool.map(one, range(studies), chunksize=4))))


def others(means: Values) -> Values:
    """For each study (the first axis) the mean of all others: what fresh pools give."""
    return np.asarray((means.sum(axis=0) - means) / (len(means) - 1))


def column(values: Values, name: str, metric: str) -> Values:
    """[study, replicate] of one finalist, first noise."""
    return values[:, 0, NAMES.index(name), :, METRICS.index(metric)]


def paired(values: Values, metric: str) -> list[Values]:
    """[study, replicate] differences, one a pair."""
    return [
        column(values, first, metric) - column(values, second, metric)
        for first, second in PAIRS.values()
    ]


def percent(hits: Values) -> str:
    """The mean of [study] shares and its standard error."""
    error = hits.std(ddof=1) / np.sqrt(len(hits))
    return f"{100 * hits.mean():.1f} \N{PLUS-MINUS SIGN} {100 * error:.1f}"


def print_table(*rows: tuple[str, ...]) -> None:
    """The first row is the heading."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    lines.insert(1, "|---" * len(rows[0]) + "|")
    print("\n" + "\n".join(lines), flush=True)


def covered(samples: list[Values], rows: tuple[int, int]) -> Values:
    """[study] how many of the samples' intervals hold the truth, as a share."""
    hits = []
    for sample in samples:
        found = [estimate(each, rows) for each in sample]
        truth = others(sample.mean(axis=1))
        hits.append([each.low <= at <= each.high for each, at in zip(found, truth, strict=True)])
    return np.mean(hits, axis=0)


def coverage(studies: Studies) -> None:
    """How often intervals hold the truth."""
    values, design = studies.values, studies.design
    lines = [("95 % interval of", *(f"{name}, %" for name in INTERVALS))]
    for metric, label in LABELS.items():
        means = [column(values, name, metric) for name in NAMES]
        for what, samples in ((label, means), (f"difference of {label}", paired(values, metric))):
            shares = [percent(covered(samples, design.rows_for(each))) for each in INTERVALS]
            lines.append((what, *shares))
    print_table(*lines)


def confirmation(
    columns: Mapping[str, Values], rows: tuple[int, int], test_metric: str
) -> Confirmation:
    """Of [replicate, metric] values by finalist, with `test_metric` for its test loss."""
    count = len(next(iter(columns.values())))
    taken = {"val_loss": "val_loss", "test_loss": test_metric, "gap": "gap"}
    records = [
        ReplicateRecord(
            name,
            replicate + 1,
            "",
            TrialState.COMPLETE,
            StopReason.MAX_EPOCHS,
            {key: float(of_name[replicate, METRICS.index(m)]) for key, m in taken.items()},
        )
        for name, of_name in columns.items()
        for replicate in range(count)
    ]
    finalists = [
        Finalist(roles.split()[0], tuple(roles.split()), hyperparameters, None)
        for roles, hyperparameters in FINALISTS.items()
        if roles.split()[0] in columns
    ]
    return Confirmation(tuple(finalists), tuple(range(1, count + 1)), tuple(records), rows)


def helpful(
    design: Design, columns: Mapping[str, Values], interval: str, test_metric: str
) -> dict[str, bool]:
    """Which guardrails one study calls helpful, by what it compares."""
    confirmed = confirmation(columns, design.rows_for(interval), test_metric)
    return {
        each.name: each.verdict is Verdict.HELPS
        for each in guardrails(confirmed)
        if each.verdict is not Verdict.NOT_COMPARED
    }


def other_noise(values: Values) -> list[dict[str, Values]]:
    """A study each: three pairs of finalists, each pair one configuration with two noises."""
    pairs = {
        "early_stopping": "baseline",
        "winner": "winner_without_penalty",
        "best_l1": "best_none",
    }
    return [
        {name: study[0, NAMES.index(name)] for name in pairs}
        | {second: study[1, NAMES.index(name)] for name, second in pairs.items()}
        for study in values
    ]


def without_effect(values: Values) -> list[dict[str, Values]]:
    """A study each: all finalists, shifted to the same truth in every metric."""
    means = values[:, 0].mean(axis=2)
    truth = others(means)
    level = truth.mean(axis=1, keepdims=True)
    shifted = values[:, 0] - (truth - level)[:, :, None]
    return [dict(zip(NAMES, study, strict=True)) for study in shifted]


def as_they_are(values: Values) -> list[dict[str, Values]]:
    """A study each: all finalists."""
    return [dict(zip(NAMES, study[0], strict=True)) for study in values]


def false_alarms(studies: Studies) -> None:
    """How often a guardrail without effect is called helpful: each, and any of a study's."""
    values, design = studies.values, studies.design
    lines = [("without effect", "test rows", "interval", "each called helpful, %", "any, %")]
    nulls = {"other noise": other_noise(values), "no mean effect": without_effect(values)}
    tests = {"test_loss": f"{N_TEST}", "few_test_loss": f"{design.rows[1]}"}
    for null, each_study in nulls.items():
        for test_metric, tested in tests.items():
            for interval in INTERVALS:
                called = [
                    list(helpful(design, columns, interval, test_metric).values())
                    for columns in each_study
                ]
                each, any_of = np.mean(called, axis=1), np.any(called, axis=1).astype(float)
                lines.append((null, tested, interval, percent(each), percent(any_of)))
    print_table(*lines)


def power(studies: Studies) -> None:
    """How often the guardrails as they are are called helpful, with few test rows."""
    values = studies.values
    heading = ("called helpful, few test rows", "true change of test loss")
    lines = [(*heading, *(f"{each}, %" for each in INTERVALS))]
    called = {
        interval: [
            helpful(studies.design, columns, interval, "few_test_loss")
            for columns in as_they_are(values)
        ]
        for interval in INTERVALS
    }
    for name, sample in zip(PAIRS, paired(values, "test_loss"), strict=True):
        shares = [np.array([float(each[name]) for each in found]) for found in called.values()]
        lines.append((name, f"{sample.mean():+.4f}", *map(percent, shares)))
    print_table(*lines)


def sources(studies: Studies) -> None:
    """What a study's numbers vary by: its pool, the division of the pool, the trainer's noise.

    The last column is the c that it takes: the variance by the pool in parts of the other two.
    """
    lines = [("variance of", "pool, %", "division, %", "noise, %", "c")]
    for metric in ("val_loss", "test_loss"):
        of_metric = studies.values[..., METRICS.index(metric)]
        samples = {LABELS[metric]: of_metric}
        for name, (first, second) in PAIRS.items():
            difference = of_metric[:, :, NAMES.index(first)] - of_metric[:, :, NAMES.index(second)]
            samples[f"{LABELS[metric]}, {name}"] = difference[:, :, None]
        for what, sample in samples.items():
            noise = np.mean((sample[:, 0] - sample[:, 1]) ** 2) / 2
            within = np.mean(sample.var(axis=3, ddof=1))
            if within == 0:
                continue
            between = np.mean(sample.mean(axis=3).var(axis=0, ddof=1)) - within / sample.shape[3]
            parts = np.array([between, within - noise, noise]) / (between + within)
            lines.append(
                (what, *(f"{100 * part:.0f}" for part in parts), f"{between / within:.2f}")
            )
    print_table(*lines)


def replicates_needed(studies: Studies) -> None:
    """How many replicates an unpaired comparison takes for the width of a paired one."""
    values, count = studies.values, studies.design.replicates
    compared = ("plain", "corrected")
    lines = [(f"replicates for the width that {count} in pairs give", *compared)]
    for metric in ("val_loss", "test_loss"):
        for (name, pair), sample in zip(PAIRS.items(), paired(values, metric), strict=True):
            ours = np.mean(sample.var(axis=1, ddof=1))
            apart = sum(np.mean(column(values, n, metric).var(axis=1, ddof=1)) for n in pair)
            cells = []
            for interval in compared:
                n_train, n_val = studies.design.rows_for(interval)
                added = n_val / n_train
                share = (1 / count + added) * ours / apart - added
                cells.append(f"{1 / share:.0f}" if share > 0 else "no number is enough")
            lines.append((f"{LABELS[metric]}, {name}", *cells))
    print_table(*lines)


def report(studies: Studies) -> None:
    """All tables."""
    design = studies.design
    print(
        f"{len(studies.values)} studies of {design.replicates} replicates, each of "
        f"{design.rows[0]} training and {design.rows[1]} validation rows, hidden {design.hidden}"
    )
    for table in (coverage, false_alarms, power, sources, replicates_needed):
        table(studies)


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--studies", type=int, default=200)
    parser.add_argument("--replicates", type=int, default=20)
    parser.add_argument("--rows", type=int, nargs=2, default=[60, 20])
    parser.add_argument("--hidden", type=int, default=16, help="0: a linear model")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    n_train, n_val = chosen.rows
    design = Design(chosen.replicates, (n_train, n_val), chosen.hidden, chosen.seed)
    report(simulate_all(design, chosen.studies, chosen.processes))


if __name__ == "__main__":
    main()
