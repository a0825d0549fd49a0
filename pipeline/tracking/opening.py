"""Owns a study's start in the store: a parent run that is made, adopted or taken up again."""

from __future__ import annotations

import gc
import json
import logging
import os
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.config import ConfigError, StudyConfig, parse_logged_config
from pipeline.contents import STUDY_FILE, Description, learning_curve_figure
from pipeline.journal import journals_of
from pipeline.results import StudyRecord
from pipeline.store import TrackingError, folder_of, impatient, masked, probe, sqlite_file
from pipeline.tracking.changes import CHANGES_TAG, changes, version_tags
from pipeline.tracking.client import (
    PARENT_TAG,
    Caller,
    Parent,
    at_store,
    children_of,
    client_of,
    context_tags,
    log_files,
    quoted,
    tracking_uri,
)
from pipeline.tracking.origin import ORIGIN_TAGS, origin_tags
from pipeline.tracking.reading import study_config, study_record
from pipeline.tracking.view import save_views
from pipeline.tracking.writing import close_study

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

JOURNAL_TAG = "study.journal"

# What a study's end says of it, and no longer holds once it goes on.
END_TAGS = {"study.champion", "study.overtuned"}
CONFIRMED = "confirm/replicates"

# The study waits for training, seldom for what is written: the writer takes what cores have left.
WRITER_NICENESS = 5


@dataclass(frozen=True)
class Opened:
    """A study whose parent run is open.

    Attributes:
        parent: Its place.
        record: The study, without trials.
        journal: Where Optuna's journal of the study lies, or is to lie.
        resumed: Whether there is something of it already.
        view: Whether its experiment has the views that are made for looking at it.
        notes: What is another than when a resumed study began, in words.
    """

    parent: Parent
    record: StudyRecord
    journal: str
    resumed: bool
    view: bool = False
    notes: tuple[str, ...] = ()


def open_study(
    caller: Caller,
    config: StudyConfig,
    description: Description,
    resume: bool,
    accept_changes: bool = False,
) -> Opened:
    """Opens a parent run, adopts the one that `mlflow run` opened, or takes up an earlier one.

    A study that is resumed under `mlflow run` goes on in the run that was opened: the children move
    over, and one parent is left.

    Args:
        caller: Where the study was started.
        config: The study.
        description: What its parent run is to hold.
        resume: Take up the newest run of the study, if there is one.
        accept_changes: Also where it is another study by now, as far as that is sound.

    Raises:
        TrackingError: The store cannot be reached or written to.
        ConfigError: A resumed study or its data changed since.
    """
    caller.take_place()
    uri = tracking_uri()
    with at_store(uri), impatient():
        probe(uri)
        _create_database(uri)
        client = client_of(uri)
        opened = _resume(client, config, description, accept_changes) if resume else None
        opened = opened or _start(client, config, description)
        return replace(opened, view=save_views(client, opened.parent.experiment_id, config))


def _start(client: MlflowClient, config: StudyConfig, description: Description) -> Opened:
    adopted = os.environ.get("MLFLOW_RUN_ID")
    run = client.get_run(adopted) if adopted else _open_run(client, config)
    if adopted:
        client.update_run(adopted, name=config.name)
    parent = Parent(client.tracking_uri, run.info.experiment_id, run.info.run_id)
    journal = folder_of(parent.uri) / "journals" / f"{parent.run_id}.journal"
    try:
        tags = {**origin_tags(run, description.command), **version_tags()}
        _describe(client, parent.run_id, description, tags)
        # Before anything can be in the journal: whenever the program dies, it is found.
        client.set_tag(parent.run_id, JOURNAL_TAG, str(journal))
        record = study_record(client, client.get_run(parent.run_id), ())
    except Exception:
        _give_up(parent)
        raise
    return Opened(parent, record, str(journal), resumed=False)


def _resume(
    client: MlflowClient, config: StudyConfig, description: Description, accept_changes: bool
) -> Opened | None:
    opened = os.environ.get("MLFLOW_RUN_ID")
    run = _newest_run(client, config, opened)
    if run is None:
        _refuse_orphan(client, config)
        return None
    accepted, noted = _changes(client, run, description, accept_changes)
    journal, old_id = run.data.tags[JOURNAL_TAG], run.info.run_id
    parent = Parent(client.tracking_uri, run.info.experiment_id, opened or old_id)
    children = children_of(client, replace(parent, run_id=old_id))
    exists = Path(journal).is_file()
    if not config.confirm.replicates and CONFIRMED in run.data.metrics:
        raise ConfigError(
            "a study that ended with a confirmation must be resumed with one, "
            "however: 0 (confirm.replicates)"
        )
    try:
        for key in END_TAGS & run.data.tags.keys():
            client.delete_tag(old_id, key)
        if opened is None:
            client.log_text(old_id, description.files[STUDY_FILE], STUDY_FILE)
            client.set_tag(old_id, "study.state", "running")
            client.update_run(old_id, status="RUNNING")
        else:
            client.update_run(opened, name=config.name)
            tags = {key: text for key, text in run.data.tags.items() if key in ORIGIN_TAGS}
            _describe(client, opened, description, tags)
            for child in children:
                client.set_tag(child.info.run_id, PARENT_TAG, opened)
            # Only now can the heir be resumed itself, and the other be spared.
            client.set_tag(opened, JOURNAL_TAG, journal)
            if run.info.status == "RUNNING":
                client.set_terminated(old_id, "KILLED")
            client.delete_run(old_id)
        _note_changes(client, parent.run_id, run.data.tags, accepted)
        record = study_record(client, client.get_run(parent.run_id), ())
    except Exception:
        _give_up(parent)
        raise
    resumed, notes = exists or bool(children), (*accepted, *noted)
    return Opened(parent, record, journal, resumed=resumed, notes=notes)


