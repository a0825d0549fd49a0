"""Measures where the time of whole studies goes: training, asking, and waiting for the store.

    python benchmarks/study_time.py [STUDY ...]

Each study is a fresh process in an empty folder with a fresh sqlite store: imports, set-up of the
store, all artifacts and the report count. `track` is what the study waited for its runs to be
written, with the writer's own work beside training not counted: it is what tracking adds.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from mlflow import MlflowClient

ROOT = Path(__file__).parents[1]
DEFAULT = [ROOT / "studies" / f"{name}.toml" for name in ("breast_cancer", "noisy_100", "digits")]
PHASES = ("train", "ask", "tell", "track")


def measure(study: Path) -> tuple[float, dict[str, float]]:
    """Wall time of one study, and its metrics."""
    with tempfile.TemporaryDirectory() as folder:
        uri = f"sqlite:///{folder}/mlflow.db"
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": uri}
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "pipeline", "run", str(study.absolute()), "--quiet"],
            cwd=folder,
            env=environment,
            check=True,
        )
        wall = time.perf_counter() - start
        client = MlflowClient(uri)
        experiments = [experiment.experiment_id for experiment in client.search_experiments()]
        (run,) = client.search_runs(experiments, "tags.`study.state` = 'complete'")
        return wall, run.data.metrics


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("studies", nargs="*", type=Path, default=DEFAULT)
    print("| study | trials | wall, s | " + " | ".join(f"{p}, s" for p in PHASES) + " | track |")
    print("|---" * (len(PHASES) + 4) + "|")
    for study in parser.parse_args().studies:
        wall, metrics = measure(study)
        seconds = [metrics[f"time/{phase}"] for phase in PHASES]
        cells = " | ".join(f"{value:.1f}" for value in seconds)
        share = metrics["time/track"] / wall
        trials = metrics["study/trials"]
        print(f"| {study.stem} | {trials:.0f} | {wall:.1f} | {cells} | {share:.0%} |", flush=True)


if __name__ == "__main__":
    main()
