"""Measures an epoch of the population against an epoch of the plain loop, in turn in one process.

    python benchmarks/epoch_throughput.py [--threads 2] [--repeats 7]

1,200 rows x 100 features (all of them train: the validation split is a tenth on top), hidden
[64, 64], batch 32, dropout 0.3 and an L2 penalty in every trial. Both sides train and then measure
both splits, as a study does. The plain loop runs on one thread and on `--threads`, and its better
time counts. The population's tables of dropout noise are drawn before, as the first trials of a
study do for all that follow; the plain loop draws its own. Times are medians over the repeats;
ratios are medians of ratios of neighbouring repeats, so that a drifting machine does not favour a
side.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise

import numpy as np
import torch

from pipeline import reference
from pipeline.config import StudyConfig
from pipeline.data import Splits, Task
from pipeline.population.trainer import PopulationTrainer
from pipeline.space import Hyperparameters

SLOTS = (1, 4, 16, 32, 64)
TRIAL = Hyperparameters("l2", lambda_=1e-4, dropout=0.3, patience="off")
PLAIN_EPOCHS = 2


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
        feature_mean=np.zeros(n_features),
        feature_scale=np.ones(n_features),
        target_mean=0.0,
        target_scale=1.0,
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


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--rows", type=int, default=1200)
    arguments = parser.parse_args()
    thread_counts = sorted({1, arguments.threads})

    n_train, n_val, n_features, hidden = arguments.rows, arguments.rows // 10, 100, (64, 64)
    splits = make_splits(n_train, n_val, n_features)
    config = StudyConfig.model_validate(
        {
            "name": "throughput",
            "data": {"source": "synthetic:noisy_100"},
            "model": {"hidden": hidden},
            "training": {"batch_size": 32, "max_epochs": 100},
        }
    )

    populations = {}
    for n_slots in SLOTS:
        populations[n_slots] = trainer = PopulationTrainer(config, splits, n_slots=n_slots)
        # A first generation draws the noise that later ones share: the second is what is timed.
        for epochs in (arguments.repeats, 0):
            for slot in range(n_slots):
                trainer.load(slot, TRIAL)
            for _ in range(epochs):
                trainer.train_epoch()
            for slot in range(n_slots if epochs else 0):
                trainer.unload(slot)
    reference.train(config, splits, TRIAL, epochs=1)

    plain_by_threads: dict[int, list[float]] = {count: [] for count in thread_counts}
    stacked: dict[int, list[float]] = {n_slots: [] for n_slots in SLOTS}
    peak: list[float] = []
    for _ in range(arguments.repeats):
        for count, times in plain_by_threads.items():
            torch.set_num_threads(count)
            spent = seconds(lambda: reference.train(config, splits, TRIAL, epochs=PLAIN_EPOCHS))
            times.append(spent / PLAIN_EPOCHS)
        torch.set_num_threads(arguments.threads)
        peak.append(matmul_gflops())
        for n_slots, trainer in populations.items():
            stacked[n_slots].append(seconds(trainer.train_epoch) / n_slots)

    best_threads = min(thread_counts, key=lambda count: statistics.median(plain_by_threads[count]))
    plain = plain_by_threads[best_threads]
    work = flops_per_epoch((n_features, *hidden, 1), n_train, n_val) / 1e9
    best_mm = statistics.median(peak)
    print(f"{arguments.threads} thread(s); 1024x1024 mm: {best_mm:.0f} GFLOP/s")
    print("| trained as | ms an epoch a trial | times the plain loop | GFLOP/s | share of mm |")
    print("|---|---|---|---|---|")
    plain_ms = statistics.median(plain) * 1e3
    rate = work / statistics.median(plain)
    name = f"plain loop, {best_threads} thread(s)"
    print(f"| {name} | {plain_ms:.1f} | 1.0 | {rate:.1f} | {rate / best_mm:.1%} |")
    for n_slots, times in stacked.items():
        ratio = statistics.median(a / b for a, b in zip(plain, times, strict=True))
        own = statistics.median(times)
        share = statistics.median(work / t / p for t, p in zip(times, peak, strict=True))
        print(
            f"| population, K = {n_slots} | {own * 1e3:.2f} | {ratio:.1f} "
            f"| {work / own:.1f} | {share:.1%} |"
        )


if __name__ == "__main__":
    main()
