"""Owns the model registry, MLflow's other half: a study's champion as a version of its model.

What stands here is called in the writing process, like all of `tracking` that writes.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.champion.answer import PREDICTION, probabilities_of
from pipeline.champion.choice import Champion
from pipeline.champion.code import requirements, write_code
from pipeline.champion.folder import Network, write_champion
from pipeline.champion.notes import notes
from pipeline.contents import PREPROCESSING_FILE
from pipeline.data import Preprocessing, Task
from pipeline.store import StoreLostError, TrackingError
from pipeline.tracking.client import Parent, client_of, log_folder
from pipeline.tracking.patience import Patience, patience_with
from pipeline.weights import WEIGHTS_FILE

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.models import ModelSignature

ALIAS = "champion"
STUDY_TAG = "study.name"
DATA_TAG = "data.digest"
LOSS_TAG = "val_loss"
DIGEST_TAG = "model.digest"
VERSIONS_TAG = "mlflow.modelVersions"
# Seconds to wait for a registry that is no part of the tracking store.
STRANGER = 5


@dataclass(frozen=True)
class Registration:
    """What became of a champion.

    Attributes:
        name: Of the registered model.
        version: Its version; None where there is no registry.
        holds_alias: Whether that version is `models:/NAME@champion`.
        note: The same in a sentence.
    """

    name: str
    version: int | None
    holds_alias: bool
    note: str


def get_ready() -> None:
    """What the first champion would otherwise wait for: seconds of MLflow's imports."""
    import mlflow.pyfunc  # noqa: F401


def register_champion(
    parent: Parent, champion: Champion, promote: bool = False, patience: float = 0
) -> Registration:
    """Logs a champion to its study's run and registers it under the study's name.

    Once: the same networks of the same run are the same version, however often they come. It takes
    the alias `champion` unless a version of the same study has it that had a lower validation loss.

    Args:
        parent: The study's run.
        champion: It.
        promote: Give it the alias in any case.
        patience: Seconds to wait for a store that goes away, and for the registry it holds.

    Returns:
        What became of it. A registry that cannot be used is no error: the study stands without.
    """
    # A bar for each folder, and that an example is looked at, is nothing to tell.
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    logging.getLogger("mlflow.pyfunc").setLevel(logging.WARNING)
    name, client = model_name(champion.study), client_of(parent.uri)
    registry = str(client._registry_uri)
    try:
        model = Patience(patience, parent.uri)(_logged_model, client, parent, champion)
    except (TrackingError, StoreLostError) as error:
        return Registration(name, None, False, f"The champion could not be logged: {error}")
    try:
        # A registry of its own may never have been there: that is found out in seconds.
        patience = patience if registry == parent.uri else min(patience, STRANGER)
        version, holder = Patience(patience, registry, "the model registry")(
            _register, client, name, parent, champion, model, promote
        )
    except (TrackingError, StoreLostError) as error:
        note = f"The champion is logged (models:/{model.model_id}), but not registered: {error}"
        return Registration(name, None, False, note)
    note = f"The champion is version {version.version} of the registered model {name!r}"
    if holder is None or promote:
        return Registration(name, int(version.version), True, f"{note}, alias {ALIAS!r}.")
    same_data = holder.tags.get(DATA_TAG) == champion.data_digest
    on_other_data = "" if same_data else ", though on other data"
    note += (
        f", without the alias {ALIAS!r}: version {holder.version} has a validation loss of "
        f"{float(holder.tags[LOSS_TAG]):.4g}, below {champion.val_loss.mean:.4g}{on_other_data} "
        "(--promote gives it the alias)."
    )
    return Registration(name, int(version.version), False, note)


def _register(
    client: MlflowClient,
    name: str,
    parent: Parent,
    champion: Champion,
    model: LoggedModel,
    promote: bool,
) -> tuple[ModelVersion, ModelVersion | None]:
    """The champion's version, and the one that it leaves the alias to."""
    _ensure_registered_model(client, name)
    version = _version(client, name, parent, champion, model)
    holder = _better_holder(client, name, version, champion)
    if holder is None or promote:
        client.set_registered_model_alias(name, ALIAS, version.version)
    return version, holder


def model_name(study: str) -> str:
    """The registered model's name: a study's, without what `models:/NAME@ALIAS` cannot hold.

    MLflow refuses a slash, a colon, and a path's dots; its addresses end a name at a question
    mark; and in a shell's command a name should be left alone between double quotes.
    """
    return re.sub(r"[^\w .,()=+-]+", "-", study).strip(" .") or "study"


def _logged_model(client: MlflowClient, parent: Parent, champion: Champion) -> LoggedModel:
    """The champion as a model of its study's run: logged now, or by a start before this one."""
    from mlflow.entities import LoggedModelOutput

    with tempfile.TemporaryDirectory() as scratch:
        data, code, saved = (Path(scratch, part) for part in ("champion", "code", "model"))
        networks = [_network(client, run_id) for run_id in champion.run_ids]
        write_champion(data, champion.model, networks)
        loader = write_code(code)
        digest = _digest_of(data, code)
        condition = f"source_run_id = '{parent.run_id}' AND tags.`{DIGEST_TAG}` = '{digest}'"
        known = client.search_logged_models([parent.experiment_id], condition)
        for found in known:
            if found.status == "READY":
                return found
        # One that is pending was begun by a try whose answer was lost, or by a start that was.
        pending = next((found for found in known if found.status == "PENDING"), None)
        model = pending or client.create_logged_model(
            parent.experiment_id,
            name=ALIAS,
            source_run_id=parent.run_id,
            tags={DIGEST_TAG: digest},
            params=_params(champion),
        )
        try:
            _save(saved, model, champion, networks, data, code, loader)
            log_folder(
                saved,
                partial(client.log_model_artifacts, model.model_id),
                partial(client.log_model_artifact, model.model_id),
            )
            outputs = client.get_run(parent.run_id).outputs
            logged = outputs.model_outputs if outputs else []
            if model.model_id not in {each.model_id for each in logged}:
                client.log_outputs(parent.run_id, [LoggedModelOutput(model.model_id, step=0)])
        except BaseException as error:
            if not patience_with(error):
                with suppress(Exception):  # the first error is the one to hear of
                    client.finalize_logged_model(model.model_id, "FAILED")
            raise
    return client.finalize_logged_model(model.model_id, "READY")


