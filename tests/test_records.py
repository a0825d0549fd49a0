"""What the tracking store tells of a study: the best of its trials."""

from __future__ import annotations

import math

from pipeline.records import StudyRecord, TrialRecord
from pipeline.results import STATE_AFTER, History, StopReason
from pipeline.space import Hyperparameters


def record(number: int, val_loss: float | None, reason: StopReason) -> TrialRecord:
    return TrialRecord(
        number=number,
        run_id=f"run{number}",
        state=STATE_AFTER[reason],
        stop_reason=reason,
        hyperparameters=Hyperparameters(),
        replicate=0,
        history=History.of([]),
        scalars={} if val_loss is None else {"val_loss": val_loss},
    )


class TestStudyRecord:
    def study(self, *trials: TrialRecord) -> StudyRecord:
        return StudyRecord("s", "r", "1", "complete", {}, trials, "")

    def test_complete_trials_come_best_first_and_ties_by_number(self) -> None:
        study = self.study(
            record(0, 0.5, StopReason.MAX_EPOCHS),
            record(1, 0.1, StopReason.PRUNED),
            record(3, 0.3, StopReason.EARLY_STOPPING),
            record(2, 0.3, StopReason.MAX_EPOCHS),
            record(4, None, StopReason.DIVERGED),
        )
        assert [trial.number for trial in study.complete] == [2, 3, 0]
        assert study.best is study.complete[0]

    def test_best_is_none_where_nothing_is_complete(self) -> None:
        assert self.study(record(0, 0.1, StopReason.PRUNED)).best is None

    def test_a_failed_trial_has_no_loss(self) -> None:
        assert math.isnan(record(0, None, StopReason.DIVERGED).val_loss)
