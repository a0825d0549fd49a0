"""The commands as a person gives them: exit codes, one-line errors, signals."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient

from pipeline.cli import main
from tests.commands import PROJECT, command, parents, runs, study, with_store


class TestHelp:
    def test_help_does_not_import_what_takes_seconds(self) -> None:
        program = (
            "import sys; from pipeline.options import build_parser; build_parser().format_help();"
            "print(sorted({'torch', 'mlflow', 'optuna', 'pandas', 'sklearn'} & set(sys.modules)))"
        )
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=PROJECT
        )
        assert done.stdout.strip() == "[]"

    def test_every_command_is_listed(self, tmp_path: Path) -> None:
        done = command(tmp_path, "--help")
        assert done.returncode == 0
        assert all(
            name in done.stdout for name in ("run", "data", "reproduce", "report", "compare")
        )


BAD_INPUT = {
    "no study file": (["absent.toml"], "", "No such file"),
    "a folder": (["."], "", "Is a directory"),
    "not TOML": (["study.toml"], "name = ", "must be TOML"),
    "unknown key": (["study.toml"], "{base}[training]\nepochs = 3", "training.epochs"),
    "unknown key on the command line": (
        ["study.toml", "--set", "search.x=1"],
        "{base}",
        "search.x",
    ),
    "value that is no TOML": (["study.toml", "--set", "name=x y"], "{base}", "--set name"),
    "unknown option": (["study.toml", "--n_trialz", "3"], "{base}", "--n_trialz"),
    "no number": (["study.toml", "--n-trials", "many"], "{base}", "many"),
    "unknown data set": (["study.toml", "--data", "sklearn:nope"], "{base}", "sklearn:nope"),
    "unknown generator": (["study.toml", "--data", "synthetic:nope"], "{base}", "nope"),
    "unknown source": (["study.toml", "--data", "mongo:nope"], "{base}", "mongo:nope"),
    "absent table": (["study.toml", "--data", "csv:nope.csv"], "{base}", "nope.csv"),
    "target that is no column": (["study.toml", "--target", "nope"], "{base}", "nope"),
    "negative lambda": (["study.toml", "--set", "space.lambda=-1.0"], "{base}", "space.lambda"),
    "dropout of 1": (["study.toml", "--set", "space.dropout=1.0"], "{base}", "space.dropout"),
    "patience of 0": (["study.toml", "--set", "space.patience=0"], "{base}", "space.patience"),
    "population of 0": (["study.toml", "--population", "0"], "{base}", "search.population"),
    "no trials": (["study.toml", "--n-trials", "0"], "{base}", "search.n_trials"),
    "layer of 0": (["study.toml", "--set", "model.hidden=[0]"], "{base}", "model.hidden"),
    "no rows to train on": (["study.toml", "--set", "data.test_size=0.9"], "{base}", "test_size"),
    "unknown device": (["study.toml", "--device", "tpu"], "{base}", "training.device"),
    "unreachable store": (["study.toml"], "{base}", "tracking store"),
    "a long value": (
        ["study.toml", "--set", f"search.pruner='{'x' * 10_000}'"],
        "{base}",
        "pruner",
    ),
    "a long option": (["study.toml", f"--{'x' * 10_000}"], "{base}", "unrecognized arguments"),
    "a long value that is no TOML": (["study.toml", "--set", f"seed={'x' * 10_000}"], "", "TOML"),
    "a password": (
        ["study.toml", "--data", "https://me:s3cret word@h/x.csv"],
        "{base}",
        "me:***@h",
    ),
    "a password in a file's name": (
        ["study.toml", "--data", "csv:https://me:s3cret@word@h/x.csv"],
        "{base}",
        "me:***@h/x.csv",
    ),
    "a password in an option": (["study.toml", "--x=http://me:s3cret@h"], "{base}", "me:***@h"),
    "what a terminal would obey": (
        ["study.toml", "--\x1b[31m\u202ex"],
        "{base}",
        "\\x1b[31m\\u202ex",
    ),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_one_line_exit_code_2_and_nothing_written(
    case: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """In this process: a new one takes seconds to import what it then does not use."""
    arguments, text, place = BAD_INPUT[case]
    if text:
        study(tmp_path, text.replace("{base}", 'name = "x"\n[data]\nsource = "sklearn:iris"\n'))
    before = set(tmp_path.iterdir())
    store = "http://127.0.0.1:9" if case == "unreachable store" else f"sqlite:///{tmp_path}/m.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    monkeypatch.chdir(tmp_path)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        code = main(["run", *arguments])
    except SystemExit as stopped:  # argparse's way
        code = stopped.code
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    errors = capfd.readouterr().err
    assert code == 2, errors
    assert len(errors.splitlines()) == 1, errors
    assert errors.rstrip("\n").isprintable()
    assert len(errors) < 1200
    assert "s3cret" not in errors
    assert place in errors
    assert set(tmp_path.iterdir()) == before


TABLE = "size,colour,label\n" + "".join(
    f"{n % 17},{('red', 'blue', '')[n % 3]},{'ab'[n % 2]}\n" for n in range(60)
)
BAD_TABLES: dict[str, tuple[str | bytes, str]] = {
    "empty": ("", "the file is empty"),
    "header only": ("size,label\n", "at least 5 rows, however: 0"),
    "one row": ("size,label\n1,a\n", "at least 5 rows, however: 1"),
    "two rows": ("size,label\n1,a\n2,b\n", "at least 5 rows, however: 2"),
    "ragged": (TABLE + "1,red\n", "line 62 has 2 fields, the header 3"),
    "ragged the other way": (TABLE + "1,red,a,b\n", "Expected 3 fields in line 62, saw 4"),
    "semicolons": (TABLE.replace(",", ";"), "separated by commas, however: by ';'"),
    "binary": (bytes(range(256)), "it is binary"),
    "UTF-16": (TABLE.encode("utf-16"), "it is UTF-16"),
    "a name twice": (TABLE.replace("colour", "size"), "must be distinct, however: 'size'"),
    "no target": (TABLE + "1,red,\n", "must not have missing values (data.drop_missing_target"),
    "infinity": (TABLE + "inf,red,a\n", "must not have infinite values, however: 1"),
    "thousands": (TABLE.replace("\n1,", '\n"1,000",'), "without thousands separators"),
    "names of rows": (
        "id,label\n" + "".join(f"n{n},{'ab'[n % 2]}\n" for n in range(60)),
        "drop it: data.drop",
    ),
    "one class": (TABLE.replace(",b\n", ",a\n"), "at least two classes, however: only 'a'"),
    "a class of one row": (TABLE + "3,red,c\n", "for three splits, however: 'c' has 1"),
}


@pytest.mark.parametrize("case", BAD_TABLES)
@pytest.mark.parametrize("by", ["data", "run"])
def test_a_bad_table_is_one_line_exit_code_2_and_nothing_written(
    case: str,
    by: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    content, expected = BAD_TABLES[case]
    table = tmp_path / "t.csv"
    table.write_bytes(content if isinstance(content, bytes) else content.encode())
    arguments = ["data", f"csv:{table}"]
    if by == "run":
        text = 'name = "x"\n[data]\nsource = "csv:t.csv"\n'
        arguments = ["run", study(tmp_path, text)]
    before = set(tmp_path.iterdir())
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/m.db")
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    errors = capfd.readouterr().err
    assert len(errors.splitlines()) == 1, errors
    assert expected in errors
    assert f"(csv:{table}" in errors
    assert set(tmp_path.iterdir()) == before


class TestData:
    def test_prints_what_a_study_would_make_of_a_table(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "t.csv").write_text(TABLE + "3,red,a\n3,red,a\n", encoding="utf-8")
        monkeypatch.chdir(tmp_path)
        assert main(["data", "csv:t.csv"]) == 0
        output = capfd.readouterr().out
        for expected in (
            f"csv:{tmp_path}/t.csv, digest ",
            "62 rows, 3 columns, 2 of them features, which become 4 inputs",
            "target: 'label', binary",
            "copies: 11 rows have the features of another one; they share its split",
            "(seed 0)",
            "leaks:  none suspected",
        ):
            assert expected in output
        for expected in (
            r"size +numeric +0 +17 +standardized \(mean",
            r"colour +categorical +20 +2 +one-hot: 2 levels, missing",
            r"label +categorical +0 +2 +target",
            r"a +32 +51\.6%",
        ):
            assert re.search(expected, output), expected
        assert {path.name for path in tmp_path.iterdir()} == {"t.csv"}

    def test_of_a_quantity_and_a_leak_says_so(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        rows = "".join(f"{n},{n * n % 7},{n / 2}\n" for n in range(101))
        (tmp_path / "t.csv").write_text("twice,noise,price\n" + rows, encoding="utf-8")
        monkeypatch.chdir(tmp_path)
        assert main(["data", "csv:t.csv", "--set", 'data.drop=["noise"]']) == 0
        output = capfd.readouterr().out
        assert "target: 'price', regression\n        from 0 to 50, median 25" in output
        assert "leaks:  'twice' alone tells the target (R squared 0.99" in output
        assert "dropped: as data.drop says" in output
        assert main(["data", "csv:t.csv", "--target", "noise"]) == 0
        assert "target: 'noise', multiclass" in capfd.readouterr().out

    def test_trains_nothing(self) -> None:
        program = (
            "import sys; from pipeline.cli import main; code = main(['data', 'sklearn:iris']);"
            "print(code, sorted({'torch', 'mlflow', 'optuna'} & set(sys.modules)))"
        )
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=PROJECT
        )
        assert done.stdout.splitlines()[-1] == "0 []"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_bad_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(BAD_INPUT, "gpu", (["study.toml", "--device", "cuda"], "{base}", "GPU"))
    test_bad_input_is_one_line_exit_code_2_and_nothing_written("gpu", tmp_path, monkeypatch, capfd)


def test_bad_input_ends_the_program_with_code_2(tmp_path: Path) -> None:
    done = command(tmp_path, "run", "absent.toml")
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_nothing_is_read_from_a_store_that_does_not_exist_nor_is_one_made(tmp_path: Path) -> None:
    for name, *others in (("report",), ("reproduce",), ("compare", "1" * 32)):
        done = command(tmp_path, name, "0" * 32, *others)
        assert done.returncode == 2
        assert done.stderr.startswith("a tracking store must exist, however: sqlite:///")
        assert len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_run_report_reproduce(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done = command(tmp_path, "run", study(tmp_path), "--n-trials=", "--seed", "7")
    assert done.returncode == 0, done.stderr
    (parent,) = parents(tmp_path)
    assert parent.data.params["study.seed"] == "7"
    assert parent.data.metrics["study/trials"] == 8
    for expected in ("best: trial", "by regularization type", parent.info.run_id, "mlflow ui "):
        assert expected in done.stdout
    assert "8 of 8 trials done" in done.stdout
    assert command(tmp_path, "report", parent.info.run_id).returncode == 0
    child = next(run for run in runs(tmp_path) if "mlflow.parentRunId" in run.data.tags)
    again = command(tmp_path, "reproduce", child.info.run_id)
    assert (again.returncode, again.stdout.strip()[-9:]) == (0, "identical")

    # A curve that is not what the trial computes is found out.
    MlflowClient(f"sqlite:///{tmp_path}/mlflow.db").log_metric(
        child.info.run_id, "loss/val", 0.125, step=2, timestamp=2**41
    )
    differs = command(tmp_path, "reproduce", child.info.run_id)
    assert differs.returncode == 1
    assert "differs" in differs.stdout

    # Runs of the wrong kind, and of no kind.
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    for name, run_id in (
        ("reproduce", parent.info.run_id),
        ("report", child.info.run_id),
        ("report", "0" * 32),
    ):
        assert main([name, run_id]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert run_id in line


def test_the_closing_table_is_readable_in_80_columns(tmp_path: Path) -> None:
    done = command(tmp_path, "run", study(with_store(tmp_path)), COLUMNS="80")
    assert done.returncode == 0, done.stderr
    assert "…" not in done.stdout
    for kind in ("none", "l1", "l2", "elastic_net", "weight_decay"):
        assert re.search(rf"^ ?{kind} +\d+ +\d+ +\d+ ", done.stdout, flags=re.MULTILINE)


def test_a_start_that_fails_closes_the_run_that_it_opened(tmp_path: Path) -> None:
    (tmp_path / "mlruns").write_text("where artifacts would go")
    done = command(tmp_path, "run", study(tmp_path))
    assert done.returncode == 2
    assert "the tracking store must answer and be writable" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    (parent,) = parents(tmp_path)
    assert parent.info.status == "FAILED"
    assert parent.data.tags["study.state"] == "failed"


def test_quiet_prints_nothing(tmp_path: Path) -> None:
    done = command(tmp_path, "run", study(with_store(tmp_path)), "--n-trials", "2", "--quiet")
    assert (done.returncode, done.stdout) == (0, "")
