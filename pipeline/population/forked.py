"""Owns what every training process has in common: forked, silent, gone with the one that made it.

Forked, a process has the data and all that was imported, at no cost. It computes on one thread and
speaks to nobody but its near end: other threads' locks are none of its own.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import warnings
import weakref
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import torch

from pipeline.ancestors import end_with

# More processes than this are not worth their memory.
MOST_PROCESSES = 8


class LostProcessError(RuntimeError):
    """A process that trains is gone, and what it trained with it."""


class ForkedProcess:
    """A process that serves a connection until it is closed.

    Args:
        serve: What it runs: given its end of the connection, then `arguments`.
        arguments: Handed over as they are, without a copy.

    Attributes:
        connection: The near end.
        process: The other process.
    """

    def __init__(self, serve: Callable[..., None], *arguments: Any) -> None:
        context = multiprocessing.get_context("fork")
        self.connection, far_end = context.Pipe()
        self.process = context.Process(
            target=_begin,
            args=(os.getpid(), far_end, self.connection, serve, arguments),
            daemon=True,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads
            self.process.start()
        far_end.close()
        # At the program's end multiprocessing would ask politely, and wait.
        weakref.finalize(self, self.process.kill)

    def close(self) -> None:
        """Ends the process, whatever it is at."""
        self.connection.close()
        self.process.kill()
        self.process.join()

    def lost(self) -> LostProcessError:
        """What to raise where the connection broke."""
        self.process.join(timeout=5)
        return LostProcessError(f"a training process ended (exit code {self.process.exitcode})")


def usual_processes() -> int:
    """How many processes may train beside each other here, this one included."""
    if not sys.platform.startswith("linux"):
        return 1  # elsewhere a forked process cannot be relied on
    # torch's number of threads heeds affinity and OMP_NUM_THREADS: it is what may be used.
    return min(torch.get_num_threads(), MOST_PROCESSES)


def _begin(
    parent: int,
    far_end: Connection,
    near_end: Connection,
    serve: Callable[..., None],
    arguments: Any,
) -> None:
    near_end.close()  # this process's copy, which would outlive the other
    # That the connection broke is heard of only where it is used next.
    end_with(parent)
    # Ctrl-C reaches every process of a terminal, and SIGTERM may be sent to all of a group; only
    # the study decides what they mean.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    serve(far_end, *arguments)
