"""What a trial's run holds: scores that are numbers, under names of their own."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pipeline.contents import final_values
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
