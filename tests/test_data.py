"""A table is read or refused; its splits keep classes, duplicates and the test rows apart."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config import ConfigError, DataConfig
from pipeline.data import (
    MOST_CLASSES,
    Splits,
    Table,
    Task,
    load_table,
    r_squared,
    split,
    table_from_frame,
)

CONFIG = DataConfig(source="csv:/t.csv")
N = 97


def frame(task: Task = Task.BINARY, n_rows: int = N, seed: int = 0) -> pd.DataFrame:
    draw = np.random.default_rng(seed)
    columns = {f"x{number}": draw.normal(3.0, 5.0, n_rows) for number in range(3)}
    target: Any = draw.normal(11.0, 7.0, n_rows)
    if task is not Task.REGRESSION:
        names = np.array(["no", "yes"] if task is Task.BINARY else ["a", "b", "c"], dtype=object)
        target = names[draw.permutation(np.arange(n_rows) ** 2 % 7 % len(names))]
    return pd.DataFrame(columns).assign(target=target)


def table(task: Task = Task.BINARY, n_rows: int = N, seed: int = 0) -> Table:
    return table_from_frame(frame(task, n_rows, seed), CONFIG)


def rows_of(splits: Splits) -> dict[str, set[int]]:
    return {
        part: set(getattr(splits, f"{part}_rows").tolist()) for part in ("train", "val", "test")
    }


on_every_task = pytest.mark.parametrize("task", list(Task))


class TestSplit:
    @on_every_task
    def test_gives_every_row_to_one_part_in_the_shares_asked_for(self, task: Task) -> None:
        config = CONFIG.model_copy(update={"test_size": 0.3, "validation_size": 0.1})
        parts = rows_of(split(table(task), config, seed=0))
        assert set().union(*parts.values()) == set(range(N))
        assert sum(map(len, parts.values())) == N
        assert len(parts["test"]) == pytest.approx(0.3 * N, abs=2)
        assert len(parts["val"]) == pytest.approx(0.1 * N, abs=2)

    @pytest.mark.parametrize("task", [Task.BINARY, Task.MULTICLASS])
    @pytest.mark.parametrize("replicate", [0, 3])
    def test_is_stratified(self, task: Task, replicate: int) -> None:
        source = table(task)
        share = np.bincount(source.target.astype(int)) / N
        for rows in rows_of(split(source, CONFIG, 0, replicate)).values():
            counts = np.bincount(source.target[sorted(rows)].astype(int), minlength=len(share))
            assert counts == pytest.approx(share * len(rows), abs=1.5)

    @on_every_task
    def test_is_the_same_for_the_same_key_and_another_for_another(self, task: Task) -> None:
        source = table(task)
        first, again = split(source, CONFIG, 5, 2), split(source, CONFIG, 5, 2)
        assert rows_of(first) == rows_of(again)
        assert np.array_equal(first.x_train, again.x_train)
        assert rows_of(split(source, CONFIG, 6, 2))["test"] != rows_of(first)["test"]

    @on_every_task
    def test_keeps_the_test_rows_for_all_replicates_and_draws_the_others_anew(
        self, task: Task
    ) -> None:
        parts = [rows_of(split(table(task), CONFIG, 5, replicate)) for replicate in range(5)]
        assert all(part["test"] == parts[0]["test"] for part in parts)
        assert len({frozenset(part["val"]) for part in parts}) == 5

    @on_every_task
    def test_hands_over_training_and_validation_rows_only(self, task: Task) -> None:
        """The test rows' values may be anything: nothing of them reaches a search."""
        source = table(task)
        splits = split(source, CONFIG, 0)
        features, target = source.features.copy(), source.target.copy()
        draw = np.random.default_rng(1)
        features[splits.test_rows] = draw.normal(1e3, 1e3, (len(splits.test_rows), 3))
        if task is Task.REGRESSION:
            target[splits.test_rows] += 1e3
        changed = split(dataclasses.replace(source, features=features, target=target), CONFIG, 0)
        for field in dataclasses.fields(Splits):
            before, after = getattr(splits, field.name), getattr(changed, field.name)
            assert np.array_equal(before, after), field.name
        assert len(splits.x_train) + len(splits.x_val) == N - len(splits.test_rows)

    @on_every_task
    def test_holds_the_tables_rows(self, task: Task) -> None:
        source = table(task)
        splits = split(source, CONFIG, 0)
        for part in ("train", "val"):
            rows = getattr(splits, f"{part}_rows")
            x, y = getattr(splits, f"x_{part}"), getattr(splits, f"y_{part}")
            assert x.dtype == y.dtype == np.float32
            restored = x * splits.feature_scale + splits.feature_mean
            np.testing.assert_allclose(restored, source.features[rows], rtol=1e-5, atol=1e-5)
            restored = y * splits.target_scale + splits.target_mean
            np.testing.assert_allclose(restored, source.target[rows], rtol=1e-5, atol=1e-5)


