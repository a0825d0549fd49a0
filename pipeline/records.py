"""Owns what the tracking store tells of a study: its trials, and its finalists on replicates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipeline.results import Array, History, StopReason, TrialState
from pipeline.space import Hyperparameters, Regularization


@dataclass(frozen=True, eq=False)
class TrialRecord:
    """One trial as the tracking store tells of it.

    Attributes:
        number: Optuna's trial number.
        run_id: Its MLflow run.
        state, stop_reason: What became of it, and why it ended.
        hyperparameters: What was trained.
        replicate: The replicate number.
        history: The finite points of its curves.
        scalars: What MLflow shows under `final/`, without the prefix; empty for a failed trial
            but for `epochs`.
    """

    number: int
    run_id: str
    state: TrialState
    stop_reason: StopReason
    hyperparameters: Hyperparameters
    replicate: int
    history: History
    scalars: Mapping[str, float]

    @property
    def val_loss(self) -> float:
        """Validation loss at the kept epoch; NaN for a failed trial."""
        return self.scalars.get("val_loss", float("nan"))


# In the order in which finalists are chosen and listed.
ROLES = (
    *("baseline", "winner", "early_stopping"),
    *(f"best_{kind}" for kind in Regularization),
    *("winner_without_penalty", "winner_without_dropout", "winner_without_early_stopping"),
    *("first_trial", "default_trial"),
)


@dataclass(frozen=True)
class Finalist:
    """A configuration that is trained again on fresh replicates.

    Attributes:
        name: Its first role.
        roles: All of its roles: `baseline`, `winner`, `best_l1` and so on. Roles whose
            hyperparameters are the same are one finalist.
        hyperparameters: What is trained.
        trial: The number of the trial it was in the search, None if it was none.
    """

    name: str
    roles: tuple[str, ...]
    hyperparameters: Hyperparameters
    trial: int | None


@dataclass(frozen=True, eq=False)
class ReplicateRecord:
    """One finalist on one fresh replicate, as the tracking store tells of it.

    Attributes:
        finalist: Its name.
        replicate: The replicate number, from 1: the search is replicate 0.
        run_id: Its MLflow run.
        state, stop_reason: What became of it, and why it ended.
        scalars: What MLflow shows under `final/`, without the prefix: those of a trial, and
            `test_loss` and `test_score`. Empty for a failed one but for `epochs`.
    """

    finalist: str
    replicate: int
    run_id: str
    state: TrialState
    stop_reason: StopReason
    scalars: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class Confirmation:
    """The finalists of a search, trained again on fresh replicates.

    Attributes:
        finalists: In the order in which they are listed.
        replicates: The replicate numbers, the same for every finalist.
        records: One per finalist and replicate; fewer while the confirmation is not finished.
        rows: How many rows each replicate trains on, and is validated on.
    """

    finalists: tuple[Finalist, ...]
    replicates: tuple[int, ...]
    records: tuple[ReplicateRecord, ...]
    rows: tuple[int, int]

    @property
    def finished(self) -> bool:
        """Whether every finalist was trained on every replicate."""
        return len(self.records) == len(self.finalists) * len(self.replicates)

    def finalist(self, role: str) -> Finalist | None:
        """The finalist that has this role."""
        return next((each for each in self.finalists if role in each.roles), None)

    def values(self, finalist: str, metric: str) -> Array:
        """[R] values of one finalist, by replicate; NaN where there is none."""
        found = {
            each.replicate: each.scalars.get(metric, np.nan)
            for each in self.records
            if each.finalist == finalist
        }
        return np.array([found.get(number, np.nan) for number in self.replicates])


@dataclass(frozen=True)
class Origin:
    """What a study was made by, as far as that is known.

    Attributes:
        command: As a person would type it; None for a study of a notebook or a script.
        project_command: The same under `mlflow run`; None without it.
        commit: Of the repository that holds this package; None where it is in none.
        dirty: Whether tracked files differed from the commit; files that git does not track count
            as nothing.
    """

    command: str | None = None
    project_command: str | None = None
    commit: str | None = None
    dirty: bool | None = None


@dataclass(frozen=True, eq=False)
class StudyRecord:
    """One run of a study as the tracking store tells of it: all that a report may rest on.

    Attributes:
        name: The study's.
        run_id, experiment_id: Of the parent run.
        state: `running`, `complete`, `interrupted` or `failed`.
        params: The parent's params: `study.*` and `data.*`.
        trials: By number; those told so far.
        study_toml: The study file, resolved.
        confirmation: Its finalists on fresh replicates, None before they are known or without
            confirmation.
        kernels: All weights of a network's kernels in one row, by trial number, of those in
            `best_of_types` whose weights were read.
        origin: What it was made by.
    """

    name: str
    run_id: str
    experiment_id: str
    state: str
    params: Mapping[str, str]
    trials: tuple[TrialRecord, ...]
    study_toml: str
    confirmation: Confirmation | None = None
    kernels: Mapping[int, NDArray[np.float32]] = field(default_factory=dict)
    origin: Origin = Origin()

    @property
    def complete(self) -> list[TrialRecord]:
        """Trials that ran to their end, best first."""
        done = [trial for trial in self.trials if trial.state is TrialState.COMPLETE]
        return sorted(done, key=lambda trial: (trial.val_loss, trial.number))

    @property
    def best(self) -> TrialRecord | None:
        """The complete trial with the lowest validation loss."""
        return next(iter(self.complete), None)

    @property
    def best_of_types(self) -> list[TrialRecord]:
        """The best complete trial of each regularization type that has one, `none` first."""
        best: dict[Regularization, TrialRecord] = {}
        for trial in self.complete:
            best.setdefault(trial.hyperparameters.regularization, trial)
        return [best[kind] for kind in Regularization if kind in best]
