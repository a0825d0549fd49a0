"""The prepared views: every chart has drawn every trial that it can, in the order of the view."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pipeline.space import Regularization
from pipeline.store import TRIALS_VIEW, runs_page
from tests.ui.studied import Studied, keys_of

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

Shoot = Callable[["Page", str], Path]

# Lines of parallel coordinates are strokes on a canvas: it is told to count them.
COUNT_LINES = """
for (const name of ["clearRect", "stroke"]) {
  const original = CanvasRenderingContext2D.prototype[name];
  CanvasRenderingContext2D.prototype[name] = function (...values) {
    const data = this.canvas.dataset;
    data.lines = name === "stroke" ? Number(data.lines || 0) + 1 : 0;
    return original.apply(this, values);
  };
}
"""


@pytest.fixture
def page(page: Page) -> Page:
    page.add_init_script(COUNT_LINES)
    return page


def cards(page: Page) -> Locator:
    return page.get_by_test_id("experiment-view-compare-runs-card")


def rows(page: Page) -> Locator:
    """The names in the table, top to bottom."""
    return page.locator(".ag-row a[href*='/runs/']")


def expect_all_drawn(
    page: Page, charts: list[dict[str, Any]], drawn: list[set[str]], points: Callable[..., int]
) -> None:
    """Waits until every chart shows all that it can.

    Args:
        page: A view.
        charts: What the view asks for.
        drawn: The keys of each thing that is drawn, a run or a group of runs.
        points: How many points the curves of some metrics have.
    """
    from playwright.sync_api import expect

    def with_all(*keys: str) -> int:
        count = sum(set(keys) <= each for each in drawn)
        assert count > 1
        return count

    expect(cards(page)).to_have_count(len(charts))
    for number, chart in enumerate(charts):
        card = cards(page).nth(number)
        if chart["type"] == "PARALLEL":
            axes = [*chart["selectedParams"], *chart["selectedMetrics"]]
            expect(card.locator(".dimension .label")).to_have_text(axes)
            lines = card.locator(".parcoords canvas.foreground")
            expect(lines).to_have_attribute("data-lines", str(with_all(*axes)))
        elif chart["type"] == "SCATTER":
            count = with_all(chart["xaxis"]["key"], chart["yaxis"]["key"])
            expect(card.locator(".scatterlayer .point")).to_have_count(count)
        elif chart["type"] == "LINE":
            count = points(chart["selectedMetricKeys"])
            expect(card.locator(".scatterlayer .point")).to_have_count(count)
        else:
            expect(card.locator(".js-plotly-plot .main-svg").first).to_be_visible()


def test_the_printed_link_opens_all_trials_in_charts(
    page: Page, root: str, studied: Studied, shoot: Shoot
) -> None:
    from playwright.sync_api import expect

    page.goto(root + studied.link)
    expect(rows(page)).to_have_text(studied.names)
    expect_all_drawn(
        page,
        studied.view(TRIALS_VIEW)["compareRunCharts"],
        [keys_of(run) for run in studied.trials],
        lambda keys: sum(studied.curve_points(run, keys) for run in studied.trials),
    )
    shoot(page, "view-of-all-trials")


def test_the_best_trials_are_told_apart_by_their_curves(
    page: Page, root: str, studied: Studied, shoot: Shoot
) -> None:
    best = studied.trials[:10]
    page.goto(root + runs_page(studied.parent.info.experiment_id, "study-best"))
    expect_all_drawn(
        page,
        studied.view("study-best")["compareRunCharts"],
        [keys_of(run) for run in best],
        lambda keys: sum(studied.curve_points(run, keys) for run in best),
    )
    shoot(page, "view-of-the-best-trials")


def test_trials_are_averaged_by_regularization_type(
    page: Page, root: str, studied: Studied, shoot: Shoot
) -> None:
    from playwright.sync_api import expect

    groups: dict[str, set[str]] = {}
    for run in studied.trials:
        keys = groups.setdefault(run.data.params["regularization"], set())
        keys |= keys_of(run)
    assert len(groups) == len(Regularization)
    # All of them trained as long, so a group's curve has as many points as a trial's.
    page.goto(root + runs_page(studied.parent.info.experiment_id, "study-types"))
    for kind in groups:
        expect(page.locator(f'.ag-row[row-id="param.regularization.{kind}"]').first).to_be_visible()
    expect_all_drawn(
        page,
        studied.view("study-types")["compareRunCharts"],
        list(groups.values()),
        lambda keys: len(groups) * studied.curve_points(studied.trials[0], keys),
    )
    shoot(page, "view-by-regularization-type")


def test_the_table_has_the_columns_and_the_order_of_the_view(
    page: Page, root: str, studied: Studied, shoot: Shoot
) -> None:
    from playwright.sync_api import expect

    page.goto(root + studied.link.replace("compareRunsMode=CHART", "compareRunsMode=TABLE"))
    columns = studied.view(TRIALS_VIEW)["selectedColumns"]
    for column in columns:
        expect(page.locator(f'.ag-header-cell[col-id="{column}"]')).to_be_visible()
    # The order in the page's source is another than that from left to right.
    places = page.locator(".ag-header-cell").evaluate_all(
        "cells => cells.map(cell => [cell.getBoundingClientRect().x, cell.getAttribute('col-id')])"
    )
    assert [name for _, name in sorted(places) if name in columns] == columns
    expect(rows(page)).to_have_text(studied.names)
    losses = [str(run.data.metrics["final/val_loss"]) for run in studied.trials]
    expect(page.locator('.ag-cell[col-id="metrics.`final/val_loss`"]')).to_have_text(losses)
    shoot(page, "view-as-a-table")
