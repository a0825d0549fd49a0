"""Real studies, small ones, read back from the store and from Optuna's journal."""

from __future__ import annotations

import io
import multiprocessing
import shutil
import sqlite3
import time
from collections import Counter
from contextlib import closing
from dataclasses import fields
from functools import partial
from pathlib import Path

import mlflow
import numpy as np
import optuna
import pandas as pd
import pytest
import sqlalchemy
import torch
from mlflow import MlflowClient
from mlflow.entities import ViewType
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from pipeline import locks, reference, tracking, writer
from pipeline.config import ConfigError, StudyConfig, load_config
from pipeline.contents import (
    FinishedTrial,
    trial_params,
    trial_record,
)
from pipeline.data import load_table, split
from pipeline.description import describe_study
from pipeline.population import team
from pipeline.records import StudyRecord, TrialRecord
from pipeline.reference import build_network, measure
from pipeline.report import render
from pipeline.reproduce import reproduce
from pipeline.results import TrialState
from pipeline.sampler import first_trials
from pipeline.search import Progress
from pipeline.space import Hyperparameters, Regularization, SearchSpace
from pipeline.store import run_links
from pipeline.study import StudyResult, run_study
from pipeline.tracking import download, read_study, read_weights, writing
from pipeline.weights import weights_file, with_kernels

SMALL = """
name = "{name}"
seed = 3
[data]
source = "{source}"
[model]
hidden = [7]
[training]
max_epochs = 9
learning_rate = 0.02
[search]
n_trials = 17
population = 5
pruner_warmup = 3
[space]
patience = {{ low = 2, high = 6 }}
{space}
[confirm]
replicates = 0
"""


def small(
    folder: Path, name: str, source: str = "sklearn:iris", space: str = "", **overrides: object
) -> StudyConfig:
    """A study of seconds, from a file as a user would write it."""
    path = folder / f"{name}.toml"
    path.write_text(SMALL.format(name=name, source=source, space=space), encoding="utf-8")
    return load_config(path, overrides)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tracking store of its own, shared by the studies of this file."""
    return tmp_path_factory.mktemp("store")


@pytest.fixture(autouse=True)
def _in_store(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(store)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{store}/mlflow.db")
    for variable in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID"):
        monkeypatch.delenv(variable, raising=False)
    mlflow.set_tracking_uri(None)


@pytest.fixture(scope="module")
def result(store: Path) -> StudyResult:
    """One study with a trial that diverges (none do by themselves), pruned ones, complete ones."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(store)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{store}/mlflow.db")
        space = "learning_rate = { low = 1e-3, high = 1e25, log = true }"
        pruner = {"search.pruner": "median", "search.pruner_warmup": 1}
        return run_study(small(store, "contract", space=space, **pruner))


def runs_of(experiment_id: str) -> list[mlflow.entities.Run]:
    return list(MlflowClient().search_runs([experiment_id], run_view_type=ViewType.ACTIVE_ONLY))


def children(result: StudyResult) -> list[mlflow.entities.Run]:
    return [
        run
        for run in runs_of(result.record.experiment_id)
        if run.data.tags.get("mlflow.parentRunId") == result.parent_run_id
    ]


def journal(result: StudyResult) -> optuna.Study:
    path = MlflowClient().get_run(result.parent_run_id).data.tags["study.journal"]
    storage = JournalStorage(JournalFileBackend(path))
    (summary,) = optuna.get_all_study_summaries(storage)
    return optuna.load_study(study_name=summary.study_name, storage=storage)


