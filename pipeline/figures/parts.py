"""Owns the parts that a study's figures are described with, whoever draws them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.results import Array
from pipeline.space import Regularization

# What an empty panel without a title says.
NOTHING = "nothing to show yet"


@dataclass(frozen=True)
class Points:
    """Trials of one type, a marker each; hollow ones were pruned."""

    kind: Regularization
    hollow: bool
    numbers: list[int]
    x: Array
    y: Array


@dataclass(frozen=True)
class Line:
    """A line; NaN interrupts it.

    With `numbers`, each of its points belongs to that trial. A `filled` one bounds an area above
    zero, stands alone in its panel and is named by the panel's title, not by a legend.
    """

    name: str
    colour: str
    x: Array
    y: Array
    dash: bool = False
    width: float = 1.8
    numbers: Array | None = None
    filled: bool = False


@dataclass(frozen=True)
class Intervals:
    """Estimates of one type, a marker each, and how far along x they may be off.

    Hollow ones cannot be told from zero. NaN in `low` and `high` leaves the marker alone.
    """

    kind: Regularization
    hollow: bool
    names: list[str]
    x: Array
    low: Array
    high: Array
    y: Array


@dataclass(frozen=True)
class Bars:
    """Horizontal bars, one per place on the y axis, stacked on those that came before.

    Without a name they have no place in the legend.
    """

    name: str
    hatch: str
    opacity: float
    colours: list[str]
    widths: Array


@dataclass(frozen=True)
class Axis:
    """One side of a panel; without `limits` it shows everything."""

    label: str
    log: bool = False
    ticks: tuple[str, ...] = ()  # names of the places 0, 1, 2, ...
    limits: tuple[float, float] | None = None
    whole: bool = False  # only whole numbers stand on it
    note: str = ""  # a sentence on what the limits leave out


@dataclass(frozen=True)
class Panel:
    """A pair of axes and what stands between them."""

    x: Axis
    y: Axis
    points: Sequence[Points] = ()
    lines: Sequence[Line] = ()
    bars: Sequence[Bars] = ()
    intervals: Sequence[Intervals] = ()
    title: str = ""

    @property
    def empty(self) -> bool:
        """Whether it holds nothing yet."""
        return not (self.points or self.lines or self.bars or self.intervals)


@dataclass(frozen=True)
class Plot:
    """One figure: panels below one another that share x, or beside one another that share y."""

    name: str
    title: str
    panels: Sequence[Panel]
    stacked: bool = True
    square: bool = False  # a unit is as long on x as it is on y
    low: bool = False  # panels are half as high as others

    @property
    def rows(self) -> int:
        """How many names stand below one another on its y axes."""
        return max(len(panel.y.ticks) for panel in self.panels)

    @property
    def note(self) -> str:
        """What its axes leave out, empty if that is nothing."""
        notes = [axis.note for panel in self.panels for axis in (panel.x, panel.y)]
        return " ".join(filter(None, dict.fromkeys(notes)))
