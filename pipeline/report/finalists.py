"""Owns the finalists' tables: who they are, their means, and what they change, as they are read."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.confirm import words
from pipeline.confirm.comparison import pairs_frame, summary_frame
from pipeline.confirm.measures import METRICS, overfits
from pipeline.confirm.statistics import ALPHA
from pipeline.figures.style import COLOURS, describe, spelled
from pipeline.records import Confirmation, StudyRecord
from pipeline.report.frames import MISSING
from pipeline.report.verdict import champion
from pipeline.results import Array

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
    frame = summary_frame(confirmation)
    cells = {HEADINGS[metric]: _means(frame, metric) for metric in METRICS}
    columns = [*cells]
    columns.insert(columns.index("gap") + 1, "gap removed")
    cells["gap removed"] = [Cell(share) for share in _gap_removed(confirmation, frame)]
    chosen, planned = champion(record), len(confirmation.replicates)
    rows = [
        {
            "name": spelled(finalist.name),
            "roles": [spelled(role) for role in finalist.roles if role != finalist.name],
            "what": describe(finalist.hyperparameters),
            "colour": COLOURS[finalist.hyperparameters.regularization],
            "trial": finalist.trial,
            "ended": "" if ended == planned else f"{ended} of {planned} replicates ended",
            "champion": finalist is chosen,
            "cells": [cells[column][place] for column in columns],
        }
        for place, (finalist, ended) in enumerate(
            zip(confirmation.finalists, frame["replicates"], strict=True)
        )
    ]
    return {"columns": columns, "rows": rows}


def differences_tables(confirmation: Confirmation) -> list[dict[str, Any]]:
    """A table for the baseline and one for the winner: what each other finalist changes."""
    frame = pairs_frame(confirmation)
    kinds = {each.name: each.hyperparameters.regularization for each in confirmation.finalists}
    tables = []
    for against, pairs in frame.groupby("against", sort=False):
        cells = [_differences(pairs[pairs["metric"] == metric]) for metric in METRICS]
        rows = [
            {"name": spelled(name), "colour": COLOURS[kinds[name]], "cells": of_one}
            for name, *of_one in zip(pairs["finalist"].unique(), *cells, strict=True)
        ]
        tables.append({"against": against, "columns": [*HEADINGS.values()], "rows": rows})
    return tables


def short_table(confirmation: Confirmation) -> list[dict[str, str]]:
    """A line a finalist for where there is little room: `0.432 ± 0.012` is half an interval."""
    frame = summary_frame(confirmation)
    columns = {
        "finalist": [spelled(finalist.name) for finalist in confirmation.finalists],
        "val loss": _plus_minus(frame, "val_loss"),
        "test loss": _plus_minus(frame, "test_loss"),
        "gap": [cell.text for cell in _means(frame, "gap")],
        "gap removed": _gap_removed(confirmation, frame),
    }
    return [dict(zip(columns, line, strict=True)) for line in zip(*columns.values(), strict=True)]


def _means(frame: pd.DataFrame, metric: str) -> list[Cell]:
    """A metric's means, each with its interval below."""
    mean, low, high = (frame[f"{metric}_{what}"].to_numpy() for what in ("mean", "low", "high"))
    return _cells(mean, low, high)


def _differences(pairs: pd.DataFrame) -> list[Cell]:
    """A metric's differences, each with its interval and its p-value below."""
    mean, low, high = (pairs[name].to_numpy() for name in ("difference", "low", "high"))
    return [
        replace(
            cell,
            text=f"+{cell.text}" if value > 0 else cell.text,
            below=(*cell.below, words.chance(p_value)) if math.isfinite(p_value) else cell.below,
            sure=p_value < ALPHA,
        )
        for cell, value, p_value in zip(
            _cells(mean, low, high), mean, pairs["p_holm"].tolist(), strict=True
        )
    ]


def _cells(mean: Array, low: Array, high: Array) -> list[Cell]:
    decimals = _decimals(mean, low, high)
    return [
        Cell(_amount(value, decimals), _range(lowest, highest, decimals))
        for value, lowest, highest in zip(mean, low, high, strict=True)
    ]


def _plus_minus(frame: pd.DataFrame, metric: str) -> list[str]:
    mean, low, high = (frame[f"{metric}_{what}"].to_numpy() for what in ("mean", "low", "high"))
    decimals = _decimals(mean, low, high)
    return [
        _amount(value, decimals)
        + (f" ± {words.amount(half, decimals)}" if math.isfinite(half) else "")
        for value, half in zip(mean, (high - low) / 2, strict=True)
    ]


def _decimals(mean: Array, low: Array, high: Array) -> int:
    """For a column what `words.decimals_of` is for one: two digits of the usual half width."""
    half = (high - low) / 2
    half = half[half > 0]
    most = words.decimals_for(np.abs(mean[np.isfinite(mean)]).max(initial=0.0)) + 2
    return min(words.decimals_for(float(np.median(half))), most) if half.size else most


def _range(low: float, high: float, decimals: int) -> tuple[str, ...]:
    if not (math.isfinite(low) and math.isfinite(high)):
        return ()
    return (f"{words.amount(low, decimals)} to {words.amount(high, decimals)}",)


def _amount(value: float, decimals: int) -> str:
    return words.amount(value, decimals) if math.isfinite(value) else MISSING


def _gap_removed(confirmation: Confirmation, frame: pd.DataFrame) -> list[str]:
    # A share of what may be nothing can be any number.
    shares = frame["gap_removed"] if overfits(confirmation) else [math.nan] * len(frame)
    return [_percent(100 * share) if math.isfinite(share) else MISSING for share in shares]


def _percent(value: float) -> str:
    """Beyond three digits it says no more than that."""
    if abs(value) < 999.5:
        return f"{value:.0f} %"
    return "> 999 %" if value > 0 else "< -999 %"
