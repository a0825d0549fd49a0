"""Numbers with the digits they deserve."""

from __future__ import annotations

import math

import pytest

from pipeline.confirm import words
from pipeline.confirm.statistics import Estimate


def around(mean: float, half: float, count: int = 5) -> Estimate:
    return Estimate(mean, mean - half, mean + half, half / 2, 0.5, count)


@pytest.mark.parametrize(
    ("mean", "half", "text"),
    [
        (0.031, 0.019, "0.031 (95 % interval 0.012 to 0.050)"),
        (0.41234, 0.0021, "0.4123 (95 % interval 0.4102 to 0.4144)"),
        (0.41234, 1e-9, "0.4123 (95 % interval 0.4123 to 0.4123)"),
        (0.41234, 0.0, "0.4123 (95 % interval 0.4123 to 0.4123)"),
        (0.0002, 0.2, "0.0002 (95 % interval -0.20 to 0.20)"),
        (0.0, 0.2, "0 (95 % interval -0.20 to 0.20)"),
        (0.0, 0.0, "0 (95 % interval 0 to 0)"),
        (1234.5, 210.0, "1234 (95 % interval 1024 to 1444)"),
        (2e-9, 1e-9, "2.0e-09 (95 % interval 1.0e-09 to 3.0e-09)"),
    ],
)
def test_as_many_digits_as_the_interval_leaves_standing(
    mean: float, half: float, text: str
) -> None:
    assert words.with_interval(around(mean, half)) == text


def test_the_opposite_difference_has_the_opposite_interval() -> None:
    assert words.with_interval(around(-0.031, 0.019), sign=-1) == (
        "0.031 (95 % interval 0.012 to 0.050)"
    )
    assert words.with_interval(around(-0.031, 0.04), sign=-1, after=", p 1") == (
        "0.031 (95 % interval -0.009 to 0.071, p 1)"
    )


def test_one_replicate_has_no_interval() -> None:
    alone = Estimate(0.4, math.nan, math.nan, math.nan, math.nan, 1)
    assert words.with_interval(alone) == "0.4000 (one replicate, no interval)"


@pytest.mark.parametrize(
    ("p_value", "text"), [(0.5, "p 0.5"), (0.0123, "p 0.012"), (0.0009, "p < 0.001"), (1.0, "p 1")]
)
def test_chance(p_value: float, text: str) -> None:
    assert words.chance(p_value) == text


@pytest.mark.parametrize(
    ("given", "text"), [(["a"], "a"), (["a", "b"], "a and b"), (["a", "b", "c"], "a, b and c")]
)
def test_a_list(given: list[str], text: str) -> None:
    assert words.listed(given) == text


def test_every_role_has_words() -> None:
    roles = """baseline winner early_stopping best_none best_l1 best_l2 best_elastic_net
        best_weight_decay winner_without_penalty winner_without_dropout
        winner_without_early_stopping first_trial default_trial"""
    assert set(words.ROLES) == set(roles.split())
