"""What a study was made by: the command as a person would type it, the commit, dirty or not."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from pipeline.cli import main
from pipeline.options import typed
from pipeline.records import Origin
from pipeline.report import render, summary_markdown
from pipeline.study import StudyResult, run_study
from pipeline.tracking import read_study
from pipeline.tracking.origin import (
    ENTRY_POINT_TAG,
    LONGEST_COMMAND,
    ORIGIN_TAGS,
    commit_of,
    origin_tags,
)
from tests.builders import tiny_config
from tests.commands import PROJECT, environment, parents, with_store

IRIS = {"data.source": "sklearn:iris", "search.n_trials": 3}
STUDY = """
name = "made"
[data]
source = "sklearn:iris"
[model]
hidden = [3]
[training]
max_epochs = 2
[search]
n_trials = {n_trials}
population = 2
[confirm]
replicates = 0
"""
needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


@pytest.fixture(autouse=True)
def uri(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty store, and no other."""
    address = f"sqlite:///{with_store(tmp_path)}/mlflow.db"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    for variable in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID"):
        monkeypatch.delenv(variable, raising=False)
    mlflow.set_tracking_uri(None)
    return address


def tags_of(uri: str, run_id: str) -> dict[str, str]:
    tags = MlflowClient(uri).get_run(run_id).data.tags
    return {key: tags[key] for key in ORIGIN_TAGS if key in tags}


# --- the command ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["run", "a.toml", "--seed", "1"], "run a.toml --seed 1"),
        (["run", "a.toml", "--n-trials=", "--seed=7", "--promote="], "run a.toml --seed=7"),
        (["run", "my study.toml"], "run 'my study.toml'"),
        (["run", "a.toml", "--set", 'name="x y"'], """run a.toml --set 'name="x y"'"""),
        (["run", "a.toml", "--set", "name="], "run a.toml --set name="),
        (["run", "a.toml", "--data", "csv:s://u:pw@h/x"], "run a.toml --data 'csv:s://u:***@h/x'"),
    ],
)
def test_a_command_is_told_as_a_person_would_type_it(given: list[str], expected: str) -> None:
    assert typed(given) == f"python -m pipeline {expected}"


def test_what_is_told_runs_the_same_study_again(tmp_path: Path, uri: str) -> None:
    Path("my study.toml").write_text(STUDY.format(n_trials=4), encoding="utf-8")
    arguments = ["run", "my study.toml", "--quiet", "--n-trials=3", "--seed=", "--set", 'name="a"']
    assert main(arguments) == 0
    (first,) = parents(tmp_path)
    command = first.data.tags["study.command"]
    assert (
        command == "python -m pipeline run 'my study.toml' --quiet --n-trials=3 --set 'name=\"a\"'"
    )
    script = command.replace("python", sys.executable, 1)
    subprocess.run(script, shell=True, env=environment(tmp_path), check=True, timeout=120)
    second = next(run for run in parents(tmp_path) if run.info.run_id != first.info.run_id)
    assert second.data.tags["study.command"] == command
    assert second.data.params == first.data.params
    for name in ("study/trials", "best/val_loss"):
        assert second.data.metrics[name] == first.data.metrics[name]


def test_a_resumed_study_keeps_the_command_that_it_began_with(tmp_path: Path) -> None:
    Path("s.toml").write_text(STUDY.format(n_trials=2), encoding="utf-8")
    assert main(["run", "s.toml", "--quiet"]) == 0
    (before,) = parents(tmp_path)
    assert main(["run", "s.toml", "--quiet", "--n-trials", "4", "--resume"]) == 0
    (after,) = parents(tmp_path)
    assert after.data.metrics["study/trials"] == 4
    for key in ORIGIN_TAGS:
        assert after.data.tags.get(key) == before.data.tags.get(key)
    assert "`\npython -m pipeline run s.toml --quiet\n`" in after.data.tags["mlflow.note.content"]


