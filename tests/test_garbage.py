"""Garbage is looked for, but not while a program imports, and not among what it imported."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from pipeline.garbage import uncollected


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    gc.unfreeze()


def test_what_is_made_meanwhile_is_left_alone_then_and_later() -> None:
    before = gc.get_freeze_count()
    with uncollected():
        assert not gc.isenabled()
        made = [[] for _ in range(1000)]
    assert gc.isenabled()
    assert gc.get_freeze_count() >= before + len(made)


def test_after_an_error_it_is_looked_for_again() -> None:
    with pytest.raises(ImportError), uncollected():
        raise ImportError
    assert gc.isenabled()
