"""A table knows the role of each column, and its digest what training depends on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipeline.config import ConfigError
from pipeline.data import columns_frame, split, table_from_frame
from tests.data.frames import CONFIG, N, configured, frame, refusal, table


class TestDigest:
    def test_is_the_same_for_the_same_table(self) -> None:
        assert table().digest == table().digest
        assert len(table().digest) == 16
        assert int(table().digest, 16) >= 0

    @pytest.mark.parametrize(
        "change",
        [
            lambda f: f.assign(x1=f["x1"].where(f.index != 50, np.nextafter(f["x1"], np.inf))),
            lambda f: f.assign(target=f["target"].where(f.index != 3, "yes")),
            lambda f: f.assign(target=f["target"].replace("yes", "Yes")),
            lambda f: f.rename(columns={"x1": "y1"}),
            lambda f: f.rename(columns={"target": "label"}),
            lambda f: f.iloc[::-1].reset_index(drop=True),
            lambda f: f.iloc[:-1],
            lambda f: f[["x1", "x0", "x2", "target"]],
            lambda f: f.assign(x0=f["x1"], x1=f["x0"]),
        ],
    )
    def test_changes_with_any_value_name_or_order(self, change: Any) -> None:
        source = frame()
        source.loc[3, "target"] = "no"
        changed = change(source)
        assert table_from_frame(changed, CONFIG).digest != table_from_frame(source, CONFIG).digest

    @pytest.mark.parametrize(
        "options",
        [
            {"categorical": ["x1"]},
            {"drop": ["x1"]},
            {"group": "x1"},
            {"time": "x1"},
            {"target": "x1"},
        ],
        ids=str,
    )
    def test_changes_with_what_is_made_of_a_column(self, options: dict[str, Any]) -> None:
        source = frame().assign(x1=np.arange(N) % 7)
        plain = table_from_frame(source, CONFIG)
        assert table_from_frame(source, configured(**options)).digest != plain.digest

    def test_knows_a_missing_value_from_a_number(self) -> None:
        zero, missing = frame(), frame()
        zero.loc[3, "x0"], missing.loc[3, "x0"] = 0, np.nan
        digests = {table_from_frame(f, CONFIG).digest for f in (frame(), zero, missing)}
        assert len(digests) == 3

    def test_knows_which_level_a_row_has(self) -> None:
        source = frame().assign(x0=list("ab") * 48 + ["a"])
        swapped = source.assign(x0=source["x0"].map({"a": "b", "b": "a"}))
        renamed = source.assign(x0=source["x0"].map({"a": "a", "b": "c"}))
        digests = {table_from_frame(f, CONFIG).digest for f in (source, swapped, renamed)}
        assert len(digests) == 3

    def test_is_that_of_the_values_not_of_their_type(self) -> None:
        whole = frame().assign(x0=np.arange(N), x1=np.arange(N) / 2)
        digest = table_from_frame(whole, CONFIG).digest
        for dtype in ("int8", "uint16", "float32", "Int64", "float64"):
            assert table_from_frame(whole.astype({"x0": dtype}), CONFIG).digest == digest


class TestRoles:
    def test_are_as_the_study_file_says(self) -> None:
        source = frame().assign(a=np.arange(N) % 3, b="2020-01-01", c=list("uv") * 48 + ["u"])
        source = source[["a", "b", "c", *frame()]]
        found = table_from_frame(
            source, configured(drop=["x1"], categorical=["a"], dates=["b"], target="c")
        )
        assert found.feature_names == ("a", "b", "x0", "x2", "target")
        assert [str(kind) for kind in found.kinds] == [
            *("categorical", "date", "numeric", "numeric", "categorical"),
        ]
        assert {column.name: column.use for column in found.columns}["x1"] == (
            "dropped: as data.drop says"
        )

    def test_of_the_last_column_is_the_target_unless_it_is_dropped(self) -> None:
        found = table_from_frame(frame(), configured(drop=["target"]))
        assert found.target_name == "x2"

    @pytest.mark.parametrize("key", ["drop", "categorical", "numeric", "dates", "group", "time"])
    def test_of_an_unknown_name_is_an_error(self, key: str) -> None:
        value: Any = "y" if key in ("group", "time") else ["x0", "y"]
        line = refusal(configured(**{key: value}), frame())
        assert line.startswith(f"{key} must be ")
        assert "of the columns 'x0', 'x1', 'x2', 'target', however: 'y' (csv:/t.csv)" in line

    def test_of_one_column_are_not_two(self) -> None:
        for options in ({"drop": ["target"]}, {"numeric": ["x0"], "categorical": ["x0"]}):
            line = refusal(configured(target="target", **options), frame())
            assert "a column must be named in one place, however: " in line

    def test_leave_a_feature(self) -> None:
        line = refusal(configured(drop=["x0", "x1", "x2"]), frame())
        assert line == "a table must have a feature, however: none is left (csv:/t.csv)"

    @pytest.mark.parametrize("n_rows", [0, 1, 2, 4])
    def test_need_five_rows(self, n_rows: int) -> None:
        line = refusal(CONFIG, frame().iloc[:n_rows])
        assert line == f"a table must have at least 5 rows, however: {n_rows} (csv:/t.csv)"

    def test_may_be_of_more_columns_than_rows(self) -> None:
        draw = np.random.default_rng(0)
        wide = pd.DataFrame(draw.normal(size=(23, 301))).assign(y=["a", "b"] * 11 + ["a"])
        splits = split(table_from_frame(wide, CONFIG), CONFIG, 0)
        assert splits.x_train.shape == (13, 301)

    def test_need_names_that_are_distinct(self) -> None:
        source = frame()
        source.columns = ["x0", "x0", "x2", "target"]
        with pytest.raises(ConfigError, match="names must be distinct, however: 'x0' twice"):
            table_from_frame(source, CONFIG)


class TestWhatBecameOfAColumn:
    def test_is_told_for_each_of_them(self, caplog: pytest.LogCaptureFixture) -> None:
        source = frame().assign(
            empty=np.nan,
            same=5,
            day=pd.Timestamp("2020-01-01"),
            gaps=[np.nan, 1.0, 2.0] * 32 + [0.0],
            colour=["red", "blue", None] * 32 + ["green"],
        )
        config = configured(target="target", drop=["x2"])
        found = table_from_frame(source, config)
        told = columns_frame(found, split(found, config, 0)).set_index("column")
        assert list(told.index) == list(source.columns)
        assert told["kind"].to_dict() == {
            **dict.fromkeys(["x0", "x1", "x2", "same", "gaps"], "numeric"),
            **dict.fromkeys(["target", "colour"], "categorical"),
            "empty": "empty",
            "day": "date",
        }
        assert told["missing"].to_dict() == source.isna().sum().to_dict()
        assert told["distinct"].to_dict() == source.nunique().to_dict()
        use = told["use"]
        assert use["target"] == "target"
        assert use["empty"] == "dropped: all values are missing"
        assert use["same"] == "dropped: constant in training"
        assert use["day"] == "dropped: a date (data.dates makes it a number)"
        assert use["x2"] == "dropped: as data.drop says"
        assert use["x0"].startswith("standardized (mean ")
        assert use["gaps"].endswith(", and whether it is missing")
        assert use["colour"].startswith("one-hot: 2 levels")
        for line in (
            "column 'empty' is dropped: all values are missing",
            "column 'day' is dropped: a date",
            "1 dropped, constant in training: 'same'",
        ):
            assert line in caplog.text
