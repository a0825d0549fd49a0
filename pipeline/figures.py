"""Owns the pictures: results in, PNG images and interactive figures out.

A study's figures are described once, as plots of points, lines and bars, and drawn twice: by
matplotlib for the study's folder, by plotly for the report. So the two can never disagree.
"""

from __future__ import annotations

import io
import math
import re
import tomllib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import FillBetweenPolyCollection, LineCollection
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, Locator, LogLocator, MaxNLocator, NullLocator
from PIL import Image, ImageDraw, ImageFont

from pipeline.results import Array, History, StopReason, StudyRecord, TrialRecord, TrialState
from pipeline.space import Hyperparameters, Regularization

if TYPE_CHECKING:
    import plotly.graph_objects as go

# From Okabe and Ito's palette, which stays apart under every colour blindness; each is legible on
# white and on near-black.
COLOURS: dict[Regularization, str] = {
    Regularization.NONE: "#808080",
    Regularization.L1: "#0072B2",
    Regularization.L2: "#D55E00",
    Regularization.ELASTIC_NET: "#009E73",
    Regularization.WEIGHT_DECAY: "#CC79A7",
}

# Shapes say the same again for who sees no colours: matplotlib's name, plotly's name.
MARKERS: dict[Regularization, tuple[str, str]] = {
    Regularization.NONE: ("o", "circle"),
    Regularization.L1: ("s", "square"),
    Regularization.L2: ("D", "diamond"),
    Regularization.ELASTIC_NET: ("^", "triangle-up"),
    Regularization.WEIGHT_DECAY: ("P", "cross"),
}

STOP_WORDS: dict[StopReason, str] = {
    StopReason.EARLY_STOPPING: "early stopping",
    StopReason.MAX_EPOCHS: "max epochs",
    StopReason.PRUNED: "pruned",
    StopReason.DIVERGED: "diverged",
    StopReason.ERROR: "error",
}

INK, FAINT = "#222222", "#8c8c8c"

# From this ratio of largest to smallest on, a linear axis would press most values into its edge.
LOG_RATIO = 20.0

# A log axis over more than this has its ticks at powers of ten alone.
WIDE_SPAN = 300.0

# Losses beyond this, or below its inverse, are drawn there: arithmetic with limits would overflow.
LARGEST_DRAWN = 1e100

# Curves of all trials together are thinned to about as many points, so that a report stays small.
MOST_CURVE_POINTS = 24_000


def describe(hyperparameters: Hyperparameters) -> str:
    """One line: `l2, lambda 1.2e-03, dropout 0.31, patience 12`."""
    parts = [str(hyperparameters.regularization)]
    if hyperparameters.regularization is not Regularization.NONE:
        parts.append(f"lambda {hyperparameters.lambda_:.1e}")
    if hyperparameters.l1_ratio is not None:
        parts.append(f"l1_ratio {hyperparameters.l1_ratio:.2f}")
    parts.append(f"dropout {hyperparameters.dropout:.2f}")
    parts.append(f"patience {hyperparameters.patience}")
    if hyperparameters.learning_rate is not None:
        parts.append(f"learning rate {hyperparameters.learning_rate:.1e}")
    return ", ".join(parts)


def loss_unit(record: StudyRecord) -> str:
    """What the study's losses are measured in, as far as the record tells."""
    if "data.task" not in record.params:
        return "mean over rows"
    if record.params["data.task"] == "regression":
        return "squared error, standardized target"
    return "cross-entropy, nats"


def _log_helps(values: Array, *, may_clip: bool = False) -> bool:
    """Whether a log axis shows the values better; `may_clip` lets zeros fall off its lower end."""
    values = values[np.isfinite(values)]
    positive = values[values > 0]
    if not positive.size or values.min() < 0 or (values.min() == 0 and not may_clip):
        return False
    return bool(positive.max() >= LOG_RATIO * positive.min())


def _drawable(values: Array) -> Array:
    """NaN where there is nothing to draw; finite values within what an axis can hold."""
    finite = np.where(np.isfinite(values), values, np.nan)
    tiny = (finite > 0) & (finite < 1 / LARGEST_DRAWN)
    return np.clip(np.where(tiny, 1 / LARGEST_DRAWN, finite), -LARGEST_DRAWN, LARGEST_DRAWN)


def _padded(low: float, high: float, *, log: bool) -> tuple[float, float]:
    """Limits with a margin on either side."""
    if log:
        margin = (high / low) ** 0.06
        return low / margin, high * margin
    margin = 0.06 * (high - low) or 0.06 * abs(high) or 0.06
    return low - margin, high + margin


