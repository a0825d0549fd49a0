"""A champion in the registry: loaded and served where there is none of this project's code."""

from __future__ import annotations

import json
import os
import pickle
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.store.artifact.utils.models import _parse_model_uri
from mlflow.utils.validation import _validate_model_name

from pipeline import Predictor
from pipeline.champion.choice import Champion, example_rows
from pipeline.config import ConfigError
from pipeline.confirm.statistics import Estimate
from pipeline.data import Task
from pipeline.records import Finalist
from pipeline.space import Hyperparameters, Regularization
from pipeline.tracking.client import PARENT_TAG, Parent, _client, client_of, log_files
from pipeline.tracking.registry import Registration, model_name, register_champion
from tests.champions import CLASSES, Houses, houses
from tests.commands import environment, with_store

FINALIST = Finalist(
    "winner", ("winner", "best_l2"), Hyperparameters(Regularization.L2, 0.01, dropout=0.3), 5
)


@dataclass(frozen=True)
class Confirmed:
    """A study's run with its replicates' runs, as a confirmation leaves them."""

    parent: Parent
    champion: Champion

    def register(self, val_loss: float = 0.5, *, n_networks: int = 3, **options: bool) -> Any:
        """Registers it as the writing process would: what it is given was pickled."""
        champion = replace(
            self.champion,
            val_loss=Estimate(val_loss, val_loss - 0.1, val_loss + 0.1, 0.05, 0.0, 2),
            run_ids=self.champion.run_ids[:n_networks],
        )
        handed_over = pickle.loads(pickle.dumps((self.parent, champion)))
        return pickle.loads(pickle.dumps(register_champion(*handed_over, **options)))


def confirmed(folder: Path, made: Houses, name: str) -> Confirmed:
    uri = f"sqlite:///{folder}/mlflow.db"
    client = MlflowClient(uri)
    config = made.config.model_copy(update={"name": name})
    found = client.get_experiment_by_name(name)
    experiment_id = found.experiment_id if found else client.create_experiment(name)
    parent_id = client.create_run(experiment_id, tags={"study.state": "complete"}).info.run_id
    first = made.networks[0].preprocessing.encode()
    files = {"study.toml": config.to_toml().encode(), "preprocessing.json": first}
    log_files(client, parent_id, files)
    run_ids = []
    for number, network in enumerate(made.networks, start=1):
        tags = {PARENT_TAG: parent_id, "stage": "confirm", "finalist": "winner"}
        run = client.create_run(experiment_id, tags={**tags, "replicate": str(number)})
        own = {"weights.pt": network.weights, "preprocessing.json": network.preprocessing.encode()}
        log_files(client, run.info.run_id, own)
        run_ids.append(run.info.run_id)
    champion = Champion(
        study=name,
        model=config.model,
        data_digest=made.table.digest,
        finalist=FINALIST,
        run_ids=tuple(run_ids),
        val_loss=Estimate(0.5, 0.4, 0.6, 0.05, 0.0, 2),
        test_loss=Estimate(0.6, 0.5, 0.7, 0.05, 0.0, 2),
        example=example_rows(made.table, np.arange(0, 61, 7)),
    )
    return Confirmed(Parent(uri, experiment_id, parent_id), champion)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tracking store that all tests share; each has a study name of its own."""
    folder = with_store(tmp_path_factory.mktemp("store"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)  # MLflow makes a folder for artifacts where it opens a store
        client_of(f"sqlite:///{folder}/mlflow.db")
    return folder


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """MLflow's own settings name another store than the study's: nothing may get into it."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for variable in [key for key in os.environ if key.startswith("MLFLOW_")]:
        monkeypatch.delenv(variable)
    mlflow.set_tracking_uri(None)
    yield folder
    assert list(folder.iterdir()) == []


def client_at(store: Path) -> MlflowClient:
    return MlflowClient(f"sqlite:///{store}/mlflow.db")


