"""Owns the README's pictures: `make screenshots` runs the default study and takes them of it."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from pipeline.store import TRIALS_VIEW, runs_page
from tests.commands import PROJECT, command, parents
from tests.ui import browser as looking

if TYPE_CHECKING:
    from playwright.sync_api import Browser, FloatRect, Locator

STUDY = PROJECT / "studies" / "breast_cancer.toml"
DOCS = PROJECT / "docs"
WIDTH = 1200
LARGEST = 150_000
MARGIN = 12

# Of parallel coordinates' lines, which are drawn on a canvas, the first have been drawn.
HAS_LINES = """canvas => new Uint32Array(canvas.getContext("2d").getImageData(
    0, 0, canvas.width, canvas.height).data.buffer).some(pixel => pixel !== 0)"""

PAINTED = "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"


def main() -> None:
    """Runs the study in a store of its own, takes both pictures, and leaves nothing else."""
    missing = looking.what_is_missing()
    if missing is not None:
        raise SystemExit(missing)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ended = command(folder, "run", str(STUDY))
        if ended.returncode != 0:
            raise SystemExit(ended.stderr)
        take(folder)


def take(folder: Path) -> None:
    """Takes both pictures of the study in a folder's store."""
    (parent,) = parents(folder)
    (report,) = folder.glob(f"mlruns/*/{parent.info.run_id}/artifacts/report.html")
    view = runs_page(parent.info.experiment_id, TRIALS_VIEW)
    with looking.launched() as browser:
        with looking.served(folder) as root:
            save(view_picture(browser, root + view), DOCS / "prepared-view.png")
        save(report_picture(browser, report), DOCS / "report.png")


def view_picture(browser: Browser, address: str) -> Image.Image:
    """The prepared view: the sorted table beside parallel coordinates and the first gaps."""
    from playwright.sync_api import expect

    page = looking.visitor(browser, 1454, 1280, color_scheme="light").new_page()
    page.goto(address)
    cards = page.get_by_test_id("experiment-view-compare-runs-card")
    parallel = cards.filter(has=page.locator(".parcoords"))
    scatter = cards.filter(has=page.locator(".scatterlayer .point"))
    expect(parallel.last.locator(".dimension .label").first).to_be_visible()
    # The charts scroll beside the table: the trials with a penalty first, then their gaps.
    sections = page.get_by_test_id("experiment-view-compare-runs-section-header")
    sections.nth(parallel.count() - 1).evaluate("section => section.scrollIntoView()")
    expect(scatter.nth(1).locator(".point").first).to_be_visible()
    lines = parallel.last.locator("canvas.foreground").element_handle()
    page.wait_for_function(HAS_LINES, arg=lines)
    page.evaluate(PAINTED)
    table, charts = (
        box(page.locator(".ag-root")),
        box(page.get_by_test_id("experiment-view-compare-runs-chart-area")),
    )
    bottom = box(scatter.first)["y"] + box(scatter.first)["height"] + MARGIN
    clip: FloatRect = {
        "x": table["x"],
        "y": table["y"],
        "width": charts["x"] + charts["width"] - table["x"],
        "height": bottom - table["y"],
    }
    return picture(page.screenshot(clip=clip))


def report_picture(browser: Browser, report: Path) -> Image.Image:
    """The report's answer, and below it the figure of the finalists."""
    page = looking.visitor(browser, WIDTH, 1000, color_scheme="light").new_page()
    page.goto(report.as_uri())
    page.locator("html[data-drawn=yes]").wait_for()
    answer = box(page.locator("#answer .verdict"))
    doubts = page.locator("#answer .verdict + .warnings")
    end = box(doubts if doubts.count() else page.locator("#answer .verdict"))
    figure = box(page.locator(".figure:has(#plot-finalists)"))
    whole = picture(page.screenshot(full_page=True))
    assert answer["y"] < end["y"] + end["height"] < figure["y"]
    parts = [
        whole.crop((0, 0, WIDTH, round(end["y"] + end["height"]) + MARGIN)),
        whole.crop(
            (0, round(figure["y"]) - MARGIN, WIDTH, round(figure["y"] + figure["height"]) + MARGIN)
        ),
    ]
    stacked = Image.new("RGB", (WIDTH, sum(part.height for part in parts)))
    top = 0
    for part in parts:
        stacked.paste(part, (0, top))
        top += part.height
    return stacked


def box(of: Locator) -> FloatRect:
    """Where something stands in the page."""
    found = of.first.bounding_box()
    assert found is not None
    return found


def picture(png: bytes) -> Image.Image:
    """What a screenshot shows."""
    return Image.open(io.BytesIO(png)).convert("RGB")


def save(image: Image.Image, path: Path) -> None:
    """Writes a picture, in as many colours as leave it small.

    Raises:
        SystemExit: It has become too large for a README.
    """
    for colours in (256, 128, 64, 32):
        image.quantize(colours, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(
            path, optimize=True
        )
        if path.stat().st_size < LARGEST:
            print(f"{path.relative_to(PROJECT)}: {image.width} x {image.height}, {colours} colours")
            return
    raise SystemExit(f"{path} must be below {LARGEST} bytes, however: {path.stat().st_size}")


if __name__ == "__main__":
    main()
