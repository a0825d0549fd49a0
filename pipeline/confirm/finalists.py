"""Owns who is confirmed: the configurations that a search's question comes down to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from pipeline.config import StudyConfig
from pipeline.records import Finalist, TrialRecord
from pipeline.results import TrialState
from pipeline.space import Hyperparameters, Regularization


def choose_finalists(config: StudyConfig, trials: Sequence[TrialRecord]) -> tuple[Finalist, ...]:
    """The finalists of a search, duplicates merged; none where no trial was completed.

    - `baseline`: no penalty, no dropout, no early stopping.
    - `winner`: the trial with the lowest validation loss.
    - `early_stopping`: the baseline with the winner's patience.
    - `best_l1` and so on: the best trial of each regularization type.
    - `winner_without_penalty`, `_dropout`, `_early_stopping`.
    - `first_trial`: what the study tried first, and `default_trial`: the middle of the winner's
      type, which it tried, too: what a person has who does not search.

    Where the learning rate is searched, whatever is no trial has the winner's: what differs are
    the guardrails. Trials that were pruned or failed are no finalists.

    Args:
        config: The study.
        trials: Of its search.
    """
    complete = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    complete.sort(key=lambda trial: (trial.val_loss, trial.number))
    if not complete:
        return ()
    numbers: dict[Hyperparameters, int] = {}
    for trial in sorted(complete, key=lambda trial: trial.number):
        numbers.setdefault(trial.hyperparameters, trial.number)
    roles: dict[Hyperparameters, list[str]] = {}
    for role, hyperparameters in _roles(config, complete):
        roles.setdefault(hyperparameters, []).append(role)
    return tuple(
        Finalist(names[0], tuple(names), hyperparameters, numbers.get(hyperparameters))
        for hyperparameters, names in roles.items()
    )


def _roles(
    config: StudyConfig, complete: Sequence[TrialRecord]
) -> Iterator[tuple[str, Hyperparameters]]:
    winner = complete[0].hyperparameters
    baseline = Hyperparameters(learning_rate=winner.learning_rate)
    yield "baseline", baseline
    yield "winner", winner
    if winner.patience != "off":  # else early stopping is not part of the study
        yield "early_stopping", replace(baseline, patience=winner.patience)
    for kind in Regularization:
        best = next((t for t in complete if t.hyperparameters.regularization is kind), None)
        if best is not None:
            yield f"best_{kind}", best.hyperparameters
    unpenalized = replace(winner, regularization=Regularization.NONE, lambda_=0.0, l1_ratio=None)
    yield "winner_without_penalty", unpenalized
    yield "winner_without_dropout", replace(winner, dropout=0.0)
    yield "winner_without_early_stopping", replace(winner, patience="off")
    tried = {trial.hyperparameters for trial in complete}
    first = next((trial for trial in complete if trial.number == 0), None)
    if first is not None:
        yield "first_trial", first.hyperparameters
    default = config.search_space.default(winner.regularization)
    if default in tried:
        yield "default_trial", default
