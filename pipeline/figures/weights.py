"""Owns what the figure of weights shows: what each type's best network is made of."""

from __future__ import annotations

import numpy as np

from pipeline.figures.parts import Axis, Line, Panel, Plot
from pipeline.figures.style import COLOURS
from pipeline.records import StudyRecord, TrialRecord
from pipeline.results import Array

BINS = 61

# So much of each network is shown: the tails of one would press the others into a few bins.
SHOWN = 0.998


def weights_plot(record: StudyRecord) -> Plot:
    """A histogram a type, of the weights that are not zero, and the share of those that are."""
    trials = [trial for trial in record.best_of_types if trial.number in record.kernels]
    weights = [np.asarray(record.kernels[trial.number], dtype=np.float64) for trial in trials]
    weights = [each[np.isfinite(each)] for each in weights]
    reach = max(map(_reach, weights), default=0.0) or 1.0
    beyond = sum(int((np.abs(each) > reach).sum()) for each in weights)
    x_axis = Axis("weight of a kernel", limits=(-reach, reach), note=_note(beyond))
    panels = [_panel(*pair, x_axis) for pair in zip(trials, weights, strict=True)]
    title = "Weights of each type's best network"
    return Plot("weights", title, panels or [Panel(Axis(""), Axis(""))], low=bool(panels))


def _reach(weights: Array) -> float:
    """How far from zero most of the other weights lie; all of them, if that is not much farther."""
    sizes = np.abs(weights[weights != 0])
    if not sizes.size:
        return 0.0
    most, all_of_them = float(np.quantile(sizes, SHOWN)), float(sizes.max())
    return all_of_them if all_of_them < 2 * most else most


def _note(beyond: int) -> str:
    if not beyond:
        return ""
    return f"{beyond:,} {'weight lies' if beyond == 1 else 'weights lie'} beyond the range shown."


def _panel(trial: TrialRecord, weights: Array, x_axis: Axis) -> Panel:
    kind, zeros = trial.hyperparameters.regularization, int((weights == 0).sum())
    size = max(weights.size, 1)
    counts, edges = np.histogram(weights[weights != 0], BINS, range=x_axis.limits)
    # Drawn as steps that begin and end on the axis.
    x = np.repeat(edges, 2)
    y = np.concatenate([[0.0], np.repeat(counts / size, 2), [0.0]])
    line = Line(str(kind), COLOURS[kind], x, y, width=1.4, filled=True)
    share = zeros / size
    told = f"{share:.0%} of {weights.size:,} weights are zero" if zeros else "no weight is zero"
    title = f"{kind}, trial {trial.number}: {told}"
    return Panel(x_axis, Axis("share of\nall weights"), lines=[line], title=title)
