"""A population spread over members that get lost: the same trials, bit for bit."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config import ConfigError
from pipeline.population import crew as crews
from pipeline.population import fleet as fleets
from pipeline.population.crew import Crew, LostFleetError, LostMemberError
from pipeline.population.fleet import Fleet, train_replicates
from pipeline.population.host import Host
from pipeline.population.replicates import Rows
from pipeline.population.replicates import train_replicates as train_here
from pipeline.results import Point, StopReason, TrialResult
from pipeline.space import Hyperparameters
from tests.builders import TRIALS, assert_identical, tiny_config, tiny_splits, train_refilled

CONFIG = tiny_config({"search.population": 5})

# What becomes of a call: it is answered; its member dies before it or after it; or the member falls
# silent, and answers too late.
ANSWERED, DIES_BEFORE, DIES_AFTER, SILENT = "answered", "dies before", "dies after", "silent"
Fate = Callable[[str], str]


class Thread:
    """A member in a thread of this process."""

    def __init__(self, name: str, fate: Fate) -> None:
        self.name, self.calls, self.closed = name, deque[str](), False
        self._fate, self._host, self._worker = fate, Host(), ThreadPoolExecutor(1)
        self._dead = self._silent = False
        self._late: list[tuple[Future[Any], Future[Any]]] = []

    def call(self, method: str, *arguments: Any) -> Future[Any]:
        self.calls.append(method)
        fate = DIES_BEFORE if self._dead else self._fate(method)
        answer: Future[Any] = Future()
        if fate == DIES_BEFORE:
            self._dead = True
            answer.set_exception(LostMemberError("it died"))
            return answer
        done = self._worker.submit(getattr(self._host, method), *arguments)
        if fate == DIES_AFTER:
            self._dead = True
            done.add_done_callback(lambda _: answer.set_exception(LostMemberError("it died")))
        elif fate == SILENT or self._silent:
            self._silent = True
            self._late.append((answer, done))
        else:
            return done
        return answer

    def ping(self) -> Future[Any]:
        answer: Future[Any] = Future()
        if not self._silent:
            answer.set_result(None)
        return answer

    def close(self) -> None:
        self.closed = True
        for answer, done in self._late:  # too late
            answer.set_result(done.result())
        self._late.clear()
        self._worker.shutdown()


class Threads:
    """Members in threads, as many as there is room for."""

    def __init__(self, room: int, fate: Fate = lambda _: ANSWERED) -> None:
        self.room, self.fate = room, fate
        self.hired: list[Thread] = []
        self.closed = False

    def hire(self, n_present: int) -> Sequence[Thread]:
        new = [
            Thread(f"member {len(self.hired) + i}", self.fate) for i in range(self.room - n_present)
        ]
        self.hired += new
        return new

    def put(self, value: Any) -> Any:
        return value

    def close(self) -> None:
        self.closed = True


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    threads = torch.get_num_threads()
    monkeypatch.setattr(crews, "A_MOMENT", 0.01)
    monkeypatch.setattr(crews, "LOOK_AROUND", 0.0)
    monkeypatch.setattr(crews, "TO_START", 0.5)
    yield
    torch.set_num_threads(threads)


def crew_of(source: Threads, timeout: float = 0.2) -> Crew:
    return Crew(source, timeout=timeout)


def trained(fleet: Fleet, *, early: bool = True) -> tuple[list[TrialResult], list[list[Point]]]:
    with closing(fleet):
        return train_refilled(fleet, early=early)


def assert_as_alone(
    results: tuple[list[TrialResult], list[list[Point]]],
    alone: tuple[list[TrialResult], list[list[Point]]],
) -> None:
    assert repr(results[1]) == repr(alone[1])  # NaN included
    for result, expected in zip(results[0], alone[0], strict=True):
        assert_identical(result, expected)


@pytest.fixture(scope="module")
def alone() -> tuple[list[TrialResult], list[list[Point]]]:
    with closing(crew_of(Threads(1))) as crew:
        return trained(Fleet(CONFIG, tiny_splits(), crew), early=False)


def test_one_member_trains_what_a_population_trains(
    alone: tuple[list[TrialResult], list[list[Point]]],
) -> None:
    from tests.population.test_team import trained as by_team

    assert_as_alone(by_team(1, early=False), alone)


@pytest.mark.parametrize(("n_members", "early"), [(1, True), (2, False), (2, True), (7, True)])
def test_results_do_not_depend_on_how_many_train(
    n_members: int, early: bool, alone: tuple[list[TrialResult], list[list[Point]]]
) -> None:
    source = Threads(n_members)
    with closing(crew_of(source)) as crew:
        assert_as_alone(trained(Fleet(CONFIG, tiny_splits(), crew), early=early), alone)
        assert crew.n_lost == 0
    with_work = [member for member in source.hired if "advance" in member.calls]
    assert len(with_work) >= min(n_members, 5)
    assert source.closed
    assert all(member.closed for member in source.hired)


def nth(count: int, method: str, fate: str) -> Fate:
    """The nth call of a method meets its fate, the others are answered."""
    met = itertools.count(1)
    return lambda called: fate if called == method and next(met) == count else ANSWERED


@pytest.mark.parametrize("fate", [DIES_BEFORE, DIES_AFTER, SILENT])
@pytest.mark.parametrize(
    ("method", "count"),
    [("advance", 1), ("advance", 4), ("advance", 9), ("unload", 1), ("unload", 5)],
)
@pytest.mark.parametrize("room", [1, 2])
def test_what_a_lost_member_trained_begins_again_and_comes_out_the_same(
    room: int,
    method: str,
    count: int,
    fate: str,
    alone: tuple[list[TrialResult], list[list[Point]]],
) -> None:
    source = Threads(room, nth(count, method, fate))
    with closing(crew_of(source)) as crew:
        assert_as_alone(trained(Fleet(CONFIG, tiny_splits(), crew)), alone)
        assert crew.n_lost == 1
        # Whoever is given up is ended at once: nobody waits for it, and it holds a place.
        assert sum(member.closed for member in source.hired) == 1
    assert len(source.hired) == room + 1  # another one took its place


@settings(max_examples=8, deadline=None)
@given(lost=st.sets(st.integers(0, 40), max_size=6), room=st.integers(1, 4), fates=st.randoms())
def test_whatever_is_lost(lost: set[int], room: int, fates: Any) -> None:
    calls = itertools.count()

    def fate(method: str) -> str:
        if method in ("versions", "begin") or next(calls) not in lost:
            return ANSWERED
        return str(fates.choice([DIES_BEFORE, DIES_AFTER]))

    with closing(crew_of(Threads(1))) as crew:
        expected = trained(Fleet(CONFIG, tiny_splits(), crew), early=False)
    with closing(crew_of(Threads(room, fate))) as crew:
        assert_as_alone(trained(Fleet(CONFIG, tiny_splits(), crew)), expected)


def test_a_member_that_joins_gets_the_next_trials() -> None:
    source = Threads(1)
    with closing(crew_of(source)) as crew, closing(Fleet(CONFIG, tiny_splits(), crew)) as fleet:
        for slot in range(4):
            fleet.load(slot, TRIALS[slot])
        fleet.train_epoch()
        source.room = 2
        while len(crew.desks) < 2:  # it gets ready beside what trains
            crew.look_around()
            fleet.train_epoch()
        fleet.expect(1)
        fleet.load(4, TRIALS[4])
        fleet.train_epoch()
        assert source.hired[1].calls == deque(["versions", "begin", "advance"])


def test_one_that_comes_with_other_versions_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        Host, "versions", lambda _: {"python": "2.7.18", "torch": "0.4", "numpy": "1"}
    )
    source = Threads(2)
    with pytest.raises(ConfigError, match=r"must have the versions .*python 2\.7\.18.*member 0"):
        crew_of(source)
    assert source.closed
    assert all(member.closed for member in source.hired)


def test_nobody_comes() -> None:
    source = Threads(0)
    with pytest.raises(ConfigError, match=r"a population must start within 0\.5 s"):
        crew_of(source)
    assert source.closed


def test_nobody_is_left() -> None:
    source = Threads(2, nth(3, "advance", DIES_BEFORE))
    with closing(crew_of(source)) as crew:
        fleet = Fleet(CONFIG, tiny_splits(), crew)
        fleet.load(0, TRIALS[0])
        fleet.train_epoch()
        source.room = 0
        source.fate = lambda _: DIES_BEFORE
        for member in source.hired:
            member._dead = True
        with pytest.raises(LostFleetError, match=r"all were lost, and for 0\.2 s no other came"):
            fleet.train_epoch()


def test_a_trial_that_ends_whoever_trains_it_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleets, "MOST_LOST", 2)
    deadly = ("advance", "catch_up")
    source = Threads(1, lambda method: DIES_BEFORE if method in deadly else ANSWERED)
    with closing(crew_of(source)) as crew:
        fleet = Fleet(CONFIG, tiny_splits(), crew)
        fleet.load(0, TRIALS[1])
        with pytest.raises(LostFleetError, match=r"2 populations were lost with .*l1"):
            fleet.train_epoch()
    assert len(source.hired) == 4


def test_what_a_member_raises_is_raised_and_another_search_can_begin(
    monkeypatch: pytest.MonkeyPatch, alone: tuple[list[TrialResult], list[list[Point]]]
) -> None:
    with closing(crew_of(Threads(2))) as crew:
        fleet = Fleet(CONFIG, tiny_splits(), crew)
        for slot in range(5):
            fleet.load(slot, TRIALS[slot])
        with monkeypatch.context() as patch:
            patch.setattr(Host, "advance", lambda *_: 1 // 0)
            with pytest.raises(ZeroDivisionError):
                fleet.train_epoch()
        fleet.close()
        assert_as_alone(trained(Fleet(CONFIG, tiny_splits(), crew)), alone)


def test_a_wait_can_be_stopped() -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    with closing(crew_of(Threads(1, nth(1, "advance", SILENT)), timeout=60.0)) as crew:
        fleet = Fleet(CONFIG, tiny_splits(), crew)
        fleet.load(0, TRIALS[0])
        crew.stop_if_asked = stop
        with pytest.raises(KeyboardInterrupt):
            fleet.train_epoch()


def test_slots_are_refused_as_a_population_refuses_them() -> None:
    with closing(crew_of(Threads(1))) as crew, closing(Fleet(CONFIG, tiny_splits(), crew)) as fleet:
        fleet.load(2, TRIALS[0])
        assert fleet.free_slots == [0, 1, 3, 4]
        for slot in (2, 5, -1):
            with pytest.raises(ValueError, match="must be loaded into a free slot"):
                fleet.load(slot, TRIALS[1])
        with pytest.raises(ValueError, match="only a loaded slot can be unloaded"):
            fleet.unload(0)


def rows_of(replicate: int) -> Rows:
    splits = tiny_splits(replicate=replicate)
    return Rows(splits, (splits.x_val[:3], splits.y_val[:3]))


TODO = {number: TRIALS[: 3 + number % 2] for number in range(7)}


@pytest.mark.parametrize("fate", [DIES_BEFORE, DIES_AFTER, SILENT])
def test_replicates_that_a_lost_member_had_are_trained_again(fate: str) -> None:
    expected = {
        (each.result.replicate, each.result.hyperparameters): each
        for each in train_here(CONFIG, TODO, rows_of, n_processes=0)
    }
    source = Threads(2, nth(2, "replicates", fate))
    with closing(crew_of(source)) as crew:
        found = list(train_replicates(CONFIG, TODO, rows_of, crew))
        assert crew.n_lost == 1
    assert len(found) == len(expected)
    for each in found:
        same = expected[each.result.replicate, each.result.hyperparameters]
        assert_identical(each.result, same.result)
        assert each.preprocessing == same.preprocessing
        assert np.isfinite(each.started)


def test_replicates_that_end_whoever_trains_them_are_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fleets, "MOST_LOST", 2)
    source = Threads(1, lambda method: DIES_BEFORE if method == "replicates" else ANSWERED)
    with (
        closing(crew_of(source)) as crew,
        pytest.raises(LostFleetError, match="2 populations were lost with"),
    ):
        list(train_replicates(CONFIG, TODO, rows_of, crew))


def test_a_trial_of_no_epoch_can_be_taken_over() -> None:
    host = Host()
    host.begin(CONFIG, tiny_splits(), 1)
    points = host.catch_up({3: (TRIALS[0], 2), 4: (TRIALS[1], 0)})
    assert {slot: point.epoch for slot, point in points.items()} == {3: 2}
    points, _ = host.advance([(0, TRIALS[2]), (1, TRIALS[3])])  # more than was thought likely
    assert {slot: point.epoch for slot, point in points.items()} == {0: 1, 1: 1, 3: 3, 4: 1}
    result = host.unload([(2, Hyperparameters())], 3, StopReason.PRUNED)
    assert len(result.history) == 3
