"""Owns what the search found: the best trial, whether the network overfits, what it gains."""

from __future__ import annotations

import math

from pipeline.figures.style import describe
from pipeline.records import StudyRecord, TrialRecord
from pipeline.report.facts import counts_of
from pipeline.report.frames import number, scalar
from pipeline.report.verdict import confirmed
from pipeline.results import StopReason
from pipeline.space import Regularization

# An overfitting network: past its best epoch the validation loss rose by more than this share, ...
CLEAR_RISE = 0.05
# ... or the gap has become more than this share of the validation loss. Below the other share,
# there is hardly a gap.
LARGE_GAP, SMALL_GAP = 0.5, 0.1


def unregularized(record: StudyRecord) -> TrialRecord | None:
    """The trial that the others are held against: no penalty, least dropout, asked first."""
    free = [
        trial
        for trial in record.trials
        if trial.hyperparameters.regularization is Regularization.NONE
        and math.isfinite(trial.val_loss)
    ]
    return min(free, key=lambda trial: (trial.hyperparameters.dropout, trial.number), default=None)


def answer(record: StudyRecord) -> list[str]:
    """Up to three sentences."""
    best, reference = record.best, unregularized(record)
    if best is None:
        counts = counts_of(record)
        told = f"{counts['pruned']} pruned, {counts['failed']} failed"
        nothing = f"No trial ran to its end, so there is no best one ({told})."
        return [
            nothing if record.trials else "No trial has ended yet.",
            *([_overfitting(reference)] if reference else []),
        ]
    if reference is None:
        return [
            _found(best),
            "No trial without regularization gave a value, so there is nothing to hold it against.",
        ]
    if best.number == reference.number:
        worth = "No guardrail that was tried did better than none, on this one split."
    else:
        worth = _worth(best, reference)
        if not confirmed(record):
            worth += " This is one split and one seed: it is not yet confirmed."
    return [_found(best), _overfitting(reference), worth]


def _found(best: TrialRecord) -> str:
    """A sentence on the best trial and what it is."""
    return (
        f"Trial {best.number} is best ({describe(best.hyperparameters)}): validation loss "
        f"{number(best.val_loss)} at epoch {number(scalar(best, 'best_epoch'))}, "
        f"training loss {number(scalar(best, 'train_loss'))}, "
        f"gap {number(scalar(best, 'gap'))}."
    )


def judged(reference: TrialRecord) -> tuple[str, str]:
    """`Without regularization`, or what comes closest to it, and whether the network overfits."""
    free = reference.hyperparameters.dropout == 0
    start = "Without regularization" if free else "With the least regularization"
    last_val, rise = _last_loss(reference), _rise(reference)
    share = scalar(reference, "overfit_gap") / last_val if last_val > 0 else math.nan
    if rise > CLEAR_RISE or share > LARGE_GAP:
        return start, "the network overfits"
    if share < SMALL_GAP:
        return start, "the network hardly overfits"
    return start, "the network overfits a little"


def _last_loss(trial: TrialRecord) -> float:
    val = trial.history.val_loss
    return float(val[-1]) if len(val) else math.nan


def _rise(trial: TrialRecord) -> float:
    """By what share validation loss stands above its best at the last epoch."""
    return _last_loss(trial) / trial.val_loss - 1 if trial.val_loss > 0 else math.nan


def _overfitting(reference: TrialRecord) -> str:
    named = f"trial {reference.number}: {describe(reference.hyperparameters)}"
    start, verdict = judged(reference)
    gap, last_gap = scalar(reference, "gap"), scalar(reference, "overfit_gap")
    epochs, kept = scalar(reference, "epochs"), scalar(reference, "best_epoch")
    rise = _rise(reference)
    sentence = (
        f"{start} ({named}) {verdict}: its gap is {number(gap)} at the kept epoch "
        f"{number(kept)} and {number(last_gap)} at the last epoch {number(epochs)}"
    )
    if rise > 0:
        sentence += f", where validation loss stands {rise:.0%} above its best"
    if reference.stop_reason is StopReason.PRUNED:
        sentence += ", when it was pruned"
    return sentence + "."


def gains(best: TrialRecord, reference: TrialRecord) -> str:
    """`lowers validation loss by 50% and lowers the gap by 50% at the epochs kept`."""
    parts = []
    for what, now, before in (
        ("validation loss", best.val_loss, reference.val_loss),
        ("the gap", scalar(best, "gap"), scalar(reference, "gap")),
    ):
        if before > 0 and math.isfinite(now):
            change = 1 - now / before
            # A gap may change sign: then no percentage says anything.
            size = f" by {abs(change):.0%}" if now > 0 else f" to {number(now)}"
            parts.append(f"{'lowers' if change >= 0 else 'raises'} {what}{size}")
    return f"{' and '.join(parts)} at the epochs kept" if parts else "has the lower validation loss"


def _worth(best: TrialRecord, reference: TrialRecord) -> str:
    kept = gains(best, reference)
    return f"Against trial {reference.number}, the best trial {kept}{_trained_on(best, reference)}."


def _trained_on(best: TrialRecord, reference: TrialRecord) -> str:
    """The gaps after the last epoch: what is kept stops before most of the overfitting."""
    now, before = scalar(best, "overfit_gap"), scalar(reference, "overfit_gap")
    if not (math.isfinite(now) and math.isfinite(before)):
        return ""
    whose = "the unregularized network's"
    if reference.hyperparameters.dropout > 0:
        whose = f"trial {reference.number}'s"
    verdict = "it overfits less: " if now < before else ""
    last, last_before = scalar(best, "epochs"), scalar(reference, "epochs")
    return (
        f"; trained on to its last epoch, {number(last)}, {verdict}its gap is {number(now)} "
        f"where {whose} is {number(before)} at epoch {number(last_before)}"
    )
