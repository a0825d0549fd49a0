"""Owns how many threads train: as many as are of use, which is measured and not assumed.

A trial's bits do not depend on the number of threads, so the choice may rest on the clock.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

# Small products do not use more.
MOST = 4

# Epochs between two looks at the setting that was slower when last tried.
LOOK_AGAIN = 16

# Weight of the newest epoch in a setting's smoothed cost.
NEWEST = 0.3


class ThreadChoice:
    """One thread or many, whichever trains a slot in less time here and now.

    Threads wait for each other at every product: on a core that something else uses, too, two are
    slower than one, several times over.

    Args:
        counts: What to choose from, one or two numbers.
    """

    def __init__(self, *counts: int) -> None:
        self._counts = sorted(set(counts))
        self._costs: dict[int, float] = {}
        self._epochs = 0

    def next(self, busy: bool) -> int:
        """Threads for the next epoch; the fewest while another process is known to be busy."""
        if busy or len(self._counts) == 1:
            return self._counts[0]
        untried = [count for count in self._counts if count not in self._costs]
        if untried:
            return untried[-1]
        self._epochs += 1
        slower, faster = sorted(self._counts, key=self._costs.__getitem__, reverse=True)
        return slower if self._epochs % LOOK_AGAIN == 0 else faster

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
    counts = (before,) if "OMP_NUM_THREADS" in os.environ else (1, min(MOST, before))
    try:
        yield ThreadChoice(*counts)
    finally:
        torch.set_num_threads(before)
