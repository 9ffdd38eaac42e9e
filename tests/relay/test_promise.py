# SPDX-License-Identifier: Apache-2.0
"""A promise anyone can check: who made it, and whether the chain shows it kept."""

from __future__ import annotations

from dataclasses import replace

import pytest
from eth_account import Account as Signer

from dao.chain import ApeAccount, LocalAccount
from dao.errors import BadUse
from dao.market import session
from dao.market.orders import Order, order_digest
from dao.relay import promise
from dao.relay.promise import Promise, Verdict, verdict
from tests.relay.conftest import DAY_SLOT, GATE, HOUR, ZONE, Lane

RELAY = LocalAccount.from_key(b"\x11" * 32)
MADE = Promise(b"\x22" * 32, 7, DAY_SLOT, GATE, "0x" + "Aa" * 20)


def test_a_promise_is_signed_as_wallets_sign_typed_data() -> None:
    signature = promise.sign(31_337, MADE, RELAY)
    theirs = Signer.sign_typed_data(
        RELAY.key, full_message=promise.typed_data(31_337, MADE)
    ).signature
    assert signature == bytes(theirs)
    assert promise.signer(31_337, MADE, signature) == RELAY.address


@pytest.mark.parametrize(
    "other",
    [
        replace(MADE, order=b"\x23" * 32),
        replace(MADE, account=8),
        replace(MADE, session=DAY_SLOT + 24),
        replace(MADE, post_before=GATE + 1),
        replace(MADE, market="0x" + "bb" * 20),
    ],
    ids=["order", "account", "session", "post_before", "market"],
)
def test_a_promise_covers_every_field(other: Promise) -> None:
    signature = promise.sign(31_337, MADE, RELAY)
    assert promise.signer(31_337, other, signature) != RELAY.address


def test_a_promise_of_another_chain_is_not_ours() -> None:
    assert promise.signer(1, MADE, promise.sign(31_337, MADE, RELAY)) != RELAY.address


def test_a_malformed_signature_is_bad_use() -> None:
    with pytest.raises(BadUse, match="promise"):
        promise.signer(31_337, MADE, b"\x00" * 65)


def test_an_account_of_ape_promises_too(lane: Lane) -> None:
    import ape

    account = ape.accounts.test_accounts[3]
    signature = promise.sign(31_337, MADE, ApeAccount(str(account.address), account))
    assert promise.signer(31_337, MADE, signature) == str(account.address)


def promised(lane: Lane, order: Order) -> Promise:
    market = lane.relay.market.address
    return Promise(order_digest(lane.relay.separator, order), order.account, DAY_SLOT, GATE, market)


def test_posted_in_time_is_kept_accepted_or_not(lane: Lane) -> None:
    good, poor = lane.order(1), lane.order(2, limit=60_000, wh=25_000)
    batch = [lane.signed(good), lane.signed(poor)]
    accepted, rejected = session.post(lane.relay.market, ZONE, DAY_SLOT, batch, lane.relay.account)
    assert (len(accepted), len(rejected)) == (1, 1)
    for order in (good, poor):
        assert verdict(promised(lane, order), lane.relay.market, ZONE) is Verdict.KEPT
    lane.at(0)
    assert verdict(promised(lane, good), lane.relay.market, ZONE) is Verdict.KEPT


def test_a_promise_is_broken_from_its_time_on_and_not_before(lane: Lane) -> None:
    made = promised(lane, lane.order(1))
    other = lane.signed(lane.order(2))
    session.post(lane.relay.market, ZONE, DAY_SLOT, [other], lane.relay.account)
    lane.at(-HOUR - 1)
    assert verdict(made, lane.relay.market, ZONE) is Verdict.NOT_YET_DUE
    lane.at(-HOUR)
    assert verdict(made, lane.relay.market, ZONE) is Verdict.BROKEN


def test_a_revoked_order_releases_the_relay_for_whoever_holds_the_order(lane: Lane) -> None:
    order = lane.order(1)
    lane.chain.fund(lane.owners[0].address)
    lane.relay.market.transact("revoke", 1, 0, sender=lane.owners[0])
    lane.at(0)
    made = promised(lane, order)
    assert verdict(made, lane.relay.market, ZONE, order=order) is Verdict.RELEASED
    assert verdict(made, lane.relay.market, ZONE) is Verdict.BROKEN


