"""What the tests of a store that goes away share."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a module's server."""
    return tmp_path_factory.mktemp("server")
