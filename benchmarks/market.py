# SPDX-License-Identifier: Apache-2.0
"""The solver beside two peers on the same books, and its welfare beside the optimum.

The first peer is what one writes first: sort the bids from dear to cheap and the asks from cheap to
dear, and match them one by one. The second is MUDA, the multi-unit double auction of `pymarket`.
The optimum is that of a linear program, solved by HiGHS.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial

import numpy as np
from scipy.optimize import linprog

from benchmarks.results import Number, Result, race, seconds
from dao.errors import CheckFailed
from dao.market.solver import ASK, BID, Ints, clear

SIZES = (10_000, 100_000)
PYMARKET_SIZE = 10_000
SEED = 20_160_606


def run() -> Result:
    """Seconds for each size, how many times as fast the solver is, and shares of the optimum.

    Raises CheckFailed where pymarket is not installed, or where a welfare is not the optimum.
    """
    pymarket = pymarket_muda(*random_book(PYMARKET_SIZE))
    figures: dict[str, Number] = {}
    peers: dict[str, Number] = {}
    ratios: dict[str, Number] = {}
    notes: dict[str, str] = {}
    for size in SIZES:
        side, limit, wh = book = random_book(size)
        best = optimum(side, limit, wh)
        rows = list(zip(side.tolist(), limit.tolist(), wh.tolist(), strict=True))
        ours, sweep, cleared = race(partial(clear, *book), partial(sort_and_sweep, rows), repeat=10)
        for name, welfare in (("solver", cleared.welfare), ("sweep", sort_and_sweep(rows))):
            if welfare != best:
                raise CheckFailed(f"welfare of {size} orders by the {name}: {welfare}, not {best}")
        if size == PYMARKET_SIZE:
            theirs, welfare = seconds(pymarket, repeat=2)
            peers[f"market.pymarket_{size}_s"] = theirs
            peers[f"market.pymarket_welfare_share_{size}"] = welfare / best
            ratios[f"market.solver_vs_pymarket_{size}"] = theirs / ours
            notes[f"market.solver_vs_pymarket_{size}"] = "times as fast"
            notes[f"market.pymarket_welfare_share_{size}"] = "of the optimum"
        figures[f"market.solve_{size}_s"] = ours
        figures[f"market.welfare_share_{size}"] = cleared.welfare / best
        peers[f"market.sort_and_sweep_{size}_s"] = sweep
        ratios[f"market.solver_vs_sweep_{size}"] = sweep / ours
        notes[f"market.solver_vs_sweep_{size}"] = "times as fast, same welfare"
        notes[f"market.welfare_share_{size}"] = "of the linear program's optimum"
    return Result(figures=figures, peers=peers, ratios=ratios, notes=notes)


def random_book(size: int) -> tuple[Ints, Ints, Ints]:
    """Side, limit (micro-euro per Wh) and Wh of a seeded book in arrival order."""
    rng = np.random.default_rng([SEED, size])
    side = rng.integers(BID, ASK + 1, size)
    limit = np.where(side == BID, rng.integers(120, 420, size), rng.integers(60, 360, size))
    return side, limit, rng.integers(50, 2_000, size)


def optimum(side: Ints, limit: Ints, wh: Ints) -> int:
    """The most welfare that any allocation of the book has, micro-euro.

    As a linear program: fill each order between nothing and its Wh, as much bought as sold. Its one
    row holds 1 and -1 only, so all its corners, and the best of them, are in whole Wh.
    """
    sign = np.where(side == BID, 1, -1)
    solved = linprog(
        -sign * limit,
        A_eq=sign[np.newaxis],
        b_eq=[0],
        bounds=np.column_stack([np.zeros_like(wh), wh]),
        method="highs",
    )
    if solved.status != 0:
        raise CheckFailed(f"the linear program of {side.size} orders: {solved.message}")
    fills = np.rint(solved.x).astype(np.int64)
    if int(sign @ fills) != 0:
        raise CheckFailed(
            f"the linear program of {side.size} orders buys more or less than it sells"
        )
    return int((sign * limit) @ fills)


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


def pymarket_muda(side: Ints, limit: Ints, wh: Ints) -> Callable[[], int]:
    """An auction of the book by pymarket, ready to run: each run returns its welfare, micro-euro.

    Raises CheckFailed where pymarket is not installed.
    """
    try:
        import pymarket
    except ImportError:
        raise CheckFailed(
            "pymarket, which the solver is measured against, is not installed: run "
            "`make setup-bench` (or `make bench`, which begins with it)"
        ) from None

    # MUDA asks for limits that differ on each side, and finds no price where a bid's is an ask's.
    # So equal limits are told apart by arrival, and bids from asks, all by less than one
    # micro-euro: every bid still meets the asks that it met.
    apart = (np.arange(side.size) / side.size + (side == BID)) / 2
    market = pymarket.Market()
    for user, (price, energy) in enumerate(zip((limit + apart).tolist(), wh.tolist(), strict=True)):
        market.accept_bid(energy, price, user, bool(side[user] == BID))

    def auction() -> int:
        with warnings.catch_warnings():
            # What it was written for is older than the pandas here, which says so at every step.
            warnings.simplefilter("ignore")
            # It halves the market by lot: the same lot every time.
            transactions, _ = market.run("muda", np.random.RandomState(SEED))
        filled = transactions.get_df()
        order, energy = filled.bid.to_numpy(np.int64), filled.quantity.to_numpy(np.int64)
        sign = np.where(side[order] == BID, 1, -1)
        if int(sign @ energy) != 0:
            raise CheckFailed("pymarket buys more or less than it sells")
        return int((sign * limit[order]) @ energy)

    return auction
