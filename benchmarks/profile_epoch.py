"""Says what an epoch of the population spends its time on, by torch.profiler, on one thread.

    python -m benchmarks.profile_epoch [--slots 32] [--mixed]

The same table and network as `epoch_throughput`. With `--mixed` slots differ as in a study: all
regularization types, rates and epochs. Being watched takes time of its own, mostly with the small
operators.
"""

from __future__ import annotations

import argparse
from collections import Counter

import torch

from benchmarks.epoch_throughput import TRIAL, make_splits, seconds
from pipeline.config import StudyConfig
from pipeline.population.trainer import PopulationTrainer
from pipeline.space import Hyperparameters, Regularization

KINDS = {
    "matrix products": {"baddbmm", "bmm"},
    "Adam": {"_fused_adam_"},
    "penalties, and copying gradients to Adam": {"addcmul", "addcmul_", "sign"},
    "gathering rows and noise": {"index_select", "take", "index", "gather"},
    "sums": {"sum"},
    "products, masks, activations": {
        *("mul", "mul_", "ge", "threshold_backward", "clamp_min_", "relu_", "copy_"),
    },
}
EPOCHS = 3


def population(n_slots: int, mixed: bool) -> PopulationTrainer:
    """A trainer in the middle of training, whose noise is drawn already."""
    config = StudyConfig.model_validate(
        {
            "name": "profile",
            "data": {"source": "synthetic:noisy_100"},
            "training": {"batch_size": 32, "max_epochs": 100},
        }
    )
    trainer = PopulationTrainer(config, make_splits(1200, 120, 100), n_slots=n_slots)
    for n_epochs in (2 * n_slots, 0):
        for slot in range(n_slots):
            trainer.load(slot, a_trial(slot) if mixed else TRIAL)
            if mixed and not n_epochs:
                trainer.train_epoch()  # each slot an epoch behind the one before it
        for _ in range(n_epochs):
            trainer.train_epoch()
        for slot in range(n_slots if n_epochs else 0):
            trainer.unload(slot)
    return trainer


def a_trial(number: int) -> Hyperparameters:
    """One of many that differ."""
    kind = list(Regularization)[number % len(Regularization)]
    return Hyperparameters(
        kind,
        lambda_=0 if kind is Regularization.NONE else 1e-5 * (number + 1),
        l1_ratio=0.5 if kind is Regularization.ELASTIC_NET else None,
        dropout=0.1 + number / 100,
        patience="off",
    )


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--slots", type=int, default=32)
    parser.add_argument("--mixed", action="store_true")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    trainer = population(chosen.slots, chosen.mixed)
    trainer.train_epoch()
    wall = min(seconds(trainer.train_epoch) for _ in range(EPOCHS)) * EPOCHS
    with torch.profiler.profile() as profile:
        for _ in range(EPOCHS):
            trainer.train_epoch()
    spent: Counter[str] = Counter()
    for event in profile.key_averages():
        name = event.key.removeprefix("aten::")
        kind = next((kind for kind, names in KINDS.items() if name in names), "other operators")
        spent[kind] += event.self_cpu_time_total / 1e6
    print("| part | ms an epoch a trial | share |\n|---|---|---|")
    for kind, own in spent.most_common():
        ms = own / EPOCHS / chosen.slots * 1e3
        print(f"| {kind} | {ms:.2f} | {own / sum(spent.values()):.0%} |")
    print(f"| an epoch, when nobody looks | {wall / EPOCHS / chosen.slots * 1e3:.2f} | |")


if __name__ == "__main__":
    main()
