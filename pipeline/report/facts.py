"""Owns the facts of a study: what was searched, on what data, and what it took."""

from __future__ import annotations

from pipeline.figures.record import SAVED, SPENT, config_of, epochs_by_type, kinds_of
from pipeline.results import StudyRecord, TrialState
from pipeline.space import Range, Regularization


def facts(record: StudyRecord) -> list[tuple[str, str]]:
    """A label and a text each."""
    totals = {name: sum(row.values()) for name, row in epochs_by_type(record).items()}
    saved = ", ".join(f"{totals[name]:,} {name}" for name in SAVED if totals[name])
    searched = [f"regularization ({', '.join(map(str, types_of(record)))})"]
    searched += [f"{key} {range_text(each)}" for key, each in ranges_of(record).items()]
    states = ", ".join(f"{count} {state}" for state, count in counts_of(record).items())
    return [
        ("Data", ", ".join(_data(record))),
        ("Searched", "; ".join(searched)),
        ("Trials", f"{len(record.trials)}: {states}"),
        ("Cost", f"{totals[SPENT]:,} epochs trained" + (f"; {saved}" if saved else "")),
    ]


def _data(record: StudyRecord) -> list[str]:
    params, config = record.params, config_of(record)
    said = [params.get("data.source") or (config.data.source if config else "unknown data")]
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
