"""A recorded step does what the step does, whatever the batches: what needs no GPU of it.

Here a recording is run again by Python; `tests/gpu` has CUDA record and replay it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import SimpleNamespace

import pytest

from pipeline.population.cuda_graph import Step, StepRecorder
from pipeline.population.trainer import PopulationTrainer
from tests.builders import TRIALS, assert_identical
from tests.population.test_trainer import Case, on_every_case


@pytest.fixture
def replays(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], None]]:
    replayed = []

    def record(_: StepRecorder, step: Step, inputs: tuple[object, ...]) -> SimpleNamespace:
        def replay() -> None:
            replayed.append(replay)
            again()

        again = partial(step, *inputs)
        return SimpleNamespace(replay=replay)

    monkeypatch.setattr(StepRecorder, "_record", record)
    return replayed


@on_every_case
@pytest.mark.parametrize("n_slots", [1, 3])
def test_recorded_steps_train_the_same_networks(
    case: Case, n_slots: int, replays: list[Callable[[], None]]
) -> None:
    results = []
    for recorder in (None, StepRecorder()):
        trainer = PopulationTrainer(case.config, case.splits, n_slots=n_slots)
        trainer._recorder = recorder
        for slot in range(n_slots):
            trainer.load(slot, TRIALS[-1 - slot])
            trainer.train_epoch()  # each at another epoch
        while trainer.train_epoch():
            pass
        results.append([trainer.unload(slot) for slot in range(n_slots)])
    for plain, recorded in zip(*results, strict=True):
        assert_identical(recorded, plain)
    # Of four batches and a ragged one, the first is recorded and the last of another shape.
    assert len(replays) == 3 * len(set(replays))
    assert replays
