# SPDX-License-Identifier: Apache-2.0
"""The inbox as a file: its tables, one collector at a time, and errors in plain words.

What is read and written there is in `inbox.py`.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dao.errors import CheckFailed

LAYOUT = 2
"""Of the tables below; 0 is what held readings without a chain."""

OF_METER = """
WITH RECURSIVE asked (slot) AS (SELECT ? UNION ALL SELECT slot + 1 FROM asked WHERE slot + 1 < ?)
SELECT r.record FROM asked a CROSS JOIN reading r ON r.slot = a.slot AND r.meter = ?
ORDER BY r.slot, r.sequence
"""
"""The records of one meter from a slot to before another, of which there is at least one. One
look-up for each slot: the table is ordered by slot, then meter."""

_BUSY_TIMEOUT_S = 30.0

_TABLES = f"""
BEGIN IMMEDIATE;
CREATE TABLE zone (zone INTEGER NOT NULL);
CREATE TABLE reading (
    slot INTEGER NOT NULL, meter INTEGER NOT NULL, sequence INTEGER NOT NULL, record BLOB NOT NULL,
    PRIMARY KEY (slot, meter, sequence)
) WITHOUT ROWID;
CREATE TABLE beside (
    slot INTEGER NOT NULL, meter INTEGER NOT NULL, sequence INTEGER NOT NULL, record BLOB NOT NULL,
    state INTEGER NOT NULL,
    PRIMARY KEY (slot, meter, sequence)
) WITHOUT ROWID;
CREATE TABLE head (meter INTEGER PRIMARY KEY, sequence INTEGER NOT NULL, link BLOB NOT NULL);
CREATE TABLE gap (
    meter INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
    link BLOB NOT NULL, previous BLOB NOT NULL,
    PRIMARY KEY (meter, first)
) WITHOUT ROWID;
CREATE TABLE evidence (
    meter INTEGER NOT NULL, rule TEXT NOT NULL, number INTEGER NOT NULL,
    record BLOB NOT NULL, other BLOB, link BLOB,
    PRIMARY KEY (meter, rule, number)
) WITHOUT ROWID;
CREATE TABLE erased (
    meter INTEGER NOT NULL, first_slot INTEGER NOT NULL, end_slot INTEGER NOT NULL,
    PRIMARY KEY (meter, first_slot, end_slot)
) WITHOUT ROWID;
CREATE TABLE closed (
    first_slot INTEGER NOT NULL, version INTEGER NOT NULL, slots INTEGER NOT NULL,
    root BLOB NOT NULL, committed INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (first_slot, version)
) WITHOUT ROWID;
PRAGMA user_version = {LAYOUT};
COMMIT;
"""

_SCRATCH = """
CREATE TEMP TABLE asked (slot INTEGER NOT NULL, meter INTEGER NOT NULL);
CREATE TEMP TABLE asked_meter (meter INTEGER NOT NULL);
"""


class InboxFailed(CheckFailed):
    """The file, or the disk under it, does not do what it should: for every reading alike."""


def locked(path: Path) -> Lock:
    """Hold the lock beside an inbox, which goes with the process at the latest."""
    beside = path.with_name(path.name + ".lock")
    handle = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder = os.read(handle, 32).decode("ascii", "replace").strip()
        os.close(handle)
        who = f" (process {holder})" if holder.isdigit() else ""
        raise CheckFailed(
            f"another collector{who} works with {path}: an inbox has one at a time"
        ) from None
    os.ftruncate(handle, 0)
    os.write(handle, str(os.getpid()).encode())
    return Lock(handle)


class Lock:
    """Holds until it is closed, or the process ends, however it ends."""

    def __init__(self, handle: int) -> None:
        self._handle = handle

    def close(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    __del__ = close


def connected(path: Path) -> sqlite3.Connection:
    """A durable connection that leaves nothing of what it deletes."""
    db = sqlite3.connect(path, timeout=_BUSY_TIMEOUT_S, isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    # FULL: with WAL, NORMAL could lose acknowledged readings in a power cut.
    db.execute("PRAGMA synchronous = FULL")
    db.execute("PRAGMA secure_delete = ON")
    db.execute("PRAGMA temp_store = MEMORY")
    return db


def open_inbox(path: Path, zone: int) -> sqlite3.Connection:
    """Open an inbox, or make it. CheckFailed for another zone's or version's, or no inbox."""
    with plain_errors(path):
        db = connected(path)
        path.chmod(0o600)
        if not db.execute("SELECT 1 FROM sqlite_master").fetchone():
            db.executescript(_TABLES)
            db.execute("INSERT INTO zone VALUES (?)", (zone,))
        check_layout(db, path)
        held = db.execute("SELECT zone FROM zone").fetchone()
        if held is None:  # the process ended between making the tables and naming the zone
            db.execute("INSERT INTO zone VALUES (?)", (zone,))
        elif held[0] != zone:
            raise CheckFailed(f"the inbox {path} is of zone {held[0]}, not of zone {zone}")
        db.executescript(_SCRATCH)
    return db


def check_layout(db: sqlite3.Connection, path: Path) -> None:
    """Raises CheckFailed for a file of another version of the program, or no inbox at all."""
    if int(db.execute("PRAGMA user_version").fetchone()[0]) != LAYOUT:
        raise CheckFailed(
            f"the inbox {path} is not of this version of the program: its readings carry no chain "
            "and could not be verified; commit them with the version that took them, then move the "
            "file away"
        )


@contextmanager
def plain_errors(path: Path) -> Iterator[None]:
    """What the file or the disk does not do, as InboxFailed in one line."""
    try:
        yield
    except (sqlite3.ProgrammingError, sqlite3.InterfaceError):
        raise  # a defect of ours
    except sqlite3.DatabaseError as error:
        raise InboxFailed(f"cannot use the inbox {path}: {error}") from error
