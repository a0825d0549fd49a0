"""The tables of `benchmarks.accuracy`: read, and split into rows that are learned from and others.

The two places where the benchmark meets the data: `read` and `split_rows`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from pipeline.data import Splits, Task

Rows = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Labelled:
    """A table of a classification; `target` holds class numbers."""

    columns: pd.DataFrame
    target: NDArray[np.int64]

    @property
    def n_classes(self) -> int:
        """Distinct classes."""
        return int(self.target.max()) + 1


@dataclass(frozen=True, eq=False)
class Prepared:
    """The splits of one replicate, and the rows that are to be predicted, prepared alike."""

    splits: Splits
    x_test: NDArray[np.float32]


def read(path: Path) -> Labelled:
    """A CSV file whose last column is the class."""
    frame = pd.read_csv(path)
    target = pd.factorize(frame.iloc[:, -1], sort=True)[0]
    return Labelled(frame.iloc[:, :-1], np.asarray(target, dtype=np.int64))


def put_aside(rows: Rows, target: NDArray[np.int64], share: float, state: int) -> tuple[Rows, Rows]:
    """The rest, and a stratified share of some rows."""
    rest, part = train_test_split(rows, test_size=share, stratify=target[rows], random_state=state)
    return rest, part


def split_rows(
    table: Labelled, train_rows: Rows, val_rows: Rows, test_rows: Rows, replicate: int
) -> Prepared:
    """Prepares rows by the statistics of the training rows alone."""
    columns = table.columns
    numeric = [name for name in columns if pd.api.types.is_numeric_dtype(columns[name])]
    names = [name for name in columns if name not in numeric]
    columns_alike = ColumnTransformer(
        [
            ("numeric", SimpleImputer(strategy="median", add_indicator=True), numeric),
            (
                "names",
                make_pipeline(
                    SimpleImputer(strategy="constant", fill_value="missing"),
                    OneHotEncoder(handle_unknown="ignore", sparse_output=False),
                ),
                names,
            ),
        ]
    )
    prepare = make_pipeline(columns_alike, StandardScaler())
    prepare.fit(columns.iloc[train_rows])
    x_train, x_val, x_test = (
        prepare.transform(columns.iloc[rows]).astype(np.float32)
        for rows in (train_rows, val_rows, test_rows)
    )
    n_features = x_train.shape[1]
    splits = Splits(
        task=Task.BINARY if table.n_classes == 2 else Task.MULTICLASS,
        n_outputs=1 if table.n_classes == 2 else table.n_classes,
        replicate=replicate,
        x_train=x_train,
        y_train=table.target[train_rows].astype(np.float32),
        x_val=x_val,
        y_val=table.target[val_rows].astype(np.float32),
        train_rows=train_rows,
        val_rows=val_rows,
        test_rows=test_rows,
        feature_mean=np.zeros(n_features),
        feature_scale=np.ones(n_features),
        target_mean=0.0,
        target_scale=1.0,
    )
    return Prepared(splits, x_test)
