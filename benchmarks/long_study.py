"""Measures what a trial costs, and what a study remembers, when there are two thousand of them.

    python -m benchmarks.long_study [--trials 2000] [--short 100] [--max-epochs 10]

Two studies in fresh processes with fresh sqlite stores, alike but for the number of trials. A
trial's cost is the wall time between the ends of two trials, averaged over a hundred: around trial
`--short` and up to trial `--trials` of the longer study. Memory is the peak resident size of the
training process, to its end.
"""

from __future__ import annotations

import argparse
import json
import resource
import time

from benchmarks.fresh import ROOT, last_line, timed

STUDY = ROOT / "studies" / "noisy_100.toml"
WINDOW = 100


def one_study(n_trials: int, max_epochs: int) -> dict[str, float]:
    """Runs a study in this process: seconds at each trial's end, peak memory in MiB."""
    from pipeline.config import load_config
    from pipeline.search import Progress
    from pipeline.study import run_study

    ends: dict[int, float] = {}

    def note(progress: Progress) -> None:
        ends[progress.done] = time.perf_counter()

    overrides = {
        "search.n_trials": n_trials,
        "training.max_epochs": max_epochs,
        "confirm.replicates": 0,
    }
    result = run_study(load_config(STUDY, overrides), on_progress=note)

    def cost(first: int, last: int) -> float:
        known = [number for number in ends if first <= number <= last]
        return (ends[max(known)] - ends[min(known)]) / (max(known) - min(known))

    return {
        "early": cost(50, 50 + WINDOW) if n_trials > 50 + WINDOW else 0.0,
        "late": cost(n_trials - WINDOW, n_trials),
        "training_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        **result.seconds,
    }


def fresh(n_trials: int, max_epochs: int) -> dict[str, float]:
    """The same in a process and a store of its own."""
    arguments = ["--one", str(n_trials), "--max-epochs", str(max_epochs)]
    wall, measured = timed("benchmarks.long_study", *arguments, read=last_line)
    return {**measured, "wall": wall}


def measure(n_short: int, n_long: int, max_epochs: int) -> dict[str, float]:
    """Cost and memory of the long study as multiples of the short one's."""
    short, long = fresh(n_short, max_epochs), fresh(n_long, max_epochs)
    print("| trials | wall, s | ms an early trial | ms a late trial | peak MiB |")
    print("|---|---|---|---|---|")
    for n_trials, got in ((n_short, short), (n_long, long)):
        costs = " | ".join(f"{got[when] * 1e3:.0f}" for when in ("early", "late"))
        print(f"| {n_trials} | {got['wall']:.0f} | {costs} | {got['training_mib']:.0f} |")
    return {
        "cost of a late trial, times that of an early one": long["late"] / long["early"],
        "memory, times that of the short study": long["training_mib"] / short["training_mib"],
    }


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--short", type=int, default=100)
    parser.add_argument("--max-epochs", type=int, default=10)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one:
        print(json.dumps(one_study(chosen.one, chosen.max_epochs)))
        return
    measured = measure(chosen.short, chosen.trials, chosen.max_epochs)
    print("| what | ratio |\n|---|---|")
    for what, ratio in measured.items():
        print(f"| {what} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
