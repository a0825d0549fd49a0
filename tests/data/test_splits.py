"""Splits keep classes, copies, groups, time and the test rows apart."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config import ConfigError, DataConfig
from pipeline.data import (
    Splits,
    Table,
    Task,
    draw,
    drawable_replicates,
    split,
    split_rows,
    table_from_frame,
)
from tests.data.frames import (
    CONFIG,
    N,
    configured,
    frame,
    on_every_task,
    rows_of,
    table,
)


def with_values(source: Table, features: Any, target: Any) -> Table:
    """The same table with other numbers in it."""
    changed = pd.DataFrame(features, columns=list(source.feature_names))
    return dataclasses.replace(source, frame=changed, target=target)


def described(splits: Splits) -> str:
    return splits.preprocessing.to_json()


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
        features, target = source.frame.to_numpy().copy(), source.target.copy()
        draw = np.random.default_rng(1)
        features[splits.test_rows] = draw.normal(1e3, 1e3, (len(splits.test_rows), 3))
        if task is Task.REGRESSION:
            target[splits.test_rows] += 1e3
        changed = split(with_values(source, features, target), CONFIG, 0)
        for field in dataclasses.fields(Splits):
            before, after = getattr(splits, field.name), getattr(changed, field.name)
            if field.name == "preprocessing":
                before, after = described(splits), described(changed)
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
            for number, encoder in enumerate(splits.preprocessing.encoders):
                restored = x[:, number] * encoder.scale + encoder.mean
                expected = source.frame[encoder.name].to_numpy()[rows]
                np.testing.assert_allclose(restored, expected, rtol=1e-5, atol=1e-5)
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
        features, target = source.frame.to_numpy().copy(), source.target.copy()
        features[splits.val_rows] *= 77.0
        if task is Task.REGRESSION:
            target[splits.val_rows] += 1e3
        changed = split(with_values(source, features, target), CONFIG, 0)
        assert np.array_equal(splits.x_train, changed.x_train)
        assert np.array_equal(splits.y_train, changed.y_train)
        assert described(splits) == described(changed)
        assert not np.array_equal(splits.x_val, changed.x_val)


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

    def test_are_equal_where_both_miss_a_value_but_not_where_one_does(self) -> None:
        source = frame()
        source.loc[[0, 1, 2], ["x0", "x1", "x2"]] = [[1, 2, np.nan], [1, 2, np.nan], [1, 2, 0]]
        groups = table_from_frame(source, CONFIG).duplicates
        assert groups[0] == groups[1] != groups[2]

    def test_are_equal_levels(self) -> None:
        source = frame()
        source["x0"] = source["x1"] = 1
        source["x2"] = ["a", "b", "a", None, None] * 19 + ["a", "a"]
        groups = table_from_frame(source, CONFIG).duplicates
        assert groups[:5].tolist() == [0, 1, 0, 2, 2]

    def test_are_equal_numbers_zero_of_either_sign(self) -> None:
        source = frame(Task.REGRESSION).assign(x0=0.0, x1=0.0)
        source["x2"] = np.arange(N) // 2
        source.loc[::2, "x0"] = -0.0
        splits = split(table_from_frame(source, CONFIG), CONFIG, 0)
        for rows in rows_of(splits).values():
            assert all(row ^ 1 in rows for row in rows if row != N - 1)

    @pytest.mark.parametrize("task", [Task.BINARY, Task.REGRESSION])
    @pytest.mark.parametrize("largest", [3, 40])
    def test_leave_the_sizes_and_the_classes_as_asked_for(self, task: Task, largest: int) -> None:
        """However uneven: 40 copies of one row are as many as a split of 20 % of 194 has rows."""
        source = frame(task)
        weights = np.ones(N, dtype=int)
        weights[:9] = [largest, 11, 7, 5, 5, 3, 3, 2, 2]
        planted = source.loc[source.index.repeat(weights)].reset_index(drop=True)
        known = table_from_frame(planted, CONFIG)
        for seed in range(7):
            parts = rows_of(split(known, CONFIG, seed))
            for name, share in (("test", 0.2), ("val", 0.2), ("train", 0.6)):
                assert len(parts[name]) == pytest.approx(share * len(planted), abs=3), seed
            if task is Task.BINARY:
                overall = known.target.mean()
                for rows in parts.values():
                    assert known.target[sorted(rows)].mean() == pytest.approx(overall, abs=0.05)

    def test_may_be_drawn_into_any_split(self) -> None:
        """The large clusters are not always trained on: that would make the test rows special."""
        planted = frame(Task.REGRESSION).loc[np.arange(N).repeat(2)].reset_index(drop=True)
        known = table_from_frame(planted, CONFIG)
        tested = np.concatenate([split(known, CONFIG, seed).test_rows for seed in range(40)])
        assert len(np.unique(tested)) > 0.95 * len(planted)


class TestGroups:
    CONFIG = configured(group="who")

    @settings(max_examples=40)
    @given(n_groups=st.integers(7, 60), seed=st.integers(0, 99), task=st.sampled_from(list(Task)))
    def test_never_straddle_two_splits(self, n_groups: int, seed: int, task: Task) -> None:
        who = np.random.default_rng(seed).integers(0, n_groups, N)
        source = table_from_frame(frame(task).assign(who=who)[["who", *frame(task)]], self.CONFIG)
        try:
            parts = rows_of(split(source, self.CONFIG, seed))
        except ConfigError as error:  # few groups, and none of them with a rare class
            if "every class must have enough" not in str(error):
                raise
            return
        owners = [set(who[sorted(rows)]) for rows in parts.values()]
        assert sum(map(len, owners)) == len(set(who))
        assert len(parts["test"]) == pytest.approx(0.2 * N, abs=0.7 * np.bincount(who).max() + 3)

    def test_are_no_feature(self) -> None:
        source = table_from_frame(frame().assign(who=list("abcdefg") * 13 + list("abcdef")), CONFIG)
        assert "target" in source.feature_names  # who is last, hence the target
        ordered = frame()
        ordered.insert(0, "who", list("abcdefg") * 13 + list("abcdef"))
        assert table_from_frame(ordered, self.CONFIG).feature_names == ("x0", "x1", "x2")

    def test_and_copies_are_kept_together_both(self) -> None:
        """A copy ties its two groups to one: all of them are on one side."""
        source = frame(Task.REGRESSION)
        source.insert(0, "who", np.arange(N) // 2)
        source.loc[[2, 4, 6], ["x0", "x1", "x2"]] = source.loc[0, ["x0", "x1", "x2"]].to_numpy()
        known = table_from_frame(source, self.CONFIG)
        for seed in range(5):
            homes = [
                rows >= set(range(8)) for rows in rows_of(split(known, self.CONFIG, seed)).values()
            ]
            assert sum(homes) == 1

    def test_must_not_be_missing(self) -> None:
        source = frame()
        source.insert(0, "who", [None, *range(1, N)])
        with pytest.raises(ConfigError, match="a group must not have missing values, however: 1"):
            table_from_frame(source, self.CONFIG)

    def test_replicates_in_which_a_class_would_be_missing_are_passed_over(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        group = np.repeat(np.arange(14), 10)
        rare = (group < 4) & (np.arange(140) % 10 == 0)  # four groups have one row each
        columns = {"x": np.arange(140.0), "g": group, "y": np.where(rare, "R", "F")}
        config = DataConfig(source="frame:data", target="y", group="g")
        grouped = table_from_frame(pd.DataFrame(columns), config)
        split(grouped, config, 7)
        found = drawable_replicates(grouped, config, 7, 5)
        assert found == [4, 5, 6, 7, 9]
        for number in (1, 2, 3, 8):
            with pytest.raises(ConfigError, match="every class must have enough distinct rows"):
                split(grouped, config, 7, number)
        monkeypatch.setattr(draw, "MOST_DRAWS", 1)
        with pytest.raises(ConfigError, match=r"5 replicates must .*: 2 of 5 drawn have .*confirm"):
            drawable_replicates(grouped, config, 7, 5)

    @on_every_task
    def test_of_rows_that_stand_alone_every_replicate_can_be_drawn(self, task: Task) -> None:
        assert drawable_replicates(table(task), CONFIG, 0, 3) == [1, 2, 3]
        assert drawable_replicates(table(task), CONFIG, 0, 0) == []

    def test_of_which_there_are_two_only_are_refused(self) -> None:
        source = frame(Task.REGRESSION)
        source.insert(0, "who", np.arange(N) % 2)
        known = table_from_frame(source, self.CONFIG)
        with pytest.raises(ConfigError, match="none is left for training"):
            split(known, self.CONFIG, 0)


class TestTime:
    CONFIG = configured(time="when")
    STAMPS = pd.date_range("2020-01-01", periods=N, freq="h")

    @pytest.mark.parametrize(
        "when",
        [np.arange(N), STAMPS, STAMPS.strftime("%Y-%m-%d %H:%M"), STAMPS.tz_localize("UTC")],
        ids=["numbers", "stamps", "text", "zone"],
    )
    def test_is_trained_on_in_the_past_and_tested_on_at_the_end(self, when: Any) -> None:
        order = np.random.default_rng(0).permutation(N)
        source = frame()
        source.insert(0, "when", when)
        known = table_from_frame(source.iloc[order], self.CONFIG)
        splits = split(known, self.CONFIG, seed=0, replicate=3)
        train, val, test = (
            order[rows] for rows in (splits.train_rows, splits.val_rows, splits.test_rows)
        )
        assert train.max() < val.min()
        assert val.max() < test.min()
        assert len(test) == pytest.approx(0.2 * N, abs=1)
        assert len(val) == pytest.approx(0.2 * N, abs=1)
        assert known.feature_names == ("x0", "x1", "x2")

    def test_of_one_moment_is_in_one_split(self) -> None:
        source = frame(Task.REGRESSION)
        source.insert(0, "when", np.arange(N) // 10)
        splits = split(table_from_frame(source, self.CONFIG), self.CONFIG, 0)
        moments = [
            set((np.array(sorted(rows)) // 10).tolist()) for rows in rows_of(splits).values()
        ]
        assert sum(map(len, moments)) == 10

    def test_of_a_copy_is_that_of_the_latest(self) -> None:
        """Training never sees a row that is later than a validation row."""
        source = frame(Task.REGRESSION)
        source.insert(0, "when", np.arange(N))
        source.loc[N - 1, ["x0", "x1", "x2"]] = source.loc[0, ["x0", "x1", "x2"]].to_numpy()
        splits = split(table_from_frame(source, self.CONFIG), self.CONFIG, 0)
        assert {0, N - 1} <= set(splits.test_rows.tolist())

    def test_may_bring_a_class_to_an_end_but_not_a_new_one(self) -> None:
        source = frame()
        source.insert(0, "when", np.arange(N))
        source["target"] = np.where(np.arange(N) < 30, "early", "always")
        source.loc[:29:2, "target"] = "always"
        splits = split(table_from_frame(source, self.CONFIG), self.CONFIG, 0)
        assert set(splits.y_train.tolist()) == {0.0, 1.0}
        source["target"] = np.where(np.arange(N) < 70, "always", "late")
        with pytest.raises(ConfigError, match="every class must have enough"):
            split(table_from_frame(source, self.CONFIG), self.CONFIG, 0)

    def test_must_be_known(self) -> None:
        source = frame()
        source.insert(0, "when", [np.nan, *range(1, N)])
        with pytest.raises(ConfigError, match="a time must not have missing values, however: 1"):
            table_from_frame(source, self.CONFIG)
        source["when"] = [f"day {n}" for n in range(N)]
        with pytest.raises(ConfigError, match="a date must be ISO 8601, however"):
            table_from_frame(source, self.CONFIG)


class TestRowsThatAreGiven:
    @on_every_task
    def test_are_preprocessed_as_drawn_ones_are(self, task: Task) -> None:
        source = table(task)
        drawn = split(source, CONFIG, 0, replicate=2)
        given = split_rows(
            source, CONFIG, drawn.train_rows, drawn.val_rows, drawn.test_rows, replicate=2
        )
        assert np.array_equal(given.x_train, drawn.x_train)
        assert np.array_equal(given.y_val, drawn.y_val)
        assert given.replicate == 2

    @on_every_task
    def test_keep_their_order(self, task: Task) -> None:
        source, rows = table(task), np.random.default_rng(0).permutation(N)
        parts = rows[:50], rows[50:70], rows[70:]
        splits = split_rows(source, CONFIG, *parts)
        again = split_rows(source, CONFIG, np.sort(parts[0]), parts[1], parts[2])
        assert np.array_equal(splits.x_train[np.argsort(parts[0])], again.x_train)

    @on_every_task
    def test_of_test_are_preprocessed_on_request(self, task: Task) -> None:
        source = table(task)
        splits = split(source, CONFIG, 0)
        x_test, y_test = splits.test_part(source)
        swapped = split_rows(source, CONFIG, splits.train_rows, splits.test_rows, splits.val_rows)
        assert np.array_equal(x_test, swapped.x_val)
        assert np.array_equal(y_test, swapped.y_val)


def test_too_few_rows_for_three_splits_are_refused() -> None:
    config = configured(test_size=0.1, validation_size=0.88)
    source = table_from_frame(frame(Task.REGRESSION).iloc[:5], config)
    with pytest.raises(ConfigError, match="rows for three splits, however: "):
        split(source, config, 0)
