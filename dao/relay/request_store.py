# SPDX-License-Identifier: Apache-2.0
"""The table of requests: what people signed besides orders, and how far the relay has carried it.

Part of the relay's file; `store` opens it and lends its connection. What a kind of request means is
`requests`' business.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

SCHEMA = """
CREATE TABLE requests (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id BLOB NOT NULL UNIQUE,
    kind TEXT NOT NULL, account INTEGER NOT NULL, signer TEXT NOT NULL,
    fields TEXT NOT NULL, signature BLOB NOT NULL, by_key INTEGER NOT NULL,
    state TEXT NOT NULL, reason TEXT, tx TEXT,
    received_at INTEGER NOT NULL, received_block INTEGER NOT NULL,
    sent_at INTEGER, block INTEGER
);
CREATE INDEX requests_by_account ON requests (account, state);
CREATE INDEX requests_by_signer ON requests (signer, state);
CREATE INDEX requests_by_state ON requests (state, block);
"""
_COLUMNS = (
    "id, kind, account, signer, fields, signature, by_key, state, reason, tx, received_at, "
    "received_block, sent_at, block"
)


class Kind(StrEnum):
    """What may be signed. An objection is a ballot against, under a standing policy; a deposit is
    a token's permit (EIP-2612)."""

    WITHDRAWAL = "withdrawal"
    REVOCATION = "revocation"
    MANDATE = "mandate"
    MANDATE_END = "mandate-end"
    DEPOSIT = "deposit"
    BALLOT = "ballot"
    DELEGATION = "delegation"
    OBJECTION = "objection"


class RequestState(StrEnum):
    """Where a request stands: on disk, on its way, on the chain by whomever, or refused there."""

    RECEIVED = "received"
    SENT = "sent"
    DONE = "done"
    FAILED = "failed"


LIVE = (RequestState.RECEIVED, RequestState.SENT)
"""States in which a request may still take its number and its money."""


@dataclass(frozen=True)
class StoredRequest:
    """A request as the relay holds it.

    id: its EIP-712 digest; account: metering point, of a voter its own, 0 for none; signer: the
    address that has to sign; by_key: whether its key did, else its contract wallet; transaction,
    block: where the chain shows it; times in unix seconds, of the chain.
    """

    id: bytes
    kind: Kind
    account: int
    signer: str
    fields: Mapping[str, Any]
    signature: bytes
    by_key: bool
    state: RequestState
    reason: str | None
    transaction: str | None
    received_at: int
    received_block: int
    sent_at: int | None = None
    block: int | None = None


@dataclass(frozen=True)
class Claims:
    """What an account's live requests will take: order numbers, and token units."""

    nonces: frozenset[int] = frozenset()
    money: int = 0


NOTHING_HELD = Claims()


@dataclass(frozen=True)
class Held:
    """Claims by account."""

    claims: Mapping[int, Claims] = field(default_factory=dict)

    def of(self, account: int) -> Claims:
        """What the account's requests will take; nothing where it has none."""
        return self.claims.get(account, NOTHING_HELD)

    def __or__(self, other: Held) -> Held:
        """Both seen: the request carried in between is then counted twice, not never."""
        return Held(
            {
                account: Claims(
                    self.of(account).nonces | other.of(account).nonces,
                    max(self.of(account).money, other.of(account).money),
                )
                for account in self.claims.keys() | other.claims.keys()
            }
        )


def claims_of(requests: Iterable[StoredRequest]) -> Claims:
    """What live requests of one account will take."""
    nonces, money = set(), 0
    for one in requests:
        if one.kind in (Kind.WITHDRAWAL, Kind.REVOCATION):
            nonces.add(int(one.fields["nonce"]))
        if one.kind is Kind.WITHDRAWAL:
            money += int(one.fields["amount"])
    return Claims(frozenset(nonces), money)


def erase(db: sqlite3.Connection, account: int, since: int, until: int) -> int:
    """Delete an account's requests, received in the time, that are not public: those that never
    came onto the chain, and ballots, of whose reason the chain has the hash. How many rows."""
    if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'requests'").fetchone():
        return 0  # of a relay of before
    return db.execute(
        "DELETE FROM requests WHERE account = ? AND received_at >= ? AND received_at < ? "
        "AND (state = ? OR (state = ? AND kind IN (?, ?)))",
        (
            account,
            since,
            until,
            RequestState.FAILED,
            RequestState.DONE,
            Kind.BALLOT,
            Kind.OBJECTION,
        ),
    ).rowcount


