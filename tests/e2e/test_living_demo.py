# SPDX-License-Identifier: Apache-2.0
"""A demo that lives on, with a resident in it: pays in, sells, is paid, and withdraws, by
signatures alone."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from eth_account import Account as Signer

from dao import deployment as deploying
from dao.chain import Chain, Contract, LocalAccount
from dao.demo_people import owner_account
from dao.market.session import unpack_entries
from dao.processes import free_port
from dao.relay.request_intake import fields_of
from dao.relay.request_store import Kind
from dao.slots import SLOT_SECONDS
from meters.profiles import ZoneProfiles, zone_profiles
from scripts._simulation.people import MANDATES
from tests.e2e.conftest import ROOT, ZONE, bring_cache, environment

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1_200)]
SEED = 1
EURO = 1_000_000
PATIENCE_S = 600
SLOTS, WH, LIMIT = 4, 400, 80
PAYEE = "0x00000000000000000000000000000000000000EE"


@dataclass(frozen=True)
class Village:
    """A running demo, over HTTP and its state file."""

    home: Path
    process: subprocess.Popen[str]

    def run_state(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.home / "run.json").read_text())
        return found

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """The relay's answer."""
        at = urlsplit(self.run_state()["relay"])
        connection = http.client.HTTPConnection(at.hostname or "", at.port, timeout=60)
        try:
            text = None if body is None else json.dumps(body)
            connection.request(method, path, text, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def wait(self, what: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            assert self.process.poll() is None
            if what():
                return
            time.sleep(0.2)
        raise AssertionError("waited in vain")

    def signed(self, typed: str, fields: dict[str, Any], who: LocalAccount) -> Any:
        """The typed data for fields, and its signature by a wallet."""
        status, document = self.ask("POST", f"/v1/typed-data/{typed}", fields)
        assert status == 200, document
        signature = Signer.sign_typed_data(who.key, full_message=document).signature.hex()
        return document, "0x" + signature

    def request(self, kind: Kind, names: tuple[str, str], who: LocalAccount, **fields: Any) -> None:
        """Sign a request, submit it, and wait until it is done."""
        typed, plural = names
        document, signature = self.signed(typed, fields, who)
        body = {**fields, **fields_of(kind, document), "signature": signature}
        status, taken = self.ask("POST", f"/v1/{plural}", body)
        assert status == 201, taken

        def done() -> bool:
            shown = self.ask("GET", f"/v1/requests/{taken['id']}")[1]
            assert shown["state"] != "failed", shown
            return bool(shown["state"] == "done")

        self.wait(done)

    def balance(self, account: int) -> int:
        return int(self.ask("GET", f"/v1/accounts/{account}")[1]["balance"])


@contextmanager
def living(home: Path, *options: str) -> Iterator[Village]:
    """A demo of one day, from where it begins to live on."""
    bring_cache(home)
    arguments = ["--days", "1", "--history-days", "14", "--json", "--seed", str(SEED), *options]
    with (home / "out.txt").open("w") as out, (home / "err.txt").open("w") as err:
        process = subprocess.Popen(
            [sys.executable, "-m", "scripts", "demo", *arguments, "--port", str(free_port())],
            cwd=ROOT,
            env={**environment(home), "DISPLAY": "", "WAYLAND_DISPLAY": ""},
            stdout=out,
            stderr=err,
            text=True,
        )
    try:
        village = Village(home, process)
        village.wait(lambda: bool((home / "out.txt").read_text()))
        yield village
        assert process.poll() is None, (home / "err.txt").read_text()
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        assert "The village goes on" not in (home / "err.txt").read_text()
        assert "Traceback" not in (home / "err.txt").read_text()
    finally:
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()


def sunny(sessions: list[dict[str, Any]], profiles: ZoneProfiles, now: int) -> tuple[int, int, int]:
    """A session with time until its gate, a slot of it, and the meter that exports most there."""
    for one in sessions:
        first, slots = one["first_slot"], one["slots"]
        export = profiles.window(first, slots).export_wh.astype(np.int64)
        runs = np.lib.stride_tricks.sliding_window_view(export, SLOTS, axis=0).min(axis=2)
        offset, meter = np.unravel_index(int(runs.argmax()), runs.shape)
        if one["gate"] > now + 2 * 3_600 and runs[offset, meter] > WH:
            return first, first + int(offset), int(meter) + 1
    raise AssertionError("no sun")


def credited(
    market: Contract, account: int, after: int, until: int
) -> tuple[dict[int, int], dict[int, int]]:
    """By session what an account's orders were credited after a block and up to another, in token
    units, and what they delivered or got, in Wh."""
    credit: dict[int, int] = defaultdict(int)
    wh: dict[int, int] = defaultdict(int)
    for event in market.events("OrdersSettled", after + 1, until):
        for entry in unpack_entries(event.args["entries"]):
            if entry.account == account:
                credit[event.args["first_slot"]] += entry.credit
                wh[event.args["first_slot"]] += entry.delivered_wh
    return credit, wh


def test_a_resident_deposits_sells_is_paid_and_withdraws(tmp_path: Path) -> None:
    with (
        living(tmp_path, "--pace", "600") as village,
        Chain.local(village.run_state()["rpc"], hold_time=False) as chain,
    ):
        summary = json.loads((tmp_path / "out.txt").read_text())
        assert summary["conservation_ok"] is True, summary["conservation_faults"]
        state = village.run_state()
        assert state["finished"] is False
        deployed = deploying.read(chain, tmp_path / "deployment.json")
        market = deployed["EnergyMarket"]
        profiles = zone_profiles(
            ZONE, state["sim_time"] // SLOT_SECONDS, 5 * 96, SEED, tmp_path / "cache"
        )
        _, shown = village.ask("GET", "/v1/zones/1/sessions")
        first, slot, meter = sunny(shown["sessions"], profiles, shown["now"])
        who = owner_account(SEED, meter)

        village.request(Kind.DEPOSIT, ("permit", "deposits"), who, account=meter, amount=50 * EURO)
        paid_in = [one.args["amount"] for one in market.events("Deposited")]
        assert paid_in[-1] == 50 * EURO
        # She takes selling into her own hands.
        for number in MANDATES.values():
            names = ("mandate-end", "mandate-ends")
            village.request(Kind.MANDATE_END, names, who, account=meter, number=number)

        fields = {
            "account": meter,
            "side": "ask",
            "limit": LIMIT,
            "first_slot": slot,
            "slots": SLOTS,
            "wh": WH,
        }
        _, prospect = village.ask("POST", "/v1/outlook/order", fields)
        assert prospect["problems"] == []
        _, signature = village.signed("order", prospect["order"], who)
        body = {**prospect["order"], "signature": signature}
        status, taken = village.ask("POST", "/v1/orders", body)
        assert status == 201, taken
        order = f"/v1/orders/{taken['id']}"
        village.wait(lambda: bool(village.ask("GET", order)[1]["state"] == "accepted"))
        block = chain.block_number()
        free = int(market.call("account", meter, block=block)[1])

        village.wait(
            lambda: "settled" in [one["step"] for one in village.ask("GET", order)[1]["steps"]]
        )
        until = chain.block_number()
        credits, sold = credited(market, meter, block, until)
        assert sold[first] > 0
        # Her collateral back, and at least her limit for what she sold.
        assert credits[first] >= taken["outlook"]["escrow"] + sold[first] * LIMIT
        now = int(market.call("account", meter, block=until)[1])
        assert now == free + sum(credits.values())

        names = ("withdrawal", "withdrawals")
        amount = village.balance(meter)
        village.request(Kind.WITHDRAWAL, names, who, account=meter, amount=amount, to=PAYEE)
        assert deployed["TestEuro"].call("balanceOf", PAYEE) == amount
        # The village goes on without her.
        later = village.run_state()["sim_time"]
        village.wait(lambda: village.run_state()["sim_time"] > later + 900)
