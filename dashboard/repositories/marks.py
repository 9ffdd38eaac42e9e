# SPDX-License-Identifier: Apache-2.0
"""`dashboard.sqlite`: what an account calls its readers, and which notices it has seen.

The dashboard's own file: nothing signed is in it, and without it nothing but marks is lost.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from dao.eip712 import address_bytes, checksum_address
from dashboard.repositories.own_file import OwnFile
from dashboard.settings import Settings

MAX_NAME = 60
_MAX_NAMES = 500

_TABLES = """
CREATE TABLE IF NOT EXISTS reader_name (
    account INTEGER NOT NULL, reader TEXT NOT NULL, name TEXT NOT NULL,
    PRIMARY KEY (account, reader)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS seen (
    account INTEGER NOT NULL, notice TEXT NOT NULL, at INTEGER NOT NULL,
    PRIMARY KEY (account, notice)
) WITHOUT ROWID;
"""
_MOST_SEEN = 2_000


class Marks:
    """`dashboard.sqlite`: names for readers, and which notices an account has seen."""

    def __init__(self, path: Path) -> None:
        self._file = OwnFile(path, _TABLES)

    def names(self, account: int) -> dict[str, str]:
        """The account's names for readers, by address."""
        rows = self._file.ask("SELECT reader, name FROM reader_name WHERE account = ?", (account,))
        return {str(reader): str(name) for reader, name in rows}

    def name(self, account: int, reader: str, name: str) -> None:
        """Call a reader so; an empty name forgets it."""
        plain = " ".join(name.split())[:MAX_NAME]
        reader = checksum_address(address_bytes(reader))
        with self._file.writing() as db:
            db.execute(
                "DELETE FROM reader_name WHERE account = ? AND reader = ?", (account, reader)
            )
            (held,) = db.execute(
                "SELECT count(*) FROM reader_name WHERE account = ?", (account,)
            ).fetchone()
            if plain and held < _MAX_NAMES:
                db.execute("INSERT INTO reader_name VALUES (?, ?, ?)", (account, reader, plain))

    def seen(self, account: int) -> set[str]:
        """The notices that were marked as seen."""
        rows = self._file.ask("SELECT notice FROM seen WHERE account = ?", (account,))
        return {str(row[0]) for row in rows}

    def see(self, account: int, notices: Iterable[str], now: int) -> None:
        """Mark notices as seen; the oldest marks go when there are too many."""
        with self._file.writing() as db:
            db.executemany(
                "INSERT INTO seen VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET at = excluded.at",
                [(account, one[:120], now) for one in notices],
            )
            db.execute(
                "DELETE FROM seen WHERE account = ? AND notice NOT IN (SELECT notice FROM seen "
                "WHERE account = ? ORDER BY at DESC, notice LIMIT ?)",
                (account, account, _MOST_SEEN),
            )


def marks(settings: Settings) -> Marks:
    """The dashboard's own file."""
    return Marks(settings.home / "dashboard.sqlite")
