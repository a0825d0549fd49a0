"""Losses that become infinite or no number: by learning rates, by features, in a confirmation."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from pipeline.config import StudyConfig, parse_config
from pipeline.confirm.runs import FinishedReplicate, finalist_runs, replicate_run
from pipeline.data import Task
from pipeline.records import Confirmation, Finalist
from pipeline.results import StopReason, TrialState
from pipeline.search import Progress
from pipeline.study import run_study
from tests.builders import DIVERGING, tiny_config, tiny_splits, train_all
from tests.commands import with_store
from tests.studies.test_journal import SMALL, table

WILD = "learning_rate = { low = 1e-2, high = 1e25, log = true }\n"


def wild(**overrides: object) -> StudyConfig:
    text = SMALL.replace("[space]\n", f"[space]\n{WILD}")
    return parse_config(text, "wild.toml", Path("/"), overrides)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(with_store(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    return tmp_path


def all_are_finite(folder: Path) -> bool:
    with closing(sqlite3.connect(folder / "mlflow.db")) as connection:
        rows = connection.execute("select value, is_nan from metrics").fetchall()
    # MLflow writes infinity as the largest number.
    return bool(rows) and all(not is_nan and abs(value) < 1e300 for value, is_nan in rows)


def test_a_diverged_trial_is_played_back_by_a_resume(folder: Path) -> None:
    undisturbed = run_study(wild())
    reasons = [trial.stop_reason for trial in undisturbed.record.trials]
    assert StopReason.DIVERGED in reasons[:6]
    assert undisturbed.best_trial is not None
    assert undisturbed.best_trial.state is TrialState.COMPLETE

    def stop(progress: Progress) -> None:
        if progress.done >= 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_study(wild(), on_progress=stop)
    with closing(sqlite3.connect(folder / "mlflow.db")) as connection:
        failed = "select run_uuid from runs where status = 'FAILED'"
        before = {run_id for (run_id,) in connection.execute(failed)}
    resumed = run_study(wild(), resume=True)
    assert table(resumed) == table(undisturbed)
    known = {trial.run_id for trial in (*resumed.record.trials, *undisturbed.record.trials)}
    assert before <= known  # none was trained again
    assert before & {trial.run_id for trial in resumed.record.trials}
    assert all_are_finite(folder)


def test_features_of_1e30_fail_every_trial_and_not_the_study(folder: Path) -> None:
    draw = np.random.default_rng(5)
    features = draw.normal(size=(101, 3)) * 1e30
    lines = [
        ",".join(map(str, row)) + f",{n * 0.37 % 5}" for n, row in enumerate(features.tolist())
    ]
    (folder / "t.csv").write_text("a,b,c,y\n" + "\n".join(lines) + "\n", encoding="utf-8")
    options = {"data.scaling": "none", "search.n_trials": 6, "confirm.replicates": 2}
    config = parse_config(
        SMALL.replace("sklearn:iris", f"csv:{folder}/t.csv"), "x", Path("/"), options
    )
    result = run_study(config)
    assert {trial.stop_reason for trial in result.record.trials} == {StopReason.DIVERGED}
    assert [trial.number for trial in result.record.trials] == list(range(6))
    assert result.best_trial is None
    assert result.champion is None
    assert result.record.confirmation is None
    assert all_are_finite(folder)
    assert table(run_study(config, resume=True)) == table(result)


def test_a_finalist_that_diverges_has_no_number_that_is_none() -> None:
    config, chosen = tiny_config(), DIVERGING[1]
    finalist = Finalist("winner", ("winner",), chosen, 4)
    done = []
    for replicate in (1, 2):
        splits = tiny_splits(Task.REGRESSION, replicate)
        (result,) = train_all(config, splits, [chosen], 2)
        assert result.stop_reason is StopReason.DIVERGED
        done.append(FinishedReplicate(finalist, result, "{}", 1, 2, has_dropout=True))
    for run in map(replicate_run, done):
        assert run.status == "FAILED"
        assert run.tags["trial.stop_reason"] == "diverged"
        assert all(np.isfinite(point.value) for point in run.metrics)
    records = tuple(each.record for each in done)
    (average,) = finalist_runs(Confirmation((finalist,), (1, 2), records, (23, 17)), True, 1, 2)
    assert {point.key for point in average.metrics} >= {"final/epochs"}
    assert all(np.isfinite(point.value) for point in average.metrics)
