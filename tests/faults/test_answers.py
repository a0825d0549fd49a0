"""Answers of the MLflow server that get lost: every single one of a study, many in one study."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest

from pipeline.config import StudyConfig, parse_config
from pipeline.study import run_study
from tests.faults.proxy import ANSWER, BEFORE, PASS, Proxy, passes, proxy_before
from tests.faults.server import assert_whole, mlflow_server, trials_csv

STUDY = """
name = "{name}"
[data]
source = "sklearn:iris"
[model]
hidden = [3]
[training]
max_epochs = 3
[search]
n_trials = 2
population = 1
pruner = "none"
[space]
patience = "off"
[confirm]
replicates = {replicates}
[tracking]
give_up_after = 30
"""


def config(name: str, replicates: int = 0) -> StudyConfig:
    return parse_config(STUDY.format(name=name, replicates=replicates), "study.toml", Path("/"))


@pytest.fixture(scope="module")
def proxy(folder: Path) -> Iterator[Proxy]:
    with mlflow_server(folder) as port, proxy_before(port) as proxy:
        yield proxy


@pytest.fixture(autouse=True)
def _in_store(folder: Path, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", proxy.address)
    for variable in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID"):
        monkeypatch.delenv(variable, raising=False)
    mlflow.set_tracking_uri(None)
    yield
    proxy.fault = passes


@pytest.fixture(scope="module")
def undisturbed(folder: Path, proxy: Proxy) -> bytes:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", proxy.address)
        run_study(config("undisturbed"))
    return trials_csv(folder, assert_whole(folder, "undisturbed", 2))


def kind(line: str) -> str:
    """A request's line without what is another one in each study: ids, and what is asked for."""
    return re.sub(r"(mlflow-artifacts|\?).*", r"\1", re.sub(r"[0-9a-f]{32}|\d+", "N", line))


class EachOnce:
    """Loses every fourth answer that none lost before, by its kind and how many of it came before.

    Attributes:
        lost: All that were.
        left: Those of this study that had not been lost before.
    """

    def __init__(self) -> None:
        self.lost: set[tuple[str, int]] = set()
        self.begin()

    def begin(self) -> None:
        """Another study."""
        self.left: list[tuple[str, int]] = []
        self._had: Counter[str] = Counter()
        self._since = 3

    def __call__(self, _: int, line: str) -> str:
        answer = kind(line), self._had[kind(line)]
        # The first one finds out whether the store is there: without it there is no study.
        if answer not in self.lost and self._had:
            self.left.append(answer)
            if self._since >= 3:
                self._since = 0
                self.lost.add(answer)
                return ANSWER
        self._since += 1
        self._had[kind(line)] += 1
        return PASS


def test_no_answer_is_one_that_a_study_cannot_lose(
    folder: Path, proxy: Proxy, undisturbed: bytes
) -> None:
    """Requests are done and their answers are lost, and the study is as undisturbed.

    Until there is a study that has none left to lose.
    """
    proxy.fault = fault = EachOnce()
    for k in range(30):
        fault.begin()
        name = f"lost-{k}"
        run_study(config(name))
        assert trials_csv(folder, assert_whole(folder, name, 2)) == undisturbed
        if not fault.left:
            break
    assert not fault.left
    assert len(fault.lost) > 40


@pytest.mark.parametrize("fate", [ANSWER, BEFORE])
@pytest.mark.parametrize("every", [3, 5, 7])
def test_many_can_be_lost_in_one_study(
    folder: Path, proxy: Proxy, undisturbed: bytes, fate: str, every: int
) -> None:
    """With a confirmation and a champion; each is lost once, or nothing would ever get through."""
    lost: set[str] = set()
    seen: list[str] = []

    def fault(number: int, line: str) -> str:
        seen.append(line)
        if len(seen) % every or len(seen) == 1 or line in lost:
            return PASS
        lost.add(line)
        return fate

    proxy.fault = fault
    name = f"many-{fate}-{every}"
    result = run_study(config(name, replicates=2))
    parent = assert_whole(folder, name, 2)
    assert trials_csv(folder, parent) == undisturbed
    assert lost
    assert result.champion is not None
    assert result.champion.version == 1, result.champion.note
    assert result.champion.holds_alias