def comparable(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.drop(columns="run_id")


class TestWhatMLflowShows:
    def test_experiment_is_named_after_the_study_and_has_one_parent(
        self, result: StudyResult
    ) -> None:
        client = MlflowClient()
        assert client.get_experiment(result.record.experiment_id).name == "contract"
        parents = [
            run
            for run in runs_of(result.record.experiment_id)
            if "mlflow.parentRunId" not in run.data.tags
        ]
        assert [run.info.run_id for run in parents] == [result.parent_run_id]

    def test_status_tags_and_name_of_every_child(self, result: StudyResult) -> None:
        status = {"complete": "FINISHED", "pruned": "KILLED", "failed": "FAILED"}
        reasons = {
            "complete": {"early_stopping", "max_epochs"},
            "pruned": {"pruned"},
            "failed": {"diverged"},
        }
        runs = children(result)
        assert sorted(int(run.data.tags["trial.number"]) for run in runs) == list(range(17))
        for run in runs:
            tags = run.data.tags
            assert run.info.run_name == f"trial-{int(tags['trial.number']):04d}"
            assert run.info.status == status[tags["trial.state"]]
            assert tags["trial.stop_reason"] in reasons[tags["trial.state"]]
            assert tags["stage"] == "search"
        assert {run.data.tags["trial.state"] for run in runs} == set(status)

    def test_params_that_do_not_apply_are_absent(self, result: StudyResult) -> None:
        for run in children(result):
            params, kind = run.data.params, run.data.params["regularization"]
            assert {"lambda", "dropout", "patience", "replicate", "learning_rate"} <= set(params)
            assert ("l1_ratio" in params) == (kind == "elastic_net")
            assert ("log10_lambda" in params) == (kind != "none")
            if kind == "none":
                assert float(params["lambda"]) == 0
            else:
                expected = np.log10(float(params["lambda"]))
                assert float(params["log10_lambda"]) == pytest.approx(expected)

    def test_curves_have_a_point_an_epoch_from_step_1_and_are_finite(
        self, result: StudyResult
    ) -> None:
        client = MlflowClient()
        for run in children(result):
            n_epochs = int(run.data.metrics["final/epochs"])
            failed = run.data.tags["trial.state"] == "failed"
            for name in ("loss/train", "loss/val", "gap/loss", "score/train", "score/val"):
                history = client.get_metric_history(run.info.run_id, name)
                steps = sorted(metric.step for metric in history)
                assert steps == list(range(1, len(steps) + 1))
                assert len(steps) == n_epochs - failed
            assert all(abs(value) < 1e300 for value in run.data.metrics.values())

    def test_final_values_are_those_of_the_kept_epoch(self, result: StudyResult) -> None:
        for trial in result.record.trials:
            if trial.state is TrialState.FAILED:
                assert set(trial.scalars) == {"epochs"}
                continue
            kept = int(trial.scalars["best_epoch"]) - 1
            history = trial.history
            assert trial.scalars["val_loss"] == history.val_loss[kept] == history.val_loss.min()
            assert trial.scalars["train_loss"] == history.train_loss[kept]
            assert trial.scalars["gap"] == history.val_loss[kept] - history.train_loss[kept]
            assert trial.scalars["overfit_gap"] == history.gap[-1]
            assert {"weight_norm", "sparsity", "val_score"} <= set(trial.scalars)
            for name in ("accuracy", "balanced_accuracy", "roc_auc", "log_loss"):
                assert np.isfinite(trial.scalars[f"val_{name}"])
            assert trial.scalars["val_accuracy"] == trial.scalars["val_score"]
            assert trial.scalars["val_log_loss"] == pytest.approx(trial.val_loss, rel=1e-12)

    def test_weights_load_safely_and_give_the_logged_validation_loss(
        self, result: StudyResult, store: Path
    ) -> None:
        config = small(store, "contract")
        splits = split(load_table(config.data), config.data, config.seed)
        assert result.best_trial is not None
        content = download(mlflow.get_tracking_uri(), result.best_trial.run_id, "weights.pt")
        network = build_network(config.model, splits.n_features, splits.n_outputs).eval()
        network.load_state_dict(torch.load(io.BytesIO(content), weights_only=True))
        with torch.no_grad():
            logits = network(torch.from_numpy(splits.x_val))
        loss, score = measure(splits.task, logits, torch.from_numpy(splits.y_val))
        assert loss == pytest.approx(result.best_trial.val_loss, rel=1e-5)
        assert score == pytest.approx(result.best_trial.scalars["val_score"])

    def test_three_artifacts_a_trial(self, result: StudyResult) -> None:
        client = MlflowClient()
        for run in children(result):
            names = {file.path for file in client.list_artifacts(run.info.run_id)}
            assert names == {"learning_curve.png", "history.csv", "weights.pt"}

    def test_parent_says_what_was_searched_and_found(self, result: StudyResult) -> None:
        client = MlflowClient()
        run = client.get_run(result.parent_run_id)
        states = Counter(str(trial.state) for trial in result.record.trials)
        metrics = run.data.metrics
        assert metrics["study/trials"] == 17
        for state in ("complete", "pruned", "failed"):
            assert metrics[f"study/{state}"] == states[state]
        assert result.best_trial is not None
        assert metrics["best/val_loss"] == result.best_trial.val_loss
        assert metrics["best/trial"] == result.best_trial.number
        assert metrics["best/gap"] == result.best_trial.scalars["gap"]
        assert run.info.status == "FINISHED"
        assert run.data.tags["study.state"] == "complete"
        assert run.data.tags["mlflow.note.content"]
        assert all(key.startswith(("study.", "data.")) for key in run.data.params)
        (dataset,) = run.inputs.dataset_inputs
        assert dataset.dataset.digest == run.data.params["data.digest"]
        names = {file.path for file in client.list_artifacts(result.parent_run_id)}
        assert names == {
            *("study.toml", "columns.csv", "preprocessing.json"),
            *("trials.csv", "report.html", "figures"),
        }
        content = download(mlflow.get_tracking_uri(), result.parent_run_id, "trials.csv")
        logged = pd.read_csv(io.BytesIO(content))
        assert len(logged) == 17
        assert logged["val_loss"].min() == result.best_trial.val_loss

    def test_best_is_the_complete_trial_with_the_lowest_validation_loss(
        self, result: StudyResult
    ) -> None:
        complete = [t for t in result.record.trials if t.state is TrialState.COMPLETE]
        assert result.best_trial is min(complete, key=lambda trial: trial.val_loss)


class TestOptuna:
    def test_every_asked_trial_is_told_once_and_has_its_run(self, result: StudyResult) -> None:
        by_number = {trial.number: trial for trial in result.record.trials}
        told = journal(result).trials
        assert [trial.number for trial in told] == sorted(by_number)
        expected = {"complete": "COMPLETE", "pruned": "PRUNED", "failed": "FAIL"}
        for trial in told:
            record = by_number[trial.number]
            assert trial.state.name == expected[record.state]
            assert trial.user_attrs["mlflow_run_id"] == record.run_id
            assert trial.params.get("lambda", 0.0) == record.hyperparameters.lambda_
            assert trial.params["dropout"] == record.hyperparameters.dropout
            if record.state is not TrialState.FAILED:
                assert trial.value == record.val_loss

    def test_first_come_the_unregularized_trial_and_one_default_of_each_type(
        self, result: StudyResult
    ) -> None:
        first = [trial.hyperparameters for trial in result.record.trials[:6]]
        assert (first[0].regularization, first[0].dropout) == (Regularization.NONE, 0.0)
        assert first[0].patience == 6
        kinds = [str(chosen.regularization) for chosen in first[1:]]
        assert kinds == ["l1", "l2", "elastic_net", "weight_decay", "none"]
        assert all(chosen.dropout == 0.35 for chosen in first[1:])

    def test_a_space_without_none_has_no_unregularized_trial(self) -> None:
        space = SearchSpace.model_validate({"regularization": "l2", "lambda": 0.1, "dropout": 0.5})
        (only,) = first_trials(space)
        assert only == Hyperparameters(Regularization.L2, 0.1, dropout=0.5, patience=16)

    def test_the_unregularized_trial_is_never_pruned(self, store: Path) -> None:
        overrides = {"search.pruner": "median", "search.pruner_warmup": 0}
        config = small(store, "baseline", "synthetic:noisy_100", **overrides)
        trials = run_study(config).record.trials
        assert any(trial.state is TrialState.PRUNED for trial in trials)
        assert trials[0].state is TrialState.COMPLETE

    def test_without_early_stopping_nothing_is_pruned(self, store: Path) -> None:
        overrides = {"search.pruner": "median", "search.pruner_warmup": 0, "space.patience": "off"}
        trials = run_study(small(store, "whole", **overrides)).record.trials
        assert {len(trial.history) for trial in trials} == {9}


def test_what_optuna_believes_finished_has_its_run(store: Path) -> None:
    """The store breaks in the middle: the study fails, and no trial is told without its run."""
    config = small(store, "broken-store", **{"search.population": 2, "search.n_trials": 40})
    broken = []

    def told_so_far() -> list[optuna.trial.FrozenTrial]:
        if not (store / "mlflow.db").exists():
            return []  # a client would make it, while the study does
        experiment = MlflowClient().get_experiment_by_name(config.name)
        runs = runs_of(experiment.experiment_id) if experiment else []
        path = next((r.data.tags[tag] for r in runs if (tag := "study.journal") in r.data.tags), "")
        if not Path(path).is_file():
            return []  # the store is still being opened
        storage = JournalStorage(JournalFileBackend(path))
        return optuna.load_study(study_name=config.name, storage=storage).trials

    def break_store(progress: Progress) -> None:
        told = [] if broken else told_so_far()
        if not told and not broken:
            time.sleep(0.1)  # or all would be trained before the store is open
        if any(trial.state.is_finished() for trial in told):
            experiment = MlflowClient().get_experiment_by_name(config.name)
            assert experiment is not None
            folder = Path(experiment.artifact_location.removeprefix("file://"))
            shutil.move(folder, folder.with_name("gone"))
            folder.write_text("no folder any more")
            broken.append(experiment.experiment_id)

    with pytest.raises(Exception, match=r"exists|directory"):
        run_study(config, on_progress=break_store)
    runs = runs_of(broken[0])
    (parent,) = (run for run in runs if "mlflow.parentRunId" not in run.data.tags)
    assert (parent.info.status, parent.data.tags["study.state"]) == ("FAILED", "failed")
    assert not [run for run in runs if run.info.status == "RUNNING"]
    finished = {int(r.data.tags["trial.number"]) for r in runs if "trial.number" in r.data.tags}
    asked = told_so_far()
    told = {trial.number for trial in asked if trial.state.is_finished()}
    assert told
    assert told <= finished
    assert len(asked) > len(told)


class TestDeterminism:
    def test_same_seed_same_table_whatever_the_store_does(
        self, store: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first = run_study(small(store, "twice"))
        # A store that is always caught up: what is written must not decide what is asked.
        monkeypatch.setattr("pipeline.search.BACKLOG", 0)
        second = run_study(small(store, "twice"))
        pd.testing.assert_frame_equal(
            comparable(first.trials), comparable(second.trials), check_exact=True
        )
        for one, other in zip(first.record.trials, second.record.trials, strict=True):
            assert one.history == other.history

    def test_same_table_however_many_processes_train(
        self, store: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        config = small(store, "processes", **{"search.pruner": "median"})
        studies = []
        for n_processes in (1, 3):
            monkeypatch.setattr(team, "_usual_processes", lambda _, n=n_processes: n)
            studies.append(run_study(config))
        one, other = (comparable(study.trials) for study in studies)
        pd.testing.assert_frame_equal(one, other, check_exact=True)
        assert {trial.state for trial in studies[1].record.trials} >= {"complete", "pruned"}
        left = {type(process).__name__ for process in multiprocessing.active_children()}
        assert "ForkProcess" not in left

    def test_another_seed_gives_another_table(self, store: Path) -> None:
        first, second = (
            run_study(small(store, "seeds", seed=seed, **{"search.n_trials": 8})) for seed in (1, 2)
        )
        assert not comparable(first.trials).equals(comparable(second.trials))

    def test_a_curve_does_not_depend_on_the_population(self, store: Path) -> None:
        # The first six are given, so that the same hyperparameters are tried at every K.
        tables = [
            run_study(
                small(
                    store,
                    "width",
                    **{"search.n_trials": 6, "search.population": k, "search.pruner": "none"},
                )
            )
            for k in (1, 4)
        ]
        for one, other in zip(tables[0].record.trials, tables[1].record.trials, strict=True):
            assert one.hyperparameters == other.hyperparameters
            assert one.history == other.history

    @pytest.mark.parametrize("state", ["complete", "pruned", "failed"])
    def test_a_trial_alone_is_identical_to_its_run(self, result: StudyResult, state: str) -> None:
        trial = next(trial for trial in result.record.trials if trial.state == state)
        comparison = reproduce(trial.run_id)
        assert comparison.identical, comparison

    @pytest.mark.parametrize(
        ("source", "overrides", "names"),
        [
            (
                "sklearn:breast_cancer",
                {"training.class_weight": "balanced", "data.score": "roc_auc"},
                ["val_accuracy", "val_balanced_accuracy", "val_roc_auc", "val_log_loss"],
            ),
            ("sklearn:diabetes", {"data.score": "mae"}, ["val_r2", "val_rmse", "val_mae"]),
        ],
    )
    def test_a_weighted_or_scored_trial_is_identical_to_its_run(
        self, store: Path, source: str, overrides: dict[str, object], names: list[str]
    ) -> None:
        config = small(store, "scored", source, **{"search.n_trials": 2}, **overrides)
        result = run_study(config)
        trial = result.record.trials[0]
        assert [name for name in result.trials if name in names] == names
        assert trial.scalars[f"val_{config.data.score}"] == trial.scalars["val_score"]
        assert reproduce(trial.run_id).identical

    def test_search_never_reads_the_test_rows(self, store: Path) -> None:
        draw = np.random.default_rng(0)
        frame = pd.DataFrame(draw.normal(size=(101, 5)), columns=list("abcde"))
        config = small(store, "blind", f"csv:{store}/blind.csv", **{"search.n_trials": 8})
        frame.to_csv(store / "blind.csv", index=False)
        test_rows = split(load_table(config.data), config.data, config.seed).test_rows
        first = run_study(config)
        frame.loc[test_rows, "e"] = 1e6
        frame.to_csv(store / "blind.csv", index=False)
        second = run_study(config)
        pd.testing.assert_frame_equal(
            comparable(first.trials), comparable(second.trials), check_exact=True
        )


class TestBudget:
    @pytest.mark.parametrize(("n_trials", "population"), [(1, 1), (3, 7), (8, 3)])
    def test_n_trials_means_n_trials(self, store: Path, n_trials: int, population: int) -> None:
        overrides = {"search.n_trials": n_trials, "search.population": population}
        seen: list[Progress] = []
        result = run_study(small(store, "budget", **overrides), on_progress=seen.append)
        assert len(result.record.trials) == len(journal(result).trials) == n_trials
        assert seen[-1].done == n_trials
        assert seen[-1].running == 0
        assert all(progress.done + progress.running <= n_trials for progress in seen)
        assert max(progress.running for progress in seen) <= population


def trials_csv(result: StudyResult) -> bytes:
    return download(result.tracking_uri, result.parent_run_id, "trials.csv")


class TestResume:
    @pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, RuntimeError])
    def test_an_ended_program_leaves_nothing_running_and_can_go_on(
        self, store: Path, error: type[BaseException]
    ) -> None:
        config = small(store, f"ended-{error.__name__}")

        def stop(progress: Progress) -> None:
            if progress.done >= 6:
                raise error

        with pytest.raises(error):
            run_study(config, on_progress=stop)
        experiment = MlflowClient().get_experiment_by_name(config.name)
        assert experiment is not None
        states = Counter(run.info.status for run in runs_of(experiment.experiment_id))
        assert states["RUNNING"] == 0
        before = {
            run.info.run_id: run.data.metrics
            for run in runs_of(experiment.experiment_id)
            if run.info.status == "FINISHED"
        }

        result = run_study(config, resume=True)
        runs = runs_of(experiment.experiment_id)
        assert len(runs) == 1 + 17
        assert Counter(run.info.status for run in runs)["RUNNING"] == 0
        assert before.keys() <= {run.info.run_id for run in runs}
        told = journal(result).trials
        assert [trial.number for trial in told] == list(range(17))
        assert not any(trial.state is optuna.trial.TrialState.RUNNING for trial in told)
        assert [trial.number for trial in result.record.trials] == list(range(17))
        undisturbed = run_study(small(store, f"undisturbed-{config.name}"))
        assert trials_csv(result) == trials_csv(undisturbed)

    def test_interrupt_says_so_on_the_parent(self, store: Path) -> None:
        def stop(progress: Progress) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run_study(small(store, "said"), on_progress=stop)
        experiment = MlflowClient().get_experiment_by_name("said")
        assert experiment is not None
        (parent,) = runs_of(experiment.experiment_id)
        assert parent.data.tags["study.state"] == "interrupted"
        assert parent.info.status == "KILLED"

    def test_resume_of_a_complete_study_adds_the_trials_it_lacks(self, store: Path) -> None:
        short = run_study(small(store, "longer", **{"search.n_trials": 7}))
        longer = run_study(small(store, "longer", **{"search.n_trials": 11}), resume=True)
        assert longer.parent_run_id == short.parent_run_id
        assert len(longer.record.trials) == 11
        pd.testing.assert_frame_equal(longer.trials[:7], short.trials, check_dtype=False)

    def test_resume_to_fewer_trials_than_were_asked_asks_no_more(self, store: Path) -> None:
        config = small(store, "fewer")

        def stop(progress: Progress) -> None:
            if progress.done >= 6:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run_study(config, on_progress=stop)
        shorter = small(store, "fewer", **{"search.n_trials": 3, "search.population": 2})
        result = run_study(shorter, resume=True)
        told = journal(result).trials
        assert 6 <= len(told) <= 12  # those that had been asked, each of them once
        assert [trial.number for trial in result.record.trials] == list(range(len(told)))
        assert all(trial.state.is_finished() for trial in told)

    def test_a_study_older_than_proximal_l1_is_reproduced_and_resumed_as_it_was(
        self, store: Path
    ) -> None:
        options = {"search.n_trials": 2, "search.pruner": "none"}
        spelled = {**options, "model.l1": "subgradient"}
        space = 'regularization = "l1"\nlambda = 0.01'
        result = run_study(small(store, "older", space=space, **spelled))
        (file,) = store.rglob(f"{result.parent_run_id}/artifacts/study.toml")
        text = file.read_text(encoding="utf-8")
        assert text.count('l1 = "subgradient"\n') == 1
        file.write_text(text.replace('l1 = "subgradient"\n', ""), encoding="utf-8")
        assert reproduce(result.record.trials[1].run_id).identical
        with pytest.raises(ConfigError, match=r"model.l1 = 'subgradient'\), however: 'proximal'"):
            run_study(small(store, "older", space=space, **options), resume=True)
        again = run_study(small(store, "older", space=space, **spelled), resume=True)
        assert again.parent_run_id == result.parent_run_id

    def test_resume_without_anything_to_resume_begins(self, store: Path) -> None:
        result = run_study(small(store, "begins", **{"search.n_trials": 2}), resume=True)
        assert len(result.record.trials) == 2

    def test_a_study_that_died_before_its_first_record_is_taken_up(self, store: Path) -> None:
        """The parent run says where the journal is to lie before there is one."""
        config = small(store, "unborn", **{"search.n_trials": 3})
        table = load_table(config.data)
        splits = split(table, config.data, config.seed)
        description = describe_study(config, table, splits)
        opened = tracking.open_study(tracking.Caller.here(), config, description, resume=False)
        assert not Path(opened.journal).exists()
        locks.let_go(locks.writer_lock(opened.journal))  # as with the death of its process
        result = run_study(config, resume=True)
        assert result.parent_run_id == opened.parent.run_id
        assert len(result.record.trials) == len(journal(result).trials) == 3

    def test_what_a_killed_program_left_is_put_in_order(self, store: Path) -> None:
        overrides = {"search.n_trials": 3, "search.pruner": "none", "confirm.replicates": 2}
        result = run_study(small(store, "left", **overrides))
        known = {trial.number: trial.run_id for trial in result.record.trials}
        experiment_id = result.record.experiment_id
        parent = tracking.Parent(result.tracking_uri, experiment_id, result.parent_run_id)
        client = MlflowClient()

        def left(number: int, ended: int | None = None) -> str:
            tags = {"mlflow.parentRunId": parent.run_id, "stage": "search"}
            run = client.create_run(experiment_id, tags={**tags, "trial.number": str(number)})
            run_id: str = run.info.run_id
            if ended is not None:
                client.set_terminated(run_id, "FINISHED", ended)
            return run_id

        def standing() -> dict[str, dict[str, str]]:
            tags = {run.info.run_id: run.data.tags for run in runs_of(experiment_id)}
            del tags[parent.run_id]
            return tags

        before = standing()
        replicates = {run_id for run_id, tags in before.items() if "replicate" in tags}
        averages = before.keys() - known.values() - replicates
        assert replicates
        assert averages
        cut_off = left(3)
        left(1, ended=1)  # before the one that the journal knows
        record = tracking.recover_study(parent, known)
        assert {trial.number: trial.run_id for trial in record.trials} == known
        assert standing().keys() == before.keys() - averages
        assert client.get_run(cut_off).info.status == "FAILED"
        # Of two that the journal does not know, the one stays that ended first.
        left(2, ended=2**42)
        tracking.recover_study(parent, {})
        assert standing().keys() == before.keys() - averages

    def test_a_changed_study_or_changed_data_are_refused(self, store: Path) -> None:
        path = store / "changing.csv"
        frame = pd.DataFrame(np.random.default_rng(1).normal(size=(53, 4)), columns=list("abcd"))
        frame.to_csv(path, index=False)
        overrides: dict[str, object] = {"search.n_trials": 2}
        run_study(small(store, "changing", f"csv:{path}", **overrides))
        changed = small(
            store, "changing", f"csv:{path}", **overrides, **{"space.dropout.high": 0.5}
        )
        with pytest.raises(ConfigError, match=r"space\.dropout\.high.*however"):
            run_study(changed, resume=True)
        (frame + 1).to_csv(path, index=False)
        with pytest.raises(ConfigError, match=r"digest .*however"):
            run_study(small(store, "changing", f"csv:{path}", **overrides), resume=True)


def test_the_study_in_memory_is_what_the_store_tells(result: StudyResult) -> None:
    """The report is made from memory; `report RUN_ID` makes the same one from the store alone."""
    uri, record = result.tracking_uri, result.record
    again = read_study(result.parent_run_id)
    for field in fields(StudyRecord):
        if field.name not in ("trials", "params"):
            assert getattr(again, field.name) == getattr(record, field.name)
    assert dict(again.params) == dict(record.params)
    assert {trial.state for trial in record.trials} == set(TrialState)
    for one, other in zip(again.trials, record.trials, strict=True):
        for field in fields(TrialRecord):
            assert getattr(one, field.name) == getattr(other, field.name)
    page = download(uri, result.parent_run_id, "report.html").decode()
    again = with_kernels(again, partial(read_weights, uri))
    assert again.kernels
    assert render(again, run_links(again, uri)) == page


def test_a_rate_that_drops_nothing_is_neither_written_nor_remembered(store: Path) -> None:
    config = small(store, "linear", **{"model.hidden": [], "training.max_epochs": 1})
    splits = split(load_table(config.data), config.data, config.seed)
    outcome = reference.train(config, splits, Hyperparameters(dropout=0.3))
    finished = FinishedTrial(0, outcome, 1, 2, has_dropout=config.has_dropout)
    assert not config.has_dropout
    assert "dropout" not in trial_params(finished)
    assert trial_record(finished, "run").hyperparameters == Hyperparameters()


def test_a_run_written_at_once_is_what_the_client_would_have_written(store: Path) -> None:
    """One transaction over MLflow's own tables, against MLflow's own interface."""
    config = small(store, "two-ways")
    table = load_table(config.data)
    splits = split(table, config.data, config.seed)
    description = describe_study(config, table, splits)
    opened = tracking.open_study(tracking.Caller.here(), config, description, resume=False)
    outcome = reference.train(config, splits, Hyperparameters("l2", lambda_=0.1, patience=3))
    trial, weights = FinishedTrial(4, outcome, 1, 2, True), weights_file(outcome)
    ids = [tracking.write_trial(opened.parent, trial, weights)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writing, "_database", lambda _: None)
        ids.append(tracking.write_trial(opened.parent, trial, weights))
    tracking.close_study(opened.parent, "complete")

    client = MlflowClient()
    at_once, by_client = (client.get_run(run_id) for run_id in ids)
    for field in ("experiment_id", "user_id", "status", "start_time", "end_time", "run_name"):
        assert getattr(at_once.info, field) == getattr(by_client.info, field)
    assert at_once.info.artifact_uri == by_client.info.artifact_uri.replace(ids[1], ids[0])
    assert at_once.info.lifecycle_stage == by_client.info.lifecycle_stage == "active"
    assert at_once.data.metrics == by_client.data.metrics
    assert at_once.data.params == by_client.data.params
    assert at_once.data.tags == by_client.data.tags
    assert "loss/val" in at_once.data.metrics
    for name in at_once.data.metrics:
        curves = [client.get_metric_history(run_id, name) for run_id in ids]
        points = [[(m.step, m.value, m.timestamp) for m in curve] for curve in curves]
        assert sorted(points[0]) == sorted(points[1])
    for file in client.list_artifacts(ids[1]):
        contents = [download(opened.parent.uri, run_id, file.path) for run_id in ids]
        assert contents[0] == contents[1]
    # Every column of every table, whether the interface shows it or not.
    with closing(sqlite3.connect(store / "mlflow.db")) as connection:
        for name in ("runs", "tags", "params", "metrics", "latest_metrics"):
            rows = [
                connection.execute(f"select * from {name} where run_uuid = ?", (run_id,)).fetchall()
                for run_id in ids
            ]
            same = [[repr(row).replace(ids[1], ids[0]) for row in each] for each in rows]
            assert sorted(same[0]) == sorted(same[1]), name


def test_tables_that_are_not_known_are_not_written_to() -> None:
    tables = writing.known_tables()
    assert tables is not None
    metadata = sqlalchemy.MetaData()
    copies = [table.to_metadata(metadata) for table in tables]
    assert type(tables)(*copies).known
    copies[3].append_column(sqlalchemy.Column("new", sqlalchemy.Integer))
    assert not type(tables)(*copies).known


def test_a_store_that_is_slow_to_open_does_not_decide_what_is_asked(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trials train before the parent run is there, and are in its journal all the same."""
    quick = run_study(small(store, "opened"))
    free = store / "free"
    writer.submit(wait_for_file, free)
    epochs = 0

    def open_late(progress: Progress) -> None:
        nonlocal epochs
        epochs += 1
        if epochs == 2:
            free.touch()

    slow = run_study(small(store, "opened"), on_progress=open_late)
    pd.testing.assert_frame_equal(
        comparable(quick.trials), comparable(slow.trials), check_exact=True
    )
    assert [trial.number for trial in journal(slow).trials] == list(range(17))


def wait_for_file(path: Path) -> None:
    while not path.exists():
        time.sleep(0.05)
