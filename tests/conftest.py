"""Set up before anything is imported: shapes checked, one thread, the same examples every time."""

from jaxtyping import install_import_hook

# Every shape that a signature of the population promises is checked while the tests run.
install_import_hook("pipeline.population", "beartype.beartype")

import logging  # noqa: E402
from collections.abc import Iterator  # noqa: E402

import pytest  # noqa: E402
import torch  # noqa: E402
from hypothesis import settings  # noqa: E402

torch.set_num_threads(1)

settings.register_profile("same-everywhere", deadline=None, derandomize=True, database=None)
settings.load_profile("same-everywhere")

# Whole studies and commands take minutes; the others need a browser, break things on purpose, or
# need servers: `make test-studies`, `test-ui`, `test-faults` and `test-distributed` run them.
collect_ignore = ["studies", "ui", "faults", "distributed"]


@pytest.fixture(autouse=True)
def _as_loud_as_before() -> Iterator[None]:
    """A command that a test calls in this process may be a quiet one."""
    logger = logging.getLogger("pipeline")
    before = logger.level
    yield
    logger.setLevel(before)
