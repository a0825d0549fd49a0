"""Owns the statistics: a mean with its interval, a difference with its p-value, Holm's correction.

Replicates draw their training rows from one pool, so their training sets overlap and what they give
is correlated: the variance of their mean is larger than s^2 / R, and an ordinary t-test is too
sure of itself. Nadeau and Bengio (2003, "Inference for the Generalization Error", Machine Learning
52, 239-281, section 3) put (1/R + n_val/n_train) s^2 in its place, with Student's t of R - 1
degrees of freedom: the corrected resampled t-test.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from pipeline.results import Array

# How often an interval may miss, and a test be wrong where there is nothing to find.
ALPHA = 0.05


@dataclass(frozen=True)
class Estimate:
    """A mean over replicates and what is known of it.

    Attributes:
        mean: NaN without a value.
        low, high: The 95 % interval; NaN with fewer than two values.
        standard_error: Corrected for the overlap of the training rows; NaN like the interval.
        p_value: Two-sided, of a mean of 0; NaN like the interval.
        count: How many values it rests on.
    """

    mean: float
    low: float
    high: float
    standard_error: float
    p_value: float
    count: int


def estimate(values: Array, rows: tuple[int, int]) -> Estimate:
    """The mean of [R] values, one a replicate, by the corrected resampled t-test.

    Args:
        values: What is not finite is left out: a replicate that failed.
        rows: How many rows a replicate trains on, and is validated on: the second by the first
            corrects. With none of the latter this is the ordinary t-test.
    """
    known = values[np.isfinite(values)]
    count, n_train, n_val = len(known), *rows
    if count < 2:
        mean = float(known[0]) if count else math.nan
        return Estimate(mean, math.nan, math.nan, math.nan, math.nan, count)
    if (known == known[0]).all():  # computed, their mean and deviation may be a last bit off
        mean, deviation = float(known[0]), 0.0
    else:
        with np.errstate(over="ignore", under="ignore"):
            mean, deviation = float(known.mean()), float(known.std(ddof=1))
    standard_error = math.sqrt(1 / count + n_val / n_train) * deviation
    if standard_error == 0:
        return Estimate(mean, mean, mean, 0.0, float(mean == 0), count)
    # Student's t; scipy.stats has it, too, and takes half a second more to import.
    from scipy.special import stdtr, stdtrit

    reach = float(stdtrit(count - 1, 1 - ALPHA / 2)) * standard_error
    p_value = 2 * float(stdtr(count - 1, -abs(mean) / standard_error))
    return Estimate(mean, mean - reach, mean + reach, standard_error, p_value, count)


def difference(values: Array, against: Array, rows: tuple[int, int]) -> Estimate:
    """The mean of `values - against`, [R] each, paired: a replicate that lacks one is left out."""
    with np.errstate(invalid="ignore"):  # infinity less infinity
        return estimate(values - against, rows)


def holm(p_values: Array) -> Array:
    """[M] p-values as large as a family of M tests makes them, in the order given.

    The step-down procedure of Holm (1979, "A simple sequentially rejective multiple test
    procedure", Scandinavian Journal of Statistics 6, 65-70): the smallest is multiplied by M, the
    next by M - 1 and so on, none ending below one that was smaller. What is NaN was not tested: it
    stays NaN and is not counted.
    """
    adjusted = np.full(len(p_values), np.nan)
    tested = np.flatnonzero(~np.isnan(p_values))
    order = tested[np.argsort(p_values[tested], kind="stable")]
    steps = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps * p_values[order]), 1)
    return adjusted
