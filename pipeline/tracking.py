"""Owns MLflow's runs: one study is a parent run, one trial a child run. No other file knows them.

What a study writes is written in the writing process (`writer`), which alone imports MLflow while a
study runs: the training process hands over and waits (`recorder`).
"""

from __future__ import annotations

import gc
import json
import logging
import os
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.config import ConfigError, StudyConfig, parse_logged_config
from pipeline.contents import (
    CURVES,
    HISTORY_FILE,
    PREPROCESSING_FILE,
    STATUS,
    STUDY_FILE,
    WEIGHTS_FILE,
    Description,
    EndedRun,
    FinishedTrial,
    flat,
    learning_curve_figure,
    read_history,
    trial_run,
)
from pipeline.results import (
    Confirmation,
    Finalist,
    History,
    ReplicateRecord,
    StopReason,
    StudyRecord,
    TrialRecord,
    TrialState,
)
from pipeline.space import Hyperparameters, Regularization
from pipeline.store import (
    TrackingError,
    absolute_uri,
    folder_of,
    impatient,
    named_failure,
    probe,
    sqlite_file,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    from pipeline.transaction import Tables

METRICS_PER_BATCH = 1000

# The study waits for training, seldom for what is written: the writer takes what cores have left.
WRITER_NICENESS = 5
PARENT_TAG = "mlflow.parentRunId"
JOURNAL_TAG = "study.journal"
PARENT_STATUS = {"complete": "FINISHED", "interrupted": "KILLED", "failed": "FAILED"}


@dataclass(frozen=True)
class Caller:
    """What decides where a study's runs go: the folder and MLflow's settings of its process.

    Attributes:
        folder: Where relative addresses begin.
        settings: MLflow's environment variables.
    """

    folder: str
    settings: tuple[tuple[str, str], ...]

    @classmethod
    def here(cls) -> Caller:
        """This process. MLflow is asked only where a script imported it, and may have set it."""
        settings = {key: value for key, value in os.environ.items() if key.startswith("MLFLOW_")}
        if "mlflow" in sys.modules:
            settings["MLFLOW_TRACKING_URI"] = _uri_set()
        return cls(str(Path.cwd()), tuple(settings.items()))

    def take_place(self) -> None:
        """Makes this process's folder and settings those of the caller."""
        os.chdir(self.folder)
        for key in [key for key in os.environ if key.startswith("MLFLOW_")]:
            del os.environ[key]
        os.environ.update(self.settings)


@dataclass(frozen=True)
class Parent:
    """Where a study's runs go: all that has to be known to write one."""

    uri: str
    experiment_id: str
    run_id: str


@dataclass(frozen=True)
class Opened:
    """A study whose parent run is open.

    Attributes:
        parent: Its place.
        record: The study, without trials.
        journal: Where Optuna's journal of the study lies, or is to lie.
        resumed: Whether there is one already.
    """

    parent: Parent
    record: StudyRecord
    journal: str
    resumed: bool


def open_study(
    caller: Caller, config: StudyConfig, description: Description, resume: bool
) -> Opened:
    """Opens a parent run, adopts the one that `mlflow run` opened, or takes up an earlier one.

    A study that is resumed under `mlflow run` goes on in the run that was opened: the children move
    over, and one parent is left.

    Args:
        caller: Where the study was started.
        config: The study.
        description: What its parent run is to hold.
        resume: Take up the newest run of the study, if there is one.

    Raises:
        TrackingError: The store cannot be reached or written to.
        ConfigError: A resumed study or its data changed since.
    """
    caller.take_place()
    uri = tracking_uri()
    with _at_store(uri), impatient():
        probe(uri)
        _create_database(uri)
        client = client_of(uri)
        opened = _resume(client, config, description) if resume else None
        return opened or _start(client, config, description)


def forget_trials(parent: Parent, numbers: set[int]) -> None:
    """Deletes runs of trials that were tracked but never told: they are trained again.

    The finalists' averages go, too: they are of replicates that may not be all.
    """
    client = client_of(parent.uri)
    for run in _children(client, parent):
        tags = run.data.tags
        unfinished = run.info.status in ("RUNNING", "SCHEDULED")
        average = tags.get("stage") == "confirm" and "replicate" not in tags
        if unfinished or average or int(tags.get("trial.number", -1)) in numbers:
            if unfinished:
                client.set_terminated(run.info.run_id, "FAILED")
            client.delete_run(run.info.run_id)


def delete_runs(parent: Parent, run_ids: Sequence[str]) -> None:
    """Deletes child runs that ended."""
    for run_id in run_ids:
        client_of(parent.uri).delete_run(run_id)


def close_study(
    parent: Parent,
    state: str,
    metrics: Mapping[str, float] | None = None,
    files: Mapping[str, bytes] | None = None,
    note: str = "",
    tags: Mapping[str, str] | None = None,
) -> None:
    """Closes the parent run, however the study ended.

    Args:
        parent: It.
        state: `complete`, `interrupted` or `failed`.
        metrics: Of the whole study.
        files: Artifacts by path.
        note: The run's description, in markdown.
        tags: Of the whole study.
    """
    client, run_id, now = client_of(parent.uri), parent.run_id, _now()
    if metrics:
        entities = [_metric(key, value, now, 0) for key, value in metrics.items()]
        client.log_batch(run_id, metrics=entities)
    if files:
        _log_files(client, run_id, files)
    described = {"mlflow.note.content": note} if note else {}
    for key, value in {**described, **(tags or {})}.items():
        client.set_tag(run_id, key, value)
    client.set_tag(run_id, "study.state", state)
    client.set_terminated(run_id, PARENT_STATUS[state])


def write_trial(parent: Parent, trial: FinishedTrial, weights: bytes) -> str:
    """Writes one trial's run from its creation to its end; returns the run id.

    Args:
        parent: Of which it is a child.
        trial: What is written.
        weights: The content of `weights.pt`.
    """
    return write_runs(parent, [trial_run(trial, weights)])[0]


def write_runs(parent: Parent, runs: Sequence[EndedRun]) -> list[str]:
    """Writes child runs from their creation to their end; returns their ids, in order."""
    common = {PARENT_TAG: parent.run_id, **_context_tags()}
    runs = [replace(run, tags={**common, **run.tags}) for run in runs]
    client = client_of(parent.uri)
    store = _database(client)
    if store is not None:
        return _write_at_once(store, parent, runs)
    return [_write_by_client(client, parent, run) for run in runs]


def _write_at_once(store: SqlAlchemyStore, parent: Parent, runs: Sequence[EndedRun]) -> list[str]:
    """First the files, then the runs, in one transaction: nothing else reads one half-written."""
    import uuid

    from mlflow.entities import LifecycleStage, SourceType
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
    from mlflow.utils.mlflow_tags import MLFLOW_RUN_NAME, MLFLOW_USER
    from mlflow.utils.uri import append_to_uri_path

    from pipeline.transaction import insert_run

    tables, run_ids = _tables(), [uuid.uuid4().hex for _ in runs]
    assert tables is not None  # or `_database` had told no store
    root = _artifact_root(store, parent.experiment_id)
    places = [append_to_uri_path(root, each, store.ARTIFACTS_FOLDER_NAME) for each in run_ids]
    for run, place in zip(runs, places, strict=True):
        if run.files:
            with _folder_of(run.files) as folder:
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
        for run, run_id, place in zip(runs, run_ids, places, strict=True):
            insert_run(
                session,
                tables,
                replace(run, tags={**run.tags, MLFLOW_RUN_NAME: run.name}),
                run_id=run_id,
                experiment_id=parent.experiment_id,
                artifact_uri=place,
                columns={**columns, "user_id": run.tags.get(MLFLOW_USER, "unknown")},
            )
    return run_ids


def _write_by_client(client: MlflowClient, parent: Parent, run: EndedRun) -> str:
    """The way of a store behind a server, or of one whose tables are not known."""
    from mlflow.entities import Param

    run_id: str = client.create_run(
        parent.experiment_id, start_time=run.started, tags=dict(run.tags), run_name=run.name
    ).info.run_id
    try:
        # First the files: to place them MLflow reads the run back, with all metrics it has by then.
        if run.files:
            _log_files(client, run_id, run.files)
        metrics = [_metric(key, value, run.ended, step) for key, value, step in run.metrics]
        params = [Param(key, value) for key, value in run.params.items()]
        client.log_batch(run_id, metrics=metrics[:METRICS_PER_BATCH], params=params)
        for start in range(METRICS_PER_BATCH, len(metrics), METRICS_PER_BATCH):
            client.log_batch(run_id, metrics=metrics[start : start + METRICS_PER_BATCH])
    except BaseException:
        client.set_terminated(run_id, "FAILED")
        client.delete_run(run_id)
        raise
    client.set_terminated(run_id, run.status, run.ended)
    return run_id


def _database(client: MlflowClient) -> SqlAlchemyStore | None:
    """The client's store, if it is a database whose tables are known."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    store = client._tracking_client.store
    return store if type(store) is SqlAlchemyStore and _tables() is not None else None


@lru_cache(maxsize=1)
def _tables() -> Tables | None:
    from mlflow.store.tracking.dbmodels import models

    from pipeline.transaction import Tables

    names = ("SqlRun", "SqlTag", "SqlParam", "SqlMetric", "SqlLatestMetric")
    tables = Tables(*(getattr(models, name).__table__ for name in names))
    return tables if tables.known else None


@lru_cache(maxsize=4)
def _artifact_root(store: SqlAlchemyStore, experiment_id: str) -> str:
    root: str = store.get_experiment(experiment_id).artifact_location
    return root


def read_study(run_id: str, uri: str | None = None) -> StudyRecord:
    """Reads a whole study back from the store.

    Args:
        run_id: The parent run's.
        uri: The store; default: the one that is set.

    Raises:
        TrackingError: There is no such run, or it is no parent run of a study.
    """
    uri = uri or tracking_uri()
    with _at_store(uri):
        _require_store(uri)
        client = client_of(uri)
        run = _get_run(client, run_id)
        if "study.state" not in run.data.tags:
            raise TrackingError(f"a report is of a study's parent run, however: {run_id} ({uri})")
        parent = Parent(uri, run.info.experiment_id, run_id)
        ended = [
            child for child in _children(client, parent) if child.info.status in STATUS.values()
        ]
        of_stage = {
            stage: [child for child in ended if child.data.tags.get("stage") == stage]
            for stage in ("search", "confirm")
        }
        trials = [_read_trial(parent, child) for child in of_stage["search"]]
        record = _study_record(client, run, trials)
        return replace(record, confirmation=_confirmation(record, of_stage["confirm"]))


@dataclass(frozen=True)
class LoggedTraining:
    """What a run tells of one training, of a trial or of a finalist on a replicate.

    Attributes:
        name: `trial 7`, or `winner on replicate 3`.
        hyperparameters, replicate: What was trained, on what.
        history: The curves that MLflow shows, not those of the artifact.
        epochs: How many were trained; a diverged one shows its finite ones.
        stop_reason: Why it ended.
        config: The study.
        digest: Of the study's data.
    """

    name: str
    hyperparameters: Hyperparameters
    replicate: int
    history: History
    epochs: int
    stop_reason: StopReason
    config: StudyConfig
    digest: str


def read_training(run_id: str) -> LoggedTraining:
    """Reads one training and its study.

    Raises:
        TrackingError: There is no such run, or it is no trial's and no replicate's.
    """
    uri = tracking_uri()
    with _at_store(uri):
        run, parent, config = _with_study(uri, run_id)
        client, tags = client_of(uri), run.data.tags
        curves = {
            field: _values_by_step(client.get_metric_history(run_id, name))
            for name, field in CURVES.items()
            if field != "gap"
        }
        number, finalist = tags.get("trial.number"), tags.get("finalist")
        replicate = int(run.data.params["replicate"])
        return LoggedTraining(
            name=f"{finalist} on replicate {replicate}" if finalist else f"trial {number}",
            hyperparameters=_hyperparameters(run),
            replicate=replicate,
            history=History(**curves),
            epochs=int(_scalars(run)["epochs"]),
            stop_reason=StopReason(tags["trial.stop_reason"]),
            config=config,
            digest=parent.data.params["data.digest"],
        )


def read_model(run_id: str) -> tuple[StudyConfig, bytes, str]:
    """Reads what predicts: the study, a network's weights, the preprocessing before it as JSON.

    All trials of a search share their study's preprocessing; a replicate has its own.

    Raises:
        TrackingError: There is no such run, or it is no trial's and no replicate's.
    """
    uri = tracking_uri()
    with _at_store(uri):
        run, parent, config = _with_study(uri, run_id)
        owner = run if run.data.tags.get("stage") == "confirm" else parent
        preprocessing = download(uri, owner.info.run_id, PREPROCESSING_FILE).decode()
        return config, download(uri, run_id, WEIGHTS_FILE), preprocessing


def download(uri: str, run_id: str, path: str) -> bytes:
    """One artifact's bytes."""
    from mlflow.artifacts import download_artifacts

    # A bar per file of a few kilobytes would be all that a person sees.
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    with tempfile.TemporaryDirectory() as folder:
        local = download_artifacts(
            run_id=run_id, artifact_path=path, dst_path=folder, tracking_uri=uri
        )
        return Path(local).read_bytes()


def log_file(run_id: str, name: str, content: bytes) -> None:
    """Replaces one artifact of a run."""
    _log_files(client_of(tracking_uri()), run_id, {name: content})


def experiment_name(config: StudyConfig) -> str:
    """The study's name, unless MLflow's own variable asks for another."""
    return os.environ.get("MLFLOW_EXPERIMENT_NAME") or config.name


def tracking_uri() -> str:
    """The store that MLflow is set to, with an absolute address."""
    return absolute_uri(_uri_set(), os.environ.get("MLFLOW_RUN_ID"))


@lru_cache(maxsize=4)
def client_of(uri: str) -> MlflowClient:
    """One client a store and process."""
    # Two lines on making a database would be all that --quiet and bad input are not to print.
    for name in ("mlflow.store.db.utils", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


def warm_up(caller: Caller) -> None:
    """Gets the writing process ready beside the caller's own imports.

    It makes the database that a study without a store will need, in a folder for temporary files:
    nothing is written to its place before the study is known to be sound.
    """
    caller.take_place()
    path = sqlite_file(tracking_uri())
    if path is not None and not path.exists():
        _new_database(caller.folder)


def get_ready() -> None:
    """What the first trial's run would otherwise wait for; from then on, training goes first."""
    learning_curve_figure()
    _context_tags()
    # loky collects garbage once a second: what was imported need not be looked through each time.
    gc.freeze()
    if hasattr(os, "setpriority"):
        niceness = max(WRITER_NICENESS, os.getpriority(os.PRIO_PROCESS, 0))
        os.setpriority(os.PRIO_PROCESS, 0, niceness)


@lru_cache(maxsize=1)
def _new_database(folder: str) -> bytes:
    """The content of a sqlite store without runs, for programs in a folder.

    MLflow's hundred migrations take seconds.
    """
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    for name in ("mlflow.store.db.utils", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch, "mlflow.db")
        SqlAlchemyStore(f"sqlite:///{path}", f"{folder}/mlruns").engine.dispose()
        return path.read_bytes()


def _start(client: MlflowClient, config: StudyConfig, description: Description) -> Opened:
    adopted = os.environ.get("MLFLOW_RUN_ID")
    run = client.get_run(adopted) if adopted else _open_run(client, config)
    if adopted:
        client.update_run(adopted, name=config.name)
    parent = Parent(client.tracking_uri, run.info.experiment_id, run.info.run_id)
    journal = folder_of(parent.uri) / "journals" / f"{parent.run_id}.journal"
    try:
        _describe(client, parent.run_id, description)
        # Before anything can be in the journal: whenever the program dies, it is found.
        client.set_tag(parent.run_id, JOURNAL_TAG, str(journal))
        record = _study_record(client, client.get_run(parent.run_id), ())
    except Exception:
        _give_up(parent)
        raise
    return Opened(parent, record, str(journal), resumed=False)


def _give_up(parent: Parent) -> None:
    with suppress(Exception):  # the first error is the one to hear of
        close_study(parent, "failed")


def _resume(client: MlflowClient, config: StudyConfig, description: Description) -> Opened | None:
    opened = os.environ.get("MLFLOW_RUN_ID")
    run = _newest_run(client, config, opened)
    if run is None:
        return None
    _refuse_changes(client, run, config, description)
    journal, old_id = run.data.tags[JOURNAL_TAG], run.info.run_id
    parent = Parent(client.tracking_uri, run.info.experiment_id, opened or old_id)
    children = _children(client, replace(parent, run_id=old_id))
    exists = Path(journal).is_file()
    if children and not exists:
        raise ConfigError(f"a resumed study must have its journal, however: it is gone ({journal})")
    try:
        if opened is None:
            client.log_text(old_id, description.files[STUDY_FILE], STUDY_FILE)
            client.set_tag(old_id, "study.state", "running")
            client.update_run(old_id, status="RUNNING")
        else:
            client.update_run(opened, name=config.name)
            _describe(client, opened, description)
            for child in children:
                client.set_tag(child.info.run_id, PARENT_TAG, opened)
            # Only now can the heir be resumed itself, and the other be spared.
            client.set_tag(opened, JOURNAL_TAG, journal)
            if run.info.status == "RUNNING":
                client.set_terminated(old_id, "KILLED")
            client.delete_run(old_id)
        record = _study_record(client, client.get_run(parent.run_id), ())
    except Exception:
        _give_up(parent)
        raise
    return Opened(parent, record, journal, resumed=exists)


def _describe(client: MlflowClient, run_id: str, description: Description) -> None:
    """Everything that is known of a study before its first trial."""
    from mlflow.entities import Dataset, DatasetInput, InputTag, Param, RunTag

    # The artifact store is probed by the first thing that belongs into it.
    files = {name: text.encode() for name, text in description.files.items()}
    _log_files(client, run_id, files)
    tags = [RunTag("study.state", "running")]
    entities = [Param(key, value) for key, value in description.params.items()]
    for start in range(0, len(entities), 100):
        client.log_batch(run_id, params=entities[start : start + 100], tags=tags)
    dataset = Dataset(
        name=description.source[-500:],
        digest=description.digest,
        source_type="local",
        source=json.dumps({"uri": description.source}),
        schema=json.dumps({"mlflow_colspec": description.schema}),
        profile=json.dumps(description.profile),
    )
    context = InputTag("mlflow.data.context", "search")
    client.log_inputs(run_id, datasets=[DatasetInput(dataset, [context])])


def _refuse_changes(
    client: MlflowClient, run: Run, config: StudyConfig, description: Description
) -> None:
    digest = run.data.params.get("data.digest")
    if digest != description.digest:
        raise ConfigError(
            f"a resumed study must have the data it began with (digest {digest}), "
            f"however: {description.digest} ({description.source})"
        )
    before = _study_config(client.tracking_uri, run.info.run_id)
    # More trials and wider populations continue a study, and confirmation comes after it; anything
    # else makes it another one.
    free: Any = {"search": {"n_trials", "population"}, "confirm": True}
    old = dict(flat(before.model_dump(mode="json", by_alias=True, exclude=free)))
    new = dict(flat(config.model_dump(mode="json", by_alias=True, exclude=free)))
    for key in sorted(old.keys() | new.keys()):
        if old.get(key) != new.get(key):
            raise ConfigError(
                f"a resumed study must be the one that began ({key} = {old.get(key)!r}), "
                f"however: {new.get(key)!r} ({key})"
            )


def _log_files(client: MlflowClient, run_id: str, files: Mapping[str, bytes]) -> None:
    with _folder_of(files) as folder:
        client.log_artifacts(run_id, folder)


@contextmanager
def _folder_of(files: Mapping[str, bytes]) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            path = Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        yield folder


def _uri_set() -> str:
    import mlflow

    uri: str = mlflow.get_tracking_uri()
    return uri


def _at_store(uri: str) -> AbstractContextManager[None]:
    from mlflow.exceptions import MlflowException

    return named_failure(uri, MlflowException)


def _create_database(uri: str) -> None:
    """Writes a new sqlite store under another name, then gives it its own.

    MLflow's migrations are no single transaction: a process that is killed among them, or two that
    begin together, would leave a file that no later one can open.
    """
    path = sqlite_file(uri)
    if path is None or path.exists():
        return
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        fresh.write_bytes(_new_database(str(Path.cwd())))
        with suppress(FileExistsError):  # another process was first: its file is as good
            os.link(fresh, path)
    finally:
        fresh.unlink(missing_ok=True)


def _require_store(uri: str) -> None:
    """A store that is only read must be there: MLflow would make an empty one."""
    path = sqlite_file(uri)
    if path is not None and not path.is_file():
        raise TrackingError(f"a tracking store must exist, however: {uri} (MLFLOW_TRACKING_URI)")


@lru_cache(maxsize=1)
def _context_tags() -> dict[str, str]:
    """User, program and commit, as `mlflow.start_run` would tag them."""
    from mlflow.tracking.context.registry import resolve_tags

    return {key: str(value) for key, value in resolve_tags().items()}


def _study_record(client: MlflowClient, run: Run, trials: Iterable[TrialRecord]) -> StudyRecord:
    return StudyRecord(
        name=run.data.params["study.name"],
        run_id=run.info.run_id,
        experiment_id=run.info.experiment_id,
        state=run.data.tags["study.state"],
        params=run.data.params,
        trials=tuple(sorted(trials, key=lambda trial: trial.number)),
        study_toml=download(client.tracking_uri, run.info.run_id, STUDY_FILE).decode(),
    )


def _read_trial(parent: Parent, run: Run) -> TrialRecord:
    content = download(parent.uri, run.info.run_id, HISTORY_FILE)
    return _trial_record(run, read_history(content))


def _trial_record(run: Run, history: History) -> TrialRecord:
    tags = run.data.tags
    return TrialRecord(
        number=int(tags["trial.number"]),
        run_id=run.info.run_id,
        state=TrialState(tags["trial.state"]),
        stop_reason=StopReason(tags["trial.stop_reason"]),
        hyperparameters=_hyperparameters(run),
        replicate=int(run.data.params["replicate"]),
        history=history,
        scalars=_scalars(run),
    )


def _hyperparameters(run: Run) -> Hyperparameters:
    params = run.data.params
    patience = params["patience"]
    ratio, rate = params.get("l1_ratio"), params.get("learning_rate")
    return Hyperparameters(
        regularization=Regularization(params["regularization"]),
        lambda_=float(params["lambda"]),
        l1_ratio=None if ratio is None else float(ratio),
        dropout=float(params.get("dropout", 0)),
        patience="off" if patience == "off" else int(patience),
        learning_rate=None if rate is None else float(rate),
    )


def _scalars(run: Run) -> dict[str, float]:
    return {
        key.removeprefix("final/"): value
        for key, value in run.data.metrics.items()
        if key.startswith("final/")
    }


def _confirmation(record: StudyRecord, runs: Iterable[Run]) -> Confirmation | None:
    """What confirm runs tell, without the finalists' averages, which follow from them."""
    runs = [run for run in runs if "replicate" in run.data.tags]
    if not runs:
        return None
    finalists, records = {}, []
    for run in runs:
        tags = run.data.tags
        number = tags.get("finalist.trial")
        finalists[int(tags["finalist.place"])] = Finalist(
            name=tags["finalist"],
            roles=tuple(tags["finalist.roles"].split()),
            hyperparameters=_hyperparameters(run),
            trial=None if number is None else int(number),
        )
        records.append(
            ReplicateRecord(
                finalist=tags["finalist"],
                replicate=int(tags["replicate"]),
                run_id=run.info.run_id,
                state=TrialState(tags["trial.state"]),
                stop_reason=StopReason(tags["trial.stop_reason"]),
                scalars=_scalars(run),
            )
        )
    return Confirmation(
        finalists=tuple(finalists[place] for place in sorted(finalists)),
        replicates=tuple(range(1, int(record.params["study.confirm.replicates"]) + 1)),
        records=tuple(sorted(records, key=lambda each: (each.finalist, each.replicate))),
        rows=(int(record.params["data.train_rows"]), int(record.params["data.val_rows"])),
    )


def _children(client: MlflowClient, parent: Parent) -> list[Run]:
    condition = f"tags.`{PARENT_TAG}` = {_quoted(parent.run_id)}"
    runs: list[Run] = []
    token: str | None = None
    while True:
        page = client.search_runs(
            [parent.experiment_id], condition, max_results=1000, page_token=token
        )
        runs += page
        token = page.token
        if not token:
            return runs


def _open_run(client: MlflowClient, config: StudyConfig) -> Run:
    name = experiment_name(config)
    found = client.get_experiment_by_name(name)
    if found is not None and found.lifecycle_stage != "active":
        raise TrackingError(
            f"an experiment must be active, however: {name!r} is deleted (restore or rename it)"
        )
    experiment_id = found.experiment_id if found else client.create_experiment(name)
    return client.create_run(experiment_id, tags=_context_tags(), run_name=config.name)


def _newest_run(client: MlflowClient, config: StudyConfig, opened: str | None) -> Run | None:
    """The newest parent run of a study that has a journal to go on from."""
    if opened is not None:
        experiment_id = client.get_run(opened).info.experiment_id
    else:
        found = client.get_experiment_by_name(experiment_name(config))
        if found is None:
            return None
        experiment_id = found.experiment_id
    runs = client.search_runs(
        [experiment_id],
        f"params.`study.name` = {_quoted(config.name)}",
        order_by=["attributes.start_time DESC"],
    )
    return next((run for run in runs if JOURNAL_TAG in run.data.tags), None)


def _get_run(client: MlflowClient, run_id: str) -> Run:
    from mlflow.exceptions import MlflowException

    try:
        return client.get_run(run_id)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        raise TrackingError(
            f"a run must exist in the tracking store, however: {run_id!r} is not in it"
        ) from error


def _metric(key: str, value: float, timestamp: int, step: int) -> Metric:
    from mlflow.entities import Metric

    return Metric(key, value, timestamp, step)


def _with_study(uri: str, run_id: str) -> tuple[Run, Run, StudyConfig]:
    """A trial's run or that of a finalist on a replicate, its parent run, and their study."""
    _require_store(uri)
    run = _get_run(client_of(uri), run_id)
    parent_id = run.data.tags.get(PARENT_TAG)
    if parent_id is None or not {"trial.number", "replicate"} & run.data.tags.keys():
        raise TrackingError(f"a run must be a trial's or a replicate's, however: {run_id} ({uri})")
    return run, client_of(uri).get_run(parent_id), _study_config(uri, parent_id)


def _study_config(uri: str, run_id: str) -> StudyConfig:
    text = download(uri, run_id, STUDY_FILE).decode()
    return parse_logged_config(text, f"{STUDY_FILE} of run {run_id}")


def _values_by_step(metrics: list[Metric]) -> NDArray[np.float64]:
    """One value a step: where a step was logged twice, the later one stands, as in the UI."""
    ordered = sorted(metrics, key=lambda metric: (metric.step, metric.timestamp))
    return np.array(list({metric.step: metric.value for metric in ordered}.values()))


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _now() -> int:
    return int(time.time() * 1000)
