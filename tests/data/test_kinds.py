"""A column is numbers, levels or dates, by its values or as declared; doubts are refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipeline.config import ConfigError
from pipeline.data import table_from_frame
from pipeline.data.kinds import Kind, as_days, as_levels, as_numbers, kind_of
from tests.data.frames import CONFIG, N, configured, frame, refusal

DAYS = pd.date_range("2020-01-01", periods=7)
KINDS: list[tuple[Any, Kind]] = [
    ([1, 2, 3], Kind.NUMERIC),
    ([1.5, np.nan, 3], Kind.NUMERIC),
    (pd.array([1, None, 3], dtype="Int64"), Kind.NUMERIC),
    (pd.array([1.5, None, 3], dtype="float64[pyarrow]"), Kind.NUMERIC),
    ([True, False, True], Kind.CATEGORICAL),
    (pd.array([True, None, False], dtype="boolean"), Kind.CATEGORICAL),
    ([True, None, False, True], Kind.CATEGORICAL),
    (["a", "b", "a"], Kind.CATEGORICAL),
    (["a", None, "b", "a"], Kind.CATEGORICAL),
    (pd.Categorical([3, 1, 3]), Kind.CATEGORICAL),
    (["1", "2", "3+", "3+", "2"], Kind.CATEGORICAL),
    (["1,000 m", "1,000 m", "2,000 m"], Kind.CATEGORICAL),
    (DAYS, Kind.DATE),
    (DAYS.tz_localize("Europe/Berlin"), Kind.DATE),
    (DAYS - DAYS[0], Kind.DATE),
    (["2020-01-01", None, "2020-02-29"], Kind.DATE),
    (["2020-01-01T10:00:00+01:00", "2020-02-29 10:00"], Kind.DATE),
    ([None, None], Kind.EMPTY),
    ([np.nan, np.nan], Kind.EMPTY),
]


@pytest.mark.parametrize(("values", "kind"), KINDS, ids=str)
def test_a_kind_is_inferred(values: Any, kind: Kind) -> None:
    assert kind_of(pd.Series(values), "here") is kind


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["1,234", "2,345,678", "17"], "without thousands separators, however: '1,234'"),
        (["1,5", "2,75", "3"], "with a decimal point, however: '1,5'"),
        (["1"] * 9 + ["?"], r"nothing else .*data.categorical.*however: the text '\?'"),
        (["1", "2", "1"], "nothing else .*however: the text '1'"),
        (["2020-02-30", "2020-01-01"], "text column must repeat itself"),
        (["Ann", "Bob", "Cy"], r"data\.drop\), however: 3 distinct values in 3 rows, such as"),
        ([[1], [2]], r"must be numeric or text, however: \[1\]"),
        ([{}, {}], r"must be numeric or text, however: \{\}"),
    ],
    ids=str,
)
def test_a_doubt_is_refused(values: list[Any], expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        kind_of(pd.Series(values), "here")


class TestDeclared:
    def test_categorical_integers_are_levels(self) -> None:
        source = frame().assign(x1=np.arange(N) % 3)
        found = table_from_frame(source, configured(categorical=["x1"]))
        assert list(found.frame["x1"].cat.categories) == ["0", "1", "2"]

    def test_numeric_text_is_numbers(self) -> None:
        source = frame().assign(x1=[str(n / 2) for n in range(N)])
        source.loc[3, "x1"] = None
        found = table_from_frame(source, configured(numeric=["x1"]))
        assert found.frame["x1"].dtype == np.float64
        assert np.isnan(found.frame["x1"][3])
        assert found.frame["x1"][5] == 2.5
        source.loc[7, "x1"] = "many"
        line = refusal(configured(numeric=["x1"]), source)
        assert "a numeric column must hold numbers, however: 'many' (csv:/t.csv, column" in line

    def test_dates_are_days(self) -> None:
        stamps = pd.date_range("2020-01-01 06:00", periods=N)
        source = frame().assign(x0=stamps, x1=stamps.strftime("%Y-%m-%dT%H:%M:%SZ"))
        found = table_from_frame(source, configured(dates=["x0", "x1"]))
        assert found.frame["x0"][0] == 18262.25
        assert found.frame["x0"].tolist() == found.frame["x1"].tolist()
        assert "ISO 8601" in refusal(configured(dates=["x1"]), frame())
        source["x1"] = "03.04.2020"
        assert "a date must be ISO 8601, however" in refusal(configured(dates=["x1"]), source)


class TestValues:
    @pytest.mark.parametrize("dtype", ["int8", "int64", "uint64", "float32", "float64"])
    def test_of_plain_numbers_are_not_copied(self, dtype: str) -> None:
        column = pd.Series(np.arange(5).astype(dtype))
        assert as_numbers(column, "here").dtype == dtype
        assert np.shares_memory(as_numbers(column, "here"), column.to_numpy())

    def test_of_objects_are_read_one_by_one(self) -> None:
        from decimal import Decimal

        values = as_numbers(pd.Series([Decimal("1.5"), 2, None, True], dtype=object), "here")
        assert values.dtype == np.float64
        assert np.array_equal(values, [1.5, 2, np.nan, 1], equal_nan=True)

    @pytest.mark.parametrize("bad", [np.inf, -np.inf])
    def test_that_are_infinite_are_refused(self, bad: float) -> None:
        source = frame()
        source.loc[[3, 5], "x1"] = bad
        line = refusal(CONFIG, source)
        assert (
            "infinite values, however: 2 of them (csv:/t.csv, column 'x1', first in row 4" in line
        )

    def test_that_are_complex_are_refused(self) -> None:
        line = refusal(CONFIG, frame().assign(x1=1 + 2j))
        assert "must hold numbers, however: (1+2j)" in line

    def test_of_levels_are_named_and_ordered(self) -> None:
        levels = as_levels(pd.Series([3.0, 10.0, None, 3.5], dtype=object), "here")
        assert list(levels.categories) == ["10", "3", "3.5"]
        assert levels.codes.tolist() == [1, 0, -1, 2]
        flags = as_levels(pd.Series([True, None, False], dtype=object), "here")
        assert list(flags.categories) == ["False", "True"]

    def test_of_equal_names_are_one_level(self) -> None:
        levels = as_levels(pd.Series([1, "1", 1.0], dtype=object), "here")
        assert levels.codes.tolist() == [0, 0, 0]

    def test_of_a_category_that_no_row_has_are_no_level(self) -> None:
        column = pd.Series(pd.Categorical(["b", "c", "b"], ["a", "b", "c"]))
        assert list(as_levels(column, "here").categories) == ["b", "c"]

    def test_of_dates_without_a_zone_are_utc(self) -> None:
        mixed = pd.Series(["1970-01-02", None, "1970-01-02T01:00:00+01:00"])
        assert np.array_equal(as_days(mixed, "here"), [1, np.nan, 1], equal_nan=True)


def test_dates_of_any_year_are_days() -> None:
    days = as_days(pd.Series(["0024-01-23", "1970-01-02", "9999-12-31"]), "here")
    assert days.tolist() == [-710740.0, 1.0, 2932896.0]