class TestStandardization:
    @on_every_task
    def test_is_by_the_training_rows(self, task: Task) -> None:
        splits = split(table(task), CONFIG, 0)
        np.testing.assert_allclose(splits.x_train.mean(axis=0), 0, atol=1e-6)
        np.testing.assert_allclose(splits.x_train.std(axis=0), 1, atol=1e-5)
        if task is Task.REGRESSION:
            assert splits.y_train.mean() == pytest.approx(0, abs=1e-6)
            assert splits.y_train.std() == pytest.approx(1, abs=1e-5)
        else:
            assert (splits.target_mean, splits.target_scale) == (0.0, 1.0)

    @on_every_task
    def test_does_not_know_validation_rows(self, task: Task) -> None:
        source = table(task)
        splits = split(source, CONFIG, 0)
        features, target = source.features.copy(), source.target.copy()
        features[splits.val_rows] *= 77.0
        if task is Task.REGRESSION:
            target[splits.val_rows] += 1e3
        changed = split(dataclasses.replace(source, features=features, target=target), CONFIG, 0)
        assert np.array_equal(splits.x_train, changed.x_train)
        assert np.array_equal(splits.y_train, changed.y_train)
        assert np.array_equal(splits.feature_mean, changed.feature_mean)
        assert np.array_equal(splits.feature_scale, changed.feature_scale)
        assert (splits.target_mean, splits.target_scale) == (
            changed.target_mean,
            changed.target_scale,
        )
        assert not np.array_equal(splits.x_val, changed.x_val)

    def test_leaves_a_constant_feature_at_zero(self) -> None:
        source = table_from_frame(frame().assign(x1=5.0), CONFIG)
        splits = split(source, CONFIG, 0)
        assert (splits.x_train[:, 1] == 0).all()
        assert np.isfinite(splits.x_val).all()


class TestDuplicates:
    @settings(max_examples=60)
    @given(
        data=st.data(),
        task=st.sampled_from(list(Task)),
        replicate=st.integers(0, 3),
        seed=st.integers(0, 99),
    )
    def test_never_straddle_two_splits(
        self, data: st.DataObject, task: Task, replicate: int, seed: int
    ) -> None:
        n_distinct = 59
        source = frame(task, n_distinct, seed % 7)
        copies = data.draw(
            st.lists(st.integers(0, n_distinct - 1), min_size=1, max_size=40), label="copies"
        )
        planted = pd.concat([source, source.iloc[copies]], ignore_index=True)
        planted = planted.sample(frac=1, random_state=seed).reset_index(drop=True)
        splits = split(table_from_frame(planted, CONFIG), CONFIG, seed, replicate)
        features = planted.drop(columns="target").to_numpy()
        parts = [{tuple(features[row]) for row in rows} for rows in rows_of(splits).values()]
        assert sum(map(len, parts)) == len(set().union(*parts)) == n_distinct
        assert sum(map(len, rows_of(splits).values())) == len(planted)

    def test_stay_together_whatever_their_target(self) -> None:
        source = frame(Task.REGRESSION)
        contradicting = source.assign(target=source["target"] + 1)
        planted = pd.concat([source, contradicting], ignore_index=True)
        splits = split(table_from_frame(planted, CONFIG), CONFIG, 0)
        for rows in rows_of(splits).values():
            assert all((row + N) % (2 * N) in rows for row in rows)

    def test_are_equal_numbers_zero_of_either_sign(self) -> None:
        source = frame(Task.REGRESSION).assign(x0=0.0, x1=0.0)
        source["x2"] = np.arange(N) // 2
        source.loc[::2, "x0"] = -0.0
        splits = split(table_from_frame(source, CONFIG), CONFIG, 0)
        for rows in rows_of(splits).values():
            assert all(row ^ 1 in rows for row in rows if row != N - 1)


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


