"""Owns what a study says of itself: its tables, its summary, and one self-contained HTML page."""

from __future__ import annotations

import base64
import functools
import gzip
import html
import math
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pipeline.results import StopReason, StudyRecord, TrialRecord, TrialState
from pipeline.space import Regularization

if TYPE_CHECKING:
    import pandas as pd

# A winner this close to an end of its range, as a share of it, may lie beyond that end.
EDGE = 0.05

# Fewer trials than this for each hyperparameter searched cover the space too thinly to tell.
TRIALS_PER_HYPERPARAMETER = 10

# From this share of failed trials on, it is the study that is wrong, not the trials.
MANY_FAILED = 0.1

# An overfitting network: past its best epoch the validation loss rose by more than this share, ...
CLEAR_RISE = 0.05
# ... or the gap has become more than this share of the validation loss. Below the other share,
# there is hardly a gap.
LARGE_GAP, SMALL_GAP = 0.5, 0.1

SCALARS_BEFORE = ("val_loss", "train_loss", "gap", "val_score")
SCALARS_AFTER = ("overfit_gap", "weight_norm", "sparsity")

HOW_TO_READ: dict[str, str] = {
    "validation_loss_by_type": "Each marker is a trial and each bar the median of the complete "
    "ones: look at the lowest markers for what a type can reach, at the bar for how easily.",
    "generalization_plane": "The further a trial stands above the dashed diagonal, the more it "
    "overfits; good trials are low, whether or not they are far to the left.",
    "lambda": "Where validation loss dips, the penalty helps; to the right of that it also costs; "
    "the dashed level is the best trial without a penalty.",
    "dropout": "The gap should shrink to the right; the right rate is where validation loss is "
    "lowest, not where the gap is.",
    "patience": "A level cloud says that patience hardly matters here, and a short one saves "
    "epochs.",
    "learning_curves": "Training loss on the left, validation loss on the right, on one scale: "
    "curves that fall on the left and rise on the right overfit.",
    "optimization_history": "The line falls whenever a trial beat all before it: once it has been "
    "level for long, more trials promise little.",
    "epochs": "Solid: epochs trained; hatched: epochs that were not, because a trial had stopped "
    "improving or was no match for others.",
}


def trials_frame(record: StudyRecord) -> pd.DataFrame:
    """One row a trial, by number. `run_id` comes last: all before it is the study's own doing."""
    import pandas as pd

    columns: dict[str, list[Any]] = {}
    trials = sorted(record.trials, key=lambda trial: trial.number)

    def add(name: str, values: list[Any]) -> None:
        columns[name] = values

    chosen = [trial.hyperparameters for trial in trials]
    add("number", [trial.number for trial in trials])
    add("state", [str(trial.state) for trial in trials])
    add("stop_reason", [str(trial.stop_reason) for trial in trials])
    add("regularization", [str(each.regularization) for each in chosen])
    add("lambda", [each.lambda_ for each in chosen])
    add("l1_ratio", [math.nan if each.l1_ratio is None else each.l1_ratio for each in chosen])
    add("dropout", [each.dropout for each in chosen])
    add("patience", [each.patience for each in chosen])
    if any(each.learning_rate is not None for each in chosen):
        rates = [math.nan if each.learning_rate is None else each.learning_rate for each in chosen]
        add("learning_rate", rates)
    for name in SCALARS_BEFORE:
        add(name, [trial.scalars.get(name, math.nan) for trial in trials])
    add("best_epoch", [_whole(trial.scalars.get("best_epoch")) for trial in trials])
    add("epochs", [_whole(trial.scalars.get("epochs", len(trial.history))) for trial in trials])
    for name in SCALARS_AFTER:
        add(name, [trial.scalars.get(name, math.nan) for trial in trials])
    add("replicate", [trial.replicate for trial in trials])
    add("run_id", [trial.run_id for trial in trials])

    frame = pd.DataFrame(columns)
    words = {"state", "stop_reason", "regularization", "patience", "run_id"}
    whole = {"number", "replicate"}
    kinds = {
        name: "Int64"
        if name in {"best_epoch", "epochs"}
        else "int64"
        if name in whole
        else "float64"
        for name in columns
        if name not in words
    }
    return frame.astype(kinds)


