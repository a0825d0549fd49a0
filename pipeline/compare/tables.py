"""Owns the tables of a comparison: headings and rows of text, for 80 columns."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pipeline.compare.settings import differences
from pipeline.compare.sides import Side
from pipeline.confirm import words
from pipeline.confirm.guardrails import Guardrail, Verdict, guardrails
from pipeline.confirm.measures import mean_of
from pipeline.confirm.statistics import Estimate
from pipeline.figures.style import spelled
from pipeline.records import Finalist
from pipeline.report.frames import MISSING, number, scalar
from pipeline.report.verdict import champion, confirmed

DIFFERS = "what differs"


@dataclass(frozen=True)
class Table:
    """What is printed under a title; the columns named in `folded` are broken where it is narrow.

    Attributes:
        title: What it is of.
        headings: One a column; the first columns are words, from `numbers` on they are numbers.
        rows: A text a column.
        folded: Columns that may be broken anywhere.
        numbers: The first column that is aligned to the right.
    """

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    folded: Sequence[int]
    numbers: int


def tables(sides: Sequence[Side]) -> list[Table]:
    """Those that have rows, in the order in which they are read."""
    found = [_studies(sides), _settings(sides), _finalists(sides), _guardrails(sides)]
    return [table for table in found if table.rows]


def _studies(sides: Sequence[Side]) -> Table:
    rows = []
    for side in sides:
        record, best = side.record, side.record.best
        kind = MISSING if best is None else str(best.hyperparameters.regularization)
        loss, gap = number(scalar(best, "val_loss")), number(scalar(best, "gap"))
        counts = str(len(record.trials)), str(len(record.complete))
        rows.append((side.letter, record.name, side.short_id, kind, *counts, loss, gap))
    headings = ("", "study", "run", "best type", "trials", "done", "val loss", "gap")
    title = f"{len(sides)} studies, by the best trial of each search"
    return Table(title, headings, rows, folded=[1], numbers=4)


def _settings(sides: Sequence[Side]) -> Table:
    rows = [
        (key, *(MISSING if value is None else value for value in values))
        for key, values in differences(sides).items()
    ]
    headings = ("setting", *(side.letter for side in sides))
    columns = len(headings)
    return Table(DIFFERS, headings, rows, folded=range(1, columns), numbers=columns)


def _finalists(sides: Sequence[Side]) -> Table:
    rows = [row for side in sides for row in _of_one(side)]
    headings = ("", "finalist", "type", "val loss", "test loss", "gap")
    title = "on fresh replicates (mean ± half of the 95 % interval)"
    return Table(title, headings, rows, folded=[1], numbers=3)


def _of_one(side: Side) -> Iterator[tuple[str, ...]]:
    """A row for the winner and one for the champion, where these are two."""
    confirmation = side.record.confirmation
    if confirmation is None or not confirmed(side.record):
        return
    winner, chosen = confirmation.finalist("winner"), champion(side.record)
    shown: list[tuple[str, Finalist]] = []
    if winner is not None:
        shown.append(("winner and champion" if winner is chosen else "winner", winner))
    if chosen is not None and chosen is not winner:
        shown.append((f"champion: {spelled(chosen.name)}", chosen))
    for called, finalist in shown:
        means = [mean_of(confirmation, finalist, each) for each in ("val_loss", "test_loss", "gap")]
        kind = str(finalist.hyperparameters.regularization)
        yield (side.letter, called, kind, *map(_plus_minus, means))


def _plus_minus(found: Estimate) -> str:
    if not math.isfinite(found.mean):
        return MISSING
    decimals = words.decimals_of(found)
    text, half = words.amount(found.mean, decimals), (found.high - found.low) / 2
    return f"{text} ± {words.amount(half, decimals)}" if math.isfinite(half) else text


def _guardrails(sides: Sequence[Side]) -> Table:
    rows = [
        (side.letter, *map(_verdict, guardrails(side.record.confirmation)))
        for side in sides
        if side.record.confirmation is not None and confirmed(side.record)
    ]
    headings = ("", *words.GUARDRAILS.values())
    title = f"guardrails, and what each adds to the test loss ({MISSING}: not compared)"
    return Table(title, headings, rows, folded=[], numbers=1)


def _verdict(guardrail: Guardrail) -> str:
    loss = guardrail.difference
    if guardrail.verdict is Verdict.NOT_COMPARED or loss is None:
        return MISSING
    added = words.amount(loss.mean, words.decimals_of(loss))
    return f"{guardrail.verdict}\n{'+' if loss.mean > 0 else ''}{added}"
