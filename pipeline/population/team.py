"""Owns a population spread over processes, behind the interface of `PopulationTrainer`.

Every process trains its share of the slots on one thread. Threads of one process would meet at each
of an epoch's thousand small operations, and wait there for each other: on cores that something else
uses, too, for milliseconds. Processes meet once an epoch.

Which process a slot trains in is nobody's business: a trial's bits do not depend on its neighbours,
so the choice may rest on the clock.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

import torch

from pipeline.config import StudyConfig
from pipeline.data import Splits
from pipeline.population.forked import ForkedProcess, usual_processes
from pipeline.population.pace import Pace
from pipeline.population.slots import Slots
from pipeline.population.trainer import PopulationTrainer
from pipeline.results import Point, StopReason, TrialResult
from pipeline.space import Hyperparameters

# Fewer slots to a process are not worth another one.
FEWEST_SLOTS = 4

# Small products have no use for more threads.
MOST_THREADS = 4


class PopulationTeam:
    """Trains up to K trials at the same time in one process or more.

    `close` must be called: until then torch has one thread here, or a few where there is no other
    process and there are cores to spare.

    Args:
        config: The study; its `search.population` is K.
        splits: Training and validation rows, the same for all slots.
        n_processes: How many train, this one included; None: as many as there are cores for.

    Attributes:
        n_slots: K.
        threads_before: What torch's number of threads was, and will be.

    Raises:
        ConfigError: The study asks for a device that is not there.
    """

    def __init__(
        self, config: StudyConfig, splits: Splits, *, n_processes: int | None = None
    ) -> None:
        self.n_slots = config.search.population
        self._here = PopulationTrainer(config, splits)
        # By slot, who trains it; None: this process.
        self._seats: Slots[_Helper | None] = Slots(self.n_slots)
        self._planned: deque[_Helper | None] = deque()  # who trains what is loaded next
        self._pace = Pace()
        self._begun_at: float | None = None  # when others began the epoch that is not over
        if n_processes is None:
            n_processes = _usual_processes(self.n_slots) if self._here.on_cpu else 1
        self.threads_before = torch.get_num_threads()
        torch.set_num_threads(1 if n_processes > 1 else _threads_alone(self.threads_before))
        self._helpers = [_Helper(config, splits) for _ in range(n_processes - 1)]

    @property
    def free_slots(self) -> list[int]:
        """Slots without a trial, in order."""
        return self._seats.free

    def load(self, slot: int, hyperparameters: Hyperparameters) -> None:
        """Puts a trial into a free slot; it trains from the next epoch on.

        Raises:
            ValueError: The slot does not exist or holds a trial.
        """
        self._seats.require_free(slot)
        if not self._planned:
            self._plan(1)
        seat = self._seats[slot] = self._planned.popleft()
        if seat is None:
            self._here.load(slot, hyperparameters)
        else:
            seat.loads.append((slot, hyperparameters))

    def expect(self, n_loads: int) -> None:
        """Says how many trials are loaded before the next epoch.

        Processes that are to get none of them begin their epoch: they need not wait until it is
        known what is loaded.
        """
        self._plan(n_loads)
        self._begin(self._training() - set(self._planned))

    def begin_epoch(self) -> None:
        """Has the other processes begin their epoch, while this one may have something else to do.

        Nothing can be loaded or unloaded until `train_epoch` has ended it.
        """
        self._begin(self._training())

    def train_epoch(self) -> dict[int, Point]:
        """Advances every slot that trains by one epoch and measures it.

        Returns:
            A point per slot, by number. A slot whose point carries a stop reason trains no further.
        """
        self.begin_epoch()
        start = time.perf_counter()
        points = self._here.train_epoch()
        if self._begun_at is not None:
            self._pace.note_delay(start - self._begun_at)
            self._begun_at = None
        self._pace.note(time.perf_counter() - start, len(points))
        for helper in self._training():
            points |= helper.end_epoch()
        return dict(sorted(points.items()))

    def unload(self, slot: int, stop_reason: StopReason = StopReason.PRUNED) -> TrialResult:
        """Empties a slot.

        Args:
            slot: The slot.
            stop_reason: Why, where the trainer itself has not stopped the trial before.

        Raises:
            ValueError: The slot holds no trial.
        """
        self._seats.require_loaded(slot)
        helper = self._seats.pop(slot)
        if helper is None:
            return self._here.unload(slot, stop_reason)
        return helper.unload(slot, stop_reason)

    def close(self) -> None:
        """Ends the other processes, and gives the memory back; what was in training is lost."""
        for helper in self._helpers:
            helper.close()
        self._helpers.clear()
        self._seats.clear()
        del self._here
        torch.set_num_threads(self.threads_before)

    def _begin(self, helpers: set[_Helper]) -> None:
        if helpers and self._begun_at is None:
            self._begun_at = time.perf_counter()
        for helper in helpers:
            helper.begin_epoch()

    def _plan(self, n_loads: int) -> None:
        """Gives the next trials to those who would be done first with one more."""
        counts = Counter(self._seats.values())
        present = [None, *(helper for helper in self._helpers if not helper.begun)]
        for _ in range(n_loads):
            paces = {seat: (seat.pace if seat else self._pace) for seat in present}
            seat = min(present, key=lambda seat: paces[seat].of(counts[seat] + 1, self._pace))
            counts[seat] += 1
            self._planned.append(seat)

    def _training(self) -> set[_Helper]:
        return {helper for helper in self._seats.values() if helper is not None}


class _Helper:
    """Another process with a trainer, of which this is the near end."""

    def __init__(self, config: StudyConfig, splits: Splits) -> None:
        self._forked = ForkedProcess(_serve, config, splits)
        self._connection = self._forked.connection
        self.begun = False
        self.pace = Pace()
        self.loads: list[tuple[int, Hyperparameters]] = []

    def begin_epoch(self) -> None:
        """Has it load what is waiting for it and train an epoch, unless it does so already."""
        if not self.begun:
            self._ask(_train_epoch, self.loads)
            self.loads, self.begun = [], True

    def end_epoch(self) -> dict[int, Point]:
        """The points of the epoch that was begun."""
        points: dict[int, Point]
        points, seconds = self._answer()
        self.begun = False
        self.pace.note(seconds, len(points))
        return points

    def unload(self, slot: int, stop_reason: StopReason) -> TrialResult:
        """Empties a slot; one that was given a trial since the last epoch, too."""
        self._ask(_unload, self.loads, slot, stop_reason)
        self.loads = []
        result: TrialResult = self._answer()
        return result

    def close(self) -> None:
        """Ends the process, whatever it is at."""
        self._forked.close()

    def _ask(self, call: Callable[..., Any], *arguments: Any) -> None:
        try:
            self._connection.send((call, arguments))
        except OSError as error:
            raise self._forked.lost() from error

    def _answer(self) -> Any:
        try:
            answer = self._connection.recv()
        except (EOFError, OSError) as error:
            raise self._forked.lost() from error
        if isinstance(answer, Exception):
            raise answer
        return answer


def _usual_processes(n_slots: int) -> int:
    return max(1, min(usual_processes(), n_slots // FEWEST_SLOTS))


def _threads_alone(cores: int) -> int:
    # One is the writer's: two threads beside a busy process are far slower than one.
    return max(1, min(cores - 1, MOST_THREADS))


def _serve(connection: Connection, config: StudyConfig, splits: Splits) -> None:
    """The far end: answers calls until the near end is gone."""
    trainer: PopulationTrainer | None = None
    with suppress(EOFError, OSError):
        while True:
            call, arguments = connection.recv()
            try:
                trainer = trainer or PopulationTrainer(config, splits)
                answer = call(trainer, *arguments)
            except Exception as error:  # noqa: BLE001  # raised again at the near end
                answer = error
            connection.send(answer)


def _train_epoch(
    trainer: PopulationTrainer, loads: list[tuple[int, Hyperparameters]]
) -> tuple[dict[int, Point], float]:
    start = time.perf_counter()
    for slot, hyperparameters in loads:
        trainer.load(slot, hyperparameters)
    return trainer.train_epoch(), time.perf_counter() - start


def _unload(
    trainer: PopulationTrainer,
    loads: list[tuple[int, Hyperparameters]],
    slot: int,
    stop_reason: StopReason,
) -> TrialResult:
    for loaded, hyperparameters in loads:
        trainer.load(loaded, hyperparameters)
    return trainer.unload(slot, stop_reason)
