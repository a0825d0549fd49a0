"""Owns the summary: a study in Markdown, for the parent run's description."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator

from pipeline.report.answer import answer
from pipeline.report.caveats import caveats
from pipeline.report.doubts import doubts
from pipeline.report.facts import facts
from pipeline.report.finalists import short_table
from pipeline.report.frames import cell, types_frame
from pipeline.report.verdict import verdict
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
        *_confirmed(record),
        "",
        _escaped(" ".join(answer(record))),
        "",
        *_types(record),
        "",
        *(f"- **Warning**: {_escaped(each)}" for each in (*doubts(record), *caveats(record))),
        "",
        again,
    ]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)) + "\n"


def _confirmed(record: StudyRecord) -> Iterator[str]:
    """The verdict, the finalists in short, and a heading for what the search found."""
    said = verdict(record)
    if not said:
        return
    yield from ("### On fresh replicates", "", _escaped(said[0]), "")
    yield from (f"- {_escaped(sentence)}" for sentence in said[1:])
    yield ""
    if record.confirmation is not None and record.confirmation.records:
        lines = short_table(record.confirmation)
        yield from _table(lines[0], (line.values() for line in lines))
    yield from ("", "### In the search")


def _types(record: StudyRecord) -> Iterator[str]:
    frame = types_frame(record)
    rows = ([cell(value)["text"] for value in row] for row in frame.itertuples(index=False))
    return _table((name.replace("_", " ") for name in frame.columns), rows)


def _table(headings: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    headings = list(headings)
    yield "| " + " | ".join(headings) + " |"
    yield "|" + "---|" * len(headings)
    for row in rows:
        yield "| " + " | ".join(map(_escaped, row)) + " |"


def _escaped(text: str) -> str:
    """Text that Markdown, and the HTML in it, leave alone."""
    escaped = html.escape(" ".join(text.split()), quote=False)
    return re.sub(r"([\\`*\[\]|])", r"\\\1", escaped)
