"""Measures what searching many trials at a time costs in what is found.

    python -m benchmarks.search_quality [--seeds 10] [--trials 60] [--population 9]

The same budget of trials, searched by populations and one trial at a time, as sequential Optuna
does; paired by seed on four data sets, without a tracking store. The sequential search trains with
the same trainer, whose curves are the same bits, so that only what was known when a trial was asked
tells the two apart. Pruning is on in both.

A difference is that of the best validation losses, in percent of the sequential one; its 95 %
interval is Student's over the seeds. "Better at equal time" counts the seeds in which the
sequential search, stopped when the population was done, had found nothing as good.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from scipy import stats

from benchmarks.storeless import search
from pipeline.config import StudyConfig, load_config
from pipeline.data import load_table, split
from pipeline.results import TrialResult, TrialState

ROOT = Path(__file__).parents[1]
DATA_SETS = ("sklearn:wine", "sklearn:diabetes", "sklearn:breast_cancer", "synthetic:noisy_100")


@dataclass
class Watch:
    """Remembers the best loss by time."""

    start: float = field(default_factory=time.perf_counter)
    best: list[tuple[float, float]] = field(default_factory=list)

    def note(self, result: TrialResult) -> None:
        if result.state is TrialState.COMPLETE:
            self.best.append((time.perf_counter() - self.start, result.val_loss))

    def best_by(self, seconds: float) -> float:
        known = [loss for at, loss in self.best if at <= seconds]
        return min(known, default=float("inf"))


def watched(config: StudyConfig) -> tuple[Watch, float]:
    """One search, and its wall time in seconds."""
    splits = split(load_table(config.data), config.data, config.seed)
    watch = Watch()
    search(config, splits, watch.note, n_processes=1)
    return watch, time.perf_counter() - watch.start


@dataclass(frozen=True)
class Comparison:
    """Of one data set: percent by which the population's best loss differs, by seed."""

    differences: list[float]
    better_at_equal_time: int
    speedup: float

    @property
    def interval(self) -> tuple[float, float]:
        """95 %, Student's."""
        values = np.array(self.differences)
        low, high = stats.t.interval(
            0.95, len(values) - 1, loc=values.mean(), scale=stats.sem(values)
        )
        return float(low), float(high)


def compare(source: str, seeds: int, trials: int, population: int) -> Comparison:
    """Runs both searches for each seed."""
    differences, better, ratios = [], 0, []
    for seed in range(seeds):
        overrides = {"data.source": source, "seed": seed, "search.n_trials": trials}
        watches = []
        for k in (population, 1):
            chosen = {**overrides, "search.population": k}
            watches.append(watched(load_config(ROOT / "studies" / "noisy_100.toml", chosen)))
        (ours, spent), (sequential, spent_alone) = watches
        found, found_alone = ours.best_by(spent), sequential.best_by(spent_alone)
        differences.append(100 * (found / found_alone - 1))
        better += found < sequential.best_by(spent)
        ratios.append(spent_alone / spent)
    return Comparison(differences, better, float(np.median(ratios)))


def measure(seeds: int, trials: int, population: int) -> dict[str, Comparison]:
    """Compares on each data set and prints a line for it."""
    torch.set_num_threads(1)
    print(
        "| data | difference, % [95 %] | better at equal time | times as fast |\n|---|---|---|---|"
    )
    compared = {}
    for source in DATA_SETS:
        c = compared[source] = compare(source, seeds, trials, population)
        low, high = c.interval
        print(
            f"| {source} | {np.mean(c.differences):+.2f} [{low:+.2f}, {high:+.2f}] "
            f"| {c.better_at_equal_time} of {seeds} | {c.speedup:.1f} |",
            flush=True,
        )
    return compared


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--population", type=int, default=9)
    chosen = parser.parse_args()
    measure(chosen.seeds, chosen.trials, chosen.population)


if __name__ == "__main__":
    main()
