"""A target is classes with their names or a quantity, as inferred or as declared."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipeline.config import ConfigError
from pipeline.data import MOST_CLASSES, Task, r_squared, table_from_frame
from tests.data.frames import CONFIG, N, configured, frame, refusal


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
            (pd.Categorical(["lo", "hi"], ["lo", "mid", "hi"]), Task.BINARY, ("hi", "lo")),
            (pd.array([3, 1], dtype="Int64"), Task.BINARY, ("1", "3")),
            (["1", "10", "9"], Task.MULTICLASS, ("1", "10", "9")),
        ],
        ids=str,
    )
    def test_left_on_auto_is_inferred(
        self, values: list[Any], task: Task, classes: tuple[str, ...]
    ) -> None:
        target = (list(values) * N)[:N]
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

    def test_of_pandas_categories_is_their_names(self) -> None:
        names = pd.Categorical(["lo", "hi"] * 48 + ["lo"], ["lo", "mid", "hi"], ordered=True)
        found = table_from_frame(frame().assign(target=names), CONFIG)
        assert (found.task, found.classes) == (Task.BINARY, ("hi", "lo"))
        assert found.target[:2].tolist() == [1.0, 0.0]

    def test_without_a_value_is_dropped_on_request_alone(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        source = frame()
        source.loc[[3, 5], "target"] = None
        assert "(data.drop_missing_target drops their rows), however: 2" in refusal(CONFIG, source)
        found = table_from_frame(source, configured(drop_missing_target=True))
        assert found.n_rows == N - 2
        assert found.frame["x0"].tolist() == frame()["x0"].drop([3, 5]).tolist()
        assert "2 rows without a target are dropped" in caplog.text

    def test_must_be_there_in_five_rows(self) -> None:
        source = frame(Task.REGRESSION)
        source.loc[4:, "target"] = np.nan
        line = refusal(configured(drop_missing_target=True), source)
        assert "at least 5 rows, however: 4" in line

    def test_of_ten_thousand_classes_is_a_mistake(self) -> None:
        n_rows = 30_000
        source = pd.DataFrame({"x": np.arange(n_rows), "target": np.arange(n_rows) % 10_000})
        line = refusal(configured(task="multiclass"), source)
        assert "at most 1000 classes, however: 10000, such as '0'" in line
        source["target"] = source["target"].astype(str) + "th"
        assert "at most 1000 classes, however: 10000" in refusal(CONFIG, source)

    def test_with_separators_in_its_numbers_is_refused(self) -> None:
        source = frame().assign(target=[f"{n},{n:03d}" for n in range(1, N + 1)])
        assert "without thousands separators, however: '1,001'" in refusal(CONFIG, source)

    def test_of_dates_or_lists_is_refused(self) -> None:
        for target in (pd.date_range("2020-01-01", periods=N), [[1], [2, 3]] * 48 + [[1]]):
            line = refusal(CONFIG, frame().assign(target=target))
            assert "must be numbers or names, however: " in line
            assert "column 'target'" in line

    def test_that_is_no_column_is_refused(self) -> None:
        with pytest.raises(ConfigError) as caught:
            table_from_frame(frame(), configured(target="y"))
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
            ([np.nan, 1.0], "auto", "a target must not have missing values .*however: 49"),
            ([None, "a"], "auto", "a target must not have missing values .*however: 49"),
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

    def test_of_one_row_a_class_is_refused(self) -> None:
        source = frame()
        source.loc[0, "target"] = "maybe"
        assert "enough distinct rows for three splits, however: 'maybe' has 1" in refusal(
            CONFIG, source
        )


def test_r_squared_of_a_constant_target_is_scikit_learns() -> None:
    from sklearn.metrics import r2_score

    for predicted in ([3.0, 3.0], [3.0, 4.0]):
        error = float(np.mean((np.array(predicted) - 3.0) ** 2))
        assert r_squared(error, 0.0) == r2_score([3.0, 3.0], predicted)
    assert r_squared(0.5, 2.0) == 0.75
