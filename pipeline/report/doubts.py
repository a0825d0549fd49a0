"""Owns the doubts: what a reader should know before believing a confirmation."""

from __future__ import annotations

import math
from collections.abc import Iterator

from pipeline.confirm import words
from pipeline.confirm.measures import difference_of, mean_of
from pipeline.confirm.price import search_price
from pipeline.figures.style import spelled
from pipeline.records import Confirmation, StudyRecord
from pipeline.report.verdict import confirmed
from pipeline.results import TrialState

# Student's t makes intervals of fewer replicates than these much wider than they need be.
FEW = 10

# Intervals that all hold zero tell little if even the narrowest reaches this share of the
# baseline's loss to either side.
WIDE = 0.1


def doubts(record: StudyRecord) -> list[str]:
    """One sentence each; none before the first finalist was trained."""
    confirmation = record.confirmation
    if confirmation is None or not confirmation.records:
        return []
    return [
        *_overtuned(record),
        *_failures(confirmation),
        *_few(confirmation),
        *(_wide(confirmation) if confirmed(record) else ()),
        *_same_rows(record),
    ]


def _overtuned(record: StudyRecord) -> Iterator[str]:
    price = search_price(record) if confirmed(record) else None
    if price is not None and price.overtuned:
        yield (
            f"The search has overtuned: on test rows its winner, trial {price.trial}, is no better "
            "than a trial that it began with."
        )


def _few(confirmation: Confirmation) -> Iterator[str]:
    count = len(confirmation.replicates)
    if count < FEW:
        yield (
            f"The confirmation rests on {count} replicates: with fewer than {FEW}, intervals are "
            "wide and little is found to differ; raise confirm.replicates."
        )


def _same_rows(record: StudyRecord) -> Iterator[str]:
    if record.params.get("data.time"):
        yield (
            f"The rows are split by time ({record.params['data.time']}), so all replicates share "
            "them with the search: they differ by initialization, batch order and noise alone. The "
            "intervals do not tell how other rows would do, and validation losses still flatter "
            "what was chosen by them."
        )


def _failures(confirmation: Confirmation) -> Iterator[str]:
    failed = {
        spelled(each.name): sum(
            one.finalist == each.name and one.state is TrialState.FAILED
            for one in confirmation.records
        )
        for each in confirmation.finalists
    }
    told = [f"{name} {count}" for name, count in failed.items() if count]
    if told:
        yield (
            f"Replicates failed, of {len(confirmation.replicates)} each: {', '.join(told)}. The "
            "means are of those that ended, and a finalist with a failure is no champion."
        )


def _wide(confirmation: Confirmation) -> Iterator[str]:
    baseline = confirmation.finalist("baseline")
    if baseline is None:
        return
    level = abs(mean_of(confirmation, baseline, "test_loss").mean)
    found = [
        difference_of(confirmation, each, baseline, "test_loss")
        for each in confirmation.finalists
        if each is not baseline
    ]
    found = [each for each in found if math.isfinite(each.low) and math.isfinite(each.high)]
    narrowest = min(((each.high - each.low) / 2 for each in found), default=math.nan)
    if all(each.low <= 0 <= each.high for each in found) and narrowest > WIDE * level:
        size = words.amount(narrowest, words.decimals_for(narrowest))
        share = f", {narrowest / level:.0%} of the baseline's test loss" if level > 0 else ""
        yield (
            f"The intervals are too wide to tell: changes of test loss are known to {size} at "
            f"best{share}. That nothing was shown to help does not say that nothing helps; more "
            "rows would tell."
        )
