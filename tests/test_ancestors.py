"""Processes whose ancestors end; all of them real."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.ancestors import ancestors, up_to_mlflow_run

PROJECT = Path(__file__).parents[1]
WATCHED = """
import os, sys, time
from pipeline.ancestors import {function}
{call}
print(os.getpid(), flush=True)
time.sleep(60)
"""
END_WITH = WATCHED.format(function="end_with", call="end_with(int(sys.argv[1]))")
TOLD = WATCHED.format(
    function="tell_of_end, up_to_mlflow_run",
    call="line = up_to_mlflow_run(); print(len(line)); tell_of_end(line, lambda: os._exit(7))",
)
# Starts the program as `mlflow run` would: by a shell that it has told the run.
AS_MLFLOW = """
import os, subprocess, sys
environment = {**os.environ, "MLFLOW_RUN_ID": "abc"}
subprocess.run(["bash", "-c", *sys.argv[1:]], env=environment)
"""


def ended(process: int) -> bool:
    """Within ten seconds; a zombie that nobody waits for has ended, too."""
    for _ in range(200):
        try:
            status = Path(f"/proc/{process}/stat").read_text()
        except OSError:
            return True
        if status.rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.05)
    return False


def started(*command: str, **environment: str) -> subprocess.Popen[str]:
    clean = {key: value for key, value in os.environ.items() if key != "MLFLOW_RUN_ID"}
    return subprocess.Popen(
        command, cwd=PROJECT, env={**clean, **environment}, stdout=subprocess.PIPE, text=True
    )


def test_a_process_ends_with_its_parent() -> None:
    program = "import os, subprocess, sys; subprocess.run([*sys.argv[1:], str(os.getpid())])"
    with started(sys.executable, "-c", program, sys.executable, "-c", END_WITH) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.kill()
    assert ended(child)


def test_a_process_whose_parent_was_gone_before_it_looked_ends() -> None:
    with started(sys.executable, "-c", "") as gone:
        pass
    with started(sys.executable, "-c", END_WITH, str(gone.pid)) as late:
        assert late.wait(timeout=30) == 1


def test_a_process_that_watches_ends_by_itself_all_the_same() -> None:
    program = """
import os
from pipeline.ancestors import end_with, tell_of_end
end_with(os.getppid())
tell_of_end([os.getppid()], lambda: os._exit(7))
tell_of_end([], lambda: os._exit(7))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=PROJECT, capture_output=True, timeout=30, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize(
    ("script", "length"),
    [
        ('exec "$0" -c "$1"', 1),
        ('true && "$0" -c "$1"', 1),  # the shell makes way for its last command
        ('"$0" -c "$1"; true', 2),
        ('bash -c \'"$0" -c "$1"; true\' "$0" "$1"; true', 3),
    ],
)
def test_the_end_of_mlflow_run_is_heard_of_through_its_shells(script: str, length: int) -> None:
    with started(sys.executable, "-c", AS_MLFLOW, script, sys.executable, TOLD) as parent:
        assert parent.stdout is not None
        watched, child = int(parent.stdout.readline()), int(parent.stdout.readline())
        parent.kill()
    assert watched == length
    assert ended(child)


def test_without_mlflow_run_nobody_is_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    assert up_to_mlflow_run() == []
    monkeypatch.setenv("MLFLOW_RUN_ID", "")
    assert up_to_mlflow_run() == []


@pytest.mark.parametrize("before", [{}, {"MLFLOW_RUN_ID": "abcd"}])
def test_a_shell_in_which_a_person_set_the_run_is_not_watched(before: dict[str, str]) -> None:
    """It may end before the study that was started in it: `nohup` is for that."""
    program = "from pipeline.ancestors import up_to_mlflow_run; print(up_to_mlflow_run())"
    script = 'export MLFLOW_RUN_ID=abc; "$0" -c "$1"; true'
    with started("bash", "-c", script, sys.executable, program, **before) as shell:
        assert shell.communicate()[0] == "[]\n"


def test_ancestors_are_named_nearest_first() -> None:
    line = list(ancestors())
    assert line[0] == os.getppid()
    assert len(set(line)) == len(line)
    assert 1 not in line  # whoever is orphaned has it for a parent


def test_an_ancestor_may_have_any_name(tmp_path: Path) -> None:
    shell = shutil.which("bash")
    assert shell is not None
    named = tmp_path / "a) S 1 (b"
    named.symlink_to(shell)
    program = "from pipeline.ancestors import ancestors; print(*list(ancestors())[:2])"
    script = '"$0" -c "$1"; true'
    with started(str(named), "-c", script, sys.executable, program) as child:
        assert child.communicate()[0] == f"{child.pid} {os.getpid()}\n"
