"""Owns the facts of a study: what was searched, on what data, and what it took."""

from __future__ import annotations

from pipeline.figures.record import SAVED, SPENT, config_of, epochs_by_type, kinds_of
from pipeline.records import StudyRecord
from pipeline.results import TrialState
from pipeline.space import Range, Regularization

LONGEST_SOURCE = 300


def facts(record: StudyRecord) -> list[tuple[str, str]]:
    """A label and a text each."""
    searched = [f"regularization ({', '.join(map(str, types_of(record)))})"]
    searched += [f"{key} {range_text(each)}" for key, each in ranges_of(record).items()]
    states = ", ".join(f"{count} {state}" for state, count in counts_of(record).items())
    return [
        ("Data", ", ".join(_data(record))),
        ("Searched", "; ".join(searched)),
        ("Trials", f"{len(record.trials)}: {states}"),
        ("Cost", _cost(record)),
    ]


def made_by(record: StudyRecord) -> list[tuple[str, str]]:
    """Likewise, what the study was made by; empty where nothing is known of it."""
    origin = record.origin
    told = [text for text in (origin.command, origin.project_command, commit_text(record)) if text]
    return [("Made by", "; ".join(told))] if told else []


def commit_text(record: StudyRecord) -> str:
    """The commit, and whether the code was that of it; empty where it is not known."""
    origin = record.origin
    if origin.commit is None:
        return ""
    changed = {None: "", True: ", with changes to tracked files", False: ", without changes"}
    return f"commit {origin.commit}{changed[origin.dirty]}"


def _cost(record: StudyRecord) -> str:
    """Epochs trained and saved, these also as shares of what would have been trained."""
    totals = {name: sum(row.values()) for name, row in epochs_by_type(record).items()}
    whole = sum(totals.values())
    saved = [
        f"{totals[name]:,} {name} ({totals[name] / whole:.0%})" for name in SAVED if totals[name]
    ]
    text = f"{totals[SPENT]:,} epochs trained"
    if saved:
        text += f" of the {whole:,} that all trials would have taken; {', '.join(saved)}"
    return text


def _data(record: StudyRecord) -> list[str]:
    params, config = record.params, config_of(record)
    source = params.get("data.source") or (config.data.source if config else "unknown data")
    if len(source) > LONGEST_SOURCE:  # of a path, the end says more
        source = "\N{HORIZONTAL ELLIPSIS}" + source[1 - LONGEST_SOURCE :]
    said = [source]
    if "data.task" in params:
        said.append(params["data.task"])
    if "data.rows" in params:
        said.append(f"{params['data.rows']} rows x {params.get('data.features', '?')} features")
    split = [params.get(f"data.{part}_rows", "") for part in ("train", "val", "test")]
    if all(split):
        said.append("train / validation / test " + " / ".join(split))
    if "data.digest" in params:
        said.append(f"digest {params['data.digest']}")
    return said


def counts_of(record: StudyRecord) -> dict[str, int]:
    """How many trials came to each state."""
    states = [trial.state for trial in record.trials]
    return {str(state): states.count(state) for state in TrialState}


def types_of(record: StudyRecord) -> list[Regularization]:
    """The types that were searched or, whatever the study file says, tried."""
    config = config_of(record)
    known = {*(config.space.regularization if config else ()), *kinds_of(record.trials)}
    return [kind for kind in Regularization if kind in known]


def ranges_of(record: StudyRecord) -> dict[str, Range[int] | Range[float]]:
    """The space's ranges by hyperparameter, none without a legible study file."""
    config = config_of(record)
    return config.search_space.ranges() if config else {}


def range_text(each: Range[int] | Range[float]) -> str:
    """`1e-06 to 0.1, log`."""
    if each.fixed:
        return f"{each.low:g}"
    return f"{each.low:g} to {each.high:g}" + (", log" if each.log else "")