def test_an_heir_takes_over_what_its_predecessor_was_made_by(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As under `mlflow run -P resume=true`, which opens a run of its own."""
    first = run_study(tiny_config(IRIS), command="python -m pipeline run first.toml")
    client, experiment = MlflowClient(uri), first.record.experiment_id
    client.set_tag(first.parent_run_id, "study.commit", "0" * 40)
    client.set_tag(first.parent_run_id, "study.dirty", "true")
    before = tags_of(uri, first.parent_run_id)
    opened = client.create_run(experiment, tags={ENTRY_POINT_TAG: "main"})
    client.log_param(opened.info.run_id, "resume", "true")
    monkeypatch.setenv("MLFLOW_RUN_ID", opened.info.run_id)
    more = tiny_config({**IRIS, "search.n_trials": 5})
    second = run_study(more, resume=True, command="python -m pipeline run second.toml --resume")
    assert second.parent_run_id == opened.info.run_id
    assert tags_of(uri, second.parent_run_id) == before
    assert second.record.origin == Origin("python -m pipeline run first.toml", None, "0" * 40, True)


def test_a_study_from_before_there_were_such_tags_gets_none_of_its_resumer(uri: str) -> None:
    first = run_study(tiny_config(IRIS))
    client = MlflowClient(uri)
    for key in tags_of(uri, first.parent_run_id):
        client.delete_tag(first.parent_run_id, key)
    more = tiny_config({**IRIS, "search.n_trials": 5})
    second = run_study(more, resume=True, command="python -m pipeline run second.toml --resume")
    assert second.parent_run_id == first.parent_run_id
    assert tags_of(uri, second.parent_run_id) == {}
    assert second.record.origin == Origin()


def run_opened(uri: str, params: dict[str, str], tags: dict[str, str]) -> Run:
    client = MlflowClient(uri)
    run_id = client.create_run("0", tags=tags).info.run_id
    for key, value in params.items():
        client.log_param(run_id, key, value)
    return client.get_run(run_id)


@pytest.mark.parametrize(
    ("params", "entry_point", "expected"),
    [
        (
            {"seed": "3", "n_trials": "''", "promote": "", "study": "'my study.toml'"},
            "main",
            "mlflow run . -P 'study=my study.toml' -P seed=3",
        ),
        ({"study": "s.toml"}, "other", "mlflow run . -e other -P study=s.toml"),
        ({"data": "csv:s://u:pw@h"}, "main", "mlflow run . -P 'data=csv:s://u:***@h'"),
        ({"study": "a b.toml"}, "main", "mlflow run . -P 'study=a b.toml'"),  # as not quoted
        ({"study": "it's.toml"}, "main", """mlflow run . -P 'study=it'"'"'s.toml'"""),
        ({"study": "s.toml"}, None, None),
    ],
)
def test_the_command_under_mlflow_run_is_told_too(
    uri: str, params: dict[str, str], entry_point: str | None, expected: str | None
) -> None:
    run = run_opened(uri, params, {} if entry_point is None else {ENTRY_POINT_TAG: entry_point})
    assert origin_tags(run, None).get("study.project_command") == expected


def test_no_password_and_no_torn_command_reaches_a_tag(uri: str) -> None:
    run = run_opened(uri, {}, {})
    tags = origin_tags(run, "python -m pipeline run http://me:secret@host/s.toml")
    assert tags["study.command"] == "python -m pipeline run http://me:***@host/s.toml"
    assert "study.command" in origin_tags(run, "x" * LONGEST_COMMAND)
    assert "study.command" not in origin_tags(run, "x" * (LONGEST_COMMAND + 1))


# --- the commit -------------------------------------------------------------------------------


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    (folder / "package").mkdir(parents=True)
    (folder / "package" / "__init__.py").write_text("", encoding="utf-8")
    (folder / "notes.txt").write_text("one", encoding="utf-8")
    (folder / ".gitignore").write_text("ignored/\n", encoding="utf-8")
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    commit(folder)
    return folder


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def commit(folder: Path) -> None:
    who = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
    git(folder, *who, "commit", "--quiet", "--message", "some")


@needs_git
def test_a_commit_is_dirty_once_a_tracked_file_differs(repository: Path) -> None:
    file, head = repository / "package" / "__init__.py", git(repository, "rev-parse", "HEAD")
    assert commit_of(file) == (head, False)
    (repository / "package" / "new.py").write_text("", encoding="utf-8")
    assert commit_of(file) == (head, False)  # what git does not track is no difference
    (repository / "notes.txt").write_text("two", encoding="utf-8")
    assert commit_of(file) == (head, True)
    git(repository, "add", "notes.txt")
    assert commit_of(file) == (head, True)
    commit(repository)
    after = git(repository, "rev-parse", "HEAD")
    assert after != head
    assert commit_of(file) == (after, False)


@needs_git
def test_a_repository_that_does_not_track_the_package_is_not_its_own(repository: Path) -> None:
    """As where a package is installed into a virtual environment in some project's folder."""
    for name in ("ignored", "untracked"):
        file = repository / name / "package" / "__init__.py"
        file.parent.mkdir(parents=True)
        file.write_text("", encoding="utf-8")
        assert commit_of(file) is None


@needs_git
def test_without_a_repository_or_a_commit_nothing_is_told(tmp_path: Path) -> None:
    bare, unborn = tmp_path / "bare", tmp_path / "unborn"
    for folder in (bare, unborn):
        folder.mkdir()
        (folder / "a.py").write_text("", encoding="utf-8")
    git(unborn, "init", "--quiet")
    git(unborn, "add", ".")
    assert commit_of(bare / "a.py") is None
    assert commit_of(unborn / "a.py") is None
    assert commit_of(tmp_path / "absent" / "a.py") is None


def test_without_git_nothing_is_told_and_nothing_fails(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from pipeline.tracking.origin import commit_of;"
        "print(commit_of(Path(sys.argv[1])))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(PROJECT / "pipeline" / "__init__.py")],
        env={**environment(tmp_path), "PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "None\n"


# --- a whole study ----------------------------------------------------------------------------


@pytest.fixture
def made(uri: str) -> StudyResult:
    return run_study(tiny_config(IRIS), command="python -m pipeline run <b>.toml")


@needs_git
def test_a_study_keeps_its_commit_where_its_package_has_one(uri: str, made: StudyResult) -> None:
    tags, found = tags_of(uri, made.parent_run_id), commit_of(PROJECT / "pipeline" / "__init__.py")
    expected = {} if found is None else {"study.commit": found[0]}
    assert {key: tags[key] for key in tags if key == "study.commit"} == expected
    assert ("study.dirty" in tags) == ("study.commit" in tags)
    assert tags.get("study.dirty", "true") in ("true", "false")


def test_memory_store_page_and_description_tell_the_same(uri: str, made: StudyResult) -> None:
    record = made.record
    assert record.origin.command == "python -m pipeline run <b>.toml"
    again = read_study(made.parent_run_id)
    assert again.origin == record.origin
    page = render(again)
    assert "<dt>Made by</dt><dd>python -m pipeline run &lt;b&gt;.toml" in page
    assert "<b>.toml" not in page
    note = MlflowClient(uri).get_run(made.parent_run_id).data.tags["mlflow.note.content"]
    assert "```\npython -m pipeline run <b>.toml\n```" in note
    if record.origin.commit:
        assert f"commit {record.origin.commit}, with" in page
        assert f"commit {record.origin.commit}, with" in note


@pytest.mark.parametrize(
    ("dirty", "told"),
    [(True, ", with changes to tracked files"), (False, ", without changes"), (None, "")],
)
def test_a_commit_is_told_with_what_is_known_of_it(
    made: StudyResult, dirty: bool | None, told: str
) -> None:
    record = replace(made.record, origin=Origin("a", "b", "c0ffee", dirty))
    assert f"Either command does it (commit c0ffee{told}):" in summary_markdown(record)
    assert f"a; b; commit c0ffee{told}<" in render(record)


def test_the_training_process_does_not_pay_for_it() -> None:
    program = (
        "import sys; import pipeline.study, pipeline.report, pipeline.conclusion;"
        "print(sorted({'git', 'mlflow'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=PROJECT
    )
    assert done.stdout == "[]\n"
