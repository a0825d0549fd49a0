"""Every regularization type is three coefficients, and they do what the definition says."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pipeline.population import adam
from pipeline.population.layers import Layout
from pipeline.population.penalty import Coefficients, Penalty, coefficients
from pipeline.space import Hyperparameters, Regularization

LAYOUT = Layout((7, 11, 13, 2))
K, P = 3, LAYOUT.n_parameters
ALL = (True, True, True)


def normal(k: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(k, P, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def apply(
    parameters: Tensor,
    gradients: Tensor,
    trials: list[Hyperparameters],
    penalized: tuple[bool, ...] = ALL,
    learning_rate: float = 0.01,
    proximal: bool = False,
) -> tuple[Tensor, Tensor]:
    """The parameters and gradients after the penalties of `trials` in the first rows."""
    # A backward pass writes the biases' gradients itself.
    parameters, target = parameters.clone(), gradients.clone()
    for kernel in LAYOUT.kernels(target):
        kernel.fill_(77.0)
    penalty = Penalty(LAYOUT, penalized, parameters, target, proximal=proximal)
    for row, trial in enumerate(trials):
        penalty.set_row(row, coefficients(trial), learning_rate)
    n_active = len(trials)
    kernels = [kernel.contiguous() for kernel in LAYOUT.kernels(gradients[:n_active])]
    penalty.gatherer(n_active, kernels)()
    return parameters, target


TRIALS = [
    Hyperparameters(Regularization.L1, 0.3),
    Hyperparameters(Regularization.L2, 0.7),
    Hyperparameters(Regularization.ELASTIC_NET, 0.11, l1_ratio=0.37),
    Hyperparameters(),
    Hyperparameters(Regularization.WEIGHT_DECAY, 1.3),
]


@pytest.mark.parametrize(
    ("trial", "expected"),
    [
        (TRIALS[0], (0.3, 0.0, 0.0)),
        (TRIALS[1], (0.0, 0.7, 0.0)),
        (TRIALS[2], (0.11 * 0.37, 0.11 * (1 - 0.37), 0.0)),
        (TRIALS[3], (0.0, 0.0, 0.0)),
        (TRIALS[4], (0.0, 0.0, 1.3)),
        (Hyperparameters(Regularization.ELASTIC_NET, 0.5, l1_ratio=1.0), (0.5, 0.0, 0.0)),
        (Hyperparameters(Regularization.ELASTIC_NET, 0.5, l1_ratio=0.0), (0.0, 0.5, 0.0)),
    ],
)
def test_a_type_is_three_coefficients(
    trial: Hyperparameters, expected: tuple[float, float, float]
) -> None:
    assert coefficients(trial) == expected


@given(
    strength=st.floats(0, 1e3),
    ratio=st.floats(0, 1),
    regularization=st.sampled_from(list(Regularization)),
)
def test_coefficients_are_never_negative_and_sum_to_lambda(
    strength: float, ratio: float, regularization: Regularization
) -> None:
    mixed = regularization is Regularization.ELASTIC_NET
    strength = 0.0 if regularization is Regularization.NONE else strength
    trial = Hyperparameters(regularization, strength, ratio if mixed else None)
    found = coefficients(trial)
    assert min(found) >= 0
    assert sum(found) == pytest.approx(strength)


@pytest.mark.parametrize(
    "penalized", [ALL, (True, False, False), (False, True, True), (False,) * 3], ids=str
)
def test_gradient_is_autograds_of_the_definition(penalized: tuple[bool, ...]) -> None:
    w, g = normal(len(TRIALS), 1), normal(len(TRIALS), 2)
    _, after = apply(w, g, TRIALS, penalized)
    leaf = w.clone().requires_grad_(True)
    total = torch.zeros((), dtype=torch.float64)
    for row, trial in enumerate(TRIALS):
        ratio = {"l1": 1.0, "l2": 0.0, "elastic_net": trial.l1_ratio}.get(trial.regularization)
        if ratio is None:
            continue
        for kernel, chosen in zip(LAYOUT.kernels(leaf), penalized, strict=True):
            if chosen:
                own = kernel[row]
                size = ratio * own.abs().sum() + (1 - ratio) * own.square().sum()
                total = total + trial.lambda_ * size
    total.backward() if total.requires_grad else None
    penalty = torch.zeros_like(w) if leaf.grad is None else leaf.grad
    torch.testing.assert_close(after, g + penalty, rtol=1e-13, atol=1e-15)


def test_biases_are_never_penalized_nor_decayed() -> None:
    w, g = normal(len(TRIALS), 1), normal(len(TRIALS), 2)
    w_after, g_after = apply(w, g, TRIALS)
    for before, after in ((w, w_after), (g, g_after)):
        for bias, same in zip(LAYOUT.biases(before), LAYOUT.biases(after), strict=True):
            assert torch.equal(bias, same)


@pytest.mark.parametrize("penalized", [ALL, (False, True, False)], ids=str)
def test_weight_decay_multiplies_the_chosen_kernels(penalized: tuple[bool, ...]) -> None:
    w = normal(len(TRIALS), 1)
    after, _ = apply(w, normal(len(TRIALS), 2), TRIALS, penalized, learning_rate=0.01)
    assert torch.equal(after[:4], w[:4])
    kernels = zip(LAYOUT.kernels(w), LAYOUT.kernels(after), penalized, strict=True)
    for before, changed, chosen in kernels:
        assert torch.equal(changed[4], before[4] * (1 - 0.01 * 1.3) if chosen else before[4])


@pytest.mark.parametrize("regularization", list(Regularization))
def test_lambda_0_is_none(regularization: Regularization) -> None:
    ratio = 0.37 if regularization is Regularization.ELASTIC_NET else None
    zero = Hyperparameters(regularization, 0.0, ratio)
    w, g = normal(5, 1, torch.float32), normal(5, 2, torch.float32)
    # Alone, and beside slots that use every part.
    for others in ([], [TRIALS[0], TRIALS[1], TRIALS[2], TRIALS[4]]):
        w_zero, g_zero = apply(w, g, [zero, *others])
        w_none, g_none = apply(w, g, [Hyperparameters(), *others])
        assert torch.equal(w_zero, w_none)
        assert torch.equal(g_zero, g_none)
        assert torch.equal(w_zero[0], w[0])
        assert torch.equal(g_zero[0], g[0])


def test_a_zero_weight_has_no_l1_slope() -> None:
    w, g = torch.zeros(1, P), torch.zeros(1, P)
    _, after = apply(w, g, TRIALS[:1])
    assert torch.equal(after, g)


def test_rows_beyond_the_active_ones_are_untouched() -> None:
    w, g = normal(K, 1), normal(K, 2)
    w_after, g_after = apply(w, g, [TRIALS[4]])
    assert torch.equal(w_after[1:], w[1:])
    assert all((kernel[1:] == 77.0).all() for kernel in LAYOUT.kernels(g_after))


def test_arranged_rows_are_weighed_as_before() -> None:
    trials = [TRIALS[4], TRIALS[1], TRIALS[0], Hyperparameters(), TRIALS[2]]
    w, g = normal(len(trials), 1), normal(len(trials), 2)
    expected_w, expected_g = apply(w, g, trials)
    parameters, target = w.clone(), g.clone()
    penalty = Penalty(LAYOUT, ALL, parameters, target)
    for row, trial in enumerate(trials):
        penalty.set_row(row, coefficients(trial), 0.01)
    order = penalty.arrangement(len(trials))
    assert order == [2, 4, 1, 3, 0]  # L1 and elastic net; L2 and none; weight decay
    penalty.arrange(order)
    parameters.copy_(w[order])
    penalty.gatherer(len(trials), [kernel.contiguous() for kernel in LAYOUT.kernels(g[order])])()
    assert torch.equal(parameters, expected_w[order])
    for got, expected in zip(
        LAYOUT.kernels(target), LAYOUT.kernels(expected_g[order]), strict=True
    ):
        assert torch.equal(got, expected)


def test_a_moved_row_is_weighed_as_before() -> None:
    w, g = normal(2, 1).repeat(2, 1)[:K], normal(2, 2).repeat(2, 1)[:K]
    parameters, target = w.clone(), torch.zeros_like(g)
    penalty = Penalty(LAYOUT, ALL, parameters, target)
    for row, trial in enumerate((TRIALS[0], TRIALS[1], TRIALS[2])):
        penalty.set_row(row, coefficients(trial), 0.01)
    penalty.move_row(2, 0)
    kernels = [kernel.contiguous() for kernel in LAYOUT.kernels(g)]
    penalty.gatherer(K, kernels)()
    assert torch.equal(target[0], target[2])  # rows 0 and 2 hold equal weights and gradients
    assert isinstance(coefficients(TRIALS[0]), Coefficients)


AGES = (0, 37, 5, 1000, 2)
RATES = (0.01, 0.02, 0.05, 0.01, 0.01)


def state_of(ages: tuple[int, ...] = AGES, dtype: torch.dtype = torch.float64) -> adam.AdamState:
    """Adam's in the middle of training."""
    state = adam.init(normal(len(ages), 0, dtype))
    state.second.copy_((normal(len(ages), 3, dtype) / 7).square())
    state.steps.copy_(torch.tensor(ages))
    return state


