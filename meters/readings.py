# SPDX-License-Identifier: Apache-2.0
"""The normalised reading: what one meter measured in one slot. Rows for people, columns for bulk.

Null is never zero: an unknown value is None in a row and `NULL_WH` in a column, in the signed
struct and in the leaf. It is the largest uint32, above any real value (the lake holds 31 bits).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from dao.errors import BadUse
from dao.leaves import NULL_WH

MAX_WH = 0x7FFF_FFFF
SIGNATURE_BYTES = 65


class Quality(IntEnum):
    """Where a value comes from. Zero is `MISSING`, so that nothing blank passes for measured."""

    MISSING = 0
    MEASURED = 1
    ESTIMATED = 2
    SUBSTITUTED = 3
    INVALID = 4


@dataclass(frozen=True)
class Reading:
    """Energy of one slot in Wh; `signature` is r || s || v by the meter's device key."""

    meter: int
    slot: int
    import_wh: int | None
    export_wh: int | None
    quality: Quality = Quality.MEASURED
    signature: bytes = b""


@dataclass(frozen=True)
class Readings:
    """Many readings as columns of one length n.

    meter, slot, import_wh, export_wh: int64 (n,), wide enough to hold a bad value until it has been
    checked; quality: uint8 (n,); signature: uint8 (n, 65), zeros where unsigned.
    """

    meter: np.ndarray
    slot: np.ndarray
    import_wh: np.ndarray
    export_wh: np.ndarray
    quality: np.ndarray
    signature: np.ndarray

    def __len__(self) -> int:
        return int(self.meter.shape[0])

    def __iter__(self) -> Iterator[Reading]:
        signatures = self.signature.tobytes()
        for i, (meter, slot, imported, exported, quality) in enumerate(
            zip(
                self.meter.tolist(),
                self.slot.tolist(),
                self.import_wh.tolist(),
                self.export_wh.tolist(),
                self.quality.tolist(),
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
            )

    def take(self, rows: np.ndarray) -> Readings:
        """The rows that an index array or a mask picks."""
        return Readings(
            self.meter[rows],
            self.slot[rows],
            self.import_wh[rows],
            self.export_wh[rows],
            self.quality[rows],
            self.signature[rows],
        )

    @staticmethod
    def columns(
        meter: np.ndarray,
        slot: np.ndarray,
        import_wh: np.ndarray,
        export_wh: np.ndarray,
        quality: np.ndarray | None = None,
        signature: np.ndarray | None = None,
    ) -> Readings:
        """Columns of any integer type, cast and checked for one length; measured if unsaid."""
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
        )
        flat = (made.meter, made.slot, made.import_wh, made.export_wh, made.quality)
        if any(column.shape != (n,) for column in flat) or made.signature.shape != (
            n,
            SIGNATURE_BYTES,
        ):
            raise BadUse("columns of readings must all have one length")
        return made

    @staticmethod
    def of(rows: Iterable[Reading]) -> Readings:
        """Rows as columns. Raises BadUse for a number or a signature that no column can hold."""
        rows = list(rows)
        signature = np.zeros((len(rows), SIGNATURE_BYTES), dtype=np.uint8)
        for i, row in enumerate(rows):
            if row.signature:
                if len(row.signature) != SIGNATURE_BYTES:
                    raise BadUse(
                        f"meter {row.meter}, slot {row.slot}: a signature has 65 bytes, "
                        f"not {len(row.signature)}"
                    )
                signature[i] = np.frombuffer(row.signature, dtype=np.uint8)
        try:
            return Readings(
                np.array([row.meter for row in rows], dtype=np.int64),
                np.array([row.slot for row in rows], dtype=np.int64),
                np.array([_or_null(row.import_wh) for row in rows], dtype=np.int64),
                np.array([_or_null(row.export_wh) for row in rows], dtype=np.int64),
                np.array([row.quality for row in rows], dtype=np.uint8),
                signature,
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
            *(
                np.concatenate([getattr(part, name) for part in parts])
                for name in ("meter", "slot", "import_wh", "export_wh", "quality", "signature")
            )
        )


def _or_null(value: int | None) -> int:
    if value is None:
        return NULL_WH
    # A real value equal to the mark of null would turn into null: make it visibly too large.
    return NULL_WH + 1 if value == NULL_WH else value
