"""The views that an experiment opens on: what they name is there, and they never hurt a study."""

from __future__ import annotations

import base64
import http.server
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from pipeline.config import StudyConfig
from pipeline.report import experiment_markdown, summary_markdown
from pipeline.report.summary import EXPERIMENT_LIMIT, RUN_LIMIT
from pipeline.store import TRIALS_VIEW, run_page, ui_command_and_link
from pipeline.study import StudyResult, run_study
from pipeline.tracking.note import OWN_TAG, describe_experiment
from pipeline.tracking.view import NOTE_TAG, TAG_PREFIX, VIEWS, _ui_version, links, save_views
from tests.builders import tiny_config
from tests.commands import PROJECT, with_store

IRIS = {"data.source": "sklearn:iris"}
ALL_VARY = {**IRIS, "space.learning_rate": {"low": 0.001, "high": 0.01}}


@pytest.fixture(autouse=True)
def uri(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty store, and no other."""
    return in_store(tmp_path, monkeypatch)


def in_store(folder: Path, patch: pytest.MonkeyPatch) -> str:
    address = f"sqlite:///{with_store(folder)}/mlflow.db"
    patch.chdir(folder)
    patch.setenv("MLFLOW_TRACKING_URI", address)
    for variable in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID"):
        patch.delenv(variable, raising=False)
    mlflow.set_tracking_uri(None)
    return address


@pytest.fixture(scope="module")
def studied(tmp_path_factory: pytest.TempPathFactory) -> StudyResult:
    """A study in a store of its own."""
    with pytest.MonkeyPatch.context() as patch:
        in_store(tmp_path_factory.mktemp("studied"), patch)
        return run_study(tiny_config(ALL_VARY))


def tags_of(client: MlflowClient, experiment_id: str) -> dict[str, str]:
    tags: dict[str, str] = client.get_experiment(experiment_id).tags
    return tags


def states(tags: dict[str, str]) -> dict[str, dict[str, Any]]:
    """The views' states by key."""
    return {
        view.key: json.loads(json.loads(tags[f"{TAG_PREFIX}{view.key}"])["state"]) for view in VIEWS
    }


def charts(state: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [chart for chart in state["compareRunCharts"] if chart["type"] == kind]


def opened(uri: str, config: StudyConfig | None = None) -> tuple[MlflowClient, str]:
    """An experiment with the views of a study."""
    client = MlflowClient(uri)
    experiment_id = client.create_experiment("opened")
    assert save_views(client, experiment_id, config or tiny_config())
    return client, experiment_id


class TestStudy:
    def tags(self, studied: StudyResult) -> dict[str, str]:
        return tags_of(MlflowClient(studied.tracking_uri), studied.record.experiment_id)

    def trials(self, studied: StudyResult) -> list[Run]:
        client = MlflowClient(studied.tracking_uri)
        found = client.search_runs([studied.record.experiment_id], "tags.stage = 'search'")
        assert len(found) == 7
        return list(found)

    def test_each_view_is_a_json_object_that_holds_a_json_text(self, studied: StudyResult) -> None:
        for view in VIEWS:
            saved = json.loads(self.tags(studied)[f"{TAG_PREFIX}{view.key}"])
            assert saved.keys() == {"name", "createdAt", "updatedAt", "state"}
            assert saved["name"] == view.name
            assert saved["createdAt"] == saved["updatedAt"] > 1.7e12
            assert isinstance(json.loads(saved["state"]), dict)

    def test_every_name_in_a_view_is_one_that_trials_have(self, studied: StudyResult) -> None:
        runs = [run.data for run in self.trials(studied)]
        held = {f"params.`{name}`" for run in runs for name in run.params}
        held |= {f"metrics.`{name}`" for run in runs for name in run.metrics}
        held |= {f"tags.`{name}`" for run in runs for name in run.tags}
        for state in states(self.tags(studied)).values():
            named = {*state["selectedColumns"], state["orderByKey"]}
            for chart in state["compareRunCharts"]:
                named |= {f"params.`{name}`" for name in chart.get("selectedParams", [])}
                named |= {f"metrics.`{name}`" for name in chart.get("selectedMetrics", [])}
                named |= {f"metrics.`{name}`" for name in chart.get("selectedMetricKeys", [])}
                for axis in (chart[key] for key in ("xaxis", "yaxis") if key in chart):
                    named.add(f"{axis['type'].lower()}s.`{axis['key']}`")
            assert named <= held

    def test_a_trial_of_any_type_has_all_params_of_the_chart_of_all(
        self, studied: StudyResult
    ) -> None:
        """The UI leaves out a run that lacks one."""
        chart = charts(states(self.tags(studied))[TRIALS_VIEW], "PARALLEL")[0]
        params = {"regularization", "dropout", "patience", "learning_rate"}
        assert set(chart["selectedParams"]) == params
        assert chart["selectedMetrics"][-1] == "final/val_loss"
        assert all(params <= run.data.params.keys() for run in self.trials(studied))

    def test_columns_and_order(self, studied: StudyResult) -> None:
        for state in states(self.tags(studied)).values():
            names = [column.split("`")[1] for column in state["selectedColumns"]]
            assert names == [
                *("regularization", "lambda", "dropout", "patience", "learning_rate"),
                *("final/val_loss", "final/gap", "final/best_epoch", "trial.state", "stage"),
            ]
            assert (state["orderByKey"], state["orderByAsc"]) == ("metrics.`final/val_loss`", True)

    def test_each_view_has_its_charts_in_its_sections(self, studied: StudyResult) -> None:
        by_key = states(self.tags(studied))
        kinds = {
            key: [chart["type"] for chart in state["compareRunCharts"]]
            for key, state in by_key.items()
        }
        assert kinds == {
            "study-trials": ["PARALLEL", "PARALLEL", "SCATTER", "SCATTER", "LINE", "LINE"],
            "study-best": ["LINE", "LINE", "SCATTER", "SCATTER"],
            "study-types": ["PARALLEL", "SCATTER", "SCATTER", "LINE", "LINE"],
        }
        for state in by_key.values():
            ids = [chart["uuid"] for chart in state["compareRunCharts"]]
            assert len(set(ids)) == len(ids)
            shown = [each["uuid"] for each in state["compareRunSections"] if each["display"]]
            used = dict.fromkeys(chart["metricSectionId"] for chart in state["compareRunCharts"])
            assert shown == list(used)

    def test_one_view_is_grouped_by_regularization(self, studied: StudyResult) -> None:
        by_key = states(self.tags(studied))
        key = {"mode": "param", "groupByData": "regularization"}
        grouped = by_key.pop("study-types")
        assert grouped["groupBy"] == {"aggregateFunction": "average", "groupByKeys": [key]}
        # With a text among a group's params the UI would draw nothing.
        assert charts(grouped, "PARALLEL")[0]["selectedParams"] == ["dropout"]
        assert all(state["groupBy"] is None for state in by_key.values())

    def test_views_hold_the_trials_alone(self, studied: StudyResult) -> None:
        client, experiment_id = MlflowClient(studied.tracking_uri), studied.record.experiment_id
        client.create_run(experiment_id, tags={"stage": "confirm"})
        assert len(client.search_runs([experiment_id])) == 9
        for state in states(self.tags(studied)).values():
            runs = client.search_runs([experiment_id], state["searchFilter"])
            assert {run.data.tags["trial.number"] for run in runs} == set(map(str, range(7)))

    def test_experiment_and_parent_lead_to_the_views(self, studied: StudyResult) -> None:
        run = MlflowClient(studied.tracking_uri).get_run(studied.parent_run_id)
        for note in (self.tags(studied)[NOTE_TAG], run.data.tags[NOTE_TAG]):
            for view in VIEWS:
                assert "?workflowType=machine_learning&" in note
                assert f"&viewStateShareKey={view.key}&" in note
        assert studied.record.name in run.data.tags[NOTE_TAG]
        assert studied.view

    def test_experiment_and_parent_begin_with_links_and_the_answer(
        self, studied: StudyResult
    ) -> None:
        client, record = MlflowClient(studied.tracking_uri), studied.record
        to_trials = links(record.experiment_id, saved=True)
        page = run_page(record.experiment_id, record.run_id)
        run = client.get_run(record.run_id)
        assert run.data.tags[NOTE_TAG] == summary_markdown(record, to_trials)
        assert self.tags(studied)[NOTE_TAG] == experiment_markdown(record, to_trials, page)


def test_the_installed_mlflow_is_one_that_was_looked_at(uri: str) -> None:
    """Where this fails, MLflow is newer: see what `SEEN_WITH` asks for."""
    opened(uri)


def test_a_view_that_is_there_is_left_alone(uri: str) -> None:
    client, experiment_id = opened(uri)
    before = tags_of(client, experiment_id)
    assert save_views(client, experiment_id, tiny_config())
    assert tags_of(client, experiment_id) == before


@pytest.mark.parametrize("content", ["", "no view", "[]", '{"createdAt": "then"}', "null", "7"])
def test_what_is_no_view_is_replaced(uri: str, content: str) -> None:
    client, experiment_id = opened(uri)
    before = tags_of(client, experiment_id)
    client.set_experiment_tag(experiment_id, f"{TAG_PREFIX}{TRIALS_VIEW}", content)
    assert save_views(client, experiment_id, tiny_config())
    assert states(tags_of(client, experiment_id)) == states(before)


def test_a_view_that_differs_is_replaced_and_keeps_its_birthday(uri: str) -> None:
    client, experiment_id = opened(uri)
    key = f"{TAG_PREFIX}{TRIALS_VIEW}"
    old = {**json.loads(tags_of(client, experiment_id)[key]), "createdAt": 5, "state": "{}"}
    client.set_experiment_tag(experiment_id, key, json.dumps(old))
    assert save_views(client, experiment_id, tiny_config())
    new = json.loads(tags_of(client, experiment_id)[key])
    assert new["state"] != "{}"
    assert new["createdAt"] == 5 < new["updatedAt"]


def test_what_a_network_or_a_space_lacks_is_in_no_view(uri: str) -> None:
    linear = {"model.hidden": [], "space.regularization": "none"}
    client, experiment_id = opened(uri, tiny_config(linear))
    for saved in (tags_of(client, experiment_id)[f"{TAG_PREFIX}{view.key}"] for view in VIEWS):
        assert "patience" in saved
        for absent in ("dropout", "log10_lambda", "learning_rate", "with a penalty"):
            assert absent not in saved


@pytest.mark.parametrize(("note", "kept"), [("Ask Ann first.", True), (" \n", False)])
def test_a_persons_description_is_kept(uri: str, note: str, kept: bool) -> None:
    client = MlflowClient(uri)
    experiment_id = client.create_experiment("described", tags={NOTE_TAG: note})
    assert save_views(client, experiment_id, tiny_config())
    expected = note if kept else links(experiment_id, saved=True)
    assert tags_of(client, experiment_id)[NOTE_TAG] == expected
    assert len(states(tags_of(client, experiment_id))) == len(VIEWS)


def experiment(uri: str, **tags: str) -> tuple[MlflowClient, str]:
    client = MlflowClient(uri)
    named = {{"note": NOTE_TAG, "own": OWN_TAG}[key]: text for key, text in tags.items()}
    return client, client.create_experiment("described", tags=named)


def note_of(client: MlflowClient, experiment_id: str) -> str | None:
    return tags_of(client, experiment_id).get(NOTE_TAG)


def test_the_description_that_a_study_leaves_is_replaced_by_the_next_ones(uri: str) -> None:
    client, experiment_id = experiment(uri)
    for note in ("first", "second", "second", "third"):
        assert describe_experiment(client, experiment_id, note)
        assert note_of(client, experiment_id) == note


@pytest.mark.parametrize("saved", [True, False])
def test_the_links_that_a_study_begins_with_are_its_own(uri: str, saved: bool) -> None:
    client, experiment_id = experiment(uri)
    client.set_experiment_tag(experiment_id, NOTE_TAG, links(experiment_id, saved=saved))
    assert describe_experiment(client, experiment_id, "told")
    assert note_of(client, experiment_id) == "told"


@pytest.mark.parametrize("after", ["Ask Ann first.", "told, and more", "tol"])
def test_a_description_that_a_person_wrote_or_changed_is_never_replaced(
    uri: str, after: str
) -> None:
    client, experiment_id = experiment(uri)
    assert describe_experiment(client, experiment_id, "told")
    client.set_experiment_tag(experiment_id, NOTE_TAG, after)
    assert not describe_experiment(client, experiment_id, "told again")
    assert save_views(client, experiment_id, tiny_config())
    assert note_of(client, experiment_id) == after
    # One that is emptied is given back.
    client.set_experiment_tag(experiment_id, NOTE_TAG, " ")
    assert describe_experiment(client, experiment_id, "told again")


def test_a_program_that_dies_between_both_tags_leaves_a_description_of_its_own(uri: str) -> None:
    client, experiment_id = experiment(uri)
    assert describe_experiment(client, experiment_id, "first")
    with closing(sqlite3.connect(uri.removeprefix("sqlite:///"))) as connection:
        refuse = (
            "create trigger refuse before update on experiment_tags "
            f"when new.key = '{NOTE_TAG}' begin select raise(abort, 'full'); end"
        )
        connection.execute(refuse)
        connection.commit()
        assert not describe_experiment(client, experiment_id, "second")
        connection.execute("drop trigger refuse")
        connection.commit()
    assert note_of(client, experiment_id) == "first"
    assert describe_experiment(client, experiment_id, "third")


def test_what_cannot_be_described_hurts_nothing(uri: str) -> None:
    assert not describe_experiment(MlflowClient(uri), "404", "told")
    client, experiment_id = experiment(uri)
    assert not describe_experiment(client, experiment_id, "x" * 50_000)
    assert note_of(client, experiment_id) is None


def test_two_studies_of_an_experiment_leave_the_words_of_the_last(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "shared")
    client = MlflowClient(uri)
    first = run_study(tiny_config({**IRIS, "search.n_trials": 3}))
    experiment_id = first.record.experiment_id
    assert run_page(experiment_id, first.parent_run_id) in (note_of(client, experiment_id) or "")
    # The longest name, and a table that lies deep, end a study as well as any other.
    deep = Path.cwd().joinpath(*["[d]" * 66] * 12)
    deep.mkdir(parents=True)
    rows = "".join(f"{n},{n % 7},{'ab'[n % 2]}\n" for n in range(60))
    (deep / "t.csv").write_text(f"x,y,label\n{rows}", encoding="utf-8")
    long = {"data.source": f"csv:{deep}/t.csv", "name": "<*`|[" * 40}
    second = run_study(tiny_config({**long, "search.n_trials": 3}))
    note = note_of(client, experiment_id) or ""
    assert run_page(experiment_id, second.parent_run_id) in note
    assert first.parent_run_id not in note
    assert len(note) <= EXPERIMENT_LIMIT
    run = client.get_run(second.parent_run_id)
    assert len(run.data.tags[NOTE_TAG]) <= RUN_LIMIT
    assert run.info.status == "FINISHED"
    assert run.data.tags[NOTE_TAG].endswith(f"reproduce {second.best_trial.run_id}`.\n")
    client.set_experiment_tag(experiment_id, NOTE_TAG, "Ask Ann first.")
    run_study(tiny_config({**IRIS, "search.n_trials": 3}))
    assert note_of(client, experiment_id) == "Ask Ann first."


def test_an_interrupted_study_leaves_the_description_alone(uri: str) -> None:
    def stop(_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_study(tiny_config(IRIS), on_progress=stop)
    client = MlflowClient(uri)
    (found,) = client.search_experiments(filter_string="name = 'tiny'")
    assert found.tags[NOTE_TAG] == links(found.experiment_id, saved=True)


@pytest.mark.parametrize("version", ["3.16.9", "3.170.0", "4.0.0", "dev"])
def test_a_version_that_was_not_looked_at_gets_no_view(
    uri: str, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = MlflowClient(uri)
    experiment_id = client.create_experiment("unseen")
    monkeypatch.setattr(mlflow, "__version__", version)
    assert not save_views(client, experiment_id, tiny_config())
    assert not any(key.startswith(TAG_PREFIX) for key in tags_of(client, experiment_id))


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_ui_prints_the_link_to_the_view_of_each_experiment(uri: str) -> None:
    client, experiment_id = opened(uri)
    client.create_run(experiment_id)
    client.create_run("0")  # of an experiment without a view
    makefile = (PROJECT / "Makefile").read_text(encoding="utf-8")
    define = re.search(r"^define FIND_VIEWS$.*?^endef$", makefile, flags=re.DOTALL | re.MULTILINE)
    assert define is not None
    export = "export FIND_VIEWS := $(FIND_VIEWS)"
    recipe = f'all:\n\t@"{sys.executable}" -c "$$FIND_VIEWS"\n'
    Path("Makefile").write_text(f"PORT = 5000\n{define[0]}\n{export}\n{recipe}", encoding="utf-8")
    # The tests may run under make themselves: its flags would reach this one, which then says more.
    flags = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")
    environment = {key: value for key, value in os.environ.items() if key not in flags}
    printed = subprocess.run(
        ["make"], env=environment, capture_output=True, text=True, check=True
    ).stdout
    _, link = ui_command_and_link(uri, experiment_id, view=True)
    assert printed == f"  opened: {link}\n"


def test_without_an_experiment_nothing_is_raised(uri: str) -> None:
    assert not save_views(MlflowClient(uri), "404", tiny_config())


def test_a_study_in_a_store_that_takes_no_view_is_complete(uri: str) -> None:
    with closing(sqlite3.connect(uri.removeprefix("sqlite:///"))) as connection:
        connection.execute(
            "create trigger refuse before insert on experiment_tags "
            "when new.key like 'mlflow.sharedViewState.%' begin select raise(abort, 'full'); end"
        )
        connection.commit()
    result = run_study(tiny_config(IRIS))
    client = MlflowClient(uri)
    run = client.get_run(result.parent_run_id)
    assert run.info.status == "FINISHED"
    assert len(result.trials) == 7
    assert not result.view
    # No link leads to what is not there.
    _, link = ui_command_and_link(uri, result.record.experiment_id, view=result.view)
    for text in (run.data.tags[NOTE_TAG], link):
        assert "workflowType=machine_learning" in text
        assert "viewStateShareKey" not in text


@pytest.fixture
def server() -> Iterator[str]:
    """Answers as the version of an MLflow server does that asks for a password."""
    credentials = base64.b64encode(b"me:secret").decode()

    class Version(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = self.headers["Authorization"] == f"Basic {credentials}"
            self.send_response((200 if known else 401) if self.path == "/version" else 404)
            self.end_headers()
            self.wfile.write(b"9.8.7")

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Version) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def test_behind_a_server_it_is_its_version_that_counts(
    server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "me")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "secret")
    assert _ui_version(f"{server}/") == "9.8.7"
