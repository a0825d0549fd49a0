"""Owns the MLflow server over a database: behind a password, for this machine alone."""

from __future__ import annotations

import base64
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from deploy.credentials import ADMIN_PASSWORD, NAMES, SECRET_KEY
from deploy.postgres import ADDRESS
from deploy.processes import StackError, is_free, last_line, stop_undisturbed

HERE = Path(__file__).resolve().parent
USER = "admin"
SECONDS_TO_START, SECONDS_TO_STOP = 120, 15

# Where a client would go to, or by another name, whatever it is told here.
ELSEWHERE = ("MLFLOW_TRACKING_TOKEN", "MLFLOW_REGISTRY_URI", "MLFLOW_RUN_ID")


def client_environment(address: str, password: str) -> dict[str, str]:
    """What a program needs to write to the server, and none of the server's own secrets."""
    kept = {key: text for key, text in os.environ.items() if key not in (*NAMES, *ELSEWHERE)}
    return {
        **kept,
        "MLFLOW_TRACKING_URI": address,
        "MLFLOW_TRACKING_USERNAME": USER,
        "MLFLOW_TRACKING_PASSWORD": password,
        "NO_PROXY": ",".join(filter(None, [os.environ.get("NO_PROXY"), "127.0.0.1"])),
    }


@contextmanager
def running(
    folder: Path, database: Mapping[str, str], secrets: Mapping[str, str], port: int
) -> Iterator[str]:
    """A server that runs, with its tables made or upgraded before it; stopped at the end.

    Args:
        folder: Where its log and the artifacts lie.
        database: The environment of who connects to the database.
        secrets: By name.
        port: Where it listens.

    Yields:
        Its address.

    Raises:
        StackError: It does not start.
    """
    if not is_free(port):
        raise StackError(f"the server's port must be free, however: {port} is not (PORT)")
    address, log = f"http://127.0.0.1:{port}", folder / "server.log"
    environment = {
        **{key: text for key, text in os.environ.items() if not key.startswith("MLFLOW_")},
        **database,
        ADMIN_PASSWORD: secrets[ADMIN_PASSWORD],
        SECRET_KEY: secrets[SECRET_KEY],
        "MLFLOW_AUTH_CONFIG_PATH": str(HERE / "basic_auth.ini"),
        "MLFLOW_BACKEND_STORE_URI": ADDRESS,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    # One worker: with more, each answer waits 40 ms, as uvicorn then leaves Nagle's algorithm on.
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--app-name", "basic-auth", "--workers", "1"),
        *("--host", "127.0.0.1", "--port", str(port)),
        *("--allowed-hosts", f"127.0.0.1:{port},localhost:{port}"),
        *("--artifacts-destination", str(folder / "artifacts")),
    ]
    log.touch(mode=0o600)
    with log.open("a") as output:
        _run_schema(environment, output, log)
        # Ctrl-C is not for it: the command that writes to it ends first.
        server = subprocess.Popen(
            command, env=environment, stdout=output, stderr=output, start_new_session=True
        )
    try:
        _wait_until_ready(server, address, secrets[ADMIN_PASSWORD], log)
        yield address
    finally:
        stop_undisturbed()
        _stop(server)


def _run_schema(environment: Mapping[str, str], output: object, log: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "deploy.schema"],
        cwd=HERE.parent,
        env=environment,
        stdout=output,
        stderr=output,
        check=False,
    )
    if done.returncode:
        raise StackError(f"MLflow must make its tables, however: {last_line(log)} ({log})")


def _wait_until_ready(
    server: subprocess.Popen[bytes], address: str, password: str, log: Path
) -> None:
    credentials = base64.b64encode(f"{USER}:{password}".encode()).decode()
    request = urllib.request.Request(
        f"{address}/api/2.0/mlflow/experiments/search?max_results=1",
        headers={"Authorization": f"Basic {credentials}"},
    )
    # Of this machine itself no proxy is asked.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    end = time.monotonic() + SECONDS_TO_START
    while time.monotonic() < end and server.poll() is None:
        try:
            opener.open(request, timeout=10).close()
        except urllib.error.HTTPError as error:
            if error.code == 401:
                raise StackError(
                    "the server must take the password that it was first started with, however: "
                    f"it refuses {USER}'s ({ADMIN_PASSWORD})"
                ) from error
        except OSError:
            pass  # it is not there yet
        else:
            return
        time.sleep(0.1)
    raise StackError(f"the server must answer, however: {last_line(log)} ({log})")


def _stop(server: subprocess.Popen[bytes]) -> None:
    server.terminate()
    with suppress(subprocess.TimeoutExpired):
        server.wait(SECONDS_TO_STOP)
    with suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)  # what is left of it
    server.wait()
