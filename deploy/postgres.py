"""Owns PostgreSQL: a cluster in a folder, which listens on 127.0.0.1 and asks for a password."""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from deploy.processes import StackError, free_port, last_line, stop_undisturbed

# Where Debian's packages put the programs, of each major version in a folder of its own.
PROGRAMS = Path("/usr/lib/postgresql")
OWNER = "postgres"
USER = DATABASE = "mlflow"

# All else, the password too, is read from the environment.
ADDRESS = f"postgresql:///{DATABASE}"


@dataclass(frozen=True)
class Cluster:
    """A PostgreSQL server, running or not.

    Attributes:
        place: The folder with its data and its log.
        programs: The folder with its programs.
        port: Where it listens.
        password: Of its one user.
    """

    place: Path
    programs: Path
    port: int
    password: str = field(repr=False)

    @property
    def data(self) -> Path:
        """The cluster's own folder."""
        return self.place / "data"

    @property
    def log(self) -> Path:
        """What the server says."""
        return self.place / "log"

    @property
    def environment(self) -> dict[str, str]:
        """How to reach it, as every program that is made for PostgreSQL understands it.

        So no address holds the password, and no list of processes shows it.
        """
        return {
            "PGHOST": "127.0.0.1",
            "PGPORT": str(self.port),
            "PGUSER": USER,
            "PGPASSWORD": self.password,
        }

    def control(self, *arguments: str) -> int:
        """Calls `pg_ctl`, and waits until it is done; returns its exit code."""
        return self._call("pg_ctl", "--pgdata", str(self.data), *arguments)

    def start(self) -> None:
        """Starts it; a killed stack may have left it running, elsewhere.

        Raises:
            StackError: It does not start.
        """
        if (self.data / "postmaster.pid").exists():
            self.control("stop", "--mode", "fast")
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories="
        if self.control("start", "--wait", "--log", str(self.log), "--options", options):
            raise StackError(f"PostgreSQL must start, however: {last_line(self.log)} ({self.log})")

    def create(self) -> None:
        """Makes the cluster, if there is none: whole, under its own name, or not at all.

        Raises:
            StackError: It cannot be made.
        """
        if self.data.exists():
            return
        fresh, password = self.place / f"new-{os.getpid()}", self.place / "password"
        password.touch(mode=0o600)
        try:
            password.write_text(self.password)
            _give_away(password)
            ways = ("--username", USER, "--auth", "scram-sha-256", "--pwfile", str(password))
            how = ("--encoding", "UTF8", "--no-locale")
            if self._call("initdb", "--pgdata", str(fresh), *ways, *how):
                raise StackError(
                    f"PostgreSQL must make its data, however: {last_line(self.log)} ({self.log})"
                )
        finally:
            password.unlink()
        fresh.rename(self.data)

    def create_database(self) -> None:
        """Makes the database, if there is none.

        Raises:
            StackError: The password is refused.
        """
        import psycopg

        where = {"host": "127.0.0.1", "port": self.port, "user": USER, "password": self.password}
        try:
            with psycopg.connect(dbname="postgres", autocommit=True, **where) as connection:
                known = "select 1 from pg_database where datname = %s"
                if not connection.execute(known, [DATABASE]).fetchone():
                    connection.execute(f"create database {DATABASE}")
        except psycopg.OperationalError as error:
            raise StackError(
                "PostgreSQL must take the password that its data were made with, however: "
                f"{' '.join(str(error).split())} (STACK_DB_PASSWORD)"
            ) from error

    def _call(self, program: str, *arguments: str) -> int:
        with self.log.open("a") as log:
            return subprocess.call(
                [str(self.programs / program), *arguments],
                cwd=self.place,
                env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                **_as_owner(),
            )


@contextmanager
def running(folder: Path, password: str, port: int = 0) -> Iterator[Cluster]:
    """A cluster that runs, made anew if the folder has none; stopped at the end.

    Args:
        folder: Where to have it.
        password: Of its one user.
        port: Where it is to listen; 0 for any that is free.

    Raises:
        StackError: PostgreSQL is not installed, or does not start.
    """
    place = _place(folder)
    cluster = Cluster(place, _programs(place), port or free_port(), password)
    cluster.create()
    try:
        cluster.start()
        cluster.create_database()
        yield cluster
    finally:
        stop_undisturbed()
        cluster.control("stop", "--wait", "--mode", "fast")


def _programs(place: Path) -> Path:
    """The folder of the newest programs; data need those of the version that made them."""
    made_by = place / "data" / "PG_VERSION"
    version = made_by.read_text().strip() if made_by.exists() else "*"
    found = sorted(PROGRAMS.glob(f"{version}/bin"), key=lambda path: float(path.parent.name))
    if not found:
        wanted = "" if version == "*" else f" in version {version}"
        raise StackError(
            f"PostgreSQL must be installed{wanted}, however: there is none below {PROGRAMS} "
            f"(apt-get install postgresql{'' if version == '*' else f'-{version}'})"
        )
    return found[-1]


def _place(folder: Path) -> Path:
    """The folder for data and log, of whom the server runs as: made, if there is none."""
    place = folder / "postgres"
    if os.geteuid() == 0 and subprocess.call(["test", "-x", str(folder)], **_as_owner()):
        # Of a folder in root's home, say. What is in his own home, nobody else can have put there.
        name = sha256(str(folder.resolve()).encode()).hexdigest()[:12]
        place = Path(pwd.getpwnam(OWNER).pw_dir) / f"stack-{name}"
        print(f"PostgreSQL's data lie in {place}: its user, {OWNER}, may not enter {folder}")
    place.mkdir(mode=0o700, exist_ok=True)
    (place / "log").touch(mode=0o600)
    _give_away(place, place / "log")
    return place


def _as_owner() -> dict[str, Any]:
    """Whom its programs run as: they refuse to run as root.

    Raises:
        StackError: There is nobody else.
    """
    if os.geteuid():
        return {}
    try:
        pwd.getpwnam(OWNER)
    except KeyError as error:
        raise StackError(
            f"PostgreSQL must run as another user than root, however: there is no user {OWNER} "
            "(Debian's package makes it: apt-get install postgresql)"
        ) from error
    return {"user": OWNER, "group": OWNER, "extra_groups": []}


def _give_away(*paths: Path) -> None:
    if os.geteuid() == 0:
        owner = pwd.getpwnam(OWNER)
        for path in paths:
            os.chown(path, owner.pw_uid, owner.pw_gid)
