"""Owns what a study says of itself: its tables, its summary, and one self-contained HTML page."""

from pipeline.report.answer import unregularized
from pipeline.report.doubts import doubts
from pipeline.report.finalists import short_table
from pipeline.report.frames import trials_frame, types_frame
from pipeline.report.page import HOW_TO_READ, render
from pipeline.report.short_answer import short_answer
from pipeline.report.summary import experiment_markdown, summary_markdown
from pipeline.report.verdict import verdict

__all__ = [
    "HOW_TO_READ",
    "doubts",
    "experiment_markdown",
    "render",
    "short_answer",
    "short_table",
    "summary_markdown",
    "trials_frame",
    "types_frame",
    "unregularized",
    "verdict",
]
