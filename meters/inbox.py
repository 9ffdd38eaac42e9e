# SPDX-License-Identifier: Apache-2.0
"""The collector's durable store: one SQLite file per zone (WAL, synchronous=FULL, secure_delete).

It keeps readings as the records of `frames`: those of open and uncommitted slots, those that stand
beside the one that counts, the chains' heads and gaps, and evidence of chains that do not hold. It
judges nothing. What was committed lies in the lake.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import astuple, dataclass
from enum import IntEnum
from pathlib import Path

from dao.errors import CheckFailed
from dao.sqlite import transaction
from meters.chains import Chain, Gap
from meters.frames import readings_of
from meters.inbox_file import check_layout, connected, locked, open_inbox, plain_errors
from meters.readings import Readings
from meters.signing import Head

MAX_EVIDENCE = 16
"""Of one meter and rule: the first few prove what happened, more would only fill the disk."""

# A reading that uses a number again is looked for so many slots around: a few days.
_SEARCH_SLOTS = 4 * 96
_FETCH = 1 << 16


class State(IntEnum):
    """Why a reading stands beside the one that counts."""

    SUPERSEDED = 0  # a newer reading of the slot was there when it was closed
    LATE = 1  # arrived after closing: enters by a correction
    EDITED = 2  # the batch has another value in its place, with a record that says why
    REVOKED = 3  # its key was ended for a time before it


@dataclass(frozen=True)
class Evidence:
    """A signed reading that does not fit its chain, and what it does not fit.

    rule: `sequence` (the number belongs to another reading) or `previous` (the link is not that of
    the reading before, or the reading after names another). record: as in a frame. other: the
    reading that was taken, as far as it was found. link: the link that was expected, for
    `previous`.
    """

    meter: int
    rule: str
    record: bytes
    other: bytes | None
    link: bytes | None


@dataclass(frozen=True)
class Closed:
    """A batch that was closed; `committed` once its root is known to stand on chain."""

    first_slot: int
    slots: int
    root: bytes
    committed: bool
    version: int

    @property
    def end_slot(self) -> int:
        return self.first_slot + self.slots


class Inbox:
    """The file, held by one collector at a time. It belongs to the thread that opened it.

    Everything between reading and writing happens in `transaction`.
    """

    def __init__(self, path: Path, zone: int) -> None:
        """Raises CheckFailed where another collector holds the file, or it is of another zone or
        an older layout, or no inbox at all."""
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = locked(path)
        try:
            self._db = open_inbox(path, zone)
        except BaseException:
            self._lock.close()
            raise

    def close(self) -> None:
        self._db.close()
        self._lock.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """One write transaction: what happens inside happens whole or not at all, and is on disk
        when it ends. Raises CheckFailed where the disk does not take it."""
        with plain_errors(self.path), transaction(self._db):
            yield

    # readings

    def held(self, readings: Readings) -> set[bytes]:
        """All records of the meters and slots of these rows, whatever became of them."""
        self._ask("asked", zip(readings.slot.tolist(), readings.meter.tolist(), strict=True))
        # CROSS JOIN: what is asked for leads, or SQLite might walk through the whole inbox.
        return {
            record
            for table in ("reading", "beside")
            for (record,) in self._db.execute(
                f"SELECT t.record FROM asked a CROSS JOIN {table} t "
                "ON t.slot = a.slot AND t.meter = a.meter"
            )
        }

    def add(self, rows: Iterable[tuple[int, int, int, bytes]]) -> None:
        """Keep readings of open slots: slot, meter, sequence, record."""
        self._db.executemany("INSERT INTO reading VALUES (?, ?, ?, ?)", rows)

    def put_beside(self, rows: Iterable[tuple[int, int, int, bytes]], state: State) -> None:
        """Keep readings beside those that count, or change why they stand there."""
        self._db.executemany(
            f"INSERT OR REPLACE INTO beside VALUES (?, ?, ?, ?, {int(state)})", rows
        )

    def drop(self, table: str, rows: Iterable[tuple[int, int, int]]) -> None:
        """Drop rows of `reading` or `beside`: slot, meter, sequence."""
        self._db.executemany(
            f"DELETE FROM {table} WHERE slot = ? AND meter = ? AND sequence = ?", rows
        )

    def readings(self, first_slot: int, end_slot: int) -> Readings:
        """The readings of open or uncommitted slots, by slot, meter and sequence."""
        return self._readings(
            "SELECT record FROM reading WHERE slot >= ? AND slot < ? "
            "ORDER BY slot, meter, sequence",
            (first_slot, end_slot),
        )

    def beside(self, first_slot: int, end_slot: int, state: State) -> Readings:
        """The readings that stand beside for this reason, by slot, meter and sequence."""
        return self._readings(
            "SELECT record FROM beside WHERE slot >= ? AND slot < ? AND state = ? "
            "ORDER BY slot, meter, sequence",
            (first_slot, end_slot, int(state)),
        )

    def _readings(self, sql: str, values: tuple[int, ...]) -> Readings:
        cursor = self._db.execute(sql, values)
        parts: list[bytes] = []
        while rows := cursor.fetchmany(_FETCH):
            parts.append(b"".join([record for (record,) in rows]))
        return readings_of(b"".join(parts))

    def waiting(self, first_slot: int = 0, end_slot: int = 1 << 62) -> int:
        """How many readings of these slots are not committed yet."""
        return self._number(
            "SELECT count(*) FROM reading WHERE slot >= ? AND slot < ?", first_slot, end_slot
        )

    def homes_waiting(self, first_slot: int, end_slot: int) -> int:
        """For how many meters something of each of these slots waits, the least over the slots."""
        return self._number(
            "SELECT CASE WHEN count(*) < ? THEN 0 ELSE min(homes) END FROM (SELECT "
            "count(DISTINCT meter) AS homes FROM reading WHERE slot >= ? AND slot < ? "
            "GROUP BY slot)",
            end_slot - first_slot,
            first_slot,
            end_slot,
        )

    def first_hour_of(self, homes: int) -> int | None:
        """The first slot of the first whole hour for which so many meters delivered, None where
        there is none."""
        row = self._db.execute(
            "SELECT slot / 4 FROM (SELECT slot FROM reading GROUP BY slot HAVING "
            "count(DISTINCT meter) >= ?) GROUP BY 1 HAVING count(*) = 4 ORDER BY 1 LIMIT 1",
            (homes,),
        ).fetchone()
        return None if row is None else 4 * int(row[0])

    def purge(self, first_slot: int, end_slot: int) -> int:
        """Drop the readings of committed slots; how many there were."""
        return self._db.execute(
            "DELETE FROM reading WHERE slot >= ? AND slot < ?", (first_slot, end_slot)
        ).rowcount

    def truncate_log(self) -> None:
        """Cut SQLite's log, where purged values would stand until it happens to be reused."""
        with plain_errors(self.path):
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    # chains

    def heads(self, meters: Iterable[int]) -> dict[int, Head]:
        """The heads of these meters' chains; a meter without a reading is left out."""
        self._ask("asked_meter", ((meter,) for meter in meters))
        return {
            meter: Head(sequence, link)
            for meter, sequence, link in self._db.execute(
                "SELECT h.meter, h.sequence, h.link FROM asked_meter a CROSS JOIN head h "
                "ON h.meter = a.meter"
            )
        }

    def set_heads(self, heads: Mapping[int, Head]) -> None:
        self._db.executemany(
            "INSERT OR REPLACE INTO head VALUES (?, ?, ?)",
            [(meter, head.sequence, head.link) for meter, head in heads.items()],
        )

    def chain(self, meter: int) -> Chain:
        """A meter's chain. What is added to it is kept but for its head: `set_heads`."""
        head = self.heads([meter]).get(meter, Head.NONE)
        return Chain(head, _StoredGaps(self._db, meter))

    def gaps(self, meter: int) -> list[Gap]:
        """The numbers of a meter that never arrived, in order."""
        found = self._db.execute(
            "SELECT first, last, link, previous FROM gap WHERE meter = ? ORDER BY first", (meter,)
        )
        return [Gap(*row) for row in found]

    def meters_with_gaps(self) -> list[int]:
        return [meter for (meter,) in self._db.execute("SELECT DISTINCT meter FROM gap")]

    # evidence

    def add_evidence(self, item: Evidence) -> None:
        """Keep what does not fit, once; of one meter and rule at most `MAX_EVIDENCE`."""
        meter, rule, record, other, link = astuple(item)
        if self._number(
            "SELECT count(*) FROM evidence WHERE meter = ? AND rule = ? AND record = ?",
            meter,
            rule,
            record,
        ):
            return
        count, number = self._db.execute(
            "SELECT count(*), coalesce(max(number), -1) + 1 FROM evidence "
            "WHERE meter = ? AND rule = ?",
            (meter, rule),
        ).fetchone()
        if count < MAX_EVIDENCE:
            self._db.execute(
                "INSERT INTO evidence VALUES (?, ?, ?, ?, ?, ?)",
                (meter, rule, number, record, other, link),
            )

    def evidence(self, meter: int | None = None) -> list[Evidence]:
        """What does not fit, of one meter or of all."""
        found = self._db.execute(
            "SELECT meter, rule, record, other, link FROM evidence "
            "WHERE ? IS NULL OR meter = ? ORDER BY meter, rule, number",
            (meter, meter),
        )
        return [Evidence(*row) for row in found]

    def find(self, meter: int, sequence: int, around: int) -> bytes | None:
        """The record with this number, if it is of a slot not too far from `around`."""
        for table in ("reading", "beside"):
            row = self._db.execute(
                "WITH RECURSIVE near(slot) AS (SELECT ? UNION ALL SELECT slot + 1 FROM near "
                f"WHERE slot < ?) SELECT t.record FROM near CROSS JOIN {table} t "
                "ON t.slot = near.slot AND t.meter = ? AND t.sequence = ?",
                (around - _SEARCH_SLOTS, around + _SEARCH_SLOTS, meter, sequence),
            ).fetchone()
            if row is not None:
                return bytes(row[0])
        return None

    def tallies(self) -> dict[str, int]:
        """How many meters have gaps, how many readings came late, and how much evidence there is
        of each rule."""
        rules = self._db.execute("SELECT rule, count(*) FROM evidence GROUP BY rule").fetchall()
        late = f"SELECT count(*) FROM beside WHERE state = {int(State.LATE)}"
        return {
            "gaps": self._number("SELECT count(DISTINCT meter) FROM gap"),
            "late": self._number(late),
            "sequence": 0,
            "previous": 0,
            **dict(rules),
        }

    # batches

    def closed(
        self, first_slot: int = 0, end_slot: int = 1 << 62, version: int | None = 1
    ) -> list[Closed]:
        """Closed batches that share a slot with the range, in order; of one version or of all."""
        found = self._db.execute(
            "SELECT first_slot, slots, root, committed, version FROM closed "
            "WHERE first_slot < ? AND first_slot + slots > ? AND (? IS NULL OR version = ?) "
            "ORDER BY first_slot, version",
            (end_slot, first_slot, version, version),
        )
        return [Closed(f, slots, root, bool(done), v) for f, slots, root, done, v in found]

    def note_closed(self, first_slot: int, slots: int, root: bytes, version: int = 1) -> None:
        self._db.execute(
            "INSERT INTO closed (first_slot, version, slots, root) VALUES (?, ?, ?, ?)",
            (first_slot, version, slots, root),
        )

    def note_committed(self, first_slot: int, version: int = 1) -> None:
        self._db.execute(
            "UPDATE closed SET committed = 1 WHERE first_slot = ? AND version = ?",
            (first_slot, version),
        )

    def forget_closed(self, first_slot: int, version: int) -> None:
        """Drop the note of a version that was never committed."""
        self._db.execute(
            "DELETE FROM closed WHERE first_slot = ? AND version = ? AND committed = 0",
            (first_slot, version),
        )

    def slots_with_late(self) -> list[int]:
        """Slots for which readings arrived after closing and wait for a correction."""
        found = self._db.execute(
            "SELECT DISTINCT slot FROM beside WHERE state = ? ORDER BY slot", (int(State.LATE),)
        )
        return [slot for (slot,) in found]

    # erasing

    def erased(self, meters: Iterable[int]) -> list[tuple[int, int, int]]:
        """Meter, first slot, end slot of what was erased of these meters: nothing of it is taken
        any more."""
        if not self._db.execute("SELECT 1 FROM erased LIMIT 1").fetchone():
            return []
        self._ask("asked_meter", ((meter,) for meter in meters))
        return self._db.execute(
            "SELECT e.meter, e.first_slot, e.end_slot FROM asked_meter a CROSS JOIN erased e "
            "ON e.meter = a.meter"
        ).fetchall()

    def note_erased(self, rows: Iterable[tuple[int, int, int]]) -> None:
        """Note what was erased elsewhere: meter, first slot, end slot."""
        self._db.executemany("INSERT OR IGNORE INTO erased VALUES (?, ?, ?)", rows)

    # inside

    def _ask(self, table: str, rows: Iterable[Sequence[int]]) -> None:
        marks = "?, ?" if table == "asked" else "?"
        self._db.execute(f"DELETE FROM {table}")
        self._db.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)

    def _number(self, sql: str, *values: object) -> int:
        return int(self._db.execute(sql, values).fetchone()[0])


