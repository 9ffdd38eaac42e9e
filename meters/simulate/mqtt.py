# SPDX-License-Identifier: Apache-2.0
"""Meters that publish over MQTT: Tasmota (its own meters and its SML script), Shelly, and
HomeWizard as a bridge republishes it.

They are clients of a broker that runs elsewhere, and come back when it does.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from abc import abstractmethod
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from dao.errors import BadUse
from meters.simulate.clock import Clock, ticks
from meters.simulate.faults import Fault, FaultKind, Shown
from meters.simulate.payloads import (
    SHELLY_PER_WH,
    TASMOTA_PER_WH,
    WIDTH_WH,
    homewizard,
    shelly_name,
    shelly_notification,
    tasmota_energy,
    tasmota_script,
)
from meters.simulate.truth import Truth
from meters.simulate.wire import Device, State, corrupted

RETRY_SECONDS = 1.0
"""Real seconds between two attempts to reach the broker."""


def broker_address(url: str) -> tuple[str, int]:
    """Host and port of `mqtt://HOST:PORT`."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or 1883
    except ValueError:
        host, port = None, 0
    if not host or parts.scheme != "mqtt":
        raise BadUse(f"broker {url!r}: expected mqtt://HOST:PORT")
    return host, port


class MqttPublisher(Device):
    """Publishes a payload per period of device time to `broker`, a URL mqtt://HOST:PORT.

    `published` counts what the broker has taken. The faults `slow` and `refuse` have no meaning
    here; `drop` publishes half a payload and leaves.
    """

    per_wh: int = TASMOTA_PER_WH

    def __init__(
        self,
        truth: Truth,
        clock: Clock,
        *,
        broker: str,
        name: str,
        period: int = 60,
        timezone: str = "Europe/Berlin",
        faults: Iterable[Fault] = (),
    ) -> None:
        super().__init__(clock, faults)
        if not name or any(sign in name for sign in "/+#"):
            raise BadUse(f"name {name!r} cannot be part of an MQTT topic")
        if period < 1:
            raise BadUse(f"a period of {period} s is too short: 1 s at least")
        self.truth, self.broker, self.name, self.period = truth, broker, name, period
        self.timezone = ZoneInfo(timezone)
        self.published = 0
        self.connected = False
        self._host, self._port = broker_address(broker)

    @property
    @abstractmethod
    def topic(self) -> str:
        """Where its payloads appear."""

    @abstractmethod
    def payload(self, shown: Shown) -> dict[str, Any]:
        """What it says of a moment."""

    @property
    def presence(self) -> tuple[str, str, str] | None:
        """Topic, and payloads while it is there and after (last will), where the maker has one."""
        return None

    @property
    def address(self) -> str:
        return f"{self.broker.rstrip('/')}/{self.topic}"

    def _shown(self, at: float) -> Shown:
        return self.faults.shown(self.truth, at, self.per_wh, WIDTH_WH)

    def state(self) -> State:
        at = self.clock()
        return State.of(at, self._shown(at))

    async def _start(self) -> None:
        self._own(asyncio.create_task(self._stay()))

    async def _stay(self) -> None:
        from aiomqtt import Client, MqttError, Will

        # paho logs a lost connection, which is this module's daily bread.
        logging.getLogger("mqtt").setLevel(logging.CRITICAL)
        presence = self.presence
        while True:
            will = Will(presence[0], presence[2], qos=1, retain=True) if presence else None
            try:
                async with Client(
                    self._host, self._port, identifier=f"gridcommons-{self.name}", will=will
                ) as client:
                    self.connected = True
                    if presence:
                        await client.publish(presence[0], presence[1], qos=1, retain=True)
                    async for at in ticks(self.clock, self.period):
                        await self._publish(client, at)
                        if self.faults.active(FaultKind.DROP, at):
                            _cut(client)
                            break
            except (MqttError, OSError):
                pass
            self.connected = False
            await asyncio.sleep(RETRY_SECONDS)

    async def _publish(self, client: Any, at: float) -> None:
        if self.faults.active(FaultKind.SILENT, at):
            return
        data = json.dumps(self.payload(self._shown(at)), separators=(",", ":")).encode()
        if self.faults.active(FaultKind.CORRUPT, at):
            data = corrupted(data)
        if self.faults.active(FaultKind.DROP, at):
            data = data[: len(data) // 2]
        await client.publish(self.topic, data, qos=1)
        self.published += 1


def _cut(client: Any) -> None:
    """End the connection as a power cut does. aiomqtt would say goodbye, and the broker forget the
    last will.
    """
    line = client._client.socket()
    if line is not None:
        line.shutdown(socket.SHUT_RDWR)


class TasmotaPublisher(MqttPublisher):
    """`tele/NAME/SENSOR` with ENERGY, and `tele/NAME/LWT`."""

    kind = "tasmota"

    @property
    def topic(self) -> str:
        return f"tele/{self.name}/SENSOR"

    @property
    def presence(self) -> tuple[str, str, str] | None:
        return f"tele/{self.name}/LWT", "Online", "Offline"

    def payload(self, shown: Shown) -> dict[str, Any]:
        return tasmota_energy(shown, self.timezone)


class TasmotaScriptPublisher(TasmotaPublisher):
    """The same with the registers of a meter that Tasmota's script reads over SML."""

    kind = "tasmota-sml"

    def payload(self, shown: Shown) -> dict[str, Any]:
        return tasmota_script(shown, self.timezone, "0a0147524300000001")


class ShellyPublisher(MqttPublisher):
    """A Shelly Pro 3EM: `PREFIX/events/rpc` with NotifyStatus; `name` is its MAC."""

    kind = "shelly-mqtt"
    per_wh = SHELLY_PER_WH

    @property
    def prefix(self) -> str:
        return shelly_name(self.name)

    @property
    def topic(self) -> str:
        return f"{self.prefix}/events/rpc"

    @property
    def presence(self) -> tuple[str, str, str] | None:
        return f"{self.prefix}/online", "true", "false"

    def payload(self, shown: Shown) -> dict[str, Any]:
        return shelly_notification(shown, self.name, self.prefix)


class HomeWizardPublisher(MqttPublisher):
    """What a bridge republishes of `/api/v1/data`; HomeWizard itself speaks no MQTT."""

    kind = "homewizard-mqtt"
    per_wh = 1

    @property
    def topic(self) -> str:
        return f"homewizard/{self.name}/data"

    def payload(self, shown: Shown) -> dict[str, Any]:
        return homewizard(shown, self.name)