class LearningCurveFigure:
    """One trial's learning curves, drawn again and again on one figure.

    A study draws hundreds: what never changes is drawn once and copied, artists are made once and
    moved, and the words, which took matplotlib two thirds of the time, are set by Pillow.
    An instance must not be shared between threads.
    """

    def __init__(self) -> None:
        self._figure = figure = Figure(figsize=(6.4, 3.6), dpi=100, facecolor="white")
        self._canvas = FigureCanvasAgg(figure)
        self._axes = axes = figure.add_axes((0.115, 0.125, 0.87, 0.7))
        axes.set_xlabel("epoch", fontsize=10, labelpad=16)
        figure.text(
            0.012, 0.475, "mean loss, without penalty", fontsize=9.5, rotation=90, va="center"
        )
        axes.tick_params(length=0, labelbottom=False, labelleft=False)
        axes.spines[["top", "right"]].set_visible(False)
        self._log = False

        nothing = np.array([0.0])
        self._grid = LineCollection([], colors="#e6e6e6", linewidths=0.8)
        self._gap = FillBetweenPolyCollection(
            "x", nothing, nothing, nothing, alpha=0.18, linewidth=0
        )
        for collection in (self._grid, self._gap):
            axes.add_collection(collection, autolim=False)
        self._stop_line = axes.axvline(0, color=FAINT, linewidth=1.4, linestyle=(0, (2, 2)))
        self._kept_line = axes.axvline(0, color=INK, linewidth=1.0)
        (self._train,) = axes.plot([], [], color=INK, linewidth=1.8, linestyle=(0, (4, 1.6)))
        (self._val,) = axes.plot([], [], linewidth=2.6)
        (self._kept,) = axes.plot([], [], "o", markersize=8, markeredgecolor=INK)
        self._keys = self._make_keys()
        # In the order in which they are drawn.
        self._moving: tuple[Artist, ...] = (
            self._grid, self._gap, self._stop_line, self._kept_line,
            self._train, self._val, self._kept, *self._keys,
        )  # fmt: skip
        for artist in self._moving:
            artist.set_animated(True)
        self._canvas.draw()  # type: ignore[no-untyped-call]
        self._background = self._canvas.copy_from_bbox(figure.bbox)  # type: ignore[no-untyped-call]
        self._plain = {size: _font("DejaVu Sans", size) for size in (10, 13, 18)}
        self._bold = {size: _font("DejaVu Sans:bold", size) for size in (11, 13, 15)}

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
        train, val = _drawable(history.train_loss), _drawable(history.val_loss)
        n_epochs = len(history)
        finite = np.isfinite(train) & np.isfinite(val)
        kept = 1 <= kept_epoch <= n_epochs and bool(finite[kept_epoch - 1])

        ticks = self._set_limits(np.concatenate([train, val]), n_epochs)
        self._move_curves(train, val, COLOURS[hyperparameters.regularization])
        self._stop_line.set_xdata([n_epochs, n_epochs])
        self._stop_line.set_visible(n_epochs > 0)
        self._kept_line.set_xdata([kept_epoch, kept_epoch])
        self._kept_line.set_visible(kept)
        self._kept.set_data([kept_epoch], [val[kept_epoch - 1] if kept else np.nan])

        self._canvas.restore_region(self._background)  # type: ignore[no-untyped-call]
        for artist in self._moving:
            self._figure.draw_artist(artist)
        pixels = np.asarray(self._canvas.buffer_rgba())  # type: ignore[no-untyped-call]
        image = Image.fromarray(pixels).convert("RGB")
        write = ImageDraw.Draw(image)
        self._write_ticks(write, *ticks)
        self._write_title(write, f"trial {number}: {describe(hyperparameters)}")
        where = "no epoch kept"
        if kept:
            where = (
                f"kept epoch {kept_epoch}, gap {val[kept_epoch - 1] - train[kept_epoch - 1]:.3g}"
            )
        write.text((230, 46), where, INK, self._plain[13], "lm")
        why = f"stopped at {n_epochs}: {STOP_WORDS[stop_reason]}"
        write.text((632, 46), why, INK, self._plain[13], "rm")
        if not finite.any():
            words = f"no finite loss in {n_epochs} epochs"
            write.text((347, 190), words, INK, self._plain[18], "mm")
        buffer = io.BytesIO()
        # A palette takes half the time and a third of the space of true colour.
        palette = image.quantize(128, method=Image.Quantize.FASTOCTREE)
        palette.save(buffer, "png", compress_level=1)
        return buffer.getvalue()

    def _make_keys(self) -> tuple[Line2D, Line2D, Line2D]:
        """Samples of the lines above the axes, where no legend can hide data."""
        place: dict[str, Any] = {"transform": self._figure.transFigure}
        y = 1 - 46 / 360
        val = Line2D([0.014, 0.054], [y, y], linewidth=2.6, **place)
        train = Line2D(
            [0.174, 0.214], [y, y], color=INK, linewidth=1.8, linestyle=(0, (4, 1.6)), **place
        )
        kept = Line2D([0.344], [y], marker="o", markersize=8, markeredgecolor=INK, **place)
        for line in (val, train, kept):
            self._figure.add_artist(line)
        for x, words in ((0.061, "validation"), (0.221, "training")):
            self._figure.text(x, y, words, fontsize=9.4, color=INK, va="center_baseline")
        return val, train, kept

    def _move_curves(self, train: Array, val: Array, colour: str) -> None:
        epochs = np.arange(1, len(val) + 1, dtype=np.float64)
        finite = np.isfinite(train) & np.isfinite(val)
        # One or two points make no line that could be seen.
        marker = "o" if np.count_nonzero(finite) <= 2 else ""
        for line, values in ((self._train, train), (self._val, val)):
            line.set_data(epochs, values)
            line.set_marker(marker)
        for line in (self._val, self._keys[0]):
            line.set_color(colour)
        for line in (self._kept, self._keys[2]):
            line.set_markerfacecolor(colour)
        self._gap.set_data(epochs, train, val, where=finite)  # type: ignore[arg-type]
        self._gap.set_facecolor(colour)

    def _set_limits(self, losses: Array, n_epochs: int) -> tuple[Array, Array]:
        """Fits the axes, draws the grid, and returns the ticks of epochs and losses."""
        axes = self._axes
        log = _log_helps(losses, may_clip=True)
        if log != self._log:
            axes.set_yscale("log") if log else axes.set_yscale("linear")
            self._log = log
        losses = losses[losses > 0] if log else losses[np.isfinite(losses)]
        low, high = (losses.min(), losses.max()) if losses.size else (0.0, 1.0)
        y_limits = _padded(float(low), float(high), log=log)
        x_limits = (0.5, max(1.02 * n_epochs, n_epochs + 0.25, 1.5))
        axes.set(xlim=x_limits, ylim=y_limits)
        x_ticks = _ticks(MaxNLocator(7, integer=True, min_n_ticks=1), x_limits)
        y_ticks = _ticks(_log_locator(*y_limits) if log else MaxNLocator(5), y_limits)
        self._grid.set_segments(
            [[(x, y_limits[0]), (x, y_limits[1])] for x in x_ticks]
            + [[(x_limits[0], y), (x_limits[1], y)] for y in y_ticks]
        )
        return x_ticks, y_ticks

    def _write_ticks(self, write: ImageDraw.ImageDraw, x_ticks: Array, y_ticks: Array) -> None:
        height = self._figure.bbox.height
        left, bottom = self._axes.bbox.x0, height - self._axes.bbox.y0
        corner = (self._axes.get_xlim()[0], self._axes.get_ylim()[0])
        to_pixels = self._axes.transData.transform
        for tick in x_ticks:
            x, _ = to_pixels((tick, corner[1]))
            write.text((x, bottom + 5), f"{tick:g}", INK, self._plain[13], "ma")
        labels = [_short(tick) for tick in y_ticks]
        # Beside the axis there is room for six letters of the usual size.
        font = self._plain[13 if max(map(len, labels), default=0) <= 6 else 10]
        for tick, label in zip(y_ticks, labels, strict=True):
            _, y = to_pixels((corner[0], tick))
            write.text((left - 5, height - y), label, INK, font, "rm")

    def _write_title(self, write: ImageDraw.ImageDraw, title: str) -> None:
        """In the largest letters that fit."""
        fonts = sorted(self._bold.items(), reverse=True)
        font = next((f for _, f in fonts if f.getlength(title) <= 624), self._bold[11])
        write.text((8, 18), title, INK, font, "lm")


