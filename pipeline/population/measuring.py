"""Owns what K networks are worth on a split: mean losses and scores, without penalty or dropout."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from pipeline.config import ScoreName
from pipeline.population.layers import StackedMLP
from pipeline.population.losses import losses, row_weights
from pipeline.population.scores import Scored, make_score
from pipeline.population.seats import Part, Seat

# Rows evaluated at a time: enough for the matrix products, few enough for the cache.
EVALUATION_ROWS = 256

# Rows whose losses are computed at a time: enough to be few, not so many as to outgrow the data.
SCORED_ROWS = 4096


def measure(
    network: StackedMLP, seat: Seat, part: Part, names: Sequence[ScoreName]
) -> tuple[list[float], list[list[float]]]:
    """Mean loss, and each score, over a split's rows, per row of the network.

    Args:
        network: K networks.
        seat: The replicate.
        part: A split of it.
        names: The scores.
    """
    splits, n_slots, (x, y) = seat.splits, network.n_slots, part
    scores = [make_score(name, splits.task, splits.target_scale) for name in names]
    lost = x.new_zeros(n_slots, dtype=torch.float64)
    at_a_time = EVALUATION_ROWS if x.device.type == "cpu" else SCORED_ROWS
    for inputs, some_y in zip(x.split(SCORED_ROWS), y.split(SCORED_ROWS), strict=True):
        target = some_y[None]
        logits = x.new_empty(n_slots, len(inputs), splits.n_outputs)
        for some, out in zip(inputs.split(at_a_time), logits.split(at_a_time, 1), strict=True):
            out.copy_(network.forward(some.expand(n_slots, -1, -1)))
        row_losses = losses(splits.task, logits, target)
        for score in scores:
            score.add(Scored(logits, row_losses, target))
        if seat.class_weights is not None:
            row_losses = row_losses * row_weights(seat.class_weights, target)
        lost += row_losses.sum(dim=1, dtype=torch.float64)
    return (lost / len(x)).tolist(), [score.values(y) for score in scores]


def measure_first(
    network: StackedMLP, seat: Seat, part: Part, names: Sequence[ScoreName]
) -> tuple[float, dict[str, float]]:
    """`measure` of the network's first row alone, scores by name."""
    loss, values = measure(network, seat, part, names)
    return loss[0], {name: of_rows[0] for name, of_rows in zip(names, values, strict=True)}
