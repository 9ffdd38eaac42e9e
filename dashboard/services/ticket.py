# SPDX-License-Identifier: Apache-2.0
"""What an order would come to, before anybody signs it: pure functions over terms and numbers.

The contract decides by the whole book; this says what it will decide of one order at a given price,
and the tests hold it against the market's own clearing and settlement. Energy in Wh per slot, money
in µ€, prices in µ€/Wh. Words for people are the page's business.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

import numpy as np

from dao.market.orders import ASK, BID, MAX_LIMIT, MAX_WH, Order
from dao.slots import SLOTS_PER_DAY
from dao.tariffs import Tariffs
from forecasting.home_agent import dependable_wh

SELL, BUY = "sell", "buy"
SIDES = {SELL: "ask", BUY: "bid"}
"""How the relay calls them."""


class Terms(Protocol):
    """A session's terms, as the relay tells them; fee and band per slot as they stand now."""

    @property
    def first_slot(self) -> int: ...
    @property
    def slots(self) -> int: ...
    @property
    def gate(self) -> int: ...
    @property
    def orders_until(self) -> int: ...
    @property
    def penalty(self) -> int: ...
    @property
    def min_order_wh(self) -> int: ...
    @property
    def max_slot_wh(self) -> int: ...
    @property
    def grid_fee(self) -> tuple[int, ...]: ...
    @property
    def band_min(self) -> tuple[int, ...]: ...
    @property
    def band_max(self) -> tuple[int, ...]: ...


@dataclass(frozen=True)
class Ticket:
    """What somebody means to order: side, limit, and Wh for every slot of the session.

    A buyer's limit includes the grid fee.
    """

    side: str
    limit: int
    wh: tuple[int, ...]

    @property
    def total_wh(self) -> int:
        return sum(self.wh)


@dataclass(frozen=True)
class Outcome:
    """What the order comes to in one case.

    energy_wh: traded and delivered; money: change of the balance, negative where it pays, fees and
    penalty in it; tariff: what the same energy would have brought or cost without the market;
    better: the difference, positive where the order is the better deal.
    """

    energy_wh: int
    money: int
    fees: int
    penalty: int
    tariff: int

    @property
    def better(self) -> int:
        return self.money - self.tariff


class Fault(StrEnum):
    """Why a ticket cannot be signed as it is."""

    NOTHING = "nothing"
    TOO_LITTLE = "too-little"
    TOO_MUCH = "too-much"
    LIMIT = "limit"
    OUTSIDE = "outside"
    MONEY = "money"
    CLOSED = "closed"


@dataclass(frozen=True)
class Preview:
    """What a ticket means. escrow leaves the balance when the order is posted, free_after is what
    is left of it then; outside_slots: slots with energy in which the limit cannot trade.

    at_limit: all of it at the limit; at_recent: at the last days' prices, filled where they reach
    the limit, None where none is known; recent_slots: for how many of its slots one is; worst: the
    lowest the change of the balance can be.
    """

    ticket: Ticket
    escrow: int
    free_after: int
    at_limit: Outcome
    at_recent: Outcome | None
    recent_slots: int
    worst: Outcome
    outside_slots: int
    faults: tuple[Fault, ...]


def preview(
    ticket: Ticket,
    terms: Terms,
    tariffs: Tariffs,
    *,
    free: int,
    now: int,
    recent: Sequence[int | None] = (),
) -> Preview:
    """What the ticket means. free: balance that no other order needs; now: unix seconds of chain
    time; recent: the last known price of each slot's time of day, None where nothing traded."""
    if len(ticket.wh) != terms.slots:
        raise ValueError(f"{len(ticket.wh)} values for a session of {terms.slots} slots")
    edges = [edge(ticket, terms, slot) for slot in range(terms.slots)]
    spoken = [slot for slot, wh in enumerate(ticket.wh) if wh]
    known = [slot for slot in spoken if slot < len(recent) and recent[slot] is not None]
    at_recent = outcome(ticket, terms, tariffs, recent) if known else None
    escrow = escrow_of(ticket, terms)
    return Preview(
        ticket=ticket,
        escrow=escrow,
        free_after=free - escrow,
        at_limit=outcome(ticket, terms, tariffs, edges),
        at_recent=at_recent,
        recent_slots=len(known),
        worst=worst(ticket, terms),
        outside_slots=sum(edges[slot] is None for slot in spoken),
        faults=_faults(ticket, terms, edges, free - escrow, now),
    )


