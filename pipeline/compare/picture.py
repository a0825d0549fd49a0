"""Owns where the figure of a comparison goes: a PNG file beside the command's caller."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline.compare.comparable import comparable
from pipeline.compare.sides import SHORT_ID, Side
from pipeline.config import ConfigError

# Letters of a study's name that the figure's title has room for.
NAME_WIDTH = 55


def figure_file(named: str | None, run_ids: Sequence[str]) -> Path:
    """The absolute path to write to, found before anything is read.

    Without a name it is one that the runs are part of: another comparison, or a file of another
    program, is not replaced by it.

    Raises:
        ConfigError: It is no PNG file, or its folder does not exist.
    """
    file = Path(named or f"compare-{'-'.join(each[:SHORT_ID] for each in run_ids)}.png").absolute()
    # A study or a table named by mistake must not be replaced.
    if file.suffix.lower() != ".png":
        raise ConfigError(f"the figure must be a PNG file, however: {file} (--figure)")
    if not _is_folder(file.parent):
        raise ConfigError(f"the figure's folder must exist, however: {file.parent} (--figure)")
    return file


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # the name is too long to be one
        return False


def write_figure(sides: Sequence[Side], file: Path) -> None:
    """Draws the studies side by side; a figure that was there is replaced.

    Raises:
        ConfigError: The file cannot be written.
    """
    from pipeline.figures.matplotlib_renderer import image
    from pipeline.figures.studies import studies_plot

    note = "" if comparable(sides) else "Losses are not comparable: data or unit differ."
    content = image(studies_plot({_called(side): side.record for side in sides}, note))
    try:
        file.write_bytes(content)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ConfigError(f"the figure must be writable, however: {reason} ({file})") from error


def _called(side: Side) -> str:
    """`A: digits (0123abcd)`."""
    name = side.record.name
    if len(name) > NAME_WIDTH:
        name = f"{name[: NAME_WIDTH - 1]}\N{HORIZONTAL ELLIPSIS}"
    return f"{side.letter}: {name} ({side.short_id})"
