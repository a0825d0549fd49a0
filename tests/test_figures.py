from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.confirm.comparison import pairs_frame
from pipeline.figures import (
    COLOURS,
    MARKERS,
    MOST_CURVE_POINTS,
    SAVED,
    SPENT,
    describe,
    epochs_by_type,
    interactive_figures,
    matplotlib_renderer,
    max_epochs,
    plotly_renderer,
    study_plots,
)
from pipeline.figures.finalists import finalists_plots
from pipeline.figures.learning_curve import LearningCurveFigure
from pipeline.figures.matplotlib_renderer import study_figures
from pipeline.records import Confirmation, StudyRecord, TrialRecord
from pipeline.results import STATE_AFTER, History, StopReason, TrialState
from pipeline.space import Hyperparameters, Regularization
from tests.finalists import SHAPES, TWELVE, WHOLE, confirmation

NAMES = {
    "validation_loss_by_type",
    "generalization_plane",
    "lambda",
    "dropout",
    "patience",
    "importances",
    "learning_curves",
    "weights",
    "optimization_history",
    "epochs",
}
TOML = """
name = "study"
[data]
source = "sklearn:digits"
[training]
max_epochs = 50
"""
KINDS = list(Regularization)


def history(n_epochs: int, train: float = 0.2, val: float = 0.5) -> History:
    epochs = np.arange(1.0, n_epochs + 1)
    score = np.full(n_epochs, 0.9)
    return History(train + 1 / epochs, val + 1 / epochs, score, score)


def hyperparameters(kind: Regularization, number: int = 1) -> Hyperparameters:
    return Hyperparameters(
        kind,
        lambda_=0.0 if kind is Regularization.NONE else 10.0 ** -(1 + number % 5),
        l1_ratio=0.25 if kind is Regularization.ELASTIC_NET else None,
        dropout=number % 7 / 10,
        patience=3 + number % 11,
    )


def trial(
    number: int,
    reason: StopReason = StopReason.EARLY_STOPPING,
    kind: Regularization | None = None,
    n_epochs: int = 13,
) -> TrialRecord:
    kind = KINDS[number % len(KINDS)] if kind is None else kind
    curves = history(n_epochs, val=0.5 + number % 17 / 100)
    scalars = {"epochs": float(n_epochs)}
    if STATE_AFTER[reason] is not TrialState.FAILED and n_epochs:
        val, train = float(curves.val_loss[-1]), float(curves.train_loss[-1])
        scalars |= {"val_loss": val, "train_loss": train, "gap": val - train}
        scalars |= {"best_epoch": float(n_epochs), "overfit_gap": val - train}
    return TrialRecord(
        number, f"run{number}", STATE_AFTER[reason], reason,
        hyperparameters(kind, number), 0, curves, scalars,
    )  # fmt: skip


def study(trials: Sequence[TrialRecord], toml: str = TOML) -> StudyRecord:
    params = {"data.task": "multiclass"}
    return StudyRecord("study", "parent", "1", "complete", params, tuple(trials), toml)


def interactive(record: StudyRecord) -> dict[str, Any]:
    return interactive_figures(study_plots(record))


def images_of(record: StudyRecord) -> dict[str, bytes]:
    return study_figures(study_plots(record))


def with_scalars(trial: TrialRecord, **scalars: float) -> TrialRecord:
    return replace(trial, scalars=trial.scalars | scalars)


STUDIES = {
    "empty": study([]),
    "one trial": study([trial(0)]),
    "one type": study([trial(n, kind=Regularization.L2) for n in range(5)]),
    "all pruned but one": study([trial(0), *(trial(n, StopReason.PRUNED) for n in range(1, 7))]),
    "no complete trial": study([trial(n, StopReason.PRUNED) for n in range(5)]),
    "all failed": study([trial(n, StopReason.DIVERGED, n_epochs=n) for n in range(3)]),
    "many": study([trial(n) for n in range(300)]),
    "no study file": study([trial(n) for n in range(7)], toml="not = [toml"),
}


def size(png: bytes) -> tuple[int, int]:
    image = Image.open(io.BytesIO(png))
    image.load()
    assert image.format == "PNG"
    return image.size


@pytest.fixture(scope="module")
def curve_figure() -> LearningCurveFigure:
    return LearningCurveFigure()


