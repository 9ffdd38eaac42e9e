# SPDX-License-Identifier: Apache-2.0
"""One account's month out of the trades by account: its orders, corrections, and money by kind.

Whoever asks has made sure that the account is the visitor's own. All of it is public.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dao.errors import CheckFailed
from dashboard.repositories.trades import CORRECTION, GIVEN_BACK, MAX_ROWS, Posted, Trades

MAX_ORDERS = 4_000
"""Of one account in one month: a statement of more is refused, not cut."""
MAX_CORRECTIONS = 3_200


@dataclass(frozen=True)
class AccountMonth:
    """An account's free balance over a time: before it, each kind of change in µ€, after it."""

    opening: int
    by_kind: Mapping[str, int]
    closing: int


@dataclass(frozen=True)
class Correction:
    """Something that a meter took back after settlement. amount: µ€ to this account; wh: of the
    whole correction, taken back by the seller."""

    kind: str
    amount: int
    wh: int
    slot: int
    tx: str
    at: int


def account_month(path: Path, account: int, begin: int, end: int) -> AccountMonth:
    """Changes with a block time from `begin` to before `end`, unix seconds. path: of the trades."""
    rows = _ask(
        path,
        "SELECT CASE WHEN at < ? THEN '' ELSE kind END, sum(amount) FROM movement "
        "WHERE account = ? AND at < ? GROUP BY 1",
        (begin, account, end),
    )
    sums = {str(kind): int(amount) for kind, amount in rows}
    opening = sums.pop("", 0)
    return AccountMonth(opening, sums, opening + sum(sums.values()))


def corrections(path: Path, account: int, first_slot: int, end: int) -> list[Correction]:
    """Corrections of deliveries in the slots from `first_slot` to before `end`, in chain order."""
    rows = _ask(
        path,
        "SELECT kind, amount, wh, slot, tx, at FROM movement WHERE account = ? "
        "AND kind IN (?, ?) AND slot >= ? AND slot < ? ORDER BY block, log_index, part LIMIT ?",
        (account, GIVEN_BACK, CORRECTION, first_slot, end, MAX_CORRECTIONS),
    )
    return [Correction(*row) for row in rows]


def month_orders(trades: Trades, account: int, first_slot: int, end: int) -> list[Posted]:
    """All orders of sessions that begin in the slots from `first_slot` to before `end`, the oldest
    first. CheckFailed where there are more than a statement can hold."""
    found: list[Posted] = []
    before: tuple[int, int] | None = (end, -1)
    while before is not None:
        page = trades.orders([account], limit=MAX_ROWS, before=before, since=first_slot)
        found += page
        if len(found) > MAX_ORDERS:
            raise CheckFailed("the month has more orders than a statement can hold")
        last = page[-1] if len(page) == MAX_ROWS else None
        before = (last.order.session_slot, last.position) if last is not None else None
    return found[::-1]


def first_session(path: Path, account: int) -> int | None:
    """The first slot of the first session that the account ordered for."""
    rows = _ask(path, "SELECT min(session) FROM orders WHERE account = ?", (account,))
    return None if not rows or rows[0][0] is None else int(rows[0][0])


def _ask(path: Path, sql: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
    if not path.exists():
        return []
    try:
        uri = f"{path.absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, timeout=10.0)) as db:
            return db.execute(sql, tuple(values)).fetchall()
    except sqlite3.Error as error:
        raise CheckFailed(f"the record of trades cannot be read: {error}") from error
