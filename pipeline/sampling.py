"""Owns the order in which trials are asked and told, and the journal of it.

There are two Optuna studies. The sampler works on one in memory: see `sampler`. The other is the
journal: it outlives the process, and believes a trial finished only after its run is. Nothing is
ever read from it but by a resume, which asks again what was asked.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.storages.journal._file import get_lock_file
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState

from pipeline.config import ConfigError, StudyConfig
from pipeline.journal import mend, set_aside
from pipeline.records import TrialRecord
from pipeline.results import TrialResult
from pipeline.sampler import Sampler, tell_study
from pipeline.space import Hyperparameters

# Where the journal notes the run of a finished trial.
RUN_ID = "mlflow_run_id"

# Where it notes a trial's number, which Optuna only counts: lines that were lost are found out.
NUMBER = "number"

logger = logging.getLogger(__name__)


class Sampling:
    """Asks a sampler for hyperparameters, tells it results, and keeps the journal.

    Args:
        config: The study.
    """

    def __init__(self, config: StudyConfig) -> None:
        self._name, self._space = config.name, config.search_space
        self._sampler = Sampler(config.seed, self._space)
        self._journal: optuna.Study | None = None
        self._unwritten: list[FrozenTrial] = []
        self._before: list[FrozenTrial] = []
        self._stood: dict[int, Hyperparameters] = {}
        self.n_asked = 0

    def ask(self) -> tuple[int, Hyperparameters]:
        """The next trial's number and hyperparameters."""
        number = self.n_asked
        known = self._asked_before(number)
        trial = self._sampler.repeat(number, known) if known else self._sampler.ask(number)
        hyperparameters = self._space.suggest(trial)
        if number >= self.n_asked_before:
            asked = _as_asked(trial.params, trial.distributions, {NUMBER: number})
            if self._journal is None:
                self._unwritten.append(asked)
            else:
                self._journal.add_trial(asked)
        self.n_asked += 1
        return number, hyperparameters

    @property
    def n_asked_before(self) -> int:
        """How many trials the journal of a resumed study knows: they are the first to be asked."""
        return len(self._before)

    def _asked_before(self, number: int) -> FrozenTrial | None:
        """What a resumed study asked, or the store knows that it did."""
        if number < self.n_asked_before:
            params = self._before[number].params
        elif number in self._stood:
            params = self._space.free_parameters(self._stood[number])
        else:
            return None
        # Of a space that is wider by now, and not of the one that it was drawn from: the sampler
        # refuses to mix them.
        known = optuna.trial.FixedTrial(params)
        self._space.suggest(known)
        return _as_asked(known.params, known.distributions)

    def open_journal(self, path: Path) -> None:
        """Begins the journal, or opens it; what was asked before is written to it first.

        What a crash tore off is cut off, and a journal that cannot be read is set aside.

        Raises:
            ConfigError: Its file cannot be read or written.
        """
        self._path = path
        try:
            with get_lock_file(_lock_of(path)):
                wrong = mend(path)
            if wrong is not None:
                self._set_aside(wrong)
            else:
                self._open()
        except OSError as error:
            raise ConfigError(
                f"a journal must be readable and writable, however: {error.strerror} ({path})"
            ) from error

    def _open(self) -> None:
        self._storage, self._journal = _open_journal(self._path, self._name)
        self._journal.add_trials(self._unwritten)
        self._unwritten.clear()

    def _set_aside(self, wrong: str) -> None:
        """Begins the journal anew: the tracking store knows all that ended."""
        moved = set_aside(self._path)
        logger.warning("the journal was corrupt (%s): it is %s now, and begun anew", wrong, moved)
        self._before = []
        self._open()

    @property
    def has_journal(self) -> bool:
        """Whether it is open: only then can a trial be recorded."""
        return self._journal is not None

    def tell(self, number: int, result: TrialResult | TrialRecord) -> None:
        """Tells the sampler how an asked trial ended; the journal does not hear of it yet."""
        self._sampler.tell(number, result)

    def record(self, number: int, result: TrialResult | TrialRecord, run_id: str) -> None:
        """Tells the journal of a trial whose run is finished, unless it knows."""
        assert self._journal is not None
        if number < self.n_asked_before and self._before[number].state.is_finished():
            return
        study_id = self._journal._study_id
        trial_id = self._storage.get_trial_id_from_study_id_trial_number(study_id, number)
        trial = optuna.Trial(self._journal, trial_id)
        trial.set_user_attr(RUN_ID, run_id)
        tell_study(self._journal, trial, result)

    def recover(self) -> dict[int, str]:
        """Takes up an opened journal: what it knows is what `ask` begins with.

        Returns:
            The runs of the trials that it believes finished, by trial number.
        """
        assert self._journal is not None
        self._before = self._journal.get_trials(deepcopy=False)
        return {
            trial.number: trial.user_attrs[RUN_ID]
            for trial in self._before
            if RUN_ID in trial.user_attrs
        }

    def agree(self, trials: Sequence[TrialRecord]) -> None:
        """Holds the journal against the trials of the tracking store, whose word counts.

        One that tells of other trials has lost lines, and is set aside. What ended and the journal
        does not know, it was lost: it is asked again as it was.
        """
        self._stood = {trial.number: trial.hyperparameters for trial in trials}
        for known in self._before:
            if not self._agrees(known):
                self._set_aside(f"trial {known.number} is another one in the tracking store")
                return

    def _agrees(self, known: FrozenTrial) -> bool:
        if known.user_attrs.get(NUMBER, known.number) != known.number:
            return False
        try:
            chosen = self._space.suggest(optuna.trial.FixedTrial(known.params))
        except ValueError:
            return False  # something is missing
        return self._stood.get(known.number, chosen) == chosen


@contextmanager
def quiet_optuna() -> Iterator[None]:
    """Silences that a study was made, or that a dead process's lock was taken over."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


class WholeLines(JournalFileBackend):
    """A journal that a full disk leaves as it was before, instead of with a part of a line."""

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """As the base class does."""
        size = Path(self._file_path).stat().st_size
        try:
            super().append_logs(logs)
        except OSError:
            os.truncate(self._file_path, size)
            raise


def _open_journal(path: Path, name: str) -> tuple[JournalStorage, optuna.Study]:
    storage = JournalStorage(WholeLines(str(path), lock_obj=_lock_of(path)))
    return storage, optuna.create_study(
        storage=storage, study_name=name, direction="minimize", load_if_exists=True
    )


def _lock_of(path: Path) -> JournalFileSymlinkLock:
    # A killed process leaves its lock behind: the next one takes it over after these seconds.
    return JournalFileSymlinkLock(str(path), grace_period=3)


def _as_asked(
    params: dict[str, Any],
    distributions: dict[str, BaseDistribution],
    attributes: dict[str, Any] | None = None,
) -> FrozenTrial:
    return optuna.trial.create_trial(
        state=OptunaState.RUNNING,
        params=params,
        distributions=distributions,
        user_attrs=attributes,
    )