def edge(ticket: Ticket, terms: Terms, slot: int) -> int | None:
    """The worst clearing price at which the order trades in a slot of the session, None where the
    band lets it trade at none: a bid's limit less the fee, an ask's limit, within the band."""
    low, high = terms.band_min[slot], terms.band_max[slot]
    if ticket.side == SELL:
        return None if ticket.limit > high else max(ticket.limit, low)
    net = ticket.limit - terms.grid_fee[slot]
    return None if net < max(low, 0) else min(net, high)


def outcome(
    ticket: Ticket, terms: Terms, tariffs: Tariffs, prices: Sequence[int | None]
) -> Outcome:
    """What the order comes to at these clearing prices, one per slot, if it is filled whole where
    they reach its limit, and all of it is delivered and used. None: nothing trades there."""
    energy = money = fees = 0
    for slot, wh in enumerate(ticket.wh):
        price = prices[slot] if slot < len(prices) else None
        worst_price = edge(ticket, terms, slot)
        if not wh or price is None or worst_price is None:
            continue
        if price < worst_price if ticket.side == SELL else price > worst_price:
            continue
        energy += wh
        if ticket.side == SELL:
            money += wh * price
        else:
            money -= wh * (price + terms.grid_fee[slot])
            fees += wh * terms.grid_fee[slot]
    tariff = energy * tariffs.feed_in if ticket.side == SELL else -energy * tariffs.retail
    return Outcome(energy, money, fees, 0, tariff)


def worst(ticket: Ticket, terms: Terms) -> Outcome:
    """The lowest the change of the balance can be.

    A seller that delivers nothing pays the penalty for all of it. A buyer pays for all of it at the
    limit and uses none.
    """
    if ticket.side == SELL:
        penalty = ticket.total_wh * terms.penalty
        return Outcome(0, -penalty, 0, penalty, 0)
    edges = [edge(ticket, terms, slot) for slot in range(terms.slots)]
    money = fees = 0
    for slot, wh in enumerate(ticket.wh):
        price = edges[slot]
        if price is not None:
            money -= wh * (price + terms.grid_fee[slot])
            fees += wh * terms.grid_fee[slot]
    return Outcome(0, money, fees, 0, 0)


def escrow_of(ticket: Ticket, terms: Terms) -> int:
    """What posting the order takes from the free balance."""
    return ticket.total_wh * (terms.penalty if ticket.side == SELL else ticket.limit)


def _faults(
    ticket: Ticket, terms: Terms, edges: Sequence[int | None], left: int, now: int
) -> tuple[Fault, ...]:
    faults = []
    if now >= terms.orders_until:
        faults.append(Fault.CLOSED)
    if not ticket.total_wh:
        faults.append(Fault.NOTHING)
    elif ticket.total_wh < terms.min_order_wh:
        faults.append(Fault.TOO_LITTLE)
    if max(ticket.wh, default=0) > min(terms.max_slot_wh, MAX_WH):
        faults.append(Fault.TOO_MUCH)
    if not 0 <= ticket.limit <= MAX_LIMIT:
        faults.append(Fault.LIMIT)
    elif ticket.total_wh and all(edges[slot] is None for slot, wh in enumerate(ticket.wh) if wh):
        faults.append(Fault.OUTSIDE)
    if left < 0:
        faults.append(Fault.MONEY)
    return tuple(faults)


# Energy


