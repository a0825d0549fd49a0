"""Owns the page: a study as one HTML file that needs no network."""

from __future__ import annotations

import base64
import functools
import gzip
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import jinja2
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from pipeline.figures.plotly_renderer import interactive_figures
from pipeline.figures.style import COLOURS, describe
from pipeline.report.answer import answer, unregularized
from pipeline.report.caveats import caveats
from pipeline.report.confirmation import confirmation_section
from pipeline.report.doubts import doubts
from pipeline.report.facts import facts, made_by, types_of
from pipeline.report.frames import cell, number, scalar, trials_frame, types_frame
from pipeline.report.verdict import verdict
from pipeline.results import StudyRecord, TrialState
from pipeline.space import Regularization

HOW_TO_READ: dict[str, str] = {
    "finalists": "Left of the dashed line is better than the baseline: the bar is the 95 % "
    "interval of the difference, paired by replicate. A hollow marker may be chance: its p-value, "
    "corrected for all finalists, is 5 % or more.",
    "validation_loss_by_type": "Each marker is a trial and each bar the median of the complete "
    "ones: look at the lowest markers for what a type can reach, at the bar for how easily.",
    "generalization_plane": "The further a trial stands above the dashed diagonal, the more it "
    "overfits; good trials are low, whether or not they are far to the left.",
    "lambda": "Where validation loss dips, the penalty helps; to the right of that it also costs; "
    "the dashed level is the best trial without a penalty.",
    "dropout": "The gap should shrink to the right; the right rate is where validation loss is "
    "lowest, not where the gap is.",
    "patience": "A level cloud says that patience hardly matters here, and a short one saves "
    "epochs.",
    "learning_curves": "Training loss on the left, validation loss on the right, on one scale: "
    "curves that fall on the left and rise on the right overfit.",
    "optimization_history": "The line falls whenever a trial beat all before it: once it has been "
    "level for long, more trials promise little.",
    "epochs": "Solid: epochs trained; hatched: epochs that were not, because a trial had stopped "
    "improving or was no match for others.",
}


def render(record: StudyRecord, links: Mapping[int, str] | None = None) -> str:
    """The report: one HTML page that needs no network.

    Args:
        record: The study.
        links: Where a trial's run can be seen, by trial number.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pipeline"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    captions, figures = _figures(record)
    return environment.get_template("report.html").render(
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
        # No "<" is left in either, so nothing in them can end their script element.
        figures_json=Markup(figures),
        plotly=Markup(_plotly_bundle()),
        trials=_trials_table(record, links or {}),
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


def _figures(record: StudyRecord) -> tuple[dict[str, tuple[str, str]], str]:
    """Titles and captions by name, and all figures as JSON that no script element ends early."""
    captions, documents = {}, []
    for name, figure in interactive_figures(record).items():
        title, caption = figure.layout.title, HOW_TO_READ[name]
        if title.subtitle.text:
            caption += f" {title.subtitle.text} Double-click to see everything."
        captions[name] = title.text, caption
        figure.update_layout(title=None)
        documents.append(f'"{name}": {figure.to_json()}')
    text = "{" + ",\n".join(documents) + "}"
    return captions, text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


@functools.cache
def _plotly_bundle() -> str:
    """plotly.js as base64 of gzip, which is two fifths of its size; the browser unpacks it."""
    packed = gzip.compress(get_plotlyjs().encode(), compresslevel=9, mtime=0)
    return base64.b64encode(packed).decode("ascii")
