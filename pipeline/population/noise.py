"""Owns randomness: every draw is keyed by what it is for, never by who asks or when.

Two trials of one replicate start from the same weights, see the same rows in the same order and
drop units by the same uniform numbers: they differ by their hyperparameters alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import IntEnum
from functools import cached_property, lru_cache
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

# What the tables of one replicate may take before they are drawn again at each step instead.
TABLE_BYTES = 256 * 2**20

# What remembered row orders may take.
ORDER_BYTES = 64 * 2**20


class Purpose(IntEnum):
    """What a stream of random numbers is for: part of its key."""

    INITIALIZATION = 0
    ROW_ORDER = 1
    DROPOUT = 2


def generator(purpose: Purpose, seed: int, replicate: int, *when: int) -> np.random.Generator:
    """The stream of one key; equal keys give equal streams on every machine.

    Streams are told apart by NumPy's SeedSequence, whose hash keeps neighbouring keys independent.
    """
    key = np.random.SeedSequence((int(purpose), seed, replicate, *when))
    return np.random.Generator(np.random.SFC64(key))


def initial_parameters(
    seed: int, replicate: int, sizes: tuple[int, ...]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Kernels [in, out] and biases [out], layer by layer, as `torch.nn.Linear` draws them.

    Uniform on [-1/sqrt(in), 1/sqrt(in)]; float64, to be rounded to the precision of training.
    """
    draw = generator(Purpose.INITIALIZATION, seed, replicate)
    layers = []
    for fan_in, fan_out in pairwise(sizes):
        bound = fan_in**-0.5
        kernel = draw.uniform(-bound, bound, (fan_in, fan_out))
        layers.append((kernel, draw.uniform(-bound, bound, fan_out)))
    return layers


def row_order(seed: int, replicate: int, epoch: int, n_rows: int) -> Int[Tensor, " rows"]:
    """The order in which one epoch visits the training rows."""
    order = generator(Purpose.ROW_ORDER, seed, replicate, epoch).permutation(n_rows)
    return torch.from_numpy(order)


def dropout_noise(
    seed: int, replicate: int, epoch: int, step: int, n_units: int
) -> Float[Tensor, " units"]:
    """Uniform numbers in [0, 1) for one batch: a unit is kept where its number reaches its rate.

    `n_units` counts rows times the width of all layers with dropout: `by_layer` parts them.
    """
    draw = generator(Purpose.DROPOUT, seed, replicate, epoch, step)
    return torch.from_numpy(draw.random(n_units, dtype=np.float32))


def by_layer(
    flat: Float[Tensor, "slots units"], n_rows: int, widths: Sequence[int]
) -> list[Float[Tensor, "slots rows _"]]:
    """A batch's units as one view a layer with dropout, [rows, width] each, the first layer first.

    Layers lie one after another, not side by side, so that a view of one is contiguous in a slot.
    """
    parts = flat.split([n_rows * width for width in widths], dim=1)
    return [part.unflatten(1, (n_rows, width)) for part, width in zip(parts, widths, strict=True)]


class NoiseTables:
    """The row orders and dropout noise of one replicate, drawn once an epoch for all slots.

    Slots at different epochs read different rows of one table. Where the table of a whole training
    would take more than `TABLE_BYTES`, each step draws its own numbers: same values, more time.

    Args:
        seed, replicate: The key's first part.
        n_rows: N, training rows.
        batch_size: B; the last batch of an epoch may be smaller.
        width: Units of all layers with dropout.
        max_epochs: Epochs a trial may last.
        dtype: Precision of training.
        device: Where training happens; numbers are drawn on the CPU, alike for every device.
    """

    def __init__(
        self,
        seed: int,
        replicate: int,
        *,
        n_rows: int,
        batch_size: int,
        width: int,
        max_epochs: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self._seed, self._replicate = seed, replicate
        self._n_rows, self._width = n_rows, width
        self._dtype, self._device = dtype, device
        self.batches = [
            slice(start, min(start + batch_size, n_rows)) for start in range(0, n_rows, batch_size)
        ]
        fits = max_epochs * n_rows * width * dtype.itemsize <= TABLE_BYTES
        # Virtual until written to: a study that stops early never pays for its late epochs.
        shape = (max_epochs, n_rows * width)
        self._table = torch.empty(shape, dtype=dtype, device=device) if fits else None
        self._drawn: set[int] = set()
        self._order = lru_cache(maxsize=max(2, ORDER_BYTES // (8 * n_rows)))(self._draw_order)

    def row_orders(self, epochs: list[int]) -> list[Int[Tensor, " rows"]]:
        """Row numbers per slot; of a single one if all slots are at the same epoch."""
        return [self._order(epoch) for epoch in self._distinct(epochs)]

    def dropout(self, epochs: list[int]) -> Callable[[int], Float[Tensor, "slots units"]]:
        """What to ask for the noise of a step (from 0) while slots are at these epochs.

        It answers a row per slot, or a single one if all are at the same epoch.
        """
        epochs = self._distinct(epochs)
        table = self._table
        if table is None:
            return lambda step: self._draw_rows(epochs, step)
        for epoch in set(epochs) - self._drawn:
            for step, units in enumerate(self._units):
                table[epoch - 1, units] = self._draw(epoch, step)
            self._drawn.add(epoch)
        if len(epochs) == 1:
            sizes = [units.stop - units.start for units in self._units]
            steps: Sequence[Tensor] = table[epochs[0] - 1][None].split(sizes, dim=1)
            return steps.__getitem__
        rows = torch.tensor(epochs, device=self._device) - 1
        return lambda step: table[:, self._units[step]].index_select(0, rows)

    @cached_property
    def _units(self) -> list[slice]:
        """Where each step's numbers stand in an epoch's."""
        return [slice(b.start * self._width, b.stop * self._width) for b in self.batches]

    @staticmethod
    def _distinct(epochs: list[int]) -> list[int]:
        return epochs[:1] if len(set(epochs)) == 1 else epochs

    def _draw_order(self, epoch: int) -> Int[Tensor, " rows"]:
        order = row_order(self._seed, self._replicate, epoch, self._n_rows)
        return order.to(self._device)

    def _draw_rows(self, epochs: list[int], step: int) -> Float[Tensor, "slots units"]:
        drawn = {epoch: self._draw(epoch, step) for epoch in dict.fromkeys(epochs)}
        return torch.stack([drawn[epoch] for epoch in epochs])

    def _draw(self, epoch: int, step: int) -> Float[Tensor, " units"]:
        units = self._units[step]
        noise = dropout_noise(self._seed, self._replicate, epoch, step, units.stop - units.start)
        return noise.to(self._device, self._dtype)
