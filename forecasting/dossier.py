# SPDX-License-Identifier: Apache-2.0
"""What only the operator can put into an audit dossier: from the lake, the homes' secrets, the
relay's store and the grid's model.

No reading leaves this module. What does is counts of qualities, sums over groups of at least 15
homes, and bills that only their home can open. A group of a day is a fixed function of the lake
and that day, never of the dossier's period, so two dossiers say the same of a day that both cover
and nothing can be had by subtracting one from the other. Groups split the whole zone, so where one
is too small none is shown: the ledger has the sum. Days with an erased row show none either, for
the sum of the others would give the erased home away to who has an older dossier.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dao.audit.bills import (
    Bill,
    bills_with,
    close_bills,
    month_number,
    months_of_slots,
    trade_sums,
)
from dao.audit.build import ChainPart, OperatorPart
from dao.audit.energy import newest_batches
from dao.audit.export import Request, export
from dao.audit.market import start_text
from dao.audit.operator_rules import MIN_HOMES
from dao.audit.package import Manifest
from dao.audit.scope import Events, Period, Scope
from dao.audit.tables import TABLES
from dao.errors import CheckFailed
from dao.slots import SLOTS_PER_DAY, day_of
from meters.lake import BatchFile, Lake, LakeLike, newest
from meters.leaves import root_of_leaves
from meters.readings import Quality
from meters.secrets import ErasedSecret, SecretStore
from meters.vee.records import unpack

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

GROUP_DAYS = 28
"""A home counts as one with solar on a day if it fed in on that day or one of the 27 before."""
WITH_SOLAR, WITHOUT_SOLAR = "with solar", "without solar"

GridRows = Callable[[Scope, Events], Iterable[tuple[Any, ...]]]


@dataclass(frozen=True)
class Sources:
    """Where the operator's data lie. secrets, relay: files that need not be there; grid: rows of
    the table `grid`, from whoever has the grid's model."""

    lake: LakeLike
    secrets: Path | None = None
    relay: Path | None = None
    grid: GridRows | None = None


def write_dossier(
    request: Request,
    sources: Sources,
    path: Path,
    notify: Callable[[str], None] = lambda _: None,
) -> Manifest:
    """Write a dossier to `path`, whole or not at all; errors as `dao.audit.export.export` has them.

    notify hears in words what begins.
    """
    return export(
        request,
        path,
        lambda scope, events, chain: operator_part(sources, scope, events, chain),
        notify,
    )


def operator_part(sources: Sources, scope: Scope, events: Events, chain: ChainPart) -> OperatorPart:
    """The operator's tables and the closed bills.

    CheckFailed where the lake lacks a batch of the period, or has another than the ledger.
    """
    lake, period = Lake.of(sources.lake), scope.period
    files = _files(lake, events, period)
    contents, edits = _contents(lake, files, period)
    with closing(_connect(lake, files)) as db:
        tables = {
            "contents": contents,
            "edits": edits,
            "quality": _quality(db, period),
            "groups": _groups(db, lake, scope, chain),
            "promises": _promises(sources.relay, period),
        }
        bills = _bills(db, sources.secrets, scope, chain)
    if sources.grid is not None:
        tables["grid"] = TABLES["grid"].of_rows(sources.grid(scope, events))
    return OperatorPart(tables, bills)


def shown_tables(
    sources: Sources, scope: Scope, events: Events, chain: ChainPart
) -> dict[str, pa.Table]:
    """The operator's tables that a screen shows: as `operator_part` has them, but without edits and
    bills, and with the leaves counted, not held against the ledger's roots.

    For days that are over for good: while a day grows, what is added to its groups tells of few.
    CheckFailed where the lake lacks a batch of the period.
    """
    lake, period = Lake.of(sources.lake), scope.period
    files = _files(lake, events, period)
    if not files:
        return {}
    with closing(_connect(lake, files)) as db:
        counted = {
            name: (rows, records, erased)
            for name, rows, records, erased in db.execute(
                "SELECT filename, count(*), coalesce(sum(len(record_leaves)), 0), "
                "count(*) FILTER (erased) FROM read_parquet(?, filename = true, "
                "hive_partitioning = false) GROUP BY 1",
                [[lake.query_name(file.path) for file, _ in files]],
            ).fetchall()
        }
        contents = [
            (file.first_slot, file.slots, *map(int, counted[lake.query_name(file.path)]))
            for file, _ in files
        ]
        return {
            "contents": TABLES["contents"].of_rows(contents),
            "quality": _quality(db, period),
            "groups": _groups(db, lake, scope, chain),
            "promises": _promises(sources.relay, period),
        }


