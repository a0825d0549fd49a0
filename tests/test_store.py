"""The tracking store's address, and stores that cannot be used."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from pipeline.store import TrackingError, absolute_uri, folder_of, masked, named_failure, probe
from pipeline.store import ui_command_and_link as ui


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("postgresql://me:secret@host/db", "postgresql://me:***@host/db"),
        ("https://me:s%40cret@host:5000", "https://me:***@host:5000"),
        ("could not connect to http://a:b@c.", "could not connect to http://a:***@c."),
        ("http://host:5000", "http://host:5000"),
        ("sqlite:////tmp/a:b@c.db", "sqlite:////tmp/a:b@c.db"),
        ("postgresql://me:s@cr@et@host/db", "postgresql://me:***@host/db"),
        (
            "http://me:sec ret@host and http://you:other@there",
            "http://me:***@host and http://you:***@there",
        ),
        ("mysql+pymysql://me:a:b/c@host/db", "mysql+pymysql://me:***@host/db"),
        ("http://:token@host", "http://:***@host"),
        ("csv:/folder/https:/me:secret@host/x.csv", "csv:/folder/https:/me:***@host/x.csv"),
        ("no http://host:5000 for me@there", "no http://host:5000 for me@there"),
        ("http://me:5000secret@host:5000/", "http://me:***@host:5000/"),
    ],
)
def test_passwords_are_never_shown(uri: str, shown: str) -> None:
    assert masked(uri) == shown


def test_what_mlflow_was_given_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "open sesame")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "tok-1234")
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "postgresql://me:p%40ssword@host/db")
    told = "open sesame, tok-1234, p%40ssword and p@ssword were refused"
    assert masked(told) == "***, ***, *** and *** were refused"


@pytest.mark.parametrize(
    "uri", ["http://me:pass/word@127.0.0.1:9", "http://me:1234/pass@h", "postgresql://me:x y z@"]
)
def test_an_error_that_quotes_an_address_has_lost_its_password(uri: str) -> None:
    password = uri.split(":")[2].rpartition("@")[0]
    with pytest.raises(TrackingError) as caught, named_failure(uri):
        raise OSError(f"cannot parse {uri}: {password} is no port, nor {uri.rpartition('//')[2]}")
    assert password not in str(caught.value)


@pytest.mark.parametrize("uri", ["http://host:5000", "sqlite:////a/b.db", "postgresql://h/d"])
def test_absolute_addresses_stay_as_they_are(uri: str) -> None:
    assert absolute_uri(uri, None) == uri


def test_relative_address_is_anchored_in_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute_uri("sqlite:///sub/a.db", None) == f"sqlite:///{tmp_path}/sub/a.db"


def test_relative_address_is_found_in_the_folder_of_the_program_that_opened_the_run(
    tmp_path: Path,
) -> None:
    """As `mlflow run elsewhere` does: the store lies where it was called, we run elsewhere."""
    outside, inside = tmp_path / "outside", tmp_path / "inside"
    outside.mkdir()
    inside.mkdir()
    with closing(sqlite3.connect(outside / "a b.db")) as connection:
        connection.execute("create table runs (run_uuid text)")
        connection.execute("insert into runs values ('abc')")
        connection.commit()
    program = (
        "import sys; from pipeline.store import absolute_uri;"
        "print(absolute_uri('sqlite:///a b.db', sys.argv[1]))"
    )
    child = [sys.executable, "-c", program]
    parent = f"import subprocess, sys; subprocess.run(sys.argv[1:], cwd={str(inside)!r})"
    for run_id, expected in (("abc", f"sqlite:///{outside}/a b.db\n"), ("none", "")):
        done = subprocess.run(
            [sys.executable, "-c", parent, *child, run_id],
            cwd=outside,
            env={"PYTHONPATH": str(Path(__file__).parents[1])},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout == expected
        assert ("must be absolute under mlflow run" in done.stderr) == (not expected)


@pytest.mark.parametrize(
    "uri", ["http://127.0.0.1:9", "sqlite:////nowhere/at/all.db", "postgresql://u:pw@127.0.0.1:9/d"]
)
def test_an_unusable_store_is_named_in_one_line_without_its_password(uri: str) -> None:
    def answer() -> None:
        with named_failure(uri):
            try:
                probe(uri)
            except ModuleNotFoundError as error:  # a driver that is not installed is as unusable
                raise OSError(str(error)) from error

    with pytest.raises(TrackingError) as caught:
        answer()
    message = str(caught.value)
    assert "must answer and be writable, however:" in message
    assert "\n" not in message
    assert "pw" not in message


def test_a_folder_is_no_database(tmp_path: Path) -> None:
    with pytest.raises(TrackingError, match="must answer and be writable"), named_failure("sqlite"):
        probe(f"sqlite:///{tmp_path}")


def test_link_opens_the_runs_not_the_genai_view() -> None:
    command, link = ui("sqlite:////a/m.db", "7", view=False)
    assert command is not None
    assert "--host 127.0.0.1" in command
    assert "sqlite:////a/m.db" in command
    page = "/#/experiments/7/runs?workflowType=machine_learning"
    assert link.startswith(f"http://127.0.0.1:5000{page}&orderByKey=")
    command, link = ui("https://u:p@host/", "7", view=False)
    assert command is None
    assert link.startswith(f"https://u:***@host{page}")


def test_link_opens_the_view_where_there_is_one() -> None:
    _, link = ui("https://host", "7", view=True)
    page = "#/experiments/7/runs?workflowType=machine_learning&viewStateShareKey=study-trials"
    # No order and no filter: with them the UI would not open the view.
    assert link == f"https://host/{page}&compareRunsMode=CHART"


def test_files_lie_beside_a_sqlite_store_and_else_in_the_working_folder() -> None:
    assert folder_of("sqlite:////a/b%20c/m.db") == Path("/a/b c")
    assert folder_of("https://host") == Path.cwd()
