"""The benchmark of accuracy chooses nothing by its test rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from benchmarks import accuracy
from pipeline.config import DataConfig
from pipeline.data import Table, table_from_frame


@pytest.fixture
def table() -> Table:
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
    target = (numbers + draw.normal(size=101) > 0.5).astype(np.int64)
    return table_from_frame(columns.assign(target=target), DataConfig(source="frame:data"))


def test_with_other_labels_the_test_rows_are_predicted_the_same(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accuracy, "REPLICATES", 2)
    rows, test = accuracy.put_aside(np.arange(101), table.target, 0.2, accuracy.TEST_STATE)
    flipped = table.target.copy()
    flipped[test] = 1 - flipped[test]
    small = {"training.max_epochs": 3, "search.population": 3}
    first, second = (
        accuracy.score(replace(table, target=target), rows, test, 0, 4, small)
        for target in (table.target, flipped)
    )
    assert first != 50
    assert first + second == pytest.approx(100)
