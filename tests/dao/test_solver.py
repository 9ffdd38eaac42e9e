# SPDX-License-Identifier: Apache-2.0
"""The solver against brute force over every integer price, book by book."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dao.market.solver import (
    ASK,
    BID,
    MAX_TOTAL_WH,
    NULL_PRICE,
    Clearing,
    clear,
    clear_session,
    share,
)
from tests.dao import reference_market as reference

SMALL_TOP = 12


def solve(book: reference.Book, low: int, high: int, fee: int) -> Clearing:
    return clear(
        [BID if side == "bid" else ASK for side, _, _ in book],
        [limit for _, limit, _ in book],
        [wh for _, _, wh in book],
        band=(low, high),
        fee=fee,
    )


def assert_agrees(book: reference.Book, low: int, high: int, fee: int, prices: range) -> bool:
    """Solver, brute force and the contract's rule agree. Returns whether the book traded."""
    orders = reference.effective_book(book, low, high, fee)
    expected = reference.canonical_price(orders, prices)
    got = solve(book, low, high, fee)
    assert got.price == expected, (book, low, high, fee)
    assert [p for p in prices if reference.accepted(orders, p)] == (
        [] if expected is None else [expected]
    ), (book, low, high, fee)
    fills = [0] * len(book) if expected is None else reference.fills_at(orders, expected)
    assert got.fills.tolist() == fills, (book, low, high, fee)
    bought = sum(f for f, o in zip(fills, book, strict=True) if o[0] == "bid")
    sold = sum(f for f, o in zip(fills, book, strict=True) if o[0] == "ask")
    assert bought == sold == got.volume_wh
    declared = sum(
        f * limit * (1 if side == "bid" else -1)
        for f, (side, limit, _) in zip(fills, book, strict=True)
    )
    assert got.welfare == declared
    effective = sum(
        f * o[1] * (1 if o[0] == "bid" else -1) for f, o in zip(fills, orders, strict=True) if o
    )
    assert effective == reference.most_welfare(orders), (book, low, high, fee)
    return expected is not None


def random_book(rng: random.Random) -> tuple[reference.Book, int, int, int]:
    top = rng.choice((1, 3, SMALL_TOP))
    most = rng.choice((1, 4, 40, 65535))
    sides = rng.choice([("bid", "ask")] * 8 + [("bid",), ("ask",)])
    book = [
        (rng.choice(sides), rng.randint(0, top), rng.choice((0, most, *[rng.randint(1, most)] * 6)))
        for _ in range(rng.choice((0, 1, 2, 3, 5, 8, 11)))
    ]
    if rng.random() < 0.5:
        return book, 0, SMALL_TOP, 0
    low = rng.randint(0, top)
    return book, low, rng.randint(low, SMALL_TOP), rng.randint(0, 4)


@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_brute_force_on_thousands_of_small_books(seed: int) -> None:
    rng = random.Random(seed)
    traded = sum(assert_agrees(*random_book(rng), range(-1, SMALL_TOP + 2)) for _ in range(6000))
    assert traded > 1500


def test_agrees_at_the_top_of_the_price_range() -> None:
    rng = random.Random(65535)
    for _ in range(1500):
        book = [
            (
                rng.choice(("bid", "ask")),
                rng.choice((65535, 65534, 65533, rng.randint(65525, 65535))),
                rng.choice((1, 65534, 65535)),
            )
            for _ in range(rng.randint(2, 8))
        ]
        fee = rng.choice((0, 0, 3))
        assert_agrees(book, 0, 65535, fee, range(65515, 65537))


@pytest.mark.parametrize(("low", "high"), [(0, 65535), (0, 65534), (65535, 65535), (0, 0)])
def test_agrees_over_the_whole_price_range(low: int, high: int) -> None:
    rng = random.Random(7)
    choices = (0, 1, 32767, 32768, 65534, 65535)
    for _ in range(2):
        book = [
            (rng.choice(("bid", "ask")), rng.choice(choices), rng.choice((1, 2, 65535)))
            for _ in range(6)
        ]
        assert_agrees(book, low, high, 0, range(65537))


order = st.tuples(st.sampled_from(("bid", "ask")), st.integers(0, 20), st.integers(0, 100))


@settings(max_examples=1500, deadline=None)
@given(st.lists(order, max_size=12), st.integers(0, 20), st.integers(0, 20), st.integers(0, 25))
def test_agrees_on_books_made_to_break_it(book: reference.Book, a: int, b: int, fee: int) -> None:
    assert_agrees(book, min(a, b), max(a, b), fee, range(-1, 47))


