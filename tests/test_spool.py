"""Runs that wait in a folder: what is kept is what comes back, whole or not at all."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

from pipeline.contents import EndedRun, MetricPoint
from pipeline.spool import clear, drop, keep, kept, spool_of
from pipeline.tracking import Parent, deliver, write_runs
from tests.commands import with_store

RUN = EndedRun(
    name="trial-0007",
    tags={"stage": "search", "trial.number": "7"},
    params={"lambda": "0.1", "regularization": "l1"},
    metrics=[MetricPoint("loss/val", 0.1 + 0.2, 1), MetricPoint("loss/val", 1e-300, 2)],
    status="KILLED",
    started=1_700_000_000_001,
    ended=1_700_000_000_999,
    files={"history.csv": b"epoch\n1\n", "weights.pt": bytes(range(256))},
)


def test_what_is_kept_comes_back_equal(tmp_path: Path) -> None:
    spool = spool_of(str(tmp_path / "abc.journal"))
    others = [replace(RUN, name=f"confirm-winner-{n:02}", files={}) for n in range(7)]
    for run in (RUN, *reversed(others)):
        keep(spool, run)
    assert [run for _, run in kept(spool)] == [*others, RUN]
    assert spool == tmp_path / "abc.spool"
    assert {path.name for path in spool.rglob("*") if path.is_file()} == {
        *("run.json", "history.csv", "weights.pt")
    }


def test_a_run_is_kept_once_and_dropped_once(tmp_path: Path) -> None:
    keep(tmp_path, RUN)
    later = replace(RUN, status="FINISHED")
    keep(tmp_path, later)
    ((entry, run),) = kept(tmp_path)
    assert run == later
    drop(entry)
    drop(entry)
    assert list(tmp_path.iterdir()) == []


def test_without_a_spool_nothing_is_kept(tmp_path: Path) -> None:
    assert list(kept(tmp_path / "none.spool")) == []
    clear(tmp_path / "none.spool")


def test_what_a_killed_process_left_half_is_not_there(tmp_path: Path) -> None:
    keep(tmp_path, RUN)
    ((entry, _),) = kept(tmp_path)
    entry.rename(tmp_path / ".unfinished-trial-0007")
    assert list(kept(tmp_path)) == []
    keep(tmp_path, RUN)
    assert [run for _, run in kept(tmp_path)] == [RUN]


def test_what_is_no_run_is_none(tmp_path: Path) -> None:
    keep(tmp_path, RUN)
    (tmp_path / "notes.txt").write_text("a person's")
    (tmp_path / "folder").mkdir()
    assert [run for _, run in kept(tmp_path)] == [RUN]


KILLED = """
import os, signal, sys
from dataclasses import replace
from pathlib import Path
from pipeline.contents import EndedRun
from pipeline.spool import drop, keep, kept

folder = Path(sys.argv[1])
old = EndedRun("a", {}, {}, [], "FINISHED", 1, 2, files={"x": b"1", "y": b"2"})
new = replace(old, status="KILLED", files={"x": b"3", "z": b"4"})

def die_at(step, spool):
    def count(event, arguments):
        nonlocal step
        if event in ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir"):
            step -= 1
            if not step:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(count)

ended, step, seen = False, 0, []
while not ended:
    step += 1
    spool = folder / str(step)
    keep(spool, old)
    child = os.fork()
    if not child:
        die_at(step, spool)
        keep(spool, new)
        drop(spool / "a")
        os._exit(0)
    ended = os.waitpid(child, 0)[1] == 0
    there = [run for _, run in kept(spool)]
    assert there in ([old], [new], []), (step, there)
    seen += there
    for _ in range(2):
        keep(spool, new)
        assert [run for _, run in kept(spool)] == [new], step
        drop(spool / "a")
        assert list(kept(spool)) == [], step