def _font(family: str, size: int) -> ImageFont.FreeTypeFont:
    # Found where matplotlib keeps its own copy, so the same letters everywhere.
    return ImageFont.truetype(findfont(family), size)


def _short(value: float) -> str:
    """A tick's number, `1e-5` rather than `0.00001`, so that it fits beside the axis."""
    plain = f"{value:.6g}"
    if 1e-3 <= abs(value) < 1e5 or value == 0:
        return plain
    digits, _, exponent = f"{value:.6e}".partition("e")
    return f"{digits.rstrip('0').rstrip('.')}e{int(exponent)}"


def _ticks(locator: Locator, limits: tuple[float, float]) -> Array:
    ticks = np.asarray(locator.tick_values(*limits), dtype=np.float64)
    return ticks[(ticks >= limits[0]) & (ticks <= limits[1])]


def _log_locator(low: float, high: float) -> LogLocator:
    """A few ticks at plain numbers, however many decades there are."""
    decades = math.log10(high / low)
    steps = (1.0, 2.0, 5.0) if decades < 2 else (1.0, 3.0) if decades < 3 else (1.0,)
    return LogLocator(subs=steps, numticks=7)


def _encode(canvas: FigureCanvasAgg) -> bytes:
    """Draws what is on the canvas, as PNG."""
    buffer = io.BytesIO()
    # Level 1 saves two thirds of the compression's time for a few kilobytes more.
    canvas.print_png(buffer, pil_kwargs={"compress_level": 1})  # type: ignore[no-untyped-call]
    return buffer.getvalue()


def _few_ticks(axes: Axes, which: str, *, log: bool, whole: bool) -> None:
    """Plain numbers at few places."""
    axis = axes.yaxis if which == "y" else axes.xaxis
    low, high = axis.get_view_interval()
    axis.set_major_locator(
        _log_locator(low, high) if log else MaxNLocator(6, integer=whole, min_n_ticks=1)
    )
    axis.set_minor_locator(NullLocator())
    if log:
        axis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))


