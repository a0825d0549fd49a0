"""Owns the study's side of tracking: what is handed to the writing process, and waited for.

The training process never imports MLflow. It begins to train while the other one still opens the
store, and hears of what went wrong there at the next look.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ALL_COMPLETED, FIRST_EXCEPTION, Future
from concurrent.futures import wait as wait_for
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from pipeline import locks, tracking, writer
from pipeline.ancestors import RUN_ID
from pipeline.champion.choice import Champion
from pipeline.config import StudyConfig
from pipeline.contents import EndedRun, FinishedTrial, trial_run
from pipeline.description import Description
from pipeline.records import StudyRecord
from pipeline.spool import keep, spool_of
from pipeline.tracking import model, registry
from pipeline.tracking.client import milliseconds

Result = TypeVar("Result")
Arguments = ParamSpec("Arguments")

# Seconds that the end of a program waits for its store: after an error of its own, or in a hurry;
# a parent run that is being opened is closed, too, and what is being written is.
A_WHILE, A_MOMENT, TO_OPEN, TO_CLOSE = 60.0, 1.0, 10.0, 4.0
# Between two looks.
LOOK = 0.1


def start_writer() -> None:
    """Starts the writing process, so that its imports overlap with the caller's own work."""
    _warmed_up(tracking.Caller.here())


@lru_cache(maxsize=1)
def _warmed_up(caller: tracking.Caller) -> Future[None]:
    return writer.submit(tracking.warm_up, caller)


