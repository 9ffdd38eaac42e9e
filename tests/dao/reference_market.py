# SPDX-License-Identifier: Apache-2.0
"""The market's rules once more, as plainly as they can be written: the oracle of the fuzz tests.

Each rule is asked of every price there is; NumPy only asks it of all prices at once. Shares no code
with dao.market. A book is a list of (side, limit, wh) in arrival order, side "bid" or "ask".
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

Book = list[tuple[str, int, int]]
Effective = list[tuple[str, int, int] | None]

MAX_LIMIT = 65_534
"""Highest limit that an order on chain can carry, in micro-euro per Wh."""

MAX_WH = 65_535
"""Most Wh that an order on chain can carry in one slot."""


@dataclass(frozen=True)
class SmallBook:
    """One slot's book with what was in force at its gate; prices in micro-euro per Wh.

    orders: in arrival order, limits as declared. band: lowest and highest price allowed.
    """

    orders: Book
    band: tuple[int, int]
    fee: int


def random_book(seed: int) -> SmallBook:
    """A book of up to eleven orders, made to meet the edges of the rules; the same for one seed.

    Few distinct limits, so that ties abound and books touch at one price; at 0, at the maximum or
    far apart; one side only; bands and fees that cut; orders with 0 Wh and with all the Wh there
    can be. Limits and Wh fit an order on chain. 20,000 seeds in a row hold every case many times.
    """
    rng = random.Random(seed)
    span = rng.choice((0, 1, 3, 12, 12))
    base = rng.choice((0, 0, 100, MAX_LIMIT - span))
    levels = list(range(base, base + span + 1))
    if rng.random() < 0.1:
        levels = [0, 1, 32_767, MAX_LIMIT - 1, MAX_LIMIT, rng.randint(0, MAX_LIMIT)]
    band, fee = (0, MAX_LIMIT), 0
    if rng.random() < 0.5:
        lowest = rng.choice((0, rng.choice(levels)))
        highest = rng.choice((MAX_LIMIT, rng.choice(levels)))
        band = (min(lowest, highest), max(lowest, highest))
        fee = rng.choice((0, 1, 4, 110))
    # Most bids carry the fee on top, so that books with a fee trade as often as those without.
    on_top = rng.choice((fee, fee, fee, fee, 0))
    sides = rng.choice([("bid", "ask")] * 14 + [("bid",), ("ask",)])
    most = rng.choice((1, 4, 40, MAX_WH))
    orders = []
    for _ in range(rng.choice((0, 1, 2, 3, 4, 5, 6, 8, 8, 11, 11))):
        side = rng.choice(sides)
        limit = min(rng.choice(levels) + (on_top if side == "bid" else 0), MAX_LIMIT)
        orders.append((side, limit, rng.choice((0, most, *[rng.randint(1, most)] * 6))))
    return SmallBook(orders, band, fee)


def effective_book(book: Book, band_min: int, band_max: int, fee: int) -> Effective:
    """Each order with its effective limit, None for one that takes no part."""
    result: Effective = []
    for side, limit, wh in book:
        if side == "bid":
            effective = limit - fee
            if effective > band_max:
                effective = band_max
        else:
            effective = limit
            if effective < band_min:
                effective = band_min
        if wh == 0 or effective < band_min or effective > band_max:
            result.append(None)
        else:
            result.append((side, effective, wh))
    return result


def prices_around(orders: Effective) -> range:
    """From one below the lowest limit to one above the highest.

    Further out one side of the book is empty, as it is at the two ends.
    """
    limits = [order[1] for order in orders if order] or [0]
    return range(min(limits) - 1, max(limits) + 2)


def four_sums(orders: Effective, p: Any) -> tuple[Any, Any, Any, Any]:
    """(D>p, D>=p, S<p, S<=p) at one price, or at each of an array of prices."""
    d_above, d_from, s_below, s_upto = (0 * p for _ in range(4))
    for order in orders:
        if order is None:
            continue
        side, limit, wh = order
        if side == "bid":
            d_above += wh * (limit > p)
            d_from += wh * (limit >= p)
        else:
            s_below += wh * (limit < p)
            s_upto += wh * (limit <= p)
    return d_above, d_from, s_below, s_upto


def trades(orders: Effective) -> bool:
    """Whether any bid meets any ask."""
    for bid in orders:
        for ask in orders:
            if bid is None or ask is None:
                continue
            if bid[0] == "bid" and ask[0] == "ask" and bid[1] >= ask[1]:
                return True
    return False


def clearing_prices(orders: Effective, prices: range) -> list[int]:
    """All of `prices` at which each side can serve all of the other that is better than it."""
    p = np.arange(prices.start, prices.stop)
    d_above, d_from, s_below, s_upto = four_sums(orders, p)
    found: list[int] = p[np.maximum(d_above, s_below) <= np.minimum(d_from, s_upto)].tolist()
    return found


def canonical_price(orders: Effective, prices: range) -> int | None:
    """Midpoint, rounded down, of all clearing prices among `prices`; None without trade."""
    if not trades(orders):
        return None
    clearing = clearing_prices(orders, prices)
    assert clearing, "a book that trades has a clearing price"
    assert clearing == list(range(clearing[0], clearing[-1] + 1)), "they form an interval"
    return (clearing[0] + clearing[-1]) // 2


def accepted_prices(orders: Effective, prices: range) -> list[int]:
    """All of `prices` that pass as the contract checks one: four sums and two neighbours."""
    p = np.arange(prices.start, prices.stop)
    d_above, d_from, s_below, s_upto = four_sums(orders, p)
    volume = np.minimum(d_from, s_upto)
    clears = (np.maximum(d_above, s_below) <= volume) & (volume > 0)
    nobody = -1
    below = above = np.full(p.shape, nobody)
    for order in orders:
        if order is None:
            continue
        limit = order[1]
        below = np.where((limit < p) & ((below == nobody) | (limit > below)), limit, below)
        above = np.where((limit > p) & ((above == nobody) | (limit < above)), limit, above)
    at_below, at_above = clears & (d_from == s_below), clears & (d_above == s_upto)
    assert not np.any(at_below & (below == nobody)), "the neighbour asked for exists"
    assert not np.any(at_above & (above == nobody)), "the neighbour asked for exists"
    lo, hi = np.where(at_below, below, p), np.where(at_above, above, p)
    found: list[int] = p[clears & (p == (lo + hi) // 2)].tolist()
    return found


def fills_at(orders: Effective, p: int) -> list[int]:
    """Better orders whole; those at the price rationed by cumulative rounding, per side."""
    d_above, d_from, s_below, s_upto = four_sums(orders, p)
    volume = min(d_from, s_upto)
    left = {"bid": volume - d_above, "ask": volume - s_below}
    total = {"bid": d_from - d_above, "ask": s_upto - s_below}
    running = {"bid": 0, "ask": 0}
    fills = []
    for order in orders:
        if order is None:
            fills.append(0)
            continue
        side, limit, wh = order
        if limit == p:
            before = running[side]
            running[side] += wh
            fills.append(
                running[side] * left[side] // total[side] - before * left[side] // total[side]
            )
        elif (side == "bid") == (limit > p):
            fills.append(wh)
        else:
            fills.append(0)
    return fills


def most_welfare(orders: Effective) -> int:
    """The best any allocation can do: dearest bid with cheapest ask, Wh by Wh in merit order."""
    bids = sorted(([o[1], o[2]] for o in orders if o and o[0] == "bid"), reverse=True)
    asks = sorted([o[1], o[2]] for o in orders if o and o[0] == "ask")
    best = i = j = 0
    while i < len(bids) and j < len(asks) and bids[i][0] > asks[j][0]:
        wh = min(bids[i][1], asks[j][1])
        best += wh * (bids[i][0] - asks[j][0])
        bids[i][1] -= wh
        asks[j][1] -= wh
        if bids[i][1] == 0:
            i += 1
        if asks[j][1] == 0:
            j += 1
    return best


def exact_share(weights: list[int], amount: int) -> list[Fraction]:
    """What each would get if energy came in fractions."""
    return [Fraction(w * amount, sum(weights)) for w in weights]
