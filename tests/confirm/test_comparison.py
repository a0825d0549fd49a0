"""The table of the finalists, and the table of their differences in pairs."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pipeline.confirm.comparison import pairs_frame, summary_frame
from pipeline.confirm.measures import METRICS
from pipeline.confirm.statistics import difference, estimate, holm
from pipeline.space import Hyperparameters, Regularization
from tests.confirm.builders import L2, ROWS, STOPPED, around, confirmation, finalist

MIXED = Hyperparameters(Regularization.ELASTIC_NET, 0.01, l1_ratio=0.3, learning_rate=0.02)


def measured(loss: float, gap: float, seed: int) -> dict[str, list[float]]:
    """All metrics, each with its own numbers."""
    values = {
        metric: around(number, seed=seed + 10 * number) for number, metric in enumerate(METRICS)
    }
    return values | {"val_loss": around(loss, seed=seed), "gap": around(gap, seed=seed + 100)}


BASELINE, STOP, WINNER, OTHER = (
    measured(0.9, 0.5, 1),
    measured(0.8, 0.3, 2),
    measured(0.6, -0.1, 3),
    measured(0.7, 0.6, 4),
)
CONFIRMED = confirmation(
    (finalist("baseline"), BASELINE),
    (finalist("early_stopping first_trial", STOPPED, 0), STOP),
    (finalist("winner best_l2", L2, 5), WINNER),
    (finalist("best_elastic_net", MIXED, 2), OTHER),
)


class TestSummary:
    def test_columns_are_what_a_finalist_is_then_what_was_measured(self) -> None:
        names = list(summary_frame(CONFIRMED).columns)
        assert names[:7] == [
            "finalist",
            "regularization",
            "lambda",
            "l1_ratio",
            "dropout",
            "patience",
            "learning_rate",
        ]
        assert names[7:13] == [
            "val_loss_mean",
            "val_loss_low",
            "val_loss_high",
            "test_loss_mean",
            "test_loss_low",
            "test_loss_high",
        ]
        assert names[13:-4:3] == [f"{metric}_mean" for metric in METRICS[2:]]
        assert names[-4:] == ["gap_removed", "replicates", "roles", "trial"]

    def test_a_row_a_finalist_in_their_order(self) -> None:
        frame = summary_frame(CONFIRMED)
        assert frame["finalist"].tolist() == [
            "baseline",
            "early_stopping",
            "winner",
            "best_elastic_net",
        ]
        assert frame["regularization"].tolist() == ["none", "none", "l2", "elastic_net"]
        assert frame["lambda"].tolist() == [0, 0, 0.003, 0.01]
        assert frame["l1_ratio"].tolist() == pytest.approx([math.nan] * 3 + [0.3], nan_ok=True)
        assert frame["dropout"].tolist() == [0, 0, 0.3, 0]
        assert frame["patience"].tolist() == ["off", 7, 7, "off"]
        assert frame["learning_rate"].tolist() == pytest.approx(
            [math.nan] * 3 + [0.02], nan_ok=True
        )
        assert frame["roles"].tolist()[1:3] == ["early_stopping first_trial", "winner best_l2"]
        assert str(frame["trial"].dtype) == "Int64"
        assert frame["trial"].isna().tolist() == [True, False, False, False]
        assert frame["trial"].tolist()[1:] == [0, 5, 2]

    def test_each_metric_has_its_mean_and_corrected_interval(self) -> None:
        row = summary_frame(CONFIRMED).iloc[1]
        for metric in METRICS:
            # On the test rows that all replicates share, what differs are the training rows.
            rows = ROWS[::-1] if metric in ("test_loss", "test_score") else ROWS
            expected = estimate(np.array(STOP[metric]), rows)
            found = [row[f"{metric}_{what}"] for what in ("mean", "low", "high")]
            assert found == [expected.mean, expected.low, expected.high]

    def test_the_share_of_the_baselines_gap_that_is_gone(self) -> None:
        # Of 0.5 are left: all, 0.3, -0.1 (more than all is gone), 0.6 (it has grown).
        assert summary_frame(CONFIRMED)["gap_removed"].tolist() == pytest.approx(
            [0, 0.4, 1.2, -0.2]
        )

    @pytest.mark.parametrize("gap", [-0.1, 0.0])
    def test_no_share_of_a_gap_that_is_none(self, gap: float) -> None:
        without = confirmation(
            (finalist("baseline"), {"gap": [gap, gap]}), (finalist("winner", L2), {"gap": [1, 2]})
        )
        assert summary_frame(without)["gap_removed"].isna().all()

    def test_no_share_without_a_baseline(self) -> None:
        alone = confirmation((finalist("winner", L2), WINNER))
        assert summary_frame(alone)["gap_removed"].isna().all()

    def test_a_failed_replicate_is_left_out(self) -> None:
        failed = confirmation((finalist("winner", L2), {"val_loss": [1, None, 3]}))
        row = summary_frame(failed).iloc[0]
        assert (row["val_loss_mean"], row["replicates"]) == (2, 2)
        assert math.isnan(row["test_loss_mean"])

    def test_without_finalists_the_columns_stand(self) -> None:
        empty, full = summary_frame(confirmation()), summary_frame(CONFIRMED)
        assert len(empty) == 0
        assert empty.columns.tolist() == full.columns.tolist()
        assert empty.dtypes["val_loss_mean"] == full.dtypes["val_loss_mean"]


class TestPairs:
    def test_everyone_against_the_baseline_then_against_the_winner(self) -> None:
        frame = pairs_frame(CONFIRMED)
        pairs = frame[["against", "finalist"]].drop_duplicates().to_numpy().tolist()
        assert pairs == [
            ["baseline", "early_stopping"],
            ["baseline", "winner"],
            ["baseline", "best_elastic_net"],
            ["winner", "baseline"],
            ["winner", "early_stopping"],
            ["winner", "best_elastic_net"],
        ]
        assert frame["metric"].tolist() == list(METRICS) * 6
        assert frame.columns.tolist() == [
            "finalist",
            "against",
            "metric",
            "difference",
            "low",
            "high",
            "p_value",
            "p_holm",
        ]

    def test_a_difference_is_the_finalist_minus_the_other_in_pairs(self) -> None:
        frame = pairs_frame(CONFIRMED).set_index(["against", "finalist", "metric"])
        row = frame.loc["winner", "baseline", "val_loss"]
        expected = difference(np.array(BASELINE["val_loss"]), np.array(WINNER["val_loss"]), ROWS)
        assert row["difference"] == pytest.approx(0.3)
        found = row[["difference", "low", "high", "p_value"]].tolist()
        assert found == [expected.mean, expected.low, expected.high, expected.p_value]

    def test_holms_family_is_one_metric_against_one_finalist(self) -> None:
        frame = pairs_frame(CONFIRMED)
        for _, family in frame.groupby(["against", "metric"]):
            assert len(family) == 3
            assert family["p_holm"].tolist() == holm(family["p_value"].to_numpy()).tolist()

    def test_a_winner_that_is_the_baseline_is_held_against_once(self) -> None:
        merged = confirmation(
            (finalist("baseline winner"), BASELINE), (finalist("best_l2", L2), WINNER)
        )
        frame = pairs_frame(merged)
        assert set(frame["against"]) == {"baseline"}
        assert set(frame["finalist"]) == {"best_l2"}

    def test_without_a_baseline_only_the_winner_is_held_against(self) -> None:
        frame = pairs_frame(
            confirmation((finalist("winner", L2), WINNER), (finalist("best_l1"), STOP))
        )
        assert set(frame["against"]) == {"winner"}

    def test_alone_has_no_pair_and_the_columns_stand(self) -> None:
        empty = pairs_frame(confirmation((finalist("baseline"), BASELINE)))
        assert len(empty) == 0
        assert empty.columns.tolist() == pairs_frame(CONFIRMED).columns.tolist()
        assert set(map(str, empty.dtypes[3:])) == {"float64"}

    def test_a_replicate_that_failed_on_one_side_is_left_out(self) -> None:
        failed = confirmation(
            (finalist("baseline"), {"val_loss": [1, 2, 9, 4]}),
            (finalist("winner", L2), {"val_loss": [0, 0, None, 3]}),
        )
        row = pairs_frame(failed).iloc[0]
        assert row["difference"] == pytest.approx(-(1 + 2 + 1) / 3)