class TestTarget:
    @pytest.mark.parametrize(
        ("values", "task", "classes"),
        [
            (["no", "yes"], Task.BINARY, ("no", "yes")),
            ([True, False], Task.BINARY, ("False", "True")),
            ([0, 1], Task.BINARY, ("0", "1")),
            ([-1.0, 1.0], Task.BINARY, ("-1", "1")),
            ([10, 2, 33], Task.MULTICLASS, ("2", "10", "33")),
            (["c", "a", "b"], Task.MULTICLASS, ("a", "b", "c")),
            (list(range(MOST_CLASSES)), Task.MULTICLASS, tuple(map(str, range(MOST_CLASSES)))),
            (list(range(MOST_CLASSES + 1)), Task.REGRESSION, ()),
            ([0.5, 1.0], Task.REGRESSION, ()),
        ],
        ids=str,
    )
    def test_left_on_auto_is_inferred(
        self, values: list[Any], task: Task, classes: tuple[str, ...]
    ) -> None:
        target = (values * N)[:N]
        found = table_from_frame(frame().assign(target=target), CONFIG)
        assert found.task is task
        assert found.classes == classes
        assert found.n_outputs == (len(classes) if task is Task.MULTICLASS else 1)
        if classes:
            named = [classes[int(number)] for number in found.target]
            assert named == [str(int(v)) if isinstance(v, float) else str(v) for v in target]
        else:
            assert found.target.tolist() == target

    def test_declared_a_quantity_is_one(self) -> None:
        config = CONFIG.model_copy(update={"task": "regression"})
        found = table_from_frame(frame().assign(target=[0, 1, 2] * 32 + [0]), config)
        assert found.task is Task.REGRESSION

    def test_of_many_integers_declared_classes_is_classes(self) -> None:
        config = CONFIG.model_copy(update={"task": "multiclass"})
        found = table_from_frame(frame().assign(target=np.arange(N) % 31), config)
        assert (found.task, found.n_outputs) == (Task.MULTICLASS, 31)

    def test_is_the_last_column_unless_named(self) -> None:
        assert table_from_frame(frame(), CONFIG).target_name == "target"
        config = CONFIG.model_copy(update={"target": "x1"})
        found = table_from_frame(frame(Task.REGRESSION), config)
        assert found.target_name == "x1"
        assert found.feature_names == ("x0", "x2", "target")


def lines(*rows: str, header: str = "x0,x1,target") -> str:
    """A good table of 23 rows, and what is wrong after it."""
    good = [f"{n},{n * n % 11},{'ab'[n % 2]}" for n in range(23)]
    return "\n".join([header, *good, *rows])


