"""A trial's model takes raw rows and gives what the study measured, in the target's own words."""

from __future__ import annotations

from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import log_loss

from pipeline import Predictor
from pipeline.config import ConfigError, StudyConfig, parse_config
from pipeline.data import Task, load_table, split
from pipeline.reproduce import reproduce
from pipeline.study import run_study
from pipeline.tracking import download, read_training

N = 211
STUDY = """
name = "raw"
[data]
source = "csv:elsewhere.csv"
[model]
hidden = [7]
[training]
max_epochs = 5
learning_rate = 0.02
[search]
n_trials = 3
population = 3
pruner = "none"
[confirm]
replicates = 0
"""


def raw_rows(task: Task) -> pd.DataFrame:
    """Gaps, text, booleans, and a target that depends on them."""
    draw = np.random.default_rng(5)
    colour = draw.choice(np.array(["red", "green", None], dtype=object), N)
    size = draw.normal(170, 20, N)
    hidden = (size - 170) / 20 + (colour == "red") + draw.normal(0, 0.3, N)
    target: object = 1000 + 50 * hidden
    if task is Task.BINARY:
        target = np.where(hidden > 0, "large", "small")
    elif task is Task.MULTICLASS:
        target = np.array(["low", "middle", "high"])[np.digitize(hidden, [-0.3, 0.8])]
    size[draw.random(N) < 0.1] = np.nan
    frame = pd.DataFrame({"colour": colour, "size": size, "new": draw.random(N) < 0.5})
    return frame.assign(label=target)


@pytest.fixture(autouse=True)
def _store(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    store = tmp_path_factory.getbasetemp() / "predictor"
    store.mkdir(exist_ok=True)
    monkeypatch.chdir(store)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{store}/mlflow.db")
    for variable in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID"):
        monkeypatch.delenv(variable, raising=False)
    mlflow.set_tracking_uri(None)


def config() -> StudyConfig:
    return parse_config(STUDY, "raw.toml", Path("/"))


@pytest.mark.parametrize("task", list(Task))
def test_raw_rows_give_the_logged_validation_loss(task: Task) -> None:
    frame = raw_rows(task)
    result = run_study(config(), data=frame)
    assert result.best_trial is not None
    model = Predictor.load(result.best_trial.run_id)
    splits = split(load_table(config().data, frame), config().data, config().seed)
    rows = frame.drop(columns="label").iloc[splits.val_rows]
    truth, logged = frame["label"].iloc[splits.val_rows], result.best_trial
    predicted = model.predict(rows)
    assert predicted.index.equals(rows.index)
    assert predicted.name == "label"
    if task is Task.REGRESSION:
        error = (predicted - truth) / splits.target_scale
        assert (error**2).mean() == pytest.approx(logged.val_loss, rel=1e-5)
        assert predicted.mean() == pytest.approx(1000, abs=100)
        with pytest.raises(ConfigError, match="probabilities are of classes, however: 'label'"):
            model.predict_proba(rows)
        return
    chances = model.predict_proba(rows)
    assert list(chances.columns) == sorted(frame["label"].unique())
    assert log_loss(truth, chances) == pytest.approx(logged.val_loss, rel=1e-4)
    assert (predicted == truth).mean() == pytest.approx(logged.scalars["val_score"])
    assert (predicted == chances.idxmax(axis=1)).all()
    np.testing.assert_allclose(chances.sum(axis=1), 1)


def test_a_study_of_a_data_frame_says_so_and_asks_for_it_again() -> None:
    frame = raw_rows(Task.BINARY)
    first = run_study(config(), data=frame)
    run_id = first.record.trials[1].run_id
    assert read_training(run_id).config.data.source == "frame:data"
    with pytest.raises(ConfigError, match=r"must be handed over anew .*\(frame:data\)"):
        reproduce(run_id)
    with pytest.raises(ConfigError, match="must be reproduced on the data it was trained on"):
        reproduce(run_id, frame.iloc[1:])
    assert reproduce(run_id, frame).identical
    longer = config().model_copy(
        update={"search": config().search.model_copy(update={"n_trials": 4})}
    )
    with pytest.raises(ConfigError, match=r"a resumed study must have the data it began with"):
        run_study(longer, data=frame.iloc[1:], resume=True)
    resumed = run_study(longer, data=frame, resume=True)
    assert resumed.parent_run_id == first.parent_run_id
    assert len(resumed.trials) == 4


def test_the_parent_run_tells_what_was_made_of_each_column() -> None:
    result = run_study(config(), data=raw_rows(Task.BINARY))
    content = download(mlflow.get_tracking_uri(), result.parent_run_id, "columns.csv").decode()
    header, *lines = content.splitlines()
    assert header == "column,kind,missing,distinct,use"
    assert lines[0].startswith("colour,categorical,")
    assert lines[0].endswith('"one-hot: 2 levels, missing"')
    assert lines[3].startswith("label,categorical,0,2,target")