def threshold(
    parameters: Tensor,
    state: adam.AdamState,
    trials: list[Hyperparameters],
    penalized: tuple[bool, ...] = ALL,
    rates: tuple[float, ...] = RATES,
    proximal: bool = True,
) -> Tensor:
    """The parameters after what follows a step of `trials` in the first rows."""
    parameters = parameters.clone()
    penalty = Penalty(
        LAYOUT, penalized, parameters, torch.zeros_like(parameters), proximal=proximal
    )
    for row, trial in enumerate(trials):
        penalty.set_row(row, coefficients(trial), rates[row])
    after_step = penalty.thresholder(len(trials), state)
    state.steps.add_(1)
    after_step()
    return parameters


def soft_thresholded(w: Tensor, second: Tensor, step: int, step_l1: float) -> Tensor:
    """The definition, for one kernel."""
    size = step_l1 / ((second / (1 - 0.999**step)).sqrt() + 1e-8)
    return torch.where(w.abs() <= size, 0.0, w - torch.sign(w) * size)


class TestProximal:
    @pytest.mark.parametrize("penalized", [ALL, (True, False, False), (False,) * 3], ids=str)
    def test_thresholds_the_chosen_kernels_with_adams_scaling(
        self, penalized: tuple[bool, ...]
    ) -> None:
        w, state = normal(len(TRIALS), 1), state_of()
        after = threshold(w, state, TRIALS, penalized)
        zeros = 0
        for row, trial in enumerate(TRIALS):
            step_l1 = RATES[row] * coefficients(trial).l1
            for before, changed, second, chosen in zip(
                *map(LAYOUT.kernels, (w, after, state.second)), penalized, strict=True
            ):
                expected = before[row]
                if chosen and step_l1:
                    expected = soft_thresholded(before[row], second[row], AGES[row] + 1, step_l1)
                torch.testing.assert_close(changed[row], expected, rtol=1e-13, atol=1e-15)
                assert torch.equal(changed[row] == 0, expected == 0)
                zeros += int((expected == 0).sum())
        assert bool(zeros) == any(penalized)

    def test_counts_the_steps_that_follow(self) -> None:
        w, state = normal(1, 1), state_of(AGES[:1])
        penalty = Penalty(LAYOUT, ALL, w, torch.zeros_like(w), proximal=True)
        penalty.set_row(0, coefficients(TRIALS[0]), 0.01)
        after_step, (kernel, *_), (second, *_) = (
            penalty.thresholder(1, state),
            LAYOUT.kernels(w),
            LAYOUT.kernels(state.second),
        )
        for step in range(1, 4):
            expected = soft_thresholded(kernel[0].clone(), second[0], step, 0.01 * 0.3)
            after_step()
            torch.testing.assert_close(kernel[0], expected, rtol=1e-13, atol=1e-15)

    def test_leaves_biases_other_types_and_idle_rows_alone(self) -> None:
        w = normal(len(TRIALS) + 2, 1)
        after = threshold(w, state_of((*AGES, 3, 3)), TRIALS)
        for bias, same in zip(LAYOUT.biases(w), LAYOUT.biases(after), strict=True):
            assert torch.equal(bias, same)
        for row, trial in enumerate(TRIALS):
            assert torch.equal(w[row], after[row]) == (not coefficients(trial).l1)
        assert torch.equal(w[len(TRIALS) :], after[len(TRIALS) :])

    def test_has_the_l2_part_alone_in_the_gradients(self) -> None:
        w, g = normal(len(TRIALS), 1), normal(len(TRIALS), 2)
        _, after = apply(w, g, TRIALS, proximal=True)
        for kernel, before, changed in zip(*map(LAYOUT.kernels, (w, g, after)), strict=True):
            for row, trial in enumerate(TRIALS):
                slope = 2 * coefficients(trial).l2 * kernel[row]
                torch.testing.assert_close(changed[row], before[row] + slope, rtol=0, atol=1e-14)

    def test_zeroes_a_weight_that_no_gradient_ever_reached(self) -> None:
        w, state = normal(1, 1), adam.init(normal(1, 0))
        after = threshold(w, state, [Hyperparameters(Regularization.L1, 1e-5)])
        assert all((kernel == 0).all() for kernel in LAYOUT.kernels(after))

    def test_otherwise_changes_nothing_after_a_step(self) -> None:
        w = normal(len(TRIALS), 1)
        assert torch.equal(w, threshold(w, state_of(), TRIALS, proximal=False))

    def test_has_the_same_bits_alone_and_among_others_in_any_order(self) -> None:
        w, state = normal(5, 1, torch.float32), state_of(dtype=torch.float32)
        penalty = Penalty(LAYOUT, ALL, w, torch.zeros_like(w), proximal=True)
        trials = [TRIALS[4], TRIALS[1], TRIALS[0], Hyperparameters(), TRIALS[2]]
        for row, trial in enumerate(trials):
            penalty.set_row(row, coefficients(trial), RATES[row])
        alone = []
        for row, trial in enumerate(trials):
            own = adam.AdamState(state.first[[row]], state.second[[row]], state.steps[[row]])
            alone.append(threshold(w[[row]], own, [trial], rates=(RATES[row],)))
        order = penalty.arrangement(len(trials))
        penalty.arrange(order)
        penalty.move_row(1, 4)
        w.copy_(w[[*order[:4], order[1]]])
        state = adam.AdamState(*(field[[*order[:4], order[1]]] for field in vars(state).values()))
        penalty.thresholder(len(trials), state)()
        assert torch.equal(w, torch.cat([alone[row] for row in [*order[:4], order[1]]]))
