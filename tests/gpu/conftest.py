"""These tests are of the GPU that the others do not see."""

import os

import pytest
import torch

from tests.conftest import VISIBLE_GPUS

if VISIBLE_GPUS is None:
    os.environ.pop("CUDA_VISIBLE_DEVICES", None)
else:
    os.environ["CUDA_VISIBLE_DEVICES"] = VISIBLE_GPUS


@pytest.fixture(autouse=True)
def _needs_a_gpu() -> None:
    if not torch.cuda.is_available():
        pytest.skip("torch finds no GPU")
