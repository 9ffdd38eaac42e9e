# SPDX-License-Identifier: Apache-2.0
"""The charge points of a home under a cap: the most W that each of them may draw, over OCPP."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from dao.errors import CheckFailed
from dao.slots import SLOT_SECONDS
from meters.dispatch import Acknowledged
from meters.gateway.clock import Clock
from meters.gateway.drivers.counting import Counting
from meters.gateway.settings import DeviceSettings
from meters.gateway.sources.charge_points import CentralSystem, limits_of


class ChargePoints:
    """All charge points that the central system should have; one that is away did not answer."""

    def __init__(
        self,
        settings: DeviceSettings,
        clock: Clock,
        system: CentralSystem,
        expected: tuple[str, ...],
        kept: Mapping[str, Any] | None = None,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._system = system
        self._expected = expected
        kept = kept or {}
        self.counters = {
            name: Counting(("import",), kept=one) for name, one in kept.get("channels", {}).items()
        }

    async def apply(self, slot: int, value: int) -> Acknowledged:
        """Cap every charge point until shortly after the slot ends."""
        left = max((slot + 1) * SLOT_SECONDS - self._clock(), 0)
        seconds = int(min(left + self._settings.revert_s, SLOT_SECONDS + self._settings.revert_s))
        said: dict[str, bool | str] = {}
        for name in self._names():
            try:
                said[name] = await self._system.limit(name, value, seconds)
            except CheckFailed as error:
                said[name] = f"no answer ({error})"
        if not said:
            return Acknowledged(self._clock(), None, "no answer: no charge point is connected")
        if all(one is True for one in said.values()):
            return Acknowledged(self._clock(), value, limits_of(said))
        kind = "refused" if any(one is False for one in said.values()) else "no answer"
        return Acknowledged(self._clock(), None, f"{kind}: {limits_of(said)}")

    async def release(self) -> Acknowledged:
        """Take the cap back from every charge point that is connected."""
        said: dict[str, bool | str] = {}
        for name in self._system.connected:
            try:
                said[name] = await self._system.free(name)
            except CheckFailed as error:
                said[name] = f"no answer ({error})"
        is_free = all(one is True for one in said.values())
        return Acknowledged(self._clock(), 0 if is_free else None, limits_of(said) or "released")

    def _names(self) -> list[str]:
        expected = {channel.partition("/")[0] for channel in self._expected}
        return sorted(expected or set(self._system.connected))

    def add(self, channel: str, at: float, import_wh: int | None) -> None:
        """Take a charge point's register."""
        self.counters.setdefault(channel, Counting(("import",))).add(at, import_wh, None)

    def done(self, slot: int) -> tuple[int, int] | None:
        """Wh of all charge points in a slot; None where one of them is not known."""
        each = [counting.done(slot) for counting in self.counters.values()]
        known = [one for one in each if one is not None]
        if not each or len(known) < len(each):
            return None
        return sum(taken for taken, _ in known), 0

    async def watch(self) -> None:
        """Nothing to ask: charge points tell by themselves."""
        await asyncio.Event().wait()

    def as_dict(self) -> dict[str, Any]:
        """What goes on after a restart, as JSON."""
        return {"channels": {name: one.as_dict() for name, one in self.counters.items()}}

    def close(self) -> None:
        """The central system is the source's."""
