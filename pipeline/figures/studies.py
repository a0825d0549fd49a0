"""Owns what the figure of several studies shows: each type's best loss, searched and confirmed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pipeline.figures.parts import Axis, Intervals, Panel, Plot, Points
from pipeline.figures.record import loss_unit
from pipeline.figures.scales import drawable, ends, log_helps, near, padded
from pipeline.figures.style import spelled
from pipeline.records import StudyRecord, TrialRecord
from pipeline.results import Array
from pipeline.space import Regularization

# The finalists that studies have in common, beside the best trial of each type.
FIRST = ("baseline", "early_stopping")


@dataclass(frozen=True)
class _Row:
    """A line of the figure: one finalist of one study, as far as it is known.

    Attributes:
        role, letter: Whose it is.
        kind: Its regularization type.
        trial: The best one of that type in the search; None where the role is of no trial.
        test: [3] mean test loss and its interval, NaN where it was not confirmed.
    """

    role: str
    letter: str
    kind: Regularization
    trial: TrialRecord | None
    test: Array


def studies_plot(studies: Mapping[str, StudyRecord], note: str = "") -> Plot:
    """Studies side by side.

    Args:
        studies: By what each is called, which begins with the letter that stands for it.
        note: A sentence that must stand below.
    """
    rows = list(_rows({called[0]: record for called, record in studies.items()}))
    units = {loss_unit(record) for record in studies.values()}
    unit = units.pop() if len(units) == 1 else "units differ"
    y_axis = Axis("", ticks=tuple(_ticks(rows)), limits=(max(len(rows), 1) - 0.5, -0.5))
    found = _searched(rows)
    label = f"validation loss\n({unit})"
    x_axis = replace(_axis(label, [cloud.x[np.newaxis] for cloud in found]), note=note)
    panels = [Panel(x_axis, y_axis, found, title="best of the search")]
    again = _confirmed(rows)
    if again:
        x_axis = _axis(
            f"test loss\n({unit})", [np.stack([each.low, each.x, each.high]) for each in again]
        )
        title = "on fresh replicates, with 95 % intervals"
        panels.append(Panel(x_axis, y_axis, intervals=again, title=title))
    title = "\n".join(["Studies side by side", *studies])
    return Plot("compare", title, panels, stacked=False)


def _rows(studies: Mapping[str, StudyRecord]) -> Iterator[_Row]:
    """By finalist, and within it by study: what is compared stands together."""
    roles: dict[str, Regularization] = dict.fromkeys(FIRST, Regularization.NONE)
    roles |= {f"best_{kind}": kind for kind in Regularization}
    for role, kind in roles.items():
        for letter, record in studies.items():
            of_kind = (t for t in record.complete if t.hyperparameters.regularization is kind)
            trial = None if role in FIRST else next(of_kind, None)
            test = _test_loss(record, role)
            if trial is not None or np.isfinite(test[0]):
                yield _Row(role, letter, kind, trial, test)


def _test_loss(record: StudyRecord, role: str) -> Array:
    # Late: most figures are drawn without a confirmation.
    from pipeline.confirm.measures import mean_of

    confirmation = record.confirmation
    finalist = None if confirmation is None else confirmation.finalist(role)
    if confirmation is None or finalist is None or not confirmation.finished:
        return np.full(3, np.nan)
    found = mean_of(confirmation, finalist, "test_loss")
    return np.array([found.mean, found.low, found.high])


def _ticks(rows: Sequence[_Row]) -> Iterator[str]:
    """A letter a row, and what they are of beside the first of them."""
    before = ""
    for row in rows:
        words = spelled(row.role).removeprefix("best ")
        yield row.letter if row.role == before else f"{words}  {row.letter}"
        before = row.role


def _searched(rows: Sequence[_Row]) -> list[Points]:
    clouds = []
    for kind in Regularization:
        places = [
            (row.trial.number, row.trial.val_loss, place)
            for place, row in enumerate(rows)
            if row.trial is not None and row.kind is kind and math.isfinite(row.trial.val_loss)
        ]
        if places:
            numbers, losses, y = zip(*places, strict=True)
            x = drawable(np.array(losses))
            clouds.append(Points(kind, False, list(numbers), x, np.array(y, dtype=np.float64)))
    return clouds


def _confirmed(rows: Sequence[_Row]) -> list[Intervals]:
    drawn = []
    for kind in Regularization:
        own = [
            (place, row)
            for place, row in enumerate(rows)
            if row.kind is kind and np.isfinite(row.test[0])
        ]
        if own:
            x, low, high = drawable(np.stack([row.test for _, row in own], axis=1))
            names = [f"{spelled(row.role)}, {row.letter}" for _, row in own]
            y = np.array([place for place, _ in own], dtype=np.float64)
            drawn.append(Intervals(kind, False, names, x, low, high, y))
    return drawn


def _axis(label: str, reached: Sequence[Array]) -> Axis:
    """An axis without the few wild values, which its note counts; log where that helps."""
    if not reached:
        return Axis(label)
    places = np.concatenate(reached, axis=1)
    values = places[np.isfinite(places)]
    if log_helps(values):
        return Axis(label, log=True)
    low, high = limits = padded(*ends(values[near(values[np.newaxis])]))
    beyond = int(((places < low) | (places > high)).any(axis=0).sum())
    name = label.partition("\n")[0].capitalize()
    lie = "1 lies" if beyond == 1 else f"{beyond} lie"
    note = f"{name}: {lie} beyond the range shown." if beyond else ""
    return Axis(label, limits=limits, note=note)
