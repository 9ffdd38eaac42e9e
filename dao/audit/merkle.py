# SPDX-License-Identifier: Apache-2.0
"""The tree over a dossier's files, and over its bills. Pairs are sorted before hashing and an odd
node moves up, as in the trees of readings, so `dao.leaves.root_above` checks a path here too."""

from __future__ import annotations

from collections.abc import Sequence

import sha3  # type: ignore[import-untyped]


def root_of(leaves: Sequence[bytes]) -> bytes:
    """The root over leaf hashes in their order; 32 zero bytes over none."""
    if not leaves:
        return bytes(32)
    level = list(leaves)
    while len(level) > 1:
        level = _parents(level)
    return level[0]


def path_of(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """The siblings from a leaf up to the root. IndexError outside the leaves."""
    if not 0 <= index < len(leaves):
        raise IndexError(f"no leaf {index} among {len(leaves)}")
    found, level = [], list(leaves)
    while len(level) > 1:
        if index ^ 1 < len(level):
            found.append(level[index ^ 1])
        level, index = _parents(level), index // 2
    return found


def _parents(level: Sequence[bytes]) -> list[bytes]:
    hasher = sha3.keccak_256
    parents = [
        hasher(a + b if a < b else b + a).digest()
        for a, b in zip(level[0::2], level[1::2], strict=False)
    ]
    if len(level) % 2:
        parents.append(level[-1])
    return parents
