"""Owns the study's side of tracking: what is handed to the writing process, and waited for.

The training process never imports MLflow. It begins to train while the other one still opens the
store, and hears of what went wrong there at the next look.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
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
from pipeline.contents import Description, EndedRun, FinishedTrial
from pipeline.results import StudyRecord
from pipeline.tracking import registry

Result = TypeVar("Result")
Arguments = ParamSpec("Arguments")


def start_writer() -> None:
    """Starts the writing process, so that its imports overlap with the caller's own work."""
    _warmed_up(tracking.Caller.here())


@lru_cache(maxsize=1)
def _warmed_up(caller: tracking.Caller) -> Future[None]:
    return writer.submit(tracking.warm_up, caller)


class Recorder:
    """A study's parent run, and the way to its children's.

    Made at a study's start; `finish` must be called once, however the study ends, or `drop`.

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
        caller = replace(tracking.Caller.here(), adopts=_to_adopt())
        self._opening = writer.submit(
            tracking.open_study, caller, config, description, resume, accept_changes
        )
        self._ready = [writer.submit(tracking.get_ready)]
        if config.confirm.replicates:
            self._ready.append(writer.submit(registry.get_ready))

    def look(self) -> tracking.Opened | None:
        """The study's parent run, or None while it is still being opened.

        Raises:
            ConfigError: What `tracking.open_study` raises.
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
        """Puts a resumed study's runs in order and reads them: see `tracking.recover_study`."""
        parent = self.opened().parent
        return self.wait(self._submit(tracking.recover_study, parent, run_ids))

    def log(self, trial: FinishedTrial, weights: bytes) -> Future[str]:
        """Hands a trial over; `wait` for what is returned before Optuna's journal is told."""
        parent = self.opened().parent
        return self._submit(tracking.write_trial, parent, trial, weights)

    def log_runs(self, runs: Sequence[EndedRun]) -> Future[list[str]]:
        """Hands child runs over, to be written together; `wait` for their ids."""
        return self._submit(tracking.write_runs, self.opened().parent, runs)

    def weights_of(self, run_ids: Sequence[str]) -> dict[str, bytes]:
        """The `weights.pt` of child runs: see `tracking.read_weights`."""
        return self.wait(writer.submit(tracking.read_weights, self.opened().parent.uri, run_ids))

    def delete(self, run_ids: Sequence[str]) -> None:
        """Deletes child runs that ended."""
        self.wait(self._submit(tracking.delete_runs, self.opened().parent, run_ids))

    def register(self, champion: Champion, promote: bool) -> Future[registry.Registration]:
        """Registers the model that a study ends with: see `registry.register_champion`."""
        return self._submit(registry.register_champion, self.opened().parent, champion, promote)

    def wait(self, future: Future[Result]) -> Result:
        """What the writing process makes of something; raises what went wrong there."""
        while not future.done():
            wait_for([future], timeout=0.2)
            self._stop_if_asked()
        return future.result()

    @staticmethod
    def abandon(written: Sequence[Future[Any]]) -> None:
        """Gives up runs that cannot be written; what the writer has begun, it ends first."""
        wait_for([future for future in written if not future.cancel()])

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
        opened = self._opening.result()
        closing = (opened.parent, state, metrics, files, note, tags, experiment_note)
        # Of a study that was cut off, nothing more is written that imports would be wanted for.
        ready = [each for each in self._ready if state == "complete" or not each.cancel()]
        try:
            self._submit(tracking.close_study, *closing).result()
            for each in ready:
                each.result()
        finally:
            locks.let_go(locks.study_lock(opened.journal))
            writer.submit(locks.let_go, locks.writer_lock(opened.journal)).result()

    def drop(self) -> None:
        """Leaves the study as it stands, like a program that is killed: a resume repairs it."""
        writer.discard()
        if self._locked:
            locks.let_go(locks.study_lock(self._opening.result().journal))

    def _submit(
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
