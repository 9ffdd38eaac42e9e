# SPDX-License-Identifier: Apache-2.0
"""The command as a process: killed and started again, stopped, and its lines and exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from benchmarks.street import DAY, DAY_SLOT, Street
from dao import deployment as deploying
from dao.anvil import AnvilNode
from dao.parameters import HOUR
from dao.relay.store import RelayStore
from scripts.keeper import cli
from tests.keeper.conftest import (
    LATER_SLOT,
    SELLERS,
    SLOTS,
    Gateway,
    Receipts,
    anew,
    balance,
    deliver,
    keeper,
    market,
    post_book,
    post_full_book,
    state,
    turn,
)

ROOT = Path(__file__).parents[2]
MANY_SELLERS, MANY_BUYERS = range(1, 251), range(251, 501)
SEND = "eth_sendRawTransactionSync"


@dataclass
class Command:
    """How to start the command for a street, its state in a folder of its own."""

    folder: Path
    url: str

    def start(self, *options: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "scripts", "keeper", "--network", self.url]
        command += ["--deployment", str(self.folder / "deployment.json"), *options]
        return subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, "GRIDCOMMONS_HOME": str(self.folder / "state")},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *options: str) -> tuple[int, str, str]:
        """Exit code, output and complaints; not a process of its own, which takes seconds."""
        place = ["--network", self.url, "--deployment", str(self.folder / "deployment.json")]
        state = {"GRIDCOMMONS_HOME": str(self.folder / "state")}
        handlers = {sign: signal.getsignal(sign) for sign in (signal.SIGINT, signal.SIGTERM)}
        try:
            found = CliRunner(mix_stderr=False, env=state).invoke(cli, [*place, *options])
        finally:
            for sign, handler in handlers.items():  # the command has set its own
                signal.signal(sign, handler)
        if found.exception is not None and not isinstance(found.exception, SystemExit):
            raise found.exception
        return found.exit_code, found.stdout, found.stderr


def command_for(on: Street, folder: Path, url: str = "") -> Command:
    deploying.write(on.deployment, folder / "deployment.json")
    return Command(folder, url or on.chain.url)


@dataclass
class Executioner:
    """Kills the keeper at everything it sends, once: by turns before the node has it, and after
    the node has carried it out but before the keeper hears of it."""

    process: subprocess.Popen[str] | None = None
    spares: bool = False
    kills: list[str] = field(default_factory=list)

    def before(self, asked: dict[str, Any]) -> None:
        if asked["method"] == SEND and len(self.kills) % 2 == 0 and not self.spares:
            self.spares = True  # when it comes again
            self.kill("before")

    def after(self, asked: dict[str, Any]) -> None:
        if asked["method"] == SEND:
            if not self.spares:
                self.kill("after")
            self.spares = False

    def kill(self, moment: str) -> None:
        assert self.process is not None
        self.kills.append(moment)
        self.process.kill()
        self.process.wait()
        raise ConnectionError


def through_two_sessions(
    on: Street, look: Callable[[], object], receipts: RelayStore | None
) -> None:
    """One session that settles in runs of slots and a small one, with the readings of the day."""
    post_full_book(on, MANY_SELLERS, MANY_BUYERS)
    post_book(on, LATER_SLOT)
    known = receipts_of(on)
    for seconds in (-HOUR, 5 * HOUR, DAY):
        on.at(seconds)
        if seconds == DAY:
            on.commit_day(0)
            for first_slot, some in known.items() if receipts else ():
                for receipt in some.values():
                    receipts.add_receipt(first_slot, receipt)
        look()


def receipts_of(on: Street) -> Receipts:
    receipts = Receipts()
    deliver(on, receipts, DAY_SLOT, *MANY_SELLERS, wh=450)
    deliver(on, receipts, LATER_SLOT, *SELLERS)
    return receipts


def end_state(on: Street) -> list[object]:
    numbers = [*MANY_SELLERS, *MANY_BUYERS]
    sums = [market(on).call(name) for name in ("owed", "fees_due")]
    return [
        sums,
        [state(on, slot) for slot in (DAY_SLOT, LATER_SLOT)],
        [balance(on, n) for n in numbers],
    ]


@pytest.fixture(scope="module")
def undisturbed(settled: Street) -> list[object]:
    """The end state where one keeper did everything in one go."""
    with anew(settled) as on:
        context = keeper(on, receipts_of(on))
        through_two_sessions(on, lambda: turn(context), None)
        return end_state(on)


def test_killed_at_everything_it_sends_and_started_again_it_comes_to_the_same_end(
    on: Street, tmp_path: Path, undisturbed: list[object]
) -> None:
    store = RelayStore(tmp_path / "relay.sqlite")
    executioner = Executioner()
    with Gateway(on.chain.url, before=executioner.before, after=executioner.after) as gateway:
        command = command_for(on, tmp_path, gateway.url)

        def look() -> None:
            while True:
                executioner.process = command.start(
                    "--once", "--relay-store", str(tmp_path / "relay.sqlite")
                )
                _, err = executioner.process.communicate(timeout=120)
                if executioner.process.returncode != -signal.SIGKILL:
                    assert "Traceback" not in err
                    return

        through_two_sessions(on, look, store)
    store.close()
    # Two clearings, a settlement and one in at least two runs, and the fees.
    assert len(executioner.kills) >= 6
    assert set(executioner.kills) == {"before", "after"}
    assert end_state(on) == undisturbed
    on.check_conservation()
    for name in ("SlotCleared", "SlotSettled"):
        assert len(market(on).events(name)) == 2 * SLOTS


def test_each_step_is_one_line_and_the_exit_code_says_whether_there_was_any(
    on: Street, tmp_path: Path
) -> None:
    post_book(on)
    command = command_for(on, tmp_path)
    code, out, err = command.run("--once", "--json")
    assert (code, out) == (1, "")
    assert err == "Error: nothing was due, or a step failed\n"
    on.at(-HOUR)
    code, out, err = command.run("--once", "--json")
    assert (code, err) == (0, "")
    cleared, waiting = map(json.loads, out.splitlines())
    assert (cleared["duty"], cleared["outcome"], cleared["first_slot"]) == (
        "clear",
        "done",
        DAY_SLOT,
    )
    assert cleared["time"] == "2016-06-05T23:00:00Z"
    assert cleared["gas"] > 100_000
    assert len(cleared["transactions"]) == 1
    assert (waiting["duty"], waiting["outcome"]) == ("settle", "waiting")
    on.at(DAY)
    _, out, _ = command.run("--once")
    (line,) = out.splitlines()
    assert (
        line.split()
        == (
            f"2016-06-07T00:00:00Z settle waiting zone 1, first slot {DAY_SLOT} "
            "auction: readings not committed"
        ).split()
    )


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_it_works_until_it_is_asked_to_stop_and_then_ends_well(
    on: Street, tmp_path: Path, sign: int
) -> None:
    post_book(on)
    process = command_for(on, tmp_path).start("--json", "--poll", "0.1")
    on.at(-HOUR)
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["duty"] == "clear"
    process.send_signal(sign)
    assert process.wait(timeout=30) == 0
    assert "Traceback" not in process.communicate()[1]
    assert state(on).cleared == SLOTS


def test_what_it_has_read_is_kept_for_the_next_time(on: Street, tmp_path: Path) -> None:
    command_for(on, tmp_path).run("--once")
    kept = json.loads((tmp_path / "state" / "keeper.json").read_text())
    assert f"{market(on).address}:SessionOpened" in kept


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with AnvilNode() as node:
        yield node.url


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--network", "http://127.0.0.1:1"], 1, "node unreachable"),
        (["--network", "ethereum:atlantis:node", "--account", "me"], 2, "not a network"),
        (["--network", "ethereum:local:foundry"], 2, "--account is needed"),
        (["--account", "10"], 2, "the accounts 0 to 9"),
        (["--account", "me"], 2, "the accounts 0 to 9"),
        (["--deployment", "nowhere.json"], 2, "not a deployment file"),
        (["--relay-store", "nowhere.sqlite"], 2, "does not exist"),
        (["--poll", "nan"], 2, "not a number"),
        (["--max-gas-price", "0"], 2, "not in the range"),
    ],
)
def test_bad_use_is_told_in_one_line(url: str, options: list[str], code: int, said: str) -> None:
    found = CliRunner(mix_stderr=False).invoke(cli, ["--network", url, "--once", *options])
    assert (found.exit_code, found.stdout) == (code, "")
    assert said in found.stderr
    assert "Error: " in found.stderr.splitlines()[-1]
