"""Owns the caveats: what a reader should know before believing what the search found."""

from __future__ import annotations

import math
from collections.abc import Iterator

from pipeline.figures.record import config_of
from pipeline.records import StudyRecord, TrialRecord
from pipeline.report.answer import unregularized
from pipeline.report.facts import counts_of, range_text, ranges_of, types_of
from pipeline.report.frames import scalar
from pipeline.report.verdict import confirmed
from pipeline.results import StopReason
from pipeline.space import Range, Regularization

# A winner this close to an end of its range, as a share of it, may lie beyond that end.
EDGE = 0.05

# Fewer trials than this for each hyperparameter searched cover the space too thinly to tell.
TRIALS_PER_HYPERPARAMETER = 10

# McNemar's exact test of two classifiers on the same rows cannot come below 5 % with fewer rows
# that only one of them has right: five that are all one's have p = 2 / 2^5 (McNemar 1947, "Note on
# the sampling error of the difference between correlated proportions or percentages",
# Psychometrika 12). For losses: the mean of the squares of n normal errors has a standard error of
# sqrt(2 / n) of itself, and twice that may be chance.
TELLING_ROWS = 6

# From this share of failed trials on, it is the study that is wrong, not the trials.
MANY_FAILED = 0.1


def caveats(record: StudyRecord) -> list[str]:
    """One sentence each."""
    return [
        *_budget(record),
        *_failures(record),
        *_validation(record),
        *_edges(record),
        *_patience(record),
    ]


def _budget(record: StudyRecord) -> Iterator[str]:
    told, config = len(record.trials), config_of(record)
    if config and told < config.search.n_trials:
        yield f"The study is not finished: {told} of {config.search.n_trials} trials have ended."
    searched = [each for each in ranges_of(record).values() if not each.fixed]
    dimensions = len(searched) + (len(types_of(record)) > 1)
    enough = TRIALS_PER_HYPERPARAMETER * dimensions
    if told < enough:
        yield (
            f"The budget is small: {told} {'trial' if told == 1 else 'trials'} in a space of "
            f"{dimensions} {'dimension' if dimensions == 1 else 'dimensions'}; "
            f"{enough} or more would cover it better."
        )


def _failures(record: StudyRecord) -> Iterator[str]:
    counts, told = counts_of(record), len(record.trials)
    if counts["failed"] > MANY_FAILED * told:
        yield (
            f"{counts['failed']} of {told} trials failed: look at their stop reasons; a smaller "
            "learning rate or lambda often helps."
        )
    if told > 1 and counts["complete"] < 2:
        yield f"Only {counts['complete']} of {told} trials ran to their end."


def _validation(record: StudyRecord) -> Iterator[str]:
    """Whether chance explains how far the best trial is ahead of the unregularized one."""
    best, reference, rows = record.best, unregularized(record), _validation_rows(record)
    if best is None or reference is None or not rows or confirmed(record):
        return
    if best.number == reference.number:
        return
    told = _too_close(best, reference, rows)
    if told:
        yield f"The validation set may be too small to tell: on its {rows} rows the best {told}"


def _too_close(best: TrialRecord, reference: TrialRecord, rows: int) -> str:
    """How close two trials are on the same rows, empty where chance does not explain it."""
    other = f"the unregularized one, trial {reference.number}"
    ahead = rows * (scalar(best, "val_accuracy") - scalar(reference, "val_accuracy"))
    if math.isfinite(ahead):
        count = round(ahead)
        if abs(count) >= TELLING_ROWS:
            return ""
        how = f"{abs(count)} {'more' if count > 0 else 'fewer'} right than {other}"
        if count == 0:
            how = f"as many right as {other}"
        return f"trial has {how}; by chance alone they may differ by {TELLING_ROWS - 1}."
    if not reference.val_loss > 0:
        return ""
    below, chance = 1 - best.val_loss / reference.val_loss, 2 * math.sqrt(2 / rows)
    if abs(below) >= chance:
        return ""
    return (
        f"trial's loss is {abs(below):.1%} {'below' if below >= 0 else 'above'} that of {other}; "
        f"by chance alone a loss may be off by {chance:.1%}."
    )


def _validation_rows(record: StudyRecord) -> int:
    """How many there are, 0 if that is not known."""
    told = record.params.get("data.val_rows", "")
    return int(told) if told.isdecimal() else 0


def _edges(record: StudyRecord) -> Iterator[str]:
    best, config = record.best, config_of(record)
    if best is None or config is None:
        return
    for key, each in ranges_of(record).items():
        value = _chosen(best, key)
        if value is None or each.fixed:
            continue
        low, high = _inner(each)
        # Nothing lies beyond 0 or, for a share, beyond 1.
        if value <= low and each.low > 0:
            end = "lower"
        elif value >= high and not (key == "l1_ratio" and each.high == 1):
            end = "upper"
        else:
            continue
        where = f"the {end} edge of its range ({range_text(each)})"
        yield f"The best {key}, {value:.3g}, is at {where}: widen it."
    longest, kept = config.training.max_epochs, scalar(best, "best_epoch")
    if longest > 1 and kept >= (1 - EDGE) * longest:
        yield (
            f"The best trial was best at epoch {kept:.0f} of {longest}: it might improve with "
            "more epochs."
        )


def _inner(each: Range[int] | Range[float]) -> tuple[float, float]:
    """The range without its edges, on its own scale."""
    if each.log:
        share = (each.high / each.low) ** EDGE
        return each.low * share, each.high / share
    share = EDGE * (each.high - each.low)
    return each.low + share, each.high - share


def _chosen(trial: TrialRecord, key: str) -> float | None:
    """A hyperparameter's value, None where it does not apply or its edge says nothing."""
    chosen = trial.hyperparameters
    penalized = chosen.regularization is not Regularization.NONE
    return {
        "lambda": chosen.lambda_ if penalized else None,
        "l1_ratio": chosen.l1_ratio,
        "dropout": chosen.dropout,
        "patience": None,  # a longer one never ends a trial at a worse epoch
        "learning_rate": chosen.learning_rate,
    }[key]


def _patience(record: StudyRecord) -> Iterator[str]:
    patient = [trial for trial in record.complete if trial.hyperparameters.patience != "off"]
    stopped = any(trial.stop_reason is StopReason.EARLY_STOPPING for trial in patient)
    if patient and not stopped:
        yield "No trial stopped early: patience was never used, so more epochs may help."
