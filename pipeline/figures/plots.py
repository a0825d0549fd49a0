"""Owns what each figure of a study shows, described once for whoever draws it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np

from pipeline.figures.finalists import finalists_plots
from pipeline.figures.importances import importances_plot
from pipeline.figures.parts import Axis, Bars, Line, Panel, Plot, Points
from pipeline.figures.record import epochs_by_type, kinds_of, loss_unit
from pipeline.figures.scales import drawable, ends, log_helps, near, padded
from pipeline.figures.style import COLOURS, FAINT, INK
from pipeline.figures.weights import weights_plot
from pipeline.records import StudyRecord, TrialRecord
from pipeline.results import Array, TrialState
from pipeline.space import Regularization

# Curves of all trials together are thinned to about as many points, so that a report stays small.
MOST_CURVE_POINTS = 24_000

Value = Callable[[TrialRecord], float]


def study_plots(record: StudyRecord) -> list[Plot]:
    """All figures of a study, in the order in which they answer its question."""
    return [
        *finalists_plots(record),
        _by_type(record),
        _plane(record),
        _against(record, "lambda", "lambda", _penalized_lambda),
        _against(record, "dropout", "dropout rate", lambda trial: trial.hyperparameters.dropout),
        _against(record, "patience", "patience (epochs)", _patience),
        importances_plot(record),
        _curves(record),
        weights_plot(record),
        _optimization_history(record),
        _epochs(record),
    ]


def _by_type(record: StudyRecord) -> Plot:
    kinds = kinds_of(record.trials)

    def place(trial: TrialRecord) -> float:
        # Spread by the golden ratio: neighbours in number land apart, and always in one place.
        spread = (trial.number * 0.6180339887498949) % 1 - 0.5
        return kinds.index(trial.hyperparameters.regularization) + 0.5 * spread

    clouds = _clouds(record.trials, place, _scalar("val_loss"))
    medians = [
        Line(
            "median of complete trials",
            INK,
            kinds.index(cloud.kind) + np.array([-0.34, 0.34]),
            np.full(2, np.median(cloud.y)),
            width=2.2,
        )
        for cloud in clouds
        if not cloud.hollow
    ]
    panel = Panel(
        Axis("", ticks=tuple(map(str, kinds)), limits=(-0.5, max(len(kinds), 1) - 0.5)),
        _value_axis(f"validation loss\n({loss_unit(record)})", _all("y", clouds)),
        clouds,
        medians,
    )
    return Plot("validation_loss_by_type", "Validation loss by regularization type", [panel])


def _plane(record: StudyRecord) -> Plot:
    clouds = _clouds(record.trials, _scalar("train_loss"), _scalar("val_loss"))
    x_axis, y_axis = Axis(f"training loss\n({loss_unit(record)})"), Axis("validation loss")
    lines = []
    if clouds:
        places = np.stack([_all("x", clouds), _all("y", clouds)])
        inside = near(places)
        log = log_helps(places[:, inside])
        low, high = limits = padded(*ends(places[:, inside]), log=log)
        beyond = int(((places < low) | (places > high)).any(axis=0).sum())
        note = f"{_trials_lie(beyond)} beyond the range shown." if beyond else ""
        # Both axes alike, or the diagonal would not be one.
        x_axis = replace(x_axis, log=log, limits=limits, note=note)
        y_axis = replace(y_axis, log=log, limits=limits)
        both = np.array(ends(np.append(places, limits)))
        lines = [Line("no gap", FAINT, both, both, dash=True)]
    title = "Generalization plane: training against validation"
    panel = Panel(x_axis, y_axis, clouds, lines)
    return Plot("generalization_plane", title, [panel], square=True)


def _against(record: StudyRecord, name: str, label: str, x: Value) -> Plot:
    """Validation loss, and below it the gap, against one hyperparameter."""
    panels = []
    for key, y_label in (
        ("val_loss", "validation loss"),
        ("gap", "gap\n(validation - training loss)"),
    ):
        clouds = _clouds(record.trials, x, _scalar(key))
        log_x = name == "lambda" and log_helps(_all("x", clouds))
        # Gaps have a zero that means something: no log axis.
        y_axis = _value_axis(y_label, _all("y", clouds), may_log=key != "gap")
        # Beside lambda there is no place for trials without a penalty: their best is a level.
        lines = _reference_level(record, key, clouds) if name == "lambda" else []
        panels.append(Panel(Axis(label, log_x, whole=name == "patience"), y_axis, clouds, lines))
    return Plot(name, f"Validation loss and gap against {name}", panels)


def _reference_level(record: StudyRecord, key: str, clouds: Sequence[Points]) -> list[Line]:
    none = Regularization.NONE
    free = (trial for trial in record.complete if trial.hyperparameters.regularization is none)
    best = next(free, None)
    level = math.nan if best is None else best.scalars.get(key, math.nan)
    if not clouds or not math.isfinite(level):
        return []
    x = _all("x", clouds)
    name, both = "best without penalty", np.array(ends(x))
    return [Line(name, COLOURS[none], both, np.full(2, level), dash=True)]


def _curves(record: StudyRecord) -> Plot:
    best = record.best
    trials = [trial for trial in record.trials if len(trial.history)]
    keys = {"train_loss": "training loss", "val_loss": "validation loss"}
    losses = _joined(getattr(trial.history, key) for trial in trials for key in keys)
    stride = max(1, math.ceil(losses.size / 2 / MOST_CURVE_POINTS))
    y_axis = Axis(f"loss\n({loss_unit(record)})", log_helps(losses))
    panels = []
    for key, title in keys.items():
        lines = [_curves_of(kind, trials, key, stride) for kind in kinds_of(trials)]
        if best in trials and len(trials) > 1:
            epochs = np.arange(1.0, len(best.history) + 1)
            curve = drawable(getattr(best.history, key))
            lines.append(Line(f"best: trial {best.number}", INK, epochs, curve, width=2.4))
        panels.append(Panel(Axis("epoch", whole=True), y_axis, lines=lines, title=title))
    return Plot("learning_curves", "Learning curves of all trials", panels, stacked=False)


def _curves_of(kind: Regularization, trials: Sequence[TrialRecord], key: str, stride: int) -> Line:
    """All curves of one type as one line with breaks: hundreds of lines would be slow to draw."""
    curves = []
    for trial in trials:
        if trial.hyperparameters.regularization is kind:
            last = len(trial.history) - 1
            shown = np.append(np.arange(0, last, stride), last)
            losses = drawable(getattr(trial.history, key))[shown]
            numbers = np.full(len(shown) + 1, trial.number)
            curves.append([numbers, np.append(shown, last) + 1, np.append(losses, np.nan)])
    numbers, epochs, losses = np.concatenate(curves, axis=1)
    return Line(str(kind), COLOURS[kind], epochs, losses, width=1.0, numbers=numbers)


def _optimization_history(record: StudyRecord) -> Plot:
    clouds = _clouds(record.trials, lambda trial: trial.number, _scalar("val_loss"))
    done = sorted((trial.number, trial.val_loss) for trial in record.complete)
    done = [place for place in done if math.isfinite(place[1])]
    lines = []
    if done:
        numbers, losses = np.transpose(done)
        # Drawn as steps, and up to the last trial told, complete or not.
        x = np.append(np.repeat(numbers, 2)[1:], record.trials[-1].number)
        y = np.repeat(np.minimum.accumulate(losses), 2)
        lines = [Line("best so far", INK, x, y, width=2.2)]
    y_axis = _value_axis(f"validation loss\n({loss_unit(record)})", _all("y", clouds))
    panel = Panel(Axis("trial number", whole=True), y_axis, clouds, lines)
    return Plot("optimization_history", "Optimization history", [panel])


def _epochs(record: StudyRecord) -> Plot:
    looks = (("", 1.0), ("/", 0.55), (".", 0.35), ("x", 0.2))
    kinds = kinds_of(record.trials)
    colours = [COLOURS[kind] for kind in kinds]
    rows = zip(epochs_by_type(record).items(), looks, strict=True)
    bars = [
        Bars(name, hatch, opacity, colours, np.array([row[kind] for kind in kinds]))
        for (name, row), (hatch, opacity) in rows
        if any(row.values())
    ]
    panel = Panel(
        Axis("epochs, all trials of the type together"),
        Axis("", ticks=tuple(map(str, kinds)), limits=(max(len(kinds), 1) - 0.5, -0.5)),
        bars=bars,
    )
    return Plot("epochs", "Epochs trained and epochs saved", [panel])


def _scalar(name: str) -> Value:
    return lambda trial: trial.scalars.get(name, math.nan)


def _penalized_lambda(trial: TrialRecord) -> float:
    return trial.hyperparameters.lambda_ or math.nan


def _patience(trial: TrialRecord) -> float:
    patience = trial.hyperparameters.patience
    return math.nan if patience == "off" else float(patience)


def _clouds(trials: Sequence[TrialRecord], x: Value, y: Value) -> list[Points]:
    """The trials as points, by type and by whether they ran to their end."""
    clouds = []
    for kind in kinds_of(trials):
        for hollow, state in ((False, TrialState.COMPLETE), (True, TrialState.PRUNED)):
            places = [
                (trial.number, x(trial), y(trial))
                for trial in trials
                if trial.hyperparameters.regularization is kind and trial.state is state
            ]
            places = [place for place in places if all(map(math.isfinite, place))]
            if places:
                numbers, xs, ys = zip(*places, strict=True)
                x_drawn, y_drawn = drawable(np.array(xs)), drawable(np.array(ys))
                clouds.append(Points(kind, hollow, list(numbers), x_drawn, y_drawn))
    return clouds


def _joined(arrays: Iterable[Array]) -> Array:
    return np.concatenate([np.empty(0), *arrays])


def _all(which: str, clouds: Sequence[Points]) -> Array:
    return _joined(getattr(cloud, which) for cloud in clouds)


def _value_axis(label: str, values: Array, *, may_log: bool = True) -> Axis:
    """An axis that shows the many: log where it helps, else without the few wild values.

    Those are counted in its note; in the interactive figure a double click brings them in.
    """
    if not values.size or (may_log and log_helps(values)):
        return Axis(label, log=bool(values.size))
    inside = near(values[np.newaxis])
    if inside.all():
        return Axis(label)
    low, high = limits = padded(*ends(values[inside]))
    counts = {"above": int((values > high).sum()), "below": int((values < low).sum())}
    told = [f"{_trials_lie(count)} {side}" for side, count in counts.items() if count]
    name = label.partition("\n")[0].capitalize()
    note = f"{name}: {' and '.join(told)} the range shown." if told else ""
    return Axis(label, limits=limits, note=note)


def _trials_lie(count: int) -> str:
    return "1 trial lies" if count == 1 else f"{count} trials lie"
