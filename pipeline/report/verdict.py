"""Owns the verdict: what fresh replicates say, which comes before what the search found."""

from __future__ import annotations

import math

from pipeline.confirm import words
from pipeline.confirm.champion import Rule, choose_champion
from pipeline.confirm.guardrails import guardrails
from pipeline.confirm.measures import baseline_gap, mean_of
from pipeline.figures.record import config_of
from pipeline.figures.style import describe, spelled
from pipeline.records import Confirmation, Finalist, StudyRecord


def confirmed(record: StudyRecord) -> bool:
    """Whether the finalists were trained on all of their fresh replicates."""
    confirmation = record.confirmation
    return confirmation is not None and bool(confirmation.records) and confirmation.finished


def verdict(record: StudyRecord) -> list[str]:
    """A sentence on the champion and one per guardrail; empty where nothing is to be confirmed."""
    confirmation = record.confirmation
    if confirmation is None:
        return []
    if not confirmation.finalists:
        return ["There are no finalists, so nothing was confirmed."]
    if not confirmation.finished:
        planned = len(confirmation.finalists) * len(confirmation.replicates)
        ended = f"{len(confirmation.records)} of {planned} trainings of the finalists have ended"
        return [f"The confirmation is not finished: {ended}, so it says nothing yet."]
    return [_champion(record, confirmation), *(g.sentence for g in guardrails(confirmation))]


def champion(record: StudyRecord) -> Finalist | None:
    """The finalist that the study's own rule chooses, None before the confirmation is finished."""
    if record.confirmation is None or not confirmed(record):
        return None
    return choose_champion(record.confirmation, _rule(record))


def named(finalist: Finalist) -> str:
    """`early stopping alone`, `the winner of the search`: what a sentence calls a finalist."""
    if finalist.name == "winner":
        return "the winner of the search"
    return words.ROLES.get(finalist.name, spelled(finalist.name))


def _rule(record: StudyRecord) -> Rule:
    config = config_of(record)
    return config.confirm.rule if config else "lowest"


def _champion(record: StudyRecord, confirmation: Confirmation) -> str:
    chosen = champion(record)
    if chosen is None:
        return "No finalist ended every replicate, so there is no champion."
    val_loss = mean_of(confirmation, chosen, "val_loss")
    why = "it has the lowest mean validation loss,"
    if _rule(record) == "one_standard_error":
        why = (
            "it is the simplest within one standard error of the lowest mean validation loss, with"
        )
    finalists, replicates = len(confirmation.finalists), len(confirmation.replicates)
    return (
        f"Of {finalists} finalist{'' if finalists == 1 else 's'} on {replicates} fresh replicates, "
        f"the champion is {named(chosen)} ({describe(chosen.hyperparameters)}): {why} "
        f"{words.with_interval(val_loss)}{_at_test(confirmation, chosen)}."
    )


def _at_test(confirmation: Confirmation, chosen: Finalist) -> str:
    """The champion's test loss and gap, held against the baseline's."""
    loss = mean_of(confirmation, chosen, "test_loss")
    text = f", and a test loss of {words.with_interval(loss)}" if math.isfinite(loss.mean) else ""
    gap, before = mean_of(confirmation, chosen, "gap").mean, baseline_gap(confirmation)
    if chosen is confirmation.finalist("baseline"):
        return f"{text}; no guardrail that was tried does better than none"
    if not (math.isfinite(gap) and math.isfinite(before)):
        return text
    now, then = (words.amount(size, words.decimals_for(size)) for size in (gap, before))
    return f"{text}; its gap is {now} where the baseline's is {then}"
