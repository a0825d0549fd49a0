"""Which guardrail helps a network that overfits: studies of regularization, tracked in MLflow.

From a notebook:

    from pipeline import load_config, run_study

    result = run_study(load_config("studies/breast_cancer.toml"))
    result.trials, result.best_trial, result.parent_run_id
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

# Left to itself, MKL picks a kernel by the alignment of its operands, and a product's last bits
# with it: a trial would depend on its slot. Read once, at the process's first product.
os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")

if TYPE_CHECKING:
    from pipeline.config import ConfigError, StudyConfig, load_config
    from pipeline.predictor import Predictor
    from pipeline.study import StudyResult, run_study

__all__ = ["ConfigError", "Predictor", "StudyConfig", "StudyResult", "load_config", "run_study"]

_HOME = {
    "ConfigError": "pipeline.config",
    "Predictor": "pipeline.predictor",
    "StudyConfig": "pipeline.config",
    "StudyResult": "pipeline.study",
    "load_config": "pipeline.config",
    "run_study": "pipeline.study",
}


def __getattr__(name: str) -> Any:
    """Imports on first use: `--help` must not wait for torch and MLflow."""
    if name not in _HOME:
        raise AttributeError(f"module 'pipeline' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOME[name]), name)