# --- a study's figures, described -------------------------------------------------------------


@dataclass(frozen=True)
class _Points:
    """Trials of one type, a marker each; hollow ones were pruned."""

    kind: Regularization
    hollow: bool
    numbers: list[int]
    x: Array
    y: Array


@dataclass(frozen=True)
class _Line:
    """A line; NaN interrupts it. With `numbers`, each of its points belongs to that trial."""

    name: str
    colour: str
    x: Array
    y: Array
    dash: bool = False
    width: float = 1.8
    kind: Regularization | None = None
    numbers: Array | None = None
    in_legend: bool = True


@dataclass(frozen=True)
class _Bars:
    """Horizontal bars, one per place on the y axis, stacked on those that came before."""

    name: str
    hatch: str
    opacity: float
    colours: list[str]
    widths: Array


@dataclass(frozen=True)
class _Axis:
    label: str
    log: bool = False
    ticks: tuple[str, ...] = ()  # names of the places 0, 1, 2, ...
    limits: tuple[float, float] | None = None
    whole: bool = False  # only whole numbers stand on it


@dataclass(frozen=True)
class _Panel:
    x: _Axis
    y: _Axis
    points: Sequence[_Points] = ()
    lines: Sequence[_Line] = ()
    bars: Sequence[_Bars] = ()
    title: str = ""

    @property
    def empty(self) -> bool:
        return not (self.points or self.lines or self.bars)


@dataclass(frozen=True)
class _Plot:
    """One figure: panels below one another that share x, or beside one another that share y."""

    name: str
    title: str
    panels: Sequence[_Panel]
    stacked: bool = True


Value = Callable[[TrialRecord], float]


def _scalar(name: str) -> Value:
    return lambda trial: trial.scalars.get(name, math.nan)


def _patience(trial: TrialRecord) -> float:
    patience = trial.hyperparameters.patience
    return math.nan if patience == "off" else float(patience)


def _kinds(trials: Iterable[TrialRecord]) -> list[Regularization]:
    """The types that occur, in the order in which they are always listed."""
    present = {trial.hyperparameters.regularization for trial in trials}
    return [kind for kind in Regularization if kind in present]


def _clouds(trials: Sequence[TrialRecord], x: Value, y: Value) -> list[_Points]:
    """The trials as points, by type and by whether they ran to their end."""
    clouds = []
    for kind in _kinds(trials):
        for hollow in (False, True):
            state = TrialState.PRUNED if hollow else TrialState.COMPLETE
            places = [
                (trial.number, x(trial), y(trial))
                for trial in trials
                if trial.hyperparameters.regularization is kind and trial.state is state
            ]
            places = [place for place in places if all(map(math.isfinite, place))]
            if places:
                numbers, xs, ys = zip(*places, strict=True)
                clouds.append(_Points(kind, hollow, list(numbers), np.array(xs), np.array(ys)))
    return clouds


def _log_of(clouds: Sequence[_Points], which: str) -> bool:
    values = [getattr(cloud, which) for cloud in clouds]
    return bool(values) and _log_helps(np.concatenate(values))


def _value_axis(
    label: str, clouds: Sequence[_Points], which: str = "y", *, may_log: bool = True
) -> _Axis:
    """An axis that shows the many: log where it helps, else without the few wild values.

    Those are counted in the label; in the interactive figure a double click brings them in.
    """
    if not clouds:
        return _Axis(label)
    values = np.concatenate([getattr(cloud, which) for cloud in clouds])
    if may_log and _log_helps(values):
        return _Axis(label, log=True)
    low, high = np.quantile(values, [0.25, 0.75])
    reach = 6 * (high - low)
    near = values[(values >= low - reach) & (values <= high + reach)]
    beyond = values.size - near.size
    if not beyond or beyond > 0.1 * values.size:
        return _Axis(label)
    limits = _padded(float(near.min()), float(near.max()), log=False)
    return _Axis(f"{label}; {beyond} beyond", limits=limits)


def _by_type(record: StudyRecord) -> _Plot:
    kinds = _kinds(record.trials)

    def place(trial: TrialRecord) -> float:
        # Spread by the golden ratio: neighbours in number land apart, and always in one place.
        spread = (trial.number * 0.6180339887498949) % 1 - 0.5
        return kinds.index(trial.hyperparameters.regularization) + 0.5 * spread

    clouds = _clouds(record.trials, place, _scalar("val_loss"))
    medians = [
        _Line(
            "median of the complete trials",
            INK,
            np.array([index - 0.34, index + 0.34]),
            np.full(2, np.median(cloud.y)),
            width=2.2,
            in_legend=False,
        )
        for cloud in clouds
        if not cloud.hollow
        for index in [kinds.index(cloud.kind)]
    ]
    panel = _Panel(
        _Axis("", ticks=tuple(map(str, kinds)), limits=(-0.5, max(len(kinds), 1) - 0.5)),
        _value_axis(f"validation loss\n({loss_unit(record)})", clouds),
        clouds,
        medians,
    )
    return _Plot("validation_loss_by_type", "Validation loss by regularization type", [panel])


