"""The champion is chosen by validation losses, and by nothing else."""

from __future__ import annotations

import math

import pytest

from pipeline.confirm.champion import choose_champion, in_use
from pipeline.records import Confirmation, Finalist
from pipeline.space import Hyperparameters, Regularization
from tests.confirm.builders import BARE, L2, STOPPED, Values, confirmation, finalist

# Nine values of mean 0 and standard deviation 1 (n - 1): the corrected error of their mean is
# sqrt(1/9 + 1/3) = 2/3.
SPREAD = [math.sqrt(4 / 3) * each for each in (-1, -1, -1, 0, 0, 0, 1, 1, 1)]


def losses(mean: float) -> Values:
    return {"val_loss": [mean + each for each in SPREAD]}


def chosen(confirmed: Confirmation, rule: str) -> str | None:
    champion = choose_champion(confirmed, rule)  # type: ignore[arg-type]
    return champion and champion.name


def three(stopped: float, bare: float, winner: float) -> Confirmation:
    return confirmation(
        (finalist("early_stopping", STOPPED), losses(stopped)),
        (finalist("baseline", BARE), losses(bare)),
        (finalist("winner", L2), losses(winner)),
    )


@pytest.mark.parametrize(
    ("means", "lowest", "simplest"),
    [
        ((5.0, 5.0, 4.0), "winner", "winner"),
        ((4.66, 4.67, 4.0), "winner", "early_stopping"),  # 2/3 above the lowest is the limit
        ((4.67, 4.67, 4.0), "winner", "winner"),
        ((4.1, 4.6, 4.0), "winner", "baseline"),  # simpler counts for more than lower
        ((3.0, 4.0, 4.0), "early_stopping", "early_stopping"),
        ((4.0, 3.9, 4.0), "baseline", "baseline"),
    ],
)
def test_lowest_mean_or_the_simplest_within_one_corrected_standard_error(
    means: tuple[float, float, float], lowest: str, simplest: str
) -> None:
    assert chosen(three(*means), "lowest") == lowest
    assert chosen(three(*means), "one_standard_error") == simplest


def test_of_the_equally_simple_the_lower_mean() -> None:
    confirmed = confirmation(
        (finalist("best_none", Hyperparameters(dropout=0.2)), losses(4.3)),
        (finalist("early_stopping", STOPPED), losses(4.2)),
        (finalist("winner", L2), losses(4.0)),
    )
    assert chosen(confirmed, "one_standard_error") == "early_stopping"


@pytest.mark.parametrize("rule", ["lowest", "one_standard_error"])
def test_who_failed_on_a_replicate_is_none(rule: str) -> None:
    failing = {"val_loss": [0.0, *[each - 9 for each in SPREAD[1:-1]], None]}
    confirmed = confirmation(
        (finalist("winner", L2), failing), (finalist("early_stopping", STOPPED), losses(4.0))
    )
    assert chosen(confirmed, rule) == "early_stopping"
    assert chosen(confirmation((finalist("winner", L2), failing)), rule) is None


@pytest.mark.parametrize("rule", ["lowest", "one_standard_error"])
def test_nothing_trained_is_no_champion(rule: str) -> None:
    waiting = Confirmation((finalist("winner", L2),), (1, 2), (), (60, 20))
    assert chosen(waiting, rule) is None
    assert chosen(Confirmation((finalist("winner", L2),), (), (), (60, 20)), rule) is None


@pytest.mark.parametrize("rule", ["lowest", "one_standard_error"])
@pytest.mark.parametrize("test_loss", [-9.0, 9.0, math.nan])
def test_test_rows_choose_nothing(rule: str, test_loss: float) -> None:
    def with_test(each: Finalist, mean: float, loss: float) -> tuple[Finalist, Values]:
        tested = {"test_loss": [loss] * 9, "test_score": [-loss] * 9, "gap": [loss] * 9}
        return each, {**losses(mean), **tested}

    plain = three(4.1, 5.0, 4.0)
    tested = confirmation(
        with_test(plain.finalists[0], 4.1, test_loss),
        with_test(plain.finalists[1], 5.0, -test_loss),
        with_test(plain.finalists[2], 4.0, 2 * test_loss),
    )
    assert chosen(tested, rule) == chosen(plain, rule) is not None


def test_one_replicate_has_no_standard_error_to_be_within() -> None:
    confirmed = confirmation(
        (finalist("baseline"), {"val_loss": [0.5]}), (finalist("winner", L2), {"val_loss": [0.4]})
    )
    assert chosen(confirmed, "one_standard_error") == "winner"


def test_an_unknown_rule_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"rule must be .*, however: 'best'"):
        choose_champion(three(1, 2, 3), "best")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("hyperparameters", "count"),
    [
        (BARE, 0),
        (STOPPED, 1),
        (Hyperparameters(dropout=0.1), 1),
        (Hyperparameters(Regularization.WEIGHT_DECAY, 0.1), 1),
        (Hyperparameters(Regularization.L1, 0.0), 0),
        (Hyperparameters(Regularization.L1, 0.1, dropout=0.1), 2),
        (L2, 3),
    ],
)
def test_guardrails_in_use_are_counted(hyperparameters: Hyperparameters, count: int) -> None:
    assert in_use(hyperparameters) == count
