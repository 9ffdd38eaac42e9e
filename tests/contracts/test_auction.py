# SPDX-License-Identifier: Apache-2.0
"""Clearing: what the auction promises, one behaviour a test.

Settling is in test_settlement, random sessions in test_market_fuzz, thousands of books in
test_market_brute_force.
"""

from __future__ import annotations

import boa

from dao.market.orders import fold, pages
from dao.market.session import NO_TRADE, PostedBook
from tests.contracts.market_world import (
    ASK,
    BID,
    DAY_SLOT,
    GATE,
    NO_PRICE,
    ZONE,
    World,
    traded,
    whole_day,
)
from tests.dao.reference_market import canonical_price, effective_book

N = [None] * 3
DAY = 86_400
RECEIPT_PERIOD = 12 * 3_600


# ---------------------------------------------------------------- clearing


def test_the_midpoint_clears_and_its_neighbours_do_not(world: World) -> None:
    world.post([world.order(1, ASK, 100, 1_000), world.order(2, BID, 400, 1_000)])
    world.at(GATE)
    for price in (194, 196, 100, 290):
        with boa.reverts("auction: price is not canonical"):
            world.clear([price, *N])
    for price in (99, 291):
        with boa.reverts("auction: nothing trades here"):
            world.clear([price, *N])
    world.clear([195, *N])
    assert world.market.clearing(ZONE, DAY_SLOT) == (195, 110, 1_000)


def test_a_price_in_reach_of_one_side_only_does_not_clear(world: World) -> None:
    world.post([world.order(1, ASK, 100, 1_000), world.order(2, BID, 400, 500)])
    world.at(GATE)
    # The ask has energy left, so its limit is the price.
    with boa.reverts("auction: price does not clear"):
        world.clear([101, *N])
    world.clear([100, *N])


def test_a_price_lies_inside_the_band(world: World) -> None:
    world.post([world.order(1, ASK, 1_000, 1_000), world.order(2, BID, 1_110, 1_000)])
    world.at(GATE)
    for price in (1_001, 65_535):
        with boa.reverts("auction: price outside the band"):
            world.clear([price, *N])
    world.clear([1_000, *N])


def test_nothing_trades_where_the_bids_stay_below_the_asks(world: World) -> None:
    world.post([world.order(1, ASK, 300, 1_000), world.order(2, BID, 400, 1_000)])
    world.at(GATE)
    for price in (290, 295, 300):
        with boa.reverts("auction: nothing trades here"):
            world.clear([price, *N])
    world.clear([None, *N])
    assert world.market.clearing(ZONE, DAY_SLOT) == (NO_PRICE, 110, 0)


def test_a_witness_has_no_bid_at_or_above_it_and_no_ask_below(world: World) -> None:
    world.post([world.order(1, ASK, 300, 1_000), world.order(2, BID, 400, 1_000)])
    world.at(GATE)
    book = world.posted()

    def claim(witness: int) -> None:
        claims = [NO_TRADE + w for w in (witness, 0, 0, 0)]
        world.auction.clear(ZONE, DAY_SLOT, claims, book.page_words, book.rows)

    for witness in (0, 289, 290, 301, 1_001):
        with boa.reverts("auction: orders cross"):
            claim(witness)
    for witness in (1_002, 65_535, 2**200):
        with boa.reverts("auction: witness outside the band"):
            claim(witness)
    for witness in range(291, 301):
        with boa.env.anchor():
            claim(witness)


def test_no_witness_hides_a_trade(world: World) -> None:
    world.post([world.order(1, ASK, 100, 1_000), world.order(2, BID, 210, 1_000)])
    world.at(GATE)
    book = world.posted()
    for witness in (0, 99, 100, 101, 999, 1_000, 1_001):
        with boa.reverts("auction: orders cross"):
            claims = [NO_TRADE + w for w in (witness, 0, 0, 0)]
            world.auction.clear(ZONE, DAY_SLOT, claims, book.page_words, book.rows)
    world.clear([100, *N])


