"""A fleet whose members answer after a drawn time instead of training: what is left is the driver.

A trial's curve is drawn when it is loaded: how many epochs it takes until it stops early, a loss
that it falls to, and how soon. Its weights are those of the network that the study describes, the
same for all.
"""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.config import StudyConfig
from pipeline.data import Splits
from pipeline.network import build_network
from pipeline.population.host import Load, versions
from pipeline.results import History, Point, StopReason, TrialResult
from pipeline.space import Hyperparameters

# Epochs of an undisturbed trial, and how much later its last one is than its best.
FEWEST, MOST, PATIENCE = 10, 50, 5

# How far an epoch's time strays: the standard deviation of its logarithm.
STRAY = 0.2


class Clock:
    """One thread that answers when it is time."""

    def __init__(self) -> None:
        self._due: list[tuple[float, int, Future[Any], Any]] = []
        self._changed = threading.Condition()
        self._count = itertools.count()
        threading.Thread(target=self._run, daemon=True).start()

    def answer(self, seconds: float, answer: Any) -> Future[Any]:
        """A future that has the answer in so many seconds; at once where that is none."""
        future: Future[Any] = Future()
        if seconds <= 0:
            future.set_result(answer)
            return future
        with self._changed:
            due = time.monotonic() + seconds
            heapq.heappush(self._due, (due, next(self._count), future, answer))
            self._changed.notify()
        return future

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._due or self._due[0][0] > time.monotonic():
                    wait = self._due[0][0] - time.monotonic() if self._due else None
                    self._changed.wait(wait)
                _, _, future, answer = heapq.heappop(self._due)
            future.set_result(answer)


@dataclass
class _Drawn:
    """A trial that does as if it trained."""

    hyperparameters: Hyperparameters
    val_loss: NDArray[np.float64]
    n_epochs: int = 0

    def point(self) -> Point:
        self.n_epochs += 1
        stops = StopReason.EARLY_STOPPING if self.n_epochs == len(self.val_loss) else None
        loss = float(self.val_loss[self.n_epochs - 1])
        return Point(self.n_epochs, 0.9 * loss, loss, 0.8, 0.75, stops)


@dataclass
class SimulatedMember:
    """See `crew.Member`."""

    source: SimulatedSource
    name: str
    trials: dict[int, _Drawn] = field(default_factory=dict)

    def call(self, method: str, *arguments: Any) -> Future[Any]:
        """Answers what a `Host` would, in its time."""
        start = time.perf_counter()
        answer, seconds = getattr(self, f"_{method}")(*arguments)
        self.source.seconds += time.perf_counter() - start
        return self.source.clock.answer(seconds, answer)

    def ping(self) -> Future[Any]:
        """It lives."""
        return self.source.clock.answer(0.0, None)

    def close(self) -> None:
        """Nothing is held."""

    def _versions(self) -> tuple[dict[str, str], float]:
        return self.source.versions, 0.0

    def _begin(self, *_: Any) -> tuple[None, float]:
        return None, 0.0

    def _advance(self, loads: Sequence[Load]) -> tuple[tuple[dict[int, Point], float], float]:
        self._load(loads)
        seconds = self.source.draw_seconds()
        training = {s: t for s, t in self.trials.items() if t.n_epochs < len(t.val_loss)}
        return ({slot: trial.point() for slot, trial in training.items()}, seconds), seconds

    def _unload(
        self, loads: Sequence[Load], slot: int, stop_reason: StopReason
    ) -> tuple[TrialResult, float]:
        self._load(loads)
        trial = self.trials.pop(slot)
        stopped = trial.n_epochs == len(trial.val_loss)
        return self.source.result(trial, None if stopped else stop_reason), 0.0

    def _load(self, loads: Sequence[Load]) -> None:
        for slot, hyperparameters in loads:
            self.trials[slot] = _Drawn(hyperparameters, self.source.draw_curve())


class SimulatedSource:
    """See `crew.Source`.

    Args:
        config: The study.
        splits: Its rows.
        n_members: How many there are.
        epoch_seconds: The median of what an epoch takes; 0: no time passes but the driver's own.

    Attributes:
        seconds: What this process spent on the simulation itself.
        n_epochs: How many members' epochs it was asked for.
    """

    def __init__(
        self, config: StudyConfig, splits: Splits, n_members: int, epoch_seconds: float
    ) -> None:
        self.clock, self.versions = Clock(), versions()
        self.seconds, self.n_epochs = 0.0, 0
        self._n_members, self._epoch_seconds = n_members, epoch_seconds
        self._random = np.random.default_rng(config.seed)
        network = build_network(config.model, splits.n_features, splits.n_outputs)
        self._weights: Mapping[str, NDArray[np.floating]] = {
            name: tensor.numpy() for name, tensor in network.state_dict().items()
        }

    def hire(self, n_present: int) -> Sequence[SimulatedMember]:
        """All at once."""
        names = range(n_present + 1, self._n_members + 1)
        return [SimulatedMember(self, f"population {number}") for number in names]

    def put(self, value: Any) -> Any:
        """There is but one machine."""
        return value

    def close(self) -> None:
        """Nothing is held."""

    def draw_seconds(self) -> float:
        """Of one epoch."""
        self.n_epochs += 1
        return self._epoch_seconds * float(self._random.lognormal(0.0, STRAY))

    def draw_curve(self) -> NDArray[np.float64]:
        """Validation losses up to where it stops early: a fall, noise, and no fall any more."""
        n_epochs = int(self._random.integers(FEWEST, MOST + 1))
        floor, pace = self._random.uniform(0.3, 0.6), self._random.uniform(3.0, 10.0)
        epochs = np.minimum(np.arange(n_epochs), n_epochs - PATIENCE)
        return floor + np.exp(-epochs / pace) + self._random.uniform(0.0, 0.01, n_epochs)

    def result(self, trial: _Drawn, stop_reason: StopReason | None) -> TrialResult:
        """What a trial leaves behind; None: it has stopped early."""
        loss = trial.val_loss[: trial.n_epochs]
        scores = np.full_like(loss, 0.75)
        return TrialResult(
            trial.hyperparameters,
            0,
            History(0.9 * loss, loss, scores, scores),
            int(np.argmin(loss)) + 1,
            stop_reason or StopReason.EARLY_STOPPING,
            self._weights,
        )


def timed_calls(owner: Any, names: Sequence[str], seconds: dict[str, float], into: str) -> None:
    """Adds what calls of some of an object's methods take to `seconds[into]`."""
    seconds.setdefault(into, 0.0)

    def timed(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            start = time.perf_counter()
            try:
                return method(*arguments)
            finally:
                seconds[into] += time.perf_counter() - start

        return call

    for name in names:
        setattr(owner, name, timed(getattr(owner, name)))
