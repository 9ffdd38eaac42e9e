# SPDX-License-Identifier: Apache-2.0
"""The collector: takes signed readings, keeps them safe, closes batches.

Readings enter a SQLite inbox (WAL, synchronous=FULL) and are acknowledged only after its commit. A
batch is closed from the inbox; once its root is on chain the inbox rows are purged. History takes a
bulk path that skips the inbox: its source can be replayed, nothing of it is acknowledged, and a
run that breaks off is simply run again, with the same file and root.

The inbox may be shared by processes; a `Collector` object belongs to the thread that made it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from dao.eip712 import address_bytes
from dao.errors import BadUse, CheckFailed, GridCommonsError
from meters import signing
from meters.lake import Batch, batch_path, check_range, read_batch, totals_of, write_batch
from meters.leaves import MonthSecrets, leaves_of, root_of_leaves
from meters.readings import NULL_WH, SIGNATURE_BYTES, Quality, Reading, Readings
from meters.validation import DEFAULT_CAPACITY_W, Finding, check

_BUSY_TIMEOUT_S = 30.0

_TABLES = """
CREATE TABLE IF NOT EXISTS reading (
    zone INTEGER NOT NULL, slot INTEGER NOT NULL, meter INTEGER NOT NULL,
    import_wh INTEGER, export_wh INTEGER, quality INTEGER NOT NULL, signature BLOB NOT NULL,
    PRIMARY KEY (zone, slot, meter)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS closed (
    zone INTEGER NOT NULL, first_slot INTEGER NOT NULL, slots INTEGER NOT NULL,
    root BLOB NOT NULL, committed INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (zone, first_slot)
) WITHOUT ROWID;
"""

_Values = tuple[int, int, int]
_Kept = tuple[_Values, bytes]


@dataclass(frozen=True)
class ReceiveReport:
    """What became of delivered readings: accepted ones are on disk now.

    `rejected` names the rule, the meter and the slot; `validation.RULES` explains each rule.
    """

    accepted: int = 0
    duplicates: int = 0
    rejected: list[tuple[str, int, int]] = field(default_factory=list)

    def messages(self) -> list[str]:
        """One line per rejected reading."""
        return [Finding(*entry).message for entry in self.rejected]


class Collector:
    """Collects one zone's readings.

    devices: meter to the 20-byte address (or 0x text) of its registered device key; these are the
    meters a batch has rows for. secrets: keeper of the salts' secrets. separator: the readings'
    EIP-712 domain. lake: folder; inbox: SQLite file. capacity_w: connection in W, one for all or
    per meter. clock: unix seconds now, None where no slot can lie ahead.
    """

    def __init__(
        self,
        zone: int,
        devices: Mapping[int, bytes | str],
        secrets: MonthSecrets,
        separator: bytes,
        lake: Path,
        inbox: Path,
        capacity_w: int | Mapping[int, int] = DEFAULT_CAPACITY_W,
        clock: Callable[[], int] | None = None,
        workers: int | None = None,
    ) -> None:
        self.zone = zone
        self._devices = {int(meter): address_bytes(key) for meter, key in devices.items()}
        self._meters = np.array(sorted(self._devices), dtype=np.int64)
        self._capacity = {
            meter: capacity_w
            if isinstance(capacity_w, int)
            else capacity_w.get(meter, DEFAULT_CAPACITY_W)
            for meter in self._devices
        }
        self._secrets = secrets
        self._separator = separator
        self._lake = Path(lake)
        self._clock = clock
        self._workers = workers
        self._db = _open(Path(inbox))

    def close(self) -> None:
        """Close the inbox. Nothing is lost: what was acknowledged is on disk."""
        self._db.close()

    def __enter__(self) -> Collector:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # receiving

    def receive(self, readings: Readings | Sequence[Reading]) -> ReceiveReport:
        """Judge readings and store the good ones; returns once they are safe on disk.

        The same value again has no effect; another value for a slot that has one is reported as
        `conflict` and the first one kept; a value for a closed batch is reported as `late`.
        """
        columns = readings if isinstance(readings, Readings) else Readings.of(readings)
        good, findings = check(columns, self._capacity, self._now())
        rejected = [(f.rule, f.meter, f.slot) for f in findings]
        rows = columns.take(good)
        if not len(rows):
            return ReceiveReport(0, 0, rejected)
        rows = replace(rows, signature=signing.normalise(rows.signature))

        with self._transaction():
            kept, closed = self._known(rows)
            entries = _entries(rows)
            # Only a resend of the very same bytes goes unverified. To compare values before the
            # signature is checked would let anyone try out a home's readings against the answers.
            fresh = [i for i, (key, entry) in enumerate(entries) if kept.get(key) != entry]
            valid = set(self._signed(rows, fresh))
            inserts: list[tuple[object, ...]] = []
            duplicates = len(entries) - len(fresh)
            for i in fresh:
                (meter, slot), entry = entries[i]
                before = kept.get((meter, slot))
                if i not in valid:
                    rejected.append(("signature", meter, slot))
                elif before is not None and before[0] == entry[0]:
                    duplicates += 1
                elif _covered(slot, closed):
                    rejected.append(("late", meter, slot))
                elif before is not None:
                    rejected.append(("conflict", meter, slot))
                else:
                    kept[meter, slot] = entry
                    (imported, exported, quality), signature = entry
                    inserts.append(
                        (
                            self.zone,
                            slot,
                            meter,
                            None if imported == NULL_WH else imported,
                            None if exported == NULL_WH else exported,
                            quality,
                            signature,
                        )
                    )
            self._db.executemany("INSERT INTO reading VALUES (?, ?, ?, ?, ?, ?, ?)", inserts)
        return ReceiveReport(len(inserts), duplicates, rejected)

    def _known(self, rows: Readings) -> tuple[dict[tuple[int, int], _Kept], list[tuple[int, int]]]:
        """What is kept already for the rows' slots, by (meter, slot), and the closed ranges there.

        Of a committed batch the inbox rows are purged, so its file is asked.
        """
        low, high = int(rows.slot.min()), int(rows.slot.max())
        kept: dict[tuple[int, int], _Kept] = {}
        found = self._db.execute(
            "SELECT meter, slot, import_wh, export_wh, quality, signature FROM reading "
            "WHERE zone = ? AND slot BETWEEN ? AND ?",
            (self.zone, low, high),
        )
        for meter, slot, imported, exported, quality, signature in found:
            values = (_marked(imported), _marked(exported), quality)
            kept[meter, slot] = (values, signature)
        closed: list[tuple[int, int]] = []
        slots = np.unique(rows.slot)
        for first, count, root, _ in self._closed(low, high + 1):
            closed.append((first, count))
            if not ((slots >= first) & (slots < first + count)).any():
                continue
            filed, _leaves = self._file(first, count, root)
            present = filed.take(filed.quality != Quality.MISSING)
            kept.update(_entries(present))
        return kept, closed

    def _signed(self, rows: Readings, picked: Sequence[int]) -> list[int]:
        """Those of the picked rows that are signed by the device registered for their meter."""
        part = rows.take(np.array(picked, dtype=np.int64))
        addresses = signing.recover_all(
            signing.digests(self._separator, part), part.signature, self._workers
        )
        meters = part.meter.tolist()
        return [
            row
            for row, meter, address in zip(picked, meters, addresses, strict=True)
            if address and address == self._devices[meter]
        ]

    # closing

    def close_batch(self, first_slot: int, slots: int) -> Batch:
        """Close the batch of these slots from the inbox and write its file.

        Every meter of the zone has a row per slot; where nothing was delivered it says missing.
        From here on the batch does not change: a later value is `late`, and closing again gives the
        same root and file. Raises BadUse for a range outside one UTC day and CheckFailed if it
        overlaps a closed batch.
        """
        check_range(first_slot, slots)
        with self._transaction():
            before = self._closed_as(first_slot, slots)
            if before is not None:
                return self._batch(first_slot, slots, *self._file(first_slot, slots, before))
            rows = self._db.execute(
                "SELECT meter, slot, import_wh, export_wh, quality, signature FROM reading "
                "WHERE zone = ? AND slot >= ? AND slot < ?",
                (self.zone, first_slot, first_slot + slots),
            ).fetchall()
            readings = Readings.of(
                Reading(m, s, imported, exported, Quality(q), signature)
                for m, s, imported, exported, q, signature in rows
                if m in self._devices
            )
            return self._close(first_slot, slots, readings)

    def close_history(
        self, readings: Readings, first_slot: int, slots: int
    ) -> tuple[Batch, ReceiveReport]:
        """Judge readings in bulk and close them as one batch, past the inbox.

        Safe because a history's source can be replayed: nothing is acknowledged before the file is
        on disk, and the same source gives the same root again. Raises BadUse for readings outside
        the range, CheckFailed if the slots are closed with another root or the inbox holds some.
        """
        check_range(first_slot, slots)
        outside = (readings.slot < first_slot) | (readings.slot >= first_slot + slots)
        if outside.any():
            raise BadUse(
                f"slot {int(readings.slot[outside][0])} lies outside the batch of {slots} slots "
                f"from {first_slot}"
            )
        good, findings = check(readings, self._capacity, self._now())
        rejected = [(f.rule, f.meter, f.slot) for f in findings]
        rows = readings.take(good)
        rows = replace(rows, signature=signing.normalise(rows.signature))
        valid = np.zeros(len(rows), dtype=bool)
        valid[self._signed(rows, range(len(rows)))] = True
        rejected += [
            ("signature", int(rows.meter[i]), int(rows.slot[i])) for i in np.flatnonzero(~valid)
        ]
        rows, duplicates, conflicts = _first_of_each(rows.take(valid))
        rejected += conflicts

        with self._transaction():
            waiting = self._db.execute(
                "SELECT count(*) FROM reading WHERE zone = ? AND slot >= ? AND slot < ?",
                (self.zone, first_slot, first_slot + slots),
            ).fetchone()[0]
            if waiting:
                raise CheckFailed(
                    f"the inbox holds {waiting} readings of slots {first_slot}.."
                    f"{first_slot + slots - 1}: close them with close_batch"
                )
            before = self._closed_as(first_slot, slots)
            if before is None:
                batch = self._close(first_slot, slots, rows)
            else:
                full = self._complete(first_slot, slots, rows)
                if root_of_leaves(leaves_of(full, self._secrets)) != before:
                    raise CheckFailed(
                        f"the batch of slots {first_slot}..{first_slot + slots - 1} is closed "
                        "with another root: changed values can only enter as a correction"
                    )
                batch = self._batch(first_slot, slots, *self._file(first_slot, slots, before))
        return batch, ReceiveReport(len(rows), duplicates, rejected)

    def mark_committed(self, batch: Batch) -> None:
        """Note that a batch's root stands on chain and purge its rows from the inbox.

        Without effect the second time. Raises CheckFailed for a batch that was not closed here.
        """
        with self._transaction():
            if self._closed_as(batch.first_slot, batch.slots) != batch.root:
                raise CheckFailed(
                    f"no batch of {batch.slots} slots from {batch.first_slot} was closed here "
                    f"with root 0x{batch.root.hex()}"
                )
            self._db.execute(
                "UPDATE closed SET committed = 1 WHERE zone = ? AND first_slot = ?",
                (self.zone, batch.first_slot),
            )
            purged = self._db.execute(
                "DELETE FROM reading WHERE zone = ? AND slot >= ? AND slot < ?",
                (self.zone, batch.first_slot, batch.first_slot + batch.slots),
            ).rowcount
        if purged:
            # Else the purged values would stand in the log until SQLite happens to reuse it.
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def uncommitted(self) -> list[tuple[int, int]]:
        """Closed batches whose commit has not been noted: (first slot, slots), in order."""
        found = self._db.execute(
            "SELECT first_slot, slots FROM closed WHERE zone = ? AND committed = 0 "
            "ORDER BY first_slot",
            (self.zone,),
        )
        return [(first, count) for first, count in found]

    def waiting(self) -> int:
        """Readings in the inbox, closed or not, that are not yet committed."""
        return int(
            self._db.execute(
                "SELECT count(*) FROM reading WHERE zone = ?", (self.zone,)
            ).fetchone()[0]
        )

    def _close(self, first_slot: int, slots: int, readings: Readings) -> Batch:
        """Write the file, then note the root: a note without its file cannot exist."""
        if not len(self._meters):
            raise CheckFailed(f"zone {self.zone} has no meters: there is nothing to commit")
        full = self._complete(first_slot, slots, readings)
        leaves = leaves_of(full, self._secrets)
        write_batch(self._lake, self.zone, first_slot, slots, full, leaves)
        self._db.execute(
            "INSERT INTO closed (zone, first_slot, slots, root) VALUES (?, ?, ?, ?)",
            (self.zone, first_slot, slots, root_of_leaves(leaves)),
        )
        return self._batch(first_slot, slots, full, leaves)

    def _complete(self, first_slot: int, slots: int, readings: Readings) -> Readings:
        """One row per meter and slot, sorted; what was not delivered is missing, not zero."""
        n = len(self._meters) * slots
        at = np.searchsorted(self._meters, readings.meter) * slots + readings.slot - first_slot
        null = np.full(n, NULL_WH, dtype=np.int64)
        full = Readings.columns(
            np.repeat(self._meters, slots),
            np.tile(np.arange(first_slot, first_slot + slots, dtype=np.int64), len(self._meters)),
            null,
            null.copy(),
            np.full(n, Quality.MISSING, dtype=np.uint8),
        )
        full.import_wh[at] = readings.import_wh
        full.export_wh[at] = readings.export_wh
        full.quality[at] = readings.quality
        full.signature[at] = readings.signature
        return full

    def _batch(
        self, first_slot: int, slots: int, readings: Readings, leaves: Sequence[bytes]
    ) -> Batch:
        net, export, homes = totals_of(readings, first_slot, slots)
        return Batch(
            zone=self.zone,
            first_slot=first_slot,
            slots=slots,
            root=root_of_leaves(leaves),
            net_wh=net,
            export_wh=export,
            homes=int(homes.min()),
            leaves=len(leaves),
            path=batch_path(self._lake, self.zone, first_slot, slots),
        )

    def _file(self, first_slot: int, slots: int, root: bytes) -> tuple[Readings, list[bytes]]:
        """Rows and leaves of a closed batch. CheckFailed if they do not give its root."""
        path = batch_path(self._lake, self.zone, first_slot, slots)
        try:
            readings, leaves = read_batch(path)
        except GridCommonsError as error:
            raise CheckFailed(str(error)) from error
        # The root vouches for the leaves only, and totals are summed from the values.
        if (
            not leaves
            or root_of_leaves(leaves) != root
            or leaves_of(readings, self._secrets) != leaves
        ):
            raise CheckFailed(f"{path} does not give the root it was closed with: it was changed")
        return readings, leaves

    def _closed(self, first: int, end: int) -> list[tuple[int, int, bytes, int]]:
        """Closed batches that share a slot with first..end: first slot, slots, root, committed."""
        return self._db.execute(
            "SELECT first_slot, slots, root, committed FROM closed "
            "WHERE zone = ? AND first_slot < ? AND first_slot + slots > ? ORDER BY first_slot",
            (self.zone, end, first),
        ).fetchall()

    def _closed_as(self, first_slot: int, slots: int) -> bytes | None:
        """The root this very batch was closed with, None if its slots are all open."""
        for first, count, root, _ in self._closed(first_slot, first_slot + slots):
            if (first, count) != (first_slot, slots):
                raise CheckFailed(
                    f"slots {first_slot}..{first_slot + slots - 1} overlap the closed batch of "
                    f"slots {first}..{first + count - 1}"
                )
            return bytes(root)
        return None

    def _now(self) -> int | None:
        return None if self._clock is None else self._clock()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """One write transaction: what happens inside happens whole or not at all."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")


