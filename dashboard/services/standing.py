# SPDX-License-Identifier: Apache-2.0
"""Standing offers for their owner: from plain wishes to what is signed, and the week before.

Plain functions, no widgets. What an order may say is `forecasting.agent.plan`'s, here as there:
the last week is worked out with the very function that the agent runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from dao.market.account import (
    CAP_UNIT,
    DAY_SECONDS,
    MANDATE_END_TYPE,
    MANDATE_TYPE,
    MAX_CAP,
    MAX_DAY,
    Mandate,
)
from dao.market.orders import ASK, DOMAIN_NAME, DOMAIN_VERSION
from dao.relay.typed_data import Domain, document
from dao.slots import SLOT_SECONDS, SLOTS_PER_DAY
from dao.tariffs import Tariffs
from forecasting.agent.offers import (
    ALL_WEEKDAYS,
    CAUTION,
    StandingOffer,
    hours_between,
    side_name,
    zone_named,
)
from forecasting.agent.plan import Means, Terms, Wanted, plan
from forecasting.agent.recent import Recent, recent_days
from meters.readings import Reading

DAYS_SHOWN = 7
# Whoever plans ahead knows what was measured until half an hour before the gate.
_KNOWN_BEFORE_GATE_S = 1_800
_RICH = 1 << 60


@dataclass(frozen=True)
class Wish:
    """What somebody filled in. price: µ€/Wh; daily_wh: kept back, or the most to buy; begin, end:
    hours of the day, the same for the whole day; until: the last day; caution: a name of CAUTION.
    """

    side: int
    price: int
    daily_wh: int
    begin: int
    end: int
    until: date
    caution: str


def offer_of(wish: Wish, account: int, version: int, mandate: int, timezone: str) -> StandingOffer:
    """The offer to sign for a wish; its last day ends at local midnight."""
    clock = zone_named(timezone)
    end = datetime.combine(wish.until + timedelta(days=1), time(), clock)
    return StandingOffer(
        account=account,
        side=wish.side,
        version=version,
        withdrawn=False,
        mandate=mandate,
        limit=wish.price,
        daily_wh=wish.daily_wh,
        hours=hours_between(wish.begin, wish.end),
        weekdays=ALL_WEEKDAYS,
        caution=CAUTION[wish.side][wish.caution],
        valid_until=int(end.timestamp()),
        timezone=timezone,
    )


def withdrawal_of(offer: StandingOffer, version: int) -> StandingOffer:
    """What takes an offer back: the same once more, as the next version, and withdrawn."""
    return replace(offer, version=version, withdrawn=True)


# The mandate


def mandate_for(offer: StandingOffer, agent: str, cap: int) -> Mandate:
    """The narrowest mandate under which an offer can be followed: its side, price and last day.

    cap: token units of escrow a day, rounded up to a step of the contract's.
    """
    last_day = min(MAX_DAY, (offer.valid_until - 1) // DAY_SECONDS)
    return Mandate(agent, offer.side, offer.limit, min(MAX_CAP, -(-cap // CAP_UNIT)), last_day)


def suits(mandate: Mandate, wanted: Mandate) -> bool:
    """Whether a mandate in force allows all that is wanted, and no better price than that."""
    return (
        mandate.agent.lower() == wanted.agent.lower()
        and mandate.side == wanted.side
        and mandate.limit == wanted.limit
        and mandate.daily_cap >= wanted.daily_cap
        and mandate.last_day >= wanted.last_day
    )


def mandate_document(
    chain_id: int, market: str, account: int, number: int, mandate: Mandate
) -> dict[str, Any]:
    """What the owner's wallet signs to grant a mandate."""
    message = {
        "account": account,
        "number": number,
        "agent": mandate.agent,
        "side": mandate.side,
        "limit": mandate.limit,
        "dailyCap": mandate.daily_cap,
        "lastDay": mandate.last_day,
    }
    return document(MANDATE_TYPE, _domain(chain_id, market), message)


def mandate_request(account: int, number: int, mandate: Mandate) -> dict[str, Any]:
    """The same as the relay takes it, with the place of the signature."""
    return {
        "account": account,
        "number": number,
        "agent": mandate.agent,
        "side": side_name(mandate.side),
        "limit": mandate.limit,
        "daily_cap": mandate.daily_cap * CAP_UNIT,
        "last_day": mandate.last_day,
        "signature": "$signature",
    }


def mandate_end_document(chain_id: int, market: str, account: int, number: int) -> dict[str, Any]:
    """What the owner's wallet signs to end a mandate."""
    message = {"account": account, "number": number}
    return document(MANDATE_END_TYPE, _domain(chain_id, market), message)


def _domain(chain_id: int, market: str) -> Domain:
    return Domain(DOMAIN_NAME, DOMAIN_VERSION, chain_id, market)


# The week before


@dataclass(frozen=True)
class PastDay:
    """What an offer would have done on one local day. Wh and µ€.

    flow_wh: what the home really fed in, or drew, in the hours of the offer; ordered_wh: what the
    agent would have offered or asked for; traded_wh: of that, where the day's price allowed it;
    kept_wh: of that, what was really there to deliver, or really used; money: got, or paid, for
    it, penalties in it; instead: what the same energy brought or cost without trade.
    """

    day: date
    flow_wh: int
    ordered_wh: int
    traded_wh: int
    kept_wh: int
    money: int
    instead: int
    unpriced_wh: int
    escrow: int

    @property
    def gain(self) -> int:
        """What the offer would have been worth on the day, µ€."""
        return self.money - self.instead


