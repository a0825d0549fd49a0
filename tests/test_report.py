from __future__ import annotations

import base64
import gzip
import io
import json
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.config import parse_config
from pipeline.figures import interactive_figures, study_plots
from pipeline.records import StudyRecord, TrialRecord
from pipeline.report import (
    HOW_TO_READ,
    render,
    render_figures,
    shown,
    summary_markdown,
    trials_frame,
    types_frame,
    unregularized,
)
from pipeline.results import STATE_AFTER, History, StopReason, TrialState
from pipeline.space import Hyperparameters, Regularization
from tests.finalists import SHORT

COLUMNS = [
    "number", "state", "stop_reason", "regularization", "lambda", "l1_ratio", "dropout",
    "patience", "val_loss", "train_loss", "gap", "val_score", "best_epoch", "epochs",
    "overfit_gap", "weight_norm", "sparsity", "replicate", "run_id",
]  # fmt: skip
KINDS = list(Regularization)
HOSTILE = "<script>alert('x')</script> & `a|b` $x$ </h1>"


def toml(**overrides: object) -> str:
    """A study file, resolved as the parent run keeps it."""
    text = 'name = "study"\n[data]\nsource = "sklearn:digits"\n'
    return parse_config(text, "test", Path("/"), overrides).to_toml()


def chosen(kind: Regularization, number: int = 1, **changes: object) -> Hyperparameters:
    given = {
        "lambda_": 0.0 if kind is Regularization.NONE else 1e-3,
        "l1_ratio": 0.25 if kind is Regularization.ELASTIC_NET else None,
        "dropout": number % 7 / 10,
        "patience": 3 + number % 11,
    }
    return Hyperparameters(kind, **(given | changes))


def trial(
    number: int,
    reason: StopReason = StopReason.EARLY_STOPPING,
    kind: Regularization | None = None,
    val_loss: float | None = None,
    **changes: object,
) -> TrialRecord:
    """A trial whose validation loss falls to its best at epoch 5 and rises to epoch 9."""
    kind = KINDS[number % len(KINDS)] if kind is None else kind
    best = 0.5 + number / 100 if val_loss is None else val_loss
    val = best + 0.1 * np.array([4, 3, 2, 1, 0, 1, 2, 3, 4.0])
    train = np.linspace(best, best / 5, 9)
    score = np.full(9, 0.75)
    scalars = {"epochs": 9.0}
    if STATE_AFTER[reason] is not TrialState.FAILED:
        scalars |= {
            "val_loss": val[4], "train_loss": train[4], "gap": val[4] - train[4],
            "val_score": 0.75, "best_epoch": 5.0, "overfit_gap": val[8] - train[8],
            "weight_norm": 3.0, "sparsity": 0.125,
        }  # fmt: skip
    return TrialRecord(
        number, f"run{number}", STATE_AFTER[reason], reason, chosen(kind, number, **changes), 0,
        History(train, val, score, score), {name: float(x) for name, x in scalars.items()},
    )  # fmt: skip


def study(trials: Sequence[TrialRecord], text: str | None = None, name: str = "study"):
    params = {
        "data.task": "multiclass", "data.rows": "1797", "data.features": "64",
        "data.digest": "0123456789abcdef", "data.train_rows": "1077", "data.val_rows": "360",
        "data.test_rows": "360",
    }  # fmt: skip
    document = toml() if text is None else text
    return StudyRecord(name, "parent", "1", "complete", params, tuple(trials), document)


