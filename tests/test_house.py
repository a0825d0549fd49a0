"""Who may know what: the project's own rules on imports."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest

import pipeline
from tests.builders import tiny_config, tiny_splits

HOUSE = Path(pipeline.__file__).parent
POPULATION = {f"pipeline.population.{path.stem}" for path in HOUSE.glob("population/*.py")}


def imports(path: Path) -> set[str]:
    """Every module that a file imports, wherever in it; `from a import b` counts as a and a.b."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def importers(package: str) -> set[str]:
    """The files that import a package, relative to the house."""
    return {
        path.relative_to(HOUSE).as_posix()
        for path in HOUSE.rglob("*.py")
        if any(name == package or name.startswith(f"{package}.") for name in imports(path))
    }


def test_mlflow_is_known_to_one_part() -> None:
    assert {path.split("/")[0] for path in importers("mlflow")} == {"tracking"}


def test_optuna_is_known_to_who_asks_and_who_explains() -> None:
    assert importers("optuna") == {"sampling.py", "sampler.py", "importances.py"}


@pytest.mark.parametrize("path", sorted(HOUSE.glob("population/*.py")), ids=lambda path: path.stem)
def test_the_population_knows_nothing_of_studies_or_tracking(path: Path) -> None:
    known = {"ancestors", "config", "data", "results", "scores", "space"}
    allowed = POPULATION | {f"pipeline.{name}" for name in known} | {"pipeline.population"}
    own = {name for name in imports(path) if name.startswith("pipeline.")}
    assert {name for name in own if not any(name.startswith(root) for root in allowed)} == set()


GROUND_FLOOR = [
    *("config", "space", "results", "records", "data", "pruning"),
    *("interrupts", "ancestors", "locks", "garbage"),
]


@pytest.mark.parametrize("name", GROUND_FLOOR)
def test_the_ground_floor_does_not_look_up(name: str) -> None:
    below = {alone: set() for alone in ("space", "interrupts", "ancestors", "garbage")}
    below |= {"config": {"space"}, "data": {"config", "data"}, "locks": {"config"}}
    allowed = below.get(name, {"space", "results"})
    files = [HOUSE / f"{name}.py"] if name != "data" else list(HOUSE.glob("data/*.py"))
    found = set().union(*map(imports, files))
    own = {i.split(".")[1] for i in found if i.startswith("pipeline.")}
    assert own <= allowed


@pytest.mark.parametrize("path", sorted(HOUSE.glob("confirm/*.py")), ids=lambda path: path.stem)
def test_who_compares_finalists_neither_trains_nor_writes_them(path: Path) -> None:
    own = {name.split(".")[1] for name in imports(path) if name.startswith("pipeline.")}
    known = {"confirm", "config", "records", "results", "space"}
    known |= {
        "course": {"data", "engine", "failures", "population", "recorder"},
        "runs": {"contents", "weights"},
    }.get(path.stem, set())
    assert own <= known


def test_tensors_stay_in_the_population() -> None:
    """A result is made of arrays: what leaves the trainer has no K axis and shares no memory."""
    from pipeline.population.trainer import PopulationTrainer
    from pipeline.space import Hyperparameters

    trainer = PopulationTrainer(tiny_config(), tiny_splits(), n_slots=3)
    trainer.load(0, Hyperparameters())
    trainer.load(1, Hyperparameters())
    trainer.train_epoch()
    first = trainer.unload(0)
    kept = {name: array.copy() for name, array in first.weights.items()}
    assert all(type(array) is np.ndarray for array in first.weights.values())
    assert all(type(array) is np.ndarray for array in vars(first.history).values())
    assert {array.ndim for array in first.weights.values()} == {1, 2}
    trainer.train_epoch()
    assert all(np.array_equal(first.weights[name], array) for name, array in kept.items())
    assert {"torch"} <= {name.split(".")[0] for name in imports(HOUSE / "population/trainer.py")}
    # Outside, torch is for the plain loop, for a file of weights, and for what is done with them
    # once they are trained.
    outside = {file for file in importers("torch") if not file.startswith("population/")}
    assert outside == {"network.py", "reference.py", "weights.py", "predictor.py"}
