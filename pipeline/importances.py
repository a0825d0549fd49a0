"""Owns which hyperparameters mattered in a search, by two of Optuna's evaluators."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.importance import (
    BaseImportanceEvaluator,
    FanovaImportanceEvaluator,
    PedAnovaImportanceEvaluator,
    get_param_importances,
)
from optuna.trial import FixedTrial, FrozenTrial, create_trial

from pipeline.records import TrialRecord
from pipeline.results import Array
from pipeline.sampling import quiet_optuna
from pipeline.space import Range, SearchSpace

# Fewer complete trials than these would show chance alone.
FEWEST = 10

# f-ANOVA's time grows with the trials that it looks at: for 1,000 it would be longer than the rest
# of a study's end.
MOST_FOR_F_ANOVA = 200

# Beyond this the variance of losses is no number.
LARGEST = 1e100


@dataclass(frozen=True, eq=False)
class Importances:
    """How much of the validation loss each hyperparameter decided.

    Attributes:
        names: Those that were searched, the most important by f-ANOVA first.
        f_anova: [P] shares of what the loss varies by over the whole space (Hutter, Hoos and
            Leyton-Brown 2014). One that does not apply to a trial counts as the middle of its
            range there. Of more than 200 trials it rests on as many, evenly spread over the search.
        ped_anova: [P] shares of what tells the best tenth of the trials from all (Watanabe, Bansal
            and Hutter 2023), over the trials to which each applies.
        n_trials: How many complete trials both rest on.
    """

    names: tuple[str, ...]
    f_anova: Array
    ped_anova: Array
    n_trials: int


def importances(trials: Sequence[TrialRecord], space: SearchSpace, seed: int) -> Importances | None:
    """What mattered among complete trials; None where nothing varied or too few tell.

    Args:
        trials: The complete ones.
        space: From which they were drawn.
        seed: Of f-ANOVA's random forest.
    """
    trials = [trial for trial in trials if math.isfinite(trial.val_loss)]
    scaled = _scaled(space)
    names, losses = list(scaled), {trial.val_loss for trial in trials}
    if not names or len(trials) < FEWEST or len(losses) < 2 or max(losses) > LARGEST:
        return None
    filled = [_filled(trial, space, scaled) for trial in _thinned(trials)]
    suggested = [_suggested(trial, space) for trial in trials]
    f_anova = _shares(FanovaImportanceEvaluator(seed=seed), filled, names)
    ped_anova = _shares(PedAnovaImportanceEvaluator(), suggested, names)
    order = np.argsort(-f_anova, kind="stable")
    ordered = tuple(names[place] for place in order)
    return Importances(ordered, f_anova[order], ped_anova[order], len(trials))


def _shares(
    evaluator: BaseImportanceEvaluator, trials: Sequence[FrozenTrial], names: Sequence[str]
) -> Array:
    with quiet_optuna(), warnings.catch_warnings():
        # Of regimes with few trials; the figure says how few there are.
        warnings.simplefilter("ignore")
        study = optuna.create_study()
        study.add_trials(trials)
        found = get_param_importances(study, evaluator=evaluator)
    return np.array([found.get(name, 0.0) for name in names])


def _thinned(trials: Sequence[TrialRecord]) -> list[TrialRecord]:
    trials = sorted(trials, key=lambda trial: trial.number)
    count = min(len(trials), MOST_FOR_F_ANOVA)
    return [trials[place] for place in np.linspace(0, len(trials) - 1, count).astype(int)]


def _scaled(space: SearchSpace) -> dict[str, BaseDistribution]:
    """What varies, on the scale on which it was drawn: f-ANOVA weighs a space evenly."""
    found: dict[str, BaseDistribution] = {}
    if len(space.regularization) > 1:
        found["regularization"] = CategoricalDistribution([str(k) for k in space.regularization])
    for name, each in space.ranges().items():
        if not each.fixed:
            found[name] = FloatDistribution(_on_scale(each.low, each), _on_scale(each.high, each))
    return found


def _filled(
    trial: TrialRecord, space: SearchSpace, scaled: Mapping[str, BaseDistribution]
) -> FrozenTrial:
    """A trial with a value for everything that varies: f-ANOVA's trees need one."""
    own, ranges = space.free_parameters(trial.hyperparameters), space.ranges()
    params = {name: own[name] for name in scaled if name not in ranges}
    for name in scaled.keys() & ranges.keys():
        each = ranges[name]
        params[name] = _on_scale(own.get(name, each.middle), each)
    return create_trial(params=params, distributions=dict(scaled), value=trial.val_loss)


def _suggested(trial: TrialRecord, space: SearchSpace) -> FrozenTrial:
    """A trial with what it was asked for, as the sampler knows it."""
    asked = FixedTrial(space.free_parameters(trial.hyperparameters))
    space.suggest(asked)
    return create_trial(
        params=asked.params, distributions=asked.distributions, value=trial.val_loss
    )


def _on_scale(value: Any, each: Range[int] | Range[float]) -> float:
    return math.log10(value) if each.log else float(value)
