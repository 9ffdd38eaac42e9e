# SPDX-License-Identifier: Apache-2.0
"""One home's readings: committed ones from the lake, the newest ones from the inbox.

Whoever asks has made sure that the home is the visitor's own; nothing here can tell. A meter at the
connection point counts what comes in and what goes out. Null is never zero.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dao.errors import CheckFailed
from dao.slots import SLOTS_PER_DAY
from dashboard.repositories.cache import Version, cached, version
from meters.inbox_file import LAYOUT, OF_METER
from meters.lake.batches import batch_files
from meters.lake.store import BatchFile, Lake, LakeLike
from meters.readings import Quality

MAX_DAYS = 31
"""Longest time that one question may be about."""
INBOX_SLOTS = 4 * SLOTS_PER_DAY
"""So far back the inbox may hold what is not committed yet."""


@dataclass(frozen=True)
class Reading:
    """A quarter-hour: Wh in and out of the home, None where not known. committed: in the lake."""

    slot: int
    import_wh: int | None
    export_wh: int | None
    quality: Quality
    committed: bool


@dataclass(frozen=True)
class Bucket:
    """Several quarter-hours in one: sums over the known ones, None where none is known.

    known: quarter-hours with a value; missing: rows without one; estimated: among the known, those
    that were not measured.
    """

    slot: int
    slots: int
    import_wh: int | None
    export_wh: int | None
    known: int
    missing: int
    estimated: int


class HomeReadings:
    """The readings of one zone's homes, as the operator's machine holds them."""

    def __init__(self, lake: LakeLike, inbox: Path, zone: int) -> None:
        self._lake = Lake.of(lake)
        self._inbox = inbox
        self._zone = zone

    def series(self, meter: int, first_slot: int, slots: int) -> list[Reading]:
        """The home's quarter-hours of a range in order; those nobody reported are left out.

        What is committed counts before what is still in the inbox. CheckFailed for too long a time.
        """
        _check(slots)
        found = {one.slot: one for one in self._waiting(meter, first_slot, slots)}
        rows = self._query(
            self._files(first_slot, slots),
            "SELECT slot, import_wh, export_wh, quality FROM batch "
            "WHERE meter = $meter AND slot >= $first AND slot < $end AND NOT erased",
            meter=meter,
            first=first_slot,
            end=first_slot + slots,
        )
        for slot, imported, exported, quality in rows:
            found[slot] = Reading(slot, imported, exported, Quality(quality or 0), True)
        return [found[slot] for slot in sorted(found)]

    def buckets(self, meter: int, first_slot: int, slots: int, width: int) -> list[Bucket]:
        """The same in sums of `width` quarter-hours, counted from `first_slot`: for charts."""
        _check(slots)
        rows = self._query(
            self._files(first_slot, slots),
            """
            SELECT (slot - $first) // $width AS place, sum(import_wh), sum(export_wh),
                   count(*) FILTER (import_wh IS NOT NULL OR export_wh IS NOT NULL),
                   count(*) FILTER (import_wh IS NULL AND export_wh IS NULL),
                   count(*) FILTER ((import_wh IS NOT NULL OR export_wh IS NOT NULL)
                                    AND quality <> $measured),
                   max(slot)
            FROM batch
            WHERE meter = $meter AND slot >= $first AND slot < $end AND NOT erased
            GROUP BY 1 ORDER BY 1
            """,
            meter=meter,
            first=first_slot,
            end=first_slot + slots,
            width=width,
            measured=int(Quality.MEASURED),
        )
        found = {
            int(place): Bucket(
                first_slot + int(place) * width,
                width,
                None if imported is None else int(imported),
                None if exported is None else int(exported),
                known,
                missing,
                estimated,
            )
            for place, imported, exported, known, missing, estimated, _ in rows
        }
        newest = max((row[6] for row in rows), default=first_slot - 1)
        for one in self._waiting(meter, newest + 1, first_slot + slots - newest - 1):
            place = (one.slot - first_slot) // width
            found[place] = _with(found.get(place), one, first_slot + place * width, width)
        return [found[place] for place in sorted(found)]

    def newest(self, meter: int, now_slot: int) -> Reading | None:
        """The newest reading with a value before `now_slot`, of the last three days."""
        span = 3 * SLOTS_PER_DAY
        for one in reversed(self.series(meter, now_slot - span, span)):
            if one.import_wh is not None or one.export_wh is not None:
                return one
        return None

    def version(self, first_slot: int, slots: int) -> tuple[tuple[str, int], ...]:
        """What changes when the answers about a range may: its batches, and the inbox."""
        files = tuple((file.path, file.version) for file in self._files(first_slot, slots))
        return (*files, *_marks(self._inbox))

    # inside

    def _files(self, first_slot: int, slots: int) -> list[BatchFile]:
        return batch_files(self._lake, self._zone, first_slot, slots)

    def _query(self, files: Sequence[BatchFile], sql: str, **values: int) -> list[tuple[Any, ...]]:
        if not files:
            return []
        names = tuple(self._lake.query_name(file.path) for file in files)
        # Erasing rewrites a file under its name.
        marks = tuple(version(Path(name)) for name in names)
        return _rows(_Question(names, marks, sql, tuple(values.items()), self._lake))

    def _waiting(self, meter: int, first_slot: int, slots: int) -> list[Reading]:
        """What the inbox holds of the last days of a range; of a slot the newest report."""
        end = first_slot + slots
        begin = max(first_slot, end - INBOX_SLOTS)
        if not self._inbox.exists() or begin >= end:
            return []
        uri = f"{self._inbox.absolute().as_uri()}?mode=ro"
        try:
            with closing(sqlite3.connect(uri, uri=True, timeout=2.0)) as db:
                if db.execute("PRAGMA user_version").fetchone()[0] != LAYOUT:
                    return []
                rows = db.execute(OF_METER, (begin, end, meter)).fetchall()
        except sqlite3.Error as error:
            raise CheckFailed(f"cannot read the inbox: {error}") from error
        from meters.frames import readings_of

        found: dict[int, Reading] = {}
        for row in readings_of(b"".join(bytes(record) for (record,) in rows)) if rows else ():
            found[row.slot] = Reading(row.slot, row.import_wh, row.export_wh, row.quality, False)
        return list(found.values())


@dataclass(frozen=True)
class _Question:
    """A question to files of a lake, as they stand."""

    names: tuple[str, ...]
    marks: tuple[Version, ...]
    sql: str
    values: tuple[tuple[str, int], ...]
    lake: Lake = field(compare=False)


@cached(ttl=60, max_entries=512)
def _rows(question: _Question) -> list[tuple[Any, ...]]:
    import duckdb

    try:
        with duckdb.connect(":memory:") as connection:
            connection.execute("SET threads = 2")
            question.lake.attach(connection)
            batch = connection.from_parquet(list(question.names), hive_partitioning=False)
            batch.create_view("batch")
            return connection.execute(question.sql, dict(question.values)).fetchall()
    except duckdb.Error as error:
        reason = str(error).splitlines()[0]
        raise CheckFailed(f"the readings cannot be read: {reason}") from error


def _check(slots: int) -> None:
    if slots > MAX_DAYS * SLOTS_PER_DAY + 8:
        raise CheckFailed(f"readings are shown for at most {MAX_DAYS} days at once")


def _with(bucket: Bucket | None, one: Reading, slot: int, width: int) -> Bucket:
    held = bucket or Bucket(slot, width, None, None, 0, 0, 0)
    known = one.import_wh is not None or one.export_wh is not None
    return Bucket(
        slot,
        width,
        _sum(held.import_wh, one.import_wh),
        _sum(held.export_wh, one.export_wh),
        held.known + known,
        held.missing + (not known),
        held.estimated + (known and one.quality is not Quality.MEASURED),
    )


def _sum(a: int | None, b: int | None) -> int | None:
    return b if a is None else a if b is None else a + b


def _marks(path: Path) -> list[tuple[str, int]]:
    """What changes with a SQLite file: size and time of it and of its log."""
    found = []
    for one in (path, path.with_name(path.name + "-wal")):
        try:
            facts = one.stat()
        except OSError:
            continue
        found.append((one.name, facts.st_size ^ facts.st_mtime_ns))
    return found
