# SPDX-License-Identifier: Apache-2.0
"""The lake: one committed batch is one Parquet file, and the queries over them.

    <lake>/zone=1/day=2016-06-01/batch-<first slot>-<slots>.parquet
                                 batch-<first slot>-<slots>.v2.parquet   its correction

A lake is a folder, or any store that fsspec opens by its address (`memory://lake`, `s3://...`
where s3fs is installed); the layout is the same. Queries read the newest version of each batch.
"""

from meters.lake.batches import (
    MIN_HOMES,
    SCHEMA,
    Batch,
    StoredBatch,
    batch_files,
    batch_path,
    check_range,
    newest,
    read_batch,
    signed_rows,
    totals_of,
    write_batch,
)
from meters.lake.checks import SignatureCheck, leaves_hold, verify_signatures
from meters.lake.erasing import erase_rows, mentions
from meters.lake.queries import counts, frame, meter_series, quality_shares, zone_totals
from meters.lake.store import BatchFile, Lake, LakeLike

__all__ = [
    "MIN_HOMES",
    "SCHEMA",
    "Batch",
    "BatchFile",
    "Lake",
    "LakeLike",
    "SignatureCheck",
    "StoredBatch",
    "batch_files",
    "batch_path",
    "check_range",
    "counts",
    "erase_rows",
    "frame",
    "leaves_hold",
    "mentions",
    "meter_series",
    "newest",
    "quality_shares",
    "read_batch",
    "signed_rows",
    "totals_of",
    "verify_signatures",
    "write_batch",
    "zone_totals",
]
