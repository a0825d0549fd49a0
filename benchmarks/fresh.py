"""A command as a user would start it: a fresh process, an empty folder, a fresh sqlite store."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

ROOT = Path(__file__).parents[1]
Result = TypeVar("Result")


def timed(
    module: str,
    *arguments: str,
    read: Callable[[Path, str], Result],
) -> tuple[float, Result]:
    """Wall time of `python -m module`, imports and all, and what `read` makes of it.

    Args:
        module: What to run.
        arguments: Its command line.
        read: (folder, standard output) -> a result, before the folder is removed.

    Raises:
        RuntimeError: The command failed; with the end of what it printed.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", module, *arguments],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        wall = time.perf_counter() - start
        if done.returncode:
            raise RuntimeError(f"{module} {' '.join(arguments)}: {done.stderr[-2000:]}")
        return wall, read(folder, done.stdout)


def last_line(_: Path, output: str) -> dict[str, float]:
    """For `read`: the JSON object that a measurement prints as its last line."""
    measured: dict[str, float] = json.loads(output.splitlines()[-1])
    return measured
