"""A study on a real MLflow server over PostgreSQL, or on PostgreSQL alone, which is restarted."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

import pytest
import requests
from mlflow import MlflowClient
from mlflow.entities import Run

from deploy import postgres, server
from deploy.credentials import ADMIN_PASSWORD, DATABASE_PASSWORD, NAMES, stack_secrets
from deploy.processes import free_port
from deploy.stack import SECRETS_FILE
from tests.commands import PROJECT, command, environment, study, with_store
from tests.held import arguments_of_all_processes

if not list(postgres.PROGRAMS.glob("*/bin/pg_ctl")):
    pytest.skip("PostgreSQL is not installed: apt-get install postgresql", allow_module_level=True)
if not all(map(importlib.util.find_spec, ("psycopg", "flask_wtf"))):
    pytest.skip(
        "no database driver is installed: pip install --requirement requirements-server.lock",
        allow_module_level=True,
    )

N_TRIALS, N_REPLICATES = 12, 3
STUDY = f"""
name = "{{name}}"
[data]
source = "sklearn:iris"
[model]
hidden = [3]
[training]
max_epochs = 20
[search]
n_trials = {N_TRIALS}
population = 3
pruner = "none"
[space]
patience = "off"
[confirm]
replicates = {N_REPLICATES}
"""
EVERYTHING = ("trials.csv", "confirm/summary.csv", "confirm/pairs.csv")

# A user without any rights but those that everybody has.
USER, PASSWORD = "ann", "password-of-ann"


@dataclass(frozen=True)
class Stack:
    folder: Path
    cluster: postgres.Cluster
    address: str
    secrets: Mapping[str, str]

    def ask(self, *credentials: str, **headers: str) -> int:
        path = f"{self.address}/api/2.0/mlflow/experiments/get?experiment_id=0"
        return requests.get(path, auth=credentials or None, headers=headers, timeout=30).status_code

    def runs(self, experiment: str) -> list[Run]:
        client = MlflowClient(postgres.ADDRESS)
        found = client.get_experiment_by_name(experiment)
        assert found is not None
        return list(client.search_runs([found.experiment_id]))

    def count(self, experiment: str, stage: str) -> int:
        """How many runs of a stage have ended."""
        import psycopg

        query = """select count(*) from runs join tags using (run_uuid) join experiments
            using (experiment_id) where experiments.name = %s and tags.key = 'stage'
            and tags.value = %s and status <> 'RUNNING'"""
        with psycopg.connect(postgres.ADDRESS) as connection:
            row = connection.execute(query, [experiment, stage]).fetchone()
        assert row is not None
        return int(row[0])

    def restart(self) -> None:
        """As after a crash: nobody is told, and what was not committed is lost."""
        assert self.cluster.control("stop", "--mode", "immediate") == 0
        time.sleep(1)  # so that it is asked while it is away
        self.cluster.start()


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    # Not pytest's folder, which PostgreSQL's user may not enter.
    folder = Path(mkdtemp())
    folder.chmod(0o711)
    secrets = stack_secrets(folder / SECRETS_FILE)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with (
            postgres.running(folder, secrets[DATABASE_PASSWORD]) as cluster,
            server.running(folder, cluster.environment, secrets, free_port()) as address,
            pytest.MonkeyPatch.context() as patch,
        ):
            for key, text in cluster.environment.items():
                patch.setenv(key, text)
            made = requests.post(
                f"{address}/api/2.0/mlflow/users/create",
                json={"username": USER, "password": PASSWORD},
                auth=(server.USER, secrets[ADMIN_PASSWORD]),
                timeout=30,
            )
            assert made.status_code == 200
            yield Stack(folder, cluster, address, secrets)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What the study ends with over sqlite."""
    folder = with_store(tmp_path_factory.mktemp("sqlite"))
    done = command(folder, "run", study(folder, STUDY.format(name="stacked")), "--quiet")
    assert done.returncode == 0, done.stderr
    (trials,) = folder.glob("mlruns/*/*/artifacts/trials.csv")
    return {name: (trials.parent / name).read_bytes() for name in EVERYTHING}


def listens(port: int) -> set[str]:
    """On which addresses somebody listens on a port, as Linux writes them."""
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            local, state = line.split()[1], line.split()[3]
            address, number = local.split(":")
            if state == "0A" and int(number, 16) == port:
                found.add(address)
    return found


def test_nobody_gets_in_without_a_password_or_by_another_name(stack: Stack) -> None:
    admin = (server.USER, stack.secrets[ADMIN_PASSWORD])
    assert stack.ask() == 401
    assert stack.ask(server.USER, "password1234") == 401
    assert stack.ask(*admin) == 200
    assert stack.ask(USER, PASSWORD) == 200
    assert stack.ask(*admin, Host="mlflow.example.org") == 403
    this_machine = {"0100007F"}  # 127.0.0.1
    assert listens(int(stack.address.rpartition(":")[2])) == this_machine
    assert listens(stack.cluster.port) == this_machine


