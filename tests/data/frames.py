"""Small tables of every task, and what to look for in them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipeline.config import ConfigError, DataConfig
from pipeline.data import Splits, Table, Task, load_table, split, table_from_frame

CONFIG = DataConfig(source="csv:/t.csv")
N = 97


def configured(**options: Any) -> DataConfig:
    """`CONFIG`, but for these keys."""
    return DataConfig.model_validate({"source": CONFIG.source, **options})


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


def lines(*rows: str, header: str = "x0,x1,target") -> str:
    """A good table of 23 rows, and what is wrong after it."""
    good = [f"{n},{n * n % 11},{'ab'[n % 2]}" for n in range(23)]
    return "\n".join([header, *good, *rows])


def refusal(config: DataConfig, data: pd.DataFrame | None = None) -> str:
    """The one line that says what is wrong with a source, read and split."""
    with pytest.raises(ConfigError) as caught:
        split(load_table(config, data), config, 0)
    line = str(caught.value)
    assert "\n" not in line
    assert "however: " in line
    return line


on_every_task = pytest.mark.parametrize("task", list(Task))
