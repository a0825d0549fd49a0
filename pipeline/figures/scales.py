"""Owns the scales: when a log axis helps, what an axis can hold, where its ticks stand."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.results import Array

if TYPE_CHECKING:
    from matplotlib.ticker import Locator

# From this ratio of largest to smallest on, a linear axis would press most values into its edge.
LOG_RATIO = 20.0

# Losses beyond this, or below its inverse, are drawn there: arithmetic with limits would overflow.
LARGEST_DRAWN = 1e100


def log_helps(values: Array, *, may_clip: bool = False) -> bool:
    """Whether a log axis shows the values better; `may_clip` lets zeros fall off its lower end."""
    values = values[np.isfinite(values)]
    positive = values[values > 0]
    if not positive.size or values.min() < 0 or (values.min() == 0 and not may_clip):
        return False
    return bool(positive.max() >= LOG_RATIO * positive.min())


def drawable(values: Array) -> Array:
    """NaN where there is nothing to draw; finite values within what an axis can hold."""
    finite = np.where(np.isfinite(values), values, np.nan)
    tiny = (finite > 0) & (finite < 1 / LARGEST_DRAWN)
    return np.clip(np.where(tiny, 1 / LARGEST_DRAWN, finite), -LARGEST_DRAWN, LARGEST_DRAWN)


def padded(low: float, high: float, *, log: bool = False) -> tuple[float, float]:
    """Limits with a margin on either side."""
    if log:
        margin = (high / low) ** 0.06
        return low / margin, high * margin
    margin = 0.06 * (high - low) or 0.06 * abs(high) or 0.06
    return low - margin, high + margin


def near(places: Array) -> NDArray[np.bool_]:
    """Which of the points [dimension, point] are not wild: all, if more than a few would be."""
    low, high = np.quantile(places, [0.25, 0.75], axis=1, keepdims=True)
    reach = 6 * (high - low).max()
    inside = np.all((places >= low - reach) & (places <= high + reach), axis=0)
    few = np.count_nonzero(~inside) <= 0.1 * inside.size
    return inside if few else np.ones_like(inside)


def ends(values: Array) -> tuple[float, float]:
    """The lowest and the highest."""
    return float(values.min()), float(values.max())


def locator(low: float, high: float, *, log: bool = False, whole: bool = False) -> Locator:
    """A few ticks at plain numbers, on a log axis however many decades there are."""
    from matplotlib.ticker import LogLocator, MaxNLocator

    if not log:
        return MaxNLocator(6, integer=whole, min_n_ticks=1)
    decades = math.log10(high / low)
    steps = (1.0, 2.0, 5.0) if decades < 2 else (1.0, 3.0) if decades < 3 else (1.0,)
    return LogLocator(subs=steps, numticks=7)


def short(value: float) -> str:
    """A tick's number: `1e-5`, not `1e-05`, so that it fits beside the axis."""
    return f"{value:.6g}".replace("e+", "e").replace("e0", "e").replace("e-0", "e-")
