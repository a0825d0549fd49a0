"""Owns the answer: which study is better, and whether the same guardrails help in all of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from pipeline.compare.comparable import comparable, same_rows
from pipeline.compare.sides import Side
from pipeline.confirm import words
from pipeline.confirm.guardrails import Verdict, guardrails
from pipeline.confirm.measures import mean_of
from pipeline.confirm.statistics import ALPHA, Estimate, difference, holm
from pipeline.figures.style import describe
from pipeline.records import Confirmation, Finalist
from pipeline.report.frames import number
from pipeline.report.verdict import champion, confirmed
from pipeline.results import Array

# A champion: whose it is, the confirmation that chose it, and itself.
Crowned = tuple[Side, Confirmation, Finalist]


def answer(sides: Sequence[Side]) -> list[str]:
    """A few sentences."""
    return [*_better(sides), *_guardrails(sides)]


def _better(sides: Sequence[Side]) -> Iterator[str]:
    if not comparable(sides):
        yield "Which one is better cannot be told: their losses are not comparable."
        return
    crowned = list(_crowned(sides))
    if len(crowned) < len(sides):
        yield from _by_search(sides)
        return
    # Validation losses choose; test losses only say what the choice is worth.
    best = min(crowned, key=lambda each: _mean(each, "val_loss").mean)
    side, _, finalist = best
    yield (
        f"{side.letter} comes first by validation on fresh replicates: its champion "
        f"({describe(finalist.hyperparameters)}) has the lowest mean validation loss, "
        f"{words.with_interval(_mean(best, 'val_loss'))}."
    )
    others = [each for each in crowned if each is not best]
    found = [paired(best, each) for each in others]
    p_holm = holm(np.array([math.nan if each is None else each.p_value for each in found]))
    for other, loss, p_value in zip(others, found, p_holm.tolist(), strict=True):
        yield _against(best, other, loss, p_value, family=len(others))


def _crowned(sides: Sequence[Side]) -> Iterator[Crowned]:
    for side in sides:
        finalist, confirmation = champion(side.record), side.record.confirmation
        if finalist is not None and confirmation is not None:
            yield side, confirmation, finalist


def _mean(crowned: Crowned, metric: str) -> Estimate:
    _, confirmation, finalist = crowned
    return mean_of(confirmation, finalist, metric)


def paired(best: Crowned, other: Crowned) -> Estimate | None:
    """The other's test loss minus the best's on the replicates that both have.

    None where a replicate's number does not stand for the same rows in both studies.
    """
    if not same_rows([best[0], other[0]]):
        return None
    _, confirmation, _ = best
    shared = [number for number in confirmation.replicates if number in other[1].replicates]
    losses, of_best = (_test_losses(each, shared) for each in (other, best))
    return difference(losses, of_best, confirmation.rows)


def _test_losses(crowned: Crowned, replicates: Sequence[int]) -> Array:
    """By replicate number: one that could not be drawn may have been passed over."""
    _, confirmation, finalist = crowned
    values = confirmation.values(finalist.name, "test_loss")
    found = dict(zip(confirmation.replicates, values.tolist(), strict=True))
    return np.array([found[number] for number in replicates])


def _against(
    best: Crowned, other: Crowned, loss: Estimate | None, p_holm: float, family: int
) -> str:
    letter, best_letter = other[0].letter, best[0].letter
    if loss is None or loss.count < 2:
        means = [
            f"{each[0].letter}'s {words.with_interval(_mean(each, 'test_loss'))}"
            for each in (best, other)
        ]
        return (
            f"On test, {' and '.join(means)}: their replicates are not of the same rows, so the "
            "difference was not tested."
        )
    if loss.mean == loss.standard_error == 0:
        return f"{letter}'s champion has the same test loss as {best_letter}'s on every replicate."
    sure = p_holm < ALPHA
    after = f", {words.chance(p_holm)}"
    if family > 1:
        after += " after Holm's correction"
    way, sign = ("higher", 1) if loss.mean > 0 else ("lower", -1)
    return (
        f"{letter}'s champion has a test loss {way} than {best_letter}'s by "
        f"{words.with_interval(loss, sign, after)}, in pairs on the same "
        f"{loss.count} replicates: {'more than chance' if sure else 'this may be chance'}."
    )


def _by_search(sides: Sequence[Side]) -> Iterator[str]:
    """What the search alone says, where not every study has a champion."""
    best = [(side.record.best, side) for side in sides]
    losses = [(trial.val_loss, side) for trial, side in best if trial is not None]
    losses = [(loss, side) for loss, side in losses if math.isfinite(loss)]
    missing = [side.letter for side in sides if champion(side.record) is None]
    if len(losses) < len(sides):
        yield "Which one is better cannot be told: not every study has a complete trial."
        return
    losses.sort(key=lambda each: each[0])
    told = [f"{side.letter} {number(loss)}" for loss, side in losses]
    yield (
        f"{losses[0][1].letter} has the lowest validation loss of the search ({', '.join(told)}): "
        "the best of many trials on one split, which no fresh replicates have confirmed in "
        f"{words.listed(missing)}."
    )


def _guardrails(sides: Sequence[Side]) -> Iterator[str]:
    """In what the verdicts of the confirmed studies agree, and in what they do not."""
    found = {
        side.letter: {each.name: each.verdict for each in guardrails(side.record.confirmation)}
        for side in sides
        if side.record.confirmation is not None and confirmed(side.record)
    }
    if len(found) < 2:
        return
    everywhere = words.listed(list(found))
    helping, differing = [], []
    for name, called in words.GUARDRAILS.items():
        verdicts = {letter: of_one[name] for letter, of_one in found.items()}
        if set(verdicts.values()) == {Verdict.HELPS}:
            helping.append(called)
        elif len(set(verdicts.values()) - {Verdict.NOT_COMPARED}) > 1:
            told = ", ".join(f"{letter} {verdict}" for letter, verdict in verdicts.items())
            differing.append(f"{called} ({told})")
    if helping:
        verb = "helps" if len(helping) == 1 else "help"
        yield f"{words.capital(words.listed(helping))} {verb} in {everywhere}."
    else:
        yield f"No guardrail is found to help in all of {everywhere}."
    if differing:
        yield f"The verdicts differ on {words.listed(differing)}."
