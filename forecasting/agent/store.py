# SPDX-License-Identifier: Apache-2.0
"""`offers.sqlite`: every version of every standing offer, and what the agent did for each session.

A method returns after its commit (WAL, synchronous=FULL). The page writes offers here while the
agent follows them. Nothing is judged: who signed an offer is asked before it comes here.
"""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

from dao.errors import BadUse, CheckFailed
from dao.paths import ensure_parent, offers_path
from dao.sqlite import transaction
from forecasting.agent.offers import StandingOffer, side_name

SCHEMA_VERSION = 1
_BUSY_TIMEOUT_S = 30.0

_SCHEMA = """
CREATE TABLE offers (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id BLOB NOT NULL UNIQUE,
    account INTEGER NOT NULL, side INTEGER NOT NULL, version INTEGER NOT NULL,
    offer TEXT NOT NULL, signature BLOB NOT NULL, received_at INTEGER NOT NULL,
    UNIQUE (account, side, version)
);
CREATE TABLE deeds (
    account INTEGER NOT NULL, side INTEGER NOT NULL, session INTEGER NOT NULL,
    version INTEGER NOT NULL, state TEXT NOT NULL, code TEXT NOT NULL, facts TEXT NOT NULL,
    at INTEGER NOT NULL, gate INTEGER NOT NULL, slots INTEGER NOT NULL,
    order_id BLOB, document TEXT,
    PRIMARY KEY (account, side, session)
) WITHOUT ROWID;
CREATE INDEX deeds_by_state ON deeds (state);
"""


class State(StrEnum):
    """What became of an offer in one session.

    `idle`: no order; `signed`: an order is on its way to the relay; `taken`: the relay promised to
    post it; `accepted`, `rejected`, `late`: what came of that; `refused`: the relay did not take
    it; `missed`: the gate closed before the relay answered; `withdrawn`: its owner took it back.
    """

    IDLE = "idle"
    SIGNED = "signed"
    TAKEN = "taken"
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    LATE = "late"
    REFUSED = "refused"
    MISSED = "missed"
    WITHDRAWN = "withdrawn"


FAILED = (State.REJECTED, State.LATE, State.REFUSED, State.MISSED, State.WITHDRAWN)
"""States of an order that, once its gate has passed, moved no energy."""


@dataclass(frozen=True)
class HeldOffer:
    """An offer as it was signed. id: its EIP-712 digest; received_at: chain time, unix seconds."""

    id: bytes
    offer: StandingOffer
    signature: bytes
    received_at: int


@dataclass(frozen=True)
class Deed:
    """What the agent did for an offer in a session, and why.

    session: first slot; version: of the offer; code, facts: the reason, see `words`; at: chain
    time; slots: of the session; document: the signed order as it is submitted, None without one.
    """

    account: int
    side: int
    session: int
    version: int
    state: State
    code: str
    facts: Mapping[str, Any]
    at: int
    gate: int
    slots: int
    order_id: bytes | None = None
    document: Mapping[str, Any] | None = None

    @property
    def energy(self) -> dict[int, int]:
        """Wh by slot that the order names; empty without one."""
        if self.document is None:
            return {}
        first = int(self.document["first_slot"])
        return {first + i: int(wh) for i, wh in enumerate(self.document["wh"]) if wh}


