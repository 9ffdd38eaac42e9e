# SPDX-License-Identifier: Apache-2.0
"""A charge point that speaks OCPP 1.6J: the client of a central system, over a WebSocket.

It tells of cars and meter values, and obeys charging profiles. Cars and limits are in `outlet` and
`charging`; how messages reach it, over the ocpp library, is in `ocpp_link`.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlsplit

from dao.errors import BadUse
from meters.simulate.charging import (
    CHARGE_POINT_MAX,
    MAX_PERIODS,
    MAX_PROFILES,
    MAX_STACK_LEVEL,
    TX,
    VOLTS,
    Car,
    Profile,
    composite,
    installed,
)
from meters.simulate.clock import Clock
from meters.simulate.faults import Fault, FaultKind
from meters.simulate.ocpp_link import CONNECTOR, Wire, listen, speaker
from meters.simulate.outlet import Began, Ended, Event, Outlet, Sampled, Turned
from meters.simulate.signed import SigningMeter
from meters.simulate.wire import Device, State

RETRY_SECONDS = 1.0
"""Real seconds between two attempts to reach the central system."""
WIDTH_WH = 10**9
ID_TAG = "GRIDCOMMONS"
MAX_QUEUE = 10_000
"""Messages kept for a central system that is away; the oldest meter values go first."""


@dataclass(frozen=True)
class ChargeState(State):
    """limit_w: what the profiles allow, None without one; status in OCPP's words."""

    status: str
    limit_w: int | None
    session: int | None
    connected: bool


@dataclass(frozen=True)
class _Message:
    """`make` builds the call when it is sent: a transaction's number is known only then."""

    make: Callable[[], Any]
    kind: str
    session: int | None = None


