# SPDX-License-Identifier: Apache-2.0
"""The running gateway: sources, intervals, outbox, uplink, receipts and dispatch in one loop.

Each part keeps its own rules; here they are wired, watched, and told about in `status.json`.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import os
import random
import shutil
import sqlite3
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from dao.errors import CheckFailed, GridCommonsError
from dao.slots import SLOT_SECONDS, SLOTS_PER_DAY
from meters.adapters.engine import MeterReading
from meters.gateway.chain import NodeReader
from meters.gateway.clock import Clock
from meters.gateway.dispatching import Dispatcher, ScheduleSource, kept_counting
from meters.gateway.drivers.battery import SunSpecBattery
from meters.gateway.drivers.chargers import ChargePoints
from meters.gateway.intervals import Assembler, Feed, Interval, PowerSample, Sample
from meters.gateway.keys import Keys
from meters.gateway.keystore import DeviceKey, read_password
from meters.gateway.outbox import ACKNOWLEDGED, REFUSED, Outbox, OutboxFull
from meters.gateway.receipts import Receipts
from meters.gateway.settings import STREAMS, DeviceSettings, Settings, SourceSettings
from meters.gateway.sources.charge_points import CentralSystem
from meters.gateway.sources.modbus import SunSpecReader
from meters.gateway.sources.readers import (
    HttpReader,
    MqttReader,
    Payload,
    Reader,
    StreamReader,
    follow,
)
from meters.gateway.sources.samples import Sampler
from meters.gateway.tasks import side_by_side
from meters.gateway.uplink import (
    Backoff,
    HttpTransport,
    MqttTransport,
    Refused,
    Transport,
    Unreachable,
    Uplink,
)
from meters.signing import reading_separator

log = logging.getLogger("gridcommons.gateway")

WATCH_S = 10.0
STATUS_S = 60.0
CLOCK_JUMP_S = 5.0
"""By so much the clock may run away from the machine's steady one between two looks."""
TOLD_S = 3_600.0
"""How long a jump stays among the problems."""
BEHIND_S = 900.0
DISK_LEFT = 16 << 20
REFUSED_AGAIN_S = 900.0
"""A refused dispatch report comes again after so long, and up to twice that."""


