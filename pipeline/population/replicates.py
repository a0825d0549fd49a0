"""Owns the training of some trials on many replicates, all in one population.

Nothing that comes out depends on what else is trained, or where: so each process takes the next
replicate when it has room, and its slots are filled with all trials of a replicate at once. They
are at the same epoch then, and share its rows, its order and its noise.
"""

from __future__ import annotations

import itertools
import math
import multiprocessing
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, NamedTuple

import torch

from pipeline.config import StudyConfig
from pipeline.data import Matrix, Splits
from pipeline.population.forked import ForkedProcess, usual_processes
from pipeline.population.trainer import PopulationTrainer, device_of
from pipeline.results import TrialResult
from pipeline.space import Hyperparameters

if TYPE_CHECKING:
    from multiprocessing.sharedctypes import Synchronized


class Rows(NamedTuple):
    """A replicate's rows.

    Attributes:
        splits: Training and validation rows.
        test: Features and target of the test rows.
    """

    splits: Splits
    test: tuple[Matrix, Matrix]


class Trained(NamedTuple):
    """A trial that ended on a replicate.

    Attributes:
        result: What it left behind; `result.replicate` says which.
        preprocessing: The replicate's, as JSON.
        started: When its training began, in milliseconds since 1970.
    """

    result: TrialResult
    preprocessing: str
    started: int


RowsOf = Callable[[int], Rows]

# What is to be trained: trials by replicate.
Todo = Mapping[int, Sequence[Hyperparameters]]

# Slots of a process: enough for the matrix products, few enough for the cache.
SLOTS = 128

# What the rows of replicates that train at the same time may take in a process.
ROWS_BYTES = 2**29


def sharing_slots(trials: Sequence[Hyperparameters]) -> list[tuple[Hyperparameters, ...]]:
    """Trials that differ by patience alone together, the most patient one first."""
    groups: dict[Hyperparameters, list[Hyperparameters]] = defaultdict(list)
    for trial in dict.fromkeys(trials):
        groups[replace(trial, patience="off")].append(trial)
    return [tuple(sorted(group, key=_patience, reverse=True)) for group in groups.values()]


def train_replicates(
    config: StudyConfig,
    todo: Todo,
    rows_of: RowsOf,
    *,
    n_slots: int | None = None,
    n_processes: int | None = None,
    while_waiting: Callable[[], None] | None = None,
) -> Iterator[Trained]:
    """Trains trials on replicates; results come as they end, in no order to rely on.

    Args:
        config: The study.
        todo: What is to be trained.
        rows_of: Makes a replicate's rows; called in the processes that train.
        n_slots: How many train at a time in a process, however many trials there are. None: as many
            as are fast, and all trials of a replicate at least.
        n_processes: How many train beside this one, which then waits; 0: this one trains itself.
            None: as many as there are cores for.
        while_waiting: Called a few times a second, and after each epoch where this process trains;
            may raise.

    Raises:
        ConfigError: A replicate cannot be trained on.
    """
    while_waiting = while_waiting or _nothing
    if n_slots is not None:
        for part in _in_parts(todo, n_slots):
            yield from _train_part(config, part, rows_of, n_slots, n_processes, while_waiting)
        return
    yield from _train_part(config, todo, rows_of, SLOTS, n_processes, while_waiting)


def _in_parts(todo: Todo, n_slots: int) -> Iterator[Todo]:
    """What is to be trained in parts of no more slots to a replicate than there are."""
    groups = {number: sharing_slots(trials) for number, trials in todo.items()}
    for start in range(0, max(map(len, groups.values()), default=0), n_slots):
        part = {number: of[start : start + n_slots] for number, of in groups.items()}
        yield {number: list(itertools.chain(*some)) for number, some in part.items() if some}


def _train_part(
    config: StudyConfig,
    todo: Todo,
    rows_of: RowsOf,
    n_slots: int,
    n_processes: int | None,
    while_waiting: Callable[[], None],
) -> Iterator[Trained]:
    n_processes = _usual_processes(config, len(todo)) if n_processes is None else n_processes
    if n_processes == 0 or not todo:
        yield from _train(config, todo, rows_of, n_slots, iter(todo), while_waiting)
        return
    n_taken = multiprocessing.get_context("fork").Value("i", 0)
    threads = torch.get_num_threads()
    with ExitStack() as stack:
        stack.callback(torch.set_num_threads, threads)
        torch.set_num_threads(1)  # what is forked keeps it
        processes = {}
        for _ in range(n_processes):
            process = stack.enter_context(
                closing(ForkedProcess(_serve, config, todo, rows_of, n_slots, n_taken))
            )
            processes[process.connection] = process
        while processes:
            while_waiting()
            for connection in wait(list(processes), timeout=0.2):
                assert isinstance(connection, Connection)
                try:
                    answer = connection.recv()
                except (EOFError, OSError) as error:
                    raise processes[connection].lost() from error
                if isinstance(answer, Exception):
                    raise answer
                if answer is None:
                    del processes[connection]
                else:
                    yield answer