def test_an_empty_side_trades_nothing(world: World) -> None:
    world.post([world.order(1, ASK, 300, 1_000, count=2)])
    world.post([world.order(2, BID, 400, 1_000, offset=2)])
    world.at(GATE)
    world.clear([None] * 4)
    assert [world.market.clearing(ZONE, DAY_SLOT + i)[2] for i in range(4)] == [0] * 4


def test_an_order_without_energy_in_a_slot_is_no_neighbour_there(world: World) -> None:
    world.post(
        [
            world.order(1, ASK, 100, 1_000),
            world.order(2, BID, 400, 1_000),
            world.order(3, ASK, 120, (0, 50)),
            world.order(4, BID, 380, (0, 50)),
        ]
    )
    world.at(GATE)
    world.clear([195, 195, None, None])
    assert [world.market.clearing(ZONE, DAY_SLOT + i)[0] for i in range(2)] == [195, 195]


def test_clearing_takes_exactly_the_sessions_orders(world: World) -> None:
    world.post([world.order(1, ASK, 100, 1_000), world.order(2, BID, 400, 1_000)])
    world.post([world.order(3, BID, 350, 500)])
    world.at(GATE)
    (a, b), (c,) = world.posted().pages
    other_books: list[list[tuple[int, ...]]] = [
        # An order or a batch dropped, doubled, moved; an order edited.
        [(a, b)],
        [(c,)],
        [(b,), (c,)],
        [(a, b), (c,), (c,)],
        [(a, b), (a, b), (c,)],
        [(b, a), (c,)],
        [(c,), (a, b)],
        [(a, c), (b,)],
        [(a + (1 << 104), b), (c,)],
        [(a, b), (c ^ (1 << 88),)],
        # The right words in other pages.
        [(a,), (b,), (c,)],
        [(a,), (b, c)],
        [],
    ]
    for other in other_books:
        with boa.reverts("auction: not the session's orders"):
            world.clear([265, *N], book=PostedBook(DAY_SLOT, tuple(other)))
    world.clear([265, *N])


def test_pages_cover_the_book_and_nothing_else(world: World) -> None:
    world.post([world.order(1, ASK, 100, 1_000), world.order(2, BID, 400, 1_000)])
    world.at(GATE)
    rows = world.posted().rows
    for page_words, reason in (
        ([1], "auction: pages do not cover the book"),
        ([], "auction: pages do not cover the book"),
        ([3], "auction: no such page"),
        ([2 | 255 << 8], "auction: no such page"),
        ([0, 2], None),  # an empty word of pages says nothing
    ):
        claims = world.claims([195, *N])
        with boa.env.anchor():
            if reason is None:
                world.auction.clear(ZONE, DAY_SLOT, claims, page_words, rows)
            else:
                with boa.reverts(reason):
                    world.auction.clear(ZONE, DAY_SLOT, claims, page_words, rows)
    for page_words in ([2 | 1 << 8], [64], [1 | 2 << 8]):
        # Beyond the end of the calldata, or of the words.
        with boa.reverts():
            world.auction.clear(ZONE, DAY_SLOT, claims, page_words, rows)


def test_the_books_hash_is_the_fold_of_its_pages(world: World) -> None:
    orders = [world.order(1 + i % 10, ASK, 100, 50) for i in range(99)]
    world.post(orders)
    value = 0
    for page in pages(world.posted().rows):
        value = fold(value, page)
    assert world.market.session_words(ZONE, DAY_SLOT)[1] >> 24 == value >> 24


def test_clearing_waits_for_the_gate_and_ends_at_its_deadline(world: World) -> None:
    world.post([world.order(1, ASK, 100, 1_000), world.order(2, BID, 400, 1_000)])
    world.at(GATE, -1)
    with boa.reverts("parameters: future lookup"):
        world.clear([195, *N])
    for slot in (GATE, DAY_SLOT):
        world.at(slot)
        with boa.env.anchor():
            world.clear([195, *N])
    world.at(DAY_SLOT, 1)
    with boa.reverts("auction: too late to clear"):
        world.clear([195, *N])


def test_a_session_that_is_not_there_cannot_be_cleared(world: World) -> None:
    world.at(GATE)
    with boa.reverts("market: no such session"):
        world.auction.clear(ZONE, DAY_SLOT, [NO_TRADE] * 4, [], [])


