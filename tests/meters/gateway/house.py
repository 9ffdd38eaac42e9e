# SPDX-License-Identifier: Apache-2.0
"""A home with a gateway for the tests: its settings, a day of truth, time moved by hand, and a
small collector on a real socket that checks everything it is sent."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import numpy as np

from dao import eip712
from dao.errors import BadUse
from dao.processes import free_port
from dao.slots import SLOT_SECONDS
from meters.acknowledgements import Acknowledgement, Finding, acknowledgement_separator
from meters.broker import EmbeddedBroker
from meters.frames import decode, frame_id
from meters.gateway.keystore import new_key
from meters.gateway.run import Gateway
from meters.gateway.settings import Settings, read
from meters.readings import Reading
from meters.signing import Head, digests, links, reading_separator, recover_all
from meters.simulate.clock import ManualClock
from meters.simulate.truth import Truth

CHAIN = 31_337
REGISTRY, LEDGER, MARKET, PARAMETERS = ("0x" + digit * 40 for digit in "1234")
SEPARATOR = reading_separator(CHAIN, REGISTRY)
PASSWORD = "correct horse"
METER = 17
WORK = 2
"""A cost of scrypt that protects nothing and takes no time."""
FIRST_SLOT = 1_629_600
"""Midnight UTC."""
START = FIRST_SLOT * SLOT_SECONDS
COLLECTOR = eip712.keccak(b"a collector of the tests")


def day(slots: int = 96, seed: int = 3) -> Truth:
    """A home that draws by night and feeds in by day; a slot with both, and one with nothing."""
    random = np.random.default_rng(seed)
    at = np.arange(slots)
    imports = np.where((at < 30) | (at > 70), random.integers(20, 400, slots), 0)
    exports = np.where((at >= 30) & (at <= 70), random.integers(1, 900, slots), 0)
    exports[5 % slots] = 7
    imports[6 % slots] = 0
    return Truth(FIRST_SLOT, imports.astype(np.int64), exports.astype(np.int64), 4_321_000, 123_000)


class Collector:
    """Takes frames over HTTP as the real one does: checks signature and chain, then acknowledges.

    `mode`: ok, down (503 with Retry-After), deaf (closes without an answer), forged (an
    acknowledgement by somebody else), refusing (422 to dispatch reports). `asked`: the slots of the
    dispatch reports that came, taken or not; `heads`: how often it was asked for the head.
    """

    def __init__(self, device: str, key: bytes = COLLECTOR) -> None:
        self.devices = {eip712.address_bytes(device)}
        self.key = key
        self.mode = "ok"
        self.readings: dict[int, Reading] = {}
        self.links: dict[int, bytes] = {}
        self.forks: list[Reading] = []
        self.reports: list[dict[str, Any]] = []
        self.asked: list[int] = []
        self.heads = 0
        self.frames = 0
        self.refuse: dict[int, str] = {}
        self.lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def head(self) -> Head:
        if not self.links:
            return Head.NONE
        last = max(self.links)
        return Head(last, self.links[last])

    def by_slot(self) -> dict[int, Reading]:
        """The newest reading of each slot."""
        return {row.slot: row for _, row in sorted(self.readings.items())}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def receive(self, frame: bytes) -> dict[str, Any]:
        """Judge a frame and acknowledge it."""
        rows = decode(frame)
        made = digests(SEPARATOR, rows)
        signers = recover_all(made, rows.signature, 1)
        chain = links(made, rows.signature)
        accepted = duplicates = 0
        rejected = []
        with self.lock:
            self.frames += 1
            for i, row in enumerate(rows):
                rule = self.refuse.get(row.sequence)
                before = self.links.get(row.sequence - 1)
                if rule is None and signers[i] not in self.devices:
                    rule = "signature"
                elif rule is None and row.sequence in self.readings:
                    if self.links[row.sequence] == chain[i].tobytes():
                        duplicates += 1
                        continue
                    self.forks.append(row)
                    rule = "sequence"
                elif rule is None and before is not None and before != row.previous:
                    self.forks.append(row)
                    rule = "previous"
                if rule is not None:
                    rejected.append(Finding(rule, row.meter, row.slot, row.sequence))
                    continue
                self.readings[row.sequence] = row
                self.links[row.sequence] = chain[i].tobytes()
                accepted += 1
            heads = {METER: self.head} if self.links else {}
        key = self.key if self.mode != "forged" else eip712.keccak(b"somebody else")
        answer = Acknowledgement(frame_id(frame), accepted, duplicates, tuple(rejected), heads)
        return answer.signed(key, acknowledgement_separator(CHAIN, LEDGER)).to_json()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        collector = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                collector.heads += 1
                if collector.mode == "deaf":
                    self.close_connection = True
                    return
                head = collector.head
                document = {"sequence": head.sequence, "link": "0x" + head.link.hex()}
                self._answer(200 if collector.mode != "down" else 503, document)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if collector.mode == "deaf":
                    self.close_connection = True
                    return
                if collector.mode == "down":
                    self._answer(503, {"error": "busy"})
                    return
                if self.path == "/v1/dispatch":
                    report = json.loads(body)
                    collector.asked.append(report["slot"])
                    if collector.mode == "refusing":
                        self._answer(422, {"error": "no such meter in this zone at that time"})
                        return
                    collector.reports.append(report)
                    self._answer(200, {"stored": True})
                    return
                try:
                    self._answer(200, collector.receive(body))
                except BadUse as error:
                    self._answer(400, {"error": str(error)})

            def _answer(self, status: int, document: Mapping[str, Any]) -> None:
                body = json.dumps(document).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                if status == 503:
                    self.send_header("Retry-After", "1")
                self.end_headers()
                self.wfile.write(body)

        return Handler


def broker() -> EmbeddedBroker:
    """A broker on a port of its own, to which it comes back when it is started again."""
    return EmbeddedBroker("127.0.0.1", free_port())


class House:
    """A gateway's folder with its key, and its settings file."""

    def __init__(self, folder: Path, collector: Collector | None = None) -> None:
        self.folder = folder
        self.collector = collector
        self.key = new_key(folder / "state" / "key.json", PASSWORD, work=WORK)
        if collector is not None:
            collector.devices.add(eip712.address_bytes(self.key.address))

    def settings(
        self, *tables: str, gateway: str = "", chain: str = "", link: str = ""
    ) -> Settings:
        """The settings of some source and device tables; time spans short enough for a test."""
        url = self.collector.url if self.collector is not None else "http://127.0.0.1:9"
        text = f"""
[gateway]
id = "home-{METER}"
meter = {METER}
zone = 1
folder = "state"
{gateway}
[chain]
id = {CHAIN}
registry = "{REGISTRY}"
ledger = "{LEDGER}"
{chain}
[collector]
url = "{url}"
address = "{eip712.address_of(COLLECTOR)}"
spread_s = 0
first_s = 1
most_s = 5
answer_s = 2
{link}
"""
        file = self.folder / "gateway.toml"
        file.write_text(text + "\n".join(tables))
        return read(file)

    def gateway(self, settings: Settings, clock: ManualClock, **more: Any) -> Gateway:
        return Gateway(settings, clock, PASSWORD, steady=None, **more)


