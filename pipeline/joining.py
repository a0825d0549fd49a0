"""Owns what it takes to join a cluster that may be none: soon, and without a word but our own."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.config import ConfigError

# Seconds within which an address must take a connection.
TO_CONNECT = 5.0

# How whoever speaks HTTP/2, as Ray does, is greeted, and the kind of what it says first (RFC 9113,
# 3.4): "no such cluster" would else be found out by waiting.
HTTP2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
SETTINGS = b"\x04"


def within(seconds: float, call: Callable[[], object]) -> None:
    """Calls a function that may never return: who waits in Ray's core hears of no signal either.

    Raises:
        TimeoutError: It has not returned in time. It goes on in a thread that nobody waits for.
    """
    outcome: Future[object] = Future()

    def settle() -> None:
        try:
            outcome.set_result(call())
        except BaseException as error:  # noqa: BLE001  # raised again by who waits
            outcome.set_exception(error)

    threading.Thread(target=settle, daemon=True).start()
    try:
        outcome.result(seconds)
    except TimeoutError as error:
        raise TimeoutError(f"it did not let this program join within {seconds:g} s") from error


@contextmanager
def own_signals() -> Iterator[None]:
    """Ray takes SIGTERM for itself, and would leave runs open: it stays the program's."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        with suppress(ValueError):  # in a thread, where Ray has not taken it either
            signal.signal(signal.SIGTERM, before)


@contextmanager
def silent() -> Iterator[None]:
    """What Ray's core has to say of an address goes past Python's own stderr, and our one line."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def probe(address: str) -> None:
    """Asks whether a Ray cluster may answer at an address; Ray itself would try for minutes.

    Args:
        address: HOST:PORT.

    Raises:
        ConfigError: None does.
    """
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=TO_CONNECT) as connection:
            if os.environ.get("RAY_USE_TLS", "0") == "0":
                connection.sendall(HTTP2)
                if connection.recv(9)[3:4] != SETTINGS:
                    raise OSError("what answers there is not Ray")
    except (OSError, ValueError, OverflowError) as error:
        raise ConfigError(
            f"a Ray cluster must answer at HOST:PORT, however: {first_line(error)} "
            f"(--address {address})"
        ) from error


def first_line(error: Exception) -> str:
    """What an error says, or of what kind it is where it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
