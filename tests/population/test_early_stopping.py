"""Early stopping of K slots at once decides as a scalar loop with a counter would."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.population import early_stopping

NAN, INF = math.nan, math.inf


def scalar(losses: list[float], patience: int | None, min_delta: float) -> tuple[int, int | None]:
    """Best epoch (0: none) and the epoch that stopped it (None: it went on), by waiting."""
    best, best_epoch, waited = INF, 0, 0
    for epoch, loss in enumerate(losses, start=1):
        if best - loss > min_delta or (best == INF and loss < INF):
            best, best_epoch, waited = loss, epoch, 0
        else:
            waited += 1
        if patience is not None and waited >= patience:
            return best_epoch, epoch
    return best_epoch, None


def stacked(
    curves: list[list[float]], patience: list[int | None], min_delta: float
) -> list[tuple[int, int | None]]:
    """The same of K curves of one length; a slot's decisions count until it stops."""
    state = early_stopping.init(len(curves))
    for slot, own in enumerate(patience):
        state.patience[slot] = early_stopping.NEVER if own is None else own
    decided: list[tuple[int, int | None]] = [(0, None)] * len(curves)
    for epoch, losses in enumerate(zip(*curves, strict=True), start=1):
        epochs = np.full(len(curves), epoch)
        before = state.best_epoch.copy()
        state, improved, stopped = early_stopping.update(
            state, np.array(losses, dtype=np.float64), epochs, min_delta
        )
        assert (state.best_epoch == np.where(improved, epoch, before)).all()
        for slot in range(len(curves)):
            if decided[slot][1] is None:
                best = int(state.best_epoch[slot])
                decided[slot] = (best, epoch if stopped[slot] else None)
    return decided


# Few values, so that ties and steps of exactly min_delta are frequent; all are exact in binary.
loss = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 2.0, NAN, INF])
patiences = st.one_of(st.none(), st.integers(1, 5))


@settings(max_examples=300)
@given(data=st.data(), n_slots=st.integers(1, 5), length=st.integers(1, 13))
def test_decides_as_the_scalar_version(data: st.DataObject, n_slots: int, length: int) -> None:
    curve = st.lists(loss, min_size=length, max_size=length)
    curves = data.draw(st.lists(curve, min_size=n_slots, max_size=n_slots))
    patience = data.draw(st.lists(patiences, min_size=n_slots, max_size=n_slots))
    min_delta = data.draw(st.sampled_from([0.0, 0.25, 0.5]))
    assert stacked(curves, patience, min_delta) == [
        scalar(own, limit, min_delta) for own, limit in zip(curves, patience, strict=True)
    ]


@pytest.mark.parametrize(
    ("losses", "patience", "min_delta", "expected"),
    [
        ([3, 2, 1], 1, 0, (3, None)),
        ([3, 3, 3], 2, 0, (1, 3)),  # a tie is no improvement: the first of equals is kept
        ([3, 2, 2, 1], 2, 0, (4, None)),
        ([3, 2, 2, 2], 2, 0, (2, 4)),
        ([3, 4, 2, 4, 4], 2, 0, (3, 5)),
        ([3, 2.5, 2.0], 5, 1.0, (1, None)),  # exactly min_delta is not larger than it
        ([3, 2.5, 1.9], 5, 1.0, (3, None)),  # measured from the best, not from the last
        ([NAN, NAN, 1], 2, 0, (0, 2)),
        ([NAN, 1, NAN, NAN], 2, 0, (2, 4)),
        ([1, NAN, 0.5], 2, 0, (3, None)),
        ([INF, 1, 2], 2, 0, (2, None)),
        ([1, 2, 3, 4, 5, 6, 7], None, 0, (1, None)),
        ([NAN] * 7, None, 0, (0, None)),
        ([1], 1, 0, (1, None)),
    ],
)
def test_decides(
    losses: list[float], patience: int | None, min_delta: float, expected: tuple[int, int | None]
) -> None:
    assert scalar(losses, patience, min_delta) == expected
    assert stacked([losses], [patience], float(min_delta)) == [expected]


def test_each_slot_counts_its_own_epochs() -> None:
    state = early_stopping.init(3)
    state.patience[:] = 2
    loss = np.array([1.0, 1.0, 1.0])
    state, improved, _ = early_stopping.update(state, loss, np.array([1, 1, 7]), 0.0)
    assert improved.all()
    _, improved, stopped = early_stopping.update(state, loss, np.array([2, 3, 8]), 0.0)
    assert not improved.any()
    assert stopped.tolist() == [False, True, False]


def test_update_leaves_the_old_state_as_it_was() -> None:
    state = early_stopping.init(2)
    early_stopping.update(state, np.array([1.0, 2.0]), np.array([1, 1]), 0.0)
    assert state.best_loss.tolist() == [INF, INF]
    assert state.best_epoch.tolist() == [0, 0]
