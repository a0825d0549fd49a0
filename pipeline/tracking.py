"""Owns MLflow: the only file that knows it. One study is a parent run, one trial a child run.

Trials are written by a second process, one at a time and in order, while the next ones train:
about a thousand rows a trial go through MLflow's and SQLAlchemy's Python code, which a thread of
the training process would have to stop for. `StudyTracker.log` hands a trial over and returns a
handle; `wait` blocks until its run is finished in the store, and raises what went wrong there.
A process that would only wait takes trials back and writes them itself: `write_here`.
"""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline import writer
from pipeline.config import ConfigError, StudyConfig, parse_config
from pipeline.contents import (
    CURVES,
    HISTORY_FILE,
    WEIGHTS_FILE,
    FinishedTrial,
    final_values,
    learning_curve_figure,
    read_history,
    trial_params,
    write_files,
)
from pipeline.data import columns_frame
from pipeline.results import (
    History,
    StopReason,
    StudyRecord,
    TrialRecord,
    TrialState,
)
from pipeline.space import Hyperparameters, Regularization
from pipeline.store import (
    TrackingError,
    absolute_uri,
    impatient,
    is_server,
    masked,
    named_failure,
    probe,
    sqlite_file,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run

    from pipeline.data import Splits, Table

METRICS_PER_BATCH = 1000
PARENT_TAG = "mlflow.parentRunId"
STUDY_FILE = "study.toml"
COLUMNS_FILE = "columns.csv"
PREPROCESSING_FILE = "preprocessing.json"
STATUS = {
    TrialState.COMPLETE: "FINISHED",
    TrialState.PRUNED: "KILLED",
    TrialState.FAILED: "FAILED",
}


@dataclass(frozen=True)
class Parent:
    """Where a study's runs go: all that the writing process has to know."""

    uri: str
    experiment_id: str
    run_id: str


class StudyTracker:
    """The parent run of one run of a study, and the writer of its children.

    Made by `start` or `resume`; `finish` must be called once, however the study ends.
    """

    def __init__(self, parent: Parent, config: StudyConfig) -> None:
        self.parent, self.config = parent, config
        self._client = client_of(parent.uri)

    @classmethod
    def start(cls, config: StudyConfig, table: Table, splits: Splits) -> StudyTracker:
        """Opens a parent run, or adopts the one that `mlflow run` opened.

        Raises:
            TrackingError: The store cannot be reached or written to.
        """
        uri = tracking_uri()
        with _at_store(uri), impatient():
            probe(uri)
            _create_database(uri)
            client = client_of(uri)
            adopted = os.environ.get("MLFLOW_RUN_ID")
            run = client.get_run(adopted) if adopted else _open_run(client, config)
            if adopted:
                client.update_run(adopted, name=config.name)
            tracker = cls(Parent(uri, run.info.experiment_id, run.info.run_id), config)
            try:
                tracker._describe(table, splits)
            except Exception:
                with suppress(Exception):  # the first error is the one to hear of
                    tracker.finish("failed")
                raise
        return tracker

    @classmethod
    def resume(cls, config: StudyConfig, table: Table, splits: Splits) -> StudyTracker | None:
        """Takes up the newest run of the study; None where there is none.

        Under `mlflow run`, the run that it opened takes the other's place: the children move over,
        and one parent is left.

        Raises:
            TrackingError: The store cannot be reached or written to.
            ConfigError: The study or its data changed since.
        """
        uri = tracking_uri()
        opened = os.environ.get("MLFLOW_RUN_ID")
        with _at_store(uri), impatient():
            probe(uri)
            _create_database(uri)
            client = client_of(uri)
            run = _newest_run(client, config, opened)
            if run is None:
                return None
            tracker = cls(Parent(uri, run.info.experiment_id, run.info.run_id), config)
            tracker._refuse_changes(run, table)
            if opened is None:
                client.update_run(run.info.run_id, status="RUNNING")
                client.set_tag(run.info.run_id, "study.state", "running")
                client.log_text(run.info.run_id, config.to_toml(), STUDY_FILE)
                return tracker
            heir = cls(Parent(uri, run.info.experiment_id, opened), config)
            client.update_run(opened, name=config.name)
            heir._describe(table, splits)
            for child in tracker._children():
                client.set_tag(child.info.run_id, PARENT_TAG, opened)
            # Only now can the heir be resumed itself, and the other be spared.
            heir.journal = run.data.tags["study.journal"]
            if run.info.status == "RUNNING":
                client.set_terminated(run.info.run_id, "KILLED")
            client.delete_run(run.info.run_id)
        return heir

    def log(self, trial: FinishedTrial) -> Future[str]:
        """Hands a trial to the writer; `wait` on what is returned before Optuna is told."""
        written: Future[str] = writer.submit(write_trial, self.parent, trial)
        return written

    def write_here(self, trial: FinishedTrial, handed_over: Future[str]) -> Future[str] | None:
        """Takes a trial back and writes it in this process; None if the writer has begun it."""
        if not handed_over.cancel():
            return None
        written: Future[str] = Future()
        written.set_result(write_trial(self.parent, trial))
        return written

    @staticmethod
    def wait(written: Future[str], stop_if_asked: Callable[[], None]) -> str:
        """The run id of a handed-over trial, once its run is finished in the store."""
        while not written.done():
            wait_for([written], timeout=0.2)
            stop_if_asked()
        return written.result()

    @staticmethod
    def abandon(written: list[Future[str]]) -> None:
        """Gives up trials that cannot be written; what the writer has begun, it ends first."""
        wait_for([future for future in written if not future.cancel()])

    def forget(self, numbers: set[int]) -> None:
        """Deletes runs of trials that were tracked but never told: they are trained again."""
        for run in self._children():
            unfinished = run.info.status in ("RUNNING", "SCHEDULED")
            if unfinished or int(run.data.tags.get("trial.number", -1)) in numbers:
                if unfinished:
                    self._client.set_terminated(run.info.run_id, "FAILED")
                self._client.delete_run(run.info.run_id)

    @property
    def journal(self) -> str:
        """Where Optuna's journal of this study lies: a tag of the parent run."""
        tags: dict[str, str] = self._client.get_run(self.parent.run_id).data.tags
        return tags.get("study.journal", "")

    @journal.setter
    def journal(self, path: str) -> None:
        self._client.set_tag(self.parent.run_id, "study.journal", path)

    def record(self, trials: Iterable[TrialRecord]) -> StudyRecord:
        """The study with these trials, as `read_study` would read it back."""
        return _study_record(self._client, self._client.get_run(self.parent.run_id), trials)

    def finish(
        self,
        state: str,
        seconds: Mapping[str, float] | None = None,
        files: Mapping[str, bytes] | None = None,
        note: str = "",
        record: StudyRecord | None = None,
    ) -> None:
        """Closes the parent run.

        Args:
            state: `complete`, `interrupted` or `failed`.
            seconds: Wall time by phase, logged under `time/`.
            files: Artifacts by path.
            note: The run's description, in markdown.
            record: The study as told, from which counts and the best trial are logged.
        """
        run_id, metrics = self.parent.run_id, {}
        if record is not None:
            states = [trial.state for trial in record.trials]
            metrics = {"study/trials": float(len(states))}
            metrics |= {f"study/{s}": float(states.count(s)) for s in TrialState}
            if record.best is not None:
                best = record.best
                metrics |= {
                    "best/val_loss": best.val_loss,
                    "best/gap": best.scalars["gap"],
                    "best/trial": float(best.number),
                }
        metrics |= {f"time/{phase}": value for phase, value in (seconds or {}).items()}
        if metrics:
            now = _now()
            entities = [_metric(key, value, now, 0) for key, value in metrics.items()]
            self._client.log_batch(run_id, metrics=entities)
        if files:
            with tempfile.TemporaryDirectory() as folder:
                for name, content in files.items():
                    path = Path(folder, name)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(content)
                self._client.log_artifacts(run_id, folder)
        if note:
            self._client.set_tag(run_id, "mlflow.note.content", note)
        self._client.set_tag(run_id, "study.state", state)
        status = {"complete": "FINISHED", "interrupted": "KILLED"}.get(state, "FAILED")
        self._client.set_terminated(run_id, status)

    def _describe(self, table: Table, splits: Splits) -> None:
        """Everything that is known of a study before its first trial."""
        from mlflow.entities import Dataset, DatasetInput, InputTag, Param, RunTag

        config, run_id = self.config, self.parent.run_id
        # The artifact store is probed by the first thing that belongs into it.
        self._client.log_text(run_id, config.to_toml(), STUDY_FILE)
        params = {
            "data.digest": table.digest,
            "data.task": str(table.task),
            "data.target": table.target_name,
            "data.rows": table.n_rows,
            "data.features": table.n_features,
            "data.train_rows": len(splits.train_rows),
            "data.val_rows": len(splits.val_rows),
            "data.test_rows": len(splits.test_rows),
        }
        document = config.model_dump(mode="json", by_alias=True, exclude_none=True)
        data = document.pop("data")
        # What is empty was left as it was.
        given = {f"data.{key}": value for key, value in data.items() if value not in ("", [])}
        params = {**given, **params}
        params |= {f"study.{key}": value for key, value in _flat(document)}
        tags = [RunTag("study.state", "running")]
        entities = [Param(key, str(value)[:6000]) for key, value in params.items()]
        for start in range(0, len(entities), 100):
            self._client.log_batch(run_id, params=entities[start : start + 100], tags=tags)
        log_table(self._client, run_id, table, splits)
        schema = {"features": list(table.feature_names[:50]), "target": table.target_name}
        dataset = Dataset(
            name=table.source[-500:],
            digest=table.digest,
            source_type="local",
            source=_json({"uri": table.source}),
            schema=_json({"mlflow_colspec": schema}),
            profile=_json({"num_rows": table.n_rows, "num_features": table.n_features}),
        )
        context = InputTag("mlflow.data.context", "search")
        self._client.log_inputs(run_id, datasets=[DatasetInput(dataset, [context])])

    def _refuse_changes(self, run: Run, table: Table) -> None:
        digest = run.data.params.get("data.digest")
        if digest != table.digest:
            raise ConfigError(
                f"a resumed study must have the data it began with (digest {digest}), "
                f"however: {table.digest} ({table.source})"
            )
        text = download(self.parent.uri, run.info.run_id, STUDY_FILE).decode()
        before = parse_config(text, STUDY_FILE, Path("/"))
        # More trials and wider populations continue a study; anything else makes it another one.
        free = {"search": {"n_trials", "population"}}
        old = dict(_flat(before.model_dump(mode="json", by_alias=True, exclude=free)))
        new = dict(_flat(self.config.model_dump(mode="json", by_alias=True, exclude=free)))
        for key in sorted(old.keys() | new.keys()):
            if old.get(key) != new.get(key):
                raise ConfigError(
                    f"a resumed study must be the one that began ({key} = {old.get(key)!r}), "
                    f"however: {new.get(key)!r} ({key})"
                )

    def _children(self) -> list[Run]:
        return _children(self._client, self.parent)


def write_trial(parent: Parent, trial: FinishedTrial) -> str:
    """Writes one trial's run from its creation to its end; returns the run id."""
    from mlflow.entities import Param

    client, result = client_of(parent.uri), trial.result
    tags = {
        PARENT_TAG: parent.run_id,
        "stage": "search",
        "trial.number": str(trial.number),
        "trial.state": str(result.state),
        "trial.stop_reason": str(result.stop_reason),
        **_context_tags(),
    }
    run_id: str = client.create_run(
        parent.experiment_id,
        start_time=trial.started,
        tags=tags,
        run_name=f"trial-{trial.number:04d}",
    ).info.run_id
    try:
        # First the files: to place them MLflow reads the run back, with all metrics it has by then.
        with tempfile.TemporaryDirectory() as folder:
            write_files(Path(folder), trial)
            client.log_artifacts(run_id, folder)
        history = result.history
        epochs = np.flatnonzero(history.finite)
        metrics = [
            _metric(name, float(getattr(history, curve)[epoch]), trial.ended, int(epoch) + 1)
            for name, curve in CURVES.items()
            for epoch in epochs
            if np.isfinite(getattr(history, curve)[epoch])
        ]
        scalars = {f"final/{name}": value for name, value in final_values(result).items()}
        metrics += [_metric(name, value, trial.ended, 0) for name, value in scalars.items()]
        params = [Param(key, value) for key, value in trial_params(trial).items()]
        client.log_batch(run_id, metrics=metrics[:METRICS_PER_BATCH], params=params)
        for start in range(METRICS_PER_BATCH, len(metrics), METRICS_PER_BATCH):
            client.log_batch(run_id, metrics=metrics[start : start + METRICS_PER_BATCH])
    except BaseException:
        client.set_terminated(run_id, "FAILED")
        client.delete_run(run_id)
        raise
    client.set_terminated(run_id, STATUS[result.state], trial.ended)
    return run_id


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
        trials = [
            _read_trial(parent, child)
            for child in _children(client, parent)
            if child.data.tags.get("stage") == "search" and child.info.status in STATUS.values()
        ]
        return _study_record(client, run, trials)


def read_trial(run_id: str) -> tuple[TrialRecord, StudyConfig, str]:
    """Reads one trial, its study, and the digest of the study's data.

    The curves are those that MLflow shows, not those of the artifact.

    Raises:
        TrackingError: There is no such run, or it is no trial of a study.
    """
    uri = tracking_uri()
    with _at_store(uri):
        _require_store(uri)
        client = client_of(uri)
        run = _get_run(client, run_id)
        parent_id = run.data.tags.get(PARENT_TAG)
        if parent_id is None or "trial.number" not in run.data.tags:
            raise TrackingError(f"only a trial's run can be reproduced, however: {run_id} ({uri})")
        curves = {
            field: _values_by_step(client.get_metric_history(run_id, name))
            for name, field in CURVES.items()
            if field != "gap"
        }
        record = _trial_record(run, History(**curves))
        parent = client.get_run(parent_id)
        text = download(uri, parent_id, STUDY_FILE).decode()
        config = parse_config(text, f"{STUDY_FILE} of run {parent_id}", Path("/"))
        return record, config, parent.data.params["data.digest"]


def log_table(client: MlflowClient, run_id: str, table: Table, splits: Splits) -> None:
    """Writes what was found of each column, and what a model must do to a row."""
    columns = columns_frame(table, splits).to_csv(index=False)
    client.log_text(run_id, columns, COLUMNS_FILE)
    client.log_text(run_id, splits.preprocessing.to_json(), PREPROCESSING_FILE)


def read_model(run_id: str) -> tuple[StudyConfig, bytes, str]:
    """Reads what predicts: the study, the trial's weights, the study's preprocessing as JSON.

    Raises:
        TrackingError: There is no such run, or it is no trial of a study.
    """
    _, config, _ = read_trial(run_id)
    uri = tracking_uri()
    with _at_store(uri):
        parent_id = _get_run(client_of(uri), run_id).data.tags[PARENT_TAG]
        weights = download(uri, run_id, WEIGHTS_FILE)
        return config, weights, download(uri, parent_id, PREPROCESSING_FILE).decode()


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
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        client_of(tracking_uri()).log_artifacts(run_id, folder)


def experiment_name(config: StudyConfig) -> str:
    """The study's name, unless MLflow's own variable asks for another."""
    return os.environ.get("MLFLOW_EXPERIMENT_NAME") or config.name


def tracking_uri() -> str:
    """The store that MLflow is set to, with an absolute address."""
    import mlflow

    return absolute_uri(mlflow.get_tracking_uri(), os.environ.get("MLFLOW_RUN_ID"))


def run_links(record: StudyRecord) -> dict[int, str]:
    """Links to the trials' runs by number; from the UI's root where no server is known."""
    uri = tracking_uri()
    root = masked(uri).rstrip("/") if is_server(uri) else ""
    place = f"{root}/#/experiments/{record.experiment_id}/runs"
    # Without the last part the UI opens a run as one of its GenAI mode.
    mode = "?workflowType=machine_learning"
    return {trial.number: f"{place}/{trial.run_id}{mode}" for trial in record.trials}


@lru_cache(maxsize=4)
def client_of(uri: str) -> MlflowClient:
    """One client a store and process."""
    # Two lines on making a database would be all that --quiet and bad input are not to print.
    for name in ("mlflow.store.db.utils", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


def start_writer() -> None:
    """Starts the writing process, so that its imports overlap with the caller's own work.

    It also makes the database that a study without a store will need, as bytes: nothing is written
    before the study is known to be sound.
    """
    _warming(str(Path.cwd()))


@lru_cache(maxsize=1)
def _warming(folder: str) -> Future[bytes | None]:
    return writer.submit(_warm_up, folder)


def _warm_up(folder: str) -> bytes | None:
    path = sqlite_file(tracking_uri())
    blank = None if path is None or path.exists() else _new_database(folder)
    learning_curve_figure()
    _context_tags()
    return blank


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
    folder = str(Path.cwd())
    made = None
    with suppress(Exception):  # what went wrong there will go wrong here, too, and be told
        made = _warming(folder).result()
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        fresh.write_bytes(made or _new_database(folder))
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
    params, tags = run.data.params, run.data.tags
    patience = params["patience"]
    ratio, rate = params.get("l1_ratio"), params.get("learning_rate")
    return TrialRecord(
        number=int(tags["trial.number"]),
        run_id=run.info.run_id,
        state=TrialState(tags["trial.state"]),
        stop_reason=StopReason(tags["trial.stop_reason"]),
        hyperparameters=Hyperparameters(
            regularization=Regularization(params["regularization"]),
            lambda_=float(params["lambda"]),
            l1_ratio=None if ratio is None else float(ratio),
            dropout=float(params.get("dropout", 0)),
            patience="off" if patience == "off" else int(patience),
            learning_rate=None if rate is None else float(rate),
        ),
        replicate=int(params["replicate"]),
        history=history,
        scalars={
            key.removeprefix("final/"): value
            for key, value in run.data.metrics.items()
            if key.startswith("final/")
        },
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
    return next((run for run in runs if "study.journal" in run.data.tags), None)


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


def _values_by_step(metrics: list[Metric]) -> NDArray[np.float64]:
    """One value a step: where a step was logged twice, the later one stands, as in the UI."""
    ordered = sorted(metrics, key=lambda metric: (metric.step, metric.timestamp))
    return np.array(list({metric.step: metric.value for metric in ordered}.values()))


def _flat(document: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in document.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _json(value: Any) -> str:
    import json

    return json.dumps(value)


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _now() -> int:
    return int(time.time() * 1000)
