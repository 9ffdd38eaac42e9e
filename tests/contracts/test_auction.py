# SPDX-License-Identifier: Apache-2.0
"""Clearing, settling, voiding: what the auction and the market promise, one behaviour a test.

Random books, and the brute force over them, are in test_market_fuzz; attempts to cheat in
test_market_attacks.
"""

from __future__ import annotations

import boa

from dao.eip712 import address_of
from dao.market.orders import fold, pages
from dao.market.session import NO_TRADE, PostedBook, Settled
from tests.contracts.market_world import (
    ASK,
    BID,
    DAY_SLOT,
    END,
    EURO,
    GATE,
    NO_PRICE,
    ZONE,
    World,
    delivered,
    key_of,
    logged,
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


# ---------------------------------------------------------------- settlement


def test_a_delivered_trade_pays_seller_and_treasury_and_refunds_the_buyer(world: World) -> None:
    traded(world)
    delivered(world)
    assert world.settle({1: [1_000, 0, 0, 0]}) == [
        Settled(1, 1_000, 1_000, 100 * 1_000 + 195 * 1_000),
        Settled(2, 1_000, 1_000, (400 - 195 - 110) * 1_000),
    ]
    assert world.balance(1) == 100 * EURO + 195_000
    assert world.balance(2) == 100 * EURO - 305_000
    assert world.market.fees_due() == 110_000
    assert world.escrow() == 0
    world.market.collect_fees()
    assert world.token.balanceOf(world.treasury) == 110_000
    assert world.market.fees_due() == 0
    assert world.market.account(1)[3] == world.market.account(2)[3] == 0
    world.check_conservation()


def test_each_slot_tells_its_price_energy_fees_and_penalties(world: World) -> None:
    world.post([world.order(1, ASK, 100, 1_000, count=2), world.order(2, BID, 400, 1_000)])
    world.at(GATE)
    world.clear([195, *N])
    delivered(world)
    world.settle({1: [400, 0, 0, 0]})
    assert [
        (e.slot - DAY_SLOT, e.price, e.delivered_wh, e.fees, e.penalties)
        for e in logged(world.auction, "SlotSettled")
    ] == [
        (0, 195, 400, 400 * 110, 600 * 100),
        (1, NO_PRICE, 0, 0, 0),
        (2, NO_PRICE, 0, 0, 0),
        (3, NO_PRICE, 0, 0, 0),
    ]


def test_a_shortfall_is_paid_from_collateral_to_the_buyers_it_hit(world: World) -> None:
    traded(world)
    delivered(world, 400)
    world.settle({1: [400, 0, 0, 0]})
    assert world.balance(1) == 100 * EURO + 400 * 195 - 600 * 100
    assert world.balance(2) == 100 * EURO - 400 * 305 + 600 * 100


def test_what_buyers_share_adds_up_to_the_last_unit(world: World) -> None:
    world.post(
        [
            world.order(1, ASK, 100, 1_000),
            *[world.order(account, BID, 400, 77 + account) for account in range(2, 10)],
        ]
    )
    world.at(GATE)
    world.clear([100, *N])
    delivered(world, 613)
    bought = sum(77 + account for account in range(2, 10))
    seller, *buyers = world.settle({1: [613, 0, 0, 0]})
    assert (seller.filled_wh, seller.delivered_wh) == (bought, 613)
    assert sum(b.delivered_wh for b in buyers) == 613
    comfort = sum(b.credit - 400 * b.filled_wh + 210 * b.delivered_wh for b in buyers)
    assert comfort == (bought - 613) * 100
    for buyer in buyers:
        assert abs(buyer.delivered_wh - buyer.filled_wh * 613 / bought) < 1


def test_the_long_side_at_the_price_is_rationed_to_the_last_wh(world: World) -> None:
    world.post(
        [
            *[world.order(account, ASK, 195, 50 + account) for account in range(1, 9)],
            world.order(9, ASK, 194, 60),
            world.order(10, BID, 400, 307),
        ]
    )
    world.at(GATE)
    world.clear([195, *N])
    delivered(world, 307)
    *asks, bid = world.settle({account: [99, 0, 0, 0] for account in range(1, 10)})
    assert asks[-1].filled_wh == 60
    running, offered = 0, sum(50 + account for account in range(1, 9))
    for ask in asks[:-1]:
        before, running = running, running + 50 + ask.account
        assert ask.filled_wh == running * 247 // offered - before * 247 // offered
    assert sum(ask.filled_wh for ask in asks) == bid.filled_wh == 307


def test_settlement_needs_every_filled_asks_receipt_until_the_deadline(world: World) -> None:
    traded(world)
    delivered(world)
    for late in (0, RECEIPT_PERIOD):
        world.at(END, late)
        with boa.reverts("auction: a receipt is outstanding"):
            world.settle({})
    world.at(END, RECEIPT_PERIOD + 1)
    world.settle({})
    assert world.balance(1) == 100 * EURO - 1_000 * 100
    assert world.balance(2) == 100 * EURO + 1_000 * 100


def test_an_ask_that_sold_nothing_needs_no_receipt(world: World) -> None:
    world.post([world.order(3, ASK, 291, 1_000)])
    traded(world)
    delivered(world)
    unsold, *_ = world.settle({1: [1_000, 0, 0, 0]})
    assert unsold == Settled(3, 0, 0, 100 * 1_000)


def test_a_lodged_receipt_cannot_be_left_out(world: World) -> None:
    traded(world)
    delivered(world)
    receipt = world.receipt(1, [1_000, 0, 0, 0])
    world.lodge(receipt)
    (lodged,) = logged(world.auction, "ReceiptLodged")
    assert (lodged.meter, lodged.first_slot) == (1, DAY_SLOT)
    assert tuple(lodged.receipt) == receipt.as_tuple()
    world.at(END, RECEIPT_PERIOD + 1)
    with boa.reverts("auction: receipt was lodged"):
        world.settle({})
    world.settle({1: [1_000, 0, 0, 0]})


def test_a_receipt_by_another_key_is_refused(world: World) -> None:
    traded(world)
    delivered(world)
    for key in (key_of("nobody"), world.device_key(2), world.owner_key(1)):
        forged = world.receipt(1, [1_000, 0, 0, 0], key=key)
        with boa.reverts("auction: not the device's receipt"):
            world.settle([forged])
        with boa.reverts("receipts: not the device's receipt"):
            world.lodge(forged)


def test_the_key_in_force_in_the_sessions_last_second_signs(world: World) -> None:
    traded(world)
    new = key_of("new device")
    world.at(DAY_SLOT)
    world.registry.rotate_key(1, address_of(new), END * 900 - 1, sender=world.deployer)
    delivered(world)
    with boa.reverts("auction: not the device's receipt"):
        world.settle({1: [1_000, 0, 0, 0]})
    world.settle([world.receipt(1, [1_000, 0, 0, 0], key=new)])


def test_a_key_that_begins_after_the_session_does_not_sign_for_it(world: World) -> None:
    traded(world)
    new = key_of("new device")
    world.at(DAY_SLOT)
    world.registry.rotate_key(1, address_of(new), END * 900, sender=world.deployer)
    delivered(world)
    with boa.reverts("auction: not the device's receipt"):
        world.settle([world.receipt(1, [1_000, 0, 0, 0], key=new)])
    world.settle({1: [1_000, 0, 0, 0]})


def test_a_suspended_key_signs_no_receipt(world: World) -> None:
    traded(world)
    world.at(DAY_SLOT)
    world.registry.suspend_key(1, sender=world.deployer)
    delivered(world)
    with boa.reverts("auction: not the device's receipt"):
        world.settle({1: [1_000, 0, 0, 0]})


def test_a_key_suspended_after_delivery_still_signed_for_it(world: World) -> None:
    traded(world)
    delivered(world)
    world.registry.suspend_key(1, sender=world.deployer)
    world.settle({1: [1_000, 0, 0, 0]})


def test_settlement_waits_for_delivery_and_for_the_ledger(world: World) -> None:
    traded(world)
    world.at(END, -1)
    with boa.reverts("auction: delivery is not over"):
        world.settle({1: [1_000, 0, 0, 0]})
    world.at(END)
    with boa.reverts("auction: readings not committed"):
        world.settle({1: [1_000, 0, 0, 0]})
    world.commit(DAY_SLOT, [1_000, 0, 0, 0])
    world.settle({1: [1_000, 0, 0, 0]})


def test_a_session_without_trade_settles_without_delivery(world: World) -> None:
    world.post([world.order(1, ASK, 300, 1_000)])
    world.at(GATE)
    world.clear([None] * 4)
    world.settle({})
    assert world.balance(1) == 100 * EURO


def test_no_more_is_delivered_than_the_zone_exported(world: World) -> None:
    traded(world)
    delivered(world, 999)
    entries = world.settle({1: [1_000, 0, 0, 0]})
    assert [e.delivered_wh for e in entries] == [999, 999]
    # The Wh that the zone did not export is neither paid for nor punished.
    assert world.balance(1) == 100 * EURO + 999 * 195
    assert world.balance(2) == 100 * EURO - 999 * 305


def test_only_what_was_sold_is_paid_for(world: World) -> None:
    traded(world)
    delivered(world, 60_000)
    entries = world.settle({1: [60_000, 0, 0, 0]})
    assert [e.delivered_wh for e in entries] == [1_000, 1_000]


def test_two_asks_of_a_meter_share_its_energy_in_order_of_arrival(world: World) -> None:
    world.post(
        [
            world.order(1, ASK, 100, 500),
            world.order(1, ASK, 100, 500),
            world.order(2, BID, 400, 1_000),
        ]
    )
    world.at(GATE)
    world.clear([195, *N])
    delivered(world)
    entries = world.settle({1: [600, 0, 0, 0]})
    assert [(e.account, e.delivered_wh) for e in entries] == [(1, 500), (1, 100), (2, 600)]


def test_two_asks_of_a_meter_share_its_energy_over_runs_of_slots(world: World) -> None:
    world.post(
        [
            world.order(1, ASK, 100, 500, count=4),
            world.order(1, ASK, 100, (500, 0, 300, 100)),
            world.order(2, BID, 400, (1_000, 500, 800, 600)),
        ]
    )
    world.at(GATE)
    world.clear([195] * 4)
    delivered(world, 1_000, 1_000, 1_000, 1_000)
    got = []
    for slots in (1, 2, 1):
        entries = world.settle({1: [600, 600, 600, 550]}, slots=slots)
        got.append([e.delivered_wh for e in entries])
    assert got == [[500, 100, 600], [1_000, 100, 1_100], [500, 50, 550]]


def test_a_slot_settles_once(world: World) -> None:
    traded(world)
    delivered(world)
    world.settle({1: [1_000, 0, 0, 0]})
    for slots in (0, 1, 4, 2**255):
        with boa.reverts():
            world.settle({1: [1_000, 0, 0, 0]}, slots=slots)


def test_what_is_not_cleared_cannot_be_settled(world: World) -> None:
    world.post([world.order(1, ASK, 100, 1_000, count=4), world.order(2, BID, 400, 1_000, count=4)])
    world.at(GATE)
    world.clear([195])
    delivered(world)
    for slots in (2, 4):
        with boa.reverts("market: slots are not cleared"):
            world.settle({1: [1_000, 0, 0, 0]}, slots=slots)
    with boa.reverts("auction: slots out of range"):
        world.settle({1: [1_000, 0, 0, 0]}, slots=5)
    world.settle({1: [1_000, 0, 0, 0]}, slots=1)


def test_settlement_in_runs_equals_settlement_at_once(world: World) -> None:
    world.post(
        [
            world.order(1, ASK, 100, (700, 0, 300, 50)),
            world.order(3, ASK, 195, (400, 200, 0, 0)),
            world.order(2, BID, 400, (500, 500, 500, 500)),
            world.order(4, BID, 305, (500, 10, 20, 30)),
        ]
    )
    world.at(GATE)
    # Scarce slots clear at the marginal bid, 400 less the fee of 110.
    world.clear([195, 290, 290, 290])
    delivered(world, 900, 150, 300, 100)
    exports = {1: [600, 0, 250, 50], 3: [300, 150, 0, 0]}
    with boa.env.anchor():
        world.settle(exports)
        at_once = [world.balance(a) for a in range(1, 5)]
    for slots in (1, 2, 1):
        world.settle(exports, slots=slots)
    assert [world.balance(a) for a in range(1, 5)] == at_once
    assert world.escrow() == 0


def test_a_session_of_a_whole_day_settles_in_runs_across_its_words(world: World) -> None:
    whole_day(world)
    values = tuple(50 + slot for slot in range(96))
    world.post([world.order(1, ASK, 100, values), world.order(2, BID, 400, values)])
    world.at(DAY_SLOT, -3_600)
    world.clear([195] * 96)
    world.at(DAY_SLOT + 96)
    world.commit(DAY_SLOT, [1_000] * 96)
    exports = {1: [value - value % 7 for value in values]}
    with boa.env.anchor():
        world.settle(exports, slots=96)
        at_once = [world.balance(1), world.balance(2)]
    for slots in (5, 11, 1, 30, 2, 47):
        world.settle(exports, slots=slots)
    assert [world.balance(1), world.balance(2)] == at_once
    proved = sum(exports[1])
    assert at_once[0] == 100 * EURO + 195 * proved - 100 * (sum(values) - proved)


def test_self_trade_costs_the_fee_and_nothing_else(world: World) -> None:
    world.post([world.order(1, ASK, 100, 1_000), world.order(1, BID, 400, 1_000)])
    world.at(GATE)
    world.clear([195, *N])
    delivered(world)
    world.settle({1: [1_000, 0, 0, 0]})
    assert world.balance(1) == 100 * EURO - 110_000


def test_an_ask_at_the_price_without_energy_in_the_slot_stops_nobody(world: World) -> None:
    world.post([world.order(3, ASK, 195, (0, 50))])
    traded(world)
    delivered(world)
    entries = world.settle({1: [1_000, 0, 0, 0]})
    assert [(e.account, e.delivered_wh) for e in entries] == [(3, 0), (1, 1_000), (2, 1_000)]


# ---------------------------------------------------------------- void and abandon


def test_an_uncleared_session_is_voided_after_its_deadline_and_pays_back(world: World) -> None:
    world.post([world.order(1, ASK, 100, 1_000), world.order(2, BID, 400, 1_000)])
    for slot in (GATE, DAY_SLOT):
        world.at(slot)
        with boa.reverts("market: can still be cleared"):
            world.market.void(ZONE, DAY_SLOT)
    world.at(DAY_SLOT, 1)
    world.market.void(ZONE, DAY_SLOT)
    with boa.reverts("market: session is void"):
        world.market.void(ZONE, DAY_SLOT)
    world.settle({})
    assert world.balance(1) == world.balance(2) == 100 * EURO
    assert world.escrow() == 0
    assert world.market.account(1)[3] == 0


def test_nothing_is_voided_before_its_gate(world: World) -> None:
    world.post([world.order(1, ASK, 100, 1_000)])
    world.at(GATE, -1)
    with boa.reverts("parameters: future lookup"):
        world.market.void(ZONE, DAY_SLOT)


def test_a_void_session_is_not_cleared(world: World) -> None:
    world.post([world.order(1, ASK, 100, 1_000), world.order(2, BID, 400, 1_000)])
    world.at(DAY_SLOT, 1)
    world.market.void(ZONE, DAY_SLOT)
    # Whatever the clock says.
    world.at(DAY_SLOT)
    with boa.reverts("market: session is void"):
        world.clear([195, *N])


def test_what_was_cleared_in_time_still_settles_after_the_rest_is_void(world: World) -> None:
    world.post([world.order(1, ASK, 100, 1_000, count=4), world.order(2, BID, 400, 1_000, count=4)])
    world.at(GATE)
    world.clear([195])
    world.at(DAY_SLOT, 1)
    world.market.void(ZONE, DAY_SLOT)
    delivered(world, 1_000, 1_000, 1_000, 1_000)
    world.settle({1: [1_000] * 4})
    assert world.balance(1) == 100 * EURO + 195_000
    assert world.balance(2) == 100 * EURO - 305_000


def test_void_slots_pay_back_before_delivery_once_what_was_cleared_is_settled(
    world: World,
) -> None:
    world.post([world.order(1, ASK, 100, 1_000), world.order(2, BID, 400, 1_000)])
    world.at(DAY_SLOT, 1)
    world.market.void(ZONE, DAY_SLOT)
    for slots in (1, 3):
        world.settle({}, slots=slots)
    assert world.balance(1) == world.balance(2) == 100 * EURO


def test_a_cleared_session_can_only_be_settled(world: World) -> None:
    traded(world)
    world.at(DAY_SLOT, 1)
    with boa.reverts("market: session is cleared"):
        world.market.void(ZONE, DAY_SLOT)
    with boa.reverts("market: can still be settled"):
        world.market.abandon(ZONE, DAY_SLOT)


def test_a_session_is_abandoned_only_after_its_period(world: World) -> None:
    traded(world)
    world.at(END, 7 * DAY)
    with boa.reverts("market: can still be settled"):
        world.market.abandon(ZONE, DAY_SLOT)
    world.at(END, 7 * DAY + 1)
    world.market.abandon(ZONE, DAY_SLOT)
    with boa.reverts("market: nothing to abandon"):
        world.market.abandon(ZONE, DAY_SLOT)


def test_a_session_whose_readings_never_come_is_abandoned_without_penalty(world: World) -> None:
    traded(world)
    world.at(END, 7 * DAY + 1)
    world.market.abandon(ZONE, DAY_SLOT)
    world.settle({})
    assert world.balance(1) == world.balance(2) == 100 * EURO


def test_what_was_settled_before_a_session_is_abandoned_stays_settled(world: World) -> None:
    world.post([world.order(1, ASK, 100, 1_000, count=4), world.order(2, BID, 400, 1_000, count=4)])
    world.at(GATE)
    world.clear([195] * 4)
    delivered(world, 1_000, 1_000, 1_000, 1_000)
    world.settle({1: [1_000] * 4}, slots=1)
    world.at(END, 7 * DAY + 1)
    world.market.abandon(ZONE, DAY_SLOT)
    world.settle({}, slots=3)
    assert world.balance(1) == 100 * EURO + 195_000
    assert world.balance(2) == 100 * EURO - 305_000


def test_an_abandoned_slot_has_no_price(world: World) -> None:
    traded(world)
    delivered(world)
    world.at(END, 7 * DAY + 1)
    world.market.abandon(ZONE, DAY_SLOT)
    # Readings that came all the same, and a receipt, move no money any more.
    world.settle({1: [1_000, 0, 0, 0]})
    assert {e.price for e in logged(world.auction, "SlotSettled")} == {NO_PRICE}
    assert world.balance(1) == world.balance(2) == 100 * EURO
