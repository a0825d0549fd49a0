"""Owns the short answer: three sentences at most, for where no more is read."""

from __future__ import annotations

import math

from pipeline.confirm import words
from pipeline.confirm.guardrails import Verdict, guardrails
from pipeline.confirm.measures import mean_of, overfits
from pipeline.confirm.price import search_price
from pipeline.figures.style import describe
from pipeline.records import Confirmation, StudyRecord
from pipeline.report.answer import answer, gains, judged, unregularized
from pipeline.report.frames import number, scalar
from pipeline.report.verdict import champion, confirmed, named, verdict

# What is said of one guardrail, and of several, in the order in which it is said.
TOLD = {
    Verdict.HELPS: ("{} helps", "{} help"),
    Verdict.HARMS: ("{} harms", "{} harm"),
    Verdict.NO_EVIDENCE: (
        "there is no evidence that {} helps",
        "there is no evidence that any of {} helps",
    ),
    Verdict.NOT_COMPARED: ("{} was not compared", "{} were not compared"),
}


def short_answer(record: StudyRecord) -> list[str]:
    """Whether the network overfits, which guardrail helps, and how strong."""
    confirmation = record.confirmation
    if confirmation is None or not confirmed(record):
        return _of_the_search(record)
    return [
        *_overfitting(record, confirmation),
        _helping(confirmation),
        _champion(record, confirmation),
    ]


def _of_the_search(record: StudyRecord) -> list[str]:
    best, reference = record.best, unregularized(record)
    drift = _drift(record)
    if best is None:
        return [answer(record)[0], *drift]
    if reference is None:
        return answer(record)
    worth = "No guardrail that was tried did better than none, on this one split."
    if best.number != reference.number:
        worth = (
            f"Against that, the best trial {gains(best, reference)}; this is one split and one "
            "seed, not yet confirmed."
        )
    what = f"trial {best.number} ({describe(best.hyperparameters)})"
    return [*drift, worth, f"The best is {what}: validation loss {number(best.val_loss)}."]


def _drift(record: StudyRecord) -> list[str]:
    """Whether the search's unregularized trial overfits, empty without one."""
    reference = unregularized(record)
    if reference is None:
        return []
    start, judgement = judged(reference)
    gap, epochs = scalar(reference, "overfit_gap"), scalar(reference, "epochs")
    above = f"validation loss stands {number(gap)} above training loss"
    return [f"{start} {judgement}: {above} at its last epoch, {number(epochs)}."]


def _overfitting(record: StudyRecord, confirmation: Confirmation) -> list[str]:
    baseline = confirmation.finalist("baseline")
    gap = None if baseline is None else mean_of(confirmation, baseline, "gap")
    if gap is None or not math.isfinite(gap.mean):
        return _drift(record)
    start = "Without guardrails the network overfits"
    if not overfits(confirmation):
        start = "There is no evidence that the network overfits without guardrails"
    return [f"{start}: validation loss stands {words.with_interval(gap)} above training loss."]


def _helping(confirmation: Confirmation) -> str:
    """The guardrails by what was found of them."""
    by_verdict: dict[Verdict, list[str]] = {}
    for guardrail in guardrails(confirmation):
        by_verdict.setdefault(guardrail.verdict, []).append(words.GUARDRAILS[guardrail.name])
    told = []
    for each, (of_one, of_several) in TOLD.items():
        names = by_verdict.get(each, [])
        if names:
            told.append((of_one if len(names) == 1 else of_several).format(words.listed(names)))
    return words.capital("; ".join(told)) + "."


def _champion(record: StudyRecord, confirmation: Confirmation) -> str:
    chosen = champion(record)
    if chosen is None:
        return verdict(record)[0]
    said = f"The champion is {named(chosen)} ({describe(chosen.hyperparameters)})"
    loss = mean_of(confirmation, chosen, "test_loss")
    if math.isfinite(loss.mean):
        said += f": its test loss is {words.with_interval(loss)}"
    price = search_price(record)
    if price is not None and price.overtuned:
        said += "; the search has overtuned, its winner is no better than what it started from"
    return f"{said}."
