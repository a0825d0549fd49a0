"""Owns what the figure of the finalists shows: what each of them changes against the baseline."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.figures.parts import Axis, Intervals, Line, Panel, Plot
from pipeline.figures.scales import drawable, ends, near, padded
from pipeline.figures.style import FAINT, spelled
from pipeline.records import Confirmation, Finalist, StudyRecord
from pipeline.results import Array
from pipeline.space import Regularization

# The metrics shown, in both of which less is better.
SHOWN = {"test_loss": "test loss", "gap": "gap"}


def finalists_plots(record: StudyRecord) -> list[Plot]:
    """The figure of a study whose finalists were trained again, none before two can be compared."""
    confirmation = record.confirmation
    baseline = None if confirmation is None else confirmation.finalist("baseline")
    if confirmation is None or baseline is None:
        return []
    others = [each for each in confirmation.finalists if each is not baseline]
    names = tuple(_two_lines(spelled(each.name)) for each in others)
    y_axis = Axis("", ticks=names, limits=(max(len(names), 1) - 0.5, -0.5))
    panels = []
    for metric, words in SHOWN.items():
        intervals = _intervals(confirmation, others, baseline, metric)
        x_axis = _axis(words, intervals)
        zero = Line("baseline", FAINT, np.zeros(2), np.array(y_axis.limits), dash=True)
        lines = [zero] if intervals else []
        panels.append(Panel(x_axis, y_axis, lines=lines, intervals=intervals))
    title = "What the finalists change, on fresh replicates"
    plot = Plot("finalists", title, panels, stacked=False)
    return [] if all(panel.empty for panel in panels) else [plot]


def _intervals(
    confirmation: Confirmation, others: Sequence[Finalist], baseline: Finalist, metric: str
) -> list[Intervals]:
    """The differences to the baseline, by type and by whether they can be told from none."""
    # Late: most studies' pictures are drawn before there is a confirmation.
    from pipeline.confirm.measures import difference_of
    from pipeline.confirm.statistics import ALPHA, holm

    found = [difference_of(confirmation, each, baseline, metric) for each in others]
    corrected = holm(np.array([each.p_value for each in found]))
    drawn = []
    for kind in Regularization:
        for hollow in (False, True):
            places = [
                place
                for place, each in enumerate(others)
                if each.hyperparameters.regularization is kind
                and np.isfinite(found[place].mean)
                and hollow != bool(corrected[place] < ALPHA)
            ]
            if places:
                x, low, high = (
                    drawable(np.array([getattr(found[place], name) for place in places]))
                    for name in ("mean", "low", "high")
                )
                names = [spelled(others[place].name) for place in places]
                y = np.array(places, dtype=np.float64)
                drawn.append(Intervals(kind, hollow, names, x, low, high, y))
    return drawn


def _axis(words: str, intervals: Sequence[Intervals]) -> Axis:
    """An axis with zero on it and without the few wild ends, which its note counts."""
    label = f"difference in {words}\n(finalist - baseline)"
    if not intervals:
        return Axis(label)
    reached = np.concatenate([_reach(each) for each in intervals], axis=1)
    values = np.append(reached[np.isfinite(reached)], 0.0)
    low, high = limits = padded(*ends(values[near(values[np.newaxis])]))
    if not low < 0 < high:
        low, high = limits = padded(min(low, 0), max(high, 0))
    beyond = int(((reached < low) | (reached > high)).any(axis=0).sum())
    note = ""
    if beyond:
        reach = "1 interval reaches" if beyond == 1 else f"{beyond} intervals reach"
        note = f"{words.capitalize()}: {reach} beyond the range shown."
    return Axis(label, limits=limits, note=note)


def _reach(each: Intervals) -> Array:
    return np.stack([each.low, each.x, each.high])


def _two_lines(name: str) -> str:
    """Broken at the space nearest to the middle of a name that is long."""
    spaces = [place for place, letter in enumerate(name) if letter == " "]
    if len(name) <= 15 or not spaces:
        return name
    middle = min(spaces, key=lambda place: abs(place - len(name) / 2))
    return f"{name[:middle]}\n{name[middle + 1 :]}"
