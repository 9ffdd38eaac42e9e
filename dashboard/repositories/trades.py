# SPDX-License-Identifier: Apache-2.0
"""What accounts did on the market, from the index of chain events: orders, fills, every movement.

The index keeps events as they came; a resident asks for one account. So each event is read once
and kept by account in a file of its own, which follows the index by block and can be deleted at any
time. All of it is public. Money in µ€, energy in Wh, prices in µ€/Wh, times in unix seconds.
"""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dao.errors import CheckFailed
from dao.index import EventReader
from dao.market.orders import ASK, BID, Order, unpack
from dao.market.session import unpack_entries
from dao.node import Node
from dao.paths import ensure_parent

VERSION = 1
MARKET = "EnergyMarket"
NO_PRICE = 65_535
"""What the market writes where nothing traded."""
STEP_EVENTS = 20_000
"""Events taken in at once; a page that finds more to read says so and goes on."""
MAX_ROWS = 500
"""No question answers more rows than this."""

_BUSY_S = 30.0

_SCHEMA = """
CREATE TABLE seen (block INTEGER PRIMARY KEY, hash TEXT NOT NULL);
CREATE TABLE session (
    first_slot INTEGER PRIMARY KEY, slots INTEGER NOT NULL, gate INTEGER NOT NULL,
    penalty INTEGER NOT NULL, block INTEGER NOT NULL
);
CREATE TABLE orders (
    session INTEGER NOT NULL, position INTEGER NOT NULL, account INTEGER NOT NULL,
    nonce INTEGER NOT NULL, mandate INTEGER NOT NULL, words BLOB NOT NULL,
    escrow INTEGER NOT NULL, wh INTEGER NOT NULL,
    block INTEGER NOT NULL, log_index INTEGER NOT NULL, tx TEXT NOT NULL, at INTEGER NOT NULL,
    PRIMARY KEY (session, position)
) WITHOUT ROWID;
CREATE INDEX orders_by_account ON orders (account, session, position);
CREATE TABLE rejected (
    session INTEGER NOT NULL, account INTEGER NOT NULL, nonce INTEGER NOT NULL,
    reason INTEGER NOT NULL, block INTEGER NOT NULL, log_index INTEGER NOT NULL, tx TEXT NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (account, block, log_index)
) WITHOUT ROWID;
CREATE TABLE cleared (
    slot INTEGER PRIMARY KEY, price INTEGER NOT NULL, volume_wh INTEGER NOT NULL,
    block INTEGER NOT NULL, tx TEXT NOT NULL, at INTEGER NOT NULL
);
CREATE TABLE settled_slot (
    slot INTEGER PRIMARY KEY, price INTEGER NOT NULL, delivered_wh INTEGER NOT NULL,
    fees INTEGER NOT NULL, penalties INTEGER NOT NULL, block INTEGER NOT NULL
);
CREATE TABLE settled (
    session INTEGER NOT NULL, position INTEGER NOT NULL, from_slot INTEGER NOT NULL,
    slots INTEGER NOT NULL, delivered_wh INTEGER NOT NULL, filled_wh INTEGER NOT NULL,
    credit INTEGER NOT NULL, block INTEGER NOT NULL, tx TEXT NOT NULL, at INTEGER NOT NULL,
    PRIMARY KEY (session, position, from_slot)
) WITHOUT ROWID;
CREATE TABLE voided (
    session INTEGER NOT NULL, from_slot INTEGER NOT NULL, block INTEGER NOT NULL, tx TEXT NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (session, block)
) WITHOUT ROWID;
CREATE TABLE movement (
    account INTEGER NOT NULL, block INTEGER NOT NULL, log_index INTEGER NOT NULL,
    part INTEGER NOT NULL, kind TEXT NOT NULL, amount INTEGER NOT NULL, session INTEGER,
    position INTEGER, slot INTEGER, wh INTEGER, party TEXT, tx TEXT NOT NULL, at INTEGER NOT NULL,
    PRIMARY KEY (account, block, log_index, part)
) WITHOUT ROWID;
CREATE TABLE terms (first_slot INTEGER PRIMARY KEY, words TEXT NOT NULL);
"""
_TABLES = (
    "session",
    "orders",
    "rejected",
    "cleared",
    "settled_slot",
    "settled",
    "voided",
    "movement",
    "seen",
)

