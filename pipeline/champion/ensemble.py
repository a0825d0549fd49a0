"""Owns the average of networks: each behind its own preprocessing, probabilities averaged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.data import Target, Task
from pipeline.predictor import Predictor

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Ensemble:
    """Networks that answer together; a single one is an average of itself.

    Attributes:
        predictors: At least one; of one table, so that their targets differ in scale at most.
    """

    predictors: tuple[Predictor, ...]

    @property
    def target(self) -> Target:
        """What is predicted; its scale is the first network's alone."""
        return self.predictors[0].preprocessing.target

    def predict(self, frame: pd.DataFrame) -> pd.Series:
        """The likeliest class by name, or the mean of the predicted quantities in their units.

        Raises:
            ConfigError: A column of training is absent, or a value is not of its kind.
        """
        if self.target.task is Task.REGRESSION:
            return self._mean(Predictor.predict, frame)
        return likeliest(self.predict_proba(frame)).rename(self.target.name)

    def predict_proba(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The networks' mean probabilities, a column a class, in the order of their numbers.

        Raises:
            ConfigError: The target is a quantity, or `predict` would refuse the rows.
        """
        return self._mean(Predictor.predict_proba, frame)

    def _mean(self, answer: Callable[[Predictor, pd.DataFrame], Any], frame: pd.DataFrame) -> Any:
        columns = self._read(frame)
        total = answer(self.predictors[0], columns)
        for predictor in self.predictors[1:]:
            total += answer(predictor, columns)
        return total / len(self.predictors)

    def _read(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The columns as numbers and levels: text and dates are slow to read once a network."""
        import pandas as pd

        encoders = {
            encoder.name: encoder
            for predictor in self.predictors
            for encoder in predictor.preprocessing.encoders
            if encoder.name in frame.columns  # the network will say which is not
        }
        columns = {
            name: encoder.read(frame[name], f"the data frame, column {name!r}")
            for name, encoder in encoders.items()
        }
        return pd.DataFrame(columns, index=frame.index, copy=False)


def likeliest(chances: pd.DataFrame) -> pd.Series:
    """[N] the name of the column with the largest value; the first of equal ones."""
    import pandas as pd

    names = np.array(chances.columns, dtype=object)[chances.to_numpy().argmax(axis=1)]
    return pd.Series(names, index=chances.index)
