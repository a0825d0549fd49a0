"""Disks without room, folders that cannot be written to, databases that another process holds."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline.tracking import download
from tests.commands import command, environment, parents, runs, study, with_store

STUDY = """
name = "disk"
[data]
source = "sklearn:iris"
[model]
hidden = [{hidden}]
[training]
max_epochs = 40
[search]
n_trials = 9
population = 3
pruner = "none"
[space]
patience = "off"
[confirm]
replicates = 0
"""


@contextmanager
def mounted(folder: Path, *options: str) -> Iterator[Path]:
    """A file system of its own at a folder."""
    folder.mkdir(exist_ok=True)
    try:
        done = subprocess.run(
            ["mount", *options, str(folder)], capture_output=True, text=True, check=False
        )
    except OSError as error:
        pytest.skip(f"nothing can be mounted here: {error}")
    if done.returncode:
        pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def table(folder: Path) -> bytes:
    """`trials.csv` of a study that is whole."""
    (parent,) = parents(folder)
    assert parent.info.status == "FINISHED"
    found = runs(folder)
    assert not [run for run in found if run.info.status == "RUNNING"]
    numbers = sorted(
        int(r.data.tags["trial.number"])
        for r in found
        if r is not parent and "trial.number" in r.data.tags
    )
    assert numbers == list(range(9))
    return download(f"sqlite:///{folder}/mlflow.db", parent.info.run_id, "trials.csv")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = with_store(tmp_path_factory.mktemp("undisturbed"))
    done = command(folder, "run", study(folder, STUDY.format(hidden=5)), "--quiet")
    assert done.returncode == 0, done.stderr
    return table(folder)


@pytest.mark.parametrize("room", [300, 500, 700])
def test_a_full_disk_is_said_in_one_line_and_a_resume_goes_on(
    tmp_path: Path, undisturbed: bytes, room: int
) -> None:
    """The store, its artifacts and the journal share the disk; more or less of a study fits."""
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=8m", "tmpfs") as folder:
        path = study(tmp_path, STUDY.format(hidden=5))
        with_store(folder)
        stat = os.statvfs(folder)
        filler = folder / "filler"
        filler.write_bytes(bytes(stat.f_bavail * stat.f_frsize - room * 1024))
        done = command(folder, "run", path, "--quiet")
        lines = done.stderr.splitlines()
        assert len(lines) == 1, done.stderr
        assert done.returncode in (1, 2)
        assert "however: " in lines[0]
        filler.unlink()
        done = command(folder, "run", path, "--quiet", "--resume")
        assert (done.returncode, done.stderr) == (0, "")
        started = [run for run in parents(folder) if "study.journal" in run.data.tags]
        assert table(folder) == undisturbed
        assert len(started) == 1


def test_a_read_only_artifact_folder_is_said_at_the_start(
    tmp_path: Path, undisturbed: bytes
) -> None:
    with_store(tmp_path)
    path = study(tmp_path, STUDY.format(hidden=5))
    with mounted(tmp_path / "mlruns", "-t", "tmpfs", "-o", "ro", "tmpfs"):
        done = command(tmp_path, "run", path, "--quiet")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "Read-only file system" in line
    assert [run.info.status for run in parents(tmp_path)] == ["FAILED"]


def test_a_database_that_another_process_holds_is_waited_for(
    tmp_path: Path, undisturbed: bytes
) -> None:
    """At its opening, and again while trials are written: 30 s each time."""
    with_store(tmp_path)
    holder = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)
for pause in (0.0, 3.0):
    time.sleep(pause)
    connection.execute("BEGIN EXCLUSIVE")
    print("locked", flush=True)
    time.sleep(30)
    connection.rollback()
"""
    with subprocess.Popen(
        [sys.executable, "-c", holder, str(tmp_path / "mlflow.db")],
        stdout=subprocess.PIPE,
        env=environment(tmp_path),
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"locked\n"
        begun = time.monotonic()
        done = command(tmp_path, "run", study(tmp_path, STUDY.format(hidden=5)), "--quiet")
        assert (done.returncode, done.stderr) == (0, "")
        assert time.monotonic() - begun > 30
    assert table(tmp_path) == undisturbed
