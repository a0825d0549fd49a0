"""One signal in each phase of a study: it says so, closes its runs, and can go on."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest

from tests.commands import command, environment, runs, states, study, with_store
from tests.faults.studies import on_path, resume
from tests.held import program, study_program, wait_until

STUDY = """
name = "commands"
[data]
source = "sklearn:iris"
[training]
max_epochs = 60
[search]
n_trials = 12
population = 8
pruner = "none"
[space]
patience = "off"
[confirm]
replicates = 5
"""

# What the store holds first when a phase has begun.
CONFIRM = "select count(*) from tags where key = 'stage' and value = 'confirm'"
PHASES = {
    "opening": "select count(*) from runs",
    "search": "select count(*) from tags where key = 'stage' and value = 'search'",
    "confirmation": CONFIRM,
    "registering": "select count(*) from logged_models",
    "registered": "select count(*) from model_versions",
}

# What a bar on a terminal says once trials train.
SHOWN = b" running"


def begun(folder: Path, query: str) -> Callable[[], bool]:
    def look() -> bool:
        with closing(sqlite3.connect(f"file:{folder}/mlflow.db?mode=ro", uri=True)) as store:
            return bool(store.execute(query).fetchone()[0])

    return look


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("phase", PHASES)
def test_a_signal_ends_a_study_in_any_phase_and_a_resume_concludes_it(
    tmp_path: Path, phase: str, sent: signal.Signals
) -> None:
    path = study(with_store(tmp_path), STUDY)
    with program(tmp_path, *study_program(path), OMP_NUM_THREADS="2") as running:
        wait_until(begun(tmp_path, PHASES[phase]))
        running.send_signal(sent)
        _, errors = running.communicate(timeout=120)  # 5 s where nothing else runs
    assert running.returncode == 128 + sent, errors
    assert errors.splitlines()[-1] == "stopped; --resume continues the study"
    # A signal that came when all was written finds a complete study.
    assert states(tmp_path) in ([("interrupted", "KILLED")], [("complete", "FINISHED")])
    assert "RUNNING" not in {run.info.status for run in runs(tmp_path)}
    resume(tmp_path)
    assert states(tmp_path) == [("complete", "FINISHED")]
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as store:
        assert store.execute("select count(*) from model_versions").fetchone() == (1,)


def test_a_second_ctrl_c_leaves_everything_as_it_is(tmp_path: Path) -> None:
    path = study(with_store(tmp_path), STUDY)
    with program(tmp_path, *study_program(path), OMP_NUM_THREADS="2") as running:
        wait_until(begun(tmp_path, PHASES["search"]))
        running.send_signal(signal.SIGINT)
        time.sleep(0.01)  # two that are pending at once are one
        running.send_signal(signal.SIGINT)
        _, errors = running.communicate(timeout=30)
    assert running.returncode == 130, errors
    assert errors.splitlines()[-1].startswith("stopped")
    resume(tmp_path)
    assert states(tmp_path) == [("complete", "FINISHED")]


def test_two_ctrl_c_on_a_terminal_give_its_cursor_back(tmp_path: Path) -> None:
    path = study(with_store(tmp_path), STUDY)
    terminal, far_end = os.openpty()
    shown = b""
    with subprocess.Popen(
        ["setsid", "--ctty", *study_program(path)],
        cwd=tmp_path,
        env=environment(tmp_path, {"TERM": "xterm"}),
        stdin=far_end,
        stdout=far_end,
        stderr=far_end,
    ) as running:
        os.close(far_end)
        with suppress(OSError):  # at its end
            while SHOWN not in shown:
                shown += os.read(terminal, 1024)
            os.write(terminal, b"\x03")
            time.sleep(0.01)
            os.write(terminal, b"\x03")
            while True:
                shown += os.read(terminal, 1024)
    os.close(terminal)
    assert running.returncode == 130, shown
    assert shown.rfind(b"\x1b[?25h") > shown.rfind(b"\x1b[?25l") >= 0, shown
    assert shown.endswith(b"--resume continues the study\r\n")


def test_a_signal_to_the_whole_group_is_the_studys_to_answer(tmp_path: Path) -> None:
    """As `timeout` and service managers send it: to those that train and write beside it, too."""
    path = study(with_store(tmp_path), STUDY)
    settings = {"OMP_NUM_THREADS": "2"}
    with program(tmp_path, "setsid", *study_program(path), **settings) as running:
        wait_until(begun(tmp_path, PHASES["search"]))
        os.killpg(running.pid, signal.SIGTERM)
        _, errors = running.communicate(timeout=60)
    assert (running.returncode, errors.splitlines()[-1]) == (
        143,
        "stopped; --resume continues the study",
    )
    assert states(tmp_path) == [("interrupted", "KILLED")]
    assert "RUNNING" not in {run.info.status for run in runs(tmp_path)}


def test_a_kill_while_the_store_is_made_leaves_one_that_works(tmp_path: Path) -> None:
    """At the worst moment: MLflow's migrations are a hundred transactions."""
    path = study(tmp_path, STUDY)
    with program(tmp_path, *study_program(path)) as running:
        wait_until(lambda: list(tmp_path.glob(".mlflow.db.*")) or (tmp_path / "mlflow.db").exists())
        running.kill()
    done = command(tmp_path, "run", path, "--n-trials", "2", "--replicates", "0")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("killed", "resumed"),
    [
        ({"TZ": "Etc/GMT-14"}, {"TZ": "Etc/GMT+12"}),
        ({"CLOCK": str(2 * 86_400)}, {"CLOCK": "0"}),
        ({"CLOCK": "0"}, {"CLOCK": str(400 * 86_400)}),
    ],
    ids=["time zone", "clock set back", "clock set forward"],
)
def test_another_time_changes_nothing(
    tmp_path: Path, killed: dict[str, str], resumed: dict[str, str], undisturbed: bytes
) -> None:
    path = study(with_store(tmp_path), STUDY)
    with program(tmp_path, *study_program(path), **on_path(), **killed) as running:
        wait_until(begun(tmp_path, PHASES["search"]))
        running.kill()
    assert trials_of(tmp_path, path, **on_path(), **resumed) == undisturbed


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = with_store(tmp_path_factory.mktemp("undisturbed"))
    return trials_of(folder, study(folder, STUDY))


def trials_of(folder: Path, path: str, **extra: str) -> bytes:
    """The table that a study ends with, or that one which is taken up does."""
    done = command(folder, "run", path, "--quiet", "--resume", **extra)
    assert done.returncode == 0, done.stderr
    assert "RUNNING" not in {run.info.status for run in runs(folder)}
    (table,) = folder.glob("mlruns/*/*/artifacts/trials.csv")
    return table.read_bytes()
