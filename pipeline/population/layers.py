"""Owns K multilayer perceptrons as stacked tensors: forward and backward, written by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

aten = torch.ops.aten

# Elements of the widest vector registers in single precision.
VECTOR = 16


@dataclass(frozen=True)
class Activation:
    """An activation whose derivative is a function of its output.

    Attributes:
        forward_: Replaces pre-activations by activations, in place.
        backward_: (gradient, output): multiplies the gradient by the derivative, in place.
    """

    forward_: Callable[[Tensor], Tensor]
    backward_: Callable[[Tensor, Tensor], Tensor]


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


ACTIVATIONS = {
    "relu": Activation(
        torch.relu_, lambda g, out: aten.threshold_backward.grad_input(g, out, 0.0, grad_input=g)
    ),
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
        flat = parameters[None]
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
        self._dropped = tuple(dropped)
        self._kernels = layout.kernels(parameters)
        self._transposed = [kernel.transpose(1, 2) for kernel in self._kernels]
        self._biases = [bias.unsqueeze(1) for bias in layout.biases(parameters)]
        self.kernel_gradients = [torch.empty_like(k).contiguous() for k in self._kernels]
        self._bias_gradients = layout.biases(gradients)
        self._widths = layout.sizes[1:]
        self._buffers: dict[tuple[str, int, int], Tensor] = {}
        self._inputs: list[Tensor] = []
        self._outputs: list[Tensor] = []
        self._masks: list[Tensor | None] = []

    def forward(
        self,
        x: Float[Tensor, "k b d"],
        noise: Float[Tensor, "k_or_1 b width"] | None = None,
        rate: Float[Tensor, "k 1 1"] | None = None,
    ) -> Float[Tensor, "k b c"]:
        """Logits; with `noise`, dropout at the slots' rates. They live until the next call.

        Inverted dropout: a unit is kept where its noise reaches the rate, and divided by 1 - rate.
        """
        self._inputs, self._outputs, self._masks = [], [], []
        column = 0
        scale: Tensor | float = 1.0 if rate is None else 1 / (1 - rate)
        for layer, width in enumerate(self._widths):
            self._inputs.append(x)
            z = self._product(layer, x)
            if layer == len(self._dropped):
                return z
            x = self._activation.forward_(z)
            self._outputs.append(x)
            mask = None
            if noise is not None and rate is not None and self._dropped[layer]:
                mask = self._buffer("mask", layer, x)
                torch.ge(noise[:, :, column : column + width], rate, out=mask)
                mask.mul_(scale)
                column += width
                x = torch.mul(x, mask, out=self._buffer("kept", layer, x))
            self._masks.append(mask)
        raise AssertionError("a network has an output layer")

    def backward(self, delta: Float[Tensor, "k b c"]) -> None:
        """Writes `kernel_gradients` and the biases', given the loss's gradient by the logits.

        Reads the buffers of the last `forward`, which must have been of the same batch.
        """
        for layer in range(len(self._widths) - 1, -1, -1):
            self._kernel_gradient(layer, delta)
            torch.sum(delta, dim=1, out=self._bias_gradients[layer])
            if layer > 0:
                below = self._buffer("delta", layer - 1, delta)
                multiply = torch.mul if self._widths[layer] == 1 else torch.bmm
                delta = multiply(delta, self._transposed[layer], out=below)
                mask = self._masks[layer - 1]
                if mask is not None:
                    delta.mul_(mask)
                self._activation.backward_(delta, self._outputs[layer - 1])

    def _product(self, layer: int, x: Tensor) -> Tensor:
        """[K, B, out] pre-activations.

        For a single output, bmm takes as long as for a quarter of a hidden layer: a sum of
        products is eight times faster.
        """
        z = self._buffer("z", layer, x)
        if self._widths[layer] > 1:
            return torch.baddbmm(self._biases[layer], x, self._kernels[layer], out=z)
        products = torch.mul(x, self._transposed[layer], out=self._buffer("products", layer, x, x))
        torch.sum(products, dim=2, keepdim=True, out=z)
        return z.add_(self._biases[layer])

    def _kernel_gradient(self, layer: int, delta: Tensor) -> None:
        x, gradient = self._inputs[layer], self.kernel_gradients[layer]
        if self._widths[layer] > 1:
            torch.bmm(x.transpose(1, 2), delta, out=gradient)
            return
        products = torch.mul(x, delta, out=self._buffer("products", layer, x, x))
        torch.sum(products, dim=1, out=gradient.squeeze(2))

    def _buffer(self, use: str, layer: int, like: Tensor, shaped: Tensor | None = None) -> Tensor:
        """[K, B, width of layer] or shaped as asked, kept for the next batch of the same size."""
        key = (use, layer, like.shape[1])
        if key not in self._buffers:
            shape = (self._kernels[layer].shape[0], like.shape[1], self._widths[layer])
            self._buffers[key] = like.new_empty(shape if shaped is None else shaped.shape)
        return self._buffers[key]
