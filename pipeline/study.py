"""Owns the study's loop.

In outline:

    while trials are running or the budget is not spent:
        fill the free slots:  trial = sampling.ask(); trainer.load(slot, trial)
        points = trainer.train_epoch()                     # every slot advances one epoch
        for each running trial:
            note its point; if it stopped early, ended, diverged or is pruned:
                result = trainer.unload(slot)
                recorder.log(trial, result); sampling.tell(trial, result)
        once a run stands in MLflow: sampling.record(trial)   # track before tell
        if training raises: fail the trial that is to blame, or halve the population where memory
            ran out, and begin again as a resume does         # pipeline.failures
    confirm(finalists): on fresh replicates               # pipeline.confirm.course
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.conclusion import conclude
from pipeline.config import StudyConfig
from pipeline.confirm.course import confirm
from pipeline.confirm.runs import finalist_runs
from pipeline.contents import (
    FinishedTrial,
    describe_study,
    logged,
    trial_record,
)
from pipeline.data import Splits, Table, drawable_replicates, load_table, split
from pipeline.failures import (
    Suspect,
    TrainingError,
    find_culprit,
    in_training,
    ran_out_of_memory,
    refuse_failures,
    with_half_the_population,
)
from pipeline.interrupts import Hurried, held_back
from pipeline.population.team import PopulationTeam
from pipeline.population.trainer import device_of
from pipeline.pruning import Pruner, make_pruner
from pipeline.recorder import Recorder, start_writer
from pipeline.replay import Replay
from pipeline.results import (
    Confirmation,
    Point,
    StopReason,
    StudyRecord,
    TrialRecord,
    TrialResult,
    TrialState,
)
from pipeline.sampling import Sampling, quiet_optuna
from pipeline.space import Hyperparameters
from pipeline.store import StoreLostError
from pipeline.tracking import Opened
from pipeline.tracking.registry import Registration
from pipeline.weights import weights_file

if TYPE_CHECKING:
    import pandas as pd

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


@dataclass(frozen=True, eq=False)
class StudyResult:
    """What `run_study` returns.

    Attributes:
        record: The study as the tracking store tells of it.
        trials: One row a trial: `trials.csv` and the run ids.
        best_trial: The complete trial with the lowest validation loss.
        champion: What became of the model that it ends with; None without confirmation.
        seconds: Wall time by phase: `ask`, `train`, `track`, `tell`, `conclude`.
        tracking_uri: The store.
        view: Whether its experiment has the views that are made for looking at it.
    """

    record: StudyRecord
    trials: pd.DataFrame
    best_trial: TrialRecord | None
    champion: Registration | None
    seconds: dict[str, float]
    tracking_uri: str
    view: bool

    @property
    def parent_run_id(self) -> str:
        """The parent run."""
        return self.record.run_id


def run_study(
    config: StudyConfig,
    *,
    data: pd.DataFrame | None = None,
    resume: bool = False,
    accept_changes: bool = False,
    promote: bool = False,
    command: str | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> StudyResult:
    """Searches `search.n_trials` trials and confirms the finalists, all under one parent run.

    Args:
        config: The study.
        data: The table, in place of what `data.source` names.
        resume: Continue the newest run of this study in the tracking store, if there is one.
        accept_changes: Continue it with another search or other packages, too, where what has ended
            stays comparable: see `tracking.changes`.
        promote: Give the champion its alias even where the registered one was better.
        command: That was given to start it, as it is to be repeated, without passwords.
        on_progress: Called after every epoch of the population.

    Raises:
        ConfigError: The data cannot be trained on, the store cannot be written to, or a resumed
            study is not the one that began.
        StudyError: More trials raised than may, or not even one fits into memory.
        StoreLostError: The store went away for good. What ended is kept for a resume.
    """
    start_writer()
    if data is not None:
        config = config.model_copy(update={"data": config.data.handed_over()})
    table = load_table(config.data, data)
    splits = split(table, config.data, config.seed)
    device_of(config.training.device)  # that there is one is said before anything is written
    # What cannot be confirmed is to be said before the search.
    replicates = drawable_replicates(table, config.data, config.seed, config.confirm.replicates)
    description = describe_study(config, table, splits, command)
    with held_back() as stop_if_asked, quiet_optuna():
        recorder = Recorder(
            config,
            description,
            resume=resume,
            accept_changes=accept_changes,
            stop_if_asked=stop_if_asked,
        )
        try:
            search = searched(config, splits, recorder, on_progress, stop_if_asked, resume=resume)
            with search.timed("confirm"):
                confirmation = search.confirm(table, replicates)
            with search.timed("conclude"):
                end = conclude(
                    config,
                    table,
                    splits.train_rows,
                    search.records,
                    confirmation,
                    recorder,
                    promote=promote,
                )
            times = {f"time/{phase}": value for phase, value in search.seconds.items()}
            recorder.finish(
                "complete",
                {**end.metrics, **times},
                end.files,
                end.note,
                end.tags,
                end.experiment_note,
            )
        except Hurried:
            recorder.drop()
            raise
        except BaseException as error:
            _close(recorder, error)
            raise
    return StudyResult(
        record=end.record,
        trials=end.trials,
        best_trial=end.record.best,
        champion=end.champion,
        seconds=search.seconds,
        tracking_uri=recorder.opened().parent.uri,
        view=recorder.opened().view,
    )


def searched(
    config: StudyConfig,
    splits: Splits,
    recorder: Recorder,
    on_progress: Callable[[Progress], None] | None,
    stop_if_asked: Callable[[], None],
    *,
    resume: bool,
) -> Search:
    """Searches to the end.

    Where training raised, the search is taken up again as a resume takes it up: what ended stands,
    what was in training begins anew. The trial that is to blame has ended by then, or fewer train
    at once.

    Raises:
        StudyError: More trials raised than may, or not even one fits into memory.
    """
    seconds: dict[str, float] = {}

    def attempt(again: bool) -> Search:
        with in_training():
            trainer = PopulationTeam(config, splits)
        with closing(trainer):  # its cores and memory are the confirmation's
            sampling = Sampling(config)
            search = Search(
                config, sampling, trainer, recorder, on_progress, stop_if_asked, seconds=seconds
            )
            try:
                if resume or again:
                    search.recover(again=again)
                search.run()
            except Hurried:
                raise  # nothing is to be closed
            except BaseException as error:
                if isinstance(error, TrainingError):
                    error.suspects = search.suspects()
                # What has ended is told; what was in training stays asked, to be trained again.
                search.close(hurry=_in_a_hurry(error))
                raise
        return search

    again = False
    while True:
        try:
            return attempt(again)
        except TrainingError as error:
            failed = error
        failed.forget()  # what is to be tried next needs the memory
        config, again = _remedied(config, splits, recorder, failed), True


def _remedied(
    config: StudyConfig, splits: Splits, recorder: Recorder, failed: TrainingError
) -> StudyConfig:
    """What to go on with after training raised; raises where there is nothing to go on with."""
    if ran_out_of_memory(failed.cause):
        return with_half_the_population(config, failed.cause)
    found = find_culprit(config, splits, failed)
    if found is None:
        raise failed.cause
    suspect, result = found
    trial = FinishedTrial(suspect.number, result, suspect.started, _now(), config.has_dropout)
    recorder.wait(recorder.log(trial, b""))
    return config


def _close(recorder: Recorder, error: BaseException) -> None:
    """Ends a study that was cut off: what could not be written is kept for a resume."""
    # What is no Exception is an interrupt: Ctrl-C, or a signal that cli hands on.
    state = "failed" if isinstance(error, Exception) else "interrupted"
    try:
        with suppress(Exception):  # the first error is the one to hear of
            recorder.wait_to_open()
        with suppress(Exception):
            recorder.keep_unwritten(hurry=_in_a_hurry(error))
        with suppress(Exception):
            recorder.give_up(state)
    except KeyboardInterrupt:
        recorder.drop()
        raise


def _in_a_hurry(error: BaseException) -> bool:
    """Whether a person waits for the end, or the store is away."""
    return not isinstance(error, Exception) or isinstance(error, StoreLostError)


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
    trainer: PopulationTeam
    recorder: Recorder
    on_progress: Callable[[Progress], None] | None
    stop_if_asked: Callable[[], None]

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
            self.stop_if_asked()
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

        started = _now()
        confirmation = confirm(
            self.config,
            table,
            self.records,
            replicates,
            self.recorder,
            before=self.confirmed_before,
            on_trained=show,
            stop_if_asked=self.stop_if_asked,
        )
        if confirmation is not None:
            runs = finalist_runs(confirmation, self.config.has_dropout, started, _now())
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
        refuse_failures(record.trials, self.config.search.max_failures)
        self.before = {trial.number: trial for trial in record.trials}
        self.confirmed_before = record.confirmation

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
        # A resumed study may have asked for more trials than it is now to have.
        n_asked = max(self.sampling.n_asked_before, 1 + max(self.before, default=-1))
        return max(self.config.search.n_trials, n_asked) - self.sampling.n_asked

    def _fill_free_slots(self) -> None:
        to_fill = [slot for slot in self.trainer.free_slots if slot not in self.replay]
        to_fill = to_fill[: self._n_unasked]
        first = self.sampling.n_asked
        numbers = range(first, first + len(to_fill))
        with in_training():
            self.trainer.expect(sum(number not in self.before for number in numbers))
        for slot in to_fill:
            number, hyperparameters = self.sampling.ask()
            self.running[slot] = _Running(number, hyperparameters, _now())
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
                FinishedTrial(number, result, running.started, _now(), self.config.has_dropout)
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


def _now() -> int:
    return int(time.time() * 1000)
