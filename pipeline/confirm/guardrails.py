"""Owns the answer: which guardrail helps, by test losses of finalists that differ in it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from pipeline.confirm import words
from pipeline.confirm.measures import baseline_gap, difference_of, overfits
from pipeline.confirm.statistics import Estimate, holm
from pipeline.confirm.verdict import Verdict, gap_text, sentence_of, verdict_of
from pipeline.records import Confirmation, Finalist
from pipeline.space import Hyperparameters

__all__ = ["Guardrail", "Verdict", "guardrails"]

# Why there is nothing to compare, where it is not that no finalist has it.
ABSENT = {
    "early_stopping": "no finalist has it alone",
    "dropout": "neither the winner nor the best trial without a penalty has any",
}


@dataclass(frozen=True)
class Guardrail:
    """What is found of one guardrail.

    Attributes:
        name: `early_stopping`, `dropout`, `l1`, `l2`, `elastic_net` or `weight_decay`.
        finalist, against: Names of the finalists with it and without it; empty where there are not
            both.
        compared: The same in words, and in what else the two differ.
        gap_removed: (gap without - gap with) / gap of the baseline; NaN where that is not positive.
        difference: Test loss with it minus test loss without it; None where it is not compared.
        p_holm: The difference's p-value, corrected for how many guardrails are compared.
        verdict: By the sign of the difference, if `p_holm` is below 5 %.
        sentence: All of it in plain words.
    """

    name: str
    finalist: str
    against: str
    compared: str
    gap_removed: float
    difference: Estimate | None
    p_holm: float
    verdict: Verdict
    sentence: str


@dataclass(frozen=True)
class _Pair:
    """Two finalists, by the roles in which they are compared."""

    finalist: Finalist
    against: Finalist
    roles: tuple[str, str]


def guardrails(confirmation: Confirmation) -> list[Guardrail]:
    """A finding for each guardrail, in a fixed order, whether it could be compared or not.

    Where the study has no early stopping or no trial without penalty, the baseline takes their
    place.

    Early stopping alone is compared with the baseline; dropout, and the penalty that the winner
    has, by taking it from the winner. Another type of penalty is compared by its best trial with
    the best one without penalty: these may differ in more, and then the sentence says so. So does
    dropout's, where the winner has none but the best trial without penalty does: that one is held
    against early stopping alone.
    """
    pairs = {name: _pair(confirmation, name) for name in words.GUARDRAILS}
    found: dict[str, tuple[_Pair, Estimate]] = {}
    for name, pair in pairs.items():
        if isinstance(pair, str):
            continue
        loss = difference_of(confirmation, pair.finalist, pair.against, "test_loss")
        if loss.count < 2:
            pairs[name] = "fewer than two replicates of both ended"
        else:
            found[name] = pair, loss
    corrected = holm(np.array([loss.p_value for _, loss in found.values()]))
    p_holm = dict(zip(found, corrected.tolist(), strict=True))
    return [
        _finding(confirmation, name, *found[name], p_holm[name], len(found))
        if name in found
        else _without(name, str(why))
        for name, why in pairs.items()
    ]


def _pair(confirmation: Confirmation, name: str) -> _Pair | str:
    """What isolates a guardrail, or why nothing does."""
    with_it, without_it = _roles(confirmation, name)
    first, against = confirmation.finalist(with_it), confirmation.finalist(without_it)
    if first is None or not _has(first.hyperparameters, name):
        return ABSENT.get(name, "no finalist has it")
    if against is None:
        return f"{words.ROLES[without_it]} is not among the finalists"
    if first == against:
        return f"{words.ROLES[with_it]} and {words.ROLES[without_it]} are the same"
    return _Pair(first, against, (with_it, without_it))


def _roles(confirmation: Confirmation, name: str) -> tuple[str, str]:
    """The roles with and without a guardrail."""
    if name == "early_stopping":
        return "early_stopping", "baseline"
    without_it = "winner_without_dropout" if name == "dropout" else "winner_without_penalty"
    winner = confirmation.finalist("winner")
    if winner and _has(winner.hyperparameters, name):
        return "winner", without_it
    if name == "dropout":
        return "best_none", _first_of(confirmation, "early_stopping", "baseline")
    return f"best_{name}", _first_of(confirmation, "best_none", "early_stopping", "baseline")


def _first_of(confirmation: Confirmation, *roles: str) -> str:
    """The first role that a finalist has; the last one if none has."""
    return next((role for role in roles if confirmation.finalist(role)), roles[-1])


def _has(chosen: Hyperparameters, name: str) -> bool:
    if name == "early_stopping":
        return chosen.patience != "off"
    if name == "dropout":
        return chosen.dropout > 0
    return chosen.regularization == name


def _without(name: str, why: str) -> Guardrail:
    sentence = f"{words.capital(words.GUARDRAILS[name])} was not compared: {why}."
    nothing = math.nan, None, math.nan
    return Guardrail(name, "", "", "", *nothing, Verdict.NOT_COMPARED, sentence)


def _finding(
    confirmation: Confirmation,
    name: str,
    pair: _Pair,
    loss: Estimate,
    p_holm: float,
    family: int,
) -> Guardrail:
    gap = difference_of(confirmation, pair.finalist, pair.against, "gap").mean
    share = -gap / baseline_gap(confirmation)
    # A share of what may be nothing can be any number: then the sentence tells of the change.
    told = share if overfits(confirmation) else math.nan
    others = _other_differences(pair, name)
    what = words.GUARDRAILS[name] + (f" (with its own {words.listed(others)})" if others else "")
    compared = f"{words.ROLES[pair.roles[0]]} against {words.ROLES[pair.roles[1]]}"
    if name == "dropout" and pair.roles[0] != "winner":
        compared += ", as the winner has none"
    if others:
        compared += f"; they differ in {words.listed(others)} too"
    sentence = sentence_of(what, loss, p_holm, family, gap_text(gap, told))
    if loss.count < len(confirmation.replicates):
        sentence += (
            f" This rests on the {loss.count} of {len(confirmation.replicates)} replicates that "
            "both ended."
        )
    return Guardrail(
        name=name,
        finalist=pair.finalist.name,
        against=pair.against.name,
        compared=compared,
        gap_removed=share,
        difference=loss,
        p_holm=p_holm,
        verdict=verdict_of(loss, p_holm),
        sentence=sentence,
    )


def _other_differences(pair: _Pair, name: str) -> list[str]:
    """What tells the two apart besides the guardrail."""
    first, second = pair.finalist.hyperparameters, pair.against.hyperparameters
    differs = {
        "dropout": first.dropout != second.dropout,
        "patience": first.patience != second.patience,
        "learning rate": first.learning_rate != second.learning_rate,
    }
    own = "patience" if name == "early_stopping" else name
    return [what for what, differ in differs.items() if differ and what != own]
