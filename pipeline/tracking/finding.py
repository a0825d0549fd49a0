"""Owns finding a study's parent runs: the one to resume, and those that a killed program left."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline import locks
from pipeline.ancestors import PROCESSES, RUN_ID, may_begin
from pipeline.config import ConfigError, StudyConfig
from pipeline.store import sqlite_file
from pipeline.tracking.client import (
    Caller,
    Parent,
    client_of,
    context_tags,
    quoted,
    tracking_uri,
)
from pipeline.tracking.origin import ENTRY_POINT_TAG
from pipeline.tracking.writing import close_study

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

# The journal that a parent run has from its first moment, by whose locks it is known whether the
# program that made it lives.
CLAIM_TAG = "study.claim"

# The same, once the parent run is described: only then can it be resumed.
JOURNAL_TAG = "study.journal"

# Whose run it is, as MLflow has it.
USER_TAG = "mlflow.user"


def experiment_name(config: StudyConfig) -> str:
    """The study's name, unless MLflow's own variable asks for another."""
    return os.environ.get("MLFLOW_EXPERIMENT_NAME") or config.name


def locked_newest(client: MlflowClient, config: StudyConfig, adopts: str | None) -> Run | None:
    """The newest parent run of a study that has a journal to go on from.

    This process has its writer's lock from then on.

    Raises:
        ConfigError: Another process is at the study.
    """
    running = filter(partial(_is_parent, config), _running(client, config, adopts))
    begun = {run.data.tags[CLAIM_TAG] for run in running if JOURNAL_TAG not in run.data.tags}
    # Somebody has begun the study that would be resumed in a moment, or has left a writer behind
    # that goes on with it for a moment.
    waited = [locks.require_free(claim) for claim in begun if not locks.is_ours(claim)]
    if any(waited):
        close_abandoned(client, config, adopts)
    found = _newest(client, config, adopts)
    while found is not None:
        journal = found.data.tags[JOURNAL_TAG]
        if not Path(journal).parent.is_dir():
            raise gone(journal)
        locks.take_as_writer(journal)
        # Who had the lock until now may have moved the study to another run.
        found = _newest(client, config, adopts)
        if found is not None and found.data.tags[JOURNAL_TAG] == journal:
            return found
        locks.let_go(locks.writer_lock(journal))
    return None


def gone(journal: str) -> ConfigError:
    """What is wrong where a study's journal is missing."""
    return ConfigError(f"a resumed study must have its journal, however: it is gone ({journal})")


def parents_of(client: MlflowClient, experiment_id: str, journal: str) -> list[Run]:
    """All parent runs of a journal, in the state of a move from one to the other, if it was cut."""
    condition = f"tags.`{JOURNAL_TAG}` = {quoted(journal)}"
    return list(client.search_runs([experiment_id], condition))


def close_abandoned(client: MlflowClient, config: StudyConfig, adopts: str | None) -> None:
    """Closes the study's parent runs that a killed program left open; those of a living one stay.

    One that was described can be resumed all the same.
    """
    for run in _running(client, config, adopts):
        left = _is_parent(config, run) and locks.is_abandoned(run.data.tags[CLAIM_TAG])
        if left or (run.info.run_id != adopts and _never_began(client, run)):
            parent = Parent(client.tracking_uri, run.info.experiment_id, run.info.run_id)
            close_study(parent, "failed")


def _never_began(client: MlflowClient, run: Run) -> bool:
    """Whether `mlflow run` opened a run, and was killed with its program before a study came of it.

    Only of this user on this machine can that be known.
    """
    tags = run.data.tags
    return (
        CLAIM_TAG not in tags
        and tags.get(ENTRY_POINT_TAG) == "main"
        and "study" in run.data.params  # no other project's
        and tags.get(USER_TAG) == context_tags()[USER_TAG]
        and sqlite_file(client.tracking_uri) is not None
        and PROCESSES.is_dir()
        and not may_begin(run.info.run_id, run.info.start_time / 1000)
    )


def close_adopted(caller: Caller) -> None:
    """Closes the run that `mlflow run` opened and can close no more, if it is still open."""
    caller.take_place()
    client, run_id = client_of(tracking_uri()), os.environ[RUN_ID]
    run = client.get_run(run_id)
    if run.info.status == "RUNNING":
        parent = Parent(client.tracking_uri, run.info.experiment_id, run_id)
        close_study(parent, "interrupted")


def _newest(client: MlflowClient, config: StudyConfig, adopts: str | None) -> Run | None:
    experiment_id = _experiment_id(client, config, adopts)
    if experiment_id is None:
        return None
    runs = client.search_runs(
        [experiment_id],
        f"params.`study.name` = {quoted(config.name)}",
        order_by=["attributes.start_time DESC"],
    )
    return next((run for run in runs if JOURNAL_TAG in run.data.tags), None)


def _running(client: MlflowClient, config: StudyConfig, adopts: str | None) -> list[Run]:
    """What is RUNNING in the study's experiment."""
    experiment_id = _experiment_id(client, config, adopts)
    if experiment_id is None:
        return []
    return list(client.search_runs([experiment_id], "attributes.status = 'RUNNING'"))


def _is_parent(config: StudyConfig, run: Run) -> bool:
    """Whether it is a parent run of the study that tells what journal it has."""
    named = config.name in (run.info.run_name, run.data.params.get("study.name"))
    return named and CLAIM_TAG in run.data.tags


def _experiment_id(client: MlflowClient, config: StudyConfig, adopts: str | None) -> str | None:
    if adopts is not None:
        return str(client.get_run(adopts).info.experiment_id)
    found = client.get_experiment_by_name(experiment_name(config))
    return None if found is None else found.experiment_id
