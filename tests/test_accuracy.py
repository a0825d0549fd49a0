"""The benchmark of accuracy chooses nothing by its test rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from benchmarks import accuracy
from benchmarks.accuracy_tables import Labelled, put_aside, split_rows


@pytest.fixture
def table() -> Labelled:
    """A column of numbers, one with holes, and one of names; two classes."""
    draw = np.random.default_rng(7)
    numbers = draw.normal(size=101)
    columns = pd.DataFrame(
        {
            "number": numbers,
            "holes": np.where(draw.random(101) < 0.2, np.nan, draw.normal(size=101)),
            "name": np.where(draw.random(101) < 0.1, None, draw.choice(["a", "b"], 101)),
        }
    )
    return Labelled(columns, (numbers + draw.normal(size=101) > 0.5).astype(np.int64))


def test_with_other_labels_the_test_rows_are_predicted_the_same(
    table: Labelled, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accuracy, "REPLICATES", 2)
    rows, test = put_aside(np.arange(101), table.target, 0.2, accuracy.TEST_STATE)
    flipped = table.target.copy()
    flipped[test] = 1 - flipped[test]
    small = {"training.max_epochs": 3, "search.population": 3}
    first, second = (
        accuracy.score(replace(table, target=target), rows, test, 0, 4, small)
        for target in (table.target, flipped)
    )
    assert first != 50
    assert first + second == pytest.approx(100)


def test_rows_are_prepared_by_the_training_rows_alone(table: Labelled) -> None:
    train, val, test = np.split(np.arange(101), [60, 80])
    before = split_rows(table, train, val, test, 0)
    changed = table.columns.copy()
    changed.loc[test, "number"] += 1e6
    changed.loc[test, "name"] = "never seen"
    after = split_rows(replace(table, columns=changed), train, val, test, 0)
    assert np.array_equal(before.splits.x_train, after.splits.x_train)
    assert np.array_equal(before.splits.x_val, after.splits.x_val)
    np.testing.assert_allclose(before.splits.x_train.mean(axis=0), 0, atol=1e-6)
    assert np.isfinite(after.x_test).all()
