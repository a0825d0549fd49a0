"""K perceptrons as stacked tensors: each computes what torch's own modules compute."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from torch import Tensor, nn

from pipeline import network, reference
from pipeline.config import ModelConfig
from pipeline.data import Task
from pipeline.population.layers import ACTIVATIONS, DropoutRates, Layout, StackedMLP
from pipeline.population.losses import loss_gradient
from pipeline.population.noise import by_layer

K, B, D, H, G = 3, 5, 7, 11, 13

TASKS = [(Task.BINARY, 1), (Task.MULTICLASS, 2), (Task.MULTICLASS, 3), (Task.REGRESSION, 1)]
on_every_task = pytest.mark.parametrize(("task", "n_outputs"), TASKS)
on_every_activation = pytest.mark.parametrize("activation", list(ACTIVATIONS))


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def targets(task: Task, n_outputs: int, k: int) -> Tensor:
    if task is Task.REGRESSION:
        return normal(k, B, seed=5)
    source = torch.Generator().manual_seed(5)
    return torch.randint(0, max(2, n_outputs), (k, B), generator=source).double()


def unstacked(
    layout: Layout,
    flat: Tensor,
    activation: str,
    dropped: list[bool],
    rate: float,
    noise: list[Tensor],
) -> nn.Sequential:
    """One slot as the module whose state_dict its weights are."""
    model = ModelConfig(
        hidden=layout.sizes[1:-1],
        activation=activation,
        dropout_layers=tuple(layer for layer, drop in enumerate(dropped) if drop),
    )
    network = reference.build_network(model, layout.sizes[0], layout.sizes[-1], rate).double()
    weights = {name: torch.from_numpy(a) for name, a in layout.state_dict(flat).items()}
    network.load_state_dict(weights)
    dropouts = [module for module in network if isinstance(module, reference.KeyedDropout)]
    for module, part in zip(dropouts, noise, strict=True):
        module.noise = part
    return network


class TestGradients:
    @on_every_task
    @on_every_activation
    @pytest.mark.parametrize("hidden", [(), (H,), (H, G), (2, G, 3)], ids=str)
    @pytest.mark.parametrize("shared", [True, False], ids=["same rows", "own rows"])
    def test_equal_autograds(
        self, task: Task, n_outputs: int, activation: str, hidden: tuple[int, ...], shared: bool
    ) -> None:
        target = targets(task, n_outputs, 1 if shared else K)
        self.check(task, activation, (D, *hidden, n_outputs), target)

    @on_every_activation
    @pytest.mark.parametrize("dropped", list(product([False, True], repeat=2)), ids=str)
    def test_equal_autograds_under_dropout(
        self, activation: str, dropped: tuple[bool, bool]
    ) -> None:
        target = targets(Task.BINARY, 1, K)
        self.check(Task.BINARY, activation, (D, H, G, 1), target, dropped, (0.0, 0.3, 0.7))

    def check(
        self,
        task: Task,
        activation: str,
        sizes: tuple[int, ...],
        target: Tensor,
        dropped: tuple[bool, ...] | None = None,
        rates: tuple[float, ...] = (0.0, 0.0, 0.0),
    ) -> None:
        hidden = sizes[1:-1]
        dropping = list(dropped) if dropped is not None else [False] * len(hidden)
        layout = Layout(sizes)
        flat = normal(K, layout.n_parameters)
        own_rows = len(target)
        x = normal(own_rows, B, D, seed=1)
        widths = [size for size, drop in zip(hidden, dropping, strict=True) if drop]
        noise = torch.rand(
            own_rows,
            B * sum(widths),
            generator=torch.Generator().manual_seed(2),
            dtype=torch.float64,
        )
        gradients = torch.full_like(flat, torch.nan)
        network = StackedMLP(layout, activation, dropping, flat, gradients)
        chosen = DropoutRates.of(torch.tensor(rates, dtype=torch.float64)[:, None])
        logits = network.forward(x.expand(K, -1, -1), noise, chosen)
        network.backward(loss_gradient(task, logits, target))
        kernels, biases = network.kernel_gradients, layout.biases(gradients)
        for slot in range(K):
            row = slot if own_rows == K else 0
            own_noise = [part[row] for part in by_layer(noise, B, widths)]
            plain = unstacked(layout, flat[slot], activation, dropping, rates[slot], own_noise)
            output = plain(x[row])
            torch.testing.assert_close(logits[slot], output, rtol=1e-12, atol=1e-12)
            reference.mean_loss(task, output, target[row]).backward()
            linears = [module for module in plain if isinstance(module, nn.Linear)]
            for linear, kernel, bias in zip(linears, kernels, biases, strict=True):
                torch.testing.assert_close(
                    kernel[slot], linear.weight.grad.T, rtol=1e-11, atol=1e-13
                )
                torch.testing.assert_close(bias[slot], linear.bias.grad, rtol=1e-11, atol=1e-13)

    @on_every_task
    def test_of_a_slot_do_not_shrink_with_k(self, task: Task, n_outputs: int) -> None:
        layout = Layout((D, H, n_outputs))
        flat = normal(1, layout.n_parameters)
        x, target = normal(1, B, D, seed=1), targets(task, n_outputs, 1)

        def gradient(k: int) -> Tensor:
            stacked = flat.expand(k, -1).contiguous()
            network = StackedMLP(layout, "tanh", [False], stacked, torch.empty_like(stacked))
            logits = network.forward(x.expand(k, -1, -1))
            network.backward(loss_gradient(task, logits, target))
            return network.kernel_gradients[0]

        for k in (2, 3, 16):
            many = gradient(k)
            assert len(many) == k
            for slot in range(k):
                torch.testing.assert_close(many[slot], gradient(1)[0], rtol=1e-13, atol=1e-15)


class TestActivations:
    MODULES = network.MODULES

    @on_every_activation
    def test_equal_torchs_own(self, activation: str) -> None:
        z = torch.cat([normal(97), torch.tensor([0.0, -0.0, 30.0, -30.0, 800.0, -800.0])])
        expected = self.MODULES[activation]()(z)
        torch.testing.assert_close(
            ACTIVATIONS[activation].forward_(z.clone()), expected, rtol=1e-12, atol=1e-15
        )

    @on_every_activation
    def test_are_in_place(self, activation: str) -> None:
        z = normal(B)
        assert ACTIVATIONS[activation].forward_(z) is z
        gradient = normal(B, seed=1)
        expected = ACTIVATIONS[activation].backward_(gradient.clone(), z)
        ACTIVATIONS[activation].backward_(gradient, z)
        assert torch.equal(gradient, expected)

    @on_every_activation
    def test_give_a_number_the_same_bits_wherever_it_stands(self, activation: str) -> None:
        # Vectorized kernels treat the remainder of a tensor apart: that is where the last slot is.
        for size in range(1, 97):
            z = normal(1, size, seed=size, dtype=torch.float32)
            one = ACTIVATIONS[activation].forward_(z.clone())
            slope = ACTIVATIONS[activation].backward_(z.clone(), one.clone())
            many = ACTIVATIONS[activation].forward_(z.repeat(K, 1))
            slopes = ACTIVATIONS[activation].backward_(z.repeat(K, 1), many.clone())
            for slot in range(K):
                assert torch.equal(many[slot], one[0])
                assert torch.equal(slopes[slot], slope[0])


class TestProducts:
    @pytest.mark.parametrize("sizes", [(D, H, G, 1), (30, 64, 2), (100, 13, 10), (3, 10, 11, 3)])
    @pytest.mark.parametrize("n_rows", [1, 3, 5, 23, 32])
    def test_of_a_slot_have_the_same_bits_wherever_it_stands(
        self, sizes: tuple[int, ...], n_rows: int
    ) -> None:
        layout = Layout(sizes)
        flat = normal(1, layout.n_parameters, dtype=torch.float32)
        x = normal(1, n_rows, sizes[0], seed=1, dtype=torch.float32)
        delta = normal(1, n_rows, sizes[-1], seed=2, dtype=torch.float32)

        def compute(k: int, own_rows: bool) -> list[Tensor]:
            stacked = flat.repeat(k, 1)
            gradients = torch.empty_like(stacked)
            dropped = [False] * (len(sizes) - 2)
            network = StackedMLP(layout, "relu", dropped, stacked, gradients)
            inputs = x.repeat(k, 1, 1) if own_rows else x.expand(k, -1, -1)
            logits = network.forward(inputs).clone()
            network.backward(delta.repeat(k, 1, 1))
            return [logits, *network.kernel_gradients, *layout.biases(gradients)]

        first = [tensor[0] for tensor in compute(2, own_rows=False)]
        for k in (2, 3, 16):
            for own_rows in (False, True):
                for tensor, expected in zip(compute(k, own_rows), first, strict=True):
                    assert all(torch.equal(slot, expected) for slot in tensor)


class TestDropout:
    def test_keeps_where_noise_reaches_the_rate_and_divides_by_what_is_left(self) -> None:
        layout = Layout((1, 4, 1))
        flat = torch.zeros(2, layout.n_parameters)
        layout.biases(flat)[0].fill_(1.0)  # hidden activations of one
        layout.kernels(flat)[1].fill_(1.0)  # summed
        network = StackedMLP(layout, "relu", [True], flat, flat.clone())
        noise = torch.tensor([[0.0, 0.25, 0.5, 0.75]])
        rates = DropoutRates.of(torch.tensor([[0.5], [0.0]]))
        logits = network.forward(torch.zeros(2, 1, 1), noise, rates)
        assert logits.flatten().tolist() == [4.0, 4.0]  # two of four kept, doubled; all kept
        rates = DropoutRates.of(torch.tensor([[0.75], [0.25]]))
        logits = network.forward(torch.zeros(2, 1, 1), noise, rates)
        assert logits.flatten().tolist() == [4.0, 4.0]

    def test_without_noise_is_the_identity(self) -> None:
        layout = Layout((D, H, 1))
        flat, x = normal(K, layout.n_parameters), normal(K, B, D, seed=1)
        dropping = StackedMLP(layout, "tanh", [True], flat, flat.clone()).forward(x)
        plain = StackedMLP(layout, "tanh", [False], flat, flat.clone()).forward(x)
        assert torch.equal(dropping, plain)


class TestLayout:
    def test_views_cover_every_parameter_once(self) -> None:
        layout = Layout((D, H, G, 2))
        flat = torch.zeros(K, layout.n_parameters)
        for view in layout.kernels(flat) + layout.biases(flat):
            view += 1
        assert torch.equal(flat, torch.ones_like(flat))
        assert [tuple(k.shape) for k in layout.kernels(flat)] == [(K, D, H), (K, H, G), (K, G, 2)]
        assert [tuple(b.shape) for b in layout.biases(flat)] == [(K, H), (K, G), (K, 2)]

    def test_state_dict_holds_copies_named_as_the_references(self) -> None:
        layout = Layout((D, H, 1))
        flat = normal(1, layout.n_parameters)
        weights = layout.state_dict(flat[0])
        expected = reference.build_network(ModelConfig(hidden=(H,)), D, 1).state_dict()
        assert {n: a.shape for n, a in weights.items()} == {
            n: tuple(t.shape) for n, t in expected.items()
        }
        kernel = layout.kernels(flat)[0][0].T.numpy().copy()
        flat.zero_()
        assert (weights["0.weight"] == kernel).all()
