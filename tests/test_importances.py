from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from pipeline.importances import (
    FEWEST,
    MOST_FOR_F_ANOVA,
    Importances,
    _thinned,
    importances,
)
from pipeline.records import TrialRecord
from pipeline.results import History, StopReason, TrialState
from pipeline.space import Hyperparameters, Regularization, SearchSpace

NOTHING = History(*(np.empty(0) for _ in range(4)))


def trial(number: int, chosen: Hyperparameters, val_loss: float) -> TrialRecord:
    scalars = {"val_loss": val_loss}
    state, reason = TrialState.COMPLETE, StopReason.MAX_EPOCHS
    return TrialRecord(number, f"run{number}", state, reason, chosen, 0, NOTHING, scalars)


def chosen(rng: np.random.Generator) -> Hyperparameters:
    kind = list(Regularization)[rng.integers(5)]
    return Hyperparameters(
        kind,
        lambda_=0.0 if kind is Regularization.NONE else 10 ** rng.uniform(-6, -1),
        l1_ratio=rng.uniform(0.05, 0.95) if kind is Regularization.ELASTIC_NET else None,
        dropout=rng.uniform(0, 0.7),
        patience=int(rng.integers(3, 31)),
    )


def study(n_trials: int, loss) -> list[TrialRecord]:
    rng = np.random.default_rng(0)
    drawn = (chosen(rng) for _ in range(n_trials))
    return [trial(number, each, loss(each)) for number, each in enumerate(drawn)]


def shares(found: Importances | None) -> dict[str, tuple[float, float]]:
    assert found is not None
    pairs = zip(found.f_anova.tolist(), found.ped_anova.tolist(), strict=True)
    return dict(zip(found.names, pairs, strict=True))


def test_what_decides_the_loss_is_found_by_both_ways() -> None:
    trials = study(100, lambda each: 1 + each.dropout**2)
    found = importances(trials, SearchSpace(), seed=0)
    both = shares(found)
    assert next(iter(both)) == "dropout"
    assert min(both["dropout"]) > 0.8
    assert np.sum([*both.values()], axis=0) == pytest.approx([1, 1])
    assert set(both) == {"regularization", "lambda", "l1_ratio", "dropout", "patience"}
    assert found is not None
    assert found.n_trials == 100


def test_a_hyperparameter_that_only_some_trials_have_is_weighed_on_its_own_scale() -> None:
    """Lambda by its decades: a tenth of its range would hold nine tenths of the values."""
    trials = study(200, lambda each: abs(math.log10(each.lambda_) + 5) if each.lambda_ else 2.5)
    both = shares(importances(trials, SearchSpace(), seed=0))
    assert max(both, key=lambda name: both[name][0]) == "lambda"
    assert both["lambda"][0] > 0.7
    assert both["lambda"][1] > 0.7
    # The middle of the range stands for trials without a penalty: no type is better for it.
    assert both["regularization"][0] < 0.2


def test_what_is_fixed_has_no_importance() -> None:
    space = SearchSpace.model_validate(
        {"regularization": "l2", "dropout": 0.5, "patience": "off", "lambda": 1e-3}
    )
    fixed = Hyperparameters(Regularization.L2, 1e-3, dropout=0.5, patience="off")
    trials = [trial(n, fixed, 1 + n) for n in range(20)]
    assert importances(trials, space, seed=0) is None
    ranged = space.model_copy(update={"dropout": SearchSpace().dropout})
    trials = [trial(n, replace(fixed, dropout=n / 40), 1 + n) for n in range(20)]
    assert shares(importances(trials, ranged, seed=0)) == {"dropout": (1.0, 1.0)}


@pytest.mark.parametrize(
    "trials",
    [
        [],
        study(FEWEST - 1, lambda each: each.dropout),
        study(30, lambda _: 0.5),
        study(30, lambda _: math.nan),
        study(30, lambda each: 1e200 * each.dropout),
    ],
)
def test_nothing_is_said_where_nothing_can_be_told(trials: list[TrialRecord]) -> None:
    assert importances(trials, SearchSpace(), seed=0) is None


def test_the_same_study_has_the_same_importances() -> None:
    trials = study(40, lambda each: each.dropout + each.patience / 30)
    first, again = (shares(importances(trials, SearchSpace(), seed=3)) for _ in range(2))
    assert first == again


def test_a_long_study_is_thinned_over_all_of_its_length() -> None:
    trials = study(1000, lambda each: each.dropout)
    kept = [each.number for each in _thinned(trials[::-1])]
    assert len(kept) == MOST_FOR_F_ANOVA
    assert (kept[0], kept[-1]) == (0, 999)
    assert max(np.diff(kept)) <= 6
    assert _thinned(trials[:7]) == trials[:7]
