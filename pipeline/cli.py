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
import re
import shlex
import signal
import sys
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from pathlib import Path

    from pipeline.config import StudyConfig
    from pipeline.engine import EngineSettings

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


# No room on a disk or in a quota, or for a larger file; a disk that is read only.
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}


class Stopped(BaseException):
    """A signal asked the program to end."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal_number)
        self.signal = signal_number


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line; `mlflow run` passes unknown parameters on to it."""

    def error(self, message: str) -> NoReturn:
        """Exits with code 2."""
        self.exit(2, f"{one_line(message)} ({self.prog})\n")


def build_parser() -> argparse.ArgumentParser:
    """The parser of every command. An empty value means: as the study file says."""
    parser = Parser(prog="python -m pipeline", allow_abbrev=False, description=__doc__)
    parser.description = "Which guardrail helps a network that overfits, and how strong?"
    commands = parser.add_subparsers(dest="command", required=True, parser_class=Parser)

    flag: dict[str, Any] = {
        "type": _flag,
        "nargs": "?",
        "const": True,
        "default": False,
        "metavar": "true|false",
    }
    run = commands.add_parser("run", allow_abbrev=False, help="run a study")
    run.add_argument("study", metavar="STUDY", help="the study file (TOML)")
    run.add_argument("--n-trials", type=_count, metavar="N", help="trials in all")
    run.add_argument("--population", type=_count, metavar="K", help="trials that train at once")
    run.add_argument("--seed", type=_count, metavar="S", help="seed of the whole study")
    run.add_argument("--max-epochs", type=_count, metavar="E", help="epochs a trial may last")
    run.add_argument(
        "--replicates", type=_count, metavar="R", help="fresh replicates to confirm on; 0: none"
    )
    run.add_argument("--data", type=_text, metavar="SOURCE", help="sklearn:NAME, csv:PATH, ...")
    run.add_argument("--target", type=_text, metavar="COLUMN", help="the target's column")
    run.add_argument("--device", type=_text, metavar="auto|cpu|cuda", help="where trials train")
    _add_assignments(run)
    run.add_argument(
        "--resume",
        **flag,
        help="continue the newest run of this study",
    )
    run.add_argument(
        "--accept-changes",
        **flag,
        help="with --resume: also with a wider space, another pruner or other package versions",
    )
    run.add_argument(
        "--promote",
        **flag,
        help="make the champion the registered one even where that one was better on validation",
    )
    run.add_argument("--quiet", action="store_true", help="print nothing but errors")
    _add_engine(run)

    data = commands.add_parser(
        "data", allow_abbrev=False, help="look at a table as a study would; nothing is trained"
    )
    data.add_argument("source", metavar="SOURCE", help="csv:PATH, parquet:PATH, openml:ID, ...")
    data.add_argument("--target", type=_text, metavar="COLUMN", help="the target's column")
    _add_assignments(data)

    reproduce = commands.add_parser(
        "reproduce", allow_abbrev=False, help="retrain one trial alone and compare its curve"
    )
    reproduce.add_argument("run_id", metavar="RUN_ID", help="the trial's MLflow run")

    report = commands.add_parser(
        "report", allow_abbrev=False, help="rebuild report.html from the tracking store"
    )
    report.add_argument("run_id", metavar="RUN_ID", help="the study's parent run")

    compare = commands.add_parser(
        "compare", allow_abbrev=False, help="two or more studies side by side"
    )
    compare.add_argument(
        "run_ids",
        metavar="RUN_ID",
        nargs="+",
        type=_run_ids,
        help="the studies' parent runs; commas part them, too",
    )
    compare.add_argument(
        "--figure",
        type=_text,
        metavar="FILE.png",
        help="where the figure goes, replacing one that is there; "
        "default: compare-RUN-RUN.png in the current folder",
    )
    return parser


def _add_engine(parser: argparse.ArgumentParser) -> None:
    """Where a study trains; an option without a value is as `EngineSettings` has it."""
    group = parser.add_argument_group("where it trains, which changes nothing of what comes out")
    group.add_argument(
        "--engine",
        type=_engine,
        metavar="local|ray",
        help="processes of this machine (the default), or a Ray cluster's",
    )
    group.add_argument(
        "--populations",
        type=_count,
        metavar="N",
        help="how many train at once; default: as many as there is room for",
    )
    group.add_argument(
        "--address",
        type=_text,
        metavar="HOST:PORT",
        help="of the cluster, or auto; default: one is begun here",
    )
    group.add_argument(
        "--cpus-per-population", type=_number, metavar="C", help="of its machine; default: 1"
    )
    group.add_argument(
        "--gpus-per-population", type=_number, metavar="G", help="of its machine; default: 0"
    )
    group.add_argument(
        "--population-timeout",
        type=_number,
        metavar="SECONDS",
        help="without a sign of life, after which one is given up; default: 30",
    )


