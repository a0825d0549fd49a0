"""Owns what is measured of finalists: a metric's mean, a difference in pairs, the gap removed."""

from __future__ import annotations

import math

from pipeline.confirm.statistics import Estimate, difference, estimate
from pipeline.records import Confirmation, Finalist

METRICS = (
    "val_loss",
    "test_loss",
    "test_score",
    "gap",
    "overfit_gap",
    "best_epoch",
    "sparsity",
)

# What all replicates measure on the same rows, which none of them trains on.
ON_TEST_ROWS = {"test_loss", "test_score"}


def mean_of(confirmation: Confirmation, finalist: Finalist, metric: str) -> Estimate:
    """A finalist's mean over the replicates that ended.

    On the same test rows replicates differ by their training rows alone, of which they share most:
    leaving n_val of n_train + n_val rows out at random is a delete-d jackknife, whose variance is
    n_train/n_val s^2 (Shao and Wu 1989, "A General Theory for Jackknife Variance Estimation",
    Annals of Statistics 17). With Nadeau and Bengio's n_val/n_train the interval of a mean test
    loss holds the truth 65 times in 100, with this 96 times: see `benchmarks/calibration.py`. In
    differences the shared rows cancel, and their correction is enough.
    """
    n_train, n_val = confirmation.rows
    rows = (n_val, n_train) if metric in ON_TEST_ROWS else (n_train, n_val)
    return estimate(confirmation.values(finalist.name, metric), rows)


def difference_of(
    confirmation: Confirmation, finalist: Finalist, against: Finalist, metric: str
) -> Estimate:
    """`finalist` minus `against` over the replicates that both ended, paired by replicate."""
    return difference(
        confirmation.values(finalist.name, metric),
        confirmation.values(against.name, metric),
        confirmation.rows,
    )


def baseline_gap(confirmation: Confirmation) -> float:
    """The baseline's mean gap, which shares are taken of; NaN where it has no positive one."""
    baseline = confirmation.finalist("baseline")
    gap = math.nan if baseline is None else mean_of(confirmation, baseline, "gap").mean
    return gap if gap > 0 else math.nan


def overfits(confirmation: Confirmation) -> bool:
    """Whether the baseline's gap is above 0 by more than chance: the interval lies above it."""
    baseline = confirmation.finalist("baseline")
    return baseline is not None and mean_of(confirmation, baseline, "gap").low > 0
