"""What is asked next, and what the journal believes."""

from __future__ import annotations

import resource
import signal
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from pipeline import sampler
from pipeline.config import StudyConfig
from pipeline.results import History, Point, StopReason, TrialResult
from pipeline.sampler import first_trials
from pipeline.sampling import Sampling
from pipeline.space import Hyperparameters

CONFIG = StudyConfig.model_validate(
    {"name": "asked", "seed": 5, "data": {"source": "sklearn:iris"}}
)
RUNNING = 4


def ended(hyperparameters: Hyperparameters, reason: StopReason) -> TrialResult:
    """A result whose loss is a function of the hyperparameters, with a single best dropout."""
    loss = abs(hyperparameters.dropout - 0.4) + 0.01 * hyperparameters.lambda_
    return TrialResult(
        hyperparameters=hyperparameters,
        replicate=0,
        history=History.of([Point(1, 0.5, loss, 0.5, 0.5)]),
        kept_epoch=1,
        stop_reason=reason,
        weights={"0.weight": np.ones((1, 1), np.float32)},
    )


def reason_of(number: int) -> StopReason:
    if number % 5 == 0:
        return StopReason.PRUNED
    return StopReason.MAX_EPOCHS if number % 7 else StopReason.DIVERGED


def opened(journal: Path) -> Sampling:
    source = Sampling(CONFIG)
    source.open_journal(journal)
    return source


def search(folder: Path, n_trials: int) -> tuple[Sampling, list[Hyperparameters]]:
    source = opened(folder / "journal")
    return source, search_with(source, n_trials)


def search_with(source: Sampling, n_trials: int, n_running: int = RUNNING) -> list[Hyperparameters]:
    """Asks and tells with some trials in flight; every fifth is pruned, every seventh fails."""
    asked: list[Hyperparameters] = []
    live: list[tuple[int, Hyperparameters]] = []
    for _ in range(n_trials):
        number, hyperparameters = source.ask()
        assert number == len(asked)
        asked.append(hyperparameters)
        live.append((number, hyperparameters))
        if len(live) > n_running:
            number, hyperparameters = live.pop(0)
            reason = reason_of(number)
            result = ended(hyperparameters, reason)
            source.tell(number, result)
            source.record(number, result, f"run-{number}")
    return asked


def told(journal: Path) -> list[optuna.trial.FrozenTrial]:
    """What a journal holds."""
    storage = JournalStorage(JournalFileBackend(str(journal)))
    return optuna.load_study(storage=storage, study_name="asked").trials


def facts(trial: optuna.trial.FrozenTrial) -> tuple[object, ...]:
    given = tuple(sorted(trial.params.items()))
    return trial.state.name, trial.value, given, tuple(trial.intermediate_values.items())


