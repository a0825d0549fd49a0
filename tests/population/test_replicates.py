"""Trials on many replicates train as they would alone, whatever trains beside them."""

from __future__ import annotations

import multiprocessing
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from pipeline import reference
from pipeline.config import ConfigError, StudyConfig
from pipeline.data import Target, Task
from pipeline.population import forked, replicates
from pipeline.population.replicates import Rows, sharing_slots, train_replicates
from pipeline.population.trainer import PopulationTrainer
from pipeline.results import StopReason, TrialResult
from pipeline.space import Hyperparameters, Regularization
from tests.builders import DIVERGING, TRIALS, assert_identical, tiny_config, tiny_splits, train_all

L2 = Hyperparameters(Regularization.L2, 0.003, dropout=0.53, patience=1, learning_rate=0.3)
PATIENT = tuple(replace(L2, patience=patience) for patience in ("off", 3, 2, 1))
TASKS = list(Task)


def rows_of(task: Task, replicate: int) -> Rows:
    """Replicates of a task: targets on another scale, and classes in another proportion, each."""
    splits = tiny_splits(task, replicate)
    if task is Task.REGRESSION:
        target = Target("target", task, (), 0.0, 1.0 + replicate)
        splits = replace(splits, preprocessing=replace(splits.preprocessing, target=target))
    draw = np.random.default_rng((29, replicate))
    x = draw.normal(size=(19, splits.n_features)).astype(np.float32)
    y = draw.integers(0, 2, 19).astype(np.float32)
    return Rows(splits, (x, y))


def train(
    config: StudyConfig,
    todo: Mapping[int, Sequence[Hyperparameters]],
    task: Task = Task.BINARY,
    n_processes: int = 0,
) -> dict[tuple[int, Hyperparameters], TrialResult]:
    trained = train_replicates(
        config, todo, lambda replicate: rows_of(task, replicate), n_processes=n_processes
    )
    results = (each.result for each in trained)
    return {(result.replicate, result.hyperparameters): result for result in results}


def assert_as_alone(
    config: StudyConfig, task: Task, results: Mapping[tuple[int, Hyperparameters], TrialResult]
) -> None:
    """Each result is what its trial gives in a population of its own replicate."""
    for replicate in {replicate for replicate, _ in results}:
        trials = [trial for number, trial in results if number == replicate]
        expected = train_all(config, rows_of(task, replicate)[0], trials, n_slots=5)
        for trial, alone in zip(trials, expected, strict=True):
            assert results[replicate, trial].replicate == replicate
            assert_identical(results[replicate, trial], alone)


