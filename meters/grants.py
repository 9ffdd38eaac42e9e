# SPDX-License-Identifier: Apache-2.0
"""Grants: a home's owner lets a named reader see its readings of some slots, until a day.

    owner --signs--> ReadGrant --given to--> Grants     reader --asks--> challenge
                                                        reader --signs--> ReadAccess --> readings

A grant is an EIP-712 message; so is its end, and so is every reading under it, over a challenge
that counts once. What was given out, and what was refused, is on record for the owner. Here are the
messages and the store; what is read under a grant is in `granted.py`.
"""

from __future__ import annotations

import os
import secrets as randomness
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from dao import eip712
from dao.eip712 import address_word, checksum_address, keccak, word
from dao.errors import BadUse, CheckFailed
from dao.paths import ensure_parent
from dao.sqlite import transaction

DOMAIN_NAME = "GridCommons Grants"
DOMAIN_VERSION = "1"
GRANT_TYPE = (
    b"ReadGrant(uint32 meter,address reader,uint64 fromSlot,uint64 toSlot,uint64 expires,"
    b"uint64 nonce)"
)
REVOCATION_TYPE = b"GrantRevocation(uint32 meter,bytes32 grant)"
ACCESS_TYPE = b"ReadAccess(bytes32 grant,bytes32 challenge)"
RECORD_TYPE = b"AccessRecord(uint32 meter,bytes32 challenge)"

CHALLENGE_SECONDS = 300
"""Long enough to sign by hand, too short to be found later."""
# Open challenges of one grant or meter: who asks for more without answering loses the oldest.
_MOST_CHALLENGES = 16
_BUSY_TIMEOUT_S = 30.0
_DAY = 86_400
_LATEST = 32_503_680_000

_TABLES = """
CREATE TABLE IF NOT EXISTS grants (
    id BLOB PRIMARY KEY, meter INTEGER NOT NULL, reader BLOB NOT NULL,
    from_slot INTEGER NOT NULL, to_slot INTEGER NOT NULL, expires INTEGER NOT NULL,
    nonce BLOB NOT NULL, signature BLOB NOT NULL, taken_at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS grants_by_meter ON grants (meter);
CREATE TABLE IF NOT EXISTS revocation (
    id BLOB NOT NULL, meter INTEGER NOT NULL, signature BLOB NOT NULL, at INTEGER NOT NULL,
    PRIMARY KEY (id, meter)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS challenge (
    challenge BLOB PRIMARY KEY, subject BLOB NOT NULL, until INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS access (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    meter INTEGER NOT NULL, id BLOB NOT NULL, reader BLOB NOT NULL, outcome TEXT NOT NULL,
    first_slot INTEGER, end_slot INTEGER, slots INTEGER NOT NULL,
    at INTEGER NOT NULL, last_at INTEGER NOT NULL, times INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS access_by_meter ON access (meter, seq);
"""


class Outcome(StrEnum):
    """How an access ended; all but `read` gave out nothing."""

    READ = "read"
    REVOKED = "revoked"
    EXPIRED = "expired"
    FOREIGN = "foreign"
    """Signed by somebody else than the named reader."""
    REPLAYED = "replayed"
    """The challenge was used before, is too old, or was made for something else."""
    OUTSIDE = "outside"
    """Slots were asked for that the grant does not name."""
    NOTHING = "nothing"
    """None of the slots is committed yet, or all were erased."""


_REASONS = {
    Outcome.REVOKED: "the owner has revoked the grant",
    Outcome.EXPIRED: "the grant has expired",
    Outcome.FOREIGN: "the request is not signed by the reader that the grant names",
    Outcome.REPLAYED: "the challenge was used, is too old, or is not one of ours",
    Outcome.OUTSIDE: "the grant does not name these slots",
    Outcome.NOTHING: "none of these slots is committed, or they were erased",
}


