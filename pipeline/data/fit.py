"""Owns what is learned from training rows: one encoder a column, or why a column is dropped."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from pipeline.config import ConfigError, DataConfig
from pipeline.data.digest import Rows
from pipeline.data.encoders import CategoricalEncoder, Encoder, NumericEncoder
from pipeline.data.kinds import Kind
from pipeline.data.table import Table

if TYPE_CHECKING:
    import pandas as pd

# Values whose mean and deviation are computed at a time, in float64: as many as fit beside a table.
VALUES_AT_A_TIME = 2**21


def fit_encoders(
    table: Table, config: DataConfig, rows: Rows
) -> tuple[list[Encoder], dict[str, str]]:
    """An encoder for each column that varies among training rows; why each other is dropped.

    Raises:
        ConfigError: A column cannot be scaled.
    """
    fitted: dict[str, Encoder] = {}
    dropped: dict[str, str] = {}
    for name, kind in zip(table.feature_names, table.kinds, strict=True):
        column = table.frame[name]
        if kind is Kind.CATEGORICAL:
            levels = _fit_levels(column, config.max_levels, rows)
            if len(levels.outputs) > 1:
                fitted[name] = levels
            else:
                dropped[name] = "no level repeated" if levels.rare else "constant in training"
        else:
            numbers = _fit_numbers(column, kind, config, rows)
            if numbers.outputs:
                fitted[name] = numbers
            else:
                dropped[name] = "constant in training"
    if not fitted:
        raise ConfigError(
            f"a table must have a feature that varies, however: none does ({table.source})"
        )
    if config.scaling == "none":
        _refuse_overflow(table, fitted, rows)
    else:
        _standardize(table, fitted, rows)
    return list(fitted.values()), dropped


def _fit_levels(column: pd.Series, max_levels: int, rows: Rows) -> CategoricalEncoder:
    """The most frequent levels that occur twice: what occurs once can only be remembered."""
    names = column.cat.categories
    codes = column.cat.codes.to_numpy()[rows]
    counts = np.bincount(codes[codes >= 0], minlength=len(names))
    # Stable, so that the order of names decides between equals.
    by_count = np.argsort(-counts, kind="stable")
    kept = np.sort([code for code in by_count[:max_levels] if counts[code] > 1]).astype(int)
    return CategoricalEncoder(
        name=str(column.name),
        levels=tuple(names[kept]),
        rare=bool(counts.sum() > counts[kept].sum()),
        missing=bool((codes < 0).any()),
    )


def _fit_numbers(column: pd.Series, kind: Kind, config: DataConfig, rows: Rows) -> NumericEncoder:
    values = column.to_numpy()[rows].astype(np.float64)
    missing = np.isnan(values)
    known = values[~missing]
    some = len(known) > 0
    encoder = NumericEncoder(
        name=str(column.name),
        kind=kind,
        median=float(np.median(known)) if some else 0.0,
        value=some and bool(known.min() < known.max()),
        indicator=some and bool(missing.any()),
    )
    if config.scaling != "quantile" or not encoder.value:
        return encoder
    from sklearn.preprocessing import QuantileTransformer

    values[missing] = encoder.median
    count = min(1000, len(values))
    transformer = QuantileTransformer(
        n_quantiles=count, output_distribution="normal", random_state=0
    ).fit(values[:, None])
    return replace(encoder, quantiles=tuple(transformer.quantiles_[:, 0].tolist()))


def _standardize(table: Table, fitted: dict[str, Encoder], rows: Rows) -> None:
    """Gives every column of numbers the mean and the deviation of its training rows."""
    from sklearn.preprocessing import StandardScaler

    scaled = [e for e in fitted.values() if isinstance(e, NumericEncoder) and e.value]
    for encoders in _blocks(scaled, len(rows)):
        block = np.empty((len(rows), len(encoders)))
        for number, encoder in enumerate(encoders):
            values = table.frame[encoder.name].to_numpy()[rows].astype(np.float64)
            values[np.isnan(values)] = encoder.median
            block[:, number] = encoder.ranked(values) if encoder.quantiles else values
        with np.errstate(over="ignore", invalid="ignore"):
            scaler = StandardScaler().fit(block)
        for encoder, mean, scale in zip(encoders, scaler.mean_, scaler.scale_, strict=True):
            check_scale(table, encoder.name, mean, scale)
            fitted[encoder.name] = replace(encoder, mean=float(mean), scale=float(scale))


def _refuse_overflow(table: Table, fitted: dict[str, Encoder], rows: Rows) -> None:
    limit = float(np.finfo(np.float32).max)
    for name, encoder in fitted.items():
        if isinstance(encoder, NumericEncoder):
            largest = float(np.nanmax(np.abs(table.frame[name].to_numpy()[rows].astype(float))))
            if largest > limit:
                raise ConfigError(
                    "values that are not scaled must be numbers of float32 (data.scaling), "
                    f"however: {largest:.3g} ({table.source}, column {name!r})"
                )


def _blocks(encoders: list[NumericEncoder], n_rows: int) -> Iterator[list[NumericEncoder]]:
    """Columns in pieces of nearly equal width, none of them alone if it can be helped.

    The sum of a lone column is taken in another order than that of one among others.
    """
    width = max(2, VALUES_AT_A_TIME // n_rows)
    for part in np.array_split(np.arange(len(encoders)), max(1, len(encoders) // width)):
        if len(part):
            yield [encoders[number] for number in part]


def check_scale(table: Table, name: str, mean: float, scale: float) -> None:
    """Refuses a column whose values are too large to average, or a target that never varies.

    Raises:
        ConfigError: Says which.
    """
    if not (np.isfinite(mean) and np.isfinite(scale) and scale > 0):
        raise ConfigError(
            "a column's mean and deviation must be finite, and the target's deviation not 0, "
            f"however: mean {mean:.3g}, deviation {scale:.3g} "
            f"({table.source}, column {name!r})"
        )
