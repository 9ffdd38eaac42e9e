# SPDX-License-Identifier: Apache-2.0
"""Which readings count in a batch, as plain functions of rows: nothing is stored or read here."""

from __future__ import annotations

import numpy as np

from meters import frames
from meters.readings import NULL_WH, Quality, Readings


def newest(rows: Readings) -> np.ndarray:
    """The last row of each slot and meter, of rows by slot, meter and sequence, bool (n,)."""
    other = (rows.slot[1:] != rows.slot[:-1]) | (rows.meter[1:] != rows.meter[:-1])
    return np.append(other, np.ones(min(len(rows), 1), dtype=bool))


def keyed(rows: Readings) -> list[tuple[int, int, int, bytes]]:
    """Slot, meter, sequence and record of each row."""
    columns = (rows.slot.tolist(), rows.meter.tolist(), rows.sequence.tolist())
    return list(zip(*columns, frames.cut(frames.records_of(rows)), strict=True))


def complete(meters: np.ndarray, first_slot: int, slots: int, readings: Readings) -> Readings:
    """One row per meter and slot, sorted; what was not delivered is missing, not zero."""
    n = len(meters) * slots
    at = np.searchsorted(meters, readings.meter) * slots + readings.slot - first_slot
    null = np.full(n, NULL_WH, dtype=np.int64)
    full = Readings.columns(
        np.repeat(meters, slots),
        np.tile(np.arange(first_slot, first_slot + slots, dtype=np.int64), len(meters)),
        null,
        null.copy(),
        np.full(n, Quality.MISSING, dtype=np.uint8),
    )
    for name in ("import_wh", "export_wh", "quality", "signature", "sequence", "previous"):
        getattr(full, name)[at] = getattr(readings, name)
    return full


def changed_homes(before: Readings, after: Readings) -> int:
    """How many meters have another value or quality in a batch's second version than in the first.

    Meters that only the second one has count too.
    """
    columns = ("meter", "slot", "import_wh", "export_wh", "quality")
    rows = [
        set(zip(*(getattr(part, name).tolist() for name in columns), strict=True))
        for part in (before, after)
    ]
    return len({row[0] for row in rows[0] ^ rows[1]})
