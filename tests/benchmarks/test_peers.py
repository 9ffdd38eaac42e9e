# SPDX-License-Identifier: Apache-2.0
"""The peers do the same work: a ratio to something that does less would be worth nothing."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import market
from dao.market.solver import clear
from tests.dao.reference_market import most_welfare


@pytest.mark.parametrize("seed", range(20))
def test_sort_and_sweep_reaches_the_most_welfare(seed: int) -> None:
    rng = np.random.default_rng(seed)
    book = [
        (int(rng.integers(2)), int(rng.integers(1, 12)), int(rng.integers(1, 30)))
        for _ in range(int(rng.integers(0, 12)))
    ]
    named = [("ask" if side else "bid", limit, wh) for side, limit, wh in book]
    assert market.sort_and_sweep(book) == most_welfare(list(named))


def test_solver_and_sweep_agree_on_a_benchmark_book() -> None:
    side, limit, wh = market.random_book(500)
    rows = list(zip(side.tolist(), limit.tolist(), wh.tolist(), strict=True))
    assert market.sort_and_sweep(rows) == clear(side, limit, wh).welfare > 0


def test_books_are_the_same_every_time() -> None:
    for ours, again in zip(market.random_book(100), market.random_book(100), strict=True):
        assert (ours == again).all()
