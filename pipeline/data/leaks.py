"""Owns suspicion: which single columns predict the target nearly perfectly."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

from pipeline.data.digest import Rows
from pipeline.data.table import Table
from pipeline.data.target import Task

# Balanced accuracy or R squared from which on a lone column is too good to be true.
TOO_GOOD = 0.98
MOST_ROWS = 10_000
FOLDS = 3
LEAVES_A_CLASS = 8


def suspected_leaks(table: Table, rows: Rows) -> dict[str, float]:
    """Columns from which a small tree alone tells the target, with its cross-validated score.

    The score is balanced accuracy for classes and R squared for a quantity. It is a hint: whether a
    column is known before the target is, only a person can say.

    Args:
        table: The table.
        rows: Rows to look at, at most `MOST_ROWS` of them; not the test rows.
    """
    rows = np.random.default_rng(0).permutation(rows)[:MOST_ROWS]
    if table.task is not Task.REGRESSION:
        labels = table.target[rows].astype(int)
        rows = rows[np.bincount(labels)[labels] >= FOLDS]
    target = table.target[rows]
    if len(np.unique(target)) < 2 or len(rows) < 2 * FOLDS:
        return {}
    scores = {name: _score(_values(table, name, rows), target, table) for name in table.frame}
    return {name: score for name, score in scores.items() if score >= TOO_GOOD}


def _values(table: Table, name: str, rows: Rows) -> NDArray[np.float64]:
    column = table.frame[name]
    if hasattr(column, "cat"):
        return np.asarray(column.cat.codes.to_numpy()[rows], dtype=np.float64)
    values = column.to_numpy()[rows].astype(np.float64)
    known = values[~np.isnan(values)]
    # Trees of scikit-learn take NaN as well, but not infinities of float32.
    filled = np.nan_to_num(values, nan=known.min() - 1 if len(known) else 0)
    return np.asarray(np.clip(filled, -1e38, 1e38))


def _score(values: NDArray[np.float64], target: NDArray[np.float64], table: Table) -> float:
    from sklearn.model_selection import KFold, StratifiedKFold, cross_val_score
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

    if table.task is Task.REGRESSION:
        # A straight line takes many steps: as many as leave some rows to each.
        leaves = max(2, min(256, len(values) // 5))
        tree = DecisionTreeRegressor(max_leaf_nodes=leaves, random_state=0)
        folds, scoring = KFold(FOLDS, shuffle=True, random_state=0), "r2"
    else:
        leaves = LEAVES_A_CLASS * len(table.classes)
        tree = DecisionTreeClassifier(max_leaf_nodes=leaves, random_state=0)
        folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
        scoring = "balanced_accuracy"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes that a fold lacks
        return float(
            cross_val_score(tree, values[:, None], target, cv=folds, scoring=scoring).mean()
        )
