"""Owns what is measured of finalists: a metric's mean, a difference in pairs, the gap removed."""

from __future__ import annotations

import math

from pipeline.confirm.statistics import Estimate, difference, estimate
from pipeline.results import Confirmation, Finalist

METRICS = (
    "val_loss",
    "test_loss",
    "test_score",
    "gap",
    "overfit_gap",
    "best_epoch",
    "sparsity",
)


def mean_of(confirmation: Confirmation, finalist: Finalist, metric: str) -> Estimate:
    """A finalist's mean over the replicates that ended."""
    return estimate(confirmation.values(finalist.name, metric), confirmation.rows)


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
