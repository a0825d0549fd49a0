"""A study over the populations of a Ray cluster is the study of one population."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.commands import tables
from tests.distributed.cluster import Cluster, cluster, run, running, slowed
from tests.distributed.spread import N_TRIALS, assert_whole, opened, searched, with_study
from tests.held import wait_until


@pytest.mark.parametrize("populations", ["2", "3"])
def test_populations_of_a_cluster_end_with_the_tables_of_one(
    tmp_path: Path, shared: Cluster, alone: dict[str, bytes], populations: str
) -> None:
    folder = with_study(tmp_path)
    place = ("--engine", "ray", "--address", shared.address, "--populations", populations)
    with running(folder, "--quiet", *place, **shared.key) as study:
        wait_until(searched(folder, 1))
        assert len(shared.actors()) == int(populations)
        assert study.communicate(timeout=120) == ("", "")
        assert study.returncode == 0
    assert_whole(folder)
    assert tables(folder) == alone
    wait_until(lambda: not shared.actors(), within=20)


def test_populations_of_this_machine_end_with_the_tables_of_one(
    tmp_path: Path, alone: dict[str, bytes]
) -> None:
    folder = with_study(tmp_path)
    done = run(folder, "--quiet", "--engine", "local", "--populations", "2")
    assert (done.returncode, done.stderr) == (0, "")
    assert tables(folder) == alone


def test_a_node_that_joins_in_the_middle_gets_work(tmp_path: Path, alone: dict[str, bytes]) -> None:
    folder = with_study(tmp_path)
    with cluster() as made:
        place = ("--engine", "ray", "--address", made.address)
        with running(folder, *place, **made.key) as study:
            wait_until(opened(folder))
            with slowed(made.actors):
                late = made.join()
                wait_until(late.actors)
                wait_until(searched(folder, N_TRIALS - 4))
            _, errors = study.communicate(timeout=120)
    assert study.returncode == 0, errors
    assert "another population trains (population 2)" in errors
    assert_whole(folder)
    assert tables(folder) == alone
