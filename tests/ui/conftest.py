"""One study, one server and one browser for all tests here; a page and its faults for each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.commands import PROJECT
from tests.ui import browser as looking
from tests.ui.studied import Studied, run_study

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page

SHOTS = PROJECT / "build" / "screenshots"

# So tall that the UI, which draws a chart only when it comes into sight, draws all of a view.
WIDTH, HEIGHT = 1800, 2400


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    missing = looking.what_is_missing()
    if missing is not None:
        pytest.skip(missing)
    with looking.launched() as browser:
        yield browser


@pytest.fixture(scope="session")
def studied(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Studied:
    # After the browser: without one, there is no use in a study.
    return run_study(tmp_path_factory.mktemp("studied"))


@pytest.fixture(scope="session")
def root(studied: Studied) -> Iterator[str]:
    """The UI's address."""
    with looking.served(studied.folder) as root:
        yield root


@pytest.fixture(scope="session")
def context(browser: Browser) -> Iterator[BrowserContext]:
    # One for all: the UI's scripts are read once.
    context = looking.visitor(browser, WIDTH, HEIGHT)
    yield context
    context.close()


@pytest.fixture
def watched() -> Iterator[Callable[[Page], Page]]:
    """Watches a page: the test fails if a script breaks in it, or opens a dialog."""
    faults: list[str] = []

    def heard(message: ConsoleMessage) -> None:
        if message.type == "error" and not _of_mlflow(message):
            faults.append(f"console: {message.text} ({message.location})")

    def watch(page: Page) -> Page:
        def asked(dialog) -> None:
            faults.append(f"dialog: {dialog.message}")
            dialog.dismiss()

        page.on("pageerror", lambda error: faults.append(f"error: {error}"))
        page.on("console", heard)
        page.on("dialog", asked)
        return page

    yield watch
    assert faults == []


def _of_mlflow(message: ConsoleMessage) -> bool:
    """Whether the UI says it of itself: that nobody has logged in, how it lays itself out."""
    place = message.location["url"]
    return "/static-files/" in place or place.endswith("/mlflow/users/current")


@pytest.fixture
def page(context: BrowserContext, watched: Callable[[Page], Page]) -> Iterator[Page]:
    yield watched(context.new_page())
    for page in context.pages:
        page.close()


@pytest.fixture(scope="session")
def shoot() -> Callable[[Page, str], Path]:
    """Saves what a page shows for who looks into CI's results, under a name that says what."""
    SHOTS.mkdir(parents=True, exist_ok=True)

    def shoot(page: Page, name: str) -> Path:
        path = SHOTS / f"{name}.png"
        page.screenshot(path=path)
        return path

    return shoot
