# SPDX-License-Identifier: Apache-2.0
"""The solver against brute force over every price, book by book, and what a clearing promises."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

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
from tests.dao.reference_market import MAX_LIMIT, MAX_WH, SmallBook, random_book

BOOKS = 24_000
"""Small books that solver and reference must agree on: each of them, to the last Wh."""


@dataclass(frozen=True)
class Case:
    """A random book, its orders at effective limits, and what the solver makes of it."""

    book: SmallBook
    orders: reference.Effective
    cleared: Clearing

    def filled(self) -> list[tuple[str, int, int, int]]:
        """(side, effective limit, Wh, Wh filled) of every order that takes part."""
        fills = self.cleared.fills.tolist()
        return [(*o, fill) for o, fill in zip(self.orders, fills, strict=True) if o]


def solve(book: SmallBook) -> Clearing:
    return clear(
        [BID if side == "bid" else ASK for side, _, _ in book.orders],
        [limit for _, limit, _ in book.orders],
        [wh for _, _, wh in book.orders],
        band=book.band,
        fee=book.fee,
    )


def case_of(book: SmallBook) -> Case:
    return Case(book, reference.effective_book(book.orders, *book.band, book.fee), solve(book))


def assert_agrees(case: Case, prices: range) -> None:
    expected = reference.canonical_price(case.orders, prices)
    assert case.cleared.price == expected, case.book
    fills = [0] * len(case.orders)
    if expected is not None:
        fills = reference.fills_at(case.orders, expected)
    assert case.cleared.fills.tolist() == fills, case.book


def assert_no_other_price_passes(case: Case, prices: range) -> None:
    price = case.cleared.price
    only = [] if price is None else [price]
    assert reference.accepted_prices(case.orders, prices) == only, case.book


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    return [case_of(random_book(seed)) for seed in range(BOOKS)]


@pytest.fixture(scope="module")
def traded(cases: list[Case]) -> list[Case]:
    return [case for case in cases if case.cleared.price is not None]


def test_agrees_with_brute_force_on_price_and_every_fill(cases: list[Case]) -> None:
    for case in cases:
        assert_agrees(case, reference.prices_around(case.orders))


def test_no_price_but_the_solvers_passes_the_acceptance_rule(cases: list[Case]) -> None:
    for case in cases:
        assert_no_other_price_passes(case, reference.prices_around(case.orders))


def test_no_price_of_the_whole_range_passes_where_none_near_the_orders_does(
    cases: list[Case],
) -> None:
    for case in cases[:300]:
        assert_agrees(case, range(-1, NULL_PRICE + 1))
        assert_no_other_price_passes(case, range(-1, NULL_PRICE + 1))


def test_the_random_books_hold_every_case_many_times(cases: list[Case]) -> None:
    def count(holds: Callable[[Case], bool]) -> int:
        return sum(holds(case) for case in cases)

    def sides(case: Case) -> tuple[list[int], list[int]]:
        bids = [o[1] for o in case.orders if o and o[0] == "bid"]
        return bids, [o[1] for o in case.orders if o and o[0] == "ask"]

    def touches(case: Case) -> bool:
        bids, asks = sides(case)
        return bool(bids and asks) and max(bids) == min(asks)

    def cut_short(case: Case, side: str) -> bool:
        return any(0 < fill < wh for name, _, wh, fill in case.filled() if name == side)

    def ties(case: Case) -> bool:
        return any(len(set(limits)) < len(limits) for limits in sides(case))

    def capped(case: Case) -> bool:
        declared = zip(case.book.orders, case.orders, strict=True)
        return any(
            o and o[1] != d[1] - (case.book.fee if d[0] == "bid" else 0) for d, o in declared
        )

    found = {
        "trades": count(lambda c: c.cleared.price is not None),
        "has one side only": count(lambda c: bool(sides(c)[0]) != bool(sides(c)[1])),
        "touches at one price": count(touches),
        "has equal limits": count(ties),
        "fills a bid in part": count(lambda c: cut_short(c, "bid")),
        "fills an ask in part": count(lambda c: cut_short(c, "ask")),
        "clears at 0": count(lambda c: c.cleared.price == 0),
        "clears at the maximum": count(lambda c: c.cleared.price == MAX_LIMIT),
        "has limits at both ends": count(lambda c: {0, MAX_LIMIT} <= {o[1] for o in c.orders if o}),
        "holds an order with 0 Wh": count(lambda c: any(o[2] == 0 for o in c.book.orders)),
        "fills the most Wh": count(lambda c: MAX_WH in c.cleared.fills),
        "trades with a fee": count(lambda c: c.book.fee > 0 and c.cleared.volume_wh > 0),
        "cuts an order out": count(
            lambda c: any(o[2] and not e for o, e in zip(c.book.orders, c.orders, strict=True))
        ),
        "lifts or caps a limit": count(capped),
    }
    assert {name: times for name, times in found.items() if times < 200} == {}


def test_no_price_lets_more_energy_trade(traded: list[Case]) -> None:
    for case in traded:
        prices = reference.prices_around(case.orders)
        p = np.arange(prices.start, prices.stop)
        _, d_from, _, s_upto = reference.four_sums(case.orders, p)
        assert case.cleared.volume_wh == np.minimum(d_from, s_upto).max(), case.book


def test_welfare_is_declared_value_less_declared_cost_of_what_is_filled(cases: list[Case]) -> None:
    for case in cases:
        fills = case.cleared.fills.tolist()
        assert case.cleared.welfare == sum(
            fill * limit * (1 if side == "bid" else -1)
            for fill, (side, limit, _) in zip(fills, case.book.orders, strict=True)
        ), case.book


def worth(case: Case) -> int:
    """Value less cost of what is filled, at effective limits: what the auction makes most of."""
    return sum(
        fill * limit * (1 if side == "bid" else -1) for side, limit, _, fill in case.filled()
    )


def test_no_allocation_is_worth_more(cases: list[Case]) -> None:
    """Matched Wh by Wh in merit order, and by the bound that any price sets (weak duality)."""
    for case in cases:
        assert worth(case) == reference.most_welfare(case.orders), case.book
        price = case.cleared.price
        if price is not None:
            assert worth(case) == sum(
                wh * max(limit - price if side == "bid" else price - limit, 0)
                for side, limit, wh, _ in case.filled()
            ), case.book


def test_welfare_is_the_optimum_of_the_linear_program(traded: list[Case]) -> None:
    for case in traded[:1_500]:
        sign = np.array([1 if order[0] == "bid" else -1 for order in case.filled()])
        limit, wh = (np.array([order[at] for order in case.filled()]) for at in (1, 2))
        best = linprog(
            -sign * limit,
            A_eq=sign[np.newaxis],
            b_eq=[0],
            bounds=np.column_stack([0 * wh, wh]),
            method="highs",
        )
        assert best.status == 0
        assert worth(case) == round(-best.fun), case.book


def test_what_buyers_pay_is_what_sellers_and_the_treasury_receive(traded: list[Case]) -> None:
    for case in traded:
        price, volume, fee = case.cleared.price, case.cleared.volume_wh, case.book.fee
        assert price is not None
        paid = sum(fill * (price + fee) for side, _, _, fill in case.filled() if side == "bid")
        received = sum(fill * price for side, _, _, fill in case.filled() if side == "ask")
        assert paid == received + fee * volume, case.book


def test_nobody_trades_at_a_loss_on_what_they_declared(traded: list[Case]) -> None:
    for case in traded:
        price = case.cleared.price
        assert price is not None
        fills = case.cleared.fills.tolist()
        for (side, limit, wh), fill in zip(case.book.orders, fills, strict=True):
            assert 0 <= fill <= wh, case.book
            if fill and side == "bid":
                assert price + case.book.fee <= limit, case.book
            elif fill:
                assert price >= limit, case.book


def test_nobody_envies_anybody_at_the_price(traded: list[Case]) -> None:
    """Who would gain is filled whole, who would lose is not filled, the rest does not care."""
    for case in traded:
        price = case.cleared.price
        assert price is not None
        for side, limit, wh, fill in case.filled():
            gain = limit - price if side == "bid" else price - limit
            assert gain == 0 or fill == (wh if gain > 0 else 0), case.book


def test_rationed_shares_are_proportional_and_sum_exactly(traded: list[Case]) -> None:
    for case in traded:
        filled, price = case.filled(), case.cleared.price
        for name in ("bid", "ask"):
            better = sum(f for s, limit, _, f in filled if s == name and limit != price)
            at_price = [(w, f) for s, limit, w, f in filled if s == name and limit == price]
            assert better + sum(f for _, f in at_price) == case.cleared.volume_wh, case.book
            if at_price:
                exact = reference.exact_share(
                    [w for w, _ in at_price], case.cleared.volume_wh - better
                )
                assert all(abs(f - e) < 1 for (_, f), e in zip(at_price, exact, strict=True))


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
        case = case_of(SmallBook(book, (0, 65535), rng.choice((0, 0, 3))))
        assert_agrees(case, range(65515, 65537))
        assert_no_other_price_passes(case, range(65515, 65537))


@pytest.mark.parametrize("band", [(0, 65535), (0, 65534), (65535, 65535), (0, 0)])
def test_agrees_over_the_whole_price_range(band: tuple[int, int]) -> None:
    rng = random.Random(7)
    choices = (0, 1, 32767, 32768, 65534, 65535)
    for _ in range(20):
        book = [
            (rng.choice(("bid", "ask")), rng.choice(choices), rng.choice((1, 2, 65535)))
            for _ in range(6)
        ]
        case = case_of(SmallBook(book, band, 0))
        assert_agrees(case, range(65537))
        assert_no_other_price_passes(case, range(65537))


order = st.tuples(st.sampled_from(("bid", "ask")), st.integers(0, 20), st.integers(0, 100))


@settings(max_examples=1500, deadline=None)
@given(st.lists(order, max_size=12), st.integers(0, 20), st.integers(0, 20), st.integers(0, 25))
def test_agrees_on_books_made_to_break_it(book: reference.Book, a: int, b: int, fee: int) -> None:
    case = case_of(SmallBook(book, (min(a, b), max(a, b)), fee))
    assert_agrees(case, range(-1, 47))
    assert_no_other_price_passes(case, range(-1, 47))


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
    got = solve(SmallBook(book, (0, 65535), 0))
    assert (got.price, got.fills.tolist()) == (price, fills)


def test_fee_and_band_make_limits_effective() -> None:
    # 300 less fee 20 is 280, capped at 250; the ask of 10 is lifted to 50: midpoint 150.
    got = clear([BID, ASK], [300, 10], [7, 7], band=(50, 250), fee=20)
    assert (got.price, got.volume_wh, got.welfare) == (150, 7, 7 * 290)
    assert clear([BID, ASK], [19, 0], [7, 7], fee=20).price is None
    assert clear([BID, ASK], [900, 251], [7, 7], band=(50, 250)).price is None


def test_sparse_limits_clear_like_dense_ones() -> None:
    for seed in range(300):
        book = random_book(seed).orders
        sides = [BID if o[0] == "bid" else ASK for o in book]
        wh = [o[2] for o in book]
        near = clear(sides, [2 * o[1] for o in book], wh)
        far = clear(sides, [65_000 * o[1] for o in book], wh)
        assert far.fills.tolist() == near.fills.tolist()
        assert (near.price is None) == (far.price is None)
        if near.price is not None and far.price is not None:
            assert far.price == 32_500 * near.price
            assert far.welfare == 32_500 * near.welfare


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
