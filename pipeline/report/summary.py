"""Owns the summaries: a study in Markdown, as its parent run's and its experiment's description."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.config import FRAME_SOURCE
from pipeline.figures.record import config_of
from pipeline.records import StudyRecord
from pipeline.report.answer import answer
from pipeline.report.caveats import caveats
from pipeline.report.doubts import doubts
from pipeline.report.facts import commit_text, facts
from pipeline.report.finalists import short_table
from pipeline.report.frames import cell, types_frame
from pipeline.report.markdown import LONGEST_NAME, code, escaped, fitted, table
from pipeline.report.short_answer import short_answer
from pipeline.report.verdict import verdict

# What MLflow keeps of a run's description, and what its older servers take for an experiment's.
RUN_LIMIT, EXPERIMENT_LIMIT = 8000, 5000


def summary_markdown(record: StudyRecord, links: str = "", limit: int = RUN_LIMIT) -> str:
    """The parent run's description: the UI shows three lines of it, and the rest when asked.

    Args:
        record: The study.
        links: To its trials, in Markdown.
        limit: How many characters there is room for.
    """
    body = [
        # The answer is what must not be folded away.
        _short(record),
        "",
        links,
        "",
        f"## {escaped(record.name, LONGEST_NAME)}",
        "",
        *_confirmed(record),
        "",
        " ".join(map(escaped, answer(record))),
        "",
        *(f"- **Warning**: {escaped(each)}" for each in (*doubts(record), *caveats(record))),
        "",
        *_searched(record),
    ]
    return fitted(body, _again(record), limit)


def experiment_markdown(
    record: StudyRecord, links: str, page: str, limit: int = EXPERIMENT_LIMIT
) -> str:
    """The experiment's description: what the study that ended last in it found.

    Args:
        record: The study.
        links: To all trials, in Markdown.
        page: The UI's page of the parent run.
        limit: How many characters there is room for.
    """
    body = [
        # On an experiment's page one line is to be seen: the way to its views.
        links,
        "",
        _short(record),
        "",
        f"The study that ended last is [{escaped(record.name, LONGEST_NAME)}]({page}).",
        "",
        *_searched(record),
    ]
    return fitted(body, _again(record), limit)


def _short(record: StudyRecord) -> str:
    return " ".join(map(escaped, short_answer(record)))


def _confirmed(record: StudyRecord) -> Iterator[str]:
    """The verdict, the finalists in short, and a heading for what the search found."""
    said = verdict(record)
    if not said:
        return
    yield from ("### On fresh replicates", "", escaped(said[0]), "")
    yield from (f"- {escaped(sentence)}" for sentence in said[1:])
    yield ""
    if record.confirmation is not None and record.confirmation.records:
        lines = short_table(record.confirmation)
        yield table(lines[0], (line.values() for line in lines))
    yield from ("", "### In the search", "")


def _searched(record: StudyRecord) -> Iterator[str]:
    """What was searched, on what data, what that took, and a table by regularization type."""
    yield from ("### What was searched", "")
    yield from (f"- **{label}**: {escaped(text)}" for label, text in facts(record))
    yield ""
    frame = types_frame(record)
    rows = ([cell(value)["text"] for value in row] for row in frame.itertuples(index=False))
    yield table((name.replace("_", " ") for name in frame.columns), rows)


def _again(record: StudyRecord) -> list[str]:
    """How to run the study again."""
    origin = record.origin
    commands = [each for each in (origin.command, origin.project_command) if each]
    made = f" ({escaped(commit_text(record))})" if origin.commit else ""
    lines = ["", "### How to run it again", ""]
    if commands:
        which = "The command was" if len(commands) == 1 else "Either command does it"
        lines += [f"{which}{made}:", "", code(commands)]
    elif made:
        lines.append(f"No command is known of it{made}.")
    settings = (
        "Every setting stands in the artifact `study.toml`: download it, then `mlflow run . -P "
        "study=study.toml`, `python -m pipeline run study.toml` or, in Python, "
        '`run_study(load_config("study.toml"))`.'
    )
    if _handed_over(record):
        settings = (
            "Its table was a data frame, which must be handed over anew: download the artifact "
            '`study.toml`, then `run_study(load_config("study.toml"), data=table)`.'
        )
    elif record.best is not None:
        settings += (
            f" The best trial alone: `python -m pipeline reproduce {escaped(record.best.run_id)}`."
        )
    return [*lines, "", settings]


def _handed_over(record: StudyRecord) -> bool:
    config = config_of(record)
    return config is not None and config.data.source.startswith(f"{FRAME_SOURCE}:")
