# SPDX-License-Identifier: Apache-2.0
"""A home's own last days, from the lake (committed) and the inbox (not yet committed).

Reads beside a running collector and changes nothing there. A reading leaves this machine never:
what is made of them is one order.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dao.errors import CheckFailed
from dao.slots import SLOT_SECONDS, SLOTS_PER_DAY
from meters.readings import Quality, Reading

if TYPE_CHECKING:
    from meters.lake import LakeLike

DAYS = 7
"""Recent days that an order is made from."""
FEWEST_DAYS = 4
LOOK_BACK_DAYS = 14
OLDEST_SLOTS = 2 * SLOTS_PER_DAY
"""How far the newest reading may lie back: sessions are committed every few hours."""
# Of a day's slots; the rest count as nothing exported and nothing drawn, so as nothing to promise.
_FEWEST_KNOWN = SLOTS_PER_DAY * 9 // 10

_KNOWN = (Quality.MEASURED, Quality.ESTIMATED, Quality.SUBSTITUTED)


@dataclass(frozen=True)
class Recent:
    """Whole recent days of one home, oldest first, each the 24 hours before the next.

    import_wh, export_wh: int64, shape (days * 96,), in Wh; end_slot: the slot after the newest
    reading, on which the last day ends. Slots without a reading count as zero in both.
    """

    import_wh: np.ndarray
    export_wh: np.ndarray
    end_slot: int

    @property
    def days(self) -> int:
        return len(self.import_wh) // SLOTS_PER_DAY

    def position(self, slot: int) -> int:
        """Where in each of the days a slot's time of day lies."""
        return (slot - self.end_slot) % SLOTS_PER_DAY


@dataclass(frozen=True)
class TooLittle:
    """Why nothing can be said of a home: whole days there are, and the newest reading's slot, None
    where there is no reading at all."""

    days: int
    newest_slot: int | None


def recent_days(rows: Iterable[Reading], now_slot: int) -> Recent | TooLittle:
    """The last whole days among a home's readings, as known when `now_slot` had just begun."""
    first = now_slot - (LOOK_BACK_DAYS * SLOTS_PER_DAY + OLDEST_SLOTS)
    wh = np.zeros((2, now_slot - first), dtype=np.int64)
    known = np.zeros(now_slot - first, dtype=bool)
    for row in rows:
        if not first <= row.slot < now_slot or row.quality not in _KNOWN:
            continue
        if row.import_wh is None or row.export_wh is None:
            continue
        known[row.slot - first] = True
        wh[:, row.slot - first] = row.import_wh, row.export_wh
    if not known.any():
        return TooLittle(0, None)
    newest = first + int(np.flatnonzero(known)[-1])
    if now_slot - newest > OLDEST_SLOTS:
        return TooLittle(0, newest)
    end = newest + 1
    taken: list[np.ndarray] = []
    for day in range(LOOK_BACK_DAYS):
        here = slice(end - (day + 1) * SLOTS_PER_DAY - first, end - day * SLOTS_PER_DAY - first)
        if known[here].sum() >= _FEWEST_KNOWN:
            taken.append(np.where(known[here], wh[:, here], 0))
        if len(taken) == DAYS:
            break
    if len(taken) < FEWEST_DAYS:
        return TooLittle(len(taken), newest)
    both = np.concatenate(taken[::-1], axis=1)
    return Recent(both[0], both[1], end)


@dataclass(frozen=True)
class HomeReadings:
    """The readings of a zone's homes on this machine. inbox: the collector's file, if any."""

    lake: LakeLike
    zone: int
    inbox: Path | None = None

    def recent(self, meter: int, now: int) -> Recent | TooLittle:
        """A home's last days. now: chain time, unix seconds."""
        now_slot = now // SLOT_SECONDS
        slots = LOOK_BACK_DAYS * SLOTS_PER_DAY + OLDEST_SLOTS
        return recent_days(self.rows(meter, now_slot - slots, slots), now_slot)

    def rows(self, meter: int, first_slot: int, slots: int) -> list[Reading]:
        """A home's readings of some slots, the inbox's first: what is committed counts."""
        return [
            *self._waiting(meter, first_slot, slots),
            *self._committed(meter, first_slot, slots),
        ]

    def _committed(self, meter: int, first_slot: int, slots: int) -> list[Reading]:
        from meters.granted import Committed

        whole = Committed(self.lake, self.zone, first_slot + slots)
        return whole.rows(meter, first_slot, first_slot + slots)

    def _waiting(self, meter: int, first_slot: int, slots: int) -> list[Reading]:
        from meters.frames import readings_of
        from meters.inbox_file import OF_METER

        if self.inbox is None or not self.inbox.exists():
            return []
        try:
            with closing(
                sqlite3.connect(f"{self.inbox.absolute().as_uri()}?mode=ro", uri=True, timeout=10)
            ) as db:
                records = db.execute(OF_METER, (first_slot, first_slot + slots, meter)).fetchall()
        except sqlite3.Error as error:
            raise CheckFailed(f"cannot read the inbox {self.inbox}: {error}") from None
        return list(readings_of(b"".join(record for (record,) in records)))
