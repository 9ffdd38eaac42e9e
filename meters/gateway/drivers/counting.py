# SPDX-License-Identifier: Apache-2.0
"""What a steered device did, slot by slot, from its own counters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from meters.gateway.intervals import Assembler, Direction, Feed, Rules, Sample

_KEPT_SLOTS = 200
_FEED = "device"


class Counting:
    """Turns a device's registers into import and export per slot, the last two days of them."""

    def __init__(
        self,
        directions: tuple[Direction, ...] = ("import", "export"),
        rules: Rules | None = None,
        kept: Mapping[str, Any] | None = None,
    ) -> None:
        # A battery at rest stands still for days, and rightly so.
        self._feed = Feed(_FEED, rules or Rules(frozen_s=0), directions)
        absent: tuple[Direction, ...] = ("export",) if "export" not in directions else ()
        self._assembler = Assembler(
            [self._feed], absent=absent, kept=None if kept is None else kept["counters"]
        )
        slots = [] if kept is None else kept["done"]
        self._done: dict[int, tuple[int, int]] = {slot: (a, b) for slot, a, b in slots}
        self.read_at = 0.0
        """When the registers were last read, unix seconds."""

    def add(self, at: float, import_wh: int | None, export_wh: int | None) -> None:
        """Take the device's registers at a time."""
        for one in self._assembler.add(_FEED, Sample(at, import_wh, export_wh)):
            if one.import_wh is not None and one.export_wh is not None:
                self._done[one.slot] = (one.import_wh, one.export_wh)
        while len(self._done) > _KEPT_SLOTS:
            del self._done[min(self._done)]
        # Last: whoever waits for it in another thread then finds the slots that it completes.
        self.read_at = at

    def done(self, slot: int) -> tuple[int, int] | None:
        """Wh taken and given in a slot, None if not known."""
        return self._done.get(slot)

    def as_dict(self) -> dict[str, Any]:
        """What goes on after a restart, as JSON."""
        return {
            "counters": self._assembler.as_dict(),
            "done": [[slot, *wh] for slot, wh in self._done.items()],
        }
