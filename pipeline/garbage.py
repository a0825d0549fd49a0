"""Owns when garbage is looked for: not while a program imports what is there to stay."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """For imports and the like: what is made meanwhile is never looked through, then or later."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
