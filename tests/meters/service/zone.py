# SPDX-License-Identifier: Apache-2.0
"""Sixteen homes whose devices sign, a real node that knows them, and the collector as a process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import requests

from dao import deployment as deploying
from dao.anvil import AnvilNode
from dao.chain import Chain, Contract
from dao.deployment import Deployment
from dao.parameters import rules_from
from dao.processes import end_child
from dao.slots import SLOT_SECONDS
from meters.acknowledgements import Acknowledgement, acknowledgement_separator, parse
from meters.frames import encode, frame_id
from meters.readings import Readings
from meters.signing import Head, reading_separator, sign_chains
from tests.meters.batch_rows import DAY as FIRST
from tests.meters.batch_rows import fleet, rows

ZONE, HOMES, COLLECTOR = 1, 16, 2
PATIENCE_S = 60.0
KEYS = {gateway.meter: gateway.key for gateway in fleet(HOMES).gateways}


def signed(
    separator: bytes,
    first_slot: int,
    slots: int,
    heads: dict[int, Head] | None = None,
    homes: int = HOMES,
) -> Readings:
    """Everybody's readings of some slots, by meter and slot, each meter's a chain."""
    return sign_chains(KEYS, separator, rows(first_slot, slots, homes), heads or {})


def of(readings: Readings, meter: int, slots: range | None = None) -> Readings:
    here = readings.meter == meter
    if slots is not None:
        here &= (readings.slot >= slots.start) & (readings.slot < slots.stop)
    return readings.take(here)


def frames_of(readings: Readings) -> list[bytes]:
    """One frame per meter."""
    return [encode(of(readings, int(meter))) for meter in np.unique(readings.meter)]


@dataclass(frozen=True)
class OnChain:
    """A node with registry, parameters and ledger, and where their addresses are written."""

    node: AnvilNode
    chain: Chain
    deployment: Deployment
    addresses: Path

    @property
    def separator(self) -> bytes:
        registry = self.deployment["MeterRegistry"].address
        return reading_separator(self.chain.chain_id, registry)

    @property
    def ledger(self) -> Contract:
        return self.deployment["ReadingLedger"]

    def at_slot(self, slot: int, seconds: int = 0) -> None:
        """Turn the chain's clock to so many seconds after a slot begins."""
        self.chain.set_time(slot * SLOT_SECONDS + seconds)

    def until(self) -> int:
        return int(self.ledger.call("committed_until", ZONE))

    def check(self, answer: Any, frame: bytes) -> Acknowledgement:
        """The acknowledgement, if it is the collector's and speaks of the frame."""
        made = parse(answer)
        assert isinstance(made, Acknowledgement), answer
        separator = acknowledgement_separator(self.chain.chain_id, self.ledger.address)
        made.verify(separator, self.chain.accounts[COLLECTOR].address, frame_id(frame))
        return made


@contextmanager
def on_chain(folder: Path) -> Iterator[OnChain]:
    begin = FIRST * SLOT_SECONDS - 43_200
    with AnvilNode(timestamp=begin) as node, Chain.local(node.url) as chain:
        registrar, collecting = chain.accounts[1:3]
        parameters = chain.deploy("GridParameters")
        parameters.transact("define_batch", [rule.as_tuple() for rule in rules_from({})])
        registry = chain.deploy("MeterRegistry", registrar.address)
        ledger = chain.deploy("ReadingLedger", parameters.address)
        ledger.transact("set_collector", ZONE, collecting.address)
        contracts = {
            "GridParameters": parameters,
            "MeterRegistry": registry,
            "ReadingLedger": ledger,
        }
        deployment = Deployment(chain=chain, contracts=contracts, first_block=0)
        register(deployment, HOMES)
        addresses = folder / "deployment.json"
        deploying.write(deployment, addresses)
        yield OnChain(node, chain, deployment, addresses)


def register(deployment: Deployment, homes: int, first: int = 1) -> None:
    """Register the devices of the fleet, numbers in order from `first` on."""
    chain = deployment.chain
    devices = ["0x" + device.hex() for device in fleet(homes).devices.values()][first - 1 :]
    owners = [chain.accounts[9].address] * len(devices)
    deployment["MeterRegistry"].transact(
        "register_batch", owners, devices, ZONE, sender=chain.accounts[1]
    )


@dataclass
class Service:
    """`gridcommons meter collect` as a process."""

    process: subprocess.Popen[bytes]
    facts: dict[str, Any]
    log: Path

    @property
    def url(self) -> str:
        return str(self.facts["url"])

    def get(self, path: str, **more: Any) -> requests.Response:
        return requests.get(self.url + path, timeout=20, **more)

    def post(self, frame: bytes) -> requests.Response:
        kind = {"Content-Type": "application/octet-stream"}
        return requests.post(self.url + "/v1/readings", frame, headers=kind, timeout=20)

    def status(self) -> dict[str, Any]:
        return dict(self.get("/status.json").json())

    def kill(self) -> None:
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait(PATIENCE_S)

    def end(self) -> int:
        """SIGTERM; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_S)


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "scripts", "meter", "collect", *arguments]


@contextmanager
def service(chain: OnChain, folder: Path, *more: str, rpc: str | None = None) -> Iterator[Service]:
    """The collector at work on a free port, its state in the folder; gone afterwards."""
    arguments = ["--rpc", rpc or chain.node.url, "--deployment", str(chain.addresses)]
    arguments += ["--listen", "127.0.0.1:0", "--json", *more]
    log = folder / "service.log"
    environment = {**os.environ, "GRIDCOMMONS_HOME": str(folder)}
    with log.open("ab") as errors:
        process = subprocess.Popen(
            command(*arguments),
            stdout=subprocess.PIPE,
            stderr=errors,
            env=environment,
            start_new_session=True,  # so that `end_child` finds it
        )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, log.read_text()
        yield Service(process, json.loads(line), log)
    finally:
        end_child(process)
        if process.stdout is not None:
            process.stdout.close()


def wait_for(what: Callable[[], bool], seconds: float = PATIENCE_S) -> None:
    """Until something has happened; the bound only ends a test that failed."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if what():
                return
        except requests.RequestException:
            pass
        time.sleep(0.05)
    raise AssertionError("waited in vain")
