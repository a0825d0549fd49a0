"""The rules of the population: it equals the plain loop, and no slot knows of another."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from sklearn.linear_model import ElasticNet, Lasso, Ridge
from torch import nn

from pipeline import reference
from pipeline.config import ConfigError, StudyConfig
from pipeline.data import Splits, Task
from pipeline.population.noise import row_order
from pipeline.population.trainer import PopulationTrainer
from pipeline.results import StopReason, TrialResult
from pipeline.scores import chosen_score, scores_of
from pipeline.space import Hyperparameters, Regularization
from tests.builders import (
    DIVERGING,
    N_TRAIN,
    TRIALS,
    assert_close,
    assert_identical,
    assert_same_weights,
    tiny_config,
    tiny_splits,
    train_all,
)


@dataclass(frozen=True)
class Case:
    """A network and a task on which a rule must hold."""

    task: Task
    activation: str = "relu"
    hidden: tuple[int, ...] = (11, 13)
    penalized: tuple[int, ...] | None = None
    dropped: tuple[int, ...] | None = None
    class_weight: str = "none"
    score: str = "auto"
    l1: str = "subgradient"

    @property
    def config(self) -> StudyConfig:
        return tiny_config(
            {
                "model.hidden": list(self.hidden),
                "model.activation": self.activation,
                "model.l1": self.l1,
                "model.penalized_layers": "all" if self.penalized is None else list(self.penalized),
                "model.dropout_layers": "all" if self.dropped is None else list(self.dropped),
                "training.class_weight": self.class_weight,
                "data.score": self.score,
            }
        )

    @property
    def splits(self) -> Splits:
        return tiny_splits(self.task)

    def __str__(self) -> str:
        parts = [self.task.value, self.activation, "x".join(map(str, self.hidden)) or "linear"]
        parts += [f"penalized{self.penalized}"] if self.penalized is not None else []
        parts += [f"dropped{self.dropped}"] if self.dropped is not None else []
        parts += [self.class_weight] if self.class_weight != "none" else []
        parts += [self.score] if self.score != "auto" else []
        parts += [self.l1] if self.l1 != "subgradient" else []
        return "-".join(parts)


CASES = (
    Case(Task.BINARY),
    Case(Task.BINARY, "tanh", penalized=(1,), dropped=(1,), l1="proximal"),
    Case(Task.BINARY, "sigmoid", (3,), class_weight="balanced", score="roc_auc"),
    Case(Task.BINARY, hidden=(), l1="proximal"),
    Case(Task.MULTICLASS, l1="proximal"),
    Case(Task.MULTICLASS, "elu", penalized=(0, 2), dropped=()),
    Case(Task.MULTICLASS, "sigmoid", (13,), class_weight="balanced", score="balanced_accuracy"),
    Case(Task.MULTICLASS, hidden=()),
    Case(Task.REGRESSION, l1="proximal"),
    Case(Task.REGRESSION, "tanh", (5, 3, 2), penalized=(), dropped=(0, 2), l1="proximal"),
    Case(Task.REGRESSION, "elu", (13,), l1="proximal"),
    Case(Task.REGRESSION, hidden=()),
)
on_every_case = pytest.mark.parametrize("case", CASES, ids=str)


@cache
def plain(case: Case, trial: Hyperparameters, dtype: torch.dtype) -> TrialResult:
    """The trial in the plain loop."""
    return reference.train(case.config, case.splits, trial, dtype=dtype)


@cache
def alone(case: Case, trial: Hyperparameters, epochs: int | None = None) -> TrialResult:
    """The trial in a population of one, pruned after `epochs` if it lasts as long."""
    trainer = PopulationTrainer(case.config, case.splits, n_slots=1)
    trainer.load(0, trial)
    point = None
    while (point is None or point.stop_reason is None) and epochs != 0:
        point = trainer.train_epoch()[0]
        if point.epoch == epochs:
            break
    return trainer.unload(0)


class TestEqualsTheReference:
    @on_every_case
    @pytest.mark.parametrize("n_slots", [1, 3, 16])
    def test_in_float64_to_rounding(self, case: Case, n_slots: int) -> None:
        trials = TRIALS * 2 if n_slots == 16 else TRIALS
        results = train_all(case.config, case.splits, trials, n_slots, torch.float64)
        for result, trial in zip(results, trials, strict=True):
            assert_close(result, plain(case, trial, torch.float64), tolerance=1e-10)

    @on_every_case
    def test_in_float32_loosely(self, case: Case) -> None:
        # Without patience: in float32 the last bit may decide which epoch is kept.
        trials = [replace(trial, patience="off") for trial in TRIALS[:9]]
        for result in train_all(case.config, case.splits, trials, 3):
            expected = plain(case, result.hyperparameters, torch.float32)
            assert_close(result, expected, tolerance=2e-2)
            np.testing.assert_allclose(
                result.history.train_loss[:1], expected.history.train_loss[:1], rtol=1e-4
            )

    def test_the_cases_have_a_ragged_last_batch(self) -> None:
        assert N_TRAIN % tiny_config().training.batch_size

    @pytest.mark.parametrize("batch_size", [1, 23, 97])
    def test_for_any_batch_size(self, batch_size: int) -> None:
        config = tiny_config({"training.batch_size": batch_size})
        splits = tiny_splits(Task.REGRESSION)
        for result in train_all(config, splits, TRIALS[:7], 3, torch.float64):
            expected = reference.train(config, splits, result.hyperparameters, dtype=torch.float64)
            assert_close(result, expected, tolerance=1e-10)

    def test_for_more_rows_than_are_evaluated_at_a_time(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("pipeline.population.measuring.EVALUATION_ROWS", 19)
        for case in (CASES[0], CASES[4], CASES[8]):
            for result in train_all(case.config, case.splits, TRIALS[:3], 3, torch.float64):
                expected = plain(case, result.hyperparameters, torch.float64)
                assert_close(result, expected, tolerance=1e-10)

    def test_on_another_replicate_which_differs(self) -> None:
        config, splits = tiny_config(), tiny_splits(replicate=5)
        (result,) = train_all(config, splits, TRIALS[6:7], 1, torch.float64)
        expected = reference.train(config, splits, TRIALS[6], dtype=torch.float64)
        assert_close(result, expected, tolerance=1e-10)
        assert result.history != alone(CASES[0], TRIALS[6]).history

    def test_when_the_trial_diverges(self) -> None:
        config, splits = tiny_config(), tiny_splits(Task.REGRESSION)
        for trial in (DIVERGING[1], replace(DIVERGING[1], patience="off")):
            (result,) = train_all(config, splits, [trial], 1)
            expected = reference.train(config, splits, trial)
            assert result.stop_reason == expected.stop_reason == StopReason.DIVERGED
            assert result.kept_epoch == expected.kept_epoch
            assert len(result.history) == len(expected.history)


class TestNeighbourIndependence:
    """Equality is exact, in float32: nothing but the arithmetic of one's own row may reach it."""

    @on_every_case
    @pytest.mark.parametrize("n_slots", [1, 2, 3, 5, 16, 64])
    def test_same_bits_for_any_population(self, case: Case, n_slots: int) -> None:
        trials = (TRIALS + DIVERGING) * 6 if n_slots == 64 else TRIALS + DIVERGING
        results = train_all(case.config, case.splits, trials[: max(12, n_slots)], n_slots)
        for result in results:
            assert_identical(result, alone(case, result.hyperparameters))

    @on_every_case
    def test_same_bits_whatever_the_neighbour(self, case: Case) -> None:
        subject = TRIALS[8]
        for neighbour in TRIALS + DIVERGING:
            for pair in ([subject, neighbour], [neighbour, subject]):
                results = train_all(case.config, case.splits, pair, 2)
                assert_identical(results[pair.index(subject)], alone(case, subject))

    @on_every_case
    def test_same_bits_when_loaded_at_any_epoch_into_any_slot(self, case: Case) -> None:
        trainer = PopulationTrainer(case.config, case.splits, n_slots=7)
        results = []
        for slot, trial in zip((3, 0, 6, 1, 5, 2, 4), (TRIALS + DIVERGING)[::-1], strict=False):
            trainer.load(slot, trial)
            trainer.train_epoch()
        while trainer.train_epoch():
            pass
        results = [trainer.unload(slot) for slot in (4, 0, 2, 6, 1, 3, 5)]
        for result in results:
            assert_identical(result, alone(case, result.hyperparameters))

    @settings(max_examples=50)
    @given(
        case=st.sampled_from(CASES),
        n_slots=st.sampled_from([1, 2, 3, 5, 16]),
        schedule=st.lists(
            st.tuples(
                st.sampled_from(["load", "load", "train", "train", "unload"]), st.integers(0, 210)
            ),
            min_size=4,
            max_size=40,
        ),
    )
    def test_same_bits_under_any_schedule(
        self, case: Case, n_slots: int, schedule: list[tuple[str, int]]
    ) -> None:
        trials = TRIALS + DIVERGING
        trainer = PopulationTrainer(case.config, case.splits, n_slots=n_slots)
        loaded: dict[int, int] = {}

        def unload(slot: int) -> None:
            result = trainer.unload(slot)
            assert len(result.history) == loaded.pop(slot)
            assert_identical(result, alone(case, result.hyperparameters, len(result.history)))

        for action, number in schedule:
            free = trainer.free_slots
            if action == "load" and free:
                slot = free[number % len(free)]
                trainer.load(slot, trials[number % len(trials)])
                loaded[slot] = 0
            elif action == "unload" and loaded:
                unload(sorted(loaded)[number % len(loaded)])
            elif action == "train":
                for slot in trainer.train_epoch():
                    loaded[slot] += 1
        for slot in sorted(loaded):
            unload(slot)

    @pytest.mark.parametrize(
        ("task", "l1"), list(zip(Task, ("proximal", "subgradient", "proximal"), strict=True))
    )
    def test_same_bits_with_any_number_of_threads(self, task: Task, l1: str) -> None:
        # Large enough for torch to share its work out among threads, and an odd number of slots.
        splits = tiny_splits(task)
        repeated = {
            name: np.tile(getattr(splits, name), (41, 1)[: getattr(splits, name).ndim])
            for name in ("x_train", "y_train", "x_val", "y_val")
        }
        splits = replace(splits, **repeated)
        config = tiny_config(
            {
                "model.hidden": [37, 53],
                "model.l1": l1,
                "training.batch_size": 127,
                "training.max_epochs": 2,
            }
        )
        trials = [replace(trial, patience="off") for trial in TRIALS + TRIALS[1:]]
        before, results = torch.get_num_threads(), []
        try:
            for n_threads in (1, 2, 3):
                torch.set_num_threads(n_threads)
                results.append(train_all(config, splits, trials, len(trials)))
        finally:
            torch.set_num_threads(before)
        for other in results[1:]:
            for one, same in zip(results[0], other, strict=True):
                assert_identical(one, same)

    def test_one_hyperparameter_apart_two_trials_share_all_randomness(self) -> None:
        # Dropout at a rate too small to drop anything is the network without it.
        trials = [Hyperparameters(), Hyperparameters(dropout=1e-12)]
        without, with_dropout = train_all(tiny_config(), tiny_splits(), trials, 2)
        assert without.history == with_dropout.history


