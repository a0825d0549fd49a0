"""What a trial's run holds: scores that are numbers, under names of their own."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pipeline import contents
from pipeline.contents import FinishedTrial, final_values, trial_run
from pipeline.results import History, Point, StopReason, TrialResult
from pipeline.space import Hyperparameters

WEIGHTS = {"0.weight": np.ones((1, 2)), "0.bias": np.zeros(1)}


def result(scores: dict[str, float], reason: StopReason) -> TrialResult:
    history = History.of([Point(1, 0.5, 0.6, 0.7, 0.8)])
    return TrialResult(Hyperparameters(), 0, history, 1, reason, WEIGHTS, scores)


@pytest.mark.parametrize("reason", [StopReason.MAX_EPOCHS, StopReason.PRUNED])
def test_scores_stand_beside_the_kept_epochs_values(reason: StopReason) -> None:
    values = final_values(result({"roc_auc": 0.9, "log_loss": 0.3}, reason))
    assert (values["val_roc_auc"], values["val_log_loss"]) == (0.9, 0.3)
    assert (values["val_loss"], values["val_score"]) == (0.6, 0.8)


def test_a_score_that_is_no_number_is_absent() -> None:
    values = final_values(result({"roc_auc": math.nan, "rmse": math.inf}, StopReason.MAX_EPOCHS))
    assert not {"val_roc_auc", "val_rmse"} & set(values)


def test_a_failed_trial_has_no_scores() -> None:
    assert set(final_values(result({"accuracy": 1.0}, StopReason.DIVERGED))) == {"epochs"}


def test_a_picture_that_cannot_be_drawn_costs_its_run_the_picture(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Undrawable:
        def png(self, *_: object) -> bytes:
            raise OSError("no font")

    ended = FinishedTrial(7, result({}, StopReason.MAX_EPOCHS), 1, 2, has_dropout=True)
    drawn = trial_run(ended, b"weights")
    monkeypatch.setattr(contents, "learning_curve_figure", Undrawable)
    run = trial_run(ended, b"weights")
    assert caplog.messages == ["the curve of trial 7 was not drawn: OSError('no font')"]
    assert drawn.files.keys() - run.files.keys() == {"learning_curve.png"}
    assert (run.status, run.metrics, run.params) == (drawn.status, drawn.metrics, drawn.params)
