"""Measures what a large table costs before training: reading, splitting and scaling it.

    python -m benchmarks.table_load [--rows 1000000] [--features 30]

Each file is read in a fresh process. Memory is what the peak resident size grows by from the moment
everything is imported, as a multiple of the features' size in float32.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.fresh import last_line, timed

# Of numpy's names for what stands in the file; the last is of dates, text and gaps as well.
FILES = ("float64", "float32", "int64", "mixed")


def write(path: Path, n_rows: int, n_features: int, what: str) -> None:
    """Writes a table of random columns and a class that depends on two of them."""
    import pandas as pd

    draw = np.random.default_rng(0)
    columns = {}
    for number in range(n_features):
        values = draw.normal(50, 20, n_rows)
        columns[f"x{number}"] = values.astype("float64" if what == "mixed" else what)
    if what == "mixed":
        for number in range(0, n_features, 3):
            columns[f"x{number}"][draw.random(n_rows) < 0.1] = np.nan
        for number in range(1, n_features, 10):
            columns[f"x{number}"] = draw.choice(["red", "green", "blue", None], n_rows)
    rule = np.nan_to_num(columns["x2"]) + 10 * draw.normal(size=n_rows) > 50
    frame = pd.DataFrame(columns, copy=False)
    frame["y"] = np.where(rule, "yes", "no")
    frame.to_parquet(path)


def peak_mib() -> float:
    """Peak resident memory of this program: `getrusage` would count its parent's, before exec."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def load(path: str, n_features: int) -> dict[str, float]:
    """Seconds, and growth of the peak, of all that a study does before it trains."""
    import pyarrow.parquet  # noqa: F401
    import sklearn.model_selection
    import sklearn.preprocessing  # noqa: F401

    from pipeline.config import DataConfig
    from pipeline.data import load_table, split

    config = DataConfig(source=f"parquet:{path}")
    before, start = peak_mib(), time.perf_counter()
    table = load_table(config)
    read = time.perf_counter() - start
    split(table, config, seed=0)
    spent = time.perf_counter() - start
    size = table.n_rows * n_features * 4 / 2**20
    grown = peak_mib() - before
    return {"read": read, "seconds": spent, "memory": grown / size, "grown": grown, "size": size}


def measure(n_rows: int, n_features: int) -> dict[str, dict[str, float]]:
    """Seconds and memory by what stands in the file."""
    print("| columns | read, s | read, split, scaled, s | MiB more | times the size in float32 |")
    print("|---|---|---|---|---|")
    reached = {}
    for what in FILES:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "t.parquet")
            write(path, n_rows, n_features, what)
            options = ["--one", str(path), "--features", str(n_features)]
            _, got = timed("benchmarks.table_load", *options, read=last_line)
        print(
            f"| {what} | {got['read']:.1f} | {got['seconds']:.1f} | {got['grown']:.0f} "
            f"| {got['memory']:.1f} |",
            flush=True,
        )
        reached[what] = {"seconds": got["seconds"], "memory": got["memory"]}
    return reached


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--features", type=int, default=30)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one:
        print(json.dumps(load(chosen.one, chosen.features)))
    else:
        measure(chosen.rows, chosen.features)


if __name__ == "__main__":
    main()
