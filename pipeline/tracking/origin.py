"""Owns what a study was made by, command and commit, as tags of its parent run."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pipeline
from pipeline.records import Origin
from pipeline.store import masked

if TYPE_CHECKING:
    from mlflow.entities import Run

COMMAND, PROJECT_COMMAND = "study.command", "study.project_command"
COMMIT, DIRTY = "study.commit", "study.dirty"
# A run that takes over a study takes over these: the first command tells how it was made.
ORIGIN_TAGS = (COMMAND, PROJECT_COMMAND, COMMIT, DIRTY)

# Set by `mlflow run`, whose parameters are the params that its run has before a study adds its own.
ENTRY_POINT_TAG = "mlflow.project.entryPoint"

# What is longer is not kept, as a torn command is another one: the study file tells all the same.
LONGEST_COMMAND = 1000

logger = logging.getLogger(__name__)


def origin_tags(run: Run, command: str | None) -> dict[str, str]:
    """What a study begins with, as its parent run is to keep it.

    Args:
        run: The parent run, before it is described.
        command: That was given, without passwords; None without one.
    """
    told = {COMMAND: masked(command or ""), PROJECT_COMMAND: project_command(run)}
    tags = {key: text for key, text in told.items() if text and len(text) <= LONGEST_COMMAND}
    code = commit_of(Path(pipeline.__file__))
    if code is not None:
        tags |= {COMMIT: code[0], DIRTY: str(code[1]).lower()}
    return tags


def read_origin(tags: Mapping[str, str]) -> Origin:
    """What the tags of a parent run tell, nothing of a study that began before there were any."""
    return Origin(
        command=tags.get(COMMAND),
        project_command=tags.get(PROJECT_COMMAND),
        commit=tags.get(COMMIT),
        dirty={"true": True, "false": False}.get(tags.get(DIRTY, "")),
    )


def project_command(run: Run) -> str | None:
    """The `mlflow run` that opened a run, in the project's folder; None if nothing tells of one."""
    entry_point = run.data.tags.get(ENTRY_POINT_TAG)
    if entry_point is None:
        return None
    words = ["mlflow", "run", "."]
    if entry_point != "main":
        words += ["-e", entry_point]
    # In one order, whatever the store's is; the study first.
    given = sorted(run.data.params.items(), key=lambda param: (param[0] != "study", param[0]))
    for key, quoted in given:
        value = _unquoted(quoted)
        if value:
            words += ["-P", masked(f"{key}={value}")]
    return shlex.join(words)


def _unquoted(value: str) -> str:
    """MLflow keeps parameters as a shell would be given them."""
    try:
        words = shlex.split(value)
    except ValueError:
        return value
    return words[0] if len(words) == 1 else value


def commit_of(file: Path) -> tuple[str, bool] | None:
    """The commit that a file's repository stands at, and whether tracked files differ from it.

    Files that git does not track are no difference: results and notes lie beside most code. None
    where there is no repository, where it does not track the file (as of a package installed into a
    project's folder), or where git cannot be asked.
    """
    try:
        from git import Repo

        file = file.resolve()
        with Repo(file.parent, search_parent_directories=True) as repository:
            if not repository.git.ls_files("--", str(file)):
                return None
            return repository.head.commit.hexsha, repository.is_dirty()
    except Exception:  # whatever it is, no study fails for the want of a commit
        logger.debug("no commit is known of %s", file, exc_info=True)
        return None