def spread(total_wh: int, shape: Sequence[int], most_wh: int = MAX_WH) -> tuple[int, ...]:
    """`total_wh` over the slots in proportion to `shape`, in whole Wh that sum to it exactly.

    A shape of zeros counts as flat. No slot gets more than `most_wh`; what is over goes to the
    others, and what does not fit anywhere is left out.
    """
    slots = len(shape)
    given = np.zeros(slots, dtype=np.int64)
    weights = np.maximum(np.asarray(shape, dtype=np.int64), 0)
    left = max(0, min(int(total_wh), most_wh * slots))
    while left > 0:
        open_slots = given < most_wh
        here = np.where(open_slots, weights, 0)
        if not here.any():
            here = open_slots.astype(np.int64)
        # Python's integers: weights times Wh may pass 64 bits.
        running = np.cumsum(here).tolist()
        shares = [one * left // running[-1] for one in running]
        parts = np.diff(np.array([0, *shares], dtype=np.int64))
        taken = np.minimum(parts, most_wh - given)
        given += taken
        left -= int(taken.sum())
    return tuple(int(wh) for wh in given)


def hourly(values: Sequence[int], slots: int, most_wh: int = MAX_WH) -> tuple[int, ...]:
    """Wh of each hour of a session as Wh of its slots, the same in each quarter of an hour."""
    found: list[int] = []
    for value in values:
        found += spread(value, (1, 1, 1, 1), most_wh)
    return tuple(found[:slots])


def suggestion(
    own_wh: Sequence[int | None], first_known: int, terms: Terms, permille: int
) -> tuple[int, ...]:
    """What a home can count on in each slot of the session, from its own recent days.

    own_wh: Wh exported (to sell) or imported (to buy) in whole days from slot `first_known` on,
    None where it is not known, which counts as nothing: a promise is not built on a gap. permille:
    the quantile of the days, as `forecasting.home_agent` takes it. Zeros without a whole day.
    """
    days = len(own_wh) // SLOTS_PER_DAY
    if not days:
        return (0,) * terms.slots
    values = [wh or 0 for wh in own_wh[: days * SLOTS_PER_DAY]]
    position = (terms.first_slot - first_known) % SLOTS_PER_DAY
    found = dependable_wh(values, position, terms.slots, permille)
    return tuple(min(int(wh), terms.max_slot_wh, MAX_WH) for wh in found)


# What is submitted


def order_fields(ticket: Ticket, terms: Terms, account: int, nonce: int) -> dict[str, Any]:
    """The order as the relay takes it, without slots at its ends that have no energy.

    It can be posted until the gate, and no later.
    """
    spoken = [slot for slot, wh in enumerate(ticket.wh) if wh]
    if not spoken:
        raise ValueError("an order without energy")
    first, last = spoken[0], spoken[-1]
    run = ticket.wh[first : last + 1]
    return {
        "account": account,
        "mandate": 0,
        "nonce": nonce,
        "expiry": terms.gate,
        "side": SIDES[ticket.side],
        "limit": ticket.limit,
        "first_slot": terms.first_slot + first,
        "slots": len(run),
        "wh": run[0] if len(set(run)) == 1 else list(run),
    }


def as_order(fields: Mapping[str, Any], terms: Terms) -> Order:
    """The fields as the order that the contract will see."""
    wh = fields["wh"]
    return Order(
        account=fields["account"],
        mandate=fields["mandate"],
        nonce=fields["nonce"],
        expiry=fields["expiry"],
        side=ASK if fields["side"] == SIDES[SELL] else BID,
        limit=fields["limit"],
        session_slot=terms.first_slot,
        offset=fields["first_slot"] - terms.first_slot,
        wh=tuple(wh) if isinstance(wh, list) else wh,
        count=fields["slots"],
    )


def first_limit(side: str, terms: Terms, tariffs: Tariffs) -> int:
    """A limit to begin with: a quarter of what there is to gain is kept for oneself."""
    fee = max(terms.grid_fee, default=0)
    gap = max(0, tariffs.retail - fee - tariffs.feed_in)
    return tariffs.feed_in + gap // 4 if side == SELL else tariffs.retail - gap // 4
