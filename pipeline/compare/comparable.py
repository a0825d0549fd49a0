"""Owns what may be held against what: the same data, unit and rows of a loss."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.compare.sides import Side

# What decides, beside the data, which rows are trained on, validated on and tested on.
SHARES = ("data.test_size", "data.validation_size")


def same_data(sides: Sequence[Side]) -> bool:
    """Whether all studies are known to be of one table."""
    digests = {side.record.params.get("data.digest") for side in sides}
    return len(digests) == 1 and None not in digests


def same_unit(sides: Sequence[Side]) -> bool:
    """Whether a loss of one study means what a loss of another does."""
    return len({_unit(side) for side in sides}) == 1


def comparable(sides: Sequence[Side]) -> bool:
    """Whether the lower of two losses is the better one."""
    return same_data(sides) and same_unit(sides)


def same_rows(sides: Sequence[Side]) -> bool:
    """Whether a replicate's number stands for the same splits in all studies."""
    return same_data(sides) and not _splitting(sides)


def warnings(sides: Sequence[Side]) -> list[str]:
    """One sentence each: what a reader must know before holding numbers against each other."""
    found = []
    if not same_data(sides):
        digests = _told(sides, "data.digest")
        found.append(
            f"The data differ (digests: {digests}): losses on different data are not comparable."
        )
    if not same_unit(sides):
        units = ", ".join(f"{side.letter} {' '.join(_unit(side))}" for side in sides)
        found.append(
            f"The losses differ in what they measure (task and class_weight: {units}): they are "
            "not comparable."
        )
    if comparable(sides) and not same_rows(sides):
        keys = ", ".join(key.removeprefix("study.") for key in _splitting(sides))
        found.append(
            f"The splits differ ({keys}): some of any difference is due to which rows each study "
            "is validated and tested on."
        )
    found += [
        f"{side.letter} is {side.record.state}, not complete: its numbers are those so far."
        for side in sides
        if side.record.state != "complete"
    ]
    return found


def _unit(side: Side) -> tuple[str, str]:
    params = side.record.params
    weight = params.get("study.training.class_weight", "none")
    return params.get("data.task", "unknown"), weight


def _splitting(sides: Sequence[Side]) -> list[str]:
    """The keys by which splits of one table differ. By time, nothing is drawn: no seed matters."""
    by_time = all(side.record.params.get("data.time") for side in sides)
    keys = SHARES if by_time else ("study.seed", *SHARES)
    return [key for key in keys if len({side.record.params.get(key) for side in sides}) > 1]


def _told(sides: Sequence[Side], key: str) -> str:
    return ", ".join(f"{each.letter} {each.record.params.get(key, 'unknown')}" for each in sides)