def _network(client: MlflowClient, run_id: str) -> Network:
    """A run's network; a server is asked five times for it, not twelve times as by `download`."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    address = client.get_run(run_id).info.artifact_uri
    repository = get_artifact_repository(address, tracking_uri=client.tracking_uri)
    with tempfile.TemporaryDirectory() as folder:
        weights, preprocessing = (
            Path(repository.download_artifacts(name, folder)).read_bytes()
            for name in (WEIGHTS_FILE, PREPROCESSING_FILE)
        )
    return Network(weights, preprocessing.decode())


def _digest_of(*folders: Path) -> str:
    digest = hashlib.sha256()
    for folder in folders:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            digest.update(f"{path.relative_to(folder)} {path.stat().st_size} ".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _params(champion: Champion) -> dict[str, str]:
    chosen = asdict(champion.finalist.hyperparameters)
    chosen |= {"finalist": champion.finalist.name, "networks": len(champion.run_ids)}
    return {key.rstrip("_"): str(value) for key, value in chosen.items() if value is not None}


def _save(
    folder: Path,
    model: LoggedModel,
    champion: Champion,
    networks: Sequence[Network],
    data: Path,
    code: Path,
    loader: str,
) -> None:
    """Writes what MLflow keeps of a model. Nothing is inferred: that would load the model."""
    from mlflow import pyfunc
    from mlflow.models import Model

    preprocessings = [Preprocessing.from_json(network.preprocessing) for network in networks]
    encoders = [encoder for each in preprocessings for encoder in each.encoders]
    columns = list(dict.fromkeys(encoder.name for encoder in encoders))
    by_quantile = any(getattr(encoder, "quantiles", ()) for encoder in encoders)
    pyfunc.save_model(
        str(folder),
        loader_module=loader,
        data_path=str(data),
        code_paths=[str(path) for path in code.iterdir()],
        mlflow_model=Model(
            artifact_path=model.artifact_location,
            model_uuid=model.model_id,
            run_id=model.source_run_id,
            model_id=model.model_id,
        ),
        signature=_signature(columns, preprocessings[0]),
        input_example=champion.example[columns],
        pip_requirements=requirements(by_quantile),
        # The lock file of a project that the study was started in is none of the model's.
        uv_project_path=str(data),
    )


def _signature(columns: Sequence[str], preprocessing: Preprocessing) -> ModelSignature:
    """Names for what goes in, names and types for what comes out.

    Columns have MLflow's type "any". With any other it would refuse rows that are good: whole
    numbers for its doubles, a missing value among whole numbers or texts, numbers for levels. The
    model itself reads each column as the study's table was read, and says what it cannot read.
    """
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema
    from mlflow.types.schema import AnyType

    target = preprocessing.target
    prediction = DataType.double if target.task is Task.REGRESSION else DataType.string
    answers = [ColSpec(DataType.double, name) for name in probabilities_of(target)]
    return ModelSignature(
        inputs=Schema([ColSpec(AnyType(), name) for name in columns]),
        outputs=Schema([ColSpec(prediction, PREDICTION), *answers]),
    )


def _ensure_registered_model(client: MlflowClient, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _version(
    client: MlflowClient, name: str, parent: Parent, champion: Champion, model: LoggedModel
) -> ModelVersion:
    """The version of a logged model, made now or by a start before this one."""
    known = client.search_model_versions(f"run_id = '{parent.run_id}'")
    same = (each for each in known if (each.name, each.source) == (name, model.artifact_location))
    tags = {
        STUDY_TAG: champion.study,
        "study.run_id": parent.run_id,
        DATA_TAG: champion.data_digest,
        "finalist": champion.finalist.name,
        LOSS_TAG: repr(champion.val_loss.mean),
        DIGEST_TAG: model.tags[DIGEST_TAG],
    }
    version = next(same, None)
    if version is None:
        version = client.create_model_version(
            name,
            model.artifact_location,
            parent.run_id,
            tags=tags,
            await_creation_for=0,
            model_id=model.model_id,
        )
        # What the UI shows of the model leads to the version, as the other way round.
        versions = [{"name": name, "version": version.version}]
        client.set_logged_model_tags(model.model_id, {VERSIONS_TAG: json.dumps(versions)})
    else:  # the same networks, of which more may be known by now
        for key, value in tags.items():
            client.set_model_version_tag(name, version.version, key, value)
    text = notes(champion, parent.run_id, f"models:/{name}/{version.version}")
    return client.update_model_version(name, version.version, text)


def _better_holder(
    client: MlflowClient, name: str, version: ModelVersion, champion: Champion
) -> ModelVersion | None:
    """The version that is not to lose the alias to this one."""
    holder = client.get_registered_model(name).aliases.get(ALIAS)
    if holder is None or str(holder) == str(version.version):
        return None
    other = client.get_model_version(name, holder)
    if other.tags.get(STUDY_TAG) != champion.study:
        return None
    try:
        return other if float(other.tags[LOSS_TAG]) < champion.val_loss.mean else None
    except (KeyError, ValueError):  # not one of ours
        return None
