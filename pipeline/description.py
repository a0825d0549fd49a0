"""Owns what a study's run holds from its start: what is to be done, to what data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.contents import PREPROCESSING_FILE

if TYPE_CHECKING:
    from pipeline.config import StudyConfig
    from pipeline.data import Splits, Table

STUDY_FILE = "study.toml"
COLUMNS_FILE = "columns.csv"


@dataclass(frozen=True)
class Description:
    """What is known of a study before its first trial: its parent run holds it from the start.

    Attributes:
        params: `study.*` and `data.*`.
        source, digest: Of the data set.
        schema, profile: Of the data set, as MLflow shows them.
        files: The study file, resolved; what was found of each column; what a model must do to a
            row. By name.
        command: That started it, None from a notebook or a script.
    """

    params: Mapping[str, str]
    source: str
    digest: str
    schema: Mapping[str, Any]
    profile: Mapping[str, Any]
    files: Mapping[str, str]
    command: str | None = None


def describe_study(
    config: StudyConfig, table: Table, splits: Splits, command: str | None = None
) -> Description:
    """The parent run's content, without the data themselves."""
    from pipeline.data import columns_frame

    document = config.model_dump(mode="json", by_alias=True, exclude_none=True)
    data = document.pop("data").items()
    # What is empty was left as it was.
    params = {f"data.{key}": value for key, value in data if value not in ("", [])}
    params |= {
        "data.digest": table.digest,
        "data.task": str(table.task),
        "data.target": table.target_name,
        "data.rows": table.n_rows,
        "data.features": table.n_features,
        "data.train_rows": len(splits.train_rows),
        "data.val_rows": len(splits.val_rows),
        "data.test_rows": len(splits.test_rows),
    }
    params |= {f"study.{key}": value for key, value in flat(document)}
    return Description(
        params={key: str(value)[:6000] for key, value in params.items()},
        source=table.source,
        digest=table.digest,
        schema={"features": list(table.feature_names[:50]), "target": table.target_name},
        profile={"num_rows": table.n_rows, "num_features": table.n_features},
        files={
            STUDY_FILE: config.to_toml(),
            COLUMNS_FILE: columns_frame(table, splits).to_csv(index=False),
            PREPROCESSING_FILE: splits.preprocessing.to_json(),
        },
        command=command,
    )


def flat(document: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """A nested document's values by dotted key."""
    for key, value in document.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
