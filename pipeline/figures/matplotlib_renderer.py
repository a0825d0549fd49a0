"""Owns a study's figures as images, drawn with matplotlib."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, NullLocator

from pipeline.figures.parts import NOTHING, Axis, Panel, Plot
from pipeline.figures.scales import locator, short
from pipeline.figures.style import COLOURS, FAINT, GRID, INK, MARKERS
from pipeline.space import Regularization


def study_figures(plots: Sequence[Plot]) -> dict[str, bytes]:
    """PNG images of a study's figures by file name, for its `figures/` folder. Never fails."""
    return {f"{plot.name}.png": image(plot) for plot in plots}


def image(plot: Plot) -> bytes:
    """One figure as a PNG image."""
    n_panels = len(plot.panels)
    rows, columns = (n_panels, 1) if plot.stacked else (1, n_panels)
    # Names below one another need room, the legend and the axes' own names apart.
    height = max(4.8, 1.9 + 0.34 * plot.rows) if rows == 1 else 3.0 * rows
    if plot.low:
        height = 1.6 + 1.4 * rows
    size = (7.0, 6.8) if plot.square else (8.0, height)
    figure = Figure(figsize=size, dpi=110, layout="constrained", facecolor="white")
    grid = figure.subplots(
        rows, columns, squeeze=False, sharex=plot.stacked, sharey=not plot.stacked
    )
    for panel, axes in zip(plot.panels, grid.flat, strict=True):
        _draw(panel, axes)
        if plot.square:
            axes.set_aspect("equal")
        # What panels share is named once.
        axes.label_outer()
    # Names of studies are no formulas.
    figure.suptitle(plot.title, fontsize=13, fontweight="bold", x=0.02, ha="left", parse_math=False)
    figure.legend(
        handles=_legend(plot),
        title=plot.note or None,
        title_fontproperties={"size": 8.5, "style": "italic"},
        loc="outside lower center",
        ncols=7,
        frameon=False,
        fontsize=8.5,
        columnspacing=1.4,
        handletextpad=0.5,
    )
    buffer = io.BytesIO()
    # Level 1 saves two thirds of the compression's time for a few kilobytes more.
    canvas = FigureCanvasAgg(figure)
    canvas.print_png(buffer, pil_kwargs={"compress_level": 1})  # type: ignore[no-untyped-call]
    return buffer.getvalue()


def _draw(panel: Panel, axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(visible=True, color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=9)
    if panel.empty:
        axes.set_axis_off()
        words = panel.title or NOTHING
        axes.text(0.5, 0.5, words, ha="center", transform=axes.transAxes)
        return
    axes.set_title(panel.title, fontsize=10, loc="left")
    left: Any = 0
    for bars in panel.bars:
        # A colour's own alpha leaves the hatch as dark as it is.
        faces = [(colour, bars.opacity) for colour in bars.colours]
        axes.barh(
            np.arange(len(faces)), bars.widths, left=left, color=faces, hatch=bars.hatch * 2,
            edgecolor=INK, linewidth=0.6,
        )  # fmt: skip
        left = left + bars.widths
    for line in panel.lines:
        axes.plot(
            line.x,
            line.y,
            color=line.colour,
            linewidth=line.width,
            linestyle="--" if line.dash else "-",
            alpha=1.0 if line.numbers is None else 0.45,
            # Behind the points, but for what sums them up.
            zorder=3 if line.colour == INK else 1.5,
        )
        if line.filled:
            axes.fill_between(line.x, line.y, color=line.colour, alpha=0.25, linewidth=0)
            axes.set_ylim(bottom=0)
    for cloud in panel.points:
        axes.plot(cloud.x, cloud.y, **_marker(cloud.kind, hollow=cloud.hollow))
    for each in panel.intervals:
        axes.hlines(each.y, each.low, each.high, COLOURS[each.kind], linewidth=2.2, zorder=2)
        # On the bar, a hollow marker is empty like paper, or the bar would fill it.
        look = _marker(each.kind, hollow=each.hollow)
        look |= {"alpha": 1.0, "markersize": 8, "markeredgewidth": 1.8}
        if each.hollow:
            look["markerfacecolor"] = "white"
        axes.plot(each.x, each.y, **look)
    for which, axis in (("x", panel.x), ("y", panel.y)):
        _rule(axes, which, axis)


def _rule(axes: Axes, which: str, axis: Axis) -> None:
    """Scale, ticks, limits and label of one side."""
    side = axes.xaxis if which == "x" else axes.yaxis
    side.set_label_text(axis.label, fontsize=9)
    if axis.log:
        axes.set(**{f"{which}scale": "log"})
        side.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
        side.set_minor_locator(NullLocator())
    if axis.ticks:
        side.set_ticks(range(len(axis.ticks)), axis.ticks, parse_math=False)
    else:
        low, high = side.get_view_interval()
        side.set_major_locator(locator(low, high, log=axis.log, whole=axis.whole))
    if axis.limits is not None:
        axes.set(**{f"{which}lim": axis.limits})


def _marker(kind: Regularization, *, hollow: bool) -> dict[str, Any]:
    return {
        "linestyle": "",
        "marker": MARKERS[kind][0],
        "markersize": 6,
        "markeredgecolor": COLOURS[kind],
        "markeredgewidth": 1.2,
        "markerfacecolor": "none" if hollow else COLOURS[kind],
        "alpha": 0.6 if hollow else 0.85,
        "zorder": 2.5,
    }


def _legend(plot: Plot) -> list[Line2D | Patch]:
    """One entry for each thing that is drawn, whatever panel it is in."""
    handles: dict[str, Line2D | Patch] = {}
    clouds = [cloud for panel in plot.panels for cloud in panel.points]
    intervals = [each for panel in plot.panels for each in panel.intervals]
    kinds = [each.kind for each in clouds] + [each.kind for each in intervals]
    for kind in filter(kinds.__contains__, Regularization):
        handles[kind] = Line2D([], [], label=str(kind), **_marker(kind, hollow=False))
    reasons = {
        "pruned": any(cloud.hollow for cloud in clouds),
        "may be chance": any(each.hollow for each in intervals),
    }
    for reason in (reason for reason, drawn in reasons.items() if drawn):
        style = _marker(Regularization.NONE, hollow=True) | {"markeredgecolor": INK}
        handles[reason] = Line2D([], [], label=f"hollow: {reason}", **style)
    for panel in plot.panels:
        for line in (line for line in panel.lines if not line.filled):
            sample = Line2D([], [], color=line.colour, linewidth=2, label=line.name)
            sample.set_linestyle("--" if line.dash else "-")
            handles[line.name] = sample
        for bars in filter(lambda bars: bars.name, panel.bars):
            face = (FAINT, bars.opacity)
            handles[bars.name] = Patch(
                facecolor=face, edgecolor=INK, hatch=bars.hatch * 2, label=bars.name
            )
    return list(handles.values())