def source(kind: str, address: str, **more: object) -> str:
    """One [[source]] table."""
    fields = {"kind": kind, "address": address, **more}
    return "[[source]]\n" + "".join(f"{k} = {json.dumps(v)}\n" for k, v in fields.items())


async def until(
    condition: Callable[[], bool], what: str = "it", seconds: float = 20.0, pause: float = 0.002
) -> None:
    """Wait in real time until something has happened; the bound only ends a test that failed."""
    for _ in range(int(seconds / pause)):
        if condition():
            return
        await asyncio.sleep(pause)
    raise AssertionError(f"{what} did not happen")


async def passing(
    clock: ManualClock, condition: Callable[[], bool], what: str = "it", step: float = 1.0
) -> None:
    """As `until`, while time goes on."""
    for _ in range(1_000):
        if condition():
            return
        clock.advance(step)
        await asyncio.sleep(0.03)
    raise AssertionError(f"{what} did not happen")


async def play(gateway: Gateway, clock: ManualClock, end: float, step: float = 900.0) -> None:
    """Move time on to `end`, waiting at each step until every source was read there."""
    if not seen(gateway):
        if any(one.address.scheme == "mqtt" for one in gateway.settings.sources):
            # What is published before the gateway has subscribed is gone: let time pass.
            await passing(clock, lambda: seen(gateway) > 0, "a first sample", step=900)
        else:
            await until(lambda: seen(gateway) > 0, "a first sample")
    while clock() < end:
        now = clock.set(min((clock() // step + 1) * step, end))
        await until(
            lambda now=now: seen(gateway) >= now,
            f"a sample at {now - START:+.0f} s ({gateway.status()['sources']})",
        )


def seen(gateway: Gateway) -> float:
    """The latest moment up to which every source was read."""
    sources = [one.name for one in gateway.settings.sources]
    return min(gateway._seen.get(name, 0.0) for name in sources)


def told(collector: Collector) -> dict[int, tuple[int | None, int | None]]:
    """Import and export that the collector has of each slot of the day, the newest of each."""
    rows = collector.by_slot().values()
    return {r.slot: (r.import_wh, r.export_wh) for r in rows if r.slot >= FIRST_SLOT}


async def delivered(gateway: Gateway, collector: Collector, clock: ManualClock, slots: int) -> None:
    """Let time pass until the collector has the day's first slots, acknowledged."""
    last = FIRST_SLOT + slots - 1
    await passing(
        clock,
        lambda: last in collector.by_slot() and not gateway.outbox.counts().waiting,
        f"the acknowledgement of slot {slots}",
    )


def expected(truth: Truth, slots: int | None = None) -> dict[int, tuple[int, int]]:
    """Import and export of every slot as they truly were."""
    count = truth.slots if slots is None else slots
    return {
        truth.first_slot + i: (int(truth.import_wh[i]), int(truth.export_wh[i]))
        for i in range(count)
    }