class Gateway:
    """One gateway between `running` and its end.

    steady: a clock that is never set, to see when ours is; None where time is simulated.
    """

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        password: str,
        *,
        steady: Callable[[], float] | None = time.monotonic,
        schedule: ScheduleSource | None = None,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self.settings = settings
        self.clock = clock
        self.faults: Counter[str] = Counter()
        self.problems: dict[str, str] = {}
        self._steady = steady
        self._draw = draw
        self.separator = reading_separator(settings.chain.chain_id, settings.chain.registry)
        self.outbox = Outbox(
            settings.outbox, settings.meter, self.separator, limit_bytes=settings.outbox_bytes
        )
        try:
            self._node = None if settings.chain.rpc is None else NodeReader(settings.chain)
            self._schedule = schedule or self._node
            self.keys = Keys(
                self.outbox,
                settings.folder,
                settings.first_key,
                password,
                None if self._node is None else self._node.device_at,
            )
            self.samplers = {one.name: self._sampler(one) for one in settings.sources}
            feeds = [feed for sampler in self.samplers.values() for feed in sampler.feeds()]
            self.assembler = self._assembler(feeds)
            self._http = HttpTransport(
                settings.collector.url.url, settings.collector.ca_file, settings.collector.answer_s
            )
            self.transport: Transport = self._http
            if settings.collector.mqtt is not None:
                self.transport = MqttTransport(
                    settings, _secret(settings.collector.mqtt_password_file)
                )
            self.uplink = Uplink(settings, self.outbox, clock, self.transport, draw)
            self.receipts: Receipts | None = None
            if settings.market is not None:
                self.receipts = Receipts(settings, self.outbox, clock, self.keys.of, draw)
        except BaseException:
            self.outbox.close()
            raise
        self._held: list[Interval] = []
        self._is_compared = False
        self._newest_slot = self.outbox.newest_slot
        self._identities: dict[str, str] = {}
        self._jumped_at: float | None = None
        self._seen: dict[str, float] = {}
        self._systems: dict[str, CentralSystem] = {}
        self.dispatchers: list[Dispatcher] = []
        self._charge_points: dict[str, ChargePoints] = {}
        self._kept_at = clock()
        self._told_at = 0.0
        self._looked: tuple[float, float] | None = None
        self._born = clock()

    def _sampler(self, source: SourceSettings) -> Sampler:
        key = None
        if source.kind == "p1" and source.key_file is not None:
            key = _hex_key(source.key_file)
        return Sampler(source, key=key, identity=self.outbox.noted(f"meter:{source.name}"))

    def _assembler(self, feeds: list[Feed]) -> Assembler:
        settings = self.settings
        return Assembler(
            feeds,
            absent=settings.absent,
            patience_s=settings.patience_s,
            kept=self.outbox.intervals_state(),
        )

    # Living

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set. A part that fails unforeseen ends the gateway, with its error."""
        try:
            async with self.running():
                await stop.wait()
        except sqlite3.DatabaseError as error:
            raise CheckFailed(f"the outbox {self.outbox.path} cannot be read: {error}") from error

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Gateway]:
        """The gateway at work, as long as the context lasts; raises what ended a part of it."""
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._close)
            async with side_by_side(await self._parts(stack)):
                yield self

    async def _parts(self, stack: AsyncExitStack) -> list[Coroutine[Any, Any, None]]:
        parts: list[Coroutine[Any, Any, None]] = []
        for source in self.settings.sources:
            if source.kind == "ocpp":
                system = CentralSystem(
                    source, self.clock, self._charged(source.name), _secret(source.key_file)
                )
                await stack.enter_async_context(system.listening())
                self._systems[source.name] = system
            else:
                parts.append(self._follow(source))
        for device in self.settings.devices:
            parts += self._device(device)
        parts += [self._begin(), self.uplink.run(), self._watch(), self._send_reports()]
        if self.receipts is not None:
            parts.append(self.receipts.run())
        return parts

    async def _close(self) -> None:
        """The last word: what stands where is kept, and the file given back."""
        with contextlib.suppress(GridCommonsError):
            self._record([])
        self._tell()
        for dispatcher in self.dispatchers:
            dispatcher.driver.close()
        await self.transport.close()
        await self._http.close()
        if self.receipts is not None:
            self.receipts.close()
        if self._node is not None:
            self._node.close()
        self.outbox.close()

    def _reader(self, source: SourceSettings) -> Reader:
        if source.kind in STREAMS:
            return StreamReader(source, self.clock)
        if source.kind == "sunspec":
            return SunSpecReader(source, self.clock)
        secret = _secret(source.key_file)
        if source.address.scheme.startswith("mqtt"):
            return MqttReader(source, self.clock, secret)
        return HttpReader(source, self.clock, secret)

    async def _follow(self, source: SourceSettings) -> None:
        sampler = self.samplers[source.name]

        def take(payload: Payload) -> None:
            self._take(source.name, sampler.take(payload.data, payload.received))

        def told(problem: str | None) -> None:
            self._told(f"source {source.name}", problem)

        await follow(self._reader(source), take, told)

    def _charged(self, name: str) -> Callable[[list[MeterReading], float], None]:
        def take(readings: list[MeterReading], received: float) -> None:
            for one in readings:
                for points in self._charge_points.values():
                    if one.meter is not None and one.end is not None:
                        points.add(one.meter, one.end.timestamp(), one.import_wh)
            self._take(name, self.samplers[name].of_readings(readings, received))

        return take

    def _device(self, device: DeviceSettings) -> list[Coroutine[Any, Any, None]]:
        assert self._schedule is not None
        kept = kept_counting(self.outbox, device)
        driver: SunSpecBattery | ChargePoints
        if device.source is not None:
            [source] = [one for one in self.settings.sources if one.name == device.source]
            system = self._systems[device.source]
            driver = ChargePoints(device, self.clock, system, source.channels, kept)
            self._charge_points[device.name] = driver
        else:
            driver = SunSpecBattery(device, self.clock, kept)
        dispatcher = Dispatcher(
            device,
            self.settings.zone,
            driver,
            self._schedule,
            self.outbox,
            self.clock,
            self.separator,
            self.keys.of,
        )
        self.dispatchers.append(dispatcher)
        return [driver.watch(), dispatcher.run()]

    # Measuring

    def _take(self, source: str, samples: list[tuple[str, Sample | PowerSample]]) -> None:
        if not samples or self._is_behind():
            return
        self._seen[source] = max(sample.at for _, sample in samples)
        self._remember(source)
        given: list[Interval] = []
        for feed, sample in samples:
            given += self.assembler.add(feed, sample)
        if given:
            self._record(given)

    def _is_behind(self) -> bool:
        """Whether our clock shows a time of which everything was measured already: it is wrong, and
        what it would say of past slots would pass for corrections."""
        newest = self._newest_slot
        behind = 0.0 if newest is None else (newest + 1) * SLOT_SECONDS - self.clock()
        is_behind = behind > BEHIND_S
        text = f"our clock is {behind:.0f} s behind what was measured already: set it right"
        self._told("clock behind", text if is_behind else None)
        return is_behind

    def _remember(self, source: str) -> None:
        """Keep which meter a source shows, so that a restart does not take another one for it."""
        identity = self.samplers[source].identity
        if identity is None or self._identities.get(source) == identity:
            return
        with contextlib.suppress(CheckFailed):
            self.outbox.note(f"meter:{source}", identity)
            self._identities[source] = identity

    def _record(self, given: list[Interval]) -> None:
        """Sign and keep; what finds no room is held, and tried again with the next."""
        self._held += given
        try:
            signed = self.outbox.record(self._held, self.assembler.as_dict(), self._key_of)
        except OutboxFull as error:
            self._told("outbox", str(error))
            self.faults["outbox_full"] += 1
            return
        newest = max((one.slot for one in self._held), default=-1)
        self._newest_slot = max(newest, self._newest_slot or -1)
        self._held.clear()
        self._kept_at = self.clock()
        self._told("outbox", None)
        if signed:
            self.uplink.wake()

    def _key_of(self, slot: int) -> DeviceKey | None:
        """The key for a slot; none before the collector's head was asked for.

        After every start, because the file may be an old copy: what it would sign next may have
        been signed already.
        """
        return self.keys.of(slot) if self._is_compared else None

    async def _begin(self) -> None:
        """Ask the collector where our chain stands, before the first signature.

        A power cut ends for a whole street at one moment, so this waits as frames do.
        """
        collector = self.settings.collector
        backoff = Backoff(collector.first_s, collector.most_s)
        wait = self._draw() * collector.spread_s
        for failures in itertools.count():
            await self.clock.sleep_until(self.clock() + wait)
            try:
                head = await asyncio.to_thread(self._http.head, self.settings.meter)
            except CheckFailed as error:
                self._told("head", str(error))
                wait = backoff.wait(failures, self._draw)
                continue
            self._told("head", None)
            own = self.outbox.head
            if self.outbox.begin_at(head) and own is not None:
                self.faults["head_ahead"] += 1
                log.error(
                    "the collector holds reading %d, this outbox ends at %d: it is an old copy, or "
                    "another device signs with this key; going on after the collector's",
                    head.sequence,
                    own.sequence,
                )
            self._is_compared = True
            self._record([])
            return

    # Watching

    async def _watch(self) -> None:
        while True:
            now = self.clock()
            self._look_at_clock(now)
            try:
                await self._settle(now)
            except CheckFailed as error:
                self._told("outbox", str(error))
            self._look_at_sources(now)
            self._look_at_disk()
            if now - self._told_at >= STATUS_S:
                self._tell()
                self._told_at = now
            await self.clock.sleep_until(now + WATCH_S)

    async def _settle(self, now: float) -> None:
        """Keys, slots that have waited long enough, and where the intervals stand."""
        await self.keys.look(now)
        self._told("keys", self.keys.problem)
        given = self.assembler.complete(now)
        if given or self._held or (self.outbox.unsigned and self.outbox.head is not None):
            self._record(given)
        elif now - self._kept_at >= self.settings.checkpoint_s:
            self.outbox.checkpoint(self.assembler.as_dict())
            self._kept_at = now

    def _look_at_clock(self, now: float) -> None:
        if self._steady is None:
            return
        steady, before = self._steady(), self._looked
        self._looked = (now, steady)
        if before is None:
            return
        jump = (now - before[0]) - (steady - before[1])
        if abs(jump) > CLOCK_JUMP_S:
            self.faults["clock_jump"] += 1
            log.error("the clock jumped by %+.0f s", jump)
            self._told("clock", f"the clock jumped by {jump:+.0f} s")
            self._jumped_at = now
            if jump < -60:
                # Registers of a time that has yet to come would hold everything up until then.
                self.assembler.lose()
        elif self._jumped_at is not None and not 0 <= now - self._jumped_at < TOLD_S:
            self._told("clock", None)
            self._jumped_at = None

    def _look_at_sources(self, now: float) -> None:
        for source in self.settings.sources:
            since = now - self._seen.get(source.name, self._born)
            is_silent = since > source.silent_s
            name = f"silence of {source.name}"
            self._told(name, f"{source.name} is silent for {since:.0f} s" if is_silent else None)

    def _look_at_disk(self) -> None:
        try:
            left = shutil.disk_usage(self.settings.folder).free
        except OSError:
            return
        self._told("disk", f"only {left >> 20} MiB of disk left" if left < DISK_LEFT else None)

    def _told(self, where: str, problem: str | None) -> None:
        """Log what changed, once; keep it for the status."""
        before = self.problems.get(where)
        if problem is None:
            if self.problems.pop(where, None) is not None:
                log.info("%s: well again", where)
        else:
            self.problems[where] = problem
            if before is None:
                log.error("%s: %s", where, problem)

    # Reports of what devices did

    async def _send_reports(self) -> None:
        # When those that were refused come again, by device and slot.
        again: dict[tuple[str, int], float] = {}
        while True:
            try:
                await self._send_due(again)
            except GridCommonsError as error:
                self._told("dispatch reports", str(error))
            else:
                if not again:
                    self._told("dispatch reports", None)
            wait = self.settings.collector.first_s * (0.5 + self._draw())
            await self.clock.sleep_until(self.clock() + wait)

    async def _send_due(self, again: dict[tuple[str, int], float]) -> None:
        """Send what waits until one is refused or does not arrive, which is raised.

        A collector may not have heard of a new key yet, so a refusal is final after a day only. It
        ends the turn: a collector stops listening to who sends it much that it has to refuse.
        """
        for report in self.outbox.reports():
            key = report["device"], report["slot"]
            now = self.clock()
            if again.get(key, now) > now:
                continue
            try:
                await self._send_report(report)
            except Refused as error:
                self.faults["report_refused"] += 1
                again[key] = now + REFUSED_AGAIN_S * (1 + self._draw())
                if now > (report["slot"] + SLOTS_PER_DAY) * SLOT_SECONDS:
                    self.outbox.settle_report(*key, REFUSED, str(error))
                    del again[key]
                raise
            self.outbox.settle_report(*key, ACKNOWLEDGED)
            again.pop(key, None)

    async def _send_report(self, report: dict[str, Any]) -> None:
        if isinstance(self.transport, MqttTransport):
            await self.transport.publish("dispatch", report)
        else:
            body = json.dumps(report).encode()
            answer = await asyncio.to_thread(
                self._http.post, "/v1/dispatch", body, "application/json"
            )
            # A collector that is busy answers too; only what it has stored is delivered.
            if not (isinstance(answer, dict) and answer.get("stored") is True):
                raise Unreachable("the collector does not take reports now")

    # Telling

    def status(self) -> dict[str, Any]:
        """How the gateway is, for people and machines; no reading and no key is in it."""
        now = self.clock()
        counts = self.outbox.counts()
        head = self.outbox.head
        problems = dict(self.problems)
        for name, part in (("uplink", self.uplink), ("receipts", self.receipts)):
            if part is not None and part.problem is not None:
                problems[name] = part.problem
        if self.uplink.faults["fork"]:
            problems["fork"] = "the collector holds other readings signed with this meter's key"
        sources = {}
        for source in self.settings.sources:
            sampler = self.samplers[source.name]
            names = [feed.name for feed in sampler.feeds()]
            channels = [self.assembler.channels[name] for name in names]
            faults = Counter(sampler.faults)
            for channel in channels:
                faults.update(channel.faults)
            system = self._systems.get(source.name)
            if system is not None:
                faults.update(system.faults)
            seen = self._seen.get(source.name)
            sources[source.name] = {
                "kind": source.kind,
                "address": str(source.address),
                "meter": sampler.identity,
                "seconds_since": None if seen is None else round(now - seen),
                "clock_off_s": round(sampler.drift_s),
                "frozen": any(channel.frozen for channel in channels),
                "faults": dict(faults),
                "last_problem": sampler.last_problem or (system and system.problem),
            }
        return {
            "id": self.settings.id,
            "meter": self.settings.meter,
            "zone": self.settings.zone,
            "pid": os.getpid(),
            "at": round(now),
            "ok": not problems,
            "problems": problems,
            "faults": dict(self.faults),
            "sources": sources,
            "outbox": {
                "sequence": None if head is None else head.sequence,
                "unsigned": counts.unsigned,
                "held": len(self._held),
                "waiting": counts.waiting,
                "acknowledged": counts.acknowledged,
                "refused": counts.refused,
                "used_bytes": counts.used_bytes,
                "limit_bytes": counts.limit_bytes,
            },
            "uplink": {
                "failures": self.uplink.failures,
                "faults": dict(self.uplink.faults),
                "acknowledged_at": self.uplink.acknowledged_at,
            },
            "keys": [
                {"address": one.address, "valid_from": one.valid_from, "in_use": one.confirmed}
                for one in self.keys.addresses
            ],
            "devices": {
                one.settings.name: {"faults": dict(one.faults), "problem": one.problem}
                for one in self.dispatchers
            },
        }

    def _tell(self) -> None:
        """Write the status beside the outbox, whole or not at all."""
        path = self.settings.status
        fresh = path.with_name(path.name + ".new")
        with contextlib.suppress(OSError):
            fresh.write_text(json.dumps(self.status(), indent=1) + "\n", encoding="utf-8")
            fresh.replace(path)


def _secret(file: Path | None) -> str | None:
    """A password or token of another service in a file, None where none is named."""
    return None if file is None else read_password(file)


def _hex_key(file: Path) -> bytes:
    try:
        return bytes.fromhex(read_password(file).strip())
    except ValueError:
        raise CheckFailed(f"{file} does not hold a key in hexadecimal") from None
