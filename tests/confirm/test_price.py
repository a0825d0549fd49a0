"""The price of searching: the winner in the search, and on fresh replicates."""

from __future__ import annotations

import math

import pytest

from pipeline.confirm.price import Price, search_price
from pipeline.confirm.statistics import difference, estimate
from pipeline.records import Confirmation, Finalist, StudyRecord, TrialRecord
from pipeline.results import History, StopReason, TrialState
from pipeline.space import Hyperparameters, Regularization
from tests.confirm.builders import L2, ROWS, STOPPED, Values, around, confirmation, finalist

L1 = Hyperparameters(Regularization.L1, 0.01)
SEARCHED = {0: 0.45, 1: 0.5, 3: math.nan, 4: 0.35, 7: 0.3, 9: 0.1}


def study(confirmed: Confirmation | None) -> StudyRecord:
    trials = tuple(
        TrialRecord(
            number,
            f"run{number}",
            TrialState.COMPLETE,
            StopReason.MAX_EPOCHS,
            Hyperparameters(),
            0,
            History.of([]),
            {"val_loss": loss},
        )
        for number, loss in SEARCHED.items()
    )
    return StudyRecord("s", "r", "1", "complete", {}, trials, "", confirmed)


def losses(val: float, test: float, seed: int = 0) -> Values:
    return {"val_loss": around(val, seed=seed), "test_loss": around(test, seed=seed + 50)}


WINNER = finalist("winner best_l2", L2, 7)


def price(*others: tuple[Finalist, Values], winner: Finalist = WINNER) -> Price:
    found = search_price(study(confirmation((winner, losses(0.4, 0.5)), *others)))
    assert found is not None
    return found


FIRST = finalist("first_trial best_none", STOPPED, 0)
DEFAULT = finalist("default_trial", Hyperparameters(dropout=0.5), 1)


def test_the_winner_then_and_now() -> None:
    found = price()
    assert found.trial == 7
    assert found.search_val_loss == 0.3
    expected = confirmation((WINNER, losses(0.4, 0.5))).values("winner", "val_loss")
    assert found.confirmed == estimate(expected, ROWS)
    assert found.sentences[0] == (
        "The winner's validation loss was 0.300 in the search and is 0.400 (95 % interval 0.389 to "
        "0.411) on 11 fresh replicates: the search made it look 25 % lower."
    )


def test_a_search_that_did_not_flatter() -> None:
    found = search_price(study(confirmation((WINNER, losses(0.29, 0.5)))))
    assert found is not None
    assert found.sentences[0].endswith("the search did not flatter it.")


def test_ranks_are_those_among_finalists_that_were_trials() -> None:
    found = price(
        (finalist("baseline"), losses(0.1, 0.1)),  # no trial
        (finalist("best_l1", L1, 4), losses(0.35, 0.5)),
        (FIRST, losses(0.39, 0.6)),
        (DEFAULT, losses(0.7, 0.6)),
    )
    # Trial 9 was better in the search but is no finalist.
    assert (found.rank_before, found.rank_after, found.ranked) == (1, 3, 4)
    assert found.sentences[1] == (
        "Of the 4 finalists that were trials it was number 1 in the search and is number 3 on "
        "fresh replicates."
    )


def test_a_rank_that_is_kept() -> None:
    found = price((FIRST, losses(0.5, 0.6)))
    assert (found.rank_before, found.rank_after) == (1, 1)
    assert found.sentences[1].endswith("it was number 1 in the search and still is.")


def test_alone_it_has_no_rank_to_tell_of() -> None:
    assert not any("finalists" in sentence for sentence in price().sentences)


