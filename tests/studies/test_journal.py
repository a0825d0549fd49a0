"""A journal that was torn, garbled or deleted, and one whose store is gone: real files."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import optuna
import pytest
from mlflow import MlflowClient
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from pipeline import writer
from pipeline.config import ConfigError, StudyConfig, parse_config
from pipeline.journal import journals_of, mend, set_aside
from pipeline.search import Progress
from pipeline.study import StudyResult, run_study
from pipeline.tracking import download
from tests.commands import command, study, with_store

SMALL = """
name = "journal"
seed = 3
[data]
source = "sklearn:iris"
[model]
hidden = [7]
[training]
max_epochs = 9
learning_rate = 0.02
[search]
n_trials = 14
population = 4
pruner = "median"
pruner_warmup = 2
[space]
patience = { low = 2, high = 6 }
[confirm]
replicates = 0
"""


def small(**overrides: object) -> StudyConfig:
    return parse_config(SMALL, "small.toml", Path("/"), overrides)


def table(result: StudyResult) -> bytes:
    return download(result.tracking_uri, result.parent_run_id, "trials.csv")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = with_store(tmp_path_factory.mktemp("undisturbed"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        return table(run_study(small()))


@pytest.fixture
def cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The journal of a study that was interrupted with six trials or more behind it."""
    monkeypatch.chdir(with_store(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")

    def stop(progress: Progress) -> None:
        if progress.done >= 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_study(small(), on_progress=stop)
    (journal,) = (tmp_path / "journals").glob("*.journal")
    return journal


def told(journal: Path) -> list[optuna.trial.FrozenTrial]:
    storage = JournalStorage(JournalFileBackend(str(journal)))
    return optuna.load_study(study_name="journal", storage=storage).trials


def run_ids(folder: Path) -> set[str]:
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    experiment = client.get_experiment_by_name("journal")
    assert experiment is not None
    return {run.info.run_id for run in client.search_runs([experiment.experiment_id])}


def resumes_as_if_undisturbed(journal: Path, undisturbed: bytes) -> None:
    """With the runs that stood, all of them, and a journal that is whole again."""
    before = run_ids(journal.parents[1])
    result = run_study(small(), resume=True)
    assert table(result) == undisturbed
    assert before <= run_ids(journal.parents[1])
    trials = told(journal)
    assert [trial.number for trial in trials] == list(range(14))
    by_number = {trial.number: trial.run_id for trial in result.record.trials}
    assert {trial.number: trial.user_attrs["mlflow_run_id"] for trial in trials} == by_number
    assert all(trial.state.is_finished() for trial in trials)


@pytest.mark.parametrize("share", [0.01, 0.3, 0.55, 0.8, 1.0])
def test_cut_off_in_the_middle_of_a_line(cut_off: Path, undisturbed: bytes, share: float) -> None:
    content = cut_off.read_bytes()
    length = int(share * (len(content) - 2))
    length += content[length - 1 : length] == b"\n"
    cut_off.write_bytes(content[:length])
    resumes_as_if_undisturbed(cut_off, undisturbed)
    # Nothing was set aside; the locks' files lie there for ever.
    assert [path for path in cut_off.parent.iterdir() if path.suffix != ".lock"] == [cut_off]


@pytest.mark.parametrize("damage", ["garbage", "first line", "a trial", "zeros", "all"])
def test_a_corrupt_one_is_set_aside_and_the_store_asked(
    cut_off: Path, undisturbed: bytes, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    lines = cut_off.read_bytes().splitlines(keepends=True)
    creations = [n for n, line in enumerate(lines) if json.loads(line)["op_code"] == 4]
    match damage:
        case "garbage":
            lines[7] = random.Random(0).randbytes(200).replace(b"\n", b" ") + b"\n"
        case "first line":
            del lines[0]
        case "a trial":
            del lines[creations[2]]
        case "zeros":
            lines[4] = b"\0" * len(lines[4])
        case "all":
            lines = [b"no journal\n"]
    cut_off.write_bytes(b"".join(lines))
    damaged = cut_off.read_bytes()
    resumes_as_if_undisturbed(cut_off, undisturbed)
    # Optuna had a look at those that it could read, and each look adds a line.
    assert cut_off.with_name(f"{cut_off.name}.corrupt").read_bytes().startswith(damaged)
    (line,) = [r.getMessage() for r in caplog.records if "corrupt" in r.getMessage()]
    assert line.startswith("the journal was corrupt (")
    assert f"{cut_off}.corrupt" in line


def test_ends_that_it_lost_are_told_again(cut_off: Path, undisturbed: bytes) -> None:
    lines = cut_off.read_bytes().splitlines(keepends=True)
    cut_off.write_bytes(b"".join(line for line in lines if json.loads(line)["op_code"] in (0, 4)))
    assert not any(trial.state.is_finished() for trial in told(cut_off))
    resumes_as_if_undisturbed(cut_off, undisturbed)


def test_a_deleted_one_is_made_again(
    cut_off: Path, undisturbed: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    cut_off.unlink()
    resumes_as_if_undisturbed(cut_off, undisturbed)
    assert f"the journal was gone, and is begun anew: {cut_off}" in caplog.messages


def test_of_trials_in_another_space_the_store_still_knows(cut_off: Path) -> None:
    """The sampler is not asked for what ended: it might answer otherwise."""
    stood = {trial.number for trial in told(cut_off) if trial.state.is_finished()}
    before = run_ids(cut_off.parents[1])
    cut_off.unlink()
    result = run_study(small(**{"space.dropout.high": 0.9}), resume=True, accept_changes=True)
    assert len(stood) >= 6
    assert before <= run_ids(cut_off.parents[1])
    assert len(result.record.trials) == 14


def test_a_store_that_is_gone_is_no_new_study(cut_off: Path) -> None:
    folder = cut_off.parents[1]
    writer.discard()  # it has the store open
    (folder / "mlflow.db").unlink()
    with_store(folder)
    left = set(folder.rglob("*"))
    rule = r"must be in the tracking store, however: 'journal' is not, and its journal lies at "
    with pytest.raises(ConfigError, match=rule) as caught:
        run_study(small(), resume=True)
    assert str(cut_off) in str(caught.value)
    assert set(folder.rglob("*")) - left <= {folder / "mlruns"}


def test_an_unreadable_one_is_named(cut_off: Path) -> None:
    content = cut_off.read_bytes()
    cut_off.unlink()
    cut_off.mkdir()
    with pytest.raises(ConfigError, match=r"must be readable and writable, however: Is a dir.*"):
        run_study(small(), resume=True)
    cut_off.rmdir()
    cut_off.write_bytes(content)
    assert len(run_study(small(), resume=True).record.trials) == 14


def test_one_line_and_exit_code_2_where_the_store_is_gone(tmp_path: Path) -> None:
    path = study(with_store(tmp_path))
    assert command(tmp_path, "run", path, "--n-trials", "2").returncode == 0
    (tmp_path / "mlflow.db").unlink()
    done = command(tmp_path, "run", path, "--resume")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "its journal lies at" in done.stderr


class TestTheFile:
    LINE = b'{"op_code":4,"worker_id":"w"}\n'
    FIRST = b'{"op_code":0,"worker_id":"w","study_name":"a \\"name\\""}\n'

    @pytest.mark.parametrize(
        ("content", "left", "wrong"),
        [
            (b"", b"", None),
            (FIRST + LINE, FIRST + LINE, None),
            (FIRST + LINE[:9], FIRST, None),
            (FIRST[:30], b"", None),
            (FIRST + LINE[:-1], FIRST, None),
            (FIRST + LINE[:9] + LINE, None, "line 2 is no operation of Optuna's"),
            (FIRST + b"[]\n" + LINE, None, "line 2 is no operation of Optuna's"),
            (FIRST + b"\n", None, "line 2 is no operation of Optuna's"),
            (FIRST + b"\xff\xfe\n", None, "line 2 is no operation of Optuna's"),
            (
                FIRST + b'{"op_code":4,"worker_id":"\xff"}\n',
                None,
                "line 2 is no operation of Optuna's",
            ),
            (FIRST + b'{"op_code":"4"}\n', None, "line 2 is no operation of Optuna's"),
            (b"{}\n", None, "line 1 is no operation of Optuna's"),
            (LINE, None, "line 1 does not begin a study"),
        ],
    )
    def test_is_mended_or_known_to_be_wrong(
        self, tmp_path: Path, content: bytes, left: bytes | None, wrong: str | None
    ) -> None:
        path = tmp_path / "a.journal"
        path.write_bytes(content)
        assert mend(path) == wrong
        assert path.read_bytes() == (content if left is None else left)

    def test_is_not_made(self, tmp_path: Path) -> None:
        assert mend(tmp_path / "a.journal") is None
        assert not list(tmp_path.iterdir())

    def test_never_replaces_one_that_was_set_aside(self, tmp_path: Path) -> None:
        names = []
        for content in ("one", "two", "three"):
            (tmp_path / "a.journal").write_text(content)
            names.append(set_aside(tmp_path / "a.journal").name)
        assert names == [f"a.journal.corrupt{each}" for each in ("", "-2", "-3")]
        assert (tmp_path / names[2]).read_text() == "three"

    def test_is_found_by_the_name_of_its_study(self, tmp_path: Path) -> None:
        for name, content in {"a": self.FIRST, "b": self.LINE, "c": b"", "d": b"\0\n"}.items():
            (tmp_path / f"{name}.journal").write_bytes(content)
        assert list(journals_of(tmp_path, 'a "name"')) == [tmp_path / "a.journal"]
        (tmp_path / "e.journal").write_bytes(self.FIRST + self.LINE)
        for newest in ("e", "a"):
            os.utime(tmp_path / "a.journal", (7, 2 if newest == "a" else 1))
            os.utime(tmp_path / "e.journal", (7, 2 if newest == "e" else 1))
            assert next(journals_of(tmp_path, 'a "name"')).stem == newest
        assert list(journals_of(tmp_path, "w")) == []
        assert list(journals_of(tmp_path / "nowhere", "w")) == []
