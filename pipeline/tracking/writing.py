"""Owns writing runs: one a trial, one a finalist and replicate, each whole and ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

from pipeline.contents import STATUS, EndedRun, FinishedTrial, trial_run
from pipeline.tracking.client import (
    PARENT_TAG,
    Parent,
    children_of,
    client_of,
    context_tags,
    folder_of,
    log_files,
    milliseconds,
    quoted,
)
from pipeline.tracking.note import describe_experiment
from pipeline.tracking.patience import patience_with
from pipeline.tracking.view import NOTE_TAG

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    from pipeline.tracking.transaction import Tables

METRICS_PER_BATCH = 1000

# What tells whether a run was written before: creating one is nothing that can be repeated.
WRITE_TAG = "study.write"

PARENT_STATUS = {"complete": "FINISHED", "interrupted": "KILLED", "failed": "FAILED"}


def write_trial(parent: Parent, trial: FinishedTrial, weights: bytes) -> str:
    """Writes one trial's run from its creation to its end; returns the run id.

    Args:
        parent: Of which it is a child.
        trial: What is written.
        weights: The content of `weights.pt`.
    """
    return write_runs(parent, [trial_run(trial, weights)])[0]


def write_runs(parent: Parent, runs: Sequence[EndedRun]) -> list[str]:
    """Writes child runs from their creation to their end; returns their ids, in order.

    What was written before, wholly or in part, is not written twice.
    """
    common = {PARENT_TAG: parent.run_id, **context_tags()}
    runs = [replace(run, tags={**common, WRITE_TAG: run.write, **run.tags}) for run in runs]
    client = client_of(parent.uri)
    store = _database(client)
    if store is not None:
        return _write_at_once(store, parent, runs)
    return [_write_by_client(client, parent, run) for run in runs]


def _write_at_once(store: SqlAlchemyStore, parent: Parent, runs: Sequence[EndedRun]) -> list[str]:
    """First the files, then the runs, in one transaction: nothing else reads one half-written."""
    from mlflow.entities import LifecycleStage, SourceType
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
    from mlflow.utils.mlflow_tags import MLFLOW_RUN_NAME, MLFLOW_USER
    from mlflow.utils.uri import append_to_uri_path

    from pipeline.tracking.transaction import insert_run, standing

    tables = known_tables()
    assert tables is not None  # or `_database` had told no store
    all_ids = [run.write for run in runs]
    with store.ManagedSessionMaker() as session:
        known = standing(session, tables, all_ids)
    runs = [run for run in runs if run.write not in known]
    root = artifact_root(store, parent.experiment_id)
    places = [append_to_uri_path(root, run.write, store.ARTIFACTS_FOLDER_NAME) for run in runs]
    for run, place in zip(runs, places, strict=True):
        if run.files:
            with folder_of(run.files) as folder:
                get_artifact_repository(place).log_artifacts(folder)
    columns = {
        "source_type": SourceType.to_string(SourceType.UNKNOWN),
        "source_name": "",
        "entry_point_name": "",
        "source_version": "",
        "deleted_time": None,
        "lifecycle_stage": LifecycleStage.ACTIVE,
    }
    with store.ManagedSessionMaker(read_only=False) as session:
        for run, place in zip(runs, places, strict=True):
            insert_run(
                session,
                tables,
                replace(run, tags={**run.tags, MLFLOW_RUN_NAME: run.name}),
                run_id=run.write,
                experiment_id=parent.experiment_id,
                artifact_uri=place,
                columns={**columns, "user_id": run.tags.get(MLFLOW_USER, "unknown")},
            )
    return all_ids


def _write_by_client(client: MlflowClient, parent: Parent, run: EndedRun) -> str:
    """The way of a store behind a server, or of one whose tables are not known."""
    from mlflow.entities import Param

    found = find_run(client, parent.experiment_id, run.write)
    if found is not None and found.info.status in STATUS.values():
        return str(found.info.run_id)
    started = found or client.create_run(
        parent.experiment_id, start_time=run.started, tags=dict(run.tags), run_name=run.name
    )
    run_id: str = started.info.run_id
    try:
        # First the files: to place them MLflow reads the run back, with all metrics it has by then.
        if run.files:
            log_files(client, run_id, run.files)
        metrics = [_metric(key, value, run.ended, step) for key, value, step in run.metrics]
        params = [Param(key, value) for key, value in run.params.items()]
        client.log_batch(run_id, metrics=metrics[:METRICS_PER_BATCH], params=params)
        for start in range(METRICS_PER_BATCH, len(metrics), METRICS_PER_BATCH):
            client.log_batch(run_id, metrics=metrics[start : start + METRICS_PER_BATCH])
    except BaseException as error:
        if not patience_with(error):  # else it is found and filled by the next try
            with suppress(Exception):  # the first error is the one to hear of
                client.set_terminated(run_id, "FAILED")
                client.delete_run(run_id)
        raise
    client.set_terminated(run_id, run.status, run.ended)
    return run_id


def find_run(client: MlflowClient, experiment_id: str, write: str) -> Run | None:
    """The run of a try before this one, whose answer was lost."""
    condition = f"tags.`{WRITE_TAG}` = {quoted(write)}"
    return next(iter(client.search_runs([experiment_id], condition, max_results=1)), None)


def _database(client: MlflowClient) -> SqlAlchemyStore | None:
    """The client's store, if it is a database whose tables are known."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    store = client._tracking_client.store
    return store if type(store) is SqlAlchemyStore and known_tables() is not None else None


