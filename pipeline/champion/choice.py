"""Owns what is registered: whose networks, and what was measured of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pipeline.config import ModelConfig, StudyConfig
from pipeline.confirm.champion import choose_champion
from pipeline.confirm.measures import mean_of
from pipeline.confirm.statistics import Estimate
from pipeline.data import Rows, Table
from pipeline.data.kinds import Kind
from pipeline.records import Confirmation, Finalist
from pipeline.results import TrialState

if TYPE_CHECKING:
    import pandas as pd

# Rows that show what a row looks like.
N_EXAMPLES = 5


@dataclass(frozen=True, eq=False)
class Champion:
    """A finalist on its way to the registry.

    Attributes:
        study: The study's name.
        model: The study's network.
        data_digest: Of the study's table.
        finalist: It.
        run_ids: The runs whose networks predict, at least one.
        val_loss, test_loss: Over all of its replicates, whichever of them predict.
        example: A few raw rows of training data, with at least the columns that are used.
    """

    study: str
    model: ModelConfig
    data_digest: str
    finalist: Finalist
    run_ids: tuple[str, ...]
    val_loss: Estimate
    test_loss: Estimate
    example: pd.DataFrame


def crowned(
    config: StudyConfig, table: Table, rows: Rows, confirmation: Confirmation
) -> Champion | None:
    """The champion of a confirmation; None where no finalist ended every replicate.

    Args:
        config: The study.
        table: Its data.
        rows: Rows that the search trained on, of which a few are shown.
        confirmation: Finished.
    """
    finalist = choose_champion(confirmation, config.confirm.rule)
    if finalist is None:
        return None
    return Champion(
        study=config.name,
        model=config.model,
        data_digest=table.digest,
        finalist=finalist,
        run_ids=network_runs(confirmation, finalist.name, config.confirm.champion),
        val_loss=mean_of(confirmation, finalist, "val_loss"),
        test_loss=mean_of(confirmation, finalist, "test_loss"),
        example=example_rows(table, rows),
    )


def network_runs(
    confirmation: Confirmation, finalist: str, how: Literal["average", "single"]
) -> tuple[str, ...]:
    """The runs whose networks predict: a finalist's all, or the one with the best validation loss.

    A replicate that diverged has no network; the tuple is empty if all of them did.
    """
    runs = [
        record
        for record in confirmation.records
        if record.finalist == finalist and record.state is TrialState.COMPLETE
    ]
    runs.sort(key=lambda record: record.replicate)
    if how == "single":
        runs = sorted(runs, key=lambda record: record.scalars["val_loss"])[:1]
    return tuple(record.run_id for record in runs)


def example_rows(table: Table, rows: Rows) -> pd.DataFrame:
    """The first few of these rows, as a person would write them; they predict as the rows do."""
    frame = table.frame.iloc[rows[:N_EXAMPLES]].reset_index(drop=True)
    for name, kind in zip(table.feature_names, table.kinds, strict=True):
        if kind is Kind.CATEGORICAL:
            frame[name] = frame[name].astype(object)
        elif kind is Kind.DATE:
            frame[name] = _dates(frame[name])
    return frame


def _dates(days: pd.Series) -> pd.Series:
    import pandas as pd

    stamps = pd.to_datetime(days, unit="D").dt.round("us")
    texts = stamps.map(lambda stamp: stamp.isoformat(), na_action="ignore").astype(object)
    return texts.where(days.notna(), None)
