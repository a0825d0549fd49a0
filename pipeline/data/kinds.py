"""Owns what a column is: numbers, levels or dates, and how raw values become these."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.config import ConfigError

if TYPE_CHECKING:
    import pandas as pd

# A text column with so large a share of numbers is a column of numbers with something else in it.
MOSTLY_NUMBERS = 0.9
_THOUSANDS = re.compile(r"\s*[+-]?\d{1,3}(,\d{3})+(\.\d*)?\s*")
_DECIMAL_COMMA = re.compile(r"\s*[+-]?\d+,\d+\s*")
_ISO_DATE = re.compile(r"\d{4}-\d{2}-\d{2}([ T]\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:?\d{2})?)?")


class Kind(StrEnum):
    """What a column holds."""

    NUMERIC = "numeric"
    CATEGORICAL = "categorical"
    DATE = "date"
    EMPTY = "empty"


def kind_of(column: pd.Series, place: str) -> Kind:
    """What a column is by its values, where nobody said it.

    Raises:
        ConfigError: It could be two things, or it identifies rows: says what to declare.
    """
    from pandas.api import types

    if column.isna().all():
        return Kind.EMPTY
    if types.is_bool_dtype(column):
        return Kind.CATEGORICAL
    if types.is_numeric_dtype(column):
        return Kind.NUMERIC
    if types.is_datetime64_any_dtype(column) or types.is_timedelta64_dtype(column):
        return Kind.DATE
    if isinstance(column.dtype, _category()):
        return Kind.CATEGORICAL
    codes, distinct = _factorized(column, place)
    counts = np.bincount(codes[codes >= 0])
    levels = [level_name(level) for level in distinct]
    if all(map(_ISO_DATE.fullmatch, levels)) and _are_dates(column):
        return Kind.DATE
    refuse_separators(levels, counts, place)
    _refuse_mostly_numbers(levels, counts, place)
    if len(counts) == counts.sum() and 1 < len(counts) > len(column) / 2:
        raise ConfigError(
            "a text column must repeat itself, as it could only tell rows apart (drop it: "
            f"data.drop), however: {len(counts)} distinct values in {len(column)} rows, "
            f"such as {levels[0]!r} ({place})"
        )
    return Kind.CATEGORICAL


def refuse_separators(levels: list[str], counts: NDArray[np.int64], place: str) -> None:
    """Refuses text that was meant as numbers, but for the separators in it.

    Args:
        levels: The distinct texts.
        counts: In how many rows each stands.
        place: For the error.

    Raises:
        ConfigError: Says which value, and how to write it.
    """
    numbers = np.array([like_number(level) for level in levels], dtype=bool)
    for pattern, hint in (
        (_THOUSANDS, "without thousands separators"),
        (_DECIMAL_COMMA, "with a decimal point"),
    ):
        matches = np.array([bool(pattern.fullmatch(level)) for level in levels], dtype=bool)
        if matches.any() and counts[matches | numbers].sum() >= MOSTLY_NUMBERS * counts.sum():
            example = levels[int(matches.argmax())]
            raise ConfigError(f"numbers must be written {hint}, however: {example!r} ({place})")


def as_numbers(column: pd.Series, place: str) -> NDArray[Any]:
    """A column as integers or floats, NaN where a value is missing.

    Integers and float32 stay what they are, to spare memory: whoever computes turns them into
    float64 first, which is exact.

    Raises:
        ConfigError: A value is no number, or infinite.
    """
    import pandas as pd
    from pandas.api import types

    if types.is_complex_dtype(column):
        raise _no_number(_first(column), place)
    if isinstance(column.dtype, np.dtype) and column.dtype.kind in "iuf":
        values = np.asarray(column.to_numpy())
        if values.dtype == np.float16:
            values = values.astype(np.float32)
    else:
        try:
            if not types.is_numeric_dtype(column):
                column = pd.to_numeric(column.astype(object))
            values = np.asarray(column.to_numpy(dtype=np.float64, na_value=np.nan))
        except (TypeError, ValueError) as error:
            present = (value for value in column if not _is_missing(value))
            bad = next((value for value in present if not like_number(value)), None)
            raise _no_number(bad, place) from error
    if values.dtype.kind == "f" and np.isinf(values).any():
        bad = np.isinf(values)
        raise ConfigError(
            f"a numeric column must not have infinite values, however: {int(bad.sum())} of them "
            f"({place}, first in row {int(bad.argmax()) + 1})"
        )
    return values


def as_days(column: pd.Series, place: str) -> NDArray[np.float64]:
    """Dates as days since 1970, UTC where none is said; NaN where a value is missing.

    Raises:
        ConfigError: A value is no date as ISO 8601 writes it.
    """
    import pandas as pd
    from pandas.api import types

    if types.is_timedelta64_dtype(column):
        return np.asarray(column / pd.Timedelta(days=1), dtype=np.float64)
    if types.is_numeric_dtype(column):
        raise ConfigError(
            f"a date must be ISO 8601 text or a timestamp, however: {_first(column)!r} ({place})"
        )
    try:
        stamps = pd.to_datetime(column, format="ISO8601", utc=True)
    except (TypeError, ValueError, OverflowError) as error:
        reason = " ".join(str(error).split()).partition(". You might")[0]
        raise ConfigError(f"a date must be ISO 8601, however: {reason} ({place})") from error
    # In seconds: nanoseconds, which pandas would count in, reach from 1677 to 2262.
    since = stamps - pd.Timestamp(0, tz="UTC").as_unit("s")
    return np.asarray(since / pd.Timedelta(days=1), dtype=np.float64)


def as_levels(column: pd.Series, place: str) -> pd.Categorical:
    """A column as levels named by text, in the order of their names.

    Raises:
        ConfigError: A value can be no level: a list, say.
    """
    import pandas as pd

    codes, levels = _factorized(column, place)
    names = [level_name(level) for level in levels]
    ordered = sorted(set(names))
    places = {name: number for number, name in enumerate(ordered)}
    # What factorize calls -1 is missing, and finds the last entry.
    numbers = np.array([*(places[name] for name in names), -1])
    return pd.Categorical.from_codes(numbers[codes], categories=pd.Index(ordered, dtype=object))


def has_names(column: pd.Series) -> bool:
    """Whether a column is levels named by text already, as `as_levels` gives them."""
    from pandas.api import types

    return hasattr(column, "cat") and types.infer_dtype(column.cat.categories) == "string"


def level_name(level: Any) -> str:
    """A level or class in words; 3.0 is "3", as a missing value makes floats of integers."""
    if isinstance(level, float | np.floating) and float(level).is_integer():
        return str(int(level))
    return str(level)


def _factorized(column: pd.Series, place: str) -> tuple[NDArray[np.intp], Any]:
    """[N] numbers of distinct values, -1 where one is missing, and the values."""
    import pandas as pd

    try:
        codes, distinct = pd.factorize(column)
    except TypeError as error:  # lists, say
        raise ConfigError(
            f"a feature must be numeric or text, however: {_first(column)!r} ({place})"
        ) from error
    return codes, distinct


def _first(column: pd.Series) -> object:
    """The first value there is, as Python has it."""
    return next((v for v in column.iloc[:1000].tolist() if not _is_missing(v)), None)


def _refuse_mostly_numbers(levels: list[str], counts: NDArray[np.int64], place: str) -> None:
    numbers = np.array([like_number(level) for level in levels], dtype=bool)
    if not numbers.any() or counts[numbers].sum() < MOSTLY_NUMBERS * counts.sum():
        return
    example = levels[int(numbers.argmin())]
    raise ConfigError(
        "a column of numbers must hold nothing else (or be declared: data.categorical, "
        f"data.numeric), however: the text {example!r} ({place})"
    )


def _are_dates(column: pd.Series) -> bool:
    try:
        as_days(column, "")
    except ConfigError:
        return False
    return True


def _no_number(value: object, place: str) -> ConfigError:
    return ConfigError(f"a numeric column must hold numbers, however: {value!r} ({place})")


def like_number(value: object) -> bool:
    """Whether Python reads it as a number."""
    try:
        float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False
    return True


def _is_missing(value: object) -> bool:
    return value is None or value != value or type(value).__name__ == "NAType"


def _category() -> type:
    import pandas as pd

    dtype: type = pd.CategoricalDtype
    return dtype
