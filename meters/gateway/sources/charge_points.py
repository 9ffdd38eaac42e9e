# SPDX-License-Identifier: Apache-2.0
"""Charge points: OCPP 1.6J, with the gateway as their central system. They connect to it.

Their meter values are handed on as registers; limits are set through `limit`. Who may charge is not
decided here: every card is accepted, as at a private wall box.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from dao.errors import BadUse, CheckFailed
from meters.adapters.engine import MeterReading
from meters.adapters.fields import instant, number, watt_hours
from meters.gateway.clock import Clock
from meters.gateway.settings import SourceSettings
from meters.readings import Quality

SUBPROTOCOL = "ocpp1.6"
PROFILE_ID = 1_000
SAMPLE_S = 60
_HEARTBEAT_S = 300
_ANSWER_S = 10.0
_MOST_POINTS = 32
_MAX_MESSAGE = 1 << 16
_ID = re.compile(r"[A-Za-z0-9_.:-]{1,48}")

Take = Callable[[list[MeterReading], float], None]


class CentralSystem:
    """Listens for charge points and keeps the latest connection of each."""

    def __init__(
        self, settings: SourceSettings, clock: Clock, take: Take, password: str | None
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._take = take
        self._password = password
        self._points: dict[str, Any] = {}
        self._transactions = int(clock())
        self.port: int | None = None
        self.faults: Counter[str] = Counter()
        self.problem: str | None = None

    @property
    def connected(self) -> list[str]:
        """Ids of the charge points that are connected."""
        return sorted(self._points)

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """The server, as long as the context lasts. BadUse where it cannot listen."""
        from websockets.asyncio.server import basic_auth, serve

        # The library logs every message, values and all.
        logging.getLogger("ocpp").setLevel(logging.CRITICAL)
        logging.getLogger("websockets").setLevel(logging.CRITICAL)
        address = self._settings.address
        check = None
        if self._password is not None:
            check = basic_auth(realm="gridcommons", check_credentials=self._is_known)
        try:
            server = await serve(
                self._serve,
                address.host,
                address.port(0),
                subprotocols=[SUBPROTOCOL],  # type: ignore[list-item]
                process_request=check,
                max_size=_MAX_MESSAGE,
            )
        except OSError as error:
            raise BadUse(f"cannot listen on {address}: {error.strerror}") from None
        async with server:
            self.port = next(iter(server.sockets)).getsockname()[1]
            yield

    def _is_known(self, _: str, password: str) -> bool:
        return hmac.compare_digest(password.encode(), (self._password or "").encode())

    async def _serve(self, connection: Any) -> None:
        from websockets.exceptions import ConnectionClosed

        name = connection.request.path.rstrip("/").rpartition("/")[2]
        wanted = {channel.partition("/")[0] for channel in self._settings.channels}
        if (
            connection.subprotocol != SUBPROTOCOL
            or not _ID.fullmatch(name)
            or (wanted and name not in wanted)
            or (name not in self._points and len(self._points) >= _MOST_POINTS)
        ):
            self.faults["turned_away"] += 1
            await connection.close(1008, "not expected here")
            return
        point = _point_class()(name, connection, self)
        self._points[name] = point
        try:
            await point.start()
        except ConnectionClosed:
            pass
        except Exception as error:  # the library does not foresee every malformed message
            self.faults["malformed"] += 1
            self.problem = f"{name}: {type(error).__name__}"
        finally:
            if self._points.get(name) is point:
                del self._points[name]

    # What the points tell

    def now(self) -> str:
        """The time as OCPP writes it."""
        return datetime.fromtimestamp(self._clock(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def next_transaction(self) -> int:
        """A number that no transaction had before."""
        self._transactions += 1
        return self._transactions

    def meter_values(self, name: str, connector: int, values: Any) -> None:
        """Energy registers out of a message's meter values; what is no register is left out."""
        readings = []
        try:
            for one in values:
                at = instant(one["timestamp"], "timestamp")
                for sample in one["sampled_value"]:
                    measurand = sample.get("measurand", "Energy.Active.Import.Register")
                    if measurand != "Energy.Active.Import.Register" or sample.get("phase"):
                        continue
                    if sample.get("format", "Raw") != "Raw":
                        continue
                    exact = number(sample["value"], measurand)
                    wh = watt_hours(exact, sample.get("unit", "Wh"), measurand)
                    readings.append(_register(f"{name}/{connector}", at, wh))
        except (BadUse, KeyError, TypeError, AttributeError) as error:
            self.faults["unreadable"] += 1
            self.problem = f"{name}: meter values cannot be read ({error})"
            return
        if readings:
            self._take(readings, self._clock())

    # What they are told

    async def limit(self, name: str, watts: int, seconds: int) -> bool:
        """Let a charge point draw at most so many W, all connectors together, for some seconds.

        False where it refuses. Raises CheckFailed where it does not answer.
        """
        from ocpp.v16 import call
        from ocpp.v16.datatypes import ChargingProfile, ChargingSchedule, ChargingSchedulePeriod
        from ocpp.v16.enums import (
            ChargingProfileKindType,
            ChargingProfilePurposeType,
            ChargingRateUnitType,
        )

        schedule = ChargingSchedule(
            ChargingRateUnitType.watts,
            [ChargingSchedulePeriod(start_period=0, limit=float(watts))],
            duration=seconds,
            start_schedule=self.now(),
        )
        profile = ChargingProfile(
            PROFILE_ID,
            0,
            ChargingProfilePurposeType.charge_point_max_profile,
            ChargingProfileKindType.absolute,
            schedule,
        )
        answer = await self._call(name, call.SetChargingProfile(0, profile))
        return str(answer.status) == "Accepted"

    async def free(self, name: str) -> bool:
        """Take the limit back. True also where there was none."""
        from ocpp.v16 import call

        answer = await self._call(name, call.ClearChargingProfile(id=PROFILE_ID))
        return str(answer.status) in ("Accepted", "Unknown")

    async def _call(self, name: str, payload: Any) -> Any:
        from ocpp.exceptions import OCPPError
        from websockets.exceptions import ConnectionClosed

        point = self._points.get(name)
        if point is None:
            raise CheckFailed(f"charge point {name} is not connected")
        try:
            async with asyncio.timeout(_ANSWER_S):
                answer = await point.call(payload, suppress=False)
        except (OCPPError, ConnectionClosed, TimeoutError, OSError) as error:
            raise CheckFailed(f"charge point {name}: {type(error).__name__}") from None
        if answer is None:
            raise CheckFailed(f"charge point {name} does not know {type(payload).__name__}")
        return answer

    async def configure(self, name: str) -> None:
        """Ask for registers on a grid that meets every quarter-hour; one that cannot goes on."""
        from ocpp.v16 import call

        for key, value in (
            ("MeterValuesAlignedData", "Energy.Active.Import.Register"),
            ("ClockAlignedDataInterval", str(SAMPLE_S)),
        ):
            with contextlib.suppress(CheckFailed):
                await self._call(name, call.ChangeConfiguration(key, value))


