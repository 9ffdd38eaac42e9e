# SPDX-License-Identifier: Apache-2.0
"""Questions to the lake: totals, one meter's rows, counts, shares of quality. Answers are tables.

They run in DuckDB on the newest files of the days they need, or in pandas on the same files
(`frame`); any number of readers may run beside one writer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dao.slots import SLOTS_PER_DAY, day_of
from meters.lake.batches import MIN_HOMES, batch_files, newest
from meters.lake.store import BatchFile, Lake, LakeLike
from meters.readings import Quality

if TYPE_CHECKING:
    import pandas as pd

VALUES = ("meter", "slot", "import_wh", "export_wh", "quality", "erased")
"""The columns that questions are about; the others prove."""


def _query(lake: LakeLike, files: Sequence[BatchFile], sql: str, **values: Any) -> pd.DataFrame:
    """Run `sql`, in which `batch` names the files' rows, in a connection of its own."""
    import duckdb

    held = Lake.of(lake)
    with duckdb.connect(":memory:") as connection:
        connection.execute("SET threads = 2")
        if files:
            held.attach(connection)
            # Not by hive partitions: every row names its slot, and a lake may lie under `a=b/`.
            names = [held.query_name(file.path) for file in files]
            connection.from_parquet(names, hive_partitioning=False).create_view("batch")
        else:
            connection.execute(
                "CREATE VIEW batch AS SELECT 0::UINTEGER AS meter, 0::UINTEGER AS slot, "
                "0::INTEGER AS import_wh, 0::INTEGER AS export_wh, 0::UTINYINT AS quality, "
                "false AS erased WHERE false"
            )
        return connection.execute(sql, values).df()


def zone_totals(
    lake: LakeLike, zone: int, first_slot: int, slots: int, min_homes: int = MIN_HOMES
) -> pd.DataFrame:
    """Totals per committed slot: columns slot, import_wh, export_wh, net_wh, homes (Int64).

    In a slot with fewer than `min_homes` homes the energies are null, never zero; so they are where
    a row was erased, for the sum of the others is not the zone's: ask the ledger. Slots that are
    not in the lake have no row.
    """
    frame = _query(
        lake,
        batch_files(lake, zone, first_slot, slots),
        """
        SELECT slot, sum(import_wh) AS import_wh, sum(export_wh) AS export_wh,
               sum(coalesce(import_wh, 0) - coalesce(export_wh, 0)) AS net_wh,
               count(*) FILTER (import_wh IS NOT NULL OR export_wh IS NOT NULL) AS homes,
               count(*) FILTER (erased) AS erased
        FROM batch WHERE slot >= $first AND slot < $end GROUP BY slot ORDER BY slot
        """,
        first=first_slot,
        end=first_slot + slots,
    ).astype("Int64")
    withheld = (frame["homes"] < min_homes) | (frame["erased"] > 0)
    frame.loc[withheld, ["import_wh", "export_wh", "net_wh"]] = None
    return frame.drop(columns="erased")


def meter_series(
    lake: LakeLike, zone: int, meter: int, first_slot: int, slots: int
) -> pd.DataFrame:
    """One meter's committed rows: columns slot, import_wh, export_wh, quality (Int64).

    All but the slot are null in an erased row.
    """
    return _query(
        lake,
        batch_files(lake, zone, first_slot, slots),
        """
        SELECT slot, import_wh, export_wh, quality FROM batch
        WHERE meter = $meter AND slot >= $first AND slot < $end ORDER BY slot
        """,
        meter=meter,
        first=first_slot,
        end=first_slot + slots,
    ).astype("Int64")


def counts(lake: LakeLike, zone: int) -> pd.DataFrame:
    """Per day of a zone: columns day, batches, meters, rows, missing, erased."""
    files = newest(Lake.of(lake).zone_batches(zone))
    frame = _query(
        lake,
        files,
        """
        SELECT slot // $per_day AS day, count(DISTINCT meter) AS meters, count(*) AS rows,
               count(*) FILTER (quality = $missing) AS missing,
               count(*) FILTER (erased) AS erased
        FROM batch GROUP BY 1 ORDER BY 1
        """,
        per_day=SLOTS_PER_DAY,
        missing=int(Quality.MISSING),
    )
    frame["day"] = [day_of(int(day) * SLOTS_PER_DAY) for day in frame["day"]]
    batches = {day: sum(day_of(file.first_slot) == day for file in files) for day in frame["day"]}
    frame.insert(1, "batches", [batches[day] for day in frame["day"]])
    return frame


def quality_shares(lake: LakeLike, zone: int, first_slot: int, slots: int) -> pd.DataFrame:
    """Per day of a range: columns day, rows, and one per quality, its share of the rows that are
    not erased (`missing`, `measured`, `estimated`, `substituted`, `invalid`; NaN for no rows)."""
    shares = ", ".join(
        f"count(*) FILTER (quality = {int(quality)} AND NOT erased) / "
        f"nullif(count(*) FILTER (NOT erased), 0) AS {quality.name.lower()}"
        for quality in Quality
    )
    frame = _query(
        lake,
        batch_files(lake, zone, first_slot, slots),
        f"""
        SELECT slot // $per_day AS day, count(*) AS rows, {shares}
        FROM batch WHERE slot >= $first AND slot < $end GROUP BY 1 ORDER BY 1
        """,
        per_day=SLOTS_PER_DAY,
        first=first_slot,
        end=first_slot + slots,
    )
    frame["day"] = [day_of(int(day) * SLOTS_PER_DAY) for day in frame["day"]]
    return frame


def frame(
    lake: LakeLike,
    zone: int,
    first_slot: int,
    slots: int,
    columns: Sequence[str] = VALUES,
) -> pd.DataFrame:
    """The newest committed rows of a range for pandas, by meter and slot within each batch.

    Integers are nullable (Int64), so an unknown value is never zero and never a float.
    """
    import pandas as pd

    held = Lake.of(lake)
    wanted = [*dict.fromkeys([*columns, "slot"])]
    parts = []
    for file in batch_files(held, zone, first_slot, slots):
        with held.reading(file.path) as source:
            part = pd.read_parquet(source, columns=wanted, dtype_backend="numpy_nullable")
        parts.append(part[(part["slot"] >= first_slot) & (part["slot"] < first_slot + slots)])
    if not parts:
        return pd.DataFrame(columns=list(columns))
    whole = pd.concat(parts, ignore_index=True)
    numbers = [name for name in whole if pd.api.types.is_integer_dtype(whole[name])]
    return whole.astype(dict.fromkeys(numbers, "Int64"))[list(columns)]
