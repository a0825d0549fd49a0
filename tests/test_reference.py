"""The plain loop is the specification: what it does is read off here, with nothing stacked."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from pipeline import reference
from pipeline.config import ModelConfig
from pipeline.data import Task
from pipeline.population.noise import initial_parameters
from pipeline.results import StopReason, TrialResult
from pipeline.space import Hyperparameters, Regularization
from tests.builders import (
    DIVERGING,
    N_CLASSES,
    N_FEATURES,
    TRIALS,
    assert_identical,
    assert_same_weights,
    tiny_config,
    tiny_splits,
)


def network_of(result: TrialResult, n_outputs: int = 1) -> nn.Sequential:
    network = reference.build_network(tiny_config().model, N_FEATURES, n_outputs)
    network.load_state_dict({k: torch.from_numpy(v) for k, v in result.weights.items()})
    return network.eval()


class TestTrain:
    @pytest.mark.parametrize("task", list(Task))
    def test_is_deterministic(self, task: Task) -> None:
        first, second = (
            reference.train(tiny_config(), tiny_splits(task), TRIALS[6]) for _ in range(2)
        )
        assert_identical(first, second)

    def test_learns(self) -> None:
        config = tiny_config({"training.max_epochs": 40})
        for task in Task:
            history = reference.train(config, tiny_splits(task), Hyperparameters()).history
            assert history.train_loss[-1] < 0.5 * history.train_loss[0]

    @pytest.mark.parametrize("trial", [TRIALS[7], TRIALS[8]], ids=str)
    def test_for_exactly_the_best_epoch_gives_the_weights_that_were_kept(
        self, trial: Hyperparameters
    ) -> None:
        config = tiny_config({"training.max_epochs": 60})
        for task in Task:
            splits = tiny_splits(task)
            stopped = reference.train(config, splits, trial)
            assert stopped.stop_reason is StopReason.EARLY_STOPPING
            assert len(stopped.history) == stopped.kept_epoch + int(trial.patience)
            assert stopped.kept_epoch == 1 + int(stopped.history.val_loss.argmin())
            exact = reference.train(config, splits, trial, epochs=stopped.kept_epoch)
            assert exact.kept_epoch == len(exact.history) == stopped.kept_epoch
            assert_same_weights(stopped, exact)

    def test_keeps_the_last_weights_without_patience(self) -> None:
        trial = replace(TRIALS[7], patience="off")
        result = reference.train(tiny_config(), tiny_splits(), trial)
        assert result.stop_reason is StopReason.MAX_EPOCHS
        assert result.kept_epoch == len(result.history) == 5

    def test_measures_whole_splits_in_evaluation_mode_without_the_penalty(self) -> None:
        trial = Hyperparameters(Regularization.ELASTIC_NET, 0.3, l1_ratio=0.5, dropout=0.5)
        for task in Task:
            splits = tiny_splits(task)
            result = reference.train(tiny_config(), splits, trial)
            network = network_of(result, splits.n_outputs)
            with torch.no_grad():
                for part in ("train", "val"):
                    x = torch.from_numpy(getattr(splits, f"x_{part}"))
                    y = torch.from_numpy(getattr(splits, f"y_{part}"))
                    loss, score = reference.measure(task, network(x), y)
                    assert getattr(result.history, f"{part}_loss")[-1] == loss
                    assert getattr(result.history, f"{part}_score")[-1] == score

    @pytest.mark.parametrize("patience", ["off", 3])
    def test_keeps_no_weights_of_an_epoch_that_diverged(self, patience: int | str) -> None:
        trial = replace(DIVERGING[1], patience=patience)
        result = reference.train(tiny_config(), tiny_splits(Task.REGRESSION), trial)
        assert result.stop_reason is StopReason.DIVERGED
        assert not np.isfinite(result.history.val_loss[-1])
        assert all(np.isfinite(array).all() for array in result.weights.values())

    def test_without_a_finite_epoch_keeps_epoch_0(self) -> None:
        trial = Hyperparameters(learning_rate=1e30)
        result = reference.train(tiny_config(), tiny_splits(Task.REGRESSION), trial)
        assert (result.kept_epoch, len(result.history)) == (0, 1)

    def test_takes_the_trials_learning_rate_over_the_studys(self) -> None:
        splits = tiny_splits()
        own = reference.train(tiny_config(), splits, Hyperparameters(learning_rate=0.07))
        study = reference.train(
            tiny_config({"training.learning_rate": 0.07}), splits, Hyperparameters()
        )
        assert own.history == study.history
        assert own.history != reference.train(tiny_config(), splits, Hyperparameters()).history

    @pytest.mark.parametrize("key", ["seed", "replicate"])
    def test_differs_by_seed_and_by_replicate(self, key: str) -> None:
        config = tiny_config({"seed": 4}) if key == "seed" else tiny_config()
        splits = tiny_splits()
        if key == "replicate":
            splits = replace(splits, replicate=1)
        first = reference.train(tiny_config(), tiny_splits(), TRIALS[0])
        assert first.history != reference.train(config, splits, TRIALS[0]).history

    def test_weakens_with_penalty_what_it_weighs(self) -> None:
        config = tiny_config({"training.max_epochs": 60})
        plain = reference.train(config, tiny_splits(), Hyperparameters()).weight_norm
        for regularization in ("l1", "l2", "weight_decay"):
            trial = Hyperparameters(Regularization(regularization), 0.05)
            assert reference.train(config, tiny_splits(), trial).weight_norm < plain

    @pytest.mark.parametrize(("l1", "zeros"), [("subgradient", False), ("proximal", True)])
    def test_has_exact_zeros_of_proximal_l1_alone(self, l1: str, zeros: bool) -> None:
        config = tiny_config({"model.l1": l1, "model.penalized_layers": [0, 1]})
        for trial in TRIALS:
            result = reference.train(config, tiny_splits(Task.REGRESSION), trial)
            thresholded = zeros and trial.regularization in ("l1", "elastic_net")
            assert (result.sparsity > 0) == thresholded
            assert (result.weights["6.weight"] != 0).all()
            assert (result.weights["0.bias"] != 0).all()

    def test_with_proximal_l1_is_adams_step_and_then_a_threshold(self) -> None:
        """Three steps of a linear model, written out."""
        splits = tiny_splits(Task.REGRESSION)
        config = tiny_config(
            {
                "model.hidden": [],
                "model.l1": "proximal",
                "training.batch_size": 97,
                "training.max_epochs": 3,
            }
        )
        trial = Hyperparameters(Regularization.ELASTIC_NET, 0.4, l1_ratio=0.75)
        result = reference.train(config, splits, trial, dtype=torch.float64)
        ((kernel, bias),) = initial_parameters(config.seed, 0, (N_FEATURES, 1))
        x = np.column_stack([splits.x_train, np.ones(len(splits.x_train))]).astype(float)
        w = np.append(kernel, bias).astype(float)
        is_kernel = np.arange(N_FEATURES + 1) < N_FEATURES
        first, second = np.zeros_like(w), np.zeros_like(w)
        for step in range(1, 4):
            slope = 2 * x.T @ (x @ w - splits.y_train) / len(x) + is_kernel * 2 * 0.1 * w
            first = 0.9 * first + 0.1 * slope
            second = 0.999 * second + 0.001 * slope**2
            scaling = np.sqrt(second / (1 - 0.999**step)) + 1e-8
            w -= 0.01 * first / (1 - 0.9**step) / scaling
            threshold = is_kernel * 0.01 * 0.3 / scaling
            w = np.where(np.abs(w) <= threshold, 0.0, w - np.sign(w) * threshold)
        np.testing.assert_allclose(result.weights["0.weight"][0], w[:-1], rtol=1e-12)
        np.testing.assert_allclose(result.weights["0.bias"], w[-1:], rtol=1e-12)


class TestPenalty:
    KERNELS = (
        torch.tensor([[1.0, -2.0]], dtype=torch.float64),
        torch.tensor([[3.0]], dtype=torch.float64),
    )

    @pytest.mark.parametrize(
        ("trial", "expected"),
        [
            (Hyperparameters(), 0.0),
            (Hyperparameters(Regularization.L1, 0.5), 0.5 * 6),
            (Hyperparameters(Regularization.L2, 0.5), 0.5 * 14),
            (
                Hyperparameters(Regularization.ELASTIC_NET, 0.5, l1_ratio=0.25),
                0.5 * (0.25 * 6 + 0.75 * 14),
            ),
            (Hyperparameters(Regularization.WEIGHT_DECAY, 0.5), 0.0),
        ],
        ids=str,
    )
    def test_is_the_definition_without_one_half_or_division(
        self, trial: Hyperparameters, expected: float
    ) -> None:
        assert float(reference.penalty(trial, list(self.KERNELS))) == pytest.approx(expected)

    def test_of_proximal_l1_is_the_l2_part(self) -> None:
        trial = Hyperparameters(Regularization.ELASTIC_NET, 0.5, l1_ratio=0.25)
        found = reference.penalty(trial, list(self.KERNELS), "proximal")
        assert float(found) == pytest.approx(0.5 * 0.75 * 14)

    def test_of_no_kernels_is_zero(self) -> None:
        assert float(reference.penalty(TRIALS[1], [])) == 0


class TestKeyedDropout:
    def test_keeps_where_noise_reaches_the_rate_and_rescales(self) -> None:
        dropout = reference.KeyedDropout(0.5)
        dropout.noise = torch.tensor([[0.0, 0.49, 0.5, 0.99]])
        assert dropout(torch.ones(1, 4)).tolist() == [[0.0, 0.0, 2.0, 2.0]]

    def test_is_the_identity_in_evaluation_mode(self) -> None:
        dropout = reference.KeyedDropout(0.5).eval()
        dropout.noise = torch.zeros(1, 4)
        assert dropout(torch.ones(1, 4)).tolist() == [[1.0] * 4]

    def test_of_rate_0_is_the_identity(self) -> None:
        dropout = reference.KeyedDropout(0.0)
        dropout.noise = torch.zeros(1, 4)
        assert dropout(torch.ones(1, 4)).tolist() == [[1.0] * 4]


class TestNetwork:
    @pytest.mark.parametrize(
        ("model", "names"),
        [
            (ModelConfig(hidden=()), ["0.weight", "0.bias"]),
            (
                ModelConfig(hidden=(11, 13), dropout_layers=(1,)),
                ["0.weight", "0.bias", "3.weight", "3.bias", "6.weight", "6.bias"],
            ),
        ],
    )
    def test_names_its_parameters_by_place(self, model: ModelConfig, names: list[str]) -> None:
        network = reference.build_network(model, N_FEATURES, N_CLASSES, 0.5)
        assert list(network.state_dict()) == names

    def test_puts_dropout_after_the_chosen_activations(self) -> None:
        model = ModelConfig(hidden=(11, 13), activation="tanh", dropout_layers=(1,))
        kinds = [type(module) for module in reference.build_network(model, 7, 1, 0.5)]
        assert kinds == [
            nn.Linear,
            nn.Tanh,
            nn.Identity,
            nn.Linear,
            nn.Tanh,
            reference.KeyedDropout,
            nn.Linear,
        ]


class TestMeasure:
    def test_of_two_classes_is_cross_entropy_in_nats_and_accuracy(self) -> None:
        logits = torch.tensor([[0.0], [np.log(3.0)], [-np.log(3.0)]], dtype=torch.float64)
        loss, score = reference.measure(Task.BINARY, logits, torch.tensor([0.0, 1.0, 1.0]).double())
        assert loss == pytest.approx((np.log(2) + np.log(4 / 3) + np.log(4)) / 3)
        assert score == pytest.approx(2 / 3)

    def test_of_classes_is_cross_entropy_in_nats_and_accuracy(self) -> None:
        logits = torch.log(torch.tensor([[0.5, 0.25, 0.25], [0.2, 0.2, 0.6]], dtype=torch.float64))
        loss, score = reference.measure(Task.MULTICLASS, logits, torch.tensor([0.0, 1.0]))
        assert loss == pytest.approx((np.log(2) + np.log(5)) / 2)
        assert score == 0.5

    def test_of_a_quantity_is_mean_squared_error_and_r_squared(self) -> None:
        target = torch.tensor([1.0, 2.0, 3.0, 6.0], dtype=torch.float64)
        logits = torch.tensor([[1.0], [3.0], [3.0], [5.0]], dtype=torch.float64)
        loss, score = reference.measure(Task.REGRESSION, logits, target)
        assert loss == pytest.approx(0.5)
        assert score == pytest.approx(1 - 2 / 14)
        constant = torch.full((4, 1), 3.0, dtype=torch.float64)
        assert reference.measure(Task.REGRESSION, constant, target)[1] == pytest.approx(0)