def _give_up(parent: Parent) -> None:
    with suppress(Exception):  # the first error is the one to hear of
        close_study(parent, "failed")


def _describe(
    client: MlflowClient, run_id: str, description: Description, origin: Mapping[str, str]
) -> None:
    """Everything that is known of a study before its first trial."""
    from mlflow.entities import Dataset, DatasetInput, InputTag, Param, RunTag

    # The artifact store is probed by the first thing that belongs into it.
    files = {name: text.encode() for name, text in description.files.items()}
    log_files(client, run_id, files)
    tags = [RunTag(key, text) for key, text in {"study.state": "running", **origin}.items()]
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


def _changes(
    client: MlflowClient, run: Run, description: Description, accept: bool
) -> tuple[list[str], list[str]]:
    """What is another than when the study began: see `changes.changes`."""
    digest = run.data.params.get("data.digest")
    if digest != description.digest:
        raise ConfigError(
            f"a resumed study must have the data it began with (digest {digest}), "
            f"however: {description.digest} ({description.source})"
        )
    before = study_config(client.tracking_uri, run.info.run_id)
    # Not the config: what comes from another process has ranges of other classes, which pydantic
    # warns of.
    after = parse_logged_config(description.files[STUDY_FILE], STUDY_FILE)
    return changes(before, after, run.data.tags, accept=accept)


def _note_changes(
    client: MlflowClient, run_id: str, tags: Mapping[str, str], accepted: Sequence[str]
) -> None:
    """What a study goes on with is what the next resume holds it against."""
    for key, text in version_tags().items():
        client.set_tag(run_id, key, text)
    told = [tags[CHANGES_TAG]] if CHANGES_TAG in tags else []
    if told or accepted:
        client.set_tag(run_id, CHANGES_TAG, "; ".join([*told, *accepted])[-5000:])


def _refuse_orphan(client: MlflowClient, config: StudyConfig) -> None:
    """A journal without its study: the store that held it is gone, or another one is asked."""
    uri = client.tracking_uri
    for path in journals_of(folder_of(uri) / "journals", config.name):
        raise ConfigError(
            f"a resumed study must be in the tracking store, however: {config.name!r} is not, "
            f"and its journal lies at {path} ({masked(uri)})"
        )


def _open_run(client: MlflowClient, config: StudyConfig) -> Run:
    name = experiment_name(config)
    found = client.get_experiment_by_name(name)
    if found is not None and found.lifecycle_stage != "active":
        raise TrackingError(
            f"an experiment must be active, however: {name!r} is deleted (restore or rename it)"
        )
    experiment_id = found.experiment_id if found else client.create_experiment(name)
    return client.create_run(experiment_id, tags=context_tags(), run_name=config.name)


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
        f"params.`study.name` = {quoted(config.name)}",
        order_by=["attributes.start_time DESC"],
    )
    return next((run for run in runs if JOURNAL_TAG in run.data.tags), None)


def experiment_name(config: StudyConfig) -> str:
    """The study's name, unless MLflow's own variable asks for another."""
    return os.environ.get("MLFLOW_EXPERIMENT_NAME") or config.name


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
        fresh.write_bytes(new_database(str(Path.cwd())))
        with suppress(FileExistsError):  # another process was first: its file is as good
            os.link(fresh, path)
    finally:
        fresh.unlink(missing_ok=True)


@lru_cache(maxsize=1)
def new_database(folder: str) -> bytes:
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


def warm_up(caller: Caller) -> None:
    """Gets the writing process ready beside the caller's own imports.

    It makes the database that a study without a store will need, in a folder for temporary files:
    nothing is written to its place before the study is known to be sound.
    """
    caller.take_place()
    path = sqlite_file(tracking_uri())
    if path is not None and not path.exists():
        new_database(caller.folder)


def get_ready() -> None:
    """What the first trial's run would otherwise wait for; from then on, training goes first."""
    learning_curve_figure()
    context_tags()
    # loky collects garbage once a second: what was imported need not be looked through each time.
    gc.freeze()
    if hasattr(os, "setpriority"):
        niceness = max(WRITER_NICENESS, os.getpriority(os.PRIO_PROCESS, 0))
        os.setpriority(os.PRIO_PROCESS, 0, niceness)
