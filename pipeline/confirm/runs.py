"""Owns what the runs of a confirmation hold: one a finalist and replicate, one a finalist."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.contents import (
    HISTORY_FILE,
    PREPROCESSING_FILE,
    STATUS,
    EndedRun,
    MetricPoint,
    end_tags,
    final_values,
    history_csv,
    left_behind,
    metrics_of,
    params_of,
)
from pipeline.records import Confirmation, Finalist, ReplicateRecord
from pipeline.results import TrialResult
from pipeline.weights import weights_file


@dataclass(frozen=True)
class FinishedReplicate:
    """A finalist's training on one replicate, on its way to the store.

    Attributes:
        finalist: Who.
        result: What it left behind.
        preprocessing: The replicate's, as JSON.
        started, ended: Milliseconds since 1970.
        has_dropout: Whether its rate means anything in this study's network.
    """

    finalist: Finalist
    result: TrialResult
    preprocessing: str
    started: int
    ended: int
    has_dropout: bool

    @property
    def record(self) -> ReplicateRecord:
        """It as the tracking store will tell of it, once it has a run."""
        result = self.result
        return ReplicateRecord(
            finalist=self.finalist.name,
            replicate=result.replicate,
            run_id="",
            state=result.state,
            stop_reason=result.stop_reason,
            scalars=final_values(result),
        )


def replicate_run(done: FinishedReplicate) -> EndedRun:
    """The run of a finalist on one replicate."""
    result, number = done.result, done.result.replicate
    params = params_of(result.hyperparameters, done.has_dropout)
    return EndedRun(
        name=f"confirm-{done.finalist.name}-{number:02d}",
        tags={
            **_finalist_tags(done.finalist),
            "replicate": str(number),
            **end_tags(result),
        },
        params={**params, "replicate": str(number)},
        metrics=metrics_of(result),
        status=STATUS[result.state],
        started=done.started,
        ended=done.ended,
        files={
            HISTORY_FILE: history_csv(result.history).encode(),
            **left_behind(result, weights_file(result)),
            PREPROCESSING_FILE: done.preprocessing.encode(),
        },
    )


def finalist_runs(
    confirmation: Confirmation, has_dropout: bool, started: int, ended: int
) -> list[EndedRun]:
    """A run per finalist: its means as `final/`, the ends of their intervals as `confirm/`."""
    from pipeline.confirm.comparison import summary_frame

    rows = summary_frame(confirmation).set_index("finalist")
    runs = []
    for finalist in confirmation.finalists:
        own = [each for each in confirmation.records if each.finalist == finalist.name]
        names = dict.fromkeys(name for each in own for name in each.scalars)
        means = {f"final/{name}": _mean([e.scalars.get(name) for e in own]) for name in names}
        bounds = {
            f"confirm/{name}": float(value)
            for name, value in rows.loc[finalist.name].items()
            if name.endswith(("_low", "_high")) or name in ("gap_removed", "replicates")
        }
        params = params_of(finalist.hyperparameters, has_dropout)
        runs.append(
            EndedRun(
                name=f"confirm-{finalist.name}",
                tags=_finalist_tags(finalist),
                params={**params, "replicates": str(len(confirmation.replicates))},
                metrics=[
                    MetricPoint(name, value, 0)
                    for name, value in {**means, **bounds}.items()
                    if np.isfinite(value)
                ],
                status="FINISHED",
                started=started,
                ended=ended,
            )
        )
    return runs


def _mean(values: Sequence[float | None]) -> float:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else float("nan")


def _finalist_tags(finalist: Finalist) -> dict[str, str]:
    trial = {} if finalist.trial is None else {"finalist.trial": str(finalist.trial)}
    return {
        "stage": "confirm",
        "finalist": finalist.name,
        "finalist.roles": " ".join(finalist.roles),
        **trial,
    }
