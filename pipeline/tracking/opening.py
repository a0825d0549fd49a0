"""Owns a study's start in the store: a parent run that is made, adopted or taken up again."""

from __future__ import annotations

import gc
import json
import logging
import os
import tempfile
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.config import ConfigError, StudyConfig, parse_logged_config
from pipeline.contents import STUDY_FILE, Description, flat, learning_curve_figure
from pipeline.results import StudyRecord
from pipeline.store import TrackingError, folder_of, probe, sqlite_file
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
from pipeline.tracking.patience import Outage, Patience, patience_with
from pipeline.tracking.reading import study_config, study_record
from pipeline.tracking.view import save_views
from pipeline.tracking.writing import WRITE_TAG, close_study, find_run

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
        resumed: Whether there is one already.
        view: Whether its experiment has the views that are made for looking at it.
    """

    parent: Parent
    record: StudyRecord
    journal: str
    resumed: bool
    view: bool = False


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
    uri, patience = tracking_uri(), config.tracking.give_up_after
    # A store that never answered is a wrong address; one that did is waited for.
    with at_store(uri):
        probe(uri, patience)
    Outage.end()
    return Patience(patience, uri)(_open, uri, config, description, resume, uuid.uuid4().hex)


def _open(
    uri: str, config: StudyConfig, description: Description, resume: bool, write: str
) -> Opened:
    with at_store(uri):
        _create_database(uri)
        client = client_of(uri)
        opened = _resume(client, config, description) if resume else None
        opened = opened or _start(client, config, description, write)
        return replace(opened, view=save_views(client, opened.parent.experiment_id, config))


def _start(
    client: MlflowClient, config: StudyConfig, description: Description, write: str
) -> Opened:
    adopted = os.environ.get("MLFLOW_RUN_ID")
    run = client.get_run(adopted) if adopted else _open_run(client, config, write)
    if adopted:
        client.update_run(adopted, name=config.name)
    parent = Parent(client.tracking_uri, run.info.experiment_id, run.info.run_id)
    journal = folder_of(parent.uri) / "journals" / f"{parent.run_id}.journal"
    try:
        _describe(client, parent.run_id, description, origin_tags(run, description.command))
        # Before anything can be in the journal: whenever the program dies, it is found.
        client.set_tag(parent.run_id, JOURNAL_TAG, str(journal))
        record = study_record(client, client.get_run(parent.run_id), ())
    except Exception as error:
        _give_up(parent, error)
        raise
    return Opened(parent, record, str(journal), resumed=False)


def _resume(client: MlflowClient, config: StudyConfig, description: Description) -> Opened | None:
    opened = os.environ.get("MLFLOW_RUN_ID")
    run = _newest_run(client, config, opened)
    if run is None:
        return None
    if run.info.run_id == opened:
        opened = None  # it has taken over already: what came after that failed
    _refuse_changes(client, run, description)
    journal, old_id = run.data.tags[JOURNAL_TAG], run.info.run_id
    parent = Parent(client.tracking_uri, run.info.experiment_id, opened or old_id)
    children = children_of(client, replace(parent, run_id=old_id))
    exists = Path(journal).is_file()
    if children and not exists:
        raise ConfigError(f"a resumed study must have its journal, however: it is gone ({journal})")
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
        record = study_record(client, client.get_run(parent.run_id), ())
    except Exception as error:
        _give_up(parent, error)
        raise
    return Opened(parent, record, journal, resumed=exists)


def _give_up(parent: Parent, error: Exception) -> None:
    if patience_with(error):
        return  # the next try goes on with what this one began
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


def _refuse_changes(client: MlflowClient, run: Run, description: Description) -> None:
    digest = run.data.params.get("data.digest")
    if digest != description.digest:
        raise ConfigError(
            f"a resumed study must have the data it began with (digest {digest}), "
            f"however: {description.digest} ({description.source})"
        )
    before = study_config(client.tracking_uri, run.info.run_id)
    # More trials and wider populations continue a study, confirmation comes after it, and patience
    # changes nothing; anything else makes it another one.
    free: Any = {"search": {"n_trials", "population"}, "confirm": True, "tracking": True}
    # Not the config: what comes from another process has ranges of other classes, which pydantic
    # warns of.
    after = parse_logged_config(description.files[STUDY_FILE], STUDY_FILE)
    old = dict(flat(before.model_dump(mode="json", by_alias=True, exclude=free)))
    new = dict(flat(after.model_dump(mode="json", by_alias=True, exclude=free)))
    for key in sorted(old.keys() | new.keys()):
        if old.get(key) != new.get(key):
            raise ConfigError(
                f"a resumed study must be the one that began ({key} = {old.get(key)!r}), "
                f"however: {new.get(key)!r} ({key})"
            )


def _open_run(client: MlflowClient, config: StudyConfig, write: str) -> Run:
    name = experiment_name(config)
    found = client.get_experiment_by_name(name)
    if found is not None and found.lifecycle_stage != "active":
        raise TrackingError(
            f"an experiment must be active, however: {name!r} is deleted (restore or rename it)"
        )
    experiment_id = found.experiment_id if found else client.create_experiment(name)
    tags = {**context_tags(), WRITE_TAG: write}
    begun = find_run(client, experiment_id, write)
    return begun or client.create_run(experiment_id, tags=tags, run_name=config.name)


def _newest_run(client: MlflowClient, config: StudyConfig, opened: str | None) -> Run | None:
    """The newest parent run of a study that has a journal to go on from."""
    if opened is not None:
        experiment_id = client.get_run(opened).info.experiment_id
    else:
        found = client.get_experiment_by_name(experiment_name(config))
        if found is None:
            return None
        experiment_id = found.experiment_id
    found_runs = client.search_runs(
        [experiment_id],
        f"params.`study.name` = {quoted(config.name)}",
        order_by=["attributes.start_time DESC"],
    )
    runs = [run for run in found_runs if JOURNAL_TAG in run.data.tags]
    # A resume that was cut off while one run took over from the other has left both.
    journal = next((r.data.tags[JOURNAL_TAG] for r in runs if r.info.run_id == opened), None)
    same = [run for run in runs if journal in (None, run.data.tags[JOURNAL_TAG])]
    return next((run for run in same if run.info.run_id != opened), next(iter(same), None))


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