assert old in seen and new in seen and step > 20, (step, seen)
"""


def test_a_process_that_is_killed_at_any_step_leaves_no_half_of_a_run(tmp_path: Path) -> None:
    program = [sys.executable, "-c", KILLED, str(tmp_path)]
    subprocess.run(program, cwd=Path(__file__).parents[1], check=True)


def test_a_full_disk_leaves_no_half_of_a_run(tmp_path: Path) -> None:
    """No file may grow beyond 4 kB: the kernel says so as it does of a full disk."""
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(OSError, match="large"):
            keep(tmp_path, replace(RUN, files={"weights.pt": bytes(10_000)}))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Parent:
    folder = with_store(tmp_path_factory.mktemp("store"))
    uri = f"sqlite:///{folder}/mlflow.db"
    client = MlflowClient(uri)
    experiment = client.create_experiment("spool", artifact_location=str(folder / "artifacts"))
    return Parent(uri, experiment, client.create_run(experiment).info.run_id)


def named(parent: Parent, name: str) -> list[mlflow.entities.Run]:
    found = MlflowClient(parent.uri).search_runs([parent.experiment_id])
    return [run for run in found if run.info.run_name == name]


def test_a_delivered_run_is_the_one_that_was_kept(tmp_path: Path, parent: Parent) -> None:
    spool = tmp_path / "a.spool"
    run = replace(RUN, name="trial-0001", write="one")
    keep(spool, run)
    assert deliver(parent, spool) == 1
    (written,) = named(parent, "trial-0001")
    assert written.data.tags["mlflow.parentRunId"] == parent.run_id
    assert written.data.params == run.params
    assert (written.info.status, written.info.end_time) == ("KILLED", run.ended)
    assert written.data.metrics["loss/val"] == 1e-300
    assert not spool.exists()
    assert deliver(parent, spool) == 0


def test_a_delivery_that_fails_keeps_what_it_could_not_write(
    tmp_path: Path, parent: Parent
) -> None:
    client = MlflowClient(parent.uri)
    root, spool = tmp_path / "artifacts", tmp_path / "a.spool"
    root.write_text("no folder")
    experiment = client.create_experiment("no folder", artifact_location=str(root))
    here = Parent(parent.uri, experiment, client.create_run(experiment).info.run_id)
    bare = replace(RUN, name="trial-0001", write="bare", files={})
    whole = replace(RUN, name="trial-0002", write="whole")
    keep(spool, bare)
    keep(spool, whole)
    for _ in range(2):
        with pytest.raises(OSError, match="artifacts"):
            deliver(here, spool)
        assert [run for _, run in kept(spool)] == [whole]
    root.unlink()
    assert deliver(here, spool) == 1
    assert [len(named(here, run.name)) for run in (bare, whole)] == [1, 1]


@pytest.mark.parametrize("way", ["transaction", "client"])
def test_a_run_that_stands_is_not_written_again(
    tmp_path: Path, parent: Parent, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a crash between the writing of a run and the removal of its entry."""
    if way == "client":  # the way of a server, and of a store whose tables are not known
        monkeypatch.setattr("pipeline.tracking.writing.known_tables", lambda: None)
    run = replace(RUN, name=f"trial-{way}", write=way)
    (run_id,) = write_runs(parent, [run])
    keep(tmp_path, run)
    assert deliver(parent, tmp_path) == 1
    assert write_runs(parent, [run, replace(run, write=f"other-{way}")])[0] == run_id
    assert len(named(parent, run.name)) == 2


def test_a_run_that_stands_half_is_filled(parent: Parent, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a server has it whose answer to the creation was lost, and that to a batch of metrics."""
    monkeypatch.setattr("pipeline.tracking.writing.known_tables", lambda: None)
    client = MlflowClient(parent.uri)
    run = replace(RUN, name="trial-half", write="half")
    begun = client.create_run(parent.experiment_id, tags={"study.write": "half"}, run_name=run.name)
    client.log_metric(begun.info.run_id, "loss/val", 0.1 + 0.2, timestamp=run.ended, step=1)
    assert write_runs(parent, [run]) == [begun.info.run_id]
    (written,) = named(parent, "trial-half")
    assert written.info.status == "KILLED"
    points = client.get_metric_history(begun.info.run_id, "loss/val")
    assert [(point.step, point.value) for point in points] == [(1, 0.1 + 0.2), (2, 1e-300)]


def test_an_entry_is_json_and_bytes(tmp_path: Path) -> None:
    keep(tmp_path, RUN)
    plain = json.loads((tmp_path / "trial-0007" / "run.json").read_text())
    assert plain["files"] == ["history.csv", "weights.pt"]
    assert (tmp_path / "trial-0007" / "files" / "weights.pt").read_bytes() == bytes(range(256))
