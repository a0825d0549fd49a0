"""Owns a study's end: its record, its tables, its model, and what the parent run shows of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pipeline import writer
from pipeline.champion.choice import Champion, crowned
from pipeline.config import StudyConfig
from pipeline.contents import study_pictures
from pipeline.data import Rows, Table
from pipeline.recorder import Recorder
from pipeline.records import Confirmation, StudyRecord, TrialRecord
from pipeline.results import TrialState
from pipeline.store import run_links, run_page
from pipeline.tracking.registry import Registration
from pipeline.tracking.view import links
from pipeline.weights import with_kernels

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Conclusion:
    """What a study ends with.

    Attributes:
        record: The study as the tracking store will tell of it.
        trials: One row a trial.
        champion: What became of its model; None where there is none.
        files: Artifacts of the parent run, by path.
        note: Its description, in markdown.
        experiment_note: That of its experiment.
        metrics, tags: Of the whole study.
    """

    record: StudyRecord
    trials: pd.DataFrame
    champion: Registration | None
    files: Mapping[str, bytes]
    note: str
    experiment_note: str
    metrics: Mapping[str, float]
    tags: Mapping[str, str]


def conclude(
    config: StudyConfig,
    table: Table,
    rows: Rows,
    trials: Sequence[TrialRecord],
    confirmation: Confirmation | None,
    recorder: Recorder,
    *,
    promote: bool,
) -> Conclusion:
    """Puts together what a study found, and registers its model.

    Args:
        config: The study.
        table: Its data.
        rows: Those that the search trained on.
        trials: All of them.
        confirmation: Finished, if there is one.
        recorder: The study's.
        promote: Give the model its alias even where the registered one was better.
    """
    from pipeline.confirm.comparison import pairs_frame, summary_frame
    from pipeline.confirm.price import search_price
    from pipeline.figures import study_plots
    from pipeline.report import (
        experiment_markdown,
        render,
        render_figures,
        shown,
        summary_markdown,
        trials_frame,
    )

    opened = recorder.opened()
    in_order = tuple(sorted(trials, key=lambda trial: trial.number))
    record = replace(opened.record, trials=in_order, state="complete", confirmation=confirmation)
    frame = trials_frame(record)
    # Without run ids, which differ where everything else is the same.
    files = {"trials.csv": frame.drop(columns="run_id").to_csv(index=False).encode()}
    metrics, tags, champion = _counts(record), {}, None
    if confirmation is not None:
        files["confirm/summary.csv"] = summary_frame(confirmation).to_csv(index=False).encode()
        files["confirm/pairs.csv"] = pairs_frame(confirmation).to_csv(index=False).encode()
        metrics["confirm/finalists"] = float(len(confirmation.finalists))
        metrics["confirm/replicates"] = float(len(confirmation.replicates))
        price = search_price(record)
        if price is not None and price.overtuned is not None:
            tags["study.overtuned"] = str(price.overtuned).lower()
        champion = crowned(config, table, rows, confirmation)
    if champion is not None:
        metrics |= _champion_metrics(champion)
        tags["study.champion"] = champion.finalist.name
    to_trials = links(record.experiment_id, saved=opened.view)
    page = run_page(record.experiment_id, record.run_id)
    notes = summary_markdown(record, to_trials), experiment_markdown(record, to_trials, page)
    # What is found is told by now: only then is there a model. The writing process registers and
    # draws while this one makes the page.
    drawn_from = with_kernels(record, recorder.weights_of)
    registering = None if champion is None else recorder.register(champion, promote)
    plots = study_plots(drawn_from)
    drawn = writer.submit(study_pictures, plots)
    figures = shown(plots)
    files["report.html"] = render(record, run_links(record, opened.parent.uri), figures).encode()
    files["figures/interactive.html"] = render_figures(record.name, figures).encode()
    registration = None if registering is None else recorder.wait(registering)
    files |= {f"figures/{name}": picture for name, picture in recorder.wait(drawn).items()}
    return Conclusion(record, frame, registration, files, *notes, metrics, tags)


def _counts(record: StudyRecord) -> dict[str, float]:
    states = [trial.state for trial in record.trials]
    metrics = {"study/trials": float(len(states))}
    metrics |= {f"study/{state}": float(states.count(state)) for state in TrialState}
    if record.best is not None:
        metrics |= {
            "best/val_loss": record.best.val_loss,
            "best/gap": record.best.scalars["gap"],
            "best/trial": float(record.best.number),
        }
    return metrics


def _champion_metrics(champion: Champion) -> dict[str, float]:
    means = {"val_loss": champion.val_loss.mean, "test_loss": champion.test_loss.mean}
    return {f"champion/{name}": mean for name, mean in means.items() if math.isfinite(mean)}
