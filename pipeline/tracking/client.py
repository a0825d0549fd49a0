"""Owns the way to MLflow's store: where it is, whose client, what lies there. Knows no study."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

from pipeline.store import TrackingError, absolute_uri, masked, named_failure, sqlite_file
from pipeline.tracking.patience import RepeatingClient, patience_with

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

PARENT_TAG = "mlflow.parentRunId"


@dataclass(frozen=True)
class Caller:
    """What decides where a study's runs go: the folder and MLflow's settings of its process.

    Attributes:
        folder: Where relative addresses begin.
        settings: MLflow's environment variables.
        adopts: The run that `mlflow run` opened, if it is still without a study.
    """

    folder: str
    settings: tuple[tuple[str, str], ...]
    adopts: str | None = None

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


def tracking_uri() -> str:
    """The store that MLflow is set to, with an absolute address."""
    return absolute_uri(_uri_set(), os.environ.get("MLFLOW_RUN_ID"))


def _uri_set() -> str:
    import mlflow

    uri: str = mlflow.get_tracking_uri()
    return uri


def client_of(uri: str) -> MlflowClient:
    """One client a store and process; a sqlite file that was replaced is another store."""
    file = sqlite_file(uri)
    if file is None:
        return _client(uri)
    try:
        status = file.stat()
    except FileNotFoundError:
        return _client(uri)  # which makes one, or says why not
    # A file that is open somewhere does not give its number away, deleted or not.
    identity = status.st_dev, status.st_ino
    client = _client(uri)
    if _identities.setdefault(uri, identity) != identity:
        # Connections to the old file would go on reading and writing it, unseen by anybody.
        for store in (client._tracking_client.store, client._get_registry_client().store):
            store.engine.dispose()
        _identities[uri] = identity
    return client


# Of the sqlite file that a client has been connected to, by the store's address.
_identities: dict[str, tuple[int, int]] = {}


@lru_cache(maxsize=4)
def _client(uri: str) -> MlflowClient:
    # Two lines on making a database would be all that --quiet and bad input are not to print; what
    # fails is raised, and need not be printed with all that led to it as well.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    # Nor is the address of every run of a server.
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    from mlflow import MlflowClient

    return cast("MlflowClient", RepeatingClient(MlflowClient(tracking_uri=uri)))


def at_store(uri: str) -> AbstractContextManager[None]:
    """Names the store where MLflow fails."""
    from mlflow.exceptions import MlflowException

    return named_failure(uri, MlflowException)


def require_store(uri: str) -> None:
    """A store that is only read must be there: MLflow would make an empty one."""
    path = sqlite_file(uri)
    if path is not None and not path.is_file():
        raise TrackingError(
            f"a tracking store must exist, however: {masked(uri)} (MLFLOW_TRACKING_URI)"
        )


def get_run(client: MlflowClient, run_id: str) -> Run:
    """A run.

    Raises:
        TrackingError: There is none.
    """
    from mlflow.exceptions import MlflowException

    try:
        return client.get_run(run_id)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        raise TrackingError(
            f"a run must exist in the tracking store, however: {run_id!r} is not in it"
        ) from error


def children_of(client: MlflowClient, parent: Parent) -> list[Run]:
    """All child runs of a parent, whatever their state."""
    condition = f"tags.`{PARENT_TAG}` = {quoted(parent.run_id)}"
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


def download(uri: str, run_id: str, path: str) -> bytes:
    """One artifact's bytes."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    # A bar per file of a few kilobytes would be all that a person sees.
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    # MLflow's own `download_artifacts` takes a lost answer for a file that is not there.
    address = client_of(uri).get_run(run_id).info.artifact_uri
    repository = get_artifact_repository(address, tracking_uri=uri)
    with tempfile.TemporaryDirectory() as folder:
        return Path(repository.download_artifacts(path, folder)).read_bytes()


def log_file(run_id: str, name: str, content: bytes) -> None:
    """Replaces one artifact of a run."""
    log_files(client_of(tracking_uri()), run_id, {name: content})


def log_files(client: MlflowClient, run_id: str, files: Mapping[str, bytes]) -> None:
    """Artifacts of a run, by path."""
    with folder_of(files) as folder:
        log_folder(
            Path(folder),
            partial(client.log_artifacts, run_id),
            partial(client.log_artifact, run_id),
        )


def log_folder(
    folder: Path,
    together: Callable[[str], None],
    single: Callable[[str, str | None], None],
) -> None:
    """Uploads the files of a folder: together, or one by one once an answer was lost.

    Where every twentieth answer is lost, twenty files would never get there together.

    Args:
        folder: Its files are uploaded, with those of folders in it.
        together: Uploads a folder.
        single: Uploads one file to a folder of the artifacts, or to their root.
    """
    try:
        together(str(folder))
    except Exception as error:
        if not patience_with(error):
            raise
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            place = path.parent.relative_to(folder)
            single(str(path), None if place == Path() else str(place))


@contextmanager
def folder_of(files: Mapping[str, bytes]) -> Iterator[str]:
    """A folder with these files, for as long as it is needed."""
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            path = Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        yield folder


@lru_cache(maxsize=1)
def context_tags() -> dict[str, str]:
    """User, program and commit, as `mlflow.start_run` would tag them."""
    from mlflow.tracking.context.registry import resolve_tags

    return {key: str(value) for key, value in resolve_tags().items()}


def quoted(text: str) -> str:
    """A text as a search's condition has it."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def milliseconds() -> int:
    """Since 1970."""
    return int(time.time() * 1000)
