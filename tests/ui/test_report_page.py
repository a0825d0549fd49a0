"""The report as a page of its own: its figures, its table, its text, and wherever it is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.ui import browser as looking
from tests.ui.conftest import SHOTS
from tests.ui.studied import IMAGE, NAME, Studied

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

Shoot = Callable[["Page", str], Path]
Open = Callable[..., "Page"]


@pytest.fixture
def opened(browser: Browser, studied: Studied, watched: Callable[[Page], Page]) -> Iterator[Open]:
    """Opens the report from the disk, without a network; yields once its figures have drawn."""
    contexts = []

    def opened(width: int = 1200, height: int = 1000, **options: object) -> Page:
        from playwright.sync_api import expect

        context = looking.visitor(browser, width, height, **options)
        contexts.append(context)
        context.set_offline(True)
        page = watched(context.new_page())
        page.goto(studied.report.as_uri())
        expect(page.locator("html")).to_have_attribute("data-drawn", "yes")
        return page

    yield opened
    for context in contexts:
        context.close()


def rows(page: Page) -> Locator:
    return page.locator("#trials tbody tr:visible")


def header(page: Page, column: str) -> Locator:
    return page.locator("#trials").get_by_role("columnheader", name=column)


def keys(page: Page, column: str) -> list[str]:
    """A column's values, top to bottom."""
    heads = page.locator("#trials thead th").all_inner_texts()
    place = next(n for n, head in enumerate(heads) if head.startswith(column))
    cells = rows(page).locator(f"td:nth-child({place + 1})")
    return cells.evaluate_all("cells => cells.map(cell => cell.dataset.key ?? cell.textContent)")


def test_all_figures_draw_without_a_network(opened: Open, shoot: Shoot) -> None:
    page = opened()
    plots = page.locator(".plot")
    assert plots.count() > 1
    for plot in plots.all():
        assert plot.locator(".main-svg").count() > 0
        assert plot.locator(".plot-container path").count() > 0
    shoot(page, "report-from-the-disk")


def test_points_stand_for_trials(opened: Open, studied: Studied) -> None:
    page = opened()
    plane = page.locator("#plot-generalization_plane")
    assert plane.locator(".scatterlayer .point").count() == len(studied.trials)


def test_a_click_on_a_header_sorts_the_trials(opened: Open, shoot: Shoot) -> None:
    from playwright.sync_api import expect

    page = opened()
    head = header(page, "val loss")
    losses = sorted(map(float, keys(page, "val loss")))
    assert [float(key) for key in keys(page, "val loss")] != losses
    head.get_by_role("button").click()
    expect(head).to_have_attribute("aria-sort", "ascending")
    assert [float(key) for key in keys(page, "val loss")] == losses
    shoot(page, "report-sorted-by-validation-loss")
    head.get_by_role("button").click()
    expect(head).to_have_attribute("aria-sort", "descending")
    assert [float(key) for key in keys(page, "val loss")] == losses[::-1]


def test_what_a_trial_lacks_is_sorted_last_both_ways(opened: Open) -> None:
    page = opened()
    button = header(page, "l1 ratio").get_by_role("button")
    for _ in range(2):
        button.click()
        found = keys(page, "l1 ratio")
        assert found[0]
        assert found == sorted(found, key=lambda key: not key)


def test_filters_leave_the_trials_that_fit(opened: Open, studied: Studied, shoot: Shoot) -> None:
    from playwright.sync_api import expect

    page = opened()
    kinds = [run.data.params["regularization"] for run in studied.trials]
    count = kinds.count("elastic_net")
    assert 0 < count < len(kinds)
    page.locator("#filter").fill("Elastic_net")
    expect(rows(page)).to_have_count(count)
    expect(page.locator("#shown")).to_have_text(f"{count} of {len(kinds)} trials")
    shoot(page, "report-filtered-by-text")
    page.locator("#filter").fill("")
    page.locator("#filter-kind").select_option("none")
    expect(rows(page)).to_have_count(kinds.count("none"))
    assert set(keys(page, "regularization")) == {"none"}
    page.locator("#filter-kind").select_option("")
    expect(page.locator("#shown")).to_have_text(f"{len(kinds)} trials")


def test_names_from_the_data_stay_text(opened: Open) -> None:
    from playwright.sync_api import expect

    page = opened()
    expect(page.get_by_role("heading", level=1)).to_have_text(NAME)
    expect(page.locator("body")).to_contain_text(IMAGE)
    assert page.locator("img[src=x]").count() == 0


@pytest.mark.parametrize(("scheme", "paper_is_dark"), [("dark", True), ("light", False)])
def test_the_paper_follows_the_scheme(
    opened: Open, shoot: Shoot, scheme: str, paper_is_dark: bool
) -> None:
    page = opened(color_scheme=scheme)

    def brightness(of: str) -> int:
        script = f"element => getComputedStyle(element).{of}.match(/[0-9]+/g).map(Number)"
        values: list[int] = page.locator("body").evaluate(script)
        assert len(values) == 3  # a fourth would be a transparent colour's
        return max(values)

    assert (brightness("backgroundColor") < brightness("color")) is paper_is_dark
    assert (brightness("backgroundColor") < 64) is paper_is_dark
    words = page.locator(".plot .main-svg text").first
    fill = words.evaluate("element => getComputedStyle(element).fill.match(/[0-9]+/g).map(Number)")
    assert (max(fill) > 128) is paper_is_dark
    shoot(page, f"report-in-the-{scheme}")


def test_a_phone_shows_it_without_scrolling_sideways(opened: Open, shoot: Shoot) -> None:
    page = opened(390, 844, device_scale_factor=2, is_mobile=True, has_touch=True)
    sizes = page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    assert sizes == [390, 390]
    shoot(page, "report-on-a-phone")


def test_paper_shows_no_controls(opened: Open, shoot: Shoot) -> None:
    from playwright.sync_api import expect

    page = opened(color_scheme="dark")
    expect(page.locator(".filters")).to_be_visible()
    page.emulate_media(media="print")
    expect(page.locator(".filters")).to_be_hidden()
    paper = page.locator("body").evaluate("body => getComputedStyle(body).backgroundColor")
    assert paper == "rgb(255, 255, 255)"
    shoot(page, "report-for-paper")
    printed = page.pdf(path=SHOTS / "report-on-paper.pdf", format="A4", print_background=True)
    assert printed.startswith(b"%PDF")