@pytest.mark.parametrize(
    ("book", "price", "fills"),
    [
        pytest.param([], None, [], id="empty"),
        pytest.param([("bid", 300, 10)], None, [0], id="one side only"),
        pytest.param([("bid", 100, 10), ("ask", 101, 10)], None, [0, 0], id="does not cross"),
        pytest.param([("bid", 100, 10), ("ask", 100, 10)], 100, [10, 10], id="touch at one price"),
        pytest.param([("bid", 300, 10), ("ask", 101, 10)], 200, [10, 10], id="midpoint down"),
        pytest.param([("bid", 300, 5), ("ask", 100, 10)], 100, [5, 5], id="long side sets it"),
        pytest.param(
            [("bid", 9, 3), ("bid", 9, 3), ("bid", 9, 3), ("ask", 1, 5)],
            9,
            [1, 2, 2, 5],
            id="rationed in arrival order",
        ),
        pytest.param(
            [("bid", 300, 10), ("bid", 200, 0), ("ask", 100, 10)],
            200,
            [10, 0, 10],
            id="an order without energy is no neighbour",
        ),
        pytest.param([("bid", 0, 4), ("ask", 0, 4)], 0, [4, 4], id="free energy"),
    ],
)
def test_clears_books_worked_out_by_hand(
    book: reference.Book, price: int | None, fills: list[int]
) -> None:
    got = solve(book, 0, 65535, 0)
    assert (got.price, got.fills.tolist()) == (price, fills)


def test_fee_and_band_make_limits_effective() -> None:
    # 300 less fee 20 is 280, capped at 250; the ask of 10 is lifted to 50: midpoint 150.
    got = clear([BID, ASK], [300, 10], [7, 7], band=(50, 250), fee=20)
    assert (got.price, got.volume_wh, got.welfare) == (150, 7, 7 * 290)
    assert clear([BID, ASK], [19, 0], [7, 7], fee=20).price is None
    assert clear([BID, ASK], [900, 251], [7, 7], band=(50, 250)).price is None


def test_sparse_limits_clear_like_dense_ones() -> None:
    rng = random.Random(3)
    for _ in range(300):
        book = random_book(rng)[0]
        sides = [BID if o[0] == "bid" else ASK for o in book]
        wh = [o[2] for o in book]
        near = clear(sides, [2 * o[1] for o in book], wh)
        far = clear(sides, [200_000_000 * o[1] for o in book], wh)
        assert far.fills.tolist() == near.fills.tolist()
        assert (near.price is None) == (far.price is None)
        if near.price is not None and far.price is not None:
            assert far.price == 100_000_000 * near.price
            assert far.welfare == 100_000_000 * near.welfare


def test_session_clears_each_slot_as_its_own_book() -> None:
    rng = np.random.default_rng(5)
    side, limit = rng.integers(0, 2, 60), rng.integers(50, 80, 60)
    wh = rng.integers(0, 4, (60, 24)) * rng.integers(0, 500, (60, 24))
    wh[:, 3] = 0
    bands = [(50 + slot, 70 + slot) for slot in range(24)]
    fees = list(range(24))
    got = clear_session(side, limit, wh, band=bands, fee=fees)
    for slot in range(24):
        alone = clear(side, limit, wh[:, slot], band=bands[slot], fee=fees[slot])
        assert got.prices[slot] == alone.price
        assert got.volume_wh[slot] == alone.volume_wh
        assert got.welfare[slot] == alone.welfare
        assert got.fills[:, slot].tolist() == alone.fills.tolist()
    assert got.prices[3] is None
    assert got.chain_prices[3] == NULL_PRICE
    same = clear_session(side, limit, wh, band=(50, 70), fee=2)
    assert same.prices[5] == clear(side, limit, wh[:, 5], band=(50, 70), fee=2).price


@settings(max_examples=500, deadline=None)
@given(st.lists(st.integers(0, 2**45), min_size=1, max_size=40), st.integers(0, MAX_TOTAL_WH))
def test_shares_are_exact_beyond_64_bit_products(weights: list[int], amount: int) -> None:
    total, upto, expected = sum(weights), 0, []
    for weight in weights:
        before, upto = upto, upto + weight
        expected.append(upto * amount // total - before * amount // total if total else 0)
    got = share(weights, amount).tolist()
    assert got == expected
    if total:
        assert sum(got) == amount
        exact = reference.exact_share(weights, amount)
        assert all(abs(g - e) < 1 for g, e in zip(got, exact, strict=True))


def test_big_books_ration_without_overflow() -> None:
    count = 50_000
    side = np.repeat([BID, ASK], count)
    wh = np.full(2 * count, 65535)
    wh[count:] = 65533
    got = clear(side, np.full(2 * count, 65535), wh)
    assert got.volume_wh == int(got.fills[:count].sum()) == int(got.fills[count:].sum())
    assert got.fills[count:].tolist() == [65533] * count
    total, available, upto = 65535 * count, 65533 * count, 0
    for fill in got.fills[:count].tolist():
        before, upto = upto, upto + 65535
        assert fill == upto * available // total - before * available // total


@pytest.mark.parametrize(
    ("side", "limit", "wh", "message"),
    [
        ([0, 2], [1, 1], [1, 1], "side must be 0..1"),
        ([0, 1], [1, -1], [1, 1], "limit must be 0.."),
        ([0, 1], [1.5, 1.0], [1, 1], "limit must be whole numbers"),
        ([0, 1], [1, 1], [1, -1], "wh must be 0.."),
        ([0, 1], [1, 1], [MAX_TOTAL_WH, 2], "wh must sum to at most"),
        ([0, 1], [1, 1], [1], "one length"),
    ],
)
def test_says_what_is_wrong_with_an_array(
    side: list[int], limit: list[int], wh: list[int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        clear(side, limit, wh)