# What stands in the file, what the error says of it.
BAD_CSV = [
    ("", "the file is empty"),
    ("\n\n\n", "a table must be CSV, however: No columns"),
    ("x0,x1,target\n", "at least 5 rows, however: 0"),
    ("x0,target\n1,a\n2,b\n3,a\n4,b", "at least 5 rows, however: 4"),
    ("x0\n1\n2\n3\n4\n5\n6", "a feature and a target column, however: 1 column"),
    (b"\x89PNG\r\n\x1a\n\x00\xff\xfe" * 9, "a table must be CSV, however: "),
    (bytes(range(256)) * 3, "a table must be CSV, however: "),
    (lines("1,2,a,4"), "a table must be CSV, however: "),
    (lines(",1,a"), r"must not have missing values, however: 1 .*column 'x0', first in row 24"),
    (lines("1,NaN,a"), r"must not have missing values, however: 1 .*column 'x1'"),
    (lines("1,2"), "a target must not have missing values, however: 1"),
    (lines("1,2,"), "a target must not have missing values, however: 1"),
    (lines("inf,2,a"), r"must not have infinite values, however: 1 .*column 'x0'"),
    (lines("1,-inf,a"), r"must not have infinite values, however: 1 .*column 'x1'"),
    (lines("1,many,a"), r"a feature must be numeric, however: .*column 'x1'"),
    (lines("1,2020-02-30,a"), r"a feature must be numeric, however: .*column 'x1'"),
    (lines("1,2,c"), "every class must have enough distinct rows .* however: 'c' has 1"),
    (lines("50,2,c", "51,2,c"), "every class must have enough distinct rows .* however: 'c'"),
    (lines(*["50,2,c"] * 17), "every class must have enough distinct rows .* however: 'c' has 1"),
    (lines().replace(",b", ",a"), "at least two classes, however: only 'a'"),
    (lines().replace(",a", ",1.5").replace(",b", ",1.5"), "must vary, however: it is always 1.5"),
    (
        "x,t\n" + "\n".join(f"{n},{n / 7}" for n in range(23)) + "\n1,inf",
        "a target must be finite, however: infinity",
    ),
    (lines(header="x,x,target"), "column names must be distinct, however: 'x'"),
    (lines(header="x,target"), "a table must be CSV, however: "),  # a field more than names
]


def refusal(config: DataConfig) -> str:
    """The one line that says what is wrong with a source, read and split."""
    with pytest.raises(ConfigError) as caught:
        split(load_table(config), config, 0)
    line = str(caught.value)
    assert "\n" not in line
    assert "however: " in line
    return line


