"""Randomness is keyed by what it is for: equal keys give equal numbers, others different ones."""

from __future__ import annotations

import itertools
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.population import noise
from pipeline.population.noise import Key, NoiseTables, Purpose

keys = st.tuples(
    st.sampled_from(list(Purpose)),
    st.integers(0, 2**63 - 1),
    st.integers(0, 2**31),
    st.lists(st.integers(0, 5), max_size=2).map(tuple),
)


def stream(key: tuple[Purpose, int, int, tuple[int, ...]]) -> list[float]:
    purpose, seed, replicate, when = key
    return noise.generator(purpose, seed, replicate, *when).random(5).tolist()


@given(key=keys)
def test_equal_keys_give_equal_streams(
    key: tuple[Purpose, int, int, tuple[int, ...]],
) -> None:
    assert stream(key) == stream(key)


@given(first=keys, second=keys)
def test_different_keys_give_different_streams(
    first: tuple[Purpose, int, int, tuple[int, ...]],
    second: tuple[Purpose, int, int, tuple[int, ...]],
) -> None:
    stripped = [(*key[:3], _without_trailing_zeros(key)) for key in (first, second)]
    if stripped[0] != stripped[1]:
        assert stream(first) != stream(second)


def _without_trailing_zeros(
    key: tuple[Purpose, int, int, tuple[int, ...]],
) -> tuple[int, ...]:
    """SeedSequence pads with zeros; a purpose always has keys of one length."""
    *_, when = key
    while when and when[-1] == 0:
        when = when[:-1]
    return when


def test_every_part_of_a_key_counts() -> None:
    draws = [
        noise.dropout_noise(*key, 35)
        for key in ((0, 0, 1, 0), (1, 0, 1, 0), (0, 1, 1, 0), (0, 0, 2, 0), (0, 0, 1, 1))
    ]
    orders = [noise.row_order(*key, 97) for key in ((0, 0, 1), (1, 0, 1), (0, 1, 1), (0, 0, 2))]
    starts = [noise.initial_parameters(*key, (7, 5))[0][0] for key in ((0, 0), (1, 0), (0, 1))]
    for drawn in (draws, orders, starts):
        for first, second in combinations(drawn, 2):
            assert not np.array_equal(first, second)


def test_a_row_order_visits_every_row_once() -> None:
    order = noise.row_order(0, 0, 1, 97)
    assert sorted(order.tolist()) == list(range(97))
    assert order.tolist() != list(range(97))


def test_dropout_noise_is_uniform() -> None:
    drawn = noise.dropout_noise(0, 0, 1, 0, 1009 * 101)
    assert drawn.shape == (1009 * 101,)
    assert drawn.min() >= 0
    assert drawn.max() < 1
    for rate in (0.1, 0.5, 0.9):
        assert float((drawn >= rate).double().mean()) == pytest.approx(1 - rate, abs=5e-3)


def test_initial_parameters_are_drawn_as_torch_draws_a_linear_layer() -> None:
    sizes = (101, 67, 1)
    for (kernel, bias), (fan_in, fan_out) in zip(
        noise.initial_parameters(0, 0, sizes), ((101, 67), (67, 1)), strict=True
    ):
        bound = fan_in**-0.5
        assert kernel.shape == (fan_in, fan_out)
        assert bias.shape == (fan_out,)
        for drawn in (kernel, bias):
            assert np.abs(drawn).max() <= bound
        assert kernel.max() > 0.8 * bound
        assert kernel.min() < -0.8 * bound
    kernel, _ = noise.initial_parameters(0, 0, sizes)[0]
    weight = torch.nn.Linear(101, 67).weight.detach()
    assert kernel.std() == pytest.approx(float(weight.std()), rel=0.05)


N_ROWS, BATCH, WIDTH, EPOCHS = 23, 5, 7, 11


def tables(dtype: torch.dtype = torch.float32) -> NoiseTables:
    return NoiseTables(
        3,
        n_rows=N_ROWS,
        batch_size=BATCH,
        width=WIDTH,
        n_keys=EPOCHS,
        dtype=dtype,
        device=torch.device("cpu"),
    )


class TestTables:
    @pytest.fixture(params=["all", "three", "none"], autouse=True)
    def _budget(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
        """How many keys the table remembers."""
        budget = {"all": 2**28, "three": 3 * N_ROWS * WIDTH * 4, "none": 0}[request.param]
        monkeypatch.setattr(noise, "TABLE_BYTES", budget)

    @pytest.mark.parametrize(
        "keys",
        [
            [(2, 1)],
            [(2, 4), (2, 4), (2, 4)],
            [(2, 7), (2, 1), (2, 7), (2, 11)],
            [(2, 7), (5, 7), (2, 7), (5, 1)],
        ],
        ids=str,
    )
    def test_hold_the_numbers_of_each_slots_key(self, keys: list[Key]) -> None:
        table = tables()
        orders = table.row_orders(keys)
        for step, rows in enumerate(table.batches):
            drawn = table.dropout(keys)(step)
            for slot, key in enumerate(keys):
                row = slot if len(set(keys)) > 1 else 0
                n_units = (rows.stop - rows.start) * WIDTH
                assert torch.equal(drawn[row], noise.dropout_noise(3, *key, step, n_units))
                assert torch.equal(orders[row], noise.row_order(3, *key, N_ROWS))

    def test_one_row_serves_slots_in_lockstep(self) -> None:
        table, keys = tables(), [(2, 4)] * 3
        assert [len(order) for order in table.row_orders(keys)] == [N_ROWS]
        if len(table._table):
            assert table.dropout(keys)(1).shape == (1, BATCH * WIDTH)

    def test_do_not_depend_on_what_was_asked_before(self) -> None:
        fresh, used = tables(), tables()
        for replicate, epoch in itertools.product((0, 3), (3, 1, 11, 2)):
            for step in (4, 0):
                used.dropout([(replicate, epoch), (3, 5)])(step)
            used.row_orders([(replicate, epoch), (3, 5)])
        keys = [(3, 2), (0, 7)]
        assert torch.equal(used.dropout(keys)(4), fresh.dropout(keys)(4))
        assert all(map(torch.equal, used.row_orders(keys), fresh.row_orders(keys)))

    def test_batches_cover_the_rows_with_a_smaller_one_at_the_end(self) -> None:
        sizes = [rows.stop - rows.start for rows in tables().batches]
        assert sizes == [5, 5, 5, 5, 3]

    def test_in_float64_hold_the_same_numbers(self) -> None:
        single, double = tables(), tables(torch.float64)
        assert torch.equal(
            single.dropout([(0, 1), (0, 2)])(0).double(), double.dropout([(0, 1), (0, 2)])(0)
        )


def test_a_full_table_remembers_what_was_used_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noise, "TABLE_BYTES", 3 * N_ROWS * WIDTH * 4)
    table = tables()
    draws = []
    draw = table._draw
    monkeypatch.setattr(table, "_draw", lambda key, step: draws.append(key) or draw(key, step))
    for keys in ([(0, 1), (0, 2)], [(0, 3)], [(0, 1)], [(0, 4)], [(0, 1), (0, 3)]):
        table.dropout(keys)
    assert list(dict.fromkeys(draws)) == [(0, 1), (0, 2), (0, 3), (0, 4)]
    assert len(draws) == 4 * len(table.batches)
