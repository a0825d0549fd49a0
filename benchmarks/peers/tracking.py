"""One batch of metrics for MLflow, however long its curves are."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import mlflow
from mlflow.entities import Metric, Param

# What `log_batch` takes at most.
MOST_METRICS = 1000


def log_curves(
    run_id: str, curves: Mapping[str, Sequence[float]], params: Mapping[str, Any] | None = None
) -> None:
    """Logs whole curves, and params with them, by `MlflowClient.log_batch`."""
    now = time.time_ns() // 1_000_000
    metrics = [
        Metric(name, value, now, step)
        for name, values in curves.items()
        for step, value in enumerate(values, start=1)
    ]
    pending = [Param(key, str(value)) for key, value in (params or {}).items()]
    client = mlflow.MlflowClient()
    for start in range(0, len(metrics), MOST_METRICS):
        client.log_batch(run_id, metrics[start : start + MOST_METRICS], pending)
        pending = []
