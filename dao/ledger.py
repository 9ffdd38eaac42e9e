# SPDX-License-Identifier: Apache-2.0
"""How zone totals are packed for `ReadingLedger`, and how a batch gets there.

What goes in comes from a committed batch of `meters`; nothing here sees a single home.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from dao.chain import Account, Contract, Receipt
from dao.errors import BadUse, CheckFailed
from dao.slots import SLOTS_PER_DAY

SLOTS_PER_WORD = 4
_LANE = 64


def pack_totals(net_wh: npt.ArrayLike, export_wh: npt.ArrayLike) -> list[int]:
    """Net and export Wh per slot as the words that `ReadingLedger.commit` takes.

    Both have one value per slot, a multiple of 4 of them. Net fits an int32, export a uint32.
    BadUse where they do not.
    """
    net = np.asarray(net_wh, dtype=np.int64)
    export = np.asarray(export_wh, dtype=np.int64)
    if net.shape != export.shape or net.ndim != 1 or len(net) % SLOTS_PER_WORD:
        raise BadUse(f"totals need pairs for whole hours, not {net.shape} and {export.shape}")
    if ((net < -(2**31)) | (net >= 2**31) | (export < 0) | (export >= 2**32)).any():
        raise BadUse("totals of a slot must fit 32 bits: net -2^31..2^31-1, export 0..2^32-1 Wh")
    words = []
    for start in range(0, len(net), SLOTS_PER_WORD):
        word = 0
        for i in range(SLOTS_PER_WORD):
            lane = (int(export[start + i]) << 32) | (int(net[start + i]) & 0xFFFFFFFF)
            word |= lane << (_LANE * i)
        words.append(word)
    return words


def unpack_totals(words: Sequence[int], slots: int) -> tuple[np.ndarray, np.ndarray]:
    """Inverse of `pack_totals`: net and export Wh per slot, int64."""
    net = np.empty(slots, dtype=np.int64)
    export = np.empty(slots, dtype=np.int64)
    for i in range(slots):
        lane = words[i // SLOTS_PER_WORD] >> (_LANE * (i % SLOTS_PER_WORD))
        low = lane & 0xFFFFFFFF
        net[i] = low - (1 << 32) if low >> 31 else low
        export[i] = (lane >> 32) & 0xFFFFFFFF
    return net, export


def commit(
    ledger: Contract,
    collector: Account,
    *,
    zone: int,
    first_slot: int,
    root: bytes,
    homes: int,
    leaves: int,
    net_wh: npt.ArrayLike,
    export_wh: npt.ArrayLike,
) -> Receipt:
    """Commit a zone's next batch as its collector."""
    words = pack_totals(net_wh, export_wh)
    slots = len(words) * SLOTS_PER_WORD
    return ledger.transact(
        "commit", zone, first_slot, slots, root, homes, leaves, words, sender=collector
    )


def correct(
    ledger: Contract,
    collector: Account,
    *,
    zone: int,
    first_slot: int,
    root: bytes,
    homes: int,
    leaves: int,
    net_wh: npt.ArrayLike,
    export_wh: npt.ArrayLike,
) -> Receipt:
    """Publish the second and last version of a batch as its collector.

    Everything is that of the whole batch, corrected or not. The ledger takes it inside
    `correction_window` only.
    """
    words = pack_totals(net_wh, export_wh)
    return ledger.transact(
        "correct", zone, first_slot, root, homes, leaves, words, sender=collector
    )


def correction_window(ledger: Contract, zone: int, first_slot: int) -> tuple[int, int]:
    """From when on, and before when, the batch that starts with `first_slot` can be corrected;
    unix seconds. CheckFailed where the ledger has no such batch."""
    if not ledger.call("version_of", zone, first_slot):
        raise CheckFailed(f"the ledger of zone {zone} has no batch that starts at {first_slot}")
    opens, closes = ledger.call("correction_window", zone, first_slot)
    return int(opens), int(closes)


def read_totals(
    ledger: Contract, zone: int, first_slot: int, end_slot: int
) -> tuple[np.ndarray, np.ndarray]:
    """The newest published totals of the slots in [first_slot, end_slot): net and export Wh, int64.

    Raises CheckFailed where the ledger does not reach that far.
    """
    until = int(ledger.call("committed_until", zone))
    if end_slot > until:
        raise CheckFailed(f"the ledger of zone {zone} ends at slot {until}, before {end_slot}")
    lanes: list[int] = []
    for start in range(first_slot, end_slot, SLOTS_PER_DAY):
        count = min(SLOTS_PER_DAY, end_slot - start)
        lanes += ledger.call("totals", zone, start, count)
    table = np.array(lanes, dtype=np.uint64)
    net = (table & np.uint64(0xFFFFFFFF)).astype(np.uint32).view(np.int32).astype(np.int64)
    return net, (table >> np.uint64(32)).astype(np.int64)
