"""Owns the choice of the champion, by validation losses alone: test rows choose nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np

from pipeline.confirm.measures import mean_of
from pipeline.confirm.statistics import Estimate
from pipeline.records import Confirmation, Finalist
from pipeline.space import Hyperparameters, Regularization

Rule = Literal["lowest", "one_standard_error"]


def choose_champion(confirmation: Confirmation, rule: Rule) -> Finalist | None:
    """The finalist that becomes the model; None where none ended every replicate.

    Finalists of nearly equal loss are told apart by chance, and the lowest of many means looks
    better than it is. So Breiman, Friedman, Olshen and Stone (1984, "Classification and Regression
    Trees", section 3.4.3) take the simplest candidate within one standard error of the lowest
    mean: what is given up cannot be told from chance, what is kept is easier to explain and less
    fitted to these rows. Simplest is the one with the fewest guardrails in use (a penalty or weight
    decay, dropout, early stopping), then the one with the lower mean.

    Args:
        confirmation: What was trained. A finalist with a failed replicate cannot be champion: what
            is left of it is what went well.
        rule: `lowest` mean validation loss, or the simplest within `one_standard_error` of it, as
            corrected for the overlap of the training rows.

    Raises:
        ValueError: The rule is neither.
    """
    if rule not in ("lowest", "one_standard_error"):
        raise ValueError(f'rule must be "lowest" or "one_standard_error", however: {rule!r}')
    candidates = list(_candidates(confirmation))
    if not candidates:
        return None
    best, lowest = min(candidates, key=lambda each: each[1].mean)
    if rule == "lowest":
        return best
    limit = lowest.mean + np.nan_to_num(lowest.standard_error)
    near = [each for each in candidates if each[1].mean <= limit]
    simplest, _ = min(near, key=lambda each: (in_use(each[0].hyperparameters), each[1].mean))
    return simplest


def in_use(chosen: Hyperparameters) -> int:
    """How many guardrails are in use: a penalty or weight decay, dropout, early stopping."""
    penalized = chosen.regularization is not Regularization.NONE and chosen.lambda_ > 0
    return penalized + (chosen.dropout > 0) + (chosen.patience != "off")


def _candidates(confirmation: Confirmation) -> Iterator[tuple[Finalist, Estimate]]:
    """The finalists that ended every replicate, with their mean validation losses."""
    for finalist in confirmation.finalists:
        found = mean_of(confirmation, finalist, "val_loss")
        if 0 < found.count == len(confirmation.replicates):
            yield finalist, found
