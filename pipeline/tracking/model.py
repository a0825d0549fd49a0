"""Owns a study's champion as MLflow keeps a model: its files, signature and requirements."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.champion.answer import PREDICTION, probabilities_of
from pipeline.champion.choice import Champion
from pipeline.champion.code import requirements, write_code
from pipeline.champion.folder import Network, write_champion
from pipeline.contents import PREPROCESSING_FILE
from pipeline.data import Preprocessing, Task
from pipeline.tracking.client import Parent, log_folder
from pipeline.tracking.patience import patience_with
from pipeline.weights import WEIGHTS_FILE

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel
    from mlflow.models import ModelSignature

# What a study's model is called in its run.
NAME = "champion"
DIGEST_TAG = "model.digest"


def get_ready() -> None:
    """What the first champion would otherwise wait for: seconds of MLflow's imports."""
    import mlflow.pyfunc  # noqa: F401


def logged_model(client: MlflowClient, parent: Parent, champion: Champion) -> LoggedModel:
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
            name=NAME,
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
