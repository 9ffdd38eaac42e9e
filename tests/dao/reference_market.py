# SPDX-License-Identifier: Apache-2.0
"""The market's rules once more, as plainly as they can be written: the oracle of the fuzz tests.

Loops and Python integers only; shares no code with dao.market. A book is a list of
(side, limit, wh) in arrival order, side "bid" or "ask".
"""

from __future__ import annotations

from fractions import Fraction

Book = list[tuple[str, int, int]]


def effective_book(
    book: Book, band_min: int, band_max: int, fee: int
) -> list[tuple[str, int, int] | None]:
    """Each order with its effective limit, None for one that takes no part."""
    result: list[tuple[str, int, int] | None] = []
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


def four_sums(orders: list[tuple[str, int, int] | None], p: int) -> tuple[int, int, int, int]:
    """(D>p, D>=p, S<p, S<=p)."""
    d_above = d_from = s_below = s_upto = 0
    for order in orders:
        if order is None:
            continue
        side, limit, wh = order
        if side == "bid":
            if limit > p:
                d_above += wh
            if limit >= p:
                d_from += wh
        else:
            if limit < p:
                s_below += wh
            if limit <= p:
                s_upto += wh
    return d_above, d_from, s_below, s_upto


def trades(orders: list[tuple[str, int, int] | None]) -> bool:
    """Whether any bid meets any ask."""
    for bid in orders:
        for ask in orders:
            if bid is None or ask is None:
                continue
            if bid[0] == "bid" and ask[0] == "ask" and bid[1] >= ask[1]:
                return True
    return False


def clears(orders: list[tuple[str, int, int] | None], p: int) -> bool:
    d_above, d_from, s_below, s_upto = four_sums(orders, p)
    return max(d_above, s_below) <= min(d_from, s_upto)


def canonical_price(orders: list[tuple[str, int, int] | None], prices: range) -> int | None:
    """Midpoint, rounded down, of all clearing prices among `prices`; None without trade."""
    if not trades(orders):
        return None
    clearing = [p for p in prices if clears(orders, p)]
    assert clearing, "a book that trades has a clearing price"
    assert clearing == list(range(clearing[0], clearing[-1] + 1)), "they form an interval"
    return (clearing[0] + clearing[-1]) // 2


def accepted(orders: list[tuple[str, int, int] | None], p: int) -> bool:
    """The rule as the contract checks it in one pass: four sums and two neighbours."""
    d_above, d_from, s_below, s_upto = four_sums(orders, p)
    if max(d_above, s_below) > min(d_from, s_upto) or min(d_from, s_upto) == 0:
        return False
    below = above = None
    for order in orders:
        if order is None:
            continue
        limit = order[1]
        if limit < p and (below is None or limit > below):
            below = limit
        if limit > p and (above is None or limit < above):
            above = limit
    lo = hi = p
    if d_from == s_below:
        assert below is not None
        lo = below
    if d_above == s_upto:
        assert above is not None
        hi = above
    return p == (lo + hi) // 2


def fills_at(orders: list[tuple[str, int, int] | None], p: int) -> list[int]:
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


def most_welfare(orders: list[tuple[str, int, int] | None]) -> int:
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
