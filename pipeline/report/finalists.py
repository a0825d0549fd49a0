"""Owns the finalists' tables: who they are, their means, and what they change, as they are read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.confirm import words
from pipeline.confirm.comparison import pairs_frame, summary_frame
from pipeline.confirm.measures import METRICS
from pipeline.confirm.statistics import LEVEL
from pipeline.figures.style import COLOURS, describe, spelled
from pipeline.report.frames import MISSING
from pipeline.report.verdict import champion
from pipeline.results import Confirmation, StudyRecord

if TYPE_CHECKING:
    import pandas as pd

HEADINGS = {metric: spelled(metric) for metric in METRICS}


@dataclass(frozen=True)
class Cell:
    """A number, and below it what is known of it; `sure` if it cannot be chance."""

    text: str
    below: tuple[str, ...] = ()
    sure: bool = False


def finalists_table(record: StudyRecord, confirmation: Confirmation) -> dict[str, Any]:
    """A row a finalist: its roles, what it is, and the mean and interval of each metric."""
    columns = [*HEADINGS.values()]
    columns.insert(columns.index("gap") + 1, "gap removed")
    chosen = champion(record)
    rows = []
    for finalist, values in zip(confirmation.finalists, _rows(confirmation), strict=True):
        cells = {HEADINGS[metric]: mean_cell(values, metric) for metric in METRICS}
        cells["gap removed"] = Cell(percent(values["gap_removed"]))
        planned, ended = len(confirmation.replicates), int(values["replicates"])
        rows.append(
            {
                "name": spelled(finalist.name),
                "roles": [spelled(role) for role in finalist.roles if role != finalist.name],
                "what": describe(finalist.hyperparameters),
                "colour": COLOURS[finalist.hyperparameters.regularization],
                "trial": finalist.trial,
                "ended": "" if ended == planned else f"{ended} of {planned} replicates ended",
                "champion": finalist is chosen,
                "cells": [cells[column] for column in columns],
            }
        )
    return {"columns": columns, "rows": rows}


def differences_tables(confirmation: Confirmation) -> list[dict[str, Any]]:
    """A table for the baseline and one for the winner: what each other finalist changes."""
    frame = pairs_frame(confirmation)
    colours = {
        each.name: COLOURS[each.hyperparameters.regularization] for each in confirmation.finalists
    }
    return [
        {
            "against": str(against),
            "columns": [*HEADINGS.values()],
            "rows": [
                {
                    "name": spelled(str(name)),
                    "colour": colours[str(name)],
                    "cells": [_difference(values) for values in of_one.to_dict("records")],
                }
                for name, of_one in of_all.groupby("finalist", sort=False)
            ],
        }
        for against, of_all in frame.groupby("against", sort=False)
    ]


def short_table(confirmation: Confirmation) -> list[dict[str, str]]:
    """A line a finalist for where there is little room."""
    return [
        {
            "finalist": spelled(finalist.name),
            "val loss": plus_minus(values, "val_loss"),
            "test loss": plus_minus(values, "test_loss"),
            "gap": mean_cell(values, "gap").text,
            "gap removed": percent(values["gap_removed"]),
        }
        for finalist, values in zip(confirmation.finalists, _rows(confirmation), strict=True)
    ]


def mean_cell(values: Mapping[str, float], metric: str) -> Cell:
    """A metric's mean, with its interval below."""
    mean, low, high = (float(values[f"{metric}_{what}"]) for what in ("mean", "low", "high"))
    if not math.isfinite(mean):
        return Cell(MISSING)
    decimals = _decimals(mean, low, high)
    return Cell(words.amount(mean, decimals), _range(low, high, decimals))


def plus_minus(values: Mapping[str, float], metric: str) -> str:
    """`0.432 ± 0.012`: a mean and half of its 95 % interval."""
    mean, low, high = (float(values[f"{metric}_{what}"]) for what in ("mean", "low", "high"))
    if not math.isfinite(mean):
        return MISSING
    decimals, half = _decimals(mean, low, high), (high - low) / 2
    size = f" ± {words.amount(half, decimals)}" if math.isfinite(half) else ""
    return words.amount(mean, decimals) + size


def percent(share: float) -> str:
    """`61 %`."""
    return f"{100 * share:.0f} %" if math.isfinite(share) else MISSING


def _difference(values: Mapping[str, float]) -> Cell:
    mean, low, high = (float(values[name]) for name in ("difference", "low", "high"))
    if not math.isfinite(mean):
        return Cell(MISSING)
    decimals, p_value = _decimals(mean, low, high), float(values["p_holm"])
    below = _range(low, high, decimals)
    below += (words.chance(p_value),) if math.isfinite(p_value) else ()
    sign = "+" if mean > 0 else ""
    return Cell(sign + words.amount(mean, decimals), below, p_value < 1 - LEVEL)


def _range(low: float, high: float, decimals: int) -> tuple[str, ...]:
    if not (math.isfinite(low) and math.isfinite(high)):
        return ()
    return (f"{words.amount(low, decimals)} to {words.amount(high, decimals)}",)


def _decimals(mean: float, low: float, high: float) -> int:
    """So many that the interval's half width has two digits: more would be chance."""
    half = (high - low) / 2
    return words.decimals_for(half if math.isfinite(half) and half > 0 else mean)


def _rows(confirmation: Confirmation) -> list[dict[str, Any]]:
    frame: pd.DataFrame = summary_frame(confirmation)
    records: list[dict[str, Any]] = frame.to_dict("records")
    return records