class AccessRefused(CheckFailed):
    """A request under a grant that gets nothing; it is on record."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(_REASONS[outcome])
        self.outcome = outcome


@dataclass(frozen=True)
class Grant:
    """What an owner signs: `reader` (20 bytes) may read slots from_slot <= slot < to_slot of a
    meter until `expires` (unix seconds, exclusive). Slots that are committed later count too."""

    meter: int
    reader: bytes
    from_slot: int
    to_slot: int
    expires: int
    nonce: int

    def struct_hash(self) -> bytes:
        """BadUse for a number outside its field."""
        limits = ((self.meter, 32), (self.from_slot, 64), (self.to_slot, 64), (self.expires, 64))
        for value, bits in (*limits, (self.nonce, 64)):
            if not 0 <= value < 1 << bits:
                raise BadUse(f"a number of the grant is out of range: {value}")
        numbers = (self.from_slot, self.to_slot, self.expires, self.nonce)
        return keccak(
            keccak(GRANT_TYPE)
            + word(self.meter)
            + address_word(self.reader)
            + b"".join(word(number) for number in numbers)
        )

    def digest(self, separator: bytes) -> bytes:
        """What the owner signs; it is the grant's id as well."""
        return eip712.digest(separator, self.struct_hash())


@dataclass(frozen=True)
class Held:
    """A grant as the store has it; `revoked_at` None while it holds (unix seconds)."""

    id: bytes
    grant: Grant
    taken_at: int
    revoked_at: int | None


@dataclass(frozen=True)
class Access:
    """One line of the record. slots: how many were given out. reader: who signed (20 bytes),
    whoever the grant names. Refusals of one kind within a day are one line: `times` of them from
    `at` to `last_at` (unix seconds), `reader` the first.
    """

    grant: bytes
    reader: bytes
    outcome: Outcome
    first_slot: int | None
    end_slot: int | None
    slots: int
    at: int
    last_at: int
    times: int


def grant_separator(chain_id: int, registry: str | bytes) -> bytes:
    """The EIP-712 domain of grants, revocations and accesses, 32 bytes."""
    return eip712.domain_separator(DOMAIN_NAME, DOMAIN_VERSION, chain_id, registry)


def revocation_digest(separator: bytes, meter: int, grant: bytes) -> bytes:
    """What the owner signs to end a grant."""
    return eip712.digest(separator, keccak(keccak(REVOCATION_TYPE) + word(meter) + grant))


def access_digest(separator: bytes, grant: bytes, challenge: bytes) -> bytes:
    """What the reader signs to read once."""
    return eip712.digest(separator, keccak(keccak(ACCESS_TYPE) + grant + challenge))


def record_digest(separator: bytes, meter: int, challenge: bytes) -> bytes:
    """What the owner signs to see the record of accesses once."""
    return eip712.digest(separator, keccak(keccak(RECORD_TYPE) + word(meter) + challenge))


def typed_data(grant: Grant, chain_id: int, registry: str) -> dict[str, Any]:
    """The grant as wallets take it (`eth_signTypedData_v4`)."""
    frame = eip712.typed_frame(
        GRANT_TYPE.decode(), DOMAIN_NAME, DOMAIN_VERSION, chain_id, checksum_address(registry)
    )
    return {
        **frame,
        "message": {
            "meter": grant.meter,
            "reader": checksum_address(grant.reader),
            "fromSlot": grant.from_slot,
            "toSlot": grant.to_slot,
            "expires": grant.expires,
            "nonce": grant.nonce,
        },
    }


OwnerSigned = Callable[[int, bytes, bytes], bool]
"""Whether the owner of a meter made the signature over the digest: meter, digest, signature."""


