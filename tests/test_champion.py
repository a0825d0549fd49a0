"""The champion: networks averaged, saved as plain files, with no more code than predicts."""

from __future__ import annotations

import ast
import sys
import tomllib
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from torch import nn

from pipeline.champion.answer import PREDICTION, probabilities_of
from pipeline.champion.choice import Champion, example_rows, network_runs
from pipeline.champion.code import requirements, write_code
from pipeline.champion.ensemble import Ensemble, likeliest
from pipeline.champion.folder import read_champion, write_champion
from pipeline.champion.loader import _load_pyfunc
from pipeline.champion.notes import notes
from pipeline.config import ConfigError
from pipeline.confirm.statistics import Estimate
from pipeline.data import Task
from pipeline.predictor import Predictor
from pipeline.records import Confirmation, Finalist, ReplicateRecord
from pipeline.results import StopReason, TrialState
from pipeline.space import Hyperparameters, Regularization
from tests.champions import CLASSES, houses

PROJECT = Path(__file__).parents[1]
CLASS_TASKS = (Task.BINARY, Task.MULTICLASS)


def imported(node: ast.AST) -> list[str]:
    """The modules that a statement imports."""
    if isinstance(node, ast.ImportFrom):
        return [node.module or ""]
    return [alias.name for alias in node.names] if isinstance(node, ast.Import) else []


@pytest.mark.parametrize("task", CLASS_TASKS)
def test_probabilities_are_averaged_each_behind_its_own_preprocessing(task: Task) -> None:
    made = houses(task)
    parts = [each.predict_proba(made.rows) for each in made.ensemble.predictors]
    mean = np.mean([part.to_numpy() for part in parts], axis=0)
    found = made.ensemble.predict_proba(made.rows)
    np.testing.assert_allclose(found, mean, rtol=1e-12)
    assert list(found.columns) == sorted(CLASSES[task])
    # The networks disagree, or an average of logits or of votes could not be told from this one.
    assert np.std([part.to_numpy() for part in parts], axis=0).max() > 0.1
    predicted = made.ensemble.predict(made.rows)
    assert predicted.name == "label"
    assert (predicted == np.array(found.columns, dtype=object)[mean.argmax(axis=1)]).all()
    assert any((predicted != part.idxmax(axis=1)).any() for part in parts)


def test_quantities_are_averaged_in_the_units_of_the_target() -> None:
    made = houses(Task.REGRESSION)
    targets = [each.preprocessing.target for each in made.ensemble.predictors]
    assert len({target.scale for target in targets}) == 3  # one average of the scaled is another
    mean = np.mean([each.predict(made.rows) for each in made.ensemble.predictors], axis=0)
    np.testing.assert_allclose(made.ensemble.predict(made.rows), mean, rtol=1e-12)
    assert abs(mean.mean() - 300_000) < 100_000
    with pytest.raises(ConfigError, match="probabilities are of classes"):
        made.ensemble.predict_proba(made.rows)


def test_answers_keep_the_index_of_the_rows_and_the_rows_stay_as_they_were() -> None:
    made = houses(Task.BINARY)
    rows = made.rows.iloc[[7, 5, 19]].set_index(pd.Index(["x", "y", "x"]))
    before = rows.copy(deep=True)
    chances = made.ensemble.predict_proba(rows)
    assert list(chances.index) == ["x", "y", "x"]
    assert list(made.ensemble.predict(rows).index) == ["x", "y", "x"]
    pd.testing.assert_frame_equal(rows, before)
    whole = made.ensemble.predict_proba(made.rows).iloc[[7, 5, 19]]
    np.testing.assert_allclose(chances, whole, rtol=1e-5)


def test_a_column_that_only_one_network_uses_is_asked_for() -> None:
    """In a replicate whose training rows all have one value, a column is left out."""
    made = houses(Task.BINARY)
    first, *others = made.ensemble.predictors
    kept = tuple(e for e in first.preprocessing.encoders if e.name != "garden")
    assert len(kept) < len(first.preprocessing.encoders)
    preprocessing = replace(first.preprocessing, encoders=kept)
    blind = Predictor(preprocessing, nn.Sequential(nn.Linear(preprocessing.n_features, 1)))
    mixed = Ensemble((blind, *others))
    mean = sum(each.predict_proba(made.rows) for each in mixed.predictors) / 3
    np.testing.assert_allclose(mixed.predict_proba(made.rows), mean, rtol=1e-12)
    less = made.rows.drop(columns="garden")
    assert len(Ensemble((blind,)).predict(less)) == len(less)
    with pytest.raises(ConfigError, match="however: 'garden' is absent"):
        mixed.predict(less)