class TestRefusals:
    @pytest.mark.parametrize(("content", "expected"), BAD_CSV)
    def test_of_bad_csv_name_rule_value_and_place(
        self, content: str | bytes, expected: str, tmp_path: Path
    ) -> None:
        path = tmp_path / "t.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        with pytest.raises(ConfigError, match=expected):
            split(load_table(DataConfig(source=f"csv:{path}")), CONFIG, 0)
        assert f"(csv:{path}" in refusal(DataConfig(source=f"csv:{path}"))

    def test_show_the_value_that_is_no_number(self, tmp_path: Path) -> None:
        path = tmp_path / "t.csv"
        path.write_text(lines("1,many,a"))
        assert "however: 'many' (" in refusal(DataConfig(source=f"csv:{path}"))

    @pytest.mark.parametrize(
        "content", [b"", b"PAR1", b"x0,x1,target\n1,2,a\n" * 9, bytes(range(256)) * 3]
    )
    def test_of_what_is_no_parquet(self, content: bytes, tmp_path: Path) -> None:
        path = tmp_path / "t.parquet"
        path.write_bytes(content)
        line = refusal(DataConfig(source=f"parquet:{path}"))
        assert line.startswith("a table must ")
        assert f"(parquet:{path})" in line

    def test_of_parquet_read_as_csv(self, tmp_path: Path) -> None:
        path = tmp_path / "t.csv"
        frame().to_parquet(path)
        assert refusal(DataConfig(source=f"csv:{path}")).startswith("a table must be CSV")

    @pytest.mark.parametrize(
        "column",
        [
            pd.date_range("2020-01-01", periods=N),
            ["a", "b"] * 48 + ["a"],
            [1 + 2j] * N,
            [[1.0]] * N,
            [None] * N,
            pd.array([1, None] * 48 + [1], dtype="Int64"),
        ],
        ids=["dates", "text", "complex", "lists", "nothing", "missing integers"],
    )
    def test_of_a_feature_that_is_not_numbers(self, column: Any) -> None:
        with pytest.raises(ConfigError, match=r"numeric.*, however: .*column 'x1'"):
            table_from_frame(frame().assign(x1=column), CONFIG)

    def test_of_a_target_of_lists(self) -> None:
        with pytest.raises(ConfigError, match=r"however: .*column 'target'"):
            table_from_frame(frame().assign(target=[[1], [2, 3]] * 48 + [[1]]), CONFIG)

    def test_of_a_name_used_twice(self) -> None:
        source = frame()
        source.columns = ["x0", "x0", "x2", "target"]
        with pytest.raises(ConfigError, match="names must be distinct, however: 'x0' twice"):
            table_from_frame(source, CONFIG)

    @pytest.mark.parametrize("scheme", ["csv", "parquet"])
    def test_of_a_file_that_is_absent_or_a_folder(self, scheme: str, tmp_path: Path) -> None:
        absent = f"{scheme}:{tmp_path / 'absent'}"
        assert refusal(DataConfig(source=absent)) == (
            f"a table must be a file, however: it does not exist ({absent})"
        )
        folder = f"{scheme}:{tmp_path}"
        assert refusal(DataConfig(source=folder)) == (
            f"a table must be a file, however: it is a folder ({folder})"
        )

    @pytest.mark.parametrize("source", ["sklearn:iriss", "synthetic:moons", "sklearn:__doc__"])
    def test_of_an_unknown_data_set_list_the_known_ones(self, source: str) -> None:
        line = refusal(DataConfig(source=source))
        assert f"{source.partition(':')[2]!r} ({source})" in line
        assert "must be one of " in line

    def test_of_a_target_that_is_no_column(self) -> None:
        config = CONFIG.model_copy(update={"target": "y"})
        with pytest.raises(ConfigError) as caught:
            table_from_frame(frame(), config)
        assert str(caught.value) == (
            "target must be one of the columns 'x0', 'x1', 'x2', 'target', however: 'y' "
            "(csv:/t.csv)"
        )

    @pytest.mark.parametrize(
        ("values", "task", "expected"),
        [
            (["a", "b", "c"], "binary", "a binary target must have 2 classes, however: 3"),
            (["a", "b"], "regression", "must be numeric, however: 'a'"),
            ([0.0, 0.5], "multiclass", "a class must not be a fraction, however: 0.5"),
            ([1, 1], "auto", "at least two classes, however: only '?1'?"),
            ([np.nan, 1.0], "auto", "a target must not have missing values, however: 49"),
            ([None, "a"], "auto", "a target must not have missing values, however: 49"),
        ],
    )
    def test_of_a_target_that_does_not_fit_its_task(
        self, values: list[Any], task: str, expected: str
    ) -> None:
        config = CONFIG.model_copy(update={"task": task})
        with pytest.raises(ConfigError, match=expected) as caught:
            table_from_frame(frame().assign(target=(values * N)[:N]), config)
        assert "\n" not in str(caught.value)
        assert "(csv:/t.csv, column 'target')" in str(caught.value)

    def test_of_too_few_rows_for_three_splits(self) -> None:
        config = CONFIG.model_copy(update={"test_size": 0.1, "validation_size": 0.88})
        source = table_from_frame(frame(Task.REGRESSION).iloc[:5], config)
        with pytest.raises(ConfigError, match="rows for three splits, however: "):
            split(source, config, 0)


class TestFiles:
    @on_every_task
    @pytest.mark.parametrize("scheme", ["csv", "parquet"])
    def test_hold_the_same_table_as_the_frame(
        self, task: Task, scheme: str, tmp_path: Path
    ) -> None:
        path, source = tmp_path / f"t.{scheme}", frame(task)
        if scheme == "csv":
            source.to_csv(path, index=False)
        else:
            source.to_parquet(path)
        found, expected = load_table(DataConfig(source=f"{scheme}:{path}")), table(task)
        assert np.array_equal(found.features, expected.features)
        assert np.array_equal(found.target, expected.target)
        assert found.digest == expected.digest
        assert (found.task, found.classes, found.feature_names) == (
            task,
            expected.classes,
            ("x0", "x1", "x2"),
        )

    def test_may_hold_integers_and_booleans(self, tmp_path: Path) -> None:
        path = tmp_path / "t.csv"
        frame().assign(x0=np.arange(N), x1=np.arange(N) % 2 == 0).to_csv(path, index=False)
        found = load_table(DataConfig(source=f"csv:{path}"))
        assert found.features[:3, :2].tolist() == [[0.0, 1.0], [1.0, 0.0], [2.0, 1.0]]