@pytest.fixture(autouse=True)
def _quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def test_what_is_asked_is_a_function_of_what_was_told(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    _, first = search(tmp_path, 30)
    _, second = search(tmp_path / "other", 30)
    assert first == second
    defaults = first_trials(CONFIG.search_space)
    assert first[: len(defaults)] == defaults
    assert len(set(first)) == len(first)


def test_the_journal_hears_only_of_what_is_recorded(tmp_path: Path) -> None:
    source = Sampling(CONFIG)
    asked = [source.ask()]
    # What was asked before the journal was opened stands in it all the same, in its place.
    source.open_journal(tmp_path / "journal")
    asked += [source.ask() for _ in range(2)]
    source.tell(1, ended(asked[1][1], StopReason.MAX_EPOCHS))

    def states() -> list[str]:
        return [trial.state.name for trial in told(tmp_path / "journal")]

    assert states() == ["RUNNING"] * 3
    written = told(tmp_path / "journal")
    assert [trial.params["dropout"] for trial in written] == [each.dropout for _, each in asked]
    source.record(1, ended(asked[1][1], StopReason.MAX_EPOCHS), "a-run")
    assert states() == ["RUNNING", "COMPLETE", "RUNNING"]


class TestALongStudy:
    @pytest.fixture(autouse=True)
    def _short_memory(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sampler, "MOST_REMEMBERED", 20)
        monkeypatch.setattr(sampler, "REMEMBERED", 10)

    def test_remembers_no_more_than_it_may_and_never_forgets_the_best(self, tmp_path: Path) -> None:
        source, asked = search(tmp_path, 90)
        in_memory = source._sampler._memory.get_trials(deepcopy=False)
        finished = [trial for trial in in_memory if trial.state.is_finished()]
        assert len(finished) <= 20
        assert len(in_memory) - len(finished) == RUNNING
        losses = {
            n: ended(chosen, StopReason.MAX_EPOCHS).val_loss
            for n, chosen in enumerate(asked[:-RUNNING])
            if reason_of(n) is StopReason.MAX_EPOCHS
        }
        assert min(t.value for t in finished if t.value is not None) == min(losses.values())
        assert source.n_asked == len(asked) == 90

    def test_has_a_journal_of_all_trials_and_goes_on_from_it(self, tmp_path: Path) -> None:
        _, asked = search(tmp_path, 50)
        again = opened(tmp_path / "journal")
        known = again.recover()
        assert sorted(known) == list(range(50 - RUNNING))
        assert known[7] == "run-7"
        assert (again.n_asked, again.n_asked_before) == (0, 50)
        assert [again.ask() for _ in range(50)] == list(enumerate(asked))
        # What the journal has, it is not given again: neither a trial asked nor its end.
        for number in range(50):
            result = ended(asked[number], StopReason.MAX_EPOCHS)
            again.tell(number, result)
            again.record(number, result, "another run")
        assert again.ask()[0] == 50
        last = opened(tmp_path / "journal").recover()
        assert {number: last[number] for number in known} == known
        assert [last[number] for number in range(50 - RUNNING, 50)] == ["another run"] * RUNNING


class TestManyInFlight:
    @pytest.fixture(autouse=True)
    def _short_sight(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sampler, "MOST_IN_SIGHT", 6)
        monkeypatch.setattr(sampler, "IN_SIGHT", 3)

    def test_the_sampler_looks_at_the_newest(self, tmp_path: Path) -> None:
        source = opened(tmp_path / "journal")
        for n_asked in range(1, 30):
            source.ask()
            seen = [t for t in source._sampler._memory.trials if not t.state.is_finished()]
            assert min(n_asked, 3) <= len(seen) <= 6
            newest = [source._sampler._running[n_asked - len(seen) + n] for n in range(len(seen))]
            assert [trial.params for trial in newest] == [trial.params for trial in seen]

    def test_it_hears_of_every_end_as_if_it_had_looked_on(self, tmp_path: Path) -> None:
        source = opened(tmp_path / "journal")
        asked = search_with(source, 60, n_running=20)
        journal = told(tmp_path / "journal")
        heard = [
            facts(trial) for trial in source._sampler._memory.trials if trial.state.is_finished()
        ]
        assert sorted(map(repr, heard)) == sorted(
            repr(facts(trial)) for trial in journal if trial.state.is_finished()
        )
        assert len(heard) == len(asked) - 20

    def test_a_resume_asks_what_an_undisturbed_one_would(self, tmp_path: Path) -> None:
        (tmp_path / "whole").mkdir()
        undisturbed = search_with(opened(tmp_path / "whole" / "journal"), 60, n_running=20)
        search_with(opened(tmp_path / "journal"), 35, n_running=20)
        again = opened(tmp_path / "journal")
        again.recover()
        assert search_with(again, 60, n_running=20) == undisturbed


def test_a_resumed_sampler_asks_what_an_undisturbed_one_would(tmp_path: Path) -> None:
    """Beyond what it had asked, too: it is told the same trials at the same moments."""
    (tmp_path / "whole").mkdir()
    _, undisturbed = search(tmp_path / "whole", 60)
    search(tmp_path, 35)
    again = opened(tmp_path / "journal")
    again.recover()
    assert search_with(again, 60) == undisturbed


def test_a_journal_that_ends_with_any_of_its_lines_is_gone_on_with(tmp_path: Path) -> None:
    """A kill falls between any two of them: one end of a trial is up to three."""
    whole = tmp_path / "whole"
    whole.mkdir()
    _, undisturbed = search(whole, 12)
    lines = (whole / "journal").read_bytes().splitlines(keepends=True)
    ends = list(map(facts, told(whole / "journal")))
    assert {"PRUNED", "FAIL", "COMPLETE", "RUNNING"} == {state for state, *_ in ends}
    for n_lines in range(1, len(lines) + 1):
        journal = tmp_path / f"{n_lines}"
        journal.write_bytes(b"".join(lines[:n_lines]))
        again = opened(journal)
        again.recover()
        assert search_with(again, 12) == undisturbed
        assert list(map(facts, told(journal))) == ends, f"cut after line {n_lines} of {len(lines)}"


def test_a_full_disk_leaves_no_part_of_a_line_in_the_journal(tmp_path: Path) -> None:
    """The file may grow by 40 bytes more: the kernel says so in the middle of a line."""
    source, _ = search(tmp_path, 3)
    journal = tmp_path / "journal"
    before = journal.read_bytes()
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 40, limits[1]))
    try:
        with pytest.raises(OSError, match="large"):
            source.ask()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert journal.read_bytes() == before
    again = opened(journal)
    again.recover()
    assert again.n_asked_before == 3
