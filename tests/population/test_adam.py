"""Adam over stacked parameters equals torch.optim.Adam, one optimizer and one step count a slot."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from pipeline.population import adam

K, P = 5, 97


def normal(*shape: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


class Stacked:
    """Parameters, gradients and state as the trainer holds them."""

    def __init__(self, dtype: torch.dtype = torch.float64) -> None:
        self.parameters = normal(K, P, seed=0, dtype=dtype)
        self.gradients = torch.zeros_like(self.parameters)
        self.state = adam.init(self.parameters)

    def step(self, gradients: Tensor, rates: Sequence[float]) -> None:
        self.gradients.copy_(gradients)
        adam.Stepper(self.parameters, self.gradients, self.state, rates).step()

    def tensors(self) -> tuple[Tensor, ...]:
        return self.parameters, self.state.first, self.state.second, self.state.steps


RATES = (1e-3, 0.03, 1e-3, 1.0, 0.07)


def test_equals_torchs_adam_at_the_rows_own_rates() -> None:
    stacked = Stacked()
    parameters = [row.clone().requires_grad_(True) for row in stacked.parameters]
    optimizers = [torch.optim.Adam([p], lr=rate) for p, rate in zip(parameters, RATES, strict=True)]
    for step in range(7):
        gradients = normal(K, P, seed=step + 1) * 10.0 ** -torch.arange(K)[:, None]
        stacked.step(gradients, RATES)
        for parameter, gradient, optimizer in zip(parameters, gradients, optimizers, strict=True):
            parameter.grad = gradient
            optimizer.step()
    for row, parameter in zip(stacked.parameters, parameters, strict=True):
        torch.testing.assert_close(row, parameter.detach(), rtol=1e-12, atol=1e-14)


def test_counts_steps_by_row() -> None:
    """Rows of different ages, as after a refill: each equals an optimizer of its own age."""
    stacked = Stacked()
    ages = dict.fromkeys(range(K), 0)
    parameters = {row: stacked.parameters[row].clone().requires_grad_(True) for row in range(K)}
    optimizers = {row: torch.optim.Adam([parameters[row]], lr=RATES[row]) for row in range(K)}
    for step, n_active in enumerate((5, 3, 3, 1, 5, 4)):
        if step == 3:  # row 1 is refilled
            adam.reset_row(stacked.state, 1)
            stacked.parameters[1] = normal(P, seed=77)
            parameters[1] = stacked.parameters[1].clone().requires_grad_(True)
            optimizers[1] = torch.optim.Adam([parameters[1]], lr=RATES[1])
            ages[1] = 0
        gradients = normal(K, P, seed=step + 1)
        stacked.step(gradients, RATES[:n_active])
        for row in range(n_active):
            ages[row] += 1
            parameters[row].grad = gradients[row]
            optimizers[row].step()
    assert stacked.state.steps.tolist() == [ages[row] for row in range(K)] == [6, 2, 5, 3, 2]
    for row, parameter in parameters.items():
        torch.testing.assert_close(
            stacked.parameters[row], parameter.detach(), rtol=1e-12, atol=1e-14
        )


@pytest.mark.parametrize("n_active", range(K + 1))
def test_rows_beyond_the_active_ones_are_bit_equal(n_active: int) -> None:
    stacked = Stacked(torch.float32)
    stacked.step(normal(K, P, seed=1, dtype=torch.float32), RATES)
    before = [tensor.clone() for tensor in stacked.tensors()]
    stacked.step(normal(K, P, seed=2, dtype=torch.float32), RATES[:n_active])
    for tensor, old in zip(stacked.tensors(), before, strict=True):
        assert torch.equal(tensor[n_active:], old[n_active:])
        assert not any(torch.equal(tensor[row], old[row]) for row in range(n_active))


def test_a_reset_row_steps_as_a_fresh_one_and_the_others_as_before() -> None:
    stacked, untouched, fresh = (Stacked(torch.float32) for _ in range(3))
    first, second = (normal(K, P, seed=seed, dtype=torch.float32) for seed in (1, 2))
    for state in (stacked, untouched):
        state.step(first, RATES)
    adam.reset_row(stacked.state, 2)
    stacked.parameters[2] = fresh.parameters[2]
    for state in (stacked, untouched, fresh):
        state.step(second, RATES)
    for mine, old, new in zip(stacked.tensors(), untouched.tensors(), fresh.tensors(), strict=True):
        for row in range(K):
            assert torch.equal(mine[row], (new if row == 2 else old)[row])


def test_a_moved_row_goes_on_where_it_was() -> None:
    stacked, stayed = Stacked(torch.float32), Stacked(torch.float32)
    first, second = (normal(K, P, seed=seed, dtype=torch.float32) for seed in (1, 2))
    for state in (stacked, stayed):
        state.step(first, RATES)
    adam.move_row(stacked.state, 4, 1)
    stacked.parameters[1] = stacked.parameters[4]
    moved = second.clone()
    moved[1] = second[4]
    stacked.step(moved, [RATES[0], RATES[4]])
    stayed.step(second, RATES)
    for mine, other in zip(stacked.tensors(), stayed.tensors(), strict=True):
        assert torch.equal(mine[1], other[4])


def test_moments_without_gradients_do_not_stay_subnormal() -> None:
    stacked = Stacked(torch.float32)
    stacked.step(normal(K, P, seed=1, dtype=torch.float32), RATES)
    stacked.gradients.zero_()
    stepper = adam.Stepper(stacked.parameters, stacked.gradients, stacked.state, RATES)
    for _ in range(900):
        stepper.step()
    before, first = stacked.parameters.clone(), stacked.state.first
    assert 0 < first.abs().max() < torch.finfo(torch.float32).tiny
    adam.Stepper(stacked.parameters, stacked.gradients, stacked.state, RATES[:3]).step()
    assert not first[:3].any()
    assert first[3:].any()
    assert torch.equal(stacked.parameters, before)


def test_corrections_of_the_second_moment_count_on_by_row() -> None:
    ages = (0, 1, 38, 7001, 10**6)
    correction = adam.corrector(torch.tensor(ages, dtype=torch.float32))
    for step in range(1, 41):
        found = correction()
        assert found.shape == (K, 1, 1)
        expected = [(1 - 0.999 ** (age + step)) ** 0.5 for age in ages]
        assert found.flatten().tolist() == pytest.approx(expected, rel=1e-12)


def test_corrections_go_on_from_the_age_that_the_rows_had_when_asked() -> None:
    steps = torch.zeros(K)
    correction = adam.corrector(steps)
    steps.add_(1)  # as a step of all rows does
    assert correction().flatten().tolist() == pytest.approx([0.001**0.5] * K)


def test_a_correction_has_the_same_bits_in_any_company() -> None:
    ages = torch.arange(20_000, dtype=torch.float32)
    among_all = adam.corrector(ages)()
    for start in range(0, 20_000 - 13, 97):
        for k in (1, 3, 13):
            few = slice(start, start + k)
            assert torch.equal(among_all[few], adam.corrector(ages[few])())


def test_init_is_a_state_of_no_steps() -> None:
    state = adam.init(normal(K, P, seed=0))
    assert state.first.shape == state.second.shape == (K, P)
    assert not any(t.any() for t in (state.first, state.second, state.steps))
