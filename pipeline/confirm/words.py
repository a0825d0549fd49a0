"""Owns how findings are put: roles as people say them, and numbers with the digits they deserve."""

from __future__ import annotations

from pipeline.confirm.statistics import Estimate

GUARDRAILS = {
    "early_stopping": "early stopping",
    "dropout": "dropout",
    "l1": "L1",
    "l2": "L2",
    "elastic_net": "elastic net",
    "weight_decay": "weight decay",
}

ROLES = {
    "baseline": "the baseline",
    "winner": "the winner",
    "early_stopping": "early stopping alone",
    "best_none": "the best trial without a penalty",
    **{
        f"best_{name}": f"the best trial with {GUARDRAILS[name]}"
        for name in ("l1", "l2", "elastic_net", "weight_decay")
    },
    "winner_without_penalty": "the winner without its penalty",
    "winner_without_dropout": "the winner without its dropout",
    "winner_without_early_stopping": "the winner without early stopping",
    "first_trial": "the first trial",
    "default_trial": "the default trial",
}

# Decimals beyond which a power of ten is easier to read.
MOST_DECIMALS = 6


def capital(text: str) -> str:
    """The same with a capital first letter, as a sentence begins."""
    return text[:1].upper() + text[1:]


def listed(words: list[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def amount(value: float, decimals: int) -> str:
    """A number with so many decimals; what would read as 0 but is not keeps a digit."""
    if value == 0:
        return "0"
    if decimals > MOST_DECIMALS or abs(value) >= 10**MOST_DECIMALS:
        return f"{value:.1e}"
    text = f"{value:.{decimals}f}"
    return text if float(text) != 0 else f"{value:.1g}"


def decimals_for(value: float) -> int:
    """Decimals that leave a number two significant digits."""
    if value == 0:
        return MOST_DECIMALS
    _, exponent = f"{value:.1e}".split("e")  # that of the digits that are shown
    return max(0, 1 - int(exponent))


def decimals_of(found: Estimate) -> int:
    """Decimals that leave an interval's half width two digits, and the mean no more than four."""
    half, most = (found.high - found.low) / 2, decimals_for(found.mean) + 2
    return min(decimals_for(half), most) if half > 0 else most


def with_interval(found: Estimate, sign: int = 1, after: str = "") -> str:
    """`0.031 (95 % interval 0.012 to 0.050)`; `sign` -1 tells of the opposite difference."""
    low, high = sorted((sign * found.low, sign * found.high))
    decimals = decimals_of(found)
    if found.count < 2:
        return f"{amount(sign * found.mean, decimals)} (one replicate, no interval)"
    bounds = f"{amount(low, decimals)} to {amount(high, decimals)}"
    return f"{amount(sign * found.mean, decimals)} (95 % interval {bounds}{after})"


def chance(p_value: float) -> str:
    """`p 0.21`, `p < 0.001`."""
    return "p < 0.001" if p_value < 0.001 else f"p {p_value:.2g}"
