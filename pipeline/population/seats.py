"""Owns the rows that slots train on: one seat a replicate, all seats in one piece of memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from pipeline.config import StudyConfig
from pipeline.data import Matrix, Splits
from pipeline.population.layers import Layout
from pipeline.population.losses import class_weights, row_weights
from pipeline.population.noise import initial_parameters
from pipeline.scores import chosen_score

# Steps whose row numbers are looked up at a time.
STACKED_STEPS = 64


class Part(NamedTuple):
    """Rows of one split.

    Attributes:
        x: [N, D].
        y: [N].
    """

    x: Float[Tensor, "n d"]
    y: Float[Tensor, " n"]


class Batch(NamedTuple):
    """What slots train on in one step; one row of slots where it is the same for all.

    Attributes:
        x: [K, B, D], or [1, B, D].
        y: [K, B], or [1, B].
        weights: Likewise what a row's loss is multiplied by, None where all count alike.
    """

    x: Float[Tensor, "k_or_1 b d"]
    y: Float[Tensor, "k_or_1 b"]
    weights: Float[Tensor, "k_or_1 b"] | None


@dataclass(frozen=True, eq=False)
class Seat:
    """What the slots of one replicate share.

    Attributes:
        first: Where its training rows begin among those of all seats.
        splits: The replicate.
        train, val: Its rows.
        test: Its test rows, None in a search, which must not see them.
        initial: [P] what every slot starts from.
        class_weights: [classes] what a row's loss is multiplied by, None where all count alike.
    """

    first: int
    splits: Splits
    train: Part
    val: Part
    test: Part | None
    initial: Float[Tensor, " p"]
    class_weights: Float[Tensor, " classes"] | None


class Seats:
    """The replicates that slots train on at a time.

    Args:
        config: The study.
        splits: One of them: the others must have as many rows and features.
        layout: The network's layers.
        n_seats: How many replicates there may be at a time.
        dtype: Precision of training.
        device: Where training happens.
    """

    def __init__(
        self,
        config: StudyConfig,
        splits: Splits,
        layout: Layout,
        *,
        n_seats: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self._config, self._layout = config, layout
        self._dtype, self._device = dtype, device
        self._shape, self._n_seats = splits.x_train.shape, n_seats
        self._seats: dict[int, Seat] = {}
        # A lone seat needs no memory but the splits' own.
        self._stacked: Part | None = None
        if n_seats > 1:
            n_rows = n_seats * len(splits.x_train)
            empty = torch.empty(n_rows, splits.n_features, dtype=dtype, device=device)
            self._stacked = Part(empty, empty.new_empty(n_rows))
        self._weights: Tensor | None = None
        if config.training.class_weight != "none":
            count = n_seats * len(splits.x_train)
            self._weights = torch.ones(count, dtype=dtype, device=device)

    def __getitem__(self, replicate: int) -> Seat:
        """A replicate that was admitted."""
        return self._seats[replicate]

    def __contains__(self, replicate: int) -> bool:
        """Whether it was admitted."""
        return replicate in self._seats

    def admit(self, splits: Splits, test: tuple[Matrix, Matrix] | None, in_use: set[int]) -> Seat:
        """Gives a replicate a seat: a free one, or one whose replicate is not in use.

        Raises:
            ValueError: All seats are in use, the replicate is, or it is not like the others.
            ConfigError: It has not the scores or weights that the study asks for.
        """
        if splits.x_train.shape != self._shape:
            raise ValueError(
                "replicates that train together must have as many rows and features, "
                f"however: {splits.x_train.shape} and {self._shape}"
            )
        if splits.replicate in in_use:
            raise ValueError(f"a replicate must not be in use, however: {splits.replicate}")
        chosen_score(self._config.data, splits)
        weights = class_weights(self._config.training, splits)
        self._seats.pop(splits.replicate, None)
        first = self._free_place(in_use) * self._shape[0]
        train = self._part(splits.x_train, splits.y_train)
        if self._stacked is not None:
            place = slice(first, first + self._shape[0])
            self._stacked.x[place], self._stacked.y[place] = train
            train = Part(self._stacked.x[place], self._stacked.y[place])
        seat = Seat(
            first=first,
            splits=splits,
            train=train,
            val=self._part(splits.x_val, splits.y_val),
            test=None if test is None else self._part(*test),
            initial=self._initial(splits.replicate),
            class_weights=None if weights is None else train.x.new_tensor(weights),
        )
        if seat.class_weights is not None and self._weights is not None:
            rows = slice(first, first + self._shape[0])
            self._weights[rows] = row_weights(seat.class_weights, train.y[None])[0]
        self._seats[splits.replicate] = seat
        return seat

    def batches(
        self, replicates: Sequence[int], orders: Sequence[Tensor], batch_size: int
    ) -> Iterator[Batch]:
        """The batches of an epoch.

        Row numbers are stacked for some steps at a time, as K times N of them would outgrow the
        data.

        Args:
            replicates: Per slot, or a single one if `orders` is the same for all.
            orders: [N] row numbers within the split, likewise.
            batch_size: B; the last batch may be smaller.
        """
        x, y = self._stacked or next(iter(self._seats.values())).train
        firsts = x.new_tensor([self._seats[n].first for n in replicates], dtype=torch.int64)
        for start in range(0, self._shape[0], STACKED_STEPS * batch_size):
            part = slice(start, start + STACKED_STEPS * batch_size)
            stacked = torch.stack([order[part] for order in orders]).add_(firsts[:, None])
            targets = y.take(stacked).split(batch_size, 1)
            weights = None if self._weights is None else self._weights.take(stacked)
            weighed = [None] * len(targets) if weights is None else weights.split(batch_size, 1)
            for rows, target, weight in zip(
                stacked.split(batch_size, 1), targets, weighed, strict=True
            ):
                inputs = x.index_select(0, rows.flatten()).view(*rows.shape, -1)
                yield Batch(inputs, target, weight)

    def _free_place(self, in_use: set[int]) -> int:
        for replicate in self._seats.keys() - in_use:
            if len(self._seats) == self._n_seats:
                del self._seats[replicate]
        taken = {seat.first // self._shape[0] for seat in self._seats.values()}
        free = [place for place in range(self._n_seats) if place not in taken]
        if not free:
            raise ValueError(f"a replicate must have a seat, however: all {len(taken)} are in use")
        return free[0]

    def _part(self, x: Matrix, y: Matrix) -> Part:
        # On the CPU, in single precision, this is the splits' own memory: no copy is made.
        return Part(*(torch.from_numpy(a).to(self._device, self._dtype) for a in (x, y)))

    def _initial(self, replicate: int) -> Tensor:
        flat = torch.zeros(1, self._layout.n_parameters, dtype=self._dtype, device=self._device)
        drawn = initial_parameters(self._config.seed, replicate, self._layout.sizes)
        views = zip(self._layout.kernels(flat), self._layout.biases(flat), strict=True)
        for (kernel_view, bias_view), (kernel, bias) in zip(views, drawn, strict=True):
            kernel_view[0] = torch.from_numpy(kernel)
            bias_view[0] = torch.from_numpy(bias)
        return flat[0]
