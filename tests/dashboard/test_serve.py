# SPDX-License-Identifier: Apache-2.0
"""The dashboard's server: it answers on this machine, and ends with whoever started it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests

from dao.errors import BadUse, CheckFailed
from dao.processes import free_port
from dashboard import serve
from dashboard.serve import DashboardServer

ROOT = Path(serve.__file__).resolve().parent.parent


def gone(pid: int) -> bool:
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.05)
    return False


def test_it_answers_and_gives_the_port_back() -> None:
    with DashboardServer(free_port()) as server:
        assert requests.get(server.url, timeout=10).status_code == 200
        assert server.notice is None
        pid, port = server.pid, server.port
        assert pid is not None
    assert gone(pid)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))
    server.stop()


def test_a_taken_port_is_named_and_the_next_one_used() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        with DashboardServer(taken) as server:
            assert server.port > taken
            assert server.notice is not None
            assert str(taken) in server.notice
            assert server.url in server.notice


def test_no_free_port_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "port_is_free", lambda port: False)
    with pytest.raises(CheckFailed, match="all taken"):
        DashboardServer(8501).start()


def test_a_port_that_cannot_exist_is_bad_use() -> None:
    with pytest.raises(BadUse, match="does not exist"):
        DashboardServer(70_000)


@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="needs Linux's parent-death signal"
)
@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGTERM])
def test_the_server_dies_with_the_program_that_started_it(sign: signal.Signals) -> None:
    program = (
        "import time\n"
        "from dao.processes import free_port\n"
        "from dashboard.serve import DashboardServer\n"
        "with DashboardServer(free_port()) as server:\n"
        "    print(server.pid, flush=True)\n"
        "    time.sleep(60)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=ROOT,
    )
    assert parent.stdout is not None
    with parent.stdout:
        pid = int(parent.stdout.readline())
        os.kill(parent.pid, sign)
        parent.wait(timeout=10)
        assert gone(pid)