def test_every_regularization_type_has_a_colour_and_a_shape_of_its_own():
    for mapping in (COLOURS, MARKERS):
        assert set(mapping) == set(Regularization)
        assert len(set(mapping.values())) == len(Regularization)


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        (
            Hyperparameters("l2", 1.2e-3, dropout=0.31, patience=12),
            "l2, lambda 1.2e-03, dropout 0.31, patience 12",
        ),
        (Hyperparameters(), "none, dropout 0.00, patience off"),
        (
            Hyperparameters("elastic_net", 0.1, l1_ratio=0.5, patience=3, learning_rate=2e-4),
            (
                "elastic_net, lambda 1.0e-01, l1_ratio 0.50, dropout 0.00, patience 3, "
                "learning rate 2.0e-04"
            ),
        ),
    ],
)
def test_a_trial_is_described_in_one_line(chosen, words):
    assert describe(chosen) == words


@pytest.mark.parametrize("reason", list(StopReason))
@pytest.mark.parametrize("kind", KINDS)
def test_learning_curves_of_every_type_and_end(curve_figure, kind, reason):
    assert size(curve_figure.png(7, hyperparameters(kind), history(13), 5, reason)) == (640, 360)


@pytest.mark.parametrize(
    ("train", "val", "kept_epoch"),
    [
        ([], [], 0),
        ([0.3], [0.4], 1),
        ([np.nan], [np.inf], 0),
        ([0.3, np.nan], [0.4, np.inf], 1),
        ([np.inf, 1e300, 1e-300], [1e300, 1.0, 1e308], 3),
        ([0.0, 0.0, 0.0], [0.0, 0.0, 0.0], 1),
        ([1.0, 0.0], [1.0, 1e-9], 2),
        ([0.5, 0.5], [0.5, 0.5], 2),
        ([0.5, 0.4], [0.5, 0.4], 99),
    ],
)
def test_learning_curves_at_the_edges(curve_figure, train, val, kept_epoch):
    nothing = np.zeros(len(val))
    curves = History(np.array(train, float), np.array(val, float), nothing, nothing)
    png = curve_figure.png(
        0, hyperparameters(Regularization.L1), curves, kept_epoch, StopReason.DIVERGED
    )
    assert size(png) == (640, 360)


@settings(max_examples=30, deadline=None)
@given(losses=st.lists(st.tuples(st.floats(), st.floats()), max_size=7), kept=st.integers(0, 7))
def test_any_losses_can_be_drawn(curve_figure, losses, kept):
    train, val = (np.array([pair[i] for pair in losses], dtype=float) for i in (0, 1))
    curves = History(train, val, train, val)
    chosen = hyperparameters(Regularization.L2)
    png = curve_figure.png(1, chosen, curves, kept, StopReason.MAX_EPOCHS)
    assert size(png) == (640, 360)


def test_a_figure_does_not_remember_the_trial_before(curve_figure):
    """Reused artists must leave nothing behind: neither a log axis nor markers nor words."""
    wild = History(*(np.geomspace(1e-6, 1e6, 30) for _ in range(4)))
    first = (3, hyperparameters(Regularization.L2), history(13), 5, StopReason.EARLY_STOPPING)
    expected = LearningCurveFigure().png(*first)
    none = hyperparameters(Regularization.NONE)
    for curves, kept in ((wild, 30), (history(0), 0), (history(1), 1)):
        curve_figure.png(99, none, curves, kept, StopReason.PRUNED)
        assert curve_figure.png(*first) == expected


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_of_any_shape_has_all_its_figures(name):
    images = images_of(STUDIES[name])
    assert set(images) == {f"{figure}.png" for figure in NAMES}
    assert all(min(size(png)) >= 400 for png in images.values())


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_of_any_shape_has_all_its_interactive_figures(name):
    figures = interactive(STUDIES[name])
    assert set(figures) == NAMES
    for figure in figures.values():
        assert figure.layout.title.text
        assert "NaN" not in figure.to_json()


def test_the_same_study_gives_the_same_pictures():
    record = STUDIES["all pruned but one"]
    assert images_of(record) == images_of(record)


def points(figure) -> dict[int, tuple[float, float]]:
    """Trial number -> place, of the markers in a figure's first panel."""
    return {
        int(number): (float(x), float(y))
        for trace in figure.data
        if trace.mode == "markers" and trace.yaxis in (None, "y")
        for number, x, y in zip(trace.customdata, trace.x, trace.y, strict=True)
    }


