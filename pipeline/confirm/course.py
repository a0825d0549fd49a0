"""Owns a confirmation's course: who is trained on which replicate, and when it is written.

In outline:

    finalists = choose_finalists(trials)
    while something has no run yet:
        for trained in train_replicates(it):                   # one population, any order
            recorder.log_runs(its run)                         # MLflow itself is the journal
        if training raised: half as many train at once where memory ran out, else the training
            that is to blame fails, and its run tells why

A result is a function of the finalist and the replicate: what a crash lost is trained again, and
nothing else.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from functools import partial

from pipeline.config import StudyConfig
from pipeline.confirm.finalists import choose_finalists
from pipeline.confirm.runs import FinishedReplicate, replicate_run
from pipeline.data import Table, split
from pipeline.engine import Engine
from pipeline.failures import (
    Suspect,
    TrainingError,
    find_culprit,
    half_of,
    in_training,
    ran_out_of_memory,
    refuse_failures,
)
from pipeline.population.replicates import SLOTS, Rows, RowsOf, Trained
from pipeline.recorder import Recorder
from pipeline.records import Confirmation, Finalist, ReplicateRecord, TrialRecord
from pipeline.results import StopReason
from pipeline.space import Hyperparameters

# Trainings that may wait for the tracking store before the next ones wait for it, too.
MOST_WAITING = 100

# Told how many of how many are trained.
OnTrained = Callable[[int, int], None]


def confirm(
    config: StudyConfig,
    table: Table,
    trials: Sequence[TrialRecord],
    replicates: Sequence[int],
    engine: Engine,
    recorder: Recorder,
    *,
    before: Confirmation | None = None,
    on_trained: OnTrained | None = None,
) -> Confirmation | None:
    """Trains the finalists of a search on fresh replicates; every training is a run.

    Args:
        config: The study.
        table: Its data.
        trials: Of its search.
        replicates: Numbers of the replicates that finalists are trained on.
        engine: Where finalists train.
        recorder: Where runs go.
        before: What a confirmation that was cut off has left in the store.
        on_trained: Told of each step.

    Returns:
        The whole confirmation; None where it is switched off, or no trial was completed.

    Raises:
        ConfigError: A replicate cannot be trained on.
        StudyError: More trainings raised than may, or not even one fits into memory.
    """
    finalists = choose_finalists(config, trials)
    stage = _Stage(config, finalists, recorder)
    if before is not None:
        stage.take_up(before, replicates)
    if not finalists or not replicates:
        return None

    rows_of = partial(_rows_of, config, table)
    n_all = len(finalists) * len(replicates)
    n_slots: int | None = None

    def show() -> None:
        if on_trained is not None:
            on_trained(stage.n_trained, n_all)

    try:
        stage.refuse_failures()
        while todo := {each: missing for each in replicates if (missing := stage.missing(each))}:
            training = engine.replicates(config, todo, rows_of, n_slots)
            failed = stage.take(training, show)
            if failed is None:
                continue
            if ran_out_of_memory(failed.cause):
                failed.forget()
                n_slots = half_of(n_slots or SLOTS, failed.cause)
            else:
                culprit = _culprit(config, stage, replicates, rows_of, engine, failed)
                stage.take([culprit])
    except BaseException:
        with suppress(Exception):  # the first error is the one to hear of
            stage.hand_over()
        raise
    rows = recorder.opened().record.params
    return Confirmation(
        finalists=finalists,
        replicates=tuple(replicates),
        records=tuple(sorted(stage.records, key=lambda each: (each.finalist, each.replicate))),
        rows=(int(rows["data.train_rows"]), int(rows["data.val_rows"])),
    )


def _culprit(
    config: StudyConfig,
    stage: _Stage,
    replicates: Sequence[int],
    rows_of: RowsOf,
    engine: Engine,
    failed: TrainingError,
) -> Trained:
    """The first training that raises alone, too; raises its cause where none does."""
    for replicate in replicates:
        engine.stop_if_asked()
        splits, most = rows_of(replicate).splits, config.training.max_epochs
        failed.suspects = [
            Suspect(replicate, each, most, int(time.time() * 1000))
            for each in stage.missing(replicate)
        ]
        found = find_culprit(engine.for_one(config), splits, failed)
        if found is not None:
            suspect, result = found
            return Trained(result, splits.preprocessing.to_json(), suspect.started)
    raise failed.cause


def _rows_of(config: StudyConfig, table: Table, replicate: int) -> Rows:
    splits = split(table, config.data, config.seed, replicate)
    return Rows(splits, splits.test_part(table))


def _marked(training: Iterable[Trained]) -> Iterator[Trained]:
    """What is trained; what is raised meanwhile is marked as raised by training."""
    with in_training():
        yield from training


class _Stage:
    """What is trained, and how far it is written.

    Results wait in `ended` while the writer is busy: several go into one transaction.
    """

    def __init__(
        self, config: StudyConfig, finalists: Sequence[Finalist], recorder: Recorder
    ) -> None:
        self._config, self._recorder = config, recorder
        self._finalists = {each.hyperparameters: each for each in finalists}
        self.records: list[ReplicateRecord] = []
        self.ended: list[FinishedReplicate] = []
        self.written: deque[tuple[list[FinishedReplicate], Future[list[str]]]] = deque()

    @property
    def n_trained(self) -> int:
        """How many trainings have ended."""
        waiting = sum(len(batch) for batch, _ in self.written)
        return len(self.records) + len(self.ended) + waiting

    def take_up(self, before: Confirmation, numbers: Sequence[int]) -> None:
        """Keeps the runs that would be made again; the others are deleted."""
        same = {each.name for each in set(before.finalists) & set(self._finalists.values())}
        self.records = [
            each for each in before.records if each.finalist in same and each.replicate in numbers
        ]
        gone = {each.run_id for each in before.records} - {each.run_id for each in self.records}
        self._recorder.delete(sorted(gone))

    def missing(self, replicate: int) -> list[Hyperparameters]:
        """What has no run on this replicate yet."""
        there = {each.finalist for each in self.records if each.replicate == replicate}
        return [chosen for chosen, each in self._finalists.items() if each.name not in there]

    def note(self, trained: Trained) -> None:
        """Takes a result, and hands over what has ended once the writer is free."""
        result = trained.result
        finalist = self._finalists[result.hyperparameters]
        self.ended.append(
            FinishedReplicate(
                finalist=finalist,
                result=result,
                preprocessing=trained.preprocessing,
                started=trained.started,
                ended=int(time.time() * 1000),
                has_dropout=self._config.has_dropout,
            )
        )
        self._settle(wait=len(self.ended) >= MOST_WAITING)
        if not self.written:
            self.hand_over()

    def take(
        self, training: Iterable[Trained], show: Callable[[], object] = lambda: None
    ) -> TrainingError | None:
        """Takes what is trained until all of it has a run, or something was raised: that.

        Raises:
            StudyError: More trainings raised than may.
        """
        failed: TrainingError | None = None
        try:
            for trained in _marked(training):
                self.note(trained)
                show()
        except TrainingError as error:
            failed = error
        self.hand_over()
        self._settle(wait=True)
        self.refuse_failures()
        return failed

    def refuse_failures(self) -> None:
        """Raises StudyError where more trainings raised than may."""
        raised = [
            f"{each.finalist} on replicate {each.replicate}"
            for each in self.records
            if each.stop_reason is StopReason.ERROR
        ]
        refuse_failures(raised, self._config.search.max_failures)

    def hand_over(self) -> None:
        """Gives to the recorder what has ended: it writes it, or keeps it for a resume."""
        if self.ended:
            written = self._recorder.log_runs([replicate_run(each) for each in self.ended])
            self.written.append((self.ended, written))
            self.ended = []

    def _settle(self, wait: bool = False) -> None:
        while self.written and (wait or self.written[0][1].done()):
            batch, future = self.written[0]
            run_ids = self._recorder.wait(future)
            self.written.popleft()
            self.records += [
                replace(each.record, run_id=run_id)
                for each, run_id in zip(batch, run_ids, strict=True)
            ]
