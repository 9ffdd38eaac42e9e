# SPDX-License-Identifier: Apache-2.0
"""Salted leaves of readings and the Merkle tree over them.

A leaf is keccak of 85 bytes: domain tag (32), meter (4), slot (8), import Wh (4), export Wh (4),
quality (1), salt (32), numbers big-endian, null as 0xFFFFFFFF. An inner node is keccak of 64 bytes,
so neither can pass for the other. Pairs are sorted before hashing and an odd node moves up as it
is, which is what OpenZeppelin's and snekmate's Merkle proofs verify.

A salt comes from a secret of that home and UTC month: without it nobody can try out values against
a leaf, and once it is gone the month's leaves say nothing more, while the root still verifies.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import sha3  # type: ignore[import-untyped]

from dao.eip712 import keccak
from dao.leaves import LEAF_TAG, root_above
from dao.slots import SLOT_SECONDS
from meters.readings import Readings
from meters.signing import big_endian

LEAF_BYTES = 85


class MonthSecrets(Protocol):
    """Who keeps the homes' secrets. `month` counts from January 1970, UTC (`month_of`)."""

    def month_secret(self, meter: int, month: int) -> bytes:
        """32 bytes that only this home's keeper knows."""
        ...


class DerivedSecrets:
    """Month secrets derived from one master secret per home.

    They can be handed out month by month without opening another month. As long as a master is
    kept its months can be derived again: a keeper that erases has to store the months instead and
    drop the master. Both fit behind `MonthSecrets`.
    """

    def __init__(self, root: bytes) -> None:
        if len(root) < 16:
            raise ValueError("a root secret has at least 16 bytes")
        self._root = root

    def master(self, meter: int) -> bytes:
        """The master secret of one home, 32 bytes."""
        return hmac.digest(self._root, b"gridcommons home" + meter.to_bytes(4, "big"), "sha256")

    def month_secret(self, meter: int, month: int) -> bytes:
        return month_secret(self.master(meter), month)


def month_secret(master: bytes, month: int) -> bytes:
    """The secret of a UTC month of the home with this master secret: HMAC-SHA256, 32 bytes."""
    return hmac.digest(master, b"gridcommons month" + month.to_bytes(4, "big"), "sha256")


def month_of(slots: np.ndarray) -> np.ndarray:
    """The UTC month each slot begins in, counted from January 1970, int64."""
    seconds = np.asarray(slots, dtype=np.int64) * SLOT_SECONDS
    months: np.ndarray = seconds.astype("datetime64[s]").astype("datetime64[M]").astype(np.int64)
    return months


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

    known: dict[tuple[int, int], bytes] = {}
    hasher = sha3.keccak_256
    leaves: list[bytes] = []
    pairs = zip(readings.meter.tolist(), month_of(readings.slot).tolist(), strict=True)
    for i, pair in enumerate(pairs):
        secret = known.get(pair)
        if secret is None:
            secret = known[pair] = secrets.month_secret(*pair)
        row = packed[i * width : (i + 1) * width]
        leaves.append(hasher(row + hasher(secret + row[36:44]).digest()).digest())
    return leaves


def _parents(level: Sequence[bytes]) -> list[bytes]:
    hasher = sha3.keccak_256
    parents = [
        hasher(a + b if a < b else b + a).digest()
        for a, b in zip(level[0::2], level[1::2], strict=False)
    ]
    if len(level) % 2:
        parents.append(level[-1])
    return parents


def root_of_leaves(leaves: Sequence[bytes]) -> bytes:
    """The Merkle root over leaf hashes in their order. ValueError for no leaves.

    It needs the hashes only: rows whose values were erased verify like all others.
    """
    if not leaves:
        raise ValueError("a tree needs at least one leaf")
    level: Sequence[bytes] = leaves
    while len(level) > 1:
        level = _parents(level)
    return level[0]


def proof_of(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """The siblings from leaf `index` up to the root. IndexError outside the leaves."""
    if not 0 <= index < len(leaves):
        raise IndexError(f"no leaf {index} among {len(leaves)}")
    proof: list[bytes] = []
    level: Sequence[bytes] = leaves
    while len(level) > 1:
        sibling = index ^ 1
        if sibling < len(level):
            proof.append(level[sibling])
        level = _parents(level)
        index //= 2
    return proof


def verify_proof(root: bytes, leaf: bytes, proof: Sequence[bytes]) -> bool:
    """Whether `leaf` lies under `root`."""
    return root_above(leaf, proof) == root
