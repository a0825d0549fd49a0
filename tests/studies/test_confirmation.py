"""A study's confirmation, from the search's end to what MLflow shows of it."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from mlflow import MlflowClient
from mlflow.entities import Run
from sklearn.metrics import accuracy_score, log_loss

from pipeline import engine
from pipeline.config import ConfigError, StudyConfig, StudyError, load_config
from pipeline.confirm import course
from pipeline.confirm.finalists import choose_finalists
from pipeline.confirm.measures import METRICS
from pipeline.confirm.price import search_price
from pipeline.data import Preprocessing, load_table, split
from pipeline.population.trainer import PopulationTrainer
from pipeline.predictor import Predictor
from pipeline.records import Finalist, ReplicateRecord
from pipeline.report import render
from pipeline.reproduce import reproduce
from pipeline.search import Progress
from pipeline.space import Hyperparameters, Regularization
from pipeline.store import run_links
from pipeline.study import StudyResult, run_study
from pipeline.tracking import download, read_study, read_weights
from pipeline.weights import with_kernels

STUDY = """
name = "{name}"
seed = 6
[data]
source = "sklearn:iris"
[model]
hidden = [7]
[training]
max_epochs = 13
learning_rate = 0.02
[search]
n_trials = 8
population = 4
pruner_warmup = 3
[space]
patience = {{ low = 2, high = 6 }}
[confirm]
replicates = 3
"""


def config(name: str, folder: Path, **overrides: object) -> StudyConfig:
    path = folder / f"{name}.toml"
    path.write_text(STUDY.format(name=name), encoding="utf-8")
    return load_config(path, overrides)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("confirm")


@pytest.fixture(autouse=True)
def _in_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
    mlflow.set_tracking_uri(None)


@pytest.fixture(scope="module")
def result(folder: Path) -> StudyResult:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        return run_study(config("whole", folder))


def confirm_runs(result: StudyResult) -> tuple[dict[tuple[str, int], Run], dict[str, Run]]:
    """Of each finalist and replicate, and of each finalist."""
    found = MlflowClient().search_runs([result.record.experiment_id], "tags.stage = 'confirm'")
    assert {run.data.tags["mlflow.parentRunId"] for run in found} <= {result.parent_run_id}
    tags = [(run.data.tags["finalist"], run.data.tags.get("replicate"), run) for run in found]
    single = {(name, int(number)): run for name, number, run in tags if number is not None}
    averages = {name: run for name, number, run in tags if number is None}
    assert len(single) + len(averages) == len(found)  # none is doubled
    return single, averages


def table_of(result: StudyResult, name: str) -> pd.DataFrame:
    content = download(result.tracking_uri, result.parent_run_id, f"confirm/{name}.csv")
    return pd.read_csv(io.BytesIO(content))


class TestWhatMLflowShows:
    def test_a_run_per_finalist_and_replicate_and_one_per_finalist(
        self, result: StudyResult
    ) -> None:
        confirmation = result.record.confirmation
        assert confirmation is not None
        assert confirmation.replicates == (1, 2, 3)
        names = [finalist.name for finalist in confirmation.finalists]
        assert {"baseline", "winner"} <= set(names)
        single, averages = confirm_runs(result)
        assert set(single) == {(name, number) for name in names for number in (1, 2, 3)}
        assert set(averages) == set(names)
        assert {run.info.status for run in (*single.values(), *averages.values())} == {"FINISHED"}

    def test_what_a_replicates_run_holds(self, result: StudyResult) -> None:
        confirmation = result.record.confirmation
        assert confirmation is not None
        single, _ = confirm_runs(result)
        for finalist in confirmation.finalists:
            run = single[finalist.name, 2]
            chosen, params = finalist.hyperparameters, run.data.params
            assert run.info.run_name == f"confirm-{finalist.name}-02"
            assert params["replicate"] == "2"
            assert params["patience"] == str(chosen.patience)
            assert params["regularization"] == str(chosen.regularization)
            assert float(params["lambda"]) == chosen.lambda_
            assert run.data.tags["finalist.roles"].split() == list(finalist.roles)
            assert run.data.tags["trial.state"] == "complete"
            files = {item.path for item in MlflowClient().list_artifacts(run.info.run_id)}
            assert files == {"history.csv", "weights.pt", "preprocessing.json"}
            epochs = int(run.data.metrics["final/epochs"])
            curve = MlflowClient().get_metric_history(run.info.run_id, "loss/val")
            assert sorted(point.step for point in curve) == list(range(1, epochs + 1))

    def test_the_baseline_is_trained_to_the_end_and_keeps_its_last_weights(
        self, result: StudyResult
    ) -> None:
        single, _ = confirm_runs(result)
        for number in (1, 2, 3):
            run = single["baseline", number]
            assert run.data.tags["trial.stop_reason"] == "max_epochs"
            assert run.data.metrics["final/best_epoch"] == 13
            assert run.data.params["patience"] == "off"
            assert run.data.params["dropout"] == "0.0"

    def test_test_values_are_those_of_rows_that_no_replicate_trained_on(
        self, result: StudyResult, folder: Path
    ) -> None:
        study = config("whole", folder)
        table = load_table(study.data)
        single, _ = confirm_runs(result)
        tested = split(table, study.data, study.seed).test_rows
        for (name, number), run in single.items():
            splits = split(table, study.data, study.seed, number)
            assert np.array_equal(splits.test_rows, tested)
            content, weights = (
                download(result.tracking_uri, run.info.run_id, file)
                for file in ("preprocessing.json", "weights.pt")
            )
            assert content.decode() == splits.preprocessing.to_json()
            preprocessing = Preprocessing.from_json(content.decode())
            model = Predictor.build(study.model, preprocessing, weights)
            rows, truth = table.frame.iloc[tested], table.target[tested].astype(int)
            likely = model.predict_proba(rows).to_numpy()
            values = run.data.metrics
            assert values["final/test_loss"] == pytest.approx(log_loss(truth, likely), rel=1e-4)
            score = accuracy_score(truth, likely.argmax(axis=1))
            assert values["final/test_score"] == pytest.approx(score), name
            assert values["final/test_accuracy"] == pytest.approx(score)

    def test_replicates_are_fresh_and_the_same_for_all_finalists(
        self, result: StudyResult, folder: Path
    ) -> None:
        study = config("whole", folder)
        table = load_table(study.data)
        rows = [split(table, study.data, study.seed, number).train_rows for number in range(4)]
        assert len({tuple(row.tolist()) for row in rows}) == 4
        single, _ = confirm_runs(result)
        confirmation = result.record.confirmation
        assert confirmation is not None
        for finalist in confirmation.finalists[:2]:
            splits = split(table, study.data, study.seed, 3)
            trainer = PopulationTrainer(study, splits, n_slots=1)
            trainer.load(0, finalist.hyperparameters)
            while trainer.train_epoch()[0].stop_reason is None:
                pass
            expected = trainer.unload(0)
            run = single[finalist.name, 3]
            assert run.data.metrics["final/val_loss"] == expected.val_loss
            weights = download(result.tracking_uri, run.info.run_id, "weights.pt")
            kept = torch.load(io.BytesIO(weights), weights_only=True)
            for key, array in expected.weights.items():
                assert np.array_equal(kept[key].numpy(), array)

    def test_averages_and_tables_are_of_the_runs(self, result: StudyResult) -> None:
        single, averages = confirm_runs(result)
        summary = table_of(result, "summary").set_index("finalist")
        assert list(summary.index) == list(dict.fromkeys(summary.index))
        for name, average in averages.items():
            for metric in METRICS:
                values = [single[name, n].data.metrics[f"final/{metric}"] for n in (1, 2, 3)]
                mean = pytest.approx(np.mean(values))
                assert average.data.metrics[f"final/{metric}"] == mean
                assert summary.loc[name, f"{metric}_mean"] == mean
                low = average.data.metrics[f"confirm/{metric}_low"]
                assert low == pytest.approx(summary.loc[name, f"{metric}_low"])
                assert low <= np.mean(values) + 1e-12
            assert average.data.metrics["confirm/replicates"] == 3
        pairs = table_of(result, "pairs")
        assert list(pairs.columns) == [
            *("finalist", "against", "metric", "difference", "low", "high", "p_value", "p_holm")
        ]
        row = pairs[(pairs.finalist == "winner") & (pairs.metric == "test_loss")].iloc[0]
        differences = [
            single["winner", n].data.metrics["final/test_loss"]
            - single["baseline", n].data.metrics["final/test_loss"]
            for n in (1, 2, 3)
        ]
        assert row.against == "baseline"
        assert row.difference == pytest.approx(np.mean(differences))

    def test_every_training_can_be_reproduced(self, result: StudyResult) -> None:
        single, _ = confirm_runs(result)
        comparison = reproduce(single["winner", 2].info.run_id)
        assert comparison.identical
        assert comparison.epochs > 0
        assert str(comparison).startswith("winner on replicate 2, ")

    def test_the_parent_says_who_is_champion(self, result: StudyResult, folder: Path) -> None:
        parent = MlflowClient().get_run(result.parent_run_id).data
        confirmation = result.record.confirmation
        assert confirmation is not None
        name = parent.tags["study.champion"]
        assert parent.metrics["champion/val_loss"] == min(
            confirmation.values(finalist.name, "val_loss").mean()
            for finalist in confirmation.finalists
        )
        assert parent.metrics["champion/val_loss"] == confirmation.values(name, "val_loss").mean()
        assert parent.metrics["confirm/replicates"] == 3
        assert parent.metrics["confirm/finalists"] == len(confirmation.finalists)
        price = search_price(result.record)
        assert price is not None
        assert price.overtuned is not None
        assert parent.tags["study.overtuned"] == str(price.overtuned).lower()
        assert result.champion is not None
        assert result.champion.holds_alias
        model = mlflow.pyfunc.load_model("models:/whole@champion")
        rows = load_table(config("whole", folder).data).frame.head(3)
        answer = model.predict(rows)
        assert answer["prediction"].isin(["setosa", "versicolor", "virginica"]).all()
        each = [
            Predictor.load(record.run_id).predict_proba(rows).to_numpy()
            for record in confirmation.records
            if record.finalist == name
        ]
        assert len(each) == 3
        assert answer.iloc[:, 1:].to_numpy() == pytest.approx(np.mean(each, axis=0))

    def test_the_store_tells_what_was_known_in_memory(self, result: StudyResult) -> None:
        again, known = read_study(result.parent_run_id).confirmation, result.record.confirmation
        assert again is not None
        assert known is not None
        assert again.finalists == known.finalists
        assert (again.replicates, again.rows) == (known.replicates, known.rows)
        assert list(map(vars, again.records)) == list(map(vars, known.records))
        assert again.finished


def as_text(result: StudyResult) -> dict[str, str]:
    return {
        name: download(result.tracking_uri, result.parent_run_id, f"confirm/{name}.csv").decode()
        for name in ("summary", "pairs")
    }


def assert_report_can_be_rebuilt(result: StudyResult) -> None:
    page = download(result.tracking_uri, result.parent_run_id, "report.html").decode()
    uri = result.tracking_uri
    record = with_kernels(read_study(result.parent_run_id), partial(read_weights, uri))
    assert render(record, run_links(record, uri)) == page


def stop_after(n_trained: int) -> Callable[[Progress], None]:
    def stop(progress: Progress) -> None:
        if progress.confirmed is not None and progress.confirmed[0] >= n_trained:
            raise KeyboardInterrupt

    return stop


class TestResume:
    def test_trains_what_is_missing_and_ends_as_another_study_of_this_seed_does(
        self, result: StudyResult, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        whole = result.record.confirmation
        assert whole is not None
        study = config("cut", folder)
        with pytest.raises(KeyboardInterrupt):
            run_study(study, on_progress=stop_after(len(whole.records) // 2))
        experiment = MlflowClient().get_experiment_by_name("cut")
        left = MlflowClient().search_runs([experiment.experiment_id], "tags.stage = 'confirm'")
        assert 0 < len(left) < len(whole.records)
        assert {run.info.status for run in left} == {"FINISHED"}
        trained: list[ReplicateRecord] = []
        train = engine.train_replicates

        def watched(*args, **kwargs):
            for each in train(*args, **kwargs):
                trained.append(each)
                yield each

        monkeypatch.setattr(engine, "train_replicates", watched)
        again = run_study(study, resume=True)
        assert len(trained) == len(whole.records) - len(left)
        assert as_text(again) == as_text(result)
        single, averages = confirm_runs(again)
        assert {run.info.run_id for run in left} < {run.info.run_id for run in single.values()}
        assert len(averages) == len(whole.finalists)
        # And of a study that is complete nothing is trained again.
        trained.clear()
        assert as_text(run_study(study, resume=True)) == as_text(result)
        assert trained == []
        confirm_runs(again)

    def test_with_more_or_fewer_replicates(self, folder: Path) -> None:
        first = run_study(config("wider", folder, **{"confirm.replicates": 2}))
        before, _ = confirm_runs(first)
        more = run_study(config("wider", folder), resume=True)
        after, _ = confirm_runs(more)
        assert {run.info.run_id for run in before.values()} < {
            run.info.run_id for run in after.values()
        }
        assert_report_can_be_rebuilt(more)
        none = config("wider", folder, **{"confirm.replicates": 0})
        with pytest.raises(ConfigError, match=r"must be resumed with one, however: 0 \(confirm"):
            run_study(none, resume=True)
        fewer = run_study(config("wider", folder, **{"confirm.replicates": 2}), resume=True)
        assert as_text(fewer) == as_text(first)
        assert_report_can_be_rebuilt(fewer)
        assert Counter(number for _, number in confirm_runs(fewer)[0]) == Counter(
            number for _, number in before
        )

    def test_with_more_trials_confirms_the_finalists_that_there_are_then(
        self, folder: Path
    ) -> None:
        run_study(config("longer", folder, **{"confirm.replicates": 2}))
        overrides: dict[str, object] = {"confirm.replicates": 2, "search.n_trials": 16}
        longer = run_study(config("longer", folder, **overrides), resume=True)
        confirmation = longer.record.confirmation
        assert confirmation is not None
        assert longer.best_trial is not None
        assert confirmation.finished
        winner = confirmation.finalist("winner")
        assert winner is not None
        assert winner.trial == longer.best_trial.number
        single, averages = confirm_runs(longer)
        names = {finalist.name for finalist in confirmation.finalists}
        assert {name for name, _ in single} == set(averages) == names
        assert len(single) == 2 * len(names)
        assert_report_can_be_rebuilt(longer)


def test_without_replicates_nothing_is_confirmed(folder: Path) -> None:
    result = run_study(config("off", folder, **{"confirm.replicates": 0}))
    assert result.record.confirmation is None
    assert confirm_runs(result) == ({}, {})
    files = MlflowClient().list_artifacts(result.parent_run_id)
    assert "confirm" not in {item.path for item in files}


def test_a_replicate_that_cannot_be_drawn_leaves_a_study_that_can_be_resumed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object) -> None:
        raise ConfigError("every class must have rows, however: none (a replicate)")

    with monkeypatch.context() as patch:
        patch.setattr(course, "split", refuse)
        with pytest.raises(ConfigError, match="a replicate"):
            run_study(config("refused", folder))
    off = config("refused", folder, **{"confirm.replicates": 0})
    assert run_study(off, resume=True).record.confirmation is None


class TestATrainingThatRaises:
    """By a strength that single precision cannot hold: a real error, of one finalist."""

    NAME = "best_l2"
    RAISES = Hyperparameters(Regularization.L2, 1e39)

    @pytest.fixture(autouse=True)
    def _one_that_raises(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def choose(*given: Any) -> tuple[Finalist, ...]:
            return tuple(
                replace(each, hyperparameters=self.RAISES) if each.name == self.NAME else each
                for each in choose_finalists(*given)
            )

        monkeypatch.setattr(course, "choose_finalists", choose)

    def test_fails_with_its_traceback_and_the_others_end_as_without_it(
        self, result: StudyResult, folder: Path
    ) -> None:
        done = run_study(config("raising", folder))
        single, averages = confirm_runs(done)
        assert self.NAME in averages
        for number in (1, 2, 3):
            run = single[self.NAME, number]
            assert run.info.status == "FAILED"
            assert run.data.tags["trial.stop_reason"] == "error"
            files = {each.path for each in MlflowClient().list_artifacts(run.info.run_id)}
            assert files == {"history.csv", "preprocessing.json", "traceback.txt"}
            told = download(done.tracking_uri, run.info.run_id, "traceback.txt").decode()
            assert told.splitlines()[-1].startswith("RuntimeError: value cannot be converted")
        summary = table_of(done, "summary").set_index("finalist")
        assert (summary.loc[self.NAME, "replicates"], done.record.state) == (0, "complete")
        undisturbed = table_of(result, "summary").set_index("finalist")
        pd.testing.assert_frame_equal(
            summary.drop(index=self.NAME), undisturbed.drop(index=self.NAME)
        )
        assert done.champion is not None

    def test_more_than_may_end_the_study_which_a_resume_may_let_go_on(self, folder: Path) -> None:
        refused = r"at most 1 trainings may raise, however: 2 did; .*best_l2"
        few = {"search.max_failures": 1}
        with pytest.raises(StudyError, match=refused):
            run_study(config("refusing", folder, **few))
        (parent,) = (run for run in all_runs("refusing") if "study.state" in run.data.tags)
        assert parent.data.tags["study.state"] == "failed"
        with pytest.raises(StudyError, match=refused):
            run_study(config("refusing", folder, **few), resume=True)
        done = run_study(config("refusing", folder), resume=True)
        assert done.record.state == "complete"
        single, _ = confirm_runs(done)
        assert sum(name == self.NAME for name, _ in single) == 3


def all_runs(experiment: str) -> list[Run]:
    found = MlflowClient().get_experiment_by_name(experiment)
    assert found is not None
    return list(MlflowClient().search_runs([found.experiment_id]))
