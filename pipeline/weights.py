"""Owns the file of a network's weights, and what a study's figures need of it."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pipeline.records import StudyRecord
from pipeline.results import TrialResult

WEIGHTS_FILE = "weights.pt"


def weights_file(result: TrialResult) -> bytes:
    """The content of `weights.pt`.

    Made by the process that trains: the one that writes would need a second to import torch.
    """
    import torch

    content = io.BytesIO()
    torch.save({name: torch.from_numpy(array) for name, array in result.weights.items()}, content)
    return content.getvalue()


def read_kernels(content: bytes) -> NDArray[np.float32]:
    """All weights of the kernels in a `weights.pt`, in one row; biases are left out."""
    import torch

    state = torch.load(io.BytesIO(content), weights_only=True)
    kernels = [state[name].numpy().ravel() for name in state if name.endswith(".weight")]
    return np.concatenate(kernels).astype(np.float32)


def with_kernels(
    record: StudyRecord, read: Callable[[Sequence[str]], Mapping[str, bytes]]
) -> StudyRecord:
    """The record with the kernels of each type's best network.

    Args:
        record: The study.
        read: Gives the `weights.pt` of runs by their ids, without those that have none.
    """
    trials = record.best_of_types
    contents = read([trial.run_id for trial in trials])
    kernels = {
        trial.number: read_kernels(contents[trial.run_id])
        for trial in trials
        if trial.run_id in contents
    }
    return replace(record, kernels=kernels)
