# SPDX-License-Identifier: Apache-2.0
"""What a ticket says before signing is what clearing and settlement then do."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dao.market.book import session_book
from dao.market.orders import ASK, BID, Order
from dao.market.settlement import settle_session
from dao.market.solver import clear_session
from dao.tariffs import Tariffs
from dashboard.services import ticket as tickets
from dashboard.services.ticket import BUY, SELL, Fault, Ticket, preview, spread, suggestion

TARIFFS = Tariffs()
FIRST = 1_628_064
GATE = FIRST * 900 - 3_600
RICH = 10**12


@dataclass(frozen=True)
class Terms:
    first_slot: int = FIRST
    slots: int = 4
    gate: int = GATE
    orders_until: int = GATE - 120
    penalty: int = 100
    min_order_wh: int = 50
    max_slot_wh: int = 25_000
    grid_fee: tuple[int, ...] = (110,) * 4
    band_min: tuple[int, ...] = (0,) * 4
    band_max: tuple[int, ...] = (1_000,) * 4


@st.composite
def all_terms(draw: st.DrawFn) -> Terms:
    low = draw(st.lists(st.integers(0, 100), min_size=4, max_size=4))
    high = draw(st.lists(st.integers(150, 1_000), min_size=4, max_size=4))
    fee = draw(st.lists(st.integers(0, 500), min_size=4, max_size=4))
    return Terms(
        penalty=draw(st.integers(0, 1_000)),
        grid_fee=tuple(fee),
        band_min=tuple(low),
        band_max=tuple(high),
    )


@st.composite
def all_tickets(draw: st.DrawFn) -> Ticket:
    wh = draw(st.lists(st.integers(0, 5_000), min_size=4, max_size=4).filter(any))
    return Ticket(draw(st.sampled_from([SELL, BUY])), draw(st.integers(0, 1_600)), tuple(wh))


def order(account: int, side: int, limit: int, wh: tuple[int, ...]) -> Order:
    return Order(account, 0, 0, GATE, side, limit, FIRST, 0, wh, len(wh))


def settled(
    orders: list[Order], terms: Terms, exports: dict[int, tuple[int, ...]]
) -> tuple[int, int, tuple[int | None, ...]]:
    """Change of the first order's balance, its delivered Wh, and the clearing prices."""
    book = session_book(orders, terms.slots)
    cleared = clear_session(
        book.side,
        book.limit,
        book.wh,
        band=list(zip(terms.band_min, terms.band_max, strict=True)),
        fee=terms.grid_fee,
    )
    end = settle_session(
        orders, terms.slots, cleared, exports, [10**9] * 4, terms.grid_fee, terms.penalty
    )
    change = int(end.credit[0] - end.held[0])
    return change, int(end.delivered_wh[0].sum()), cleared.prices


def against(ticket: Ticket, terms: Terms, prices: list[int | None]) -> list[Order]:
    """A book in which each slot clears at the price: others meet there with 10 Wh and with what
    this order trades."""
    mine = order(1, ASK if ticket.side == SELL else BID, ticket.limit, ticket.wh)
    others: list[Order] = []
    for slot, price in enumerate(prices):
        if price is None:
            continue
        only = [0, 0, 0, 0]
        fills = 0
        edge = tickets.edge(ticket, terms, slot)
        if edge is not None:
            reached = price >= edge if ticket.side == SELL else price <= edge
            fills = ticket.wh[slot] if reached else 0
        for side, limit in ((ASK, price), (BID, price + terms.grid_fee[slot])):
            more = fills if (side == BID) == (ticket.side == SELL) else 0
            only[slot] = 10 + more
            others.append(order(len(others) + 2, side, limit, tuple(only)))
    return [mine, *others]


