"""Owns the verdict on a guardrail, and the sentence that it is put in."""

from __future__ import annotations

import math
from enum import StrEnum

from pipeline.confirm import words
from pipeline.confirm.statistics import ALPHA, Estimate


class Verdict(StrEnum):
    """What the test losses say of a guardrail, at 5 % after Holm's correction."""

    HELPS = "helps"
    HARMS = "harms"
    NO_EVIDENCE = "no evidence"
    NOT_COMPARED = "not compared"


# A gap that grows by so many times the baseline's is told by how much it does.
LARGEST_SHARE = 10


def verdict_of(loss: Estimate, p_holm: float) -> Verdict:
    """What a difference of test losses says, with it minus without it."""
    if not p_holm < ALPHA:
        return Verdict.NO_EVIDENCE
    return Verdict.HELPS if loss.mean < 0 else Verdict.HARMS


def gap_text(change: float, share: float) -> str:
    """What becomes of the gap: a share of the baseline's or, where that says little, the change.

    Where it is more than twice the baseline's that seems to be removed, its sign has changed.

    Empty where neither is known.
    """
    if not math.isfinite(change):
        return ""
    if not -LARGEST_SHARE < share < 2:  # NaN is not, either
        size = words.amount(abs(change), words.decimals_for(change))
        text = f"{'narrows' if change < 0 else 'widens'} the gap by {size}"
        return text if change else "leaves the gap as it is"
    percent = round(100 * share)
    if percent == 0:
        return "leaves the gap as it is"
    if percent < 0:
        return f"widens the gap by {-percent} % of the baseline's"
    return f"removes {percent} % of the gap" if percent < 100 else "removes all of the gap"


def sentence_of(what: str, loss: Estimate, p_holm: float, family: int, gap: str) -> str:
    """A verdict in plain words.

    Args:
        what: The guardrail.
        loss: Its difference of test losses.
        p_holm: Its p-value after Holm's correction.
        family: For how many guardrails that is.
        gap: What `gap_text` says.
    """
    verdict = verdict_of(loss, p_holm)
    closes = gap.startswith(("removes", "narrows"))
    if verdict is Verdict.HELPS:
        lowers = f"lowers test loss by {words.with_interval(loss, sign=-1)}"
        if closes:
            return f"{words.capital(what)} {gap} and {lowers}."
        link = " but " if gap.startswith("widens") else " and "
        return f"{words.capital(what)} {lowers}{link + gap if gap else ''}."
    if verdict is Verdict.HARMS:
        link = " although it " if closes else " and "
        raises = f"raises test loss by {words.with_interval(loss)}"
        return f"{words.capital(what)} harms: it {raises}{link + gap if gap else ''}."
    if loss.mean == loss.standard_error == 0:
        differs = "test loss is the same on every replicate"
    else:
        after = f", {words.chance(p_holm)} after Holm's correction"
        if loss.p_value < ALPHA:
            after += f" for {family} guardrails"
        differs = f"test loss differs by {words.with_interval(loss, after=after)}"
    return f"No evidence that {what} helps: {differs}{'; it ' + gap if gap else ''}."