class TestEqualWhatTheyAreAlone:
    @pytest.mark.parametrize("task", TASKS, ids=str)
    @pytest.mark.parametrize("n_processes", [0, 1, 2])
    def test_every_trial_on_every_replicate(self, task: Task, n_processes: int) -> None:
        weight = "none" if task is Task.REGRESSION else "balanced"
        score = "rmse" if task is Task.REGRESSION else "balanced_accuracy"
        config = tiny_config({"training.class_weight": weight, "data.score": score})
        todo = dict.fromkeys((1, 4, 2), TRIALS)
        results = train(config, todo, task, n_processes)
        assert len(results) == 3 * len(TRIALS)
        assert_as_alone(config, task, results)

    @pytest.mark.parametrize("slots", [1, 13, 31], ids="{} slots".format)
    @pytest.mark.parametrize("memory", [2**29, 1], ids=["together", "one after another"])
    def test_however_many_train_at_a_time(
        self, slots: int, memory: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(replicates, "SLOTS", slots)
        monkeypatch.setattr(replicates, "ROWS_BYTES", memory)
        config = tiny_config()
        results = train(config, dict.fromkeys(range(1, 6), TRIALS))
        assert_as_alone(config, Task.BINARY, results)

    @pytest.mark.parametrize("n_slots", [1, 3, 64])
    def test_with_fewer_slots_than_trials(self, n_slots: int) -> None:
        """As after memory ran out: the trials of a replicate come in parts."""
        config, todo = tiny_config(), {1: [*TRIALS, *PATIENT], 2: TRIALS[:2]}
        trained = train_replicates(
            config, todo, lambda number: rows_of(Task.BINARY, number), n_slots=n_slots
        )
        results = [each.result for each in trained]
        assert len(results) == len(TRIALS) + len(PATIENT) + 2
        assert_as_alone(config, Task.BINARY, {(r.replicate, r.hyperparameters): r for r in results})

    def test_beside_neighbours_that_diverge(self) -> None:
        config = tiny_config()
        results = train(config, dict.fromkeys((1, 2), (*TRIALS, *DIVERGING)))
        assert_as_alone(config, Task.BINARY, results)
        assert {results[1, trial].stop_reason for trial in DIVERGING} >= {StopReason.DIVERGED}

    def test_replicates_may_have_more_or_fewer_rows_and_features(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def uneven(replicate: int) -> Rows:
            splits, (x, y) = rows_of(Task.BINARY, replicate)
            rows, features = {1: (23, 7), 2: (19, 7), 3: (23, 5), 4: (23, 7), 5: (19, 7)}[replicate]
            cut = {
                "x_train": splits.x_train[:rows, :features],
                "y_train": splits.y_train[:rows],
                "x_val": splits.x_val[:, :features],
            }
            return Rows(replace(splits, **cut), (x[:, :features], y))

        config, todo = tiny_config(), dict.fromkeys(range(1, 6), TRIALS[5:7])
        for n_processes in (0, 2):
            trained = train_replicates(config, todo, uneven, n_processes=n_processes)
            results = [each.result for each in trained]
            assert len({(each.replicate, each.hyperparameters) for each in results}) == 10
            for result in results:
                splits, _ = uneven(result.replicate)
                expected = train_all(config, splits, [result.hyperparameters], 1)[0]
                assert_identical(result, expected)


class TestTrialsThatDifferByPatienceAlone:
    def test_share_a_slot_and_end_as_they_would_alone(self) -> None:
        config = tiny_config({"training.max_epochs": 11})
        results = train(config, dict.fromkeys((1, 2, 3), (*PATIENT, TRIALS[0])))
        assert_as_alone(config, Task.BINARY, results)
        lengths = {len(result.history) for result in results.values()}
        assert len(lengths) > 2  # or nothing was shown

    def test_end_alike_where_all_diverge(self) -> None:
        config = tiny_config({"training.max_epochs": 11})
        wild = replace(DIVERGING[1], patience=7)
        trials = [wild, replace(wild, patience="off"), replace(wild, patience=2)]
        results = train(config, {1: trials})
        assert_as_alone(config, Task.BINARY, results)
        assert {result.stop_reason for result in results.values()} == {StopReason.DIVERGED}

    def test_are_found_and_put_in_order(self) -> None:
        trials = [PATIENT[2], TRIALS[1], PATIENT[0], PATIENT[3], TRIALS[1]]
        assert sharing_slots(trials) == [(PATIENT[0], PATIENT[2], PATIENT[3]), (TRIALS[1],)]

    @pytest.mark.parametrize(
        "shorter", [PATIENT[0], PATIENT[1], replace(PATIENT[2], dropout=0.1)], ids=str
    )
    def test_may_differ_by_nothing_else(self, shorter: Hyperparameters) -> None:
        trainer = PopulationTrainer(tiny_config(), tiny_splits())
        with pytest.raises(ValueError, match="must differ by less patience alone, however"):
            trainer.load(0, PATIENT[1], shorter=[shorter])
        assert trainer.free_slots == [0, 1, 2]

    def test_are_all_cut_short_where_the_slot_is(self) -> None:
        trainer = PopulationTrainer(tiny_config(), tiny_splits())
        trainer.load(0, PATIENT[0], shorter=PATIENT[1:])
        trainer.train_epoch()
        results = trainer.unload_all(0)
        assert [each.hyperparameters for each in results] == list(PATIENT)
        assert {each.stop_reason for each in results} == {StopReason.PRUNED}


class TestTestRows:
    @pytest.mark.parametrize("task", [Task.BINARY, Task.REGRESSION], ids=str)
    def test_are_measured_with_the_kept_weights(self, task: Task) -> None:
        config = tiny_config({"training.max_epochs": 11})
        trials = (*PATIENT, TRIALS[5])
        results = train(config, dict.fromkeys((1, 2), trials), task)
        for (replicate, trial), result in results.items():
            splits, (x, y) = rows_of(task, replicate)
            network = reference.build_network(config.model, splits.n_features, splits.n_outputs)
            network.load_state_dict({k: torch.from_numpy(w) for k, w in result.weights.items()})
            with torch.no_grad():
                logits, target = network(torch.from_numpy(x)), torch.from_numpy(y)
            expected = reference.all_scores(splits, logits, target)
            loss, score = reference.measure(task, logits, target)
            assert result.test == pytest.approx({"loss": loss, "score": score, **expected}, 1e-5)
            assert trial.patience != "off" or result.kept_epoch == 11

    def test_a_search_does_not_know_them(self) -> None:
        (result,) = train_all(tiny_config(), tiny_splits(), TRIALS[:1], 1)
        assert result.test == {}


@pytest.mark.parametrize(
    ("device", "threads", "count", "expected"),
    [
        ("cpu", 2, 20, 2),
        ("cpu", 2, 1, 0),
        ("cpu", 1, 20, 0),
        ("cpu", 64, 20, 8),
        ("cuda", 2, 20, 0),
    ],
)
def test_as_many_processes_as_cores_but_none_beside_a_gpu(
    device: str, threads: int, count: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(forked.sys, "platform", "linux")
    monkeypatch.setattr(replicates, "device_of", lambda _: torch.device(device))
    assert replicates._usual_processes(tiny_config(), count) == expected


def training_processes() -> list[multiprocessing.Process]:
    """Those that were forked: a study of another test may have left its writing process."""
    forks = multiprocessing.get_context("fork").Process
    return [each for each in multiprocessing.active_children() if isinstance(each, forks)]


class TestWhatGoesWrong:
    @pytest.mark.parametrize("n_processes", [0, 2])
    def test_rows_that_cannot_be_trained_on(self, n_processes: int) -> None:
        def refuse(replicate: int) -> Rows:
            if replicate == 2:
                raise ConfigError(f"a class must have rows, however: none ({replicate})")
            return rows_of(Task.BINARY, replicate)

        todo = dict.fromkeys(range(1, 5), TRIALS[:2])
        with pytest.raises(ConfigError, match=r"however: none \(2\)"):
            list(train_replicates(tiny_config(), todo, refuse, n_processes=n_processes))
        assert training_processes() == []

    @pytest.mark.parametrize("n_processes", [0, 1])
    def test_who_waits_may_give_up(self, n_processes: int) -> None:
        def stop() -> None:
            raise KeyboardInterrupt

        threads = torch.get_num_threads()
        results = train_replicates(
            tiny_config({"training.max_epochs": 10_000}),
            {1: TRIALS[:1]},
            lambda replicate: rows_of(Task.BINARY, replicate),
            n_processes=n_processes,
            while_waiting=stop,
        )
        with pytest.raises(KeyboardInterrupt):
            list(results)
        assert training_processes() == []
        assert torch.get_num_threads() == threads

    def test_a_process_that_dies(self) -> None:
        def kill() -> None:
            for process in training_processes():
                process.kill()

        results = train_replicates(
            tiny_config({"training.max_epochs": 10_000}),
            {1: TRIALS[:1]},
            lambda replicate: rows_of(Task.BINARY, replicate),
            n_processes=1,
            while_waiting=kill,
        )
        with pytest.raises(RuntimeError, match=r"a training process ended \(exit code -9\)"):
            list(results)

    def test_a_replicate_must_be_like_the_others_and_have_a_seat(self) -> None:
        splits = tiny_splits()
        trainer = PopulationTrainer(tiny_config(), splits, n_replicates=2)
        trainer.load(0, TRIALS[0])
        trainer.admit(tiny_splits(replicate=1))
        trainer.load(1, TRIALS[0], replicate=1)
        with pytest.raises(ValueError, match="must have a seat, however: all 2 are in use"):
            trainer.admit(tiny_splits(replicate=2))
        with pytest.raises(ValueError, match="must be admitted first, however: 2"):
            trainer.load(2, TRIALS[0], replicate=2)
        with pytest.raises(ValueError, match="must not be in use, however: 1"):
            trainer.admit(tiny_splits(replicate=1))
        trainer.unload(1)
        with pytest.raises(ValueError, match="as many rows and features, however"):
            trainer.admit(replace(splits, replicate=2, x_train=splits.x_train[:-1]))
        trainer.admit(tiny_splits(replicate=2))
        trainer.load(2, TRIALS[0], replicate=2)
