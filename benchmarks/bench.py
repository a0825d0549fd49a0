"""Runs every benchmark of speed and prints one table: what was reached beside what was aimed at.

    python -m benchmarks.bench [--only SECTION ...] [--trials 200]

Each section's own table is printed as it is made. All ratios are of things that were measured in
this run, side by side on this machine.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from benchmarks import (
    epoch_throughput,
    large_table,
    long_study,
    scale,
    search_quality,
    table_load,
    whole_study,
)


@dataclass(frozen=True)
class Row:
    """One line of the closing table."""

    what: str
    reached: str
    aim: str
    stretch: str


def throughput(_: int) -> list[Row]:
    """An epoch of the population against the plain loop and the machine."""
    rates = epoch_throughput.measure(repeats=15)
    return [
        Row("training, K = 32, against the plain loop", f"{rates.ratio:.0f} x", "45 x", "70 x"),
        Row("the same, share of a 1024x1024 mm", f"{rates.share_of_mm:.0%}", "40 %", "60 %"),
    ]


def studies(trials: int) -> list[Row]:
    """Whole studies against those of the peers."""
    names = list(whole_study.ENTRIES)
    outcomes = whole_study.measure(trials, max_epochs=100)
    against = {
        names[3]: (names[0], "10 x", "25 x"),
        names[4]: (names[1], "30 x", "45 x"),
        names[5]: (names[0], "", ""),
        names[6]: (names[0], "10 x", "25 x"),
        names[7]: (names[0], "", ""),
        names[8]: (names[2], "10 x", ""),
    }
    rows = [
        Row(
            f"a study of {trials} trials ({ours}), against {peer}",
            f"{outcomes[peer].wall / outcomes[ours].wall:.1f} x",
            aim,
            stretch,
        )
        for peer, (ours, aim, stretch) in against.items()
    ]
    share = whole_study.outside_training(outcomes[names[0]].phases)
    rows.append(Row("share of a study's time outside training", f"{share:.0%}", "15 %", "5 %"))
    return rows


def long(_: int) -> list[Row]:
    """Two thousand trials."""
    ratios = long_study.measure(100, 2000, max_epochs=10)
    aims = [("1.5 x", "1.1 x"), ("1.3 x", "1.1 x")]
    return [
        Row(what, f"{ratio:.2f} x", *aim)
        for (what, ratio), aim in zip(ratios.items(), aims, strict=True)
    ]


def quality(_: int) -> list[Row]:
    """What is found, against one trial at a time."""
    rows = []
    for source, found in search_quality.measure(seeds=10, trials=60, population=9).items():
        low, high = found.interval
        mean = np.mean(found.differences)
        rows.append(
            Row(
                f"best validation loss on {source}, against one trial at a time",
                f"{mean:+.1f} % [{low:+.1f}, {high:+.1f}]; "
                f"at equal time better in {found.better_at_equal_time} of 10",
                "interval reaches 0",
                "10 of 10",
            )
        )
    return rows


def large(_: int) -> list[Row]:
    """Two hundred thousand rows."""
    reached = large_table.measure([50_000, 200_000], n_features=50, n_slots=8)
    return [
        Row(f"200,000 rows: {what}", f"{value:.2f}", "linear, close to the data's", "")
        for what, value in reached.items()
    ]


def load(_: int) -> list[Row]:
    """A million rows from a file."""
    reached = table_load.measure(1_000_000, n_features=30)
    aims = {"seconds": "20", "memory": "4 x its float32 size"}
    return [
        Row(f"1,000,000 rows x 30 from {name}: {what}", f"{value:.1f}", aims[what], "")
        for name, values in reached.items()
        for what, value in values.items()
    ]


def driver(_: int) -> list[Row]:
    """What a driver sustains."""
    cases = scale.FLEETS[:3]
    reached = scale.fleets(cases, stored=False, random=False)
    return [
        Row(
            f"driver alone, {slots} in flight",
            f"{trials / got['wall']:.0f} trials a second",
            "",
            "",
        )
        for (_, slots, trials, _), got in zip(cases, reached, strict=True)
    ]


SECTIONS: dict[str, Callable[[int], list[Row]]] = {
    "throughput": throughput,
    "studies": studies,
    "long": long,
    "quality": quality,
    "large": large,
    "load": load,
    "scale": driver,
}


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", nargs="*", choices=list(SECTIONS), default=list(SECTIONS))
    parser.add_argument("--trials", type=int, default=200)
    chosen = parser.parse_args()
    rows = []
    for name in chosen.only:
        print(f"\n{name}\n", flush=True)
        rows += SECTIONS[name](chosen.trials)
    print("\n| what | reached | to reach | stretch |\n|---|---|---|---|")
    for row in rows:
        print(f"| {row.what} | {row.reached} | {row.aim} | {row.stretch} |")


if __name__ == "__main__":
    main()
