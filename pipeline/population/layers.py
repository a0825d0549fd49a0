"""Owns K multilayer perceptrons as stacked tensors: forward and backward, written by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from pipeline.population.noise import by_layer

aten = torch.ops.aten

# Elements of the widest vector registers in single precision.
VECTOR = 16


@dataclass(frozen=True)
class Activation:
    """An activation whose derivative is a function of its output.

    Attributes:
        forward_: Replaces pre-activations by activations, in place.
        backward_: (gradient, output): multiplies the gradient by the derivative, in place.
        gate_: (mask, pre-activation), of piecewise linear ones alone: multiplies a dropout mask by
            the derivative, in place. The product of mask and pre-activation is then the output
            after dropout, and the mask all that the way back needs: a pass less a layer.
    """

    forward_: Callable[[Tensor], Tensor]
    backward_: Callable[[Tensor, Tensor], Tensor]
    gate_: Callable[[Tensor, Tensor], Tensor] | None = None


def logistic_(z: Tensor) -> Tensor:
    """`torch.sigmoid_`, but an element's last bits do not depend on where it stands.

    torch computes sigmoid, softplus and elu with one exponential in the vectorized body of a
    tensor and with another in its remainder: slots would depend on their place. exp, expm1, tanh
    and logsigmoid are the same everywhere.
    """
    return torch.exp(torch.nn.functional.logsigmoid(z), out=z)


def elu_(z: Tensor) -> Tensor:
    """`torch.nn.functional.elu_`, the same bits wherever an element stands: see `logistic_`."""
    return z.copy_(torch.where(z > 0, z, torch.expm1(z)))


def _zero_where_negative_(g: Tensor, z: Tensor) -> Tensor:
    result: Tensor = aten.threshold_backward.grad_input(g, z, 0.0, grad_input=g)
    return result


ACTIVATIONS = {
    "relu": Activation(torch.relu_, _zero_where_negative_, gate_=_zero_where_negative_),
    "tanh": Activation(
        torch.tanh_, lambda g, out: aten.tanh_backward.grad_input(g, out, grad_input=g)
    ),
    "sigmoid": Activation(
        logistic_, lambda g, out: aten.sigmoid_backward.grad_input(g, out, grad_input=g)
    ),
    "elu": Activation(
        elu_,
        lambda g, out: aten.elu_backward.grad_input(g, 1.0, 1.0, 1.0, True, out, grad_input=g),
    ),
}


@dataclass(frozen=True)
class Layout:
    """Where each layer's kernel and bias stand in a slot's P parameters.

    Attributes:
        sizes: (D, H, ..., C).
    """

    sizes: tuple[int, ...]

    @property
    def n_layers(self) -> int:
        """Kernels, the output layer's included."""
        return len(self.sizes) - 1

    @property
    def n_parameters(self) -> int:
        """P: a slot's weights and biases, filled up with zeros to whole vectors.

        A row that ends in the middle of a vector would have its last elements computed by other
        instructions than the rest, and other last bits, depending on which rows are computed
        together.
        """
        used = sum((fan_in + 1) * fan_out for fan_in, fan_out in pairwise(self.sizes))
        return -(-used // VECTOR) * VECTOR

    def kernels(self, flat: Float[Tensor, "k p"]) -> list[Float[Tensor, "k _ _"]]:
        """Views of `flat`, one a layer: what is written to them is written to it."""
        return [
            flat[:, start : start + fan_in * fan_out].unflatten(1, (fan_in, fan_out))
            for start, fan_in, fan_out in self._blocks()
        ]

    def biases(self, flat: Float[Tensor, "k p"]) -> list[Float[Tensor, "k _"]]:
        """Views of `flat`, one a layer."""
        return [
            flat[:, start + fan_in * fan_out : start + (fan_in + 1) * fan_out]
            for start, fan_in, fan_out in self._blocks()
        ]

    def state_dict(self, parameters: Float[Tensor, " p"]) -> dict[str, NDArray[np.floating]]:
        """One slot's parameters as copies, named and transposed as `nn.Sequential` has them.

        A hidden layer is three modules (linear, activation, dropout), so kernels are numbered
        0, 3, 6, ...
        """
        flat = parameters[None].cpu()
        named = {}
        views = zip(self.kernels(flat), self.biases(flat), strict=True)
        for layer, (kernel, bias) in enumerate(views):
            named[f"{3 * layer}.weight"] = kernel[0].T.contiguous().clone().numpy()
            named[f"{3 * layer}.bias"] = bias[0].clone().numpy()
        return named

    def _blocks(self) -> list[tuple[int, int, int]]:
        blocks, start = [], 0
        for fan_in, fan_out in pairwise(self.sizes):
            blocks.append((start, fan_in, fan_out))
            start += (fan_in + 1) * fan_out
        return blocks


class DropoutRates(NamedTuple):
    """What slots drop, and what they scale the rest by.

    Attributes:
        rate: [K, 1] share of units dropped.
        scale: [K, 1] 1 / (1 - rate).
    """

    rate: Float[Tensor, "k 1"]
    scale: Float[Tensor, "k 1"]

    @classmethod
    def of(cls, rate: Float[Tensor, "k 1"]) -> DropoutRates:
        """Inverted dropout at these rates."""
        return cls(rate, 1 / (1 - rate))


class _Workspace:
    """Buffers for batches of one size, each made when it is first used.

    Args:
        like: Any tensor of the network's device and precision.
        n_slots, n_rows: K, B.
        sizes: (D, H, ..., C).
        dropped: Per hidden layer, whether dropout follows it.
    """

    def __init__(
        self, like: Tensor, n_slots: int, n_rows: int, sizes: Sequence[int], dropped: Sequence[bool]
    ) -> None:
        self._like, self._shape, self._sizes = like, (n_slots, n_rows), sizes
        self._dropped = dropped

    def _tensor(self, width: int) -> Tensor:
        return self._like.new_empty(*self._shape, width)

    @cached_property
    def z(self) -> list[Tensor]:
        """Per layer [K, B, out]: pre-activations, then activations."""
        return [self._tensor(width) for width in self._sizes[1:]]

    @cached_property
    def kept(self) -> list[Tensor]:
        """Per hidden layer [K, B, out]: activations after dropout."""
        return [self._tensor(width) for width in self._sizes[1:-1]]

    @cached_property
    def deltas(self) -> list[Tensor]:
        """Per hidden layer [K, B, out]: gradients by its pre-activations."""
        return [self._tensor(width) for width in self._sizes[1:-1]]

    @cached_property
    def products(self) -> dict[int, Tensor]:
        """Per layer with a single output [K, B, in]."""
        layers = enumerate(pairwise(self._sizes))
        return {layer: self._tensor(fan_in) for layer, (fan_in, out) in layers if out == 1}

    @cached_property
    def mask(self) -> Tensor:
        """[K, units]: the masks of all layers with dropout, to be computed at once."""
        widths = self._dropped_widths
        return self._like.new_empty(self._shape[0], self._shape[1] * sum(widths))

    @cached_property
    def masks(self) -> list[Tensor | None]:
        """Per hidden layer a view [K, B, out] of `mask`, or None without dropout."""
        views = iter(by_layer(self.mask, self._shape[1], self._dropped_widths))
        return [next(views) if drop else None for drop in self._dropped]

    @property
    def _dropped_widths(self) -> list[int]:
        hidden = zip(self._sizes[1:-1], self._dropped, strict=True)
        return [width for width, drop in hidden if drop]


class StackedMLP:
    """K perceptrons of one shape, each with its own weights and dropout rate.

    Shape:
        inputs [K, B, D] (or [1, B, D] expanded to K), logits [K, B, C].

    Args:
        layout: The layers' sizes.
        activation: A key of `ACTIVATIONS`, after each hidden layer.
        dropped: Per hidden layer, whether dropout follows it.
        parameters: [K, P], read.
        gradients: [K, P], of which `backward` writes the biases' part.

    Attributes:
        n_slots: K.
        kernel_gradients: Per layer [K, in, out], overwritten by `backward`. They are no views of
            `gradients`: bmm falls back to one product at a time where its result is strided as a
            layer of [K, P] is.

    Example:
        >>> layout = Layout((7, 5, 1))
        >>> flat = torch.zeros(3, layout.n_parameters)
        >>> network = StackedMLP(layout, "relu", [True], flat, torch.empty_like(flat))
        >>> network.forward(torch.ones(3, 2, 7)).shape
        torch.Size([3, 2, 1])
    """

    def __init__(
        self,
        layout: Layout,
        activation: str,
        dropped: Sequence[bool],
        parameters: Float[Tensor, "k p"],
        gradients: Float[Tensor, "k p"],
    ) -> None:
        self._activation = ACTIVATIONS[activation]
        self._sizes, self._dropped = layout.sizes, tuple(dropped)
        self.n_slots = len(parameters)
        self._parameters = parameters
        self._kernels = layout.kernels(parameters)
        self._transposed = [kernel.transpose(1, 2) for kernel in self._kernels]
        self._biases = [bias.unsqueeze(1) for bias in layout.biases(parameters)]
        self.kernel_gradients = [torch.empty_like(k).contiguous() for k in self._kernels]
        self._bias_gradients = layout.biases(gradients)
        self._workspaces: dict[int, _Workspace] = {}
        self._inputs: list[Tensor] = []
        self._masks: list[Tensor | None] = []

    def forward(
        self,
        x: Float[Tensor, "k b d"],
        noise: Float[Tensor, "k_or_1 units"] | None = None,
        rates: DropoutRates | None = None,
    ) -> Float[Tensor, "k b c"]:
        """Logits; with `noise`, dropout at the slots' rates. They live until the next call.

        Inverted dropout: a unit is kept where its noise reaches the rate, and divided by 1 - rate.
        """
        buffers = self._workspace(x.shape[1])
        self._masks = [None] * len(self._dropped)
        if noise is not None and rates is not None and any(self._dropped):
            torch.ge(noise, rates.rate, out=buffers.mask)
            buffers.mask.mul_(rates.scale)
            self._masks = buffers.masks
        self._inputs = [x]
        for layer, mask in enumerate(self._masks):
            x = self._activate(self._product(layer, x, buffers), mask, buffers, layer)
            self._inputs.append(x)
        return self._product(len(self._masks), x, buffers)

    def backward(self, delta: Float[Tensor, "k b c"]) -> None:
        """Writes `kernel_gradients` and the biases', given the loss's gradient by the logits.

        Reads the buffers of the last `forward`, which must have been of the same batch.
        """
        buffers = self._workspace(delta.shape[1])
        for layer in range(len(self._sizes) - 2, -1, -1):
            self._kernel_gradient(layer, delta, buffers)
            torch.sum(delta, dim=1, out=self._bias_gradients[layer])
            if layer > 0:
                below = buffers.deltas[layer - 1]
                multiply = torch.mul if delta.shape[2] == 1 else torch.bmm
                delta = multiply(delta, self._transposed[layer], out=below)
                mask = self._masks[layer - 1]
                if mask is not None:
                    delta.mul_(mask)
                if mask is None or self._activation.gate_ is None:
                    self._activation.backward_(delta, buffers.z[layer - 1])

    def _activate(self, z: Tensor, mask: Tensor | None, buffers: _Workspace, layer: int) -> Tensor:
        if mask is None:
            return self._activation.forward_(z)
        if self._activation.gate_ is not None:
            return z.mul_(self._activation.gate_(mask, z))
        return torch.mul(self._activation.forward_(z), mask, out=buffers.kept[layer])

    def _product(self, layer: int, x: Tensor, buffers: _Workspace) -> Tensor:
        """[K, B, out] pre-activations.

        For a single output, bmm takes as long as for a quarter of a hidden layer: a sum of
        products is eight times faster.
        """
        z = buffers.z[layer]
        if self._sizes[layer + 1] > 1:
            return torch.baddbmm(self._biases[layer], x, self._kernels[layer], out=z)
        products = torch.mul(x, self._transposed[layer], out=buffers.products[layer])
        torch.sum(products, dim=2, keepdim=True, out=z)
        return z.add_(self._biases[layer])

    def _kernel_gradient(self, layer: int, delta: Tensor, buffers: _Workspace) -> None:
        x, gradient = self._inputs[layer], self.kernel_gradients[layer]
        if delta.shape[2] > 1:
            torch.bmm(x.transpose(1, 2), delta, out=gradient)
            return
        products = torch.mul(x, delta, out=buffers.products[layer])
        torch.sum(products, dim=1, out=gradient.squeeze(2))

    def _workspace(self, n_rows: int) -> _Workspace:
        """Buffers kept for the next batch of the same size."""
        if n_rows not in self._workspaces:
            self._workspaces[n_rows] = _Workspace(
                self._parameters, len(self._parameters), n_rows, self._sizes, self._dropped
            )
        return self._workspaces[n_rows]