@dataclass(frozen=True)
class PastWeek:
    """The last days one by one, oldest first; `problem` where there is too little to say."""

    days: tuple[PastDay, ...]

    def total(self, name: str) -> int:
        """The sum of a figure over the days."""
        return sum(getattr(day, name) for day in self.days)

    @property
    def daily_escrow(self) -> int:
        """What the orders of the fullest day put in escrow, token units."""
        return max((day.escrow for day in self.days), default=0)


def past_week(
    offer: StandingOffer,
    rows: Sequence[Reading],
    prices: Mapping[int, int | None],
    terms: Terms,
    tariffs: Tariffs,
) -> PastWeek:
    """What an offer would have done over the last days for which there are readings.

    rows: the home's readings, three weeks of them; prices: clearing price by slot, None where
    nothing traded, missing where not known; terms: a session as they are now, its length, fee and
    penalty taken for those of the week. As if the offer had not moved any price.
    """
    known = {row.slot: row for row in rows if None not in (row.import_wh, row.export_wh)}
    if not known:
        return PastWeek(())
    end = max(known) + 1
    first = end - DAYS_SHOWN * SLOTS_PER_DAY
    always = replace(offer, valid_until=MAX_DAY * DAY_SECONDS)
    fits = Means(1, Mandate("", offer.side, offer.limit, MAX_CAP, MAX_DAY), -_RICH, _RICH, (0,))
    ordered: dict[int, int] = {}
    escrow: dict[int, int] = {}
    fee = terms.grid_fee[0]
    for start in range(first - first % terms.slots, end, terms.slots):
        session = _moved(terms, start)
        at = session.gate - _KNOWN_BEFORE_GATE_S
        recent = recent_days(rows, at // SLOT_SECONDS)
        if not isinstance(recent, Recent):
            continue
        found = plan(always, "", session, recent, fits, ordered, at)
        if isinstance(found, Wanted):
            rate = terms.penalty if offer.side == ASK else found.limit
            for i, wh in enumerate(found.wh):
                ordered[found.first_slot + i] = wh
                escrow[found.first_slot + i] = wh * rate
    days: dict[date, list[int]] = {}
    for slot in range(first, end):
        days.setdefault(offer.local(slot).date(), []).append(slot)
    found_days = [
        _day(day, slots, always, known, ordered, escrow, prices, terms.penalty, fee, tariffs)
        for day, slots in days.items()
    ]
    return PastWeek(tuple(found_days))


def _day(
    day: date,
    slots: Sequence[int],
    offer: StandingOffer,
    known: Mapping[int, Reading],
    ordered: Mapping[int, int],
    escrow: Mapping[int, int],
    prices: Mapping[int, int | None],
    penalty: int,
    fee: int,
    tariffs: Tariffs,
) -> PastDay:
    selling = offer.side == ASK
    flow = traded = kept = money = instead = unpriced = 0
    for slot in slots:
        row = known.get(slot)
        real = 0 if row is None else int((row.export_wh if selling else row.import_wh) or 0)
        if offer.covers(slot):
            flow += real
        wh = ordered.get(slot, 0)
        price = prices.get(slot, -1)
        if wh and price == -1:
            unpriced += wh
        if not wh or price is None or price == -1:
            continue
        if not (price >= offer.limit if selling else price + fee <= offer.limit):
            continue
        served = min(wh, real)
        traded += wh
        kept += served
        if selling:
            money += served * price - (wh - served) * penalty
            instead += served * tariffs.feed_in
        else:
            # A bid is firm: what was delivered is paid, used or not.
            money -= wh * (price + fee)
            instead -= served * tariffs.retail
    return PastDay(
        day=day,
        flow_wh=flow,
        ordered_wh=sum(ordered.get(slot, 0) for slot in slots),
        traded_wh=traded,
        kept_wh=kept,
        money=money,
        instead=instead,
        unpriced_wh=unpriced,
        escrow=sum(escrow.get(slot, 0) for slot in slots),
    )


def _moved(terms: Terms, first_slot: int) -> Terms:
    """The same terms for a session that begins elsewhere."""
    lead = terms.first_slot * SLOT_SECONDS - terms.gate
    gate = first_slot * SLOT_SECONDS - lead
    return replace(terms, first_slot=first_slot, gate=gate, orders_until=gate)


def daily_cap(offer: StandingOffer, week: PastWeek) -> int:
    """A cap for the mandate, token units a day: what the fullest day of the week would have needed
    and half as much again, or for a bid what the daily amount costs, if that is less; at least an
    euro, so that a sunny day is not missed for cents."""
    wanted = max(week.daily_escrow * 3 // 2, 1_000_000)
    if offer.side != ASK:
        wanted = min(wanted, offer.daily_wh * offer.limit)
    # Two UTC days share a local one, and every order counts up to a cent.
    return min(MAX_CAP * CAP_UNIT, -(-wanted // CAP_UNIT) * CAP_UNIT)


def utc_day(day: int) -> date:
    """A UTC day number as a date."""
    return datetime.fromtimestamp(day * DAY_SECONDS, UTC).date()
