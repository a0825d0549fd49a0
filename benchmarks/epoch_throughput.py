"""Measures an epoch of the population against an epoch of the plain loop, in turn in one process.

    python -m benchmarks.epoch_throughput [--threads 2] [--repeats 7]

1,200 rows x 100 features (all of them train: the validation split is a tenth on top), hidden
[64, 64], batch 32, dropout 0.3 and an L2 penalty in every trial. Both sides train and then measure
both splits, as a study does. The plain loop runs on one thread and on `--threads`, and its better
time counts; the population has as many processes as a study would give it on so many cores. Its
tables of dropout noise are drawn before, as the first trials of a study do for all that follow; the
plain loop draws its own. Times are medians over the repeats; ratios are medians of ratios of
neighbouring repeats, so that a drifting machine does not favour a side.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
import torch

from pipeline import reference
from pipeline.config import StudyConfig
from pipeline.data import Preprocessing, Splits, Target, Task
from pipeline.population.team import PopulationTeam
from pipeline.space import Hyperparameters

SLOTS = (1, 4, 16, 32, 64)
TRIAL = Hyperparameters("l2", lambda_=1e-4, dropout=0.3, patience="off")
# Epochs a timing.
EPOCHS = 2


def make_splits(n_train: int, n_val: int, n_features: int) -> Splits:
    """Standard normal features, a noisy linear rule for the class."""
    draw = np.random.default_rng(0)
    n_rows = n_train + n_val
    x = draw.standard_normal((n_rows, n_features), dtype=np.float32)
    noise = draw.standard_normal(n_rows)
    y = (x @ draw.standard_normal(n_features) / 10 + noise > 0).astype(np.float32)
    rows = np.arange(n_rows)
    return Splits(
        task=Task.BINARY,
        n_outputs=1,
        replicate=0,
        x_train=x[:n_train],
        y_train=y[:n_train],
        x_val=x[n_train:],
        y_val=y[n_train:],
        train_rows=rows[:n_train],
        val_rows=rows[n_train:],
        test_rows=rows[:0],
        preprocessing=Preprocessing((), {}, Target("target", Task.BINARY)),
    )


def seconds(action: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def matmul_gflops(size: int = 1024) -> float:
    """What a square single-precision product reaches here and now."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    torch.mm(a, b)
    return 2 * size**3 / min(seconds(partial(torch.mm, a, b)) for _ in range(5)) / 1e9


def flops_per_epoch(sizes: tuple[int, ...], n_train: int, n_val: int) -> float:
    """Floating-point operations of the matrix products of one epoch of one trial.

    A product of [B, in] and [in, out] takes 2 * B * in * out. Training has one forward, one for
    the kernel's gradient, and one for the input's gradient but in the first layer; measuring has
    one forward over both splits.
    """
    kernels = [a * b for a, b in pairwise(sizes)]
    training = 2 * n_train * (3 * sum(kernels) - kernels[0])
    return training + 2 * (n_train + n_val) * sum(kernels)


@dataclass(frozen=True)
class Rates:
    """At K = 32: times the plain loop's speed, and the share of what a large product reaches."""

    ratio: float
    share_of_mm: float


def populations(config: StudyConfig, splits: Splits, epochs: int) -> dict[int, PopulationTeam]:
    """Teams with full slots, whose noise for so many epochs is drawn already."""
    teams = {}
    for n_slots in SLOTS:
        search = config.search.model_copy(update={"population": n_slots})
        sized = config.model_copy(update={"search": search})
        teams[n_slots] = team = PopulationTeam(sized, splits)
        # A first generation draws the noise that later ones share: the second is what is timed.
        for n_epochs in (epochs, 0):
            for slot in range(n_slots):
                team.load(slot, TRIAL)
            for _ in range(n_epochs):
                team.train_epoch()
            for slot in range(n_slots if n_epochs else 0):
                team.unload(slot)
        torch.set_num_threads(team.threads_before)
    return teams


def measure(repeats: int, threads: int | None = None, rows: int = 1200) -> Rates:
    """Measures both sides in turn and prints the table."""
    threads = threads or torch.get_num_threads()
    n_features, hidden = 100, (64, 64)
    n_train, n_val = rows, rows // 10
    splits = make_splits(n_train, n_val, n_features)
    config = StudyConfig.model_validate(
        {
            "name": "throughput",
            "data": {"source": "synthetic:noisy_100"},
            "model": {"hidden": hidden},
            "training": {"batch_size": 32, "max_epochs": max(100, EPOCHS * repeats)},
        }
    )
    torch.set_num_threads(threads)
    teams = populations(config, splits, EPOCHS * repeats)
    reference.train(config, splits, TRIAL, epochs=1)

    def epochs_of(team: PopulationTeam) -> None:
        for _ in range(EPOCHS):
            team.train_epoch()

    plain_by_threads: dict[int, list[float]] = {count: [] for count in sorted({1, threads})}
    stacked: dict[int, list[float]] = {n_slots: [] for n_slots in SLOTS}
    peak: list[float] = []
    for _ in range(repeats):
        for count, times in plain_by_threads.items():
            torch.set_num_threads(count)
            spent = seconds(lambda: reference.train(config, splits, TRIAL, epochs=EPOCHS))
            times.append(spent / EPOCHS)
        torch.set_num_threads(threads)
        peak.append(matmul_gflops())
        torch.set_num_threads(1)
        for n_slots, team in teams.items():
            stacked[n_slots].append(seconds(partial(epochs_of, team)) / n_slots / EPOCHS)
    for team in teams.values():
        team.close()

    best = min(plain_by_threads, key=lambda count: statistics.median(plain_by_threads[count]))
    plain = plain_by_threads[best]
    work = flops_per_epoch((n_features, *hidden, 1), n_train, n_val) / 1e9
    print(f"{threads} core(s); 1024x1024 mm: {statistics.median(peak):.0f} GFLOP/s")
    print("| trained as | ms an epoch a trial | times the plain loop | GFLOP/s | share of mm |")
    print("|---|---|---|---|---|")
    rates = {}
    for name, times in {f"plain loop, {best} thread(s)": plain, **stacked}.items():
        ratio = statistics.median(a / b for a, b in zip(plain, times, strict=True))
        share = statistics.median(work / t / p for t, p in zip(times, peak, strict=True))
        rates[name] = Rates(ratio, share)
        own = statistics.median(times)
        shown = name if isinstance(name, str) else f"population, K = {name}"
        print(f"| {shown} | {own * 1e3:.2f} | {ratio:.1f} | {work / own:.1f} | {share:.1%} |")
    return rates[32]


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--rows", type=int, default=1200)
    arguments = parser.parse_args()
    measure(arguments.repeats, arguments.threads, arguments.rows)


if __name__ == "__main__":
    main()
