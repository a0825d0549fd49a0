"""Owns a study's start in the store: a parent run that is made, adopted or taken up again."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline import locks
from pipeline.config import ConfigError, StudyConfig, parse_logged_config
from pipeline.description import STUDY_FILE, Description
from pipeline.journal import journals_of
from pipeline.records import StudyRecord
from pipeline.store import TrackingError, folder_of, masked, probe
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
from pipeline.tracking.database import create_database
from pipeline.tracking.finding import (
    CLAIM_TAG,
    JOURNAL_TAG,
    close_abandoned,
    experiment_name,
    locked_newest,
    parents_of,
)
from pipeline.tracking.origin import ORIGIN_TAGS, origin_tags
from pipeline.tracking.patience import Outage, Patience, patience_with
from pipeline.tracking.reading import study_config, study_record
from pipeline.tracking.view import save_views
from pipeline.tracking.writing import artifact_root, close_study

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

# What a study's end says of it, and no longer holds once it goes on.
END_TAGS = {"study.champion", "study.overtuned"}
CONFIRMED = "confirm/replicates"


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
    over, and one parent is left. From here on this process has the writer's lock of the study.

    Args:
        caller: Where the study was started.
        config: The study.
        description: What its parent run is to hold.
        resume: Take up the newest run of the study, if there is one.
        accept_changes: Also where it is another study by now, as far as that is sound.

    Raises:
        TrackingError: The store cannot be reached or written to.
        ConfigError: A resumed study or its data changed since, or another process is at it.
    """
    caller.take_place()
    uri, patience = tracking_uri(), config.tracking.give_up_after
    # A store that never answered is a wrong address; one that did is waited for.
    with at_store(uri):
        probe(uri, patience)
    Outage.end()
    # Of a study that begins, the same however often that is tried. Not named after the run: the
    # lock beside it is to be held before there is one.
    journal = str(folder_of(uri) / "journals" / f"{uuid.uuid4().hex}.journal")
    wanted = _Wanted(config, description, caller.adopts, resume, accept_changes, journal)
    return Patience(patience, uri)(_open, uri, wanted)


@dataclass(frozen=True)
class _Wanted:
    """What a study is to be opened with: `open_study`'s arguments, and a journal for a new one."""

    config: StudyConfig
    description: Description
    adopts: str | None
    resume: bool
    accept_changes: bool
    journal: str


def _open(uri: str, wanted: _Wanted) -> Opened:
    """May be called again where the store went away: it goes on with what was begun."""
    with at_store(uri):
        create_database(uri)
        client = client_of(uri)
        # Of an earlier study of this process: the commit and the store may be others by now.
        context_tags.cache_clear()
        artifact_root.cache_clear()
        close_abandoned(client, wanted.config, wanted.adopts)
        opened = (_resume(client, wanted) if wanted.resume else None) or _start(client, wanted)
        try:
            view = save_views(client, opened.parent.experiment_id, wanted.config)
            return replace(opened, view=view)
        except Exception as error:
            _give_up(opened.parent, opened.journal, error)
            raise


def _start(client: MlflowClient, wanted: _Wanted) -> Opened:
    adopted, journal, description = wanted.adopts, wanted.journal, wanted.description
    locks.take_as_writer(journal)
    try:
        if adopted is None:
            run = _open_run(client, wanted.config, journal)
        else:
            run = client.get_run(adopted)
            _claim(client, adopted, wanted.config, journal)
    except Exception as error:
        _let_go(journal, error)
        raise
    parent = Parent(client.tracking_uri, run.info.experiment_id, run.info.run_id)
    try:
        tags = {**origin_tags(run, description.command), **version_tags()}
        _describe(client, parent.run_id, description, tags)
        # Before anything can be in the journal: whenever the program dies, it is found.
        client.set_tag(parent.run_id, JOURNAL_TAG, journal)
        record = study_record(client, client.get_run(parent.run_id), ())
    except Exception as error:
        _give_up(parent, journal, error)
        raise
    return Opened(parent, record, journal, resumed=False)


