"""Owns the data: any table a person has becomes splits, with names, digest and preprocessing.

A table passes through these files in order: `read` (source to data frame), `kinds` and `target`
(what a value is), `columns` (what each column is for), `table` (checks), `digest` (copies), `draw`
(which rows), `fit` and `encoders` (what becomes of a column), `preprocess` (all of them, as JSON),
`splits`. `leaks` is for a look at a table alone.
"""

from __future__ import annotations

from pipeline.data.columns import Column
from pipeline.data.digest import Rows
from pipeline.data.draw import drawable_replicates
from pipeline.data.encoders import Matrix
from pipeline.data.leaks import suspected_leaks
from pipeline.data.preprocess import Preprocessing
from pipeline.data.splits import Splits, columns_frame, split, split_rows
from pipeline.data.table import Table, load_table, table_from_frame
from pipeline.data.target import MOST_CLASSES, Target, Task, r_squared

__all__ = [
    "MOST_CLASSES",
    "Column",
    "Matrix",
    "Preprocessing",
    "Rows",
    "Splits",
    "Table",
    "Target",
    "Task",
    "columns_frame",
    "drawable_replicates",
    "load_table",
    "r_squared",
    "split",
    "split_rows",
    "suspected_leaks",
    "table_from_frame",
]
