"""What every peer's command shares: its arguments, its data, its last line."""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

from pipeline.config import StudyConfig, load_config
from pipeline.data import Splits, load_table, split


@dataclass(frozen=True)
class Command:
    """A study to run: the same space, rows and budget for everybody.

    Attributes:
        config: The study.
        splits: Its training and validation rows.
        pruning: Whether bad trials may be cut short.
        jobs: How many trials train at a time, each in a process of its own.
        log_each_epoch: Whether curves are written as they grow, not all at a trial's end.
    """

    config: StudyConfig
    splits: Splits
    pruning: bool
    jobs: int
    log_each_epoch: bool

    @property
    def tracking_uri(self) -> str:
        """A store in the current folder."""
        return f"sqlite:///{Path.cwd()}/mlflow.db"


def read_command(description: str | None) -> Command:
    """Parses the command line and loads the data."""
    parser = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    parser.add_argument("study", type=Path)
    parser.add_argument("--trials", type=int)
    parser.add_argument("--max-epochs", type=int)
    parser.add_argument("--no-pruning", action="store_true")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--log-each-epoch", action="store_true")
    arguments = parser.parse_args()
    given = {
        "search.n_trials": arguments.trials,
        "training.max_epochs": arguments.max_epochs,
        "seed": arguments.seed,
    }
    config = load_config(arguments.study, {k: v for k, v in given.items() if v is not None})
    return Command(
        config=config,
        splits=split(load_table(config.data), config.data, config.seed),
        pruning=not arguments.no_pruning,
        jobs=arguments.jobs,
        log_each_epoch=arguments.log_each_epoch,
    )


def print_result(trials: int, pruned: int, epochs: int, best_val_loss: float) -> None:
    """Prints the line that the caller reads."""
    result = {"trials": trials, "pruned": pruned, "epochs": epochs, "best_val_loss": best_val_loss}
    print(json.dumps(result), flush=True)
