"""Owns the command line's grammar: commands, options, and what is wrong with them."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from pipeline.engine import EngineSettings


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line; `mlflow run` passes unknown parameters on to it."""

    def error(self, message: str) -> NoReturn:
        """Exits with code 2."""
        self.exit(2, f"{one_line(message)} ({self.prog})\n")


def build_parser() -> argparse.ArgumentParser:
    """The parser of every command. An empty value means: as the study file says."""
    parser = Parser(
        prog="python -m pipeline",
        allow_abbrev=False,
        description="Which guardrail helps a network that overfits, and how strong?",
    )
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


def one_line(message: str) -> str:
    """A message as it is printed: without passwords, and no longer than can be read."""
    from pipeline.config import printable, shortened
    from pipeline.store import masked

    return shortened(masked(printable(message)))


def typed(arguments: Sequence[str]) -> str:
    """The command as a person would type it: without empty options, and without passwords.

    `mlflow run` passes on an empty value for each parameter that was not given.
    """
    from pipeline.store import masked

    kept = [masked(each) for each in arguments if not re.fullmatch(r"--[a-z-]+=", each)]
    return shlex.join(["python", "-m", "pipeline", *kept])


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


def engine_settings(chosen: argparse.Namespace) -> EngineSettings:
    """Where a study is to train, as the options say.

    Raises:
        ConfigError: They do not go together.
    """
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
