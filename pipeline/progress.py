"""Owns what a person sees while a study runs: a bar on a terminal, plain lines in a pipe."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.config import StudyConfig
    from pipeline.search import Progress

# In a pipe, a line each time that another such share of the trials is done.
LINES = 10
CONFIRM_LINES = 4


@contextmanager
def report_progress(
    config: StudyConfig, *, quiet: bool = False
) -> Iterator[Callable[[Progress], None] | None]:
    """Yields what `run_study` calls after each epoch; None if nothing is to be shown."""
    if quiet:
        yield None
    elif sys.stdout.isatty():
        with _bar(config) as show:
            yield show
    else:
        print(f"{config.name}: {config.search.n_trials} trials, {config.search.population} at once")
        yield _lines()


@contextmanager
def _bar(config: StudyConfig) -> Iterator[Callable[[Progress], None]]:
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[status]}"),
        TimeRemainingColumn(),
    )
    with Bars(*columns) as bars:
        bar = bars.add_task(escape(config.name), total=config.search.n_trials, status="starting")
        second: list[TaskID] = []

        def show(progress: Progress) -> None:
            if progress.confirmed is None:
                status = describe(progress, counts_only=True)
                bars.update(bar, completed=progress.done, status=status)
                return
            trained, total = progress.confirmed
            if not second:
                status = "trainings of finalists"
                second.append(bars.add_task("confirmation", total=total, status=status))
            bars.update(second[0], completed=trained)

        yield show


def _lines() -> Callable[[Progress], None]:
    started, shown = time.monotonic(), 0
    confirmed = 0

    def show(progress: Progress) -> None:
        nonlocal shown, confirmed
        if progress.confirmed is not None:
            trained, total = progress.confirmed
            if trained * CONFIRM_LINES // total > confirmed:
                confirmed = trained * CONFIRM_LINES // total
                print(f"{trained} of {total} trainings of finalists done", flush=True)
            return
        share = progress.done * LINES // progress.n_trials
        if share > shown or (progress.done == progress.n_trials and shown < LINES):
            shown = share
            left = (time.monotonic() - started) * (progress.n_trials / progress.done - 1)
            print(f"{describe(progress)}, {left:.0f} s left", flush=True)

    return show


def describe(progress: Progress, *, counts_only: bool = False) -> str:
    """The state of a study in a few words."""
    done = "" if counts_only else f"{progress.done} of {progress.n_trials} trials done, "
    failed = f", {progress.failed} failed" if progress.failed else ""
    best = "none" if progress.best is None else f"{progress.best[1]:.4f} (trial {progress.best[0]})"
    return f"{done}{progress.pruned} pruned{failed}, {progress.running} running, best {best}"