class TestSlots:
    @pytest.mark.parametrize("first", TRIALS + DIVERGING, ids=str)
    def test_a_refilled_slot_equals_a_fresh_one(self, first: Hyperparameters) -> None:
        case = CASES[8]
        trainer = PopulationTrainer(case.config, case.splits, n_slots=2)
        for second in (TRIALS[0], TRIALS[6]):
            trainer.load(1, first)
            for _ in range(3):
                trainer.train_epoch()
            trainer.unload(1)
            trainer.load(1, second)
            while trainer.train_epoch():
                pass
            assert_identical(trainer.unload(1), alone(case, second))

    def test_a_stopped_slot_never_changes_again(self) -> None:
        case = CASES[8]
        stopping = next(t for t in TRIALS if len(alone(case, t).history) < 5)
        trainer = PopulationTrainer(case.config, case.splits, n_slots=3)
        trainer.load(1, stopping)
        while trainer.train_epoch():
            pass
        for trial in TRIALS:
            trainer.load(0, trial)
            trainer.load(2, trial)
            while trainer.train_epoch():
                pass
            trainer.unload(0)
            trainer.unload(2)
        assert_identical(trainer.unload(1), alone(case, stopping))

    def test_a_result_never_changes_after_unloading(self) -> None:
        case = CASES[0]
        trainer = PopulationTrainer(case.config, case.splits, n_slots=1)
        trainer.load(0, TRIALS[0])
        trainer.train_epoch()
        result = trainer.unload(0)
        weights = {name: array.copy() for name, array in result.weights.items()}
        trainer.load(0, TRIALS[1])
        trainer.train_epoch()
        for name, array in weights.items():
            assert np.array_equal(result.weights[name], array)

    def test_a_stopped_slot_is_not_free_until_unloaded(self) -> None:
        config = tiny_config({"training.max_epochs": 1})
        trainer = PopulationTrainer(config, tiny_splits(), n_slots=2)
        trainer.load(0, TRIALS[0])
        assert trainer.train_epoch()[0].stop_reason is StopReason.MAX_EPOCHS
        assert trainer.train_epoch() == {}
        assert trainer.free_slots == [1]
        trainer.unload(0)
        assert trainer.free_slots == [0, 1]

    def test_the_trainers_own_reason_wins_over_the_callers(self) -> None:
        config = tiny_config({"training.max_epochs": 1})
        trainer = PopulationTrainer(config, tiny_splits(), n_slots=1)
        trainer.load(0, TRIALS[0])
        trainer.train_epoch()
        assert trainer.unload(0, StopReason.PRUNED).stop_reason is StopReason.MAX_EPOCHS

    @pytest.mark.parametrize("reason", [StopReason.PRUNED, StopReason.ERROR])
    def test_a_running_slot_can_be_unloaded_with_a_reason(self, reason: StopReason) -> None:
        trainer = PopulationTrainer(tiny_config(), tiny_splits(), n_slots=1)
        trainer.load(0, TRIALS[7])
        trainer.train_epoch()
        result = trainer.unload(0, reason)
        assert result.stop_reason is reason
        assert len(result.history) == 1

    def test_a_trial_pruned_before_its_first_epoch_has_its_initial_weights(self) -> None:
        result = alone(CASES[0], TRIALS[0], 0)
        assert result.kept_epoch == len(result.history) == 0
        assert np.isnan(result.val_loss)
        network = reference.build_network(CASES[0].config.model, 7, 1)
        network.load_state_dict({k: torch.from_numpy(v) for k, v in result.weights.items()})

    @pytest.mark.parametrize("slot", [-1, 2, 97])
    def test_a_slot_that_does_not_exist_is_refused(self, slot: int) -> None:
        trainer = PopulationTrainer(tiny_config(), tiny_splits(), n_slots=2)
        with pytest.raises(ValueError, match=f"free slot, however: {slot}"):
            trainer.load(slot, TRIALS[0])
        with pytest.raises(ValueError, match=f"loaded slot can be unloaded, however: {slot}"):
            trainer.unload(slot)

    @pytest.mark.parametrize("n_slots", [0, -1])
    def test_a_population_has_at_least_one_slot(self, n_slots: int) -> None:
        with pytest.raises(ValueError, match=f"population must be at least 1, however: {n_slots}"):
            PopulationTrainer(tiny_config(), tiny_splits(), n_slots=n_slots)

    def test_the_study_says_how_many_slots(self) -> None:
        assert PopulationTrainer(tiny_config(), tiny_splits()).n_slots == 3


