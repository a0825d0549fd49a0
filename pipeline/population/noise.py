"""Owns randomness: every draw is keyed by what it is for, never by who asks or when.

Two trials of one replicate start from the same weights, see the same rows in the same order and
drop units by the same uniform numbers: they differ by their hyperparameters alone.
"""

from __future__ import annotations

from enum import IntEnum
from functools import lru_cache
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

# What the tables of one replicate may take before they are drawn again at each step instead.
TABLE_BYTES = 256 * 2**20


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
    seed: int, replicate: int, epoch: int, step: int, n_rows: int, width: int
) -> Float[Tensor, "rows width"]:
    """Uniform numbers in [0, 1) for one batch: a unit is kept where its number reaches its rate.

    `width` counts the units of all layers with dropout, the first layer's first.
    """
    draw = generator(Purpose.DROPOUT, seed, replicate, epoch, step)
    return torch.from_numpy(draw.random((n_rows, width), dtype=np.float32))


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
    ) -> None:
        self._seed, self._replicate = seed, replicate
        self._n_rows, self._batch_size, self._width = n_rows, batch_size, width
        self._dtype = dtype
        self.batches = [
            slice(start, min(start + batch_size, n_rows)) for start in range(0, n_rows, batch_size)
        ]
        fits = max_epochs * n_rows * width * dtype.itemsize <= TABLE_BYTES
        # Virtual until written to: a study that stops early never pays for its late epochs.
        self._table = torch.empty(max_epochs, n_rows, width, dtype=dtype) if fits else None
        self._drawn: set[int] = set()
        self._order = lru_cache(maxsize=max(2, TABLE_BYTES // (16 * n_rows)))(self._draw_order)

    def row_orders(self, epochs: list[int]) -> Int[Tensor, "slots rows"]:
        """Row numbers per slot; a single row if all slots are at the same epoch."""
        if len(set(epochs)) == 1:
            return self._order(epochs[0])[None]
        return torch.stack([self._order(epoch) for epoch in epochs])

    def dropout(self, epochs: list[int], step: int) -> Float[Tensor, "slots batch width"]:
        """Noise of step `step` (from 0) per slot; a single one if all are at the same epoch."""
        if len(set(epochs)) == 1:
            epochs = epochs[:1]
        if self._table is None:
            drawn = {epoch: self._draw(epoch, step) for epoch in dict.fromkeys(epochs)}
            return torch.stack([drawn[epoch] for epoch in epochs])
        for epoch in dict.fromkeys(epochs):
            if epoch not in self._drawn:
                for number, rows in enumerate(self.batches):
                    self._table[epoch - 1, rows] = self._draw(epoch, number)
                self._drawn.add(epoch)
        if len(epochs) == 1:
            return self._table[epochs[0] - 1, self.batches[step]][None]
        return self._table[:, self.batches[step]].index_select(0, torch.tensor(epochs) - 1)

    def _draw_order(self, epoch: int) -> Int[Tensor, " rows"]:
        return row_order(self._seed, self._replicate, epoch, self._n_rows)

    def _draw(self, epoch: int, step: int) -> Float[Tensor, "batch width"]:
        rows = self.batches[step]
        noise = dropout_noise(
            self._seed, self._replicate, epoch, step, rows.stop - rows.start, self._width
        )
        return noise.to(self._dtype)
