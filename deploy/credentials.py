"""Owns the secrets: of the environment, else of a file that only its owner reads."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

# By the names that `compose.yaml` and MLflow know them by.
DATABASE_PASSWORD = "STACK_DB_PASSWORD"
ADMIN_PASSWORD = "MLFLOW_AUTH_ADMIN_PASSWORD"
SECRET_KEY = "MLFLOW_FLASK_SERVER_SECRET_KEY"
NAMES = (DATABASE_PASSWORD, ADMIN_PASSWORD, SECRET_KEY)


def stack_secrets(path: Path) -> dict[str, str]:
    """The secrets by name. What neither the environment nor the file holds is made, and kept there.

    Args:
        path: The file: a line `NAME=secret` each.
    """
    kept = dict(line.split("=", 1) for line in _lines(path) if "=" in line)
    given = {name: os.environ[name] for name in NAMES if os.environ.get(name)}
    made = {name: secrets.token_urlsafe(24) for name in NAMES if name not in kept | given}
    if made:
        with open(path, "a", opener=_for_its_owner) as file:
            file.writelines(f"{name}={secret}\n" for name, secret in made.items())
    return kept | made | given


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def _for_its_owner(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
