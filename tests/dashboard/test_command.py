# SPDX-License-Identifier: Apache-2.0
"""`gridcommons dashboard` as an operator runs it: a process, a state folder, a real node."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from dao.index import EventReader
from dao.processes import free_port
from dashboard import serve
from tests.relay.conftest import HOMES, built

ROOT = Path(serve.__file__).resolve().parent.parent
COMMAND = (sys.executable, "-m", "scripts", "dashboard")
PATIENCE_S = 60


@contextmanager
def running(home: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command, and the address it told."""
    process = subprocess.Popen(
        [*COMMAND, "--json", "--port", str(free_port()), *options],
        cwd=ROOT,
        env={**os.environ, "GRIDCOMMONS_HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield process, json.loads(process.stdout.readline())["url"]
    finally:
        process.terminate()
        process.communicate(timeout=PATIENCE_S)


def refused(home: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *options],
        cwd=ROOT,
        env={**os.environ, "GRIDCOMMONS_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def test_it_serves_under_the_names_it_is_given_until_it_is_ended(tmp_path: Path) -> None:
    with running(tmp_path, "--host-name", "grid.example.org") as (process, url):
        for name, status in (("grid.example.org", 200), ("evil.example", 421)):
            answer = requests.get(url, headers={"Host": name}, timeout=10)
            assert answer.status_code == status
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 130
        assert said.strip() == "Interrupted."
        with pytest.raises(requests.ConnectionError):
            requests.get(url, timeout=2)


def test_it_follows_the_chain(tmp_path: Path) -> None:
    with (
        built(tmp_path) as (node, _),
        running(tmp_path, "--rpc", node.url),
    ):
        reader = EventReader(tmp_path / "index.sqlite")
        deadline = time.monotonic() + PATIENCE_S
        while len(reader.events("Deposited")) < HOMES:
            assert time.monotonic() < deadline
            time.sleep(0.2)


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--zone", "0"), 2, "--zone"),
        (("--port", "70000"), 2, "--port"),
        (("--rpc", "node"), 2, "expected http"),
        (("--rpc", "http://127.0.0.1:1"), 2, "deployment"),
        (("--relay", "ftp://relay"), 2, "expected http"),
    ],
)
def test_bad_use_is_one_line(
    tmp_path: Path, options: tuple[str, ...], code: int, said: str
) -> None:
    answer = refused(tmp_path, *options)
    assert answer.returncode == code
    assert said in answer.stderr
    assert "Traceback" not in answer.stderr


def test_an_absent_node_is_a_failed_check(tmp_path: Path) -> None:
    document = {"chain_id": 31_337, "first_block": 1, "contracts": {}}
    (tmp_path / "deployment.json").write_text(json.dumps(document))
    answer = refused(tmp_path, "--rpc", f"http://127.0.0.1:{free_port()}")
    assert (answer.returncode, answer.stderr.count("\n")) == (1, 1)
    assert "unreachable" in answer.stderr
