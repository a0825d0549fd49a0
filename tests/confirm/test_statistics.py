"""The corrected resampled t-test and Holm's correction, by oracles and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pipeline.confirm.statistics import difference, estimate, holm

NOTHING = math.nan


def some(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float64)


class TestEstimate:
    def test_a_case_by_hand(self) -> None:
        # Mean 3, s^2 = 10 / 4; the variance of the mean is (1/5 + 20/60) 2.5 = 4/3. The 97.5 %
        # point of Student's t with 4 degrees of freedom is 2.7764 in every table.
        found = estimate(some(1, 2, 3, 4, 5), (60, 20))
        assert found.mean == 3
        assert found.standard_error == pytest.approx(math.sqrt(4 / 3))
        assert found.low == pytest.approx(3 - 2.7764 * math.sqrt(4 / 3), abs=1e-4)
        assert found.high == pytest.approx(3 + 2.7764 * math.sqrt(4 / 3), abs=1e-4)
        assert found.count == 5
        # t = 3 / 1.1547 = 2.598 lies between 2.132 (10 %) and 2.776 (5 %).
        assert found.p_value == pytest.approx(0.0602, abs=1e-4)

    def test_without_validation_rows_it_is_the_ordinary_t_test(self) -> None:
        draw = np.random.default_rng(5)
        values = draw.normal(0.2, 1, size=13)
        found, expected = estimate(values, (60, 0)), stats.ttest_1samp(values, 0)
        interval = expected.confidence_interval(0.95)
        assert found.p_value == pytest.approx(expected.pvalue)
        assert (found.low, found.high) == pytest.approx((interval.low, interval.high))

    def test_the_correction_is_that_of_validation_to_training_rows(self) -> None:
        values = some(1, 2, 4)
        errors = [estimate(values, rows).standard_error for rows in ((60, 0), (60, 20), (20, 60))]
        s = values.std(ddof=1)
        assert errors == pytest.approx([s * math.sqrt(1 / 3 + r) for r in (0, 1 / 3, 3)])

    @pytest.mark.parametrize(
        ("values", "mean", "count"),
        [((), math.nan, 0), ((2.0,), 2.0, 1), ((NOTHING, 2.0), 2.0, 1), ((NOTHING,), math.nan, 0)],
    )
    def test_fewer_than_two_values_have_no_interval(
        self, values: tuple[float, ...], mean: float, count: int
    ) -> None:
        found = estimate(some(*values), (60, 20))
        assert found.mean == pytest.approx(mean, nan_ok=True)
        assert found.count == count
        unknown = (found.low, found.high, found.standard_error, found.p_value)
        assert all(math.isnan(each) for each in unknown)

    def test_what_is_not_finite_is_left_out(self) -> None:
        found = estimate(some(1, math.nan, 2, math.inf, 4, -math.inf), (60, 20))
        assert found == estimate(some(1, 2, 4), (60, 20))

    @pytest.mark.parametrize(("value", "p_value"), [(0.0, 1), (-0.0, 1), (0.1, 0), (-1e-300, 0)])
    def test_without_spread_the_mean_is_certain(self, value: float, p_value: float) -> None:
        found = estimate(np.full(7, value), (60, 20))
        assert (found.mean, found.low, found.high) == (value, value, value)
        assert (found.standard_error, found.p_value) == (0, p_value)

    @given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=9))
    def test_never_warns_and_the_mean_lies_in_its_interval(self, values: list[float]) -> None:
        found = estimate(np.array(values), (60, 20))  # warnings are errors
        assert found.count == sum(map(math.isfinite, values))
        assert math.isnan(found.p_value) or 0 <= found.p_value <= 1
        if math.isfinite(found.low) and math.isfinite(found.high):
            assert found.low <= found.mean <= found.high

    @given(st.lists(st.floats(-100, 100), min_size=2, max_size=9))
    def test_zero_is_outside_the_interval_where_the_p_value_is_below_5_percent(
        self, values: list[float]
    ) -> None:
        found = estimate(np.array(values), (60, 20))
        inside = found.low <= 0 <= found.high
        assert inside == (found.p_value >= 0.05) or found.p_value == pytest.approx(0.05)


class TestDifference:
    def test_without_validation_rows_it_is_the_paired_t_test(self) -> None:
        draw = np.random.default_rng(7)
        first, second = draw.normal(1, 1, 17), draw.normal(0, 1, 17)
        found, expected = difference(first, second, (60, 0)), stats.ttest_rel(first, second)
        interval = expected.confidence_interval(0.95)
        assert found.mean == pytest.approx(first.mean() - second.mean())
        assert found.p_value == pytest.approx(expected.pvalue)
        assert (found.low, found.high) == pytest.approx((interval.low, interval.high))

    def test_a_replicate_that_lacks_one_is_left_out_of_both(self) -> None:
        first, second = some(1, math.nan, 3, 5, math.inf), some(0, 9, math.nan, 3, math.inf)
        assert difference(first, second, (60, 20)) == estimate(some(1, 2), (60, 20))

    def test_what_both_share_is_no_spread(self) -> None:
        shared = some(1, 5, 2, 8)
        assert difference(shared, shared, (60, 20)).p_value == 1
        assert difference(shared + 0.5, shared, (60, 20)).p_value == 0


P_VALUES = st.lists(st.one_of(st.floats(0, 1), st.just(math.nan)), max_size=9)


class TestHolm:
    def test_a_case_by_hand(self) -> None:
        # In order .01, .02, .03, .04: 4 x .01, 3 x .02, 2 x .03, then no less than before.
        assert holm(some(0.01, 0.04, 0.03, 0.02)).tolist() == pytest.approx(
            [0.04, 0.06, 0.06, 0.06]
        )

    def test_another_that_ends_at_one(self) -> None:
        # .001 x 5, .01 x 4, .04 x 3, .3 x 2, and .9 no more than 1.
        found = holm(some(0.9, 0.01, 0.3, 0.001, 0.04))
        assert found.tolist() == pytest.approx([0.9, 0.04, 0.6, 0.005, 0.12])
        assert holm(some(0.5, 0.6)).tolist() == [1, 1]

    def test_what_was_not_tested_is_not_of_the_family(self) -> None:
        found = holm(some(0.01, math.nan, 0.04))
        assert found == pytest.approx([0.02, math.nan, 0.04], nan_ok=True)

    def test_of_nothing_is_nothing(self) -> None:
        assert holm(some()).shape == (0,)

    @given(P_VALUES)
    def test_rejects_as_the_step_down_procedure_does(self, p_values: list[float]) -> None:
        found = holm(np.array(p_values))
        tested = sorted(p for p in p_values if not math.isnan(p))
        # Holm's own words: reject while the k-th smallest is at most alpha / (m - k + 1).
        rejected = 0
        while rejected < len(tested) and tested[rejected] * (len(tested) - rejected) <= 0.05:
            rejected += 1
        assert np.sum(found <= 0.05) == rejected

    @given(P_VALUES)
    def test_lies_between_the_p_value_and_bonferroni_and_keeps_the_order(
        self, p_values: list[float]
    ) -> None:
        given_, found = np.array(p_values), holm(np.array(p_values))
        assert np.array_equal(np.isnan(given_), np.isnan(found))
        known = ~np.isnan(given_)
        given_, found = given_[known], found[known]
        assert (found >= given_).all()
        assert (found <= np.minimum(1, len(given_) * given_)).all()
        assert (np.diff(found[np.argsort(given_)]) >= 0).all()

    @given(P_VALUES, st.randoms(use_true_random=False))
    def test_does_not_depend_on_the_order_given(self, p_values: list[float], random) -> None:
        order = list(range(len(p_values)))
        random.shuffle(order)
        shuffled = holm(np.array(p_values)[order]) if p_values else holm(some())
        expected = holm(np.array(p_values))[order] if p_values else holm(some())
        assert np.array_equal(shuffled, expected, equal_nan=True)
