# SPDX-License-Identifier: Apache-2.0
"""Chain events in SQLite, for screens and audits. A copy: it can be deleted and is built again.

The chain is read over plain JSON-RPC, so any node will do. A block is kept with its hash wherever
an event lies in it and at the end of every range read. What holds after every commit:

- the cursor's block is stored, and every event of the contracts up to it, once;
- every stored block was an ancestor of the cursor's block.

So if a stored block is still on the chain, all rows up to it are right, and a reorganisation is
found by bisecting the stored hashes; orphaned rows go in the same transaction that adds what
replaces them. A crash leaves the last commit, two indexers at once repeat work but no rows.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from dao.eip712 import address_bytes, checksum_address, keccak
from dao.errors import CheckFailed
from dao.paths import ensure_parent
from dao.rpc import Refused, Rpc

if TYPE_CHECKING:
    import pandas as pd

Abi = Sequence[Mapping[str, Any]]
T = TypeVar("T")

SCHEMA_VERSION = 1
MAX_SPAN = 5_000
"""Blocks asked for at once; halved whenever a node refuses a range, and doubled again."""
TIMEOUT_SECONDS = 30
MAX_RACES = 20
"""Times in a row that the chain may change under a read before `sync` gives up."""

_SCHEMA = """
CREATE TABLE blocks (number INTEGER PRIMARY KEY, hash TEXT NOT NULL, timestamp INTEGER NOT NULL);
CREATE TABLE events (
    block INTEGER NOT NULL REFERENCES blocks (number),
    log_index INTEGER NOT NULL,
    tx TEXT NOT NULL,
    contract TEXT NOT NULL,
    event TEXT NOT NULL,
    args TEXT NOT NULL,
    timestamp INTEGER NOT NULL,
    PRIMARY KEY (block, log_index)
) WITHOUT ROWID;
CREATE INDEX events_by_name ON events (event, contract, block, log_index);
CREATE TABLE cursor (
    id INTEGER PRIMARY KEY CHECK (id = 1), block INTEGER NOT NULL, source TEXT NOT NULL
);
"""


@dataclass(frozen=True)
class _EventType:
    """How one event of one contract is read from a log."""

    contract: str
    name: str
    inputs: tuple[tuple[str, str, bool], ...]  # name, canonical type, indexed

    def decode(self, topics: Sequence[str], data: str) -> dict[str, Any]:
        """The arguments of a log, as JSON has them."""
        quick = self._decode_words(topics, data)
        return quick if quick is not None else self._decode_any(topics, data)

    def _decode_words(self, topics: Sequence[str], data: str) -> dict[str, Any] | None:
        """As `_decode_any`, some ten times as fast, for arguments that are words, bytes, text or
        lists of words. None where there are others, or the log is not plainly in that form: then
        it is for the general decoder to read or refuse."""
        raw = bytes.fromhex(data[2:])
        args: dict[str, Any] = {}
        at, topic = 0, 1
        for name, kind, indexed in self.inputs:
            if indexed:
                if _is_hashed(kind) or topic >= len(topics):
                    return None
                word, topic = bytes.fromhex(topics[topic][2:]), topic + 1
            else:
                word, at = raw[at : at + 32], at + 32
            if len(word) != 32:
                return None
            if (read := _WORDS.get(kind)) is not None:
                value = read(word)
            elif indexed or (value := _tail(kind, raw, int.from_bytes(word, "big"))) is None:
                return None
            if value is None:
                return None
            args[name] = value
        return args

    def _decode_any(self, topics: Sequence[str], data: str) -> dict[str, Any]:
        from eth_abi.abi import decode

        # Text is read as bytes, which lie in the log the same way: it need not be UTF-8.
        plain = [kind for _, kind, indexed in self.inputs if not indexed]
        raw = [kind.replace("string", "bytes") for kind in plain]
        values = iter(decode(raw, bytes.fromhex(data[2:])))
        keys = iter(topics[1:])
        args: dict[str, Any] = {}
        for name, kind, indexed in self.inputs:
            if not indexed:
                args[name] = _jsonable(kind, next(values))
            elif _is_hashed(kind):
                args[name] = next(keys)  # the topic holds only the hash of the value
            else:
                (value,) = decode([kind], bytes.fromhex(next(keys)[2:]))
                args[name] = _jsonable(kind, value)
        return args


def _unsigned(bits: int) -> Callable[[bytes], int | None]:
    def read(word: bytes) -> int | None:
        value = int.from_bytes(word, "big")
        return value if value >> bits == 0 else None

    return read


def _signed(word: bytes) -> int:
    return int.from_bytes(word, "big", signed=True)


def _address(word: bytes) -> str | None:
    return None if any(word[:12]) else checksum_address(word[12:])


def _bool(word: bytes) -> bool | None:
    value = int.from_bytes(word, "big")
    return bool(value) if value < 2 else None


def _hex(word: bytes) -> str:
    return "0x" + word.hex()


# A word that is no value of its type is None: for the general decoder to refuse.
_WORDS: dict[str, Callable[[bytes], Any]] = {
    **{f"uint{bits}": _unsigned(bits) for bits in range(8, 257, 8)},
    "int256": _signed,
    "address": _address,
    "bool": _bool,
    "bytes32": _hex,
}


def _tail(kind: str, raw: bytes, offset: int) -> Any:
    """An argument of a length of its own, from where its head points; None where that is not
    plainly bytes, text or a list of words."""
    if offset % 32 or offset + 32 > len(raw):
        return None
    count, begin = int.from_bytes(raw[offset : offset + 32], "big"), offset + 32
    if kind in ("bytes", "string"):
        padded = -(-count // 32) * 32
        value = raw[begin : begin + count]
        if begin + padded > len(raw) or any(raw[begin + count : begin + padded]):
            return None
        return _jsonable(kind, value)
    if kind == "uint256[]":
        if begin + 32 * count > len(raw):
            return None
        return [
            int.from_bytes(raw[at : at + 32], "big") for at in range(begin, begin + 32 * count, 32)
        ]
    return None


class EventReader:
    """Reads an index file. Works without a node, in any process, while an Indexer writes."""

    def __init__(self, db_path: Path | str) -> None:
        self.db_path = Path(db_path)

    def cursor(self) -> int | None:
        """The last block indexed, None before the first."""
        rows = self._query("SELECT block FROM cursor WHERE block >= 0", ())
        return int(rows[0][0]) if rows else None

    def timestamp(self) -> int | None:
        """The timestamp of the last block indexed, unix seconds, None before the first."""
        rows = self._query(
            "SELECT timestamp FROM blocks WHERE number = (SELECT block FROM cursor)", ()
        )
        return int(rows[0][0]) if rows else None

    def last(self) -> tuple[str, int] | None:
        """Where the last event of all stands: its block's hash, and its number there. None before
        the first."""
        rows = self._query(
            "SELECT hash, log_index FROM events JOIN blocks ON number = block "
            "ORDER BY block DESC, log_index DESC LIMIT 1",
            (),
        )
        return (str(rows[0][0]), int(rows[0][1])) if rows else None

    def events(
        self,
        name: str,
        *,
        contract: str | None = None,
        match: Mapping[str, int | str] | None = None,
        since: tuple[int, int] | None = None,
        first_time: int | None = None,
        last_time: int | None = None,
        limit: int | None = None,
        newest_first: bool = False,
    ) -> list[dict[str, Any]]:
        """Events called `name`, in chain order: block, log_index, tx, contract, event, timestamp
        and args (a dict; integers exact, bytes as 0x text, addresses with checksum).

        match: values that top-level arguments must have (integers below 2**63, or text).
        since: only after this (block, log_index). first_time, last_time: unix seconds, inclusive.
        """
        where, values = ["event = ?"], [name]  # type: tuple[list[str], list[int | str]]
        if contract is not None:
            where.append("contract = ?")
            values.append(contract)
        for key, value in (match or {}).items():
            where.append("json_extract(args, ?) = ?")
            values += [f'$."{key}"', value]
        if since is not None:
            where.append("(block, log_index) > (?, ?)")
            values += since
        if first_time is not None:
            where.append("timestamp >= ?")
            values.append(first_time)
        if last_time is not None:
            where.append("timestamp <= ?")
            values.append(last_time)
        order = "DESC" if newest_first else "ASC"
        sql = (
            "SELECT block, log_index, tx, contract, event, timestamp, args FROM events "
            f"WHERE {' AND '.join(where)} ORDER BY block {order}, log_index {order}"
        )
        if limit is not None:
            sql += " LIMIT ?"
            values.append(limit)
        keys = ("block", "log_index", "tx", "contract", "event", "timestamp")
        return [
            {**dict(zip(keys, row[:6], strict=True)), "args": json.loads(row[6])}
            for row in self._query(sql, values)
        ]

    def frame(self, name: str, **filters: Any) -> pd.DataFrame:
        """As `events`, one column per argument after block, log_index, tx, contract, timestamp.

        An argument of one of these names gets the prefix arg_. Columns of integers beyond 64 bits
        hold Python integers.
        """
        import pandas as pd

        fixed = ("block", "log_index", "tx", "contract", "timestamp")
        rows = self.events(name, **filters)
        columns = {key: [row[key] for row in rows] for key in fixed}
        names = dict.fromkeys(key for row in rows for key in row["args"])
        for key in names:
            column = f"arg_{key}" if key in fixed else key
            columns[column] = [row["args"].get(key) for row in rows]
        return pd.DataFrame(columns)

    def following(
        self, contract: str, block: int, limit: int
    ) -> tuple[list[dict[str, Any]], dict[int, str]]:
        """All events of a contract in the blocks after `block`, in chain order and as `events` has
        them, about `limit` of them: whole blocks only, and at least one where there is any. With
        them the hash of every stored block from `block` up to the last one returned, read in the
        same moment, so that a follower can tell whether what it has seen is still on the chain.
        """
        keys = ("block", "log_index", "tx", "contract", "event", "timestamp")

        def read() -> tuple[list[dict[str, Any]], dict[int, str]]:
            uri = f"{self.db_path.absolute().as_uri()}?mode=ro"
            with closing(
                sqlite3.connect(uri, uri=True, timeout=TIMEOUT_SECONDS, isolation_level=None)
            ) as db:
                db.execute("BEGIN")
                last = db.execute(
                    "SELECT block FROM events WHERE contract = ? AND block > ? "
                    "ORDER BY block LIMIT 1 OFFSET ?",
                    (contract, block, max(limit, 1) - 1),
                ).fetchone()
                end = int(last[0]) if last else (1 << 62)
                rows = db.execute(
                    "SELECT block, log_index, tx, contract, event, timestamp, args FROM events "
                    "WHERE contract = ? AND block > ? AND block <= ? ORDER BY block, log_index",
                    (contract, block, end),
                ).fetchall()
                highest = int(rows[-1][0]) if rows else block
                hashes = db.execute(
                    "SELECT number, hash FROM blocks WHERE number >= ? AND number <= ?",
                    (block, highest),
                ).fetchall()
            events = [
                {**dict(zip(keys, row[:6], strict=True)), "args": json.loads(row[6])}
                for row in rows
            ]
            return events, {int(number): str(text) for number, text in hashes}

        if not self.db_path.exists():
            return [], {}
        try:
            return _patiently(read)
        except sqlite3.DatabaseError as error:
            if "no such table" in str(error):  # created, and not yet filled
                return [], {}
            raise _unusable(self.db_path, error) from error

    def block_hash(self, number: int) -> str | None:
        """The hash of a stored block, None where it is not stored."""
        rows = self._query("SELECT hash FROM blocks WHERE number = ?", (number,))
        return str(rows[0][0]) if rows else None

    def counts(self) -> dict[tuple[str, str], int]:
        """Number of events by (contract, event)."""
        rows = self._query("SELECT contract, event, count(*) FROM events GROUP BY 1, 2", ())
        return {(str(row[0]), str(row[1])): int(row[2]) for row in rows}

    def _query(self, sql: str, values: Iterable[Any]) -> list[tuple[Any, ...]]:
        if not self.db_path.exists():
            return []
        uri = f"{self.db_path.absolute().as_uri()}?mode=ro"

        def read() -> list[tuple[Any, ...]]:
            with closing(sqlite3.connect(uri, uri=True, timeout=TIMEOUT_SECONDS)) as db:
                return db.execute(sql, tuple(values)).fetchall()

        try:
            return _patiently(read)
        except sqlite3.DatabaseError as error:
            if "no such table" in str(error):  # created, and not yet filled
                return []
            raise _unusable(self.db_path, error) from error


class Indexer(EventReader):
    """Keeps an index file in step with a chain.

    contracts: name to (address, ABI). first_block: where the oldest contract was deployed.
    """

    def __init__(
        self,
        rpc_url: str,
        contracts: Mapping[str, tuple[str, Abi]],
        db_path: Path | str,
        *,
        first_block: int = 0,
    ) -> None:
        super().__init__(db_path)
        self._rpc = Rpc(rpc_url)
        self._first_block = first_block
        self._addresses = [checksum_address(address) for address, _ in contracts.values()]
        self._types: dict[tuple[bytes, str], _EventType] = {}
        for contract, (address, abi) in contracts.items():
            for topic, kind in _event_types(contract, abi):
                self._types[address_bytes(address), topic] = kind
        # An index made for other contracts or another ABI lacks rows, so it counts as none.
        known = sorted((a.hex(), topic, repr(kind)) for (a, topic), kind in self._types.items())
        self._source = keccak(json.dumps([first_block, known]).encode("utf-8")).hex()
        self._span = MAX_SPAN

    def sync(self, until: int | None = None) -> int:
        """Bring the index up to the chain's head; returns the number of events written.

        until: no further than this block, for who asks about a past that is over.
        Raises CheckFailed where the node cannot be reached, refuses, or keeps changing its mind,
        or the file is no index. What was committed before stays right.
        """
        try:
            with closing(_patiently(self._open)) as db:
                return self._sync(db, until)
        except sqlite3.DatabaseError as error:
            raise _unusable(self.db_path, error) from error

    def _sync(self, db: sqlite3.Connection, until: int | None) -> int:
        written = races = 0
        while True:
            cursor = self._cursor(db)
            base, base_hash = self._last_good(db, cursor)
            head = int(self._rpc.call("eth_blockNumber"), 16)
            if until is not None:
                head = min(head, until)
            if head <= base:
                if base < cursor:
                    self._commit(db, cursor, base, _Range(base, [], []))
                return written
            fetched = self._fetch(base + 1, min(head, base + self._span), base_hash)
            if fetched is not None and self._commit(db, cursor, base, fetched):
                written += len(fetched.events)
                races = 0
                continue
            races += 1
            if races > MAX_RACES:
                raise CheckFailed(f"the chain at {self._rpc.shown} keeps changing while it is read")

    def _open(self) -> sqlite3.Connection:
        db = sqlite3.connect(
            ensure_parent(self.db_path), timeout=TIMEOUT_SECONDS, isolation_level=None
        )
        try:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = NORMAL")  # safe in WAL, and this is a copy
            db.execute("BEGIN IMMEDIATE")
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version != SCHEMA_VERSION:
                for table in ("events", "blocks", "cursor"):
                    db.execute(f"DROP TABLE IF EXISTS {table}")
                for statement in _SCHEMA.split(";"):
                    db.execute(statement)
                db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            row = db.execute("SELECT source FROM cursor").fetchone()
            if row is None or row[0] != self._source:
                db.execute("DELETE FROM events")
                db.execute("DELETE FROM blocks")
                db.execute(
                    "INSERT OR REPLACE INTO cursor VALUES (1, ?, ?)",
                    (self._first_block - 1, self._source),
                )
            db.execute("COMMIT")
        except BaseException:
            db.close()
            raise
        return db

    def _cursor(self, db: sqlite3.Connection) -> int:
        row = db.execute("SELECT block FROM cursor WHERE source = ?", (self._source,)).fetchone()
        if row is None:
            raise CheckFailed(f"{self.db_path}: another process indexes other contracts into it")
        return int(row[0])

    def _last_good(self, db: sqlite3.Connection, cursor: int) -> tuple[int, str | None]:
        """The newest stored block still on the chain, with its hash; before the first if none."""
        stored: list[tuple[int, str]] = (
            db.execute(
                "SELECT number, hash FROM blocks WHERE number <= ? ORDER BY number", (cursor,)
            ).fetchall()
            if not self._tip_holds(db, cursor)
            else []
        )
        if not stored:
            row = db.execute("SELECT hash FROM blocks WHERE number = ?", (cursor,)).fetchone()
            return cursor, row[0] if row else None
        # All before a good block are good, all after a bad one bad.
        good, bad = 0, len(stored)
        while good < bad:
            middle = (good + bad) // 2
            if self._on_chain(*stored[middle]):
                good = middle + 1
            else:
                bad = middle
        return stored[good - 1] if good else (self._first_block - 1, None)

    def _tip_holds(self, db: sqlite3.Connection, cursor: int) -> bool:
        row = db.execute("SELECT number, hash FROM blocks WHERE number = ?", (cursor,)).fetchone()
        return row is None or self._on_chain(*row)

    def _on_chain(self, number: int, block_hash: str) -> bool:
        block = self._rpc.call("eth_getBlockByNumber", hex(number), False)
        return block is not None and block["hash"] == block_hash

    def _fetch(self, first: int, last: int, parent: str | None) -> _Range | None:
        """Blocks first..last, as one consistent view; None if the chain moved meanwhile."""
        head, tail = self._headers([first, last])
        if head is None or tail is None or (parent is not None and head["parentHash"] != parent):
            return None
        try:
            logs = self._rpc.call(
                "eth_getLogs",
                {"fromBlock": hex(first), "toBlock": hex(last), "address": self._addresses},
            )
        except Refused:
            if first == last:
                raise
            self._span = (last - first + 1) // 2
            return self._fetch(first, first + self._span - 1, parent)
        numbers = sorted({int(log["blockNumber"], 16) for log in logs} | {last})
        headers = dict(zip(numbers, self._headers(numbers), strict=True))
        after = headers[last]
        if after is None or after["hash"] != tail["hash"]:
            return None
        blocks: list[tuple[int, str, int]] = []
        for number in numbers:
            header = headers[number]
            if header is None:
                return None
            blocks.append((number, header["hash"], int(header["timestamp"], 16)))
        times = {block_hash: seconds for _, block_hash, seconds in blocks}
        events = []
        for log in logs:
            if log["blockHash"] not in times:
                return None
            kind = self._types.get((address_bytes(log["address"]), (log["topics"] or [""])[0]))
            if kind is None:
                continue
            number, index = int(log["blockNumber"], 16), int(log["logIndex"], 16)
            try:
                args = json.dumps(kind.decode(log["topics"], log["data"]), separators=(",", ":"))
            except Exception as error:
                raise CheckFailed(
                    f"log {index} of block {number} does not fit the ABI of "
                    f"{kind.contract}.{kind.name}: {error}"
                ) from error
            seconds = times[log["blockHash"]]
            events.append(
                (number, index, log["transactionHash"], kind.contract, kind.name, args, seconds)
            )
        self._span = min(MAX_SPAN, self._span * 2)
        return _Range(last, blocks, events)

    def _headers(self, numbers: Sequence[int]) -> list[dict[str, Any] | None]:
        return self._rpc.batch([("eth_getBlockByNumber", [hex(n), False]) for n in numbers])

    def _commit(self, db: sqlite3.Connection, cursor: int, base: int, fetched: _Range) -> bool:
        """Replace everything after `base` in one transaction; False if another run was faster."""
        db.execute("BEGIN IMMEDIATE")
        try:
            if self._cursor(db) != cursor:
                db.execute("ROLLBACK")
                return False
            db.execute("DELETE FROM events WHERE block > ?", (base,))
            db.execute("DELETE FROM blocks WHERE number > ?", (base,))
            db.executemany("INSERT INTO blocks VALUES (?, ?, ?)", fetched.blocks)
            db.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?)", fetched.events)
            db.execute("UPDATE cursor SET block = ?", (fetched.last,))
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
        return True


@dataclass(frozen=True)
class _Range:
    """What is to be stored up to block `last`: rows of blocks and of events."""

    last: int
    blocks: list[tuple[int, str, int]]
    events: list[tuple[int, int, str, str, str, str, int]]


def _patiently(action: Callable[[], T]) -> T:
    """Repeat `action` while the file is locked.

    SQLite waits for other connections by itself, except while one of them switches the file to
    WAL or closes it as the last: then it reports the lock at once.
    """
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while True:
        try:
            return action()
        except sqlite3.OperationalError as error:
            if not _is_locked(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _is_locked(error: Exception) -> bool:
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _unusable(path: Path, error: Exception) -> CheckFailed:
    if _is_locked(error):
        return CheckFailed(f"{path}: another process keeps the index locked")
    return CheckFailed(f"{path}: {error}; the index is a copy, delete the file to build it again")


def _event_types(contract: str, abi: Abi) -> Iterable[tuple[str, _EventType]]:
    """(topic 0, event type) for every event of an ABI that names itself in its logs."""
    for item in abi:
        if item.get("type") != "event" or item.get("anonymous"):
            continue
        inputs = tuple(
            # An argument without a name still needs a key.
            (entry.get("name") or f"arg{at}", canonical(entry), bool(entry.get("indexed")))
            for at, entry in enumerate(item.get("inputs", ()))
        )
        signature = f"{item['name']}({','.join(kind for _, kind, _ in inputs)})"
        topic = "0x" + keccak(signature.encode("ascii")).hex()
        yield topic, _EventType(contract, item["name"], inputs)


def canonical(entry: Mapping[str, Any]) -> str:
    """An ABI entry's type as signatures spell it, tuples written out."""
    kind: str = entry["type"]
    if not kind.startswith("tuple"):
        return kind
    return f"({','.join(map(canonical, entry['components']))}){kind[len('tuple') :]}"


def _is_hashed(kind: str) -> bool:
    """Whether an indexed argument of this type is stored as a hash only."""
    return kind.endswith("]") or kind.startswith("(") or kind in ("bytes", "string")


def _parts(kind: str) -> list[str]:
    """The types inside a tuple's, `(a,(b,c)[])` to `a` and `(b,c)[]`."""
    parts, depth = [""], 0
    for sign in kind[1:-1]:
        depth += (sign == "(") - (sign == ")")
        if sign == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += sign
    return [part for part in parts if part]


def _jsonable(kind: str, value: Any) -> Any:
    if isinstance(value, (tuple, list)):
        if kind.endswith("]"):
            inner = kind[: kind.rindex("[")]
            return [_jsonable(inner, item) for item in value]
        return [_jsonable(part, item) for part, item in zip(_parts(kind), value, strict=True)]
    if kind == "string":
        return bytes(value).decode("utf-8", "backslashreplace")
    if isinstance(value, (bytes, bytearray)):
        return "0x" + bytes(value).hex()
    return checksum_address(value) if kind == "address" else value
