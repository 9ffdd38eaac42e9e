# SPDX-License-Identifier: Apache-2.0
"""A session's steps on a real node: run twice, run late, and with the book read from the chain."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import pytest

from benchmarks.street import DAY_SLOT, ZONE, Street, street
from dao.chain import Contract, ContractReverted, Receipt
from dao.eip712 import sign_digest
from dao.errors import CheckFailed
from dao.market import session
from dao.market.orders import ASK, BID, correction_digest, pack, sign_order
from dao.market.session import Rejection, SignedOrder
from tests.chains import put_back

HOUR = 3_600
SLOTS = 24


@pytest.fixture(scope="module")
def settled() -> Iterator[Street]:
    with street(days_before=1) as made:
        made.at(-12 * HOUR)
        yield made


@pytest.fixture
def on(settled: Street) -> Iterator[Street]:
    """The street as it was when it had settled in; what a test does to it is undone."""
    with put_back(settled.chain):
        yield replace(settled, nonces=dict(settled.nonces))


def market(on: Street) -> Contract:
    return on.deployment["EnergyMarket"]


def auction(on: Street) -> Contract:
    return on.deployment["UniformPriceAuction"]


def adjustments(on: Street) -> Contract:
    return on.deployment["DeliveryAdjustments"]


def read_book(on: Street) -> session.PostedBook:
    return session.read_book(market(on), ZONE, DAY_SLOT)


def clear(
    on: Street, posted: session.PostedBook, slots: int | None = None
) -> session.SessionClearing | None:
    parameters = on.deployment["GridParameters"]
    return session.clear(auction(on), market(on), parameters, ZONE, posted, on.relay, slots=slots)


def settle(
    on: Street,
    posted: session.PostedBook,
    receipts: Mapping[int, session.DeviceReceipt],
    slots: int | None = None,
) -> Receipt | None:
    return session.settle(auction(on), market(on), ZONE, posted, receipts, on.relay, slots=slots)


def book(on: Street) -> tuple[list[SignedOrder], list[SignedOrder]]:
    """Two good orders around one without its owner's signature; the good ones, and all."""
    ask = on.order(1, ASK, 100, tuple([500] * SLOTS), DAY_SLOT)
    forged = on.order(2, BID, 400, tuple([100] * SLOTS), DAY_SLOT)
    forged = replace(forged, order=replace(forged.order, limit=401))
    bid = on.order(3, BID, 400, tuple([400] * SLOTS), DAY_SLOT)
    return [ask, bid], [ask, forged, bid]


def test_the_book_reads_back_from_the_chain_without_what_was_turned_away(on: Street) -> None:
    good, batch = book(on)
    accepted, rejected = session.post(market(on), ZONE, DAY_SLOT, batch, on.relay)
    later = on.order(4, BID, 300, 50, DAY_SLOT)
    more, _ = session.post(market(on), ZONE, DAY_SLOT, [later], on.relay)
    assert accepted + more == [*good, later]
    assert [(s.order.account, why) for s, why in rejected] == [(2, Rejection.BAD_SIGNATURE)]
    posted = read_book(on)
    assert posted.rows == [row for signed in [*good, later] for row in pack(signed.order)]
    assert posted.orders == [signed.order for signed in [*good, later]]


def test_a_session_goes_through_and_each_step_taken_again_does_nothing(on: Street) -> None:
    good, _ = book(on)
    session.post(market(on), ZONE, DAY_SLOT, good, on.relay)
    on.at(-HOUR)
    posted = read_book(on)
    cleared = clear(on, posted)
    assert cleared is not None
    # The bid, 400 less the fee of 110, asks for less than is offered: the ask sets the price.
    assert cleared.prices == (100,) * SLOTS
    assert clear(on, posted) is None
    on.at(24 * HOUR)
    on.commit_day(0)
    receipts = on.receipts(DAY_SLOT, {1: [400] * SLOTS})
    settled = settle(on, posted, receipts)
    assert settled is not None
    assert settle(on, posted, receipts) is None
    assert session.read_session(market(on), ZONE, DAY_SLOT).settled == SLOTS
    on.check_conservation()


def test_a_session_that_nobody_cleared_pays_everything_back(on: Street) -> None:
    before = [market(on).call("account", n)[1] for n in (1, 3)]
    good, _ = book(on)
    session.post(market(on), ZONE, DAY_SLOT, good, on.relay)
    assert [market(on).call("account", n)[1] for n in (1, 3)] != before
    on.at(1)
    market(on).transact("void", ZONE, DAY_SLOT)
    posted = read_book(on)
    assert settle(on, posted, {}) is not None
    assert [market(on).call("account", n)[1] for n in (1, 3)] == before


