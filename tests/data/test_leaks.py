"""A column that tells the target by itself is suspected; a good one is not."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.config import DataConfig
from pipeline.data import Task, load_table, suspected_leaks, table_from_frame
from tests.data.frames import CONFIG, N, frame, on_every_task

ROWS = np.arange(N)


@on_every_task
def test_a_copy_of_the_target_is_suspected(task: Task) -> None:
    target = np.arange(N) % 3 if task is not Task.REGRESSION else np.arange(N) / 7
    source = frame(task).assign(target=target if task is not Task.BINARY else target > 0)
    source.insert(0, "copy", np.arange(N) % 3 if task is not Task.REGRESSION else -(target**3))
    source.insert(0, "text", [f"level {value}" for value in np.arange(N) % 3])
    found = suspected_leaks(table_from_frame(source, CONFIG), ROWS)
    assert set(found) == ({"copy"} if task is Task.REGRESSION else {"copy", "text"})
    assert all(0.98 <= score <= 1 for score in found.values())


@on_every_task
def test_noise_is_not_suspected(task: Task) -> None:
    assert suspected_leaks(table_from_frame(frame(task), CONFIG), ROWS) == {}


def test_a_gap_that_tells_the_target_is_suspected() -> None:
    source = frame()
    source.loc[source["target"] == "yes", "x1"] = np.nan
    assert set(suspected_leaks(table_from_frame(source, CONFIG), ROWS)) == {"x1"}


def test_a_rare_class_is_no_excuse() -> None:
    """Balanced: 99 % of the rows are one class, and accuracy would suspect every column."""
    target = np.where(np.arange(401) % 101 == 0, "rare", "usual")
    source = table_from_frame(frame(n_rows=401).assign(target=target), CONFIG)
    assert suspected_leaks(source, np.arange(401)) == {}


def test_classes_of_too_few_rows_are_left_out() -> None:
    target = np.where(np.arange(N) < 2, "two", np.where(np.arange(N) % 2 == 0, "a", "b"))
    source = table_from_frame(frame().assign(target=target, x0=np.arange(N) % 2)[::-1], CONFIG)
    assert set(suspected_leaks(source, ROWS)) == {"x0"}


@pytest.mark.parametrize("name", ["iris", "breast_cancer", "diabetes", "wine"])
def test_known_tables_are_clean(name: str) -> None:
    source = load_table(DataConfig(source=f"sklearn:{name}"))
    assert suspected_leaks(source, np.arange(source.n_rows)) == {}
