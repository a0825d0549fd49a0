"""Owns Adam over stacked parameters, one step count a slot: a refilled slot starts at step 1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

BETAS = (0.9, 0.999)
EPSILON = 1e-8


@dataclass(frozen=True)
class AdamState:
    """Moments and step counts (Kingma and Ba 2015, algorithm 1).

    Attributes:
        first, second: [K, P] moving averages of gradients and of their squares.
        steps: [K] steps taken, in float32 as torch's fused kernel wants them.
    """

    first: Float[Tensor, "k p"]
    second: Float[Tensor, "k p"]
    steps: Float[Tensor, " k"]


def init(parameters: Float[Tensor, "k p"]) -> AdamState:
    """A state for slots that have taken no step."""
    return AdamState(
        first=torch.zeros_like(parameters),
        second=torch.zeros_like(parameters),
        steps=torch.zeros(len(parameters), dtype=torch.float32),
    )


def reset_row(state: AdamState, row: int) -> None:
    """Makes one slot's state that of a fresh one."""
    for field in (state.first, state.second, state.steps):
        field[row] = 0


def move_row(state: AdamState, source: int, destination: int) -> None:
    """Copies one slot's state over another's."""
    for field in (state.first, state.second, state.steps):
        field[destination] = field[source]


class Rows:
    """Adam over K rows, as if they were K parameters of one optimizer.

    torch's fused kernel counts steps by parameter, which is what slots of different ages need. The
    rows are taken apart once: doing it at each step costs as much as the step.

    Args:
        parameters: [K, P], stepped in place.
        gradients: [K, P], read.
        state: Stepped in place.
    """

    def __init__(
        self,
        parameters: Float[Tensor, "k p"],
        gradients: Float[Tensor, "k p"],
        state: AdamState,
    ) -> None:
        stacked = (parameters, gradients, state.first, state.second, state.steps)
        self._rows = [tensor.unbind() for tensor in stacked]
        self._steps = state.steps

    def update(self, learning_rates: Sequence[float]) -> None:
        """One step for the first `len(learning_rates)` rows; the others are untouched."""
        n_active = len(learning_rates)
        self._steps[:n_active] += 1
        for rate in dict.fromkeys(learning_rates):
            chosen = [row for row in range(n_active) if learning_rates[row] == rate]
            w, g, first, second, steps = ([rows[row] for row in chosen] for rows in self._rows)
            torch._fused_adam_(
                w,
                g,
                first,
                second,
                [],
                steps,
                lr=rate,
                beta1=BETAS[0],
                beta2=BETAS[1],
                weight_decay=0.0,
                eps=EPSILON,
                amsgrad=False,
                maximize=False,
            )
