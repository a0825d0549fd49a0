"""Owns the fitted preprocessing, which a model carries with it: raw rows in, a matrix out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.config import ConfigError, DataConfig
from pipeline.data.digest import Rows
from pipeline.data.encoders import CategoricalEncoder, Encoder, Matrix, NumericEncoder
from pipeline.data.fit import check_scale, fit_encoders
from pipeline.data.kinds import Kind
from pipeline.data.table import Table
from pipeline.data.target import Target, Task

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Preprocessing:
    """All that is done to a row before the network sees it, and what its answer means.

    Attributes:
        encoders: One a column that is used.
        dropped: Why each other column is not, by name.
        target: What the network's outputs mean.
    """

    encoders: tuple[Encoder, ...]
    dropped: Mapping[str, str]
    target: Target

    @classmethod
    def fit(cls, table: Table, config: DataConfig, rows: Rows) -> Preprocessing:
        """Learns everything from these rows alone.

        Raises:
            ConfigError: No column varies, or one cannot be scaled.
        """
        encoders, dropped = fit_encoders(table, config, rows)
        mean, scale = 0.0, 1.0
        if table.task is Task.REGRESSION:
            with np.errstate(over="ignore", invalid="ignore"):
                mean, scale = float(table.target[rows].mean()), float(table.target[rows].std())
            check_scale(table, table.target_name, mean, scale)
        target = Target(table.target_name, table.task, table.classes, mean, scale)
        return cls(tuple(encoders), dropped, target)

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the matrix's columns."""
        return tuple(name for encoder in self.encoders for name in encoder.outputs)

    @property
    def n_features(self) -> int:
        """D of the matrix."""
        return sum(len(encoder.outputs) for encoder in self.encoders)

    def transform(
        self, frame: pd.DataFrame, rows: Rows | None = None, place: str = "the data frame"
    ) -> Matrix:
        """[N, D] of raw rows; columns that training did not use are not looked at.

        Args:
            frame: The columns of training, in any order.
            rows: Row numbers; default: all.
            place: For errors: where the rows came from.

        Raises:
            ConfigError: A column is absent, or a value is not of its kind.
        """
        chosen: Any = slice(None) if rows is None else rows
        n_rows = len(frame) if rows is None else len(rows)
        matrix = np.empty((n_rows, self.n_features), dtype=np.float32)
        for encoder, columns in self._slices():
            if encoder.name not in frame.columns:
                raise ConfigError(
                    f"rows must have the columns of training, however: {encoder.name!r} is "
                    f"absent ({place})"
                )
            where = f"{place}, column {encoder.name!r}"
            encoder.encode(frame[encoder.name], where, matrix[:, columns], chosen)
        return matrix

    def to_json(self) -> str:
        """A text that `from_json` makes an equal preprocessing of, to the last bit."""
        document = {
            "columns": [asdict(encoder) for encoder in self.encoders],
            "dropped": dict(self.dropped),
            "target": asdict(self.target),
        }
        return json.dumps(document, indent=1, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Preprocessing:
        """Reads what `to_json` wrote."""
        document = json.loads(text)
        target = document["target"]
        target |= {"task": Task(target["task"]), "classes": tuple(target["classes"])}
        encoders = tuple(map(_encoder, document["columns"]))
        return cls(encoders, document["dropped"], Target(**target))

    def _slices(self) -> Iterator[tuple[Encoder, slice]]:
        start = 0
        for encoder in self.encoders:
            stop = start + len(encoder.outputs)
            yield encoder, slice(start, stop)
            start = stop


def _encoder(document: dict[str, Any]) -> Encoder:
    kind = Kind(document.pop("kind"))
    if kind is Kind.CATEGORICAL:
        document["levels"] = tuple(document["levels"])
        return CategoricalEncoder(**document)
    document["quantiles"] = tuple(document["quantiles"])
    return NumericEncoder(kind=kind, **document)
