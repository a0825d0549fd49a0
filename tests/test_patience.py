"""Stores that go away and come back, and those that never do."""

from __future__ import annotations

import errno
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import requests
import sqlalchemy
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from pipeline.config import ConfigError
from pipeline.contents import EndedRun
from pipeline.store import StoreLostError, TrackingError, named_failure, probe
from pipeline.tracking import Parent, Patience, write_runs
from pipeline.tracking.client import client_of, log_folder
from pipeline.tracking.patience import FOREVER, HICCUP, Outage, RepeatingClient, patience_with
from tests.commands import with_store


class Server:
    """Answers with the statuses that it is given, one after another, then with the last one."""

    def __init__(self, statuses: list[int]) -> None:
        self.asked = asked = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(self.path)
                self.send_response(statuses[min(len(asked), len(statuses)) - 1])
                self.end_headers()
                self.wfile.write(b'{"run": {}}')

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.uri = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@pytest.fixture
def silent() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def ask(uri: str) -> object:
    return MlflowClient(uri).get_run("abc")


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_server_that_is_not_well_is_asked_again(status: int) -> None:
    server = Server([status, status, 200])
    assert Patience(20, server.uri)(ask, server.uri) is not None
    assert len(server.asked) == 3  # and never again by MLflow itself


@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_a_refusal_is_final(status: int) -> None:
    server = Server([status])
    with pytest.raises(StoreLostError, match="must answer and be writable"):
        Patience(20, server.uri)(ask, server.uri)
    assert len(server.asked) == 1


def test_a_server_that_is_gone_is_given_up_after_the_time(closed_port: int) -> None:
    uri = f"http://me:secret@127.0.0.1:{closed_port}"
    tries = []

    def counted() -> object:
        tries.append(1)
        return ask(uri)

    with pytest.raises(StoreLostError) as caught:
        Patience(1.5, uri)(counted)
    assert str(caught.value) == (
        "the tracking store must answer within 1.5 s, however: [Errno 111] Connection refused "
        f"(http://me:***@127.0.0.1:{closed_port}, tracking.give_up_after)"
    )
    assert len(tries) > 1
    # All that waited for it are told at once: together they wait no longer than one.
    tries.clear()
    with pytest.raises(StoreLostError):
        Patience(1.5, uri)(counted)
    assert len(tries) == 1
    # It was back: the next time counts from its own beginning.
    assert Patience(1.5, uri)(int) == 0
    with pytest.raises(StoreLostError):
        Patience(1.5, uri)(counted)
    assert len(tries) > 2


def test_a_server_that_never_answers_is_given_up_too(silent: str) -> None:
    with pytest.raises(StoreLostError, match="timed out"):
        Patience(1, silent)(ask, silent)
    assert Patience(1, silent)(int) == 0


def test_what_is_wrong_itself_is_no_matter_of_the_store() -> None:
    def wrong() -> None:
        raise ConfigError("it must be right, however: it is wrong (here)")

    with pytest.raises(ConfigError, match="must be right"):
        Patience(20, "sqlite:///")(wrong)
    with pytest.raises(ZeroDivisionError):
        Patience(20, "sqlite:///")(lambda: 1 // 0)


def test_a_named_failure_is_as_patient_as_what_it_names(closed_port: int) -> None:
    with pytest.raises(TrackingError) as caught, named_failure("http://host", MlflowException):
        requests.get(f"http://127.0.0.1:{closed_port}", timeout=1)
    assert patience_with(caught.value) == FOREVER


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (ConnectionResetError(errno.ECONNRESET, "reset"), FOREVER),
        (requests.ReadTimeout("timed out"), FOREVER),
        (MlflowException("The following failures ... too many 503 error responses"), FOREVER),
        (MlflowException("The following failures ... Connection aborted"), FOREVER),
        (MlflowException("... too many 500 error responses"), HICCUP),
        (MlflowException("no such run"), 0.0),
        (requests.exceptions.RetryError("... too many 429 error responses"), FOREVER),
        (requests.exceptions.RetryError("... too many 500 error responses"), HICCUP),
        (requests.exceptions.ChunkedEncodingError("IncompleteRead"), FOREVER),
        (requests.exceptions.MissingSchema("no address"), 0.0),
        (TimeoutError("timed out"), FOREVER),
        (OSError(errno.ENOSPC, "No space left on device"), 0.0),
        (PermissionError(errno.EACCES, "denied"), 0.0),
        (FileNotFoundError(errno.ENOENT, "gone"), 0.0),
        (
            sqlalchemy.exc.OperationalError("", {}, sqlite3.OperationalError("database is locked")),
            FOREVER,
        ),
        (
            sqlalchemy.exc.OperationalError(
                "", {}, sqlite3.OperationalError("database or disk is full")
            ),
            0.0,
        ),
        (
            sqlalchemy.exc.OperationalError("", {}, Exception("server closed the connection")),
            FOREVER,
        ),
        (
            sqlalchemy.exc.OperationalError(
                "", {}, sqlite3.OperationalError("database table is locked: runs")
            ),
            FOREVER,
        ),
        (
            sqlalchemy.exc.OperationalError("", {}, sqlite3.OperationalError("cannot connect")),
            0.0,
        ),
        (
            sqlalchemy.exc.OperationalError("", {}, Exception("Lost Connection to MySQL server")),
            FOREVER,
        ),
        (
            sqlalchemy.exc.InterfaceError("", {}, Exception("SSL"), connection_invalidated=True),
            FOREVER,
        ),
        (sqlalchemy.exc.ProgrammingError("", {}, Exception("no such table")), 0.0),
    ],
)
def test_which_errors_pass(error: Exception, seconds: float) -> None:
    assert patience_with(error) == seconds


