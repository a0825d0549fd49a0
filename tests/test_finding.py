"""Runs that `mlflow run` opened, and that no study came of."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from mlflow import MlflowClient

from pipeline import locks
from pipeline.tracking.client import client_of, context_tags
from pipeline.tracking.finding import close_abandoned, locked_newest
from tests.builders import tiny_config
from tests.commands import with_store
from tests.held import wait_until
from tests.test_locks import held

TAGS = {"mlflow.project.entryPoint": "main", "mlflow.user": context_tags()["mlflow.user"]}


@pytest.fixture
def client(tmp_path: Path) -> MlflowClient:
    return client_of(f"sqlite:///{with_store(tmp_path)}/mlflow.db")


@pytest.fixture
def experiment(client: MlflowClient) -> str:
    return str(client.create_experiment(tiny_config().name))


def opened(client: MlflowClient, experiment: str, param: str = "study", **tags: str) -> str:
    given = {**TAGS, **{key.replace("__", "."): text for key, text in tags.items()}}
    run = client.create_run(experiment, tags=given)
    client.log_param(run.info.run_id, param, "study.toml")
    return str(run.info.run_id)


def status_after_a_look(client: MlflowClient, run_id: str) -> str:
    close_abandoned(client, tiny_config(), None)
    return str(client.get_run(run_id).info.status)


def is_closed_soon(client: MlflowClient, run_id: str) -> None:
    """Another test's `mlflow run` may be at work, and might have opened it."""
    wait_until(lambda: status_after_a_look(client, run_id) == "FAILED")


def test_that_of_a_killed_program_is_closed(client: MlflowClient, experiment: str) -> None:
    run_id = opened(client, experiment)
    is_closed_soon(client, run_id)
    assert client.get_run(run_id).data.tags["study.state"] == "failed"


@pytest.mark.parametrize(
    "tags",
    [
        pytest.param({"mlflow__user": "another user"}, id="of another user"),
        pytest.param({"mlflow__project__entryPoint": "data"}, id="of no study"),
        pytest.param({"param": "alpha"}, id="of another project"),
        pytest.param({"study__claim": "/nowhere/a.journal"}, id="a study's"),
    ],
)
def test_another_stays_open(client: MlflowClient, experiment: str, tags: dict[str, str]) -> None:
    run_id = opened(client, experiment, **tags)
    assert status_after_a_look(client, run_id) == "RUNNING"


def test_the_one_that_is_adopted_stays_open(client: MlflowClient, experiment: str) -> None:
    run_id = opened(client, experiment)
    close_abandoned(client, tiny_config(), run_id)
    assert client.get_run(run_id).info.status == "RUNNING"


def test_one_whose_writer_outlives_its_program_for_a_moment_is_waited_for_and_closed(
    client: MlflowClient, experiment: str, tmp_path: Path
) -> None:
    journal = str(tmp_path / "journals" / "a.journal")
    run_id = opened(client, experiment, study__claim=journal, mlflow__runName=tiny_config().name)
    with held(locks.writer_lock(journal)) as writer:
        assert status_after_a_look(client, run_id) == "RUNNING"
        ending = threading.Timer(0.5, writer.kill)
        ending.start()
        assert locked_newest(client, tiny_config(), None) is None
    assert client.get_run(run_id).info.status == "FAILED"


@contextmanager
def living(*words: str, **told: str) -> Iterator[None]:
    """A program that is called with some words, and is told something by its environment."""
    with subprocess.Popen(
        [sys.executable, "-c", "print(1, flush=True); input()", *words],
        env={**os.environ, **told},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as program:
        assert program.stdout is not None
        assert program.stdin is not None
        program.stdout.readline()
        yield
        program.stdin.close()


def test_one_whose_program_lives_stays_open(client: MlflowClient, experiment: str) -> None:
    run_id = opened(client, experiment)
    with living(MLFLOW_RUN_ID=run_id):
        assert status_after_a_look(client, run_id) == "RUNNING"
    is_closed_soon(client, run_id)


def test_one_that_mlflow_run_gets_ready_for_stays_open(
    client: MlflowClient, experiment: str
) -> None:
    with living("/bin/mlflow", "run"):
        run_id = opened(client, experiment)
        assert status_after_a_look(client, run_id) == "RUNNING"
    is_closed_soon(client, run_id)


@pytest.mark.parametrize("words", [("/bin/mlflow", "server"), ("mlflowing", "run")])
def test_another_program_keeps_nothing_open(
    client: MlflowClient, experiment: str, words: tuple[str, ...]
) -> None:
    with living(*words):
        is_closed_soon(client, opened(client, experiment))


def test_nor_does_an_mlflow_run_that_began_later(client: MlflowClient, experiment: str) -> None:
    run_id = opened(client, experiment)
    time.sleep(1.5)
    with living("/bin/mlflow", "run"):
        is_closed_soon(client, run_id)