def assert_drawn(
    drawn: dict[int, tuple[float, float]], expected: dict[int, tuple[float, float]]
) -> None:
    """In single precision, which is more than a screen shows."""
    assert drawn.keys() == expected.keys()
    for number, place in expected.items():
        assert drawn[number] == pytest.approx(place, rel=1e-6)


@pytest.mark.parametrize(
    ("name", "x"),
    [
        ("dropout", lambda trial: trial.hyperparameters.dropout),
        ("patience", lambda trial: trial.hyperparameters.patience),
        ("optimization_history", lambda trial: trial.number),
    ],
)
def test_points_stand_where_the_record_says(name, x):
    record = study(
        [trial(n, StopReason.PRUNED if n % 3 else StopReason.MAX_EPOCHS) for n in range(31)]
    )
    drawn = points(interactive(record)[name])
    assert_drawn(drawn, {each.number: (x(each), each.val_loss) for each in record.trials})


def test_trials_without_a_penalty_have_no_place_beside_lambda():
    record = study([trial(n) for n in range(31)])
    figure = interactive(record)["lambda"]
    penalized = {
        each.number: (each.hyperparameters.lambda_, each.val_loss)
        for each in record.trials
        if each.hyperparameters.regularization is not Regularization.NONE
    }
    assert_drawn(points(figure), penalized)
    level = next(trace for trace in figure.data if trace.name == "best without penalty")
    best = min(
        each.val_loss
        for each in record.trials
        if each.hyperparameters.regularization is Regularization.NONE
    )
    assert set(level.y) == {best}


def test_the_plane_sets_training_against_validation_loss():
    record = study([trial(n) for n in range(13)])
    drawn = points(interactive(record)["generalization_plane"])
    places = {each.number: (each.scalars["train_loss"], each.val_loss) for each in record.trials}
    assert_drawn(drawn, places)


@pytest.mark.parametrize(
    "losses", [(1e300, 1e-10), (1e308, 0.0), (0.0, 0.0), (1.0, 1.0), (5e-324, 1.0), (-1.0, 3.0)]
)
def test_any_final_losses_can_be_drawn(losses):
    train, val = losses
    record = study([with_scalars(trial(n), train_loss=train, val_loss=val) for n in range(3)])
    assert set(images_of(record)) == {f"{name}.png" for name in NAMES}
    assert set(interactive(record)) == NAMES


@pytest.mark.parametrize("spread", [1.0, 30.0])
def test_the_planes_diagonal_is_a_diagonal_that_collapsed_trials_do_not_shrink(spread):
    """With trials near one another, and over decades on log axes."""
    losses = np.linspace(0.1, 0.1 + 0.1 * spread, 40)
    trials = [with_scalars(trial(n), train_loss=x / 2, val_loss=x) for n, x in enumerate(losses)]
    trials += [with_scalars(trial(40 + n), train_loss=99.0, val_loss=99.0) for n in range(3)]
    figure = interactive(study(trials))["generalization_plane"]
    layout, diagonal = figure.layout, figure.data[0]
    assert diagonal.name == "no gap"
    assert list(diagonal.x) == list(diagonal.y)
    assert layout.xaxis.type == layout.yaxis.type == ("log" if spread > 10 else "linear")
    assert layout.xaxis.range == layout.yaxis.range
    assert layout.yaxis.scaleanchor == "x"
    low, high = 10.0 ** np.array(layout.xaxis.range) if spread > 10 else layout.xaxis.range
    assert 0 < low < losses.min() / 2
    assert losses.max() < high < 10
    assert layout.title.subtitle.text == "3 trials lie beyond the range shown."
    assert set(points(figure)) == set(range(43))


def test_one_colour_a_type_in_every_figure():
    record = study(
        [trial(n, StopReason.PRUNED if n % 2 else StopReason.MAX_EPOCHS) for n in range(30)]
    )
    for figure in interactive(record).values():
        for trace in figure.data:
            kind = next((kind for kind in KINDS if trace.legendgroup == str(kind)), None)
            if kind is not None:
                colour = trace.marker.color if trace.mode == "markers" else trace.line.color
                assert colour == COLOURS[kind]


