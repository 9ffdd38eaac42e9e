# SPDX-License-Identifier: Apache-2.0
"""A street of sixteen for the tests: five real devices on sockets, each with a real gateway, a
broker, the collector as a process, and all contracts on a node.

One clock, moved by hand, is everybody's; the chain follows it. The other eleven homes are signed
here and posted, because a batch needs fifteen.
"""

from __future__ import annotations

import asyncio
import csv
import io
import json
import sqlite3
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from click.testing import CliRunner

from dao import deployment as deploying
from dao.anvil import AnvilNode
from dao.chain import Chain
from dao.deployment import Deployment, Roles
from dao.eip712 import address_of
from dao.parameters import CHARGE_POINTS, COMMUNITY_BATTERY
from dao.processes import free_port
from dao.slots import SLOT_SECONDS, SLOTS_PER_DAY
from meters.devices import CommunityBattery
from meters.dispatch import DispatchReport
from meters.frames import encode
from meters.gateway.chain import Window
from meters.gateway.keystore import new_key
from meters.gateway.run import Gateway
from meters.gateway.settings import read
from meters.readings import Readings
from meters.signing import Head, reading_separator, sign_chains
from meters.simulate.charging import Car
from meters.simulate.clock import ManualClock
from meters.simulate.mqtt import TasmotaPublisher
from meters.simulate.ocpp import ChargePoint
from meters.simulate.p1 import P1Meter
from meters.simulate.sml import SmlMeter
from meters.simulate.sunspec import SunSpecBattery
from meters.simulate.wire import Device
from scripts.meter import cli
from tests.meters.gateway.house import (
    FIRST_SLOT,
    PASSWORD,
    START,
    WORK,
    broker,
    day,
    passing,
    seen,
    source,
    until,
)
from tests.meters.service.zone import HOMES, KEYS, ZONE, OnChain, Service, service

P1, SML, BATTERY, TASMOTA, WALLBOX = range(1, 6)
REAL = (P1, SML, BATTERY, TASMOTA, WALLBOX)
STORE = CommunityBattery(20_000, 5_000, soc_wh=6_000)
CHARGE = Window(FIRST_SLOT + 40, 6, 4_000)
GIVE = Window(FIRST_SLOT + 72, 4, -3_000)
CAP = Window(FIRST_SLOT + 76, 4, 3_700)
KILLED_AT, BACK_AT = 50, 56
"""Slots of the day in which the collector is killed and in which it is started again."""
EVERY_HOURS = 6
_WAIT_S = 90.0
"""Real seconds after which a condition that never comes ends a test that failed."""


@dataclass
class Day:
    """What came of the street's day."""

    on: OnChain
    folder: Path
    truth: dict[tuple[int, int], tuple[int, int]]
    """Import and export Wh by meter and slot: what the devices' own registers showed."""
    devices: dict[int, str]
    """The gateways' device addresses."""
    silent_head: dict[str, Any] = field(default_factory=dict)
    heads: dict[int, tuple[dict[str, Any], Head | None]] = field(default_factory=dict)
    """By meter: what the collector answers at the end, and what the gateway holds."""
    before_kill: int = 0
    """Readings that the gateways knew to be acknowledged when the collector was killed."""
    refused: int = 0
    problems: dict[int, dict[str, str]] = field(default_factory=dict)
    status: dict[str, Any] = field(default_factory=dict)

    def reports(self) -> dict[tuple[int, int], DispatchReport]:
        """The dispatch reports that the collector keeps, by meter and slot."""
        db = sqlite3.connect(self.folder / "dispatch.sqlite")
        try:
            rows = db.execute("SELECT report FROM report").fetchall()
        finally:
            db.close()
        made = [DispatchReport.from_json(json.loads(text)) for (text,) in rows]
        return {(one.meter, one.slot): one for one in made}

    def command(self, *arguments: str, home: Path | None = None) -> tuple[int, str, str]:
        """`gridcommons meter ...` with its state in the street's folder, or in another."""
        done = CliRunner(mix_stderr=False).invoke(
            cli, arguments, env={"GRIDCOMMONS_HOME": str(home or self.folder)}
        )
        return done.exit_code, done.stdout, done.stderr