def test_is_held_against_the_first_and_the_default_trial_on_test() -> None:
    first, default = losses(0.5, 0.6, seed=3), losses(0.5, 0.4, seed=4)
    confirmed = confirmation((WINNER, losses(0.4, 0.5)), (FIRST, first), (DEFAULT, default))
    found = price((FIRST, first), (DEFAULT, default))
    own = confirmed.values("winner", "test_loss")
    assert found.against_first == difference(
        own, confirmed.values("first_trial", "test_loss"), ROWS
    )
    assert found.against_default == difference(
        own, confirmed.values("default_trial", "test_loss"), ROWS
    )
    assert found.sentences[2].startswith(
        "Its test loss is lower than that of the first trial by 0.100 (95 % interval 0.0"
    )
    assert found.sentences[3].startswith(
        "Its test loss is higher than that of the default trial by 0.100 (95 % interval 0.0"
    )
    assert not any("chance" in sentence for sentence in found.sentences)


def test_what_may_be_chance_is_called_so() -> None:
    found = price((FIRST, losses(0.5, 0.5001, seed=3)))
    assert found.overtuned is False
    assert found.sentences[2].endswith("), which may be chance.")


@pytest.mark.parametrize(
    ("first", "default", "overtuned"),
    [
        (0.6, 0.6, False),
        (0.4, 0.6, True),
        (0.6, 0.4, True),
        (0.5, None, True),  # equal is not better
        (0.6, None, False),
        (None, 0.4, True),
        (None, None, None),
    ],
)
def test_overtuned_is_no_better_on_test_than_both_that_there_are(
    first: float | None, default: float | None, overtuned: bool | None
) -> None:
    others = [
        (each, losses(0.5, test))
        for each, test in ((FIRST, first), (DEFAULT, default))
        if test is not None
    ]
    found = price(*others)
    assert found.overtuned is overtuned
    assert any("overtuned" in sentence for sentence in found.sentences) is bool(overtuned)


def test_an_equal_test_loss_is_called_so() -> None:
    found = price((FIRST, losses(0.5, 0.5)))
    assert found.sentences[2] == "Its mean test loss equals that of the first trial."


def test_a_winner_that_is_the_first_trial_is_not_held_against_itself() -> None:
    found = price(winner=finalist("winner first_trial default_trial", L2, 7))
    assert found.against_first is None
    assert found.against_default is None
    assert found.overtuned is None


def test_a_first_trial_that_is_the_default_one_is_told_of_once() -> None:
    both = finalist("first_trial default_trial", STOPPED, 0)
    found = price((both, losses(0.5, 0.6, seed=3)))
    assert found.against_first == found.against_default is not None
    told = [sentence for sentence in found.sentences if "test loss" in sentence]
    assert len(told) == 1
    assert "the first trial, the default one" in told[0]


def test_a_first_trial_that_failed_is_as_if_it_were_not() -> None:
    failed = {"val_loss": [None] * 11, "test_loss": [None] * 11}
    found = price((FIRST, failed), (DEFAULT, losses(0.5, 0.6)))
    assert found.against_first is None
    assert found.overtuned is False


@pytest.mark.parametrize(
    "confirmed",
    [
        None,
        confirmation((finalist("baseline"), losses(0.4, 0.5))),
        confirmation((finalist("winner", L2), losses(0.4, 0.5))),
        confirmation((finalist("winner", L2, 3), losses(0.4, 0.5))),
        confirmation((finalist("winner", L2, 8), losses(0.4, 0.5))),
        confirmation((WINNER, {"val_loss": [None, None], "test_loss": [None, None]})),
    ],
    ids=["none", "no winner", "no trial", "failed trial", "unknown trial", "failed now"],
)
def test_without_a_winner_that_was_searched_and_ended_there_is_no_price(
    confirmed: Confirmation | None,
) -> None:
    assert search_price(study(confirmed)) is None


def test_one_replicate_has_no_interval() -> None:
    found = search_price(study(confirmation((WINNER, {"val_loss": [0.4]}))))
    assert found is not None
    assert found.sentences[0].startswith(
        "The winner's validation loss was 0.3000 in the search and is 0.4000 (one replicate, no "
        "interval) on 1 fresh replicate:"
    )
