# SPDX-License-Identifier: Apache-2.0
"""Carrying out a schedule: each slot its value, held on within the slot, released at the end, and
reported as it really was.

Where the schedule comes from is asked of a `ScheduleSource`; the latest answer is kept on disk, so
that a node that is away, or a restart in the middle, does not end a window.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Protocol

from dao.errors import CheckFailed, GridCommonsError
from dao.slots import SLOT_SECONDS, SLOTS_PER_DAY
from meters.dispatch import KEYS, Acknowledged, DispatchReport, Driver, Schedule
from meters.gateway.chain import Window
from meters.gateway.clock import Clock
from meters.gateway.keystore import DeviceKey
from meters.gateway.outbox import Outbox
from meters.gateway.settings import DeviceSettings

REPORT_PATIENCE_S = 1_800.0
"""How long the device's counters are waited for after a slot."""


class ScheduleSource(Protocol):
    """Where the windows in force can be read; blocking."""

    def windows(self, zone: int, key: int, slot: int) -> list[Window]:
        """The windows of a zone and key on the UTC day of a slot. Raises CheckFailed."""
        ...


class Dispatcher:
    """One device and its schedule."""

    def __init__(
        self,
        settings: DeviceSettings,
        zone: int,
        driver: Driver,
        source: ScheduleSource,
        outbox: Outbox,
        clock: Clock,
        separator: bytes,
        key_of: Callable[[int], DeviceKey | None],
    ) -> None:
        self.settings = settings
        self.driver = driver
        self._zone = zone
        self._key = KEYS[settings.kind]
        self._source = source
        self._outbox = outbox
        self._clock = clock
        self._separator = separator
        self._key_of = key_of
        self._note = f"dispatch:{settings.name}"
        kept = outbox.noted(self._note) or {}
        self._days: dict[int, list[Window]] = {
            int(day): [Window(**one) for one in windows]
            for day, windows in kept.get("days", {}).items()
        }
        # Slots with a value whose report is not made yet: wanted, acknowledged, words.
        self._open: dict[int, tuple[int, int | None, str]] = {
            int(slot): (wanted, taken, words)
            for slot, (wanted, taken, words) in kept.get("open", {}).items()
        }
        self._is_held = bool(kept.get("held"))
        self.problem: str | None = None
        self.faults: Counter[str] = Counter()
        self.looked_at = 0.0
        """When the schedule was last looked at and held, unix seconds."""

    async def run(self) -> None:
        """Until cancelled: the value of every slot at its begin, and again before it times out."""
        pace = min(self.settings.revert_s / 3, SLOT_SECONDS)
        while True:
            now = self._clock()
            slot = int(now // SLOT_SECONDS)
            await self._look(slot)
            await self._hold(slot)
            try:
                self._report(slot)
                self._keep()
            except CheckFailed as error:  # a full disk must not end the holding
                self.problem = str(error)
                self.faults["outbox"] += 1
            self.looked_at = now
            await self._clock.sleep_until(min((slot + 1) * SLOT_SECONDS, (now // pace + 1) * pace))

    async def _look(self, slot: int) -> None:
        """Read today's windows, and tomorrow's in the last slot; else the latest known hold."""
        for near in (slot, slot + 1):
            day = near // SLOTS_PER_DAY
            try:
                self._days[day] = await asyncio.to_thread(
                    self._source.windows, self._zone, self._key, near
                )
                self.problem = None
            except CheckFailed as error:
                self.problem = str(error)
                self.faults["schedule"] += 1
            if (slot + 1) // SLOTS_PER_DAY == day:
                break
        for old in [day for day in self._days if day < slot // SLOTS_PER_DAY - 1]:
            del self._days[old]

    def schedule(self, slot: int) -> Schedule:
        """The schedule of a slot's UTC day as it is known."""
        day = slot // SLOTS_PER_DAY
        first = day * SLOTS_PER_DAY
        return Schedule.of(self._zone, self._key, first, SLOTS_PER_DAY, self._days.get(day, []))

    async def _hold(self, slot: int) -> None:
        wanted = self.schedule(slot).value(slot)
        if wanted is None:
            if self._is_held:
                answer = await self.driver.release()
                if answer.value is None:
                    self.faults["release"] += 1
                # A device that does not hear it falls back by its time-out.
                self._is_held = False
            return
        answer = await self._applied(slot, wanted)
        if answer.value is None:
            self.faults["refused" if answer.detail.startswith("refused") else "silent"] += 1
        else:
            self._is_held = True
        before = self._open.get(slot)
        # One failure within a slot stays: the value was not held throughout.
        if before is None or (answer.value is None and before[1] is not None):
            self._open[slot] = (wanted, answer.value, answer.detail)

    async def _applied(self, slot: int, wanted: int) -> Acknowledged:
        try:
            return await self.driver.apply(slot, wanted)
        except GridCommonsError as error:
            return Acknowledged(self._clock(), None, f"no answer: {error}")

    def _report(self, slot: int) -> None:
        """Sign a report for every slot that is over and counted, or waited for long enough."""
        for past in sorted(self._open):
            if past >= slot:
                break
            done = self.driver.done(past)
            waited = self._clock() - (past + 1) * SLOT_SECONDS
            if done is None and waited < REPORT_PATIENCE_S:
                continue
            key = self._key_of(past)
            if key is None:
                continue
            wanted, taken, words = self._open[past]
            report = DispatchReport(
                meter=self._outbox.meter,
                slot=past,
                wanted=wanted,
                acknowledged=taken,
                done_wh=None if done is None else done[0] - done[1],
                device=self.settings.name,
                detail=words[:200],
            ).signed(key.private, self._separator)
            self._outbox.add_report(self.settings.name, past, report.to_json())
            del self._open[past]

    def _keep(self) -> None:
        self._outbox.note(
            self._note,
            {
                "days": {day: [asdict(one) for one in w] for day, w in self._days.items()},
                "open": self._open,
                "held": self._is_held,
                "counting": self.driver.as_dict(),
            },
        )


def kept_counting(outbox: Outbox, settings: DeviceSettings) -> Any:
    """What a driver's counters kept before a restart, None at the first start."""
    kept = outbox.noted(f"dispatch:{settings.name}") or {}
    return kept.get("counting")
