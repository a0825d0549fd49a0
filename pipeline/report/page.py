"""Owns the page: a study as one HTML file that needs no network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from pipeline.figures.plots import study_plots
from pipeline.figures.style import COLOURS, describe
from pipeline.records import StudyRecord
from pipeline.report.answer import answer, unregularized
from pipeline.report.caveats import caveats
from pipeline.report.confirmation import confirmation_section
from pipeline.report.doubts import doubts
from pipeline.report.facts import facts, made_by, types_of
from pipeline.report.figures import Shown, packed, plotly_bundle, shown, template
from pipeline.report.frames import cell, number, scalar, trials_frame, types_frame
from pipeline.report.verdict import verdict
from pipeline.results import TrialState
from pipeline.space import Regularization

# So many rows of the table of trials stand in the page as they are; more are packed, like figures.
ROWS_IN_SIGHT = 300


def render(
    record: StudyRecord, links: Mapping[int, str] | None = None, figures: Shown | None = None
) -> str:
    """The report: one HTML page that needs no network.

    Args:
        record: The study.
        links: Where a trial's run can be seen, by trial number.
        figures: Its figures, if they are there already.
    """
    figures = figures or shown(study_plots(record))
    captions = dict(figures.captions)
    return template("report.html").render(
        record=record,
        verdict=verdict(record),
        doubts=doubts(record),
        answer=answer(record),
        confirmation=confirmation_section(record),
        tiles=_tiles(record),
        warnings=caveats(record),
        facts=[*facts(record), *made_by(record)],
        types=_types_table(record),
        # It stands in the confirmation's own section.
        finalists_figure=captions.pop("finalists", None),
        figures=[(name, *caption) for name, caption in captions.items()],
        packed_figures=figures.packed,
        plotly=plotly_bundle(),
        trials=_trials_table(record, links or {}),
        packed=packed,
        rows_in_sight=ROWS_IN_SIGHT,
        best_number=None if record.best is None else record.best.number,
        reference=unregularized(record),
        states=[str(state) for state in TrialState],
        kinds=[str(kind) for kind in types_of(record)],
    )


def _tiles(record: StudyRecord) -> list[dict[str, str]]:
    """The best and the unregularized trial side by side, in figures."""
    best, reference = record.best, unregularized(record)
    pairs = [("Best trial", best), ("Unregularized", None if reference is best else reference)]
    shown = ("val_loss", "train_loss", "gap", "overfit_gap", "best_epoch", "epochs")
    return [
        {
            "title": f"{title}: trial {trial.number}",
            "hyperparameters": describe(trial.hyperparameters),
            "colour": COLOURS[trial.hyperparameters.regularization],
            **{name: number(scalar(trial, name)) for name in shown},
        }
        for title, trial in pairs
        if trial is not None
    ]


def _types_table(record: StudyRecord) -> dict[str, Any]:
    frame = types_frame(record)
    winner = record.best and str(record.best.hyperparameters.regularization)
    rows = [
        {
            "name": name,
            "colour": COLOURS[Regularization(name)],
            "winner": name == winner,
            "cells": [cell(value)["text"] for value in values],
        }
        for name, *values in frame.itertuples(index=False)
    ]
    return {"columns": [name.replace("_", " ") for name in frame.columns], "rows": rows}


def _trials_table(record: StudyRecord, links: Mapping[int, str]) -> dict[str, Any]:
    frame = trials_frame(record).drop(columns=["run_id", "replicate"])
    rows = [
        {
            "number": values["number"],
            "regularization": values["regularization"],
            "state": values["state"],
            "link": _safe(links.get(values["number"])),
            "cells": [cell(value) for value in values.values()],
        }
        for values in frame.to_dict("records")
    ]
    return {"columns": [name.replace("_", " ") for name in frame.columns], "rows": rows}


def _safe(link: str | None) -> str | None:
    """Only what leads to a page: an address of any other kind could run as a script."""
    return link if link and urlsplit(link).scheme in {"", "http", "https"} else None
