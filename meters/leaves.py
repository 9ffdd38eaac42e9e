# SPDX-License-Identifier: Apache-2.0
"""Salted leaves of readings and of edit records, and the Merkle tree over them.

A reading's leaf is keccak of 85 bytes: domain tag (32), meter (4), slot (8), import Wh (4), export
Wh (4), quality (1), salt (32), numbers big-endian, null as 0xFFFFFFFF. A record's leaf is keccak
of 96: tag, salt, and the hash of the record's canonical bytes. An inner node is keccak of 64
bytes, so none can pass for another. Pairs are sorted before hashing and an odd node moves up as it
is, which is what OpenZeppelin's and snekmate's Merkle proofs verify. A batch's leaves are those of
its readings by meter and slot, then those of its records by meter, slot and number.

A salt comes from a secret of that home and UTC month (`secrets.py`): without it nobody can try out
values against a leaf, and once it is gone the month's leaves say nothing more, while the root still
verifies.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import sha3  # type: ignore[import-untyped]

from dao.eip712 import keccak
from dao.errors import BadUse
from dao.leaves import LEAF_TAG, root_above
from dao.merkle import parents, root_of
from dao.slots import SLOT_SECONDS, SLOTS_PER_DAY
from meters.readings import Readings
from meters.secrets import MonthSecrets, secrets_of
from meters.signing import big_endian

LEAF_BYTES = 85
RECORD_TAG = keccak(b"GridCommons edit record leaf v1")

# How far from its own slot a record can name another one.
_BACK, _AHEAD = 3 * 366 * SLOTS_PER_DAY, 31 * SLOTS_PER_DAY


class EditedRow(Protocol):
    """What a leaf needs to know of an edit record (`meters/vee`)."""

    @property
    def meter(self) -> int: ...

    @property
    def slot(self) -> int: ...

    def canonical(self) -> bytes:
        """The record as sorted compact JSON."""
        ...


def month_of(slots: np.ndarray) -> np.ndarray:
    """The UTC month each slot begins in, counted from January 1970, int64."""
    seconds = np.asarray(slots, dtype=np.int64) * SLOT_SECONDS
    months: np.ndarray = seconds.astype("datetime64[s]").astype("datetime64[M]").astype(np.int64)
    return months


def month_at(slot: int) -> int:
    """As `month_of`, of one slot."""
    return int(month_of(np.array([slot]))[0])


def first_slot_of_month(month: int) -> int:
    """The first slot of a UTC month counted from January 1970."""
    seconds = np.datetime64(month, "M").astype("datetime64[s]").astype(np.int64)
    return int(seconds) // SLOT_SECONDS


def salt_of(secret: bytes, slot: int) -> bytes:
    """The salt of one slot under a month's secret, 32 bytes.

    Keccak admits no length extension, so a secret prefix is a sound derivation.
    """
    return keccak(secret + slot.to_bytes(8, "big"))


def leaves_of(readings: Readings, secrets: MonthSecrets) -> list[bytes]:
    """The leaf of each reading, in order. Values must have passed validation."""
    n = len(readings)
    head = np.empty((n, LEAF_BYTES - 32), dtype=np.uint8)
    head[:, :32] = np.frombuffer(LEAF_TAG, dtype=np.uint8)
    head[:, 32:36] = big_endian(readings.meter, 4)
    head[:, 36:44] = big_endian(readings.slot, 8)
    head[:, 44:48] = big_endian(readings.import_wh, 4)
    head[:, 48:52] = big_endian(readings.export_wh, 4)
    head[:, 52] = readings.quality
    packed = head.tobytes()
    width = LEAF_BYTES - 32

    pairs = list(zip(readings.meter.tolist(), month_of(readings.slot).tolist(), strict=True))
    known = secrets_of(secrets, set(pairs))
    hasher = sha3.keccak_256
    leaves: list[bytes] = []
    for i, pair in enumerate(pairs):
        row = packed[i * width : (i + 1) * width]
        leaves.append(hasher(row + hasher(known[pair] + row[36:44]).digest()).digest())
    return leaves


def record_salt(month_secrets: bytes, slot: int, index: int) -> bytes:
    """The salt of a home's edit record number `index` of a slot, 32 bytes.

    month_secrets: the secrets of the months that the record speaks of (`months_of_record`), the
    earliest first, one after the other; mostly that is the one of its slot.
    """
    return keccak(month_secrets + b"record" + slot.to_bytes(8, "big") + index.to_bytes(4, "big"))


def record_leaf(canonical: bytes, salt: bytes) -> bytes:
    """The leaf of an edit record, 32 bytes."""
    return keccak(RECORD_TAG + salt + keccak(canonical))


def record_leaves(records: Sequence[EditedRow], secrets: MonthSecrets) -> list[bytes]:
    """The leaf of each edit record; records are sorted by meter, slot and number."""
    return [
        record_leaf(record.canonical(), salt)
        for record, salt in zip(records, record_salts(records, secrets), strict=True)
    ]


def record_salts(records: Sequence[EditedRow], secrets: MonthSecrets) -> list[bytes]:
    """The salt of each edit record; records are sorted by meter, slot and number."""
    months = [months_of_record(record.canonical()) for record in records]
    known = secrets_of(
        secrets, {(r.meter, month) for r, of in zip(records, months, strict=True) for month in of}
    )
    salts: list[bytes] = []
    at, index = (-1, -1), 0
    for record, of in zip(records, months, strict=True):
        index = index + 1 if (record.meter, record.slot) == at else 0
        at = (record.meter, record.slot)
        whole = b"".join(known[record.meter, month] for month in of)
        salts.append(record_salt(whole, record.slot, index))
    return salts


def stored_record_salt(
    canonical: bytes, meter: int, slot: int, index: int, secrets: MonthSecrets
) -> bytes:
    """The salt of one record as a file has it. ErasedSecret where a month that it needs is gone."""
    pairs = [(meter, month) for month in months_of_record(canonical)]
    known = secrets_of(secrets, pairs)
    return record_salt(b"".join(known[pair] for pair in pairs), slot, index)


def months_of_record(canonical: bytes) -> list[int]:
    """The UTC months a record speaks of, in order: from the earliest slot it names to the latest.

    A value of May that a record of June was made from could else be tried out with June's secret,
    after May was erased. BadUse for a record that is not readable.
    """
    slots = slots_named(canonical)
    first, last = month_of(np.array([min(slots), max(slots)], dtype=np.int64)).tolist()
    return list(range(first, last + 1))


def slots_named(canonical: bytes) -> set[int]:
    """Every slot that an edit record names, its own among them.

    Whatever the rule calls its inputs: a whole number from three years before the record's slot to
    a month after it is a slot. Energies are far below, times and signatures far above. A run that
    is given as `first` and `slots` names its last slot too. BadUse for a record that is not
    readable.
    """
    try:
        document = json.loads(canonical)
        own = document["slot"]
        if type(own) is not int:
            raise TypeError
        named = {own}
        for number in _numbers(document):
            if own - _BACK <= number <= own + _AHEAD:
                named.add(number)
        return named
    except (ValueError, KeyError, TypeError, RecursionError):
        raise BadUse("an edit record is not readable") from None


def _numbers(value: Any) -> Iterator[int]:
    if isinstance(value, dict):
        first, slots = value.get("first"), value.get("slots")
        if type(first) is int and type(slots) is int:
            yield first + slots - 1
        for held in value.values():
            yield from _numbers(held)
    elif isinstance(value, list):
        for held in value:
            yield from _numbers(held)
    elif type(value) is int:
        yield value


def root_of_leaves(leaves: Sequence[bytes]) -> bytes:
    """The Merkle root over leaf hashes in their order. ValueError for no leaves.

    It needs the hashes only: rows whose values were erased verify like all others.
    """
    if not leaves:
        raise ValueError("a tree needs at least one leaf")
    return root_of(leaves)


def proof_of(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """The siblings from leaf `index` up to the root. IndexError outside the leaves."""
    return proofs_of(leaves, [index])[0]


def proofs_of(leaves: Sequence[bytes], indices: Sequence[int]) -> list[list[bytes]]:
    """As `proof_of` for many leaves of one tree, which is built once."""
    for index in indices:
        if not 0 <= index < len(leaves):
            raise IndexError(f"no leaf {index} among {len(leaves)}")
    proofs: list[list[bytes]] = [[] for _ in indices]
    places = list(indices)
    level: Sequence[bytes] = leaves
    while len(level) > 1:
        for proof, place in zip(proofs, places, strict=True):
            if place ^ 1 < len(level):
                proof.append(level[place ^ 1])
        level = parents(level)
        places = [place // 2 for place in places]
    return proofs


def verify_proof(root: bytes, leaf: bytes, proof: Sequence[bytes]) -> bool:
    """Whether `leaf` lies under `root`."""
    return root_above(leaf, proof) == root
