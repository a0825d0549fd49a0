"""What becomes of a column is learned from training rows alone, and travels as JSON."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, QuantileTransformer, StandardScaler

from pipeline.config import ConfigError, DataConfig
from pipeline.data import Preprocessing, Task, split_rows, table_from_frame
from tests.data.frames import N, configured, frame, on_every_task

TRAIN = np.arange(60)
OTHERS = np.arange(60, N)


def fitted(source: pd.DataFrame, config: DataConfig | None = None) -> Preprocessing:
    config = config or configured()
    return Preprocessing.fit(table_from_frame(source, config), config, TRAIN)


def mixed(seed: int = 0) -> pd.DataFrame:
    """Numbers, gaps, levels, dates: all that a table may have."""
    draw = np.random.default_rng(seed)
    source = frame(Task.REGRESSION, seed=seed)
    source.insert(0, "gaps", np.where(draw.random(N) < 0.2, np.nan, draw.normal(size=N)))
    source.insert(0, "colour", draw.choice(np.array(["red", "blue", None], dtype=object), N))
    source.insert(0, "flag", draw.random(N) < 0.5)
    source.insert(0, "level", draw.integers(0, 5, N))
    source.insert(0, "day", pd.date_range("2020-01-01", periods=N))
    return source


MIXED = {"dates": ["day"], "categorical": ["level"]}


class TestNumbers:
    @pytest.mark.parametrize("dtype", ["float64", "float32", "int16"])
    def test_are_what_scikit_learn_makes_of_them(self, dtype: str) -> None:
        source = frame().astype({"x1": dtype})
        source.loc[[1, 5, 70], "x0"] = np.nan
        expected = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
        values = source[["x0", "x1", "x2"]].to_numpy(dtype=np.float64)
        expected.fit(values[TRAIN])
        found = fitted(source).transform(source)
        assert found.dtype == np.float32
        assert np.array_equal(found[:, [0, 2, 3]], expected.transform(values).astype(np.float32))
        assert found[:, 1].tolist() == [float(row in (1, 5, 70)) for row in range(N)]

    def test_by_quantile_are_scikit_learns_then_standardized(self) -> None:
        source = frame().assign(x0=np.arange(N) % 2, x1=np.maximum(0, np.arange(N) - 50))
        found = fitted(source, configured(scaling="quantile")).transform(source)
        for number, name in enumerate(["x0", "x1", "x2"]):
            values = source[[name]].to_numpy(dtype=np.float64)
            ranks = QuantileTransformer(n_quantiles=60, output_distribution="normal")
            both = make_pipeline(ranks, StandardScaler()).fit(values[TRAIN])
            np.testing.assert_allclose(found[:, number], both.transform(values)[:, 0], rtol=1e-5)
        np.testing.assert_allclose(found[TRAIN].std(axis=0), 1, atol=1e-5)

    def test_as_they_are_on_request(self) -> None:
        source = frame()
        found = fitted(source, configured(scaling="none")).transform(source)
        assert np.array_equal(found, source[["x0", "x1", "x2"]].to_numpy(dtype=np.float32))

    def test_as_they_are_must_fit_into_float32(self) -> None:
        source = frame().assign(x1=frame()["x1"] * 1e300)
        with pytest.raises(ConfigError, match=r"numbers of float32 .* however: .*'x1'"):
            fitted(source, configured(scaling="none"))
        found = fitted(source, configured(scaling="quantile")).transform(source)
        assert np.isfinite(found).all()

    def test_missing_after_training_are_the_median_without_an_indicator(self) -> None:
        source = frame()
        source.loc[70, "x0"] = np.nan
        found = fitted(source)
        assert found.feature_names == ("x0", "x1", "x2")
        median = source["x0"][TRAIN].median()
        mended = source.assign(x0=source["x0"].fillna(median))
        assert np.array_equal(found.transform(source), found.transform(mended))

    def test_that_are_constant_but_for_gaps_are_whether_they_are_missing(self) -> None:
        source = frame().assign(x0=[5.0, np.nan] * 48 + [5.0])
        found = fitted(source)
        assert found.feature_names == ("x0 is missing", "x1", "x2")
        assert found.transform(source)[:4, 0].tolist() == [0, 1, 0, 1]

    @pytest.mark.parametrize(
        "values", [np.where(np.arange(N) < 60, 3, 4), np.where(np.arange(N) < 60, np.nan, 1)]
    )
    def test_that_are_constant_in_training_are_dropped(self, values: Any) -> None:
        found = fitted(frame().assign(x1=values))
        assert found.dropped == {"x1": "constant in training"}
        assert found.feature_names == ("x0", "x2")

    def test_that_are_all_constant_are_refused(self) -> None:
        source = frame()[["x0", "target"]].assign(x0=7)
        with pytest.raises(ConfigError, match="a feature that varies, however: none does"):
            fitted(source)

    def test_large_integers_are_exact_before_they_are_scaled(self) -> None:
        """As float32, these would all be the same."""
        source = frame().assign(x0=10**9 + np.arange(N))
        assert len(np.unique(fitted(source).transform(source)[:, 0])) == N

    @settings(max_examples=50)
    @given(
        arrays(np.float64, (N, 2), elements=st.floats(-1e6, 1e6, width=32) | st.just(float("nan")))
    )
    def test_are_finite_whatever_they_were(self, values: Any) -> None:
        source = frame().assign(x0=values[:, 0], x1=values[:, 1])
        for scaling in ("standard", "quantile", "none"):
            assert np.isfinite(fitted(source, configured(scaling=scaling)).transform(source)).all()


class TestLevels:
    def test_are_one_hot_as_scikit_learn_has_it(self) -> None:
        source = frame().assign(x1=np.array(list("abcde"))[np.arange(N) ** 2 % 5])
        encoder = OneHotEncoder(sparse_output=False).fit(source[["x1"]].iloc[TRAIN])
        found = fitted(source)
        assert found.feature_names == ("x0", "x1 = a", "x1 = b", "x1 = e", "x2")
        assert np.array_equal(found.transform(source)[:, 1:4], encoder.transform(source[["x1"]]))

    def test_beyond_the_most_frequent_are_rare(self) -> None:
        names = np.array(list("aaaaaabbbbbcccdd") * 7)[:N]
        source = frame().assign(x1=names)
        found = fitted(source, configured(max_levels=2))
        assert found.feature_names[1:4] == ("x1 = a", "x1 = b", "x1 is rare or unseen")
        expected = OneHotEncoder(
            sparse_output=False, max_categories=3, handle_unknown="infrequent_if_exist"
        ).fit(source[["x1"]].iloc[TRAIN])
        assert np.array_equal(found.transform(source)[:, 1:4], expected.transform(source[["x1"]]))
        unseen = source.assign(x1="new")
        assert (found.transform(unseen)[:, 1:4] == [0, 0, 1]).all()

    def test_that_occur_once_are_rare(self) -> None:
        source = frame().assign(x1=["once", *list("ab") * 48])
        assert fitted(source).feature_names[1:4] == ("x1 = a", "x1 = b", "x1 is rare or unseen")

    def test_that_are_unseen_are_all_zeros_where_none_was_rare(self) -> None:
        source = frame().assign(x1=list("ab") * 48 + ["new"])
        found = fitted(source)
        assert found.feature_names[1:3] == ("x1 = a", "x1 = b")
        assert found.transform(source)[-1, 1:3].tolist() == [0, 0]

    def test_that_are_missing_are_a_level_of_their_own(self) -> None:
        source = frame().assign(x1=["a", None, "b"] * 32 + [None])
        found = fitted(source)
        assert found.feature_names[1:4] == ("x1 = a", "x1 = b", "x1 is missing")
        assert found.transform(source)[:3, 1:4].tolist() == [[1, 0, 0], [0, 0, 1], [0, 1, 0]]

    def test_that_are_missing_after_training_are_unseen(self) -> None:
        source = frame().assign(x1=["once", *list("ab") * 47, None, None])
        assert fitted(source).transform(source)[-1, 1:4].tolist() == [0, 0, 1]

    @pytest.mark.parametrize(
        ("names", "why"),
        [
            (["a"] * 60 + ["b"] * 37, "constant in training"),
            ([f"n{n}" for n in range(60)] + ["a"] * 37, "no level repeated"),
        ],
    )
    def test_that_tell_nothing_are_dropped(self, names: list[str], why: str) -> None:
        source = frame().assign(x1=names)
        assert fitted(source, configured(categorical=["x1"])).dropped == {"x1": why}

    def test_of_booleans_are_two(self) -> None:
        source = frame().assign(x1=np.arange(N) % 2 == 0)
        assert fitted(source).feature_names[1:3] == ("x1 = False", "x1 = True")

    def test_a_hundred_thousand_levels_are_pooled(self) -> None:
        n_rows = 200_000
        names = [f"n{row // 2}" for row in range(n_rows)]
        many = pd.DataFrame({"x": names, "y": np.arange(n_rows) / 7})
        known = table_from_frame(many, configured())
        found = Preprocessing.fit(known, configured(max_levels=3), np.arange(n_rows))
        assert found.n_features == 4


class TestAll:
    @on_every_task
    @pytest.mark.parametrize("scaling", ["standard", "quantile", "none"])
    def test_come_back_from_json_to_the_last_bit(self, task: Task, scaling: str) -> None:
        source = mixed().assign(target=frame(task)["target"])
        found = fitted(source, configured(scaling=scaling, max_levels=2, **MIXED))
        text = found.to_json()
        again = Preprocessing.from_json(text)
        assert again.to_json() == text
        assert again.target == found.target
        assert again.feature_names == found.feature_names
        assert np.array_equal(again.transform(source), found.transform(source))
        assert "NaN" not in text
        json.loads(text)

    @settings(max_examples=25)
    @given(seed=st.integers(0, 99), scaling=st.sampled_from(["standard", "quantile", "none"]))
    def test_know_nothing_of_other_rows(self, seed: int, scaling: str) -> None:
        config = configured(scaling=scaling, **MIXED)
        source, other = mixed(seed), mixed(seed + 1)
        other.iloc[TRAIN] = source.iloc[TRAIN]
        parts = TRAIN, OTHERS[:17], OTHERS[17:]
        first = split_rows(table_from_frame(source, config), config, *parts)
        second = split_rows(table_from_frame(other, config), config, *parts)
        assert first.preprocessing.to_json() == second.preprocessing.to_json()
        assert np.array_equal(first.x_train, second.x_train)
        assert not np.array_equal(first.x_val, second.x_val)

    def test_give_raw_rows_what_the_table_gave(self) -> None:
        config = configured(**MIXED)
        source = mixed()
        known = table_from_frame(source, config)
        found = Preprocessing.fit(known, config, TRAIN)
        assert np.array_equal(found.transform(known.frame), found.transform(source))
        shuffled = source[source.columns[::-1]].drop(columns="target").assign(more=1)
        assert np.array_equal(found.transform(shuffled.iloc[5:9]), found.transform(source)[5:9])
        as_text = source.assign(day=source["day"].astype(str), level=source["level"].astype(float))
        assert np.array_equal(found.transform(as_text), found.transform(source))

    def test_refuse_rows_that_are_not_like_those_of_training(self) -> None:
        found = fitted(frame())
        with pytest.raises(ConfigError, match="columns of training, however: 'x1' is absent"):
            found.transform(frame().drop(columns="x1"))
        with pytest.raises(ConfigError, match=r"must hold numbers, however: 'many' .*'x1'"):
            found.transform(frame().assign(x1="many"))
        with pytest.raises(ConfigError, match=r"infinite values, however: 97 .*'x1'"):
            found.transform(frame().assign(x1=np.inf))

    def test_of_no_rows_are_none(self) -> None:
        assert fitted(mixed(), configured(**MIXED)).transform(mixed().iloc[:0]).shape[0] == 0