class RequestTable:
    """The requests of a relay's file, over the connection that `RelayStore` lends."""

    def __init__(
        self,
        db: sqlite3.Connection,
        turn: threading.RLock,
        writing: Callable[[], AbstractContextManager[None]],
        tell: Callable[[int, str, Mapping[str, Any]], None],
    ) -> None:
        self._db = db
        self._turn = turn
        self._writing = writing
        self._tell = tell

    def put(self, request: StoredRequest) -> None:
        """Add a received request, or take one that failed anew. Inside the store's `writing`."""
        marks = ", ".join("?" * 14)
        self._db.execute("DELETE FROM requests WHERE id = ?", (request.id,))
        self._db.execute(
            f"INSERT INTO requests ({_COLUMNS}) VALUES ({marks})",
            (
                request.id,
                request.kind,
                request.account,
                request.signer,
                json.dumps(request.fields),
                request.signature,
                request.by_key,
                request.state,
                request.reason,
                request.transaction,
                request.received_at,
                request.received_block,
                request.sent_at,
                request.block,
            ),
        )
        self._tell(request.received_at, f"request-{request.state}", _in_feed(request))

    def get(self, request_id: bytes) -> StoredRequest | None:
        """The request with this id, None where there is none."""
        found = self._requests("id = ? ORDER BY seq", (request_id,))
        return found[0] if found else None

    def live(self) -> list[StoredRequest]:
        """What is still to be carried, in order of receipt."""
        return self._requests("state IN (?, ?) ORDER BY seq", LIVE)

    def settled_since(self, block: int) -> list[StoredRequest]:
        """What is done, or failed, in a block from this one on."""
        return self._requests(
            "state IN (?, ?) AND block >= ? ORDER BY seq",
            (RequestState.DONE, RequestState.FAILED, block),
        )

    def live_of_account(self, account: int) -> list[StoredRequest]:
        """An account's live requests, in order of receipt."""
        return self._requests("account = ? AND state IN (?, ?) ORDER BY seq", (account, *LIVE))

    def live_of_signer(self, kinds: Iterable[Kind], signer: str) -> list[StoredRequest]:
        """Live requests of these kinds that one address signed, in order of receipt."""
        wanted = tuple(kinds)
        marks = ", ".join("?" * len(wanted))
        return self._requests(
            f"signer = ? AND state IN (?, ?) AND kind IN ({marks}) ORDER BY seq",
            (signer, *LIVE, *wanted),
        )

    def held(self, accounts: Iterable[int]) -> Held:
        """What the live requests of accounts will take."""
        found = {account: self.live_of_account(account) for account in set(accounts)}
        return Held({account: claims_of(live) for account, live in found.items() if live})

    def of_account(
        self, account: int, before: int | None, limit: int
    ) -> tuple[list[StoredRequest], int | None]:
        """An account's requests, the newest first, up to `limit` of those before number `before`;
        and the number to go on with, None at the end."""
        with self._turn:
            rows = self._db.execute(
                "SELECT seq, id FROM requests WHERE account = ? AND seq < ? "
                "ORDER BY seq DESC LIMIT ?",
                (account, 2**62 if before is None else before, limit + 1),
            ).fetchall()
            found = [self.get(number) for _, number in rows[:limit]]
        following = rows[limit - 1][0] if len(rows) > limit else None
        return [one for one in found if one is not None], following

    def claim(self, requests: Sequence[StoredRequest], at: int) -> list[StoredRequest]:
        """Mark as `sent` those of these requests that are still live, and return them."""
        claimed = []
        with self._writing():
            for one in requests:
                now = self.get(one.id)
                if now is not None and now.state in LIVE:
                    self._settle(now, RequestState.SENT, at)
                    claimed.append(one)
        return claimed

    def settle(
        self,
        request: StoredRequest,
        state: RequestState,
        at: int,
        *,
        reason: str | None = None,
        transaction: str | None = None,
        block: int | None = None,
    ) -> None:
        """Write down what became of a request."""
        with self._writing():
            now = self.get(request.id)
            # What was taken back here meanwhile does not come back to be sent.
            if now is None or (now.state is RequestState.FAILED and state in LIVE):
                return
            self._settle(now, state, at, reason, transaction, block)

    def take_back(self, requests: Sequence[StoredRequest], reason: str, at: int) -> None:
        """Requests that their owner took back before they were sent. Inside `writing`."""
        for one in requests:
            self._settle(one, RequestState.FAILED, at, reason)

    def counts(self) -> dict[RequestState, int]:
        """Requests by state."""
        with self._turn:
            rows = self._db.execute("SELECT state, count(*) FROM requests GROUP BY state")
            found = dict(rows.fetchall())
        return {state: found.get(state, 0) for state in RequestState}

    # Inside

    def _settle(
        self,
        request: StoredRequest,
        state: RequestState,
        at: int,
        reason: str | None = None,
        transaction: str | None = None,
        block: int | None = None,
    ) -> None:
        sent_at = at if state is RequestState.SENT else request.sent_at
        self._db.execute(
            "UPDATE requests SET state = ?, reason = ?, tx = ?, sent_at = ?, block = ? "
            "WHERE id = ?",
            (state, reason, transaction, sent_at, block, request.id),
        )
        if state != request.state:
            why = {"reason": reason} if reason else {}
            self._tell(at, f"request-{state}", {**_in_feed(request), **why})

    def _requests(self, where: str, values: Sequence[Any]) -> list[StoredRequest]:
        with self._turn:
            rows = self._db.execute(
                f"SELECT {_COLUMNS} FROM requests WHERE {where}", values
            ).fetchall()
        return [
            StoredRequest(
                number,
                Kind(kind),
                account,
                signer,
                json.loads(fields),
                signature,
                bool(by_key),
                RequestState(state),
                *rest,
            )
            for number, kind, account, signer, fields, signature, by_key, state, *rest in rows
        ]


def _in_feed(request: StoredRequest) -> dict[str, Any]:
    """What the feed tells of a request: no account, no amount."""
    return {"request": "0x" + request.id.hex(), "kind": request.kind}
