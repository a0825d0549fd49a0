"""Owns the picture of one trial: its learning curves, drawn while the study trains."""

from __future__ import annotations

import io
from functools import cache
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont
from matplotlib.lines import Line2D
from PIL import Image, ImageDraw, ImageFont

from pipeline.figures.scales import drawable, locator, log_helps, padded, short
from pipeline.figures.style import COLOURS, FAINT, GRID, INK, describe
from pipeline.results import Array, History, StopReason
from pipeline.space import Hyperparameters

WIDTH, HEIGHT = 640, 360
KEYS_AT = 46  # pixels from the top, where no legend can hide data

VALIDATION: dict[str, Any] = {"linewidth": 2.6}
TRAINING: dict[str, Any] = {"linewidth": 1.8, "linestyle": (0, (4, 1.6)), "color": INK}
KEPT: dict[str, Any] = {"marker": "o", "markersize": 8, "markeredgecolor": INK}


class LearningCurveFigure:
    """One trial's learning curves, drawn again and again on one figure.

    A study draws hundreds: what never changes is drawn once and copied, artists are made once and
    moved, and the words, which took matplotlib two thirds of the time, are set by Pillow.
    An instance must not be shared between threads.
    """

    def __init__(self) -> None:
        self._figure = figure = Figure((WIDTH / 100, HEIGHT / 100), dpi=100, facecolor="white")
        self._canvas = FigureCanvasAgg(figure)
        self._axes = axes = figure.add_axes((0.115, 0.125, 0.87, 0.7))
        axes.set_autoscale_on(False)
        axes.set_xlabel("epoch", fontsize=10, labelpad=16)
        figure.text(
            0.012, 0.475, "mean loss, without penalty", fontsize=9.5, rotation=90, va="center"
        )
        axes.tick_params(length=0, labelbottom=False, labelleft=False)
        axes.spines[["top", "right"]].set_visible(False)
        y = 1 - KEYS_AT / HEIGHT
        for x, words in ((0.061, "validation"), (0.221, "training")):
            figure.text(x, y, words, fontsize=9.4, color=INK, va="center_baseline")
        self._key([0.174, 0.214], TRAINING)

        self._grid = LineCollection([], colors=GRID, linewidths=0.8)
        axes.add_collection(self._grid, autolim=False)
        self._gap = axes.fill_between([0.0], [0.0], [0.0], alpha=0.18, linewidth=0)
        self._stop_line = axes.axvline(0, color=FAINT, linewidth=1.4, linestyle=(0, (2, 2)))
        self._kept_line = axes.axvline(0, color=INK, linewidth=1.0)
        (self._train,) = axes.plot([], [], **TRAINING)
        (self._val,) = axes.plot([], [], **VALIDATION)
        (self._kept,) = axes.plot([], [], **KEPT)
        self._keys = self._key([0.014, 0.054], VALIDATION), self._key([0.344], KEPT)
        # In the order in which they are drawn.
        self._moving: tuple[Artist, ...] = (
            self._grid, self._gap, self._stop_line, self._kept_line,
            self._train, self._val, self._kept, *self._keys,
        )  # fmt: skip
        for artist in self._moving:
            artist.set_animated(True)
        self._canvas.draw()  # type: ignore[no-untyped-call]
        self._background = self._canvas.copy_from_bbox(figure.bbox)  # type: ignore[no-untyped-call]

    def png(
        self,
        number: int,
        hyperparameters: Hyperparameters,
        history: History,
        kept_epoch: int,
        stop_reason: StopReason,
    ) -> bytes:
        """Draws one trial.

        Args:
            number: Optuna's trial number.
            hyperparameters: What was trained.
            history: Its curves; points that are not finite are left out.
            kept_epoch: The epoch whose weights are kept, 0 if there is none.
            stop_reason: Why training ended after the history's last epoch.

        Returns:
            A PNG image of 640 x 360 pixels.
        """
        train, val = drawable(history.train_loss), drawable(history.val_loss)
        n_epochs = len(history)
        finite = np.isfinite(train) & np.isfinite(val)
        kept = 1 <= kept_epoch <= n_epochs and bool(finite[kept_epoch - 1])

        ticks = self._set_limits(np.concatenate([train, val]), n_epochs)
        self._move_curves(train, val, COLOURS[hyperparameters.regularization])
        self._stop_line.set(xdata=[n_epochs, n_epochs], visible=n_epochs > 0)
        self._kept_line.set(xdata=[kept_epoch, kept_epoch], visible=kept)
        self._kept.set_data([kept_epoch], [val[kept_epoch - 1] if kept else np.nan])
        self._canvas.restore_region(self._background)  # type: ignore[no-untyped-call]
        for artist in self._moving:
            self._figure.draw_artist(artist)
        pixels = np.asarray(self._canvas.buffer_rgba())  # type: ignore[no-untyped-call]
        image = Image.fromarray(pixels).convert("RGB")

        write = ImageDraw.Draw(image)
        self._write_ticks(write, *ticks)
        title = f"trial {number}: {describe(hyperparameters)}"
        write.text((8, 18), title, INK, _largest_that_fits(title, WIDTH - 16), "lm")
        where = "no epoch kept"
        if kept:
            gap = val[kept_epoch - 1] - train[kept_epoch - 1]
            where = f"kept epoch {kept_epoch}, gap {gap:.3g}"
        why = f"stopped at {n_epochs}: {stop_reason.replace('_', ' ')}"
        write.text((230, KEYS_AT), where, INK, _font(13), "lm")
        write.text((WIDTH - 8, KEYS_AT), why, INK, _font(13), "rm")
        if not finite.any():
            words = f"no finite loss in {n_epochs} epochs"
            write.text((347, 190), words, INK, _font(18), "mm")
        buffer = io.BytesIO()
        # A palette takes half the time and a third of the space of true colour.
        palette = image.quantize(128, method=Image.Quantize.FASTOCTREE)
        palette.save(buffer, "png", compress_level=1)
        return buffer.getvalue()

    def _key(self, x: list[float], look: dict[str, Any]) -> Line2D:
        """A sample of a line, above the axes."""
        y = [1 - KEYS_AT / HEIGHT] * len(x)
        line = Line2D(x, y, transform=self._figure.transFigure, **look)
        self._figure.add_artist(line)
        return line

    def _move_curves(self, train: Array, val: Array, colour: str) -> None:
        epochs = np.arange(1, len(val) + 1, dtype=np.float64)
        finite = np.isfinite(train) & np.isfinite(val)
        # One or two points make no line that could be seen.
        marker = "o" if np.count_nonzero(finite) <= 2 else ""
        self._train.set(data=(epochs, train), marker=marker)
        self._val.set(data=(epochs, val), marker=marker, color=colour)
        self._gap.set_data(epochs, train, val, where=finite)  # type: ignore[arg-type]
        self._gap.set_facecolor(colour)
        self._kept.set_markerfacecolor(colour)
        key_of_val, key_of_kept = self._keys
        key_of_val.set_color(colour)
        key_of_kept.set_markerfacecolor(colour)

    def _set_limits(self, losses: Array, n_epochs: int) -> tuple[Array, Array]:
        """Fits the axes, draws the grid, and returns the ticks of epochs and losses."""
        log = log_helps(losses, may_clip=True)
        if log != (self._axes.get_yscale() == "log"):
            self._axes.set_yscale("log" if log else "linear")
        losses = losses[losses > 0] if log else losses[np.isfinite(losses)]
        low, high = (losses.min(), losses.max()) if losses.size else (0.0, 1.0)
        y_limits = padded(float(low), float(high), log=log)
        x_limits = (0.5, max(1.02 * n_epochs, n_epochs + 0.25, 1.5))
        self._axes.set(xlim=x_limits, ylim=y_limits)
        x_ticks = _ticks(x_limits, whole=True)
        y_ticks = _ticks(y_limits, log=log)
        self._grid.set_segments(
            [[(x, y_limits[0]), (x, y_limits[1])] for x in x_ticks]
            + [[(x_limits[0], y), (x_limits[1], y)] for y in y_ticks]
        )
        return x_ticks, y_ticks

    def _write_ticks(self, write: ImageDraw.ImageDraw, x_ticks: Array, y_ticks: Array) -> None:
        left, bottom = self._axes.bbox.x0, HEIGHT - self._axes.bbox.y0
        corner = (self._axes.get_xlim()[0], self._axes.get_ylim()[0])
        to_pixels = self._axes.transData.transform
        for tick in x_ticks:
            x, _ = to_pixels((tick, corner[1]))
            write.text((x, bottom + 5), f"{tick:g}", INK, _font(13), "ma")
        labels = [short(tick) for tick in y_ticks]
        # Beside the axis there is room for six letters of the usual size.
        font = _font(13 if max(map(len, labels), default=0) <= 6 else 10)
        for tick, label in zip(y_ticks, labels, strict=True):
            _, y = to_pixels((corner[0], tick))
            write.text((left - 5, HEIGHT - y), label, INK, font, "rm")


def _ticks(limits: tuple[float, float], *, log: bool = False, whole: bool = False) -> Array:
    places = locator(*limits, log=log, whole=whole).tick_values(*limits)
    ticks = np.asarray(places, dtype=np.float64)
    return ticks[(ticks >= limits[0]) & (ticks <= limits[1])]


@cache
def _font(size: int, weight: str = "normal") -> ImageFont.FreeTypeFont:
    # Found where matplotlib keeps its own copy, so the same letters everywhere.
    return ImageFont.truetype(findfont(f"DejaVu Sans:{weight}"), size)


def _largest_that_fits(title: str, width: int) -> ImageFont.FreeTypeFont:
    fonts = [_font(size, "bold") for size in (15, 13, 11)]
    return next((font for font in fonts if font.getlength(title) <= width), fonts[-1])
