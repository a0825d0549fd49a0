"""However a study over a cluster ends, nothing of it trains on, and it can be taken up again."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.commands import runs, states, tables
from tests.distributed.cluster import Cluster, Mark, is_actor, run, running
from tests.distributed.spread import assert_whole, searched, with_study
from tests.held import wait_until


def test_a_killed_study_leaves_no_actor_and_is_resumed_without_a_cluster(
    tmp_path: Path, shared: Cluster, alone: dict[str, bytes]
) -> None:
    folder = with_study(tmp_path)
    place = ("--engine", "ray", "--address", shared.address, "--populations", "2")
    with running(folder, *place, **shared.key) as study:
        wait_until(searched(folder, 1))
        study.kill()
        study.communicate()
    wait_until(lambda: not shared.actors(), within=20)
    done = run(folder, "--quiet", "--resume", "--engine", "local", "--populations", "1")
    assert (done.returncode, done.stderr) == (0, "")
    assert_whole(folder)
    assert tables(folder) == alone


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_study_its_actors_and_the_cluster_that_it_began(
    tmp_path: Path, sent: signal.Signals
) -> None:
    folder = with_study(tmp_path)
    mark = Mark()
    with running(folder, "--engine", "ray", "--populations", "2", **mark.variables) as study:
        wait_until(searched(folder, 1))
        assert any(map(is_actor, mark.rays()))
        study.send_signal(sent)
        _, errors = study.communicate(timeout=30)
    assert (study.returncode, errors) == (128 + sent, "stopped; --resume continues the study\n")
    assert states(folder) == [("interrupted", "KILLED")]
    assert "RUNNING" not in {each.info.status for each in runs(folder)}
    wait_until(lambda: not mark.rays(), within=20)


def test_a_cluster_that_a_study_began_does_not_outlive_it(tmp_path: Path) -> None:
    """And is begun, whatever other cluster the environment names."""
    folder = with_study(tmp_path)
    mark = Mark()
    variables = {**mark.variables, "RAY_ADDRESS": "127.0.0.1:1"}
    with running(folder, "--engine", "ray", "--populations", "1", **variables) as study:
        wait_until(searched(folder, 1))
        assert any(map(is_actor, mark.rays()))
        study.kill()
        study.communicate()
    wait_until(lambda: not mark.rays(), within=90)  # Ray finds out by and by
