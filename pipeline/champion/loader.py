"""Owns MLflow's way in: a saved champion as MLflow's pyfunc loads it and asks it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.champion.answer import PREDICTION, probabilities_of
from pipeline.champion.ensemble import Ensemble, likeliest
from pipeline.champion.folder import read_champion
from pipeline.data import Task

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class LoadedChampion:
    """What `mlflow.pyfunc.load_model` gives its callers, in MLflow's own wrapping."""

    ensemble: Ensemble

    def predict(self, model_input: pd.DataFrame) -> pd.DataFrame:
        """One row a row: the class by name and each class's probability, or the quantity.

        Args:
            model_input: Raw rows, with the columns of training in any order.
        """
        target = self.ensemble.target
        if target.task is Task.REGRESSION:
            return self.ensemble.predict(model_input).to_frame(PREDICTION)
        chances = self.ensemble.predict_proba(model_input)
        names = likeliest(chances)
        chances.columns = probabilities_of(target)
        chances.insert(0, PREDICTION, names)
        return chances


def _load_pyfunc(path: str) -> LoadedChampion:
    return LoadedChampion(read_champion(Path(path)))