def _files(lake: Lake, events: Events, period: Period) -> list[tuple[BatchFile, bytes]]:
    """The lake's file of each batch that counts, with the ledger's root."""
    found = []
    for row, version in newest_batches(events, period.first_slot, period.end_slot):
        first, slots = row.args["first_slot"], row.args["slots"]
        path = lake.path(period.zone, first, slots, version)
        if not lake.exists(path):
            raise CheckFailed(
                f"the lake has no batch of zone {period.zone} from {start_text(first)} on "
                f"({slots} slots, version {version}), the ledger has"
            )
        found.append((BatchFile(path, first, slots, version), bytes.fromhex(row.args["root"][2:])))
    return found


def _contents(
    lake: Lake, files: Sequence[tuple[BatchFile, bytes]], period: Period
) -> tuple[pa.Table, pa.Table]:
    """The tables contents and edits; each file's leaves are held against the ledger's root."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows: list[tuple[int, ...]] = []
    steps: Counter[tuple[str, str, int, str, str]] = Counter()
    for file, root in files:
        with lake.reading(file.path) as source:
            try:
                batch = pq.read_table(
                    source, columns=["slot", "leaf", "record", "record_leaves", "erased"]
                )
            except (pa.ArrowException, OSError) as error:
                raise CheckFailed(f"{file.path} is not a batch: {error}") from None
        leaves = _hashes(batch["leaf"])
        records = _hashes(batch["record_leaves"].combine_chunks().flatten())
        if root_of_leaves(leaves + records) != root:
            raise CheckFailed(f"{file.path} has another root than the ledger")
        erased = int(np.asarray(batch["erased"]).sum())
        rows.append((file.first_slot, file.slots, len(leaves), len(records), erased))
        edited = batch.filter(batch["record"].is_valid())
        for slot, data in zip(
            edited["slot"].to_pylist(), edited["record"].to_pylist(), strict=True
        ):
            if not period.has(slot):
                continue
            for record in unpack(data):
                before, after = (Quality(v[2]).name.lower() for v in (record.before, record.result))
                day = day_of(slot).isoformat()
                steps[day, record.rule, record.version, before, after] += 1
    return (
        TABLES["contents"].of_rows(rows),
        TABLES["edits"].of_rows((*place, count) for place, count in steps.items()),
    )


def _hashes(column: pa.Array | pa.ChunkedArray) -> list[bytes]:
    """A column of 32-byte hashes as bytes."""
    import pyarrow as pa

    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if not len(whole):
        return []
    data = whole.buffers()[1].to_pybytes()
    at = whole.offset
    return [data[32 * i : 32 * i + 32] for i in range(at, at + len(whole))]


def _connect(lake: Lake, files: Sequence[tuple[BatchFile, bytes]]) -> duckdb.DuckDBPyConnection:
    """A connection with the period's batches as `batch`."""
    import duckdb

    db = duckdb.connect(":memory:")
    db.execute("SET threads = 2")
    db.execute("SET memory_limit = '800MB'")
    lake.attach(db)
    names = [lake.query_name(file.path) for file, _ in files]
    db.from_parquet(names, hive_partitioning=False).create_view("batch")
    return db


def _quality(db: duckdb.DuckDBPyConnection, period: Period) -> pa.Table:
    counts = ", ".join(
        f"count(*) FILTER (quality = {int(quality)} AND NOT erased)"
        for quality in (
            Quality.MEASURED,
            Quality.ESTIMATED,
            Quality.SUBSTITUTED,
            Quality.MISSING,
            Quality.INVALID,
        )
    )
    rows = db.execute(
        f"SELECT slot, count(*), {counts}, count(*) FILTER (erased) FROM batch "
        "WHERE slot >= ? AND slot < ? GROUP BY slot ORDER BY slot",
        [period.first_slot, period.end_slot],
    ).fetchall()
    return TABLES["quality"].of_rows(
        (slot, start_text(slot), meters, *(counts if meters >= MIN_HOMES else [None] * 6))
        for slot, meters, *counts in rows
    )


# Groups


