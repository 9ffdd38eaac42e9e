# SPDX-License-Identifier: Apache-2.0
"""A batch as a rectangle of meters by slots, and what the rules ask of it over and over."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dao.errors import BadUse
from meters.readings import NULL_WH, Quality, Readings
from meters.vee.history import IntArray

BoolArray = npt.NDArray[np.bool_]

CHUNK_METERS = 4096
"""Meters whose past is looked at together: some tens of MB."""


@dataclass(frozen=True)
class Table:
    """Views on a batch's rows. meters: int64 (meters,), ascending; the rest (meters, slots)."""

    meters: IntArray
    first_slot: int
    import_wh: IntArray
    export_wh: IntArray
    quality: IntArray

    @property
    def slots(self) -> int:
        return int(self.import_wh.shape[1])

    @property
    def measured(self) -> BoolArray:
        return known(self.import_wh, self.export_wh, self.quality)

    def part(self, rows: slice) -> Table:
        """Some of the meters."""
        return Table(
            self.meters[rows],
            self.first_slot,
            self.import_wh[rows],
            self.export_wh[rows],
            self.quality[rows],
        )

    def chunks(self) -> Iterator[tuple[slice, Table]]:
        for first in range(0, len(self.meters), CHUNK_METERS):
            rows = slice(first, first + CHUNK_METERS)
            yield rows, self.part(rows)

    @staticmethod
    def of(readings: Readings) -> Table:
        """The rows of a batch, sorted by meter and slot, one for each.

        BadUse for a meter with a slot too few or too many, or a missing row with a value. That is
        also why no hour is there twice and none is skipped when clocks change: slots count UTC.
        """
        n = len(readings)
        if n == 0:
            empty = np.zeros((0, 0), dtype=np.int64)
            return Table(np.zeros(0, dtype=np.int64), 0, empty, empty, empty)
        first, last = int(readings.slot[0]), int(readings.slot[-1])
        width = last - first + 1
        if width < 1 or n % width:
            raise BadUse(f"{n} rows are not one per meter for the slots {first}..{last}")
        meters = readings.meter.reshape(-1, width)
        slots = readings.slot.reshape(-1, width)
        if (
            (slots != np.arange(first, last + 1)).any()
            or (meters != meters[:, :1]).any()
            or (np.diff(meters[:, 0]) <= 0).any()
        ):
            raise BadUse("a batch has one row per meter and slot, sorted by meter, then slot")
        held = (readings.import_wh != NULL_WH) | (readings.export_wh != NULL_WH)
        if (held & (readings.quality == Quality.MISSING)).any():
            raise BadUse("a row that is missing holds a value")
        return Table(
            meters[:, 0].copy(),
            first,
            readings.import_wh.reshape(-1, width),
            readings.export_wh.reshape(-1, width),
            readings.quality.astype(np.int64).reshape(-1, width),
        )


def known(import_wh: IntArray, export_wh: IntArray, quality: IntArray) -> BoolArray:
    """Where a device measured something."""
    some: BoolArray = (quality == Quality.MEASURED) & (
        (import_wh != NULL_WH) | (export_wh != NULL_WH)
    )
    return some


def runs(mask: BoolArray) -> list[tuple[int, int, int]]:
    """Stretches of True along the rows of a mask (rows, columns): row, first, end."""
    padded = np.zeros((mask.shape[0], mask.shape[1] + 2), dtype=np.int8)
    padded[:, 1:-1] = mask
    step = np.diff(padded, axis=1)
    rows, first = np.nonzero(step == 1)
    _, end = np.nonzero(step == -1)
    return list(zip(rows.tolist(), first.tolist(), end.tolist(), strict=True))
