"""A study's process, forked from one that has imported already what takes seconds."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import runpy
import signal
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest

SITE = Path(__file__).parent / "site"
PROJECT = Path(__file__).parents[2]

# All that a study's own process imports until its end, and this file, which imports little: each
# fork would do that anew.
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(
    [
        __name__,
        *("pipeline.cli", "pipeline.study", "pipeline.report", "pipeline.figures"),
        *("pipeline.confirm.comparison", "pipeline.confirm.course", "pipeline.progress"),
        *("scipy.stats", "sklearn.datasets", "sklearn.model_selection", "plotly.graph_objects"),
    ]
)


def get_ready() -> None:
    """Has it imported, so that the next study begins at once."""
    _forked(int).join()


class Forked:
    """A study in a process group of its own.

    Args:
        folder: Where it is started; its last words go to the file `errors` there.
        arguments: Those of `python -m pipeline`.
        settings: Its environment.
    """

    def __init__(self, folder: Path, arguments: list[str], settings: Mapping[str, str]) -> None:
        self._errors = folder / "errors"
        self._process = _forked(_run, folder, arguments, dict(settings))

    def end(self, within: float = 240) -> int:
        """Its exit code; negative where a signal ended it."""
        self._process.join(within)
        code = self._process.exitcode
        if code is None:
            self.kill(group=True)
            pytest.fail(f"it did not end within {within:g} seconds")
        return code

    def kill(self, *, group: bool, after: float = 0) -> None:
        """SIGKILL, to the program alone or to all of its processes.

        Args:
            group: To all of them.
            after: Seconds that it has until then. It may end before.
        """
        self._process.join(after)
        if group and self._process.pid:
            with suppress(ProcessLookupError):  # it may have none yet, or have ended
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()
        self._process.join()

    @property
    def errors(self) -> str:
        """What it printed to stderr."""
        return self._errors.read_text() if self._errors.exists() else ""


def _forked(target: Callable[..., object], *arguments: object) -> ForkServerProcess:
    process = _FORKS.Process(target=target, args=arguments)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(PROJECT))  # for what is imported beforehand
        process.start()
    return process


def _run(folder: Path, arguments: list[str], settings: dict[str, str]) -> None:
    os.setsid()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(settings)
    for file, mode, number in (("errors", "a", 2), (os.devnull, "w", 1)):
        with Path(file).open(mode) as stream:
            os.dup2(stream.fileno(), number)
    runpy.run_path(str(SITE / "sitecustomize.py"))  # as Python does when it starts
    from pipeline.cli import main

    code = main(arguments)
    # As a program ends. What this server forks would wait first until the writing process ends.
    threading._shutdown()
    atexit._run_exitfuncs()
    os._exit(code)
