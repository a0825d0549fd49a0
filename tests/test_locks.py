"""A study is one process's at a time; other processes are real ones."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import subprocess
import sys
import threading
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
    with held(locks.study_lock(journal)) as holder:
        with pytest.raises(ConfigError) as caught:
            locks.take_as_writer(journal)
        message = str(caught.value)
        with pytest.raises(ConfigError) as caught:
            locks.require_free(journal)
        assert str(caught.value) == message
    assert message.startswith(
        f"a study must be one process's at a time, however: process {holder.pid} on "
    )
    assert ", since 2" in message
    assert message.endswith(f" UTC, is at it ({locks.study_lock(journal)})")
    assert not locks.is_ours(journal)
    locks.take_as_writer(journal)
    assert locks.is_ours(journal)


def test_a_holder_that_has_not_written_its_name_yet_is_one(journal: str) -> None:
    with held(locks.study_lock(journal)):
        locks.study_lock(journal).write_text("")
        with pytest.raises(ConfigError, match="however: another process is at it"):
            locks.take_as_writer(journal)


def test_who_trains_is_named_where_its_writer_is_another_process(journal: str) -> None:
    with (
        held(locks.study_lock(journal)) as trains,
        held(locks.writer_lock(journal)),
        pytest.raises(ConfigError, match=f"process {trains.pid} on .*study.lock"),
    ):
        locks.take_as_writer(journal)


WAIT = """
import logging, sys
from pipeline import locks
from pipeline.config import ConfigError
logging.basicConfig(stream=sys.stdout, level=logging.DEBUG, format="%(message)s")
try:
    locks.take_as_writer(sys.argv[1])
except ConfigError as error:
    print(error, flush=True)
print("ours" if locks.is_ours(sys.argv[1]) else "not ours", flush=True)
"""


def test_a_study_that_began_to_train_while_its_writer_was_waited_for_is_refused(
    journal: str,
) -> None:
    locks.take(locks.writer_lock(journal))
    with subprocess.Popen(
        [sys.executable, "-c", WAIT, journal],
        cwd=Path(__file__).parents[1],
        stdout=subprocess.PIPE,
        text=True,
    ) as waiting:
        assert waiting.stdout is not None
        # It has seen that nobody trains, and is about to look again whether the writer is gone.
        while "waiting" not in waiting.stdout.readline():
            assert waiting.poll() is None
        locks.take(locks.study_lock(journal))
        locks.let_go(locks.writer_lock(journal))
        told = waiting.stdout.read()
    assert f"process {os.getpid()} on " in told
    assert f"({locks.study_lock(journal)})" in told
    assert told.endswith("\nnot ours\n")


def test_a_writer_that_does_not_end_is_named(journal: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "PATIENCE", 0.1)
    with held(locks.writer_lock(journal)) as holder:
        with pytest.raises(ConfigError, match=f"however: process {holder.pid} on "):
            locks.take_as_writer(journal)
        with pytest.raises(ConfigError, match=f"however: process {holder.pid} on "):
            locks.require_free(journal)


@pytest.mark.parametrize("asks", ["take_as_writer(sys.argv[1])", "require_free(sys.argv[1])"])
def test_a_writer_that_ends_is_waited_for(journal: str, asks: str) -> None:
    program = f"import sys; from pipeline import locks; locks.{asks}"
    with held(locks.writer_lock(journal)) as holder:
        waiting = subprocess.Popen(
            [sys.executable, "-c", program, journal], cwd=Path(__file__).parents[1]
        )
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(timeout=1)
        holder.kill()
        assert waiting.wait(timeout=30) == 0


def test_who_requires_a_free_study_is_told_whether_it_had_to_wait(journal: str) -> None:
    assert not locks.require_free(journal)
    with held(locks.writer_lock(journal)) as holder:
        ending = threading.Timer(0.5, holder.kill)
        ending.start()
        assert locks.require_free(journal)
    assert not locks.require_free(journal)


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
    with held(lock), pytest.raises(ConfigError):
        locks.take(lock, patience=0)


def test_a_lock_is_its_process_s_whichever_of_its_threads_took_it(journal: str) -> None:
    lock = locks.study_lock(journal)
    locks.take(lock)
    letting_go = threading.Thread(target=locks.let_go, args=(lock,))
    letting_go.start()
    letting_go.join()
    with held(lock):
        pass


def test_of_a_study_without_locks_nothing_is_known(journal: str) -> None:
    assert not locks.is_abandoned(journal)
    locks.require_free(journal)
    assert not Path(journal).parent.exists()


@pytest.mark.parametrize("said", [errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK])
def test_a_file_system_without_locks_refuses_no_study_and_gives_none_up(
    journal: str, said: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """None is at hand, so the system call says what one says."""

    def flock(*_: object) -> None:
        raise OSError(said, os.strerror(said))

    monkeypatch.setattr(fcntl, "flock", flock)
    caplog.set_level(logging.WARNING)
    for _ in range(2):  # the second one finds the first one's files
        locks.require_free(journal)
        locks.take_as_writer(journal)
        locks.take(locks.study_lock(journal))
        assert not locks.is_ours(journal)
    rule = "two processes must not be at one study: this file system cannot tell"
    assert caplog.messages == [rule] * 4
    # Whether somebody lives who trains, nobody knows.
    assert locks.study_lock(journal).exists()
    assert not locks.is_abandoned(journal)


def test_what_else_goes_wrong_with_a_lock_is_said(journal: str) -> None:
    locks.study_lock(journal).mkdir(parents=True)
    with pytest.raises(IsADirectoryError):
        locks.take(locks.study_lock(journal))
    with pytest.raises(IsADirectoryError):
        locks.require_free(journal)


@pytest.mark.parametrize("closed", ["file", "folder"])
def test_of_another_person_s_study_nothing_is_known(journal: str, closed: str) -> None:
    lock = locks.study_lock(journal)
    with held(lock):
        pass
    assert locks.is_abandoned(journal)
    path = lock if closed == "file" else lock.parent
    mode = path.stat().st_mode
    path.chmod(0)
    person = os.geteuid()
    if person == 0:
        os.seteuid(65534)  # root may look everywhere
    try:
        assert not locks.is_abandoned(journal)
    finally:
        os.seteuid(person)
        path.chmod(mode)
