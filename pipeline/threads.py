"""Owns how many threads train: as many as are of use, which is measured and not assumed.

A trial's bits do not depend on the number of threads, so the choice may rest on the clock.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch

# Small products do not use more.
MOST = 4

# Epochs between two looks at a setting that was slower when last tried.
LOOK_AGAIN = 16

# Weight of the newest epoch in a setting's smoothed cost.
NEWEST = 0.3


class ThreadChoice:
    """One thread or more, whichever trains a slot in the least time here and now.

    Threads wait for each other at every product: on a core that something else uses, too, two are
    slower than one, several times over.

    Args:
        counts: Numbers of threads to choose from.
        cores: How many there are; one of them is the writer's while it is busy.
    """

    def __init__(self, counts: Iterable[int], cores: int) -> None:
        self._counts, self._cores = sorted(set(counts)), cores
        self._costs: dict[int, float] = {}
        self._epochs = 0

    def next(self, busy: bool) -> int:
        """Threads for the next epoch, in which the writer is busy or not."""
        fitting = [count for count in self._counts if count + busy <= self._cores]
        fitting = fitting or self._counts[:1]
        untried = [count for count in fitting if count not in self._costs]
        if untried:
            return untried[-1]
        self._epochs += 1
        best, *others = sorted(fitting, key=self._costs.__getitem__)
        look_again, turn = self._epochs % LOOK_AGAIN == 0, self._epochs // LOOK_AGAIN
        return others[turn % len(others)] if others and look_again else best

    def note(self, count: int, cost: float) -> None:
        """Takes what an epoch cost with so many threads, in seconds a slot."""
        before = self._costs.get(count, cost)
        self._costs[count] = NEWEST * cost + (1 - NEWEST) * before

    @contextmanager
    def applied(self, n_slots: int, busy: bool) -> Iterator[None]:
        """Trains the block's epoch with the chosen number, and measures it."""
        count = self.next(busy)
        torch.set_num_threads(count)
        start = time.perf_counter()
        yield
        if not busy:
            self.note(count, (time.perf_counter() - start) / n_slots)


@contextmanager
def thread_choice() -> Iterator[ThreadChoice]:
    """A choice for one study; torch's setting is put back after it.

    Where OMP_NUM_THREADS says how many, it is those.
    """
    before = torch.get_num_threads()
    if "OMP_NUM_THREADS" in os.environ:
        choice = ThreadChoice([before], before)
    else:
        choice = ThreadChoice({1, max(1, min(MOST, before - 1)), min(MOST, before)}, before)
    try:
        yield choice
    finally:
        torch.set_num_threads(before)
