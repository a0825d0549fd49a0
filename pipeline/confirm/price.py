"""Owns the price of searching: how much better the winner looked than it is."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pipeline.confirm import words
from pipeline.confirm.measures import difference_of, mean_of
from pipeline.confirm.statistics import ALPHA, Estimate
from pipeline.records import Confirmation, Finalist, StudyRecord

OVERTUNED = (
    "So the search has overtuned: on test its winner is no better than what it started from."
)


@dataclass(frozen=True)
class Price:
    """What the search made of the winner, and what fresh replicates make of it.

    Attributes:
        trial: The winner's trial number.
        search_val_loss: Its validation loss in the search.
        confirmed: Its mean validation loss on fresh replicates.
        rank_before, rank_after: From 1, among the finalists that were trials of the search: by
            validation loss in the search, and by mean validation loss in confirmation.
        ranked: How many these are.
        against_first, against_default: The winner's test loss minus that of the first and of the
            default trial; None where there is none, or the winner is that trial itself.
        overtuned: Whether the winner's mean test loss is not below both (or the one that there is);
            None where there is neither.
        sentences: All of it in plain words.
    """

    trial: int
    search_val_loss: float
    confirmed: Estimate
    rank_before: int
    rank_after: int
    ranked: int
    against_first: Estimate | None
    against_default: Estimate | None
    overtuned: bool | None
    sentences: tuple[str, ...]


def search_price(record: StudyRecord) -> Price | None:
    """What searching cost, None without a winner that was a trial and ended a replicate."""
    confirmation = record.confirmation
    winner = None if confirmation is None else confirmation.finalist("winner")
    searched = {
        trial.number: trial.val_loss for trial in record.trials if math.isfinite(trial.val_loss)
    }
    if confirmation is None or winner is None or winner.trial not in searched:
        return None
    confirmed = mean_of(confirmation, winner, "val_loss")
    if not confirmed.count:
        return None
    ranked = {
        each.name: (searched[each.trial], mean_of(confirmation, each, "val_loss").mean)
        for each in confirmation.finalists
        if each.trial in searched
    }
    before, after = ranked[winner.name]
    ranks = [
        1 + sum(values[column] < own for values in ranked.values())
        for column, own in enumerate((before, after))
    ]
    against = {
        role: _against(confirmation, winner, role) for role in ("first_trial", "default_trial")
    }
    held = [each.mean for each in against.values() if each is not None]
    overtuned = any(mean >= 0 for mean in held) if held else None
    sentences = [_flattery(before, confirmed), *_ranks(ranks, len(ranked))]
    sentences += _held_against(confirmation, against)
    if overtuned:
        sentences.append(OVERTUNED)
    return Price(
        trial=winner.trial,
        search_val_loss=before,
        confirmed=confirmed,
        rank_before=ranks[0],
        rank_after=ranks[1],
        ranked=len(ranked),
        against_first=against["first_trial"],
        against_default=against["default_trial"],
        overtuned=overtuned,
        sentences=tuple(sentences),
    )


def _against(confirmation: Confirmation, winner: Finalist, role: str) -> Estimate | None:
    """The winner's test loss minus another's, None where there is no other or no value."""
    other = confirmation.finalist(role)
    if other is None or other == winner:
        return None
    found = difference_of(confirmation, winner, other, "test_loss")
    return found if found.count else None


def _flattery(before: float, confirmed: Estimate) -> str:
    seen = words.amount(before, words.decimals_of(confirmed))
    replicates = "replicate" if confirmed.count == 1 else "replicates"
    text = (
        f"The winner's validation loss was {seen} in the search and is "
        f"{words.with_interval(confirmed)} on {confirmed.count} fresh {replicates}"
    )
    percent = round(100 * (1 - before / confirmed.mean)) if confirmed.mean > 0 else 0
    if percent > 0:
        return f"{text}: the search made it look {percent} % lower."
    return f"{text}: the search did not flatter it."


def _ranks(ranks: list[int], count: int) -> list[str]:
    if count < 2:
        return []
    before, after = ranks
    now = "still is" if before == after else f"is number {after} on fresh replicates"
    among = f"Of the {count} finalists that were trials"
    return [f"{among} it was number {before} in the search and {now}."]


def _held_against(confirmation: Confirmation, against: dict[str, Estimate | None]) -> list[str]:
    """A sentence per trial that the winner is held against, one if these are the same."""
    same = confirmation.finalist("first_trial") == confirmation.finalist("default_trial")
    sentences = []
    for role, found in against.items():
        if found is None or (same and role == "default_trial"):
            continue
        name = "the first trial, the default one" if same else words.ROLES[role]
        lower = found.mean < 0
        text = f"Its test loss is {'lower' if lower else 'higher'} than that of {name} by "
        if found.mean == 0:
            sentences.append(f"Its mean test loss equals that of {name}.")
            continue
        text += words.with_interval(found, sign=-1 if lower else 1)
        doubt = not found.p_value < ALPHA
        sentences.append(text + (", which may be chance." if doubt else "."))
    return sentences
