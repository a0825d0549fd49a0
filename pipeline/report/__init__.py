"""Owns what a study says of itself: its tables, its summary, and one self-contained HTML page."""

from pipeline.report.answer import unregularized
from pipeline.report.frames import trials_frame, types_frame
from pipeline.report.page import HOW_TO_READ, render
from pipeline.report.summary import summary_markdown

__all__ = [
    "HOW_TO_READ",
    "render",
    "summary_markdown",
    "trials_frame",
    "types_frame",
    "unregularized",
]
