"""Owns the command line: arguments in, exit codes out.

Exit codes: 0 done; 1 a reproduced trial differs, or the study failed; 2 the input is wrong (one
line on stderr: the rule, what was received, where); 130 / 143 after SIGINT / SIGTERM. A store that
was never there is a wrong input. One that went away while a study ran is a failure, and so is a
full disk; both are told in one line, too.
"""

from __future__ import annotations

import argparse
import errno
import logging
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from pipeline.options import build_parser, engine_settings, one_line, typed

if TYPE_CHECKING:
    from pathlib import Path

    from pipeline.config import StudyConfig

# What the options of `run` stand for in the study file.
SHORTCUTS = {
    "n_trials": "search.n_trials",
    "population": "search.population",
    "seed": "seed",
    "max_epochs": "training.max_epochs",
    "replicates": "confirm.replicates",
    "target": "data.target",
    "device": "training.device",
}

LEFT = "stopped at once, as a killed program is; --resume continues the study\n"

# What a bar hid, given back below it.
SHOW_CURSOR = "\n\x1b[?25h"

# No room on a disk or in a quota, or for a larger file; a disk that is read only.
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}


class Stopped(BaseException):
    """A signal asked the program to end."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal_number)
        self.signal = signal_number


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    from pipeline.ancestors import stand, tell_of_end, up_to_mlflow_run

    # At once: of one that is gone before it is known, nothing would be heard.
    line = up_to_mlflow_run()
    given = sys.argv[1:] if arguments is None else list(arguments)
    chosen = build_parser().parse_args(given)
    chosen.typed = typed(given)
    from pipeline.config import ConfigError, StudyError
    from pipeline.store import StoreLostError

    signal.signal(signal.SIGINT, _stop)
    signal.signal(signal.SIGTERM, _stop)
    tell_of_end(line, partial(os.kill, os.getpid(), signal.SIGTERM))
    commands = {
        "run": _run,
        "data": _data,
        "reproduce": _reproduce,
        "report": _report,
        "compare": _compare,
    }
    try:
        return commands[chosen.command](chosen)
    except ConfigError as error:
        print(one_line(str(error)), file=sys.stderr)
        return 2
    except StudyError as error:
        print(one_line(str(error)), file=sys.stderr)
        return 1
    except StoreLostError as error:
        print(f"{one_line(str(error))}; --resume continues the study", file=sys.stderr)
        return 1
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        place = f"{error.filename}, " if error.filename else ""
        told = f"files must be writable, however: {error.strerror} ({place}errno {error.errno})"
        print(f"{one_line(told)}; --resume continues the study", file=sys.stderr)
        return 1
    except Stopped as stopped:
        if line and not stand(line):
            _close_adopted()
        print("stopped; --resume continues the study", file=sys.stderr)
        return 128 + stopped.signal


def _close_adopted() -> None:
    """Nobody else closes the run of a dead `mlflow run`, if no study came of it."""
    from pipeline import recorder, writer

    recorder.close_adopted()
    writer.discard()


def _run(chosen: argparse.Namespace) -> int:
    from pipeline.progress import report_progress

    config = _configure(chosen)
    if chosen.quiet:
        logging.getLogger("pipeline").setLevel(logging.ERROR)  # notes on the table, above all
    # The writing process gets ready while this one imports torch and reads the data.
    from pipeline import writer
    from pipeline.config import ConfigError
    from pipeline.garbage import uncollected
    from pipeline.recorder import start_writer
    from pipeline.store import StoreLostError

    start_writer()
    try:
        with uncollected():
            from pipeline.study import run_study
        engine = engine_settings(chosen)
        with report_progress(config, quiet=chosen.quiet) as on_progress:
            result = run_study(
                config,
                resume=chosen.resume,
                accept_changes=chosen.accept_changes,
                promote=chosen.promote,
                command=chosen.typed,
                engine=engine,
                on_progress=on_progress,
            )
    except (ConfigError, StoreLostError, Stopped):
        writer.discard()  # nobody waits for it to get ready
        raise
    if not chosen.quiet:
        from pipeline.closing import print_result

        print_result(result)
    return 0


def _configure(chosen: argparse.Namespace) -> StudyConfig:
    from pipeline.config import load_config, parse_assignment

    overrides: dict[str, Any] = dict(map(parse_assignment, chosen.assignments))
    for option, key in SHORTCUTS.items():
        if getattr(chosen, option) is not None:
            overrides[key] = getattr(chosen, option)
    if chosen.data is not None:
        overrides["data.source"] = _anchored(chosen.data)
    return load_config(_where_called(chosen.study), overrides)


def _anchored(source: str) -> str:
    """The source with an absolute path, if it has a path."""
    from pipeline.config import FILE_SOURCES

    scheme, _, name = source.partition(":")
    if scheme in FILE_SOURCES and name:
        return f"{scheme}:{_where_called(name).absolute()}"
    return source


def _where_called(name: str) -> Path:
    """A path of the command line, relative to where the command was given.

    `mlflow run` runs the program in the project's folder: what is not there is looked for where
    `mlflow run` itself was called.
    """
    from pathlib import Path

    from pipeline.store import ancestor_folders

    if "MLFLOW_RUN_ID" not in os.environ:
        return Path(name)
    found = (folder / name for folder in ancestor_folders() if (folder / name).exists())
    return next(found, Path(name))


def _data(chosen: argparse.Namespace) -> int:
    from pathlib import Path

    from pipeline.config import parse_assignment, parse_config
    from pipeline.overview import print_overview

    overrides: dict[str, Any] = dict(map(parse_assignment, chosen.assignments))
    overrides["data.source"] = _anchored(chosen.source)
    if chosen.target is not None:
        overrides["data.target"] = chosen.target
    print_overview(parse_config('name = "table"', "the command line", Path.cwd(), overrides))
    return 0


def _reproduce(chosen: argparse.Namespace) -> int:
    from pipeline.reproduce import reproduce

    comparison = reproduce(chosen.run_id)
    print(comparison)
    return 0 if comparison.identical else 1


def _report(chosen: argparse.Namespace) -> int:
    from functools import partial

    from pipeline.report import render
    from pipeline.store import run_links
    from pipeline.tracking import log_file, read_study, read_weights, tracking_uri
    from pipeline.weights import with_kernels

    uri = tracking_uri()
    record = with_kernels(read_study(chosen.run_id), partial(read_weights, uri))
    page = render(record, run_links(record, uri))
    log_file(chosen.run_id, "report.html", page.encode())
    print(f"report.html of {record.name}, {len(record.trials)} trials: run {chosen.run_id}")
    return 0


def _compare(chosen: argparse.Namespace) -> int:
    from pipeline.compare import figure_file, print_comparison, read_sides, write_figure

    run_ids = [each for part in chosen.run_ids for each in part]
    file = figure_file(chosen.figure, run_ids)
    sides = read_sides(run_ids)
    write_figure(sides, file)
    print_comparison(sides)
    print(f"figure: {file}")
    return 0


def _stop(number: int, _: object) -> NoReturn:
    # `mlflow run` sends SIGTERM right after Ctrl-C: the second one must not cut off the closing of
    # runs that the first began. A second Ctrl-C may: it is a person's, who waits for nothing more.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, _leave)
    raise Stopped(number)


def _leave(number: int, _: object) -> NoReturn:
    # An exception would be held up by all that is to be closed, or lost.
    with suppress(OSError):  # a terminal or a pipe that nobody reads any more
        if sys.stdout.isatty():
            os.write(sys.stdout.fileno(), SHOW_CURSOR.encode())
        os.write(sys.stderr.fileno(), LEFT.encode())
    os._exit(128 + number)
