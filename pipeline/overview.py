"""Owns the dry look at a table, which `python -m pipeline data` prints: nothing is trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pipeline.data import Task, columns_frame, load_table, split, suspected_leaks

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import pandas as pd

    from pipeline.config import StudyConfig
    from pipeline.data import Splits, Table

# Lines of a table that are shown before the rest is only counted.
MOST_LINES = 60


def print_overview(config: StudyConfig, data: pd.DataFrame | None = None) -> None:
    """Prints what a study would make of a table.

    Raises:
        ConfigError: It cannot be trained on.
    """
    table = load_table(config.data, data)
    splits = split(table, config.data, config.seed)
    leaks = suspected_leaks(table, np.concatenate([splits.train_rows, splits.val_rows]))
    # Plain prints but for the tables: a sentence or a path must not be wrapped.
    print(f"{table.source}, digest {table.digest}")
    print(
        f"{table.n_rows} rows, {len(table.columns)} columns, {table.n_features} of them features, "
        f"which become {splits.n_features} inputs"
    )
    print()
    columns = columns_frame(table, splits)
    _print_table(columns.columns, columns.itertuples(index=False))
    _print_target(table)
    copies = table.n_rows - len(np.unique(table.duplicates))
    print(f"copies: {copies} rows have the features of another one; they share its split")
    print(f"splits: {_sizes(splits)} (seed {config.seed})")
    if not leaks:
        print("leaks:  none suspected")
    for name, score in leaks.items():
        measure = "R squared" if table.task is Task.REGRESSION else "balanced accuracy"
        print(f"leaks:  {name!r} alone tells the target ({measure} {score:.3f}): known before it?")


def _print_target(table: Table) -> None:
    print(f"target: {table.target_name!r}, {table.task}")
    if table.task is Task.REGRESSION:
        low, middle, high = np.quantile(table.target, [0, 0.5, 1])
        print(f"        from {low:.6g} to {high:.6g}, median {middle:.6g}\n")
        return
    counts = np.bincount(table.target.astype(int)).tolist()
    shares = [f"{count / table.n_rows:.1%}" for count in counts]
    print()
    _print_table(("class", "rows", "share"), zip(table.classes, counts, shares, strict=True))


def _sizes(splits: Splits) -> str:
    parts = {
        "training": splits.train_rows,
        "validation": splits.val_rows,
        "test": splits.test_rows,
    }
    return ", ".join(f"{len(rows)} {name}" for name, rows in parts.items())


def _print_table(headings: Iterable[str], lines: Iterable[Sequence[object]]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table as Printed

    printed = Printed(box=None, padding=(0, 1, 0, 0))
    for heading in headings:
        numeric = heading in ("missing", "distinct", "rows", "share")
        printed.add_column(heading, justify="right" if numeric else "left", overflow="fold")
    cells = [[escape(str(cell)) for cell in line] for line in lines]
    for line in cells[:MOST_LINES]:
        printed.add_row(*line)
    Console(highlight=False).print(printed)
    if len(cells) > MOST_LINES:
        print(f"... and {len(cells) - MOST_LINES} more")
    print()