def test_a_mandate_that_was_ended_releases_the_relay_from_its_orders(lane: Lane) -> None:
    lane.chain.fund(lane.owners[0].address)
    lane.grant(1, 7, lane.owners[5])
    order, other = lane.order(1, mandate=7), lane.order(1, mandate=8)
    lane.relay.market.transact("end_mandate", 1, 7, sender=lane.owners[0])
    lane.at(0)
    market = lane.relay.market
    assert verdict(promised(lane, order), market, ZONE, order=order) is Verdict.RELEASED
    assert verdict(promised(lane, other), market, ZONE, order=other) is Verdict.BROKEN


def test_an_order_revoked_after_the_gate_releases_nobody(lane: Lane) -> None:
    order = lane.order(1)
    lane.at(0)
    lane.chain.fund(lane.owners[0].address)
    lane.relay.market.transact("revoke", 1, 0, sender=lane.owners[0])
    assert verdict(promised(lane, order), lane.relay.market, ZONE, order=order) is Verdict.BROKEN


def test_a_promise_is_judged_with_its_own_market_and_order(lane: Lane) -> None:
    made = promised(lane, lane.order(1))
    with pytest.raises(BadUse, match="of market"):
        verdict(replace(made, market="0x" + "11" * 20), lane.relay.market, ZONE)
    with pytest.raises(BadUse, match="not the one that was promised"):
        verdict(made, lane.relay.market, ZONE, order=lane.order(2))


def test_what_strangers_post_cannot_hide_a_kept_promise(lane: Lane) -> None:
    """A malformed order in the same batch is turned away, and the good ones are still found."""
    good, poor = lane.order(1), lane.order(2, limit=60_000, wh=25_000)
    _, _, first = session.pack_batch([lane.signed(good)])
    _, _, second = session.pack_batch([lane.signed(poor)])
    malformed = first[0] | 65_535 << 104  # the limit that means no price
    batch = [malformed, first[0], second[0], 1, 1, *first[1:], *second[1:]]
    lane.relay.market.transact("post", ZONE, DAY_SLOT, 3, 3, batch)
    for order in (good, poor):
        assert verdict(promised(lane, order), lane.relay.market, ZONE) is Verdict.KEPT


def test_posting_a_forgery_does_not_keep_the_promise_of_the_order(lane: Lane) -> None:
    """Same account and number, another limit: it is turned away, and proves nothing."""
    order = lane.order(1)
    forged = replace(lane.signed(order), order=replace(order, limit=299))
    session.post(lane.relay.market, ZONE, DAY_SLOT, [forged], lane.relay.account)
    lane.at(0)
    assert verdict(promised(lane, order), lane.relay.market, ZONE) is Verdict.BROKEN


def test_profiles_that_run_over_pages_are_read_back(lane: Lane) -> None:
    """More words than a page holds, with orders cut in two by the page's end."""
    orders = [
        lane.order(n, wh=tuple(range(60, 81)), count=21, offset=3, limit=n) for n in range(1, 17)
    ] + [lane.order(n, nonce=1, wh=tuple(range(60, 77)), count=17, limit=n) for n in range(1, 17)]
    batch = [lane.signed(order) for order in orders]
    batch[4] = replace(batch[4], signature=batch[5].signature)
    session.post(lane.relay.market, ZONE, DAY_SLOT, batch, lane.relay.account)
    found = promise.postings(lane.relay.market, ZONE, DAY_SLOT)
    assert [one.order for one in found if one.rejection is None] == orders[:4] + orders[5:]
    assert [one.order for one in found if one.rejection is not None] == [orders[4]]


def test_a_pause_at_the_gate_releases_the_relay(lane: Lane) -> None:
    made = promised(lane, lane.order(1))
    lane.pause()
    lane.at(0)
    assert verdict(made, lane.relay.market, ZONE) is Verdict.RELEASED
