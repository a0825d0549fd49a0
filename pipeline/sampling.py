"""Owns Optuna: which hyperparameters are tried next, and the journal of what was asked and told.

There are two Optuna studies. The sampler works on one in memory, which hears of a result at once:
what is asked depends on epochs alone, not on how fast a disk is, so the same seed gives the same
study. The other is the journal: it outlives the process, and believes a trial finished only after
its run is. Nothing is ever read from it but by a resume, which asks again what was asked.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.storages.journal._file import get_lock_file
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState

from pipeline.config import ConfigError, StudyConfig
from pipeline.journal import mend, set_aside
from pipeline.results import TrialRecord, TrialResult, TrialState
from pipeline.space import Hyperparameters, SearchSpace

OPTUNA_STATE = {
    TrialState.COMPLETE: OptunaState.COMPLETE,
    TrialState.PRUNED: OptunaState.PRUNED,
    TrialState.FAILED: OptunaState.FAIL,
}

# TPE's cost grows with the trials that it looks at. Beyond the first number of finished ones it
# goes on with the second: the best half of them, from which it takes its 25 good ones, and the
# newest half.
MOST_REMEMBERED, REMEMBERED = 500, 250

# And it takes every trial in flight for a bad one: of more than the first number, it goes on with
# the newest ones alone.
MOST_IN_SIGHT, IN_SIGHT = 200, 100

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
        self._name, self._seed, self._space = config.name, config.seed, config.search_space
        self._first = first_trials(self._space)
        self._journal: optuna.Study | None = None
        self._memory = optuna.create_study(direction="minimize")
        # In the memory, or where there are very many, out of its sight.
        self._running: dict[int, optuna.Trial | FrozenTrial] = {}
        self._unwritten: list[FrozenTrial] = []
        self._before: list[FrozenTrial] = []
        self._stood: dict[int, Hyperparameters] = {}
        self.n_asked = 0

    def ask(self) -> tuple[int, Hyperparameters]:
        """The next trial's number and hyperparameters."""
        number = self.n_asked
        trial = self._asked_before(number) or self._ask()
        hyperparameters = self._space.suggest(trial)
        if number >= self.n_asked_before:
            asked = _as_asked(trial.params, trial.distributions, {NUMBER: number})
            if self._journal is None:
                self._unwritten.append(asked)
            else:
                self._journal.add_trial(asked)
        self._running[number] = trial
        self.n_asked += 1
        if len(self._in_sight) > MOST_IN_SIGHT:
            self._renew(self._finished(), self._in_sight[-IN_SIGHT:])
        return number, hyperparameters

    @property
    def n_asked_before(self) -> int:
        """How many trials the journal of a resumed study knows: they are the first to be asked."""
        return len(self._before)

    def _ask(self) -> optuna.Trial:
        self._memory.sampler = make_sampler(self._seed, self.n_asked)
        if self.n_asked < len(self._first):
            self._memory.enqueue_trial(self._space.free_parameters(self._first[self.n_asked]))
        return self._memory.ask()

    def _asked_before(self, number: int) -> optuna.Trial | None:
        """The same trial again, without the sampler: it need not be the same to the last bit."""
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
        self._memory.add_trial(_as_asked(known.params, known.distributions))
        return optuna.Trial(self._memory, self._memory.get_trials(deepcopy=False)[-1]._trial_id)

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
        trial = self._running.pop(number)
        if isinstance(trial, FrozenTrial):
            self._memory.add_trial(_as_ended(trial, result))
        else:
            _tell(self._memory, trial, result)
        finished = self._finished()
        if len(finished) > MOST_REMEMBERED:
            self._renew(_best_and_newest(finished), self._in_sight)

    def record(self, number: int, result: TrialResult | TrialRecord, run_id: str) -> None:
        """Tells the journal of a trial whose run is finished, unless it knows."""
        assert self._journal is not None
        if number < self.n_asked_before and self._before[number].state.is_finished():
            return
        study_id = self._journal._study_id
        trial_id = self._storage.get_trial_id_from_study_id_trial_number(study_id, number)
        trial = optuna.Trial(self._journal, trial_id)
        trial.set_user_attr(RUN_ID, run_id)
        _tell(self._journal, trial, result)

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

    def _finished(self) -> list[FrozenTrial]:
        return self._memory.get_trials(deepcopy=False, states=tuple(OPTUNA_STATE.values()))

    @property
    def _in_sight(self) -> list[int]:
        """Numbers of the trials in flight that the sampler looks at, in order."""
        return [
            number for number, trial in self._running.items() if isinstance(trial, optuna.Trial)
        ]

    def _renew(self, finished: Sequence[FrozenTrial], in_sight: Sequence[int]) -> None:
        """Starts the memory anew.

        Args:
            finished: The finished trials that it is to hold.
            in_sight: Numbers of the trials in flight that it is to hold; the others stay out of it
                until they end.
        """
        before = self._memory.get_trials(deepcopy=False)
        frozen = {
            number: before[trial.number] if isinstance(trial, optuna.Trial) else trial
            for number, trial in self._running.items()
        }
        self._memory = optuna.create_study(direction="minimize")
        self._memory.add_trials(finished)
        self._memory.add_trials([frozen[number] for number in in_sight])
        moved = self._memory.get_trials(deepcopy=False)[len(finished) :]
        self._running = frozen | {
            number: optuna.Trial(self._memory, trial._trial_id)
            for number, trial in zip(in_sight, moved, strict=True)
        }


def _best_and_newest(finished: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    half = REMEMBERED // 2
    complete = [trial for trial in finished if trial.state is OptunaState.COMPLETE]
    best = sorted(complete, key=lambda trial: (trial.value, trial.number))[:half]
    kept = {trial.number: trial for trial in best + list(finished[-half:])}
    return [kept[number] for number in sorted(kept)]


def make_sampler(seed: int, number: int) -> optuna.samplers.BaseSampler:
    """The sampler of one trial: its randomness is a function of the study's seed and the number.

    A resumed study therefore goes on with the numbers that an undisturbed one would have drawn.
    """
    key = np.random.SeedSequence((seed, number)).generate_state(1)
    return optuna.samplers.TPESampler(seed=int(key[0]), constant_liar=True)


def first_trials(space: SearchSpace) -> list[Hyperparameters]:
    """What every study tries first: the unregularized network, then the middle of each type."""
    plain = space.unregularized()
    penalized = [kind for kind in space.regularization if kind != "none"]
    unpenalized = [kind for kind in space.regularization if kind == "none"]
    chosen = [plain] if plain else []
    chosen += [space.default(kind) for kind in penalized + unpenalized]
    return list(dict.fromkeys(chosen))


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


def _as_ended(trial: FrozenTrial, result: TrialResult | TrialRecord) -> FrozenTrial:
    """What `_tell` makes of a trial, of one that no study holds."""
    pruned = result.state is TrialState.PRUNED
    return optuna.trial.create_trial(
        state=OPTUNA_STATE[result.state],
        value=None if result.state is TrialState.FAILED else result.val_loss,
        params=trial.params,
        distributions=trial.distributions,
        intermediate_values={len(result.history): result.val_loss} if pruned else None,
    )


def _tell(study: optuna.Study, trial: optuna.Trial, result: TrialResult | TrialRecord) -> None:
    if result.state is TrialState.PRUNED:
        # One report gives the sampler the value that Optuna keeps of a pruned trial.
        trial.report(result.val_loss, step=len(result.history))
    value = result.val_loss if result.state is TrialState.COMPLETE else None
    study.tell(trial, value, state=OPTUNA_STATE[result.state])