PRUNED, FAILED = StopReason.PRUNED, StopReason.DIVERGED
STUDIES = {
    "empty": study([]),
    "empty and illegible": study([], text="x = ["),
    "one trial": study([trial(0)]),
    "one type": study([trial(n, kind=Regularization.L2) for n in range(5)]),
    "all pruned but one": study([trial(0), *(trial(n, PRUNED) for n in range(1, 7))]),
    "no complete trial": study([trial(n, PRUNED) for n in range(5)]),
    "all failed": study([trial(n, FAILED) for n in range(5)]),
    "scalars absent": study([replace(trial(n), scalars={}) for n in range(3)]),
    "scalars that are no numbers": study(
        [replace(t, scalars=dict.fromkeys(t.scalars, math.nan)) for t in map(trial, range(3))]
    ),
    "many": study([trial(n, list(StopReason)[n % 5]) for n in range(120)]),
    "no epoch": study(
        [replace(trial(0, FAILED), history=History(*[np.zeros(0)] * 4), scalars={"epochs": 0.0})]
    ),
}


class Page(HTMLParser):
    """What a test wants to know of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: dict[str, str] = {}
        self.words: dict[str, str] = {}
        self._script = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in {"meta", "input", "br", "link"}:
            self.open.append(tag)
        if tag == "script":
            self._script = dict(attrs).get("id") or "program"

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts[self._script] = self.scripts.get(self._script, "") + data
        elif self.open and self.open[-1] != "style":
            self.words[self.open[-1]] = self.words.get(self.open[-1], "") + data

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words.values()).split())

    def rows(self) -> list[dict[str, str | None]]:
        return [attrs for tag, attrs in self.tags if "data-trial" in attrs and tag == "tr"]


# --- the tables -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STUDIES)
def test_the_trials_table_has_one_row_a_trial_and_its_columns_in_order(name):
    record = STUDIES[name]
    frame = trials_frame(record)
    assert list(frame.columns) == COLUMNS
    assert list(frame["number"]) == [each.number for each in record.trials]


def test_the_trials_table_is_ordered_by_number_and_ends_with_the_run():
    trials = [trial(n) for n in (4, 0, 2)]
    frame = trials_frame(study(trials))
    assert list(frame["number"]) == [0, 2, 4]
    assert list(frame["run_id"]) == ["run0", "run2", "run4"]
    other = trials_frame(study([replace(each, run_id="another") for each in trials]))
    pd.testing.assert_frame_equal(frame.drop(columns="run_id"), other.drop(columns="run_id"))


def test_a_row_says_what_the_record_says():
    row = trials_frame(study([trial(3)])).iloc[0].to_dict()
    record = trial(3)
    assert row["regularization"] == "elastic_net"
    assert (row["lambda"], row["l1_ratio"], row["dropout"]) == (1e-3, 0.25, 0.3)
    assert (row["patience"], row["best_epoch"], row["epochs"]) == (6, 5, 9)
    for name in ("val_loss", "train_loss", "gap", "val_score", "overfit_gap", "weight_norm"):
        assert row[name] == record.scalars[name]


def test_scores_have_columns_where_trials_have_them_in_one_order():
    def scored(number: int, **scores: float) -> TrialRecord:
        return replace(trial(number), scalars=trial(number).scalars | scores)

    record = study([trial(0), scored(1, val_roc_auc=0.75, val_accuracy=0.5)])
    frame = trials_frame(record)
    assert list(frame.columns) == [*COLUMNS[:12], "val_accuracy", "val_roc_auc", *COLUMNS[12:]]
    assert frame["val_roc_auc"].isna().tolist() == [True, False]
    assert frame["val_roc_auc"][1] == 0.75
    assert list(trials_frame(study([scored(0, val_mae=2.0)])).columns)[12] == "val_mae"


def test_the_trials_table_survives_csv():
    record = study([trial(n, list(StopReason)[n % 5]) for n in range(15)])
    frame = trials_frame(record)
    text = frame.to_csv(index=False)
    again = pd.read_csv(io.StringIO(text))
    np.testing.assert_allclose(again["val_loss"], frame["val_loss"], rtol=1e-15)
    assert again["best_epoch"].isna().sum() == 6
    assert not re.search(r",5\.0,9", text)


def test_the_learning_rate_has_a_column_only_where_it_varies():
    record = study([trial(0), trial(1, learning_rate=0.01)])
    frame = trials_frame(record)
    assert list(frame.columns) == [*COLUMNS[:8], "learning_rate", *COLUMNS[8:]]
    assert frame["learning_rate"].tolist()[1] == 0.01


def test_patience_may_be_off():
    frame = trials_frame(study([trial(0, patience="off"), trial(1)]))
    assert frame["patience"].tolist() == ["off", 4]


def test_types_are_counted_and_summed_up():
    l2 = Regularization.L2
    record = study(
        [
            trial(0, kind=Regularization.NONE, val_loss=0.9),
            trial(1, kind=l2, val_loss=0.4),
            trial(2, kind=l2, val_loss=0.6),
            trial(3, kind=l2, val_loss=0.7),
            trial(4, PRUNED, kind=l2, val_loss=0.1),
            trial(5, FAILED, kind=l2),
        ]
    )
    frame = types_frame(record).set_index("regularization")
    assert list(frame.index) == [str(kind) for kind in KINDS]
    row = frame.loc["l2"]
    assert (row["trials"], row["complete"], row["pruned"], row["failed"]) == (5, 3, 1, 1)
    # A pruned trial's loss is no result, however low.
    assert (row["best_val_loss"], row["median_val_loss"]) == (0.4, 0.6)
    assert row["best_gap"] == record.trials[1].scalars["gap"]
    assert (row["best_lambda"], row["best_dropout"], row["best_epoch"]) == (1e-3, 0.1, 5)
    assert frame.loc["none", "best_lambda"] == 0
    assert frame.loc["l1", "trials"] == 0
    assert math.isnan(frame.loc["l1", "best_val_loss"])


@pytest.mark.parametrize("name", STUDIES)
def test_the_types_table_counts_every_trial(name):
    frame = types_frame(STUDIES[name])
    assert frame["trials"].sum() == len(STUDIES[name].trials)
    counts = frame[["complete", "pruned", "failed"]].sum(axis=1)
    assert (counts == frame["trials"]).all()


def test_only_types_that_were_searched_or_tried_have_a_row():
    text = toml(**{"space.regularization": ["none", "l2"]})
    assert list(types_frame(study([], text))["regularization"]) == ["none", "l2"]
    record = study([trial(0, kind=Regularization.L1)], text)
    assert list(types_frame(record)["regularization"]) == ["none", "l1", "l2"]


def test_the_unregularized_trial_has_no_penalty_and_the_least_dropout():
    none = Regularization.NONE
    record = study(
        [
            trial(0, FAILED, kind=none, dropout=0.0),
            trial(1, kind=Regularization.L2, dropout=0.0),
            trial(2, kind=none, dropout=0.3),
            trial(3, kind=none, dropout=0.1),
            trial(4, kind=none, dropout=0.1),
        ]
    )
    found = unregularized(record)
    assert found is not None
    assert found.number == 3
    assert unregularized(study([trial(1)])) is None


# --- the answer -------------------------------------------------------------------------------


def test_the_answer_comes_in_three_sentences():
    record = study([trial(0, val_loss=0.8), trial(2, val_loss=0.4)])
    text = summary_markdown(record)
    assert "Trial 2 is best (l2, lambda 1.0e-03, dropout 0.20, patience 5)" in text
    assert "validation loss 0.4 at epoch 5" in text
    assert "Without regularization (trial 0: none, dropout 0.00, patience 3) the network" in text
    assert "lowers validation loss by 50% and lowers the gap by 50%" in text


@pytest.mark.parametrize(
    ("last_val", "last_train", "verdict"),
    [
        (0.60, 0.55, "the network overfits:"),  # risen by a fifth
        (0.50, 0.20, "the network overfits:"),  # a gap of more than half
        (0.51, 0.40, "overfits a little"),
        (0.51, 0.50, "hardly overfits"),
    ],
)
def test_overfitting_is_judged_by_the_rise_and_by_the_gap(last_val, last_train, verdict):
    each = trial(0, val_loss=0.5)
    curves = replace(each.history, val_loss=np.append(each.history.val_loss[:-1], last_val))
    scalars = {**each.scalars, "overfit_gap": last_val - last_train}
    text = summary_markdown(study([replace(each, history=curves, scalars=scalars), trial(1)]))
    assert verdict in text


def test_the_gaps_after_the_last_epoch_are_compared_too():
    free, best = trial(0, val_loss=0.8), trial(2, val_loss=0.4)

    def told(now: float, free: TrialRecord = free) -> str:
        changed = replace(best, scalars=best.scalars | {"overfit_gap": now})
        return summary_markdown(study([free, changed]))

    before = "where the unregularized network's is 1.04 at epoch 9."
    assert f"; trained on to its last epoch, 9, it overfits less: its gap is 0.25 {before}" in (
        told(0.25)
    )
    assert f"; trained on to its last epoch, 9, its gap is 2.5 {before}" in told(2.5)
    assert "trained on" not in told(math.nan)
    assert "where trial 0's is" in told(0.25, trial(0, val_loss=0.8, dropout=0.2))


def test_where_nothing_beats_no_regularization_it_says_so():
    text = summary_markdown(study([trial(0, val_loss=0.1), trial(1)]))
    assert "Trial 0 is best" in text
    assert "No guardrail that was tried did better than none" in text


def test_without_an_unregularized_trial_nothing_is_claimed():
    text = summary_markdown(STUDIES["one type"])
    assert "nothing to hold it against" in text
    assert "overfits" not in text


def test_the_summary_tells_data_space_cost_and_how_to_repeat_it():
    text = summary_markdown(study([trial(0), trial(1, PRUNED)]))
    assert "1797 rows x 64 features" in text
    assert "digest 0123456789abcdef" in text
    assert "lambda 1e-06 to 0.1, log" in text
    assert "18 epochs trained of the 200 that all trials would have taken; " in text
    assert "91 saved by early stopping (46%), 91 saved by pruning (46%)" in text
    assert "python -m pipeline reproduce run0" in text
    assert "mlflow run . -P study=study.toml" in text


@pytest.mark.parametrize("name", STUDIES)
def test_the_summary_of_any_study_is_a_proper_table_and_no_nan(name):
    text = summary_markdown(STUDIES[name])
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in rows}) == 1
    assert not re.search(r"\bnan\b|\binf\b|None|<NA>", text)


def test_markdown_in_names_stays_text():
    text = summary_markdown(study([trial(0)], name=HOSTILE))
    assert "<script>" not in text
    assert r"\`a\|b\`" in text


# --- the warnings -----------------------------------------------------------------------------


def warnings_of(record: StudyRecord) -> list[str]:
    text = summary_markdown(record)
    return [line for line in text.splitlines() if line.startswith("- **Warning**")]


def enough(*given: TrialRecord, **overrides: object) -> StudyRecord:
    """A study large enough that its size is no reason to warn, `given` its first trials."""
    rest = [trial(n, val_loss=0.9) for n in range(len(given), 60)]
    return study([*given, *rest], toml(**({"search.n_trials": 60} | overrides)))


@pytest.mark.parametrize(
    ("winner", "overrides", "warning"),
    [
        ({"lambda_": 9.9e-2}, {}, "upper edge of its range"),
        ({"lambda_": 1.1e-6}, {}, "lower edge of its range"),
        ({"lambda_": 1e-3}, {}, None),
        ({"dropout": 0.0}, {}, None),  # nothing lies below 0
        ({"dropout": 0.69}, {}, "best dropout, 0.69, is at the upper edge"),
        ({"patience": 30}, {}, None),  # longer patience never ends at a worse epoch
        ({"lambda_": 0.1}, {"space.lambda": 0.1}, None),  # fixed, not searched
        ({}, {"training.max_epochs": 5}, "might improve with more epochs"),
        ({"learning_rate": 0.1}, {"space.learning_rate": {"high": 0.1}}, "best learning_rate"),
    ],
)
def test_a_winner_at_the_edge_of_its_range_is_a_warning(winner, overrides, warning):
    best = trial(0, kind=Regularization.L2, val_loss=0.1, **({"dropout": 0.3} | winner))
    found = warnings_of(enough(best, **overrides))
    assert len(found) == (warning is not None)
    assert warning is None or warning in found[0]


@pytest.mark.parametrize(
    ("record", "warning"),
    [
        (study([trial(0), trial(1)]), "budget is small"),
        (study([trial(0)], toml(**{"search.n_trials": 9})), "1 of 9 trials have ended"),
        (enough(*[trial(n, FAILED) for n in range(9)]), "9 of 60 trials failed"),
        (study([trial(0), trial(1, PRUNED)]), "Only 1 of 2 trials ran to their end"),
        (study([trial(n, StopReason.MAX_EPOCHS) for n in range(9)]), "patience was never used"),
    ],
)
def test_what_weakens_the_answer_is_a_warning(record, warning):
    assert any(warning in line for line in warnings_of(record))


def unpacked(text: str) -> str:
    return gzip.decompress(base64.b64decode(text, validate=True)).decode()


TOO_SMALL = "The validation set may be too small to tell"


def ahead(best: float | None, free: float | None, rows: str | None = "114") -> StudyRecord:
    """A best trial of validation loss 0.4 and an unregularized one of 0.5, by their accuracies."""

    def scored(number: int, accuracy: float | None, **changes: object) -> TrialRecord:
        each = trial(number, **changes)
        more = {} if accuracy is None else {"val_accuracy": accuracy}
        return replace(each, scalars=each.scalars | more)

    record = study(
        [
            scored(0, free, val_loss=0.5, dropout=0.0),
            scored(2, best, val_loss=0.4, dropout=0.3),
        ]
    )
    params = {key: text for key, text in record.params.items() if key != "data.val_rows"}
    return replace(record, params=params if rows is None else {**params, "data.val_rows": rows})


@pytest.mark.parametrize(
    ("right", "told"),
    [
        ((108, 107), "has 1 more right than the unregularized one, trial 0; by chance"),
        ((112, 107), "has 5 more right than"),
        ((113, 107), None),
        ((107, 107), "has as many right as the unregularized one, trial 0; by chance"),
        ((102, 107), "has 5 fewer right than"),
        ((101, 107), None),
    ],
)
def test_too_few_rows_that_only_one_has_right_are_a_warning(right, told):
    """McNemar's exact test: five rows that are all one's have p = 1 / 16, six have p = 1 / 32."""
    best, free = (count / 114 for count in right)
    found = [line for line in warnings_of(ahead(best, free)) if TOO_SMALL in line]
    assert len(found) == (told is not None)
    if told is not None:
        assert f"on its 114 rows the best trial {told}" in found[0]
        assert found[0].endswith("by chance alone they may differ by 5.")


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ("49", "on its 49 rows the best trial's loss is 20.0% below that of the unregularized"),
        ("49", "one, trial 0; by chance alone a loss may be off by 40.4%."),
        ("198", "may be off by 20.1%."),
        ("202", None),  # 2 sqrt(2 / 202) is 0.199, and the losses differ by a fifth
    ],
)  # fmt: skip
def test_without_accuracies_the_losses_are_held_against_their_error(rows, told):
    found = [line for line in warnings_of(ahead(None, None, rows)) if TOO_SMALL in line]
    assert len(found) == (told is not None)
    assert told is None or told in found[0]


@pytest.mark.parametrize(
    "record",
    [
        ahead(0.5, 0.5, None),
        ahead(0.5, 0.5, "?"),
        ahead(0.5, 0.5, "0"),
        study([trial(0, val_loss=0.5, dropout=0.0)]),
        study([trial(0, val_loss=0.4, dropout=0.0), trial(2, val_loss=0.5)]),
        study([trial(1)]),
        study([trial(n, PRUNED) for n in range(5)]),
        study([trial(0, val_loss=0.0), trial(2, val_loss=-1.0)]),
        replace(ahead(0.5, 0.5), confirmation=SHORT),
    ],
)
def test_where_there_is_nothing_to_compare_or_it_was_confirmed_no_row_is_missed(record):
    assert TOO_SMALL not in summary_markdown(record)


def test_a_confirmation_that_is_not_finished_takes_no_warning_back():
    begun = replace(SHORT, records=SHORT.records[:1])
    assert TOO_SMALL in summary_markdown(replace(ahead(0.5, 0.5), confirmation=begun))


# --- the page ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_of_any_shape_has_a_whole_page(name):
    record = STUDIES[name]
    text = render(record)
    page = Page(text)
    assert page.open == []
    assert [int(row["data-trial"]) for row in page.rows()] == [t.number for t in record.trials]
    assert not re.search(r"\bnan\b|<NA>|\bNone\b", page.text)
    assert len(text) < 3e6


def test_the_page_loads_nothing():
    page = Page(render(STUDIES["many"]))
    assert not [attrs for _, attrs in page.tags if "src" in attrs or "srcset" in attrs]
    assert not [tag for tag, _ in page.tags if tag in {"link", "iframe", "object", "embed", "base"}]
    style = re.findall(r"<style>(.*?)</style>", render(STUDIES["empty"]), re.DOTALL)
    assert "url(" not in "".join(style)
    assert "@import" not in "".join(style)
    assert "fetch(" not in page.scripts["program"]


def test_plotly_is_in_the_page_once_and_whole():
    from plotly.offline import get_plotlyjs

    page = Page(render(STUDIES["one trial"]))
    assert unpacked(page.scripts["plotly"]) == get_plotlyjs()


def test_the_figures_in_the_page_are_those_of_the_study():
    record = replace(STUDIES["many"], confirmation=SHORT)
    page = Page(render(record))
    drawn = json.loads(unpacked(page.scripts["figures"]))
    figures = interactive_figures(study_plots(record))
    assert set(drawn) == set(figures) == set(HOW_TO_READ)
    places = [attrs["id"] for _, attrs in page.tags if attrs.get("class") == "plot"]
    assert places == [f"plot-{name}" for name in figures]
    for name, figure in figures.items():
        assert drawn[name]["data"] == json.loads(figure.to_json())["data"]
        assert figure.layout.title.text in page.text
        assert HOW_TO_READ[name] in page.text


def test_a_caption_says_what_its_figure_leaves_out():
    trials = [trial(n) for n in range(40)]
    wild = replace(trials[39], scalars=trials[39].scalars | {"gap": 1e6})
    note = "Gap: 1 trial lies above the range shown."
    assert note in Page(render(study([*trials[:39], wild]))).text
    assert note not in Page(render(study(trials))).text


def test_text_from_data_stays_text():
    record = study([trial(0)], name=HOSTILE)
    record = replace(record, params={**record.params, "data.source": HOSTILE}, state=HOSTILE)
    record = replace(record, trials=(replace(record.trials[0], run_id=HOSTILE),))
    text = render(record)
    page = Page(text)
    assert page.words["h1"].strip() == HOSTILE
    assert HOSTILE in page.text
    assert sum(tag == "script" for tag, _ in page.tags) == 4
    assert "<script>alert" not in text


def test_rows_link_to_their_runs():
    record = study([trial(0), trial(1), trial(2)])
    links = {0: "http://127.0.0.1:5000/#/runs/a?b=1&c=2", 2: "/#/runs/c"}
    page = Page(render(record, links))
    assert [attrs["href"] for tag, attrs in page.tags if tag == "a"] == list(links.values())


def test_a_page_on_disk_links_to_the_ui_at_its_usual_place():
    page = Page(render(study([trial(0)]), {0: "/#/runs/a"}))
    program = page.scripts["program"]
    assert 'location.protocol === "file:"' in program
    assert '"http://127.0.0.1:5000"' in program
    (line,) = [attrs for _, attrs in page.tags if attrs.get("id") == "no-server"]
    assert "hidden" in line  # until the script finds that there is no server
    assert "Links open the UI on 127.0.0.1:5000" in page.text


@pytest.mark.parametrize("link", ["javascript:alert(1)", "data:text/html,x", " javascript:x", ""])
def test_a_link_that_is_no_page_is_left_out(link):
    page = Page(render(study([trial(0)]), {0: link}))
    assert not [tag for tag, _ in page.tags if tag == "a"]


def test_the_best_trial_is_marked_once():
    page = Page(render(STUDIES["many"]))
    best = STUDIES["many"].best
    assert best is not None
    marked = [row["data-trial"] for row in page.rows() if row.get("class") == "best"]
    assert marked == [str(best.number)]


def test_cells_sort_by_value_not_by_spelling():
    page = Page(render(study([trial(1, lambda_=1.234567e-6), trial(2, FAILED, lambda_=1e-6)])))
    keys = [attrs["data-key"] for tag, attrs in page.tags if tag == "td" and "data-key" in attrs]
    assert "1.234567e-06" in keys  # shown with four digits
    assert "1e-06" not in keys  # shown as it is
    assert "" in keys  # what a failed trial does not have


def test_a_page_of_a_thousand_trials_has_them_all_and_is_small():
    rng = np.random.default_rng(0)
    losses = rng.uniform(0.3, 0.9, 1000)
    trials = [
        trial(n, val_loss=float(loss), dropout=float(loss / 2)) for n, loss in enumerate(losses)
    ]
    text = render(study(trials), {each.number: f"/#/runs/{each.number:032x}" for each in trials})
    page = Page(text)
    assert len(text) < 3e6
    more = Page(unpacked(page.scripts["more-trials"]))
    numbers = [int(row["data-trial"]) for row in (*page.rows(), *more.rows())]
    assert numbers == list(range(1000))
    assert [attrs["href"] for tag, attrs in more.tags if tag == "a"][-1] == f"/#/runs/{999:032x}"


def test_rows_out_of_sight_are_escaped_too():
    trials = [replace(trial(n), run_id="r") for n in range(301)]
    page = Page(render(study(trials), {300: "/#/runs/" + HOSTILE}))
    more = unpacked(page.scripts["more-trials"])
    assert "<script" not in more
    assert [attrs["href"] for tag, attrs in Page(more).tags if tag == "a"] == ["/#/runs/" + HOSTILE]


def test_the_same_study_gives_the_same_page():
    assert render(STUDIES["many"]) == render(STUDIES["many"])


# --- the page of figures ----------------------------------------------------------------------


def test_all_figures_stand_on_a_page_of_their_own():
    figures = shown(study_plots(STUDIES["many"]))
    text = render_figures(HOSTILE, figures)
    page = Page(text)
    assert page.open == []
    assert len(text) < 3e6
    drawn = json.loads(unpacked(page.scripts["figures"]))
    assert [attrs["value"] for tag, attrs in page.tags if tag == "option"] == list(drawn)
    assert set(drawn) == set(figures.captions)
    for title, reading in figures.captions.values():
        assert title in page.text
        assert any(attrs.get("data-reading") == reading for _, attrs in page.tags)
    # It needs no network, and nothing in it ends a script early.
    assert not [attrs for _, attrs in page.tags if "src" in attrs or "href" in attrs]
    assert sum(tag == "script" for tag, _ in page.tags) == 4
    assert HOSTILE in page.text
    assert "<script>alert" not in text