def test_a_slot_clears_once(world: World) -> None:
    traded(world)
    for prices in ([195], []):
        with boa.reverts("auction: slots out of range"):
            world.auction.clear(
                ZONE, DAY_SLOT, prices, world.posted().page_words, world.posted().rows
            )


def test_a_session_may_clear_in_runs_of_slots(world: World) -> None:
    world.post([world.order(1, ASK, 100, 1_000, count=4), world.order(2, BID, 400, 1_000, count=4)])
    world.at(GATE)
    world.clear([195])
    world.clear([195, 195])
    book = world.posted()
    with boa.reverts("auction: slots out of range"):
        world.auction.clear(ZONE, DAY_SLOT, [195, 195], book.page_words, book.rows)
    world.clear([195])
    assert world.market.session(ZONE, DAY_SLOT)[2] == 4


def test_one_slot_clears_as_many_do(world: World) -> None:
    """A single slot is worked out in another way than a run of them."""
    whole_day(world)
    values = tuple(50 * (1 + slot % 3) for slot in range(96))
    world.post(
        [
            world.order(1, ASK, 100, values),
            world.order(2, BID, 400, values[:40], offset=30),
            world.order(3, BID, 300, 70, offset=14, count=20),
            world.order(4, ASK, 150, values[:3], offset=15),
        ]
    )
    world.at(DAY_SLOT, -3_600)
    prices = []
    for slot in range(DAY_SLOT, DAY_SLOT + 96):
        book = [("ask" if o.side == ASK else "bid", o.limit, o.at(slot)) for o in world.orders()]
        prices.append(canonical_price(effective_book(book, 0, 1_000, 110), range(1_001)))
    assert len(set(prices)) > 3
    with boa.env.anchor():
        world.clear(prices)
        at_once = [world.market.clearing(ZONE, DAY_SLOT + slot) for slot in range(96)]
    for price in prices:
        world.clear([price])
    assert [world.market.clearing(ZONE, DAY_SLOT + slot) for slot in range(96)] == at_once


def test_fee_and_band_are_those_in_force_at_the_gate(world: World) -> None:
    world.post([world.order(1, ASK, 100, 1_000), world.order(2, BID, 400, 1_000)])
    world.parameters.set_value(7, 150, sender=world.deployer)
    world.at(GATE)
    world.clear([(100 + 250) // 2, *N])
    assert world.market.clearing(ZONE, DAY_SLOT) == (175, 150, 1_000)


def test_a_fee_changed_after_the_gate_does_not_move_the_price(world: World) -> None:
    world.post([world.order(1, ASK, 100, 1_000), world.order(2, BID, 400, 1_000)])
    world.at(GATE, 60)
    world.parameters.set_value(7, 150, sender=world.deployer)
    world.at(GATE, 120)
    world.clear([195, *N])
    assert world.market.clearing(ZONE, DAY_SLOT) == (195, 110, 1_000)


def test_a_fee_window_holds_for_its_slot_only(world: World) -> None:
    world.post([world.order(1, ASK, 100, 1_000, count=2), world.order(2, BID, 400, 1_000, count=2)])
    world.parameters.open_window(ZONE, 7, DAY_SLOT + 1, 1, 90, sender=world.deployer)
    world.at(GATE)
    world.clear([195, (100 + 310) // 2, None, None])
    assert world.market.clearing(ZONE, DAY_SLOT + 1) == (205, 90, 1_000)


def test_the_band_moves_limits_inside_and_leaves_out_what_lies_beyond(world: World) -> None:
    world.parameters.set_value(5, 50, sender=world.deployer)
    world.parameters.set_value(6, 500, sender=world.deployer)
    world.post(
        [
            world.order(1, ASK, 0, 1_000),  # counts as 50
            world.order(2, BID, 65_534, 400),  # counts as 500
            world.order(3, BID, 159, 700),  # 49 once the fee is paid: no part
            world.order(4, ASK, 501, 700),  # no part
        ]
    )
    world.at(GATE)
    world.clear([50, *N])
    assert world.market.clearing(ZONE, DAY_SLOT) == (50, 110, 400)
