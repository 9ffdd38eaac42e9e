# SPDX-License-Identifier: Apache-2.0
"""Settling, voiding, abandoning: what the auction and the market promise, one behaviour a test,
and what dishonest settlers and sellers meet.

Every test runs twice: with sessions settled at once, and slot by slot, which the auction works out
in another way. Random sessions are in test_market_fuzz.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import boa
import pytest

from dao.eip712 import address_of, expand
from dao.market.orders import market_separator, receipt_digest
from dao.market.session import DeviceReceipt, Settled
from tests.contracts.market_world import (
    ASK,
    BID,
    CHAIN_ID,
    CURVE_ORDER,
    DAY_SLOT,
    END,
    EURO,
    GATE,
    NO_PRICE,
    ZONE,
    World,
    delivered,
    key_of,
    key_with_twin,
    logged,
    traded,
    whole_day,
)

N = [None] * 3
DAY = 86_400
RECEIPT_PERIOD = 12 * 3_600


@pytest.fixture(params=[False, True], ids=["at once", "slot by slot"])
def world(world: World, request: pytest.FixtureRequest) -> Iterator[World]:
    world.singly = request.param
    yield world
    world.singly = False


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
    told = []
    for slots in (1, 1, 1, 1) if world.singly else (4,):
        world.settle({1: [400, 0, 0, 0]}, slots=slots)
        told += logged(world.auction, "SlotSettled")
    assert [(e.slot - DAY_SLOT, e.price, e.delivered_wh, e.fees, e.penalties) for e in told] == [
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
    seller, _ = world.settle({1: [1_000, 0, 0, 0]})
    assert seller.delivered_wh == 1_000


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


def test_a_session_is_settled_with_its_own_orders(world: World) -> None:
    world.post([world.order(3, ASK, 300, 1_000)])
    traded(world)
    delivered(world)
    pages = world.posted().pages
    (a,), (b, c) = pages
    for other in (
        pages[:1],
        pages[1:],
        pages[::-1],
        (*pages, (c,)),
        ((a,), (b,), (c,)),
        ((a, b), (c,)),
    ):
        with boa.reverts("auction: not the session's orders"):
            world.settle({1: [1_000, 0, 0, 0]}, other_book=replace(world.posted(), pages=other))
    world.settle({1: [1_000, 0, 0, 0]})


# ---------------------------------------------------------------- receipts


def test_a_receipt_of_another_session_chain_or_contract_is_refused(world: World) -> None:
    traded(world)
    delivered(world)
    values = [1_000, 0, 0, 0]
    for receipt in (
        world.receipt(1, values, session=DAY_SLOT + 4),
        world.receipt(1, values, session=DAY_SLOT - 4),
        world.receipt(1, values, separator=market_separator(1, world.market.address)),
        world.receipt(1, values, separator=market_separator(CHAIN_ID, world.auction.address)),
    ):
        with boa.reverts("auction: not the device's receipt"):
            world.settle([receipt])
        with boa.reverts("receipts: not the device's receipt"):
            world.lodge(receipt)


def test_an_altered_receipt_is_refused(world: World) -> None:
    traded(world)
    delivered(world)
    receipt = world.receipt(1, [900, 0, 0, 0])
    for exports in ((1_000, 0, 0, 0), (900, 0, 0, 1)):
        with boa.reverts("auction: not the device's receipt"):
            world.settle([replace(receipt, exports=exports)])


def test_a_receipt_of_another_meter_does_not_serve(world: World) -> None:
    traded(world)
    delivered(world)
    with boa.reverts("auction: not the device's receipt"):
        world.settle([replace(world.receipt(3, [1_000, 0, 0, 0]), meter=1)])
    with boa.reverts("auction: a receipt is outstanding"):
        world.settle({3: [1_000, 0, 0, 0]})


def test_the_malleable_twin_of_a_receipt_is_refused(world: World) -> None:
    meter = world.registry.meter_count() + 1
    exports = [1_000, 0, 0, 0]
    digest = receipt_digest(world.separator, meter, DAY_SLOT, exports)
    key, r, lower, twin = key_with_twin(digest)
    assert world.join(device=address_of(key)) == meter
    world.post([world.order(meter, ASK, 100, 1_000), world.order(2, BID, 400, 1_000)])
    world.at(GATE)
    world.clear([195, *N])
    delivered(world)
    signature = expand(r.to_bytes(32, "big"), lower.to_bytes(32, "big"))
    receipt = DeviceReceipt(meter, tuple(exports), signature)

    def twinned(arguments: list[Any]) -> list[Any]:
        *named, batch = arguments
        return [*named, [twin if word == lower else word for word in batch]]

    with boa.reverts("auction: not the device's receipt"):
        world.settle([receipt], edit=twinned)
    with boa.reverts("receipts: not the device's receipt"):
        world.auction.lodge_receipt(meter, ZONE, DAY_SLOT, (receipt.as_tuple()[0], r, twin))
    world.lodge(receipt)
    world.settle([receipt])


def test_a_receipt_is_lodged_only_once_no_key_can_change_it(world: World) -> None:
    # Lodged early and then suspended, it could be neither used nor left out.
    traded(world)
    receipt = world.receipt(1, [1_000, 0, 0, 0])
    world.at(END, -1)
    with boa.reverts("receipts: delivery is not over"):
        world.lodge(receipt)
    world.at(END)
    world.lodge(receipt)
    world.registry.suspend_key(1, sender=world.deployer)
    world.commit(DAY_SLOT, [1_000, 0, 0, 0])
    world.settle({1: [1_000, 0, 0, 0]})


@pytest.mark.parametrize("words", [0, 2, 3, 6])
def test_a_lodged_receipt_has_the_sessions_length(world: World, words: int) -> None:
    traded(world)
    world.at(END)
    _, r, vs = world.receipt(1, [1_000, 0, 0, 0]).as_tuple()
    with boa.reverts("receipts: receipt is cut off"):
        world.auction.lodge_receipt(1, ZONE, DAY_SLOT, ([1_000] * words, r, vs))


def test_no_receipt_is_lodged_for_a_session_that_is_not_there(world: World) -> None:
    traded(world)
    world.at(END)
    with boa.reverts("market: no such session"):
        world.lodge(world.receipt(1, [0] * 4, session=DAY_SLOT + 4), session=DAY_SLOT + 4)


def test_a_lodged_false_receipt_does_not_hold_up_the_others(world: World) -> None:
    world.post(
        [
            world.order(1, ASK, 100, 500),
            world.order(3, ASK, 100, 500),
            world.order(2, BID, 400, 1_000),
        ]
    )
    world.at(GATE)
    world.clear([195, *N])
    delivered(world, 800)
    world.lodge(world.receipt(3, [60_000, 0, 0, 0]))
    entries = world.settle({1: [500, 0, 0, 0], 3: [60_000, 0, 0, 0]})
    assert [(e.account, e.delivered_wh) for e in entries] == [(1, 500), (3, 300), (2, 800)]


def conflict(world: World, meter: int = 1) -> None:
    """Anyone shows two receipts of one device that name different energy for one slot."""
    one, other = (world.receipt(meter, [wh, 0, 0, 0]) for wh in (1_000, 900))
    world.registry.report_conflict(
        meter,
        world.market.address,
        DAY_SLOT,
        *[
            (DAY_SLOT, 4, words, r.to_bytes(32, "big"), vs.to_bytes(32, "big"))
            for words, r, vs in (one.as_tuple(), other.as_tuple())
        ],
    )


def test_after_two_conflicting_receipts_neither_counts(world: World) -> None:
    traded(world)
    delivered(world)
    conflict(world)
    for wh in (900, 1_000):
        with boa.reverts("auction: not the device's receipt"):
            world.settle({1: [wh, 0, 0, 0]})
    # The seller is late for good, and pays for it.
    world.at(END, RECEIPT_PERIOD + 1)
    world.settle({})
    assert world.balance(1) == 100 * EURO - 100_000
    assert world.balance(2) == 100 * EURO + 100_000


def test_a_lodged_receipt_whose_key_was_taken_away_counts_as_missing(world: World) -> None:
    traded(world)
    delivered(world)
    world.lodge(world.receipt(1, [1_000, 0, 0, 0]))
    conflict(world)
    with boa.reverts("auction: a receipt is outstanding"):
        world.settle({})
    world.at(END, RECEIPT_PERIOD + 1)
    world.settle({})
    assert world.balance(1) == 100 * EURO - 100_000


def test_a_conflict_of_one_seller_leaves_the_others_their_trade(world: World) -> None:
    world.post([world.order(3, ASK, 50, 400), world.order(4, BID, 900, 400)])
    world.post([world.order(1, ASK, 100, 1_000), world.order(2, BID, 400, 1_000)])
    world.at(GATE)
    world.clear([195, *N])
    delivered(world, 1_400)
    conflict(world, meter=3)
    world.at(END, RECEIPT_PERIOD + 1)
    entries = world.settle({1: [1_000, 0, 0, 0]})
    assert [(e.account, e.delivered_wh) for e in entries[::2]] == [(3, 0), (1, 1_000)]


def test_a_conflict_shown_after_settlement_takes_nothing_back(world: World) -> None:
    traded(world)
    delivered(world)
    world.settle({1: [1_000, 0, 0, 0]})
    conflict(world)
    assert world.balance(1) == 100 * EURO + 195_000
    world.check_conservation()


def test_one_receipt_in_two_runs_sells_no_energy_twice(world: World) -> None:
    """Nor do two different receipts in two runs: each slot is settled once."""
    world.post([world.order(1, ASK, 100, 500, count=4), world.order(2, BID, 400, 500, count=4)])
    world.at(GATE)
    world.clear([195] * 4)
    delivered(world, 500, 500, 500, 500)
    first = world.settle({1: [500, 0, 0, 0]}, slots=2)
    second = world.settle({1: [500, 500, 400, 0]}, slots=2)
    assert [e.delivered_wh for e in (first[0], second[0])] == [500, 400]


@pytest.mark.parametrize(("r", "s"), [(0, 0), (0, 1), (1, 0), (CURVE_ORDER, 1), (5, 5)])
def test_where_no_key_is_in_force_nobodys_receipt_is_taken(world: World, r: int, s: int) -> None:
    traded(world)
    world.at(DAY_SLOT)
    world.registry.suspend_key(1, sender=world.deployer)
    delivered(world)
    signature = r.to_bytes(32, "big") + s.to_bytes(32, "big") + b"\x1b"
    receipt = replace(world.receipt(1, [1_000, 0, 0, 0]), signature=signature)
    # An r of zero says that the receipt is missing.
    reason = "not the device's receipt" if r else "a receipt is outstanding"
    with boa.reverts(f"auction: {reason}"):
        world.settle([receipt])
    with boa.reverts("receipts: not the device's receipt"):
        world.lodge(receipt)


TWICE = """
# pragma version ~=0.4.3
@external
def run(target: address, first: Bytes[4096], second: Bytes[4096]):
    raw_call(target, first)
    raw_call(target, second)
