"""What is said of a guardrail: of the right pair, with the right sign, in plain words."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from pipeline.confirm.guardrails import Guardrail, Verdict, guardrails
from pipeline.confirm.statistics import difference, estimate, holm
from pipeline.records import Confirmation, Finalist
from pipeline.space import Hyperparameters, Regularization
from tests.confirm.builders import BARE, L2, ROWS, STOPPED, Values, around, confirmation, finalist

NAMES = ["early_stopping", "dropout", "l1", "l2", "elastic_net", "weight_decay"]
# With these rows the correction vanishes, and an interval can be worked out from a spread.
PLAIN = (60, 0)


def measured(test_loss: float, gap: float, seed: int = 0, count: int = 11) -> Values:
    """Finalists of one seed differ by a constant: their difference has no spread."""
    return {
        "val_loss": around(test_loss, seed=seed, count=count),
        "test_loss": around(test_loss, seed=seed, count=count),
        "gap": around(gap, seed=seed, count=count),
    }


def findings(confirmed: Confirmation) -> dict[str, Guardrail]:
    return {each.name: each for each in guardrails(confirmed)}


def stopping(with_it: Values, without_it: Values, rows: tuple[int, int] = ROWS) -> Guardrail:
    """What is found of early stopping in a study of nothing else."""
    return findings(
        confirmation(
            (finalist("baseline"), without_it),
            (finalist("early_stopping", STOPPED), with_it),
            rows=rows,
        )
    )["early_stopping"]


WITHOUT_L2 = Hyperparameters(dropout=0.3, patience=7)
WITHOUT_DROPOUT = Hyperparameters(Regularization.L2, 0.003, patience=7)
L1 = Hyperparameters(Regularization.L1, 0.01, dropout=0.1, patience=9)
FULL = confirmation(
    (finalist("baseline"), measured(0.9, 0.50, seed=1)),
    (finalist("early_stopping", STOPPED), measured(0.7, 0.30, seed=2)),
    (finalist("best_none", Hyperparameters(dropout=0.2, patience=9)), measured(0.65, 0.2, seed=3)),
    (finalist("best_l1", L1), measured(0.66, 0.25, seed=4)),
    (finalist("winner best_l2", L2), measured(0.5, 0.05, seed=5)),
    (finalist("winner_without_penalty", WITHOUT_L2), measured(0.55, 0.1, seed=6)),
    (finalist("winner_without_dropout", WITHOUT_DROPOUT), measured(0.6, 0.2, seed=7)),
)


class TestPair:
    def test_one_finding_a_guardrail_in_a_fixed_order(self) -> None:
        assert list(findings(FULL)) == NAMES
        assert list(findings(confirmation())) == NAMES

    @pytest.mark.parametrize(
        ("name", "pair", "compared"),
        [
            (
                "early_stopping",
                ("early_stopping", "baseline"),
                "early stopping alone against the baseline",
            ),
            (
                "dropout",
                ("winner", "winner_without_dropout"),
                "the winner against the winner without its dropout",
            ),
            (
                "l2",
                ("winner", "winner_without_penalty"),
                "the winner against the winner without its penalty",
            ),
            (
                "l1",
                ("best_l1", "best_none"),
                (
                    "the best trial with L1 against the best trial without a penalty; "
                    "they differ in dropout too"
                ),
            ),
        ],
    )
    def test_isolates_the_guardrail_or_says_what_else_differs(
        self, name: str, pair: tuple[str, str], compared: str
    ) -> None:
        found = findings(FULL)[name]
        assert (found.finalist, found.against) == pair
        assert found.compared == compared

    def test_what_else_differs_is_in_the_sentence_too(self) -> None:
        found = findings(FULL)
        assert found["l1"].sentence.startswith("No evidence that L1 (with its own dropout) helps")
        assert "its own" not in found["l2"].sentence

    def test_without_a_best_trial_without_penalty_early_stopping_stands_in(self) -> None:
        rated = Hyperparameters(
            Regularization.WEIGHT_DECAY, 0.1, dropout=0.1, patience=3, learning_rate=0.1
        )
        found = findings(
            confirmation(
                (finalist("early_stopping", STOPPED), measured(0.7, 0.3)),
                (finalist("best_weight_decay", rated), measured(0.6, 0.2)),
            )
        )["weight_decay"]
        assert (found.finalist, found.against) == ("best_weight_decay", "early_stopping")
        assert found.compared.endswith("they differ in dropout, patience and learning rate too")

    def test_dropout_of_a_winner_that_has_none_is_that_of_the_best_trial_without_penalty(
        self,
    ) -> None:
        found = findings(
            confirmation(
                (finalist("early_stopping", STOPPED), measured(0.7, 0.3)),
                (finalist("best_none", WITHOUT_L2), measured(0.6, 0.2)),
                (finalist("winner", WITHOUT_DROPOUT), measured(0.5, 0.1)),
            )
        )["dropout"]
        assert (found.finalist, found.against) == ("best_none", "early_stopping")
        assert found.compared == (
            "the best trial without a penalty against early stopping alone, as the winner has none"
        )

    def test_roles_that_are_merged_are_found(self) -> None:
        found = findings(
            confirmation(
                (finalist("baseline"), measured(0.9, 0.5)),
                (finalist("early_stopping winner_without_dropout", STOPPED), measured(0.8, 0.3)),
                (finalist("best_none winner", WITHOUT_L2), measured(0.7, 0.1)),
            )
        )
        assert found["dropout"].finalist == "best_none"
        assert found["dropout"].against == "early_stopping"

    @pytest.mark.parametrize(
        ("finalists", "name", "why"),
        [
            ([], "l1", "L1 was not compared: no finalist has it."),
            (
                [finalist("best_l1", L1)],
                "l1",
                "L1 was not compared: the baseline is not among the finalists.",
            ),
            (
                [finalist("winner", L2)],
                "dropout",
                (
                    "Dropout was not compared: the winner without its dropout is not among the "
                    "finalists."
                ),
            ),
            (
                [finalist("baseline early_stopping", BARE)],
                "early_stopping",
                "Early stopping was not compared: no finalist has it alone.",
            ),
            (
                [finalist("best_none", STOPPED), finalist("winner", WITHOUT_DROPOUT)],
                "dropout",
                (
                    "Dropout was not compared: neither the winner nor the best trial without a "
                    "penalty has any."
                ),
            ),
            (
                [finalist("best_none early_stopping", WITHOUT_L2)],
                "dropout",
                (
                    "Dropout was not compared: the best trial without a penalty and early stopping "
                    "alone are the same."
                ),
            ),
        ],
    )
    def test_says_why_nothing_could_be_compared(
        self, finalists: list[Finalist], name: str, why: str
    ) -> None:
        confirmed = confirmation(*((each, measured(0.5, 0.1)) for each in finalists))
        found = findings(confirmed)[name]
        assert found.sentence == why
        assert found.verdict is Verdict.NOT_COMPARED
        assert found.difference is None
        assert math.isnan(found.p_holm)
        assert math.isnan(found.gap_removed)

    def test_fewer_than_two_replicates_are_no_comparison(self) -> None:
        found = stopping({"test_loss": [0.1, 0.1, None]}, {"test_loss": [0.2, None, 0.2]})
        assert found.verdict is Verdict.NOT_COMPARED
        assert found.sentence == (
            "Early stopping was not compared: fewer than two replicates of both ended."
        )


class TestVerdict:
    @pytest.mark.parametrize(
        ("with_it", "verdict"),
        [(0.4, Verdict.HELPS), (0.6, Verdict.HARMS), (0.5, Verdict.NO_EVIDENCE)],
    )
    def test_a_lower_test_loss_helps(self, with_it: float, verdict: Verdict) -> None:
        found = stopping(measured(with_it, 0.2, seed=1), measured(0.5, 0.4, seed=2))
        assert found.verdict is verdict

    def test_the_difference_is_that_of_test_losses_in_pairs(self) -> None:
        found = findings(FULL)["l2"]
        expected = difference(
            FULL.values("winner", "test_loss"),
            FULL.values("winner_without_penalty", "test_loss"),
            ROWS,
        )
        assert found.difference == expected

    def test_validation_losses_say_nothing(self) -> None:
        with_it, without_it = measured(0.5, 0.2, seed=1), measured(0.5, 0.4, seed=2)
        found = stopping({**with_it, "val_loss": around(0.1)}, without_it)
        assert found.verdict is Verdict.NO_EVIDENCE

    def test_holms_family_is_the_guardrails_that_could_be_compared(self) -> None:
        found = [each for each in guardrails(FULL) if each.difference is not None]
        assert len(found) == 4
        expected = holm(np.array([each.difference.p_value for each in found if each.difference]))
        assert [each.p_holm for each in found] == expected.tolist()

    def test_what_is_significant_alone_may_be_chance_among_many(self) -> None:
        values = np.array(around(0, seed=3))
        # Student's t with 10 degrees of freedom is 2.23 at 5 % and 2.63 at 2.5 %.
        shift = 2.4 * estimate(values, ROWS).standard_error
        flat, lower = {"test_loss": [0.5] * 11}, {"test_loss": (values + 0.5 - shift).tolist()}
        same = {"test_loss": (values + 0.5).tolist()}
        alone = stopping(lower, flat)
        assert 0.025 < alone.p_holm < 0.05
        assert alone.verdict is Verdict.HELPS
        both = findings(
            confirmation(
                (finalist("baseline"), flat),
                (finalist("early_stopping", STOPPED), lower),
                (finalist("best_none", Hyperparameters(patience=9)), flat),
                (finalist("best_l1", L1), same),
            )
        )["early_stopping"]
        assert both.p_holm == pytest.approx(2 * alone.p_holm)
        assert both.verdict is Verdict.NO_EVIDENCE
        assert "after Holm's correction for 2 guardrails" in both.sentence


class TestGap:
    def test_the_share_is_of_the_baselines_gap(self) -> None:
        # 0.2 without its dropout, 0.05 with it, 0.5 of the baseline.
        assert findings(FULL)["dropout"].gap_removed == pytest.approx(0.3)
        assert findings(FULL)["l1"].gap_removed == pytest.approx(-0.1)

    @pytest.mark.parametrize("gap", [0.0, -0.1])
    def test_without_a_gap_there_is_no_share(self, gap: float) -> None:
        without_it = {"test_loss": [0.5, 0.6], "gap": [gap, gap]}
        assert math.isnan(stopping(measured(0.4, -0.2, count=2), without_it).gap_removed)

    def test_of_a_gap_that_may_be_chance_the_sentence_tells_no_share(self) -> None:
        without_it = {"test_loss": [0.5, 0.6, 0.7], "gap": [0.3, -0.1, -0.1]}
        found = stopping({"test_loss": [0.1, 0.2, 0.4], "gap": [0.4, 0.4, 0.4]}, without_it)
        assert found.gap_removed == pytest.approx(-11)
        assert "widens the gap by 0.37" in found.sentence

    def test_without_a_baseline_there_is_no_share(self) -> None:
        found = findings(
            confirmation(
                (finalist("early_stopping", STOPPED), measured(0.5, 0.2)),
                (finalist("best_l1", L1), measured(0.4, 0.1)),
            )
        )["l1"]
        assert math.isnan(found.gap_removed)
        assert "narrows the gap by 0.10" in found.sentence


def spread_by(mean: float, half_width: float) -> list[float]:
    """Three differences of this mean, whose plain 95 % interval is so wide."""
    step = half_width * math.sqrt(3) / 4.302652729911275  # Student's t with 2 degrees of freedom
    return [mean - step, mean, mean + step]


class TestSentence:
    def sentence(
        self, change: list[float], gap: float, baseline_gap: float = 1.0, level: float = 0.0
    ) -> str:
        """Of three replicates' changes of test loss, and the gap that is left of the baseline's."""
        found = stopping(
            {"test_loss": [level + each for each in change], "gap": [gap] * 3},
            {"test_loss": [level] * 3, "gap": [baseline_gap] * 3},
            PLAIN,
        )
        return found.sentence

    @pytest.mark.parametrize(
        ("mean", "half", "gap", "expected"),
        [
            (
                -0.031,
                0.019,
                0.39,
                (
                    "Early stopping removes 61 % of the gap and lowers test loss by 0.031 "
                    "(95 % interval 0.012 to 0.050)."
                ),
            ),
            (
                -0.031,
                0.019,
                -0.2,
                (
                    "Early stopping removes all of the gap and lowers test loss by 0.031 "
                    "(95 % interval 0.012 to 0.050)."
                ),
            ),
            (
                -0.031,
                0.019,
                -61.0,
                (
                    "Early stopping narrows the gap by 62 and lowers test loss by 0.031 "
                    "(95 % interval 0.012 to 0.050)."
                ),
            ),
            (
                -0.031,
                0.019,
                1234.0,
                (
                    "Early stopping lowers test loss by 0.031 (95 % interval 0.012 to 0.050) but "
                    "widens the gap by 1233."
                ),
            ),
            (
                -0.031,
                0.019,
                1.25,
                (
                    "Early stopping lowers test loss by 0.031 (95 % interval 0.012 to 0.050) but "
                    "widens the gap by 25 % of the baseline's."
                ),
            ),
            (
                -0.031,
                0.019,
                1.001,
                (
                    "Early stopping lowers test loss by 0.031 (95 % interval 0.012 to 0.050) and "
                    "leaves the gap as it is."
                ),
            ),
            (
                0.2,
                0.1,
                0.5,
                (
                    "Early stopping harms: it raises test loss by 0.20 (95 % interval 0.10 to "
                    "0.30) although it removes 50 % of the gap."
                ),
            ),
            (
                0.2,
                0.1,
                3,
                (
                    "Early stopping harms: it raises test loss by 0.20 (95 % interval 0.10 to "
                    "0.30) and widens the gap by 200 % of the baseline's."
                ),
            ),
            (
                -0.002,
                0.008,
                0.95,
                (
                    "No evidence that early stopping helps: test loss differs by -0.0020 "
                    "(95 % interval -0.0100 to 0.0060, p 0.39 after Holm's correction); "
                    "it removes 5 % of the gap."
                ),
            ),
            (
                -31.0,
                19.0,
                0.39,
                (
                    "Early stopping removes 61 % of the gap and lowers test loss by 31 "
                    "(95 % interval 12 to 50)."
                ),
            ),
            (
                -3.1e-9,
                1.9e-9,
                0.39,
                (
                    "Early stopping removes 61 % of the gap and lowers test loss by 3.1e-09 "
                    "(95 % interval 1.2e-09 to 5.0e-09)."
                ),
            ),
            (
                -0.031,
                0.03099,
                0.39,
                (
                    "Early stopping removes 61 % of the gap and lowers test loss by 0.031 "
                    "(95 % interval 1e-05 to 0.062)."
                ),
            ),
        ],
    )
    def test_says_sign_size_and_interval(
        self, mean: float, half: float, gap: float, expected: str
    ) -> None:
        assert self.sentence(spread_by(mean, half), gap) == expected

    def test_the_same_losses_are_no_evidence(self) -> None:
        assert self.sentence([0.0] * 3, 1.0, level=0.7) == (
            "No evidence that early stopping helps: test loss is the same on every replicate; "
            "it leaves the gap as it is."
        )

    @pytest.mark.parametrize(
        ("gap", "baseline_gap", "expected"),
        [
            (-0.3, -0.1, "Early stopping narrows the gap by 0.20 and lowers test loss by 0.031"),
            (0.2, 0.0, "but widens the gap by 0.20."),
            (-0.1, -0.1, "and leaves the gap as it is."),
        ],
    )
    def test_without_a_gap_of_the_baseline_its_change_is_told(
        self, gap: float, baseline_gap: float, expected: str
    ) -> None:
        assert expected in self.sentence(spread_by(-0.031, 0.019), gap, baseline_gap)

    def test_without_any_gap_nothing_is_said_of_it(self) -> None:
        found = stopping({"test_loss": [0.1, 0.2, 0.3]}, {"test_loss": [0.1, 0.2, 0.3]})
        assert found.sentence.endswith("the same on every replicate.")
        found = stopping({"test_loss": [0.1, 0.2, 0.3]}, {"test_loss": [0.2, 0.3, 0.4]})
        assert found.sentence.endswith("0.1000).")
        found = stopping({"test_loss": [0.2, 0.3, 0.4]}, {"test_loss": [0.1, 0.2, 0.3]})
        assert found.sentence.endswith("0.1000).")

    def test_says_how_many_replicates_it_rests_on_where_some_failed(self) -> None:
        found = stopping({"test_loss": [0.1, 0.2, None, 0.3]}, {"test_loss": [0.2, 0.3, 0.4, 0.4]})
        assert found.difference is not None
        assert found.difference.count == 3
        assert found.sentence.endswith(" This rests on the 3 of 4 replicates that both ended.")
        assert "This rests on" not in findings(FULL)["l2"].sentence


def test_without_early_stopping_or_a_trial_without_penalty_the_baseline_takes_their_place() -> None:
    bare, winner = finalist("baseline"), finalist("winner best_l2", replace(L2, patience="off"))
    other = finalist("best_l1", Hyperparameters(Regularization.L1, 0.1, dropout=0.3))
    losses = {name: measured(mean, 0.1) for name, mean in (("b", 0.5), ("w", 0.4), ("o", 0.3))}
    confirmed = confirmation((bare, losses["b"]), (winner, losses["w"]), (other, losses["o"]))
    found = findings(confirmed)["l1"]
    assert (found.finalist, found.against) == ("best_l1", "baseline")
    assert "with its own dropout" in found.sentence