def _against(record: StudyRecord, name: str, label: str, x: Value) -> _Plot:
    """Validation loss, and below it the gap, against one hyperparameter."""
    panels = []
    for key, y_label in (
        ("val_loss", "validation loss"),
        ("gap", "gap\n(validation - training loss)"),
    ):
        clouds = _clouds(record.trials, x, _scalar(key))
        # Beside lambda there is no place for trials without a penalty: their best is a level.
        lines = _reference_level(record, key, clouds) if name == "lambda" else []
        log_x = name == "lambda" and _log_of(clouds, "x")
        # Gaps have a zero that means something: no log axis.
        y_axis = _value_axis(y_label, clouds, may_log=key != "gap")
        panels.append(_Panel(_Axis(label, log_x, whole=name == "patience"), y_axis, clouds, lines))
    return _Plot(name, f"Validation loss and gap against {name}", panels)


def _reference_level(record: StudyRecord, key: str, clouds: Sequence[_Points]) -> list[_Line]:
    free = [
        trial
        for trial in record.complete
        if trial.hyperparameters.regularization is Regularization.NONE
    ]
    level = free[0].scalars.get(key, math.nan) if free else math.nan
    if not clouds or not math.isfinite(level):
        return []
    x = np.concatenate([cloud.x for cloud in clouds])
    return [
        _Line(
            "best without penalty",
            COLOURS[Regularization.NONE],
            np.array([x.min(), x.max()]),
            np.full(2, level),
            dash=True,
            in_legend=key == "val_loss",
        )
    ]


def _penalized_lambda(trial: TrialRecord) -> float:
    return trial.hyperparameters.lambda_ or math.nan


def _plane(record: StudyRecord) -> _Plot:
    clouds = _clouds(record.trials, _scalar("train_loss"), _scalar("val_loss"))
    x_label, y_label = f"training loss\n({loss_unit(record)})", "validation loss"
    lines = []
    x_axis, y_axis = _Axis(x_label), _Axis(y_label)
    if clouds:
        values = np.concatenate([axis for cloud in clouds for axis in (cloud.x, cloud.y)])
        ends = np.array([values.min(), values.max()])
        lines = [_Line("no gap", FAINT, ends, ends, dash=True)]
        # Both axes alike, or the diagonal would not be one.
        if _log_helps(values):
            x_axis, y_axis = _Axis(x_label, log=True), _Axis(y_label, log=True)
        else:
            x_axis = _value_axis(x_label, clouds, "x", may_log=False)
            y_axis = _value_axis(y_label, clouds, may_log=False)
    title = "Generalization plane: training against validation"
    return _Plot("generalization_plane", title, [_Panel(x_axis, y_axis, clouds, lines)])


def _curves(record: StudyRecord) -> _Plot:
    total = sum(len(trial.history) for trial in record.trials)
    stride = max(1, math.ceil(total / MOST_CURVE_POINTS))
    panels = []
    values = [
        array
        for trial in record.trials
        for array in (trial.history.train_loss, trial.history.val_loss)
    ]
    log = bool(values) and _log_helps(np.concatenate(values))
    best = record.best
    for key, label in (("train_loss", "training"), ("val_loss", "validation")):
        lines = [
            line
            for kind in _kinds(record.trials)
            if (line := _curves_of(kind, record.trials, key, stride)) is not None
        ]
        if best is not None and len(record.trials) > 1 and len(best.history):
            lines.append(
                _Line(
                    f"best: trial {best.number}",
                    INK,
                    np.arange(1.0, len(best.history) + 1),
                    _drawable(getattr(best.history, key)),
                    width=2.4,
                )
            )
        y_axis = _Axis(f"loss\n({loss_unit(record)})", log)
        panels.append(
            _Panel(_Axis("epoch", whole=True), y_axis, lines=lines, title=f"{label} loss")
        )
    return _Plot("learning_curves", "Learning curves of all trials", panels, stacked=False)


def _curves_of(
    kind: Regularization, trials: Sequence[TrialRecord], key: str, stride: int
) -> _Line | None:
    """All curves of one type as one line with breaks: hundreds of lines would be slow to draw."""
    xs: list[Array] = []
    ys: list[Array] = []
    numbers: list[Array] = []
    for trial in trials:
        n_epochs = len(trial.history)
        if trial.hyperparameters.regularization is not kind or not n_epochs:
            continue
        shown = np.unique(np.append(np.arange(0, n_epochs, stride), n_epochs - 1))
        xs.append(np.append(shown + 1, shown[-1] + 1))
        ys.append(np.append(_drawable(getattr(trial.history, key))[shown], np.nan))
        numbers.append(np.full(len(shown) + 1, trial.number))
    if not xs:
        return None
    return _Line(
        str(kind),
        COLOURS[kind],
        np.concatenate(xs),
        np.concatenate(ys),
        width=1.0,
        kind=kind,
        numbers=np.concatenate(numbers),
    )


