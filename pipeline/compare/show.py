"""Owns what a person reads of a comparison: tables, the answer, what to mind."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.compare.answer import answer
from pipeline.compare.comparable import warnings
from pipeline.compare.sides import Side
from pipeline.compare.tables import DIFFERS, Table, tables


def print_comparison(sides: Sequence[Side]) -> None:
    """Prints it. Plain prints but for the tables: a sentence must not be wrapped."""
    shown = tables(sides)
    for table in shown:
        _print_table(table)
        print()
    if not any(table.title == DIFFERS for table in shown):
        print("Their settings and their data are the same.")
    for sentence in (*answer(sides), *(f"warning: {each}" for each in warnings(sides))):
        print(sentence)


def _print_table(table: Table) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table as Printed

    print(table.title)
    printed = Printed(box=None, padding=(0, 1, 0, 0))
    for place, heading in enumerate(table.headings):
        printed.add_column(
            heading,
            overflow="fold",
            no_wrap=place not in table.folded,
            justify="right" if place >= table.numbers else "left",
        )
    for row in table.rows:
        printed.add_row(*map(escape, row))
    Console(highlight=False).print(printed)
