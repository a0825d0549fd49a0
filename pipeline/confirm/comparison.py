"""Owns the comparison: a table of the finalists, and one of their differences in pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.confirm.measures import METRICS, baseline_gap, difference_of, mean_of
from pipeline.confirm.statistics import holm
from pipeline.records import Confirmation, Finalist

if TYPE_CHECKING:
    import pandas as pd

DESCRIBED = (
    "finalist",
    "regularization",
    "lambda",
    "l1_ratio",
    "dropout",
    "patience",
    "learning_rate",
)
CLOSING = ("gap_removed", "replicates", "roles", "trial")
PAIRS = ("finalist", "against", "metric", "difference", "low", "high", "p_value", "p_holm")
WORDS = {"finalist", "regularization", "patience", "roles", "against", "metric"}
WHOLE = {"replicates": "int64", "trial": "Int64"}


def summary_frame(confirmation: Confirmation) -> pd.DataFrame:
    """One row a finalist: what it is, and the mean and 95 % interval of each metric.

    `gap_removed` is the share of the baseline's mean gap that is gone, NaN where the baseline has
    no positive one; `replicates` is how many ended.
    """
    import pandas as pd

    measured = [name for metric in METRICS for name in _columns(metric)]
    of_baseline = baseline_gap(confirmation)
    rows = []
    for finalist in confirmation.finalists:
        means = {metric: mean_of(confirmation, finalist, metric) for metric in METRICS}
        row = _described(finalist)
        for metric, found in means.items():
            values = (found.mean, found.low, found.high)
            row |= dict(zip(_columns(metric), values, strict=True))
        row["gap_removed"] = 1 - means["gap"].mean / of_baseline
        row["replicates"] = means["val_loss"].count
        row["roles"] = " ".join(finalist.roles)
        row["trial"] = finalist.trial
        rows.append(row)
    return _typed(pd.DataFrame(rows, columns=[*DESCRIBED, *measured, *CLOSING]))


def pairs_frame(confirmation: Confirmation) -> pd.DataFrame:
    """One row a pair and metric: each finalist minus the baseline, then each minus the winner.

    Where the winner is the baseline, it is called `baseline`. Holm's family is all finalists of one
    `against` and `metric`.
    """
    import pandas as pd

    rows: list[dict[str, Any]] = []
    references: list[Finalist] = []
    for role in ("baseline", "winner"):
        against = confirmation.finalist(role)
        if against is None or against in references:
            continue
        references.append(against)
        others = [each for each in confirmation.finalists if each != against]
        rows += _pairs(confirmation, others, against, role)
    return _typed(pd.DataFrame(rows, columns=PAIRS))


def _pairs(
    confirmation: Confirmation, others: list[Finalist], against: Finalist, role: str
) -> list[dict[str, Any]]:
    rows = {}
    for metric in METRICS:
        found = [difference_of(confirmation, each, against, metric) for each in others]
        corrected = holm(np.array([each.p_value for each in found]))
        for finalist, each, p_holm in zip(others, found, corrected, strict=True):
            numbers = (each.mean, each.low, each.high, each.p_value, float(p_holm))
            values = (finalist.name, role, metric, *numbers)
            rows[finalist.name, metric] = dict(zip(PAIRS, values, strict=True))
    return [rows[finalist.name, metric] for finalist in others for metric in METRICS]


def _described(finalist: Finalist) -> dict[str, Any]:
    chosen = finalist.hyperparameters
    penalty = (str(chosen.regularization), chosen.lambda_, chosen.l1_ratio)
    others = (chosen.dropout, chosen.patience, chosen.learning_rate)
    return dict(zip(DESCRIBED, (finalist.name, *penalty, *others), strict=True))


def _columns(metric: str) -> list[str]:
    return [f"{metric}_{what}" for what in ("mean", "low", "high")]


def _typed(frame: pd.DataFrame) -> pd.DataFrame:
    """Numbers as numbers, in a table without rows too."""
    return frame.astype(
        {name: WHOLE.get(name, "float64") for name in frame.columns if name not in WORDS}
    )
