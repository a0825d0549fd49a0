"""Owns a run as one database transaction: it stands in the store whole and ended, or not at all.

MLflow's store keeps a run as rows of five tables. Through its interface they are written object by
object in a dozen transactions, at 60 to 200 microseconds a metric, and a run that is cut off in
between stays RUNNING. Here the same rows go into the same tables, whose definitions are MLflow's,
by one statement a table. This file knows SQLAlchemy; which tables they are, it is told.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy
from sqlalchemy.orm import Session

from pipeline.contents import EndedRun

# What the tables were seen to hold; with a column more or less, nothing is written this way.
RUN_COLUMNS = {
    *("run_uuid", "name", "source_type", "source_name", "entry_point_name", "user_id", "status"),
    *("start_time", "end_time", "deleted_time", "source_version", "lifecycle_stage"),
    *("artifact_uri", "experiment_id"),
}
PAIR_COLUMNS = {"key", "value", "run_uuid"}
METRIC_COLUMNS = {"key", "value", "timestamp", "step", "is_nan", "run_uuid"}


class Tables(NamedTuple):
    """The tables that hold runs."""

    runs: sqlalchemy.Table
    tags: sqlalchemy.Table
    params: sqlalchemy.Table
    metrics: sqlalchemy.Table
    latest_metrics: sqlalchemy.Table

    @property
    def known(self) -> bool:
        """Whether they are made as this file expects."""
        pairs, metrics = PAIR_COLUMNS, METRIC_COLUMNS
        expected = (RUN_COLUMNS, pairs, pairs, metrics, metrics)
        return all(
            set(table.columns.keys()) == columns
            for table, columns in zip(self, expected, strict=True)
        )


def standing(session: Session, tables: Tables, run_ids: Sequence[str]) -> set[str]:
    """Which of the runs are there already: looked up by the primary key, however many others are.

    Args:
        session: It.
        tables: Where to look.
        run_ids: Those that are looked for.
    """
    column = tables.runs.c.run_uuid
    return set(session.scalars(sqlalchemy.select(column).where(column.in_(run_ids))))


def insert_run(
    session: Session,
    tables: Tables,
    run: EndedRun,
    *,
    run_id: str,
    experiment_id: str,
    artifact_uri: str,
    columns: Mapping[str, Any],
) -> None:
    """Adds a run to the session's transaction.

    Args:
        session: Committed by the caller.
        tables: Where to.
        run: What.
        run_id: Its id, which no other has.
        experiment_id: Where it belongs.
        artifact_uri: Where its files lie.
        columns: Of the run's own row, what is the same for all runs.
    """
    pairs = {tables.tags: run.tags, tables.params: run.params}
    rows = [
        {"run_uuid": run_id, "timestamp": run.ended, "is_nan": False, **point._asdict()}
        for point in run.metrics
    ]
    latest = {row["key"]: row for row in sorted(rows, key=lambda row: row["step"])}
    statements: dict[sqlalchemy.Table, list[dict[str, Any]]] = {
        tables.runs: [
            {
                **columns,
                "run_uuid": run_id,
                "name": run.name,
                "status": run.status,
                "start_time": run.started,
                "end_time": run.ended,
                "artifact_uri": artifact_uri,
                "experiment_id": int(experiment_id),
            }
        ],
        **{
            table: [{"run_uuid": run_id, "key": k, "value": v} for k, v in values.items()]
            for table, values in pairs.items()
        },
        tables.metrics: rows,
        tables.latest_metrics: list(latest.values()),
    }
    for table, values in statements.items():
        if values:
            session.execute(sqlalchemy.insert(table), values)
