# SPDX-License-Identifier: Apache-2.0
"""What the agent did for an offer, and why, as its owner reads it; and the offer itself in words.

Codes and facts are `forecasting.agent.plan`'s and `follow`'s. No widgets.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dao.market.orders import ASK
from dashboard.i18n import Formats, _
from forecasting.agent.offers import CAUTION, StandingOffer, hour_spans
from forecasting.agent.store import Deed, State

Facts = Mapping[str, Any]


def offer_in_words(offer: StandingOffer, fmt: Formats) -> str:
    """An offer in one sentence."""
    parts = {
        "price": fmt.ct(offer.limit),
        "amount": fmt.kwh(offer.daily_wh),
        "hours": hours_in_words(offer.hours),
        "until": fmt.date(offer.valid_until - 1),
    }
    if offer.side == ASK and offer.daily_wh:
        return _(
            "Sell what I do not need for at least {price}, keep {amount} a day, {hours}, until "
            "{until}."
        ).format(**parts)
    if offer.side == ASK:
        return _("Sell what I do not need for at least {price}, {hours}, until {until}.").format(
            **parts
        )
    return _(
        "Buy what I need for at most {price}, fee included, up to {amount} a day, {hours}, until "
        "{until}."
    ).format(**parts)


def hours_in_words(hours: int) -> str:
    """A bitmap of hours as people say it."""
    spans = hour_spans(hours)
    if spans == [(0, 24)]:
        return _("at any hour")
    return _(" and ").join(
        _("between {begin}:00 and {end}:00").format(begin=begin, end=end) for begin, end in spans
    )


def caution_name(side: int, permille: int) -> str:
    """The name of the level of caution that a number stands for."""
    near = min(CAUTION[side], key=lambda name: abs(CAUTION[side][name] - permille))
    return caution_names()[near]


def caution_names() -> dict[str, str]:
    """The levels of caution by name, in words."""
    return {"safe": _("Careful"), "normal": _("Normal"), "bold": _("Bold")}


def state_in_words(deed: Deed) -> tuple[str, str]:
    """What became of an offer in a session, and the tone of it (see `parts.pill`)."""
    return {
        State.IDLE: (_("Nothing ordered"), "plain"),
        State.SIGNED: (_("On its way"), "open"),
        State.TAKEN: (_("Waiting to be posted"), "open"),
        State.ACCEPTED: (_("In the book"), "good"),
        State.REJECTED: (_("Turned away"), "bad"),
        State.LATE: (_("Not posted in time"), "bad"),
        State.REFUSED: (_("Refused"), "bad"),
        State.MISSED: (_("Missed the gate"), "bad"),
        State.WITHDRAWN: (_("Taken back"), "plain"),
    }[deed.state]


def deed_in_words(offer: StandingOffer, deed: Deed, fmt: Formats) -> str:
    """What the agent did in a session and why, in a sentence."""
    facts = deed.facts
    if deed.code == "ordered":
        return _ordered(deed, fmt)
    if deed.code == "nothing-likely":
        values = {"days": facts["days"], "most": fmt.kwh(facts["most_wh"])}
        if deed.side == ASK:
            return _(
                "Nothing to sell: in these hours the last {days} days fed in {most} at most."
            ).format(**values)
        return _("Nothing to buy: in these hours the last {days} days drew {most} at most.").format(
            **values
        )
    return _reason(offer, deed.code, facts, fmt)


def _ordered(deed: Deed, fmt: Formats) -> str:
    values = {"energy": fmt.kwh(sum(deed.energy.values())), "price": fmt.ct(deed.facts["limit"])}
    if deed.side == ASK:
        said = _("{energy} offered for at least {price}.").format(**values)
    else:
        said = _("{energy} asked for at {price} at most.").format(**values)
    cut = deed.facts.get("cut_by")
    if cut == "cap":
        said += " " + _("The daily limit of the agent allowed no more.")
    elif cut == "balance":
        said += " " + _("The balance allowed no more.")
    if "mandate_limit" in deed.facts:
        said += " " + _("The price is the one you allowed the agent.")
    return said


def _reason(offer: StandingOffer, code: str, facts: Facts, fmt: Formats) -> str:
    plain = {
        "withdrawn": _("You took the offer back."),
        "other-hours": _("Outside the hours of your offer."),
        "not-owner": _("The offer is not signed by the home’s owner of today."),
        "no-account": _("Your account is not open in this zone."),
        "no-key": _("The agent has no key for your account."),
        "no-mandate": _("The agent is not allowed to order: its mandate is not in force."),
        "other-agent": _("The mandate is another agent’s."),
        "other-side": _("The mandate is for the other side."),
        "mandate-over": _("The last day of the mandate is past."),
        "no-number": _("Too many of the agent’s orders are on their way."),
        "no-readings": _("There are no readings of your home yet."),
        "cap-used": _("What the agent may put up on one day is used."),
        "balance-used": _("Your free balance does not cover an order."),
        "gate": _("The gate closed before the relay answered."),
        "unreadable": _("Your readings could not be read. The operator sees why."),
        "defect": _("Something went wrong with the agent. The operator sees why."),
        "relay": _("The relay did not take the order."),
    }
    if code in plain:
        return plain[code]
    said = ""
    if code == "expired":
        said = _("Your offer ended on {date}.").format(date=fmt.date(offer.valid_until - 1))
    elif code == "old-readings":
        said = _("The newest reading is of {moment}.").format(moment=fmt.moment(facts["newest"]))
    elif code == "few-readings":
        said = _("There are readings of {days} whole days; {needed} are needed.").format(
            days=facts["days"], needed=facts["needed"]
        )
    elif code == "reserve":
        said = _("All of the {likely} likely to be left over is what you keep.").format(
            likely=fmt.kwh(facts["likely_wh"])
        )
    elif code == "day-used":
        said = _("The {amount} of the day are ordered already.").format(
            amount=fmt.kwh(facts["daily_wh"])
        )
    elif code == "price-outside":
        said = _("At {price} nothing can trade now; possible: {bound}.").format(
            price=fmt.ct(facts["limit"]), bound=fmt.ct(facts["accepted"])
        )
    elif code == "too-small":
        said = _("{energy} is less than the smallest order, {least}.").format(
            energy=fmt.kwh(facts["wh"], 2), least=fmt.kwh(facts["min_order_wh"], 2)
        )
    return said or _("Nothing was ordered.")
