"""Owns what may be another when a study is resumed: what always may, what on request, what never.

- Always: how many trials, how many at once, how many may raise, everything of the confirmation,
  how long a store is waited for.
  Also Python and MLflow, with a note: neither computes.
- On request (`accept_changes`): a pruner, and a space that has become wider, as what was asked for
  lies within it and what ended stands. A hyperparameter that was fixed stays so: no trial in flight
  would tell its value. Packages that compute, draw or ask: trials from then on may differ in their
  last bits from what they would have been.
- Never: data, seed, model, training. Its trials could not be compared.
"""

from __future__ import annotations

import platform
import tomllib
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pipeline
from pipeline.config import ConfigError, StudyConfig
from pipeline.description import flat

VERSION_TAG = "study.versions."
CHANGES_TAG = "study.changes"

PACKAGE = "regularization-study"
# What may change a number or a question; whatever else is recorded may not.
DECIDING = ("torch", "numpy", "pandas", "scikit-learn", "optuna", PACKAGE)
RECORDED = ("python", "mlflow", *DECIDING)

FREE: Any = {
    "search": {"n_trials", "population", "max_failures"},
    "confirm": True,
    "tracking": True,
}


def version_tags() -> dict[str, str]:
    """The versions that a study is made with, as tags of its parent run."""
    found = {name: _version(name) for name in RECORDED}
    return {f"{VERSION_TAG}{name}": each for name, each in found.items() if each is not None}


def _version(name: str) -> str | None:
    if name == "python":
        return platform.python_version()
    project = Path(pipeline.__file__).parents[1] / "pyproject.toml"
    if name == PACKAGE and project.is_file():
        # Of a checkout, whatever is installed beside it.
        return str(tomllib.loads(project.read_text(encoding="utf-8"))["project"]["version"])
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def changes(
    before: StudyConfig, after: StudyConfig, tags: Mapping[str, str], *, accept: bool
) -> tuple[list[str], list[str]]:
    """What is another now, in words: what was accepted, and what needs no acceptance.

    Args:
        before: The study that began.
        after: The one that is to go on.
        tags: Of the parent run, with the versions then.
        accept: What can be accepted, is.

    Raises:
        ConfigError: Something is another that must not be, or only on request.
    """
    old = dict(flat(before.model_dump(mode="json", by_alias=True, exclude=FREE)))
    new = dict(flat(after.model_dump(mode="json", by_alias=True, exclude=FREE)))
    keys = [key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)]
    _refuse(old, new, [key for key in keys if not _can_be_accepted(key, old, new)], "")
    now, then = version_tags(), {**version_tags(), **tags}
    others = [tag for tag in now if now[tag] != then[tag]]
    deciding = [tag for tag in others if tag.removeprefix(VERSION_TAG) in DECIDING]
    asked = [*keys, *deciding]
    old, new = {**old, **then}, {**new, **now}
    if not accept:
        _refuse(old, new, asked, "; --accept-changes goes on with it")
    noted = [tag for tag in others if tag not in deciding]
    return _in_words(old, new, asked), _in_words(old, new, noted)


def _can_be_accepted(key: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    if key == "space.regularization":
        return len(old[key]) > 1 and set(old[key]) <= set(new[key])
    name, _, end = key.rpartition(".")
    if not key.startswith("space.") or end not in ("low", "high"):
        return key.startswith("search.")
    ends = (f"{name}.low", f"{name}.high")
    if not all(each in old and each in new for each in ends):
        return False  # it was, or becomes, no range
    (low, high), (new_low, new_high) = ([of[each] for each in ends] for of in (old, new))
    return bool(new_low <= low < high <= new_high)


def _refuse(old: Mapping[str, Any], new: Mapping[str, Any], keys: list[str], advice: str) -> None:
    if keys:
        first = ", ".join(f"{_short(key)} = {old.get(key)!r}" for key in keys)
        now = ", ".join(repr(new.get(key)) for key in keys)
        raise ConfigError(
            f"a resumed study must be the one that began ({first}), "
            f"however: {now} ({', '.join(map(_short, keys))}{advice})"
        )


def _in_words(old: Mapping[str, Any], new: Mapping[str, Any], keys: list[str]) -> list[str]:
    return [f"{_short(key)} was {old.get(key)!r}, is {new.get(key)!r}" for key in keys]


def _short(key: str) -> str:
    return key.removeprefix(VERSION_TAG)
