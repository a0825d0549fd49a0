"""Owns the table: the role and the kind of every column, the target, the digest."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.config import ConfigError, DataConfig
from pipeline.data.columns import Column, read_column, roles_of, tell
from pipeline.data.digest import Rows, digest_of, duplicate_groups
from pipeline.data.kinds import Kind, as_days, as_levels, as_numbers
from pipeline.data.read import read_source
from pipeline.data.target import Task, read_target

if TYPE_CHECKING:
    import pandas as pd

FEWEST_ROWS = 5

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Table:
    """A table as it was read: nothing is split, filled or scaled yet.

    Attributes:
        source: Where it came from, as the study file says it.
        frame: [N, D]; numbers as integers or floats, levels as pandas' categories of text.
        target: [N]; class numbers from 0, or the quantity in its own units.
        target_name: The target's column name.
        task: What kind of target it is.
        classes: Class names by class number; empty for regression.
        columns: What was found of each column, in the order of the source.
        kinds: The kind of each of the D features.
        group: [N] numbers; rows of one group stay in one split. None: no `data.group`.
        time: [N]; earlier rows are trained on. None: no `data.time`.
        digest: 16 hexadecimal digits that change with any value, name, kind or row order.
    """

    source: str
    frame: pd.DataFrame
    target: NDArray[np.float64]
    target_name: str
    task: Task
    classes: tuple[str, ...]
    columns: tuple[Column, ...]
    kinds: tuple[Kind, ...]
    group: Rows | None
    time: NDArray[np.float64] | None
    digest: str

    @property
    def n_rows(self) -> int:
        """N."""
        return len(self.frame)

    @property
    def n_features(self) -> int:
        """D: columns before preprocessing, which may make more of them, or fewer."""
        return int(self.frame.shape[1])

    @property
    def n_outputs(self) -> int:
        """C: one logit for two classes, one per class for more, one value for regression."""
        return len(self.classes) if self.task is Task.MULTICLASS else 1

    @property
    def feature_names(self) -> tuple[str, ...]:
        """D column names."""
        return tuple(self.frame.columns)

    @cached_property
    def duplicates(self) -> Rows:
        """[N] group numbers; rows whose features are all equal share one."""
        return duplicate_groups(self.frame)


def load_table(config: DataConfig, data: pd.DataFrame | None = None) -> Table:
    """Reads the table that `config.source` names, or takes the one that is handed over.

    Raises:
        ConfigError: It cannot be read, or is not a table that a network can be trained on.
    """
    return table_from_frame(read_source(config.source) if data is None else data, config)


def table_from_frame(frame: pd.DataFrame, config: DataConfig) -> Table:
    """Checks a data frame and makes it a table; the frame itself stays as it is.

    Raises:
        ConfigError: A rule that a table must keep is broken; says which, and where.
    """
    frame = _checked(frame, config.source)
    roles = roles_of(frame, config)
    target_name = next(name for name, role in roles.items() if role == "target")
    if config.drop_missing_target and frame[target_name].isna().any():
        known = frame[target_name].notna()
        log.warning("%s: %d rows without a target are dropped", config.source, (~known).sum())
        frame = frame[known]
    if len(frame) < FEWEST_ROWS:
        raise ConfigError(
            f"a table must have at least {FEWEST_ROWS} rows, "
            f"however: {len(frame)} ({config.source})"
        )
    target, task, classes = read_target(frame[target_name], config)
    columns, features = [], {}
    for name, role in roles.items():
        column, place = frame[name], f"{config.source}, column {name!r}"
        found, values = read_column(column, role, config, place)
        columns.append(found)
        if found.use == "feature":
            features[name] = (found.kind, values)
    tell(columns, config.source)
    if not features:
        raise ConfigError(f"a table must have a feature, however: none is left ({config.source})")
    # Not copied into one block: the columns are as large as the table.
    kept = _frame({name: values for name, (_, values) in features.items()})
    table = Table(
        source=config.source,
        frame=kept,
        target=target,
        target_name=target_name,
        task=task,
        classes=classes,
        columns=tuple(columns),
        kinds=tuple(kind for kind, _ in features.values()),
        group=_groups(frame[config.group], config) if config.group else None,
        time=_times(frame[config.time], config) if config.time else None,
        digest="",
    )
    named = (
        target_name,
        str(task),
        classes,
        config.group,
        config.time,
        tuple(map(str, table.kinds)),
    )
    numbers = [array for array in (target, table.group, table.time) if array is not None]
    return replace(table, digest=digest_of(kept, numbers, named))


def _checked(frame: pd.DataFrame, place: str) -> pd.DataFrame:
    # What a data frame was indexed by is a column like any other, unless it only counts rows.
    named = frame.index.nlevels > 1 or frame.index.name is not None
    frame = frame.reset_index(drop=not named)
    frame.columns = (
        frame.columns.map(str)
        if frame.columns.nlevels == 1
        else ["/".join(map(str, name)) for name in frame.columns]
    )
    if frame.columns.has_duplicates:
        repeated = frame.columns[frame.columns.duplicated()][0]
        raise ConfigError(f"column names must be distinct, however: {repeated!r} twice ({place})")
    if frame.shape[1] < 2:
        raise ConfigError(
            "a table must have a feature and a target column, "
            f"however: {frame.shape[1]} column ({place})"
        )
    return frame


def _frame(columns: dict[str, Any]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(columns, copy=False)


def _groups(column: pd.Series, config: DataConfig) -> Rows:
    place = f"{config.source}, column {column.name!r}"
    _refuse_missing(column, "group", place)
    return np.asarray(as_levels(column, place).codes, dtype=np.intp)


def _times(column: pd.Series, config: DataConfig) -> NDArray[np.float64]:
    from pandas.api import types

    place = f"{config.source}, column {column.name!r}"
    _refuse_missing(column, "time", place)
    if types.is_numeric_dtype(column) and not types.is_bool_dtype(column):
        return as_numbers(column, place).astype(np.float64)
    return as_days(column, place)


def _refuse_missing(column: pd.Series, what: str, place: str) -> None:
    if column.isna().any():
        raise ConfigError(
            f"a {what} must not have missing values, "
            f"however: {int(column.isna().sum())} of them ({place})"
        )
