"""Studies in processes that may not have the memory that they ask for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.config import load_config
from pipeline.reproduce import reproduce
from pipeline.study import run_study
from pipeline.tracking import read_study
from tests.commands import environment, parents, runs, with_store

# A network of a million weights: a slot takes 20 MB, sixty-four of them more than the limit.
STUDY = """
name = "wide"
[data]
source = "sklearn:iris"
[model]
hidden = [990, 1010]
[training]
max_epochs = 2
[search]
n_trials = {trials}
population = 64
pruner = "none"
[space]
patience = "off"
dropout = 0.0
[confirm]
replicates = {replicates}
"""

# The limit holds for what the study's process asks for from then on, and for those it forks.
PROGRAM = """
import resource, sys, re, logging
from pathlib import Path
from pipeline import writer
from pipeline.cli import main
from pipeline.recorder import start_writer
import pipeline.study, pipeline.report, pipeline.confirm.comparison, pipeline.figures
import scipy.optimize, sklearn.datasets, sklearn.model_selection
start_writer()
writer.submit(int).result()
used = int(re.search(r"VmData:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024
limit = used + int(sys.argv[1]) * 2**20
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
sys.exit(main(sys.argv[2:]))
"""


def limited(
    folder: Path, megabytes: int, *arguments: str, threads: str = "1"
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, str(megabytes), *arguments],
        cwd=folder,
        env=environment(folder, {"OMP_NUM_THREADS": threads}),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def study(folder: Path, trials: int = 10, replicates: int = 0) -> str:
    path = with_store(folder) / "study.toml"
    path.write_text(STUDY.format(trials=trials, replicates=replicates), encoding="utf-8")
    return str(path)


# With two threads, there are as many processes, each with the limit of its own.
@pytest.mark.parametrize("threads", ["1", "2"])
def test_a_population_that_does_not_fit_is_halved_with_the_same_curves(
    threads: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = study(tmp_path, replicates=2)
    done = limited(tmp_path, 700, "run", path, threads=threads)
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stderr.splitlines() if line.startswith("out of memory with up")]
    assert said, done.stderr
    assert "up to 64 trainings at once" in said[0]
    assert "up to 128 trainings" in done.stderr  # of finalists
    (parent,) = parents(tmp_path)
    assert parent.info.status == "FINISHED"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    trials = read_study(parent.info.run_id).trials
    assert [trial.number for trial in trials] == list(range(10))
    assert reproduce(trials[7].run_id).identical
    one = next(run for run in runs(tmp_path) if "replicate" in run.data.tags)
    assert reproduce(one.info.run_id).identical


def test_one_trial_that_does_not_fit_is_an_error(tmp_path: Path) -> None:
    path = study(tmp_path, trials=2)
    done = limited(
        tmp_path, 60, "run", path, "--population", "2", "--set", "model.hidden=[4000,4000]"
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("a trial must fit into memory, however: one")
    (parent,) = parents(tmp_path)
    assert parent.data.tags["study.state"] == "failed"


def test_a_study_that_was_halved_goes_on_with_more_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was asked of few slots stands; what comes is asked of all."""
    path = study(tmp_path, trials=10)
    done = limited(tmp_path, 700, "run", path)
    assert done.returncode == 0, done.stderr
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    before = [run.info.run_id for run in runs(tmp_path)]
    result = run_study(load_config(path, {"search.n_trials": 13}), resume=True)
    trials = result.record.trials
    assert [trial.number for trial in trials] == list(range(13))
    assert set(before) <= {run.info.run_id for run in runs(tmp_path)}