@settings(deadline=None, max_examples=150)
@given(all_tickets(), all_terms(), st.data())
def test_at_any_price_the_contract_pays_what_the_ticket_says(
    ticket: Ticket, terms: Terms, data: st.DataObject
) -> None:
    prices = [
        data.draw(st.one_of(st.none(), st.integers(low, high)))
        for low, high in zip(terms.band_min, terms.band_max, strict=True)
    ]
    book = against(ticket, terms, prices)
    everything = {one.account: (10**6,) * 4 for one in book}
    change, delivered, cleared = settled(book, terms, everything)
    # Where this order alone meets the others' price from afar, the price may settle between them;
    # the ticket is asked about the prices that came out.
    said = tickets.outcome(ticket, terms, TARIFFS, list(cleared))
    assert (said.money, said.energy_wh) == (change, delivered)


@settings(deadline=None, max_examples=150)
@given(all_tickets(), all_terms())
def test_at_the_limit_the_contract_pays_what_the_ticket_says(ticket: Ticket, terms: Terms) -> None:
    edges = [tickets.edge(ticket, terms, slot) for slot in range(4)]
    spoken = [e if wh else None for e, wh in zip(edges, ticket.wh, strict=True)]
    book = against(ticket, terms, spoken)
    change, delivered, _ = settled(book, terms, {one.account: (10**6,) * 4 for one in book})
    said = preview(ticket, terms, TARIFFS, free=RICH, now=0).at_limit
    assert (said.money, said.energy_wh) == (change, delivered)
    if ticket.side == BUY:
        assert said.fees == sum(
            wh * fee
            for wh, fee, edge in zip(ticket.wh, terms.grid_fee, edges, strict=True)
            if edge is not None
        )


@settings(deadline=None, max_examples=150)
@given(all_tickets(), all_terms(), st.data())
def test_no_book_and_no_delivery_costs_more_than_the_worst_case(
    ticket: Ticket, terms: Terms, data: st.DataObject
) -> None:
    mine = order(1, ASK if ticket.side == SELL else BID, ticket.limit, ticket.wh)
    book = [mine]
    for number in range(data.draw(st.integers(1, 6))):
        wh = data.draw(st.lists(st.integers(0, 6_000), min_size=4, max_size=4).filter(any))
        side = data.draw(st.sampled_from([ASK, BID]))
        book.append(order(number + 2, side, data.draw(st.integers(0, 1_600)), tuple(wh)))
    exports = {
        one.account: tuple(data.draw(st.integers(0, 6_000)) for _ in range(4)) for one in book
    }
    change, _, _ = settled(book, terms, exports)
    found = preview(ticket, terms, TARIFFS, free=RICH, now=0)
    assert found.worst.money <= change
    assert -found.worst.money <= found.escrow
    assert found.free_after == RICH - found.escrow


def test_a_seller_who_delivers_nothing_pays_exactly_the_worst_case() -> None:
    ticket, terms = Ticket(SELL, 120, (500, 0, 300, 0)), Terms()
    change, delivered, _ = settled(against(ticket, terms, [120, None, 120, None]), terms, {})
    assert delivered == 0
    assert preview(ticket, terms, TARIFFS, free=RICH, now=0).worst.money == change == -80_000


def test_a_sale_is_held_against_the_feed_in_and_a_purchase_against_the_retail_tariff() -> None:
    sale = preview(Ticket(SELL, 120, (1_000,) * 4), Terms(), TARIFFS, free=RICH, now=0)
    assert sale.at_limit.money == 480_000
    assert sale.at_limit.better == 4_000 * (120 - 79)
    bought = preview(Ticket(BUY, 300, (1_000,) * 4), Terms(), TARIFFS, free=RICH, now=0)
    assert bought.at_limit.money == -1_200_000
    assert bought.at_limit.fees == 440_000
    assert bought.at_limit.better == 4_000 * (397 - 300)


