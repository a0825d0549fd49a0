"""Owns a study's two locks: files beside its journal, each held by one process at a time.

The study's lock is held by the process that trains, from when it has its journal to its end. The
writer's is held by the process that writes, from before the study has a run: of a killed study it
may live a moment longer, and end what it has begun. The kernel keeps both, and lets go of them with
the process that holds them, however that ends. So none is ever stale; what such a file tells of a
holder counts only while the lock is held.
"""

from __future__ import annotations

import errno
import logging
import os
import platform
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from filelock import FileLock, Timeout

from pipeline.config import ConfigError

# Seconds that a process may take to notice that the one that it writes for is gone, and to end.
# Whoever only looks at a lock holds it, too, for an instant.
PATIENCE = 5.0

# Between two looks.
LOOK = 0.05

# What a file system says that knows no locks, a network's for instance.
NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)

logger = logging.getLogger(__name__)

_held: dict[Path, FileLock] = {}


def study_lock(journal: str) -> Path:
    """Of the process that trains."""
    return Path(f"{journal}.study.lock")


def writer_lock(journal: str) -> Path:
    """Of the process that writes."""
    return Path(f"{journal}.writer.lock")


def take_as_writer(journal: str) -> None:
    """Takes the writer's lock of a study that no other process is at.

    Raises:
        ConfigError: Another one is.
    """
    _once_its_writer_ended(journal, partial(take, writer_lock(journal), patience=0.2))
    try:
        # Who had both may have let go of the first one, and taken it again, before the second.
        _require(study_lock(journal))
    except ConfigError:
        let_go(writer_lock(journal))
        raise


def take(lock: Path, patience: float = PATIENCE) -> None:
    """Takes a lock, unless this process has it.

    Raises:
        ConfigError: Another process has it.
    """
    if lock in _held:
        return
    taken = _file_lock(lock)
    try:
        taken.acquire(timeout=patience, poll_interval=LOOK)
    except Timeout:
        raise _refusal(lock) from None
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        logger.warning("two processes must not be at one study: this file system cannot tell")
        return
    lock.write_text(_me(), encoding="utf-8")
    _held[lock] = taken


def let_go(lock: Path) -> None:
    """Lets go of a lock, if this process has it."""
    if lock in _held:
        _held.pop(lock).release()


def require_free(journal: str) -> bool:
    """Refuses a study that another process is at, without taking its locks.

    A dying one's writer is waited for, as by `take_as_writer`.

    Returns:
        Whether there was one, which may have changed the study until its end.

    Raises:
        ConfigError: Another process is.
    """
    return _once_its_writer_ended(journal, partial(_require, writer_lock(journal)))


def _once_its_writer_ended(journal: str, attempt: Callable[[], None]) -> bool:
    """Tries until nobody has the writer's lock; tells whether it had to try again."""
    deadline, again = time.monotonic() + PATIENCE, False
    while True:
        _require(study_lock(journal))
        try:
            attempt()
        except ConfigError:
            # A dying one's writer is gone in a moment, a living one has the other lock soon.
            if time.monotonic() > deadline:
                raise
            again = True
            time.sleep(LOOK)
        else:
            return again


def is_abandoned(journal: str) -> bool:
    """Whether the locks of a study are there, and nobody has one.

    A study of another machine, or one that is older than the locks, has none here: nothing is known
    of it.
    """
    try:
        there = [lock for lock in (study_lock(journal), writer_lock(journal)) if lock.exists()]
        return bool(there) and all(_is_held(lock) is False for lock in there)
    except PermissionError:
        return False  # another person's


def is_ours(journal: str) -> bool:
    """Whether this process has the writer's lock of a study."""
    return writer_lock(journal) in _held


def _is_held(lock: Path) -> bool | None:
    """By whatever process; None where the file system cannot tell."""
    looked_at = _file_lock(lock)
    try:
        looked_at.acquire(blocking=False)
    except Timeout:
        return True
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        return None
    looked_at.release()
    return False


def _require(lock: Path) -> None:
    if lock.exists() and _is_held(lock):
        raise _refusal(lock)


def _file_lock(lock: Path) -> FileLock:
    # What one thread takes is the process's. Where the file system knows no locks, none is better
    # than a file that stays behind.
    return FileLock(lock, thread_local=False, fallback_to_soft=False)


def _refusal(lock: Path) -> ConfigError:
    holder = lock.read_text(encoding="utf-8").strip() or "another process"
    return ConfigError(
        f"a study must be one process's at a time, however: {holder} is at it ({lock})"
    )


def _me() -> str:
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return f"process {os.getpid()} on {platform.node()}, since {now},"
