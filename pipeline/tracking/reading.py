"""Owns reading a study back from the store: all that a report, a model or a repetition needs."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.config import StudyConfig, parse_logged_config
from pipeline.contents import (
    CURVES,
    HISTORY_FILE,
    PREPROCESSING_FILE,
    STATUS,
    read_history,
)
from pipeline.description import STUDY_FILE
from pipeline.records import (
    ROLES,
    Confirmation,
    Finalist,
    ReplicateRecord,
    StudyRecord,
    TrialRecord,
)
from pipeline.results import History, StopReason, TrialState
from pipeline.space import Hyperparameters, Regularization
from pipeline.store import TrackingError, masked
from pipeline.tracking.client import (
    PARENT_TAG,
    Parent,
    at_store,
    children_of,
    client_of,
    download,
    get_run,
    require_store,
    tracking_uri,
)
from pipeline.tracking.origin import read_origin
from pipeline.tracking.patience import patience_with
from pipeline.weights import WEIGHTS_FILE

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run


def read_study(run_id: str, uri: str | None = None) -> StudyRecord:
    """Reads a whole study back from the store.

    Args:
        run_id: The parent run's.
        uri: The store; default: the one that is set.

    Raises:
        TrackingError: There is no such run, or it is no parent run of a study.
    """
    uri = uri or tracking_uri()
    with at_store(uri):
        require_store(uri)
        client = client_of(uri)
        run = get_run(client, run_id)
        if "study.state" not in run.data.tags:
            raise TrackingError(
                f"a run must be a study's parent run, however: {run_id} ({masked(uri)})"
            )
        parent = Parent(uri, run.info.experiment_id, run_id)
        ended = [
            child for child in children_of(client, parent) if child.info.status in STATUS.values()
        ]
        of_stage = {
            stage: [child for child in ended if child.data.tags.get("stage") == stage]
            for stage in ("search", "confirm")
        }
        trials = [_read_trial(parent, child) for child in of_stage["search"]]
        record = study_record(client, run, trials)
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
    with at_store(uri):
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
    with at_store(uri):
        run, parent, config = _with_study(uri, run_id)
        owner = run if run.data.tags.get("stage") == "confirm" else parent
        preprocessing = download(uri, owner.info.run_id, PREPROCESSING_FILE).decode()
        return config, download(uri, run_id, WEIGHTS_FILE), preprocessing


def read_weights(uri: str, run_ids: Sequence[str]) -> dict[str, bytes]:
    """The `weights.pt` of runs by their ids, without those whose file is gone."""
    from mlflow.exceptions import MlflowException

    found = {}
    for run_id in run_ids:
        try:
            found[run_id] = download(uri, run_id, WEIGHTS_FILE)
        except (MlflowException, OSError) as error:
            # Weights are the first that a person deletes to save space.
            if patience_with(error):
                raise
    return found


def study_record(client: MlflowClient, run: Run, trials: Iterable[TrialRecord]) -> StudyRecord:
    """A study, as far as its parent run tells of it."""
    return StudyRecord(
        name=run.data.params["study.name"],
        run_id=run.info.run_id,
        experiment_id=run.info.experiment_id,
        state=run.data.tags["study.state"],
        params=run.data.params,
        trials=tuple(sorted(trials, key=lambda trial: trial.number)),
        study_toml=download(client.tracking_uri, run.info.run_id, STUDY_FILE).decode(),
        origin=read_origin(run.data.tags),
    )


def study_config(uri: str, run_id: str) -> StudyConfig:
    """The study file of a parent run."""
    text = download(uri, run_id, STUDY_FILE).decode()
    return parse_logged_config(text, f"{STUDY_FILE} of run {run_id}")


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
    config = parse_logged_config(record.study_toml, STUDY_FILE)
    finalists, records = {}, []
    for run in runs:
        tags = run.data.tags
        number = tags.get("finalist.trial")
        finalists[tags["finalist"]] = Finalist(
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
        finalists=tuple(sorted(finalists.values(), key=lambda each: ROLES.index(each.name))),
        replicates=_replicates({each.replicate for each in records}, config.confirm.replicates),
        records=tuple(sorted(records, key=lambda each: (each.finalist, each.replicate))),
        rows=(int(record.params["data.train_rows"]), int(record.params["data.val_rows"])),
    )


def _replicates(found: set[int], count: int) -> tuple[int, ...]:
    """The numbers that were trained on and, of a confirmation that is not finished, more."""
    more = (number for number in itertools.count(1) if number not in found)
    return tuple(sorted([*found, *itertools.islice(more, max(0, count - len(found)))]))


def _with_study(uri: str, run_id: str) -> tuple[Run, Run, StudyConfig]:
    """A trial's run or that of a finalist on a replicate, its parent run, and their study."""
    require_store(uri)
    run = get_run(client_of(uri), run_id)
    parent_id = run.data.tags.get(PARENT_TAG)
    if parent_id is None or not {"trial.number", "replicate"} & run.data.tags.keys():
        raise TrackingError(
            f"a run must be a trial's or a replicate's, however: {run_id} ({masked(uri)})"
        )
    return run, client_of(uri).get_run(parent_id), study_config(uri, parent_id)


def _values_by_step(metrics: list[Metric]) -> NDArray[np.float64]:
    """One value a step: where a step was logged twice, the later one stands, as in the UI."""
    ordered = sorted(metrics, key=lambda metric: (metric.step, metric.timestamp))
    return np.array(list({metric.step: metric.value for metric in ordered}.values()))
