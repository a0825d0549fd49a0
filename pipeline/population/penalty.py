"""Owns regularization as numbers: every type is three coefficients, and nothing branches after."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from pipeline.population import adam
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


class _Gathered(NamedTuple):
    """One layer, for the rows that train.

    Attributes:
        penalized: Whether its kernel is weighed.
        quadratic: Its gradient, kernel and twice the L2 strength, and where the sum belongs.
        absolute: Of the rows with L1: where it belongs, room for signs, the kernel.
        decayed: The kernel of the rows that decay.
    """

    penalized: bool
    quadratic: tuple[Tensor, Tensor, Tensor, Tensor]
    absolute: tuple[Tensor, Tensor, Tensor]
    decayed: Tensor


class Penalty:
    """The coefficients of K slots, applied while their gradients are gathered, or after the step.

    Args:
        layout: The layers' sizes.
        penalized: Per kernel, whether it is weighed.
        parameters: [K, P], decayed where a slot decays its weights.
        gradients: [K, P], written.
        proximal: Whether the L1 part is a threshold after the step, and not in the gradients.
    """

    def __init__(
        self,
        layout: Layout,
        penalized: Sequence[bool],
        parameters: Float[Tensor, "k p"],
        gradients: Float[Tensor, "k p"],
        *,
        proximal: bool = False,
    ) -> None:
        self._layout, self._penalized = layout, tuple(penalized)
        self._parameters, self._gradients = parameters, gradients
        self._proximal = proximal
        n_slots = len(parameters)
        self._l1 = parameters.new_zeros(n_slots, 1, 1)
        self._twice_l2 = parameters.new_zeros(n_slots, 1, 1)
        self._shrink = parameters.new_ones(n_slots, 1, 1)
        self._step_l1 = parameters.new_zeros(n_slots, 1, 1)
        self._fields = self._l1, self._twice_l2, self._shrink, self._step_l1
        self._rows = [Coefficients(0.0, 0.0, 0.0)] * n_slots

    def set_row(self, row: int, chosen: Coefficients, learning_rate: float) -> None:
        """Gives one slot its coefficients."""
        self._rows[row] = chosen
        self._l1[row] = chosen.l1
        self._twice_l2[row] = 2 * chosen.l2
        self._shrink[row] = 1 - learning_rate * chosen.decay
        self._step_l1[row] = learning_rate * chosen.l1

    def move_row(self, source: int, destination: int) -> None:
        """Copies one slot's coefficients over another's."""
        self._rows[destination] = self._rows[source]
        for field in self._fields:
            field[destination] = field[source]

    def arrangement(self, n_active: int) -> list[int]:
        """The first rows in an order that costs the least: L1 users first, decaying ones last."""
        rows = self._rows[:n_active]
        return sorted(range(n_active), key=lambda row: (not rows[row].l1, bool(rows[row].decay)))

    def arrange(self, order: list[int]) -> None:
        """Puts the first rows into this order."""
        self._rows[: len(order)] = [self._rows[row] for row in order]
        for field in self._fields:
            field[: len(order)] = field[order]

    def gatherer(
        self,
        n_active: int,
        kernel_gradients: Sequence[Float[Tensor, "k _ _"]],
    ) -> Callable[[], None]:
        """What to call after each backward pass, until a row is set or moved.

        It writes the kernels' gradients plus the penalties' to the first `n_active` rows of
        [K, P], and decays their weights. Adding the L2 part is the copy. The L1 part, unless it is
        proximal, and the decay are computed from the first row that uses them to the last; for one
        between them that does not, they change nothing.

        Args:
            n_active: Rows that train; `kernel_gradients` may have an idle one more.
            kernel_gradients: Per layer, where a backward pass writes them.
        """
        l1 = slice(0) if self._proximal else self._l1_extent(n_active)
        decaying = _extent([bool(row.decay) for row in self._rows[:n_active]])
        twice_l2 = self._twice_l2[:n_active]
        layers = [
            _Gathered(
                penalized,
                (gradient[:n_active], kernel, twice_l2, target),
                (target[l1], torch.empty_like(target[l1]), kernel[l1]),
                kernel[decaying],
            )
            for penalized, target, gradient, kernel in zip(
                self._penalized,
                self._layout.kernels(self._gradients[:n_active]),
                kernel_gradients,
                self._layout.kernels(self._parameters[:n_active]),
                strict=True,
            )
        ]
        return partial(_gather, layers, self._l1[l1], self._shrink[decaying])

    def thresholder(self, n_active: int, state: adam.AdamState) -> Callable[[], None]:
        """What to call after each step of Adam, until a row is set or moved.

        Where L1 is proximal, it moves every penalized weight of the first `n_active` rows towards
        zero by `learning_rate * l1 / (sqrt(v_hat) + epsilon)`, and to zero where that is farther:
        the proximal mapping of the L1 penalty in the metric of Adam's own step (Yun, Lozano and
        Yang 2021, "Adaptive Proximal Gradient Methods for Structured Neural Networks"; Melchior,
        Joseph and Moolekamp 2019, "Proximal Adam", iterate to it for penalties of any kind). Where
        no gradient has ever come, as from an input that is always zero, epsilon alone is left of
        the scaling, and a weight soon is zero, which costs the loss nothing.

        Args:
            n_active: Rows that train.
            state: Adam's, read: before the first of the steps here, after each of them later.
        """
        l1 = self._l1_extent(n_active) if self._proximal else slice(0)
        step_l1, correction_of_step = self._step_l1[l1], adam.corrector(state.steps[l1])
        layers = [
            (kernel[l1], second[l1], torch.empty_like(kernel[l1]), torch.empty_like(kernel[l1]))
            for penalized, kernel, second in zip(
                self._penalized,
                self._layout.kernels(self._parameters),
                self._layout.kernels(state.second),
                strict=True,
            )
            if penalized and len(step_l1)
        ]
        return partial(_threshold, layers, step_l1, correction_of_step)

    def _l1_extent(self, n_active: int) -> slice:
        return _extent([bool(row.l1) for row in self._rows[:n_active]])


def _gather(layers: Sequence[_Gathered], l1: Tensor, shrink: Tensor) -> None:
    for penalized, (gradient, kernel, twice_l2, target), absolute, decayed in layers:
        if not penalized:
            target.copy_(gradient)
            continue
        torch.addcmul(gradient, kernel, twice_l2, out=target)
        if len(l1):
            weighed, sign, weights = absolute
            weighed.addcmul_(torch.sign(weights, out=sign), l1)
        if len(shrink):
            decayed.mul_(shrink)


def _threshold(
    layers: Sequence[tuple[Tensor, Tensor, Tensor, Tensor]],
    step_l1: Tensor,
    correction_of_step: Callable[[], Tensor],
) -> None:
    if not layers:
        return
    # The fraction is expanded by the correction: a division of every root less.
    correction = correction_of_step().to(step_l1.dtype)
    numerator, epsilon = step_l1 * correction, adam.EPSILON * correction
    for kernel, second, high, low in layers:
        torch.sqrt(second, out=high).add_(epsilon)
        torch.div(numerator, high, out=high)
        torch.neg(high, out=low)
        kernel.sub_(torch.clamp(kernel, low, high, out=low))


def _extent(used: Sequence[bool]) -> slice:
    """From the first row that uses something to the last; empty where none does."""
    rows = [row for row, uses in enumerate(used) if uses]
    return slice(rows[0], rows[-1] + 1) if rows else slice(0, 0)
