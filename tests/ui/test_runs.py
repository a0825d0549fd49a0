"""A study's own run and a trial's: what they say and hold can be read where they are opened."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from pipeline.tracking.view import VIEWS
from tests.ui.studied import COLUMN, NAME, Studied, words

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Locator, Page

Shoot = Callable[["Page", str], Path]


def description(page: Page) -> Locator:
    # The second is that of the run's logged model.
    return page.get_by_test_id("note-view-outer-container").first


def open_artifact(page: Page, name: str) -> None:
    page.get_by_role("tab", name="Artifacts").click()
    page.get_by_test_id("artifact-tree-node").get_by_text(name, exact=True).click()


def test_the_description_opens_with_its_first_sentence(
    page: Page, root: str, studied: Studied, shoot: Shoot
) -> None:
    from playwright.sync_api import expect

    page.goto(root + studied.page_of(studied.parent))
    expect(page.get_by_test_id("runs-header")).to_have_text(NAME)
    note = description(page)
    expect(note).to_contain_text(studied.first_words()[0])
    shown = words(note.inner_text())
    first = studied.first_words()
    assert first == [word for word in shown if word != "Description"][: len(first)]
    shoot(page, "parent-run")


@pytest.mark.parametrize("key", [view.key for view in VIEWS])
def test_the_description_leads_to_each_view(
    context: BrowserContext,
    page: Page,
    watched: Callable[[Page], Page],
    root: str,
    studied: Studied,
    key: str,
) -> None:
    from playwright.sync_api import expect

    page.goto(root + studied.page_of(studied.parent))
    # The answer comes first, and what stands below it may be folded.
    page.get_by_test_id("show-comment-toggle").first.click()
    with context.expect_page() as opened:
        description(page).locator(f"a[href*='={key}&']").first.click()
    view = watched(opened.value)
    charts = studied.view(key)["compareRunCharts"]
    expect(view.get_by_test_id("experiment-view-compare-runs-card")).to_have_count(len(charts))


def test_the_report_draws_in_the_artifact_pane(
    page: Page, root: str, studied: Studied, shoot: Shoot
) -> None:
    from playwright.sync_api import expect

    page.goto(root + studied.page_of(studied.parent))
    open_artifact(page, "report.html")
    report = page.frame_locator("iframe")
    expect(report.locator("html")).to_have_attribute("data-drawn", "yes")
    expect(report.get_by_role("heading", level=1)).to_have_text(NAME)
    expect(report.locator("#trials tbody tr")).to_have_count(len(studied.trials))
    # The pane lets no page open another: a person's menu does, if the address is whole.
    link = report.locator("#trials tbody a").first
    expect(link).to_have_attribute("href", root + studied.page_of(studied.trials[0]))
    expect(report.locator("#in-pane")).to_be_visible()
    shoot(page, "report-in-the-artifact-pane")


def test_a_column_named_like_a_script_stays_text(
    page: Page, root: str, studied: Studied, shoot: Shoot
) -> None:
    from playwright.sync_api import expect

    page.goto(root + studied.page_of(studied.parent))
    open_artifact(page, "columns.csv")
    expect(page.get_by_text(COLUMN, exact=True).first).to_be_visible()
    shoot(page, "columns-of-the-table")


def test_a_trial_shows_its_learning_curve(
    page: Page, root: str, studied: Studied, shoot: Shoot
) -> None:
    trial = studied.trials[0]
    with Image.open(studied.artifact(trial, "learning_curve.png")) as image:
        width, height = image.size
    page.goto(root + studied.page_of(trial))
    open_artifact(page, "learning_curve.png")
    page.wait_for_function(
        """([width, height]) => [...document.images].some(
            image => image.naturalWidth === width && image.naturalHeight === height
                && image.getBoundingClientRect().width > 0)""",
        arg=[width, height],
    )
    shoot(page, "learning-curve-of-a-trial")