def others() -> Readings:
    """The day of the homes without a device here, not signed yet."""
    meters = [meter for meter in range(1, HOMES + 1) if meter not in REAL]
    truths = [day(SLOTS_PER_DAY, seed=meter) for meter in meters]
    return Readings.columns(
        np.repeat(meters, SLOTS_PER_DAY),
        np.tile(np.arange(FIRST_SLOT, FIRST_SLOT + SLOTS_PER_DAY), len(meters)),
        np.concatenate([truth.import_wh for truth in truths]),
        np.concatenate([truth.export_wh for truth in truths]),
    )


class Street:
    """The street while its day is played."""

    def __init__(self, folder: Path, node: AnvilNode, chain: Chain, deployment: Deployment) -> None:
        self.folder = folder
        self.addresses = folder / "deployment.json"
        deploying.write(deployment, self.addresses)
        self.on = OnChain(node, chain, deployment, self.addresses)
        self.clock = ManualClock(START - 12 * SLOT_SECONDS)
        self.broker = broker()
        self.port, self.csms_port = free_port(), free_port()
        self.truth: dict[tuple[int, int], tuple[int, int]] = {}
        self.devices: dict[int, Device] = {}
        self.gateways: dict[int, Gateway] = {}
        self.keys = {
            meter: new_key(folder / f"gateway-{meter}" / "key.json", PASSWORD, work=WORK).address
            for meter in REAL
        }
        self._edge: dict[int, tuple[int, int]] = {}

    # Before the day

    def register(self) -> None:
        """As the operator does: a list, and the command."""
        rows = io.StringIO()
        table = csv.writer(rows)
        table.writerow(("meter", "owner", "device"))
        owner = self.on.chain.accounts[9].address
        for meter in range(1, HOMES + 1):
            device = self.keys.get(meter) or address_of(KEYS[meter])
            table.writerow((meter, owner, device))
        done = CliRunner(mix_stderr=False).invoke(
            cli,
            ["register", "-", "--rpc", self.on.chain.url, "--deployment", str(self.addresses)],
            input=rows.getvalue(),
        )
        assert done.exit_code == 0, done.stderr

    def open_windows(self) -> None:
        """As an executed vote does: the timelock opens them."""
        chain, parameters = self.on.chain, self.on.deployment["GridParameters"]
        timelock = self.on.deployment["GridTimelock"].address
        chain.rpc("anvil_impersonateAccount", timelock)
        chain.fund(timelock)
        for key, windows in ((COMMUNITY_BATTERY, (CHARGE, GIVE)), (CHARGE_POINTS, (CAP,))):
            words = [
                (one.value % (1 << 128)) << 128 | one.slots << 64 | one.first_slot
                for one in windows
            ]
            data = "0x" + parameters.encode("open_windows", ZONE, key, words).hex()
            request = {"from": timelock, "to": parameters.address, "data": data}
            mined = chain.rpc("eth_sendTransactionSync", {**request, "gas": hex(2_000_000)})
            assert mined["status"] == "0x1"

    def make(self) -> None:
        """The devices; those that listen have their address once they run."""
        truths = {meter: day(seed=meter) for meter in REAL}
        clock, csms = self.clock, f"ws://127.0.0.1:{self.csms_port}"
        car = Car(START + 68 * SLOT_SECONDS, START + 92 * SLOT_SECONDS, 60_000)
        self.devices = {
            P1: P1Meter(truths[P1], clock),
            SML: SmlMeter(truths[SML], clock),
            BATTERY: SunSpecBattery(STORE, clock),
            TASMOTA: TasmotaPublisher(
                truths[TASMOTA], clock, broker=self.broker.url, name="home-4", period=900
            ),
            WALLBOX: ChargePoint([car], clock, csms=csms),
        }

    def _tables(self, meter: int) -> tuple[str, ...]:
        device = self.devices[meter]
        if meter == P1:
            return (source("p1", f"tcp://{device.address}"),)
        if meter == SML:
            return (source("sml", f"tcp://{device.address}"),)
        if meter == TASMOTA:
            assert isinstance(device, TasmotaPublisher)
            topic = {"topic": device.topic, "timezone": "Europe/Berlin"}
            return (source("tasmota", self.broker.url, **topic),)
        if meter == BATTERY:
            address = f"tcp://{device.address}"
            return (
                source("sunspec", address, every_s=900),
                f'[[device]]\nkind = "community_battery"\naddress = "{address}"\nrevert_s = 2700\n',
            )
        wallbox = {"directions": ["import"], "channels": ["GC-CP-1/1"], "name": "wallbox"}
        return (
            source("ocpp", f"ws://127.0.0.1:{self.csms_port}", **wallbox),
            '[[device]]\nkind = "charge_points"\nsource = "wallbox"\nrevert_s = 2700\n',
        )

    def gateway(self, meter: int) -> Gateway:
        """A gateway with the settings that its owner would write."""
        on = self.on.deployment
        # One of them delivers over MQTT.
        mqtt = f'mqtt = "{self.broker.url}"' if meter == TASMOTA else ""
        text = f"""
[gateway]
id = "home-{meter}"
meter = {meter}
zone = {ZONE}
{'absent = ["export"]' if meter == WALLBOX else ""}
[chain]
id = {self.on.chain.chain_id}
registry = "{on["MeterRegistry"].address}"
ledger = "{on["ReadingLedger"].address}"
parameters = "{on["GridParameters"].address}"
rpc = "{self.on.chain.url}"
[collector]
url = "http://127.0.0.1:{self.port}"
address = "{self.on.chain.accounts[2].address}"
spread_s = 0
first_s = 1
most_s = 5
{mqtt}
"""
        file = self.folder / f"gateway-{meter}.toml"
        file.write_text(text + "\n".join(self._tables(meter)))
        return Gateway(read(file), self.clock, PASSWORD, steady=None)

    # The day

    async def step(self, at: float) -> None:
        """One quarter-hour on: the chain first, then the devices, and every source read there."""
        self.on.chain.set_time(int(at))
        self.clock.set(at)
        for meter, gateway in self.gateways.items():
            await until(
                partial(self._is_read, gateway, at),
                f"a sample of meter {meter} at {at - START:+.0f} s ({gateway.status()})",
                _WAIT_S,
            )
        slot = int(at) // SLOT_SECONDS - 1
        for meter, device in self.devices.items():
            state = device.state()
            edge = (state.import_wh, state.export_wh)
            before = self._edge.get(meter)
            self._edge[meter] = edge
            if before is not None and slot >= FIRST_SLOT:
                self.truth[meter, slot] = (edge[0] - before[0], edge[1] - before[1])

    @staticmethod
    def _is_read(gateway: Gateway, at: float) -> bool:
        return seen(gateway) >= at and all(one.looked_at >= at for one in gateway.dispatchers)

    def _have_met(self) -> bool:
        publisher, point = self.devices[TASMOTA], self.devices[WALLBOX]
        assert isinstance(publisher, TasmotaPublisher)
        assert isinstance(point, ChargePoint)
        is_heard = publisher.topic in self.broker._broker._subscriptions
        # The gateway asks a charge point for its register every minute.
        return publisher.connected and is_heard and point.outlet.aligned_seconds == 60

    async def everything_delivered(self) -> None:
        """Let a little time pass until every gateway has its acknowledgements, and the collector
        their reports."""

        def is_delivered() -> bool:
            return not any(
                one.outbox.counts().waiting or one.outbox.reports()
                for one in self.gateways.values()
            )

        # By the clock of the chain no second passes here: a gateway's waits are its own.
        await passing(self.clock, is_delivered, "everything delivered", step=0.25)

    @property
    def acknowledged(self) -> int:
        return sum(one.outbox.counts().acknowledged for one in self.gateways.values())

    async def play(self) -> Day:
        """The whole day, the collector killed in the middle, until its batch is on the ledger."""
        signed = sign_chains(KEYS, self.separator, others(), {})
        for row in signed:
            assert row.import_wh is not None
            assert row.export_wh is not None
            self.truth[row.meter, row.slot] = (row.import_wh, row.export_wh)
        made = Day(self.on, self.folder, self.truth, dict(self.keys))
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.broker)
            self.make()
            for meter, device in self.devices.items():
                if meter != WALLBOX:
                    await stack.enter_async_context(device)
            collecting = await self.collect(stack)
            made.silent_head = (await asyncio.to_thread(collecting.get, f"/v1/heads/{P1}")).json()
            for meter in REAL:
                gateway = self.gateway(meter)
                await stack.enter_async_context(gateway.running())
                self.gateways[meter] = gateway
            await stack.enter_async_context(self.devices[WALLBOX])
            # What is published before a gateway has subscribed is gone.
            await until(self._have_met, "devices and gateways have met", _WAIT_S)
            while self.clock() < START + SLOTS_PER_DAY * SLOT_SECONDS:
                at = (self.clock() // SLOT_SECONDS + 1) * SLOT_SECONDS
                await self.step(at)
                passed = int(at - START) // SLOT_SECONDS
                if passed == KILLED_AT:
                    made.before_kill = self.acknowledged
                    collecting.kill()
                if passed == BACK_AT:
                    collecting = await self.collect(stack)
                if passed > 0 and passed % (4 * EVERY_HOURS) == 0:
                    await self.post(collecting, signed, FIRST_SLOT + passed)
            await self.everything_delivered()
            self.on.chain.set_time(START + SLOTS_PER_DAY * SLOT_SECONDS + 1_801)
            end = FIRST_SLOT + SLOTS_PER_DAY
            await until(lambda: self.on.until() >= end, "the day on the ledger", _WAIT_S)
            for meter, gateway in self.gateways.items():
                answer = (await asyncio.to_thread(collecting.get, f"/v1/heads/{meter}")).json()
                made.heads[meter] = (answer, gateway.outbox.head)
                made.refused += gateway.outbox.counts().refused
                made.problems[meter] = gateway.status()["problems"]
            made.status = await asyncio.to_thread(collecting.status)
        return made

    @property
    def separator(self) -> bytes:
        registry = self.on.deployment["MeterRegistry"].address
        return reading_separator(self.on.chain.chain_id, registry)

    async def collect(self, stack: AsyncExitStack) -> Service:
        """The collector as a process, at the address that the gateways know."""
        at = ("--listen", f"127.0.0.1:{self.port}", "--mqtt", self.broker.url)
        entered = service(self.on, self.folder, *at, "--batch-hours", "24")
        running = await asyncio.to_thread(entered.__enter__)
        stack.push_async_callback(asyncio.to_thread, entered.__exit__, None, None, None)
        return running

    async def post(self, collecting: Service, signed: Readings, end: int) -> None:
        """The last hours of the homes without a device here, a frame for each."""
        for meter in sorted(set(signed.meter.tolist())):
            since = end - 4 * EVERY_HOURS
            here = (signed.meter == meter) & (signed.slot >= since) & (signed.slot < end)
            frame = encode(signed.take(here))
            answer = await asyncio.to_thread(collecting.post, frame)
            assert answer.status_code == 200, answer.text
            self.on.check(answer.json(), frame)


def lived(folder: Path, node: AnvilNode, chain: Chain) -> Day:
    """Found, register, decide and live a day."""
    offices = (account.address for account in chain.accounts[1:5])
    deployment = deploying.deploy(chain, Roles(*offices), zone=ZONE)
    deploying.hand_over(deployment)
    street = Street(folder, node, chain, deployment)
    street.register()
    street.open_windows()
    return asyncio.run(street.play())
