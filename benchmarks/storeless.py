"""A search without a tracking store: the study's own loop, and nothing is written."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from pipeline.config import StudyConfig
from pipeline.contents import FinishedTrial
from pipeline.data import Splits
from pipeline.engine import EngineSettings, LocalEngine
from pipeline.records import StudyRecord
from pipeline.results import TrialResult
from pipeline.sampling import Sampling, quiet_optuna
from pipeline.search import Search
from pipeline.tracking import Opened, Parent


@dataclass
class Storeless:
    """Takes the recorder's place: tells of each trial that ended, and writes nothing."""

    folder: Path
    on_trial: Callable[[TrialResult], None]

    def log(self, trial: FinishedTrial, _: bytes) -> Future[str]:
        """Tells of it."""
        self.on_trial(trial.result)
        written: Future[str] = Future()
        written.set_result("")
        return written

    def wait(self, written: Future[str]) -> str:
        """Nothing is waited for."""
        return written.result()

    def look(self) -> Opened:
        """A parent run that is nowhere; a journal in the folder."""
        record = StudyRecord("", "study", "", "running", {}, (), "")
        return Opened(Parent("", "", "study"), record, f"{self.folder}/journal", resumed=False)

    opened = look


def search(
    config: StudyConfig,
    splits: Splits,
    on_trial: Callable[[TrialResult], None],
    n_processes: int | None = None,
) -> None:
    """Runs a whole search.

    Args:
        config: The study.
        splits: Its rows.
        on_trial: Called with each trial that ended, in the order of the ends.
        n_processes: How many train; None: as many as there are cores for.
    """
    engine = LocalEngine(EngineSettings(populations=n_processes))
    with (
        tempfile.TemporaryDirectory() as folder,
        quiet_optuna(),
        closing(engine.population(config, splits)) as trainer,
    ):
        recorder = Storeless(Path(folder), on_trial)
        Search(
            config,
            Sampling(config),
            trainer,
            engine,
            recorder,  # type: ignore[arg-type]
            None,
        ).run()
