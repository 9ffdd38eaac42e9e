# SPDX-License-Identifier: Apache-2.0
"""Readings on the wire: a fixed binary frame between machines, JSON for people over HTTP.

A frame is `GCR1`, the number of records (uint32) and 1 to 4096 records of 126 bytes, numbers
big-endian: meter 4, slot 8, import Wh 4, export Wh 4, quality 1, sequence 8, previous link 32,
signature 65 (r, s, v). Null is 0xFFFFFFFF. The inbox keeps the same records. Nothing here looks at
a signature.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dao.eip712 import keccak
from dao.errors import BadUse
from meters.readings import LINK_BYTES, NULL_WH, SIGNATURE_BYTES, Quality, Reading, Readings

MAGIC = b"GCR1"
MAX_RECORDS = 4096
RECORD = np.dtype(
    [
        ("meter", ">u4"),
        ("slot", ">u8"),
        ("import_wh", ">u4"),
        ("export_wh", ">u4"),
        ("quality", "u1"),
        ("sequence", ">u8"),
        ("previous", "u1", LINK_BYTES),
        ("signature", "u1", SIGNATURE_BYTES),
    ]
)
RECORD_BYTES = RECORD.itemsize
MAX_FRAME_BYTES = len(MAGIC) + 4 + MAX_RECORDS * RECORD_BYTES

_LIMITS = {
    "meter": 1 << 32,
    "slot": 1 << 63,
    "import_wh": 1 << 32,
    "export_wh": 1 << 32,
    "quality": len(Quality),
    "sequence": 1 << 63,
}
_JSON_FIELDS = (*_LIMITS, "previous", "signature")


def encode(readings: Readings) -> bytes:
    """The frame of these readings. BadUse for none, too many, or a value that does not fit."""
    n = len(readings)
    if not 1 <= n <= MAX_RECORDS:
        raise BadUse(f"a frame holds 1 to {MAX_RECORDS} readings, not {n}")
    return MAGIC + n.to_bytes(4, "big") + records_of(readings)


def decode(frame: bytes) -> Readings:
    """The readings of a frame, in its order. BadUse for anything malformed."""
    head = len(MAGIC) + 4
    if frame[: len(MAGIC)] != MAGIC or len(frame) < head:
        raise BadUse("not a frame of readings: it does not begin with GCR1 and a count")
    count = int.from_bytes(frame[len(MAGIC) : head], "big")
    if not 1 <= count <= MAX_RECORDS:
        raise BadUse(f"a frame holds 1 to {MAX_RECORDS} readings, not {count}")
    if len(frame) != head + count * RECORD_BYTES:
        raise BadUse(
            f"a frame of {count} readings has {head + count * RECORD_BYTES} bytes, "
            f"not {len(frame)}: it was cut off or runs on"
        )
    return readings_of(frame[head:])


def frame_id(frame: bytes) -> bytes:
    """What an acknowledgement calls this frame, 32 bytes."""
    return keccak(frame)


def records_of(readings: Readings) -> bytes:
    """Readings as records one after another. BadUse for a value that does not fit."""
    table = np.empty(len(readings), dtype=RECORD)
    for name, limit in _LIMITS.items():
        column = getattr(readings, name)
        # int64 cannot reach 2^63: only a negative number fails there.
        if len(column) and (column.min() < 0 or int(column.max()) >= limit):
            raise BadUse(f"{name} of a reading does not fit into a frame")
        table[name] = column
    table["previous"] = readings.previous
    table["signature"] = readings.signature
    return table.tobytes()


def readings_of(records: bytes) -> Readings:
    """The inverse of `records_of`. BadUse for a number that no column can hold."""
    table = np.frombuffer(records, dtype=RECORD)
    for name in ("slot", "sequence", "quality"):
        if len(table) and int(table[name].max()) >= _LIMITS[name]:
            raise BadUse(f"{name} of a reading in the frame is out of range")
    return Readings.columns(**{name: table[name] for name in RECORD.names or ()})


def cut(records: bytes) -> list[bytes]:
    """Records one after another as a list of them."""
    return [records[at : at + RECORD_BYTES] for at in range(0, len(records), RECORD_BYTES)]


def to_json(readings: Readings) -> list[dict[str, Any]]:
    """Readings as people see them over HTTP: null for an unknown value, bytes as 0x text."""
    return [
        {
            "meter": row.meter,
            "slot": row.slot,
            "import_wh": row.import_wh,
            "export_wh": row.export_wh,
            "quality": int(row.quality),
            "sequence": row.sequence,
            "previous": "0x" + row.previous.hex(),
            "signature": "0x" + row.signature.hex(),
        }
        for row in readings
    ]


def from_json(document: object) -> Readings:
    """The inverse of `to_json`, of a parsed document. BadUse, with the place, for anything else."""
    if not isinstance(document, list) or not 1 <= len(document) <= MAX_RECORDS:
        raise BadUse(f"expected a list of 1 to {MAX_RECORDS} readings")
    return Readings.of(_row(i, entry) for i, entry in enumerate(document))


def _row(at: int, entry: object) -> Reading:
    if not isinstance(entry, Mapping) or set(entry) != set(_JSON_FIELDS):
        raise BadUse(f"reading {at}: expected exactly {', '.join(_JSON_FIELDS)}")
    where = f"reading {at}: "
    return Reading(
        meter=_whole(entry, "meter", where),
        slot=_whole(entry, "slot", where),
        import_wh=None if entry["import_wh"] is None else _whole(entry, "import_wh", where),
        export_wh=None if entry["export_wh"] is None else _whole(entry, "export_wh", where),
        quality=Quality(_whole(entry, "quality", where)),
        sequence=_whole(entry, "sequence", where),
        previous=hex_bytes(entry["previous"], LINK_BYTES, where + "previous"),
        signature=hex_bytes(entry["signature"], SIGNATURE_BYTES, where + "signature"),
    )


def _whole(entry: Mapping[str, Any], name: str, where: str) -> int:
    # The mark of null is no value: JSON has a null of its own.
    limit = NULL_WH if name.endswith("_wh") else _LIMITS[name]
    value = entry[name]
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < limit:
        raise BadUse(f"{where}{name} is not a whole number from 0 to {limit - 1}")
    return value


def hex_bytes(value: object, width: int, what: str) -> bytes:
    """`width` bytes given as 0x text. BadUse, beginning with `what`, for anything else."""
    if isinstance(value, str) and len(value) == 2 + 2 * width and value.startswith("0x"):
        try:
            return bytes.fromhex(value[2:])
        except ValueError:
            pass
    raise BadUse(f"{what} is not {width} bytes as 0x text")
