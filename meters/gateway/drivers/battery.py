# SPDX-License-Identifier: Apache-2.0
"""A battery that speaks SunSpec: set-points by model 704, counters by model 701.

SunSpec counts power as the device gives it: a positive set-point feeds in. A schedule counts the
other way: positive charges. Every set-point carries a time-out after which the battery goes back to
its own programme, so that it never runs on when nobody commands it any more.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from typing import Any

from dao.errors import BadUse
from dao.parameters import HOME_BATTERIES
from meters.dispatch import KEYS, Acknowledged
from meters.gateway.clock import Clock, every
from meters.gateway.drivers.counting import Counting
from meters.gateway.settings import DeviceSettings
from meters.gateway.sources.modbus import ENERGY_MODELS, ModelAt, Refused, SunSpecClient
from meters.gateway.sources.readers import Lost

CONTROL, RATINGS, MEASURE = 704, 702, 701
_OFF, _ON, _WATTS = 0, 1, 1
_EVERY_S = 10.0
_WRITTEN = ("WSetEna", "WSetMod", "WSet", "WSetRvrtTms")
_LONGEST_RETRY_S = 30.0
assert MEASURE in ENERGY_MODELS


class SunSpecBattery:
    """One battery. A value is W, or for a home's battery permille of its rating."""

    def __init__(
        self, settings: DeviceSettings, clock: Clock, kept: Mapping[str, Any] | None = None
    ) -> None:
        if settings.address is None:
            raise BadUse(f"[device] {settings.name} lacks address")
        self._settings = settings
        self._address = settings.address
        self._clock = clock
        self._client: SunSpecClient | None = None
        self._lock = asyncio.Lock()
        self.counting = Counting(kept=kept)
        self._is_share = KEYS[settings.kind] == HOME_BATTERIES
        self.rated_w = settings.rated_w

    async def apply(self, slot: int, value: int) -> Acknowledged:
        """Write the set-point and its time-out, read both back, and say what the device holds."""
        try:
            async with self._lock:
                client, control = await self._control()
                watts = await self._watts(client, value)
                scale = (await client.read(control, ("WSet_SF",)))["WSet_SF"] or 0
                raw = _scaled(-watts, -scale)
                wanted = {
                    "WSetEna": _ON,
                    "WSetMod": _WATTS,
                    "WSet": raw,
                    "WSetRvrtTms": self._settings.revert_s,
                }
                # The time-out goes first: no moment must see the set-point without it.
                await client.write(control, {"WSetRvrtTms": self._settings.revert_s})
                await client.write(control, {"WSetMod": _WATTS, "WSet": raw})
                await client.write(control, {"WSetEna": _ON})
                held = await client.read(control, _WRITTEN)
        except Refused as refused:
            return Acknowledged(self._clock(), None, f"refused: {refused}")
        except Lost as lost:
            self._drop()
            return Acknowledged(self._clock(), None, f"no answer: {lost}")
        if held != wanted:
            return Acknowledged(self._clock(), None, f"refused: it holds {held}")
        return Acknowledged(self._clock(), self._value(-_scaled(raw, scale), value), "accepted")

    async def release(self) -> Acknowledged:
        """Switch the set-point off; if that fails its time-out does it."""
        try:
            async with self._lock:
                client, control = await self._control()
                await client.write(control, {"WSetEna": _OFF})
        except Refused as refused:
            return Acknowledged(self._clock(), None, f"refused: {refused}")
        except Lost as lost:
            self._drop()
            return Acknowledged(self._clock(), None, f"no answer: {lost}")
        return Acknowledged(self._clock(), 0, "released")

    def done(self, slot: int) -> tuple[int, int] | None:
        return self.counting.done(slot)

    def as_dict(self) -> dict[str, Any]:
        """What its counting goes on from after a restart, as JSON."""
        return self.counting.as_dict()

    async def watch(self) -> None:
        """Read the counters on a grid that meets every quarter-hour."""
        wait = 0.2
        while True:
            try:
                async for _ in every(self._clock, _EVERY_S):
                    async with self._lock:
                        client = await self._connected()
                        model = client.find(MEASURE)
                        if model is None:
                            raise Lost(f"{self._address}: no model 701, nothing counts its energy")
                        begun = self._clock()
                        read = await client.read(model, ("TotWhAbs", "TotWhInj", "TotWh_SF"))
                        at = (begun + self._clock()) / 2
                    scale = read["TotWh_SF"] or 0
                    taken, given = read["TotWhAbs"], read["TotWhInj"]
                    if taken is not None and given is not None:
                        self.counting.add(at, _scaled(taken, scale), _scaled(given, scale))
                    wait = 0.2
            except (Lost, Refused):
                self._drop()
                await asyncio.sleep(wait * random.uniform(0.5, 1.0))
                wait = min(wait * 2, _LONGEST_RETRY_S)

    def close(self) -> None:
        """End the connection."""
        self._drop()

    # Inside

    async def _connected(self) -> SunSpecClient:
        if self._client is None or not self._client.is_open:
            self._drop()
            client = SunSpecClient(self._address, self._settings.unit)
            try:
                await client.open()
            except BaseException:
                client.close()
                raise
            self._client = client
        return self._client

    async def _control(self) -> tuple[SunSpecClient, ModelAt]:
        client = await self._connected()
        control = client.find(CONTROL)
        if control is None:
            raise Lost(f"{self._address}: no model 704, it takes no set-point")
        return client, control

    async def _watts(self, client: SunSpecClient, value: int) -> int:
        """The set-point in W, positive charges, within what the device is rated for."""
        rated = self.rated_w
        if rated is None:
            model = client.find(RATINGS)
            if model is not None:
                read = await client.read(model, ("WMaxRtg", "W_SF"))
                most = read["WMaxRtg"]
                rated = None if most is None else _scaled(most, read["W_SF"] or 0)
            self.rated_w = rated
        if self._is_share:
            if rated is None:
                raise Lost(f"{self._address}: its rating is not known: set rated_w")
            share = abs(value) * rated // 1000
            return share if value > 0 else -share
        if rated is None:
            return value
        return max(-rated, min(rated, value))

    def _value(self, watts: int, wanted: int) -> int:
        """What the device holds in the unit of the schedule."""
        if not self._is_share:
            return watts
        assert self.rated_w is not None
        # A permille that its W stand for came from rounding down.
        exact = abs(wanted) * self.rated_w // 1000
        if abs(watts) == exact:
            return wanted
        share = abs(watts) * 1000 // self.rated_w
        return share if watts > 0 else -share

    def _drop(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None


def _scaled(raw: int, scale: int) -> int:
    """A point's value times ten to the power of its scale factor, cut to a whole number."""
    size = abs(raw) * 10**scale if scale >= 0 else abs(raw) // 10**-scale
    return size if raw >= 0 else -size