class Grants:
    """The grants of one deployment in one SQLite file, `grants.sqlite` in the state folder.

    separator: `grant_separator`. owner_signed: asks the registry who owns a meter. `now` is always
    given, in unix seconds of the chain. One object serves any number of threads, one after the
    other; several processes may share the file. No reading is ever kept here.
    """

    def __init__(self, path: Path, separator: bytes, owner_signed: OwnerSigned) -> None:
        self.path = ensure_parent(Path(path))
        self._separator = separator
        self._owner_signed = owner_signed
        self._turn = threading.RLock()
        try:
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
            self._db = sqlite3.connect(
                self.path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.executescript(_TABLES)
        except (OSError, sqlite3.Error) as error:
            raise CheckFailed(f"cannot use the grants in {self.path}: {error}") from None

    def close(self) -> None:
        with self._turn:
            self._db.close()

    def __enter__(self) -> Grants:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # what owners do

    def add(self, grant: Grant, signature: bytes, now: int) -> Held:
        """Take a grant that the meter's owner has signed. The same again changes nothing.

        BadUse for one that names nothing or has expired, CheckFailed for one that somebody else
        signed, or that was revoked.
        """
        if grant.to_slot <= grant.from_slot:
            raise BadUse("the grant names no slot: its end is not after its beginning")
        if grant.expires <= now:
            raise BadUse("the grant has expired already")
        if max(grant.to_slot, grant.expires) > _LATEST:
            raise BadUse("the grant reaches beyond the year 3000: give it an end")
        number = grant.digest(self._separator)
        if not self._owner_signed(grant.meter, number, signature):
            raise CheckFailed(f"the grant is not signed by the owner of meter {grant.meter}")
        with self._writing():
            if self._is_revoked(number, grant.meter):
                raise CheckFailed("this grant was revoked: sign a new one, with another nonce")
            self._db.execute(
                "INSERT INTO grants VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (
                    number,
                    grant.meter,
                    grant.reader,
                    grant.from_slot,
                    grant.to_slot,
                    grant.expires,
                    word(grant.nonce),  # up to 64 bits; SQLite's integers have 63
                    signature,
                    now,
                ),
            )
        return self.get(number)

    def revoke(self, meter: int, number: bytes, signature: bytes, now: int) -> None:
        """End a grant, also one that was signed but never brought here. CheckFailed unless the
        meter's owner signed that, and for a grant of another meter."""
        if not self._owner_signed(
            meter, revocation_digest(self._separator, meter, number), signature
        ):
            raise CheckFailed(f"the revocation is not signed by the owner of meter {meter}")
        with self._writing():
            held = self._rows("id = ?", number)
            if held and held[0].grant.meter != meter:
                raise CheckFailed(f"the grant is not one of meter {meter}")
            self._db.execute(
                "INSERT INTO revocation VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (number, meter, signature, now),
            )

    def get(self, number: bytes) -> Held:
        """A grant by its id. CheckFailed where there is none."""
        with self._turn:
            held = self._rows("id = ?", number)
        if not held:
            raise CheckFailed(f"there is no grant 0x{number.hex()}")
        return held[0]

    def of_meter(self, meter: int) -> list[Held]:
        """All grants of a meter, in order of taking."""
        with self._turn:
            return self._rows("meter = ?", meter)

    def accesses(self, meter: int) -> list[Access]:
        """Who asked for the meter's readings and what became of it, the oldest first."""
        with self._turn:
            rows = self._db.execute(
                "SELECT id, reader, outcome, first_slot, end_slot, slots, at, last_at, times "
                "FROM access WHERE meter = ? ORDER BY seq",
                (meter,),
            ).fetchall()
        return [Access(row[0], row[1], Outcome(row[2]), *row[3:]) for row in rows]

    def accesses_for_owner(
        self, meter: int, challenge: bytes, signature: bytes, now: int
    ) -> list[Access]:
        """As `accesses`, for whoever proves to be the owner over a challenge of the meter."""
        used = self._use(challenge, _subject_of_meter(meter), now)
        digest = record_digest(self._separator, meter, challenge)
        if not used or not self._owner_signed(meter, digest, signature):
            raise CheckFailed(f"only the owner of meter {meter} may see who read it")
        return self.accesses(meter)

    # what readers do

    def challenge(self, number: bytes, now: int) -> bytes:
        """32 random bytes that the reader signs for one access under this grant."""
        self.get(number)
        return self._new_challenge(number, now)

    def owner_challenge(self, meter: int, now: int) -> bytes:
        """32 random bytes that an owner signs to see the record once."""
        return self._new_challenge(_subject_of_meter(meter), now)

    def access(
        self,
        number: bytes,
        challenge: bytes,
        signature: bytes,
        now: int,
        first_slot: int | None = None,
        end_slot: int | None = None,
    ) -> tuple[Held, int, int]:
        """Judge a request under a grant: the grant, and the slots to give out, first and end.

        first_slot, end_slot: a part of the grant's slots; all of them where nothing is said.
        AccessRefused, on record, where the request gets nothing; CheckFailed for a grant that is
        not here. A request that passes is put on record by `give`.
        """
        held = self.get(number)
        grant = held.grant
        try:
            signer = eip712.recover(access_digest(self._separator, number, challenge), signature)
        except ValueError:
            signer = bytes(20)
        used = self._use(challenge, number, now)
        first = grant.from_slot if first_slot is None else first_slot
        end = grant.to_slot if end_slot is None else end_slot
        refused: Outcome | None = None
        if signer != grant.reader:
            refused = Outcome.FOREIGN
        elif not used:
            refused = Outcome.REPLAYED
        elif held.revoked_at is not None:
            refused = Outcome.REVOKED
        elif grant.expires <= now:
            refused = Outcome.EXPIRED
        elif not grant.from_slot <= first < end <= grant.to_slot:
            refused = Outcome.OUTSIDE
        if refused is not None:
            self._record(held, signer, refused, None, 0, now)
            raise AccessRefused(refused)
        return held, first, end

    def give(self, held: Held, slots: list[int], now: int) -> None:
        """Put on record that these slots are given out; before they are. AccessRefused for none,
        and where the grant was revoked since it was judged."""
        reader = held.grant.reader
        if self.get(held.id).revoked_at is not None:
            self._record(held, reader, Outcome.REVOKED, None, 0, now)
            raise AccessRefused(Outcome.REVOKED)
        if not slots:
            self._record(held, reader, Outcome.NOTHING, None, 0, now)
            raise AccessRefused(Outcome.NOTHING)
        self._record(held, reader, Outcome.READ, (min(slots), max(slots) + 1), len(slots), now)

    # inside

    def _new_challenge(self, subject: bytes, now: int) -> bytes:
        made = randomness.token_bytes(32)
        with self._writing():
            self._db.execute("DELETE FROM challenge WHERE until <= ?", (now,))
            self._db.execute(
                "DELETE FROM challenge WHERE rowid IN (SELECT rowid FROM challenge "
                "WHERE subject = ? ORDER BY rowid DESC LIMIT -1 OFFSET ?)",
                (subject, _MOST_CHALLENGES - 1),
            )
            self._db.execute(
                "INSERT INTO challenge VALUES (?, ?, ?)", (made, subject, now + CHALLENGE_SECONDS)
            )
        return made

    def _use(self, challenge: bytes, subject: bytes, now: int) -> bool:
        """Whether a challenge is open for this subject; it is not any more afterwards."""
        with self._writing():
            gone = self._db.execute(
                "DELETE FROM challenge WHERE challenge = ? AND subject = ? AND until > ?",
                (challenge, subject, now),
            )
        return gone.rowcount == 1

    def _record(
        self,
        held: Held,
        reader: bytes,
        outcome: Outcome,
        span: tuple[int, int] | None,
        slots: int,
        now: int,
    ) -> None:
        """One line for what is given out; a refusal is counted on the day's line of its kind, so
        asking cannot fill the disk."""
        first, end = span or (None, None)
        with self._writing():
            if outcome is not Outcome.READ:
                counted = self._db.execute(
                    "UPDATE access SET times = times + 1, last_at = ? "
                    "WHERE meter = ? AND id = ? AND outcome = ? AND at > ?",
                    (now, held.grant.meter, held.id, outcome, now - _DAY),
                )
                if counted.rowcount:
                    return
            self._db.execute(
                "INSERT INTO access (meter, id, reader, outcome, first_slot, end_slot, slots, at, "
                "last_at, times) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 1)",
                (held.grant.meter, held.id, reader, outcome, first, end, slots, now, now),
            )

    def _rows(self, where: str, value: object) -> list[Held]:
        rows = self._db.execute(
            "SELECT g.id, g.meter, reader, from_slot, to_slot, expires, nonce, taken_at, r.at "
            "FROM grants g LEFT JOIN revocation r ON r.id = g.id AND r.meter = g.meter "
            f"WHERE g.{where} ORDER BY taken_at, g.id",
            (value,),
        )
        return [
            Held(number, Grant(meter, reader, begin, end, expires, _number(nonce)), taken, revoked)
            for number, meter, reader, begin, end, expires, nonce, taken, revoked in rows
        ]

    def _is_revoked(self, number: bytes, meter: int) -> bool:
        return bool(
            self._db.execute(
                "SELECT count(*) FROM revocation WHERE id = ? AND meter = ?", (number, meter)
            ).fetchone()[0]
        )

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with self._turn:
            try:
                with transaction(self._db):
                    yield
            except sqlite3.Error as error:
                raise CheckFailed(f"cannot use the grants in {self.path}: {error}") from None


def _number(raw: bytes) -> int:
    return int.from_bytes(raw, "big")


def _subject_of_meter(meter: int) -> bytes:
    return b"owner of " + meter.to_bytes(4, "big")
