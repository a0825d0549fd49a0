"""The space is conditional: what does not apply to a regularization type is never asked."""

from __future__ import annotations

import math
from typing import Any

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import FixedTrial

from pipeline.space import Hyperparameters, Range, Regularization, SearchSpace

SPACE = SearchSpace.model_validate({"learning_rate": {"low": 1e-4, "high": 1e-2}})
EVERYTHING = {
    "lambda": 0.01,
    "l1_ratio": 0.37,
    "dropout": 0.2,
    "patience": 7,
    "learning_rate": 3e-3,
}

ASKED = {
    Regularization.NONE: {"regularization", "dropout", "patience", "learning_rate"},
    Regularization.L1: {"regularization", "lambda", "dropout", "patience", "learning_rate"},
    Regularization.L2: {"regularization", "lambda", "dropout", "patience", "learning_rate"},
    Regularization.WEIGHT_DECAY: {
        "regularization",
        "lambda",
        "dropout",
        "patience",
        "learning_rate",
    },
    Regularization.ELASTIC_NET: {"regularization", *EVERYTHING},
}


class TestHyperparameters:
    @pytest.mark.parametrize(
        ("values", "rule"),
        [
            ({"regularization": "l2", "lambda_": -0.1}, "lambda must be finite and at least 0"),
            ({"regularization": "l2", "lambda_": math.nan}, "lambda must be finite"),
            ({"regularization": "l2", "lambda_": math.inf}, "lambda must be finite"),
            ({"lambda_": 0.1}, "lambda must be 0 without regularization, however: 0.1"),
            ({"regularization": "elastic_net"}, "l1_ratio must be from 0 to 1 for elastic_net"),
            ({"regularization": "elastic_net", "l1_ratio": 1.1}, "l1_ratio must be from 0 to 1"),
            ({"regularization": "l1", "l1_ratio": 0.5}, "l1_ratio must be absent"),
            ({"dropout": 1.0}, "dropout must be at least 0 and below 1, however: 1.0"),
            ({"dropout": -0.1}, "dropout must be at least 0"),
            ({"dropout": math.nan}, "dropout must be at least 0"),
            ({"patience": 0}, "patience must be at least 1"),
            ({"learning_rate": 0.0}, "learning_rate must be above 0"),
            ({"learning_rate": math.nan}, "learning_rate must be above 0"),
        ],
    )
    def test_outside_their_domain_are_refused(self, values: dict[str, Any], rule: str) -> None:
        with pytest.raises(ValueError, match=rule) as caught:
            Hyperparameters(**values)
        assert "however:" in str(caught.value)

    def test_take_the_regularization_by_name(self) -> None:
        assert Hyperparameters("l2", 0.1).regularization is Regularization.L2  # type: ignore[arg-type]

    def test_refuse_an_unknown_regularization(self) -> None:
        with pytest.raises(ValueError, match="l3"):
            Hyperparameters("l3")  # type: ignore[arg-type]


class TestSuggest:
    @pytest.mark.parametrize("regularization", list(Regularization))
    def test_asks_for_exactly_what_applies(self, regularization: Regularization) -> None:
        trial = FixedTrial({"regularization": str(regularization), **EVERYTHING})
        hyperparameters = SPACE.suggest(trial)
        assert trial.params.keys() == ASKED[regularization]
        assert hyperparameters == Hyperparameters(
            regularization=regularization,
            lambda_=0.0 if regularization is Regularization.NONE else 0.01,
            l1_ratio=0.37 if regularization is Regularization.ELASTIC_NET else None,
            dropout=0.2,
            patience=7,
            learning_rate=3e-3,
        )

    @pytest.mark.parametrize("regularization", list(Regularization))
    def test_asks_for_nothing_that_is_fixed(self, regularization: Regularization) -> None:
        fixed = {"regularization": str(regularization), **EVERYTHING}
        trial = FixedTrial({})
        hyperparameters = SearchSpace.model_validate(fixed).suggest(trial)
        assert trial.params == {}
        assert hyperparameters.regularization is regularization
        assert hyperparameters.dropout == 0.2
        assert hyperparameters.patience == 7
        assert hyperparameters.learning_rate == 3e-3

    def test_keeps_patience_off(self) -> None:
        space = SearchSpace.model_validate({"patience": "off"})
        trial = FixedTrial({"regularization": "none", "dropout": 0.1})
        assert space.suggest(trial).patience == "off"
        assert "patience" not in trial.params

    def test_leaves_the_learning_rate_to_the_study_by_default(self) -> None:
        assert SearchSpace().learning_rate is None
        trial = FixedTrial({"regularization": "none", "dropout": 0.1, "patience": 3})
        assert SearchSpace().suggest(trial).learning_rate is None

    def test_in_a_real_study_stays_inside_the_space(self) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        seen = set()
        for _ in range(97):
            trial = study.ask()
            found = SPACE.suggest(trial)
            seen.add(found.regularization)
            assert trial.params.keys() == ASKED[found.regularization]
            assert SPACE.free_parameters(found) == trial.params
            assert 0 <= found.dropout <= 0.7
            assert isinstance(found.patience, int)
            assert 3 <= found.patience <= 30
            if found.regularization is not Regularization.NONE:
                assert 1e-6 <= found.lambda_ <= 1e-1
        assert seen == set(Regularization)