def _add_assignments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set",
        dest="assignments",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="any key of the study file, dotted; the value in TOML syntax",
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    from pipeline.ancestors import stand, tell_of_end, up_to_mlflow_run

    # At once: of one that is gone before it is known, nothing would be heard.
    line = up_to_mlflow_run()
    given = sys.argv[1:] if arguments is None else list(arguments)
    chosen = build_parser().parse_args(given)
    chosen.typed = typed(given)
    from pipeline.config import ConfigError, StudyError
    from pipeline.interrupts import Hurried
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
    except Hurried:
        print(LEFT, end="", file=sys.stderr)
        return 128 + signal.SIGINT
    except StoreLostError as error:
        print(f"{one_line(str(error))}; --resume continues the study", file=sys.stderr)
        return 1
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        place = f"{error.filename}, " if error.filename else ""
        print(
            f"files must be writable, however: {error.strerror} ({place}errno {error.errno}); "
            "--resume continues the study",
            file=sys.stderr,
        )
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


def one_line(message: str) -> str:
    """A message as it is printed: without passwords, and no longer than can be read."""
    from pipeline.config import shortened
    from pipeline.store import masked

    return shortened(masked(" ".join(message.split())))


def typed(arguments: Sequence[str]) -> str:
    """The command as a person would type it: without empty options, and without passwords.

    `mlflow run` passes on an empty value for each parameter that was not given.
    """
    from pipeline.store import masked

    kept = [masked(each) for each in arguments if not re.fullmatch(r"--[a-z-]+=", each)]
    return shlex.join(["python", "-m", "pipeline", *kept])


def _run(chosen: argparse.Namespace) -> int:
    from pipeline.progress import report_progress

    config = _configure(chosen)
    if chosen.quiet:
        logging.getLogger("pipeline").setLevel(logging.ERROR)  # notes on the table, above all
    # The writing process gets ready while this one imports torch and reads the data.
    from pipeline import writer
    from pipeline.config import ConfigError
    from pipeline.recorder import start_writer
    from pipeline.store import StoreLostError

    start_writer()
    try:
        from pipeline.study import run_study

        engine = _engine_settings(chosen)
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


def _engine_settings(chosen: argparse.Namespace) -> EngineSettings:
    from pipeline.engine import EngineSettings

    given = {
        "kind": chosen.engine,
        "populations": chosen.populations,
        "address": chosen.address,
        "cpus_per_population": chosen.cpus_per_population,
        "gpus_per_population": chosen.gpus_per_population,
        "timeout": chosen.population_timeout,
    }
    return EngineSettings(**{key: value for key, value in given.items() if value is not None})


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


def _run_ids(text: str) -> list[str]:
    """`mlflow run` hands over several as one text."""
    return text.replace(",", " ").split()


def _count(text: str) -> int | None:
    try:
        return int(text) if text else None
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a whole number, however: {text!r}") from None


def _number(text: str) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number, however: {text!r}") from None


def _engine(text: str) -> str | None:
    if text not in ("", "local", "ray"):
        raise argparse.ArgumentTypeError(f"must be local or ray, however: {text!r}")
    return text or None


def _text(text: str) -> str | None:
    return text or None


def _flag(text: str) -> bool:
    known = {"": False, "false": False, "0": False, "no": False}
    known |= {"true": True, "1": True, "yes": True}
    if text.lower() not in known:
        raise argparse.ArgumentTypeError(f"must be true or false, however: {text!r}")
    return known[text.lower()]


def _stop(number: int, _: object) -> NoReturn:
    # `mlflow run` sends SIGTERM right after Ctrl-C: the second one must not cut off the closing of
    # runs that the first began. A second Ctrl-C may: it is a person's, who waits for nothing more.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, _leave)
    raise Stopped(number)


def _leave(number: int, _: object) -> NoReturn:
    # An exception would be held up by all that is to be closed.
    os.write(sys.stderr.fileno(), LEFT.encode())
    os._exit(128 + number)
