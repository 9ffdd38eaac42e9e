# SPDX-License-Identifier: Apache-2.0
"""Erasing a home's traces from a relay's file: what is not public anyway."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from dao.errors import CheckFailed
from dao.relay import request_store
from dao.relay.store import BUSY_TIMEOUT_S, State
from dao.slots import SLOT_SECONDS
from dao.sqlite import transaction


def erase(path: Path, account: int, first_slot: int, end_slot: int) -> int:
    """Delete what a relay's file holds of a meter's sessions that start in the range and is not
    public: device receipts, orders and requests that never came onto the chain, and why a member
    voted so; how many rows.

    Works beside a running relay, and again without effect. CheckFailed where the file is in use
    for too long, and for one that is no relay's.
    """
    if not path.exists():
        return 0
    unposted = (State.REJECTED, State.WITHDRAWN, State.LATE)
    times = (first_slot * SLOT_SECONDS, end_slot * SLOT_SECONDS)
    try:
        db = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
        with closing(db):
            with transaction(db):
                count = db.execute(
                    "DELETE FROM receipts WHERE meter = ? AND first_slot >= ? AND first_slot < ?",
                    (account, first_slot, end_slot),
                ).rowcount
                count += db.execute(
                    "DELETE FROM orders WHERE account = ? AND session >= ? AND session < ? "
                    "AND posted_block IS NULL AND state IN (?, ?, ?)",
                    (account, first_slot, end_slot, *unposted),
                ).rowcount
                count += request_store.erase(db, account, *times)
            # The relay deletes without overwriting, so pages that were moved may hold old copies:
            # the whole file is written anew, and its log cut.
            db.execute("VACUUM")
            if db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
                raise CheckFailed(f"the log of {path} is in use: erase again to cut it")
    except sqlite3.Error as error:
        raise CheckFailed(f"cannot erase from {path}: {error}") from None
    return count
