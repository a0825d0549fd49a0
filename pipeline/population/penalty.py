"""Owns regularization as numbers: every type is three coefficients, and nothing branches after."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from pipeline.population.layers import Layout
from pipeline.space import Hyperparameters, Regularization


class Coefficients(NamedTuple):
    """What a slot's kernels are weighed by.

    The penalty is `l1 * sum|w| + l2 * sum w^2`, without a hidden one-half (Keras' convention);
    `decay` is that of decoupled weight decay (Loshchilov and Hutter 2019, algorithm 2).
    """

    l1: float
    l2: float
    decay: float


def coefficients(hyperparameters: Hyperparameters) -> Coefficients:
    """Translates the regularization type and its strength."""
    strength = hyperparameters.lambda_
    l1_share = {
        Regularization.L1: 1.0,
        Regularization.L2: 0.0,
        Regularization.ELASTIC_NET: hyperparameters.l1_ratio,
    }.get(hyperparameters.regularization)
    if l1_share is not None:
        return Coefficients(strength * l1_share, strength * (1 - l1_share), 0.0)
    decoupled = hyperparameters.regularization is Regularization.WEIGHT_DECAY
    return Coefficients(0.0, 0.0, strength if decoupled else 0.0)


def penalized_parameters(layout: Layout, penalized: Sequence[bool]) -> Float[Tensor, " p"]:
    """1 for the weights of penalized kernels, 0 for all other kernels and for biases."""
    mask = torch.zeros(1, layout.n_parameters)
    for kernel, weighed in zip(layout.kernels(mask), penalized, strict=True):
        kernel.fill_(float(weighed))
    return mask[0]


class Penalty:
    """The coefficients of K slots, spread over their parameters.

    Args:
        n_slots: K.
        mask: [P], from `penalized_parameters`.
    """

    def __init__(self, n_slots: int, mask: Float[Tensor, " p"]) -> None:
        self._mask = mask
        self._l1 = mask.new_zeros(n_slots, len(mask))
        self._twice_l2 = torch.zeros_like(self._l1)
        self._shrink = torch.ones_like(self._l1)
        self._scratch = torch.empty_like(self._l1)
        self._rows = [Coefficients(0.0, 0.0, 0.0)] * n_slots

    def set_row(self, row: int, chosen: Coefficients, learning_rate: float) -> None:
        """Gives one slot its coefficients."""
        self._rows[row] = chosen
        self._l1[row] = chosen.l1 * self._mask
        self._twice_l2[row] = 2 * chosen.l2 * self._mask
        self._shrink[row] = 1 - learning_rate * chosen.decay * self._mask

    def move_row(self, source: int, destination: int) -> None:
        """Copies one slot's coefficients over another's."""
        self._rows[destination] = self._rows[source]
        for field in (self._l1, self._twice_l2, self._shrink):
            field[destination] = field[source]

    def apply_(
        self, parameters: Float[Tensor, "k p"], gradients: Float[Tensor, "k p"], n_active: int
    ) -> None:
        """Adds the penalties' gradients and decays the weights of the first `n_active` slots.

        A part that no slot uses is skipped; for a slot that does not use it, it adds exact zeros.
        """
        active = slice(n_active)
        w, g = parameters[active], gradients[active]
        rows = self._rows[active]
        if any(row.l2 for row in rows):
            g.addcmul_(w, self._twice_l2[active])
        if any(row.l1 for row in rows):
            g.addcmul_(torch.sign(w, out=self._scratch[active]), self._l1[active])
        if any(row.decay for row in rows):
            w.mul_(self._shrink[active])