class TestKeptWeights:
    @on_every_case
    def test_are_those_of_a_trial_trained_for_exactly_the_best_epoch(self, case: Case) -> None:
        config = case.config.model_copy(
            update={"training": case.config.training.model_copy(update={"max_epochs": 30})}
        )
        trials = [replace(t, patience=2, learning_rate=0.11) for t in TRIALS[:7]]
        stopped_early = 0
        for result in train_all(config, case.splits, trials, 5):
            assert result.kept_epoch == 1 + int(result.history.val_loss.argmin())
            assert result.val_loss == result.history.val_loss.min()
            if result.stop_reason is StopReason.EARLY_STOPPING:
                stopped_early += 1
                assert len(result.history) == result.kept_epoch + 2
            shorter = config.model_copy(
                update={
                    "training": config.training.model_copy(update={"max_epochs": result.kept_epoch})
                }
            )
            trial = replace(result.hyperparameters, patience="off")
            (exact,) = train_all(shorter, case.splits, [trial], 1)
            assert_same_weights(result, exact)
            n_kept = result.kept_epoch
            assert np.array_equal(result.history.val_loss[:n_kept], exact.history.val_loss)
        assert stopped_early

    def test_are_the_last_ones_without_patience(self) -> None:
        result = alone(CASES[0], replace(TRIALS[7], patience="off"))
        assert result.stop_reason is StopReason.MAX_EPOCHS
        assert result.kept_epoch == len(result.history) == 5

    def test_are_the_best_ones_also_at_the_last_epoch_and_when_pruned(self) -> None:
        trial = Hyperparameters(patience=30, learning_rate=0.3)
        for case in CASES:
            for result in (alone(case, trial), alone(case, trial, 4)):
                assert result.kept_epoch == 1 + int(result.history.val_loss.argmin())

    @on_every_case
    def test_of_a_diverged_trial_are_never_nan(self, case: Case) -> None:
        for patience in ("off", 3):
            trial = Hyperparameters(learning_rate=1e30, patience=patience)
            result = alone(case, trial)
            finite = np.isfinite(result.history.val_loss) & np.isfinite(result.history.train_loss)
            assert all(np.isfinite(array).all() for array in result.weights.values())
            if result.stop_reason is StopReason.DIVERGED:
                assert finite.tolist() == [True] * (len(result.history) - 1) + [False]
                assert result.kept_epoch < len(result.history)
            else:
                assert finite.all()
            if case in (CASES[0], CASES[4], CASES[8]):
                assert result.stop_reason is StopReason.DIVERGED

    def test_min_delta_must_be_exceeded(self) -> None:
        config = tiny_config({"training.min_delta": 1e9, "training.max_epochs": 9})
        (result,) = train_all(config, tiny_splits(), [Hyperparameters(patience=3)], 1)
        assert result.stop_reason is StopReason.EARLY_STOPPING
        assert (result.kept_epoch, len(result.history)) == (1, 4)


