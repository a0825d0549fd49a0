"""Owns what a study says of itself: its tables, its summary, and one self-contained HTML page."""

from pipeline.report.answer import unregularized
from pipeline.report.doubts import doubts
from pipeline.report.figures import HOW_TO_READ, render_figures, shown
from pipeline.report.finalists import short_table
from pipeline.report.frames import trials_frame, types_frame
from pipeline.report.page import render
from pipeline.report.short_answer import short_answer
from pipeline.report.summary import experiment_markdown, summary_markdown
from pipeline.report.verdict import verdict

__all__ = [
    "HOW_TO_READ",
    "doubts",
    "experiment_markdown",
    "render",
    "render_figures",
    "short_answer",
    "short_table",
    "shown",
    "summary_markdown",
    "trials_frame",
    "types_frame",
    "unregularized",
    "verdict",
]