def types_frame(record: StudyRecord) -> pd.DataFrame:
    """One row a regularization type, those searched without a trial included; `none` first.

    The best trial is the complete one with the lowest validation loss; the median is over the
    complete ones, because a pruned trial's loss is not what it would have become.
    """
    import pandas as pd

    rows = []
    for kind in _types(record):
        trials = [trial for trial in record.trials if trial.hyperparameters.regularization is kind]
        states = [trial.state for trial in trials]
        complete = [
            trial for trial in record.complete if trial.hyperparameters.regularization is kind
        ]
        best = complete[0] if complete else None
        rows.append(
            {
                "regularization": str(kind),
                "trials": len(trials),
                "complete": states.count(TrialState.COMPLETE),
                "pruned": states.count(TrialState.PRUNED),
                "failed": states.count(TrialState.FAILED),
                "best_val_loss": math.nan if best is None else best.val_loss,
                "median_val_loss": pd.Series(
                    [trial.val_loss for trial in complete], dtype="float64"
                ).median(),
                "best_gap": _scalar(best, "gap"),
                "best_lambda": math.nan if best is None else best.hyperparameters.lambda_,
                "best_dropout": math.nan if best is None else best.hyperparameters.dropout,
                "best_epoch": _scalar(best, "best_epoch"),
            }
        )
    columns = [
        "regularization", "trials", "complete", "pruned", "failed", "best_val_loss",
        "median_val_loss", "best_gap", "best_lambda", "best_dropout", "best_epoch",
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=columns)


def unregularized(record: StudyRecord) -> TrialRecord | None:
    """The trial that the others are held against: no penalty, least dropout, asked first."""
    free = [
        trial
        for trial in record.trials
        if trial.hyperparameters.regularization is Regularization.NONE
        and math.isfinite(trial.val_loss)
    ]
    return min(free, key=lambda trial: (trial.hyperparameters.dropout, trial.number), default=None)


def summary_markdown(record: StudyRecord) -> str:
    """A short summary for the parent run's description."""
    best = record.best
    again = (
        "To run it again: download the artifact `study.toml`, then "
        "`mlflow run . -P study=study.toml` or `python -m pipeline run study.toml`."
    )
    if best is not None:
        again += f" The best trial alone: `python -m pipeline reproduce {_markdown(best.run_id)}`."
    lines = [
        f"## {_markdown(record.name)}",
        "",
        *(f"- **{label}**: {_markdown(text)}" for label, text in _facts(record)),
        "",
        _markdown(" ".join(_answer(record))),
        "",
        *_markdown_table(record),
        "",
        *(f"- **Warning**: {_markdown(warning)}" for warning in _warnings(record)),
        "",
        again,
    ]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)) + "\n"


def render(record: StudyRecord, links: Mapping[int, str] | None = None) -> str:
    """The report: one HTML page that needs no network.

    Args:
        record: The study.
        links: Where a trial's run can be seen, by trial number.
    """
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pipeline"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    titles, figures = _figures(record)
    best, reference = record.best, unregularized(record)
    return environment.get_template("report.html").render(
        record=record,
        answer=_answer(record),
        tiles=_tiles(record),
        warnings=_warnings(record),
        facts=_facts(record),
        types=_types_table(record),
        figures=[(name, title, HOW_TO_READ[name]) for name, title in titles.items()],
        # No "<" is left in either, so nothing in them can end their script element.
        figures_json=Markup(figures),
        plotly=Markup(_plotly_bundle()),
        trials=_trials_table(record, links or {}),
        best_number=None if best is None else best.number,
        reference=reference,
        states=[str(state) for state in TrialState],
        kinds=[str(kind) for kind in _types(record)],
    )


