"""Populations and machines that are lost cost a study time, and nothing of its result."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

import pytest

from tests.commands import tables
from tests.distributed.cluster import Cluster, cluster, running
from tests.distributed.spread import N_TRIALS, assert_whole, searched, with_study
from tests.held import lives, wait_until


@pytest.mark.parametrize("n_trials", [1, N_TRIALS], ids=["search", "confirmation"])
def test_a_killed_actor(
    tmp_path: Path, shared: Cluster, alone: dict[str, bytes], n_trials: int
) -> None:
    folder = with_study(tmp_path)
    place = ("--engine", "ray", "--address", shared.address, "--populations", "2")
    with running(folder, *place, **shared.key) as study:
        wait_until(searched(folder, n_trials))
        os.kill(shared.actors()[0], signal.SIGKILL)
        _, errors = study.communicate(timeout=120)
    assert study.returncode == 0, errors
    assert errors.count("a population is lost") == 1
    assert_whole(folder)
    assert tables(folder) == alone


def test_a_killed_node(tmp_path: Path, alone: dict[str, bytes]) -> None:
    folder = with_study(tmp_path)
    with cluster(2) as made:
        with running(folder, "--engine", "ray", "--address", made.address, **made.key) as study:
            wait_until(searched(folder, 1))
            assert made.nodes[1].actors()
            made.nodes[1].kill()
            _, errors = study.communicate(timeout=120)
        assert study.returncode == 0, errors
    assert "a population is lost" in errors
    assert_whole(folder)
    assert tables(folder) == alone


def test_an_actor_that_is_stopped_is_given_up_and_what_it_answers_later_is_ignored(
    tmp_path: Path, shared: Cluster, alone: dict[str, bytes]
) -> None:
    folder = with_study(tmp_path)
    place = ("--engine", "ray", "--address", shared.address, "--populations", "2")
    with running(folder, *place, "--population-timeout", "3", **shared.key) as study:
        wait_until(searched(folder, 1))
        first = shared.actors()
        os.kill(first[0], signal.SIGSTOP)
        wait_until(lambda: set(shared.actors()) - set(first))
        with suppress(ProcessLookupError):
            os.kill(first[0], signal.SIGCONT)
        _, errors = study.communicate(timeout=120)
    assert study.returncode == 0, errors
    assert "it did not answer for 3 s" in errors
    assert_whole(folder)
    assert tables(folder) == alone
    wait_until(lambda: not lives(first[0]), within=20)
