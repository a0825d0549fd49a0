"""Measures whether time and memory grow with the rows of a table, and no faster.

    python -m benchmarks.large_table [--rows 50000 200000] [--features 50] [--slots 8]

Each size trains in a fresh process, batches of 1,024, one thread, dropout and L2 in every slot.
Memory is what the peak resident size grows by from the moment the splits are there, as a multiple
of the splits' own size in float32.
"""

from __future__ import annotations

import argparse
import json
import resource

import torch

from benchmarks.epoch_throughput import make_splits, seconds
from benchmarks.fresh import last_line, timed
from pipeline.config import StudyConfig
from pipeline.population.trainer import PopulationTrainer
from pipeline.space import Hyperparameters

BATCH_SIZES = (32, 256, 1024, 4096)


def peak_mib() -> float:
    """Peak resident memory of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def one_size(n_rows: int, n_features: int, n_slots: int, batch_size: int) -> dict[str, float]:
    """Seconds an epoch a trial, and memory, at one size. The slots are at different epochs."""
    torch.set_num_threads(1)
    splits = make_splits(n_rows, n_rows // 10, n_features)
    data_mib = (splits.x_train.nbytes + splits.x_val.nbytes) / 2**20
    config = StudyConfig.model_validate(
        {
            "name": "large",
            "data": {"source": "synthetic:noisy_100"},
            "training": {"batch_size": batch_size, "max_epochs": 100},
        }
    )
    before = peak_mib()
    trainer = PopulationTrainer(config, splits, n_slots=n_slots)
    for slot in range(n_slots):
        trainer.load(slot, Hyperparameters("l2", 1e-4, dropout=0.3, patience="off"))
        if slot in (0, n_slots // 2):
            trainer.train_epoch()
    spent = min(seconds(trainer.train_epoch) for _ in range(2)) / n_slots
    return {"seconds": spent, "memory": (peak_mib() - before) / data_mib, "data_mib": data_mib}


def measure(rows: list[int], n_features: int, n_slots: int) -> dict[str, float]:
    """Growth of time from the smallest to the largest table, and the largest one's memory."""

    def fresh(n_rows: int, batch_size: int) -> dict[str, float]:
        arguments = ["--one", str(n_rows), "--batch-size", str(batch_size)]
        arguments += ["--features", str(n_features), "--slots", str(n_slots)]
        _, result = timed("benchmarks.large_table", *arguments, read=last_line)
        return result

    print("| rows | batch | ms an epoch a trial | memory, times the data |\n|---|---|---|---|")
    sizes = {}
    for n_rows, batch_size in [(n, 1024) for n in rows] + [(rows[0], b) for b in BATCH_SIZES]:
        got = sizes[n_rows, batch_size] = fresh(n_rows, batch_size)
        print(
            f"| {n_rows} | {batch_size} | {got['seconds'] * 1e3:.0f} | {got['memory']:.1f} |",
            flush=True,
        )
    small, large = sizes[rows[0], 1024], sizes[rows[-1], 1024]
    growth = (large["seconds"] / small["seconds"]) / (rows[-1] / rows[0])
    return {"time a row, largest against smallest": growth, "memory": large["memory"]}


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, nargs="+", default=[50_000, 200_000])
    parser.add_argument("--features", type=int, default=50)
    parser.add_argument("--slots", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=1024)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one:
        print(json.dumps(one_size(chosen.one, chosen.features, chosen.slots, chosen.batch_size)))
        return
    for what, value in measure(chosen.rows, chosen.features, chosen.slots).items():
        print(f"{what}: {value:.2f}")


if __name__ == "__main__":
    main()
