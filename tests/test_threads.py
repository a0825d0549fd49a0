"""How many threads train: what was faster when it was tried, and one beside a busy process."""

from __future__ import annotations

import pytest
import torch

from pipeline.threads import LOOK_AGAIN, ThreadChoice, thread_choice


def epochs(choice: ThreadChoice, costs: dict[int, float], n: int, busy: bool = False) -> list[int]:
    """The choices of some epochs on a machine where a slot costs so much."""
    chosen = []
    for _ in range(n):
        chosen.append(choice.next(busy))
        choice.note(chosen[-1], costs[chosen[-1]])
    return chosen


@pytest.mark.parametrize("costs", [{1: 2.0, 2: 1.0}, {1: 1.0, 2: 16.0}], ids=["quiet", "shared"])
def test_the_faster_setting_is_kept_and_the_other_looked_at_now_and_then(
    costs: dict[int, float],
) -> None:
    chosen = epochs(ThreadChoice([1, 2], cores=2), costs, 2 + 2 * LOOK_AGAIN)
    faster = min(costs, key=costs.__getitem__)
    assert sorted(chosen[:2]) == [1, 2]
    assert chosen[2:].count(faster) == 2 * LOOK_AGAIN - 2
    assert set(chosen[2:]) == {1, 2}


def test_a_machine_that_changes_is_noticed() -> None:
    choice = ThreadChoice([1, 2], cores=2)
    assert epochs(choice, {1: 2.0, 2: 1.0}, 40)[-1] == 2
    assert epochs(choice, {1: 2.0, 2: 30.0}, 40)[-1] == 1


def test_beside_a_busy_process_there_is_one_thread() -> None:
    assert set(epochs(ThreadChoice([1, 2], cores=2), {1: 2.0, 2: 1.0}, 20, busy=True)) == {1}


def test_where_cores_are_left_the_writer_is_in_nobodys_way() -> None:
    choice = ThreadChoice([1, 3, 4], cores=4)
    assert set(epochs(choice, {1: 4.0, 3: 2.0, 4: 1.0}, 40, busy=True)) == {1, 3}
    idle = epochs(choice, {1: 4.0, 3: 2.0, 4: 1.0}, 2 + 4 * LOOK_AGAIN)
    assert idle[-1] == 4
    assert set(idle) == {1, 3, 4}
    assert ThreadChoice([4], cores=2).next(busy=True) == 4  # the user's own number


@pytest.mark.parametrize("fixed", [None, "3"])
def test_torchs_setting_is_put_back_and_the_users_kept(
    fixed: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = torch.get_num_threads()
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if fixed is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", fixed)
    torch.set_num_threads(3)
    try:
        with thread_choice() as choice, choice.applied(2, busy=True):
            assert torch.get_num_threads() == (2 if fixed is None else 3)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