@lru_cache(maxsize=1)
def known_tables() -> Tables | None:
    """MLflow's tables; None where they are not made as `transaction` expects."""
    from mlflow.store.tracking.dbmodels import models

    from pipeline.tracking.transaction import Tables

    names = ("SqlRun", "SqlTag", "SqlParam", "SqlMetric", "SqlLatestMetric")
    tables = Tables(*(getattr(models, name).__table__ for name in names))
    return tables if tables.known else None


@lru_cache(maxsize=4)
def artifact_root(store: SqlAlchemyStore, experiment_id: str) -> str:
    """Where an experiment's runs have their files."""
    root: str = store.get_experiment(experiment_id).artifact_location
    return root


def _metric(key: str, value: float, timestamp: int, step: int) -> Metric:
    from mlflow.entities import Metric

    return Metric(key, value, timestamp, step)


def delete_runs(parent: Parent, run_ids: Sequence[str]) -> None:
    """Deletes child runs that ended."""
    for run_id in run_ids:
        client_of(parent.uri).delete_run(run_id)


def _remove_unfinished(client: MlflowClient, parent: Parent) -> None:
    """Of a request whose answer came too late, a server may have made a run that nobody knows."""
    if _database(client) is not None:
        return  # there is no run there but whole ones
    for run in children_of(client, parent):
        if run.info.status not in STATUS.values():
            client.set_terminated(run.info.run_id, "FAILED")
            client.delete_run(run.info.run_id)


def close_study(
    parent: Parent,
    state: str,
    metrics: Mapping[str, float] | None = None,
    files: Mapping[str, bytes] | None = None,
    note: str = "",
    tags: Mapping[str, str] | None = None,
    experiment_note: str = "",
    now: int | None = None,
) -> None:
    """Closes the parent run, however the study ended.

    Args:
        parent: It.
        state: `complete`, `interrupted` or `failed`.
        metrics: Of the whole study.
        files: Artifacts by path.
        note: The run's description, in markdown.
        tags: Of the whole study.
        experiment_note: The experiment's description, likewise.
        now: The time, in milliseconds since 1970: whoever tries again says the same one.
    """
    client, run_id, now = client_of(parent.uri), parent.run_id, now or milliseconds()
    if metrics:
        entities = [_metric(key, value, now, 0) for key, value in metrics.items()]
        client.log_batch(run_id, metrics=entities)
    if files:
        log_files(client, run_id, files)
    described = {NOTE_TAG: note} if note else {}
    for key, value in {**described, **(tags or {})}.items():
        client.set_tag(run_id, key, value)
    if state == "complete":
        _remove_unfinished(client, parent)
    client.set_tag(run_id, "study.state", state)
    client.set_terminated(run_id, PARENT_STATUS[state], now)
    if experiment_note:
        describe_experiment(client, parent.experiment_id, experiment_note)
