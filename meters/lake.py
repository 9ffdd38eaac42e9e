# SPDX-License-Identifier: Apache-2.0
"""The lake: one committed batch is one Parquet file, and the queries over them.

    <lake>/zone=1/day=2016-06-01/batch-<first slot>-<slots>.parquet

A file holds one row per meter of the zone and slot, sorted by meter and slot, missing readings
included, and appears whole or not at all. Queries run in DuckDB on the files of the days they
need; any number of readers may run beside one writer.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dao.errors import BadUse, CheckFailed
from dao.slots import SLOTS_PER_DAY, day_of
from meters.readings import NULL_WH, SIGNATURE_BYTES, Quality, Readings

if TYPE_CHECKING:
    import pandas as pd

# Below this many homes a total says too much of one of them; the ledger refuses it as well.
MIN_HOMES = 15

SCHEMA = pa.schema(
    [
        pa.field("meter", pa.uint32(), nullable=False),
        pa.field("slot", pa.uint32(), nullable=False),
        pa.field("import_wh", pa.int32()),
        pa.field("export_wh", pa.int32()),
        pa.field("quality", pa.uint8(), nullable=False),
        pa.field("signature", pa.binary(SIGNATURE_BYTES)),
        pa.field("leaf", pa.binary(32), nullable=False),
    ]
)


@dataclass(frozen=True)
class Batch:
    """A run of slots of one zone as it stands in the lake and, by its root, on chain.

    net_wh, export_wh: int64 (slots,), sums over the homes that have a value, net positive when the
    zone draws. `homes` is the smallest number of homes behind any slot's sum.
    """

    zone: int
    first_slot: int
    slots: int
    root: bytes
    net_wh: np.ndarray
    export_wh: np.ndarray
    homes: int
    leaves: int
    path: Path

    @property
    def publishable(self) -> bool:
        """Whether enough homes stand behind every total for it to be shown."""
        return self.homes >= MIN_HOMES


def check_range(first_slot: int, slots: int) -> None:
    """A batch holds at least one slot and lies within one UTC day. Raises BadUse."""
    if slots < 1 or first_slot < 0:
        raise BadUse(f"a batch holds at least one slot: {slots} from {first_slot}")
    if first_slot // SLOTS_PER_DAY != (first_slot + slots - 1) // SLOTS_PER_DAY:
        raise BadUse(f"a batch lies within one UTC day: {slots} slots from {first_slot} do not")


def batch_path(lake: Path, zone: int, first_slot: int, slots: int) -> Path:
    """Where a batch lies."""
    day = day_of(first_slot).isoformat()
    return lake / f"zone={zone}" / f"day={day}" / f"batch-{first_slot}-{slots}.parquet"


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


def write_batch(
    lake: Path, zone: int, first_slot: int, slots: int, readings: Readings, leaves: Sequence[bytes]
) -> Path:
    """Write one batch, readings sorted by meter and slot, and return its path.

    The same rows give the same bytes. A file of the same range is replaced; one that overlaps it in
    part would count slots twice: CheckFailed.
    """
    check_range(first_slot, slots)
    path = batch_path(lake, zone, first_slot, slots)
    for other, first, count in _files_of_day(path.parent):
        if other != path and first < first_slot + slots and first_slot < first + count:
            raise CheckFailed(f"{path.name} overlaps {other.name}, which is in the lake already")
    table = _table(readings, leaves)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as out:
            pq.write_table(
                table,
                out,
                compression="zstd",
                use_dictionary=["meter", "slot", "import_wh", "export_wh", "quality"],
                row_group_size=1 << 20,
                store_schema=False,
            )
            out.flush()
            os.fsync(out.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)
    return path


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut. Not every platform lets a folder be opened."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _table(readings: Readings, leaves: Sequence[bytes]) -> pa.Table:
    signed = readings.signature.any(axis=1)
    return pa.Table.from_arrays(
        [
            pa.array(readings.meter.astype(np.uint32)),
            pa.array(readings.slot.astype(np.uint32)),
            _nullable(readings.import_wh),
            _nullable(readings.export_wh),
            pa.array(readings.quality),
            _fixed(readings.signature, SIGNATURE_BYTES, ~signed),
            _fixed(np.frombuffer(b"".join(leaves), dtype=np.uint8), 32, None),
        ],
        schema=SCHEMA,
    )


def _nullable(values: np.ndarray) -> pa.Array:
    null = values == NULL_WH
    return pa.array(np.where(null, 0, values).astype(np.int32), mask=null)


def _fixed(block: np.ndarray, width: int, null: np.ndarray | None) -> pa.Array:
    """A block of bytes as fixed-width binary without a Python object per row."""
    n = block.size // width
    validity = None
    if null is not None and null.any():
        validity = pa.py_buffer(np.packbits(~null, bitorder="little").tobytes())
    return pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(width), n, [validity, pa.py_buffer(block.tobytes())]
    )


def read_batch(path: Path) -> tuple[Readings, list[bytes]]:
    """The readings of a batch file and their leaves, in the file's order. BadUse if unreadable."""
    try:
        with path.open("rb") as source:
            table = pq.read_table(source).combine_chunks()
    except (OSError, pa.ArrowException) as error:
        raise BadUse(f"cannot read the batch {path}: {error}") from error
    if not SCHEMA.equals(table.schema):
        raise BadUse(f"{path} is not a batch of readings: its columns differ")
    n = table.num_rows
    signature = np.zeros((n, SIGNATURE_BYTES), dtype=np.uint8)
    for i, value in enumerate(table["signature"].to_pylist()):
        if value is not None:
            signature[i] = np.frombuffer(value, dtype=np.uint8)
    readings = Readings.columns(
        table["meter"].to_numpy(),
        table["slot"].to_numpy(),
        _with_null_mark(table["import_wh"]),
        _with_null_mark(table["export_wh"]),
        table["quality"].to_numpy(),
        signature,
    )
    return readings, table["leaf"].to_pylist()


