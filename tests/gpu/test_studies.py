"""Whole studies on a GPU, by the command."""

from __future__ import annotations

import csv
import io
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.commands import assert_each_once, command, environment, runs, tables, with_store

N_TRIALS = 24
STUDY = f"""
name = "gpu"
[data]
source = "sklearn:wine"
[model]
hidden = [17]
[training]
max_epochs = 30
batch_size = 8
device = "cuda"
[search]
n_trials = {N_TRIALS}
population = 8
[confirm]
replicates = 3
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "study.toml").write_text(STUDY)
    return with_store(tmp_path)


def trials(folder: Path) -> list[dict[str, str]]:
    (name,) = [name for name in tables(folder) if name.endswith("trials.csv")]
    return list(csv.DictReader(io.StringIO(tables(folder)[name].decode())))


def test_is_the_same_study_twice(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = with_store(tmp_path_factory.mktemp("other"))
    (other / "study.toml").write_text(STUDY)
    for each in (folder, other):
        ended = command(each, "run", "study.toml", "--quiet")
        assert ended.returncode == 0, ended.stderr
    assert_each_once(folder, N_TRIALS)
    assert trials(folder) == trials(other)


def test_finds_what_the_processor_finds(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The trials that every study begins with have the same curves but for rounding."""
    other = with_store(tmp_path_factory.mktemp("other"))
    (other / "study.toml").write_text(STUDY)
    assert command(folder, "run", "study.toml", "--quiet").returncode == 0
    ended = command(other, "run", "study.toml", "--quiet", "--device", "cpu")
    assert ended.returncode == 0, ended.stderr
    pairs = list(zip(trials(folder)[:6], trials(other)[:6], strict=True))
    for here, there in pairs:
        assert here["regularization"] == there["regularization"]
    complete = [
        [float(trial["val_loss"]) for trial in pair]
        for pair in pairs
        if {trial["state"] for trial in pair} == {"complete"}
    ]
    assert complete
    for here, there in complete:
        assert here == pytest.approx(there, rel=0.02)


def test_killed_and_resumed(folder: Path) -> None:
    killed = subprocess.Popen(
        [sys.executable, "-m", "pipeline", "run", "study.toml", "--quiet"],
        cwd=folder,
        env=environment(folder),
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and len(runs(folder)) < 6:
        time.sleep(0.05)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert 6 <= len(runs(folder)) < N_TRIALS
    ended = command(folder, "run", "study.toml", "--quiet", "--resume")
    assert ended.returncode == 0, ended.stderr
    assert_each_once(folder, N_TRIALS)
    assert "RUNNING" not in {run.info.status for run in runs(folder)}


def test_out_of_the_gpus_memory(folder: Path) -> None:
    """Half as many train at once, until there is room; nothing is lost."""
    program = """
import sys, torch
from pipeline.cli import main
torch.cuda.set_per_process_memory_fraction(float(sys.argv[1]) / torch.cuda.mem_get_info()[1])
sys.exit(main(sys.argv[2:]))
"""
    wide = STUDY.replace("hidden = [17]", "hidden = [990, 1010]").replace("= 30", "= 2")
    (folder / "study.toml").write_text(wide.replace("population = 8", "population = 24"))
    ended = subprocess.run(
        [sys.executable, "-c", program, str(300 * 2**20), "run", "study.toml", "--replicates=0"],
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert "out of memory" in ended.stderr.lower()
    assert_each_once(folder, N_TRIALS)


def test_more_populations_than_one_on_a_gpu_are_bad_input(folder: Path) -> None:
    ended = command(folder, "run", "study.toml", "--populations", "2")
    assert ended.returncode == 2
    assert "populations on this machine's GPU must be 1, however: 2" in ended.stderr
