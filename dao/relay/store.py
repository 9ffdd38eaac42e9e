# SPDX-License-Identifier: Apache-2.0
"""What the relay has taken in, in one SQLite file: orders with their states, and device receipts.
Requests lie beside them, in `request_store`'s table.

A method returns after its commit, so what was answered is on disk (WAL, synchronous=FULL). Several
processes may share the file. Whether an order is good is not asked here; what the chain says of it
is brought by `posting`.
"""

from __future__ import annotations

import fcntl
import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from dao.errors import BadUse
from dao.market.orders import Order, Vouched
from dao.market.session import DeviceReceipt, SignedOrder
from dao.paths import ensure_parent, home
from dao.relay import request_store
from dao.relay.request_store import RequestTable
from dao.sqlite import transaction

SCHEMA_VERSION = 2
BUSY_TIMEOUT_S = 30.0
# The feed looks back so many events; a client that was away for longer asks for the orders.
FEED_LENGTH = 10_000

# By the version that brought them.
_ORDERS = """
CREATE TABLE orders (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id BLOB NOT NULL UNIQUE,
    zone INTEGER NOT NULL, session INTEGER NOT NULL, account INTEGER NOT NULL,
    gate INTEGER NOT NULL, signed TEXT NOT NULL, escrow INTEGER NOT NULL, promise BLOB NOT NULL,
    state TEXT NOT NULL, reason TEXT,
    received_at INTEGER NOT NULL, received_block INTEGER NOT NULL,
    posted_at INTEGER, posted_block INTEGER
);
CREATE INDEX orders_by_session ON orders (zone, session, state);
CREATE INDEX orders_by_account ON orders (account, state);
CREATE TABLE sessions (
    zone INTEGER NOT NULL, first_slot INTEGER NOT NULL, gate INTEGER NOT NULL,
    closed INTEGER NOT NULL DEFAULT 0, cleared INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (zone, first_slot)
) WITHOUT ROWID;
CREATE TABLE receipts (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    meter INTEGER NOT NULL, first_slot INTEGER NOT NULL,
    exports TEXT NOT NULL, signature BLOB NOT NULL,
    UNIQUE (first_slot, meter, exports)
);
CREATE TABLE feed (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL, kind TEXT NOT NULL, body TEXT NOT NULL
);
"""

_SCHEMAS = (_ORDERS, request_store.SCHEMA)

_COLUMNS = (
    "id, zone, session, gate, signed, escrow, promise, state, reason, received_at, received_block, "
    "posted_at, posted_block"
)


class State(StrEnum):
    """Where an order stands.

    `posted` is on its way to the chain, its fate not yet read back; `withdrawn` was taken back by
    its owner, or made void by a pause, before it was posted; `late` is a promise broken.
    """

    RECEIVED = "received"
    POSTED = "posted"
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    WITHDRAWN = "withdrawn"
    LATE = "late"


WAITING = (State.RECEIVED, State.POSTED)
"""States in which an order will still take its number and its money."""


class Receipt(StrEnum):
    """What became of a device receipt: new, known before, or beside another one that differs."""

    NEW = "new"
    KNOWN = "known"
    CONFLICT = "conflict"


@dataclass(frozen=True)
class StoredOrder:
    """An order as the relay holds it.

    id: its EIP-712 digest; session: first slot; gate: until when posting was promised; escrow: in
    token units; promise: the relay's signature; reason: why it was rejected, withdrawn or late;
    times in unix seconds, of the chain.
    """

    id: bytes
    zone: int
    session: int
    gate: int
    signed: SignedOrder
    escrow: int
    promise: bytes
    state: State
    reason: str | None
    received_at: int
    received_block: int
    posted_at: int | None = None
    posted_block: int | None = None

    @property
    def order(self) -> Order:
        """What was signed."""
        return self.signed.order


@dataclass(frozen=True)
class OpenSession:
    """A session with orders here; `closed` once the relay has nothing to do for it any more."""

    first_slot: int
    gate: int
    closed: bool
    cleared: bool


@dataclass(frozen=True)
class Conflict:
    """Different receipts of one meter for one session, in order of arrival: evidence."""

    meter: int
    first_slot: int
    receipts: tuple[DeviceReceipt, ...]


