"""Owns equality of content: the digest of a whole table, and which of its rows are copies."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

Rows = NDArray[np.intp]

# Of FNV-1a, which mixes a row's next column into what is known of it.
_PRIME = np.uint64(0x100000001B3)


def digest_of(frame: pd.DataFrame, numbers: Iterable[NDArray[Any]], named: tuple[Any, ...]) -> str:
    """16 hexadecimal digits of everything that training depends on.

    Args:
        frame: The features.
        numbers: Further arrays: the target, groups, times.
        named: Names and decisions, as text or tuples of text.
    """
    digest = hashlib.sha256(repr((tuple(frame.columns), named)).encode())
    for name in frame.columns:
        column = frame[name]
        if hasattr(column, "cat"):
            digest.update(repr(tuple(column.cat.categories)).encode())
        digest.update(_as_float64(column).data)
    for array in numbers:
        digest.update(np.ascontiguousarray(array, dtype=np.float64).data)
    return digest.hexdigest()[:16]


def duplicate_groups(frame: pd.DataFrame) -> Rows:
    """[N] group numbers, by first appearance; rows whose values are all equal share one.

    Rows are told apart by 64 bits: among a million distinct ones, two are mixed up with a
    probability of 3e-8, and then merely stand in one split.
    """
    import pandas as pd

    hashes = np.zeros(len(frame), dtype=np.uint64)
    for name in frame.columns:
        # pandas gives 0.0 of either sign one hash.
        hashes = (hashes * _PRIME) ^ pd.util.hash_array(_as_float64(frame[name]))
    return np.asarray(pd.factorize(hashes)[0], dtype=np.intp)


def _as_float64(column: pd.Series) -> NDArray[np.float64]:
    """Values, or the numbers of levels; all that is missing is the same NaN."""
    values = column.cat.codes.to_numpy() if hasattr(column, "cat") else column.to_numpy()
    values = np.ascontiguousarray(values, dtype=np.float64)
    missing = np.isnan(values)
    return np.where(missing, np.nan, values) if missing.any() else values
