# SPDX-License-Identifier: Apache-2.0
"""Whether a stored batch is what it says: its leaves against secrets, its signatures against keys.

Whether its root stands on chain is asked where a chain is at hand (`disclosure.py`, the collector).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dao.slots import SLOT_SECONDS
from meters.lake.batches import StoredBatch, signed_rows
from meters.leaves import MonthSecrets, leaves_of
from meters.signing import digests, recover_all

Periods = Sequence[tuple[bytes, int, int | None]]
"""A meter's keys: 20-byte address, valid from, valid to (unix seconds; None where open)."""


@dataclass(frozen=True)
class SignatureCheck:
    """What became of a batch's signatures, as rows (int64): `unsigned` ones are missing, edited or
    erased."""

    good: np.ndarray
    bad: np.ndarray
    unsigned: np.ndarray


def leaves_hold(stored: StoredBatch, secrets: MonthSecrets) -> bool:
    """Whether the values give the leaves. Erased rows cannot be asked; their leaves vouch for them.

    The root vouches for the leaves only, and totals are summed from the values.
    """
    kept = np.flatnonzero(~stored.erased)
    made = leaves_of(stored.readings.take(kept), secrets)
    return made == [stored.leaves[row] for row in kept.tolist()]


def verify_signatures(
    stored: StoredBatch,
    separator: bytes,
    keys: Mapping[int, Periods],
    workers: int | None = None,
) -> SignatureCheck:
    """Check every signature of a batch, its chain of links rebuilt, against the key of its time:
    the one valid in the last second of the slot."""
    signed = stored.readings.signature.any(axis=1)
    at = np.flatnonzero(signed)
    rows = signed_rows(stored, separator).take(at)
    found = recover_all(digests(separator, rows), rows.signature, workers)
    good = np.array(
        [
            bool(address) and address == key_at(keys.get(meter, ()), slot)
            for address, meter, slot in zip(
                found, rows.meter.tolist(), rows.slot.tolist(), strict=True
            )
        ],
        dtype=bool,
    )
    return SignatureCheck(at[good], at[~good], np.flatnonzero(~signed))


def key_at(periods: Periods, slot: int) -> bytes | None:
    """The address valid at the last second of a slot, None where none is."""
    moment = (slot + 1) * SLOT_SECONDS - 1
    for address, begins, ends in reversed(periods):
        if begins <= moment and (ends is None or moment < ends):
            return address
    return None
