# SPDX-License-Identifier: Apache-2.0
"""One committed batch as one Parquet file: its columns, writing, reading.

Where files lie is in `store.py`, how rows are erased in `erasing.py`. A file holds one row per
meter of the zone and slot, sorted by meter and slot, missing readings included. A correction is a
file of its own beside the first; both stay. An erased row keeps meter, slot and leaves: the tree's
root needs no more.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import overload

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dao.errors import BadUse, CheckFailed
from dao.slots import SLOTS_PER_DAY
from meters.lake.store import BatchFile, Lake, LakeLike, opened
from meters.leaves import EditedRow, root_of_leaves
from meters.readings import LINK_BYTES, NULL_WH, SIGNATURE_BYTES, Readings
from meters.signing import digests, links

# Below this many homes a total says too much of one of them; the ledger refuses it as well.
MIN_HOMES = 15
VERSIONS = 2
"""The ledger takes a batch and one correction of it."""

LEAF_BYTES = 32
_LEAF = pa.binary(LEAF_BYTES)

SCHEMA = pa.schema(
    [
        pa.field("meter", pa.uint32(), nullable=False),
        pa.field("slot", pa.uint32(), nullable=False),
        pa.field("import_wh", pa.int32()),
        pa.field("export_wh", pa.int32()),
        pa.field("quality", pa.uint8()),
        # Null in the four below: nothing is signed. Null in `previous` beside a signature: it is
        # the link of the row above.
        pa.field("sequence", pa.uint64()),
        pa.field("previous", pa.binary(LINK_BYTES)),
        pa.field("signature", pa.binary(SIGNATURE_BYTES)),
        pa.field("leaf", _LEAF, nullable=False),
        pa.field("record", pa.binary()),
        pa.field("record_leaves", pa.list_(pa.field("element", _LEAF, nullable=False))),
        pa.field("erased", pa.bool_(), nullable=False),
    ]
)

# The values of a day lie close together, and their upper bytes are nearly all zero: split into
# streams of bytes they pack best. Rising numbers pack as their differences.
_ENCODINGS = {
    "meter": "DELTA_BINARY_PACKED",
    "slot": "DELTA_BINARY_PACKED",
    "sequence": "DELTA_BINARY_PACKED",
    "import_wh": "BYTE_STREAM_SPLIT",
    "export_wh": "BYTE_STREAM_SPLIT",
}
# Hashes and signatures do not pack; to try costs half of the time.
_PLAIN = ("previous", "signature", "leaf", "record_leaves.list.element")
_PACKED = ("meter", "slot", "import_wh", "export_wh", "quality", "sequence", "record", "erased")
# Small enough that a query for one meter skips most of a large zone.
_ROW_GROUP = 1 << 17


@dataclass(frozen=True)
class Batch:
    """A run of slots of one zone as it stands in the lake and, by its root, on chain.

    net_wh, export_wh: int64 (slots,), sums over the homes that have a value, net positive when the
    zone draws. `homes` is the smallest number of homes behind any slot's sum; `leaves` counts those
    of readings and of edit records.
    """

    zone: int
    first_slot: int
    slots: int
    root: bytes
    net_wh: np.ndarray
    export_wh: np.ndarray
    homes: int
    leaves: int
    path: Path | str
    version: int = 1

    @property
    def publishable(self) -> bool:
        """Whether enough homes stand behind every total for it to be shown."""
        return self.homes >= MIN_HOMES


@dataclass(frozen=True)
class StoredBatch:
    """What a batch file holds, in its order.

    readings: an erased row has null values, and a `linked` one zeros where `previous` belongs
    unless the file was read with its separator. leaves: one per row. records: canonical bytes of
    the edit records, by row and number, None where erased, with their leaves and rows (int64)
    beside. erased, linked: bool (n,).
    """

    readings: Readings
    leaves: list[bytes]
    records: list[bytes | None]
    record_leaves: list[bytes]
    record_rows: np.ndarray
    erased: np.ndarray
    linked: np.ndarray

    @property
    def tree(self) -> list[bytes]:
        """All leaves in the order of the batch's tree."""
        return self.leaves + self.record_leaves

    def root(self) -> bytes:
        """The root that the file's leaves give, erased or not."""
        return root_of_leaves(self.tree)


