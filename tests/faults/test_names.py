"""Names of any kind are data, wherever they go: to a shell, a file, a database, a page."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.commands import PROJECT, environment, parents, runs, with_store

NAMES = [
    "a 'single' and a \"double\" quote; drop table runs;--",
    "../../up/and/over",
    "$(touch pwned) `touch pwned` ; touch pwned | touch pwned & touch pwned",
    "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "\U0001f600 \u202e right to left \u00e9 e\u0301 %s %d {0} {{x}} ${HOME}",
    "x" * 200,
]
STUDY = """
name = {name}
[data]
source = {source}
[model]
hidden = [3]
[training]
max_epochs = 2
[search]
n_trials = 2
population = 2
[confirm]
replicates = 2
"""


def quoted(text: str) -> str:
    """As TOML writes it."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def table(folder: Path, name: str) -> Path:
    """A table whose file, columns and classes are called like that, as far as they can be."""
    path = folder / f"{name.replace('/', '_')[:100]}.csv"
    column, label = (name.replace('"', '""') for _ in range(2))
    rows = [f'{n % 7},{n % 5},"{label if n % 2 else "other"}"' for n in range(60)]
    path.write_text("\n".join([f'"{column}",second,"the {column}"', *rows]) + "\n")
    return path


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_a_study_and_its_table_of_any_name(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "a" / "b" / "c"
    folder.mkdir(parents=True)
    place = with_store(folder)
    source = table(folder, name)
    study = folder / f"{name.replace('/', '_')[:100]}.toml"
    study.write_text(STUDY.format(name=quoted(name), source=quoted(f"csv:{source.name}")))
    around = {path for path in tmp_path.rglob("*") if folder not in path.parents}
    done = subprocess.run(
        ["mlflow", "run", str(PROJECT), "--env-manager", "local", "-P", f"study={study}"],
        cwd=place,
        env=environment(place, {"MLFLOW_EXPERIMENT_NAME": name}),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    client = MlflowClient(f"sqlite:///{place}/mlflow.db")
    assert client.get_experiment_by_name(name) is not None
    (parent,) = parents(place)
    assert parent.data.params["study.name"] == name
    assert parent.data.params["data.target"] == f"the {name}"
    assert {run.info.status for run in runs(place)} == {"FINISHED"}
    # Nothing was run, and nothing stands outside the folder of the study.
    assert not list(tmp_path.rglob("pwned"))
    assert not list(PROJECT.glob("pwned"))
    assert {path for path in tmp_path.rglob("*") if folder not in path.parents} == around
    page = (Path(parent.info.artifact_uri) / "report.html").read_text()
    assert "<script>alert" not in page
    assert "<img" not in page
    shutil.rmtree(folder)


@pytest.mark.parametrize("name", ["two\nlines", "x" * 10_000, "nul \x00", "", "bell \x07"])
def test_what_no_name_can_be_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    study = tmp_path / "study.toml"
    escaped = "".join(f"\\u{ord(each):04x}" if ord(each) < 32 else each for each in name)
    study.write_text(STUDY.format(name=f'"{escaped}"', source='"sklearn:iris"'))
    done = subprocess.run(
        ["python", "-m", "pipeline", "run", str(study)],
        cwd=tmp_path,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stderr.rstrip("\n").isprintable()
    assert len(done.stderr) < 2000
    assert not (tmp_path / "mlflow.db").exists()