DEPOSIT = "deposit"
WITHDRAWAL = "withdrawal"
ESCROW = "escrow"
SETTLEMENT = "settlement"
GIVEN_BACK = "given-back"
CORRECTION = "correction"


@dataclass(frozen=True)
class Session:
    """A session as its first order opened it."""

    first_slot: int
    slots: int
    gate: int
    penalty: int


@dataclass(frozen=True)
class Posted:
    """An order in a session's book: which one, where it was posted, and what it put in escrow."""

    order: Order
    position: int
    escrow: int
    block: int
    tx: str
    at: int


@dataclass(frozen=True)
class Run:
    """What settling a run of a session's slots brought one order. credit: what came back."""

    position: int
    from_slot: int
    slots: int
    delivered_wh: int
    filled_wh: int
    credit: int
    block: int
    tx: str
    at: int


@dataclass(frozen=True)
class Result:
    """A settled order in sums: what it was, and what came of it."""

    session: int
    position: int
    sells: bool
    escrow: int
    filled_wh: int
    delivered_wh: int
    credit: int

    @property
    def net(self) -> int:
        """Change of the balance over the whole order."""
        return self.credit - self.escrow


@dataclass(frozen=True)
class Cleared:
    """What a slot came to. price: None where nothing traded."""

    slot: int
    price: int | None
    volume_wh: int
    tx: str
    at: int


@dataclass(frozen=True)
class SettledSlot:
    """What was paid in a slot, over all its orders."""

    slot: int
    price: int | None
    delivered_wh: int
    fees: int
    penalties: int


@dataclass(frozen=True)
class Voided:
    """From a slot on nothing traded: not cleared in time, stopped, or never settled."""

    from_slot: int
    tx: str
    at: int


@dataclass(frozen=True)
class TurnedAway:
    """An order that the contract did not take, and its reason's number."""

    session: int
    nonce: int
    reason: int
    tx: str
    at: int


@dataclass(frozen=True)
class Movement:
    """One change of an account's free balance, and the balance after it.

    kind: deposit, withdrawal, escrow (an order was posted), settlement (what came back of it, with
    what was earned or less what was spent), given-back and correction (a meter took something back
    later: the seller gives, the buyers get). party: to whom a withdrawal went.
    """

    kind: str
    amount: int
    balance: int
    at: int
    block: int
    log_index: int
    part: int
    tx: str
    session: int | None = None
    position: int | None = None
    slot: int | None = None
    wh: int | None = None
    party: str | None = None


@dataclass(frozen=True)
class SessionFacts:
    """A session as the events tell it. words: per slot what the market says it came to, price, fee
    and band packed; None where nobody could be asked."""

    session: Session
    book: tuple[Posted, ...]
    cleared: tuple[Cleared, ...]
    settled: tuple[SettledSlot, ...]
    voided: tuple[Voided, ...]
    runs: tuple[Run, ...]
    words: tuple[int, ...] | None = None

    @property
    def is_settled(self) -> bool:
        """Whether nothing of it can change any more."""
        return sum(run.slots for run in self.runs if run.position == 0) >= self.session.slots


@dataclass(frozen=True)
class Reached:
    """How far the chain has been read: the block, its time; whole where nothing is left."""

    block: int | None
    at: int | None
    whole: bool


