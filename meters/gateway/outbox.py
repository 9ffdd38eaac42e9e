# SPDX-License-Identifier: Apache-2.0
"""What a gateway has signed, on disk until the collector has it: one SQLite file.

A reading is signed once, in one transaction with the head of its chain and with the state of the
intervals behind it; so no power cut makes two readings of one number, or loses one. Sending is the
uplink's business.
"""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any, Self

import numpy as np

from dao.errors import BadUse, CheckFailed
from dao.market.orders import sign_receipt
from dao.paths import ensure_parent
from dao.sqlite import transaction
from meters.frames import MAX_RECORDS
from meters.gateway.intervals import Interval
from meters.gateway.keystore import DeviceKey
from meters.readings import Quality, Reading, Readings
from meters.signing import Head, digests, links, sign_chain

APPLICATION_ID = 0x47434F42  # "GCOB"
VERSION = 1
_PAGE = 4096
SMALLEST_LIMIT = 1 << 20
KEPT_RECENT = 400
"""Acknowledged readings that stay whatever the room: four days, for delivery receipts."""

WAITING, ACKNOWLEDGED, REFUSED = 0, 1, 2
RETRY_RULES = frozenset({"future_slot", "unknown_meter"})
"""What a collector may take later: an early clock, and a meter that is not registered yet."""
_RETRY_S = 900

_SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE unsigned (
    id INTEGER PRIMARY KEY, slot INTEGER NOT NULL, import_wh INTEGER, export_wh INTEGER,
    quality INTEGER NOT NULL
);
CREATE TABLE readings (
    sequence INTEGER PRIMARY KEY, slot INTEGER NOT NULL, import_wh INTEGER, export_wh INTEGER,
    quality INTEGER NOT NULL, previous BLOB NOT NULL, signature BLOB NOT NULL,
    state INTEGER NOT NULL DEFAULT 0, rule TEXT, retry_at REAL NOT NULL DEFAULT 0
);
CREATE INDEX waiting ON readings (sequence) WHERE state = 0;
CREATE INDEX by_slot ON readings (slot);
CREATE TABLE receipts (
    first_slot INTEGER PRIMARY KEY, exports TEXT NOT NULL, signature BLOB NOT NULL,
    state INTEGER NOT NULL DEFAULT 0, answer TEXT
);
CREATE TABLE receipt_slots (slot INTEGER PRIMARY KEY);
CREATE TABLE reports (
    device TEXT NOT NULL, slot INTEGER NOT NULL, document TEXT NOT NULL,
    state INTEGER NOT NULL DEFAULT 0, answer TEXT, PRIMARY KEY (device, slot)
);
CREATE TABLE keys (
    address TEXT PRIMARY KEY, file TEXT NOT NULL, valid_from INTEGER NOT NULL,
    confirmed INTEGER NOT NULL
);
"""


class OutboxFull(CheckFailed):
    """There is no room for another reading that was not acknowledged yet."""


@dataclass(frozen=True)
class KeyPeriod:
    """A device key in `file`, to sign for slots whose last second is `valid_from` or later."""

    address: str
    file: str
    valid_from: int
    confirmed: bool


@dataclass(frozen=True)
class Counts:
    """How many readings stand where, and how much of the room is used."""

    unsigned: int
    waiting: int
    acknowledged: int
    refused: int
    used_bytes: int
    limit_bytes: int


class Outbox:
    """The file, open for one gateway. Without `claim` keys may be changed beside a running one, and
    with `readonly` it may be looked at; neither may sign."""

    def __init__(
        self,
        path: Path,
        meter: int,
        separator: bytes,
        *,
        limit_bytes: int = 64 << 20,
        readonly: bool = False,
        claim: bool = True,
    ) -> None:
        if limit_bytes < SMALLEST_LIMIT:
            raise BadUse(f"an outbox needs at least {SMALLEST_LIMIT:,} bytes")
        self.path = path
        self.meter = meter
        self.separator = separator
        self.limit_bytes = limit_bytes
        self._lock = _claim(path) if claim and not readonly else None
        try:
            self._db = self._open(readonly)
        except BaseException:
            self._unlock()
            raise

    def _open(self, readonly: bool) -> sqlite3.Connection:
        if readonly and not self.path.exists():
            raise CheckFailed(f"there is no outbox at {self.path}: the gateway never ran")
        mode = "ro" if readonly else "rwc"
        db: sqlite3.Connection | None = None
        try:
            uri = f"{self.path.absolute().as_uri()}?mode={mode}"
            db = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=10)
            fresh = not db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            if not fresh or readonly:
                self._check(db)
            if not readonly:
                # Pages that a power cut tore are healed from the log, which is flushed each time.
                db.execute("PRAGMA journal_mode = WAL")
                db.execute("PRAGMA synchronous = FULL")
                if fresh:
                    self._create(db)
            return db
        except sqlite3.DatabaseError as error:
            if db is not None:
                db.close()
            if "unable to open" in str(error) or "readonly" in str(error):
                raise CheckFailed(f"cannot open the outbox {self.path}: {error}") from None
            raise CheckFailed(self._damaged(str(error))) from None
        except BaseException:
            if db is not None:
                db.close()
            raise

    def _damaged(self, why: str) -> str:
        why = " ".join(why.split())
        return (
            f"the outbox {self.path} is damaged ({why}): move it away and start again; the gateway "
            "then goes on from the collector's head, and what was not sent is lost"
        )

    def _create(self, db: sqlite3.Connection) -> None:
        os.chmod(self.path, 0o600)  # noqa: PTH101 - before a reading is in it
        with transaction(db):
            for statement in _SCHEMA.split(";"):
                if statement.strip():
                    db.execute(statement)
            db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            db.execute(f"PRAGMA user_version = {VERSION}")
            for name, value in (("meter", self.meter), ("separator", self.separator)):
                db.execute("INSERT INTO meta VALUES (?, ?)", (name, value))

    def _check(self, db: sqlite3.Connection) -> None:
        if db.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
            raise BadUse(f"{self.path} is not a gateway's outbox")
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version != VERSION:
            raise BadUse(
                f"the outbox {self.path} has layout {version}, this program reads {VERSION}"
            )
        found = db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise CheckFailed(self._damaged(str(found)))
        kept = dict(db.execute("SELECT name, value FROM meta").fetchall())
        if kept.get("meter") != self.meter:
            raise BadUse(
                f"the outbox {self.path} is of meter {kept.get('meter')}, not {self.meter}"
            )
        if kept.get("separator") != self.separator:
            raise BadUse(f"the outbox {self.path} signs for another chain or registry")

    def close(self) -> None:
        """Give the file to the next. Safe to call twice."""
        self._db.close()
        self._unlock()

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # The chain

    @property
    def head(self) -> Head | None:
        """The last reading signed; None while it is not known, in a file without a past."""
        kept = self._meta("head")
        return None if kept is None else _head(kept)

    def begin_at(self, head: Head) -> bool:
        """Go on after the collector's head, where it is ahead of what this file knows.

        So a gateway goes on after a lost disk, or after an old copy of its file came back. Gives
        whether the head moved.
        """
        with self._writing():
            own = self.head
            if own is not None and own.sequence >= head.sequence:
                return False
            self._set("head", _head_text(head))
        return True

    def record(
        self,
        intervals: Sequence[Interval],
        state: Mapping[str, Any],
        key_of: Callable[[int], DeviceKey | None],
    ) -> int:
        """Keep intervals with the state that they came from, and sign what can be signed.

        key_of: the key that must sign for a slot; None where that is not known now, then they wait
        unsigned, and so they do while the head is not known. Gives how many were signed. All or
        nothing: raises OutboxFull without room, and nothing has changed.
        """
        if intervals:
            self._make_room()
        with self._writing():
            for one in intervals:
                self._db.execute(
                    "INSERT INTO unsigned (slot, import_wh, export_wh, quality) VALUES (?,?,?,?)",
                    (one.slot, one.import_wh, one.export_wh, int(one.quality)),
                )
            if intervals and self._meta("born") is None:
                self._set("born", min(one.slot for one in intervals))
            self._set("intervals", json.dumps(state))
            return self._sign(key_of)

    def checkpoint(self, state: Mapping[str, Any]) -> None:
        """Keep where the intervals stand, so that a restart loses no more than the time since."""
        with self._writing():
            self._set("intervals", json.dumps(state))

    def intervals_state(self) -> dict[str, Any] | None:
        """What `record` or `checkpoint` kept last."""
        kept = self._meta("intervals")
        return None if kept is None else json.loads(kept)

    def _sign(self, key_of: Callable[[int], DeviceKey | None]) -> int:
        head = self.head
        rows = self._db.execute("SELECT * FROM unsigned ORDER BY id").fetchall()
        if head is None or not rows:
            return 0
        signed = 0
        keyed = [(key_of(row[1]), row) for row in rows]
        for key, run in itertools.groupby(keyed, key=itemgetter(0)):
            if key is None:
                break
            part = [row for _, row in run]
            head = self._sign_run(key, part, head)
            signed += len(part)
        if signed:
            self._set("head", _head_text(head))
        return signed

    def _sign_run(self, key: DeviceKey, rows: Sequence[tuple[int, ...]], head: Head) -> Head:
        """Sign rows of one key after the head; the new head."""
        plain = Readings.of(
            Reading(self.meter, slot, imported, exported, Quality(quality))
            for _, slot, imported, exported, quality in rows
        )
        made = sign_chain(key.private, self.separator, plain, head)
        self._db.executemany(
            "INSERT INTO readings (sequence, slot, import_wh, export_wh, quality, previous,"
            " signature) VALUES (?,?,?,?,?,?,?)",
            (
                (
                    row.sequence,
                    row.slot,
                    row.import_wh,
                    row.export_wh,
                    int(row.quality),
                    row.previous,
                    row.signature,
                )
                for row in made
            ),
        )
        self._db.executemany("DELETE FROM unsigned WHERE id = ?", ((row[0],) for row in rows))
        last = made.take(np.array([len(made) - 1]))
        link = links(digests(self.separator, last), last.signature).tobytes()
        return Head(int(last.sequence[0]), link)

    # Sending

    def waiting(self, now: float, most: int = MAX_RECORDS) -> Readings:
        """The oldest readings that the collector does not have yet, in order of their number."""
        rows = self._db.execute(
            "SELECT slot, import_wh, export_wh, quality, signature, sequence, previous"
            " FROM readings WHERE state = 0 AND retry_at <= ? ORDER BY sequence LIMIT ?",
            (now, most),
        )
        return Readings.of(
            Reading(self.meter, slot, imported, exported, Quality(quality), *rest)
            for slot, imported, exported, quality, *rest in rows
        )

    def settle(
        self, sent: Readings, refused: Mapping[int, str], now: float, spread: float = 1.0
    ) -> None:
        """Note what the collector said of readings: all taken but `refused` (number to rule).

        What it may take later waits a quarter of an hour, times up to two by `spread` (0 to 1), so
        that not all gateways of a zone come back at one time.
        """
        with self._writing():
            for sequence in sent.sequence.tolist():
                rule = refused.get(sequence)
                state = ACKNOWLEDGED if rule is None else REFUSED
                if rule in RETRY_RULES:
                    state = WAITING
                retry = now + _RETRY_S * (1 + spread) if state == WAITING else 0
                self._db.execute(
                    "UPDATE readings SET state = ?, rule = ?, retry_at = ? WHERE sequence = ?",
                    (state, rule, retry, sequence),
                )

    def refused(self, most: int = 20) -> list[tuple[int, int, str]]:
        """Sequence, slot and rule of readings that the collector refused, newest first."""
        rows = self._db.execute(
            "SELECT sequence, slot, rule FROM readings WHERE rule IS NOT NULL"
            " ORDER BY sequence DESC LIMIT ?",
            (most,),
        )
        return [(sequence, slot, rule) for sequence, slot, rule in rows]

    # Room

    def counts(self) -> Counts:
        """What is kept, and how full the file is."""
        by_state = dict(self._db.execute("SELECT state, count(*) FROM readings GROUP BY state"))
        return Counts(
            self.unsigned,
            by_state.get(WAITING, 0),
            by_state.get(ACKNOWLEDGED, 0),
            by_state.get(REFUSED, 0),
            self._used(),
            self.limit_bytes,
        )

    @property
    def unsigned(self) -> int:
        """How many readings wait for the head or their key."""
        return int(self._db.execute("SELECT count(*) FROM unsigned").fetchone()[0])

    def _used(self) -> int:
        pages = self._db.execute("PRAGMA page_count").fetchone()[0]
        free = self._db.execute("PRAGMA freelist_count").fetchone()[0]
        return int(pages - free) * _PAGE

    def _make_room(self) -> None:
        """Drop the oldest acknowledged readings while the file is too large."""
        # A few pages of slack: what one transaction may add.
        limit = self.limit_bytes - 16 * _PAGE
        while self._used() > limit:
            with self._writing():
                dropped = self._db.execute(
                    "DELETE FROM readings WHERE sequence IN (SELECT sequence FROM readings"
                    " WHERE state != 0 AND sequence <= (SELECT max(sequence) FROM readings) - ?"
                    " ORDER BY sequence LIMIT 2000)",
                    (KEPT_RECENT,),
                ).rowcount
                dropped += self._db.execute(
                    "DELETE FROM reports WHERE state != 0 AND slot <"
                    " (SELECT max(slot) FROM reports) - ?",
                    (KEPT_RECENT,),
                ).rowcount
            if not dropped:
                raise OutboxFull(
                    f"the outbox {self.path} is full: {self._used():,} of {self.limit_bytes:,} "
                    "bytes, and the collector has acknowledged none of it"
                )

    # Delivery receipts

    @property
    def born(self) -> int | None:
        """The first slot that this file ever held; of sessions before it nothing is known."""
        kept = self._meta("born")
        return None if kept is None else int(kept)

    @property
    def newest_slot(self) -> int | None:
        """The latest slot that was measured here, signed or not."""
        found = self._db.execute(
            "SELECT max(slot) FROM (SELECT max(slot) AS slot FROM readings"
            " UNION ALL SELECT max(slot) FROM unsigned)"
        ).fetchone()[0]
        return None if found is None else int(found)

    def exports(self, first_slot: int, slots: int) -> list[int | None]:
        """Wh exported per slot as last signed; None where nothing was, or where it is not known."""
        found: list[int | None] = [None] * slots
        rows = self._db.execute(
            "SELECT slot, export_wh FROM readings WHERE slot >= ? AND slot < ? AND state != ?"
            " ORDER BY sequence",
            (first_slot, first_slot + slots, REFUSED),
        )
        for slot, wh in rows:
            found[slot - first_slot] = wh
        return found

    def make_receipt(
        self, separator: bytes, first_slot: int, exports: Sequence[int], key: DeviceKey
    ) -> bytes:
        """Sign a delivery receipt and keep it before it leaves; the kept one if there is one.

        separator: the market's. Raises CheckFailed where a slot of it is in another receipt: two
        that differ would suspend the key.
        """
        with self._writing():
            kept = self._db.execute(
                "SELECT signature FROM receipts WHERE first_slot = ? AND exports = ?",
                (first_slot, json.dumps(list(exports))),
            ).fetchone()
            if kept is not None:
                return bytes(kept[0])
            signature = sign_receipt(separator, self.meter, first_slot, exports, key.private)
            try:
                for slot in range(first_slot, first_slot + len(exports)):
                    self._db.execute("INSERT INTO receipt_slots VALUES (?)", (slot,))
            except sqlite3.IntegrityError:
                raise CheckFailed(
                    f"slot {slot} has its delivery receipt already; a second one is never signed"
                ) from None
            self._db.execute(
                "INSERT INTO receipts (first_slot, exports, signature) VALUES (?,?,?)",
                (first_slot, json.dumps(list(exports)), signature),
            )
        return signature

    def has_receipt(self, slot: int) -> bool:
        """Whether a slot is in a receipt."""
        found = self._db.execute("SELECT 1 FROM receipt_slots WHERE slot = ?", (slot,))
        return found.fetchone() is not None

    def receipts(self, state: int = WAITING) -> list[dict[str, Any]]:
        """Receipts as the relay takes them, oldest first."""
        rows = self._db.execute(
            "SELECT first_slot, exports, signature FROM receipts WHERE state = ?"
            " ORDER BY first_slot",
            (state,),
        )
        return [
            {
                "meter": self.meter,
                "first_slot": first,
                "exports": json.loads(exports),
                "signature": "0x" + bytes(signature).hex(),
            }
            for first, exports, signature in rows
        ]

    def settle_receipt(self, first_slot: int, state: int, answer: str) -> None:
        """Note what the relay said."""
        with self._writing():
            self._db.execute(
                "UPDATE receipts SET state = ?, answer = ? WHERE first_slot = ?",
                (state, answer, first_slot),
            )

    # Dispatch reports

    def add_report(self, device: str, slot: int, document: Mapping[str, Any]) -> None:
        """Keep a signed dispatch report; the first of a device and slot stays."""
        with self._writing():
            self._db.execute(
                "INSERT OR IGNORE INTO reports (device, slot, document) VALUES (?,?,?)",
                (device, slot, json.dumps(document)),
            )

    def reports(self, state: int | None = WAITING, most: int = 100) -> list[dict[str, Any]]:
        """Dispatch reports of one state, or all, oldest first, with their device under `device`."""
        rows = self._db.execute(
            "SELECT device, document FROM reports WHERE ? IS NULL OR state = ?"
            " ORDER BY slot, device LIMIT ?",
            (state, state, most),
        )
        return [{**json.loads(document), "device": device} for device, document in rows]

    def settle_report(self, device: str, slot: int, state: int, answer: str = "") -> None:
        """Note that a report was taken, or refused for good."""
        with self._writing():
            self._db.execute(
                "UPDATE reports SET state = ?, answer = ? WHERE device = ? AND slot = ?",
                (state, answer, device, slot),
            )

    # Keys

    def key_periods(self) -> list[KeyPeriod]:
        """The keys in order of when they begin to hold."""
        rows = self._db.execute("SELECT * FROM keys ORDER BY valid_from")
        return [KeyPeriod(a, file, begin, bool(confirmed)) for a, file, begin, confirmed in rows]

    def put_key(self, period: KeyPeriod) -> None:
        """Add a key or change when it holds."""
        with self._writing():
            self._db.execute(
                "INSERT OR REPLACE INTO keys VALUES (?,?,?,?)",
                (period.address, period.file, period.valid_from, period.confirmed),
            )

    def drop_key(self, address: str) -> None:
        """Forget a key that never came into force."""
        with self._writing():
            self._db.execute("DELETE FROM keys WHERE address = ?", (address,))

    # Notes of other parts

    def note(self, name: str, value: Any) -> None:
        """Keep a small JSON value under a name."""
        with self._writing():
            self._set(f"note:{name}", json.dumps(value))

    def noted(self, name: str) -> Any:
        """What `note` kept, None if nothing."""
        kept = self._meta(f"note:{name}")
        return None if kept is None else json.loads(kept)

    # Inside

    def _meta(self, name: str) -> Any:
        row = self._db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return None if row is None else row[0]

    def _set(self, name: str, value: object) -> None:
        self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            with transaction(self._db):
                yield
        except sqlite3.OperationalError as error:
            if "full" in str(error) or "I/O" in str(error):
                raise OutboxFull(f"the disk of the outbox {self.path}: {error}") from error
            raise CheckFailed(f"the outbox {self.path} cannot be written: {error}") from error
        except sqlite3.ProgrammingError:
            raise  # a defect of ours, not of the file
        except sqlite3.DatabaseError as error:
            raise CheckFailed(self._damaged(str(error))) from error


def _claim(path: Path) -> int:
    """The lock beside the file: a second gateway would sign a second chain."""
    lock = ensure_parent(path).with_name(path.name + ".lock")
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise CheckFailed(f"cannot open {lock}: {error.strerror}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise CheckFailed(f"another gateway works with {path}; end that one first") from None
    return descriptor


def _head_text(head: Head) -> str:
    return f"{head.sequence}:{head.link.hex()}"


def _head(text: str) -> Head:
    number, _, link = text.partition(":")
    return Head(int(number), bytes.fromhex(link))
