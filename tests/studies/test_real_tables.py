"""Real tables as people have them are read and split as they are, and studied to the end.

They are not part of the project: where the folder is absent, the tests are skipped.
"""

from __future__ import annotations

from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest

from pipeline.config import DataConfig, load_config
from pipeline.data import Preprocessing, Task, load_table, split, suspected_leaks
from pipeline.study import run_study

FOLDER = Path(__file__).parents[3] / "shared" / "data"
# Task, classes, columns with the target, and inputs after preprocessing.
TABLES = {
    "adult": (Task.BINARY, ("<=50K", ">50K"), 15, 108),
    "credit-g": (Task.BINARY, ("bad", "good"), 21, 61),
    "vehicle": (Task.MULTICLASS, ("bus", "opel", "saab", "van"), 19, 18),
    "kr-vs-kp": (Task.BINARY, ("nowin", "won"), 37, 71),
    "phoneme": (Task.BINARY, ("0", "1"), 6, 5),
    "blood-transfusion": (Task.BINARY, ("1", "2"), 5, 4),
    "kc1": (Task.BINARY, ("False", "True"), 22, 21),
    "jasmine": (Task.BINARY, ("0", "1"), 145, 143),
    "mammography": (Task.BINARY, ("-1", "1"), 7, 6),
    "california_housing": (Task.REGRESSION, (), 10, 14),
}

pytestmark = pytest.mark.skipif(
    not FOLDER.is_dir(), reason=f"the real tables are not there: {FOLDER}"
)


def source(name: str) -> str:
    return f"csv:{FOLDER}/{name}.csv"


@pytest.mark.parametrize("name", list(TABLES))
def test_is_read_and_split_as_it_is(name: str) -> None:
    task, classes, n_columns, n_inputs = TABLES[name]
    config = DataConfig(source=source(name))
    table = load_table(config)
    assert (table.task, len(table.columns)) == (task, n_columns)
    assert table.classes == classes
    splits = split(table, config, seed=0)
    assert splits.n_features == n_inputs
    sizes = [len(rows) for rows in (splits.train_rows, splits.val_rows, splits.test_rows)]
    assert sizes == pytest.approx(
        [0.6 * table.n_rows, 0.2 * table.n_rows, 0.2 * table.n_rows], abs=3
    )
    parts = [
        set(table.duplicates[rows])
        for rows in (splits.train_rows, splits.val_rows, splits.test_rows)
    ]
    assert sum(map(len, parts)) == len(set(table.duplicates))
    for array in (splits.x_train, splits.x_val, splits.test_part(table)[0]):
        assert array.dtype == np.float32
        assert np.isfinite(array).all()
    again = Preprocessing.from_json(splits.preprocessing.to_json())
    raw = pd.read_csv(FOLDER / f"{name}.csv")
    assert np.array_equal(again.transform(raw, splits.val_rows), splits.x_val)


def test_of_them_has_no_leak() -> None:
    for name in ("credit-g", "vehicle", "kc1", "blood-transfusion"):
        table = load_table(DataConfig(source=source(name)))
        assert suspected_leaks(table, np.arange(table.n_rows)) == {}


@pytest.mark.parametrize("name", ["credit-g", "kc1", "vehicle"])
def test_is_studied_to_the_end(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    mlflow.set_tracking_uri(None)
    study = tmp_path / "study.toml"
    study.write_text(
        f'name = "{name}"\n[data]\nsource = "{source(name)}"\n'
        "[training]\nmax_epochs = 7\nbatch_size = 128\n"
        "[search]\nn_trials = 8\npopulation = 4\n[confirm]\nreplicates = 2\n",
        encoding="utf-8",
    )
    result = run_study(load_config(study))
    assert len(result.trials) == 8
    assert result.best_trial is not None
    assert result.best_trial.scalars["val_score"] > 0.3
