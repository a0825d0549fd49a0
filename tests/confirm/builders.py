"""Small confirmations, made of the numbers that a test is about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from pipeline.records import Confirmation, Finalist, ReplicateRecord
from pipeline.results import StopReason, TrialState
from pipeline.space import Hyperparameters, Regularization

ROWS = (60, 20)
BARE = Hyperparameters()
STOPPED = Hyperparameters(patience=7)
L2 = Hyperparameters(Regularization.L2, 0.003, dropout=0.3, patience=7)

Values = Mapping[str, Sequence[float | None]]


def finalist(
    roles: str, hyperparameters: Hyperparameters = BARE, trial: int | None = None
) -> Finalist:
    """Of roles that are parted by spaces."""
    names = tuple(roles.split())
    return Finalist(names[0], names, hyperparameters, trial)


def confirmation(*finalists: tuple[Finalist, Values], rows: tuple[int, int] = ROWS) -> Confirmation:
    """Of each finalist's values by metric, replicate 1 first; None where a replicate failed."""
    count = max((len(v) for _, values in finalists for v in values.values()), default=0)
    records = []
    for each, values in finalists:
        for number in range(count):
            found = {metric: column[number] for metric, column in values.items()}
            failed = any(value is None for value in found.values())
            records.append(
                ReplicateRecord(
                    each.name,
                    number + 1,
                    f"{each.name}-{number + 1}",
                    TrialState.FAILED if failed else TrialState.COMPLETE,
                    StopReason.DIVERGED if failed else StopReason.MAX_EPOCHS,
                    {} if failed else {m: float(v) for m, v in found.items() if v is not None},
                )
            )
    return Confirmation(
        tuple(each for each, _ in finalists), tuple(range(1, count + 1)), tuple(records), rows
    )


def around(mean: float, spread: float = 0.01, count: int = 11, seed: int = 0) -> list[float]:
    """Values of exactly this mean; the same seed gives the same deviations."""
    deviations = np.random.default_rng(seed).normal(size=count)
    return (mean + spread * (deviations - deviations.mean())).tolist()
