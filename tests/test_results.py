"""What a trial leaves behind: curves from epoch 1, and figures at the epoch that is kept."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pipeline.results import (
    STATE_AFTER,
    History,
    Point,
    StopReason,
    TrialResult,
    TrialState,
    generalization_gap,
)
from pipeline.space import Hyperparameters

POINTS = (
    Point(1, 0.7, 0.9, 0.6, 0.5),
    Point(2, 0.5, 0.6, 0.7, 0.8),
    Point(3, 0.2, 0.8, 0.9, 0.6, StopReason.EARLY_STOPPING),
)
WEIGHTS = {
    "0.weight": np.array([[3.0, 0.0], [1e-30, -4.0]], dtype=np.float32),
    "0.bias": np.array([7.0, 7.0], dtype=np.float32),
    "3.weight": np.array([[-0.0, 12.0]], dtype=np.float32),
    "3.bias": np.array([0.0], dtype=np.float32),
}


def result(
    points: tuple[Point, ...] = POINTS,
    kept_epoch: int = 2,
    reason: StopReason = StopReason.EARLY_STOPPING,
) -> TrialResult:
    return TrialResult(Hyperparameters(), 0, History.of(points), kept_epoch, reason, WEIGHTS)


class TestHistory:
    def test_stacks_points_epoch_1_first(self) -> None:
        history = History.of(POINTS)
        assert len(history) == 3
        assert history.train_loss.tolist() == [0.7, 0.5, 0.2]
        assert history.val_loss.tolist() == [0.9, 0.6, 0.8]
        assert history.train_score.tolist() == [0.6, 0.7, 0.9]
        assert history.val_score.tolist() == [0.5, 0.8, 0.6]

    def test_of_no_points_is_empty(self) -> None:
        history = History.of([])
        assert len(history) == 0
        assert history.gap.shape == (0,)
        assert history.train_loss.dtype == np.float64

    def test_equals_another_of_the_same_values_nan_included(self) -> None:
        diverged = (*POINTS, Point(4, math.nan, math.inf, 0.5, 0.5))
        assert History.of(diverged) == History.of(diverged)
        assert History.of(POINTS) != History.of(diverged)
        assert History.of(POINTS) != "history"
        changed = (*POINTS[:2], Point(3, 0.2, 0.8, 0.9, 0.61))
        assert History.of(POINTS) != History.of(changed)

    def test_gap_is_validation_minus_training_loss(self) -> None:
        history = History.of(POINTS)
        assert history.gap == pytest.approx([0.2, 0.1, 0.6])
        assert generalization_gap(np.array([1.0]), np.array([0.25])).tolist() == [-0.75]

    def test_finite_tells_where_both_losses_are_numbers(self) -> None:
        points = [
            Point(1, 1.0, 1.0, 1.0, 1.0),
            Point(2, math.nan, 1.0, 1.0, 1.0),
            Point(3, 1.0, math.inf, 1.0, 1.0),
            Point(4, 1.0, 1.0, -math.inf, 1.0),
            Point(5, 1.0, 1.0, 1.0, math.nan),
        ]
        assert History.of(points).finite.tolist() == [True, False, False, True, True]


class TestPoint:
    @pytest.mark.parametrize(
        ("train", "val", "finite"),
        [(1.0, 1.0, True), (math.nan, 1.0, False), (1.0, math.inf, False), (-math.inf, 1.0, False)],
    )
    def test_is_finite_where_both_losses_are(self, train: float, val: float, finite: bool) -> None:
        assert Point(1, train, val, 0.5, 0.5).finite is finite


class TestTrialResult:
    def test_figures_are_those_of_the_kept_epoch(self) -> None:
        kept = result()
        assert (kept.train_loss, kept.val_loss, kept.val_score) == (0.5, 0.6, 0.8)
        assert kept.gap == pytest.approx(0.1)

    def test_overfit_gap_is_that_of_the_last_epoch_trained(self) -> None:
        assert result().overfit_gap == pytest.approx(0.6)

    def test_without_a_kept_epoch_figures_are_nan(self) -> None:
        nothing = result((), 0, StopReason.PRUNED)
        figures = (nothing.val_loss, nothing.train_loss, nothing.gap, nothing.overfit_gap)
        assert all(math.isnan(figure) for figure in figures)

    def test_weight_norm_is_of_all_kernels_without_biases(self) -> None:
        assert result().weight_norm == pytest.approx(13.0)

    def test_weight_norm_does_not_overflow_in_float32(self) -> None:
        huge = TrialResult(
            Hyperparameters(),
            0,
            History.of(POINTS),
            1,
            StopReason.MAX_EPOCHS,
            {"0.weight": np.full((3, 1), 1e30, dtype=np.float32)},
        )
        assert huge.weight_norm == pytest.approx(math.sqrt(3) * 1e30)

    def test_sparsity_is_the_share_of_kernel_weights_that_are_exactly_zero(self) -> None:
        assert result().sparsity == pytest.approx(2 / 6)

    @pytest.mark.parametrize(
        ("reason", "state"),
        [
            (StopReason.EARLY_STOPPING, TrialState.COMPLETE),
            (StopReason.MAX_EPOCHS, TrialState.COMPLETE),
            (StopReason.PRUNED, TrialState.PRUNED),
            (StopReason.DIVERGED, TrialState.FAILED),
            (StopReason.ERROR, TrialState.FAILED),
        ],
    )
    def test_state_follows_from_why_it_ended(self, reason: StopReason, state: TrialState) -> None:
        assert result(reason=reason).state is state

    def test_every_stop_reason_has_a_state(self) -> None:
        assert STATE_AFTER.keys() == set(StopReason)
