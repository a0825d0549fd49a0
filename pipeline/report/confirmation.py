"""Owns the page's section on the confirmation: who was compared, how, and how that is read."""

from __future__ import annotations

from typing import Any

from pipeline.confirm.price import search_price
from pipeline.records import Confirmation, StudyRecord
from pipeline.report.finalists import differences_tables, finalists_table
from pipeline.report.verdict import confirmed

HOW_TO_READ_MEANS = (
    "A mean over the replicates, and below it its 95 % interval. Validation and test loss are "
    "lower for a better finalist; the gap and the overfit gap say how far training and validation "
    "drifted apart, at the epoch kept and at the last one. Test rows were read here for the first "
    "time, and nothing was chosen by them."
)
HOW_TO_READ_DIFFERENCES = (
    "Mean differences, paired by replicate; below each its 95 % interval and its p-value. "
    "Replicates share most of their training rows, so a plain t-test would be too sure: these are "
    "of the corrected resampled t-test (Nadeau and Bengio 2003). The p-values are Holm's, "
    "corrected for all finalists of the column, the intervals are not; a difference with p below "
    "5 % is bold."
)


def confirmation_section(record: StudyRecord) -> dict[str, Any] | None:
    """What the template shows; None where there is no confirmation."""
    confirmation = record.confirmation
    if confirmation is None:
        return None
    price = search_price(record) if confirmed(record) else None
    shown = bool(confirmation.records)
    return {
        "told": _told(record, confirmation),
        "means": finalists_table(record, confirmation) if shown else None,
        "differences": differences_tables(confirmation) if shown else [],
        "price": price.sentences if price else (),
        "how_to_read_means": HOW_TO_READ_MEANS,
        "how_to_read_differences": HOW_TO_READ_DIFFERENCES,
    }


def _told(record: StudyRecord, confirmation: Confirmation) -> str:
    """What was done, in a few sentences."""
    finalists, replicates = len(confirmation.finalists), len(confirmation.replicates)
    if not confirmation.records:
        return "No finalist has been trained again yet."
    n_train, n_val = confirmation.rows
    done = "were" if confirmed(record) else "are being"
    fresh = f"a split ({n_train} training and {n_val} validation rows), an initialization, a batch "
    fresh += "order and noise that the search never saw: so no finalist is judged by what it was "
    fresh += "chosen by, and two of them differ by their hyperparameters alone."
    if record.params.get("data.time"):
        fresh = (
            f"an initialization, a batch order and noise that the search never saw, on the same "
            f"{n_train} training and {n_val} validation rows, as these are split by time."
        )
    return (
        f"{finalists} finalists {done} trained on the same {replicates} fresh replicates. Each is "
        f"{fresh}"
    )
