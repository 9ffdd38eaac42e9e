# SPDX-License-Identifier: Apache-2.0
"""Taking rows out of a batch file for good, its root left as it is.

Which files have to be gone through, and what else is erased, is in `meters/erasure.py`.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dao.errors import BadUse
from meters.lake.batches import (
    SCHEMA,
    StoredBatch,
    fixed,
    nulls,
    read_table,
    split,
    stored_of,
    whole,
    write,
)
from meters.lake.store import Lake, LakeLike
from meters.leaves import slots_named
from meters.readings import LINK_BYTES, SIGNATURE_BYTES


def erase_rows(
    lake: LakeLike, path: str, meter: int, first_slot: int, end_slot: int, separator: bytes
) -> bool:
    """Take what a batch file holds of a meter's slots in [first_slot, end_slot) out of it.

    Meter, slot and leaves stay, so the root does. The link of the row after is kept in full; edit
    records of the meter's later slots go too where they name one of these. The file is replaced
    whole. False, and nothing written, where nothing was to be taken out.
    """
    held = Lake.of(lake)
    table = read_table(held, path)
    stored = stored_of(table, path, separator)
    rows = stored.readings
    gone = (rows.meter == meter) & (rows.slot >= first_slot) & (rows.slot < end_slot)
    forgotten = gone.copy()
    forgotten[_naming(stored, meter, first_slot, end_slot)] = True
    stale = forgotten & ~nulls(whole(table["record"]))
    if not (gone & ~stored.erased).any() and not stale.any():
        return False
    below = np.zeros(len(gone), dtype=bool)
    below[1:] = gone[:-1]
    null_links = nulls(whole(table["previous"])) & ~(below & stored.linked) | gone
    changed = {
        "previous": fixed(rows.previous, LINK_BYTES, null_links),
        "erased": pa.array(stored.erased | gone),
    }
    for name in ("import_wh", "export_wh", "quality", "sequence"):
        changed[name] = pc.if_else(pa.array(gone), None, whole(table[name]))
    block = np.where(gone[:, None], 0, rows.signature)
    changed["signature"] = fixed(block, SIGNATURE_BYTES, nulls(whole(table["signature"])) | gone)
    changed["record"] = pc.if_else(pa.array(forgotten), None, whole(table["record"]))
    columns = [changed.get(name, table[name]) for name in SCHEMA.names]
    write(held, path, pa.Table.from_arrays(columns, schema=SCHEMA))
    return True


def mentions(lake: LakeLike, path: str, meter: int, first_slot: int, end_slot: int) -> bool:
    """Whether an edit record of the meter in this file names a slot of the range. Reads little."""
    held = Lake.of(lake)
    try:
        with held.reading(path) as source:
            table = pq.read_table(source, columns=["record"], filters=pc.field("meter") == meter)
    except (OSError, pa.ArrowException) as error:
        raise BadUse(f"cannot read the batch {held.address(path)}: {error}") from error
    texts = table["record"].drop_null().to_pylist()
    return any(
        first_slot <= slot < end_slot
        for text in texts
        for record in split(text) or ()
        if record is not None
        for slot in slots_named(record)
    )


def _naming(stored: StoredBatch, meter: int, first_slot: int, end_slot: int) -> list[int]:
    """Rows with an edit record that names a slot of the meter's in the range."""
    rows = stored.record_rows
    return [
        int(row)
        for row, record in zip(rows.tolist(), stored.records, strict=True)
        if record is not None
        and stored.readings.meter[row] == meter
        and any(first_slot <= slot < end_slot for slot in slots_named(record))
    ]
