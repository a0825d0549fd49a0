"""Owns the pictures: results in, PNG images and interactive figures out.

A study's figures are described once (`plots`) and drawn twice: by matplotlib for the study's
folder, by plotly for the report. So the two can never disagree.

What draws with matplotlib is imported from its own file (`learning_curve`, `matplotlib_renderer`):
the process that trains does without.
"""

from pipeline.figures.plotly_renderer import interactive_figures
from pipeline.figures.plots import MOST_CURVE_POINTS, study_plots
from pipeline.figures.record import SAVED, SPENT, epochs_by_type, max_epochs
from pipeline.figures.style import COLOURS, MARKERS, describe

__all__ = [
    "COLOURS",
    "MARKERS",
    "MOST_CURVE_POINTS",
    "SAVED",
    "SPENT",
    "describe",
    "epochs_by_type",
    "interactive_figures",
    "max_epochs",
    "study_plots",
]
