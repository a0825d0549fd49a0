"""Owns a tracking server of one's own, as `make stack` starts it: for a command, and no longer.

    python -m deploy.stack [--folder .stack] [--port 5000] [--keep] [COMMAND ...]

    with a folder that no other stack is at:
        with PostgreSQL, as a user who is not root:              # postgres
            with MLflow's tables, then an MLflow server:         # schema, server
                run the command, as a client of that server

What is kept for the next time lies in the folder: the data, the artifacts, the logs, and what
secrets the environment did not give (`credentials`).
"""

from __future__ import annotations

import argparse
import fcntl
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import FrameType

from deploy import postgres, server
from deploy.credentials import ADMIN_PASSWORD, DATABASE_PASSWORD, stack_secrets
from deploy.processes import StackError, free_port

SECRETS_FILE = "secrets.env"
INTERRUPTED = {128 + signal.SIGINT, 128 + signal.SIGTERM}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command with a stack; returns its exit code, or 2 where there can be no stack."""
    parser = argparse.ArgumentParser(
        prog="python -m deploy.stack", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--folder", type=Path, default=Path(".stack"), help="what it keeps")
    parser.add_argument("--port", type=int, default=0, help="the server's; default: a free one")
    parser.add_argument("--keep", action="store_true", help="until Ctrl-C")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="what to run, as a client")
    given = parser.parse_args(arguments)
    command = given.command[1:] if given.command[:1] == ["--"] else given.command
    signal.signal(signal.SIGTERM, _end)
    try:
        return run(given.folder.resolve(), given.port, command, keep=given.keep)
    except StackError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def run(folder: Path, port: int, command: Sequence[str], *, keep: bool) -> int:
    """Runs a command with a stack of a folder.

    Args:
        folder: It; made, if there is none.
        port: The server's; 0 for any that is free.
        command: What is run; nothing keeps the stack as `keep` does.
        keep: Go on after the command, until a signal.

    Returns:
        The command's exit code.

    Raises:
        StackError: There can be no stack.
    """
    _require_packages()
    with ExitStack() as stack:
        stack.enter_context(alone(folder))
        secrets = stack_secrets(folder / SECRETS_FILE)
        print("starting PostgreSQL and an MLflow server ...", flush=True)
        cluster = stack.enter_context(postgres.running(folder, secrets[DATABASE_PASSWORD]))
        address = stack.enter_context(
            server.running(folder, cluster.environment, secrets, port or free_port())
        )
        print(f"{address}/ serves what PostgreSQL holds on port {cluster.port}", flush=True)
        environment = server.client_environment(address, secrets[ADMIN_PASSWORD])
        code = run_client(command, environment) if command else 0
        if code not in INTERRUPTED and (keep or not command):
            print(
                f"Open {address}/ as {server.USER}, with the password in {folder / SECRETS_FILE} "
                f"or {ADMIN_PASSWORD}. Ctrl-C stops it.",
                flush=True,
            )
            with suppress(KeyboardInterrupt):
                signal.pause()
    print(f"the stack has stopped; {folder} keeps it, and python -m deploy.stack serves it")
    return code


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """A folder that no other stack is at, meanwhile.

    Raises:
        StackError: One is.
    """
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o711)  # PostgreSQL's user has to pass through
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StackError(
                f"one stack at a time may run in a folder, however: one does ({folder})"
            ) from error
        yield


def run_client(command: Sequence[str], environment: dict[str, str]) -> int:
    """Runs a command to its end, whoever wants it to end; returns its exit code."""
    try:
        client = subprocess.Popen(command, env=environment)
    except OSError as error:
        raise StackError(f"the command must be a program, however: {error}") from error

    def tell(number: int, _: FrameType | None) -> None:
        # A terminal's Ctrl-C reaches it anyway, and a second one would mean something else to it.
        if number == signal.SIGTERM:
            client.terminate()

    before = {number: signal.signal(number, tell) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        code = client.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return code if code >= 0 else 128 - code


def _require_packages() -> None:
    try:
        import flask_wtf
        import psycopg
    except ImportError as error:
        raise StackError(
            f"what a server needs must be installed, however: {error} "
            "(pip install --requirement requirements-server.lock)"
        ) from error
    del flask_wtf, psycopg


def _end(number: int, _: FrameType | None) -> None:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
