"""Measures what a confirmation takes beside the search before it.

    python -m benchmarks.confirm_time [--replicates 20] [STUDY ...]

Each study is a fresh process in an empty folder with a fresh sqlite store. The search is all before
the confirmation, imports and the set-up of the store included; what concludes a study is in
neither. Finalists that differ by patience alone share their epochs: these are counted once.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.fresh import ROOT, timed
from benchmarks.whole_study import write_study

DEFAULT = [ROOT / "studies" / f"{name}.toml" for name in ("breast_cancer", "noisy_100", "digits")]
WHO = ("regularization", "lambda", "l1_ratio", "dropout", "learning_rate", "replicate")


@dataclass(frozen=True)
class Outcome:
    """What a study took and trained."""

    seconds: dict[str, float]
    finalists: int
    trainings: int
    search_epochs: int
    confirm_epochs: int


def read(folder: Path, _: str) -> Outcome:
    """From the store that the study left."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = [run.data for run in client.search_runs(experiments, max_results=5000)]
    (parent,) = (run for run in runs if "study.state" in run.tags)
    single = [run for run in runs if "replicate" in run.tags]
    epochs: dict[tuple[str | None, ...], int] = {}
    for run in single:
        key = tuple(run.params.get(name) for name in WHO)
        epochs[key] = max(epochs.get(key, 0), int(run.metrics["final/epochs"]))
    search = [run for run in runs if run.tags.get("stage") == "search"]
    times = {k.removeprefix("time/"): v for k, v in parent.metrics.items() if k.startswith("time/")}
    return Outcome(
        seconds=times,
        finalists=int(parent.metrics["confirm/finalists"]),
        trainings=len(single),
        search_epochs=sum(int(run.metrics["final/epochs"]) for run in search),
        confirm_epochs=sum(epochs.values()),
    )


@contextmanager
def studies(given: list[Path]) -> Iterator[dict[str, Path]]:
    """By name; without any, one of 1,200 training rows and 100 features, and some of ours."""
    with tempfile.TemporaryDirectory() as folder:
        named = {} if given else {"1,200 x 100": write_study(Path(folder), 100, 100)}
        yield named | {path.stem: path.absolute() for path in given or DEFAULT}


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("studies", nargs="*", type=Path)
    parser.add_argument("--replicates", type=int, default=20)
    chosen = parser.parse_args()
    print(
        "| study | search, s | epochs | confirmation, s | finalists | trainings | epochs | ratio |"
    )
    print("|---" * 8 + "|")
    with studies(chosen.studies) as named:
        for name, path in named.items():
            arguments = ("run", str(path), "--quiet", f"--replicates={chosen.replicates}")
            wall, found = timed("pipeline", *arguments, read=read)
            confirm = found.seconds["confirm"]
            search = wall - confirm - found.seconds["conclude"]
            print(
                f"| {name} | {search:.1f} | {found.search_epochs} | {confirm:.1f} "
                f"| {found.finalists} | {found.trainings} | {found.confirm_epochs} "
                f"| {confirm / search:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
