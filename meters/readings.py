# SPDX-License-Identifier: Apache-2.0
"""The normalised reading: what one meter measured in one slot. Rows for people, columns for bulk.

Null is never zero: an unknown value is None in a row and `NULL_WH` in a column, in the signed
struct and in the leaf. It is the largest uint32, above any real value (the lake holds 31 bits).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from enum import IntEnum

import numpy as np

from dao.errors import BadUse
from dao.leaves import NULL_WH

MAX_WH = 0x7FFF_FFFF
SIGNATURE_BYTES = 65
LINK_BYTES = 32
"""Of the link to the reading before: see `signing.links`."""


class Quality(IntEnum):
    """Where a value comes from. Zero is `MISSING`, so that nothing blank passes for measured."""

    MISSING = 0
    MEASURED = 1
    ESTIMATED = 2
    SUBSTITUTED = 3
    INVALID = 4


@dataclass(frozen=True)
class Reading:
    """Energy of one slot in Wh; `signature` is r || s || v by the meter's device key.

    A metering point numbers its readings 0, 1, 2 ... in `sequence`; `previous` is the link of the
    one before, zeros for the first.
    """

    meter: int
    slot: int
    import_wh: int | None
    export_wh: int | None
    quality: Quality = Quality.MEASURED
    signature: bytes = b""
    sequence: int = 0
    previous: bytes = bytes(LINK_BYTES)


@dataclass(frozen=True)
class Readings:
    """Many readings as columns of one length n.

    meter, slot, import_wh, export_wh: int64 (n,), wide enough to hold a bad value until it has been
    checked; quality: uint8 (n,); signature: uint8 (n, 65), zeros where unsigned; sequence: int64
    (n,); previous: uint8 (n, 32).
    """

    meter: np.ndarray
    slot: np.ndarray
    import_wh: np.ndarray
    export_wh: np.ndarray
    quality: np.ndarray
    signature: np.ndarray
    sequence: np.ndarray
    previous: np.ndarray

    def __len__(self) -> int:
        return int(self.meter.shape[0])

    def __iter__(self) -> Iterator[Reading]:
        signatures, links = self.signature.tobytes(), self.previous.tobytes()
        for i, (meter, slot, imported, exported, quality, sequence) in enumerate(
            zip(
                self.meter.tolist(),
                self.slot.tolist(),
                self.import_wh.tolist(),
                self.export_wh.tolist(),
                self.quality.tolist(),
                self.sequence.tolist(),
                strict=True,
            )
        ):
            signature = signatures[i * SIGNATURE_BYTES : (i + 1) * SIGNATURE_BYTES]
            yield Reading(
                meter,
                slot,
                None if imported == NULL_WH else imported,
                None if exported == NULL_WH else exported,
                Quality(quality),
                signature if any(signature) else b"",
                sequence,
                links[i * LINK_BYTES : (i + 1) * LINK_BYTES],
            )

    def take(self, rows: np.ndarray) -> Readings:
        """The rows that an index array or a mask picks."""
        return Readings(*(getattr(self, name)[rows] for name in COLUMNS))

    @staticmethod
    def columns(
        meter: np.ndarray,
        slot: np.ndarray,
        import_wh: np.ndarray,
        export_wh: np.ndarray,
        quality: np.ndarray | None = None,
        signature: np.ndarray | None = None,
        sequence: np.ndarray | None = None,
        previous: np.ndarray | None = None,
    ) -> Readings:
        """Columns of any integer type, cast and checked for one length.

        Measured, unsigned and outside any chain where nothing is said.
        """
        n = len(meter)
        made = Readings(
            np.ascontiguousarray(meter, dtype=np.int64),
            np.ascontiguousarray(slot, dtype=np.int64),
            np.ascontiguousarray(import_wh, dtype=np.int64),
            np.ascontiguousarray(export_wh, dtype=np.int64),
            np.full(n, Quality.MEASURED, dtype=np.uint8)
            if quality is None
            else np.ascontiguousarray(quality, dtype=np.uint8),
            np.zeros((n, SIGNATURE_BYTES), dtype=np.uint8)
            if signature is None
            else np.ascontiguousarray(signature, dtype=np.uint8),
            np.zeros(n, dtype=np.int64)
            if sequence is None
            else np.ascontiguousarray(sequence, dtype=np.int64),
            np.zeros((n, LINK_BYTES), dtype=np.uint8)
            if previous is None
            else np.ascontiguousarray(previous, dtype=np.uint8),
        )
        widths = {"signature": (n, SIGNATURE_BYTES), "previous": (n, LINK_BYTES)}
        if any(getattr(made, name).shape != widths.get(name, (n,)) for name in COLUMNS):
            raise BadUse("columns of readings must all have one length")
        return made

    @staticmethod
    def of(rows: Iterable[Reading]) -> Readings:
        """Rows as columns. Raises BadUse for a number or a signature that no column can hold."""
        rows = list(rows)
        signature = np.zeros((len(rows), SIGNATURE_BYTES), dtype=np.uint8)
        previous = np.zeros((len(rows), LINK_BYTES), dtype=np.uint8)
        for i, row in enumerate(rows):
            if row.signature:
                signature[i] = _bytes_of(row, "signature", row.signature, SIGNATURE_BYTES)
            previous[i] = _bytes_of(row, "link", row.previous, LINK_BYTES)
        try:
            return Readings(
                np.array([row.meter for row in rows], dtype=np.int64),
                np.array([row.slot for row in rows], dtype=np.int64),
                np.array([_or_null(row.import_wh) for row in rows], dtype=np.int64),
                np.array([_or_null(row.export_wh) for row in rows], dtype=np.int64),
                np.array([row.quality for row in rows], dtype=np.uint8),
                signature,
                np.array([row.sequence for row in rows], dtype=np.int64),
                previous,
            )
        except OverflowError as error:
            raise BadUse("a reading holds a number beyond 64 bits") from error

    @staticmethod
    def concat(parts: Iterable[Readings]) -> Readings:
        """Several columns one after another; no parts give no readings."""
        parts = list(parts)
        if not parts:
            return Readings.of([])
        return Readings(
            *(np.concatenate([getattr(part, name) for part in parts]) for name in COLUMNS)
        )


COLUMNS = tuple(column.name for column in fields(Readings))


def _bytes_of(row: Reading, what: str, value: bytes, width: int) -> np.ndarray:
    if len(value) != width:
        raise BadUse(
            f"meter {row.meter}, slot {row.slot}: a {what} has {width} bytes, not {len(value)}"
        )
    return np.frombuffer(value, dtype=np.uint8)


def _or_null(value: int | None) -> int:
    if value is None:
        return NULL_WH
    # A real value equal to the mark of null would turn into null: make it visibly too large.
    return NULL_WH + 1 if value == NULL_WH else value
