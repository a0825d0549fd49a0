"""How long a study that is cut off waits for its store: a busy machine is none that went away."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline import recorder, writer
from pipeline.config import parse_config
from pipeline.search import Progress
from pipeline.study import run_study
from tests.commands import states, with_store
from tests.studies.test_journal import SMALL


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(with_store(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    # Far less than either takes, below.
    monkeypatch.setattr(recorder, "TO_CLOSE", 0.5)
    return tmp_path


def cut_off(folder: Path, function: Callable[..., object], argument: object) -> None:
    """Interrupts a study whose writing process has begun something that takes seconds."""

    def interrupt(_: Progress) -> None:
        begun = writer.submit(function, argument)
        while not begun.running():
            threading.Event().wait(0.01)
        raise KeyboardInterrupt

    config = parse_config(SMALL, "cut_off.toml", folder, {})
    with pytest.raises(KeyboardInterrupt):
        run_study(config, on_progress=interrupt)


def test_one_that_works_is_waited_for(folder: Path) -> None:
    cut_off(folder, sum, range(200_000_000))
    assert states(folder) == [("interrupted", "KILLED")]


def test_one_that_waits_is_not(folder: Path) -> None:
    cut_off(folder, time.sleep, 5)
    assert states(folder) == [("running", "RUNNING")]
