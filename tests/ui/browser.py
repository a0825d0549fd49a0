"""Owns the MLflow server and the browser that these tests and the README's pictures look with."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.commands import environment

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SECONDS_TO_START = 60
SECONDS_TO_DRAW = 30

# On a first visit MLflow's assistant opens, over the right third of the page.
WITHOUT_ASSISTANT = """
try { localStorage.setItem("mlflow.assistant.fab.autoOpenedOnFirstLoad_v1", "true"); }
catch { /* a page in a sandbox has no storage */ }
"""


def browser_path() -> str | None:
    """The browser that CHROMIUM names, else the first that is found; None without any.

    Raises:
        ValueError: CHROMIUM names none.
    """
    named = os.environ.get("CHROMIUM")
    if not named:
        return next(filter(None, map(shutil.which, BROWSERS)), None)
    found = shutil.which(named)
    if found is None:
        raise ValueError(f"CHROMIUM must name a browser, however: {named} (environment)")
    return found


def what_is_missing() -> str | None:
    """What must be installed first, and how; None where all is there."""
    if importlib.util.find_spec("playwright") is None:
        return "Playwright is not installed: pip install --requirement requirements-ui.lock"
    if browser_path() is None:
        return "no browser is installed: apt-get install chromium, or set CHROMIUM=/path/to/browser"
    return None


@contextmanager
def launched() -> Iterator[Browser]:
    """A browser without a window."""
    from playwright.sync_api import expect, sync_playwright

    # How long to wait is for slow machines: whatever is there sooner is seen sooner.
    expect.set_options(timeout=1000 * SECONDS_TO_DRAW)
    # Chromium refuses its sandbox to root, and to root alone.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path(), args=arguments)
        try:
            yield browser
        finally:
            browser.close()


def visitor(browser: Browser, width: int, height: int, **options: Any) -> BrowserContext:
    """Somebody who opens the UI, not for the first time."""
    context = browser.new_context(viewport={"width": width, "height": height}, **options)
    context.add_init_script(WITHOUT_ASSISTANT)
    return context


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The UI of the store in a folder, on a free port of this machine: its address.

    Raises:
        RuntimeError: It does not start.
    """
    port = _free_port()
    root = f"http://127.0.0.1:{port}/"
    log = folder / "server.log"
    # As `make ui` starts it.
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--workers", "1"),
        *("--backend-store-uri", f"sqlite:///{folder}/mlflow.db"),
        *("--host", "127.0.0.1", "--port", str(port)),
    ]
    with log.open("wb") as output:
        server = subprocess.Popen(
            command,
            cwd=folder,
            env=environment(folder),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait_until_healthy(server, root, log)
        yield root
    finally:
        # With all that it started, and at once: nobody needs what it would still write.
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number: int = probe.getsockname()[1]
        return number


def _wait_until_healthy(server: subprocess.Popen[bytes], root: str, log: Path) -> None:
    end = time.monotonic() + SECONDS_TO_START
    # Of this machine itself no proxy is asked.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while time.monotonic() < end and server.poll() is None:
        try:
            with opener.open(f"{root}health", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise RuntimeError(f"the server must answer, however:\n{log.read_text(errors='replace')}")
