"""Owns the summary: a study in Markdown, for the parent run's description."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

from pipeline.report.answer import answer
from pipeline.report.caveats import caveats
from pipeline.report.facts import facts
from pipeline.report.frames import cell, types_frame
from pipeline.results import StudyRecord


def summary_markdown(record: StudyRecord) -> str:
    """A short summary for the parent run's description."""
    best = record.best
    again = (
        "To run it again: download the artifact `study.toml`, then "
        "`mlflow run . -P study=study.toml` or `python -m pipeline run study.toml`."
    )
    if best is not None:
        again += f" The best trial alone: `python -m pipeline reproduce {_escaped(best.run_id)}`."
    lines = [
        f"## {_escaped(record.name)}",
        "",
        *(f"- **{label}**: {_escaped(text)}" for label, text in facts(record)),
        "",
        _escaped(" ".join(answer(record))),
        "",
        *_table(record),
        "",
        *(f"- **Warning**: {_escaped(caveat)}" for caveat in caveats(record)),
        "",
        again,
    ]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)) + "\n"


def _table(record: StudyRecord) -> Iterator[str]:
    frame = types_frame(record)
    yield "| " + " | ".join(name.replace("_", " ") for name in frame.columns) + " |"
    yield "|" + "---|" * len(frame.columns)
    for values in frame.itertuples(index=False):
        yield "| " + " | ".join(cell(value)["text"] for value in values) + " |"


def _escaped(text: str) -> str:
    """Text that Markdown, and the HTML in it, leave alone."""
    escaped = html.escape(" ".join(text.split()), quote=False)
    return re.sub(r"([\\`*\[\]|])", r"\\\1", escaped)
