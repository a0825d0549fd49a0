"""What may be another when a study is resumed."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow import MlflowClient

from pipeline.config import ConfigError, StudyConfig, parse_config
from pipeline.search import Progress
from pipeline.space import SearchSpace
from pipeline.study import run_study
from pipeline.tracking.changes import DECIDING, RECORDED, VERSION_TAG, changes, version_tags
from tests.commands import command, study, with_store
from tests.studies.test_journal import SMALL, small, table

TWO = {"space.regularization": ["none", "l2"]}

ALWAYS = {
    "trials": ({}, {"search.n_trials": 3}),
    "population": ({}, {"search.population": 9}),
    "failures": ({}, {"search.max_failures": 0}),
    "confirmation": ({}, {"confirm.replicates": 5, "confirm.rule": "one_standard_error"}),
}
ON_REQUEST = {
    "higher": ({}, {"space.dropout.high": 0.8}),
    "lower": ({}, {"space.lambda.low": 1e-9}),
    "both ends": ({}, {"space.patience.low": 1, "space.patience.high": 40}),
    "a type more": (TWO, {"space.regularization": ["none", "l2", "elastic_net"]}),
    "types in another order": (TWO, {"space.regularization": ["l2", "none"]}),
    "pruner": ({}, {"search.pruner": "none", "search.pruner_warmup": 1}),
}
NEVER = {
    "seed": ({}, {"seed": 4}),
    "model": ({}, {"model.hidden": [8]}),
    "training": ({}, {"training.max_epochs": 10}),
    "target": ({}, {"data.target": "a"}),
    "split": ({}, {"data.test_size": 0.3}),
    "narrower": ({}, {"space.dropout.high": 0.5}),
    "narrower at one end": ({}, {"space.dropout.low": 0.1, "space.dropout.high": 0.9}),
    "a type less": ({}, {"space.regularization": ["none", "l2"]}),
    "a second type": ({"space.regularization": "l2"}, TWO),
    "another scale": ({}, {"space.lambda.log": False}),
    "no range any more": ({}, {"space.patience": "off"}),
    "a range in place of one value": ({"space.dropout": 0.3}, {"space.dropout": {"low": 0.1}}),
    "a new hyperparameter": ({}, {"space.learning_rate": {"low": 1e-3, "high": 1.0}}),
}


def pair(case: tuple[dict[str, object], dict[str, object]]) -> tuple[StudyConfig, StudyConfig]:
    before, after = case
    return small(**before), small(**{**before, **after})


@pytest.mark.parametrize("name", ALWAYS)
def test_what_always_may_change(name: str) -> None:
    assert changes(*pair(ALWAYS[name]), version_tags(), accept=False) == ([], [])


@pytest.mark.parametrize("name", ON_REQUEST)
def test_what_may_change_on_request(name: str) -> None:
    before, after = pair(ON_REQUEST[name])
    with pytest.raises(ConfigError, match=r"began .*, however: .*; --accept-changes goes on"):
        changes(before, after, version_tags(), accept=False)
    accepted, noted = changes(before, after, version_tags(), accept=True)
    assert len(accepted) == len(ON_REQUEST[name][1])
    assert all(" was " in each and ", is " in each for each in accepted)
    assert noted == []


@pytest.mark.parametrize("accept", [False, True])
@pytest.mark.parametrize("name", NEVER)
def test_what_never_may(name: str, accept: bool) -> None:
    before, after = pair(NEVER[name])
    with pytest.raises(ConfigError) as caught:
        changes(before, after, version_tags(), accept=accept)
    message = str(caught.value)
    assert "--accept-changes" not in message
    assert all(key.rpartition(".")[0] in message for key in NEVER[name][1])
    assert message.startswith("a resumed study must be the one that began (")


def test_all_that_changed_is_said() -> None:
    before, after = small(), small(seed=4, **{"model.hidden": [5]})
    expected = r"\(model.hidden = \[7\], seed = 3\), however: \[5\], 4 \(model.hidden, seed\)"
    with pytest.raises(ConfigError, match=expected):
        changes(before, after, {}, accept=False)


@pytest.mark.parametrize("package", RECORDED)
def test_versions(package: str) -> None:
    config, now = small(), version_tags()
    assert set(now) == {f"{VERSION_TAG}{name}" for name in RECORDED}
    then = {**now, f"{VERSION_TAG}{package}": "0.0.1"}
    told = [f"{package} was '0.0.1', is '{now[VERSION_TAG + package]}'"]
    if package not in DECIDING:
        assert changes(config, config, then, accept=False) == ([], told)
        return
    with pytest.raises(ConfigError, match=rf"\({package} = '0.0.1'\), however: .*accept-changes"):
        changes(config, config, then, accept=False)
    assert changes(config, config, then, accept=True) == (told, [])


def test_a_study_older_than_the_record_of_versions_goes_on() -> None:
    assert changes(small(), small(), {"study.state": "running"}, accept=False) == ([], [])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(with_store(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    return tmp_path


def interrupted(config: StudyConfig) -> None:
    def stop(progress: Progress) -> None:
        if progress.done >= 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_study(config, on_progress=stop)


def test_a_wider_space_is_searched_from_there_on(folder: Path) -> None:
    """What was asked stands, in all that is made of it: asks, importances, the report."""
    narrow = {"space.regularization": ["none", "l2"], "space.dropout.high": 0.2}
    interrupted(small(**narrow))
    wide = small(**{"space.regularization": ["l1", "none", "l2"], "search.n_trials": 24})
    with pytest.raises(ConfigError, match=r"space.dropout.high.*accept-changes"):
        run_study(wide, resume=True)
    result = run_study(wide, resume=True, accept_changes=True)
    trials = result.record.trials
    assert [trial.number for trial in trials] == list(range(24))
    assert len(result.record.complete) >= 10  # enough for importances
    assert {"l1", "l2", "none"} == {str(trial.hyperparameters.regularization) for trial in trials}
    asked_before = [trial.hyperparameters for trial in trials[:6]]
    assert all(chosen.dropout <= 0.2 for chosen in asked_before)
    assert any(trial.hyperparameters.dropout > 0.2 for trial in trials)
    tags = MlflowClient().get_run(result.parent_run_id).data.tags
    assert "space.dropout.high was 0.2, is 0.7" in tags["study.changes"]
    # From then on it is the study, and needs no acceptance.
    again = run_study(wide, resume=True)
    assert table(again) == table(result)
    with pytest.raises(ConfigError, match=r"space.dropout.high = 0.7"):
        run_study(small(**narrow), resume=True)


def test_another_version_is_refused_accepted_and_remembered(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    interrupted(small())
    client = MlflowClient()
    experiment = client.get_experiment_by_name("journal")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id], "tags.`study.state` != ''")
    now = version_tags()
    assert now.items() <= run.data.tags.items()
    client.set_tag(run.info.run_id, "study.versions.torch", "1.0")
    client.set_tag(run.info.run_id, "study.versions.mlflow", "3.1")
    with pytest.raises(ConfigError, match=r"torch = '1.0'\), however: "):
        run_study(small(), resume=True)
    assert len(run_study(small(), resume=True, accept_changes=True).record.trials) == 14
    tags = client.get_run(run.info.run_id).data.tags
    assert now.items() <= tags.items()
    assert tags["study.changes"] == f"torch was '1.0', is '{now['study.versions.torch']}'"
    notes = [line for line in caplog.messages if line.startswith("since the study began, ")]
    assert [line.split()[4] for line in notes] == ["torch", "mlflow"]


def test_other_data_are_never_accepted(folder: Path) -> None:
    rows = "\n".join(f"{n % 7},{n * n % 5},{n % 2}" for n in range(60))
    path = folder / "a.csv"
    path.write_text(f"a,b,c\n{rows}\n", encoding="utf-8")
    text = SMALL.replace("sklearn:iris", f"csv:{path}")
    config = parse_config(text, "x", Path("/"), {"search.n_trials": 2})
    run_study(config)
    path.write_text(f"a,b,c\n{rows}\n1,1,1\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"digest .*however"):
        run_study(config, resume=True, accept_changes=True)


def test_the_command_refuses_and_accepts(tmp_path: Path) -> None:
    path = study(with_store(tmp_path))
    assert command(tmp_path, "run", path, "--n-trials", "2").returncode == 0
    wider = ["run", path, "--resume", "--set", "space.dropout.high=0.9"]
    refused = command(tmp_path, *wider)
    assert refused.returncode == 2
    assert len(refused.stderr.splitlines()) == 1
    assert "(space.dropout.high = 0.7), however: 0.9 (space.dropout.high; --acc" in refused.stderr
    accepted = command(tmp_path, *wider, "--accept-changes=true")
    assert accepted.returncode == 0, accepted.stderr
    assert "since the study began, space.dropout.high was 0.7, is 0.9" in accepted.stderr


def test_a_space_within_itself() -> None:
    """The rule in `changes` compares what the file says: it must say every end."""
    document = SearchSpace().model_dump(mode="json", by_alias=True)
    for name in ("lambda", "l1_ratio", "dropout", "patience"):
        assert set(document[name]) == {"low", "high", "log"}
