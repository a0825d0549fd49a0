"""Owns prediction: raw rows in; class names and probabilities, or the target in its units, out."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pipeline.config import ConfigError, ModelConfig
from pipeline.data import Preprocessing, Task
from pipeline.network import build_network

if TYPE_CHECKING:
    import pandas as pd

# Rows that pass the network at a time.
ROWS_AT_A_TIME = 65536


@dataclass(frozen=True, eq=False)
class Predictor:
    """A trained network with the preprocessing it was trained behind.

    Attributes:
        preprocessing: Makes a matrix of raw rows, and knows what the outputs mean.
        network: In evaluation mode.
    """

    preprocessing: Preprocessing
    network: nn.Sequential

    @classmethod
    def load(cls, run_id: str) -> Predictor:
        """The model of a trial, or of a finalist's replicate, from the tracking store that is set.

        Raises:
            ConfigError: There is no such run, or it holds no model.
        """
        # Late: a model that was handed on predicts without the store, and without this module.
        from pipeline.tracking import read_model

        config, weights, preprocessing = read_model(run_id)
        return cls.build(config.model, Preprocessing.from_json(preprocessing), weights)

    @classmethod
    def build(cls, model: ModelConfig, preprocessing: Preprocessing, weights: bytes) -> Predictor:
        """The model of a preprocessing and the content of a `weights.pt`."""
        target = preprocessing.target
        n_outputs = len(target.classes) if target.task is Task.MULTICLASS else 1
        network = build_network(model, preprocessing.n_features, n_outputs).eval()
        network.load_state_dict(torch.load(io.BytesIO(weights), weights_only=True))
        return cls(preprocessing, network)

    def predict(self, frame: pd.DataFrame) -> pd.Series:
        """The likeliest class by name, or the quantity in its own units; indexed as the rows.

        Raises:
            ConfigError: A column of training is absent, or a value is not of its kind.
        """
        import pandas as pd

        target = self.preprocessing.target
        if target.task is Task.REGRESSION:
            values = self.outputs(frame)[:, 0] * target.scale + target.mean
        else:
            values = np.array(target.classes, dtype=object)[self._probabilities(frame).argmax(1)]
        return pd.Series(values, index=frame.index, name=target.name)

    def predict_proba(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Probabilities, a column a class, in the order of their numbers; indexed as the rows.

        Raises:
            ConfigError: The target is a quantity, or `predict` would refuse the rows.
        """
        import pandas as pd

        target = self.preprocessing.target
        if target.task is Task.REGRESSION:
            raise ConfigError(
                f"probabilities are of classes, however: {target.name!r} is a quantity"
            )
        return pd.DataFrame(
            self._probabilities(frame), index=frame.index, columns=list(target.classes)
        )

    def outputs(self, frame: pd.DataFrame) -> NDArray[np.float64]:
        """[N, C] logits, or the standardized quantity."""
        matrix = torch.from_numpy(self.preprocessing.transform(frame))
        with torch.inference_mode():
            parts = [self.network(rows) for rows in matrix.split(ROWS_AT_A_TIME)]
        return np.asarray(torch.cat(parts).double().numpy())

    def _probabilities(self, frame: pd.DataFrame) -> NDArray[np.float64]:
        logits = torch.from_numpy(self.outputs(frame))
        if self.preprocessing.target.task is Task.BINARY:
            # One logit: of the second class.
            logits = torch.cat([torch.zeros_like(logits), logits], dim=1)
        return np.asarray(torch.softmax(logits, dim=1).numpy())
