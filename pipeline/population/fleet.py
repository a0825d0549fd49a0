"""Owns a population spread over members that may be lost, behind `PopulationTrainer`'s interface.

All members train one epoch, then the study looks at all points: it cannot tell a fleet from one
population. Where a slot trains is nobody's business, because a trial's bits do not depend on its
neighbours. So what a lost member had in training begins again in another one, catches up with the
others, and is the same to the last bit.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from pipeline.config import StudyConfig
from pipeline.data import Splits
from pipeline.population.crew import Crew, Desk, LostFleetError
from pipeline.population.pace import Pace
from pipeline.population.replicates import SLOTS, RowsOf, Todo, Trained
from pipeline.population.slots import Slots
from pipeline.results import Point, StopReason, TrialResult
from pipeline.space import Hyperparameters

# A member gets its replicates in so many parts, unless they would be too few to be fast together.
PARTS_EACH, FEWEST_SLOTS = 4, 16

# Of so many members that trained it, all were lost: it is the trial's own doing.
MOST_LOST = 5


@dataclass
class _Slot:
    """A trial, where it trains, and how far the study has seen it train."""

    hyperparameters: Hyperparameters
    desk: Desk
    n_epochs: int = 0
    stopped: bool = False
    n_lost: int = 0


class Fleet:
    """Trains up to K trials at the same time, in the members of a crew.

    Args:
        config: The study; its `search.population` is K.
        splits: Training and validation rows, the same for all slots.
        crew: Who trains.

    Attributes:
        n_slots: K.

    Raises:
        ConfigError: A member has not the device that the study asks for.
    """

    def __init__(self, config: StudyConfig, splits: Splits, crew: Crew) -> None:
        self.n_slots = config.search.population
        self._crew = crew
        self._slots: Slots[_Slot] = Slots(self.n_slots)
        self._planned: deque[Desk] = deque()  # who trains what is loaded next
        self._usual = Pace()
        self._beginning = config, crew.put(splits)
        crew.welcome = self._welcome
        crew.ensure()
        self._welcome(*crew.desks)

    @property
    def free_slots(self) -> list[int]:
        """Slots without a trial, in order."""
        return self._slots.free

    def expect(self, n_loads: int) -> None:
        """Says how many trials are loaded before the next epoch: others can begin theirs."""
        if n_loads:
            self._crew.look_around()
        self._plan(n_loads)
        self._begin(desk for desk in self._training() if desk not in self._planned)

    def load(self, slot: int, hyperparameters: Hyperparameters) -> None:
        """Puts a trial into a free slot; it trains from the next epoch on.

        Raises:
            ValueError: The slot does not exist or holds a trial.
        """
        self._slots.require_free(slot)
        if not self._planned:
            self._plan(1)
        desk = self._planned.popleft()
        desk.loads.append((slot, hyperparameters))
        self._slots[slot] = _Slot(hyperparameters, desk)

    def begin_epoch(self) -> None:
        """Has the members begin their epoch, while this process may have something else to do."""
        self._begin(self._training())

    def train_epoch(self) -> dict[int, Point]:
        """Advances every slot that trains by one epoch and measures it.

        Returns:
            A point per slot, by number. A slot whose point carries a stop reason trains no further.
        """
        self.begin_epoch()
        begun = {desk: desk.advance for desk in self._training() if desk.advance is not None}
        points: dict[int, Point] = {}
        for desk, answer in self._crew.answers(begun):
            desk.advance = None
            if answer is not None:
                new, seconds = answer
                desk.pace.note(seconds, len(new))
                self._usual.note(seconds, len(new))
                points |= new
        training = [slot for slot, trial in self._slots.items() if not trial.stopped]
        missing = {slot: self._slots[slot].n_epochs + 1 for slot in training if slot not in points}
        points |= self._caught_up(missing)
        for slot, point in points.items():
            self._slots[slot].n_epochs = point.epoch
            self._slots[slot].stopped = point.stop_reason is not None
        return dict(sorted(points.items()))

    def unload(self, slot: int, stop_reason: StopReason = StopReason.PRUNED) -> TrialResult:
        """Empties a slot.

        Args:
            slot: The slot.
            stop_reason: Why, where the trainer itself has not stopped the trial before.

        Raises:
            ValueError: The slot holds no trial.
        """
        self._slots.require_loaded(slot)
        trial = self._slots[slot]
        while True:
            desk = trial.desk
            if desk in self._crew.desks:
                asked = {desk: desk.member.call("unload", desk.loads, slot, stop_reason)}
                desk.loads = []
                ((_, result),) = self._crew.answers(asked)
                if result is not None:
                    del self._slots[slot]
                    unloaded: TrialResult = result
                    return unloaded
            self._caught_up({slot: trial.n_epochs})

    def close(self) -> None:
        """Ends what was in training; the members stay."""
        self._slots.clear()
        self._crew.welcome = None

    def _welcome(self, *desks: Desk) -> None:
        """Has members begin with this search, all at once."""
        config, splits = self._beginning
        share = math.ceil(self.n_slots / max(1, len(self._crew.desks)))
        n_likely = min(self.n_slots, 2 * share)  # an uneven share needs more, and one after a loss
        for desk in desks:
            desk.reset()
        begun = {desk: desk.member.call("begin", config, splits, n_likely) for desk in desks}
        for _ in self._crew.answers(begun):
            pass

    def _caught_up(self, missing: dict[int, int]) -> dict[int, Point]:
        """Has trials of lost members train again; the last point of each.

        Args:
            missing: By slot, how many epochs it is to have trained.
        """
        points: dict[int, Point] = {}
        while missing:
            self._crew.ensure()
            shares: dict[Desk, dict[int, tuple[Hyperparameters, int]]] = {}
            self._plan(len(missing))
            for slot, n_epochs in missing.items():
                trial = self._slots[slot]
                trial.n_lost += 1
                if trial.n_lost > MOST_LOST:
                    raise LostFleetError(
                        f"a trial must not end what trains it, however: {MOST_LOST} populations "
                        f"were lost with {trial.hyperparameters}; --resume continues the study"
                    )
                trial.desk = self._planned.popleft()
                shares.setdefault(trial.desk, {})[slot] = (trial.hyperparameters, n_epochs)
            asked = {desk: desk.member.call("catch_up", share) for desk, share in shares.items()}
            for desk, answer in self._crew.answers(asked):
                if answer is not None:
                    points |= answer
                    missing = {slot: n for slot, n in missing.items() if slot not in shares[desk]}
        return points

    def _begin(self, desks: Iterator[Desk] | Sequence[Desk]) -> None:
        for desk in desks:
            if desk.advance is None:
                desk.advance = desk.member.call("advance", desk.loads)
                desk.loads = []

    def _plan(self, n_loads: int) -> None:
        """Gives the next trials to those who would be done first with one more."""
        self._crew.ensure()
        counts = Counter(trial.desk for trial in self._slots.values())
        present = [desk for desk in self._crew.desks if desk.advance is None] or self._crew.desks
        for _ in range(n_loads):
            desk = min(present, key=lambda desk: desk.pace.of(counts[desk] + 1, self._usual))
            counts[desk] += 1
            self._planned.append(desk)

    def _training(self) -> list[Desk]:
        """Those who have something to train, each once, in order."""
        desks = dict.fromkeys(trial.desk for trial in self._slots.values())
        return [desk for desk in desks if desk in self._crew.desks]


def train_replicates(
    config: StudyConfig,
    todo: Todo,
    rows_of: RowsOf,
    crew: Crew,
    *,
    n_slots: int | None = None,
) -> Iterator[Trained]:
    """Trains trials on replicates in the members of a crew; what a lost one had begins again.

    Args:
        config: The study.
        todo: Trials by replicate.
        rows_of: Makes a replicate's rows; called where it trains, so it must be picklable.
        crew: Who trains.
        n_slots: How many train at a time in a member; None: as many as are fast.
    """
    rows = crew.put(rows_of)
    left = deque(_parts(todo, len(crew.desks)))
    lost: Counter[int] = Counter()
    asked: dict[Desk, Future[Any]] = {}
    parts: dict[Desk, Todo] = {}
    while left or asked:
        crew.ensure()
        crew.look_around()
        for desk in crew.desks:
            if left and desk not in asked:
                part = parts[desk] = left.popleft()
                asked[desk] = desk.member.call("replicates", config, part, rows, n_slots)
        for desk, answer in crew.answers(asked):
            del asked[desk]
            if answer is None:
                part = parts[desk]
                lost.update(part.keys())  # of a mapping, its values would be added
                if max(lost[number] for number in part) > MOST_LOST:
                    raise LostFleetError(
                        f"replicates must not end what trains them, however: {MOST_LOST} "
                        f"populations were lost with {sorted(part)}"
                    )
                left.append(part)
            else:
                yield from answer
            break  # whoever is done, and whoever has joined, gets the next part


def _parts(todo: Todo, n_members: int) -> list[Todo]:
    """Replicates that train together: several parts for each member, and for who joins."""
    numbers = list(todo)
    widest = max(1, *(len(trials) for trials in todo.values())) if todo else 1
    even = math.ceil(len(numbers) / (PARTS_EACH * max(1, n_members)))
    size = max(1, min(SLOTS // widest, max(even, FEWEST_SLOTS // widest)))
    return [
        {number: todo[number] for number in numbers[start : start + size]}
        for start in range(0, len(numbers), size)
    ]