def _open(inbox: Path) -> sqlite3.Connection:
    inbox.parent.mkdir(parents=True, exist_ok=True)
    try:
        db = sqlite3.connect(inbox, timeout=_BUSY_TIMEOUT_S, isolation_level=None)
        db.execute("PRAGMA journal_mode = WAL")
        # FULL: with WAL, NORMAL could lose acknowledged readings in a power cut.
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA secure_delete = ON")
        db.executescript(_TABLES)
    except sqlite3.Error as error:
        raise CheckFailed(f"cannot use the inbox {inbox}: {error}") from error
    return db


def _marked(value: int | None) -> int:
    return NULL_WH if value is None else value


def _entries(readings: Readings) -> list[tuple[tuple[int, int], _Kept]]:
    """Rows as ((meter, slot), ((import, export, quality), signature)) with the mark of null."""
    block = readings.signature.tobytes()
    columns = zip(
        readings.meter.tolist(),
        readings.slot.tolist(),
        readings.import_wh.tolist(),
        readings.export_wh.tolist(),
        readings.quality.tolist(),
        strict=True,
    )
    return [
        ((m, s), ((i, e, q), block[at * SIGNATURE_BYTES : (at + 1) * SIGNATURE_BYTES]))
        for at, (m, s, i, e, q) in enumerate(columns)
    ]


def _covered(slot: int, ranges: Sequence[tuple[int, int]]) -> bool:
    return any(first <= slot < first + count for first, count in ranges)


def _first_of_each(readings: Readings) -> tuple[Readings, int, list[tuple[str, int, int]]]:
    """The first reading of each meter and slot, how many repeat it, and which contradict it."""
    n = len(readings)
    order = np.lexsort((np.arange(n), readings.slot, readings.meter))
    rows = readings.take(order)
    if n == 0:
        return rows, 0, []
    begins = np.ones(n, dtype=bool)
    begins[1:] = (np.diff(rows.meter) != 0) | (np.diff(rows.slot) != 0)
    first = np.flatnonzero(begins)[np.cumsum(begins) - 1]
    same = (
        (rows.import_wh == rows.import_wh[first])
        & (rows.export_wh == rows.export_wh[first])
        & (rows.quality == rows.quality[first])
    )
    conflicts = [("conflict", int(rows.meter[i]), int(rows.slot[i])) for i in np.flatnonzero(~same)]
    return rows.take(begins), int((~begins & same).sum()), conflicts