# --- the answer -------------------------------------------------------------------------------


def _answer(record: StudyRecord) -> list[str]:
    """Which trial is best, whether the network overfits without help, what the help is worth."""
    from pipeline.figures import describe

    best, reference = record.best, unregularized(record)
    if best is None:
        counts = _counts(record)
        told = f"{counts['pruned']} pruned, {counts['failed']} failed"
        nothing = f"No trial ran to its end, so there is no best one ({told})."
        return [
            nothing if record.trials else "No trial has ended yet.",
            *([_overfitting(reference)] if reference else []),
        ]
    found = (
        f"Trial {best.number} is best ({describe(best.hyperparameters)}): validation loss "
        f"{_number(best.val_loss)} at epoch {_number(_scalar(best, 'best_epoch'))}, "
        f"training loss {_number(_scalar(best, 'train_loss'))}, "
        f"gap {_number(_scalar(best, 'gap'))}."
    )
    if reference is None:
        return [
            found,
            "No trial without regularization gave a value, so there is nothing to hold it against.",
        ]
    if best.number == reference.number:
        worth = "No guardrail that was tried did better than none, on this one split."
    else:
        worth = _worth(best, reference)
    return [found, _overfitting(reference), worth]


def _overfitting(reference: TrialRecord) -> str:
    from pipeline.figures import describe

    chosen = reference.hyperparameters
    named = f"trial {reference.number}: {describe(chosen)}"
    start = "Without regularization" if chosen.dropout == 0 else "With the least regularization"
    gap, last_gap = _scalar(reference, "gap"), _scalar(reference, "overfit_gap")
    epochs, kept = _scalar(reference, "epochs"), _scalar(reference, "best_epoch")
    val = reference.history.val_loss
    last_val = float(val[-1]) if len(val) else math.nan
    rise = last_val / reference.val_loss - 1 if reference.val_loss > 0 else math.nan
    share = last_gap / last_val if last_val > 0 else math.nan
    if rise > CLEAR_RISE or share > LARGE_GAP:
        verdict = "the network overfits"
    elif share < SMALL_GAP:
        verdict = "the network hardly overfits"
    else:
        verdict = "the network overfits a little"
    sentence = (
        f"{start} ({named}) {verdict}: its gap is {_number(gap)} at the kept epoch "
        f"{_number(kept)} and {_number(last_gap)} at the last epoch {_number(epochs)}"
    )
    if rise > 0:
        sentence += f", where validation loss stands {rise:.0%} above its best"
    if reference.stop_reason is StopReason.PRUNED:
        sentence += ", when it was pruned"
    return sentence + "."


def _worth(best: TrialRecord, reference: TrialRecord) -> str:
    parts = []
    for what, now, before in (
        ("validation loss", best.val_loss, reference.val_loss),
        ("the gap", _scalar(best, "gap"), _scalar(reference, "gap")),
    ):
        if before > 0 and math.isfinite(now):
            change = 1 - now / before
            # A gap may change sign: then no percentage says anything.
            size = f" by {abs(change):.0%}" if now > 0 else f" to {_number(now)}"
            parts.append(f"{'lowers' if change >= 0 else 'raises'} {what}{size}")
    against = f"Against trial {reference.number}, the best trial "
    if not parts:
        return f"{against}has the lower validation loss, on this one split."
    return f"{against}{' and '.join(parts)}, on one split and one seed: it is not yet confirmed."


def _warnings(record: StudyRecord) -> list[str]:
    """What a reader should know before believing the answer."""
    return [
        *_budget_warnings(record),
        *_failure_warnings(record),
        *_edge_warnings(record),
        *_patience_warnings(record),
    ]