"""


@pytest.mark.parametrize("runs", [(1, 3), (3, 1), (2, 2), (1, 1)], ids=str)
def test_two_settlements_in_one_transaction_mix_nothing_up(
    world: World, runs: tuple[int, int]
) -> None:
    """What meters have left is kept for the length of a transaction."""
    world.post([world.order(m, ASK, 100, 500, count=4) for m in (1, 3, 1)])
    world.post([world.order(2, BID, 400, 1_500, count=4)])
    world.at(GATE)
    # Bids and asks balance between 100 and 290.
    world.clear([195] * 4)
    delivered(world, *[1_500] * 4)
    exports = {1: [600, 800, 1_000, 0], 3: [100, 400, 500, 500]}
    with boa.env.anchor():
        for slots in runs:
            world.settle(exports, slots=slots)
        apart = [world.balance(account) for account in (1, 2, 3)]
    with boa.env.anchor():
        first = world.settlement(exports, slots=runs[0])
        world.auction.settle(*first)
        second = world.settlement(exports, slots=runs[1])
    twice = boa.loads(TWICE)
    calls = [world.auction.settle.prepare_calldata(*arguments) for arguments in (first, second)]
    twice.run(world.auction.address, *calls)
    world.check_conservation()
    assert [world.balance(account) for account in (1, 2, 3)] == apart


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
