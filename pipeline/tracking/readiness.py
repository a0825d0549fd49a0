"""Owns how the writing process gets ready, so that no study and no trial waits for it."""

from __future__ import annotations

import os

from pipeline.contents import learning_curve_figure
from pipeline.garbage import uncollected
from pipeline.store import is_database, sqlite_file
from pipeline.tracking.client import Caller, context_tags, tracking_uri
from pipeline.tracking.database import new_database

# The study waits for training, seldom for what is written: the writer takes what cores have left.
WRITER_NICENESS = 5


def warm_up(caller: Caller) -> None:
    """Gets the writing process ready beside the caller's own imports.

    It makes the database that a study without a store will need, in a folder for temporary files:
    nothing is written to its place before the study is known to be sound.
    """
    caller.take_place()
    with uncollected():
        uri = tracking_uri()
        if is_database(uri):
            import mlflow.store.tracking.sqlalchemy_store  # noqa: F401
    path = sqlite_file(uri)
    if path is not None and not path.exists():
        new_database(caller.folder)


def get_ready() -> None:
    """What the first trial's run would otherwise wait for; from then on, training goes first."""
    with uncollected():  # once a second, loky has all garbage looked for
        learning_curve_figure()
        context_tags()
    if hasattr(os, "setpriority"):
        niceness = max(WRITER_NICENESS, os.getpriority(os.PRIO_PROCESS, 0))
        os.setpriority(os.PRIO_PROCESS, 0, niceness)
