"""Owns randomness: every draw is keyed by what it is for, never by who asks or when.

Two trials of one replicate start from the same weights, see the same rows in the same order and
drop units by the same uniform numbers: they differ by their hyperparameters alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from enum import IntEnum
from functools import cached_property, lru_cache
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

# What a table of noise may take.
TABLE_BYTES = 256 * 2**20

# What remembered row orders may take.
ORDER_BYTES = 64 * 2**20

# A replicate and one of its epochs, from 1.
Key = tuple[int, int]


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
    """Row orders and dropout noise, drawn once a replicate and epoch for all slots that are there.

    Slots at different epochs read different rows of one table. Of as many keys as the table has
    rows, the numbers are remembered; where not even those of one moment would fit into
    `TABLE_BYTES`, each step draws its own: same values, more time.

    Args:
        seed: The key's first part; the others are asked for as (replicate, epoch).
        n_rows: N, training rows.
        batch_size: B; the last batch of an epoch may be smaller.
        width: Units of all layers with dropout.
        n_keys: How many keys are worth remembering.
        dtype: Precision of training.
        device: Where training happens; numbers are drawn on the CPU, alike for every device.
    """

    def __init__(
        self,
        seed: int,
        *,
        n_rows: int,
        batch_size: int,
        width: int,
        n_keys: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self._seed = seed
        self._n_rows, self._width = n_rows, width
        self._dtype, self._device = dtype, device
        self.batches = [
            slice(start, min(start + batch_size, n_rows)) for start in range(0, n_rows, batch_size)
        ]
        row_bytes = max(1, n_rows * width * dtype.itemsize)
        # Virtual until written to: a study that stops early never pays for its late epochs.
        shape = (min(n_keys, TABLE_BYTES // row_bytes), n_rows * width)
        self._table = torch.empty(shape, dtype=dtype, device=device)
        self._drawn: dict[Key, int] = {}  # key -> row, the one that was used last at the end
        self._order = lru_cache(maxsize=max(2, ORDER_BYTES // (8 * n_rows)))(self._draw_order)

    def row_orders(self, keys: Sequence[Key]) -> list[Int[Tensor, " rows"]]:
        """Row numbers per slot; of a single one if the keys of all slots are the same."""
        return [self._order(key) for key in _distinct(keys)]

    def dropout(self, keys: Sequence[Key]) -> Callable[[int], Float[Tensor, "slots units"]]:
        """What to ask for the noise of a step (from 0) while slots have these keys.

        It answers a row per slot, or a single one if the keys of all slots are the same.
        """
        keys = _distinct(keys)
        wanted = dict.fromkeys(keys)
        if len(wanted) > len(self._table):
            return lambda step: self._draw_rows(keys, step)
        places = self._places(wanted)
        if len(keys) == 1:
            sizes = [units.stop - units.start for units in self._units]
            steps: Sequence[Tensor] = self._table[places[keys[0]]][None].split(sizes, dim=1)
            return steps.__getitem__
        rows = torch.tensor([places[key] for key in keys], device=self._device)
        return lambda step: self._table[:, self._units[step]].index_select(0, rows)

    def _places(self, wanted: Iterable[Key]) -> dict[Key, int]:
        """Where the table has the keys' numbers: those it lacks take the place of the oldest."""
        for key in wanted:  # none of these is among the oldest any more
            if key in self._drawn:
                self._drawn[key] = self._drawn.pop(key)
        for key in wanted:
            if key not in self._drawn:
                full = len(self._drawn) == len(self._table)
                row = self._drawn.pop(next(iter(self._drawn))) if full else len(self._drawn)
                for step, units in enumerate(self._units):
                    self._table[row, units] = self._draw(key, step)
                self._drawn[key] = row
        return self._drawn

    @cached_property
    def _units(self) -> list[slice]:
        """Where each step's numbers stand in an epoch's."""
        return [slice(b.start * self._width, b.stop * self._width) for b in self.batches]

    def _draw_order(self, key: Key) -> Int[Tensor, " rows"]:
        return row_order(self._seed, *key, self._n_rows).to(self._device)

    def _draw_rows(self, keys: Sequence[Key], step: int) -> Float[Tensor, "slots units"]:
        drawn = {key: self._draw(key, step) for key in dict.fromkeys(keys)}
        return torch.stack([drawn[key] for key in keys])

    def _draw(self, key: Key, step: int) -> Float[Tensor, " units"]:
        units = self._units[step]
        noise = dropout_noise(self._seed, *key, step, units.stop - units.start)
        return noise.to(self._device, self._dtype)


def _distinct(keys: Sequence[Key]) -> Sequence[Key]:
    return keys[:1] if len(set(keys)) == 1 else keys