def _budget_warnings(record: StudyRecord) -> Iterator[str]:
    told, wanted = len(record.trials), _get(_document(record), "search", "n_trials")
    if isinstance(wanted, int) and told < wanted:
        yield f"The study is not finished: {told} of {wanted} trials have ended."
    searched = [interval for interval in _ranges(record) if interval.low < interval.high]
    dimensions = len(searched) + (len(_types(record)) > 1)
    enough = TRIALS_PER_HYPERPARAMETER * dimensions
    if told < enough:
        yield (
            f"The budget is small: {told} {'trial' if told == 1 else 'trials'} in a space of "
            f"{dimensions} {'dimension' if dimensions == 1 else 'dimensions'}; "
            f"{enough} or more would cover it better."
        )


def _failure_warnings(record: StudyRecord) -> Iterator[str]:
    counts, told = _counts(record), len(record.trials)
    if counts["failed"] > MANY_FAILED * told:
        yield (
            f"{counts['failed']} of {told} trials failed: look at their stop reasons; a smaller "
            "learning rate or lambda often helps."
        )
    if told > 1 and counts["complete"] < 2:
        yield f"Only {counts['complete']} of {told} trials ran to their end."


def _edge_warnings(record: StudyRecord) -> Iterator[str]:
    best = record.best
    if best is None:
        return
    for interval in _ranges(record):
        value = _chosen(best, interval.key)
        # Longer patience never ends a trial at a worse epoch: its upper edge says nothing.
        if value is None or interval.key == "patience" or not interval.low < interval.high:
            continue
        for end, place in (("lower", interval.low), ("upper", interval.high)):
            # Nothing lies beyond 0 or, for a share, beyond 1.
            natural = place == 0 or (interval.key == "l1_ratio" and place == 1)
            if not natural and interval.distance(value, place) <= EDGE:
                yield (
                    f"The best {interval.key}, {value:.3g}, is at the {end} edge of its range "
                    f"({interval.text}): widen it."
                )
    longest = _get(_document(record), "training", "max_epochs")
    kept = _scalar(best, "best_epoch")
    if isinstance(longest, int) and longest > 1 and kept >= (1 - EDGE) * longest:
        yield (
            f"The best trial was best at epoch {kept:.0f} of {longest}: it might improve with "
            "more epochs."
        )


def _patience_warnings(record: StudyRecord) -> Iterator[str]:
    patient = [trial for trial in record.complete if trial.hyperparameters.patience != "off"]
    stopped = any(trial.stop_reason is StopReason.EARLY_STOPPING for trial in patient)
    if patient and not stopped:
        yield "No trial stopped early: patience was never used, so more epochs may help."


# --- what was searched, on what ---------------------------------------------------------------


@dataclass(frozen=True)
class _Range:
    key: str
    low: float
    high: float
    log: bool

    @property
    def text(self) -> str:
        if self.low == self.high:
            return f"{self.low:g}"
        return f"{self.low:g} to {self.high:g}" + (", log" if self.log else "")

    def distance(self, value: float, place: float) -> float:
        """How far apart two values are, as a share of the range, on its own scale."""
        scale = math.log if self.log and min(self.low, value) > 0 else float
        return abs(scale(value) - scale(place)) / (scale(self.high) - scale(self.low))


def _document(record: StudyRecord) -> Mapping[str, Any]:
    try:
        return tomllib.loads(record.study_toml)
    except tomllib.TOMLDecodeError:
        return {}


def _get(document: Mapping[str, Any], *keys: str) -> Any:
    value: Any = document
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _ranges(record: StudyRecord) -> list[_Range]:
    """The space's intervals as far as the study file tells them."""
    ranges = []
    for key in ("lambda", "l1_ratio", "dropout", "patience", "learning_rate"):
        given = _get(_document(record), "space", key)
        given = given if isinstance(given, Mapping) else {"low": given, "high": given}
        low, high = given.get("low"), given.get("high")
        if isinstance(low, int | float) and isinstance(high, int | float):
            ranges.append(_Range(key, float(low), float(high), bool(given.get("log"))))
    return ranges


