"""Owns what one column becomes: numbers are filled and scaled, levels are one-hot."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data.kinds import Kind, as_days, as_levels, as_numbers, has_names

if TYPE_CHECKING:
    import pandas as pd

Matrix = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class NumericEncoder:
    """A column of numbers or dates: the median where one is missing, then scaled.

    Attributes:
        name: The column's name.
        kind: Numbers, or dates, which become days first.
        median: What stands for a missing value.
        mean, scale: What is subtracted, then divided by.
        quantiles: What is mapped to a normal distribution before; empty: nothing is.
        value: Whether the value is an output; it is not where it is always the same.
        indicator: Whether "is missing" is an output; it is where training rows miss a value.
    """

    name: str
    kind: Kind
    median: float
    mean: float = 0.0
    scale: float = 1.0
    quantiles: tuple[float, ...] = ()
    value: bool = True
    indicator: bool = False

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the numbers that the column becomes."""
        names = (self.name,) if self.value else ()
        return (*names, f"{self.name} is missing") if self.indicator else names

    def read(self, column: pd.Series, place: str) -> NDArray[Any]:
        """[N] numbers, NaN where one is missing: what `encode` reads a column as, itself included.

        Raises:
            ConfigError: A value is no number, or no date.
        """
        days = self.kind is Kind.DATE and column.dtype.kind not in "iuf"
        return as_days(column, place) if days else as_numbers(column, place)

    def encode(self, column: pd.Series, place: str, out: Matrix, rows: Any = slice(None)) -> None:
        """Writes [rows, outputs].

        Raises:
            ConfigError: A value is no number, or no date.
        """
        values = self.read(column, place)[rows].astype(np.float64)
        missing = np.isnan(values)
        if self.value:
            values[missing] = self.median
            if self.quantiles:
                values = self.ranked(values)
            with np.errstate(over="ignore"):
                out[:, 0] = (values - self.mean) / self.scale
        if self.indicator:
            out[:, -1] = missing

    def describe(self) -> str:
        """What became of the column, in words."""
        if not self.value:
            return "only whether it is missing: constant otherwise"
        what = "as it is"
        if (self.mean, self.scale) != (0.0, 1.0):
            what = f"standardized (mean {self.mean:.5g}, deviation {self.scale:.5g})"
        what = "by quantile" if self.quantiles else what
        return f"{what}, and whether it is missing" if self.indicator else what

    def ranked(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Values mapped to a normal distribution by their rank among the training rows."""
        ranked: NDArray[np.float64] = self._transformer.transform(values[:, None])[:, 0]
        return ranked

    @cached_property
    def _transformer(self) -> Any:
        from sklearn.preprocessing import QuantileTransformer

        transformer = QuantileTransformer(output_distribution="normal")
        transformer.quantiles_ = np.array(self.quantiles)[:, None]
        transformer.n_quantiles_, transformer.n_features_in_ = len(self.quantiles), 1
        transformer.references_ = np.linspace(0, 1, len(self.quantiles))
        return transformer


@dataclass(frozen=True, eq=False)
class CategoricalEncoder:
    """A column of levels, one-hot.

    A level that is not among `levels` was rare in training, or is new: both are the output "rare or
    unseen". Where no training row was rare there is no such output, and a new level is all zeros:
    the weights of an output that was never 1 would still be what they were drawn as.

    Attributes:
        name: The column's name.
        levels: Levels with an output of their own.
        rare: Whether "rare or unseen" is an output.
        missing: Whether "missing" is an output; without, a missing value is a new level.
        kind: Levels.
    """

    name: str
    levels: tuple[str, ...]
    rare: bool = False
    missing: bool = False
    kind: Kind = field(default=Kind.CATEGORICAL, init=False)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the numbers that the column becomes."""
        names = tuple(f"{self.name} = {level}" for level in self.levels)
        names += (f"{self.name} is rare or unseen",) if self.rare else ()
        return (*names, f"{self.name} is missing") if self.missing else names

    def read(self, column: pd.Series, place: str) -> pd.Categorical:
        """[N] levels by name: what `encode` reads a column as, itself included.

        Raises:
            ConfigError: A value can be no level.
        """
        # A table has levels by name already, and a million of them are slow to find twice.
        return column.array if has_names(column) else as_levels(column, place)

    def encode(self, column: pd.Series, place: str, out: Matrix, rows: Any = slice(None)) -> None:
        """Writes [rows, outputs].

        Raises:
            ConfigError: A value can be no level.
        """
        found = self.read(column, place)
        nowhere = len(self.outputs)
        other = len(self.levels) if self.rare else nowhere
        places = {level: number for number, level in enumerate(self.levels)}
        lookup = [places.get(level, other) for level in found.categories]
        # Code -1, a missing value, looks up the last entry.
        lookup.append(nowhere - 1 if self.missing else other)
        numbers = np.array(lookup)[found.codes[rows]]
        out[:] = 0
        known = np.flatnonzero(numbers < nowhere)
        out[known, numbers[known]] = 1

    def describe(self) -> str:
        """What became of the column, in words."""
        extra = [
            what for what, is_there in (("rare", self.rare), ("missing", self.missing)) if is_there
        ]
        return f"one-hot: {len(self.levels)} levels" + "".join(f", {what}" for what in extra)


Encoder = NumericEncoder | CategoricalEncoder
