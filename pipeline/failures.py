"""Owns what becomes of a study whose training raises: whose fault it was, and what is left to do.

A trial is a function of its hyperparameters and its replicate, so that what was in training can
always begin again. An error is blamed on the trial that raises when it trains alone, too; where
memory ran out, fewer train at once; anything else is the study's own end.
"""

from __future__ import annotations

import errno
import logging
import math
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from pipeline.config import ConfigError, StudyConfig, StudyError
from pipeline.contents import TRACEBACK_FILE
from pipeline.data import Splits
from pipeline.population.forked import LostProcessError
from pipeline.population.trainer import PopulationTrainer
from pipeline.results import History, Point, StopReason, TrialResult
from pipeline.space import Hyperparameters

# What torch says where its allocator for the CPU is refused.
NO_MEMORY = (
    "can't allocate memory",
    "not enough memory",
    "out of memory",
    "cannot allocate memory",
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Suspect:
    """A trial that was in training when something raised.

    Attributes:
        number: Optuna's trial number; of a confirmation's training, its replicate.
        hyperparameters: What was trained.
        n_epochs: How many it had begun.
        started: When it was loaded, in milliseconds since 1970.
    """

    number: int
    hyperparameters: Hyperparameters
    n_epochs: int
    started: int


class TrainingError(Exception):
    """Training raised.

    Attributes:
        cause: What.
        suspects: Who was in training.
    """

    def __init__(self, cause: Exception) -> None:
        super().__init__(cause)
        self.cause = cause
        self.suspects: Sequence[Suspect] = ()

    def forget(self) -> None:
        """Lets go of what was at work when it was raised, which may be all the memory there is."""
        for error in (self, self.cause):
            traceback.clear_frames(error.__traceback__)


@contextmanager
def in_training() -> Iterator[None]:
    """Marks what is raised within as raised by training; wrong input stays what it is.

    Raises:
        TrainingError: Something was.
    """
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:
        raise TrainingError(error) from error


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory could not be had."""
    if isinstance(error, MemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(phrase in text for phrase in NO_MEMORY)


def with_half_the_population(config: StudyConfig, error: Exception) -> StudyConfig:
    """The study with half as many trials at once, after memory ran out; raises as `half_of`."""
    half = half_of(config.search.population, error)
    search = config.search.model_copy(update={"population": half})
    return config.model_copy(update={"search": search})


def half_of(n_slots: int, error: Exception) -> int:
    """How many are to train at once after memory ran out; says so.

    Raises:
        StudyError: There was only one.
    """
    if n_slots == 1:
        raise StudyError(
            f"a trial must fit into memory, however: one alone does not ({_line(error)})"
        ) from error
    traceback.clear_frames(error.__traceback__)  # what is to be tried next needs the memory
    half = n_slots // 2
    logger.warning(
        "out of memory with up to %d trainings at once: those that had not ended begin again, "
        "up to %d at once",
        n_slots,
        half,
    )
    return half


def refuse_failures(raised: Sequence[str], most: int) -> None:
    """Raises StudyError where more trainings raised than may; one that diverged has not raised.

    Args:
        raised: Those that did, as a person calls their runs, the newest last.
        most: How many may.
    """
    if len(raised) > most:
        raise StudyError(
            f"at most {most} trainings may raise, however: {len(raised)} did; "
            f"{TRACEBACK_FILE} in the run of {raised[-1]} says what (search.max_failures)"
        )


def _line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def find_culprit(
    config: StudyConfig, splits: Splits, failed: TrainingError
) -> tuple[Suspect, TrialResult] | None:
    """The first trial that raises alone, too, and what it leaves behind.

    Those with the fewest epochs are tried first: they are trained again soonest.

    Args:
        config: The study.
        splits: What the suspects trained on.
        failed: What was raised. Of a process that was killed, no trial is to blame.
    """
    if isinstance(failed.cause, LostProcessError):
        return None
    for suspect in sorted(failed.suspects, key=lambda each: (each.n_epochs, each.number)):
        result = _failed_alone(config, splits, suspect)
        if result is not None:
            return suspect, result
    return None


def _failed_alone(config: StudyConfig, splits: Splits, suspect: Suspect) -> TrialResult | None:
    """What a trial leaves behind that raises alone within its epochs; None if it does not.

    Raises:
        StudyError: Even alone it does not fit into memory.
    """
    trainer = PopulationTrainer(config, splits, n_slots=1)
    points: list[Point] = []
    try:
        trainer.load(0, suspect.hyperparameters)
        while len(points) < suspect.n_epochs:
            points.append(trainer.train_epoch()[0])
            if points[-1].stop_reason is not None:
                break
        trainer.unload(0)
    except Exception as error:
        if ran_out_of_memory(error):
            raise StudyError(
                f"a trial must fit into memory, however: {suspect.hyperparameters} does not, alone"
            ) from error
        if len(points) < suspect.n_epochs:  # an epoch that was begun counts, as of a diverged one
            unknown = math.nan
            points.append(Point(len(points) + 1, unknown, unknown, unknown, unknown))
        return TrialResult(
            hyperparameters=suspect.hyperparameters,
            replicate=splits.replicate,
            history=History.of(points),
            kept_epoch=0,
            stop_reason=StopReason.ERROR,
            weights={},
            error=traceback.format_exc(),
        )
    return None