def _resume(client: MlflowClient, wanted: _Wanted) -> Opened | None:
    config, description, opened = wanted.config, wanted.description, wanted.adopts
    run = locked_newest(client, config, opened)
    if run is None:
        _refuse_orphan(client, config)
        return None
    journal, experiment_id = run.data.tags[JOURNAL_TAG], run.info.experiment_id
    parent = Parent(client.tracking_uri, experiment_id, opened or run.info.run_id)
    try:
        accepted, noted = _changes(client, run, description, wanted.accept_changes)
        # A resume that was cut off may have moved some of the children to a run of its own.
        parents = parents_of(client, experiment_id, journal)
        children = [
            child
            for each in parents
            for child in children_of(client, replace(parent, run_id=each.info.run_id))
        ]
        exists = Path(journal).is_file()
        if not config.confirm.replicates and any(
            CONFIRMED in each.data.metrics for each in parents
        ):
            raise ConfigError(
                "a study that ended with a confirmation must be resumed with one, "
                "however: 0 (confirm.replicates)"
            )
    except Exception as error:
        _let_go(journal, error)
        raise
    try:
        if opened is None:
            _reopen(client, run, description)
        else:
            _claim(client, opened, config, journal)
            tags = {key: text for key, text in run.data.tags.items() if key in ORIGIN_TAGS}
            _describe(client, opened, description, tags)
            # Before the first child moves: whenever the program dies, all of them are found.
            client.set_tag(opened, JOURNAL_TAG, journal)
        for child in children:
            if child.data.tags[PARENT_TAG] != parent.run_id:
                client.set_tag(child.info.run_id, PARENT_TAG, parent.run_id)
        for each in parents:
            if each.info.run_id != parent.run_id:
                if each.info.status == "RUNNING":
                    client.set_terminated(each.info.run_id, "KILLED")
                client.delete_run(each.info.run_id)
        _note_changes(client, parent.run_id, run.data.tags, accepted)
        record = study_record(client, client.get_run(parent.run_id), ())
    except Exception as error:
        _give_up(parent, journal, error)
        raise
    resumed, notes = exists or bool(children), (*accepted, *noted)
    return Opened(parent, record, journal, resumed=resumed, notes=notes)


def _reopen(client: MlflowClient, run: Run, description: Description) -> None:
    """Makes an ended parent run one that runs."""
    run_id = run.info.run_id
    for key in END_TAGS & run.data.tags.keys():
        client.delete_tag(run_id, key)
    client.log_text(run_id, description.files[STUDY_FILE], STUDY_FILE)
    client.set_tag(run_id, "study.state", "running")
    client.update_run(run_id, status="RUNNING")


def _claim(client: MlflowClient, run_id: str, config: StudyConfig, journal: str) -> None:
    """Makes the run that `mlflow run` opened this study's."""
    client.update_run(run_id, name=config.name)
    client.set_tag(run_id, CLAIM_TAG, journal)


def _give_up(parent: Parent, journal: str, error: Exception) -> None:
    if patience_with(error):
        return  # the next try goes on with what this one began
    with suppress(Exception):  # the first error is the one to hear of
        close_study(parent, "failed")
    _let_go(journal, error)


def _let_go(journal: str, error: Exception) -> None:
    if not patience_with(error):
        locks.let_go(locks.writer_lock(journal))


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


def _open_run(client: MlflowClient, config: StudyConfig, journal: str) -> Run:
    name = experiment_name(config)
    found = client.get_experiment_by_name(name)
    if found is not None and found.lifecycle_stage != "active":
        raise TrackingError(
            f"an experiment must be active, however: {name!r} is deleted (restore or rename it)"
        )
    experiment_id = found.experiment_id if found else client.create_experiment(name)
    # From its first moment: whoever finds it can tell whether the program that made it lives.
    tags = {**context_tags(), CLAIM_TAG: journal, "study.state": "running"}
    # A try before this one may have made it, and not heard of that.
    begun = client.search_runs([experiment_id], f"tags.`{CLAIM_TAG}` = {quoted(journal)}")
    return next(iter(begun), None) or client.create_run(
        experiment_id, tags=tags, run_name=config.name
    )
