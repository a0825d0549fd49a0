"""Owns what a person reads when a study has ended: the answer, its tables, where to see more."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.records import StudyRecord
    from pipeline.study import StudyResult

# The columns of `types_frame` that the table of types shows in 80 characters: heading and format.
TYPE_COLUMNS = {
    "regularization": ("type", ""),
    "trials": ("trials", ""),
    "complete": ("done", ""),
    "pruned": ("pruned", ""),
    "failed": ("failed", ""),
    "best_val_loss": ("val loss", ".4g"),
    "best_gap": ("gap", ".3g"),
    "best_lambda": ("lambda", ".1e"),
    "best_dropout": ("dropout", ".2f"),
    "best_epoch": ("epoch", ".0f"),
}


def print_result(result: StudyResult) -> None:
    """Prints what the search found, what fresh replicates say of it, and where the runs are.

    Plain prints but for the tables: a sentence, a command or a link must not be wrapped.
    """
    from pipeline.store import ui_command_and_link

    record = result.record
    _print_best(record)
    _print_types(record)
    _print_confirmation(record)
    if result.champion is not None:
        print(result.champion.note)
        print()
    command, link = ui_command_and_link(result.tracking_uri, record.experiment_id, view=result.view)
    print(f"parent run: {record.run_id}")
    if command:
        print(f"start UI:   {command}")
    print(f"open it:    {link}")


def _print_best(record: StudyRecord) -> None:
    from pipeline.figures import describe

    best = record.best
    print()
    if best is None:
        print("no trial was completed: there is no best one")
    else:
        print(f"best: trial {best.number}, {describe(best.hyperparameters)}")
        print(
            f"      validation loss {best.val_loss:.4f} at epoch {best.scalars['best_epoch']:.0f}, "
            f"gap {best.scalars['gap']:.4f}"
        )
    print()


def _print_types(record: StudyRecord) -> None:
    from pipeline.report import types_frame

    _print_table(
        f"{record.name}, by regularization type",
        [heading for heading, _ in TYPE_COLUMNS.values()],
        (
            [_cell(row[column], form) for column, (_, form) in TYPE_COLUMNS.items()]
            for _, row in types_frame(record).iterrows()
        ),
    )


def _print_confirmation(record: StudyRecord) -> None:
    from pipeline.report import doubts, short_table, verdict

    confirmation = record.confirmation
    if confirmation is None:
        return
    if confirmation.records:
        lines = short_table(confirmation)
        count = len(confirmation.replicates)
        title = f"finalists, on {count} fresh replicates (mean ± half of the 95 % interval)"
        print()
        _print_table(title, list(lines[0]), [list(line.values()) for line in lines])
    print()
    for sentence in (*verdict(record), *(f"warning: {doubt}" for doubt in doubts(record))):
        print(sentence)
    print()


def _print_table(title: str, headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    print(title)
    table = Table(box=None, padding=(0, 1, 0, 0))
    # Where there is too little room, it is the name that is broken, never a number.
    name, *numbers = headings
    table.add_column(name, overflow="fold")
    for heading in numbers:
        table.add_column(heading, no_wrap=True, justify="right")
    for row in rows:
        table.add_row(*map(escape, row))
    Console(highlight=False).print(table)


def _cell(value: object, form: str) -> str:
    return "" if value != value else format(value, form)  # NaN: there is no best trial
