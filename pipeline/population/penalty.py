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


class Penalty:
    """The coefficients of K slots, applied while their gradients are gathered.

    Args:
        layout: The layers' sizes.
        penalized: Per kernel, whether it is weighed.
        parameters: [K, P], decayed where a slot decays its weights.
        gradients: [K, P], written.
    """

    def __init__(
        self,
        layout: Layout,
        penalized: Sequence[bool],
        parameters: Float[Tensor, "k p"],
        gradients: Float[Tensor, "k p"],
    ) -> None:
        self._penalized = tuple(penalized)
        self._kernels, self._targets = layout.kernels(parameters), layout.kernels(gradients)
        self._bias_targets = layout.biases(gradients)
        self._scratch = [torch.empty_like(kernel).contiguous() for kernel in self._kernels]
        n_slots = len(parameters)
        self._l1 = parameters.new_zeros(n_slots, 1, 1)
        self._twice_l2 = parameters.new_zeros(n_slots, 1, 1)
        self._shrink = parameters.new_ones(n_slots, 1, 1)
        self._rows = [Coefficients(0.0, 0.0, 0.0)] * n_slots

    def set_row(self, row: int, chosen: Coefficients, learning_rate: float) -> None:
        """Gives one slot its coefficients."""
        self._rows[row] = chosen
        self._l1[row] = chosen.l1
        self._twice_l2[row] = 2 * chosen.l2
        self._shrink[row] = 1 - learning_rate * chosen.decay

    def move_row(self, source: int, destination: int) -> None:
        """Copies one slot's coefficients over another's."""
        self._rows[destination] = self._rows[source]
        for field in (self._l1, self._twice_l2, self._shrink):
            field[destination] = field[source]

    def gather_(
        self,
        kernel_gradients: Sequence[Float[Tensor, "k _ _"]],
        bias_gradients: Sequence[Float[Tensor, "k _"]],
    ) -> None:
        """Writes the loss's gradients plus the penalties' to [K, P], and decays the weights.

        Adding the L2 part is the copy. A part that no slot uses is skipped; for a slot that does
        not use it, it adds exact zeros.
        """
        active = slice(len(bias_gradients[0]))
        l1, twice_l2, shrink = self._l1[active], self._twice_l2[active], self._shrink[active]
        rows = self._rows[active]
        any_l1, any_decay = any(row.l1 for row in rows), any(row.decay for row in rows)
        for bias, target in zip(bias_gradients, self._bias_targets, strict=True):
            target[active] = bias
        for layer, gradient in enumerate(kernel_gradients):
            kernel, target = self._kernels[layer][active], self._targets[layer][active]
            if not self._penalized[layer]:
                target.copy_(gradient)
                continue
            torch.addcmul(gradient, kernel, twice_l2, out=target)
            if any_l1:
                sign = torch.sign(kernel, out=self._scratch[layer][active])
                target.addcmul_(sign, l1)
            if any_decay:
                kernel.mul_(shrink)
