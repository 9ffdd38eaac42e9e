# SPDX-License-Identifier: Apache-2.0
"""Merkle trees of readings, of a dossier's files and of its bills. Pairs are sorted before hashing
and an odd node moves up as it is; `dao.leaves.root_above` follows a path."""

from __future__ import annotations

from collections.abc import Sequence

import sha3  # type: ignore[import-untyped]


def root_of(leaves: Sequence[bytes]) -> bytes:
    """The root over leaf hashes in their order; 32 zero bytes over none."""
    if not leaves:
        return bytes(32)
    level = leaves
    while len(level) > 1:
        level = parents(level)
    return level[0]


def parents(level: Sequence[bytes]) -> list[bytes]:
    """The nodes above those of a level."""
    hasher = sha3.keccak_256
    above = [
        hasher(a + b if a < b else b + a).digest()
        for a, b in zip(level[0::2], level[1::2], strict=False)
    ]
    if len(level) % 2:
        above.append(level[-1])
    return above