class Recorder:
    """A study's parent run, and the way to its children's.

    Made at a study's start; `finish` ends it, or after an error `keep_unwritten` and `give_up`, or
    `drop`.

    Args:
        config: The study.
        description: What the parent run is to hold.
        resume: Take up the newest run of the study, if there is one.
        accept_changes: Also where it is another study by now, as far as that is sound.
        stop_if_asked: Called while waiting; may raise.
    """

    def __init__(
        self,
        config: StudyConfig,
        description: Description,
        *,
        resume: bool,
        accept_changes: bool = False,
        stop_if_asked: Callable[[], None],
    ) -> None:
        self._stop_if_asked = stop_if_asked
        self._locked = False
        self._patience = config.tracking.give_up_after
        # What was handed over, and is not known to stand in the store.
        self._unwritten: dict[Future[Any], Callable[[], Sequence[EndedRun]]] = {}
        self._discarded = False
        caller = replace(tracking.Caller.here(), adopts=_to_adopt())
        self._opening = writer.submit(
            tracking.open_study, caller, config, description, resume, accept_changes
        )
        self._ready = [writer.submit(tracking.get_ready)]
        if config.confirm.replicates:
            self._ready.append(writer.submit(model.get_ready))

    def look(self) -> tracking.Opened | None:
        """The study's parent run, or None while it is still being opened.

        Raises:
            ConfigError: What `tracking.open_study` raises.
            StoreLostError: The store went away meanwhile.
        """
        return self.opened() if self._opening.done() else None

    def opened(self) -> tracking.Opened:
        """The study's parent run, waited for; raises as `look` does. Takes the study's lock."""
        opened = self.wait(self._opening)
        if not self._locked:  # once: not again after the study's end
            locks.take(locks.study_lock(opened.journal))
            self._locked = True
        return opened

    def recover(self, run_ids: Mapping[int, str]) -> StudyRecord:
        """Puts a resumed study's runs in order and reads them: see `tracking.recover_study`.

        First, those are written that the start before could not write.
        """
        opened = self.opened()
        self.wait(self._submit(tracking.deliver, opened.parent, spool_of(opened.journal)))
        return self.wait(self._submit(tracking.recover_study, opened.parent, run_ids))

    def log(self, trial: FinishedTrial, weights: bytes) -> Future[str]:
        """Hands a trial over; `wait` for what is returned before Optuna's journal is told."""
        written = self._submit(tracking.write_trial, self.opened().parent, trial, weights)
        self._unwritten[written] = lambda: [trial_run(trial, weights)]
        return written

    def log_runs(self, runs: Sequence[EndedRun]) -> Future[list[str]]:
        """Hands child runs over, to be written together; `wait` for their ids."""
        written = self._submit(tracking.write_runs, self.opened().parent, runs)
        self._unwritten[written] = lambda: runs
        return written

    def weights_of(self, run_ids: Sequence[str]) -> dict[str, bytes]:
        """The `weights.pt` of child runs: see `tracking.read_weights`."""
        return self.wait(self._submit(tracking.read_weights, self.opened().parent.uri, run_ids))

    def delete(self, run_ids: Sequence[str]) -> None:
        """Deletes child runs that ended."""
        self.wait(self._submit(tracking.delete_runs, self.opened().parent, run_ids))

    def register(self, champion: Champion, promote: bool) -> Future[registry.Registration]:
        """Registers the model that a study ends with: see `registry.register_champion`."""
        parent = self.opened().parent
        return self._hand(registry.register_champion, parent, champion, promote, self._patience)

    def wait(self, future: Future[Result]) -> Result:
        """What the writing process makes of something; raises what went wrong there."""
        while not future.done():
            wait_for([future], timeout=0.2)
            self._stop_if_asked()
        result = future.result()
        self._unwritten.pop(future, None)
        return result

    def keep_unwritten(self, hurry: bool) -> None:
        """After an error: waits for what is being written, and spools what does not get there.

        Args:
            hurry: Wait for seconds at most: the store is away, or a person waits.
        """
        try:
            self._wait_for_writer(hurry)
        finally:
            self._spool()

    def wait_to_open(self) -> tracking.Opened | None:
        """After an error: the parent run, if it opens in the seconds that this usually takes."""
        self._wait_briefly([self._opening], TO_OPEN)
        return self.look()

    def _wait_for_writer(self, hurry: bool) -> None:
        waiting = [future for future in self._unwritten if not future.done()]
        # Once one failed, no other will do better.
        queued = A_MOMENT if hurry else A_WHILE
        self._wait_briefly(waiting, queued, at_most=queued, until=FIRST_EXCEPTION)
        # What the writer has begun, it ends, if it can.
        begun = [each for each in waiting if not each.cancel()]
        self._wait_briefly(begun, A_MOMENT if hurry else TO_OPEN)
        if not all(future.done() for future in (*waiting, self._opening)):
            self._discard()

    def _spool(self) -> None:
        with suppress(Exception):  # what cannot be kept either is trained again
            spool = spool_of(self._opening.result(timeout=0).journal)
            for future, runs in self._unwritten.items():
                if _failed(future):
                    for run in runs():
                        keep(spool, run)

    def _wait_briefly(
        self,
        futures: Sequence[Future[Any]],
        seconds: float,
        *,
        at_most: float = A_WHILE,
        until: str = ALL_COMPLETED,
    ) -> None:
        for _ in writer.while_it_works(seconds, at_most):
            done, waiting = wait_for(futures, timeout=LOOK, return_when=until)
            if not waiting or (until == FIRST_EXCEPTION and any(map(_failed, done))):
                return
            try:
                self._stop_if_asked()
            except BaseException:
                self._discard()
                raise

    def _discard(self) -> None:
        """Ends a writer that waits for the store: the program is not to wait for both."""
        self._discarded = True
        writer.discard()

    def finish(
        self,
        state: str,
        metrics: Mapping[str, float] | None = None,
        files: Mapping[str, bytes] | None = None,
        note: str = "",
        tags: Mapping[str, str] | None = None,
        experiment_note: str = "",
    ) -> None:
        """Closes the parent run: see `tracking.close_study`. Lets go of the study's locks."""
        closing = (state, metrics, files, note, tags, experiment_note, milliseconds())
        closed = self._submit(tracking.close_study, self._opening.result().parent, *closing)
        # A study that is about to be complete is not to be cut off by a signal, if all is well.
        wait_for([closed], timeout=A_MOMENT)
        self.wait(closed)
        for ready in self._ready:
            ready.result()
        self._let_go()

    def give_up(self, state: str, hurry: bool) -> None:
        """Closes the parent run after an error, if it can be done in a while, or in seconds.

        If not, the next resume does. Lets go of the study's locks in any case.

        Args:
            state: `interrupted` or `failed`.
            hurry: Wait for seconds at most: the store is away, or a person waits.
        """
        try:
            if self._discarded or _failed(self._opening):
                return
            # Of a study that was cut off, nothing is drawn any more, nor are imports wanted.
            writer.forget()
            closed = self._hand(tracking.close_study, self._opening.result().parent, state)
            for _ in writer.while_it_works(TO_CLOSE if hurry else A_WHILE, A_WHILE):
                if wait_for([closed], timeout=LOOK).done:
                    return
            self._discard()
        finally:
            self._let_go()

    def drop(self) -> None:
        """Leaves the study as it stands, like a program that is killed: a resume repairs it."""
        self._discard()
        self._let_go()

    def _let_go(self) -> None:
        if _failed(self._opening):
            return
        journal = self._opening.result().journal
        if not self._discarded:
            let_go = writer.submit(locks.let_go, locks.writer_lock(journal))
            wait_for([let_go], timeout=A_WHILE)
        if self._locked:
            locks.let_go(locks.study_lock(journal))

    def _submit(
        self,
        function: Callable[Arguments, Result],
        *args: Arguments.args,
        **kwargs: Arguments.kwargs,
    ) -> Future[Result]:
        """Has something done at the store, which is waited for if it goes away."""
        patience: Any = tracking.Patience(self._patience, self.opened().parent.uri)
        written: Future[Result] = self._hand(patience, function, *args, **kwargs)
        return written

    def _hand(
        self,
        function: Callable[Arguments, Result],
        *args: Arguments.args,
        **kwargs: Arguments.kwargs,
    ) -> Future[Result]:
        lock = locks.writer_lock(self._opening.result().journal)
        return writer.submit(_holding, lock, partial(function, *args, **kwargs))


def _holding(lock: Path, write: Callable[[], Result]) -> Result:
    """Writes with the lock: the process that took it may have been replaced."""
    locks.take(lock)
    return write()


def _failed(future: Future[Any]) -> bool:
    return not future.done() or future.cancelled() or future.exception() is not None


def close_adopted() -> None:
    """Closes the run that a dead `mlflow run` opened, if no study came of it."""
    with suppress(Exception):
        writer.submit(tracking.close_adopted, tracking.Caller.here()).result()


# Of this process's studies, the first is that of the run that `mlflow run` opened.
_adopted: set[str] = set()


def _to_adopt() -> str | None:
    opened = os.environ.get(RUN_ID)
    if not opened or opened in _adopted:
        return None
    _adopted.add(opened)
    return opened
