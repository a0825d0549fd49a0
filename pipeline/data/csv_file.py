"""Owns the reading of CSV: its encoding, separator, header and ragged lines."""

from __future__ import annotations

import codecs
import csv
import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.config import ConfigError
from pipeline.data.kinds import like_number

if TYPE_CHECKING:
    import pandas as pd

# What is looked at to tell text from binary, and a comma from another separator.
HEAD_BYTES = 65536
HEAD_LINES = 20
SEPARATORS = {";": "';'", "\t": "tabs", "|": "'|'", " ": "spaces"}
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1f]")

log = logging.getLogger(__name__)


def read_csv(path: Path, place: str) -> pd.DataFrame:
    """`pandas.read_csv` without its guesses: comma-separated, a header, as many fields a line.

    UTF-8 is expected; a byte order mark and Latin-1 are read, and a note is logged.

    Raises:
        ConfigError: The separator is no comma.
        ValueError: It is no such table; what pandas' parser raises, too.
    """
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    if len(head) == HEAD_BYTES:
        head = head[: head.rfind(b"\n") + 1]  # the last line is cut off somewhere
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) and len(head) % 2 == 0:
        raise ValueError("it is UTF-16, not UTF-8")
    if _CONTROL.search(head):
        raise ValueError("it is binary")
    if head.startswith(codecs.BOM_UTF8):
        log.warning("%s: begins with a byte order mark, which is left out", place)
    try:
        return _read(path, place, head, "utf-8-sig")
    except UnicodeDecodeError:
        frame = _read(path, place, head, "latin-1")
        log.warning("%s: is not UTF-8 and was read as Latin-1", place)
        return frame


def _read(path: Path, place: str, head: bytes, encoding: str) -> pd.DataFrame:
    import pandas as pd

    found = _other_separator(head.decode(encoding, errors="replace"))
    if found is not None:
        raise ConfigError(f"a table must be separated by commas, however: by {found} ({place})")
    # In one piece: by chunks, pandas would take a column for numbers here and for text there.
    frame = pd.read_csv(path, encoding=encoding, low_memory=False)
    # With a header, pandas renames a second "x" to "x.1" and makes a column without a name the
    # index; without one, it refuses a second line that is longer than the first.
    options = {"header": None, "nrows": 2, "dtype": str, "keep_default_na": False}
    names = pd.read_csv(path, encoding=encoding, **options).iloc[0]
    if all(like_number(name) for name in names):
        raise ValueError(f"its first line is numbers ({names[0]!r}, ...), not column names")
    if names.duplicated().any():
        frame.columns = pd.Index(names)
    # A line with too few fields is filled up from the right: only then is a second look needed.
    if len(frame) and frame.iloc[:, -1].isna().any():
        _refuse_short_lines(path, encoding, len(names))
    # What `to_csv` writes of an index that only counts rows.
    if names[0] == "" and frame.iloc[:, 0].equals(pd.Series(range(len(frame)))):
        log.warning("%s: the first column has no name and counts rows: it is left out", place)
        return frame.iloc[:, 1:]
    return frame


def _refuse_short_lines(path: Path, encoding: str, n_fields: int) -> None:
    with path.open(encoding=encoding, newline="") as file:
        lines = csv.reader(file)
        for fields in lines:
            if fields and len(fields) < n_fields:
                raise ValueError(
                    f"line {lines.line_num} has {len(fields)} fields, the header {n_fields}"
                )


def _other_separator(head: str) -> str | None:
    """What separates the first lines as a comma should, if a comma does not."""
    lines = [line for line in head.splitlines() if line.strip()][:HEAD_LINES]

    def separates(separator: str) -> bool:
        counts = {line.count(separator) for line in lines}
        return len(counts) == 1 and counts != {0}

    if not lines or "," in lines[0] or separates(","):
        return None
    return next((name for separator, name in SEPARATORS.items() if separates(separator)), None)
