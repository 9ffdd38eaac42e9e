# SPDX-License-Identifier: Apache-2.0
"""A transaction is kept whole or not at all, and the next one goes on whatever became of it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from dao.sqlite import transaction

_TABLES = """
PRAGMA foreign_keys = ON;
CREATE TABLE home (number INTEGER PRIMARY KEY, words BLOB);
CREATE TABLE visit (home INTEGER REFERENCES home DEFERRABLE INITIALLY DEFERRED);
"""


@pytest.fixture
def db(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(tmp_path / "x.sqlite", isolation_level=None)) as opened:
        opened.executescript(_TABLES)
        yield opened


def add(
    db: sqlite3.Connection, *numbers: int, words: bytes = b"", visit: int | None = None
) -> None:
    """Homes with these numbers, and a visit to one of them, in one transaction."""
    with transaction(db):
        for number in numbers:
            db.execute("INSERT INTO home VALUES (?, ?)", (number, words))
        if visit is not None:
            db.execute("INSERT INTO visit VALUES (?)", (visit,))


def homes(db: sqlite3.Connection) -> list[int]:
    return [number for (number,) in db.execute("SELECT number FROM home ORDER BY number")]


@pytest.fixture(autouse=True)
def goes_on(db: sqlite3.Connection) -> Iterator[None]:
    """After every test nothing was kept of it, and the next transaction is."""
    yield
    add(db, 1, visit=1)
    assert homes(db) == [1]


def test_what_an_exception_breaks_off_is_not_kept(db: sqlite3.Connection) -> None:
    with pytest.raises(sqlite3.IntegrityError, match="UNIQUE"):
        add(db, 7, 7)
    assert homes(db) == []


def test_a_full_disk_is_told_as_such(db: sqlite3.Connection) -> None:
    """SQLite then rolls back by itself, and to roll back again would be an error of its own."""
    pages = db.execute("PRAGMA page_count").fetchone()[0]
    db.execute("PRAGMA cache_size = 4")
    db.execute(f"PRAGMA max_page_count = {pages + 20}")
    with pytest.raises(sqlite3.OperationalError, match="full"):
        add(db, *range(50), words=bytes(4_000))
    assert not db.in_transaction


def test_a_commit_that_fails_is_taken_back(db: sqlite3.Connection) -> None:
    with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"):
        add(db, 7, visit=8)
    assert not db.in_transaction
