# SPDX-License-Identifier: Apache-2.0
"""Dispatch reports as they came from gateways: checked, kept in one SQLite file, counted.

A report says what one home's device did, so it is erased with the home's month (`erase`). The file
belongs to the writer's thread.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dao.errors import BadUse, CheckFailed
from dao.slots import SLOT_SECONDS
from meters.dispatch import DispatchReport
from meters.registry import KeyPeriods

MAX_REPORT_BYTES = 4_096
MOST_PER_SLOT = 8
"""Reports of one meter and slot: so many devices a home may have, and no more fill the disk."""

_TABLES = """
CREATE TABLE IF NOT EXISTS report (
    slot INTEGER NOT NULL, meter INTEGER NOT NULL, digest BLOB NOT NULL, report TEXT NOT NULL,
    PRIMARY KEY (slot, meter, digest)
) WITHOUT ROWID;
"""


class Dispatches:
    """The file of reports."""

    def __init__(
        self,
        path: Path,
        keys: KeyPeriods,
        separator: bytes,
        erased: Callable[[Iterable[int]], Iterable[tuple[int, int, int]]] = lambda meters: (),
    ) -> None:
        """separator: of the readings' EIP-712 domain. erased: as `Inbox.erased`."""
        self.path = path
        self._erased = erased
        self._keys = keys
        self._separator = separator
        with _plain_errors(path):
            self._db = _connected(path)

    def close(self) -> None:
        self._db.close()

    def add(self, document: object, now: float) -> bool:
        """Keep a report; whether it is new. On disk when this returns.

        BadUse for one that is malformed, not by the meter's device, of a time to come, of one that
        was erased, or one too many.
        """
        report = DispatchReport.from_json(document)
        end = (report.slot + 1) * SLOT_SECONDS
        if end > now + SLOT_SECONDS:
            raise BadUse("dispatch report: the slot has not begun yet")
        device = self._keys.device_at(report.meter, end - 1)
        if not device:
            raise BadUse("dispatch report: no such meter in this zone at that time")
        try:
            report.verify(self._separator, device)
        except CheckFailed as error:
            raise BadUse(str(error)) from None
        if any(first <= report.slot < end for _, first, end in self._erased([report.meter])):
            raise BadUse("dispatch report: this time of the meter was erased")
        digest = report.digest(self._separator)
        with _plain_errors(self.path):
            known = self._db.execute(
                "SELECT count(*), sum(digest = ?) FROM report WHERE slot = ? AND meter = ?",
                (digest, report.slot, report.meter),
            ).fetchone()
            if known[1]:
                return False
            if known[0] >= MOST_PER_SLOT:
                raise BadUse(f"dispatch report: {MOST_PER_SLOT} of this meter and slot are here")
            self._db.execute(
                "INSERT INTO report VALUES (?, ?, ?, ?)",
                (report.slot, report.meter, digest, json.dumps(report.to_json())),
            )
        return True

    def count(self) -> int:
        """How many are kept."""
        with _plain_errors(self.path):
            return int(self._db.execute("SELECT count(*) FROM report").fetchone()[0])


def erase(path: Path, meter: int, first_slot: int, end_slot: int) -> int:
    """Delete a meter's reports of these slots, beside a running service too; how many."""
    if not path.exists():
        return 0
    with _plain_errors(path):
        db = _connected(path)
        try:
            return db.execute(
                "DELETE FROM report WHERE meter = ? AND slot >= ? AND slot < ?",
                (meter, first_slot, end_slot),
            ).rowcount
        finally:
            db.close()


def _connected(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    db = sqlite3.connect(path, timeout=30.0, isolation_level=None)
    path.chmod(0o600)
    db.execute("PRAGMA secure_delete = ON")
    # No WAL: its file would hold reports after they were erased.
    db.execute("PRAGMA journal_mode = TRUNCATE")
    db.execute("PRAGMA synchronous = FULL")
    db.executescript(_TABLES)
    return db


@contextmanager
def _plain_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        raise CheckFailed(f"cannot use {path}: {error}") from None