class _StoredGaps:
    """One meter's gaps in the inbox, as a chain asks for them."""

    def __init__(self, db: sqlite3.Connection, meter: int) -> None:
        self._db = db
        self._meter = meter

    def around(self, sequence: int) -> Gap | None:
        row = self._db.execute(
            "SELECT first, last, link, previous FROM gap WHERE meter = ? AND first <= ? "
            "ORDER BY first DESC LIMIT 1",
            (self._meter, sequence),
        ).fetchone()
        return Gap(*row) if row is not None and sequence <= row[1] else None

    def replace(self, gap: Gap | None, by: Sequence[Gap]) -> None:
        if gap is not None:
            self._db.execute(
                "DELETE FROM gap WHERE meter = ? AND first = ?", (self._meter, gap.first)
            )
        self._db.executemany(
            "INSERT INTO gap VALUES (?, ?, ?, ?, ?)",
            [(self._meter, new.first, new.last, new.link, new.previous) for new in by],
        )


def erase(path: Path, meter: int, first_slot: int, end_slot: int) -> int:
    """Delete all that an inbox holds of a meter's slots, whatever its state, from the file and its
    log, and refuse it for the future; how many rows there were.

    Works beside a running collector, and again without effect. Chains keep their numbers and
    links, which say nothing of a value. CheckFailed for a file that is no inbox.
    """
    if not path.exists():
        return 0
    count = 0
    with plain_errors(path), closing(connected(path)) as db:
        check_layout(db, path)
        with transaction(db):
            values = (meter, first_slot, end_slot)
            for table in ("reading", "beside"):
                count += db.execute(
                    f"DELETE FROM {table} WHERE meter = ? AND slot >= ? AND slot < ?", values
                ).rowcount
            for number, rule, *records in db.execute(
                "SELECT number, rule, record, other FROM evidence WHERE meter = ?", (meter,)
            ).fetchall():
                slots = [readings_of(record).slot[0] for record in records if record is not None]
                if any(first_slot <= slot < end_slot for slot in slots):
                    count += db.execute(
                        "DELETE FROM evidence WHERE meter = ? AND rule = ? AND number = ?",
                        (meter, rule, number),
                    ).rowcount
            db.execute("INSERT OR IGNORE INTO erased VALUES (?, ?, ?)", values)
        if db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
            raise CheckFailed(f"the log of {path} is in use: erase again to cut it")
    return count