def _optimization_history(record: StudyRecord) -> _Plot:
    clouds = _clouds(record.trials, lambda trial: float(trial.number), _scalar("val_loss"))
    done = sorted(record.complete, key=lambda trial: trial.number)
    done = [trial for trial in done if math.isfinite(trial.val_loss)]
    lines = []
    if done:
        best = np.minimum.accumulate([trial.val_loss for trial in done])
        numbers = [trial.number for trial in done]
        # Drawn as steps, and up to the last trial told, complete or not.
        x = np.append(np.repeat(numbers, 2)[1:], record.trials[-1].number)
        lines = [_Line("best so far", INK, x.astype(np.float64), np.repeat(best, 2), width=2.2)]
    panel = _Panel(
        _Axis("trial number", whole=True),
        _value_axis(f"validation loss\n({loss_unit(record)})", clouds),
        clouds,
        lines,
    )
    return _Plot("optimization_history", "Optimization history", [panel])


def max_epochs(record: StudyRecord) -> int:
    """What the study file allows a trial; without a legible file, the most that any trained."""
    try:
        return int(tomllib.loads(record.study_toml)["training"]["max_epochs"])
    except (tomllib.TOMLDecodeError, KeyError, TypeError, ValueError):
        return max(map(epochs_of, record.trials), default=0)


def epochs_of(trial: TrialRecord) -> int:
    """How many epochs a trial trained."""
    told = trial.scalars.get("epochs", math.nan)
    return int(told) if math.isfinite(told) else len(trial.history)


SPENT = "trained"
SAVED: dict[str, tuple[StopReason, ...]] = {
    "saved by early stopping": (StopReason.EARLY_STOPPING,),
    "saved by pruning": (StopReason.PRUNED,),
    "not trained after failure": (StopReason.DIVERGED, StopReason.ERROR),
}


def epochs_by_type(record: StudyRecord) -> dict[str, dict[Regularization, int]]:
    """Epochs trained, and epochs saved by each way of stopping early, by type."""
    longest = max_epochs(record)
    table = {name: dict.fromkeys(_kinds(record.trials), 0) for name in (SPENT, *SAVED)}
    for trial in record.trials:
        kind = trial.hyperparameters.regularization
        table[SPENT][kind] += epochs_of(trial)
        for name, reasons in SAVED.items():
            if trial.stop_reason in reasons:
                table[name][kind] += max(0, longest - epochs_of(trial))
    return table


def _epochs(record: StudyRecord) -> _Plot:
    hatches = (("", 1.0), ("/", 0.55), (".", 0.35), ("x", 0.2))
    styles = dict(zip((SPENT, *SAVED), hatches, strict=True))
    table = epochs_by_type(record)
    kinds = _kinds(record.trials)
    colours = [COLOURS[kind] for kind in kinds]
    bars = [
        _Bars(name, *styles[name], colours, np.array([row[kind] for kind in kinds]))
        for name, row in table.items()
        if name == SPENT or any(row.values())
    ]
    panel = _Panel(
        _Axis("epochs, all trials of the type together"),
        _Axis("", ticks=tuple(map(str, kinds)), limits=(max(len(kinds), 1) - 0.5, -0.5)),
        bars=bars if kinds else (),
    )
    return _Plot("epochs", "Epochs trained and epochs saved", [panel])


def _plots(record: StudyRecord) -> list[_Plot]:
    return [
        _by_type(record),
        _plane(record),
        _against(record, "lambda", "lambda", _penalized_lambda),
        _against(record, "dropout", "dropout rate", lambda trial: trial.hyperparameters.dropout),
        _against(record, "patience", "patience (epochs)", _patience),
        _curves(record),
        _optimization_history(record),
        _epochs(record),
    ]


# --- drawn with matplotlib --------------------------------------------------------------------


def study_figures(record: StudyRecord) -> dict[str, bytes]:
    """PNG images of a study by file name, for its `figures/` folder. Never empty, never fails."""
    return {f"{plot.name}.png": _image(plot) for plot in _plots(record)}


def _image(plot: _Plot) -> bytes:
    n_panels = len(plot.panels)
    rows, columns = (n_panels, 1) if plot.stacked else (1, n_panels)
    height = 4.8 if rows == 1 else 3.0 * rows
    figure = Figure(figsize=(8.0, height), dpi=110, layout="constrained", facecolor="white")
    grid = figure.subplots(
        rows, columns, squeeze=False, sharex=plot.stacked, sharey=not plot.stacked
    )
    for index, (panel, axes) in enumerate(zip(plot.panels, grid.flat, strict=True)):
        _draw(panel, axes)
        if plot.stacked and index + 1 < n_panels:
            axes.set_xlabel("")
        if not plot.stacked and index:
            axes.set_ylabel("")
    figure.suptitle(plot.title, fontsize=13, fontweight="bold", x=0.02, ha="left")
    handles = _legend(plot)
    if handles:
        figure.legend(
            handles=handles,
            loc="outside lower center",
            ncols=7,
            frameon=False,
            fontsize=8.5,
            columnspacing=1.4,
            handletextpad=0.5,
        )
    return _encode(FigureCanvasAgg(figure))


