# SPDX-License-Identifier: Apache-2.0
"""A small SQLite file of the dashboard's own: how it is opened, asked and written.

What stands in such a file is its owners' business: `marks.py`, `instructions.py`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from dao.errors import CheckFailed
from dao.sqlite import transaction


class OwnFile:
    """A file that is made when something is first written. tables: SQL that makes what is not
    there yet. is_private: for the operator's account alone, and what is deleted is overwritten."""

    def __init__(self, path: Path, tables: str, *, is_private: bool = False) -> None:
        self._path = path
        self._tables = tables
        self._is_private = is_private

    def ask(self, sql: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        """The rows of a question; none where the file is not there. CheckFailed where it cannot be
        read."""
        if not self._path.exists():
            return []
        try:
            with closing(self._open()) as db:
                return db.execute(sql, tuple(values)).fetchall()
        except sqlite3.Error as error:
            raise CheckFailed(f"{self._path}: {error}") from error

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction, kept as a whole or not at all. CheckFailed where it cannot be written."""
        try:
            with closing(self._open()) as db, transaction(db):
                yield db
        except sqlite3.Error as error:
            raise CheckFailed(f"{self._path}: {error}") from error

    def _open(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        db = sqlite3.connect(self._path, timeout=10.0, isolation_level=None)
        try:
            if self._is_private:
                self._path.chmod(0o600)
                db.execute("PRAGMA secure_delete = ON")
            else:
                db.execute("PRAGMA journal_mode = WAL")
            db.executescript(self._tables)
        except BaseException:
            db.close()
            raise
        return db
