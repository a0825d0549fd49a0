"""Owns the columns of an answer: the prediction, and a probability for each class."""

from __future__ import annotations

from pipeline.data import Target

PREDICTION = "prediction"


def probabilities_of(target: Target) -> list[str]:
    """The names of the columns that hold probabilities, by class number; none for a quantity.

    A prefix keeps them apart from the prediction, whatever a class is called.
    """
    return [f"probability of {name}" for name in target.classes]
