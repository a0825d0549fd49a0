"""A table with everything in it, and networks that could have been trained on its replicates."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from pipeline.champion.ensemble import Ensemble
from pipeline.champion.folder import Network
from pipeline.config import StudyConfig, parse_config
from pipeline.data import Preprocessing, Table, Task, table_from_frame
from pipeline.network import build_network
from pipeline.predictor import Predictor

N_ROWS = 61
STUDY = """
name = "houses"
[data]
source = "frame:houses"
target = "label"
categorical = ["floor"]
dates = ["built"]
[model]
hidden = [5, 3]
"""
# What a web page, a path, JSON and YAML each have something against.
CLASSES = {
    Task.BINARY: ["<script>", "a/b"],
    Task.MULTICLASS: ['"', "a: b\n- c", "prediction", "\N{SNOWMAN} {x}"],
}


@dataclass(frozen=True, eq=False)
class Houses:
    """A study's table, before and after it was read, and its networks as runs would hold them."""

    config: StudyConfig
    rows: pd.DataFrame
    table: Table
    networks: tuple[Network, ...]

    @property
    def ensemble(self) -> Ensemble:
        """What the networks answer together, here."""
        model = self.config.model
        parts = ((Preprocessing.from_json(n.preprocessing), n.weights) for n in self.networks)
        return Ensemble(tuple(Predictor.build(model, *part) for part in parts))


def raw_rows(task: Task) -> pd.DataFrame:
    """Numbers, whole numbers, levels, numbers for levels, truth, dates; and gaps in all of them."""
    draw = np.random.default_rng(11)
    frame = pd.DataFrame(
        {
            "area": draw.normal(90, 20, N_ROWS).round(1),
            "rooms": draw.integers(1, 7, N_ROWS),
            "heating": draw.choice(np.array(["gas", "oil", None], dtype=object), N_ROWS),
            "floor": draw.integers(0, 4, N_ROWS),
            "garden": draw.random(N_ROWS) < 0.5,
            "built": [f"{year}-05-17" for year in draw.integers(1900, 2020, N_ROWS)],
        }
    )
    frame.loc[draw.random(N_ROWS) < 0.2, "area"] = np.nan
    frame.loc[draw.random(N_ROWS) < 0.2, "built"] = None
    label = 1000 * draw.normal(300, 50, N_ROWS)
    if task is Task.REGRESSION:
        return frame.assign(label=label)
    names = CLASSES[task]
    edges = np.quantile(label, np.arange(1, len(names)) / len(names))
    return frame.assign(label=np.array(names, dtype=object)[np.digitize(label, edges)])


def houses(task: Task, n_networks: int = 3, overrides: dict[str, object] | None = None) -> Houses:
    """Networks with weights as they were drawn, each behind what its own rows taught."""
    config = parse_config(STUDY, "houses.toml", Path("/"), overrides)
    rows = raw_rows(task)
    table = table_from_frame(rows, config.data)
    draw = np.random.default_rng(13)
    networks = []
    for number in range(n_networks):
        train_rows = np.sort(draw.permutation(N_ROWS)[:29])
        preprocessing = Preprocessing.fit(table, config.data, train_rows)
        torch.manual_seed(number)
        network = build_network(config.model, preprocessing.n_features, table.n_outputs)
        weights = io.BytesIO()
        torch.save({name: 3 * array for name, array in network.state_dict().items()}, weights)
        networks.append(Network(weights.getvalue(), preprocessing.to_json()))
    return Houses(config, rows.drop(columns="label"), table, tuple(networks))