class ChargePoint(Device):
    """A charge point with one outlet that connects to `csms` (ws://HOST:PORT/PATH).

    Transactions and meter values are kept while the central system is away, and sent in order.
    The fault `slow` has no meaning here.
    """

    kind = "ocpp"

    def __init__(
        self,
        cars: Iterable[Car],
        clock: Clock,
        *,
        csms: str,
        identity: str = "GC-CP-1",
        cable_w: int = 11_000,
        meter_start_wh: int = 0,
        faults: Iterable[Fault] = (),
    ) -> None:
        super().__init__(clock, faults)
        if urlsplit(csms).scheme not in ("ws", "wss") or not urlsplit(csms).hostname:
            raise BadUse(f"central system {csms!r}: expected ws://HOST:PORT/PATH")
        if not identity or len(identity) > 36:
            raise BadUse("a charge point's identity has 1 to 36 characters")
        self.csms, self.identity = csms, identity
        self.outlet = Outlet(cars, cable_w, clock(), meter_start_wh)
        self.heartbeat_seconds = 300
        self.connected = False
        self._queue: deque[_Message] = deque()
        self._sendable = asyncio.Event()
        self._changed = asyncio.Event()
        self._transactions: dict[int, int] = {}
        self.meter = SigningMeter(identity)
        self._begun: dict[int, tuple[float, int]] = {}

    @property
    def address(self) -> str:
        return f"{self.csms.rstrip('/')}/{quote(self.identity, safe='')}"

    @property
    def transaction(self) -> int | None:
        """The central system's number for the car that charges; None before it has given one."""
        session = self.outlet.session
        return None if session is None else self._transactions.get(session)

    @property
    def idle(self) -> bool:
        """Whether the central system has been told all that happened until now."""
        return self.connected and not self._queue and self.outlet.now >= self.clock()

    def state(self) -> ChargeState:
        at = self.clock()
        shown = State.of(at, self.faults.shown(self.outlet, at, 1, WIDTH_WH))
        return ChargeState(
            at,
            shown.import_wh,
            shown.export_wh,
            shown.import_w,
            shown.export_w,
            self.outlet.status,
            self.outlet.limit_w,
            self.outlet.session,
            self.connected,
        )

    async def _start(self) -> None:
        # It logs every message, and a refused call with a traceback.
        logging.getLogger("ocpp").setLevel(logging.CRITICAL)
        self._own(asyncio.create_task(self._live()))
        self._own(asyncio.create_task(self._stay()))

    # The life of the outlet.

    async def _live(self) -> None:
        while True:
            self._tell(self.outlet.run_to(self.clock()))
            self._changed.clear()
            waits = [
                asyncio.create_task(self.clock.sleep_until(self.outlet.next_event)),
                asyncio.create_task(_set(self._changed)),
            ]
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()

    def _tell(self, events: Iterable[Event]) -> None:
        """Put what happened into the queue."""
        for event in events:
            match event:
                case Began():
                    self._put(self._start_call(event), "StartTransaction", event.session)
                case Ended():
                    self._put(self._stop_call(event), "StopTransaction", event.session)
                case Turned():
                    self._put(self._status_call(event.at, event.status), "StatusNotification")
                case Sampled():
                    context = "Sample.Clock" if event.aligned else "Sample.Periodic"
                    self._put(self._values_call(event, context), "MeterValues", event.session)

    def _put(self, make: Callable[[], Any], kind: str, session: int | None = None) -> None:
        if len(self._queue) >= MAX_QUEUE:
            oldest = next((one for one in self._queue if one.kind == "MeterValues"), None)
            if oldest is not None:
                self._queue.remove(oldest)
        self._queue.append(_Message(make, kind, session))
        self._sendable.set()

    def _meter(self, at: float) -> int:
        return self.faults.shown(self.outlet, at, 1, WIDTH_WH).import_register

    def _time(self, at: float) -> str:
        return _stamp(self.faults.shown(self.outlet, at, 1, WIDTH_WH).clock)

    def _start_call(self, event: Began) -> Callable[[], Any]:
        from ocpp.v16 import call

        meter, time = self._meter(event.at), self._time(event.at)
        self._begun[event.session] = event.at, meter
        return lambda: call.StartTransaction(CONNECTOR, ID_TAG, meter, time)

    def _stop_call(self, event: Ended) -> Callable[[], Any]:
        from ocpp.v16 import call

        meter, time = self._meter(event.at), self._time(event.at)
        record = self.meter.record(ID_TAG, self._begun.pop(event.session), (event.at, meter))
        signed = {
            "value": record,
            "format": "SignedData",
            "context": "Transaction.End",
            "measurand": "Energy.Active.Import.Register",
        }
        data = [{"timestamp": time, "sampledValue": [signed]}]
        return lambda: call.StopTransaction(
            meter, time, self._transactions[event.session], event.reason, ID_TAG, data
        )

    def _status_call(self, at: float, status: str) -> Callable[[], Any]:
        from ocpp.v16 import call

        time = self._time(at)
        return lambda: call.StatusNotification(CONNECTOR, "NoError", status, time)

    def _values_call(self, event: Sampled, context: str) -> Callable[[], Any]:
        from ocpp.v16 import call

        shown = self.faults.shown(self.outlet, event.at, 1, WIDTH_WH)
        rows = (
            ("Energy.Active.Import.Register", shown.import_register, "Wh"),
            ("Power.Active.Import", shown.import_w, "W"),
            ("Power.Offered", event.offered_w, "W"),
        )
        values = [
            {"value": str(value), "context": context, "measurand": name, "unit": unit}
            for name, value, unit in rows
        ]
        entry = [{"timestamp": _stamp(shown.clock), "sampledValue": values}]

        def make() -> Any:
            session = event.session
            number = None if session is None else self._transactions.get(session)
            return call.MeterValues(CONNECTOR, entry, number)

        return make

    # The connection.

    async def _stay(self) -> None:
        from ocpp.exceptions import OCPPError
        from websockets.asyncio.client import connect
        from websockets.exceptions import WebSocketException
        from websockets.typing import Subprotocol

        while True:
            with suppress(OSError, WebSocketException, TimeoutError, OCPPError):
                async with connect(self.address, subprotocols=[Subprotocol("ocpp1.6")]) as socket:
                    await self._speak(socket)
            self.connected = False
            await asyncio.sleep(RETRY_SECONDS)

    async def _speak(self, socket: Any) -> None:
        point = speaker(self, Wire(self, socket))
        tasks = [
            asyncio.create_task(listen(point)),
            asyncio.create_task(self._converse(point)),
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _converse(self, point: Any) -> None:
        from ocpp.v16 import call

        while True:
            answer = await point.call(
                call.BootNotification(
                    charge_point_model="Simulated",
                    charge_point_vendor="GridCommons",
                    charge_point_serial_number=self.identity[:25],
                    firmware_version="1",
                )
            )
            interval = int(getattr(answer, "interval", 0) or 0)
            if answer is not None and answer.status == "Accepted":
                break
            await asyncio.sleep(max(RETRY_SECONDS, min(interval, 60)))
        if interval > 0:
            self.heartbeat_seconds = interval
        # What was to be told of the past is old news; how it stands now is said first.
        self._queue = deque(one for one in self._queue if one.kind != "StatusNotification")
        await point.call(self._status_call(self.clock(), self.outlet.status)())
        self.connected = True
        beating = asyncio.create_task(self._beat(point))
        try:
            while True:
                while self._queue:
                    message = self._queue[0]
                    await self._deliver(point, message)
                    # A full queue may have dropped it meanwhile.
                    if self._queue and self._queue[0] is message:
                        self._queue.popleft()
                self._sendable.clear()
                await self._sendable.wait()
        finally:
            beating.cancel()

    async def _deliver(self, point: Any, message: _Message) -> None:
        """Send one message; it stays first in the queue until it is answered."""
        if message.kind == "StopTransaction" and message.session not in self._transactions:
            return
        answer = await point.call(message.make())
        if message.kind == "StartTransaction" and message.session is not None:
            if answer is None:
                return
            self._transactions[message.session] = int(answer.transaction_id)
            accepted = (answer.id_tag_info or {}).get("status") == "Accepted"
            if not accepted and self.outlet.session == message.session:
                self._tell(self.outlet.deny(self.clock()))
                self._changed.set()

    async def _beat(self, point: Any) -> None:
        from ocpp.v16 import call

        while True:
            step = self.clock.stride(self.heartbeat_seconds)
            await self.clock.sleep_until(self.clock() + step)
            await point.call(call.Heartbeat())

    # What the central system asks.

    def set_profile(self, connector: int, payload: dict[str, Any]) -> str:
        """Install a profile; the answer is `Accepted` or `Rejected`."""
        if self.faults.active(FaultKind.REFUSE, self.clock()):
            return "Rejected"
        if connector not in (0, CONNECTOR):
            return "Rejected"
        try:
            profile = Profile.parse(connector, payload)
            if profile.purpose == CHARGE_POINT_MAX and connector != 0:
                return "Rejected"
            if profile.purpose == TX:
                self._tell(self.outlet.run_to(self.clock()))
                if self.outlet.session is None or connector == 0:
                    return "Rejected"
                if profile.transaction not in (None, self.transaction):
                    return "Rejected"
            profiles = installed(self.outlet.profiles, profile)
        except BadUse:
            return "Rejected"
        self._install(profiles)
        return "Accepted"

    def clear_profiles(
        self, number: int | None, connector: int | None, purpose: str | None, level: int | None
    ) -> str:
        """Remove the profiles that all given criteria name; `Unknown` if there is none."""
        kept = tuple(
            one
            for one in self.outlet.profiles
            if not (
                number in (None, one.number)
                and connector in (None, one.connector)
                and purpose in (None, one.purpose)
                and level in (None, one.level)
            )
        )
        if len(kept) == len(self.outlet.profiles):
            return "Unknown"
        self._install(kept)
        return "Accepted"

    def _install(self, profiles: tuple[Profile, ...]) -> None:
        self._tell(self.outlet.install(profiles, self.clock()))
        self._changed.set()

    def schedule(self, seconds: int, unit: str | None) -> dict[str, Any]:
        """The limits of the coming seconds, in W or A on three phases."""
        now = self.clock()
        at, periods = now, list[dict[str, Any]]()
        while at < now + seconds and len(periods) < MAX_PERIODS:
            watts, change = composite(self.outlet.profiles, at, self.outlet.began)
            watts = self.outlet.cable_w if watts is None else min(watts, self.outlet.cable_w)
            limit = watts if unit != "A" else math.floor(watts * 10 / (3 * VOLTS)) / 10
            if not periods or periods[-1]["limit"] != limit:
                periods.append({"start_period": round(at - now), "limit": limit})
            at = change
        return {
            "duration": seconds,
            "start_schedule": _stamp(now),
            "charging_rate_unit": unit or "W",
            "charging_schedule_period": periods,
        }

    def settings(self) -> dict[str, tuple[str, bool]]:
        """OCPP's configuration keys: value, and whether it is read only."""
        return {
            "HeartbeatInterval": (str(self.heartbeat_seconds), False),
            "ClockAlignedDataInterval": (str(self.outlet.aligned_seconds), False),
            "MeterValueSampleInterval": (str(self.outlet.sample_seconds), False),
            "NumberOfConnectors": ("1", True),
            "SupportedFeatureProfiles": ("Core,SmartCharging,RemoteTrigger", True),
            "ChargeProfileMaxStackLevel": (str(MAX_STACK_LEVEL), True),
            "ChargingScheduleAllowedChargingRateUnit": ("Current,Power", True),
            "ChargingScheduleMaxPeriods": (str(MAX_PERIODS), True),
            "MaxChargingProfilesInstalled": (str(MAX_PROFILES), True),
        }

    def change(self, key: str, value: str) -> str:
        """Set a configuration key; the answer is OCPP's."""
        known = self.settings().get(key)
        if known is None:
            return "NotSupported"
        if known[1] or not value.isdecimal() or not 0 <= int(value) <= 86_400:
            return "Rejected"
        seconds = int(value)
        self._tell(self.outlet.run_to(self.clock()))
        if key == "HeartbeatInterval":
            if seconds == 0:
                return "Rejected"
            self.heartbeat_seconds = seconds
        elif key == "ClockAlignedDataInterval":
            self.outlet.aligned_seconds = seconds
        else:
            self.outlet.sample_seconds = seconds
        self._changed.set()
        return "Accepted"

    def trigger(self, message: str) -> bool:
        """Send a message out of turn; False if it cannot."""
        at = self.clock()
        self._tell(self.outlet.run_to(at))
        if message == "StatusNotification":
            self._put(self._status_call(at, self.outlet.status), message)
        elif message == "MeterValues":
            sample = Sampled(at, self.outlet.session, self.outlet.offered_w, False)
            self._put(self._values_call(sample, "Trigger"), message, sample.session)
        else:
            return False
        return True


async def _set(event: asyncio.Event) -> None:
    await event.wait()


def _stamp(at: float) -> str:
    text = datetime.fromtimestamp(round(at * 1000) / 1000, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")
