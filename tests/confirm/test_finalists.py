"""Who is confirmed: every role that the question has, each configuration once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pipeline.confirm.finalists import choose_finalists
from pipeline.records import Finalist, TrialRecord
from pipeline.results import History, StopReason, TrialState
from pipeline.space import Hyperparameters, Regularization
from tests.builders import tiny_config

NONE, L1, L2 = Regularization.NONE, Regularization.L1, Regularization.L2


def trial(
    number: int,
    val_loss: float,
    chosen: Hyperparameters,
    state: TrialState = TrialState.COMPLETE,
) -> TrialRecord:
    nothing = np.empty(0)
    history = History(nothing, nothing, nothing, nothing)
    reason = StopReason.MAX_EPOCHS
    return TrialRecord(
        number, f"run-{number}", state, reason, chosen, 0, history, {"val_loss": val_loss}
    )


FIRST = Hyperparameters(patience=30)
WINNER = Hyperparameters(L2, 0.01, dropout=0.3, patience=7)
TRIALS = [
    trial(0, 0.9, FIRST),
    trial(3, 0.5, Hyperparameters(L1, 0.02, dropout=0.1, patience=5)),
    trial(4, 0.7, Hyperparameters(L1, 0.03, dropout=0.2, patience=5)),
    trial(5, 0.4, WINNER),
    trial(6, 0.6, Hyperparameters(dropout=0.4, patience=9)),
    trial(7, 0.1, Hyperparameters(L1, 0.5, patience=3), TrialState.PRUNED),
    trial(8, 0.0, Hyperparameters(L2, 0.5, patience=3), TrialState.FAILED),
]


def by_role(trials: list[TrialRecord], **overrides: Any) -> dict[str, Finalist]:
    finalists = choose_finalists(tiny_config(overrides), trials)
    found = {role: finalist for finalist in finalists for role in finalist.roles}
    assert sum(len(finalist.roles) for finalist in finalists) == len(found)
    assert all(finalist.name == finalist.roles[0] for finalist in finalists)
    assert len({finalist.hyperparameters for finalist in finalists}) == len(finalists)
    return found


def test_every_role_has_its_configuration() -> None:
    found = by_role(TRIALS)
    assert {role: finalist.hyperparameters for role, finalist in found.items()} == {
        "baseline": Hyperparameters(),
        "winner": WINNER,
        "early_stopping": Hyperparameters(patience=7),
        "best_none": TRIALS[4].hyperparameters,
        "best_l1": TRIALS[1].hyperparameters,
        "best_l2": WINNER,
        "winner_without_penalty": Hyperparameters(dropout=0.3, patience=7),
        "winner_without_dropout": replace(WINNER, dropout=0.0),
        "winner_without_early_stopping": replace(WINNER, patience="off"),
        "first_trial": FIRST,
    }
    assert {role: finalist.trial for role, finalist in found.items()} == {
        **dict.fromkeys(found, None),
        "winner": 5,
        "best_l2": 5,
        "best_l1": 3,
        "best_none": 6,
        "first_trial": 0,
    }


def test_what_is_the_same_is_one_finalist() -> None:
    finalists = choose_finalists(tiny_config(), TRIALS)
    assert [finalist.roles for finalist in finalists][:3] == [
        ("baseline",),
        ("winner", "best_l2"),
        ("early_stopping",),
    ]
    plain = by_role([trial(0, 0.9, FIRST)])
    assert plain["winner"].roles == (
        "winner",
        "early_stopping",
        "best_none",
        "winner_without_penalty",
        "winner_without_dropout",
        "first_trial",
    )
    assert plain["baseline"].roles == ("baseline", "winner_without_early_stopping")


def test_without_early_stopping_in_the_study_there_is_none_alone() -> None:
    found = by_role([trial(0, 0.9, Hyperparameters())])
    assert found["baseline"].roles[:2] == ("baseline", "winner")
    assert "early_stopping" not in found


def test_what_was_pruned_or_failed_is_no_finalist() -> None:
    ended = {each.hyperparameters for each in TRIALS if each.state is not TrialState.COMPLETE}
    assert not ended & {finalist.hyperparameters for finalist in by_role(TRIALS).values()}
    assert choose_finalists(tiny_config(), TRIALS[-2:]) == ()


def test_the_default_trial_is_the_middle_of_the_winners_type_if_it_was_completed() -> None:
    default = tiny_config().search_space.default(L2)
    assert "default_trial" not in by_role(TRIALS)
    assert by_role([*TRIALS, trial(2, 0.8, default)])["default_trial"].trial == 2
    pruned = trial(2, 0.8, default, TrialState.PRUNED)
    assert "default_trial" not in by_role([*TRIALS, pruned])


def test_of_equal_trials_the_first_wins() -> None:
    twins = [*TRIALS, trial(9, 0.4, Hyperparameters(L1, 0.02, patience=4)), trial(10, 0.4, WINNER)]
    assert by_role(twins)["winner"].trial == 5


def test_what_is_no_trial_has_the_winners_learning_rate() -> None:
    winner = replace(WINNER, learning_rate=0.03)
    trials = [trial(0, 0.9, replace(FIRST, learning_rate=0.01)), trial(1, 0.4, winner)]
    found = by_role(trials, **{"space.learning_rate": 0.03})
    for role in ("baseline", "early_stopping", "winner_without_penalty", "winner_without_dropout"):
        assert found[role].hyperparameters.learning_rate == 0.03
    assert found["first_trial"].hyperparameters.learning_rate == 0.01


@pytest.mark.parametrize("order", [1, -1])
def test_do_not_depend_on_the_order_of_trials(order: int) -> None:
    assert choose_finalists(tiny_config(), TRIALS[::order]) == choose_finalists(
        tiny_config(), TRIALS
    )