def test_an_account_that_was_too_poor_for_long_can_order_again(on: Street) -> None:
    """More orders than the window of numbers holds are turned away; the next good one is not."""
    nonces = session.OrderNonces()

    def order(wh: int) -> SignedOrder:
        made = on.order(1, BID, 65_534, tuple([wh] * SLOTS), DAY_SLOT).order
        made = replace(made, nonce=nonces.take(1))
        return SignedOrder(made, sign_order(on.separator, made, on.owners[0].key))

    for _ in range(20):
        _, rejected = session.post(market(on), ZONE, DAY_SLOT, [order(25_000)], on.relay)
        assert [why for _, why in rejected] == [Rejection.POOR]
        nonces.give_back(rejected[0][0].order)
    accepted, _ = session.post(market(on), ZONE, DAY_SLOT, [order(10)], on.relay)
    assert len(accepted) == 1


def test_a_receipt_that_does_not_cover_the_session_is_named(on: Street) -> None:
    good, _ = book(on)
    session.post(market(on), ZONE, DAY_SLOT, good, on.relay)
    on.at(-HOUR)
    posted = read_book(on)
    clear(on, posted)
    short = on.receipts(DAY_SLOT, {1: [400] * (SLOTS - 1)})
    with pytest.raises(CheckFailed, match="meter 1"):
        settle(on, posted, short)


def test_a_session_clears_and_settles_in_runs_of_slots(on: Street) -> None:
    """A slot in which only bids stand, and one in which only asks stand, are claimed as empty."""
    ask = on.order(1, ASK, 100, (500, 0, *[500] * (SLOTS - 2)), DAY_SLOT)
    bid = on.order(3, BID, 400, (0, *[400] * (SLOTS - 1)), DAY_SLOT)
    session.post(market(on), ZONE, DAY_SLOT, [ask, bid], on.relay)
    on.at(-HOUR)
    posted = read_book(on)
    for slots in (1, 7, None):
        cleared = clear(on, posted, slots)
    assert cleared is not None
    assert cleared.prices == (None, None, *[100] * (SLOTS - 2))
    assert market(on).call("clearing", ZONE, DAY_SLOT)[0] == 65_535
    on.at(24 * HOUR)
    on.commit_day(0)
    receipts = on.receipts(DAY_SLOT, {1: [400] * SLOTS})
    for slots in (1, 5, None):
        settle(on, posted, receipts, slots)
    assert session.read_session(market(on), ZONE, DAY_SLOT).settled == SLOTS
    on.check_conservation()


def test_a_seller_gives_back_what_its_meter_takes_back(on: Street) -> None:
    """40 of 400 Wh in one slot: the buyer gets their price, 100, and nobody anything else."""
    ask = on.order(1, ASK, 100, tuple([500] * SLOTS), DAY_SLOT)
    bid = on.order(3, BID, 400, tuple([400] * SLOTS), DAY_SLOT)
    session.post(market(on), ZONE, DAY_SLOT, [ask, bid], on.relay)
    on.at(-HOUR)
    posted = read_book(on)
    clear(on, posted)
    on.at(24 * HOUR)
    on.commit_day(0)
    receipts = on.receipts(DAY_SLOT, {1: [400] * SLOTS})
    settle(on, posted, receipts)
    before = {n: market(on).call("account", n)[1] for n in (1, 3)}

    corrected = (400, 360, *[400] * (SLOTS - 2))
    digest = correction_digest(on.separator, 1, DAY_SLOT, corrected)
    correction = session.DeviceReceipt(1, corrected, sign_digest(on.devices[0].key, digest))
    made = session.adjust(
        adjustments(on), ZONE, posted, DAY_SLOT + 1, receipts[1], correction, on.relay
    )
    assert made.event("AdjustmentRecorded").args["wh"] == 40
    after = {n: market(on).call("account", n)[1] for n in (1, 3)}
    assert after == {1: before[1] - 4_000, 3: before[3] + 4_000}
    on.check_conservation()
    with pytest.raises(ContractReverted, match="slot was adjusted"):
        session.adjust(
            adjustments(on), ZONE, posted, DAY_SLOT + 1, receipts[1], correction, on.relay
        )
