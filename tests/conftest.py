"""Set up before anything is imported: shapes checked, one thread, the same examples every time."""

from jaxtyping import install_import_hook

# Every shape that a signature of the population promises is checked while the tests run.
install_import_hook("pipeline.population", "beartype.beartype")

import torch  # noqa: E402
from hypothesis import settings  # noqa: E402

torch.set_num_threads(1)

settings.register_profile("same-everywhere", deadline=None, derandomize=True, database=None)
settings.load_profile("same-everywhere")

# The ones need a browser, the others break things on purpose or need a cluster, for minutes:
# `make test-ui`, `make test-faults` and `make test-distributed` run them, which name their folders.
collect_ignore = ["ui", "faults", "distributed"]
