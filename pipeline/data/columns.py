"""Owns the columns: what each is for, what it holds, and its values as a feature."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pipeline.config import ConfigError, DataConfig
from pipeline.data.kinds import Kind, as_days, as_levels, as_numbers, kind_of

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Column:
    """What was found of one column.

    Attributes:
        name: Its name in the table.
        kind: What it holds.
        missing: Rows without a value.
        use: `feature`, `target`, `group`, `time`, or why it was dropped.
        declared: Whether the study file says the kind.
        distinct: Different values; None for a feature, whose values the table has.
    """

    name: str
    kind: Kind
    missing: int
    use: str
    declared: bool = False
    distinct: int | None = None


def roles_of(frame: pd.DataFrame, config: DataConfig) -> dict[str, str]:
    """What each column is for, by name: `feature`, `target`, `group`, `time` or `dropped: ...`.

    Raises:
        ConfigError: A name is unknown, or stands in two places.
    """
    left = [name for name in frame.columns if name not in config.drop]
    target = config.target or (left[-1] if left else str(frame.columns[-1]))
    roles = dict.fromkeys(map(str, frame.columns), "feature")
    declared: dict[str, str] = {}
    for key, names, role in (
        ("target", (target,), "target"),
        ("group", (config.group,) if config.group else (), "group"),
        ("time", (config.time,) if config.time else (), "time"),
        ("drop", config.drop, "dropped: as data.drop says"),
        ("numeric", config.numeric, "feature"),
        ("categorical", config.categorical, "feature"),
        ("dates", config.dates, "feature"),
    ):
        for name in names:
            if name not in roles:
                known = ", ".join(map(repr, list(roles)[:8])) + (", ..." if len(roles) > 8 else "")
                raise ConfigError(
                    f"{key} must be {'one' if len(names) == 1 else 'some'} of the columns {known}, "
                    f"however: {name!r} ({config.source})"
                )
            if name in declared:
                raise ConfigError(
                    f"a column must be named in one place, however: {name!r} in "
                    f"data.{declared[name]} and data.{key} ({config.source})"
                )
            declared[name], roles[name] = key, role
    return roles


def read_column(column: pd.Series, role: str, config: DataConfig, place: str) -> tuple[Column, Any]:
    """What a column is, and a feature's values as its kind has them.

    Raises:
        ConfigError: Its kind is in doubt, or a value is not of it.
    """
    name, missing = str(column.name), int(column.isna().sum())
    lists = {
        Kind.NUMERIC: config.numeric,
        Kind.CATEGORICAL: config.categorical,
        Kind.DATE: config.dates,
    }
    declared = next((kind for kind, names in lists.items() if name in names), None)
    if role != "feature":
        found = Column(name, _plain_kind(column), missing, role, distinct=_distinct(column))
        return found, None
    kind = Kind.EMPTY if missing == len(column) else declared or kind_of(column, place)
    found = Column(name, kind, missing, role, declared is not None)
    if kind is Kind.EMPTY:
        return replace(found, use="dropped: all values are missing", distinct=0), None
    if kind is Kind.DATE and declared is None:
        use = "dropped: a date (data.dates makes it a number)"
        return replace(found, use=use, distinct=_distinct(column)), None
    read = {Kind.NUMERIC: as_numbers, Kind.CATEGORICAL: as_levels, Kind.DATE: as_days}[kind]
    return found, read(column, place)


def _plain_kind(column: pd.Series) -> Kind:
    """The kind of a column that is no feature: nothing is refused."""
    try:
        return kind_of(column, "")
    except ConfigError:
        return Kind.CATEGORICAL


def _distinct(column: pd.Series) -> int:
    try:
        return int(column.nunique())
    except TypeError:  # lists
        return len({str(value) for value in column})


def tell(columns: list[Column], source: str) -> None:
    """Logs what was inferred; what is dropped unasked as a warning."""
    for column in columns:
        if column.use.startswith("dropped") and "data.drop says" not in column.use:
            log.warning("%s: column %r is %s", source, column.name, column.use)
        else:
            how = "declared" if column.declared else "inferred"
            line = "%s: column %r: %s (%s), %d missing, %s"
            log.info(line, source, column.name, column.kind, how, column.missing, column.use)
