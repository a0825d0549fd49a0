"""Owns the K places of a population: which are free, and what stands in the others."""

from __future__ import annotations

from typing import TypeVar

Held = TypeVar("Held")


class Slots(dict[int, Held]):
    """What stands in each slot that holds a trial.

    Args:
        n_slots: K.
    """

    def __init__(self, n_slots: int) -> None:
        super().__init__()
        self._n_slots = n_slots

    @property
    def free(self) -> list[int]:
        """Slots without a trial, in order."""
        return [slot for slot in range(self._n_slots) if slot not in self]

    def require_free(self, slot: int) -> None:
        """Raises ValueError where a slot does not exist or holds a trial."""
        if slot not in range(self._n_slots) or slot in self:
            raise ValueError(f"a trial must be loaded into a free slot, however: {slot}")

    def require_loaded(self, slot: int) -> None:
        """Raises ValueError where a slot holds no trial."""
        if slot not in self:
            raise ValueError(f"only a loaded slot can be unloaded, however: {slot}")
