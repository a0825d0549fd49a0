"""The benchmark of honest intervals knows what it counts, and runs."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import calibration
from benchmarks.calibration import Design, Studies

DESIGN = Design(replicates=5, rows=(23, 7), hidden=5, seed=1)


@pytest.fixture
def studies(monkeypatch: pytest.MonkeyPatch) -> Studies:
    monkeypatch.setattr(calibration, "N_TEST", 31)
    shorter = calibration.STUDY.replace("max_epochs = 24", "max_epochs = 2")
    monkeypatch.setattr(calibration, "STUDY", shorter)
    return calibration.simulate_all(DESIGN, studies=3, processes=1)


def test_a_study_is_the_same_again_and_no_two_are_alike(studies: Studies) -> None:
    values = studies.values
    assert values.shape == (3, 2, len(calibration.FINALISTS), 5, len(calibration.METRICS))
    assert np.isfinite(values).all()
    assert np.array_equal(calibration.simulate(1, DESIGN), values[1])
    of_baseline = values[:, :, 0, :, 0]  # by study, noise and replicate
    assert len(np.unique(of_baseline)) == of_baseline.size


def test_prints_all_tables(studies: Studies, capsys: pytest.CaptureFixture[str]) -> None:
    calibration.report(studies)
    printed = capsys.readouterr().out
    assert printed.startswith("3 studies of 5 replicates, each of 23 training and 7 validation")
    for name in (
        "95 % interval of",
        "without effect",
        "true change",
        "variance of",
        "in pairs give",
    ):
        assert printed.count(name) == 1


def test_truth_is_the_mean_of_the_other_studies() -> None:
    assert calibration.others(np.array([1.0, 2.0, 6.0])).tolist() == [4, 3.5, 1.5]


def test_plain_intervals_of_independent_replicates_cover_95_percent() -> None:
    sample = np.random.default_rng(3).normal(5, 2, size=(1000, 11))
    shares = [
        calibration.covered([sample], DESIGN.rows_for(each)) for each in ("plain", "corrected")
    ]
    assert shares[0].mean() == pytest.approx(0.95, abs=0.015)
    assert shares[1].mean() > 0.99


def test_what_a_pool_adds_takes_the_correction_that_its_share_of_the_variance_needs() -> None:
    # The pool's variance is n_val/n_train of the rest: Nadeau and Bengio's own assumption.
    draw = np.random.default_rng(3)
    pool = np.sqrt(7 / 23) * draw.normal(size=(1000, 1))
    sample = pool + draw.normal(size=(1000, 11))
    assert calibration.covered([sample], DESIGN.rows_for("plain")).mean() < 0.75
    corrected = calibration.covered([sample], DESIGN.rows_for("corrected"))
    assert corrected.mean() == pytest.approx(0.95, abs=0.02)


def test_without_effect_all_finalists_have_one_truth(studies: Studies) -> None:
    shifted = calibration.without_effect(studies.values)
    means = np.array([[of_name.mean(axis=0) for of_name in each.values()] for each in shifted])
    raw = studies.values[:, 0].mean(axis=2)
    moved = raw - means  # by study, finalist and metric
    truth = calibration.others(raw)
    assert moved == pytest.approx(truth - truth.mean(axis=1, keepdims=True))


def test_without_effect_by_noise_the_two_are_one_configuration(studies: Studies) -> None:
    first = calibration.other_noise(studies.values)[0]
    winner = calibration.NAMES.index("winner")
    assert np.array_equal(first["winner"], studies.values[0, 0, winner])
    assert np.array_equal(first["winner_without_penalty"], studies.values[0, 1, winner])
    called = calibration.helpful(DESIGN, first, "plain", "test_loss")
    assert set(called) == {"early_stopping", "l1", "l2"}