def test_recent_prices_fill_only_the_slots_that_reach_the_limit() -> None:
    ticket = Ticket(SELL, 120, (1_000,) * 4)
    found = preview(ticket, Terms(), TARIFFS, free=RICH, now=0, recent=[119, 120, None, 200])
    assert found.at_recent is not None
    assert found.recent_slots == 3
    assert (found.at_recent.energy_wh, found.at_recent.money) == (2_000, 320_000)
    nothing = preview(ticket, Terms(), TARIFFS, free=RICH, now=0, recent=[None] * 4)
    assert nothing.at_recent is None


@pytest.mark.parametrize(
    ("ticket", "free", "now", "fault"),
    [
        (Ticket(SELL, 120, (0, 0, 0, 0)), RICH, 0, Fault.NOTHING),
        (Ticket(SELL, 120, (49, 0, 0, 0)), RICH, 0, Fault.TOO_LITTLE),
        (Ticket(SELL, 120, (25_001, 0, 0, 0)), RICH, 0, Fault.TOO_MUCH),
        (Ticket(SELL, 65_535, (500, 0, 0, 0)), RICH, 0, Fault.LIMIT),
        (Ticket(SELL, 1_001, (500, 0, 0, 0)), RICH, 0, Fault.OUTSIDE),
        (Ticket(BUY, 109, (500, 0, 0, 0)), RICH, 0, Fault.OUTSIDE),
        (Ticket(BUY, 300, (500, 0, 0, 0)), 149_999, 0, Fault.MONEY),
        (Ticket(SELL, 120, (500, 0, 0, 0)), RICH, GATE - 120, Fault.CLOSED),
    ],
)
def test_what_is_wrong_with_a_ticket_is_named(
    ticket: Ticket, free: int, now: int, fault: Fault
) -> None:
    assert preview(ticket, Terms(), TARIFFS, free=free, now=now).faults == (fault,)


def test_a_good_ticket_has_no_fault() -> None:
    good = Ticket(BUY, 300, (500, 0, 0, 0))
    assert preview(good, Terms(), TARIFFS, free=150_000, now=GATE - 121).faults == ()


@settings(deadline=None)
@given(
    st.integers(0, 2_000_000),
    st.lists(st.integers(0, 2**31), min_size=1, max_size=96),
    st.integers(1, 65_535),
)
def test_spread_energy_sums_to_what_was_wanted(total: int, shape: list[int], most: int) -> None:
    parts = spread(total, shape, most)
    assert sum(parts) == min(total, most * len(shape))
    assert all(0 <= part <= most for part in parts)
    if total and any(shape) and total * max(shape) // sum(shape) < most:
        assert all(part == 0 for part, weight in zip(parts, shape, strict=True) if not weight)


def test_hours_are_spread_over_their_quarters() -> None:
    assert tickets.hourly([10, 3], 8) == (2, 3, 2, 3, 0, 1, 1, 1)


def test_a_suggestion_is_what_most_recent_days_reached_and_a_gap_counts_as_nothing() -> None:
    days: list[int | None] = []
    for day in range(7):
        days += [100 * (day + 1)] * 96
    # Of seven days 300 permille: reached on five of them at least.
    assert suggestion(days, FIRST - 7 * 96, Terms(), 300) == (200,) * 4
    holed = [None if i % 96 == 1 else wh for i, wh in enumerate(days)]
    assert suggestion(holed, FIRST - 7 * 96, Terms(), 300) == (200, 0, 200, 200)
    assert suggestion(days[:95], FIRST, Terms(), 300) == (0,) * 4


def test_an_order_names_only_the_slots_with_energy() -> None:
    fields = tickets.order_fields(Ticket(SELL, 120, (0, 500, 500, 0)), Terms(), 7, 3)
    assert (fields["first_slot"], fields["slots"], fields["wh"]) == (FIRST + 1, 2, 500)
    assert (fields["account"], fields["nonce"], fields["side"]) == (7, 3, "ask")
    assert fields["expiry"] == GATE
    uneven = tickets.order_fields(Ticket(BUY, 300, (5, 0, 9, 0)), Terms(), 7, 3)
    assert uneven["wh"] == [5, 0, 9]
    assert np.sum(uneven["wh"]) == 14
