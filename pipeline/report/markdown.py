"""Owns Markdown: text that stays text, tables, commands, and what is cut to fit a description."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence

# A study's name or a column's may be of any length: no text takes a description for itself.
LONGEST_TEXT, LONGEST_NAME = 600, 120

MORE = "What did not fit here stands in the artifact `report.html`."


def escaped(text: str, longest: int = LONGEST_TEXT) -> str:
    """Text on one line that Markdown, and the HTML in it, leave alone; its end is cut if long."""
    line = " ".join(text.split())
    if len(line) > longest:
        line = line[: longest - 1] + "\N{HORIZONTAL ELLIPSIS}"
    return re.sub(r"([\\`*\[\]|])", r"\\\1", html.escape(line, quote=False))


def table(headings: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table of several lines, whose cells are escaped here."""
    headings = list(headings)
    lines = ["| " + " | ".join(headings) + " |", "|" + "---|" * len(headings)]
    lines += ["| " + " | ".join(map(escaped, row)) + " |" for row in rows]
    return "\n".join(lines)


def code(lines: Sequence[str]) -> str:
    """Commands as they are typed. The fence is longer than any that they hold."""
    text = "\n".join(lines)
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{text}\n{fence}"


def fitted(body: Sequence[str], end: Sequence[str], limit: int) -> str:
    """A text of no more characters than there is room for.

    Args:
        body: Pieces that stand or fall as they are: lines, tables. The last ones go first, and a
            heading goes with the last piece below it.
        end: Pieces that go last of all, from their own end.
        limit: How many characters there is room for.
    """
    kept, end = list(body), list(end)
    while len(text := _joined(kept, end if len(kept) == len(body) else ["", MORE, *end])) > limit:
        pieces = kept or end
        if not pieces:
            return ""
        pieces.pop()
        while pieces and (not pieces[-1] or pieces[-1].startswith("#")):
            pieces.pop()
    return text


def _joined(*parts: Iterable[str]) -> str:
    pieces: list[str] = []
    for piece in (piece for part in parts for piece in part):
        if piece or (pieces and pieces[-1]):
            pieces.append(piece)
    return "\n".join(pieces).rstrip("\n") + "\n"