def _types(record: StudyRecord) -> list[Regularization]:
    listed = _get(_document(record), "space", "regularization")
    known = set(listed if isinstance(listed, list) else [listed])
    known |= {str(trial.hyperparameters.regularization) for trial in record.trials}
    return [kind for kind in Regularization if str(kind) in known]


def _chosen(trial: TrialRecord, key: str) -> float | None:
    """A hyperparameter's value, None where it does not apply."""
    chosen = trial.hyperparameters
    penalized = chosen.regularization is not Regularization.NONE
    value = {
        "lambda": chosen.lambda_ if penalized else None,
        "l1_ratio": chosen.l1_ratio,
        "dropout": chosen.dropout,
        "patience": None if chosen.patience == "off" else chosen.patience,
        "learning_rate": chosen.learning_rate,
    }[key]
    return None if value is None else float(value)


def _facts(record: StudyRecord) -> list[tuple[str, str]]:
    """What was searched, on what data, and what it took."""
    from pipeline.figures import SAVED, SPENT, epochs_by_type

    params, document = record.params, _document(record)
    source = params.get("data.source") or _get(document, "data", "source") or "unknown data"
    data = [str(source)]
    if "data.task" in params:
        data.append(params["data.task"])
    if "data.rows" in params:
        data.append(f"{params['data.rows']} rows x {params.get('data.features', '?')} features")
    split = [params.get(f"data.{part}_rows") for part in ("train", "val", "test")]
    if all(split):
        data.append("train / validation / test " + " / ".join(map(str, split)))
    if "data.digest" in params:
        data.append(f"digest {params['data.digest']}")

    space = [f"regularization ({', '.join(map(str, _types(record)))})"]
    space += [f"{each.key} {each.text}" for each in _ranges(record)]

    counts = _counts(record)
    table = epochs_by_type(record)
    totals = {name: sum(row.values()) for name, row in table.items()}
    saved = ", ".join(f"{totals[name]:,} {name}" for name in SAVED if totals[name])
    cost = f"{totals[SPENT]:,} epochs trained" + (f"; {saved}" if saved else "")
    states = ", ".join(f"{counts[state]} {state}" for state in counts)
    return [
        ("Data", ", ".join(data)),
        ("Searched", "; ".join(space)),
        ("Trials", f"{len(record.trials)}: {states}"),
        ("Cost", cost),
    ]


def _counts(record: StudyRecord) -> dict[str, int]:
    states = [trial.state for trial in record.trials]
    return {str(state): states.count(state) for state in TrialState}


# --- tables and tiles -------------------------------------------------------------------------


@dataclass(frozen=True)
class _Cell:
    """What a cell says, the value that it is sorted by, and whether it holds words."""

    text: str
    key: str
    words: bool = False


@dataclass(frozen=True)
class _Row:
    number: int
    regularization: str
    state: str
    link: str | None
    cells: list[_Cell]


def _cell(value: Any) -> _Cell:
    if isinstance(value, str):
        return _Cell(value, value, words=True)
    # pandas' NA answers no comparison, so it is asked for by its kind.
    if value is None or type(value).__name__ == "NAType" or not math.isfinite(value):
        return _Cell("\N{EN DASH}", "")
    return _Cell(_number(value), repr(float(value)))


def _trials_table(record: StudyRecord, links: Mapping[int, str]) -> dict[str, Any]:
    frame = trials_frame(record)
    shown = [name for name in frame.columns if name not in {"run_id", "replicate"}]
    rows = [
        _Row(
            number=int(values["number"]),
            regularization=values["regularization"],
            state=values["state"],
            link=_safe_link(links.get(int(values["number"]))),
            cells=[_cell(values[name]) for name in shown],
        )
        for values in frame.to_dict("records")
    ]
    return {"columns": [name.replace("_", " ") for name in shown], "rows": rows}


