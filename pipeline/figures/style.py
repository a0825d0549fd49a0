"""Owns how a type looks and how a trial is named, in every picture and table alike."""

from __future__ import annotations

from pipeline.space import Hyperparameters, Regularization

# From Okabe and Ito's palette, which stays apart under every colour blindness; each is legible on
# white and on near-black.
COLOURS: dict[Regularization, str] = {
    Regularization.NONE: "#808080",
    Regularization.L1: "#0072B2",
    Regularization.L2: "#D55E00",
    Regularization.ELASTIC_NET: "#009E73",
    Regularization.WEIGHT_DECAY: "#CC79A7",
}

# Shapes say the same again for who sees no colours: matplotlib's name, plotly's name.
MARKERS: dict[Regularization, tuple[str, str]] = {
    Regularization.NONE: ("o", "circle"),
    Regularization.L1: ("s", "square"),
    Regularization.L2: ("D", "diamond"),
    Regularization.ELASTIC_NET: ("^", "triangle-up"),
    Regularization.WEIGHT_DECAY: ("P", "cross"),
}

INK, FAINT, GRID = "#222222", "#8c8c8c", "#e6e6e6"

# What belongs to no type, of the same palette.
ACCENT = "#56B4E9"


def spelled(role: str) -> str:
    """A finalist's name in words: `winner without penalty`."""
    return role.replace("_", " ")


def describe(hyperparameters: Hyperparameters) -> str:
    """One line: `l2, lambda 1.2e-03, dropout 0.31, patience 12`."""
    parts = [str(hyperparameters.regularization)]
    if hyperparameters.regularization is not Regularization.NONE:
        parts.append(f"lambda {hyperparameters.lambda_:.1e}")
    if hyperparameters.l1_ratio is not None:
        parts.append(f"l1_ratio {hyperparameters.l1_ratio:.2f}")
    parts.append(f"dropout {hyperparameters.dropout:.2f}")
    parts.append(f"patience {hyperparameters.patience}")
    if hyperparameters.learning_rate is not None:
        parts.append(f"learning rate {hyperparameters.learning_rate:.1e}")
    return ", ".join(parts)
