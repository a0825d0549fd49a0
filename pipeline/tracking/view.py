"""Owns the views that an experiment opens on in MLflow's UI: its columns, their order, its charts.

A saved view is a tag of the experiment, `mlflow.sharedViewState.KEY`, whose value is a JSON object
with `name`, `createdAt`, `updatedAt` and `state`; `state` is a JSON text once more: what the UI
holds of the search and of the page. The UI documents none of this. So a view is saved only where
its version was seen to draw it, and no study fails for the want of one.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.space import Regularization
from pipeline.store import TRIALS_VIEW, is_server, runs_page
from pipeline.tracking.client import milliseconds
from pipeline.tracking.patience import patience_with

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from pipeline.config import StudyConfig

# Versions of MLflow whose UI was seen to draw these views. To add one: open each link of an
# experiment's description in a browser, look for every chart below, then in the table for every
# column.
SEEN_WITH = ("3.17",)

TAG_PREFIX = "mlflow.sharedViewState."
NOTE_TAG = "mlflow.note.content"

# Where the run's name and its age stand, the UI lets nothing stand before them.
FIRST_COLUMNS = ("attributes.`Run Name`", "runDateAndNestInfo")
COLUMN_WIDTH = 110
# How many charts stand side by side in each section.
COLUMNS_OF_CHARTS = {"All trials": 1, "Trials with a penalty": 1, "Generalization": 2, "Curves": 2}
# The UI makes a chart of each metric that has none, in a section named after what is before its
# slash. They are folded away, under those that were made for reading.
GENERATED_SECTIONS = ("final", "loss", "score")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class View:
    """One way of looking at the trials of an experiment.

    Attributes:
        key: Its address.
        name: What the UI's list of views calls it.
        shown: Which of the runs, best first, are drawn: the UI's name for it.
        grouped: Whether the trials of a regularization type are drawn as their average.
    """

    key: str
    name: str
    shown: str = "SHOW_ALL"
    grouped: bool = False


# A hundred trials make a cloud that tells something, but no curves that can be told apart: the UI
# shows the same runs in all charts of a view.
VIEWS = (
    View(TRIALS_VIEW, "Trials"),
    View("study-best", "Ten best trials", shown="FIRST_10_RUNS"),
    View("study-types", "By regularization", grouped=True),
)


def save_views(client: MlflowClient, experiment_id: str, config: StudyConfig) -> bool:
    """Saves the views in an experiment and links to them in its description, if it has none.

    A view that is there already stays untouched unless it differs.

    Args:
        client: Of the store.
        experiment_id: The experiment.
        config: The study that is to be looked at.

    Returns:
        Whether they are there. They are not where the UI is of another version than those that
        were seen to draw them, nor where anything goes wrong.
    """
    try:
        if _ui_version(client.tracking_uri).rpartition(".")[0] not in SEEN_WITH:
            return False
        tags = client.get_experiment(experiment_id).tags
        for view in VIEWS:
            key = f"{TAG_PREFIX}{view.key}"
            saved = _saved(view, json.dumps(_state(view, config)), tags.get(key))
            if saved is not None:
                client.set_experiment_tag(experiment_id, key, saved)
        if not tags.get(NOTE_TAG, "").strip():
            client.set_experiment_tag(experiment_id, NOTE_TAG, links(experiment_id, saved=True))
    except Exception as error:
        if patience_with(error):
            raise
        logger.debug("no view was saved in experiment %s", experiment_id, exc_info=True)
        return False
    return True


def links(experiment_id: str, *, saved: bool) -> str:
    """A sentence in Markdown that leads to an experiment's trials in the UI.

    Args:
        experiment_id: The experiment.
        saved: Whether it has the views; without them the UI has one page of trials.
    """
    if not saved:
        return f"Every trial is a run: [all of them]({runs_page(experiment_id, None)})."
    trials, best, types = (runs_page(experiment_id, view.key) for view in VIEWS)
    return (
        f"Every trial is a run: [all of them in charts]({trials}), [the curves of the ten "
        f"best]({best}), [averages by regularization type]({types})."
    )


def _ui_version(uri: str) -> str:
    """The version of the MLflow whose UI shows a store."""
    if is_server(uri):
        from mlflow.utils.credentials import get_default_host_creds
        from mlflow.utils.rest_utils import http_request

        # With the user's password: a server that asks for one asks for it here, too.
        answer = http_request(get_default_host_creds(uri.rstrip("/")), "/version", "GET", timeout=5)
        answer.raise_for_status()
        return str(answer.text)
    import mlflow

    return mlflow.__version__


def _saved(view: View, state: str, before: str | None) -> str | None:
    """A view's tag; None where the one that is there says the same."""
    created = now = milliseconds()
    try:
        old = json.loads(before or "{}")
        if (old.get("name"), old.get("state")) == (view.name, state):
            return None
        created = int(old.get("createdAt", now))
    except (ValueError, TypeError, AttributeError):
        pass  # whatever it is, it is no view
    return json.dumps({"name": view.name, "createdAt": created, "updatedAt": now, "state": state})


