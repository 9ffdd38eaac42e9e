# SPDX-License-Identifier: Apache-2.0
"""Offers followed over a real relay and node: each session once, whatever happens in between."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from dao.errors import CheckFailed
from dao.market.orders import ASK, BID
from dao.market.session import read_book
from dao.relay.store import State as Relayed
from forecasting.agent.follow import AGAIN_S, check_relay
from forecasting.agent.relaying import Away, RelayClient
from forecasting.agent.store import State
from tests.forecasting.agent.conftest import (
    BUYER,
    BUYS,
    DUE,
    EXPORT_WH,
    IMPORT_WH,
    SELLER,
    SELLS,
    Village,
)
from tests.relay.conftest import DAY_SLOT, GATE, HOUR, SLOTS, ZONE


class Cut(RelayClient):
    """A relay whose line is cut when an order is sent: before it arrives, or before its answer."""

    def __init__(self, url: str, *, arrives: bool) -> None:
        super().__init__(url)
        self.arrives = arrives

    def submit(self, document: Mapping[str, Any]) -> None:
        if self.arrives:
            super().submit(document)
        raise Away("cut off")


def state(village: Village, account: int = SELLER, side: int = ASK) -> State | None:
    deed = village.deed(account, side)
    return None if deed is None else deed.state


def reason(village: Village) -> str | None:
    deed = village.deed()
    return None if deed is None else deed.code


def posted(village: Village) -> list[tuple[int, int, int]]:
    """Account, limit and Wh of what stands in the book."""
    book = read_book(village.lane.relay.market, ZONE, DAY_SLOT)
    return sorted((one.account, one.limit, one.total_wh) for one in book.orders)


def test_offers_are_signed_followed_cleared_and_paid(village: Village) -> None:
    lane = village.lane
    for offer in (SELLS, BUYS):
        village.grant(offer)
        village.store.put(village.sign(offer))
    before = {account: lane.balance(account) for account in (SELLER, BUYER)}
    village.follower().round(village.now)
    assert (state(village), state(village, BUYER, BID)) == (State.TAKEN, State.TAKEN)
    village.flush()
    assert posted(village) == [
        (SELLER, 120, EXPORT_WH * SLOTS),
        (BUYER, 300, IMPORT_WH * SLOTS),
    ]
    lane.chain.set_time(GATE + 60)
    village.follower().round(village.now)
    assert (state(village), state(village, BUYER, BID)) == (State.ACCEPTED, State.ACCEPTED)
    lane.clear()
    lane.at(25 * HOUR)
    village.settle()
    # The buyer asks for less than is offered, so the floor is the price; the fee is 110.
    sold = IMPORT_WH * SLOTS
    fee = int(lane.relay.market.call("clearing", ZONE, DAY_SLOT)[1])
    assert lane.balance(SELLER) == before[SELLER] + sold * 120
    assert lane.balance(BUYER) == before[BUYER] - sold * (120 + fee)


def test_a_session_is_ordered_for_once_however_often_it_is_looked_at(village: Village) -> None:
    village.grant(SELLS)
    village.store.put(village.sign(SELLS))
    for _ in range(3):
        village.follower().round(village.now)
    village.flush()
    village.follower().round(village.now)
    assert posted(village) == [(SELLER, 120, EXPORT_WH * SLOTS)]


@pytest.mark.parametrize("arrives", [False, True])
def test_an_order_whose_way_broke_off_is_sent_again_as_it_was(
    village: Village, arrives: bool
) -> None:
    village.grant(SELLS)
    village.store.put(village.sign(SELLS))
    with pytest.raises(Away):
        village.follower(relay=Cut(village.url, arrives=arrives)).round(village.now)
    signed = village.deed()
    assert signed is not None
    assert signed.state is State.SIGNED
    village.follower().round(village.now)
    again = village.deed()
    assert again == replace(signed, state=State.TAKEN)
    village.flush()
    assert len(posted(village)) == 1


def test_an_order_that_could_not_be_sent_before_the_gate_is_missed(village: Village) -> None:
    village.grant(SELLS)
    village.store.put(village.sign(SELLS))
    with pytest.raises(Away):
        village.follower(relay=Cut(village.url, arrives=False)).round(village.now)
    village.lane.chain.set_time(GATE + 1)
    village.follower().round(village.now)
    assert (state(village), reason(village)) == (State.MISSED, "gate")


@pytest.mark.parametrize(("arrives", "becomes"), [(False, State.WITHDRAWN), (True, State.TAKEN)])
def test_an_offer_taken_back_in_between_is_not_sent_any_more(
    village: Village, arrives: bool, becomes: State
) -> None:
    village.grant(SELLS)
    village.store.put(village.sign(SELLS))
    with pytest.raises(Away):
        village.follower(relay=Cut(village.url, arrives=arrives)).round(village.now)
    village.store.put(village.sign(replace(SELLS, version=2, withdrawn=True)))
    village.follower().round(village.now)
    assert state(village) is becomes


def test_nothing_is_done_before_the_hour_and_after_the_last_call(village: Village) -> None:
    village.grant(SELLS)
    village.store.put(village.sign(SELLS))
    assert village.follower(ahead=60).round(village.now) == []
    village.lane.chain.set_time(GATE - 10)
    assert village.follower().round(village.now) == []
    assert village.deed() is None


def test_what_was_missing_is_looked_at_again_until_it_is_there(village: Village) -> None:
    village.store.put(village.sign(SELLS))
    village.keys.address(SELLER)
    village.follower().round(village.now)
    assert (state(village), reason(village)) == (State.IDLE, "no-mandate")
    village.grant(SELLS)
    village.follower().round(village.now)
    assert reason(village) == "no-mandate"
    village.lane.chain.set_time(DUE + AGAIN_S + 5)
    village.follower().round(village.now)
    assert state(village) is State.TAKEN


def test_a_newer_version_is_looked_at_at_once(village: Village) -> None:
    village.grant(SELLS)
    village.store.put(village.sign(replace(SELLS, daily_wh=10**6)))
    village.follower().round(village.now)
    assert reason(village) == "reserve"
    village.store.put(village.sign(replace(SELLS, version=2)))
    village.follower().round(village.now)
    assert state(village) is State.TAKEN


def test_an_offer_that_somebody_else_signed_is_not_followed(village: Village) -> None:
    """As if the file had been written to, or the home had changed hands."""
    village.grant(SELLS)
    village.store.put(village.sign(SELLS, by=BUYER))
    village.follower().round(village.now)
    assert reason(village) == "not-owner"


def test_a_mandate_of_another_agent_is_left_alone(village: Village) -> None:
    village.grant(SELLS, agent=village.keys.address(BUYER))
    village.store.put(village.sign(SELLS))
    village.follower().round(village.now)
    assert reason(village) == "other-agent"


def test_the_higher_floor_holds_where_offer_and_mandate_differ(village: Village) -> None:
    village.grant(SELLS, limit=180)
    village.store.put(village.sign(SELLS))
    village.follower().round(village.now)
    village.flush()
    assert posted(village) == [(SELLER, 180, EXPORT_WH * SLOTS)]


def test_an_order_that_the_chain_turns_away_is_said_so(village: Village) -> None:
    village.grant(SELLS)
    village.store.put(village.sign(SELLS))
    village.follower().round(village.now)
    market, owner = village.lane.relay.market, village.lane.owners[SELLER - 1]
    village.lane.chain.fund(owner.address)
    market.transact("end_mandate", SELLER, SELLS.mandate, sender=owner)
    village.flush()
    (taken,) = village.lane.relay.store.of_session(ZONE, DAY_SLOT, list(Relayed))
    assert taken.state in (Relayed.REJECTED, Relayed.WITHDRAWN)
    village.lane.chain.set_time(GATE + 60)
    village.follower().round(village.now)
    assert state(village) in (State.REJECTED, State.WITHDRAWN)


def test_a_home_that_cannot_be_read_keeps_no_other_from_its_turn(village: Village) -> None:
    readings = village.follower().readings

    class Broken(type(readings)):  # type: ignore[misc]
        def recent(self, meter: int, now: int) -> Any:
            if meter == SELLER:
                raise ValueError("a defect")
            return super().recent(meter, now)

    for offer in (SELLS, BUYS):
        village.grant(offer)
        village.store.put(village.sign(offer))
    village.follower(readings=Broken(readings.lake, ZONE)).round(village.now)
    assert (reason(village), state(village, BUYER, BID)) == ("defect", State.TAKEN)


def test_a_relay_of_another_market_or_none_is_refused(village: Village) -> None:
    check_relay(RelayClient(village.url), village.lane.chain.chain_id, village.market)
    with pytest.raises(CheckFailed, match="works for market"):
        check_relay(RelayClient(village.url), 1, village.market)
    with pytest.raises(Away, match="answers 404"):
        check_relay(RelayClient(village.url + "/nowhere"), 1, village.market)
