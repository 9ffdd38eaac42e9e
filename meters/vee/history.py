# SPDX-License-Identifier: Apache-2.0
"""What a home's meter showed before a batch: committed rows, as the rules look at them.

Here are the views only; the files are `meters/lake.py`'s.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from dao.errors import BadUse
from meters.lake import Lake, LakeLike, batch_files
from meters.readings import NULL_WH, Quality, Readings

IntArray = npt.NDArray[np.int64]
Columns = tuple[IntArray, IntArray, IntArray]
"""Import Wh, export Wh (`NULL_WH` where unknown) and quality, int64, all of one shape."""

_CACHE_BYTES = 256 << 20


class History(Protocol):
    """Committed rows of a zone. A slot that is not there is missing, not zero."""

    def block(self, meters: IntArray, first_slot: int, slots: int) -> Columns:
        """The meters' rows from `first_slot` on, (meters, slots) each."""
        ...

    def forget(self) -> None:
        """Let go of whatever was kept since; a batch was edited."""
        ...


def series(history: History, meter: int, first_slot: int, slots: int) -> Columns:
    """One meter's rows from `first_slot` on, (slots,) each."""
    imported, exported, quality = history.block(np.array([meter]), first_slot, slots)
    return imported[0], exported[0], quality[0]


def nothing(meters: int, slots: int) -> Columns:
    """Rows of which nothing is known, (meters, slots) each."""
    shape = (meters, slots)
    return (
        np.full(shape, NULL_WH, dtype=np.int64),
        np.full(shape, NULL_WH, dtype=np.int64),
        np.full(shape, int(Quality.MISSING), dtype=np.int64),
    )


class NoHistory:
    """Before the first batch."""

    def block(self, meters: IntArray, first_slot: int, slots: int) -> Columns:
        return nothing(len(meters), slots)

    def forget(self) -> None:
        """Nothing was kept."""


class _Part:
    """A rectangle of rows: the same slots of every meter in it."""

    def __init__(self, meters: IntArray, first_slot: int, columns: Columns) -> None:
        self.meters = meters
        self.first = first_slot
        self.columns = columns
        self.end = first_slot + columns[0].shape[1]

    @property
    def nbytes(self) -> int:
        return sum(column.nbytes for column in self.columns)

    def copy_to(self, made: Columns, meters: IntArray, first_slot: int) -> None:
        low = max(self.first, first_slot)
        high = min(self.end, first_slot + made[0].shape[1])
        if low >= high or not len(self.meters):
            return
        at = np.minimum(np.searchsorted(self.meters, meters), len(self.meters) - 1)
        rows = np.flatnonzero(self.meters[at] == meters)
        for target, source in zip(made, self.columns, strict=True):
            target[rows, low - first_slot : high - first_slot] = source[
                at[rows], low - self.first : high - self.first
            ]


def _part(meter: IntArray, slot: IntArray, columns: Columns) -> _Part:
    """Rows in any order, at most one per meter and slot, as a rectangle."""
    meters, row = np.unique(meter, return_inverse=True)
    first = int(slot.min()) if len(slot) else 0
    width = int(slot.max()) - first + 1 if len(slot) else 0
    made = nothing(len(meters), width)
    for target, source in zip(made, columns, strict=True):
        target[row, slot - first] = source
    return _Part(meters.astype(np.int64), first, made)


class ReadingsHistory:
    """A history of readings in memory."""

    def __init__(self, readings: Readings) -> None:
        self._part = _part(
            readings.meter,
            readings.slot,
            (readings.import_wh, readings.export_wh, readings.quality.astype(np.int64)),
        )

    def block(self, meters: IntArray, first_slot: int, slots: int) -> Columns:
        made = nothing(len(meters), slots)
        self._part.copy_to(made, meters, first_slot)
        return made

    def forget(self) -> None:
        """The readings are all there is."""


class LakeHistory:
    """The newest committed rows of a zone, from its lake.

    Files once read are kept while one batch is edited; `forget` lets go of them, and with them of
    values that may be corrected or erased.
    """

    def __init__(self, lake: LakeLike, zone: int) -> None:
        self._lake = Lake.of(lake)
        self._zone = zone
        self._kept: OrderedDict[str, _Part] = OrderedDict()

    def block(self, meters: IntArray, first_slot: int, slots: int) -> Columns:
        made = nothing(len(meters), slots)
        for file in batch_files(self._lake, self._zone, first_slot, slots):
            self._read(file.path).copy_to(made, meters, first_slot)
        return made

    def forget(self) -> None:
        """Read the files anew from here on."""
        self._kept.clear()

    def _read(self, path: str) -> _Part:
        if path in self._kept:
            self._kept.move_to_end(path)
            return self._kept[path]
        names = ["meter", "slot", "import_wh", "export_wh", "quality"]
        try:
            with self._lake.reading(path) as source:
                table = pq.read_table(source, columns=names)
        except (OSError, pa.ArrowException) as error:
            raise BadUse(f"cannot read the batch {path}: {error}") from error
        # An erased row has no quality any more: nothing is known of it.
        fill = {"import_wh": NULL_WH, "export_wh": NULL_WH, "quality": int(Quality.MISSING)}
        meter, slot, *values = (
            table[name].cast("int64").fill_null(fill.get(name, 0)).to_numpy() for name in names
        )
        part = _part(meter, slot, (values[0], values[1], values[2]))
        self._kept[path] = part
        while len(self._kept) > 1 and sum(p.nbytes for p in self._kept.values()) > _CACHE_BYTES:
            self._kept.popitem(last=False)
        return part