def _state(view: View, config: StudyConfig) -> dict[str, Any]:
    params = _params(config)
    columns = [
        *(f"params.`{name}`" for name in ("regularization", "lambda", *params)),
        *(f"metrics.`final/{name}`" for name in ("val_loss", "gap", "best_epoch")),
        *(f"tags.`{name}`" for name in ("trial.state", "stage")),
    ]
    keys = [{"mode": "param", "groupByData": "regularization"}]
    charts = list(_charts(view, config, params))
    sections = dict.fromkeys(chart["metricSectionId"] for chart in charts)
    return {
        # A finalist's values are of other splits: they cannot be compared with a trial's.
        "searchFilter": "tags.stage = 'search'",
        "orderByKey": "metrics.`final/val_loss`",
        "orderByAsc": True,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "modelVersionFilter": "All Runs",
        "datasetsFilter": [],
        "selectedColumns": columns,
        "columnOrder": [*FIRST_COLUMNS, *columns],
        "columnWidths": dict.fromkeys(columns, COLUMN_WIDTH),
        "runsHiddenMode": view.shown,
        "groupBy": {"aggregateFunction": "average", "groupByKeys": keys} if view.grouped else None,
        "groupsExpanded": {f"param.regularization.{kind}": False for kind in Regularization},
        "useGroupedValuesInCharts": True,
        # No chart of what no trial has.
        "hideEmptyCharts": True,
        "isAccordionReordered": True,
        "compareRunSections": [
            *(_section(name) | {"columns": COLUMNS_OF_CHARTS[name]} for name in sections),
            *(_section(name) | {"display": False} for name in GENERATED_SECTIONS),
        ],
        "compareRunCharts": charts,
    }


def _params(config: StudyConfig) -> list[str]:
    """What every trial has beside its regularization.

    A trial that lacks one of a chart's params is not in that chart.
    """
    params = ["dropout"] if config.has_dropout else []
    params.append("patience")
    if config.space.learning_rate is not None:
        params.append("learning_rate")
    return params


def _charts(view: View, config: StudyConfig, params: Sequence[str]) -> Iterator[dict[str, Any]]:
    penalized = set(config.space.regularization) != {Regularization.NONE}
    curves = [_lines("losses", "loss/train", "loss/val"), _lines("gaps", "gap/loss")]
    if view.shown != "SHOW_ALL":
        yield from curves
        curves = []
    elif view.grouped:
        # Of a group there are averages, and with a text among its params the UI draws nothing.
        numbers = [name for name in params if name == "dropout"]
        metrics = ["final/best_epoch", "final/gap", "final/val_loss"]
        yield _parallel("space", "All trials", numbers, metrics)
    else:
        axes = ["regularization", *params]
        yield _parallel("space", "All trials", axes, ["final/val_loss"])
        if penalized:
            # A linear axis of lambda would have most trials at its end, and 0 has no logarithm.
            axes.insert(1, "log10_lambda")
            yield _parallel("penalties", "Trials with a penalty", axes, ["final/val_loss"])
    gap = _axis("METRIC", "final/gap")
    yield _scatter("plane", _axis("METRIC", "final/val_loss"), gap)
    if penalized:
        yield _scatter("strength", _axis("PARAM", "log10_lambda"), gap)
    yield from curves


def _parallel(
    uuid: str, section: str, params: Sequence[str], metrics: Sequence[str]
) -> dict[str, Any]:
    """Parallel coordinates; the last metric colours the lines."""
    return _chart(uuid, "PARALLEL", section) | {
        "selectedParams": list(params),
        "selectedMetrics": list(metrics),
        "showAllRuns": True,
    }


def _scatter(uuid: str, x: dict[str, str], y: dict[str, str]) -> dict[str, Any]:
    return _chart(uuid, "SCATTER", "Generalization") | {"xaxis": x, "yaxis": y}


def _lines(uuid: str, *metrics: str) -> dict[str, Any]:
    return _chart(uuid, "LINE", "Curves") | {
        "metricKey": metrics[0],
        "selectedMetricKeys": list(metrics),
        "lineSmoothness": 0,
        "scaleType": "linear",
        "xAxisScaleType": "linear",
        "xAxisKey": "step",
        "selectedXAxisMetricKey": "",
        "yAxisKey": "metric",
        "yAxisExpressions": [],
        "range": {},
        "ignoreOutliers": False,
        "useGlobalXaxisKey": True,
        "useGlobalLineSmoothing": True,
    }


def _chart(uuid: str, kind: str, section: str) -> dict[str, Any]:
    return {
        "uuid": uuid,
        "type": kind,
        "metricSectionId": section,
        "runsCountToCompare": 100,
        "deleted": False,
        "isGenerated": False,
    }


def _axis(kind: str, key: str) -> dict[str, str]:
    return {"key": key, "type": kind}


def _section(name: str) -> dict[str, Any]:
    return {"uuid": name, "name": name, "display": True, "isReordered": False}