class TestFreeParameters:
    @pytest.mark.parametrize("regularization", list(Regularization))
    def test_enqueued_lead_back_to_the_same_trial(self, regularization: Regularization) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        wanted = SPACE.default(regularization)
        study.enqueue_trial(SPACE.free_parameters(wanted))
        assert SPACE.suggest(study.ask()) == wanted

    @given(
        regularization=st.sampled_from(list(Regularization)),
        strength=st.floats(1e-6, 1e-1),
        ratio=st.floats(0.05, 0.95),
        dropout=st.floats(0, 0.7),
        patience=st.integers(3, 30),
        rate=st.floats(1e-4, 1e-2),
    )
    def test_are_what_suggest_draws(
        self,
        regularization: Regularization,
        strength: float,
        ratio: float,
        dropout: float,
        patience: int,
        rate: float,
    ) -> None:
        wanted = Hyperparameters(
            regularization,
            0.0 if regularization is Regularization.NONE else strength,
            ratio if regularization is Regularization.ELASTIC_NET else None,
            dropout,
            patience,
            rate,
        )
        free = SPACE.free_parameters(wanted)
        assert free.keys() == ASKED[regularization]
        assert SPACE.suggest(FixedTrial(free)) == wanted

    def test_of_a_fixed_space_are_none(self) -> None:
        fixed = {"regularization": "l2", "lambda": 0.01, "dropout": 0.5, "patience": "off"}
        space = SearchSpace.model_validate(fixed)
        assert space.free_parameters(space.default(Regularization.L2)) == {}


class TestDefaults:
    def test_unregularized_has_no_guardrail(self) -> None:
        assert SearchSpace().unregularized() == Hyperparameters(dropout=0.0, patience=30)

    def test_unregularized_keeps_patience_off(self) -> None:
        trial = SearchSpace.model_validate({"patience": "off"}).unregularized()
        assert trial is not None
        assert trial.patience == "off"

    def test_unregularized_is_absent_where_the_space_has_no_none(self) -> None:
        assert SearchSpace.model_validate({"regularization": ["l1", "l2"]}).unregularized() is None

    def test_default_is_the_middle_of_every_range_on_its_own_scale(self) -> None:
        found = SPACE.default(Regularization.ELASTIC_NET)
        assert found.lambda_ == pytest.approx(math.sqrt(1e-7))
        assert found.l1_ratio == pytest.approx(0.5)
        assert found.dropout == pytest.approx(0.35)
        assert found.patience == 16
        assert found.learning_rate == pytest.approx(1e-3)

    @pytest.mark.parametrize("regularization", list(Regularization))
    def test_default_has_only_what_applies(self, regularization: Regularization) -> None:
        found = SearchSpace().default(regularization)
        assert (found.lambda_ > 0) == (regularization is not Regularization.NONE)
        assert (found.l1_ratio is not None) == (regularization is Regularization.ELASTIC_NET)


class TestRange:
    @pytest.mark.parametrize(
        ("low", "high", "log", "middle"),
        [(1, 5, False, 3), (3, 30, False, 16), (1, 100, True, 10), (7, 7, True, 7)],
    )
    def test_of_integers_has_an_integer_middle(
        self, low: int, high: int, log: bool, middle: int
    ) -> None:
        interval = Range[int](low=low, high=high, log=log)
        assert interval.middle == middle
        assert isinstance(interval.middle, int)

    @given(low=st.floats(1e-6, 1), high=st.floats(1e-6, 1), log=st.booleans())
    def test_contains_its_middle(self, low: float, high: float, log: bool) -> None:
        low, high = min(low, high), max(low, high)
        middle = Range[float](low=low, high=high, log=log).middle
        assert low * (1 - 1e-12) <= middle <= high * (1 + 1e-12)

    def test_of_one_value_is_fixed(self) -> None:
        assert Range[float](low=0.0, high=0.0, log=True).fixed
        assert not Range[float](low=0.0, high=0.1).fixed


@pytest.mark.parametrize(
    ("kinds", "names"),
    [
        (["none"], ["dropout", "patience"]),
        (["none", "l1"], ["lambda", "dropout", "patience"]),
        (["elastic_net"], ["lambda", "l1_ratio", "dropout", "patience"]),
    ],
)
def test_a_space_has_the_ranges_that_apply_to_its_types(kinds: list[str], names: list[str]) -> None:
    assert list(SearchSpace(regularization=kinds).ranges()) == names
    without = SearchSpace(regularization=kinds, patience="off").ranges()
    assert list(without) == names[:-1]
