"""Owns Adam over stacked parameters, one step count a slot: a refilled slot starts at step 1."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby

import torch
from jaxtyping import Float
from torch import Tensor

BETAS = (0.9, 0.999)
EPSILON = 1e-8

# Below it numbers are subnormal, and processors compute with them many times more slowly.
SMALLEST_NORMAL = torch.finfo(torch.float32).tiny


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
        steps=parameters.new_zeros(len(parameters), dtype=torch.float32),
    )


def reset_row(state: AdamState, row: int) -> None:
    """Makes one slot's state that of a fresh one."""
    for field in (state.first, state.second, state.steps):
        field[row] = 0


def move_row(state: AdamState, source: int, destination: int) -> None:
    """Copies one slot's state over another's."""
    for field in (state.first, state.second, state.steps):
        field[destination] = field[source]


def arrange(state: AdamState, order: list[int]) -> None:
    """Puts the first slots' state into this order."""
    for field in (state.first, state.second, state.steps):
        field[: len(order)] = field[order]


def corrector(steps: Float[Tensor, " k"]) -> Callable[[], Float[Tensor, "k 1 1"]]:
    """What to call after each step: it gives what `sqrt(v)` is divided by to be `sqrt(v_hat)`.

    That is `sqrt(1 - beta2^t)`. The powers go on from the ones that Python computes: those of torch
    may depend in their last bits on where an element stands, and with it on the neighbours.

    Args:
        steps: Steps that some slots have taken, which from now on step together.
    """
    powers = [BETAS[1] ** taken for taken in steps.tolist()]
    return partial(_correction, steps.new_tensor(powers, dtype=torch.float64).view(-1, 1, 1))


def _correction(power: Float[Tensor, "k 1 1"]) -> Float[Tensor, "k 1 1"]:
    power.mul_(BETAS[1])
    return torch.rsub(power, 1).sqrt_()


class Stepper:
    """Adam for the first rows of stacked parameters, for as long as they keep in step.

    Rows of one learning rate and one age that stand together are one block to torch's fused
    kernel, which knows one step count a tensor: K parameters of one optimizer, so to speak. The
    blocks are cut once, not at each step.

    Args:
        parameters: [K, P], stepped in place.
        gradients: [K, P], read.
        state: Stepped in place.
        learning_rates: Of the first rows; the rows after them are untouched.
    """

    def __init__(
        self,
        parameters: Float[Tensor, "k p"],
        gradients: Float[Tensor, "k p"],
        state: AdamState,
        learning_rates: Sequence[float],
    ) -> None:
        self._steps = state.steps[: len(learning_rates)]
        _drop_subnormal(state.first[: len(learning_rates)])
        self._one = torch.ones_like(self._steps)
        stacked = (parameters, gradients, state.first, state.second)
        ages = list(zip(learning_rates, self._steps.tolist(), strict=True))
        by_rate: dict[float, list[tuple[Tensor, ...]]] = {}
        start = 0
        for (rate, _), block in groupby(ages):
            end = start + len(list(block))
            blocks = by_rate.setdefault(rate, [])
            blocks.append((*(tensor[start:end] for tensor in stacked), state.steps[start]))
            start = end
        self._blocks = {
            rate: [list(part) for part in zip(*blocks, strict=True)]
            for rate, blocks in by_rate.items()
        }

    def step(self) -> None:
        """One step of every row."""
        self._steps.add_(self._one)
        for rate, (w, g, first, second, steps) in self._blocks.items():
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


def _drop_subnormal(first: Float[Tensor, "k p"]) -> None:
    """Makes moments zero that are too small to move a weight, and slow to compute with.

    Where no gradient comes any more, as behind weights that are zero, the first moment falls below
    the normal numbers within 800 steps, and rounding then keeps it there for ever.
    """
    first.masked_fill_(first.abs() < SMALLEST_NORMAL, 0.0)