def test_the_first_of_equally_likely_classes_is_named() -> None:
    chances = pd.DataFrame({"b": [0.5, 0.2], "a": [0.5, 0.8]})
    assert list(likeliest(chances)) == ["b", "a"]


@pytest.mark.parametrize("task", list(Task))
def test_a_folder_reads_back_as_the_same_champion(task: Task, tmp_path: Path) -> None:
    made = houses(task)
    write_champion(tmp_path, made.config.model, made.networks)
    found = read_champion(tmp_path)
    assert len(found.predictors) == 3
    pd.testing.assert_series_equal(found.predict(made.rows), made.ensemble.predict(made.rows))
    kinds = {path.suffix for path in tmp_path.rglob("*") if path.is_file()}
    assert kinds == {".json", ".pt"}


def test_a_file_that_would_run_something_is_not_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pickle in place of the tensors: what `weights_only` is for."""
    monkeypatch.chdir(tmp_path)
    made = houses(Task.BINARY)
    write_champion(tmp_path, made.config.model, made.networks)
    path, evil = tmp_path / "network-02" / "weights.pt", tmp_path / "evil.pt"
    with zipfile.ZipFile(path) as good, zipfile.ZipFile(evil, "w") as bad:
        for name in good.namelist():
            content = good.read(name)
            if name.endswith("data.pkl"):
                content = b"cos\nsystem\n(S'touch owned'\ntR."
            bad.writestr(name, content)
    evil.replace(path)
    with pytest.raises(Exception, match="Weights only load failed"):
        read_champion(tmp_path)
    assert not Path("owned").exists()


@pytest.mark.parametrize("task", CLASS_TASKS)
def test_an_answer_has_the_class_and_a_probability_for_each(task: Task, tmp_path: Path) -> None:
    made = houses(task)
    write_champion(tmp_path, made.config.model, made.networks)
    answer = _load_pyfunc(str(tmp_path)).predict(made.rows)
    names = sorted(CLASSES[task])
    assert list(answer.columns) == [PREDICTION, *(f"probability of {name}" for name in names)]
    assert list(answer.columns[1:]) == probabilities_of(made.ensemble.target)
    np.testing.assert_array_equal(answer.iloc[:, 1:], made.ensemble.predict_proba(made.rows))
    assert (answer[PREDICTION] == made.ensemble.predict(made.rows)).all()


def test_an_answer_about_a_quantity_is_one_column(tmp_path: Path) -> None:
    made = houses(Task.REGRESSION)
    write_champion(tmp_path, made.config.model, made.networks[:1])
    answer = _load_pyfunc(str(tmp_path)).predict(made.rows)
    assert list(answer.columns) == [PREDICTION]
    alone = made.ensemble.predictors[0].predict(made.rows)
    np.testing.assert_array_equal(answer[PREDICTION], alone)


def test_the_code_it_carries_needs_nothing_else_of_this_package(tmp_path: Path) -> None:
    """Whatever is imported on the way is carried, under the one name; nothing trains or tracks."""
    loader = write_code(tmp_path)
    (package,) = tmp_path.iterdir()
    assert loader == f"{package.name}.champion.loader"
    assert package.name != "pipeline"
    modules = {
        ".".join(path.relative_to(tmp_path).with_suffix("").parts).removesuffix(".__init__")
        for path in package.rglob("*.py")
    }
    reached, at_once = set(), set()
    for path in package.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        reached |= {name for node in ast.walk(tree) for name in imported(node)}
        at_once |= {name.split(".")[0] for node in tree.body for name in imported(node)}
    ours = {name for name in reached if name.split(".")[0] in ("pipeline", package.name)}
    # What reads a run from the store is not reached by a model that was loaded.
    assert ours - modules == {f"{package.name}.tracking"}
    # Everything else is imported where it is used: pandas always, scikit-learn by quantile alone.
    others = at_once - {package.name} - sys.stdlib_module_names
    assert others == {"numpy", "pydantic", "pydantic_core", "tomli_w", "torch"}
    assert sum(path.stat().st_size for path in package.rglob("*.py")) < 200_000


def test_code_of_another_content_has_another_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two versions of a champion load beside each other: neither runs the other's code."""
    first = write_code(tmp_path / "a")
    assert write_code(tmp_path / "b") == first
    from pipeline.champion import code

    monkeypatch.setattr(code, "CARRIED", code.CARRIED[1:])
    assert write_code(tmp_path / "c") != first


