"""Measures an epoch of the population on a GPU against an epoch of the plain loop, in one process.

    python -m benchmarks.gpu_throughput [--slots 64 256 1024] [--repeats 5] [--device cuda] [--bits]

The table and network of `epoch_throughput`. The plain loop is that of the peers, on the GPU and on
one thread of the processor: its faster one counts. The population is measured twice: with slots
that are alike, and with slots that differ as in a study, in type, strength, dropout and age. Noise
is drawn before, as the first trials of a study do for all that follow. Every epoch ends with its
losses on the host, so no work is left in the queue when the clock is read. `--bits` tells instead
whether the curves of the first 16 trials depend on how many train at once.
"""

from __future__ import annotations

import argparse
import statistics
from itertools import islice

import torch

from benchmarks.epoch_throughput import TRIAL, make_splits, seconds
from benchmarks.peers import plain_loop
from benchmarks.profile_epoch import a_trial
from pipeline.config import StudyConfig
from pipeline.data import Splits
from pipeline.population.trainer import PopulationTrainer

# In a study slots are as many epochs old as they are far from each other.
AGES = 20
# Trials that differ.
KINDS = 60


def config_on(device: str) -> StudyConfig:
    """The study of `epoch_throughput`."""
    return StudyConfig.model_validate(
        {
            "name": "throughput",
            "data": {"source": "synthetic:noisy_100"},
            "training": {"batch_size": 32, "max_epochs": 200, "device": device},
        }
    )


def full(config: StudyConfig, splits: Splits, n_slots: int, mixed: bool) -> PopulationTrainer:
    """A trainer whose slots train, and whose noise is drawn."""
    trainer = PopulationTrainer(config, splits, n_slots=n_slots)
    trainer.load(0, TRIAL)
    for _ in range(AGES + 30):
        trainer.train_epoch()
    trainer.unload(0)
    for age in range(AGES):
        for slot in range(age, n_slots, AGES):
            trainer.load(slot, a_trial(slot % KINDS) if mixed else TRIAL)
        if mixed:
            trainer.train_epoch()
    return trainer


def plain_epoch(config: StudyConfig, splits: Splits, device: str, epochs: int) -> float:
    """Seconds of an epoch of the plain loop, after a first one."""
    with torch.device(device):
        network = plain_loop.build_network(config, splits, TRIAL.dropout)
        course = plain_loop.train(config, splits, TRIAL, network)
        next(course)
        spent = seconds(lambda: list(islice(course, epochs)))
        course.close()
    return spent / epochs


def first_curves(config: StudyConfig, splits: Splits, n_slots: int) -> list[list[float]]:
    """Five epochs' validation losses of the first 16 trials among so many."""
    trainer = PopulationTrainer(config, splits, n_slots=n_slots)
    for slot in range(n_slots):
        trainer.load(slot, a_trial(slot % KINDS))
    epochs = [trainer.train_epoch() for _ in range(5)]
    return [[points[slot].val_loss for points in epochs] for slot in range(min(16, n_slots))]


def compare_bits(config: StudyConfig, splits: Splits) -> None:
    """Prints how many of them have the bits that they have in a population of 16."""
    expected = first_curves(config, splits, 16)
    for n_slots in (1, 2, 17, 64, 256, 1024):
        pairs = list(zip(first_curves(config, splits, n_slots), expected, strict=False))
        same = sum(curve == other for curve, other in pairs)
        apart = max(abs(a - b) for pair in pairs for a, b in zip(*pair, strict=True))
        print(f"K = {n_slots}: {same} of {len(pairs)} to the last bit, {apart:.1e} apart at most")


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--slots", type=int, nargs="+", default=[64, 256, 1024])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--bits", action="store_true")
    arguments = parser.parse_args()
    config, splits = config_on(arguments.device), make_splits(1200, 120, 100)
    torch.set_num_threads(1)
    if arguments.bits:
        compare_bits(config, splits)
        return
    plain = {
        device: statistics.median(
            plain_epoch(config, splits, device, 2) for _ in range(arguments.repeats)
        )
        for device in dict.fromkeys([arguments.device, "cpu"])
    }
    best = min(plain.values())
    if arguments.device == "cuda":
        print(torch.cuda.get_device_name())
    print("| trained as | ms an epoch a trial | times the plain loop | ms an epoch |")
    print("|---|---|---|---|")
    for device, own in plain.items():
        print(f"| plain loop, {device} | {own * 1e3:.2f} | {best / own:.1f} | {own * 1e3:.1f} |")
    for n_slots in arguments.slots:
        for mixed in (False, True):
            trainer = full(config, splits, n_slots, mixed)
            epoch = statistics.median(
                seconds(trainer.train_epoch) for _ in range(arguments.repeats)
            )
            own = epoch / n_slots
            kind = "as in a study" if mixed else "alike"
            print(
                f"| K = {n_slots}, {kind} | {own * 1e3:.3f} | {best / own:.0f} | "
                f"{epoch * 1e3:.1f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