def test_learning_curves_are_those_of_the_record():
    record = study([trial(n, n_epochs=5 + n) for n in range(11)])
    drawn: dict[int, dict[int, float]] = {}
    for trace in interactive(record)["learning_curves"].data:
        if trace.customdata is not None and trace.yaxis == "y2":
            for number, epoch, loss in zip(trace.customdata, trace.x, trace.y, strict=True):
                if math.isfinite(loss):
                    drawn.setdefault(int(number), {})[int(epoch)] = float(loss)
    for each in record.trials:
        curve = drawn[each.number]
        assert sorted(curve) == list(range(1, len(each.history) + 1))
        np.testing.assert_allclose([curve[e] for e in sorted(curve)], each.history.val_loss, 1e-6)


def test_very_many_curves_are_thinned_but_keep_their_ends():
    record = study([trial(n, n_epochs=100) for n in range(600)])
    figure = interactive(record)["learning_curves"]
    curves = [trace for trace in figure.data if trace.customdata is not None]
    assert sum(len(trace.x) for trace in curves) <= 3 * MOST_CURVE_POINTS
    assert all(max(trace.x) == 100 and min(trace.x) == 1 for trace in curves)


def test_the_best_so_far_never_rises_and_ends_at_the_best():
    record = study(
        [trial(n, StopReason.PRUNED if n % 4 else StopReason.MAX_EPOCHS) for n in range(40)]
    )
    figure = interactive(record)["optimization_history"]
    line = next(trace for trace in figure.data if trace.name == "best so far")
    assert (np.diff(line.y) <= 0).all()
    assert (np.diff(line.x) >= 0).all()
    assert record.best is not None
    assert line.y[-1] == record.best.val_loss
    assert line.x[-1] == record.trials[-1].number


@pytest.mark.parametrize(
    ("gaps", "note"),
    [
        ([], None),
        ([1e6], "Gap: 1 trial lies above the range shown."),
        ([1e6, 2e6], "Gap: 2 trials lie above the range shown."),
        ([1e6, 2e6, -1e6], "Gap: 2 trials lie above and 1 trial lies below the range shown."),
        ([1e6] * 20, None),  # not a few: the axis shows them
    ],
)
def test_a_few_wild_values_are_left_off_the_axis_and_counted(gaps, note):
    wild = [with_scalars(trial(40 + n), gap=gap) for n, gap in enumerate(gaps)]
    figure = interactive(study([*(trial(n) for n in range(40)), *wild]))["dropout"]
    axis = figure.layout.yaxis2
    assert (figure.layout.title.subtitle.text or None) == note
    assert axis.title.text == "gap<br>(validation - training loss)"
    assert axis.range is None if note is None else max(np.abs(axis.range)) < 1e6
    assert set(points(figure)) == set(range(40 + len(gaps)))


def test_losses_over_decades_get_a_log_axis_with_its_ticks_in_full():
    near = study([trial(n) for n in range(7)])
    far = study([with_scalars(each, val_loss=10.0**each.number) for each in near.trials])
    assert interactive(near)["dropout"].layout.yaxis.type == "linear"
    figures = interactive(far)
    assert figures["dropout"].layout.yaxis.type == "log"
    # Without a format plotly writes 5 for 0.05.
    axes = [
        axis
        for figure in figures.values()
        for axis in (*figure.select_xaxes(), *figure.select_yaxes())
    ]
    assert {axis.tickformat for axis in axes if axis.type == "log"} == {"~g", "~e"}


def test_epochs_trained_and_saved_add_up():
    reasons = [*StopReason] * 4
    record = study([trial(n, reason, n_epochs=n + 1) for n, reason in enumerate(reasons)])
    table = epochs_by_type(record)
    assert set(table) == {SPENT, *SAVED}
    total = sum(sum(row.values()) for row in table.values())
    unsaved = sum(50 - (n + 1) for n, r in enumerate(reasons) if r is StopReason.MAX_EPOCHS)
    assert total == 50 * len(reasons) - unsaved
    assert table[SPENT][KINDS[0]] == sum(n + 1 for n in range(len(reasons)) if n % 5 == 0)


def test_bars_show_the_epochs():
    record = study([trial(n, StopReason.PRUNED, n_epochs=10) for n in range(5)])
    bars = {trace.name: list(trace.x) for trace in interactive(record)["epochs"].data}
    assert bars == {"trained": [10] * 5, "saved by pruning": [40] * 5}


@pytest.mark.parametrize(("toml", "longest"), [(TOML, 50), ("", 13), ("x = [", 13)])
def test_the_longest_trial_comes_from_the_file_or_else_from_the_trials(toml, longest):
    assert max_epochs(study([trial(0), trial(1, n_epochs=3)], toml)) == longest


