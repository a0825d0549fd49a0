"""What `make stack` and compose.yaml promise, as far as it can be seen without any server."""

from __future__ import annotations

import configparser
import os
import re
import socket
from pathlib import Path

import pytest
import yaml

from deploy import postgres, server
from deploy.credentials import NAMES, stack_secrets
from deploy.processes import StackError, is_free
from deploy.stack import alone, main, run_client
from tests.commands import PROJECT

COMPOSE_TEXT = (PROJECT / "compose.yaml").read_text()
COMPOSE = yaml.safe_load(COMPOSE_TEXT)
SECRET = re.compile(r"PASSWORD|SECRET|TOKEN|KEY")


@pytest.fixture(autouse=True)
def _without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


def test_secrets_are_made_once_and_only_their_owner_reads_them(tmp_path: Path) -> None:
    path = tmp_path / "secrets.env"
    made = stack_secrets(path)
    assert made.keys() == set(NAMES)
    assert len(set(made.values())) == 3
    assert all(len(secret) >= 32 for secret in made.values())
    assert path.stat().st_mode & 0o777 == 0o600
    assert stack_secrets(path) == made


def test_the_environment_counts_more_and_is_not_written_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "secrets.env"
    monkeypatch.setenv("STACK_DB_PASSWORD", "given-by-me")
    assert stack_secrets(path)["STACK_DB_PASSWORD"] == "given-by-me"
    assert "given-by-me" not in path.read_text()
    assert "STACK_DB_PASSWORD" not in path.read_text()


def test_a_client_gets_an_address_a_password_and_nothing_else_of_the_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in (*NAMES, *server.ELSEWHERE):
        monkeypatch.setenv(name, "x")
    given = server.client_environment("http://127.0.0.1:1", "mine")
    assert not {*NAMES, *server.ELSEWHERE} & given.keys()
    assert given["MLFLOW_TRACKING_PASSWORD"] == "mine"


def test_one_stack_at_a_time_has_a_folder(tmp_path: Path) -> None:
    with (
        alone(tmp_path / "stack"),
        pytest.raises(StackError, match="however: one does"),
        alone(tmp_path / "stack"),
    ):
        pass
    with alone(tmp_path / "stack"):
        pass


def test_where_postgresql_is_missing_it_is_told_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "PROGRAMS", tmp_path)
    with pytest.raises(StackError, match=r"\(apt-get install postgresql\)"):
        postgres._programs(tmp_path)


def test_data_are_opened_by_the_version_that_made_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "PROGRAMS", tmp_path)
    for version in ("9.6", "15", "17"):
        (tmp_path / version / "bin").mkdir(parents=True)
    assert postgres._programs(tmp_path) == tmp_path / "17/bin"
    (tmp_path / "data").mkdir()
    (tmp_path / "data/PG_VERSION").write_text("15\n")
    assert postgres._programs(tmp_path) == tmp_path / "15/bin"
    (tmp_path / "data/PG_VERSION").write_text("16\n")
    with pytest.raises(StackError, match="in version 16"):
        postgres._programs(tmp_path)


def test_a_port_that_is_taken_is_refused(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert not is_free(port)
        with (
            pytest.raises(StackError, match=f"must be free, however: {port} is not"),
            server.running(tmp_path, {}, {}, port),
        ):
            pass


def test_a_clusters_password_is_in_no_text_of_it() -> None:
    cluster = postgres.Cluster(Path("/x"), Path("/y"), 5, "hidden")
    assert "hidden" not in repr(cluster)
    assert cluster.environment["PGPASSWORD"] == "hidden"


def test_a_command_ends_as_it_would_without_a_stack() -> None:
    assert run_client(["sh", "-c", "exit 7"], dict(os.environ)) == 7
    assert run_client(["sh", "-c", "kill -TERM $$"], dict(os.environ)) == 143
    with pytest.raises(StackError, match="must be a program"):
        run_client(["/no/such/program"], dict(os.environ))


def test_help_is_one_page(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    assert stopped.value.code == 0
    assert "--keep" in capsys.readouterr().out


def test_compose_listens_on_this_machine_alone() -> None:
    ports = [port for service in COMPOSE["services"].values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_compose_holds_no_secret_and_asks_for_those_that_the_stack_has() -> None:
    asked = set()
    for service in COMPOSE["services"].values():
        for name, text in service["environment"].items():
            if SECRET.search(name):
                found = re.fullmatch(r"\$\{(\w+):\?\}", text)
                assert found is not None, f"{name} must come from the environment, however: {text}"
                asked.add(found[1])
    assert asked == set(NAMES)
    assert not re.search(r"://[^/\s]*:[^/\s]*@", COMPOSE_TEXT)


def test_compose_makes_the_tables_before_anything_else_connects() -> None:
    services = COMPOSE["services"]
    assert "healthcheck" in services["database"]
    assert services["schema"]["depends_on"] == {"database": {"condition": "service_healthy"}}
    waits_for = services["mlflow"]["depends_on"]["schema"]
    assert waits_for == {"condition": "service_completed_successfully"}
    assert services["schema"]["command"] == ["python", "-m", "deploy.schema"]


def test_compose_has_the_versions_of_the_lock_and_one_major_version_of_postgresql() -> None:
    assert re.fullmatch(r"postgres:\d+", COMPOSE["services"]["database"]["image"])
    docker = (PROJECT / "deploy/Dockerfile").read_text()
    assert "--constraint requirements-server.lock mlflow flask-wtf 'psycopg[binary]'" in docker
    assert "==" not in docker


def test_the_stack_and_compose_ask_for_passwords_the_same_way() -> None:
    settings = configparser.ConfigParser()
    settings.read(server.HERE / "basic_auth.ini")
    assert settings["mlflow"]["database_uri"] == postgres.ADDRESS
    assert settings["mlflow"]["admin_username"] == server.USER
    assert "admin_password" not in settings["mlflow"]
    mlflow = COMPOSE["services"]["mlflow"]
    assert mlflow["environment"]["MLFLOW_BACKEND_STORE_URI"] == postgres.ADDRESS
    assert mlflow["environment"]["MLFLOW_AUTH_CONFIG_PATH"].endswith("/deploy/basic_auth.ini")
    assert "--app-name=basic-auth" in mlflow["command"]
    assert any(each.startswith("--allowed-hosts=127.0.0.1:") for each in mlflow["command"])