def _draw(panel: _Panel, axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(visible=True, color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_title(panel.title, fontsize=10, loc="left")
    if panel.empty:
        axes.set_axis_off()
        axes.text(0.5, 0.5, "nothing to show yet", ha="center", transform=axes.transAxes)
        return
    left = np.zeros(len(panel.bars[0].widths) if panel.bars else 0)
    for bars in panel.bars:
        places = np.arange(len(left))
        # A colour's own alpha leaves the hatch as dark as it is.
        faces = [(colour, bars.opacity) for colour in bars.colours]
        axes.barh(
            places, bars.widths, left=left, color=faces, hatch=bars.hatch * 2, edgecolor=INK,
            linewidth=0.6,
        )  # fmt: skip
        left = left + bars.widths
    for line in panel.lines:
        # Behind the points, but for what sums them up.
        front = line.colour == INK
        axes.plot(
            line.x,
            line.y,
            color=line.colour,
            linewidth=line.width,
            linestyle="--" if line.dash else "-",
            alpha=0.45 if line.kind is not None else 1.0,
            zorder=3 if front else 1.5,
        )
    for cloud in panel.points:
        axes.plot(cloud.x, cloud.y, **_marker(cloud.kind, hollow=cloud.hollow))
    for which, axis in (("x", panel.x), ("y", panel.y)):
        _shape_axis(axes, which, axis)


def _shape_axis(axes: Axes, which: str, axis: _Axis) -> None:
    if axis.log:
        axes.set(**{f"{which}scale": "log"})
    if axis.ticks:
        axes.set(**{f"{which}ticks": range(len(axis.ticks)), f"{which}ticklabels": axis.ticks})
    else:
        _few_ticks(axes, which, log=axis.log, whole=axis.whole)
    if axis.limits is not None:
        axes.set(**{f"{which}lim": axis.limits})
    axes.set(**{f"{which}label": axis.label})
    (axes.xaxis if which == "x" else axes.yaxis).label.set_fontsize(9)
    axes.tick_params(labelsize=9)


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


def _legend(plot: _Plot) -> list[Line2D | Patch]:
    """One entry for each thing that is drawn, whatever panel it is in."""
    handles: dict[str, Line2D | Patch] = {}
    clouds = [cloud for panel in plot.panels for cloud in panel.points]
    for kind in Regularization:
        if any(cloud.kind is kind for cloud in clouds):
            handles[str(kind)] = Line2D([], [], **_marker(kind, hollow=False), label=str(kind))
    if any(cloud.hollow for cloud in clouds):
        style = _marker(Regularization.NONE, hollow=True) | {"markeredgecolor": INK}
        handles["pruned"] = Line2D([], [], **style, label="hollow: pruned")
    for panel in plot.panels:
        for line in panel.lines:
            if line.in_legend:
                sample = Line2D([], [], color=line.colour, linewidth=2, label=line.name)
                sample.set_linestyle("--" if line.dash else "-")
                handles[line.name] = sample
        for bars in panel.bars:
            face = (FAINT, bars.opacity)
            handles[bars.name] = Patch(
                facecolor=face, edgecolor=INK, hatch=bars.hatch * 2, label=bars.name
            )
    return list(handles.values())


# --- drawn with plotly ------------------------------------------------------------------------


def interactive_figures(record: StudyRecord) -> dict[str, go.Figure]:
    """The figures of `study_figures` for the report, by the same names without the suffix."""
    return {plot.name: _interactive(plot) for plot in _plots(record)}


def _interactive(plot: _Plot) -> go.Figure:
    import plotly.graph_objects as go

    figure = go.Figure()
    legend: set[str] = set()
    for index, panel in enumerate(plot.panels, start=1):
        axes = {"xaxis": f"x{index}", "yaxis": f"y{index}"} if index > 1 else {}
        for trace in [*_bar_traces(panel), *_line_traces(panel), *_point_traces(panel)]:
            # One legend entry stands for a type or a line in all panels.
            group = trace.pop("legendgroup")
            shown = trace.pop("showlegend", True) and group not in legend
            if shown:
                legend.add(group)
            figure.add_trace(
                go.Figure(data=[trace | axes | {"legendgroup": group, "showlegend": shown}]).data[0]
            )
    figure.update_layout(_layout(plot))
    return figure


def _point_traces(panel: _Panel) -> list[dict[str, Any]]:
    def words(axis: _Axis, letter: str) -> str:
        # A place among named ticks is no value, and says nothing under the cursor.
        name = re.split(r"\n|;", axis.label)[0]
        return "" if axis.ticks else f"<br>{name} %{{{letter}:.4g}}"

    return [
        {
            "type": "scatter",
            "mode": "markers",
            "name": f"{cloud.kind}, pruned" if cloud.hollow else str(cloud.kind),
            "legendgroup": str(cloud.kind),
            "x": cloud.x,
            "y": cloud.y,
            "customdata": np.array(cloud.numbers),
            "hovertemplate": f"trial %{{customdata}}{words(panel.x, 'x')}{words(panel.y, 'y')}",
            "marker": {
                "color": COLOURS[cloud.kind],
                "symbol": MARKERS[cloud.kind][1] + ("-open" if cloud.hollow else ""),
                "size": 8,
                "opacity": 0.6 if cloud.hollow else 0.85,
            },
        }
        for cloud in panel.points
    ]


def _line_traces(panel: _Panel) -> list[dict[str, Any]]:
    traces = []
    for line in panel.lines:
        trace: dict[str, Any] = {
            "type": "scatter",
            "mode": "lines",
            "name": line.name,
            "legendgroup": line.name,
            "showlegend": line.in_legend,
            "x": line.x,
            "y": line.y,
            "line": {
                "color": line.colour,
                "width": line.width,
                "dash": "dash" if line.dash else "solid",
            },
            "hovertemplate": f"{line.name} %{{y:.4g}}<extra></extra>",
        }
        if line.numbers is not None:
            # Many curves: single precision and short integers keep the report small.
            trace |= {
                "x": line.x.astype(np.int32),
                "y": line.y.astype(np.float32),
                "customdata": line.numbers.astype(np.int32),
                "opacity": 0.7,
                "hovertemplate": f"trial %{{customdata}}, {line.name}<br>epoch %{{x}}<br>"
                "loss %{y:.4g}<extra></extra>",
            }
        traces.append(trace)
    return traces


def _bar_traces(panel: _Panel) -> list[dict[str, Any]]:
    return [
        {
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
        for bars in panel.bars
    ]


def _layout(plot: _Plot) -> dict[str, Any]:
    """Axes and margins, on a clear ground, so that a page can colour them."""
    n_panels = len(plot.panels)
    layout: dict[str, Any] = {
        "template": "none",
        "title": {"text": plot.title, "yref": "container", "y": 0.98, "automargin": True},
        "barmode": "stack",
        "hovermode": "closest",
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "system-ui, sans-serif", "size": 13},
        "margin": {"l": 70, "r": 16, "t": 56, "b": 48},
        "height": 640 if plot.stacked and n_panels > 1 else 440,
        "legend": {"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0, "xanchor": "left"},
        "annotations": [],
    }
    for index, panel in enumerate(plot.panels, start=1):
        suffix = str(index) if index > 1 else ""
        share, pad = 1 / n_panels, 0.03
        here = [(index - 1) * share + (pad if index > 1 else 0), index * share]
        here[1] -= pad if index < n_panels else 0
        x, y = _axis(panel, "x"), _axis(panel, "y")
        x["anchor"], y["anchor"] = f"y{suffix}", f"x{suffix}"
        if plot.stacked:
            y["domain"] = [1 - here[1], 1 - here[0]]
            if index < n_panels:
                x |= {"title": None, "matches": f"x{n_panels}", "showticklabels": False}
        else:
            x["domain"] = here
            if index > 1:
                y |= {"title": None, "matches": "y", "showticklabels": False}
                y["dtick"] = layout["yaxis"].get("dtick")
        layout |= {f"xaxis{suffix}": x, f"yaxis{suffix}": y}
        if panel.empty:
            x["visible"] = y["visible"] = False
        words = "nothing to show yet" if panel.empty else panel.title
        if words:
            layout["annotations"].append(
                {
                    "text": words,
                    "xref": f"x{suffix} domain",
                    "yref": f"y{suffix} domain",
                    "x": 0.5 if panel.empty else 0.98,
                    "y": 0.5 if panel.empty else 1.0,
                    "yanchor": "middle" if panel.empty else "top",
                    "xanchor": "center" if panel.empty else "right",
                    "showarrow": False,
                }
            )
    return layout


def _span(panel: _Panel, which: str) -> float:
    """Largest over smallest positive value that a panel shows along one axis."""
    drawn = [getattr(item, which) for item in (*panel.points, *panel.lines)]
    values = np.concatenate([np.asarray(array, dtype=np.float64) for array in drawn])
    values = values[values > 0]
    return float(values.max() / values.min())


def _axis(panel: _Panel, which: str) -> dict[str, Any]:
    axis = panel.x if which == "x" else panel.y
    shape: dict[str, Any] = {
        "title": {"text": axis.label.replace("\n", "<br>"), "standoff": 8, "font": {"size": 12}},
        "type": "log" if axis.log else "linear",
        "automargin": True,
        "zeroline": False,
        "gridcolor": "rgba(128,128,128,0.25)",
        "linecolor": "rgba(128,128,128,0.6)",
        "showline": True,
    }
    if axis.log:
        # Between a few decades there is room for 2 and 5, between many there is none.
        span = _span(panel, which)
        shape |= {"dtick": 1 if span > WIDE_SPAN else "D2", "exponentformat": "power"}
    if axis.ticks:
        # Broken where they may be, the names stand side by side on a phone, too.
        names = [name.replace("_", "_<br>") for name in axis.ticks]
        shape |= {"tickvals": list(range(len(names))), "ticktext": names, "tickangle": 0}
    if axis.limits is not None:
        shape["range"] = list(axis.limits)
    return shape
