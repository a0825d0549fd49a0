"""A study is one process's at a time; other processes are real ones."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline import locks
from pipeline.config import ConfigError

HOLD = """
import os, sys, time
from pathlib import Path
from pipeline import locks
for name in sys.argv[1:]:
    locks.take(Path(name))
print(os.getpid(), flush=True)
if sys.stdin.readline() == "fork\\n":
    if os.fork() == 0:
        time.sleep(60)
    print("forked", flush=True)
    sys.stdin.readline()
"""


@contextmanager
def held(*files: Path) -> Iterator[subprocess.Popen[str]]:
    """Locks that another process has, until the block's end or its own."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, *map(str, files)],
        cwd=Path(__file__).parents[1],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == f"{holder.pid}\n"
    try:
        yield holder
    finally:
        holder.kill()
        holder.communicate()


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[str]:
    path = str(tmp_path / "journals" / "a.journal")
    yield path
    for lock in (locks.study_lock(path), locks.writer_lock(path)):
        locks.let_go(lock)


def test_a_study_that_trains_is_refused_with_its_holders_name(journal: str) -> None:
    with held(locks.study_lock(journal)) as holder, pytest.raises(ConfigError) as caught:
        locks.take_as_writer(journal)
    message = str(caught.value)
    assert message.startswith(
        f"a study must be one process's at a time, however: process {holder.pid} on "
    )
    assert ", since 2" in message
    assert message.endswith(f" UTC, is at it ({locks.study_lock(journal)})")
    locks.take_as_writer(journal)


def test_a_writer_that_does_not_end_is_named(journal: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "PATIENCE", 0.1)
    with held(locks.writer_lock(journal)) as holder:
        with pytest.raises(ConfigError, match=f"however: process {holder.pid} on "):
            locks.take_as_writer(journal)
        with pytest.raises(ConfigError, match=f"however: process {holder.pid} on "):
            locks.require_free(journal)


def test_a_writer_that_ends_is_waited_for(journal: str) -> None:
    program = "import sys, time; from pipeline import locks; locks.take_as_writer(sys.argv[1])"
    with held(locks.writer_lock(journal)) as holder:
        waiting = subprocess.Popen(
            [sys.executable, "-c", program, journal], cwd=Path(__file__).parents[1]
        )
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(timeout=1)
        holder.kill()
        assert waiting.wait(timeout=30) == 0


def test_the_lock_of_a_killed_process_is_taken_over(journal: str) -> None:
    files = locks.study_lock(journal), locks.writer_lock(journal)
    with held(*files) as holder:
        assert not locks.is_abandoned(journal)
        holder.kill()
        holder.wait()
        assert locks.is_abandoned(journal)
        assert f"process {holder.pid} " in files[0].read_text()
        locks.take_as_writer(journal)
    assert not locks.is_abandoned(journal)
    assert f"process {holder.pid} " not in files[1].read_text()


def test_what_a_process_forks_does_not_outlive_it_with_its_locks(journal: str) -> None:
    with held(locks.study_lock(journal)) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        holder.stdin.write("fork\n")
        holder.stdin.flush()
        assert holder.stdout.readline() == "forked\n"
        holder.kill()
        holder.wait()
        # The forked one closes its copy as its first act, which may be a moment away.
        locks.take(locks.study_lock(journal))
        subprocess.run(["kill", "-9", "--", f"-{holder.pid}"], check=True)


def test_a_lock_that_one_has_can_be_taken_again_and_is_let_go_of_once(journal: str) -> None:
    lock = locks.study_lock(journal)
    locks.take(lock)
    locks.take(lock)
    with pytest.raises(ConfigError):
        locks.take_as_writer(journal)  # another thread of this process trains
    locks.let_go(lock)
    locks.let_go(lock)
    with held(lock):
        pass


def test_of_a_study_without_locks_nothing_is_known(journal: str) -> None:
    assert not locks.is_abandoned(journal)
    locks.require_free(journal)
    assert not Path(journal).parent.exists()
