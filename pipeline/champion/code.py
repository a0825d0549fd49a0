"""Owns what of this package a champion carries, so that it predicts where there is none of it."""

from __future__ import annotations

import hashlib
import re
from importlib.metadata import version
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
# All that `loader` imports. Nothing that trains or tracks.
CARRIED = (
    "champion/answer.py",
    "champion/ensemble.py",
    "champion/folder.py",
    "champion/loader.py",
    "config.py",
    "network.py",
    "predictor.py",
    "space.py",
)
REQUIRED = ("mlflow", "numpy", "pandas", "pydantic", "tomli-w", "torch")


def write_code(folder: Path) -> str:
    """Copies the modules into a package in this folder; returns the name of its loader.

    The copy has a name of its own, made from its content. `pipeline` is what many a package is
    called, this one among them: a process may hold one of them, and several champions of different
    versions beside it, without any being taken for another.
    """
    modules = {
        path.relative_to(PACKAGE): path.read_text(encoding="utf-8")
        for path in [*(PACKAGE / name for name in CARRIED), *sorted(PACKAGE.glob("data/*.py"))]
    }
    digest = hashlib.sha256("".join(modules.values()).encode()).hexdigest()
    name = f"champion_{digest[:12]}"
    for path, text in modules.items():
        copy = folder / name / path
        copy.parent.mkdir(parents=True, exist_ok=True)
        renamed = re.sub(r"^(\s*from )pipeline\.", rf"\1{name}.", text, flags=re.MULTILINE)
        copy.write_text(renamed, encoding="utf-8")
    for package in (folder / name, folder / name / "champion"):
        (package / "__init__.py").write_text(f'"""A part of {PACKAGE.name}: what predicts."""\n')
    return f"{name}.champion.loader"


def requirements(by_quantile: bool) -> list[str]:
    """What pip has to install for it: exactly what is installed here.

    Args:
        by_quantile: Whether a column is mapped by quantile, which scikit-learn does.
    """
    names = (*REQUIRED, "scikit-learn") if by_quantile else REQUIRED
    # Without the part after "+", which tells builds of one version apart.
    return [f"{name}=={version(name).partition('+')[0]}" for name in names]
