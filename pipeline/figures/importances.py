"""Owns what the figure of importances shows: two ways of asking which hyperparameter mattered."""

from __future__ import annotations

from pipeline.figures.parts import Axis, Bars, Panel, Plot
from pipeline.figures.record import config_of
from pipeline.figures.style import ACCENT
from pipeline.records import StudyRecord
from pipeline.results import Array

# PED-ANOVA wants five trials in the best tenth (Optuna's documentation of its evaluator).
ENOUGH = 50

WHY_NOT = "fewer than ten complete trials that differ: too few to tell"


def importances_plot(record: StudyRecord) -> Plot:
    """f-ANOVA and PED-ANOVA side by side: where they disagree, neither is to be trusted alone."""
    # Late: who draws what is described here does without Optuna.
    from pipeline.importances import importances

    config = config_of(record)
    found = None
    if config is not None:
        found = importances(record.complete, config.search_space, config.seed)
    title = "Which hyperparameters mattered"
    if found is None:
        return Plot("importances", title, [Panel(Axis(""), Axis(""), title=WHY_NOT)])
    few = "only " if found.n_trials < ENOUGH else ""
    # On both sides to 1, so that the two can be held against each other.
    label = f"share of importance\n({few}{found.n_trials} complete trials)"
    x_axis = Axis(label, limits=(0.0, 1.0))
    places = len(found.names)
    y_axis = Axis("", ticks=found.names, limits=(places - 0.5, -0.5))
    panels = [
        Panel(x_axis, y_axis, bars=[_bars(shares)], title=name)
        for name, shares in (
            ("f-ANOVA", found.f_anova),
            ("PED-ANOVA", found.ped_anova),
        )
    ]
    return Plot("importances", title, panels, stacked=False)


def _bars(shares: Array) -> Bars:
    return Bars("", "", 0.9, [ACCENT] * len(shares), shares)