@dataclass(frozen=True)
class FeedEvent:
    """Something that happened, as the feed tells it; `seq` rises by time."""

    seq: int
    at: int
    kind: str
    body: Mapping[str, Any]


@dataclass(frozen=True)
class Fate:
    """What the chain says of an order: its new state, why, and where it was posted."""

    id: bytes
    state: State
    reason: str | None = None
    posted_at: int | None = None
    posted_block: int | None = None


class RelayStore:
    """The relay's file, `relay.sqlite` in the state folder unless `path` names another.

    One object serves any number of threads, one after the other.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = ensure_parent(path or home() / "relay.sqlite")
        self._turn = threading.RLock()
        try:
            self._db = sqlite3.connect(
                self.path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
            self.requests = RequestTable(self._db, self._turn, self.writing, self._tell)
            self._prepare()
        except sqlite3.Error as error:
            raise BadUse(f"{self.path} cannot be used as the relay's file: {error}") from None

    def close(self) -> None:
        """Close the file. Nothing is lost: what was answered is on disk."""
        with self._turn:
            self._db.close()

    # Orders

    @contextmanager
    def writing(self) -> Iterator[None]:
        """One transaction, closed to other writers from its beginning: look, judge and add.

        All of it is kept, or on an exception nothing.
        """
        with self._turn, transaction(self._db):
            yield

    def add(self, order: StoredOrder) -> None:
        """Add a received order. Inside `writing`."""
        self._db.execute(
            f"INSERT INTO orders (account, {_COLUMNS}) VALUES ({', '.join('?' * 14)})",
            (
                order.order.account,
                order.id,
                order.zone,
                order.session,
                order.gate,
                _to_text(order.signed),
                order.escrow,
                order.promise,
                order.state,
                order.reason,
                order.received_at,
                order.received_block,
                order.posted_at,
                order.posted_block,
            ),
        )
        self._db.execute(
            "INSERT INTO sessions (zone, first_slot, gate) VALUES (?, ?, ?) "
            "ON CONFLICT DO UPDATE SET gate = excluded.gate, closed = 0",
            (order.zone, order.session, order.gate),
        )
        self._tell(order.received_at, f"order-{order.state}", _in_feed(order))

    def get(self, order_id: bytes) -> StoredOrder | None:
        """The order with this id, None where there is none."""
        found = self._orders("id = ?", (order_id,))
        return found[0] if found else None

    def of_session(
        self, zone: int, session: int, states: Iterable[State] = State
    ) -> list[StoredOrder]:
        """A session's orders in these states, in order of receipt."""
        wanted = tuple(states)
        marks = ", ".join("?" * len(wanted))
        return self._orders(
            f"zone = ? AND session = ? AND state IN ({marks})", (zone, session, *wanted)
        )

    def waiting_of(self, accounts: Iterable[int]) -> list[StoredOrder]:
        """What waits for posting, of these accounts, in order of receipt."""
        found: list[StoredOrder] = []
        for account in set(accounts):
            found += self._orders("account = ? AND state IN (?, ?)", (account, *WAITING))
        return found

    def of_account(
        self, account: int, before: int | None, limit: int
    ) -> tuple[list[StoredOrder], int | None]:
        """An account's orders, the newest first, up to `limit` of those received before number
        `before`; and the number to go on with, None at the end."""
        rows = self._read(
            "SELECT seq, id FROM orders WHERE account = ? AND seq < ? ORDER BY seq DESC LIMIT ?",
            (account, 2**62 if before is None else before, limit + 1),
        )
        found = [self.get(number) for _, number in rows[:limit]]
        following = rows[limit - 1][0] if len(rows) > limit else None
        return [one for one in found if one is not None], following

    def of_mandate(self, account: int, mandate: int, since: int) -> list[StoredOrder]:
        """Orders under an account's mandate that wait, or were accepted from `since` on."""
        found = self._orders(
            "account = ? AND (state IN (?, ?) OR (state = ? AND posted_at >= ?))",
            (account, *WAITING, State.ACCEPTED, since),
        )
        return [stored for stored in found if stored.order.mandate == mandate]

    def sessions(self, zone: int) -> list[OpenSession]:
        """The sessions that orders were taken for, oldest first."""
        rows = self._read(
            "SELECT first_slot, gate, closed, cleared FROM sessions WHERE zone = ? "
            "ORDER BY first_slot",
            (zone,),
        )
        return [OpenSession(slot, gate, bool(a), bool(b)) for slot, gate, a, b in rows]

    def settle_fates(self, fates: Sequence[Fate], at: int) -> None:
        """Write down what became of orders, and tell the feed of each that moved.

        One that its owner took back here meanwhile comes back only where the chain shows it.
        """
        with self.writing():
            for fate in fates:
                before = self.get(fate.id)
                gone = before is not None and before.state is State.WITHDRAWN
                if before is not None and not (gone and fate.state in WAITING):
                    self._settle(before, fate, at)

    def claim(self, orders: Sequence[StoredOrder], at: int) -> list[StoredOrder]:
        """Mark as `posted` those of these orders that still wait, and return them."""
        claimed = []
        with self.writing():
            for order in orders:
                before = self.get(order.id)
                if before is not None and before.state in WAITING:
                    self._settle(before, Fate(order.id, State.POSTED), at)
                    claimed.append(order)
        return claimed

    def withdraw(self, orders: Sequence[StoredOrder], reason: str, at: int) -> None:
        """Orders that their owner took back before they were posted. Inside `writing`."""
        for order in orders:
            self._settle(order, Fate(order.id, State.WITHDRAWN, reason), at)

    def _settle(self, before: StoredOrder, fate: Fate, at: int) -> None:
        self._db.execute(
            "UPDATE orders SET state = ?, reason = ?, posted_at = ?, posted_block = ? WHERE id = ?",
            (fate.state, fate.reason, fate.posted_at, fate.posted_block, fate.id),
        )
        if before.state != fate.state:
            reason = {"reason": fate.reason} if fate.reason else {}
            self._tell(at, f"order-{fate.state}", {**_in_feed(before), **reason})

    def close_session(self, zone: int, first_slot: int) -> None:
        """The gate is past and every order's fate is known."""
        with self.writing():
            self._db.execute(
                "UPDATE sessions SET closed = 1 WHERE zone = ? AND first_slot = ?",
                (zone, first_slot),
            )

    def mark_cleared(self, zone: int, first_slot: int, at: int, *, void: bool) -> None:
        """The session's last slot has its price, or never will. Told once."""
        with self.writing():
            moved = self._db.execute(
                "UPDATE sessions SET cleared = 1 WHERE zone = ? AND first_slot = ? AND cleared = 0",
                (zone, first_slot),
            )
            if moved.rowcount:
                kind = "session-void" if void else "session-cleared"
                self._tell(at, kind, {"zone": zone, "session": first_slot})

    def counts(self) -> dict[State, int]:
        """Orders by state; those that are `late` are promises the relay broke."""
        found = dict(self._read("SELECT state, count(*) FROM orders GROUP BY state"))
        return {state: found.get(state, 0) for state in State}

    def oldest_waiting(self) -> int | None:
        """When the order that waits longest was received, None where none waits."""
        ((found,),) = self._read(
            "SELECT min(received_at) FROM orders WHERE state IN (?, ?)", WAITING
        )
        return None if found is None else int(found)

    @contextmanager
    def posting(self) -> Iterator[bool]:
        """Whether this caller alone may post now. The system lets go when a process dies."""
        with self.path.with_suffix(".lock").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True

    # Receipts of devices

    def add_receipt(self, first_slot: int, receipt: DeviceReceipt) -> Receipt:
        """Keep a receipt for the session that starts with `first_slot`.

        The same exports again change nothing. The first that differs is kept beside, as evidence;
        `receipts` goes on to give the one that came first.
        """
        exports = json.dumps(receipt.exports)
        with self.writing():
            kept = self._read(
                "SELECT exports FROM receipts WHERE first_slot = ? AND meter = ?",
                (first_slot, receipt.meter),
            )
            if (exports,) in kept:
                return Receipt.KNOWN
            if len(kept) == 2:  # two prove it; a broken device must not fill the disk
                return Receipt.CONFLICT
            self._db.execute(
                "INSERT INTO receipts (meter, first_slot, exports, signature) VALUES (?, ?, ?, ?)",
                (receipt.meter, first_slot, exports, receipt.signature),
            )
        return Receipt.CONFLICT if kept else Receipt.NEW

    def receipts(self, first_slot: int) -> dict[int, DeviceReceipt]:
        """The session's receipts by meter, the first one where there are several."""
        found: dict[int, DeviceReceipt] = {}
        for receipt in self._receipts("first_slot = ?", (first_slot,)):
            found.setdefault(receipt.meter, receipt)
        return found

    def conflicts(self) -> list[Conflict]:
        """Meters with more than one receipt for a session."""
        pairs = self._read(
            "SELECT meter, first_slot FROM receipts GROUP BY first_slot, meter "
            "HAVING count(*) > 1 ORDER BY first_slot, meter"
        )
        return [
            Conflict(
                meter, slot, tuple(self._receipts("meter = ? AND first_slot = ?", (meter, slot)))
            )
            for meter, slot in pairs
        ]

    # The feed

    def feed(self, after: int, limit: int = 100) -> list[FeedEvent]:
        """Events after number `after`, oldest first."""
        rows = self._read(
            "SELECT seq, at, kind, body FROM feed WHERE seq > ? ORDER BY seq LIMIT ?",
            (after, limit),
        )
        return [FeedEvent(seq, at, kind, json.loads(body)) for seq, at, kind, body in rows]

    def last_event(self) -> int:
        """The number of the latest event, 0 before the first."""
        ((last,),) = self._read("SELECT max(seq) FROM feed")
        return int(last or 0)

    # Inside

    def _tell(self, at: int, kind: str, body: Mapping[str, Any]) -> None:
        told = self._db.execute(
            "INSERT INTO feed (at, kind, body) VALUES (?, ?, ?)", (at, kind, json.dumps(body))
        )
        self._db.execute("DELETE FROM feed WHERE seq <= ?", ((told.lastrowid or 0) - FEED_LENGTH,))

    def _orders(self, where: str, values: Sequence[Any]) -> list[StoredOrder]:
        rows = self._read(f"SELECT {_COLUMNS} FROM orders WHERE {where} ORDER BY seq", values)
        return [
            StoredOrder(
                number, zone, session, gate, _from_text(text), escrow, promise, State(state), *rest
            )
            for number, zone, session, gate, text, escrow, promise, state, *rest in rows
        ]

    def _receipts(self, where: str, values: Sequence[Any]) -> list[DeviceReceipt]:
        rows = self._read(
            f"SELECT meter, exports, signature FROM receipts WHERE {where} ORDER BY seq", values
        )
        return [
            DeviceReceipt(meter, tuple(json.loads(exports)), signature)
            for meter, exports, signature in rows
        ]

    def _read(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        with self._turn:
            return self._db.execute(sql, values).fetchall()

    def _prepare(self) -> None:
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        with self.writing():
            ((version,),) = self._read("PRAGMA user_version")
            if version > SCHEMA_VERSION:
                raise BadUse(
                    f"{self.path} has schema {version}; this program reads {SCHEMA_VERSION}"
                )
            for schema in _SCHEMAS[version:]:
                for statement in filter(str.strip, schema.split(";")):
                    self._db.execute(statement)
            if version < SCHEMA_VERSION:
                self._db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _in_feed(order: StoredOrder) -> dict[str, Any]:
    """What the feed tells of an order: no account, no amount."""
    return {"order": "0x" + order.id.hex(), "zone": order.zone, "session": order.session}


def _to_text(signed: SignedOrder) -> str:
    """A signed order as JSON."""
    return json.dumps(
        {
            "order": asdict(signed.order),
            "signature": signed.signature.hex(),
            "vouched": signed.vouched,
        }
    )


def _from_text(text: str) -> SignedOrder:
    parts = json.loads(text)
    order = parts["order"]
    if isinstance(order["wh"], list):
        order["wh"] = tuple(order["wh"])
    return SignedOrder(Order(**order), bytes.fromhex(parts["signature"]), Vouched(parts["vouched"]))
