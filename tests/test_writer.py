"""The process that writes, and what it leaves behind."""

from __future__ import annotations

import subprocess
import sys

from tests.commands import PROJECT

ENDS_AT_ONCE = """
import os, time
from pipeline import writer
writer.submit(time.sleep, 60)
print("the last line", flush=True)
os._exit(3)
"""


def test_nothing_is_told_after_the_last_line_of_a_program_that_ends_at_once() -> None:
    """Its helpers, which outlive it for a moment, have its output."""
    done = subprocess.run(
        [sys.executable, "-c", ENDS_AT_ONCE],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (3, "the last line\n", "")
