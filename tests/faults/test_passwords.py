"""A password in the store's address: searched for, byte by byte, in all that a study leaves."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.commands import environment, study
from tests.faults.proxy import PASS, Proxy, proxy_before
from tests.faults.server import mlflow_server, runs_of
from tests.held import arguments_of_all_processes

STUDY = """
name = "secret"
[data]
source = "sklearn:iris"
[model]
hidden = [3]
[training]
max_epochs = 3
[search]
n_trials = 3
population = 2
[confirm]
replicates = 2
[tracking]
give_up_after = 4
"""
PASSWORD = "pass@w0rd"  # as a person types it: its @ should have been written %40
TOKEN = "t0ken-of-mine"


@pytest.fixture(scope="module")
def proxy(folder: Path) -> Iterator[Proxy]:
    with mlflow_server(folder) as port, proxy_before(port) as proxy:
        yield proxy


def test_a_password_is_nowhere_after_a_study(folder: Path, proxy: Proxy) -> None:
    uri = proxy.address.replace("http://", f"http://me:{PASSWORD}@")
    settings = {"MLFLOW_TRACKING_URI": uri, "MLFLOW_TRACKING_TOKEN": TOKEN}
    seen: list[bytes] = []

    def fault(_: int, line: str) -> str:
        if line.endswith("runs/create"):
            seen.append(arguments_of_all_processes())
            if len(seen) == 3 and not going_well:
                proxy.refuse()
        return PASS

    proxy.fault = fault
    told = b""
    for options, code in (([], 1), (["--resume"], 0)):
        going_well = code == 0
        seen.clear()
        proxy.start()
        done = subprocess.run(
            [sys.executable, "-m", "pipeline", "run", study(folder, STUDY), *options],
            cwd=folder,
            env=environment(folder, settings),
            capture_output=True,
            timeout=200,
            check=False,
        )
        assert done.returncode == code, done.stderr.decode()
        told += done.stdout + done.stderr + b"".join(seen)
    assert b"me:***@127.0.0.1" in told
    assert len(runs_of(folder, "secret")) > 4
    places = {"output and arguments": told}
    for root, _, names in os.walk(folder):
        places |= {name: Path(root, name).read_bytes() for name in names}
    for secret in (PASSWORD, "pass%40w0rd", "w0rd", TOKEN):
        assert [name for name, text in places.items() if secret.encode() in text] == []
