# SPDX-License-Identifier: Apache-2.0
"""`gridcommons relay` as a process: serves and posts, ends cleanly, survives being killed."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from dao import deployment as deploying
from dao.processes import free_port, start_child
from dao.relay import promise
from dao.relay.promise import Verdict
from scripts.relay import cli
from tests.relay.conftest import DAY_SLOT, HOUR, ZONE, Lane, as_promise

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).parents[2]
PATIENCE_S = 60


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "scripts", "relay", *arguments]


def ask(port: int, method: str, path: str, document: Any = None) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        body = None if document is None else json.dumps(document)
        connection.request(method, path, body, {"Content-Type": "application/json"})
        return json.loads(connection.getresponse().read())
    finally:
        connection.close()


def wait_for(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        try:
            if what():
                return
        except (OSError, http.client.HTTPException):
            pass
        time.sleep(0.1)
    raise AssertionError("waited in vain")


@contextmanager
def running(
    lane: Lane, folder: Path, interval: int
) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """The command on a free port, answering."""
    addresses = folder / "deployment.json"
    deploying.write(lane.deployment, addresses)
    port = free_port()
    options = ["--network", lane.node.url, "--deployment", str(addresses), "--port", str(port)]
    options += ["--store", str(folder / "served.sqlite"), "--interval", str(interval), "--json"]
    with (folder / "log").open("ab") as log:
        process = start_child(command(*options), output=log, folder=ROOT)
    try:
        wait_for(lambda: ask(port, "GET", "/v1/health")["status"] == "ok")
        yield port, process
    finally:
        process.kill()
        process.wait()


def state_of(port: int, taken: Any) -> str:
    return str(ask(port, "GET", f"/v1/orders/{taken['id']}")["state"])


def test_an_order_sent_to_the_command_is_posted_and_the_promise_kept(
    lane: Lane, tmp_path: Path
) -> None:
    with running(lane, tmp_path, interval=1) as (port, process):
        taken = ask(port, "POST", "/v1/orders", lane.document(lane.order(1)))
        wait_for(lambda: state_of(port, taken) == "accepted")
        made = as_promise(taken["promise"])
        assert promise.verdict(made, lane.relay.market, ZONE) is Verdict.KEPT
        facts = json.loads((tmp_path / "log").read_text().splitlines()[0])
        assert facts["relay"] == taken["promise"]["relay"]
        process.terminate()
        assert process.wait(20) == 0


def test_a_killed_relay_goes_on_where_it_was_and_doubles_nothing(
    lane: Lane, tmp_path: Path
) -> None:
    """Killed at any moment of its work, again and again: all orders get there, each once."""
    taken = []
    for round_ in range(3):
        with running(lane, tmp_path, interval=1) as (port, process):
            documents = [
                lane.document(lane.order(account, nonce=round_, wh=60)) for account in range(1, 11)
            ]
            taken += ask(port, "POST", "/v1/orders", {"orders": documents})["results"]
            time.sleep(0.7 * round_)
            os.kill(process.pid, signal.SIGKILL)
    with running(lane, tmp_path, interval=1) as (port, _):
        wait_for(lambda: all(state_of(port, one) == "accepted" for one in taken))
    posted = [one.id.hex() for one in promise.postings(lane.relay.market, ZONE, DAY_SLOT)]
    assert sorted(posted) == sorted(one["id"][2:] for one in taken)
    assert len(posted) == 30


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_cleanly_with_a_feed_open_and_what_waits_stays(
    lane: Lane, tmp_path: Path, sign: int
) -> None:
    with running(lane, tmp_path, interval=3_600) as (port, process):
        feed = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        feed.request("GET", "/v1/feed")
        feed.getresponse().readline()
        taken = ask(port, "POST", "/v1/orders", lane.document(lane.order(1)))
        process.send_signal(sign)
        assert process.wait(20) == 0
        feed.close()
    assert b"Traceback" not in (tmp_path / "log").read_bytes()
    with running(lane, tmp_path, interval=3_600) as (port, _):
        assert state_of(port, taken) == "received"
        lane.at(-HOUR - 300)  # close to the gate nothing waits
        wait_for(lambda: state_of(port, taken) == "accepted")


def test_a_node_that_goes_away_is_said_so(own_lane: Lane, tmp_path: Path) -> None:
    with running(own_lane, tmp_path, interval=3_600) as (port, process):
        own_lane.node.stop()
        time.sleep(1.5)
        assert ask(port, "GET", "/v1/health")["error"]["field"] == "chain"
        process.terminate()
        assert process.wait(20) == 0
    log = (tmp_path / "log").read_text()
    assert "node unreachable" in log
    assert "Traceback" not in log


def test_a_taken_port_is_named(lane: Lane) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            command("--network", lane.node.url, "--port", port),
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    text = done.stderr.strip().splitlines()[-1]
    assert text.startswith("Error: cannot listen on 127.0.0.1 port " + port)


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--network", "http://127.0.0.1:{free}"], 1, "node unreachable"),
        (["--network", "{node}", "--deployment", "/nonexistent.json"], 2, "not a deployment file"),
        (["--network", "{node}", "--host", "999.1.1.1"], 2, "--host 999.1.1.1"),
        (["--network", "ethereum:sepolia:node"], 2, "--account is needed"),
        (["--network", "{node}", "--zone", "0"], 2, "--zone"),
        (["--network", "{node}", "--port", "http"], 2, "--port"),
        ([], 2, "--network"),
    ],
)
def test_bad_use_and_failures_end_with_one_clear_line(
    lane: Lane, options: list[str], code: int, message: str
) -> None:
    given = [one.format(free=free_port(), node=lane.node.url) for one in options]
    if "--port" not in given:
        given += ["--port", str(free_port())]
    found = CliRunner(mix_stderr=False).invoke(cli, given)
    assert isinstance(found.exception, SystemExit), found.exception
    assert found.exit_code == code
    assert message in found.stderr.strip().splitlines()[-1]
