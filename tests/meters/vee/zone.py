# SPDX-License-Identifier: Apache-2.0
"""A year of the demo zone as batches, and random faults to put into them. Plain on purpose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from meters.profiles import ZoneProfiles
from meters.readings import NULL_WH, Quality, Readings

CAPACITY_W = 43_000
"""3 x 63 A: twice what any home of the demo zone ever draws."""


def rows_of(profiles: ZoneProfiles, first_slot: int, slots: int) -> Readings:
    """A batch of the zone, meters from 1 in the homes' order, all measured, unsigned."""
    part = profiles.window(first_slot, slots)
    meters = len(part.homes)
    return Readings.columns(
        np.repeat(np.arange(1, meters + 1), slots),
        np.tile(np.arange(first_slot, first_slot + slots), meters),
        part.import_wh.T.reshape(-1),
        part.export_wh.T.reshape(-1),
    )


def copy_of(rows: Readings) -> Readings:
    """Columns that may be written to."""
    return replace(
        rows,
        import_wh=rows.import_wh.copy(),
        export_wh=rows.export_wh.copy(),
        quality=rows.quality.copy(),
    )


@dataclass(frozen=True)
class Fault:
    """One fault in one meter's day: columns [first, end) of the batch were touched."""

    kind: str
    meter: int
    first: int
    end: int


@dataclass(frozen=True)
class Day:
    """One meter's day in a batch, open to be spoilt: views on the batch's columns."""

    meter: int
    import_wh: np.ndarray
    export_wh: np.ndarray
    quality: np.ndarray
    random: np.random.Generator

    def stretch(self, least: int, most: int) -> slice:
        """Some slots, never the first nor the last of the day."""
        length = int(self.random.integers(least, most + 1))
        first = int(self.random.integers(1, len(self.import_wh) - length))
        return slice(first, first + length)

    def put(self, at: slice, imported: object, exported: object) -> None:
        self.import_wh[at] = imported
        self.export_wh[at] = exported

    @property
    def has_roof(self) -> bool:
        return int(self.export_wh.sum()) >= 2000


def _gap(least: int, most: int) -> Callable[[Day], slice | None]:
    def make(day: Day) -> slice:
        at = day.stretch(least, most)
        day.put(at, NULL_WH, NULL_WH)
        day.quality[at] = Quality.MISSING
        return at

    return make


def _impossible(day: Day) -> slice | None:
    at = day.stretch(1, 1)
    column = day.import_wh if day.random.integers(2) else day.export_wh
    column[at] = CAPACITY_W // 4 + int(day.random.integers(1, 1 << 30))
    return at


def _invalid(day: Day) -> slice | None:
    at = day.stretch(1, 4)
    day.quality[at] = Quality.INVALID
    return at


def _times_ten(least: int, most: int) -> Callable[[Day], slice | None]:
    def make(day: Day) -> slice:
        at = day.stretch(least, most)
        most_wh = CAPACITY_W // 4
        day.put(
            at,
            np.minimum(most_wh, day.import_wh[at] * 10),
            np.minimum(most_wh, day.export_wh[at] * 10),
        )
        return at

    return make


def _frozen(day: Day) -> slice | None:
    at = day.stretch(26, 90)
    day.put(at, day.import_wh[at.start], day.export_wh[at.start])
    return at


def _swapped(day: Day) -> slice | None:
    at = slice(0, len(day.import_wh))
    day.put(at, day.export_wh.copy(), day.import_wh.copy())
    return at


def _dead(day: Day) -> slice | None:
    at = slice(0, len(day.import_wh))
    if not day.has_roof:
        return None
    day.export_wh[at] = 0
    return at


def _shifted(day: Day) -> slice | None:
    at = slice(0, len(day.import_wh))
    if not day.has_roof:
        return None
    by = int(day.random.choice([-8, -4, 4, 8]))
    day.put(at, np.roll(day.import_wh, by), np.roll(day.export_wh, by))
    return at


FAULTS: dict[str, Callable[[Day], slice | None]] = {
    "gap up to 2 h": _gap(1, 8),
    "gap over 2 h": _gap(9, 90),
    "impossible value": _impossible,
    "called invalid": _invalid,
    "one value ten times": _times_ten(1, 1),
    "ten times for a day": _times_ten(94, 94),
    "frozen for 6 h or more": _frozen,
    "swapped for a day": _swapped,
    "dead inverter, one day": _dead,
    "clock off by 1 or 2 h": _shifted,
}
MENDED = tuple(FAULTS)[:4]
FLAGGED = dict(
    zip(
        tuple(FAULTS)[4:],
        ("outlier", "outlier", "frozen", "sign", "dead_inverter", "shifted"),
        strict=True,
    )
)
"""The flag that a fault should raise."""


def inject(
    rows: Readings, slots: int, meter: int, kind: str, random: np.random.Generator
) -> Fault | None:
    """Put a fault into a meter's rows of a day; None where this home cannot have it."""
    whole = slice((meter - 1) * slots, meter * slots)
    day = Day(meter, rows.import_wh[whole], rows.export_wh[whole], rows.quality[whole], random)
    at = FAULTS[kind](day)
    return None if at is None else Fault(kind, meter, at.start, at.stop)