def test_a_version_tells_all_of_its_champion(store: Path) -> None:
    study = confirmed(store, houses(Task.BINARY), "tells")
    done = study.register(0.4321)
    assert done == Registration(
        "tells",
        1,
        True,
        "The champion is version 1 of the registered model 'tells', alias 'champion'.",
    )
    version = client_at(store).get_model_version_by_alias("tells", "champion")
    assert version.version in (1, "1")
    assert version.run_id == study.parent.run_id
    assert {key: version.tags[key] for key in version.tags if key != "model.digest"} == {
        "study.name": "tells",
        "study.run_id": study.parent.run_id,
        "data.digest": study.champion.data_digest,
        "finalist": "winner",
        "val_loss": "0.4321",
    }
    assert "**l2, lambda 1.0e-02, dropout 0.30, patience off**" in version.description
    assert "models:/tells/1" in version.description
    run = client_at(store).get_run(study.parent.run_id)
    assert len(run.outputs.model_outputs) == 1
    model = client_at(store).get_logged_model(run.outputs.model_outputs[0].model_id)
    assert model.artifact_location == version.source
    assert model.params["finalist"] == "winner"
    assert model.params["lambda"] == "0.01"
    assert json.loads(model.tags["mlflow.modelVersions"]) == [{"name": "tells", "version": 1}]
    folder = Path(version.source)
    lines = (folder / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert "torch==2.13.0" in lines
    assert not [path for path in folder.rglob("*") if path.suffix in (".pkl", ".pickle")]


def test_the_same_networks_of_the_same_run_are_registered_once(store: Path) -> None:
    """A study that is resumed after its end comes here again."""
    study = confirmed(store, houses(Task.BINARY), "once")
    first = study.register(0.5)
    assert study.register(0.5) == first
    client = client_at(store)
    assert len(client.search_model_versions("name = 'once'")) == 1
    assert len(client.search_logged_models([study.parent.experiment_id])) == 1
    assert study.register(0.47) == first  # more is known of it by now
    assert client.get_model_version("once", "1").tags["val_loss"] == "0.47"
    assert study.register(0.4, n_networks=2).version == 2
    assert study.register(0.5, promote=True) == first
    assert len(client.search_model_versions("name = 'once'")) == 2
    # The same networks of another run are that run's.
    again = confirmed(store, houses(Task.BINARY), "once")
    assert again.register(0.5, promote=True).version == 3


def holder_of(store: Path, name: str) -> int:
    return int(client_at(store).get_registered_model(name).aliases["champion"])


def test_the_alias_goes_to_the_lower_validation_loss_of_a_study_unless_it_is_given(
    store: Path,
) -> None:
    study = confirmed(store, houses(Task.BINARY), "alias")
    assert study.register(0.5).holds_alias
    worse = study.register(0.6, n_networks=2)
    assert (worse.version, worse.holds_alias) == (2, False)
    assert worse.note.endswith(
        "version 2 of the registered model 'alias', without the alias 'champion': version 1 has a "
        "validation loss of 0.5, below 0.6 (--promote gives it the alias)."
    )
    assert holder_of(store, "alias") == 1
    elsewhere = replace(study, champion=replace(study.champion, data_digest="another"))
    assert (
        "below 0.6, though on other data (--promote" in elsewhere.register(0.6, n_networks=2).note
    )
    assert study.register(0.6, n_networks=2, promote=True).holds_alias
    assert holder_of(store, "alias") == 2
    assert study.register(0.6, n_networks=1).holds_alias  # as good is good enough
    assert holder_of(store, "alias") == 3
    assert study.register(0.6, n_networks=1).holds_alias  # it holds it already


@pytest.mark.parametrize(
    ("tags", "takes"),
    [
        ({"study.name": "other study", "val_loss": "0.1"}, True),
        ({"study.name": "holder {}", "val_loss": "nan"}, True),
        ({"study.name": "holder {}", "val_loss": "low"}, True),
        ({"study.name": "holder {}"}, True),
        ({}, True),
        ({"study.name": "holder {}", "val_loss": "0.1"}, False),
    ],
)
def test_only_a_version_of_the_same_study_keeps_the_alias(
    store: Path, tags: dict[str, str], takes: bool, request: pytest.FixtureRequest
) -> None:
    number = re.sub(r"\W", "", request.node.callspec.id)
    name = f"holder {number}"
    client = client_at(store)
    client.create_registered_model(name)
    tags = {key: value.format(number) for key, value in tags.items()}
    client.create_model_version(name, "/somewhere", tags=tags, await_creation_for=0)
    client.set_registered_model_alias(name, "champion", "1")
    assert confirmed(store, houses(Task.BINARY, 1), name).register(0.5).holds_alias == takes
    assert holder_of(store, name) == (2 if takes else 1)


def test_without_a_registry_the_champion_is_logged_and_registered_by_a_later_start(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = confirmed(store, houses(Task.BINARY), "no registry")
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "http://me:secret@127.0.0.1:9")
    _client.cache_clear()
    done = study.register()
    _client.cache_clear()
    assert (done.name, done.version, done.holds_alias) == ("no registry", None, False)
    assert "but not registered: the model registry must answer" in done.note
    assert "secret" not in done.note
    monkeypatch.delenv("MLFLOW_REGISTRY_URI")
    (model,) = client_at(store).search_logged_models([study.parent.experiment_id])
    assert f"(models:/{model.model_id})" in done.note
    assert study.register().version == 1
    (version,) = client_at(store).search_model_versions("name = 'no registry'")
    assert version.source == model.artifact_location


def test_a_store_that_is_gone_does_not_lose_the_study_either(store: Path) -> None:
    study = confirmed(store, houses(Task.BINARY), "gone")
    missing = replace(study.champion, run_ids=("0" * 32,))
    done = register_champion(study.parent, missing)
    assert done.version is None
    assert done.note.startswith("The champion could not be logged: the tracking store must answer")


@pytest.mark.parametrize(
    ("study", "name"),
    [
        ("breast-cancer", "breast-cancer"),
        ("Häuser (2.0)", "Häuser (2.0)"),
        ("a/b:c", "a-b-c"),
        ("who? me@home#1;2%20", "who- me-home-1-2-20"),
        ('"$(x)" `y`\\', "-(x)- -y-"),
        ("..", "study"),
        (" .hidden. ", "hidden"),
        ("///", "-"),
    ],
)
def test_every_study_has_a_name_that_the_registry_takes_and_an_address_can_hold(
    study: str, name: str
) -> None:
    assert model_name(study) == name
    _validate_model_name(name)
    address = _parse_model_uri(f"models:/{name}@champion")
    assert (address.name, address.alias) == (name, "champion")


def test_a_replicate_predicts_behind_its_own_preprocessing_a_trial_behind_its_studys(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = houses(Task.REGRESSION)
    study = confirmed(store, made, "predictor")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", study.parent.uri)
    for run_id, expected in zip(study.champion.run_ids, made.ensemble.predictors, strict=True):
        found = Predictor.load(run_id).predict(made.rows)
        pd.testing.assert_series_equal(found, expected.predict(made.rows))
    client = client_at(store)
    tags = {PARENT_TAG: study.parent.run_id, "stage": "search", "trial.number": "0"}
    trial = client.create_run(study.parent.experiment_id, tags=tags).info.run_id
    log_files(client, trial, {"weights.pt": made.networks[0].weights})
    first = made.ensemble.predictors[0].predict(made.rows)
    pd.testing.assert_series_equal(Predictor.load(trial).predict(made.rows), first)
    # The run that holds a finalist's averages has no network.
    tags = {PARENT_TAG: study.parent.run_id, "stage": "confirm", "finalist": "winner"}
    averages = client.create_run(study.parent.experiment_id, tags=tags).info.run_id
    for run_id in (averages, study.parent.run_id):
        with pytest.raises(ConfigError, match="a run must be a trial's or a replicate's, however"):
            Predictor.load(run_id)


def test_neither_who_hands_a_champion_over_nor_who_registers_it_waits_for_imports() -> None:
    """The process that trains has no MLflow, the one that writes no torch."""
    program = (
        "import sys; from pipeline.tracking import model; assert 'mlflow' not in sys.modules;"
        "model.get_ready(); assert 'mlflow.pyfunc' in sys.modules; print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment(Path()),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "False\n"


LOADS = """
import sys
import mlflow
import pandas as pd

for name in sys.argv[1:]:
    model = mlflow.pyfunc.load_model(f"models:/{name}@champion")
    rows = pd.read_parquet(f"{name}.parquet")
    for part, given in (("rows", rows), ("one", rows[:1]), ("example", model.input_example)):
        model.predict(given).to_parquet(f"{name}-{part}.parquet")
    outputs = model.metadata.signature.outputs
    assert outputs.input_names() == list(model.predict(rows).columns), outputs
assert "pipeline" not in sys.modules
"""


def outside(store: Path) -> dict[str, str]:
    """The environment of somebody who has the store's address, and not this project."""
    variables = environment(store, {"MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"})
    del variables["PYTHONPATH"]
    return variables


def test_a_fresh_process_outside_the_project_loads_it_without_pickles_and_predicts(
    store: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "loads.py").write_text(LOADS, encoding="utf-8")
    # What is called as this package is, and is not it.
    (folder / "pipeline.py").write_text("raise ImportError", encoding="utf-8")
    made = {
        "classes": houses(Task.MULTICLASS),
        "quantity": houses(Task.REGRESSION, overrides={"data.scaling": "quantile"}),
    }
    for name, study in made.items():
        assert confirmed(store, study, name).register().holds_alias
        study.rows.to_parquet(folder / f"{name}.parquet")
    subprocess.run(
        [sys.executable, "loads.py", *made],
        cwd=folder,
        env=outside(store),
        check=True,
        timeout=120,
    )
    for name, study in made.items():
        frame = pd.read_parquet(folder / f"{name}-rows.parquet")
        assert (frame["prediction"] == study.ensemble.predict(study.rows)).all()
        assert len(pd.read_parquet(folder / f"{name}-one.parquet")) == 1
        assert len(pd.read_parquet(folder / f"{name}-example.parquet")) == 5
        if study.table.task is Task.REGRESSION:
            assert list(frame.columns) == ["prediction"]
            continue
        chances = study.ensemble.predict_proba(study.rows)
        assert list(frame.columns[1:]) == [f"probability of {each}" for each in chances.columns]
        np.testing.assert_array_equal(frame.iloc[:, 1:], chances)


@pytest.fixture
def served(store: Path, tmp_path: Path) -> Iterator[tuple[str, Houses]]:
    """The address of a served champion."""
    made = houses(Task.BINARY)
    confirmed(store, made, "served").register()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    server = subprocess.Popen(
        [
            *("mlflow", "models", "serve", "--env-manager", "local", "--workers", "1"),
            *("--host", "127.0.0.1", "--port", port, "--model-uri", "models:/served@champion"),
        ],
        cwd=tmp_path,
        env=outside(store),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            assert server.poll() is None
            try:
                urllib.request.urlopen(f"{address}/ping", timeout=5).close()
                break
            except OSError:
                time.sleep(0.1)
        yield address, made
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def ask(address: str, **content: Any) -> list[dict[str, Any]]:
    request = urllib.request.Request(
        f"{address}/invocations",
        json.dumps(content).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        answers: list[dict[str, Any]] = json.load(response)["predictions"]
    return answers


def test_a_served_champion_takes_rows_in_every_form_that_a_person_may_send(
    served: tuple[str, Houses],
) -> None:
    address, made = served
    names = [f"probability of {name}" for name in CLASSES[Task.BINARY]]

    def check(answers: list[dict[str, Any]], rows: pd.DataFrame) -> None:
        chances = made.ensemble.predict_proba(rows)
        assert [list(each) for each in answers] == [["prediction", *names]] * len(rows)
        assert [each["prediction"] for each in answers] == list(made.ensemble.predict(rows))
        found = [[each[name] for name in names] for each in answers]
        np.testing.assert_allclose(found, chances, rtol=1e-6)

    rows = made.rows.head(7)
    assert rows.isna().to_numpy().any()
    split = json.loads(rows.to_json(orient="split"))
    records = json.loads(rows.to_json(orient="records"))
    lists = {name: [record[name] for record in records] for name in rows}
    for key, value in (
        ("dataframe_split", split),
        ("dataframe_records", records),
        ("inputs", lists),
        ("inputs", records),
        ("instances", records),
    ):
        check(ask(address, **{key: value}), rows)
    # A row by itself, whole numbers where there were fractions, and nothing known of it.
    unknown = {"garden": None, "heating": None, "built": None}
    whole = rows.head(1).assign(area=90, rooms=3.0, floor=2.0, **unknown)
    record = json.loads(whole.to_json(orient="records"))
    check(ask(address, dataframe_records=record), whole)
    for wrong, said in (
        ({"area": 1}, "rooms"),
        (records[0] | {"area": "large"}, "a numeric column must hold numbers, however: 'large'"),
    ):
        with pytest.raises(urllib.error.HTTPError) as refused:
            ask(address, dataframe_records=[wrong])
        assert refused.value.code == 400
        assert said in refused.value.read().decode()