class Trades:
    """The market of one zone by account. Any number of objects may share the files."""

    def __init__(self, index: Path, zone: int, path: Path) -> None:
        self._index = EventReader(index)
        self._zone = zone
        self._path = path

    # following the index

    def update(self, most: int = STEP_EVENTS) -> Reached:
        """Take in what the index has that is not here yet, at most about `most` events."""
        try:
            with closing(self._open()) as db:
                count = self._take(db, most)
        except sqlite3.DatabaseError as error:
            raise _unusable(self._path, error) from error
        return Reached(self._index.cursor(), self._index.timestamp(), count < most)

    def _take(self, db: sqlite3.Connection, most: int) -> int:
        while True:
            row = db.execute("SELECT block, hash FROM seen ORDER BY block DESC LIMIT 1").fetchone()
            block, known = (int(row[0]), str(row[1])) if row else (-1, None)
            events, hashes = self._index.following(MARKET, block, most)
            if known is not None and (hashes or self._index.db_path.exists()):
                found = hashes.get(block) or self._index.block_hash(block)
                if found != known:
                    self._rewind(db)
                    continue
            if not events:
                return 0
            db.execute("BEGIN IMMEDIATE")
            try:
                again = db.execute("SELECT max(block) FROM seen").fetchone()[0]
                if (again if again is not None else -1) != block:
                    db.execute("ROLLBACK")  # somebody else was faster
                    continue
                self._add(db, events)
                blocks = sorted({event["block"] for event in events})
                db.executemany(
                    "INSERT INTO seen VALUES (?, ?)", [(one, hashes[one]) for one in blocks]
                )
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise
            return len(events)

    def _rewind(self, db: sqlite3.Connection) -> None:
        """Forget the blocks that are on the chain no more; all before a good one are good."""
        stored = db.execute("SELECT block, hash FROM seen ORDER BY block").fetchall()
        good, bad = 0, len(stored)
        while good < bad:
            middle = (good + bad) // 2
            if self._index.block_hash(int(stored[middle][0])) == stored[middle][1]:
                good = middle + 1
            else:
                bad = middle
        last = int(stored[good - 1][0]) if good else -1
        db.execute("BEGIN IMMEDIATE")
        for table in _TABLES:
            db.execute(f"DELETE FROM {table} WHERE block > ?", (last,))
        db.execute("DELETE FROM terms")
        db.execute("COMMIT")

    def _add(self, db: sqlite3.Connection, events: Sequence[Mapping[str, Any]]) -> None:
        at = 0
        while at < len(events):
            event = events[at]
            count = 1
            if event["event"] == "OrdersPosted":
                # One posting's pages follow each other; an order's words may begin in one page and
                # end in the next.
                while (
                    at + count < len(events)
                    and events[at + count]["event"] == "OrdersPosted"
                    and events[at + count]["tx"] == event["tx"]
                    and events[at + count]["args"]["session"] == event["args"]["session"]
                ):
                    count += 1
                self._add_orders(db, events[at : at + count])
            else:
                self._add_event(db, event)
            at += count

    def _add_orders(self, db: sqlite3.Connection, pages: Sequence[Mapping[str, Any]]) -> None:
        first, key = pages[0], int(pages[0]["args"]["session"])
        if key >> 64 != self._zone:
            return
        session = key & (1 << 64) - 1
        data = b"".join(bytes.fromhex(page["args"]["page"][2:]) for page in pages)
        (penalty,) = db.execute(
            "SELECT penalty FROM session WHERE first_slot = ?", (session,)
        ).fetchone()
        position = db.execute(
            "SELECT count(*) FROM orders WHERE session = ?", (session,)
        ).fetchone()[0]
        block, log_index, tx, at = (first[k] for k in ("block", "log_index", "tx", "timestamp"))
        rows, moves = [], []
        for words in _orders(data):
            account, mandate, nonce, side, limit, wh = _header(words)
            escrow = wh * (penalty if side == ASK else limit)
            rows.append(
                (
                    session,
                    position,
                    account,
                    nonce,
                    mandate,
                    words,
                    escrow,
                    wh,
                    block,
                    log_index,
                    tx,
                    at,
                )
            )
            moves.append(
                (
                    account,
                    block,
                    log_index,
                    position,
                    ESCROW,
                    -escrow,
                    session,
                    position,
                    None,
                    wh,
                    None,
                    tx,
                    at,
                )
            )
            position += 1
        db.executemany(f"INSERT INTO orders VALUES ({', '.join('?' * 12)})", rows)
        _move(db, moves)

    def _add_event(self, db: sqlite3.Connection, event: Mapping[str, Any]) -> None:
        args, name = event["args"], event["event"]
        block, log_index, tx, at = (event[k] for k in ("block", "log_index", "tx", "timestamp"))
        if name == "Deposited":
            row = (None, None, None, None, None, tx, at)
            _move(db, [(args["account"], block, log_index, 0, DEPOSIT, args["amount"], *row)])
        elif name == "Withdrawn":
            row = (None, None, None, None, args["to"], tx, at)
            _move(db, [(args["account"], block, log_index, 0, WITHDRAWAL, -args["amount"], *row)])
        elif name == "OrderRejected":
            if args["session"] >> 64 == self._zone:
                session = args["session"] & (1 << 64) - 1
                db.execute(
                    "INSERT INTO rejected VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        session,
                        args["account"],
                        args["nonce"],
                        args["reason"],
                        block,
                        log_index,
                        tx,
                        at,
                    ),
                )
        elif args.get("zone") != self._zone:
            return
        elif name == "SessionOpened":
            db.execute(
                "INSERT INTO session VALUES (?, ?, ?, ?, ?)",
                (args["first_slot"], args["slots"], args["gate"], args["penalty"], block),
            )
        elif name == "SlotCleared":
            db.execute(
                "INSERT OR REPLACE INTO cleared VALUES (?, ?, ?, ?, ?, ?)",
                (args["slot"], args["price"], args["volume_wh"], block, tx, at),
            )
        elif name == "SlotSettled":
            db.execute(
                "INSERT OR REPLACE INTO settled_slot VALUES (?, ?, ?, ?, ?, ?)",
                (
                    args["slot"],
                    args["price"],
                    args["delivered_wh"],
                    args["fees"],
                    args["penalties"],
                    block,
                ),
            )
        elif name == "OrdersSettled":
            self._add_settlement(db, event)
        elif name == "SessionVoided":
            db.execute(
                "INSERT OR REPLACE INTO voided VALUES (?, ?, ?, ?, ?)",
                (args["first_slot"], args["from_slot"], block, tx, at),
            )
        elif name == "AdjustmentRecorded":
            row = (None, None, args["slot"], args["wh"], None, tx, at)
            moves: list[tuple[Any, ...]] = [
                (args["account"], block, log_index, 0, GIVEN_BACK, -args["amount"], *row)
            ]
            for part, credit in enumerate(args["credits"], 1):
                account, amount = credit >> 224, credit & (1 << 224) - 1
                moves.append((account, block, log_index, part, CORRECTION, amount, *row))
            _move(db, moves)

    def _add_settlement(self, db: sqlite3.Connection, event: Mapping[str, Any]) -> None:
        args = event["args"]
        block, log_index, tx, at = (event[k] for k in ("block", "log_index", "tx", "timestamp"))
        session, from_slot, slots = args["first_slot"], args["from_slot"], args["slots"]
        rows, moves = [], []
        entries = unpack_entries(bytes.fromhex(args["entries"][2:]))
        for position, entry in enumerate(entries):
            rows.append(
                (
                    session,
                    position,
                    from_slot,
                    slots,
                    entry.delivered_wh,
                    entry.filled_wh,
                    entry.credit,
                    block,
                    tx,
                    at,
                )
            )
            if entry.credit:
                moves.append(
                    (
                        entry.account,
                        block,
                        log_index,
                        position,
                        SETTLEMENT,
                        entry.credit,
                        session,
                        position,
                        None,
                        entry.delivered_wh,
                        None,
                        tx,
                        at,
                    )
                )
        db.executemany(f"INSERT OR REPLACE INTO settled VALUES ({', '.join('?' * 10)})", rows)
        _move(db, moves)

    # questions

    def session(self, first_slot: int) -> Session | None:
        """A session that somebody ordered for."""
        rows = self._ask(
            "SELECT first_slot, slots, gate, penalty FROM session WHERE first_slot = ?",
            (first_slot,),
        )
        return Session(*rows[0]) if rows else None

    def book(self, first_slot: int) -> list[Posted]:
        """A session's orders in order of arrival."""
        rows = self._ask(
            f"SELECT {_POSTED} FROM orders WHERE session = ? ORDER BY position", (first_slot,)
        )
        return [_posted(row) for row in rows]

    def orders(
        self,
        accounts: Sequence[int],
        *,
        limit: int = 50,
        before: tuple[int, int] | None = None,
        since: int = 0,
    ) -> list[Posted]:
        """Orders of these accounts, the newest session first. before: (session, position); since:
        only sessions from this slot on."""
        marks, values = _among(accounts)
        where = f"account IN ({marks}) AND session >= ?"
        values.append(since)
        if before is not None:
            where += " AND (session, position) < (?, ?)"
            values += before
        rows = self._ask(
            f"SELECT {_POSTED} FROM orders WHERE {where} "
            "ORDER BY session DESC, position DESC LIMIT ?",
            (*values, min(limit, MAX_ROWS)),
        )
        return [_posted(row) for row in rows]

    def results(self, account: int, since: int) -> list[Result]:
        """An account's settled orders of the sessions from a slot on, in sums; the newest 500."""
        rows = self._ask(
            "SELECT o.session, o.position, substr(o.words, 16, 1), o.escrow, sum(r.filled_wh), "
            "sum(r.delivered_wh), sum(r.credit) FROM orders o "
            "JOIN session s ON s.first_slot = o.session "
            "JOIN settled r ON r.session = o.session AND r.position = o.position "
            "WHERE o.account = ? AND o.session >= ? GROUP BY o.session, o.position "
            "HAVING sum(r.slots) >= s.slots ORDER BY o.session DESC, o.position DESC LIMIT ?",
            (account, since, MAX_ROWS),
        )
        return [Result(row[0], row[1], bool(row[2][0] & 1), *row[3:]) for row in rows]

    def runs(self, first_slot: int, position: int | None = None) -> list[Run]:
        """What settlement brought an order, or every order of the session, run by run."""
        where = "" if position is None else "AND position = ?"
        rows = self._ask(
            "SELECT position, from_slot, slots, delivered_wh, filled_wh, credit, block, tx, at "
            f"FROM settled WHERE session = ? {where} ORDER BY position, from_slot",
            (first_slot,) if position is None else (first_slot, position),
        )
        return [Run(*row) for row in rows]

    def settled_by(self, first_slot: int) -> str | None:
        """What settled a session's last slots, None where some are left: block and transaction."""
        rows = self._ask(
            "SELECT r.block, r.tx, sum(r.slots) >= s.slots FROM settled r JOIN session s "
            "ON s.first_slot = r.session WHERE r.session = ? AND r.position = 0",
            (first_slot,),
        )
        return f"{rows[0][0]} {rows[0][1]}" if rows and rows[0][2] else None

    def cleared(self, first_slot: int, slots: int) -> list[Cleared]:
        """What the slots of a range came to, those that are cleared; the last 3,000 at most."""
        rows = self._ask(
            "SELECT slot, price, volume_wh, tx, at FROM cleared WHERE slot >= ? AND slot < ? "
            "ORDER BY slot DESC LIMIT 3000",
            (first_slot, first_slot + slots),
        )
        return [
            Cleared(slot, None if price == NO_PRICE else price, volume, tx, at)
            for slot, price, volume, tx, at in reversed(rows)
        ]

    def settled_slots(self, first_slot: int, slots: int) -> list[SettledSlot]:
        """What was paid in the slots of a range, those that are settled; the last 3,000 at most."""
        rows = self._ask(
            "SELECT slot, price, delivered_wh, fees, penalties FROM settled_slot "
            "WHERE slot >= ? AND slot < ? ORDER BY slot DESC LIMIT 3000",
            (first_slot, first_slot + slots),
        )
        return [
            SettledSlot(row[0], None if row[1] == NO_PRICE else row[1], *row[2:])
            for row in reversed(rows)
        ]

    def voided(self, first_slot: int) -> list[Voided]:
        """Where slots of a session were made void."""
        rows = self._ask(
            "SELECT from_slot, tx, at FROM voided WHERE session = ? ORDER BY block", (first_slot,)
        )
        return [Voided(*row) for row in rows]

    def turned_away(self, accounts: Sequence[int], limit: int = 20) -> list[TurnedAway]:
        """Orders that the contract did not take, the newest first."""
        marks, values = _among(accounts)
        rows = self._ask(
            f"SELECT session, nonce, reason, tx, at FROM rejected WHERE account IN ({marks}) "
            "ORDER BY block DESC, log_index DESC LIMIT ?",
            (*values, min(limit, MAX_ROWS)),
        )
        return [TurnedAway(*row) for row in rows]

    def balance(self, account: int) -> int:
        """The sum of all movements: what the account should have free on chain."""
        rows = self._ask("SELECT sum(amount) FROM movement WHERE account = ?", (account,))
        return int(rows[0][0] or 0) if rows else 0

    def movements(
        self,
        account: int,
        *,
        limit: int = 100,
        before: tuple[int, int, int] | None = None,
        kinds: Sequence[str] = (),
    ) -> list[Movement]:
        """Changes of the account's free balance, the newest first, each with the balance after it.

        before: (block, log_index, part) of the last one seen; kinds: only these.
        """
        where, values = ["true"], []  # type: tuple[list[str], list[Any]]
        if before is not None:
            where.append("(block, log_index, part) < (?, ?, ?)")
            values += before
        if kinds:
            where.append(f"kind IN ({', '.join('?' * len(kinds))})")
            values += kinds
        rows = self._ask(
            "SELECT kind, amount, balance, at, block, log_index, part, tx, session, position, slot,"
            " wh, party FROM (SELECT *, sum(amount) OVER (ORDER BY block, log_index, part) AS "
            f"balance FROM movement WHERE account = ?) WHERE {' AND '.join(where)} "
            "ORDER BY block DESC, log_index DESC, part DESC LIMIT ?",
            (account, *values, min(limit, MAX_ROWS)),
        )
        return [Movement(*row) for row in rows]

    def escrowed(self, account: int) -> int:
        """What the account's open orders hold in escrow."""
        rows = self._ask(
            """
            SELECT coalesce(sum(o.escrow), 0) FROM orders o JOIN session s
                ON s.first_slot = o.session
            WHERE o.account = ? AND (SELECT coalesce(sum(r.slots), 0) FROM settled r
                WHERE r.session = o.session AND r.position = o.position) < s.slots
            """,
            (account,),
        )
        return int(rows[0][0]) if rows else 0

    def facts(
        self, first_slot: int, node: Node | None = None, market: str | None = None
    ) -> SessionFacts | None:
        """All that is known of a session; None where nobody ordered for it.

        node, market: who can be asked what fee and band were in force. What it answers is kept, if
        its prices are those of the events.
        """
        session = self.session(first_slot)
        if session is None:
            return None
        cleared = self.cleared(first_slot, session.slots)
        return SessionFacts(
            session=session,
            book=tuple(self.book(first_slot)),
            cleared=tuple(cleared),
            settled=tuple(self.settled_slots(first_slot, session.slots)),
            voided=tuple(self.voided(first_slot)),
            runs=tuple(self.runs(first_slot)),
            words=self._words(session, cleared, node, market),
        )

    def _words(
        self, session: Session, cleared: Sequence[Cleared], node: Node | None, market: str | None
    ) -> tuple[int, ...] | None:
        if len(cleared) < session.slots:
            return None
        rows = self._ask("SELECT words FROM terms WHERE first_slot = ?", (session.first_slot,))
        if rows:
            return tuple(int(part, 16) for part in rows[0][0].split())
        if node is None or market is None:
            return None
        view = "clearing_words(uint256,uint256,uint256)"
        try:
            answer = node.view(market, view, self._zone, session.first_slot, session.slots)
        except CheckFailed:
            return None  # the fills are then told from what the events alone say
        words = tuple(answer[2:])
        prices = [NO_PRICE if one.price is None else one.price for one in cleared]
        if [word & 0xFFFF for word in words] != prices:
            return None
        self._keep_terms(session.first_slot, words)
        return words

    def _keep_terms(self, first_slot: int, words: Sequence[int]) -> None:
        try:
            with closing(self._open()) as db:
                text = " ".join(f"{one:x}" for one in words)
                db.execute("INSERT OR REPLACE INTO terms VALUES (?, ?)", (first_slot, text))
        except sqlite3.DatabaseError as error:
            raise _unusable(self._path, error) from error

    # inside

    def _open(self) -> sqlite3.Connection:
        db = sqlite3.connect(ensure_parent(self._path), timeout=_BUSY_S, isolation_level=None)
        try:
            if db.execute("PRAGMA user_version").fetchone()[0] != VERSION:
                db.execute("PRAGMA journal_mode = WAL")
                db.execute("BEGIN IMMEDIATE")
                if db.execute("PRAGMA user_version").fetchone()[0] != VERSION:
                    for (name,) in db.execute(
                        "SELECT name FROM sqlite_master WHERE type = 'table'"
                    ).fetchall():
                        db.execute(f'DROP TABLE IF EXISTS "{name}"')
                    for statement in _SCHEMA.split(";"):
                        db.execute(statement)
                    db.execute(f"PRAGMA user_version = {VERSION}")
                db.execute("COMMIT")
            db.execute("PRAGMA synchronous = NORMAL")  # safe in WAL, and this is a copy
        except BaseException:
            db.close()
            raise
        return db

    def _ask(self, sql: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        if not self._path.exists():
            return []
        with self._reading() as db:
            return db.execute(sql, tuple(values)).fetchall()

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(self._open()) as db:
                yield db
        except sqlite3.DatabaseError as error:
            raise _unusable(self._path, error) from error


_POSTED = "session, position, words, escrow, block, tx, at"


def _posted(row: tuple[Any, ...]) -> Posted:
    session, position, words, escrow, block, tx, at = row
    numbers = [int.from_bytes(words[i : i + 32], "big") for i in range(0, len(words), 32)]
    (order,) = unpack(numbers, session)
    return Posted(order, position, escrow, block, tx, at)


def _orders(data: bytes) -> Iterator[bytes]:
    """The words of each order in a run of them, cut by what their headers say."""
    at = 0
    while at < len(data):
        length = 32
        if data[at + 15] & 2:  # a profile follows
            skip, count = data[at + 21] % 16, data[at + 22]
            length += -(-(skip + count) // 16) * 32
        yield data[at : at + length]
        at += length


def _header(words: bytes) -> tuple[int, int, int, int, int, int]:
    """Account, mandate, number, side, limit and Wh over all slots of an order's words."""
    account, mandate, nonce = struct.unpack_from(">IIH", words)
    side = ASK if words[15] & 1 else BID
    limit, flat = struct.unpack_from(">HH", words, 17)
    if len(words) == 32:
        return account, mandate, nonce, side, limit, flat * words[22]
    # Outside its own slots a profile's words are zero.
    return (
        account,
        mandate,
        nonce,
        side,
        limit,
        sum(struct.unpack(f">{(len(words) - 32) // 2}H", words[32:])),
    )


def _move(db: sqlite3.Connection, rows: Sequence[tuple[Any, ...]]) -> None:
    db.executemany(f"INSERT INTO movement VALUES ({', '.join('?' * 13)})", rows)


def _among(accounts: Sequence[int]) -> tuple[str, list[Any]]:
    held = [*accounts][:MAX_ROWS]
    return ", ".join("?" * len(held)), [*held]


def _unusable(path: Path, error: Exception) -> CheckFailed:
    return CheckFailed(f"{path}: {error}; it is a copy, delete the file to build it again")
