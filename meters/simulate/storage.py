# SPDX-License-Identifier: Apache-2.0
"""The physics of a battery that obeys set-points: exact Wh at any time, and what it did before.

The store itself is `meters.devices.CommunityBattery`: a set-point held over whole slots gives what
its `run` gives for a schedule of them.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, replace
from operator import itemgetter

from dao.slots import SLOT_SECONDS
from meters.devices import CommunityBattery

_SLOT_MS = SLOT_SECONDS * 1000
_MS_PER_HOUR = 3_600_000

MAX_HISTORY = 100_000
"""Set-points that are remembered, refreshed ones included."""


@dataclass(frozen=True)
class Stretch:
    """The battery under one set-point, from `since_ms` on; registers in Wh as of then.

    watts: positive charges; until_ms: when it falls back to rest.
    """

    since_ms: int
    battery: CommunityBattery
    watts: int = 0
    until_ms: int | None = None
    import_wh: int = 0
    export_wh: int = 0
    loss_wh: int = 0

    def settled(self, ms: int) -> Stretch:
        """As of the last slot edge or end of the set-point up to `ms`; what follows is under way.

        A slot's energy is rounded down once, at its end, as a meter of whole Wh counts it.
        """
        stretch = self
        while True:
            if stretch.watts == 0:
                return replace(stretch, since_ms=max(ms, stretch.since_ms), until_ms=None)
            edge = (stretch.since_ms // _SLOT_MS + 1) * _SLOT_MS
            if stretch.until_ms is not None and stretch.until_ms <= edge:
                if stretch.until_ms > ms:
                    return stretch
                stretch = replace(stretch._cut(stretch.until_ms), watts=0, until_ms=None)
            elif edge > ms:
                return stretch
            else:
                stretch = stretch._cut(edge)

    def at(self, ms: int) -> Stretch:
        """As of `ms`, what is under way included."""
        return self.settled(ms)._cut(ms)

    def _cut(self, ms: int) -> Stretch:
        """Run to `ms`, which lies in the same slot and before the set-point's end."""
        watts = min(abs(self.watts), self.battery.max_power_w)
        wh = watts * max(ms - self.since_ms, 0) // _MS_PER_HOUR
        if wh == 0:
            return replace(self, since_ms=ms)
        # One slot at the power that gives just these Wh.
        power = 4 * wh if self.watts > 0 else -4 * wh
        ran = replace(self.battery, max_power_w=4 * wh).run({0: power}, 0, 1)
        return replace(
            self,
            since_ms=ms,
            battery=replace(self.battery, soc_wh=ran.after.soc_wh),
            import_wh=self.import_wh + int(ran.import_wh[0]),
            export_wh=self.export_wh + int(ran.export_wh[0]),
            loss_wh=self.loss_wh + int(ran.loss_wh[0]),
        )

    @property
    def power_w(self) -> int:
        """What flows now, W; positive charges. Nothing once the store is full or empty."""
        watts = min(abs(self.watts), self.battery.max_power_w)
        if self.watts > 0:
            return watts if self.battery.soc_wh < self.battery.capacity_wh else 0
        left = self.battery.soc_wh * self.battery.discharge_permille // 1000
        return -watts if left else 0


class Storage:
    """A battery over time. Kept as the list of its stretches, so that any moment can be shown."""

    def __init__(self, battery: CommunityBattery, import_wh: int = 0, export_wh: int = 0) -> None:
        first = Stretch(0, battery, import_wh=import_wh, export_wh=export_wh)
        self._history: list[tuple[int, Stretch]] = [(0, first)]

    def at(self, when: float) -> Stretch:
        """The battery at a time, unix seconds; of the past what it was then."""
        return self._in_force(_ms(when)).at(_ms(when))

    def command(self, watts: int, when: float, seconds: float | None) -> None:
        """From `when` on, for some seconds, take (positive) or give W.

        The same W again only moves the end: a set-point that is refreshed runs on unbroken.
        """
        ms = _ms(when)
        until = None if seconds is None else ms + round(seconds * 1000)
        before = self._in_force(ms).settled(ms)
        if before.watts == watts:
            stretch = replace(before, until_ms=until if watts else None)
        else:
            stretch = replace(before._cut(ms), watts=watts, until_ms=until if watts else None)
        if len(self._history) >= MAX_HISTORY:
            # A new list: another thread may be looking at the old one.
            self._history = self._history[MAX_HISTORY // 2 :]
        self._history.append((ms, stretch))

    def _in_force(self, ms: int) -> Stretch:
        history = self._history
        return history[max(bisect_right(history, ms, key=itemgetter(0)) - 1, 0)][1]

    # What `faults.Measured` asks for.
    def registers(self, at: float, per_wh: int = 1) -> tuple[int, int]:
        now = self.at(at)
        return now.import_wh * per_wh, now.export_wh * per_wh

    def power(self, at: float) -> tuple[int, int]:
        watts = self.at(at).power_w
        return max(watts, 0), max(-watts, 0)


def _ms(when: float) -> int:
    return round(when * 1000)
