# SPDX-License-Identifier: Apache-2.0
"""One leaf of a batch of readings, and the root that a leaf and its siblings lead to.

Where salts come from, and what a batch's leaves are, is in `meters/leaves.py`; trees over leaves
are in `merkle.py`.
"""

from __future__ import annotations

from collections.abc import Iterable

from dao.eip712 import keccak

LEAF_TAG = keccak(b"GridCommons reading leaf v1")
NULL_WH = 0xFFFF_FFFF
"""Stands for an unknown value, which is not zero."""


def leaf_of(
    meter: int, slot: int, import_wh: int, export_wh: int, quality: int, salt: bytes
) -> bytes:
    """One leaf, 32 bytes; `NULL_WH` stands for null. What a verifier recomputes."""
    return keccak(
        LEAF_TAG
        + meter.to_bytes(4, "big")
        + slot.to_bytes(8, "big")
        + import_wh.to_bytes(4, "big")
        + export_wh.to_bytes(4, "big")
        + quality.to_bytes(1, "big")
        + salt
    )


def root_above(leaf: bytes, path: Iterable[bytes]) -> bytes:
    """The root that a leaf and its siblings lead to; pairs are sorted before hashing.

    As OpenZeppelin's and snekmate's Merkle proofs compute it.
    """
    node = leaf
    for sibling in path:
        node = keccak(min(node, sibling) + max(node, sibling))
    return node
