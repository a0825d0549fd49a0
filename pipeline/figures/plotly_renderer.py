"""Owns a study's figures for the report, drawn with plotly."""

from __future__ import annotations

import html
import math
from collections.abc import Iterator, Sequence
from copy import deepcopy
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.figures.parts import NOTHING, Axis, Panel, Plot
from pipeline.figures.style import COLOURS, FAINT, MARKERS
from pipeline.results import Array

if TYPE_CHECKING:
    import plotly.graph_objects as go

# A white of its own: the page puts its ground's colour in its place.
PAPER = "#fefefe"

# On a clear ground, so that a page can colour it.
LAYOUT: dict[str, Any] = {
    "template": "none",
    "barmode": "stack",
    "hovermode": "closest",
    "paper_bgcolor": "rgba(0,0,0,0)",
    "plot_bgcolor": "rgba(0,0,0,0)",
    "font": {"family": "system-ui, sans-serif", "size": 13},
    "margin": {"l": 70, "r": 16, "t": 56, "b": 48},
    "legend": {"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0, "xanchor": "left"},
}

# Next to the axes' names and the legend, however wide or narrow the page is.
SQUARE = {
    "x": {"constrain": "domain", "constraintoward": "left"},
    "y": {"constrain": "domain", "constraintoward": "top", "scaleanchor": "x"},
}


def interactive_figures(plots: Sequence[Plot]) -> dict[str, go.Figure]:
    """The figures of `study_figures` for a page, by the same names without the suffix."""
    return {plot.name: _figure(plot) for plot in plots}


def _figure(plot: Plot) -> go.Figure:
    # Late: the process that draws learning curves does without plotly.
    import plotly.graph_objects as go

    n_panels = len(plot.panels)
    # Put together first: a figure that is changed part by part takes five times as long.
    layout: dict[str, Any] = deepcopy(_grid(n_panels, plot.stacked))
    traces, annotations = [], []
    named = {""}
    for index, panel in enumerate(plot.panels, start=1):
        number = str(index) if index > 1 else ""  # as plotly counts axes
        place = {"xaxis": f"x{number}", "yaxis": f"y{number}"}
        for trace in (*_bars(panel), *_lines(panel), *_points(panel), *_intervals(panel)):
            # One legend entry stands for a type or a line in all panels.
            group = trace["legendgroup"]
            traces.append({"showlegend": group not in named, **trace, **place})
            named.add(group)
        for which in ("x", "y"):
            layout[f"{which}axis{number}"] |= _axis(plot, panel, which)
        if panel.empty or panel.title:
            annotations.append(_words(panel, number))
    title = {"text": plot.title, "yref": "container", "y": 0.98, "automargin": True}
    title |= {"subtitle": {"text": plot.note}}
    height = 640 if plot.square or (plot.stacked and n_panels > 1) else 440
    height = max(height, 150 + 36 * plot.rows) if not plot.low else 130 + 130 * n_panels
    layout |= {**LAYOUT, "title": title, "height": height, "annotations": annotations}
    return go.Figure(traces, layout)


@cache
def _grid(n_panels: int, stacked: bool) -> dict[str, Any]:
    """The layout of panels side by side or below one another: what their axes share, and where."""
    from plotly.subplots import make_subplots

    grid = make_subplots(
        rows=n_panels if stacked else 1,
        cols=1 if stacked else n_panels,
        shared_xaxes=stacked,
        shared_yaxes=not stacked,
        vertical_spacing=0.06,
        horizontal_spacing=0.06,
    )
    layout: dict[str, Any] = grid.layout.to_plotly_json()
    del layout["template"]  # long, and none of ours
    return layout


def _words(panel: Panel, number: str) -> dict[str, Any]:
    """What is written across a panel: its title, in a corner or, where bars may reach, above."""
    shape: dict[str, Any] = {"showarrow": False}
    shape |= {f"{which}ref": f"{which}{number} domain" for which in ("x", "y")}
    if panel.empty:
        return shape | {"text": panel.title or NOTHING, "x": 0.5, "y": 0.5}
    shape |= {"text": panel.title, "x": 1.0, "y": 1.0}
    return shape | ({"x": 0.0, "yanchor": "bottom"} if panel.bars else {})


def _points(panel: Panel) -> Iterator[dict[str, Any]]:
    def words(axis: Axis, letter: str) -> str:
        # A place among named ticks is no value, and says nothing under the cursor.
        name = axis.label.partition("\n")[0]
        return "" if axis.ticks else f"<br>{name} %{{{letter}:.4g}}"

    for cloud in panel.points:
        yield {
            "type": "scatter",
            "mode": "markers",
            "name": f"{cloud.kind}, pruned" if cloud.hollow else str(cloud.kind),
            "legendgroup": str(cloud.kind),
            "x": _single(cloud.x),
            "y": _single(cloud.y),
            "customdata": np.array(cloud.numbers, dtype=np.int32),
            "hovertemplate": f"trial %{{customdata}}{words(panel.x, 'x')}{words(panel.y, 'y')}",
            "marker": {
                "color": COLOURS[cloud.kind],
                "symbol": MARKERS[cloud.kind][1] + ("-open" if cloud.hollow else ""),
                "size": 8,
                "opacity": 0.6 if cloud.hollow else 0.85,
            },
        }


def _intervals(panel: Panel) -> Iterator[dict[str, Any]]:
    words = panel.x.label.partition("\n")[0]
    for kind in dict.fromkeys(each.kind for each in panel.intervals):
        # For the legend alone, which would show a type as hollow if its first marker is.
        sample = {"color": COLOURS[kind], "symbol": MARKERS[kind][1], "size": 9}
        yield {
            "type": "scatter",
            "mode": "markers",
            "name": str(kind),
            "legendgroup": str(kind),
            "x": [None],
            "y": [None],
            "marker": sample,
        }
    for each in panel.intervals:
        known = np.isfinite(each.low) & np.isfinite(each.high)
        yield {
            "type": "scatter",
            "mode": "markers",
            "name": str(each.kind),
            "legendgroup": str(each.kind),
            "x": each.x,
            "y": each.y,
            "error_x": {
                "type": "data",
                "array": np.where(known, each.high - each.x, 0.0),
                "arrayminus": np.where(known, each.x - each.low, 0.0),
                "color": COLOURS[each.kind],
                "thickness": 2.2,
                "width": 0,
            },
            "text": [_plain(name) for name in each.names],
            "customdata": np.stack([each.low, each.high], axis=1),
            "hovertemplate": f"%{{text}}<br>{words} %{{x:+.4g}}<br>"
            "95 % interval %{customdata[0]:+.4g} to %{customdata[1]:+.4g}",
            "marker": {
                # An open symbol would let the bar show through.
                "color": PAPER if each.hollow else COLOURS[each.kind],
                "symbol": MARKERS[each.kind][1],
                "size": 11,
                "opacity": 1,
                "line": {"width": 2, "color": COLOURS[each.kind]},
            },
        }


def _plain(text: str) -> str:
    """Text that plotly does not take for its markup."""
    return html.escape(text, quote=False)


def _lines(panel: Panel) -> Iterator[dict[str, Any]]:
    for line in panel.lines:
        trace: dict[str, Any] = {
            "type": "scatter",
            "mode": "lines",
            "name": line.name,
            "legendgroup": line.name,
            "x": line.x,
            "y": line.y,
            "line": {
                "color": line.colour,
                "width": line.width,
                "dash": "dash" if line.dash else "solid",
            },
            # A place among named ticks is no value.
            "hovertemplate": line.name + ("" if panel.y.ticks else " %{y:.4g}") + "<extra></extra>",
        }
        if line.filled:
            trace |= {"fill": "tozeroy", "fillcolor": line.colour + "40", "showlegend": False}
        if line.numbers is not None:
            # Many curves: short integers keep the report small, as single precision does.
            trace |= {
                "x": line.x.astype(np.int32),
                "y": _single(line.y),
                "customdata": line.numbers.astype(np.int32),
                "opacity": 0.7,
                "hovertemplate": f"trial %{{customdata}}, {line.name}<br>epoch %{{x}}<br>"
                "loss %{y:.4g}<extra></extra>",
            }
        yield trace


def _single(values: Array) -> NDArray[np.floating]:
    """Values in single precision, unless some are beyond it: more than a screen shows."""
    sizes = np.abs(values[np.isfinite(values) & (values != 0)])
    limits = np.finfo(np.float32)
    fits = not sizes.size or (sizes.min() > limits.tiny and sizes.max() < limits.max)
    return values.astype(np.float32) if fits else values


def _bars(panel: Panel) -> Iterator[dict[str, Any]]:
    for bars in panel.bars:
        yield {
            "type": "bar",
            "orientation": "h",
            "name": bars.name,
            "legendgroup": bars.name,
            "x": bars.widths,
            "y": np.arange(len(bars.widths)),
            "marker": {
                "color": bars.colours,
                "opacity": bars.opacity,
                "line": {"width": 1, "color": FAINT},
                "pattern": {"shape": bars.hatch, "solidity": 0.3},
            },
            "hovertemplate": f"%{{x}} epochs {bars.name}<extra></extra>",
        }


def _axis(plot: Plot, panel: Panel, which: str) -> dict[str, Any]:
    axis: Axis = getattr(panel, which)
    # What panels share is named once.
    last, first = panel is plot.panels[-1], panel is plot.panels[0]
    named = (last or not plot.stacked) if which == "x" else (first or plot.stacked)
    shape: dict[str, Any] = {
        "type": "log" if axis.log else "linear",
        "automargin": True,
        "zeroline": False,
        "gridcolor": "rgba(128,128,128,0.25)",
        "linecolor": "rgba(128,128,128,0.6)",
        "showline": True,
        "visible": not panel.empty,
    }
    if named:
        words = axis.label.replace("\n", "<br>")
        shape["title"] = {"text": words, "standoff": 8, "font": {"size": 12}}
    if axis.log:
        # Without a format the ticks between powers of ten would be bare digits: 5 for 0.05.
        shape |= {"nticks": 6, "tickformat": "~e" if _lowest(panel, which) < 1e-4 else "~g"}
    if axis.ticks:
        names = [_broken(_plain(name)) for name in axis.ticks]
        shape |= {"tickvals": list(range(len(names))), "ticktext": names, "tickangle": 0}
    if plot.square:
        shape |= SQUARE[which]
    if axis.limits is not None:
        shape["range"] = list(map(math.log10, axis.limits) if axis.log else axis.limits)
    return shape


def _broken(name: str) -> str:
    """A tick's name on lines of its own: long ones stand side by side on a phone, too."""
    return (name.replace("_", "_<br>") if len(name) > 10 else name).replace("\n", "<br>")


def _lowest(panel: Panel, which: str) -> float:
    """The smallest positive value on an axis."""
    drawn = [getattr(each, which) for each in (*panel.points, *panel.lines)]
    return min((float(each[each > 0].min(initial=math.inf)) for each in drawn), default=math.inf)
