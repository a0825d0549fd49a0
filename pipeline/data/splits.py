"""Owns the splits: training and validation rows as the network takes them, test rows on request."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pipeline.config import DataConfig
from pipeline.data.columns import Column
from pipeline.data.digest import Rows
from pipeline.data.draw import draw_rows
from pipeline.data.encoders import Matrix
from pipeline.data.preprocess import Preprocessing
from pipeline.data.table import Table
from pipeline.data.target import Task

if TYPE_CHECKING:
    import pandas as pd

# Columns that a log line names before it says "...".
NAMED = 8

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Splits:
    """What a search may see: preprocessed training and validation rows of one replicate.

    The test rows are known by number only, so that nothing before confirmation can read them.

    Attributes:
        task: What the network predicts.
        n_outputs: C.
        replicate: The replicate number that the split was drawn from.
        x_train, x_val: [N, D] features, preprocessed by the training rows.
        y_train, y_val: [N] class numbers, or targets standardized by the training rows.
        train_rows, val_rows, test_rows: Row numbers of the table, ascending unless given.
        preprocessing: What was fitted to the training rows.
    """

    task: Task
    n_outputs: int
    replicate: int
    x_train: Matrix
    y_train: Matrix
    x_val: Matrix
    y_val: Matrix
    train_rows: Rows
    val_rows: Rows
    test_rows: Rows
    preprocessing: Preprocessing

    @property
    def n_features(self) -> int:
        """D."""
        return int(self.x_train.shape[1])

    @property
    def target_mean(self) -> float:
        """What was subtracted from the target; 0 for classes."""
        return self.preprocessing.target.mean

    @property
    def target_scale(self) -> float:
        """What the target was divided by; 1 for classes."""
        return self.preprocessing.target.scale

    def test_part(self, table: Table) -> tuple[Matrix, Matrix]:
        """Features and target of the test rows, as `x_val` and `y_val` are. Not for a search."""
        return _part(table, self.preprocessing, self.test_rows)


def split(table: Table, config: DataConfig, seed: int, replicate: int = 0) -> Splits:
    """Draws train, validation and test rows and preprocesses the first two.

    The test rows depend on `seed` alone, so that all replicates keep the same ones apart. Rows
    with equal features stay together, whatever their target. Classes are stratified.

    Raises:
        ConfigError: A class has too few distinct rows to stand in every split.
    """
    return split_rows(table, config, *draw_rows(table, config, seed, replicate), replicate)


def split_rows(
    table: Table,
    config: DataConfig,
    train_rows: Rows,
    val_rows: Rows,
    test_rows: Rows,
    replicate: int = 0,
) -> Splits:
    """`split` by given row numbers: for a protocol that says itself who is tested on.

    Raises:
        ConfigError: No column varies among the training rows, or one cannot be scaled.
    """
    preprocessing = Preprocessing.fit(table, config, train_rows)
    for reason in sorted(set(preprocessing.dropped.values())):
        names = [name for name, why in preprocessing.dropped.items() if why == reason]
        shown = ", ".join(map(repr, names[:NAMED])) + (", ..." if len(names) > NAMED else "")
        # Once is enough: other replicates are rows of the same table.
        level = logging.INFO if replicate else logging.WARNING
        log.log(level, "%s: %d dropped, %s: %s", table.source, len(names), reason, shown)
    x_train, y_train = _part(table, preprocessing, train_rows)
    x_val, y_val = _part(table, preprocessing, val_rows)
    return Splits(
        task=table.task,
        n_outputs=table.n_outputs,
        replicate=replicate,
        x_train=x_train,
        y_train=y_train,
        x_val=x_val,
        y_val=y_val,
        train_rows=train_rows,
        val_rows=val_rows,
        test_rows=test_rows,
        preprocessing=preprocessing,
    )


def columns_frame(table: Table, splits: Splits) -> pd.DataFrame:
    """What was found of each column, and what became of it: one row a column."""
    import pandas as pd

    known = {encoder.name: encoder.describe() for encoder in splits.preprocessing.encoders}
    known |= {name: f"dropped: {why}" for name, why in splits.preprocessing.dropped.items()}
    rows = [
        {
            "column": column.name,
            "kind": str(column.kind),
            "missing": column.missing,
            "distinct": _distinct(table, column),
            "use": known.get(column.name, column.use),
        }
        for column in table.columns
    ]
    return pd.DataFrame(rows)


def _distinct(table: Table, column: Column) -> int:
    """Counted on demand: a million rows take a while."""
    if column.distinct is not None:
        return column.distinct
    return int(table.frame[column.name].nunique())


def _part(table: Table, preprocessing: Preprocessing, rows: Rows) -> tuple[Matrix, Matrix]:
    target = (table.target[rows] - preprocessing.target.mean) / preprocessing.target.scale
    features = preprocessing.transform(table.frame, rows, table.source)
    return features, target.astype(np.float32)
