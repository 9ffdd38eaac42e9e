# SPDX-License-Identifier: Apache-2.0
"""`gridcommons agent` as a process: follows, survives being killed, ends cleanly, says what is
wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from dao import deployment as deploying
from dao.market.session import read_book
from dao.processes import free_port, start_child
from forecasting.agent.keys import AgentKeys
from forecasting.agent.store import State
from tests.forecasting.agent.conftest import SELLS, Village
from tests.relay.conftest import DAY_SLOT, ZONE

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).parents[3]
PATIENCE_S = 90


@pytest.fixture
def home(village: Village) -> Village:
    """The village with its state where a command looks for it."""
    deploying.write(village.lane.deployment, village.folder / "deployment.json")
    return replace(village, keys=AgentKeys(village.folder / "agent-keys"))


def command(*options: str) -> list[str]:
    return [sys.executable, "-m", "scripts", "agent", *options]


def environment(village: Village) -> dict[str, str]:
    return {**os.environ, "GRIDCOMMONS_HOME": str(village.folder)}


def options(village: Village) -> list[str]:
    return ["--rpc", village.lane.node.url, "--relay", village.url]


def ended(village: Village, *given: str) -> tuple[int, str, str]:
    done = subprocess.run(
        command(*given),
        cwd=ROOT,
        env=environment(village),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr.strip()


@contextmanager
def running(village: Village) -> Iterator[subprocess.Popen[bytes]]:
    with (village.folder / "log").open("ab") as log:
        process = start_child(
            command(*options(village), "--poll", "0.1"),
            output=log,
            environment=environment(village),
            folder=ROOT,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait_for(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def test_killed_at_any_moment_the_home_is_ordered_for_once(home: Village) -> None:
    home.grant(SELLS)
    home.store.put(home.sign(SELLS))
    for pause in (0.6, 1.0, 1.4, 3.5):
        with running(home) as process:
            time.sleep(pause)
            os.kill(process.pid, signal.SIGKILL)
    # A killed agent may have got as far as this itself: what is awaited below is the last one's.
    beside = home.folder / "agent.json"
    beside.unlink(missing_ok=True)
    with running(home) as process:
        wait_for(lambda: (deed := home.deed()) is not None and deed.state is State.TAKEN)
        wait_for(lambda: beside.exists() and json.loads(beside.read_bytes())["well"])
        code, _, said = ended(home, *options(home), "--once")
        assert code == 1
        assert said.startswith("Error: another agent follows the offers of ")
        process.terminate()
        assert process.wait(20) == 0
    home.flush()
    book = read_book(home.lane.relay.market, ZONE, DAY_SLOT)
    assert [one.account for one in book.orders] == [7]
    log = (home.folder / "log").read_text()
    assert "Traceback" not in log
    assert "Wh" not in log, "amounts of a home are no business of the log"


def test_an_account_is_shown_what_was_done_and_why(home: Village) -> None:
    home.store.put(home.sign(SELLS))
    code, out, _ = ended(home, *options(home), "--once")
    assert (code, out) == (0, f"account 7  ask  session {DAY_SLOT}  idle  no-key\n")
    code, out, _ = ended(home, "--show", "7")
    assert code == 0
    assert out.splitlines()[0].startswith("version 1  ask: at least 12.0 ct/kWh")
    assert out.splitlines()[1].endswith("the agent has no key for this account")
    code, out, _ = ended(home, "--show", "7", "--json")
    assert json.loads(out)["offers"][0]["version"] == 1
    assert ended(home, "--show", "8")[::2] == (1, "Error: account 8 has no standing offer here")


@pytest.mark.parametrize(
    ("given", "code", "message"),
    [
        (["--rpc", "{node}", "--relay", "http://127.0.0.1:{free}"], 1, "does not answer"),
        (["--rpc", "{node}", "--relay", "nowhere"], 2, "--relay nowhere"),
        (["--rpc", "{node}", "--deployment", "/nonexistent"], 2, "cannot read"),
        (["--zone", "0"], 2, "--zone"),
    ],
)
def test_bad_use_and_failures_end_with_one_clear_line(
    home: Village, given: list[str], code: int, message: str
) -> None:
    texts = {"free": free_port(), "node": home.lane.node.url}
    found, _, said = ended(home, *(one.format(**texts) for one in given), "--once")
    assert found == code
    assert message in said.splitlines()[-1]


def test_status_says_how_the_agent_is(home: Village) -> None:
    ended(home, *options(home), "--once")
    done = subprocess.run(
        [sys.executable, "-m", "scripts", "status", "--rpc", home.lane.node.url, "--json"],
        cwd=ROOT,
        env=environment(home),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    parts = {part["part"]: part for part in json.loads(done.stdout)["parts"]}
    assert parts["agent"]["state"] == "well"
    assert parts["agent"]["about"].startswith("follows 0 offers of zone 1")
