"""A study whose finalists were trained again: twelve of them, as a search would find them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from pipeline.records import Confirmation, Finalist, ReplicateRecord
from pipeline.results import StopReason, TrialState
from pipeline.space import Hyperparameters, Regularization

L1, L2 = Regularization.L1, Regularization.L2
MIX, DECAY = Regularization.ELASTIC_NET, Regularization.WEIGHT_DECAY
WINNER = Hyperparameters(L2, 2.3e-3, dropout=0.31, patience=12)

# By roles, parted by spaces: what is trained, the trial it was, and its mean test loss and gap.
TWELVE: dict[str, tuple[Hyperparameters, int | None, float, float]] = {
    "baseline": (Hyperparameters(), None, 0.62, 0.58),
    "winner best_l2": (WINNER, 41, 0.30, 0.06),
    "early_stopping": (Hyperparameters(patience=12), None, 0.38, 0.17),
    "best_none": (Hyperparameters(dropout=0.42, patience=17), 7, 0.33, 0.10),
    "best_l1": (Hyperparameters(L1, 8.1e-5, dropout=0.2, patience=9), 23, 0.335, 0.11),
    "best_elastic_net": (Hyperparameters(MIX, 3e-4, 0.37, 0.25, 21), 30, 0.32, 0.08),
    "best_weight_decay": (Hyperparameters(DECAY, 0.09, dropout=0.5, patience=4), 11, 0.61, 0.13),
    "winner_without_penalty": (Hyperparameters(dropout=0.31, patience=12), None, 0.34, 0.12),
    "winner_without_dropout": (replace(WINNER, dropout=0.0), None, 0.36, 0.14),
    "winner_without_early_stopping": (replace(WINNER, patience="off"), None, 0.34, 0.13),
    "first_trial": (Hyperparameters(patience=30), 0, 0.39, 0.20),
    "default_trial": (Hyperparameters(L1, 3e-4, dropout=0.35, patience=16), 1, 0.60, 0.55),
}  # fmt: skip
ROWS = (720, 240)


def finalists(names: Sequence[str] = tuple(TWELVE)) -> tuple[Finalist, ...]:
    """Those of the twelve with these roles."""
    return tuple(
        Finalist(roles.split()[0], tuple(roles.split()), TWELVE[roles][0], TWELVE[roles][1])
        for roles in names
    )


def confirmation(
    n_replicates: int = 20,
    names: Sequence[str] = tuple(TWELVE),
    spread: float = 0.02,
    failed: Mapping[str, Sequence[int]] | None = None,
) -> Confirmation:
    """Replicates differ alike for all finalists, and a little for each of them.

    Args:
        n_replicates: How many.
        names: Keys of `TWELVE`.
        spread: Standard deviation of a finalist's own part.
        failed: By finalist, the replicates that diverged.
    """
    draw = np.random.default_rng(5)
    shared = draw.normal(0, 0.04, n_replicates)
    records = []
    for roles in names:
        name, (chosen, _, loss, gap) = roles.split()[0], TWELVE[roles]
        own = draw.normal(0, spread, (3, n_replicates))
        for number in range(1, n_replicates + 1):
            here = number - 1
            val_loss = loss - 0.01 + shared[here] + own[0, here]
            scalars = {
                "epochs": 60.0,
                "val_loss": val_loss,
                "train_loss": val_loss - gap,
                "gap": gap + own[1, here],
                "val_score": 1 - val_loss / 4,
                "test_loss": loss + shared[here] + own[2, here],
                "test_score": 0.97 - loss / 5 + own[2, here] / 7,
                "overfit_gap": 1.5 * gap + own[1, here],
                "best_epoch": float(60 - 40 * (chosen.patience != "off") + here % 3),
                "weight_norm": 7.0,
                "sparsity": 0.4 if chosen.regularization == L1 else 0.02,
            }
            lost = number in (failed or {}).get(name, ())
            records.append(
                ReplicateRecord(
                    name,
                    number,
                    f"{name}-{number}",
                    TrialState.FAILED if lost else TrialState.COMPLETE,
                    StopReason.DIVERGED if lost else StopReason.MAX_EPOCHS,
                    {"epochs": 3.0} if lost else scalars,
                )
            )
    return Confirmation(finalists(names), tuple(range(1, n_replicates + 1)), tuple(records), ROWS)


def _changed(of: Confirmation, **scalars: float) -> Confirmation:
    records = (replace(each, scalars=each.scalars | scalars) for each in of.records)
    return replace(of, records=tuple(records))


def _renamed(of: Confirmation, names: Sequence[str]) -> Confirmation:
    known = {each.name: name for each, name in zip(of.finalists, names, strict=True)}
    return replace(
        of,
        finalists=tuple(
            replace(each, name=known[each.name], roles=(*each.roles, HOSTILE))
            for each in of.finalists
        ),
        records=tuple(replace(each, finalist=known[each.finalist]) for each in of.records),
    )


def _with_gaps(of: Confirmation, gaps: Sequence[float]) -> Confirmation:
    records = (
        replace(each, scalars=each.scalars | {"gap": gaps[each.replicate - 1]})
        for each in of.records
    )
    return replace(of, records=tuple(records))


HOSTILE = "<script>alert('x')</script> & `a|b` $\\q$ </h1> [red]"
WHOLE = confirmation()
SHORT = confirmation(5, ["baseline", "winner best_l2", "early_stopping"])
EVERY = range(1, 6)
SHAPES = {
    "whole": WHOLE,
    "no finalists": Confirmation((), (1, 2), (), ROWS),
    "nothing trained yet": replace(WHOLE, records=()),
    "one record": replace(WHOLE, records=WHOLE.records[:1]),
    "unfinished": replace(WHOLE, records=WHOLE.records[::2]),
    "failures": confirmation(5, failed={"winner": [2], "best_l1": [1, 2, 3, 4]}),
    "the baseline failed": confirmation(5, failed={"baseline": EVERY}),
    "all failed": confirmation(5, failed={name.split()[0]: EVERY for name in TWELVE}),
    "two replicates": confirmation(2),
    "no baseline": confirmation(5, ["winner best_l2", "early_stopping"]),
    "only the baseline": confirmation(5, ["baseline"]),
    "no spread": _changed(SHORT, val_loss=0.5, test_loss=0.5, gap=0.0, sparsity=0.0),
    "a baseline without loss": _changed(SHORT, test_loss=0.0),
    "no overfitting": _changed(SHORT, gap=-0.01, overfit_gap=-0.02),
    "hardly any overfitting": _with_gaps(SHORT, [0.02, -0.03, 0.04, -0.05, 0.03]),
    "no numbers": _changed(SHORT, val_loss=np.nan, test_loss=np.nan, gap=np.nan),
    "infinite": _changed(SHORT, val_loss=np.inf, test_loss=-np.inf),
    "huge": _changed(SHORT, val_loss=1e300, test_loss=1e-300, gap=-1e300),
    "scalars absent": replace(
        SHORT, records=tuple(replace(each, scalars={}) for each in SHORT.records)
    ),
    "names of any kind": _renamed(SHORT, ["a" * 70, HOSTILE, "w o r d s " * 9]),
}
