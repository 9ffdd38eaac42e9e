# SPDX-License-Identifier: Apache-2.0
"""Writing to an SQLite file: all or nothing. What the files hold is their owners' business."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """One transaction, closed to other writers from its beginning: look, judge and write.

    All of it is kept, or on an exception nothing, a commit that the disk does not take included.
    For a connection that begins none by itself (`isolation_level=None`).
    """
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        # SQLite has rolled back by itself after some errors, a full disk among them.
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
