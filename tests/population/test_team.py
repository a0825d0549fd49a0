"""A population spread over processes: the same trials, bit for bit, whoever trains them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import torch

from pipeline.config import StudyConfig
from pipeline.population import forked, team
from pipeline.population.team import PopulationTeam
from pipeline.population.trainer import PopulationTrainer
from pipeline.results import Point, StopReason, TrialResult
from pipeline.space import Hyperparameters
from tests.builders import (
    TRIALS,
    assert_identical,
    tiny_config,
    tiny_splits,
    train_all,
    train_refilled,
)

CONFIG = tiny_config({"search.population": 5})
PROJECT = Path(__file__).parents[2]


@contextmanager
def made(n_processes: int, config: StudyConfig = CONFIG) -> Iterator[PopulationTeam]:
    with closing(PopulationTeam(config, tiny_splits(), n_processes=n_processes)) as trainer:
        yield trainer


def trained(n_processes: int, *, early: bool) -> tuple[list[TrialResult], list[list[Point]]]:
    with made(n_processes) as trainer:
        return train_refilled(trainer, early=early)


@pytest.fixture(scope="module")
def alone() -> tuple[list[TrialResult], list[list[Point]]]:
    return trained(1, early=False)


@pytest.mark.parametrize(("n_processes", "early"), [(1, True), (2, False), (2, True), (4, True)])
def test_results_do_not_depend_on_who_trains(
    n_processes: int, early: bool, alone: tuple[list[TrialResult], list[list[Point]]]
) -> None:
    results, points = trained(n_processes, early=early)
    assert repr(points) == repr(alone[1])  # NaN included
    for result, expected in zip(results, alone[0], strict=True):
        assert_identical(result, expected)
    assert {result.stop_reason for result in results} >= {
        StopReason.PRUNED,
        StopReason.DIVERGED,
        StopReason.EARLY_STOPPING,
    }


def test_a_team_of_one_is_a_trainer() -> None:
    expected = train_all(CONFIG, tiny_splits(), TRIALS, n_slots=5)
    results = [r for r in trained(1, early=False)[0] if r.stop_reason is not StopReason.PRUNED]
    by_trial = {r.hyperparameters: r for r in expected}
    assert len([r for r in results if r.hyperparameters in by_trial]) >= 7
    for result in results:
        if result.hyperparameters in by_trial:
            assert_identical(result, by_trial[result.hyperparameters])


def test_every_process_trains() -> None:
    with made(3) as trainer:
        for slot in trainer.free_slots:
            trainer.load(slot, TRIALS[slot])
        assert len(set(trainer._seats.values())) == 3
        assert sorted(trainer.train_epoch()) == [0, 1, 2, 3, 4]


def test_a_slot_holds_one_trial_whoever_trains_it() -> None:
    with made(2) as trainer:
        for slot in (0, 1):
            trainer.load(slot, Hyperparameters())
        for slot in (0, 1, 5):
            with pytest.raises(ValueError, match=f"loaded into a free slot, however: {slot}"):
                trainer.load(slot, Hyperparameters())
        assert trainer.free_slots == [2, 3, 4]
        assert trainer.unload(1).history.val_loss.size == 0  # before its first epoch
        with pytest.raises(ValueError, match="only a loaded slot can be unloaded, however: 1"):
            trainer.unload(1)


def test_what_goes_wrong_in_another_process_is_raised_here(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here = os.getpid()
    train_epoch = PopulationTrainer.train_epoch

    def fail_elsewhere(self: PopulationTrainer) -> dict[int, Point]:
        if os.getpid() != here:
            raise ZeroDivisionError("somewhere else")
        return train_epoch(self)

    monkeypatch.setattr(PopulationTrainer, "train_epoch", fail_elsewhere)
    with made(2) as trainer:
        for slot in (0, 1):
            trainer.load(slot, Hyperparameters())
        with pytest.raises(ZeroDivisionError, match="somewhere else"):
            trainer.train_epoch()


def test_a_process_that_is_killed_is_named() -> None:
    with made(2) as trainer:
        for slot in (0, 1):
            trainer.load(slot, Hyperparameters())
        (helper,) = trainer._helpers
        os.kill(helper._forked.process.pid or 0, signal.SIGKILL)
        with pytest.raises(RuntimeError, match=r"a training process ended \(exit code -9\)"):
            trainer.train_epoch()


def test_closing_ends_the_processes_and_gives_the_threads_back() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with made(3) as trainer:
            assert torch.get_num_threads() == 1
            processes = [helper._forked.process for helper in trainer._helpers]
            assert all(process.is_alive() for process in processes)
        assert torch.get_num_threads() == 3
        assert not set(processes) & set(multiprocessing.active_children())
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("threads", "slots", "expected"),
    [(1, 100, 1), (2, 3, 1), (2, 7, 1), (2, 8, 2), (16, 12, 3), (64, 500, 8)],
)
def test_as_many_processes_as_cores_if_each_has_enough_to_do(
    threads: int, slots: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(forked.sys, "platform", "linux")
    assert team._usual_processes(slots) == expected
    monkeypatch.setattr(forked.sys, "platform", "darwin")
    assert team._usual_processes(slots) == 1


@pytest.mark.parametrize(("cores", "expected"), [(1, 1), (2, 1), (3, 2), (64, 4)])
def test_a_process_alone_leaves_the_writer_a_core(
    cores: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[int] = []
    monkeypatch.setattr(torch, "get_num_threads", lambda: cores)
    monkeypatch.setattr(torch, "set_num_threads", given.append)
    with made(1):
        pass
    assert given == [expected, cores]


def test_slots_go_where_an_epoch_ends_first() -> None:
    with made(2) as trainer:
        (helper,) = trainer._helpers
        trainer._pace.note(3.0, 1)
        helper.pace.note(1.0, 1)
        for slot in range(4):
            trainer.load(slot, Hyperparameters())
        assert list(trainer._seats.values()) == [helper, helper, None, helper]


def test_a_team_does_not_outlive_its_study() -> None:
    """SIGKILL leaves no time for goodbyes: the others see that the near end is gone."""
    program = (
        "from tests.population.test_team import CONFIG, tiny_splits, PopulationTeam\n"
        "import time\n"
        "team = PopulationTeam(CONFIG, tiny_splits(), n_processes=3)\n"
        "print(*(helper._forked.process.pid for helper in team._helpers), flush=True)\n"
        "time.sleep(60)\n"
    )
    running = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=PROJECT
    )
    assert running.stdout is not None
    pids = [int(word) for word in running.stdout.readline().split()]
    running.kill()
    running.communicate()
    assert len(pids) == 2
    for _ in range(100):
        if not any(_alive(pid) for pid in pids):
            return
        time.sleep(0.1)
    pytest.fail("a training process lives on")


def _alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not waited for does not."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"