@pytest.mark.parametrize("way", ["server", "database"])
@pytest.mark.parametrize("restarted", [False, True], ids=["calm", "restarted"])
def test_a_study_ends_as_over_sqlite(
    stack: Stack, undisturbed: Mapping[str, bytes], way: str, restarted: bool, tmp_path: Path
) -> None:
    """Restarted: PostgreSQL is, in the middle of the search and of the confirmation."""
    name, secret = f"{way}-{restarted}", stack.secrets[DATABASE_PASSWORD]
    port = stack.cluster.port
    settings = {
        "server": {
            "MLFLOW_TRACKING_URI": stack.address,
            "MLFLOW_TRACKING_USERNAME": USER,
            "MLFLOW_TRACKING_PASSWORD": PASSWORD,
        },
        "database": {
            "MLFLOW_TRACKING_URI": f"postgresql://mlflow:{secret}@127.0.0.1:{port}/mlflow"
        },
    }
    kept = {k: text for k, text in environment(tmp_path, settings[way]).items() if k[:2] != "PG"}
    with (tmp_path / "output").open("w") as output:
        running = subprocess.Popen(
            [sys.executable, "-m", "pipeline", "run", study(tmp_path, STUDY.format(name=name))],
            cwd=tmp_path,
            env=kept,
            stdout=output,
            stderr=output,
        )
    arguments = b""
    for stage in ("search", "confirm"):
        while running.poll() is None and stack.count(name, stage) < 3:
            time.sleep(0.05)
        arguments += arguments_of_all_processes()
        if restarted and running.poll() is None:
            stack.restart()
    assert running.wait(200) == 0, (tmp_path / "output").read_text()

    runs = stack.runs(name)
    (parent,) = (run for run in runs if "mlflow.parentRunId" not in run.data.tags)
    assert parent.data.tags["study.state"] == "complete"
    assert {run.info.status for run in runs} == {"FINISHED"}
    search = [run.data.tags for run in runs if run.data.tags.get("stage") == "search"]
    assert sorted(int(tags["trial.number"]) for tags in search) == list(range(N_TRIALS))
    confirmed = [run.data.tags for run in runs if run.data.tags.get("stage") == "confirm"]
    pairs = [(tags["finalist"], tags.get("replicate")) for tags in confirmed]
    assert len(pairs) == len(set(pairs)) > N_REPLICATES
    (trials,) = (
        *stack.folder.glob(f"artifacts/*/{parent.info.run_id}/artifacts/trials.csv"),
        *tmp_path.glob(f"mlruns/*/{parent.info.run_id}/artifacts/trials.csv"),
    )
    assert {each: (trials.parent / each).read_bytes() for each in EVERYTHING} == undisturbed

    client = MlflowClient(postgres.ADDRESS)
    if way == "server":  # its UI's version is asked for with the user's password
        experiment = client.get_experiment(parent.info.experiment_id)
        assert "mlflow.sharedViewState.study-trials" in experiment.tags
    places = {"arguments": arguments, "store": repr([run.to_dictionary() for run in runs]).encode()}
    for root in (tmp_path, stack.folder):
        for path in root.rglob("*"):
            if path.is_file() and path.name != SECRETS_FILE and "data" not in path.parts:
                places[str(path)] = path.read_bytes()
    for each in (*stack.secrets.values(), PASSWORD):
        assert [place for place, text in places.items() if each.encode() in text] == []


# What a stack is told to run: it tells what it was given, and whether there can be another.
COMMAND = """
import os, subprocess, sys
print([name for name in os.environ if name in sys.argv[2:]])
again = [sys.executable, "-m", "deploy.stack", "--folder", sys.argv[1], "true"]
print(subprocess.run(again, capture_output=True, text=True, check=False))
sys.exit(7)
"""


def run_stack(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "deploy.stack", "--folder", str(folder), *arguments],
        cwd=PROJECT,
        env=environment(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def test_a_stack_lasts_as_long_as_its_command_and_keeps_what_it_held() -> None:
    folder = Path(mkdtemp())
    try:
        first = run_stack(folder, sys.executable, "-c", COMMAND, str(folder), *NAMES)
        told, _ = first.communicate(timeout=200)
        assert first.returncode == 7, told
        assert "\n[]\n" in told  # the server's secrets are none of a client's
        assert "returncode=2" in told
        assert "one stack at a time may run in a folder, however: one does" in told
        assert (folder / SECRETS_FILE).stat().st_mode & 0o777 == 0o600
        assert not (folder / "postgres/data/postmaster.pid").exists()
        secrets = (folder / SECRETS_FILE).read_bytes()

        # On the same data, with the same secrets, and until Ctrl-C, as a terminal sends it.
        code = "import time; print('there', flush=True); time.sleep(100)"
        port = free_port()
        second = run_stack(folder, "--port", str(port), sys.executable, "-c", code)
        assert second.stdout is not None
        assert "there\n" in iter(second.stdout.readline, "")
        assert listens(port)
        os.killpg(second.pid, signal.SIGINT)
        second.communicate(timeout=100)
        assert second.returncode == 128 + signal.SIGINT
        assert not listens(port)
        assert not (folder / "postgres/data/postmaster.pid").exists()
        assert (folder / SECRETS_FILE).read_bytes() == secrets
    finally:
        shutil.rmtree(folder)