# --- the finalists ----------------------------------------------------------------------------


def confirmed(of: Confirmation) -> StudyRecord:
    return replace(study([]), confirmation=of)


def differences(figure, metric: str) -> dict[str, tuple[float, float, float, bool]]:
    """Finalist -> difference, its interval and whether its marker is hollow, of one panel."""
    axis = {"test_loss": "x", "gap": "x2"}[metric]
    return {
        name.replace(" ", "_"): (x, x - less, x + more, trace.marker.color == "#fefefe")
        for trace in figure.data
        if trace.text is not None and trace.xaxis == axis
        for name, x, less, more in zip(
            trace.text, trace.x, trace.error_x.arrayminus, trace.error_x.array, strict=True
        )
    }


def test_finalists_are_drawn_once_two_of_them_can_be_compared():
    for shape in ("no finalists", "nothing trained yet", "one record", "the baseline failed"):
        assert finalists_plots(confirmed(SHAPES[shape])) == []
    assert finalists_plots(study([])) == []
    record = confirmed(SHAPES["unfinished"])
    assert set(interactive(record)) == NAMES | {"finalists"}
    assert set(images_of(record)) == {f"{name}.png" for name in NAMES | {"finalists"}}


@pytest.mark.parametrize("shape", SHAPES)
def test_finalists_of_any_shape_can_be_drawn(shape):
    for plot in finalists_plots(confirmed(SHAPES[shape])):
        assert min(size(matplotlib_renderer.image(plot))) >= 400
        figure = plotly_renderer._figure(plot)
        assert not re.search("NaN|Infinity", figure.to_json())
        for trace in figure.data:
            for values in (trace.error_x.array, trace.error_x.arrayminus):
                assert values is None or np.isfinite(values).all()


def test_names_of_finalists_are_no_markup():
    figure = interactive(confirmed(SHAPES["names of any kind"]))["finalists"]
    words = [*figure.layout.yaxis.ticktext, *(name for t in figure.data for name in t.text or ())]
    assert sum("&lt;script&gt;" in each for each in words) == 3  # beside both panels' markers too
    assert not any("<script>" in each for each in words)


@pytest.mark.parametrize("shape", ["whole", "two replicates"])
def test_finalists_stand_where_the_comparison_says(shape):
    figure = interactive(confirmed(SHAPES[shape]))["finalists"]
    for metric in ("test_loss", "gap"):
        frame = pairs_frame(SHAPES[shape]).query("against == 'baseline' and metric == @metric")
        drawn = differences(figure, metric)
        assert set(drawn) == set(frame["finalist"])
        for values in frame.to_dict("records"):
            expected = [values[name] for name in ("difference", "low", "high")]
            *places, hollow = drawn[values["finalist"]]
            np.testing.assert_allclose(places, expected, rtol=1e-9)
            assert hollow == (values["p_holm"] >= 0.05)
    assert {hollow for *_, hollow in differences(figure, "gap").values()} == {True, False}


def test_finalists_keep_their_order_their_types_colour_and_a_line_at_zero():
    figure = interactive(confirmed(WHOLE))["finalists"]
    # From the top: the axis is turned over.
    assert figure.layout.yaxis.range[0] > figure.layout.yaxis.range[1]
    names = [name.replace("<br>", " ") for name in figure.layout.yaxis.ticktext]
    assert names == [roles.split()[0].replace("_", " ") for roles in TWELVE if roles != "baseline"]
    for trace in figure.data:
        if trace.text is not None:
            assert trace.marker.line.color == trace.error_x.color == COLOURS[trace.legendgroup]
            for name, place in zip(trace.text, trace.y, strict=True):
                assert names[int(place)] == name
    zeros = [trace for trace in figure.data if trace.name == "baseline"]
    assert [list(trace.x) for trace in zeros] == [[0, 0], [0, 0]]
    # One sample of each type in the legend, filled even if its first finalist is hollow.
    samples = [trace for trace in figure.data if trace.mode == "markers" and trace.showlegend]
    assert sorted(trace.name for trace in samples) == sorted(map(str, KINDS))
    assert all(trace.marker.color == COLOURS[trace.name] for trace in samples)