class TestCurvesAreMeasuredAlike:
    @on_every_case
    def test_in_evaluation_mode_over_whole_splits_without_the_penalty(self, case: Case) -> None:
        trial = Hyperparameters(Regularization.ELASTIC_NET, 0.1, l1_ratio=0.5, dropout=0.5)
        chosen = (
            chosen_score(case.config.data, case.splits),
            reference.class_weights(case.config, case.splits, torch.float32),
        )
        for epochs in (1, 3):
            result = alone(case, trial, epochs)
            network = reference.build_network(
                case.config.model, case.splits.n_features, case.splits.n_outputs
            )
            network.load_state_dict({k: torch.from_numpy(v) for k, v in result.weights.items()})
            network.eval()
            for part in ("train", "val"):
                x = torch.from_numpy(getattr(case.splits, f"x_{part}"))
                y = torch.from_numpy(getattr(case.splits, f"y_{part}"))
                with torch.no_grad():
                    loss, score = reference.measure(case.task, network(x), y, *chosen)
                assert getattr(result.history, f"{part}_loss")[-1] == pytest.approx(loss, rel=1e-5)
                assert getattr(result.history, f"{part}_score")[-1] == pytest.approx(
                    score, rel=1e-5, abs=1e-6
                )


class TestScores:
    @pytest.mark.parametrize("task", list(Task))
    def test_chosen_is_the_curve_and_all_are_of_the_kept_weights(self, task: Task) -> None:
        splits, scale = tiny_splits(task), 1.0 if task is not Task.REGRESSION else 7.3
        target = replace(splits.preprocessing.target, scale=scale)
        splits = replace(splits, preprocessing=replace(splits.preprocessing, target=target))
        for name in scores_of(task):
            config = tiny_config({"data.score": name})
            results = train_all(config, splits, TRIALS[5:8], 3, torch.float64)
            assert any(result.kept_epoch < len(result.history) for result in results)
            for result in results:
                assert list(result.scores) == list(scores_of(task))
                assert result.scores[name] == pytest.approx(result.val_score, rel=1e-12)
                expected = reference.train(
                    config, splits, result.hyperparameters, dtype=torch.float64
                )
                assert_close(result, expected, tolerance=1e-10)

    def test_chosen_is_a_matter_of_the_curve_alone(self) -> None:
        first, second = (
            train_all(tiny_config({"data.score": name}), tiny_splits(), TRIALS[:1], 1)[0]
            for name in ("accuracy", "log_loss")
        )
        assert_same_weights(first, second)
        assert first.scores == second.scores
        assert np.array_equal(second.history.val_score, second.history.val_loss)

    def test_of_a_trial_without_a_kept_epoch_are_absent(self) -> None:
        assert alone(CASES[0], TRIALS[0], 0).scores == {}
        never = Hyperparameters(learning_rate=1e30, patience="off")
        assert alone(CASES[8], never).scores == {}

    def test_of_very_many_classes_are_all_but_the_slow_one(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("pipeline.scores.MOST_RANKED", 2)
        (result,) = train_all(tiny_config(), tiny_splits(Task.MULTICLASS), TRIALS[:1], 1)
        assert list(result.scores) == ["accuracy", "balanced_accuracy", "log_loss"]

    def test_the_log_loss_of_a_weighted_trial_is_not_weighted(self) -> None:
        result = alone(CASES[2], TRIALS[0])
        assert result.scores["log_loss"] != pytest.approx(result.val_loss, rel=1e-3)

    @pytest.mark.parametrize(
        ("task", "key", "value", "rule"),
        [
            (
                Task.REGRESSION,
                "training.class_weight",
                "balanced",
                'class_weight must be "none" for regression',
            ),
            (
                Task.REGRESSION,
                "data.score",
                "accuracy",
                "the score of a quantity must be one of r2, rmse, mae",
            ),
            (
                Task.BINARY,
                "data.score",
                "r2",
                "the score of classes must be one of accuracy, balanced_accuracy, roc_auc",
            ),
        ],
    )
    def test_that_the_task_does_not_have_are_refused(
        self, task: Task, key: str, value: str, rule: str
    ) -> None:
        with pytest.raises(ConfigError) as error:
            PopulationTrainer(tiny_config({key: value}), tiny_splits(task))
        assert str(error.value).startswith(rule)
        assert f"however: {value!r} (" in str(error.value)
        assert str(error.value).endswith(f"{key})")

    def test_a_curve_of_roc_auc_needs_every_class_in_both_splits(self) -> None:
        splits = tiny_splits(Task.MULTICLASS)
        few = replace(splits, y_val=np.minimum(splits.y_val, 1))
        with pytest.raises(ConfigError, match="all 3 classes, however: 2 among the validation"):
            PopulationTrainer(tiny_config({"data.score": "roc_auc"}), few)
        (result,) = train_all(tiny_config(), few, TRIALS[:1], 1)
        assert np.isnan(result.scores["roc_auc"])
        assert np.isfinite(result.scores["balanced_accuracy"])


class TestClassWeights:
    def test_balance_what_classes_count_for(self) -> None:
        # One class in twelve: without weights, the likeliest guess is the other one.
        draw = np.random.default_rng(5)
        splits = tiny_splits()
        features = draw.normal(size=(N_TRAIN + 17, 7)).astype(np.float32)
        target = (np.arange(len(features)) % 12 == 0).astype(np.float32)
        rare = replace(
            splits, x_train=features[:N_TRAIN], y_train=target[:N_TRAIN],
            x_val=features[N_TRAIN:], y_val=target[N_TRAIN:],
        )  # fmt: skip
        trial = Hyperparameters(Regularization.L2, 10.0, patience="off", learning_rate=0.02)
        for how, share in (("none", target[:N_TRAIN].mean()), ("balanced", 0.5)):
            config = tiny_config(
                {
                    "training.class_weight": how,
                    "training.batch_size": N_TRAIN,
                    "training.max_epochs": 400,
                    "model.hidden": [],
                }
            )
            (result,) = train_all(config, rare, [trial], 1)
            bias = result.weights["0.bias"][0]
            assert 1 / (1 + np.exp(-bias)) == pytest.approx(share, abs=0.03)
            assert result.train_loss == pytest.approx(
                -share * np.log(share) - (1 - share) * np.log(1 - share), abs=0.01
            )


class TestRegularization:
    @on_every_case
    @pytest.mark.parametrize("regularization", list(Regularization))
    def test_with_lambda_0_is_none(self, case: Case, regularization: Regularization) -> None:
        ratio = 0.37 if regularization is Regularization.ELASTIC_NET else None
        for trial in (TRIALS[0], TRIALS[5], TRIALS[7]):
            zero = replace(trial, regularization=regularization, lambda_=0.0, l1_ratio=ratio)
            # Beside one that is penalized, so that the penalty's arithmetic takes place.
            result, *_ = train_all(case.config, case.splits, [zero, *TRIALS[1:5]], 5)
            expected = alone(case, trial)
            assert result.history == expected.history
            assert_same_weights(result, expected)

    @pytest.mark.parametrize("l1", ["subgradient", "proximal"])
    @pytest.mark.parametrize(("ratio", "same"), [(1.0, "l1"), (0.0, "l2")])
    def test_elastic_net_at_its_ends_is_l1_or_l2(self, ratio: float, same: str, l1: str) -> None:
        mixed = Hyperparameters(Regularization.ELASTIC_NET, 0.013, l1_ratio=ratio)
        pure = Hyperparameters(Regularization(same), 0.013)
        config = tiny_config({"model.l1": l1})
        first, second = train_all(config, tiny_splits(), [mixed, pure], 2)
        assert first.history == second.history

    @pytest.mark.parametrize(("l1", "rid"), [("subgradient", False), ("proximal", True)])
    def test_an_input_that_is_always_zero_loses_its_weights_to_proximal_l1(
        self, l1: str, rid: bool
    ) -> None:
        splits = tiny_splits()
        x_train = splits.x_train.copy()
        x_train[:, 4] = 0
        config = tiny_config({"model.l1": l1, "model.activation": "tanh"})
        trials = [Hyperparameters(Regularization.L1, 1e-6), Hyperparameters()]
        weak, without = train_all(config, replace(splits, x_train=x_train), trials, 2)
        first_layer = weak.weights["0.weight"]
        assert (first_layer[:, 4] == 0).all() == rid
        assert (np.delete(first_layer, 4, axis=1) != 0).all()
        assert without.sparsity == 0

    @pytest.mark.parametrize("penalized", ["all", [0], [2], []], ids=str)
    def test_weight_decay_is_adamw_on_the_kernels_alone(self, penalized: str | list[int]) -> None:
        config = tiny_config({"model.penalized_layers": penalized, "model.activation": "tanh"})
        splits = tiny_splits(Task.REGRESSION)
        trials = [
            Hyperparameters(Regularization.WEIGHT_DECAY, strength, learning_rate=rate)
            for strength, rate in ((0.5, 0.01), (3.0, 0.01), (1.0, 0.07))
        ]
        for result in train_all(config, splits, trials, 3, torch.float64):
            expected = adamw(config, splits, result.hyperparameters)
            for name, array in result.weights.items():
                np.testing.assert_allclose(array, expected[name], rtol=1e-10, atol=1e-12)


def adamw(config: StudyConfig, splits: Splits, trial: Hyperparameters) -> dict[str, np.ndarray]:
    """The plain loop with torch's own AdamW and parameter groups."""
    start = alone_initial(config, splits)
    network = reference.build_network(config.model, splits.n_features, splits.n_outputs).double()
    network.load_state_dict(start)
    linears = [module for module in network if isinstance(module, nn.Linear)]
    decayed = [
        linear.weight
        for linear, chosen in zip(linears, config.model.penalized, strict=True)
        if chosen
    ]
    others = [p for p in network.parameters() if all(p is not kernel for kernel in decayed)]
    groups = [
        {"params": params, "weight_decay": decay}
        for params, decay in ((decayed, trial.lambda_), (others, 0.0))
        if params
    ]
    optimizer = torch.optim.AdamW(groups, lr=trial.learning_rate)
    x, y = torch.from_numpy(splits.x_train).double(), torch.from_numpy(splits.y_train).double()
    for epoch in range(1, config.training.max_epochs + 1):
        order = row_order(config.seed, splits.replicate, epoch, len(x))
        for rows in order.split(config.training.batch_size):
            optimizer.zero_grad()
            nn.functional.mse_loss(network(x[rows]).squeeze(1), y[rows]).backward()
            optimizer.step()
    return {name: tensor.numpy() for name, tensor in network.state_dict().items()}


def alone_initial(config: StudyConfig, splits: Splits) -> dict[str, torch.Tensor]:
    trainer = PopulationTrainer(config, splits, n_slots=1, dtype=torch.float64)
    trainer.load(0, Hyperparameters())
    return {name: torch.from_numpy(array) for name, array in trainer.unload(0).weights.items()}


class TestLinearModels:
    """Without a hidden layer the minimum is known: scikit-learn has it."""

    trials = tuple(
        Hyperparameters(regularization, strength, ratio)
        for regularization, ratio in (("l1", None), ("l2", None), ("elastic_net", 0.6))
        for strength in (0.03, 0.3)
    )

    def oracle(self, trial: Hyperparameters) -> Ridge | Lasso | ElasticNet:
        # Ridge sums the squares that we average; Lasso and ElasticNet halve their mean.
        strength, options = trial.lambda_, {"tol": 1e-12, "max_iter": 100_000}
        if trial.regularization is Regularization.L2:
            return Ridge(alpha=strength * N_TRAIN)
        if trial.regularization is Regularization.L1:
            return Lasso(alpha=strength / 2, **options)
        l1, l2 = strength * trial.l1_ratio / 2, strength * (1 - trial.l1_ratio)
        return ElasticNet(alpha=l1 + l2, l1_ratio=l1 / (l1 + l2), **options)

    def check(self, l1: str, atol: float) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """The kernels of trials and oracles, after their coefficients were compared."""
        config = tiny_config(
            {
                "model.hidden": [],
                "model.l1": l1,
                "training.batch_size": N_TRAIN,
                "training.max_epochs": 1200,
            }
        )
        splits = tiny_splits(Task.REGRESSION)
        x, y = splits.x_train.astype(np.float64), splits.y_train.astype(np.float64)
        kernels, oracles = [], []
        for result in train_all(config, splits, self.trials, 6, torch.float64):
            oracle = self.oracle(result.hyperparameters).fit(x, y)
            kernel, bias = result.weights["0.weight"][0], result.weights["0.bias"][0]
            np.testing.assert_allclose(kernel, oracle.coef_, atol=atol, err_msg=str(oracle))
            assert bias == pytest.approx(oracle.intercept_, abs=atol)
            kernels.append(kernel)
            oracles.append(oracle.coef_)
        return kernels, oracles

    def test_reach_the_minimum_that_scikit_learn_finds_and_its_support(self) -> None:
        kernels, oracles = self.check("proximal", atol=1e-8)
        for kernel, expected in zip(kernels, oracles, strict=True):
            assert np.array_equal(kernel == 0, expected == 0)
        assert len({int((expected == 0).sum()) for expected in oracles}) == 4

    def test_hover_about_its_zeros_on_slopes(self) -> None:
        # At a distance of about the learning rate, for ever.
        kernels, _ = self.check("subgradient", atol=1e-2)
        assert all((kernel != 0).all() for kernel in kernels)

    def test_find_lassos_support_in_small_batches_whose_noise_the_penalty_outweighs(self) -> None:
        draw = np.random.default_rng(6)
        x = draw.normal(size=(61, 17)).astype(np.float32)
        y = x[:, :5] @ np.array([1, -0.8, 0.6, -0.5, 0.4]) + draw.normal(size=61) / 10
        y = (y / y.std()).astype(np.float32)
        splits = replace(tiny_splits(Task.REGRESSION), x_train=x, y_train=y, x_val=x, y_val=y)
        config = tiny_config(
            {
                "model.hidden": [],
                "model.l1": "proximal",
                "training.batch_size": 16,
                "training.max_epochs": 300,
            }
        )
        trials = [Hyperparameters(Regularization.L1, strength) for strength in (0.1, 0.6)]
        n_zeros = set()
        for result in train_all(config, splits, trials, 3):
            kernel = result.weights["0.weight"][0]
            expected = self.oracle(result.hyperparameters).fit(x.astype(float), y).coef_
            np.testing.assert_allclose(kernel, expected, atol=1e-2)
            assert np.array_equal(kernel == 0, expected == 0)
            n_zeros.add(int((kernel == 0).sum()))
        assert n_zeros == {12, 14}


class SlotMachine(RuleBasedStateMachine):
    """One trial a slot: what may be done to slots, and what must hold after anything was."""

    @initialize(n_slots=st.integers(1, 4), case=st.sampled_from(CASES))
    def start(self, n_slots: int, case: Case) -> None:
        self.case = case
        self.trainer = PopulationTrainer(case.config, case.splits, n_slots=n_slots)
        self.trials: dict[int, Hyperparameters] = {}
        self.epochs: dict[int, int] = {}
        self.stopped: dict[int, StopReason] = {}

    @precondition(lambda self: self.trainer.free_slots)
    @rule(data=st.data(), trial=st.sampled_from(TRIALS + DIVERGING))
    def load(self, data: st.DataObject, trial: Hyperparameters) -> None:
        slot = data.draw(st.sampled_from(self.trainer.free_slots))
        self.trainer.load(slot, trial)
        self.trials[slot], self.epochs[slot] = trial, 0

    @precondition(lambda self: self.trials)
    @rule(data=st.data(), trial=st.sampled_from(TRIALS))
    def load_into_a_busy_slot_is_refused(self, data: st.DataObject, trial: Hyperparameters) -> None:
        slot = data.draw(st.sampled_from(sorted(self.trials)))
        with pytest.raises(ValueError, match="free slot, however:"):
            self.trainer.load(slot, trial)

    @precondition(lambda self: self.trainer.free_slots)
    @rule(data=st.data())
    def unload_of_an_empty_slot_is_refused(self, data: st.DataObject) -> None:
        slot = data.draw(st.sampled_from(self.trainer.free_slots))
        with pytest.raises(ValueError, match="loaded slot can be unloaded, however:"):
            self.trainer.unload(slot)

    @rule()
    def train(self) -> None:
        points = self.trainer.train_epoch()
        assert points.keys() == self.trials.keys() - self.stopped.keys()
        for slot, point in points.items():
            self.epochs[slot] += 1
            assert point.epoch == self.epochs[slot]
            if point.stop_reason is not None:
                self.stopped[slot] = point.stop_reason

    @precondition(lambda self: self.trials)
    @rule(data=st.data())
    def unload(self, data: st.DataObject) -> None:
        slot = data.draw(st.sampled_from(sorted(self.trials)))
        result = self.trainer.unload(slot)
        assert result.hyperparameters == self.trials.pop(slot)
        assert len(result.history) == self.epochs.pop(slot)
        assert result.stop_reason == self.stopped.pop(slot, StopReason.PRUNED)
        assert_identical(result, alone(self.case, result.hyperparameters, len(result.history)))

    @invariant()
    def a_slot_is_free_exactly_when_it_holds_no_trial(self) -> None:
        if hasattr(self, "trainer"):
            expected = [slot for slot in range(self.trainer.n_slots) if slot not in self.trials]
            assert self.trainer.free_slots == expected


TestSlotMachine = SlotMachine.TestCase
TestSlotMachine.settings = settings(max_examples=25, stateful_step_count=25)
