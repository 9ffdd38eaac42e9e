# SPDX-License-Identifier: Apache-2.0
"""The local chain's process: it starts, answers, and never outlives who started it."""

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

from dao import anvil
from dao.anvil import CHAIN_ID, AnvilNode, anvil_binary
from dao.errors import BadUse, CheckFailed
from dao.processes import free_port


def ask(url: str, method: str, *params: object) -> object:
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}
    return requests.post(url, json=body, timeout=5).json()["result"]


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def wait_until_gone(pid: int) -> bool:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if not is_alive(pid):
            return True
        time.sleep(0.05)
    return False


def test_a_node_answers_with_its_chain_and_its_genesis_time() -> None:
    with AnvilNode(timestamp=1_460_000_000) as node:
        assert int(str(ask(node.url, "eth_chainId")), 16) == CHAIN_ID
        genesis = ask(node.url, "eth_getBlockByNumber", "0x0", False)
        assert isinstance(genesis, dict)
        assert int(genesis["timestamp"], 16) == 1_460_000_000


def test_leaving_the_with_ends_the_process_and_frees_the_port() -> None:
    with AnvilNode() as node:
        pid, port = node.pid, node.port
        assert pid is not None
    assert wait_until_gone(pid)
    assert not node.is_running
    with AnvilNode(port=port) as again:
        assert again.port == port


def test_stop_is_safe_before_the_start_and_twice() -> None:
    node = AnvilNode()
    node.stop()
    node.start()
    assert node.start() is node
    node.stop()
    node.stop()
    assert node.pid is None


def test_a_taken_port_is_reported_by_its_number() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(CheckFailed, match=rf"port {port} is taken"):
            AnvilNode(port=port).start()


@pytest.mark.parametrize("port", [0, -1, 65_536])
def test_a_port_that_cannot_exist_is_bad_use(port: int) -> None:
    with pytest.raises(BadUse, match="does not exist"):
        AnvilNode(port=port)


def test_two_nodes_run_side_by_side() -> None:
    with AnvilNode() as one, AnvilNode() as other:
        assert one.port != other.port
        ask(one.url, "evm_mine")
        assert ask(one.url, "eth_blockNumber") == "0x1"
        assert ask(other.url, "eth_blockNumber") == "0x0"


def test_a_missing_binary_names_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(anvil, "checkout_root", lambda: tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BadUse, match="make setup"):
        anvil_binary()


def test_a_binary_on_path_serves_where_none_is_installed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    other = tmp_path / "anvil"
    other.symlink_to(anvil_binary())
    monkeypatch.setattr(anvil, "checkout_root", lambda: tmp_path / "elsewhere")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert anvil_binary() == other


def test_a_program_that_ends_at_once_is_reported_with_its_last_words(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "anvil"
    broken.write_text("#!/bin/sh\necho out of luck\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setattr(anvil, "anvil_binary", lambda: broken)
    with pytest.raises(CheckFailed, match="out of luck"):
        AnvilNode(port=free_port()).start()


@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="needs Linux's parent-death signal"
)
@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_the_node_dies_with_the_program_that_started_it(sign: signal.Signals) -> None:
    program = (
        "import time\n"
        "from dao.anvil import AnvilNode\n"
        "with AnvilNode() as node:\n"
        "    print(node.pid, flush=True)\n"
        "    time.sleep(60)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=anvil.checkout_root(),
    )
    assert parent.stdout is not None
    with parent.stdout:
        pid = int(parent.stdout.readline())
        assert is_alive(pid)
        os.kill(parent.pid, sign)
        parent.wait(timeout=10)
        assert wait_until_gone(pid)
