# SPDX-License-Identifier: Apache-2.0
"""A session's steps on a real node: run twice, run late, and with the book read from the chain."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from benchmarks.street import DAY_SLOT, ZONE, Street, street
from dao.chain import Contract
from dao.errors import CheckFailed
from dao.market import session
from dao.market.orders import ASK, BID, pack, sign_order
from dao.market.session import Rejection, SignedOrder

HOUR = 3_600
SLOTS = 24


@pytest.fixture
def on() -> Iterator[Street]:
    with street(days_before=1) as made:
        made.at(-12 * HOUR)
        yield made


def market(on: Street) -> Contract:
    return on.deployment["EnergyMarket"]


def clear(on: Street, rows: list[int]) -> session.SessionClearing | None:
    return session.clear(
        market(on), on.deployment["GridParameters"], ZONE, DAY_SLOT, rows, on.relay
    )


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
    rows = session.posted_rows(market(on), ZONE, DAY_SLOT)
    assert rows == [row for signed in [*good, later] for row in pack(signed.order)]


def test_a_session_goes_through_and_each_step_taken_again_does_nothing(on: Street) -> None:
    good, _ = book(on)
    session.post(market(on), ZONE, DAY_SLOT, good, on.relay)
    on.at(-HOUR)
    rows = session.posted_rows(market(on), ZONE, DAY_SLOT)
    cleared = clear(on, rows)
    assert cleared is not None
    # The bid, 400 less the fee of 110, asks for less than is offered: the ask sets the price.
    assert cleared.prices == (100,) * SLOTS
    assert clear(on, rows) is None
    on.at(24 * HOUR)
    on.commit_day(0)
    receipts = on.receipts(DAY_SLOT, {1: [400] * SLOTS})
    settled = session.settle(market(on), ZONE, DAY_SLOT, rows, receipts, on.relay)
    assert settled is not None
    assert session.settle(market(on), ZONE, DAY_SLOT, rows, receipts, on.relay) is None
    assert session.read_session(market(on), ZONE, DAY_SLOT).settled == SLOTS
    on.check_conservation()


def test_a_session_that_nobody_cleared_pays_everything_back(on: Street) -> None:
    before = [market(on).call("account", n)[1] for n in (1, 3)]
    good, _ = book(on)
    session.post(market(on), ZONE, DAY_SLOT, good, on.relay)
    assert [market(on).call("account", n)[1] for n in (1, 3)] != before
    on.at(1)
    market(on).transact("void", ZONE, DAY_SLOT)
    rows = session.posted_rows(market(on), ZONE, DAY_SLOT)
    assert session.settle(market(on), ZONE, DAY_SLOT, rows, {}, on.relay) is not None
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
    rows = session.posted_rows(market(on), ZONE, DAY_SLOT)
    clear(on, rows)
    short = on.receipts(DAY_SLOT, {1: [400] * (SLOTS - 1)})
    with pytest.raises(CheckFailed, match="meter 1"):
        session.settle(market(on), ZONE, DAY_SLOT, rows, short, on.relay)