def _with_null_mark(column: pa.ChunkedArray) -> np.ndarray:
    wide: np.ndarray = column.cast(pa.int64()).fill_null(NULL_WH).to_numpy()
    return wide


def _files_of_day(folder: Path) -> list[tuple[Path, int, int]]:
    """The batch files of one day's folder with first slot and slots, in order of time."""
    found = []
    for file in folder.glob("batch-*-*.parquet"):
        _, first, count = file.stem.split("-")
        if first.isdigit() and count.isdigit():
            found.append((file, int(first), int(count)))
    return sorted(found, key=lambda entry: entry[1])


def batch_files(lake: Path, zone: int, first_slot: int, slots: int) -> list[Path]:
    """The files that hold any slot of the range, in order of time."""
    if slots < 1:
        return []
    found: list[Path] = []
    end = first_slot + slots
    for day in range(first_slot // SLOTS_PER_DAY, (end - 1) // SLOTS_PER_DAY + 1):
        folder = batch_path(lake, zone, day * SLOTS_PER_DAY, 1).parent
        found += [
            file
            for file, first, count in _files_of_day(folder)
            if first < end and first_slot < first + count
        ]
    return found


def _query(sql: str, files: Sequence[Path], **values: Any) -> pd.DataFrame:
    """Run `sql`, in which `batch` names the files' rows, in a connection of its own."""
    import duckdb

    with duckdb.connect(":memory:") as connection:
        connection.execute("SET threads = 2")
        if files:
            # Not by hive partitions: every row names its slot, and a lake may lie under `a=b/`.
            names = [str(file) for file in files]
            connection.from_parquet(names, hive_partitioning=False).create_view("batch")
        else:
            connection.execute(
                "CREATE VIEW batch AS SELECT 0::UINTEGER AS meter, 0::UINTEGER AS slot, "
                "0::INTEGER AS import_wh, 0::INTEGER AS export_wh, 0::UTINYINT AS quality "
                "WHERE false"
            )
        return connection.execute(sql, values).df()


def zone_totals(
    lake: Path, zone: int, first_slot: int, slots: int, min_homes: int = MIN_HOMES
) -> pd.DataFrame:
    """Totals per committed slot: columns slot, import_wh, export_wh, net_wh, homes (Int64).

    In a slot with fewer than `min_homes` homes the energies are null, never zero. Slots that are
    not in the lake have no row.
    """
    frame = _query(
        """
        SELECT slot, sum(import_wh) AS import_wh, sum(export_wh) AS export_wh,
               sum(coalesce(import_wh, 0) - coalesce(export_wh, 0)) AS net_wh,
               count(*) FILTER (import_wh IS NOT NULL OR export_wh IS NOT NULL) AS homes
        FROM batch WHERE slot >= $first AND slot < $end GROUP BY slot ORDER BY slot
        """,
        batch_files(lake, zone, first_slot, slots),
        first=first_slot,
        end=first_slot + slots,
    ).astype("Int64")
    frame.loc[frame["homes"] < min_homes, ["import_wh", "export_wh", "net_wh"]] = None
    return frame


def meter_series(lake: Path, zone: int, meter: int, first_slot: int, slots: int) -> pd.DataFrame:
    """One meter's committed rows: columns slot, import_wh, export_wh, quality (Int64)."""
    return _query(
        """
        SELECT slot, import_wh, export_wh, quality FROM batch
        WHERE meter = $meter AND slot >= $first AND slot < $end ORDER BY slot
        """,
        batch_files(lake, zone, first_slot, slots),
        meter=meter,
        first=first_slot,
        end=first_slot + slots,
    ).astype("Int64")


def counts(lake: Path, zone: int) -> pd.DataFrame:
    """Per day of a zone: columns day, batches, meters, rows, missing."""
    folder = lake / f"zone={zone}"
    files = [file for day in sorted(folder.glob("day=*")) for file, _, _ in _files_of_day(day)]
    frame = _query(
        """
        SELECT slot // $per_day AS day, count(DISTINCT meter) AS meters, count(*) AS rows,
               count(*) FILTER (quality = $missing) AS missing
        FROM batch GROUP BY 1 ORDER BY 1
        """,
        files,
        per_day=SLOTS_PER_DAY,
        missing=int(Quality.MISSING),
    )
    batches: dict[date, int] = {}
    for file in files:
        day = date.fromisoformat(file.parent.name.removeprefix("day="))
        batches[day] = batches.get(day, 0) + 1
    frame["day"] = [day_of(int(day) * SLOTS_PER_DAY) for day in frame["day"]]
    frame.insert(1, "batches", [batches[day] for day in frame["day"]])
    return frame
