"""What a cluster has not, or will not take, is said in one line, before anything is written."""

from __future__ import annotations

import os
import socket
import threading
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.commands import PROJECT
from tests.distributed.cluster import Cluster, cluster, run
from tests.distributed.spread import with_study


def refused(folder: Path, *arguments: str, **extra: str) -> str:
    """The one line."""
    with_study(folder)
    store = (folder / "mlflow.db").read_bytes()
    done = run(folder, *arguments, within=60, **extra)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert (folder / "mlflow.db").read_bytes() == store
    assert {each.name for each in folder.iterdir()} <= {"mlflow.db", "study.toml", "site"}
    return done.stderr


def test_an_address_that_does_not_answer(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    line = refused(tmp_path, "--engine", "ray", "--address", f"127.0.0.1:{port}")
    assert "a Ray cluster must answer at HOST:PORT, however:" in line
    assert "Connection refused" in line


def test_something_else_that_answers(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        line = refused(tmp_path, "--engine", "ray", "--address", f"127.0.0.1:{port}")
    assert "a Ray cluster must answer at HOST:PORT, however: timed out" in line


def test_something_else_that_speaks_as_ray_does(tmp_path: Path) -> None:
    """It greets as any server for HTTP/2 does, and says nothing more."""

    def greet() -> None:
        with suppress(OSError):
            while True:
                kept.append(other.accept()[0])
                kept[-1].sendall(bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))

    kept: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as other:
        threading.Thread(target=greet, daemon=True).start()
        place = f"127.0.0.1:{other.getsockname()[1]}"
        line = refused(tmp_path, "--engine", "ray", "--address", place)
    assert "it did not let this program join within 25 s" in line
    for each in kept:
        each.close()


def test_no_cluster_on_this_machine(tmp_path: Path) -> None:
    line = refused(tmp_path, "--engine", "ray", "--address", "auto", TMPDIR=str(tmp_path))
    assert "a Ray cluster must answer" in line


def test_a_wrong_token(tmp_path: Path, shared: Cluster) -> None:
    key = {**shared.key, "RAY_AUTH_TOKEN": "0" * 64}
    line = refused(tmp_path, "--engine", "ray", "--address", shared.address, **key)
    assert "with the same token" in line


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (("--gpus-per-population", "1"), "0 GPUs, room for 0"),
        (("--populations", "5"), "room for --populations 5 of 1 CPUs"),
    ],
)
def test_more_than_there_is(
    tmp_path: Path, shared: Cluster, asked: tuple[str, ...], told: str
) -> None:
    place = ("--engine", "ray", "--address", shared.address)
    assert told in refused(tmp_path, *place, *asked, **shared.key)


def test_data_that_the_object_store_has_no_room_for(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    table = tmp_path / "site" / "large.parquet"
    values = np.random.default_rng(0).normal(size=(300_000, 100)).astype(np.float32)
    frame = pd.DataFrame(values, columns=[f"x{number}" for number in range(100)])
    frame.assign(y=np.arange(len(frame)) % 2).to_parquet(table)
    with cluster(memory=80_000_000) as made:
        line = refused(
            tmp_path,
            *(
                "--data",
                f"parquet:{table}",
                "--target",
                "y",
                "--engine",
                "ray",
                "--address",
                made.address,
            ),
            **made.key,
        )
    assert "the data must fit into Ray's object store on every machine, however:" in line


def test_a_node_with_other_versions(tmp_path: Path) -> None:
    other = tmp_path / "site" / "numpy-0.0.1.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 0.0.1\n")
    with cluster(PYTHONPATH=str(other.parent)) as made:
        line = refused(tmp_path, "--engine", "ray", "--address", made.address, **made.key)
    assert "a population must have the versions that the study has" in line
    assert "numpy 0.0.1" in line


def test_without_ray(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "ray.py").write_text("raise ImportError('No module named ray')\n")
    path = f"{tmp_path / 'site'}{os.pathsep}{PROJECT}"
    line = refused(tmp_path, "--engine", "ray", PYTHONPATH=path)
    assert "--engine ray needs Ray, however: it is not installed" in line
