"""Owns who is compared: runs of studies, each with the letter that it is called by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_uppercase

from pipeline.config import ConfigError
from pipeline.records import StudyRecord

# More would fit neither the width of a terminal nor a legible figure.
MOST = 8

# As many digits of a run's id tell runs apart for a person.
SHORT_ID = 8


@dataclass(frozen=True, eq=False)
class Side:
    """One study of a comparison; its letter stands for it in tables, sentences and the figure."""

    letter: str
    record: StudyRecord

    @property
    def short_id(self) -> str:
        """The first digits of its run's id."""
        return self.record.run_id[:SHORT_ID]


def check_runs(run_ids: Sequence[str]) -> None:
    """Refuses runs that cannot be compared, before any is read.

    Raises:
        ConfigError: They are fewer than two or too many, or one is named twice.
    """
    if not 2 <= len(run_ids) <= MOST:
        raise ConfigError(
            f"a comparison must be of 2 to {MOST} runs, however: {len(run_ids)} "
            f"({' '.join(run_ids) or 'RUN_ID'})"
        )
    twice = next((each for each in run_ids if run_ids.count(each) > 1), None)
    if twice is not None:
        raise ConfigError(f"a comparison must be of distinct runs, however: {twice} is named twice")


def read_sides(run_ids: Sequence[str]) -> list[Side]:
    """Reads the studies, in the order given.

    Raises:
        ConfigError: `check_runs` says why.
        TrackingError: There is no such run, or it is no parent run of a study.
    """
    from pipeline.tracking import read_study

    check_runs(run_ids)
    letters = ascii_uppercase[: len(run_ids)]
    return [
        Side(letter, read_study(run_id)) for letter, run_id in zip(letters, run_ids, strict=True)
    ]
