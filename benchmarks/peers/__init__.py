"""Peers: what other people's documentation would have one write, to time whole studies against.

    PYTHONPATH=. python -m benchmarks.peers.optuna_mlflow studies/noisy_100.toml [--trials N]
        [--max-epochs E] [--no-pruning] [--seed S]

Each searches the space of the study file on the same rows with the same budget, in a process and a
store of its own in the current folder, and prints what it did as JSON in its last line.
"""

import os

# The documented switches for reports of usage; both are read when the packages are imported.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