def _usual_processes(config: StudyConfig, n_replicates: int) -> int:
    if device_of(config.training.device).type != "cpu":
        return 0  # a forked process has no GPU
    usual = min(usual_processes(), n_replicates)
    return usual if usual > 1 else 0


def _serve(
    connection: Connection,
    config: StudyConfig,
    todo: Todo,
    rows_of: RowsOf,
    n_slots: int,
    n_taken: Synchronized[int],
) -> None:
    """The far end: sends results, an error, or None at the end."""
    with suppress(OSError):  # the near end is gone
        try:
            for result in _train(
                config, todo, rows_of, n_slots, _next_ones(todo, n_taken), _nothing
            ):
                connection.send(result)
        except Exception as error:  # noqa: BLE001  # raised again at the near end
            connection.send(error)
        else:
            connection.send(None)


def _next_ones(todo: Todo, n_taken: Synchronized[int]) -> Iterator[int]:
    """Replicates that no process has taken yet."""
    numbers = list(todo)
    while True:
        with n_taken.get_lock():
            place = n_taken.value
            n_taken.value += 1
        if place >= len(numbers):
            return
        yield numbers[place]


def _train(
    config: StudyConfig,
    todo: Todo,
    rows_of: RowsOf,
    n_slots: int,
    numbers: Iterator[int],
    after_epoch: Callable[[], None],
) -> Iterator[Trained]:
    """In this process: replicates that are alike in one population, after it the others."""
    while (first := next(numbers, None)) is not None:
        others: list[int] = []
        alike = itertools.chain([first], numbers)
        yield from _train_alike(config, todo, rows_of, n_slots, alike, others, after_epoch)
        numbers = iter(others)


def _train_alike(
    config: StudyConfig,
    todo: Todo,
    rows_of: RowsOf,
    n_slots: int,
    numbers: Iterator[int],
    others: list[int],
    after_epoch: Callable[[], None],
) -> Iterator[Trained]:
    """Trains replicates that have as many rows and features as the first; notes the others."""
    groups = {number: sharing_slots(trials) for number, trials in todo.items()}
    most = max(map(len, groups.values()))
    trainer: PopulationTrainer | None = None
    running: dict[int, int] = {}  # slot -> replicate
    begun: dict[int, tuple[str, int]] = {}  # replicate -> its preprocessing, when it began
    n_seats, shape = 1, (0, 0)
    while True:
        while trainer is None or (
            len(trainer.free_slots) >= most and len(set(running.values())) < n_seats
        ):
            number = next(numbers, None)
            if number is None:
                break
            rows = rows_of(number)
            splits = rows.splits
            if trainer is None:
                shape, n_slots = splits.x_train.shape, max(1, n_slots // most) * most
                n_seats = min(n_slots, max(1, ROWS_BYTES // _bytes_of(rows)))
                trainer = PopulationTrainer(config, splits, n_slots=n_slots, n_replicates=n_seats)
            if splits.x_train.shape != shape:
                others.append(number)
                continue
            trainer.admit(splits, rows.test)
            begun[number] = splits.preprocessing.to_json(), int(time.time() * 1000)
            for slot, group in zip(trainer.free_slots, groups[number], strict=False):
                trainer.load(slot, group[0], replicate=number, shorter=group[1:])
                running[slot] = number
        if trainer is None or not running:
            return
        points = trainer.train_epoch()
        after_epoch()
        for slot, point in points.items():
            if point.stop_reason is not None:
                number = running.pop(slot)
                for result in trainer.unload_all(slot):
                    yield Trained(result, *begun[number])


def _bytes_of(rows: Rows) -> int:
    """What a replicate's rows take; those of training stand in a second place, too."""
    arrays = (rows.splits.x_train, rows.splits.x_train, rows.splits.x_val, *rows.test)
    return sum(array.nbytes for array in arrays)


def _patience(trial: Hyperparameters) -> float:
    return math.inf if trial.patience == "off" else float(trial.patience)


def _nothing() -> None:
    pass
