# SPDX-License-Identifier: Apache-2.0
"""Meters and inverters that answer over HTTP in the local network: HomeWizard, Fronius, Shelly.

A few lines of HTTP/1.1 as such devices speak it: GET, one answer a connection. What they say over
MQTT is in `mqtt`; the payloads are shared.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit
from zoneinfo import ZoneInfo

from meters.simulate.clock import Clock
from meters.simulate.faults import Fault, Shown
from meters.simulate.payloads import (
    SHELLY_PER_WH,
    WIDTH_WH,
    homewizard,
    shelly_em,
    shelly_emdata,
    shelly_name,
)
from meters.simulate.truth import Truth
from meters.simulate.wire import State, TcpDevice

Answer = dict[str, Any] | None
"""JSON to send; None where the device has no such page."""
Routes = Mapping[str, Callable[[float, Mapping[str, str]], Answer]]


class HttpDevice(TcpDevice):
    """Answers GET with JSON. `routes` maps a path to what makes the answer of a moment."""

    routes: Routes

    @property
    def address(self) -> str:
        return f"http://{self.host}:{self.port}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            return
        at = self.clock()
        words = head.partition(b"\r\n")[0].decode("latin-1").split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            status, body = "400 Bad Request", b"{}"
        elif words[0] != "GET":
            status, body = "405 Method Not Allowed", b"{}"
        else:
            status, body = self._answer(words[1], at)
        lines = (
            f"HTTP/1.1 {status}",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
            "Connection: close",
        )
        await self._send(writer, "\r\n".join(lines).encode() + b"\r\n\r\n" + body, at)

    def _answer(self, target: str, at: float) -> tuple[str, bytes]:
        try:
            parts = urlsplit(target)
            query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
        except ValueError:
            return "400 Bad Request", b"{}"
        route = self.routes.get(parts.path)
        answer = route(at, query) if route else None
        if answer is None:
            return "404 Not Found", b'{"error": "not found"}'
        return "200 OK", json.dumps(answer, separators=(",", ":")).encode()


class HomeWizardMeter(HttpDevice):
    """A HomeWizard P1 meter, local API v1."""

    kind = "homewizard"

    def __init__(
        self,
        truth: Truth,
        clock: Clock,
        *,
        serial: str = "3c39e7000001",
        host: str = "127.0.0.1",
        port: int = 0,
        faults: Iterable[Fault] = (),
    ) -> None:
        super().__init__(clock, host=host, port=port, faults=faults)
        self.truth, self.serial = truth, serial
        about = {
            "product_type": "HWE-P1",
            "product_name": "P1 Meter",
            "serial": serial,
            "firmware_version": "5.18",
            "api_version": "v1",
        }
        self.routes = {
            "/api": lambda at, query: about,
            "/api/v1/data": lambda at, query: homewizard(self._shown(at), serial),
        }

    def _shown(self, at: float) -> Shown:
        return self.faults.shown(self.truth, at, 1, WIDTH_WH)

    def state(self) -> State:
        at = self.clock()
        return State.of(at, self._shown(at))


class ShellyMeter(HttpDevice):
    """A Shelly Pro 3EM, RPC over HTTP; see `mqtt.ShellyPublisher` for its messages."""

    kind = "shelly"

    def __init__(
        self,
        truth: Truth,
        clock: Clock,
        *,
        mac: str = "A8032AB00001",
        host: str = "127.0.0.1",
        port: int = 0,
        faults: Iterable[Fault] = (),
    ) -> None:
        super().__init__(clock, host=host, port=port, faults=faults)
        self.truth = truth
        self.routes = {
            "/rpc/EM.GetStatus": self._first(shelly_em),
            "/rpc/EMData.GetStatus": self._first(shelly_emdata),
            "/rpc/Shelly.GetStatus": lambda at, query: self._status(at, mac),
            "/rpc/Shelly.GetDeviceInfo": lambda at, query: {
                "id": shelly_name(mac),
                "mac": mac,
                "model": "SPEM-003CEBEU",
                "gen": 2,
                "app": "Pro3EM",
                "profile": "triphase",
            },
        }

    def _first(
        self, payload: Callable[[Shown], dict[str, Any]]
    ) -> Callable[[float, Mapping[str, str]], Answer]:
        """There is one component of each kind, number 0."""

        def answer(at: float, query: Mapping[str, str]) -> Answer:
            return payload(self._shown(at)) if query.get("id", "0") == "0" else None

        return answer

    def _status(self, at: float, mac: str) -> Answer:
        shown = self._shown(at)
        return {
            "em:0": shelly_em(shown),
            "emdata:0": shelly_emdata(shown),
            "sys": {"mac": mac, "unixtime": int(shown.clock)},
        }

    def _shown(self, at: float) -> Shown:
        return self.faults.shown(self.truth, at, SHELLY_PER_WH, WIDTH_WH)

    def state(self) -> State:
        at = self.clock()
        return State.of(at, self._shown(at))


class FroniusInverter(HttpDevice):
    """A Fronius inverter, Solar API v1, with its meter at the grid; `roof.export_wh` is its yield.

    Registers are whole Wh. Without a roof there is a meter only.
    """

    kind = "fronius"

    def __init__(
        self,
        truth: Truth,
        clock: Clock,
        *,
        roof: Truth | None = None,
        serial: str = "19440001",
        timezone: str = "Europe/Vienna",
        host: str = "127.0.0.1",
        port: int = 0,
        faults: Iterable[Fault] = (),
    ) -> None:
        super().__init__(clock, host=host, port=port, faults=faults)
        self.truth, self.roof, self.serial = truth, roof, serial
        self._timezone = ZoneInfo(timezone)
        base = "/solar_api/v1/"
        self.routes = {
            "/solar_api/GetAPIVersion.cgi": lambda at, query: {
                "APIVersion": 1,
                "BaseURL": base,
                "CompatibilityRange": "1.8-1",
            },
            base + "GetMeterRealtimeData.cgi": self._meter,
            base + "GetInverterRealtimeData.cgi": self._inverter,
            base + "GetPowerFlowRealtimeData.fcgi": self._flow,
        }

    def _shown(self, at: float) -> Shown:
        return self.faults.shown(self.truth, at, 1, WIDTH_WH)

    def state(self) -> State:
        at = self.clock()
        return State.of(at, self._shown(at))

    def _meter(self, at: float, query: Mapping[str, str]) -> Answer:
        shown = self._shown(at)
        meter = {
            "Details": {
                "Manufacturer": "Fronius",
                "Model": "Smart Meter 63A",
                "Serial": self.serial,
            },
            "Enable": 1,
            "EnergyReal_WAC_Minus_Absolute": shown.export_register,
            "EnergyReal_WAC_Plus_Absolute": shown.import_register,
            "EnergyReal_WAC_Sum_Consumed": shown.import_register,
            "EnergyReal_WAC_Sum_Produced": shown.export_register,
            "Meter_Location_Current": 0,
            "PowerReal_P_Sum": float(shown.import_w - shown.export_w),
            "TimeStamp": int(shown.clock),
            "Visible": 1,
        }
        arguments = {"DeviceClass": "Meter", "Scope": query.get("Scope", "System")}
        if arguments["Scope"] == "System":
            return self._answered({"0": meter}, arguments, shown.clock)
        if query.get("DeviceId") != "0":
            return self._unknown(arguments, shown.clock)
        return self._answered(meter, {**arguments, "DeviceId": "0"}, shown.clock)

    def _inverter(self, at: float, query: Mapping[str, str]) -> Answer:
        arguments = {
            "DeviceClass": "Inverter",
            "DeviceId": query.get("DeviceId", ""),
            "Scope": query.get("Scope", "Device"),
            "DataCollection": query.get("DataCollection", ""),
        }
        if self.roof is None or query.get("DeviceId") != "1":
            return self._unknown(arguments, at)
        shown = self.faults.shown(self.roof, at, 1, WIDTH_WH)
        data = {
            "TOTAL_ENERGY": {"Unit": "Wh", "Value": shown.export_register},
            "PAC": {"Unit": "W", "Value": shown.export_w},
            "DeviceStatus": {"ErrorCode": 0, "StatusCode": 7 if shown.export_w else 3},
        }
        return self._answered(data, arguments, shown.clock)

    def _flow(self, at: float, query: Mapping[str, str]) -> Answer:
        grid = self._shown(at)
        site: dict[str, Any] = {
            "Mode": "meter",
            "P_Grid": float(grid.import_w - grid.export_w),
            "P_PV": None,
            "E_Total": None,
        }
        inverters: dict[str, Any] = {}
        if self.roof is not None:
            own = self.faults.shown(self.roof, at, 1, WIDTH_WH)
            site |= {"P_PV": float(own.export_w), "E_Total": own.export_register}
            inverters["1"] = {"DT": 102, "P": own.export_w, "E_Total": own.export_register}
        return self._answered(
            {"Site": site, "Inverters": inverters, "Version": "12"}, {}, grid.clock
        )

    def _answered(self, data: Any, arguments: Mapping[str, str], clock: float) -> Answer:
        return {
            "Body": {"Data": data},
            "Head": {
                "RequestArguments": dict(arguments),
                "Status": {"Code": 0, "Reason": "", "UserMessage": ""},
                "Timestamp": self._time(clock),
            },
        }

    def _unknown(self, arguments: Mapping[str, str], clock: float) -> Answer:
        return {
            "Body": {"Data": {}},
            "Head": {
                "RequestArguments": dict(arguments),
                "Status": {"Code": 6, "Reason": "device not found", "UserMessage": ""},
                "Timestamp": self._time(clock),
            },
        }

    def _time(self, clock: float) -> str:
        local = datetime.fromtimestamp(int(clock), UTC).astimezone(self._timezone)
        return local.isoformat(timespec="seconds")