class OfferStore:
    """The file. One object serves any number of threads, one after the other."""

    def __init__(self, path: Path | None = None) -> None:
        """Opens the file, or makes it. CheckFailed for one that is no offer store."""
        self.path = path or offers_path()
        self._turn = threading.RLock()
        with self._plain_errors():
            # Offers tell when a home is empty: nobody else on this machine reads them.
            ensure_parent(self.path)
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
            self._db = sqlite3.connect(
                self.path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            with transaction(self._db):
                if not self._db.execute("SELECT 1 FROM sqlite_master").fetchone():
                    for statement in _SCHEMA.split(";"):
                        self._db.execute(statement)
                    self._db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            if self._db.execute("PRAGMA user_version").fetchone()[0] != SCHEMA_VERSION:
                raise CheckFailed(f"{self.path} is not a store of standing offers of this version")

    def close(self) -> None:
        with self._turn:
            self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # offers

    def put(self, held: HeldOffer) -> bool:
        """Keep an offer, the newest of its account and side from now on; False where this very one
        is known. BadUse for any version but the next: an old one signed long ago, or one made
        beside another."""
        offer = held.offer
        with self._turn, self._plain_errors(), transaction(self._db):
            if self._db.execute("SELECT 1 FROM offers WHERE id = ?", (held.id,)).fetchone():
                return False
            expected = self._next_version(offer.account, offer.side)
            if offer.version != expected:
                raise BadUse(
                    f"offer: version: {offer.version} of this {side_name(offer.side)} is not the "
                    f"next; accepted: {expected}"
                )
            self._db.execute(
                "INSERT INTO offers (id, account, side, version, offer, signature, received_at) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    held.id,
                    offer.account,
                    offer.side,
                    offer.version,
                    json.dumps(offer.as_dict()),
                    held.signature,
                    held.received_at,
                ),
            )
        return True

    def knows(self, number: bytes) -> bool:
        """Whether an offer of this digest was ever kept."""
        with self._turn, self._plain_errors():
            found = self._db.execute("SELECT 1 FROM offers WHERE id = ?", (number,)).fetchone()
        return found is not None

    def next_version(self, account: int, side: int) -> int:
        """The version that an account's next offer of a side has to have."""
        with self._turn, self._plain_errors():
            return self._next_version(account, side)

    def in_force(self, accounts: Iterable[int] | None = None) -> list[HeldOffer]:
        """The newest offer of each account and side, the withdrawn ones left out; of some accounts,
        or of all. Their expiry is not looked at."""
        return [one for one in self._newest(accounts) if not one.offer.withdrawn]

    def history(self, account: int, limit: int = 100) -> list[HeldOffer]:
        """All versions of an account's offers, the newest first."""
        with self._turn, self._plain_errors():
            rows = self._db.execute(
                "SELECT id, offer, signature, received_at FROM offers WHERE account = ? "
                "ORDER BY seq DESC LIMIT ?",
                (account, limit),
            ).fetchall()
        return [_held(row) for row in rows]

    # deeds

    def note(self, deed: Deed) -> None:
        """Write down what was done for a session, over what stood there. BadUse where an order
        stands there that this would replace by another."""
        with self._turn, self._plain_errors(), transaction(self._db):
            known = self._db.execute(
                "SELECT order_id FROM deeds WHERE account = ? AND side = ? AND session = ?",
                (deed.account, deed.side, deed.session),
            ).fetchone()
            if known is not None and known[0] is not None and known[0] != deed.order_id:
                raise BadUse(f"session {deed.session} has an order already")
            self._db.execute(
                "INSERT OR REPLACE INTO deeds VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    deed.account,
                    deed.side,
                    deed.session,
                    deed.version,
                    str(deed.state),
                    deed.code,
                    json.dumps(dict(deed.facts)),
                    deed.at,
                    deed.gate,
                    deed.slots,
                    deed.order_id,
                    None if deed.document is None else json.dumps(dict(deed.document)),
                ),
            )

    def deed(self, account: int, side: int, session: int) -> Deed | None:
        """What was done for a session so far."""
        found = self._deeds(
            "account = ? AND side = ? AND session = ?", (account, side, session), "session"
        )
        return found[0] if found else None

    def deeds(self, account: int, limit: int = 50) -> list[Deed]:
        """What was done for an account lately, the latest session first."""
        return self._deeds("account = ?", (account, limit), "session DESC, side LIMIT ?")

    def in_state(self, state: State) -> list[Deed]:
        """All that stands in a state, by session."""
        return self._deeds("state = ?", (str(state),), "session, account, side")

    def ordered(
        self, account: int, side: int, first_slot: int, end_slot: int, now: int
    ) -> dict[int, int]:
        """Wh by slot that orders of an account name, of sessions that start in the range. An order
        that failed counts until its gate has passed: till then it might still be posted."""
        found = self._deeds(
            "account = ? AND side = ? AND session >= ? AND session < ? AND order_id IS NOT NULL",
            (account, side, first_slot, end_slot),
            "session",
        )
        energy: dict[int, int] = {}
        for deed in found:
            if deed.state in FAILED and now >= deed.gate:
                continue
            for slot, wh in deed.energy.items():
                energy[slot] = energy.get(slot, 0) + wh
        return energy

    # inside

    def _next_version(self, account: int, side: int) -> int:
        row = self._db.execute(
            "SELECT coalesce(max(version), 0) + 1 FROM offers WHERE account = ? AND side = ?",
            (account, side),
        ).fetchone()
        return int(row[0])

    def _newest(self, accounts: Iterable[int] | None) -> list[HeldOffer]:
        wanted = None if accounts is None else sorted(set(accounts))
        with self._turn, self._plain_errors():
            rows = self._db.execute(
                "SELECT id, offer, signature, received_at, account FROM offers o WHERE version = "
                "(SELECT max(version) FROM offers n WHERE n.account = o.account "
                "AND n.side = o.side) ORDER BY account, side"
            ).fetchall()
        return [_held(row[:4]) for row in rows if wanted is None or row[4] in wanted]

    def _deeds(self, where: str, values: tuple[object, ...], order: str) -> list[Deed]:
        with self._turn, self._plain_errors():
            rows = self._db.execute(
                f"SELECT * FROM deeds WHERE {where} ORDER BY {order}", values
            ).fetchall()
        return [_deed(row) for row in rows]

    @contextmanager
    def _plain_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.ProgrammingError:
            raise  # a defect of ours
        except (sqlite3.Error, OSError) as error:
            raise CheckFailed(f"cannot use {self.path}: {error}") from error


def _held(row: tuple[Any, ...]) -> HeldOffer:
    number, offer, signature, received_at = row
    return HeldOffer(number, StandingOffer(**json.loads(offer)), signature, received_at)


def _deed(row: tuple[Any, ...]) -> Deed:
    account, side, session, version, state, code, facts, *times, order_id, document = row
    at, gate, slots = times
    return Deed(
        account,
        side,
        session,
        version,
        State(state),
        code,
        json.loads(facts),
        at,
        gate,
        slots,
        order_id,
        None if document is None else json.loads(document),
    )


@contextmanager
def following(path: Path) -> Iterator[None]:
    """Be the one agent that follows the offers of a file. CheckFailed where another one is.

    The lock goes with the process, however that ends.
    """
    beside = ensure_parent(path).with_name(path.name + ".lock")
    try:
        handle = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise CheckFailed(f"cannot use {beside}: {error.strerror}") from None
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise CheckFailed(
                f"another agent follows the offers of {path}: there is one at a time"
            ) from None
        yield
    finally:
        os.close(handle)