class TestNamedSets:
    @pytest.mark.parametrize(
        ("source", "task", "shape", "n_outputs"),
        [
            ("sklearn:breast_cancer", Task.BINARY, (569, 30), 1),
            ("sklearn:digits", Task.MULTICLASS, (1797, 64), 10),
            ("sklearn:iris", Task.MULTICLASS, (150, 4), 3),
            ("sklearn:wine", Task.MULTICLASS, (178, 13), 3),
            ("sklearn:diabetes", Task.REGRESSION, (442, 10), 1),
            ("synthetic:noisy_100", Task.BINARY, (600, 100), 1),
            ("synthetic:textbook_100", Task.BINARY, (1000, 100), 1),
            ("synthetic:blobs_10", Task.MULTICLASS, (2000, 30), 10),
            ("synthetic:friedman_100", Task.REGRESSION, (600, 100), 1),
        ],
    )
    def test_are_what_they_are_called_and_always_the_same(
        self, source: str, task: Task, shape: tuple[int, int], n_outputs: int
    ) -> None:
        config = DataConfig(source=source)
        found = load_table(config)
        assert (found.task, found.features.shape, found.n_outputs) == (task, shape, n_outputs)
        assert (found.n_rows, found.n_features) == shape
        assert found.digest == load_table(config).digest
        splits = split(found, config, 0)
        assert (splits.n_features, splits.n_outputs) == (shape[1], n_outputs)


class TestWhatWasOnceGuessed:
    def test_a_csv_without_a_header_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "t.csv").write_text("1.5,2\n" * 30, encoding="utf-8")
        with pytest.raises(ConfigError, match=r"its first line is numbers \('1.5', ...\)"):
            load_table(DataConfig(source=f"csv:{tmp_path}/t.csv"))

    def test_a_named_parquet_index_is_a_column(self, tmp_path: Path) -> None:
        frame = pd.DataFrame({"a": np.arange(31.0), "y": np.arange(31) % 2})
        frame.index = pd.Index(np.arange(31.0) ** 2, name="when")
        frame.to_parquet(tmp_path / "t.parquet")
        table = load_table(DataConfig(source=f"parquet:{tmp_path}/t.parquet"))
        assert table.feature_names == ("when", "a")

    @pytest.mark.parametrize("column", ["a", "y"])
    def test_values_too_large_to_average_are_refused(self, tmp_path: Path, column: str) -> None:
        draw = np.random.default_rng(0)
        frame = pd.DataFrame(draw.normal(size=(31, 3)), columns=["a", "b", "y"])
        frame[column] *= 1e300
        frame.to_csv(tmp_path / "t.csv", index=False)
        config = DataConfig(source=f"csv:{tmp_path}/t.csv")
        with pytest.raises(ConfigError, match=rf"must be finite.*however: .*column '{column}'"):
            split(load_table(config), config, 0)

    def test_a_target_that_is_constant_where_it_is_trained_on_is_refused(
        self, tmp_path: Path
    ) -> None:
        frame = pd.DataFrame({"a": np.arange(31.0), "y": 1.5})
        frame.loc[0, "y"] = 2.5
        frame.to_csv(tmp_path / "t.csv", index=False)
        config = DataConfig(source=f"csv:{tmp_path}/t.csv", task="regression")
        refused = 0
        for seed in range(20):
            try:
                split(load_table(config), config, seed)
            except ConfigError as error:
                refused += "deviation not 0" in str(error)
        assert 0 < refused < 20  # wherever the odd row is not among the training rows


def test_r_squared_of_a_constant_target_is_scikit_learns() -> None:
    from sklearn.metrics import r2_score

    for predicted in ([3.0, 3.0], [3.0, 4.0]):
        error = float(np.mean((np.array(predicted) - 3.0) ** 2))
        assert r_squared(error, 0.0) == r2_score([3.0, 3.0], predicted)
    assert r_squared(0.5, 2.0) == 0.75
