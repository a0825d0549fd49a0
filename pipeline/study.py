"""Owns the study's loop.

In outline:

    while trials are running or the budget is not spent:
        fill the free slots:  trial = sampling.ask(); trainer.load(slot, trial)
        points = trainer.train_epoch()                     # every slot advances one epoch
        for each running trial:
            note its point; if it stopped early, ended, diverged or is pruned:
                result = trainer.unload(slot)
                tracker.log(trial, result); sampling.tell(trial, result)
        once a run stands in MLflow: sampling.record(trial)   # track before tell
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline import writer
from pipeline.config import ConfigError, StudyConfig
from pipeline.contents import FinishedTrial, trial_record, weights_file
from pipeline.data import load_table, split
from pipeline.interrupts import held_back
from pipeline.population.trainer import PopulationTrainer
from pipeline.pruning import Pruner, make_pruner
from pipeline.results import Point, StopReason, StudyRecord, TrialRecord, TrialState
from pipeline.sampling import Sampling, quiet_optuna
from pipeline.space import Hyperparameters
from pipeline.store import folder_of
from pipeline.threads import ThreadChoice, thread_choice
from pipeline.tracking import StudyTracker, read_study, run_links, start_writer

if TYPE_CHECKING:
    import pandas as pd

# Runs that may wait for the tracking store before training waits for it too, in populations.
BACKLOG = 4


@dataclass(frozen=True)
class Progress:
    """How far a study is, told after every epoch of the population."""

    n_trials: int
    complete: int
    pruned: int
    failed: int
    running: int
    best: tuple[int, float] | None

    @property
    def done(self) -> int:
        """Trials that ended."""
        return self.complete + self.pruned + self.failed


@dataclass(frozen=True, eq=False)
class StudyResult:
    """What `run_study` returns.

    Attributes:
        record: The study as the tracking store tells of it.
        trials: One row a trial: `trials.csv` and the run ids.
        best_trial: The complete trial with the lowest validation loss.
        seconds: Wall time by phase: `ask`, `train`, `track`, `tell`, `conclude`.
    """

    record: StudyRecord
    trials: pd.DataFrame
    best_trial: TrialRecord | None
    seconds: dict[str, float]

    @property
    def parent_run_id(self) -> str:
        """The parent run."""
        return self.record.run_id


def run_study(
    config: StudyConfig,
    *,
    data: pd.DataFrame | None = None,
    resume: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
) -> StudyResult:
    """Searches: `search.n_trials` trials, all of them in MLflow under one parent run.

    Args:
        config: The study.
        data: The table, in place of what `data.source` names.
        resume: Continue the newest run of this study in the tracking store, if there is one.
        on_progress: Called after every epoch of the population.

    Raises:
        ConfigError: The data cannot be trained on, the store cannot be written to, or a resumed
            study is not the one that began.
    """
    start_writer()
    if data is not None:
        config = config.model_copy(update={"data": config.data.handed_over()})
    table = load_table(config.data, data)
    splits = split(table, config.data, config.seed)
    trainer = PopulationTrainer(config, splits)
    tracker: StudyTracker | None = None
    search: Search | None = None
    try:
        with held_back() as stop_if_asked, thread_choice() as threads, quiet_optuna():
            tracker = StudyTracker.resume(config, table, splits) if resume else None
            resumed = tracker is not None
            tracker = tracker or StudyTracker.start(config, table, splits)
            sampling = Sampling(config, journal_path(tracker, resumed))
            search = Search(config, sampling, trainer, tracker, on_progress, stop_if_asked, threads)
            if resumed:
                search.recover()
            search.run()
            with search.timed("conclude"):
                record, frame, files, note = _conclusion(tracker, search.records)
            tracker.finish("complete", search.seconds, files, note, record)
            return StudyResult(record, frame, record.best, search.seconds)
    except BaseException as error:
        # What is no Exception is an interrupt: Ctrl-C, or a signal that cli hands on. What has
        # ended is told; what was in training stays asked, for a resume to train again.
        interrupted = not isinstance(error, Exception)
        if search is not None:
            search.close()
        if tracker is not None:
            with suppress(Exception):  # the first error is the one to hear of
                tracker.finish("interrupted" if interrupted else "failed")
        raise


def journal_path(tracker: StudyTracker, resumed: bool) -> Path:
    """Where the journal of this study lies: beside the tracking store.

    Raises:
        ConfigError: A study is to be resumed whose journal is gone.
    """
    if not resumed:
        path = folder_of(tracker.parent.uri) / "journals" / f"{tracker.parent.run_id}.journal"
        path.parent.mkdir(parents=True, exist_ok=True)
        tracker.journal = str(path)
        return path
    path = Path(tracker.journal)
    if not path.is_file():
        raise ConfigError(f"a resumed study must have its journal, however: it is gone ({path})")
    return path


@dataclass(frozen=True)
class _Running:
    number: int
    hyperparameters: Hyperparameters
    started: int


@dataclass
class _Ended:
    finished: FinishedTrial
    written: Future[str]


@dataclass
class Search:
    """The loop's state: who runs in which slot, and who has ended but is not in the journal yet."""

    config: StudyConfig
    sampling: Sampling
    trainer: PopulationTrainer
    tracker: StudyTracker
    on_progress: Callable[[Progress], None] | None
    stop_if_asked: Callable[[], None]
    threads: ThreadChoice

    running: dict[int, _Running] = field(default_factory=dict)
    ended: deque[_Ended] = field(default_factory=deque)
    records: list[TrialRecord] = field(default_factory=list)
    again: deque[tuple[int, Hyperparameters]] = field(default_factory=deque)
    counts: dict[TrialState, int] = field(default_factory=lambda: dict.fromkeys(TrialState, 0))
    best: tuple[int, float] | None = None
    seconds: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        search = self.config.search
        self.pruner: Pruner = make_pruner(
            search.pruner, search.pruner_warmup, max_epochs=self.config.training.max_epochs
        )
        self.unregularized = self.config.search_space.unregularized()

    def run(self) -> None:
        """The main path."""
        while self.running or self.again or self.sampling.n_asked < self.config.search.n_trials:
            with self.timed("ask"):
                self._fill_free_slots()
            # What has ended and is not settled is still being written.
            writing = bool(self.ended)
            with self.timed("train"), self.threads.applied(len(self.running), busy=writing):
                points = self.trainer.train_epoch()
            for slot in self._stopped(points):
                self._end(slot, points[slot].stop_reason or StopReason.PRUNED)
            self.settle()
            self._show_progress()
            self.stop_if_asked()
        # While the last runs are written, what concludes the study is imported.
        import pipeline.figures
        import pipeline.report  # noqa: F401

        self.settle(wait_for_all=True)

    def settle(self, wait_for_all: bool = False) -> None:
        """Tells the journal of trials whose runs are finished, in the order of their ends."""
        most = 0 if wait_for_all else BACKLOG * self.trainer.n_slots
        while self.ended and (self.ended[0].written.done() or len(self.ended) > most):
            with self.timed("track"):
                run_id = self._first_run_id()
            with self.timed("tell"):
                ended = self.ended.popleft()
                self.sampling.record(ended.finished.number, ended.finished.result, run_id)
            self.records.append(trial_record(ended.finished, run_id))

    def _first_run_id(self) -> str:
        """The run of the trial that ended first, once it is written.

        Until then there is nothing to do here but to write the newest ones, too.
        """
        first = self.ended[0]
        for ended in reversed(self.ended):
            if first.written.done():
                break
            ended.written = self.tracker.write_here(ended.finished, ended.written) or ended.written
            self.stop_if_asked()
        return self.tracker.wait(first.written, self.stop_if_asked)

    def close(self) -> None:
        """After an error: tells what can be told, gives up what cannot be written."""
        with suppress(Exception):
            self.settle(wait_for_all=True)
        self.tracker.abandon([ended.written for ended in self.ended])

    def recover(self) -> None:
        """Takes up a study that was cut off: told trials stand, asked ones train again."""
        self.again.extend(self.sampling.recover())
        self.tracker.forget({number for number, _ in self.again})
        self.records += read_study(self.tracker.parent.run_id, self.tracker.parent.uri).trials
        for record in self.records:
            for val_loss in record.history.val_loss.tolist():
                self.pruner.report(record.number, val_loss)
            self.pruner.finish(record.number, record.state)
            self._count(record.number, record.state, record.val_loss)

    def _fill_free_slots(self) -> None:
        for slot in self.trainer.free_slots:
            if self.again:
                number, hyperparameters = self.again.popleft()
            elif self.sampling.n_asked < self.config.search.n_trials:
                number, hyperparameters = self.sampling.ask()
            else:
                return
            self.trainer.load(slot, hyperparameters)
            self.running[slot] = _Running(number, hyperparameters, _now())

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
        running = self.running.pop(slot)
        result = self.trainer.unload(slot, reason)
        number = running.number
        self.pruner.finish(number, result.state)
        with self.timed("track"):
            finished = FinishedTrial(
                number,
                result,
                weights_file(result),
                started=running.started,
                ended=_now(),
                has_dropout=self.config.has_dropout,
            )
            written = self.tracker.log(finished)
        with self.timed("tell"):
            self.sampling.tell(number, result)
        self.ended.append(_Ended(finished, written))
        self._count(number, result.state, result.val_loss)

    def _count(self, number: int, state: TrialState, val_loss: float) -> None:
        self.counts[state] += 1
        better = self.best is None or (val_loss, number) < (self.best[1], self.best[0])
        if state is TrialState.COMPLETE and better:
            self.best = (number, val_loss)

    def _show_progress(self) -> None:
        if self.on_progress is not None:
            counts = {str(state): count for state, count in self.counts.items()}
            n_trials, running = self.config.search.n_trials, len(self.running)
            self.on_progress(Progress(n_trials, **counts, running=running, best=self.best))

    @contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        """Adds the block's wall time to a phase."""
        start = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - start
            self.seconds[phase] = self.seconds.get(phase, 0.0) + spent


def _conclusion(
    tracker: StudyTracker, trials: list[TrialRecord]
) -> tuple[StudyRecord, pd.DataFrame, dict[str, bytes], str]:
    """The study as it ended, its table, and the parent run's files and description."""
    from pipeline.figures import study_figures
    from pipeline.report import render, summary_markdown, trials_frame

    record = replace(tracker.record(trials), state="complete")
    drawn = writer.submit(study_figures, record)
    frame = trials_frame(record)
    files = {
        # Without run ids, which differ where everything else is the same.
        "trials.csv": frame.drop(columns="run_id").to_csv(index=False).encode(),
        "report.html": render(record, run_links(record)).encode(),
        **{f"figures/{name}": picture for name, picture in drawn.result().items()},
    }
    return record, frame, files, summary_markdown(record)


def _now() -> int:
    return int(time.time() * 1000)
