"""These tests are of the GPU that the others do not see."""

import os

import pytest
import torch

from tests.conftest import VISIBLE_GPUS

if VISIBLE_GPUS is None:
    os.environ.pop("CUDA_VISIBLE_DEVICES", None)
else:
    os.environ["CUDA_VISIBLE_DEVICES"] = VISIBLE_GPUS


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not torch.cuda.is_available():
        for item in items:
            item.add_marker(pytest.mark.skip(reason="torch finds no GPU"))
