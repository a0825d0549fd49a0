"""Owns what the stack's servers share: how they fail, where they listen, how they are stopped."""

from __future__ import annotations

import signal
import socket
from pathlib import Path


class StackError(Exception):
    """Something that the stack needs is not there: rule, what was found, and where."""


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def is_free(port: int) -> bool:
    """Whether nobody listens on a port of this machine."""
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def last_line(log: Path) -> str:
    """The last line of a log that says something."""
    lines = log.read_text(errors="replace").split("\n") if log.exists() else []
    return next((line.strip() for line in reversed(lines) if line.strip()), "it says nothing")


def stop_undisturbed() -> None:
    """From now on the stack is being stopped, which another Ctrl-C would only leave half done."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
