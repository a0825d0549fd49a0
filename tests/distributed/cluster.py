"""A Ray cluster on this machine, each node a process group of its own, and studies that use it."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.commands import environment
from tests.held import descendants, lives

# Ray's processes look for a project on no path of theirs: a study brings its own code along.
ALONE = {"RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": ""}


@dataclass
class Node:
    """What stands for a machine: a process group that can be killed as a whole."""

    process: subprocess.Popen[bytes]

    def actors(self) -> list[int]:
        """The processes of its populations."""
        return [each for each in descendants(self.process.pid) if is_actor(each)]

    def kill(self) -> None:
        """As if its power had failed."""
        # Ray's agents and workers are in groups of their own, and would be gone as well.
        for process in [*descendants(self.process.pid), self.process.pid]:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        self.process.wait()


@dataclass
class Cluster:
    """Nodes, the first of which is the head.

    Attributes:
        folder: Where they keep their files; short, because sockets have paths of 107 bytes.
        token: That lets programs in.
        port: Of the head.
        nodes: Those that were started.
    """

    folder: Path
    token: str
    port: int
    nodes: list[Node] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def key(self) -> dict[str, str]:
        """What a program that uses it has in its environment."""
        return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self.token}

    def actors(self) -> list[int]:
        return [process for node in self.nodes for process in node.actors()]

    def join(self, *options: str, cpus: int = 1, memory: int = 2**27, **extra: str) -> Node:
        """Starts a node, and waits until it can be used."""
        head = not self.nodes
        place = f"--port={self.port}" if head else f"--address={self.address}"
        log = self.folder / f"node-{len(self.nodes)}.log"
        with log.open("wb") as written:
            process = subprocess.Popen(
                [
                    *(ray_program(), "start", "--block", place, f"--num-cpus={cpus}"),
                    *(["--head", "--include-dashboard=false"] if head else []),
                    *("--num-gpus=0", f"--object-store-memory={memory}"),
                    *("--node-ip-address=127.0.0.1", f"--temp-dir={self.folder}"),
                    *("--dashboard-agent-listen-port=0", "--include-log-monitor=false"),
                    *options,
                ],
                cwd=self.folder,
                env={**os.environ, **ALONE, **self.key, **extra},
                stdout=written,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        node = Node(process)
        self.nodes.append(node)
        for _ in range(600):
            if b"Ray runtime started" in log.read_bytes():
                return node
            if process.poll() is not None:
                break
            time.sleep(0.1)
        pytest.fail(f"a node did not start: {log.read_text()[-2000:]}")

    def close(self) -> None:
        for node in reversed(self.nodes):
            node.kill()


@contextmanager
def cluster(
    n_nodes: int = 1, *, cpus: int = 1, memory: int = 2**27, **extra: str
) -> Iterator[Cluster]:
    """A cluster, until the block's end."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
    made = Cluster(folder, secrets.token_hex(32), port)
    try:
        for _ in range(n_nodes):
            made.join(cpus=cpus, memory=memory, **extra)
        yield made
    finally:
        made.close()
        shutil.rmtree(folder, ignore_errors=True)


def ray_program() -> str:
    return str(Path(sys.executable).with_name("ray"))


def is_actor(process: int) -> bool:
    """Whether it trains for a study: Ray names its workers after what they do."""
    try:
        name = Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return False
    return name.startswith(b"ray::PopulationActor") and lives(process)


@dataclass(frozen=True)
class Mark:
    """What all processes that a program starts have in their environment, however they end up."""

    text: str = field(default_factory=lambda: secrets.token_hex(16))

    @property
    def variables(self) -> dict[str, str]:
        return {"MARK_OF_A_TEST": self.text}

    def rays(self) -> set[int]:
        """Ray's processes that have it."""
        found = set()
        for place in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                name = (place / "cmdline").read_bytes()
                is_ray = name.startswith(b"ray::") or b"/ray/" in name
                if is_ray and self.text.encode() in (place / "environ").read_bytes():
                    found.add(int(place.name))
        return set(filter(lives, found))


def run(
    folder: Path, *arguments: str, within: float = 120, **extra: str
) -> subprocess.CompletedProcess[str]:
    """A study to its end."""
    return subprocess.run(
        [sys.executable, "-m", "pipeline", "run", "study.toml", *arguments],
        cwd=folder,
        env=environment(folder, _single_threaded(extra)),
        capture_output=True,
        text=True,
        timeout=within,
        check=False,
    )


@contextmanager
def running(folder: Path, *arguments: str, **extra: str) -> Iterator[subprocess.Popen[str]]:
    """A study that something is about to happen to."""
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline", "run", "study.toml", *arguments],
        cwd=folder,
        env=environment(folder, _single_threaded(extra)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@contextmanager
def slowed(processes: Callable[[], list[int]]) -> Iterator[None]:
    """Halts processes for nine tenths of the time, so that something else can be first."""
    over = threading.Event()

    def slow() -> None:
        while not over.is_set():
            found = processes()
            for number, pause in ((signal.SIGSTOP, 0.45), (signal.SIGCONT, 0.05)):
                for process in found:
                    with suppress(ProcessLookupError):
                        os.kill(process, number)
                over.wait(pause)

    thread = threading.Thread(target=slow)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _single_threaded(extra: Mapping[str, str]) -> dict[str, str]:
    return {"OMP_NUM_THREADS": "1", **extra}
