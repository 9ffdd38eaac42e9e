# SPDX-License-Identifier: Apache-2.0
"""The line between a simulated charge point and the ocpp library: its messages, and the faults of
the wire. What the charge point does not do is refused as the standard says (NotImplemented).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from meters.simulate.faults import FaultKind
from meters.simulate.wire import corrupted

if TYPE_CHECKING:
    from meters.simulate.ocpp import ChargePoint

RESPONSE_SECONDS = 30
CONNECTOR = 1
"""The one connector of a charge point; 0 means the whole of it."""


class Wire:
    """The WebSocket as the ocpp library uses it, with the faults of the wire."""

    def __init__(self, device: ChargePoint, socket: Any) -> None:
        self._device, self._socket = device, socket

    async def recv(self) -> Any:
        return await self._socket.recv()

    async def send(self, message: str) -> None:
        faults, at = self._device.faults, self._device.clock()
        if faults.active(FaultKind.SILENT, at):
            return
        if faults.active(FaultKind.DROP, at):
            self._socket.transport.abort()
            return
        if faults.active(FaultKind.CORRUPT, at):
            message = corrupted(message.encode()).decode("latin-1")
        await self._socket.send(message)


def speaker(device: ChargePoint, wire: Wire) -> Any:
    """The ocpp library's charge point over a connection; made late, its import takes a while."""
    from ocpp.routing import on
    from ocpp.v16 import ChargePoint as Speaker
    from ocpp.v16 import call_result
    from ocpp.v16.enums import Action

    class Point(Speaker):  # type: ignore[misc, unused-ignore]
        @on(Action.set_charging_profile)
        def on_set(self, connector_id: int, cs_charging_profiles: dict[str, Any]) -> Any:
            return call_result.SetChargingProfile(
                device.set_profile(connector_id, cs_charging_profiles)
            )

        @on(Action.clear_charging_profile)
        def on_clear(
            self,
            id: int | None = None,
            connector_id: int | None = None,
            charging_profile_purpose: str | None = None,
            stack_level: int | None = None,
        ) -> Any:
            return call_result.ClearChargingProfile(
                device.clear_profiles(id, connector_id, charging_profile_purpose, stack_level)
            )

        @on(Action.get_composite_schedule)
        def on_schedule(
            self, connector_id: int, duration: int, charging_rate_unit: str | None = None
        ) -> Any:
            if connector_id not in (0, CONNECTOR) or duration <= 0:
                return call_result.GetCompositeSchedule("Rejected")
            schedule = device.schedule(duration, charging_rate_unit)
            return call_result.GetCompositeSchedule(
                "Accepted", connector_id, schedule["start_schedule"], schedule
            )

        @on(Action.get_configuration)
        def on_configuration(self, key: list[str] | None = None) -> Any:
            settings = device.settings()
            wanted = key or list(settings)
            return call_result.GetConfiguration(
                [
                    {"key": name, "readonly": settings[name][1], "value": settings[name][0]}
                    for name in wanted
                    if name in settings
                ],
                [name for name in wanted if name not in settings],
            )

        @on(Action.change_configuration)
        def on_change(self, key: str, value: str) -> Any:
            return call_result.ChangeConfiguration(device.change(key, value))

        @on(Action.trigger_message)
        def on_trigger(self, requested_message: str, connector_id: int | None = None) -> Any:
            known = connector_id in (None, CONNECTOR) and device.trigger(requested_message)
            return call_result.TriggerMessage("Accepted" if known else "NotImplemented")

    return Point(device.identity, wire, RESPONSE_SECONDS)


async def listen(point: Any) -> None:
    """Answer the central system until the connection ends, or it sends what nobody foresaw."""
    from websockets.exceptions import ConnectionClosed

    try:
        await point.start()
    except (ConnectionClosed, OSError):
        raise
    except Exception as error:  # the library does not foresee every message
        raise ConnectionAbortedError("the central system does not speak OCPP") from error