def check_range(first_slot: int, slots: int) -> None:
    """A batch holds at least one slot and lies within one UTC day. Raises BadUse."""
    if slots < 1 or first_slot < 0:
        raise BadUse(f"a batch holds at least one slot: {slots} from {first_slot}")
    if first_slot // SLOTS_PER_DAY != (first_slot + slots - 1) // SLOTS_PER_DAY:
        raise BadUse(f"a batch lies within one UTC day: {slots} slots from {first_slot} do not")


@overload
def batch_path(lake: Path, zone: int, first_slot: int, slots: int, version: int = 1) -> Path: ...
@overload
def batch_path(
    lake: str | Lake, zone: int, first_slot: int, slots: int, version: int = 1
) -> str: ...
def batch_path(
    lake: LakeLike, zone: int, first_slot: int, slots: int, version: int = 1
) -> Path | str:
    """Where a batch lies: a path under a path, an address under an address."""
    held = Lake.of(lake)
    path = held.path(zone, first_slot, slots, version)
    return Path(path) if isinstance(lake, Path) else held.address(path)


def totals_of(
    readings: Readings, first_slot: int, slots: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Net Wh, export Wh and number of homes with a value, int64 (slots,) each.

    An unknown value adds nothing to a sum, and a home with no value in a slot is not counted there.
    """
    at = readings.slot - first_slot
    imported = np.where(readings.import_wh == NULL_WH, 0, readings.import_wh)
    exported = np.where(readings.export_wh == NULL_WH, 0, readings.export_wh)
    present = (readings.import_wh != NULL_WH) | (readings.export_wh != NULL_WH)
    net = np.zeros(slots, dtype=np.int64)
    export = np.zeros(slots, dtype=np.int64)
    homes = np.zeros(slots, dtype=np.int64)
    np.add.at(net, at, imported - exported)
    np.add.at(export, at, exported)
    np.add.at(homes, at, present)
    return net, export, homes


# Writing


def write_batch(
    lake: LakeLike,
    zone: int,
    first_slot: int,
    slots: int,
    readings: Readings,
    leaves: Sequence[bytes],
    records: Sequence[EditedRow] = (),
    record_leaves: Sequence[bytes] = (),
    version: int = 1,
    *,
    separator: bytes | None = None,
) -> None:
    """Write one batch, readings sorted by meter and slot, records too, where `batch_path` says.

    separator: the readings' domain; with it a link that follows from the row above is left out,
    32 bytes for most rows. The same rows give the same bytes. A file of the same range and version
    is replaced; one that overlaps another range in part would count slots twice: CheckFailed.
    """
    check_range(first_slot, slots)
    if not 1 <= version <= VERSIONS:
        raise BadUse(f"a batch has versions 1 to {VERSIONS}, not {version}")
    held = Lake.of(lake)
    path = held.path(zone, first_slot, slots, version)
    for other in held.batches(held.folder(zone, first_slot)):
        same = (other.first_slot, other.slots) == (first_slot, slots)
        if not same and other.overlaps(first_slot, first_slot + slots):
            raise CheckFailed(
                f"{Path(path).name} overlaps {Path(other.path).name}, which is in the lake already"
            )
    write(held, path, _table(readings, leaves, records, record_leaves, separator))


def write(lake: Lake, path: str, table: pa.Table) -> None:
    """Write a batch file of these columns; the same rows give the same bytes."""
    with lake.writing(path) as out:
        pq.write_table(
            table,
            out,
            compression={**dict.fromkeys(_PACKED, "zstd"), **dict.fromkeys(_PLAIN, "none")},
            use_dictionary=["quality"],
            column_encoding=_ENCODINGS,
            row_group_size=_ROW_GROUP,
            store_schema=False,
        )


def _table(
    readings: Readings,
    leaves: Sequence[bytes],
    records: Sequence[EditedRow],
    record_leaves: Sequence[bytes],
    separator: bytes | None,
) -> pa.Table:
    if len(leaves) != len(readings):
        raise BadUse(f"{len(readings)} readings have as many leaves, not {len(leaves)}")
    unsigned = ~readings.signature.any(axis=1)
    linked = _follows(readings, unsigned, separator)
    content, hashes = _record_columns(readings, records, record_leaves)
    return pa.Table.from_arrays(
        [
            pa.array(readings.meter.astype(np.uint32)),
            pa.array(readings.slot.astype(np.uint32)),
            _nullable(readings.import_wh),
            _nullable(readings.export_wh),
            pa.array(readings.quality),
            pa.array(readings.sequence.astype(np.uint64), mask=unsigned),
            fixed(readings.previous, LINK_BYTES, unsigned | linked),
            fixed(readings.signature, SIGNATURE_BYTES, unsigned),
            fixed(np.frombuffer(b"".join(leaves), dtype=np.uint8), LEAF_BYTES),
            content,
            hashes,
            pa.array(np.zeros(len(readings), dtype=bool)),
        ],
        schema=SCHEMA,
    )


def _follows(readings: Readings, unsigned: np.ndarray, separator: bytes | None) -> np.ndarray:
    """Rows whose `previous` is the link of the row above, bool (n,)."""
    found = np.zeros(len(readings), dtype=bool)
    if separator is None or len(readings) < 2:
        return found
    candidates = np.flatnonzero(
        (readings.meter[1:] == readings.meter[:-1])
        & (readings.sequence[1:] == readings.sequence[:-1] + 1)
        & ~unsigned[1:]
        & ~unsigned[:-1]
    )
    above = readings.take(candidates)
    made = links(digests(separator, above), above.signature)
    found[candidates + 1] = (made == readings.previous[candidates + 1]).all(axis=1)
    return found


def _record_columns(
    readings: Readings, records: Sequence[EditedRow], record_leaves: Sequence[bytes]
) -> tuple[pa.Array, pa.Array]:
    """The columns `record` and `record_leaves`: null in the rows that nothing was edited in."""
    n = len(readings)
    if len(records) != len(record_leaves):
        raise BadUse(f"{len(records)} edit records have as many leaves, not {len(record_leaves)}")
    if not records:
        return pa.nulls(n, SCHEMA.field("record").type), pa.nulls(
            n, SCHEMA.field("record_leaves").type
        )
    rows = _rows_of(readings, records)
    counts = np.bincount(rows, minlength=n)
    texts: list[bytes] = []
    ends = np.cumsum(counts[counts > 0])
    for begin, end in zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True):
        texts.append(b"[" + b",".join(record.canonical() for record in records[begin:end]) + b"]")
    null = counts == 0
    sizes = np.zeros(n, dtype=np.int64)
    sizes[~null] = [len(text) for text in texts]
    content = pa.Array.from_buffers(
        pa.binary(),
        n,
        [_validity(null), _offsets(sizes), pa.py_buffer(b"".join(texts))],
    )
    flat = fixed(np.frombuffer(b"".join(record_leaves), dtype=np.uint8), LEAF_BYTES)
    return content, _lists(counts, null, flat)


def _rows_of(readings: Readings, records: Sequence[EditedRow]) -> np.ndarray:
    """The row of each record. BadUse for one without a row, or for records out of order."""
    wide = (readings.meter << 32) | readings.slot
    wanted = np.array([(record.meter << 32) | record.slot for record in records], dtype=np.int64)
    rows = np.searchsorted(wide, wanted)
    if (rows >= len(wide)).any() or (wide[rows] != wanted).any() or (np.diff(rows) < 0).any():
        raise BadUse("an edit record belongs to no row of the batch, or they are out of order")
    return rows


def _nullable(values: np.ndarray) -> pa.Array:
    null = values == NULL_WH
    return pa.array(np.where(null, 0, values).astype(np.int32), mask=null)


def fixed(block: np.ndarray, width: int, null: np.ndarray | None = None) -> pa.Array:
    """A block of bytes as fixed-width binary without a Python object per row."""
    n = block.size // width
    return pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(width), n, [_validity(null), pa.py_buffer(block.tobytes())]
    )


def _lists(counts: np.ndarray, null: np.ndarray, flat: pa.Array) -> pa.Array:
    kind = SCHEMA.field("record_leaves").type
    return pa.ListArray.from_buffers(
        kind, len(counts), [_validity(null), _offsets(counts)], children=[flat]
    )


def _offsets(sizes: np.ndarray) -> pa.Buffer:
    ends = np.zeros(len(sizes) + 1, dtype=np.int64)
    np.cumsum(sizes, out=ends[1:])
    if ends[-1] > 0x7FFF_FFFF:
        raise BadUse("the edit records of one batch take more than 2 GiB")
    return pa.py_buffer(ends.astype(np.int32).tobytes())


def _validity(null: np.ndarray | None) -> pa.Buffer | None:
    if null is None or not null.any():
        return None
    return pa.py_buffer(np.packbits(~null, bitorder="little").tobytes())


# Reading


def read_batch(
    path: Path | str, lake: LakeLike | None = None, *, separator: bytes | None = None
) -> StoredBatch:
    """What a batch file holds. BadUse if it cannot be read.

    lake: where an address alone does not open the store; `path` is then a path in it. separator:
    the readings' domain; with it the links that were left out are put back.
    """
    return stored_of(read_table(*opened(path, lake)), path, separator)


def stored_of(table: pa.Table, path: Path | str, separator: bytes | None) -> StoredBatch:
    """As `read_batch`, of the file's columns as `read_table` gave them."""
    n = table.num_rows
    column = {name: whole(table[name]) for name in SCHEMA.names}
    signature = _block(column["signature"], SIGNATURE_BYTES)
    lists = column["record_leaves"]
    counts = lists.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    record_leaves = _pieces(lists.flatten())
    stored = StoredBatch(
        readings=Readings.columns(
            column["meter"].to_numpy(),
            column["slot"].to_numpy(),
            _with_null_mark(column["import_wh"]),
            _with_null_mark(column["export_wh"]),
            column["quality"].fill_null(0).to_numpy(zero_copy_only=False),
            signature,
            column["sequence"].fill_null(0).to_numpy(zero_copy_only=False),
            _block(column["previous"], LINK_BYTES),
        ),
        leaves=_pieces(column["leaf"]),
        records=_records(column["record"], counts, path),
        record_leaves=record_leaves,
        record_rows=np.repeat(np.arange(n), counts),
        erased=column["erased"].to_numpy(zero_copy_only=False),
        linked=nulls(column["previous"]) & ~nulls(column["signature"]),
    )
    if separator is None:
        return stored
    return replace(stored, readings=signed_rows(stored, separator))


def signed_rows(stored: StoredBatch, separator: bytes) -> Readings:
    """The readings as their devices signed them: links that follow from the row above put back."""
    rows = stored.readings
    if not stored.linked.any():
        return rows
    previous = rows.previous.copy()
    # A link hangs on the one before, so a run of linked rows is worked off step by step, all runs
    # of the batch at once. The first row of a file and of a meter is never linked.
    depth = _run_depth(stored.linked)
    for step in range(1, int(depth.max()) + 1):
        at = np.flatnonzero(depth == step)
        above = replace(rows, previous=previous).take(at - 1)
        previous[at] = links(digests(separator, above), above.signature)
    return replace(rows, previous=previous)


def _run_depth(linked: np.ndarray) -> np.ndarray:
    """How many linked rows in a row end at each row, itself included; 0 where it is not linked."""
    count = np.cumsum(linked)
    base = np.maximum.accumulate(np.where(linked, 0, count))
    depth: np.ndarray = np.where(linked, count - base, 0)
    return depth


def newest(files: Sequence[BatchFile]) -> list[BatchFile]:
    """The newest version of each batch, in order of time."""
    latest = {(file.first_slot, file.slots): file for file in files}
    return list(latest.values())


def batch_files(lake: LakeLike, zone: int, first_slot: int, slots: int) -> list[BatchFile]:
    """The newest files that hold any slot of the range, in order of time."""
    if slots < 1:
        return []
    held = Lake.of(lake)
    end = first_slot + slots
    found: list[BatchFile] = []
    for day in range(first_slot // SLOTS_PER_DAY, (end - 1) // SLOTS_PER_DAY + 1):
        found += [
            file
            for file in newest(held.batches(held.folder(zone, day * SLOTS_PER_DAY)))
            if file.overlaps(first_slot, end)
        ]
    return found


# Columns


def read_table(lake: Lake, path: str) -> pa.Table:
    """The columns of a batch file. BadUse if it cannot be read, or is another file."""
    shown = lake.address(path)
    try:
        with lake.reading(path) as source:
            table = pq.read_table(source)
    except (OSError, pa.ArrowException) as error:
        raise BadUse(f"cannot read the batch {shown}: {error}") from error
    if not SCHEMA.equals(table.schema):
        raise BadUse(f"{shown} is not a batch of readings: its columns differ")
    return table


def whole(column: pa.ChunkedArray) -> pa.Array:
    """A column in one piece that begins at its buffers' beginning."""
    made = column.combine_chunks()
    if isinstance(made, pa.ChunkedArray):
        made = pa.concat_arrays(made.chunks) if made.num_chunks else pa.array([], made.type)
    return made if made.offset == 0 else pa.concat_arrays([made])


def _with_null_mark(column: pa.Array) -> np.ndarray:
    wide: np.ndarray = column.cast(pa.int64()).fill_null(NULL_WH).to_numpy(zero_copy_only=False)
    return wide


def nulls(column: pa.Array) -> np.ndarray:
    """Where a column is null, bool (n,)."""
    null: np.ndarray = column.is_null().to_numpy(zero_copy_only=False)
    return null


def _block(column: pa.Array, width: int) -> np.ndarray:
    """Fixed-width binary as bytes, uint8 (n, width), zeros where null."""
    n = len(column)
    held = column.buffers()[1]
    if held is None:
        return np.zeros((n, width), dtype=np.uint8)
    block = np.frombuffer(held, dtype=np.uint8)[: n * width].reshape(n, width).copy()
    if column.null_count:
        block[nulls(column)] = 0
    return block


def _pieces(column: pa.Array) -> list[bytes]:
    raw = _block(column, LEAF_BYTES).tobytes()
    return [raw[at : at + LEAF_BYTES] for at in range(0, len(raw), LEAF_BYTES)]


def _records(column: pa.Array, counts: np.ndarray, path: Path | str) -> list[bytes | None]:
    """The records of all rows one after the other, to the byte as they were written."""
    found: list[bytes | None] = []
    for row in np.flatnonzero(counts).tolist():
        held = column[row].as_py()
        parts = [None] * int(counts[row]) if held is None else split(held)
        if parts is None or len(parts) != counts[row]:
            raise BadUse(
                f"{path} is not a batch of readings: a row's edit records are not readable"
            )
        found += parts
    return found


def split(text: bytes) -> list[bytes | None] | None:
    """The elements of a JSON array as they stand in it; None where it is none."""
    try:
        words = text.decode()
        decoder = json.JSONDecoder()
        parts: list[bytes | None] = []
        at = 1
        while at < len(words) - 1:
            _, end = decoder.raw_decode(words, at)
            parts.append(words[at:end].encode())
            at = end + 1
    except (ValueError, RecursionError):
        return None
    return parts