def test_a_wild_interval_is_left_off_the_axis_and_counted():
    records = [
        replace(each, scalars=each.scalars | {"test_loss": 1e3 * each.replicate})
        if each.finalist == "best_l1"
        else each
        for each in WHOLE.records
    ]
    figure = interactive(confirmed(replace(WHOLE, records=tuple(records))))["finalists"]
    assert figure.layout.title.subtitle.text == (
        "Test loss: 1 interval reaches beyond the range shown."
    )
    low, high = figure.layout.xaxis.range
    assert -2 < low < 0 < high < 2
    assert interactive(confirmed(WHOLE))["finalists"].layout.title.subtitle.text == ""


def test_zero_is_on_the_axis_however_far_the_finalists_are_from_it():
    alike = ["winner best_l2", "best_none", "best_l1", "best_elastic_net"]
    of = confirmation(20, ["baseline", *alike], spread=1e-4)
    figure = interactive(confirmed(of))["finalists"]
    for axis in (figure.layout.xaxis, figure.layout.xaxis2):
        assert axis.range[0] < 0 < axis.range[1]


def test_the_figure_of_importances_has_both_ways_on_one_scale() -> None:
    figure = interactive(STUDIES["many"])["importances"]
    assert [note.text for note in figure.layout.annotations] == ["f-ANOVA", "PED-ANOVA"]
    names = {"regularization", "lambda", "l1_ratio", "dropout", "patience"}
    assert {name.replace("<br>", "") for name in figure.layout.yaxis.ticktext} == names
    assert figure.layout.xaxis.range == figure.layout.xaxis2.range == (0.0, 1.0)
    for bars in figure.data:
        assert sum(bars.x) == pytest.approx(1)
        assert not bars.showlegend


def test_importances_of_few_trials_say_so() -> None:
    few, many = (
        interactive(study([trial(n) for n in range(count)]))["importances"] for count in (12, 60)
    )
    assert "only 12 complete trials" in few.layout.xaxis.title.text
    assert "(60 complete trials" in many.layout.xaxis.title.text


def with_kernels(kernels: dict[int, list[float]]) -> StudyRecord:
    numbers = {number: np.array(row, dtype=np.float32) for number, row in kernels.items()}
    return replace(study([trial(n) for n in range(10)]), kernels=numbers)


def test_the_weights_of_each_types_best_network_are_counted() -> None:
    """Zeros are told in words, all others are in the shape: it covers just their share."""
    best = {str(t.hyperparameters.regularization): t.number for t in with_kernels({}).best_of_types}
    rows = {best["none"]: [0.5, -0.5, 0.1, 0.2], best["l1"]: [0.0, 0.0, 0.0, 0.7]}
    figure = interactive(with_kernels(rows))["weights"]
    told = [note.text for note in figure.layout.annotations]
    assert told == [
        f"none, trial {best['none']}: no weight is zero",
        f"l1, trial {best['l1']}: 75% of 4 weights are zero",
    ]
    assert [trace.line.color for trace in figure.data] == [
        COLOURS[Regularization.NONE],
        COLOURS[Regularization.L1],
    ]
    # Each bin is drawn by two points of its height.
    assert [sum(trace.y) / 2 for trace in figure.data] == pytest.approx([1.0, 0.25])
    assert figure.layout.xaxis.range == figure.layout.xaxis2.range


def test_a_few_weights_far_away_do_not_hide_the_others() -> None:
    best = study([trial(n) for n in range(10)]).best_of_types[0].number
    rows = {best: [*np.linspace(-1, 1, 2000), 1e6]}
    plot = next(p for p in study_plots(with_kernels(rows)) if p.name == "weights")
    assert plot.panels[0].x.limits == pytest.approx((-1, 1), rel=0.01)
    drawn = np.abs(np.array(rows[best], dtype=np.float32).astype(np.float64))
    beyond = np.count_nonzero(drawn > plot.panels[0].x.limits[1])
    assert plot.note == f"{beyond} weights lie beyond the range shown."
    assert 1 < beyond < 10
    near = next(
        p for p in study_plots(with_kernels({best: [*np.linspace(-1, 1, 2000), 1.5]}))
        if p.name == "weights"
    )  # fmt: skip
    assert near.panels[0].x.limits == (-1.5, 1.5)
    assert near.note == ""


@pytest.mark.parametrize(
    "row", [[0.0, 0.0], [np.float32(3e38), -1.0], [np.inf, np.nan, 1.0], [1e-30, 2e-30]]
)
def test_weights_of_any_size_can_be_drawn(row: list[float]) -> None:
    best = study([trial(n) for n in range(10)]).best_of_types[0].number
    assert "weights.png" in images_of(with_kernels({best: row}))
