"""Owns the sampler, and what it looks at: what was found, and what is in flight.

It works on a study in memory, which hears of a result at once: what is asked depends on epochs
alone, not on how fast a disk is, so the same seed gives the same study.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import optuna
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState

from pipeline.records import TrialRecord
from pipeline.results import TrialResult, TrialState
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

# And it takes every trial in flight for a bad one: of the first number, it goes on with the newest
# ones alone.
MOST_IN_SIGHT, IN_SIGHT = 200, 100


class Sampler:
    """Asks for hyperparameters, and is told how they did.

    Args:
        seed: The study's.
        space: What is searched.
    """

    def __init__(self, seed: int, space: SearchSpace) -> None:
        self._seed, self._space = seed, space
        self._first = first_trials(space)
        self._memory = optuna.create_study(direction="minimize")
        # In the memory, or where there are very many, out of its sight.
        self._running: dict[int, optuna.Trial | FrozenTrial] = {}

    def ask(self, number: int) -> optuna.Trial:
        """A trial of which the space is to suggest hyperparameters."""
        self._look_away()
        self._memory.sampler = make_sampler(self._seed, number)
        if number < len(self._first):
            self._memory.enqueue_trial(self._space.free_parameters(self._first[number]))
        trial = self._running[number] = self._memory.ask()
        return trial

    def repeat(self, number: int, known: FrozenTrial) -> optuna.Trial:
        """A trial that was asked before, without asking: it need not be the same to the last bit.

        Args:
            number: The trial's.
            known: Its parameters, with the distributions of the space as it is.
        """
        self._look_away()
        self._memory.add_trial(known)
        newest = self._memory.get_trials(deepcopy=False)[-1]
        trial = self._running[number] = optuna.Trial(self._memory, newest._trial_id)
        return trial

    def tell(self, number: int, result: TrialResult | TrialRecord) -> None:
        """How a trial ended."""
        trial = self._running.pop(number)
        if isinstance(trial, FrozenTrial):
            self._memory.add_trial(_as_ended(trial, result))
        else:
            tell_study(self._memory, trial, result)
        finished = self._finished()
        if len(finished) > MOST_REMEMBERED:
            self._renew(_best_and_newest(finished), self._in_sight())

    def _look_away(self) -> None:
        in_sight = self._in_sight()
        if len(in_sight) >= MOST_IN_SIGHT:
            self._renew(self._finished(), in_sight[-IN_SIGHT:])

    def _finished(self) -> list[FrozenTrial]:
        return self._memory.get_trials(deepcopy=False, states=tuple(OPTUNA_STATE.values()))

    def _in_sight(self) -> list[int]:
        """Numbers of the trials in flight that it looks at, in order."""
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


def _as_ended(trial: FrozenTrial, result: TrialResult | TrialRecord) -> FrozenTrial:
    """What `tell_study` makes of a trial, of one that no study holds."""
    pruned = result.state is TrialState.PRUNED
    return optuna.trial.create_trial(
        state=OPTUNA_STATE[result.state],
        value=None if result.state is TrialState.FAILED else result.val_loss,
        params=trial.params,
        distributions=trial.distributions,
        intermediate_values={len(result.history): result.val_loss} if pruned else None,
    )


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


def tell_study(study: optuna.Study, trial: optuna.Trial, result: TrialResult | TrialRecord) -> None:
    """Tells one of Optuna's studies how a trial ended."""
    if result.state is TrialState.PRUNED:
        # One report gives the sampler the value that Optuna keeps of a pruned trial. The journal of
        # a study that was killed before the tell below has it already: `Trial.report` would warn.
        trial.storage.set_trial_intermediate_value(
            trial._trial_id, len(result.history), result.val_loss
        )
    value = result.val_loss if result.state is TrialState.COMPLETE else None
    study.tell(trial, value, state=OPTUNA_STATE[result.state])
