"""Owns how fast a population elsewhere trains: what the next trial is given by."""

from __future__ import annotations

# Weight of the newest epoch in what an epoch is taken to last.
NEWEST = 0.3


class Pace:
    """What an epoch takes in one population, smoothed; unknown until it was measured."""

    def __init__(self) -> None:
        self._each: float | None = None
        self._delay = 0.0

    def note(self, seconds: float, n_slots: int) -> None:
        """Takes what an epoch of so many slots took."""
        if n_slots:
            before = self._each if self._each is not None else seconds / n_slots
            self._each = NEWEST * seconds / n_slots + (1 - NEWEST) * before

    def note_delay(self, seconds: float) -> None:
        """Takes how long after the others an epoch was begun."""
        self._delay = NEWEST * seconds + (1 - NEWEST) * self._delay

    def of(self, n_slots: int, usual: Pace) -> float:
        """When an epoch of so many slots would end; where unknown, a slot is as slow as usual."""
        each = next((s for s in (self._each, usual._each) if s is not None), 1.0)
        return self._delay + n_slots * each
