"""Owns the model registry, MLflow's other half: a study's champion as a version of its model.

What stands here is called in the writing process, like all of `tracking` that writes.
"""

from __future__ import annotations

import json
import logging
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.champion.choice import Champion
from pipeline.champion.notes import notes
from pipeline.store import StoreLostError, TrackingError
from pipeline.tracking.client import Parent, client_of
from pipeline.tracking.model import DIGEST_TAG, logged_model
from pipeline.tracking.patience import Patience

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel
    from mlflow.entities.model_registry import ModelVersion

ALIAS = "champion"
STUDY_TAG = "study.name"
DATA_TAG = "data.digest"
LOSS_TAG = "val_loss"
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
        model = Patience(patience, parent.uri)(logged_model, client, parent, champion)
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