def _types_table(record: StudyRecord) -> dict[str, Any]:
    from pipeline.figures import COLOURS

    frame = types_frame(record)
    best = record.best
    winner = None if best is None else str(best.hyperparameters.regularization)
    rows = [
        {
            "name": values["regularization"],
            "colour": COLOURS[Regularization(values["regularization"])],
            "winner": values["regularization"] == winner,
            "cells": [_cell(value).text for name, value in values.items()][1:],
        }
        for values in frame.to_dict("records")
    ]
    return {"columns": [name.replace("_", " ") for name in frame.columns], "rows": rows}


def _tiles(record: StudyRecord) -> list[dict[str, str]]:
    """The best and the unregularized trial side by side, in figures."""
    from pipeline.figures import COLOURS, describe

    best, reference = record.best, unregularized(record)
    pairs = [("Best trial", best)]
    if reference is not None and (best is None or best.number != reference.number):
        pairs.append(("Unregularized", reference))
    return [
        {
            "title": f"{title}: trial {trial.number}",
            "hyperparameters": describe(trial.hyperparameters),
            "colour": COLOURS[trial.hyperparameters.regularization],
            "val_loss": _number(trial.val_loss),
            "train_loss": _number(_scalar(trial, "train_loss")),
            "gap": _number(_scalar(trial, "gap")),
            "overfit_gap": _number(_scalar(trial, "overfit_gap")),
            "best_epoch": _number(_scalar(trial, "best_epoch")),
            "epochs": _number(_scalar(trial, "epochs")),
        }
        for title, trial in pairs
        if trial is not None
    ]


def _markdown_table(record: StudyRecord) -> Iterator[str]:
    frame = types_frame(record)
    yield "| " + " | ".join(name.replace("_", " ") for name in frame.columns) + " |"
    yield "|" + "---|" * len(frame.columns)
    for values in frame.itertuples(index=False):
        yield "| " + " | ".join(_cell(value).text for value in values) + " |"


def _scalar(trial: TrialRecord | None, name: str) -> float:
    return math.nan if trial is None else trial.scalars.get(name, math.nan)


def _whole(value: float | None) -> int | None:
    return None if value is None or not math.isfinite(value) else int(value)


def _number(value: float) -> str:
    """Four significant digits; a dash for what is not there."""
    if not math.isfinite(value):
        return "\N{EN DASH}"
    if value == int(value) and abs(value) < 1e6:
        return f"{value:.0f}"
    return f"{value:.4g}"


def _markdown(text: str) -> str:
    """Text that Markdown, and the HTML in it, leave alone."""
    escaped = html.escape(" ".join(text.split()), quote=False)
    return re.sub(r"([\\`*\[\]|])", r"\\\1", escaped)


def _safe_link(link: str | None) -> str | None:
    """Only what leads to a page: an address of any other kind could run as a script."""
    return link if link and urlsplit(link).scheme in {"", "http", "https"} else None


# --- what the page draws with -----------------------------------------------------------------


def _figures(record: StudyRecord) -> tuple[dict[str, str], str]:
    """The figures' titles by name, and all of them as JSON that no script element ends early."""
    from pipeline.figures import interactive_figures

    titles, documents = {}, []
    for name, figure in interactive_figures(record).items():
        titles[name] = figure.layout.title.text
        figure.update_layout(title=None)
        documents.append(f'"{name}": {figure.to_json()}')
    text = "{" + ",\n".join(documents) + "}"
    return titles, text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


@functools.cache
def _plotly_bundle() -> str:
    """plotly.js as base64 of gzip, which is two fifths of its size; the browser unpacks it."""
    from plotly.offline import get_plotlyjs

    packed = gzip.compress(get_plotlyjs().encode(), compresslevel=9, mtime=0)
    return base64.b64encode(packed).decode("ascii")
