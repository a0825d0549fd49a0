"""Set up before anything is imported: shapes checked, one thread, the same examples every time."""

import os

# The tests are of the processor, on which a trial's bits are promised; `tests/gpu` sees the GPUs.
VISIBLE_GPUS = os.environ.get("CUDA_VISIBLE_DEVICES")
os.environ["CUDA_VISIBLE_DEVICES"] = ""

from jaxtyping import install_import_hook  # noqa: E402

# Every shape that a signature of the population promises is checked while the unit tests run; the
# longer ones, whose studies train for many epochs, do without.
if not os.environ.get("JAXTYPING_DISABLE"):
    install_import_hook("pipeline.population", "beartype.beartype")

import logging  # noqa: E402
from collections.abc import Iterator  # noqa: E402

import pytest  # noqa: E402
import torch  # noqa: E402
from hypothesis import settings  # noqa: E402

torch.set_num_threads(1)

settings.register_profile("same-everywhere", deadline=None, derandomize=True, database=None)
settings.load_profile("same-everywhere")

# Whole studies and commands take minutes; the others need a browser, break things on purpose, need
# servers or a GPU: `make test-studies`, `test-ui`, `test-faults`, `test-distributed` and `test-gpu`
# run them.
collect_ignore = ["studies", "ui", "faults", "distributed", "gpu"]


@pytest.fixture(autouse=True)
def _as_loud_as_before() -> Iterator[None]:
    """A command that a test calls in this process may be a quiet one."""
    logger = logging.getLogger("pipeline")
    before = logger.level
    yield
    logger.setLevel(before)