def _register(meter: str, at: datetime, wh: Any) -> MeterReading:
    whole = None if wh is None else int(wh)
    return MeterReading(meter, None, at, whole, None, True, Quality.MEASURED, None)


_classes: dict[str, Any] = {}


def _point_class() -> Any:
    """The library's charge point with our answers; made late, its schemas are heavy."""
    if "point" in _classes:
        return _classes["point"]
    from ocpp.routing import after, on
    from ocpp.v16 import ChargePoint, call_result
    from ocpp.v16.enums import Action, AuthorizationStatus, DataTransferStatus, RegistrationStatus

    accepted = {"status": AuthorizationStatus.accepted}

    class Point(ChargePoint):
        def __init__(self, name: str, connection: Any, system: CentralSystem) -> None:
            super().__init__(name, connection, response_timeout=int(_ANSWER_S))
            self._system = system
            self._configuring: asyncio.Task[None] | None = None

        @on(Action.boot_notification)
        def on_boot(self, **_: Any) -> Any:
            return call_result.BootNotification(
                self._system.now(), _HEARTBEAT_S, RegistrationStatus.accepted
            )

        @after(Action.boot_notification)
        def after_boot(self, **_: Any) -> None:
            self._configuring = asyncio.create_task(self._system.configure(self.id))

        @on(Action.heartbeat)
        def on_heartbeat(self, **_: Any) -> Any:
            return call_result.Heartbeat(self._system.now())

        @on(Action.authorize)
        def on_authorize(self, **_: Any) -> Any:
            return call_result.Authorize(accepted)

        @on(Action.status_notification)
        def on_status(self, **_: Any) -> Any:
            return call_result.StatusNotification()

        @on(Action.start_transaction)
        def on_start(self, **_: Any) -> Any:
            return call_result.StartTransaction(self._system.next_transaction(), accepted)

        @on(Action.stop_transaction)
        def on_stop(self, **_: Any) -> Any:
            return call_result.StopTransaction(accepted)

        @on(Action.data_transfer)
        def on_data(self, **_: Any) -> Any:
            return call_result.DataTransfer(DataTransferStatus.unknown_vendor_id)

        @on(Action.meter_values)
        def on_values(self, connector_id: int, meter_value: Any, **_: Any) -> Any:
            self._system.meter_values(self.id, connector_id, meter_value)
            return call_result.MeterValues()

    _classes["point"] = Point
    return Point


def limits_of(statuses: Mapping[str, bool | str]) -> str:
    """What several charge points said, in one line."""
    words = {True: "accepted", False: "refused"}
    return ", ".join(
        f"{name} {words[said] if isinstance(said, bool) else said}"
        for name, said in sorted(statuses.items())
    )
