"""The MLflow server goes away while a study runs: for a while, or for good."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.commands import environment, study
from tests.faults.proxy import ANSWER, PASS, Proxy, passes, proxy_before
from tests.faults.server import assert_whole, mlflow_server, runs_of, trials_csv

STUDY = """
name = "{name}"
[data]
source = "sklearn:iris"
[model]
hidden = [3]
[training]
max_epochs = 60
[search]
n_trials = 9
population = 3
pruner = "none"
[space]
patience = "off"
[confirm]
replicates = {replicates}
[tracking]
give_up_after = {give_up_after}
"""


@pytest.fixture(scope="module")
def module_proxy(folder: Path) -> Iterator[Proxy]:
    with mlflow_server(folder) as port, proxy_before(port) as proxy:
        yield proxy


@pytest.fixture
def proxy(module_proxy: Proxy) -> Iterator[Proxy]:
    yield module_proxy
    module_proxy.fault = passes
    module_proxy.start()


class Started:
    """A study as a person starts it."""

    def __init__(
        self,
        folder: Path,
        proxy: Proxy,
        name: str,
        *options: str,
        give_up: int = 60,
        confirm: int = 0,
    ) -> None:
        place = folder / name
        place.mkdir(exist_ok=True)
        text = STUDY.format(name=name, replicates=confirm, give_up_after=give_up)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pipeline", "run", study(place, text), "--quiet", *options],
            cwd=folder,
            env=environment(folder, {"MLFLOW_TRACKING_URI": proxy.address}),
            stderr=subprocess.PIPE,
            text=True,
        )

    def end(self) -> tuple[int, list[str]]:
        """Its exit code, and the lines that it printed to stderr."""
        _, errors = self.process.communicate(timeout=200)
        return self.process.returncode, errors.splitlines()


@pytest.fixture(scope="module")
def undisturbed(folder: Path, module_proxy: Proxy) -> bytes:
    assert Started(folder, module_proxy, "undisturbed").end() == (0, [])
    return trials_csv(folder, assert_whole(folder, "undisturbed", 9))


def at_trial(number: int, act: Callable[[], None]) -> Callable[[int, str], str]:
    """Acts once, when the run of that many-th child is created; its answer is lost."""
    created = []

    def fault(_: int, line: str) -> str:
        if line.endswith("runs/create"):
            created.append(line)
            if len(created) == 1 + number:
                act()
                return ANSWER
        return PASS

    return fault


def spooled(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("journals/*.spool/*"))


def test_away_for_half_a_minute(folder: Path, proxy: Proxy, undisturbed: bytes) -> None:
    def go() -> None:
        proxy.refuse()
        threading.Timer(30, proxy.start).start()

    proxy.fault = at_trial(2, go)
    assert Started(folder, proxy, "half-a-minute").end() == (0, [])
    assert trials_csv(folder, assert_whole(folder, "half-a-minute", 9)) == undisturbed
    assert spooled(folder) == []


@pytest.mark.parametrize("way", ["refuse", "hang"])
def test_away_for_good(folder: Path, proxy: Proxy, undisturbed: bytes, way: str) -> None:
    proxy.fault = at_trial(2, getattr(proxy, way))
    started = Started(folder, proxy, f"for-good-{way}", give_up=8)
    code, errors = started.end()
    assert code == 1
    (line,) = errors
    assert line.startswith("the tracking store must answer within 8 s, however: ")
    assert line.endswith(f"({proxy.address}, tracking.give_up_after); --resume continues the study")
    kept = spooled(folder)
    assert kept
    assert all(name.startswith("trial-") for name in kept)

    # Still away: nothing is lost, and a store that is not there is a wrong address.
    code, errors = Started(folder, proxy, f"for-good-{way}", "--resume", give_up=8).end()
    assert (code, len(errors)) == (2, 1)
    assert spooled(folder) == kept

    proxy.fault = passes
    proxy.start()
    assert Started(folder, proxy, f"for-good-{way}", "--resume").end() == (0, [])
    assert trials_csv(folder, assert_whole(folder, f"for-good-{way}", 9)) == undisturbed
    assert spooled(folder) == []


def test_a_delivery_that_is_cut_off_doubles_nothing(
    folder: Path, proxy: Proxy, undisturbed: bytes
) -> None:
    proxy.fault = at_trial(1, proxy.refuse)
    assert Started(folder, proxy, "delivery", give_up=5).end()[0] == 1
    n_kept = len(spooled(folder))
    assert n_kept > 2
    proxy.start()
    for _ in range(2):  # killed while it delivers, twice, with an answer lost before
        killed = threading.Event()
        proxy.fault = at_trial(0, killed.set)
        started = Started(folder, proxy, "delivery", "--resume")
        assert killed.wait(100)
        started.process.kill()
        started.end()
        time.sleep(1)  # the writer ends with its parent
    proxy.fault = passes
    assert Started(folder, proxy, "delivery", "--resume").end() == (0, [])
    assert trials_csv(folder, assert_whole(folder, "delivery", 9)) == undisturbed
    assert spooled(folder) == []


def test_a_confirmation_is_kept_too(folder: Path, proxy: Proxy, undisturbed: bytes) -> None:
    proxy.fault = at_trial(11, proxy.refuse)
    code, _ = Started(folder, proxy, "confirmation", give_up=8, confirm=2).end()
    assert code == 1
    assert spooled(folder)
    assert all(name.startswith("confirm-") for name in spooled(folder))
    proxy.fault = passes
    proxy.start()
    assert Started(folder, proxy, "confirmation", "--resume", confirm=2).end() == (0, [])
    assert trials_csv(folder, assert_whole(folder, "confirmation", 9)) == undisturbed
    tags = [run.data.tags for run in runs_of(folder, "confirmation")]
    pairs = [(each["finalist"], each["replicate"]) for each in tags if "replicate" in each]
    assert len(pairs) == len(set(pairs)) > 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_answered_while_the_store_is_away(
    folder: Path, proxy: Proxy, undisturbed: bytes, number: signal.Signals
) -> None:
    away = threading.Event()

    def go() -> None:
        proxy.hang()
        away.set()

    proxy.fault = at_trial(2, go)
    started = Started(folder, proxy, f"signal-{number.name}", give_up=100)
    assert away.wait(100)
    time.sleep(2)
    started.process.send_signal(number)
    begun = time.monotonic()
    code, errors = started.end()
    assert time.monotonic() - begun < 15  # 5 on a machine that does nothing else
    assert (code, len(errors)) == (128 + number, 1)
    proxy.fault = passes
    proxy.start()
    assert Started(folder, proxy, f"signal-{number.name}", "--resume").end() == (0, [])
    assert trials_csv(folder, assert_whole(folder, f"signal-{number.name}", 9)) == undisturbed