def _groups(db: duckdb.DuckDBPyConnection, lake: Lake, scope: Scope, chain: ChainPart) -> pa.Table:
    """The table groups: day by day, homes with and without solar."""
    period = scope.period
    days = range(period.first_slot // SLOTS_PER_DAY, period.end_slot // SLOTS_PER_DAY)
    energy = {
        (meter, day): (imported, exported, erased)
        for meter, day, imported, exported, erased in db.execute(
            """
            SELECT meter, slot // ? AS day, sum(coalesce(import_wh, 0)),
                   sum(coalesce(export_wh, 0)), count(*) FILTER (erased)
            FROM batch WHERE slot >= ? AND slot < ? GROUP BY 1, 2
            """,
            [SLOTS_PER_DAY, period.first_slot, period.end_slot],
        ).fetchall()
    }
    solar = _solar_days(db, lake, period)
    money = _money(db, chain)
    rows: list[tuple[Any, ...]] = []
    by_day: dict[int, list[int]] = {day: [] for day in days}
    for meter, day in energy:
        by_day[day].append(meter)
    for day in days:
        sums = {name: np.zeros(8, dtype=np.int64) for name in (WITH_SOLAR, WITHOUT_SOLAR)}
        erased = 0
        for meter in by_day[day]:
            imported, exported, gone = energy[meter, day]
            erased += gone
            name = WITH_SOLAR if (meter, day) in solar else WITHOUT_SOLAR
            traded = money.get((meter, day), (0, 0, 0, 0, 0))
            sums[name] += np.array([1, imported, exported, *traded], dtype=np.int64)
        small = any(0 < values[0] < MIN_HOMES for values in sums.values())
        for name, values in sums.items():
            if not values[0] and not small and not erased:
                continue  # a zone that is all of one kind has one group
            label = day_of(day * SLOTS_PER_DAY).isoformat()
            if small or erased:
                rows.append((label, name, *[None] * 10))
                continue
            homes, imported, exported, sold, bought, taken, received, paid = values.tolist()
            gain = received - sold * scope.tariffs["feed_in"]
            saving = taken * scope.tariffs["retail"] - paid
            rows.append(
                (
                    label,
                    name,
                    homes,
                    imported,
                    exported,
                    sold,
                    bought,
                    taken,
                    received,
                    paid,
                    gain,
                    saving,
                )
            )
    return TABLES["groups"].of_rows(rows)


def _solar_days(db: duckdb.DuckDBPyConnection, lake: Lake, period: Period) -> set[tuple[int, int]]:
    """(meter, day) of homes that fed in on the day or in the weeks before it."""
    first_day = period.first_slot // SLOTS_PER_DAY
    since = (first_day - GROUP_DAYS + 1) * SLOTS_PER_DAY
    files = [
        file
        for day in range(first_day - GROUP_DAYS + 1, first_day)
        for file in newest(lake.batches(lake.folder(period.zone, day * SLOTS_PER_DAY)))
    ]
    sources = ["batch"]
    if files:
        names = [lake.query_name(file.path) for file in files]
        db.from_parquet(names, hive_partitioning=False).create_view("earlier")
        sources.append("earlier")
    found: set[tuple[int, int]] = set()
    for source in sources:
        fed = db.execute(
            f"SELECT DISTINCT meter, slot // ? FROM {source} "
            "WHERE export_wh > 0 AND slot >= ? AND slot < ?",
            [SLOTS_PER_DAY, since, period.end_slot],
        ).fetchall()
        for meter, day in fed:
            found.update((meter, later) for later in range(day, day + GROUP_DAYS))
    return found


def _money(
    db: duckdb.DuckDBPyConnection, chain: ChainPart
) -> dict[tuple[int, int], tuple[int, int, int, int, int]]:
    """By meter and day: sold, bought, and really taken Wh; received and paid µ€, penalties in
    them. A session lies within a UTC day."""
    db.register("orders", chain.tables["orders"])
    db.register("fills", chain.tables["fills"])
    found: dict[tuple[int, int], list[int]] = {}
    for account, day, sold, received, bought, paid in db.execute(
        """
        SELECT account, session // ?,
               coalesce(sum(delivered_wh) FILTER (side = 'ask'), 0),
               coalesce(sum(credit - escrow) FILTER (side = 'ask'), 0),
               coalesce(sum(delivered_wh) FILTER (side = 'bid'), 0),
               coalesce(sum(escrow - credit) FILTER (side = 'bid'), 0)
        FROM orders GROUP BY 1, 2
        """,
        [SLOTS_PER_DAY],
    ).fetchall():
        found[account, day] = [int(sold), int(bought), 0, int(received), int(paid)]
    # A slot's purchases of one home together are taken at most to what its meter drew there.
    for account, day, taken in db.execute(
        """
        WITH bought AS (
            SELECT account, slot, sum(delivered_wh) AS wh FROM fills
            WHERE side = 'bid' AND delivered_wh > 0 GROUP BY 1, 2
        )
        SELECT bought.account, bought.slot // ?, sum(least(bought.wh, coalesce(import_wh, 0)))
        FROM bought JOIN batch ON batch.meter = bought.account AND batch.slot = bought.slot
        GROUP BY 1, 2
        """,
        [SLOTS_PER_DAY],
    ).fetchall():
        found[account, day][2] = int(taken)
    return {place: (v[0], v[1], v[2], v[3], v[4]) for place, v in found.items()}


# Bills


def metered_sums(
    db: duckdb.DuckDBPyConnection, period: Period
) -> list[tuple[int, str, int, int, int, int]]:
    """By meter and month of the period: import, export, known and all slots; none of a month with
    an erased row."""
    slots = np.arange(period.first_slot, period.end_slot)
    months = months_of_slots(slots)
    found = []
    for month in dict.fromkeys(months.tolist()):
        inside = slots[months == month]
        for row in db.execute(
            """
            SELECT meter, sum(coalesce(import_wh, 0)), sum(coalesce(export_wh, 0)),
                   count(*) FILTER (import_wh IS NOT NULL OR export_wh IS NOT NULL), count(*)
            FROM batch WHERE slot >= ? AND slot <= ?
            GROUP BY meter HAVING count(*) FILTER (erased) = 0 ORDER BY meter
            """,
            [int(inside[0]), int(inside[-1])],
        ).fetchall():
            meter, imported, exported, known, count = (int(value) for value in row)
            found.append((meter, month, imported, exported, known, count))
    return found


def _bills(
    db: duckdb.DuckDBPyConnection, secrets: Path | None, scope: Scope, chain: ChainPart
) -> pa.Table:
    bills: dict[tuple[int, str], Bill] = {}
    known: dict[tuple[int, str], bytes] = {}
    if secrets is not None and secrets.is_file():
        bills = bills_with(trade_sums(chain.tables["orders"]), metered_sums(db, scope.period))
        with SecretStore(secrets, make=False) as store:
            known = home_secrets(store, bills)
    return close_bills(scope, bills, known)


def home_secrets(
    store: SecretStore, wanted: Iterable[tuple[int, str]]
) -> dict[tuple[int, str], bytes]:
    """Month secrets by meter and month (2016-06); those that were erased are left out."""
    pairs = {(meter, month): (meter, month_number(month)) for meter, month in wanted}
    try:
        found = store.month_secrets(pairs.values())
        return {place: found[pair] for place, pair in pairs.items()}
    except ErasedSecret:
        kept = {}
        for place, pair in pairs.items():
            with suppress(ErasedSecret):
                kept[place] = store.month_secret(*pair)
        return kept


# The relay's promises


def _promises(relay: Path | None, period: Period) -> pa.Table:
    """By session what the relay took and what became of it; empty where there is no relay."""
    table = TABLES["promises"]
    if relay is None or not relay.is_file():
        return table.of_rows([])
    try:
        with closing(sqlite3.connect(f"{relay.absolute().as_uri()}?mode=ro", uri=True)) as db:
            rows = db.execute(
                "SELECT session, state, count(*) FROM orders "
                "WHERE zone = ? AND session >= ? AND session < ? GROUP BY 1, 2",
                (period.zone, period.first_slot, period.end_slot),
            ).fetchall()
    except sqlite3.Error as error:
        raise CheckFailed(f"cannot read the relay's store {relay}: {error}") from None
    sessions: dict[int, Counter[str]] = {}
    for session, state, count in rows:
        sessions.setdefault(int(session), Counter())[_fate(str(state))] += int(count)
    return table.of_rows(
        (session, fates.total(), fates["posted"], fates["withdrawn"], fates["not posted"])
        for session, fates in sessions.items()
    )


def _fate(state: str) -> str:
    """What a promise came to: the contract may turn away what was posted in time."""
    if state in ("accepted", "rejected"):
        return "posted"
    return "withdrawn" if state == "withdrawn" else "not posted"


def grid_rows(
    days: Mapping[str, Sequence[tuple[str, str, int | None, int | None, int | None, int | None]]],
) -> list[tuple[Any, ...]]:
    """Rows of the table `grid` from days, each with quantity, unit, measured, without, and the
    forecast before and after the action."""
    return [(day, *row) for day, rows in sorted(days.items()) for row in rows]
