"""Owns the making of a sqlite store: whole, under its own name, or not at all."""

from __future__ import annotations

import logging
import os
import tempfile
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from pipeline.store import sqlite_file


def create_database(uri: str) -> None:
    """Writes a new sqlite store under another name, then gives it its own.

    MLflow's migrations are no single transaction: a process that is killed among them, or two that
    begin together, would leave a file that no later one can open.
    """
    path = sqlite_file(uri)
    if path is None or path.exists():
        return
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        fresh.write_bytes(new_database(str(Path.cwd())))
        with suppress(FileExistsError):  # another process was first: its file is as good
            os.link(fresh, path)
    finally:
        fresh.unlink(missing_ok=True)


@lru_cache(maxsize=1)
def new_database(folder: str) -> bytes:
    """The content of a sqlite store without runs, for programs in a folder.

    MLflow's hundred migrations take seconds.
    """
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    for name in ("mlflow.store.db.utils", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch, "mlflow.db")
        SqlAlchemyStore(f"sqlite:///{path}", f"{folder}/mlruns").engine.dispose()
        return path.read_bytes()
