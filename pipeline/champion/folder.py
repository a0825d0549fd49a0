"""Owns a champion's files: one folder of JSON and tensors, which nothing has to be trusted to read.

champion.json              the network's shape, and the names of the folders
network-01/weights.pt      a state_dict that loads with `weights_only=True`
network-01/preprocessing.json
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pipeline.config import ModelConfig

if TYPE_CHECKING:
    from pipeline.champion.ensemble import Ensemble

INDEX = "champion.json"
WEIGHTS = "weights.pt"
PREPROCESSING = "preprocessing.json"


class Network(NamedTuple):
    """What a run of a trained network holds.

    Attributes:
        weights: The content of its `weights.pt`.
        preprocessing: The text of the `preprocessing.json` that its rows went through.
    """

    weights: bytes
    preprocessing: str


def write_champion(folder: Path, model: ModelConfig, networks: Sequence[Network]) -> None:
    """Writes the files; torch is not needed for it."""
    names = [f"network-{number:02d}" for number in range(1, len(networks) + 1)]
    for name, network in zip(names, networks, strict=True):
        (folder / name).mkdir(parents=True)
        (folder / name / WEIGHTS).write_bytes(network.weights)
        (folder / name / PREPROCESSING).write_text(network.preprocessing, encoding="utf-8")
    index = {"model": model.model_dump(mode="json"), "networks": names}
    (folder / INDEX).write_text(json.dumps(index, indent=1), encoding="utf-8")


def read_champion(folder: Path) -> Ensemble:
    """Reads what `write_champion` wrote."""
    from pipeline.champion.ensemble import Ensemble
    from pipeline.data import Preprocessing
    from pipeline.predictor import Predictor

    index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    model = ModelConfig.model_validate(index["model"])
    predictors = []
    for name in index["networks"]:
        text = (folder / name / PREPROCESSING).read_text(encoding="utf-8")
        weights = (folder / name / WEIGHTS).read_bytes()
        predictors.append(Predictor.build(model, Preprocessing.from_json(text), weights))
    return Ensemble(tuple(predictors))
