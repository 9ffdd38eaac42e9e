# SPDX-License-Identifier: Apache-2.0
"""A reason of the agent as an English sentence, for its log and the command line.

The page has sentences of its own, made from the same codes and facts, in the reader's language.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from dao.market.orders import ASK
from dao.relay.submitted import shown
from forecasting.agent.offers import StandingOffer, hour_spans, side_name
from forecasting.agent.store import Deed, State

_Facts = Mapping[str, Any]

_REASONS: dict[str, Callable[[_Facts], str]] = {
    "withdrawn": lambda f: "the offer was taken back",
    "expired": lambda f: f"the offer ended at {_utc(f['valid_until'])}",
    "other-hours": lambda f: "outside the hours of the offer",
    "not-owner": lambda f: "the offer is not signed by the home's owner of today",
    "no-mandate": lambda f: f"mandate {f['mandate']} is not in force",
    "other-agent": lambda f: f"mandate {f['mandate']} is another agent's, {f['agent']}",
    "other-side": lambda f: f"mandate {f['mandate']} is for the other side",
    "mandate-over": lambda f: f"the last day of mandate {f['mandate']} is past",
    "no-number": lambda f: f"mandate {f['mandate']} has no order number free",
    "no-readings": lambda f: "there are no readings of this home here",
    "old-readings": lambda f: f"the newest reading is of {_utc(f['newest'])}",
    "few-readings": lambda f: f"readings of {f['days']} whole days only, {f['needed']} are needed",
    "no-account": lambda f: "the account is not open in this zone",
    "no-key": lambda f: "the agent has no key for this account",
    "unreadable": lambda f: shown(f["problem"]),
    "defect": lambda f: "a defect of the program; its log says more",
    "reserve": lambda f: (
        f"all of the {kwh(f['likely_wh'])} likely to be left over is kept back "
        f"({kwh(f['daily_wh'])} a day)"
    ),
    "day-used": lambda f: f"the {kwh(f['daily_wh'])} a day are ordered already",
    "price-outside": lambda f: (
        f"at {ct(f['limit'])} nothing can trade; possible: {ct(f['accepted'])}"
    ),
    "too-small": lambda f: (
        f"{kwh(f['wh'])} is less than the smallest order, {kwh(f['min_order_wh'])}"
    ),
    "cap-used": lambda f: "what the mandate allows for today is used",
    "balance-used": lambda f: "the account's free balance does not cover an order",
    "relay": lambda f: f"the relay: {shown(f['problem'])}",
    "gate": lambda f: "the gate closed before the relay answered",
}


def words(offer: StandingOffer, deed: Deed) -> str:
    """What the agent did for an offer in a session, and why."""
    when = span(offer, deed.session, deed.slots)
    deal = "sell" if deed.side == ASK else "buy"
    if deed.code == "nothing-likely":
        flow = "exported" if deed.side == ASK else "drew"
        days, most = deed.facts["days"], kwh(deed.facts["most_wh"])
        return f"nothing to {deal} {when}: the last {days} days {flow} {most} at most"
    if deed.code == "ordered":
        limit = "at least" if deed.side == ASK else "at most"
        total = kwh(sum(deed.energy.values()))
        text = f"to {deal} {total} {when} for {limit} {ct(deed.facts['limit'])}: {deed.state}"
        if deed.state is State.SIGNED:
            text = f"to {deal} {total} {when}: on its way to the relay"
        if "cut_by" in deed.facts:
            text += f" (less than likely: the {deed.facts['cut_by']} allows no more)"
        return text
    told = _REASONS.get(deed.code, lambda _: shown(deed.code))(deed.facts)
    if deed.document is not None:
        return f"order to {deal} {when} came to nothing: {told}"
    return f"nothing to {deal} {when}: {told}"


def offer_words(offer: StandingOffer) -> str:
    """What an offer says, in a line."""
    side = side_name(offer.side)
    if offer.withdrawn:
        return f"{side}: taken back"
    hours = ", ".join(f"{begin}-{end} h" for begin, end in hour_spans(offer.hours))
    ends = datetime.fromtimestamp(offer.valid_until, offer.clock)
    if offer.side == ASK:
        deal = f"at least {ct(offer.limit)}, {kwh(offer.daily_wh)} a day kept back"
    else:
        deal = f"at most {ct(offer.limit)}, up to {kwh(offer.daily_wh)} a day"
    return f"{side}: {deal}, {hours}, until {ends:%d %b %Y %H:%M} {offer.timezone}"


def span(offer: StandingOffer, first_slot: int, slots: int) -> str:
    """`12:00-18:00` on the offer's clock, with its day."""
    begin, end = offer.local(first_slot), offer.local(first_slot + slots)
    return f"{begin:%d %b %H:%M}-{end:%H:%M}"


def kwh(wh: int) -> str:
    """Energy as people say it."""
    return f"{wh / 1000:.1f} kWh" if wh >= 100 or wh == 0 else f"{wh} Wh"


def ct(limit: int) -> str:
    """A price as people say it."""
    return f"{limit / 10:.1f} ct/kWh"


def _utc(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%d %b %Y %H:%M UTC")
