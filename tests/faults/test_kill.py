"""SIGKILL at any moment: the resume ends with the study that would have been."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.commands import with_store
from tests.faults.studies import (
    assert_as_if_undisturbed,
    begin,
    ended,
    on_path,
    resume,
    undisturbed,
)

# Moments of the loop and of its end, by the function that is entered or left just then.
MOMENTS = {
    "before anything is asked": "pipeline/search.py:Search._fill_free_slots:call:1",
    "between ask and load": "pipeline/sampling.py:Sampling.ask:return:6",
    "between load and the first epoch": "pipeline/search.py:Search._fill_free_slots:return:1",
    "in the middle of an epoch": "pipeline/population/adam.py:Stepper.step:call:25",
    "between an epoch and its judgement": "pipeline/search.py:Search._stopped:call:4",
    "between unload and tell": "pipeline/population/team.py:PopulationTeam.unload:return:2",
    "before a trial is handed over": "pipeline/recorder.py:Recorder.log:call:3",
    "between the files of a run and the run": (
        "pipeline/tracking/transaction.py:insert_run:call:5"
    ),
    "before a transaction ends": "pipeline/tracking/transaction.py:insert_run:return:5",
    "between track and tell": "pipeline/sampling.py:Sampling.record:call:4",
    "in the middle of telling": (
        "optuna/storages/journal/_storage.py:JournalStorage.set_trial_intermediate_value:return:1"
    ),
    "between tell and the next epoch": "pipeline/sampling.py:Sampling.record:return:4",
    "before the confirmation": "pipeline/confirm/course.py:confirm:call:1",
    "before the finalists' runs are written": "pipeline/confirm/runs.py:finalist_runs:call:1",
    "after the confirmation": "pipeline/confirm/course.py:confirm:return:1",
    "before the champion is registered": "pipeline/recorder.py:Recorder.register:call:1",
    "while the champion is registered": ("pipeline/tracking/registry.py:register_champion:call:1"),
    "after the champion was registered": (
        "pipeline/tracking/registry.py:register_champion:return:1"
    ),
    "while the report is written": "pipeline/report/page.py:render:call:1",
    "before the parent run is closed": "pipeline/recorder.py:Recorder.finish:call:1",
    "while the parent run is closed": "pipeline/tracking/writing.py:close_study:call:1",
    "after the parent run was closed": "pipeline/tracking/writing.py:close_study:return:1",
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_study_killed_at_a_step_of_its_loop(tmp_path: Path, moment: str) -> None:
    running = begin(with_store(tmp_path), KILL_AT=MOMENTS[moment], **on_path())
    assert running.end() == -9, f"it was not killed: {running.errors}"
    before = ended(tmp_path)
    resume(tmp_path)
    assert_as_if_undisturbed(tmp_path, before)


def test_a_study_killed_again_and_again(tmp_path: Path) -> None:
    """Each time at its fourth told trial or later: it must get on all the same."""
    with_store(tmp_path)
    for count in (3, 3, 3):
        running = begin(
            tmp_path,
            "--resume",
            KILL_AT=f"pipeline/search.py:Search._end:return:{count}",
            **on_path(),
        )
        assert running.end() == -9, running.errors
    before = ended(tmp_path)
    resume(tmp_path)
    assert_as_if_undisturbed(tmp_path, before)


@pytest.mark.parametrize("part", range(50))
def test_a_study_killed_at_any_moment(tmp_path: Path, part: int) -> None:
    """At fifty moments, spread over the study's whole time; every other one the program alone."""
    seconds = undisturbed().seconds
    running = begin(with_store(tmp_path))
    running.kill(group=part % 2 == 0, after=seconds * (part + 0.5) / 50)
    before = ended(tmp_path)
    resume(tmp_path)
    assert_as_if_undisturbed(tmp_path, before)
    shutil.rmtree(tmp_path)
