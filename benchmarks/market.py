# SPDX-License-Identifier: Apache-2.0
"""The solver against a plain-Python sort and sweep, on the same book, one after the other.

The peer is what one writes first: sort the bids from dear to cheap and the asks from cheap to
dear, and match them one by one. Both must reach the same welfare, which is the best there is.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from benchmarks.results import Number, Result, race
from dao.errors import CheckFailed
from dao.market.solver import ASK, BID, Ints, clear

SIZES = (10_000, 100_000)
SEED = 20_160_606


def run() -> Result:
    """Seconds for each size, and how many times as fast the solver is."""
    figures: dict[str, Number] = {}
    peers: dict[str, Number] = {}
    ratios: dict[str, Number] = {}
    for size in SIZES:
        side, limit, wh = random_book(size)
        rows = list(zip(side.tolist(), limit.tolist(), wh.tolist(), strict=True))
        ours, theirs, cleared = race(
            partial(clear, side, limit, wh), partial(sort_and_sweep, rows), repeat=10
        )
        if (welfare := sort_and_sweep(rows)) != cleared.welfare:
            raise CheckFailed(f"welfare of {size} orders: {cleared.welfare}, not {welfare}")
        figures[f"market.solve_{size}_s"] = ours
        peers[f"market.sort_and_sweep_{size}_s"] = theirs
        ratios[f"market.solver_vs_sweep_{size}"] = theirs / ours
    return Result(
        figures=figures,
        peers=peers,
        ratios=ratios,
        notes={f"market.solver_vs_sweep_{size}": "times as fast, same welfare" for size in SIZES},
    )


def random_book(size: int) -> tuple[Ints, Ints, Ints]:
    """Side, limit (micro-euro per Wh) and Wh of a seeded book in arrival order."""
    rng = np.random.default_rng([SEED, size])
    side = rng.integers(BID, ASK + 1, size)
    limit = np.where(side == BID, rng.integers(120, 420, size), rng.integers(60, 360, size))
    return side, limit, rng.integers(50, 2_000, size)


def sort_and_sweep(book: list[tuple[int, int, int]]) -> int:
    """Welfare of the book, matched in merit order in plain Python, with every order's fill."""
    bids = sorted(
        (i for i, (side, _, _) in enumerate(book) if side == BID), key=lambda i: -book[i][1]
    )
    asks = sorted(
        (i for i, (side, _, _) in enumerate(book) if side == ASK), key=lambda i: book[i][1]
    )
    left = [wh for _, _, wh in book]
    welfare = at_bid = at_ask = 0
    while at_bid < len(bids) and at_ask < len(asks):
        bid, ask = bids[at_bid], asks[at_ask]
        if book[bid][1] < book[ask][1]:
            break
        wh = min(left[bid], left[ask])
        welfare += wh * (book[bid][1] - book[ask][1])
        left[bid] -= wh
        left[ask] -= wh
        at_bid += left[bid] == 0
        at_ask += left[ask] == 0
    return welfare
