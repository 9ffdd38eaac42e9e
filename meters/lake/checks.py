# SPDX-License-Identifier: Apache-2.0
"""Whether a stored batch is what it says: its leaves against secrets, its signatures against keys.

Whether its root stands on chain is asked where a chain is at hand (`disclosure.py`, the collector).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from meters.lake.batches import StoredBatch, signed_rows
from meters.leaves import leaves_of, record_leaf, stored_record_salt
from meters.registry import KeyPeriods, verified
from meters.secrets import ErasedSecret, MonthSecrets


@dataclass(frozen=True)
class SignatureCheck:
    """What became of a batch's signatures, as rows (int64): `unsigned` ones are missing, edited or
    erased."""

    good: np.ndarray
    bad: np.ndarray
    unsigned: np.ndarray


def leaves_hold(stored: StoredBatch, secrets: MonthSecrets) -> bool:
    """Whether the values, and the edit records, give the leaves.

    What was erased cannot be asked; its leaves vouch for it. The root vouches for the leaves only,
    and totals are summed from the values.
    """
    kept = np.flatnonzero(~stored.erased)
    made = leaves_of(stored.readings.take(kept), secrets)
    if made != [stored.leaves[row] for row in kept.tolist()]:
        return False
    rows = stored.record_rows
    # The number of a record among those of its row, counted over erased ones too.
    numbers = np.arange(len(rows)) - np.searchsorted(rows, rows)
    columns = zip(
        rows.tolist(), numbers.tolist(), stored.records, stored.record_leaves, strict=True
    )
    for row, number, record, leaf in columns:
        if record is None:
            continue
        meter, slot = int(stored.readings.meter[row]), int(stored.readings.slot[row])
        try:
            salt = stored_record_salt(record, meter, slot, number, secrets)
        except ErasedSecret:
            continue  # it reaches over an erased month
        if record_leaf(record, salt) != leaf:
            return False
    return True


def verify_signatures(
    stored: StoredBatch, separator: bytes, keys: KeyPeriods, workers: int | None = None
) -> SignatureCheck:
    """Check every signature of a batch, its chain of links rebuilt, against the key of its time:
    the one valid in the last second of the slot."""
    signed = stored.readings.signature.any(axis=1)
    at = np.flatnonzero(signed)
    good, _links = verified(signed_rows(stored, separator).take(at), keys, separator, workers)
    return SignatureCheck(at[good], at[~good], np.flatnonzero(~signed))