HOLDER = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
time.sleep(float(sys.argv[2]))
connection.rollback()
"""


def locked(file: Path, seconds: float) -> subprocess.Popen[str]:
    """Another process that holds a database."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(file), str(seconds)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "locked\n"
    return holder


def test_a_locked_database_is_waited_for(tmp_path: Path) -> None:
    uri = f"sqlite:///{with_store(tmp_path)}/mlflow.db"
    client = client_of(uri)
    experiment = client.create_experiment("locked")
    parent = Parent(uri, experiment, client.create_run(experiment).info.run_id)
    run = EndedRun("trial-0000", {}, {"a": "b"}, [], "FINISHED", 1, 2)
    with locked(tmp_path / "mlflow.db", 1):
        with pytest.raises(TrackingError, match="locked"), named_failure(uri):
            probe(uri, 0.1)
        (run_id,) = Patience(30, uri)(write_runs, parent, [run])
    assert client.get_run(run_id).info.status == "FINISHED"
    with locked(tmp_path / "mlflow.db", 1):
        probe(uri, 30)
    assert len(client.search_runs([experiment])) == 2


def test_a_refusal_is_final_whatever_it_was_found_out_by() -> None:
    """A lock that is waited for in vain is no store that went away."""

    def refuse() -> None:
        try:
            raise TimeoutError("of the lock")
        except TimeoutError:
            raise ConfigError("another process is at it") from None

    with pytest.raises(ConfigError) as refused:
        refuse()
    assert patience_with(refused.value) == 0


@pytest.mark.parametrize(
    ("name", "repeated"),
    [
        *((f"{each}_run", True) for each in ("get", "set", "log", "update", "finalize")),
        ("search_runs", True),
        *((f"{each}_run", False) for each in ("create", "delete", "restore", "rename", "copy")),
        ("log_outputs", False),
        *((f"log_{many}", False) for many in ("artifacts", "model_artifacts")),
        *((f"log_{one}", True) for one in ("artifact", "model_artifact")),
    ],
)
def test_what_can_be_asked_twice_is(name: str, repeated: bool) -> None:
    asked: list[int] = []
    begun: list[int] = []

    class Client:
        def __getattr__(self, _: str) -> Callable[[], None]:
            return self.ask

        def ask(self) -> None:
            asked.append(1)
            if len(asked) == 1:
                raise ConnectionResetError(errno.ECONNRESET, "reset")

    client = RepeatingClient(Client())

    def function() -> None:
        begun.append(1)
        getattr(client, name)()

    Patience(20, "http://host")(function)
    assert len(asked) == 2
    assert len(begun) == (1 if repeated else 2)


def test_an_answer_that_is_lost_costs_its_request_alone() -> None:
    """What asks ten things gets through where every third answer is lost."""
    asked: list[int] = []

    class Client:
        def get_run(self, number: int) -> int:
            asked.append(number)
            if len(asked) % 3 == 0:
                raise ConnectionResetError(errno.ECONNRESET, "reset")
            return number

        create_run = log_outputs = get_run

    client = RepeatingClient(Client())
    assert Patience(20, "http://host")(lambda: [client.get_run(n) for n in range(10)]) == [
        *range(10)
    ]
    assert asked == [0, 1, 2, 2, 3, 4, 4, 5, 6, 6, 7, 8, 8, 9]
    # What cannot be done twice is not: the function, which knows whether it was done, begins anew.
    for name in ("create_run", "log_outputs"):
        asked.clear()

        def once(name: str = name) -> None:
            for number in range(3):
                getattr(client, name)(number)

        with pytest.raises(StoreLostError):
            Patience(0.5, "http://host")(once)
        assert asked[:6] == [0, 1, 2, 0, 1, 2]
        assert Patience(1, "http://host")(int) == 0  # it is back
    # Outside of a patient call, an error is what it was.
    asked[:] = [0, 0]
    with pytest.raises(ConnectionResetError):
        client.get_run(0)


def test_a_folder_goes_file_by_file_once_an_answer_was_lost(tmp_path: Path) -> None:
    for name in ("a", "b/c", "b/d/e"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    sent: list[tuple[str, str | None]] = []

    def lose(_: str) -> None:
        raise ConnectionResetError(errno.ECONNRESET, "reset")

    log_folder(tmp_path, lose, lambda path, place: sent.append((Path(path).name, place)))
    assert sent == [("a", None), ("c", "b"), ("e", "b/d")]

    def refuse(_: str) -> None:
        raise MlflowException("no room")

    sent.clear()
    with pytest.raises(MlflowException, match="no room"):
        log_folder(tmp_path, refuse, lambda path, place: sent.append((path, place)))
    assert sent == []


def test_a_store_is_away_since_its_last_answer_and_no_refusal_is_its_first_sign() -> None:
    Outage.end()
    assert Outage.lasted(since=time.monotonic() - 1000) < 500  # of a call that began long before
    Outage.end()

    def refused() -> None:
        raise MlflowException("no such run")

    with pytest.raises(StoreLostError, match="must answer and be writable"):
        Patience(20, "http://host")(refused)
    assert Outage.began is None


def test_a_named_failure_is_not_named_twice(closed_port: int) -> None:
    uri = f"http://127.0.0.1:{closed_port}"

    def named() -> None:
        with named_failure(uri, MlflowException):
            ask(uri)

    with pytest.raises(StoreLostError) as caught:
        Patience(0.1, uri)(named)
    assert str(caught.value) == (
        "the tracking store must answer within 0.1 s, however: [Errno 111] Connection refused "
        f"({uri}, tracking.give_up_after)"
    )
    assert Patience(0.1, uri)(int) == 0
