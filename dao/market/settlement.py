# SPDX-License-Identifier: Apache-2.0
"""What a settlement pays, computed again off chain from fills and receipts.

The contract decides; this says beforehand what it will decide, per order and slot, which the
chain's own sums per order do not show.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dao.market.book import session_book
from dao.market.orders import ASK, BID, Order
from dao.market.solver import SessionClearing, share

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Settlement:
    """A settled session; all arrays (orders, slots) int64 unless said otherwise.

    filled_wh: what clearing gave each order; delivered_wh: what the sellers' meters proved of it,
    shared over the buyers; paid: money for delivered energy, received by asks, spent by bids (grid
    fee included); penalty: money for energy not delivered, paid by asks, received by bids.
    missing_wh: (slots,) filled and not proved. held: (orders,) escrow; credit: (orders,) what
    returns to the account at settlement. fees: (slots,) grid fees.
    """

    filled_wh: Ints
    delivered_wh: Ints
    paid: Ints
    penalty: Ints
    missing_wh: Ints
    held: Ints
    credit: Ints
    fees: Ints


def settle_session(
    orders: Sequence[Order],
    slots: int,
    clearing: SessionClearing,
    exports: Mapping[int, Sequence[int]],
    zone_export: Sequence[int],
    fee: Sequence[int],
    penalty_rate: int,
) -> Settlement:
    """Settle a session of `slots` slots.

    orders: in order of arrival; exports: per meter the Wh its receipt proves per slot, a missing
    meter has delivered nothing; zone_export: Wh per slot that the ledger says the zone exported,
    beyond which nothing is paid or punished; fee: µ€/Wh per slot; penalty_rate: µ€ per Wh not
    delivered.
    """
    book = session_book(orders, slots)
    filled = np.asarray(clearing.fills, dtype=np.int64)
    delivered = np.zeros_like(filled)
    paid = np.zeros_like(filled)
    penalty = np.zeros_like(filled)
    missing = np.zeros(slots, dtype=np.int64)
    asks = [i for i, order in enumerate(orders) if order.side == ASK]
    bids = np.flatnonzero(book.side == BID)
    left = {o.account: list(exports.get(o.account, [0] * slots)) for o in orders if o.side == ASK}
    for slot in range(slots):
        price = clearing.prices[slot]
        if price is None:
            continue
        room = zone_export[slot]
        for i in asks:
            proven = min(int(filled[i, slot]), left[orders[i].account][slot])
            left[orders[i].account][slot] -= proven
            served = min(proven, room)
            room -= served
            delivered[i, slot] = served
            paid[i, slot] = served * price
            missing[slot] += int(filled[i, slot]) - proven
            penalty[i, slot] = (int(filled[i, slot]) - proven) * penalty_rate
        delivered[bids, slot] = share(filled[bids, slot], int(delivered[asks, slot].sum()))
        paid[bids, slot] = delivered[bids, slot] * (price + fee[slot])
        penalty[bids, slot] = share(filled[bids, slot], int(penalty[asks, slot].sum()))
    is_ask = book.side == ASK
    held = book.wh.sum(axis=1) * np.where(is_ask, penalty_rate, book.limit)
    moved = paid.sum(axis=1) - penalty.sum(axis=1)
    return Settlement(
        filled_wh=filled,
        delivered_wh=delivered,
        paid=paid,
        penalty=penalty,
        missing_wh=missing,
        held=held,
        credit=held + np.where(is_ask, moved, -moved),
        fees=delivered[asks].sum(axis=0) * np.asarray(fee, dtype=np.int64),
    )