def test_requirements_are_exact_and_torchs_is_the_projects_own() -> None:
    document = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
    pinned = next(d for d in document["project"]["dependencies"] if d.startswith("torch"))
    plain, by_quantile = requirements(False), requirements(True)
    assert pinned in plain
    assert all("==" in line and "+" not in line for line in by_quantile)
    assert {line.partition("==")[0] for line in set(by_quantile) - set(plain)} == {"scikit-learn"}
    assert not any(line.startswith(("optuna", "scikit-learn", "ray")) for line in plain)


@pytest.mark.parametrize("task", list(Task))
def test_example_rows_are_as_a_person_writes_them_and_predict_as_the_rows_do(task: Task) -> None:
    made = houses(task)
    rows = np.array([3, 17, 23, 29, 41, 43, 47])
    example = example_rows(made.table, rows)
    assert len(example) == 5
    assert set(example["built"].dropna()) <= {f"{y}-05-17T00:00:00" for y in range(1900, 2020)}
    assert set(example["heating"].dropna()) <= {"gas", "oil"}
    assert example["rooms"].tolist() == made.rows["rooms"].iloc[rows[:5]].tolist()
    assert example.isna().to_numpy().any()
    predict = made.ensemble.predict if task is Task.REGRESSION else made.ensemble.predict_proba
    expected = predict(made.rows).iloc[rows[:5]]
    np.testing.assert_allclose(predict(example), expected, rtol=1e-5)


def record(finalist: str, replicate: int, val_loss: float | None) -> ReplicateRecord:
    failed = val_loss is None
    return ReplicateRecord(
        finalist=finalist,
        replicate=replicate,
        run_id=f"{finalist}-{replicate}",
        state=TrialState.FAILED if failed else TrialState.COMPLETE,
        stop_reason=StopReason.DIVERGED if failed else StopReason.MAX_EPOCHS,
        scalars={"epochs": 5.0} if failed else {"val_loss": val_loss, "epochs": 5.0},
    )


def test_all_networks_of_a_finalist_that_did_not_diverge_are_averaged_or_the_best_is_it() -> None:
    finalists = tuple(Finalist(name, (name,), Hyperparameters(), None) for name in ("a", "b"))
    records = (
        record("a", 3, 0.3),
        record("a", 1, 0.4),
        record("b", 1, 0.1),
        record("a", 2, None),
        record("a", 4, 0.2),
        record("b", 2, None),
    )
    confirmation = Confirmation(finalists, (1, 2, 3, 4), records, (29, 17))
    assert network_runs(confirmation, "a", "average") == ("a-1", "a-3", "a-4")
    assert network_runs(confirmation, "a", "single") == ("a-4",)
    assert network_runs(confirmation, "b", "average") == ("b-1",)
    assert network_runs(confirmation, "c", "single") == ()


def test_notes_say_what_it_is_how_good_and_how_it_is_loaded() -> None:
    made = houses(Task.BINARY)
    chosen = Hyperparameters(Regularization.L2, 0.0123, dropout=0.25, patience=7)
    champion = Champion(
        study=made.config.name,
        model=made.config.model,
        data_digest="0123456789abcdef",
        finalist=Finalist("winner", ("winner", "best_l2"), chosen, 3),
        run_ids=("r1", "r2", "r3"),
        val_loss=Estimate(0.31416, 0.2, 0.4, 0.05, 0.0, 3),
        test_loss=Estimate(0.5, 0.45, 0.55, 0.02, 0.0, 3),
        example=made.rows.head(2),
    )
    text = notes(champion, "parent", "models:/houses/4")
    assert "**l2, lambda 1.2e-02, dropout 0.25, patience 7** (winner, best l2)" in text
    assert "The answers of 3 networks, averaged" in text
    assert "| validation loss | 0.3142 | 0.2 to 0.4 |" in text
    assert "| test loss | 0.5 | 0.45 to 0.55 |" in text
    assert 'load_model("models:/houses/4")' in text
    assert "`parent`" in text
    assert "`0123456789abcdef`" in text
    single = replace(champion, run_ids=("r2",))
    assert "One network, the best of its replicates." in notes(single, "parent", "models:/houses/4")
