"""What the tests of a cluster share."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

import pytest

from tests.commands import tables
from tests.distributed.cluster import Cluster, cluster, run
from tests.distributed.spread import with_study

WITHOUT_RAY = "Ray is not installed (pip install '.[ray]')"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if find_spec("ray") is not None:
        return
    for item in items:
        if "without_ray" not in item.name and "tests/distributed/" in item.nodeid:
            item.add_marker(pytest.mark.skip(reason=WITHOUT_RAY))


@pytest.fixture(scope="session")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The tables that one population on this machine ends with."""
    folder = with_study(tmp_path_factory.mktemp("alone"))
    done = run(folder, "--quiet", "--engine", "local", "--populations", "1")
    assert (done.returncode, done.stderr) == (0, "")
    return tables(folder)


@pytest.fixture(scope="module")
def shared() -> Iterator[Cluster]:
    """Two machines of which nothing is killed."""
    with cluster(2, cpus=2) as made:
        yield made
