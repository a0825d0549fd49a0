"""Owns the target: classes of any type with their names, or a quantity in its own units."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.config import ConfigError, DataConfig
from pipeline.data.kinds import level_name, refuse_separators

if TYPE_CHECKING:
    import pandas as pd

# More distinct integers than this and a target left on "auto" is a quantity, not a class.
MOST_CLASSES = 20
# More classes than this are taken for a mistake: the output layer has one unit for each.
MOST_DECLARED_CLASSES = 1000

log = logging.getLogger(__name__)


class Task(StrEnum):
    """What the network predicts."""

    BINARY = "binary"
    MULTICLASS = "multiclass"
    REGRESSION = "regression"


@dataclass(frozen=True)
class Target:
    """What the network's outputs mean.

    Attributes:
        name: The target's column name.
        task: What kind of target it is.
        classes: Class names by class number; empty for regression.
        mean, scale: What was subtracted from a quantity, then divided by; 0 and 1 for classes.
    """

    name: str
    task: Task
    classes: tuple[str, ...] = field(default=())
    mean: float = 0.0
    scale: float = 1.0


def read_target(
    column: pd.Series, config: DataConfig
) -> tuple[NDArray[np.float64], Task, tuple[str, ...]]:
    """Class numbers from 0 or a quantity, the task, and the names of the classes.

    Raises:
        ConfigError: It is no target, or not one for the task that was declared.
    """
    import pandas as pd
    from pandas.api import types

    place = f"{config.source}, column {column.name!r}"
    if column.isna().any():
        raise ConfigError(
            "a target must not have missing values (data.drop_missing_target drops their rows), "
            f"however: {int(column.isna().sum())} ({place})"
        )
    if types.is_datetime64_any_dtype(column) or types.is_complex_dtype(column):
        raise _no_target(column, place)
    quantity = types.is_numeric_dtype(column) and not types.is_bool_dtype(column)
    values = column.to_numpy(dtype=np.float64) if quantity else None
    if values is not None and not np.isfinite(values).all():
        raise ConfigError(f"a target must be finite, however: infinity ({place})")
    whole = values is None or bool((values == np.round(values)).all())
    try:
        # Not sorted yet: a quantity of a million values is none the wiser for it.
        numbers, levels = pd.factorize(column)
    except TypeError as error:
        raise _no_target(column, place) from error
    distinct = list(levels)

    task = config.task
    if task == "auto":
        quantity_like = values is not None and (not whole or len(distinct) > MOST_CLASSES)
        task = "regression" if quantity_like else ("binary" if len(distinct) == 2 else "multiclass")
        log.info("%s: the target is taken for %s (data.task overrules)", place, task)
    if values is None and isinstance(distinct[0], str):
        refuse_separators([str(level) for level in distinct], np.bincount(numbers), place)
    if task == "regression":
        if values is None:
            example = column.iloc[0]
            raise ConfigError(f"a quantity must be numeric, however: {example!r} ({place})")
        if len(distinct) == 1:
            raise ConfigError(f"a target must vary, however: it is always {distinct[0]} ({place})")
        return values, Task.REGRESSION, ()
    if not whole:
        fraction = next(label for label in sorted(distinct) if label != round(label))
        raise ConfigError(f"a class must not be a fraction, however: {fraction} ({place})")
    return _classes(numbers, distinct, task, place)


def _classes(
    numbers: NDArray[np.intp], distinct: list[Any], task: str, place: str
) -> tuple[NDArray[np.float64], Task, tuple[str, ...]]:
    if len(distinct) < 2:
        only = level_name(distinct[0])
        raise ConfigError(
            f"a target must have at least two classes, however: only {only!r} ({place})"
        )
    if task == "binary" and len(distinct) != 2:
        raise ConfigError(
            f"a binary target must have 2 classes, however: {len(distinct)} ({place})"
        )
    if len(distinct) > MOST_DECLARED_CLASSES:
        raise ConfigError(
            f"a target must have at most {MOST_DECLARED_CLASSES} classes, "
            f"however: {len(distinct)}, such as {level_name(distinct[0])!r} ({place})"
        )
    try:
        order = sorted(range(len(distinct)), key=lambda n: (str(type(distinct[n])), distinct[n]))
    except TypeError as error:
        raise _no_target(distinct, place) from error
    names = tuple(level_name(distinct[number]) for number in order)
    if len(set(names)) < len(names):
        raise ConfigError(f"class names must be distinct, however: {names} ({place})")
    # Two classes declared "multiclass" are still one logit: softmax over two is the same model.
    kind = Task.BINARY if len(names) == 2 else Task.MULTICLASS
    # The place of each distinct value among the sorted ones.
    places = np.argsort(order).astype(np.float64)
    return places[numbers], kind, names


def _no_target(values: Iterable[Any], place: str) -> ConfigError:
    example = next(iter(values))
    return ConfigError(f"a target must be numbers or names, however: {example!r} ({place})")


def r_squared(mean_squared_error: float, variance: float) -> float:
    """Share of a target's variance that is explained; 1 or 0 where it has none.

    scikit-learn's `r2_score` draws the same line for a constant target.
    """
    if variance == 0:
        return float(mean_squared_error == 0)
    return 1 - mean_squared_error / variance
