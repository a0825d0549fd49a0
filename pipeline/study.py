"""Owns a study: a search, a confirmation, a conclusion, under one parent run however it ends.

In outline:

    search = searched(config)              # pipeline.search: the loop of trials
        if training raised: fail the trial that is to blame, or halve the population where memory
            ran out, and begin again as a resume does         # pipeline.failures
    confirmation = search.confirm(...)     # the finalists, on fresh replicates
    end = conclude(...)                    # the answer, the report, the model
    recorder.finish("complete", ...)
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.conclusion import conclude
from pipeline.config import StudyConfig
from pipeline.contents import FinishedTrial
from pipeline.data import Splits, drawable_replicates, load_table, split
from pipeline.description import describe_study
from pipeline.engine import LOCAL, Engine, EngineSettings, started
from pipeline.failures import (
    TrainingError,
    find_culprit,
    in_training,
    ran_out_of_memory,
    with_half_the_population,
)
from pipeline.interrupts import Hurried, held_back
from pipeline.recorder import Recorder, start_writer
from pipeline.records import StudyRecord, TrialRecord
from pipeline.sampling import Sampling, quiet_optuna
from pipeline.search import Progress, Search
from pipeline.store import StoreLostError
from pipeline.tracking.client import milliseconds
from pipeline.tracking.registry import Registration

if TYPE_CHECKING:
    import pandas as pd


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
    engine: EngineSettings = LOCAL,
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
        engine: Where it trains, which changes nothing of what comes out.
        on_progress: Called after every epoch of the population.

    Raises:
        ConfigError: The engine cannot be had, the data cannot be trained on, the store cannot be
            written to, or a resumed study is not the one that began.
        StudyError: More trials raised than may, or not even one fits into memory.
        StoreLostError: The store went away for good. What ended is kept for a resume.
    """
    start_writer()
    if data is not None:
        config = config.model_copy(update={"data": config.data.handed_over()})
    table = load_table(config.data, data)
    splits = split(table, config.data, config.seed)
    # What cannot be confirmed is to be said before the search.
    replicates = drawable_replicates(table, config.data, config.seed, config.confirm.replicates)
    description = describe_study(config, table, splits, command)
    with started(engine) as trains, held_back() as stop_if_asked, quiet_optuna():
        trains.require(config, splits)  # what is not there is said before anything is written
        trains.stop_if_asked = stop_if_asked
        recorder = Recorder(
            config,
            description,
            resume=resume,
            accept_changes=accept_changes,
            stop_if_asked=stop_if_asked,
        )
        try:
            search = searched(config, splits, trains, recorder, on_progress, resume=resume)
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
    engine: Engine,
    recorder: Recorder,
    on_progress: Callable[[Progress], None] | None,
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
            trainer = engine.population(config, splits)
        with closing(trainer):  # its cores and memory are the confirmation's
            sampling = Sampling(config)
            search = Search(
                config, sampling, trainer, engine, recorder, on_progress, seconds=seconds
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
        config, again = _remedied(config, splits, engine, recorder, failed), True


def _remedied(
    config: StudyConfig,
    splits: Splits,
    engine: Engine,
    recorder: Recorder,
    failed: TrainingError,
) -> StudyConfig:
    """What to go on with after training raised; raises where there is nothing to go on with."""
    if ran_out_of_memory(failed.cause):
        return with_half_the_population(config, failed.cause)
    found = find_culprit(engine.for_one(config), splits, failed)
    if found is None:
        raise failed.cause
    suspect, result = found
    trial = FinishedTrial(
        suspect.number, result, suspect.started, milliseconds(), config.has_dropout
    )
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
            recorder.give_up(state, hurry=_in_a_hurry(error))
    except KeyboardInterrupt:
        recorder.drop()
        raise


def _in_a_hurry(error: BaseException) -> bool:
    """Whether a person waits for the end, or the store is away."""
    return not isinstance(error, Exception) or isinstance(error, StoreLostError)
