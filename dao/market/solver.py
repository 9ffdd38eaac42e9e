# SPDX-License-Identifier: Apache-2.0
"""The canonical uniform price of a slot's book, its fills and its welfare.

Pure functions on integer arrays; orders, signatures and files live elsewhere. The contract checks
the same rules without sorting; here the price is found first.

Why it is one price. Write D>p, D>=p for the bid energy above (at or above) p and S<p, S<=p for the
ask energy below (at or below) it. p clears exactly when max(D>p, S<p) <= min(D>=p, S<=p). Two of
the four comparisons always hold, so p clears exactly when

    D>p <= S<=p    (true from some price on: call the first one L)   and
    S<p <= D>=p    (true up to some price: call the last one H).

In a book that trades, both change only at limits of orders with energy, so L and H are such limits
and every integer in L..H clears. Canonical is (L + H) // 2. No order with energy has its limit
strictly between L and H, which is why two neighbours are enough for the contract to recompute L and
H from p. (Orders without energy in the slot must not count as neighbours; and a price must clear
and carry volume besides: outside L..H and in a book without trade the neighbour rule alone says
nothing.)

Why no allocation is worth more. Energy bought equals energy sold, so any allocation is worth the
same if each bid's value is counted less p and each ask's cost from p: at most the sum of Wh times
gain over the orders that gain at p. The fills reach that bound: who gains is filled whole, who
would lose not at all, who is at the price gains nothing. Nor does any price trade more: above p
there is D>p at most to buy, below it S<p at most to sell, and neither exceeds the volume at p.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

BID = 0
ASK = 1

NULL_PRICE = 65535
"""How "no trade" is written where a price must be a uint16."""

MAX_TOTAL_WH = 2**53 - 1
"""Most energy in a book. Sums are exact in float64 up to here, which the fast histogram uses."""

MAX_LIMIT = 2**32 - 1
"""Highest limit the solver takes, in micro-euro per Wh; orders on chain hold 16 bits."""

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Clearing:
    """What one slot's book comes to.

    price: micro-euro per Wh, None where nothing trades. volume_wh: Wh bought, equal to Wh sold.
    welfare: declared value of the energy bought minus declared cost of the energy sold, micro-euro.
    fills: Wh per order, int64, in the orders' own order.
    """

    price: int | None
    volume_wh: int
    welfare: int
    fills: Ints


@dataclass(frozen=True)
class SessionClearing:
    """What a session's book comes to: one Clearing per slot, columns of one matrix.

    prices: one per slot, None where nothing trades. volume_wh and welfare: per slot.
    fills: Wh, int64, shape (orders, slots).
    """

    prices: tuple[int | None, ...]
    volume_wh: tuple[int, ...]
    welfare: tuple[int, ...]
    fills: Ints

    @property
    def chain_prices(self) -> list[int]:
        """The prices as the contract takes them, `NULL_PRICE` for a slot without trade."""
        return [NULL_PRICE if price is None else price for price in self.prices]


def effective_limits(
    side: npt.ArrayLike,
    limit: npt.ArrayLike,
    *,
    band: tuple[int, int] | None = None,
    fee: int = 0,
) -> tuple[Ints, npt.NDArray[np.bool_] | None]:
    """Limits as the auction counts them, and which orders take part.

    A bid counts as min(limit - fee, band maximum), an ask as max(limit, band minimum), all in
    micro-euro per Wh; what then lies outside the band takes no part. Without a band only a bid
    that cannot even pay the fee is left out. None instead of a mask means that all take part.
    """
    side_array, limit_array = _sides(side), _ints("limit", limit, MAX_LIMIT)
    lowest, highest = (0, MAX_LIMIT) if band is None else band
    if not 0 <= lowest <= highest <= MAX_LIMIT:
        raise ValueError(f"band must be 0 <= minimum <= maximum <= {MAX_LIMIT}, not {band}")
    if not 0 <= fee <= MAX_LIMIT:
        raise ValueError(f"fee must be 0..{MAX_LIMIT}, not {fee}")
    if band is None and fee == 0:
        return limit_array, None
    effective = np.where(
        side_array == BID,
        np.minimum(limit_array - fee, highest),
        np.maximum(limit_array, lowest),
    )
    return effective, (effective >= lowest) & (effective <= highest)


def clear(
    side: npt.ArrayLike,
    limit: npt.ArrayLike,
    wh: npt.ArrayLike,
    *,
    band: tuple[int, int] | None = None,
    fee: int = 0,
) -> Clearing:
    """Clear one slot.

    side: 0 bid, 1 ask; limit: micro-euro per Wh; wh: Wh (0 takes no part and sets no price); all
    of one length, in arrival order. band and fee: micro-euro per Wh, as in force at the gate.
    Raises ValueError for arrays that do not fit together or values out of range.
    """
    sides, limits, energy = _sides(side), _ints("limit", limit, MAX_LIMIT), _energy(wh)
    if energy.ndim != 1 or not sides.shape == limits.shape == energy.shape:
        raise ValueError(
            f"side, limit and wh must be vectors of one length, not {sides.shape}, "
            f"{limits.shape}, {energy.shape}"
        )
    effective, taking_part = effective_limits(sides, limits, band=band, fee=fee)
    return _clear(sides, limits, energy, effective, taking_part)


def clear_session(
    side: npt.ArrayLike,
    limit: npt.ArrayLike,
    wh: npt.ArrayLike,
    *,
    band: tuple[int, int] | Sequence[tuple[int, int]] | None = None,
    fee: int | Sequence[int] = 0,
) -> SessionClearing:
    """Clear every slot of a session.

    side, limit: one per order; wh: shape (orders, slots), 0 where an order does not speak of a
    slot. band and fee: one for all slots, or one per slot (parameter windows differ by slot).
    """
    sides, limits, energy = _sides(side), _ints("limit", limit, MAX_LIMIT), _energy(wh)
    if energy.ndim != 2 or sides.shape != limits.shape or sides.shape != energy.shape[:1]:
        raise ValueError(
            f"side and limit must have one value per row of wh, not {sides.shape}, "
            f"{limits.shape}, {energy.shape}"
        )
    slots = energy.shape[1]
    bands = _per_slot_bands(band, slots)
    fees = [fee] * slots if isinstance(fee, (int, np.integer)) else [int(f) for f in fee]
    if len(fees) != slots:
        raise ValueError(f"{len(fees)} fees for {slots} slots")
    fills = np.zeros(energy.shape, dtype=np.int64)
    cleared: list[Clearing] = []
    for slot in range(slots):
        effective, taking_part = effective_limits(sides, limits, band=bands[slot], fee=fees[slot])
        column = np.ascontiguousarray(energy[:, slot])
        cleared.append(_clear(sides, limits, column, effective, taking_part))
        fills[:, slot] = cleared[-1].fills
    return SessionClearing(
        prices=tuple(c.price for c in cleared),
        volume_wh=tuple(c.volume_wh for c in cleared),
        welfare=tuple(c.welfare for c in cleared),
        fills=fills,
    )


def share(weights: npt.ArrayLike, amount: int) -> Ints:
    """Share `amount` in proportion to `weights` by cumulative rounding; the parts sum to it.

    With c the running sum of the weights, part i is c_i * amount // total - c_(i-1) * amount //
    total. Rationing, delivered Wh and penalties are all shared so. weights and amount are
    non-negative and total below 2**53; weights that sum to 0 get nothing.
    """
    running = np.cumsum(_energy(weights))
    total = int(running[-1]) if running.size else 0
    if not 0 <= amount <= MAX_TOTAL_WH:
        raise ValueError(f"amount must be 0..{MAX_TOTAL_WH}, not {amount}")
    if total == 0:
        return np.zeros(running.shape, dtype=np.int64)
    if total * amount < 2**63:
        upto = running * amount // total
    else:
        # The product needs up to 106 bits. A float quotient is off by a few units at most, so the
        # true remainder is a few totals at most: its low 64 bits, which wrapping int64 arithmetic
        # gives exactly, are the remainder itself, and correct the quotient.
        upto = np.floor(running.astype(np.float64) * (amount / total)).astype(np.int64)
        with np.errstate(over="ignore"):
            remainder = running * np.int64(amount) - upto * np.int64(total)
        upto += remainder // total
    return np.diff(upto, prepend=np.int64(0))


def _clear(
    sides: Ints,
    limits: Ints,
    energy: Ints,
    effective: Ints,
    taking_part: npt.NDArray[np.bool_] | None,
) -> Clearing:
    """One slot, arguments checked.

    Masks are multiplied in, not selected by: on random sides np.where mispredicts every second
    branch and takes ten times as long.
    """
    if taking_part is not None:
        # Without energy an order moves no sum, so its level no longer matters.
        effective, energy = effective * taking_part, energy * taking_part
    is_bid = sides == BID
    price, demand_above, supply_below, volume = _canonical(effective, energy, is_bid)
    if price is None:
        return Clearing(None, 0, 0, np.zeros(energy.shape, dtype=np.int64))
    # True for a bid above the price and an ask up to it; those at the price are set right after.
    fills = energy * ((effective > price) == is_bid)
    at_price = np.flatnonzero(effective == price)
    for orders, available in (
        (at_price[is_bid[at_price]], volume - demand_above),
        (at_price[~is_bid[at_price]], volume - supply_below),
    ):
        fills[orders] = share(energy[orders], available)
    return Clearing(price, volume, _welfare(limits, fills, is_bid, volume), fills)


def _canonical(
    effective: Ints, energy: Ints, is_bid: npt.NDArray[np.bool_]
) -> tuple[int | None, int, int, int]:
    """(price, D>p, S<p, volume) of a book; price None and zeros where nothing trades."""
    if not effective.size:
        return None, 0, 0, 0
    top = int(effective.max())
    levels: Ints | None = None
    index, size = effective, top + 1
    if size > 16 * effective.size + 256:
        # Limits far apart: a histogram over every price would be mostly empty.
        levels, index = np.unique(effective, return_inverse=True)
        size = levels.size
    bid_energy = energy * is_bid
    # bincount sums in float64: exact, since a book holds less than 2**53 Wh.
    demand = np.bincount(index, weights=bid_energy, minlength=size)
    supply = np.bincount(index, weights=energy - bid_energy, minlength=size)
    demand_from = np.zeros(size + 1)  # [i]: bids at level i or above
    demand_from[:size] = np.cumsum(demand[::-1])[::-1]
    supply_before = np.zeros(size + 1)  # [i]: asks under level i
    supply_before[1:] = np.cumsum(supply)
    if not np.any((demand_from[:-1] > 0) & (supply_before[1:] > 0)):
        return None, 0, 0, 0
    low = int(np.argmax(demand_from[1:] <= supply_before[1:]))
    high = size - 1 - int(np.argmax((supply_before[:-1] <= demand_from[:-1])[::-1]))
    if levels is None:
        price = (low + high) // 2
        first, after = price, price + 1
    else:
        price = (int(levels[low]) + int(levels[high])) // 2
        first = int(np.searchsorted(levels, price, side="left"))
        after = int(np.searchsorted(levels, price, side="right"))
    volume = min(int(demand_from[first]), int(supply_before[after]))
    return price, int(demand_from[after]), int(supply_before[first]), volume


def _welfare(limit: Ints, fills: Ints, is_bid: npt.NDArray[np.bool_], volume: int) -> int:
    """Declared value of what is bought minus declared cost of what is sold, exact."""
    bought = fills * is_bid
    if 2 * volume * int(limit.max()) < 2**63:
        return 2 * int(np.dot(limit, bought)) - int(np.dot(limit, fills))
    return sum(
        price * (2 * wh - filled)
        for price, wh, filled in zip(limit.tolist(), bought.tolist(), fills.tolist(), strict=True)
    )


def _ints(name: str, values: npt.ArrayLike, highest: int) -> Ints:
    array = np.asarray(values)
    if array.size == 0:
        return array.astype(np.int64)
    if array.dtype.kind not in "iu":
        raise ValueError(f"{name} must be whole numbers, not {array.dtype}")
    if int(array.min()) < 0 or int(array.max()) > highest:
        raise ValueError(f"{name} must be 0..{highest}, got {array.min()}..{array.max()}")
    return array.astype(np.int64, copy=False)


def _sides(side: npt.ArrayLike) -> Ints:
    return _ints("side", side, ASK)


def _energy(wh: npt.ArrayLike) -> Ints:
    array = _ints("wh", wh, MAX_TOTAL_WH)
    # A float sum cannot wrap; its rounding is far smaller than the distance to int64's end.
    if array.size and float(array.sum(dtype=np.float64)) > MAX_TOTAL_WH:
        raise ValueError(f"wh must sum to at most {MAX_TOTAL_WH} per book")
    return array


def _per_slot_bands(
    band: tuple[int, int] | Sequence[tuple[int, int]] | None, slots: int
) -> list[tuple[int, int] | None]:
    if band is None:
        return [None] * slots
    bands = np.asarray(band)
    if bands.shape == (2,):
        bands = np.tile(bands, (slots, 1))
    if bands.shape != (slots, 2):
        raise ValueError(f"band must be one pair or {slots} pairs, not shape {bands.shape}")
    return [(int(low), int(high)) for low, high in bands]
