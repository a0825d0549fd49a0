"""Whole studies on a GPU, by the command."""

from __future__ import annotations

import csv
import io
import sys
from pathlib import Path

import pytest

from tests.commands import (
    assert_each_once,
    command,
    n_ended,
    runs,
    study,
    tables,
    with_store,
)
from tests.held import program, study_program, wait_until

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


OUT_OF_MEMORY = """
import sys, torch
from pipeline.cli import main
torch.cuda.set_per_process_memory_fraction(300 * 2**20 / torch.cuda.mem_get_info()[1])
sys.exit(main(sys.argv[1:]))
"""
# A slot takes 24 MB.
WIDE = STUDY.replace("hidden = [17]", "hidden = [990, 1010]").replace("epochs = 30", "epochs = 2")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    study(with_store(tmp_path), STUDY)
    return tmp_path


def trials(folder: Path, *arguments: str) -> list[dict[str, str]]:
    """What a study ends with that is run there, or taken up."""
    ended = command(folder, "run", "study.toml", "--quiet", *arguments)
    assert ended.returncode == 0, ended.stderr
    assert_each_once(folder, N_TRIALS)
    return list(csv.DictReader(io.StringIO(tables(folder)["trials.csv"].decode())))


@pytest.fixture
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = with_store(tmp_path_factory.mktemp("other"))
    study(place, STUDY)
    return place


def test_is_the_same_study_twice(folder: Path, other: Path) -> None:
    assert trials(folder) == trials(other)


def test_finds_what_the_processor_finds(folder: Path, other: Path) -> None:
    """The trials that every study begins with have the same curves but for rounding."""
    pairs = list(zip(trials(folder), trials(other, "--device", "cpu"), strict=True))[:6]
    for here, there in pairs:
        assert here["regularization"] == there["regularization"]
    complete = [
        [float(trial["val_loss"]) for trial in pair]
        for pair in pairs
        if {trial["state"] for trial in pair} == {"complete"}
    ]
    assert complete
    for on_gpu, on_processor in complete:
        assert on_gpu == pytest.approx(on_processor, rel=0.02)


def test_killed_and_resumed(folder: Path) -> None:
    with program(folder, *study_program("study.toml", "--quiet")) as running:
        wait_until(lambda: n_ended(folder) >= 5)
        running.kill()
    assert n_ended(folder) < N_TRIALS
    trials(folder, "--resume")
    assert "RUNNING" not in {run.info.status for run in runs(folder)}


def test_out_of_the_gpus_memory(folder: Path) -> None:
    """Half as many train at once, until there is room; nothing is lost."""
    study(folder, WIDE.replace("population = 8", "population = 24"))
    words = [sys.executable, "-c", OUT_OF_MEMORY, "run", "study.toml", "--replicates=0"]
    with program(folder, *words) as running:
        _, errors = running.communicate(timeout=300)
    assert running.returncode == 0, errors
    assert "out of memory" in errors.lower()
    assert_each_once(folder, N_TRIALS)


def test_more_populations_than_one_on_a_gpu_are_bad_input(folder: Path) -> None:
    ended = command(folder, "run", "study.toml", "--populations", "2")
    assert ended.returncode == 2
    assert "populations on this machine's GPU must be 1, however: 2" in ended.stderr
