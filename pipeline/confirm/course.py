"""Owns a confirmation's course: who is trained on which replicate, and when it is written.

In outline:

    finalists = choose_finalists(trials)
    while something has no run yet:
        for trained in train_replicates(it):                   # one population, any order
            recorder.log_runs(its run)                         # MLflow itself is the journal
        if memory ran out: half as many train at once

A result is a function of the finalist and the replicate: what a crash lost is trained again, and
nothing else.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from functools import partial

from pipeline.config import StudyConfig
from pipeline.confirm.finalists import choose_finalists
from pipeline.confirm.runs import FinishedReplicate, replicate_run
from pipeline.data import Table, split
from pipeline.engine import Engine
from pipeline.failures import half_of, ran_out_of_memory
from pipeline.population.replicates import SLOTS, Rows, Trained
from pipeline.recorder import Recorder
from pipeline.results import Confirmation, Finalist, ReplicateRecord, TrialRecord
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
    try:
        while todo := {each: missing for each in replicates if (missing := stage.missing(each))}:
            try:
                for trained in engine.replicates(config, todo, rows_of, n_slots):
                    stage.note(trained)
                    if on_trained is not None:
                        on_trained(stage.n_trained, n_all)
            except Exception as error:
                if not ran_out_of_memory(error):
                    raise
                n_slots = half_of(n_slots or SLOTS, error)
            stage.write_all()
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


def _rows_of(config: StudyConfig, table: Table, replicate: int) -> Rows:
    splits = split(table, config.data, config.seed, replicate)
    return Rows(splits, splits.test_part(table))


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

    def write_all(self) -> None:
        """Hands over the rest, and waits until all runs stand."""
        self.hand_over()
        self._settle(wait=True)

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
