"""Owns the study that is looked at, and what its store says that there is to see."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from mlflow import MlflowClient
from mlflow.entities import Run

from pipeline.tracking.view import NOTE_TAG, TAG_PREFIX
from tests.commands import command, study

# Whoever puts one of these into a page as it is, has a dialog open.
NAME = "<script>alert('name')</script>"
COLUMN = "<script>alert('column')</script>"
IMAGE = "<img src=x onerror=alert('image')>"
STUDY = f"""
name = "{NAME}"
[data]
source = "csv:{IMAGE}.csv"
[model]
hidden = [7]
[training]
max_epochs = 11
[search]
n_trials = 12
population = 4
pruner = "none"
[confirm]
replicates = 2
"""


@dataclass(frozen=True)
class Studied:
    """A finished study.

    Attributes:
        folder: Its store's.
        link: Where it said that it can be seen, from the UI's root.
    """

    folder: Path
    link: str

    @cached_property
    def client(self) -> MlflowClient:
        return MlflowClient(f"sqlite:///{self.folder}/mlflow.db")

    @cached_property
    def parent(self) -> Run:
        (experiment,) = (each for each in self.client.search_experiments() if each.name == NAME)
        runs = self.client.search_runs([experiment.experiment_id])
        (parent,) = (run for run in runs if "mlflow.parentRunId" not in run.data.tags)
        return parent

    @cached_property
    def trials(self) -> list[Run]:
        """Best first."""
        found = self.client.search_runs([self.parent.info.experiment_id], "tags.stage = 'search'")
        return sorted(found, key=lambda run: run.data.metrics["final/val_loss"])

    @property
    def names(self) -> list[str]:
        return [run.info.run_name for run in self.trials]

    @property
    def report(self) -> Path:
        return self.artifact(self.parent, "report.html")

    def artifact(self, run: Run, name: str) -> Path:
        return Path(self.client.download_artifacts(run.info.run_id, name))

    def page_of(self, run: Run) -> str:
        """A run's address, from the UI's root."""
        place = f"#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}"
        return f"{place}?workflowType=machine_learning"

    def view(self, key: str) -> dict[str, Any]:
        """What a saved view asks the UI for."""
        tags = self.client.get_experiment(self.parent.info.experiment_id).tags
        state: dict[str, Any] = json.loads(json.loads(tags[f"{TAG_PREFIX}{key}"])["state"])
        return state

    def curve_points(self, run: Run, metrics: list[str]) -> int:
        return sum(len(self.client.get_metric_history(run.info.run_id, key)) for key in metrics)

    def first_words(self) -> list[str]:
        """Of the parent's description, as they can be read there."""
        first = next(filter(None, self.parent.data.tags[NOTE_TAG].split("\n")))
        return words(re.sub(r"\]\([^)]*\)", "]", first))


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text)


def keys_of(run: Run) -> set[str]:
    """What a chart can show of a run."""
    data: Mapping[str, Any] = run.data.params | run.data.metrics
    return set(data)


def run_study(folder: Path) -> Studied:
    """Runs a small study of a table with awkward names, as a person does."""
    with (folder / f"{IMAGE}.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(_table())
    ended = command(folder, "run", study(folder, STUDY))
    assert ended.returncode == 0, ended.stderr
    found = re.search(r"^open it: +http://127\.0\.0\.1:5000/(.+)$", ended.stdout, re.MULTILINE)
    assert found is not None, ended.stdout
    return Studied(folder, found[1])


def _table() -> list[list[str]]:
    draw = np.random.default_rng(7)
    numbers = draw.normal(size=(170, 2))
    kinds = draw.choice([IMAGE, "<b>"], size=len(numbers))
    noisy = numbers.sum(axis=1) + draw.normal(size=len(numbers))
    rows = [
        [f"{first:.4f}", f"{second:.4f}", kind, "yes" if target > 0 else "no"]
        for (first, second), kind, target in zip(numbers, kinds, noisy, strict=True)
    ]
    return [[COLUMN, "size", "kind", "outcome"], *rows]
