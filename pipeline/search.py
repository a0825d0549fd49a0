"""Owns the search: the loop in which trials are asked for, trained, judged and told.

In outline:

    while trials are running or the budget is not spent:
        fill the free slots:  trial = sampling.ask(); trainer.load(slot, trial)
        points = trainer.train_epoch()                     # every slot advances one epoch
        for each running trial:
            note its point; if it stopped early, ended, diverged or is pruned:
                result = trainer.unload(slot)
                recorder.log(trial, result); sampling.tell(trial, result)
        once a run stands in MLflow: sampling.record(trial)   # track before tell

A search that is taken up again begins anew, and plays back what had ended: see `replay`.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.config import StudyConfig
from pipeline.confirm.course import confirm
from pipeline.confirm.runs import finalist_runs
from pipeline.contents import (
    FinishedTrial,
    logged,
    trial_record,
)
from pipeline.data import Table
from pipeline.engine import Engine, Population
from pipeline.failures import (
    Suspect,
    in_training,
    refuse_failures,
)
from pipeline.pruning import Pruner, make_pruner
from pipeline.recorder import Recorder
from pipeline.records import Confirmation, TrialRecord
from pipeline.replay import Replay
from pipeline.results import Point, StopReason, TrialResult, TrialState
from pipeline.sampling import Sampling
from pipeline.space import Hyperparameters
from pipeline.tracking import Opened
from pipeline.tracking.client import milliseconds
from pipeline.weights import weights_file

# Runs that may wait for the tracking store before training waits for it too, in populations.
BACKLOG = 4

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Progress:
    """How far a study is, told after every epoch of the population.

    Attributes:
        n_trials: To be searched.
        complete, pruned, failed, running: How many of them are.
        best: Number and validation loss of the best one.
        confirmed: In confirmation: how many trainings have ended, of how many.
    """

    n_trials: int
    complete: int
    pruned: int
    failed: int
    running: int
    best: tuple[int, float] | None
    confirmed: tuple[int, int] | None = None

    @property
    def done(self) -> int:
        """Trials that ended."""
        return self.complete + self.pruned + self.failed


@dataclass(frozen=True)
class _Running:
    number: int
    hyperparameters: Hyperparameters
    started: int


@dataclass
class Search:
    """The loop's state: who runs in which slot, and who has ended but is not in the journal yet.

    A trial that ended is in `ended` until it is handed to the recorder, then in `written` until its
    run is finished and the journal knows.
    """

    config: StudyConfig
    sampling: Sampling
    trainer: Population
    engine: Engine
    recorder: Recorder
    on_progress: Callable[[Progress], None] | None

    running: dict[int, _Running] = field(default_factory=dict)
    reached: dict[int, int] = field(default_factory=dict)  # slot -> epochs of its trial
    ended: deque[FinishedTrial] = field(default_factory=deque)
    written: deque[tuple[FinishedTrial, Future[str]]] = field(default_factory=deque)
    records: list[TrialRecord] = field(default_factory=list)
    before: dict[int, TrialRecord] = field(default_factory=dict)
    replay: Replay = field(default_factory=Replay)
    counts: dict[TrialState, int] = field(default_factory=lambda: dict.fromkeys(TrialState, 0))
    best: tuple[int, float] | None = None
    confirmed_before: Confirmation | None = None
    seconds: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        search = self.config.search
        self.pruner: Pruner = make_pruner(
            search.pruner, search.pruner_warmup, max_epochs=self.config.training.max_epochs
        )
        self.unregularized = self.config.search_space.unregularized()
        self.n_trials = search.n_trials

    def run(self) -> None:
        """The main path."""
        while self.running or self._n_unasked:
            with self.timed("ask"):
                self._fill_free_slots()
            points = self.replay.pass_epoch()
            if len(points) < len(self.running):
                points = dict(sorted({**points, **self._train_epoch()}.items()))
            self.reached |= {slot: point.epoch for slot, point in points.items()}
            for slot in self._stopped(points):
                self._end(slot, points[slot].stop_reason or StopReason.PRUNED)
            self._show_progress()
            self.engine.stop_if_asked()
        self._hand_over()
        # While the last runs are written, what concludes the study is imported.
        import pipeline.report  # noqa: F401

        self.settle(wait_for_all=True)

    def _train_epoch(self) -> dict[int, Point]:
        with in_training():
            self.trainer.begin_epoch()
        # While other processes train: what can be done without them.
        if self.recorder.look() or len(self.ended) > self._backlog:
            self._hand_over()
            self.settle()
        with self.timed("train"), in_training():
            return self.trainer.train_epoch()

    def suspects(self) -> list[Suspect]:
        """Who was in training when it raised, and by which epoch each would have done so."""
        return [
            Suspect(each.number, each.hyperparameters, self.reached.get(slot, 0) + 1, each.started)
            for slot, each in self.running.items()
            if slot not in self.replay
        ]

    def confirm(self, table: Table, replicates: Sequence[int]) -> Confirmation | None:
        """Trains the finalists on fresh replicates."""

        def show(trained: int, of: int) -> None:
            self._show_progress((trained, of))

        started = milliseconds()
        confirmation = confirm(
            self.config,
            table,
            self.records,
            replicates,
            self.engine,
            self.recorder,
            before=self.confirmed_before,
            on_trained=show,
        )
        if confirmation is not None:
            runs = finalist_runs(confirmation, self.config.has_dropout, started, milliseconds())
            self.recorder.wait(self.recorder.log_runs(runs))
        return confirmation

    def settle(self, wait_for_all: bool = False) -> None:
        """Tells the journal of trials whose runs are finished, in the order of their ends."""
        most = 0 if wait_for_all else self._backlog
        while self.written and (self.written[0][1].done() or len(self.written) > most):
            trial, written = self.written[0]
            with self.timed("track"):
                run_id = self.recorder.wait(written)
            with self.timed("tell"):
                self.written.popleft()
                self.sampling.record(trial.number, trial.result, run_id)
            self.records.append(trial_record(trial, run_id))

    def _hand_over(self) -> None:
        """Gives trials that ended to the recorder; the journal is there before any run is."""
        self._begin_journal(self.recorder.opened())
        with self.timed("track"):
            while self.ended:
                trial = self.ended.popleft()
                self.written.append((trial, self.recorder.log(trial, weights_file(trial.result))))

    def close(self, hurry: bool) -> None:
        """After an error: tells what can be told; what cannot be written is kept for a resume."""
        try:
            with suppress(Exception):
                if self.recorder.wait_to_open():
                    self._hand_over()
        finally:
            self.recorder.keep_unwritten(hurry)
        with suppress(Exception):
            while self.written:
                trial, written = self.written.popleft()
                self.sampling.record(trial.number, trial.result, written.result(timeout=0))

    @property
    def _backlog(self) -> int:
        return BACKLOG * self.trainer.n_slots

    def recover(self, *, again: bool = False) -> None:
        """Takes up a study that was cut off: it begins anew, and what ended is played back.

        Args:
            again: It was this program's own.

        Raises:
            StudyError: More trials have raised than may.
        """
        opened = self.recorder.opened()
        if not (opened.resumed or again):
            return  # there is nothing to take up: this one begins
        if not again:
            _tell_of_resume(opened)
        self._begin_journal(opened)
        record = self.recorder.recover(self.sampling.recover())
        self.sampling.agree(record.trials)
        raised = [each.number for each in record.trials if each.stop_reason is StopReason.ERROR]
        refuse_failures([f"trial {number}" for number in raised], self.config.search.max_failures)
        self.before = {trial.number: trial for trial in record.trials}
        self.confirmed_before = record.confirmation
        # It may have asked for more trials than it is now to have.
        n_asked = max(self.sampling.n_asked_before, 1 + max(self.before, default=-1))
        self.n_trials = max(self.n_trials, n_asked)

    def _begin_journal(self, opened: Opened) -> None:
        """Optuna's journal begins once there is a parent run that says where it lies."""
        if self.sampling.has_journal:
            return
        path = Path(opened.journal)
        path.parent.mkdir(parents=True, exist_ok=True)
        with self.timed("tell"):
            self.sampling.open_journal(path)

    @property
    def _n_unasked(self) -> int:
        return self.n_trials - self.sampling.n_asked

    def _fill_free_slots(self) -> None:
        to_fill = [slot for slot in self.trainer.free_slots if slot not in self.replay]
        to_fill = to_fill[: self._n_unasked]
        first = self.sampling.n_asked
        numbers = range(first, first + len(to_fill))
        with in_training():
            self.trainer.expect(sum(number not in self.before for number in numbers))
        for slot in to_fill:
            number, hyperparameters = self.sampling.ask()
            self.running[slot] = _Running(number, hyperparameters, milliseconds())
            before = self._ended_before(number, hyperparameters)
            if before is None:
                with in_training():
                    self.trainer.load(slot, hyperparameters)
            else:
                self.replay.load(slot, before)

    def _ended_before(self, number: int, hyperparameters: Hyperparameters) -> TrialRecord | None:
        """What is known of a trial of a resumed study, None where it must train."""
        trial = self.before.pop(number, None)
        known = logged(hyperparameters, self.config.has_dropout)
        if trial is not None and trial.hyperparameters != known:
            # Of what the journal lost, the sampler was asked again, and would have another trial.
            self.recorder.delete([trial.run_id])
            return None
        return trial

    def _stopped(self, points: dict[int, Point]) -> list[int]:
        """Slots whose trial is over: all report first, so that nobody is judged by half a round."""
        for slot, point in points.items():
            self.pruner.report(self.running[slot].number, point.val_loss)
        return [
            slot
            for slot, point in points.items()
            if point.stop_reason is not None or self._prunable(self.running[slot])
        ]

    def _prunable(self, running: _Running) -> bool:
        # The unregularized trial is what all others are held against: its curve stays whole.
        # Without early stopping the last loss counts, of which the best so far says little.
        chosen = running.hyperparameters
        if chosen == self.unregularized or chosen.patience == "off":
            return False
        return self.pruner.should_prune(running.number)

    def _end(self, slot: int, reason: StopReason) -> None:
        running, number = self.running[slot], self.running[slot].number
        result: TrialResult | TrialRecord
        if slot in self.replay:
            result = self.replay.unload(slot)
            self.records.append(result)
            self.sampling.record(number, result, result.run_id)
        else:
            with in_training():
                result = self.trainer.unload(slot, reason)
            self.ended.append(
                FinishedTrial(
                    number, result, running.started, milliseconds(), self.config.has_dropout
                )
            )
        del self.running[slot], self.reached[slot]
        self.pruner.finish(number, result.state)
        with self.timed("tell"):
            self.sampling.tell(number, result)
        self._count(number, result.state, result.val_loss)

    def _count(self, number: int, state: TrialState, val_loss: float) -> None:
        self.counts[state] += 1
        better = self.best is None or (val_loss, number) < (self.best[1], self.best[0])
        if state is TrialState.COMPLETE and better:
            self.best = (number, val_loss)

    def _show_progress(self, confirmed: tuple[int, int] | None = None) -> None:
        if self.on_progress is not None:
            counts = {str(state): count for state, count in self.counts.items()}
            n_trials, running = self.config.search.n_trials, len(self.running)
            self.on_progress(
                Progress(n_trials, **counts, running=running, best=self.best, confirmed=confirmed)
            )

    @contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        """Adds the block's wall time to a phase."""
        start = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - start
            self.seconds[phase] = self.seconds.get(phase, 0.0) + spent


def _tell_of_resume(opened: Opened) -> None:
    for note in opened.notes:
        logger.warning("since the study began, %s", note)
    if not Path(opened.journal).is_file():
        logger.warning("the journal was gone, and is begun anew: %s", opened.journal)
