# SPDX-License-Identifier: Apache-2.0
"""Standing offers: what the agent follows for this home, what it did lately, and a new one.

Everything about the home is worked out on this server and shown to its owner only. Two signatures
make an offer: the mandate, which the chain holds the agent to, and the offer itself.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from html import escape

import pandas as pd
import streamlit as st

from dao.errors import GridCommonsError
from dao.market.account import CAP_UNIT, Mandate
from dao.market.orders import ASK, BID
from dao.slots import SLOT_SECONDS
from dashboard import wallet
from dashboard.context import Context
from dashboard.i18n import _
from dashboard.repositories.standing import Home, home_of, week_of
from dashboard.services import agent_words as words
from dashboard.services import standing
from dashboard.services.standing import Wish
from dashboard.services.units import LOCAL
from dashboard.views.parts import (
    Figure,
    empty,
    error_box,
    figures,
    lead,
    pill,
    put,
    section,
    table,
    title,
)
from forecasting.agent.offers import CAUTION, StandingOffer, typed_data
from forecasting.agent.plan import Means, Terms
from forecasting.agent.relaying import Away
from forecasting.agent.store import Deed, HeldOffer

DEEDS_SHOWN = 12
_MOST_CT = 150.0


def draw(context: Context) -> None:
    """The page of one person's home."""
    title(
        _("Standing offers"),
        _(
            "Say once what to sell or buy. Before each gate the agent makes an order of it, from "
            "your own recent readings and inside the limits that you sign."
        ),
    )
    person, settings = context.person, context.settings
    assert person is not None
    if not person.accounts:
        empty(
            _("No home is registered to this address"),
            _("The operator registers a meter to its owner’s address; then this page works."),
        )
        return
    if settings.relay is None or settings.deployment is None or settings.chain_id is None:
        empty(_("No market is running here"), _("Offers can be made as soon as one is."))
        return
    account = person.accounts[0]
    if len(person.accounts) > 1:
        account = st.selectbox(
            _("Home"), person.accounts, format_func=_home_name, key="standing.account"
        )
        if account not in person.accounts:  # the widget's value passed through a browser
            return
    try:
        home = home_of(settings, account, context.zone, context.now)
        _existing(context, home)
        _lately(context, home)
        _new(context, home)
    except Away:
        error_box(
            _("The relay does not answer."),
            _("What you signed before goes on as soon as it does; nothing is lost."),
            _("Load the page again in a moment."),
        )


def _home_name(account: int) -> str:
    return _("Home {number}").format(number=account)


# What there is


def _existing(context: Context, home: Home) -> None:
    running = [one for one in home.offers if not one.offer.withdrawn]
    section(_("Your offers"))
    if not running:
        empty(
            _("You have no standing offer"),
            _("Make one below: it takes two signatures and can be ended at any time."),
        )
        return
    for held in running:
        with st.container(border=True):
            _card(context, home, held)


def _card(context: Context, home: Home, held: HeldOffer) -> None:
    offer, fmt = held.offer, context.fmt
    means = home.means_of(offer.mandate)
    name, tone = _standing(context, offer, home, means)
    side = _("Selling") if offer.side == ASK else _("Buying")
    put(
        f'<div class="gc-vote" style="border:0;padding:0;background:none"><header><h3>'
        f"{escape(side)}</h3>{pill(name, tone)}</header>"
        f"<p>{escape(words.offer_in_words(offer, fmt))}</p>"
        f'<p class="gc-muted">{escape(_mandate_words(context, offer, means))}</p></div>'
    )
    key = "sell" if offer.side == ASK else "buy"
    left, right = st.columns(2)
    withdrawn = standing.withdrawal_of(offer, home.next_version[offer.side])
    with left:
        answer = _sign_offer(
            context,
            home,
            withdrawn,
            _("End this offer"),
            f"standing.{key}.end_offer",
            kind="secondary",
        )
        if answer is not None and answer.fresh and answer.ok:
            st.rerun()
    with right:
        if means.mandate is not None:
            answer = _end_mandate(context, home, offer.mandate, f"standing.{key}.end_mandate")
            _complain(answer)
    lead(
        _(
            "Ending the offer stops the agent before the next gate. Ending the mandate too takes "
            "its right to order, and stops orders of it that are not posted yet."
        )
    )


def _standing(context: Context, offer: StandingOffer, home: Home, means: Means) -> tuple[str, str]:
    """How an offer stands, and the tone of it."""
    if context.now >= offer.valid_until:
        return _("Ended"), "plain"
    if means.mandate is None:
        waiting = any(one.number == offer.mandate for one in home.sent if not one.done)
        return (_("Mandate on its way"), "open") if waiting else (_("No mandate"), "bad")
    if context.now // 86_400 > means.mandate.last_day:
        return _("Mandate over"), "bad"
    return _("Followed"), "good"


def _mandate_words(context: Context, offer: StandingOffer, means: Means) -> str:
    mandate, fmt = means.mandate, context.fmt
    if mandate is None:
        return _("The agent may not order for you now.")
    return (
        _limits_words(context, mandate)
        + " "
        + _("Used today: {spent}.").format(spent=fmt.euro(means.spent))
    )


def _limits_words(context: Context, mandate: Mandate) -> str:
    fmt = context.fmt
    parts = {
        "price": fmt.ct(mandate.limit),
        "cap": fmt.euro(mandate.daily_cap * CAP_UNIT),
        "day": fmt.date(mandate.last_day * 86_400 + 43_200),
    }
    if mandate.side == ASK:
        return _(
            "The chain lets the agent sell for {price} or more, put up at most {cap} of your "
            "balance as collateral a day, until {day}."
        ).format(**parts)
    return _(
        "The chain lets the agent buy for {price} or less, spend at most {cap} a day, until {day}."
    ).format(**parts)


def _lately(context: Context, home: Home) -> None:
    deeds = home.deeds[:DEEDS_SHOWN]
    if not deeds and not home.offers:
        return
    section(_("What the agent did lately"))
    versions = {(one.offer.side, one.offer.version): one.offer for one in home.history}
    rows = [
        _row(context, deed, versions[deed.side, deed.version])
        for deed in deeds
        if (deed.side, deed.version) in versions
    ]
    if not rows:
        empty(
            _("Nothing yet"),
            _("The agent looks at your offer about half an hour before each gate."),
        )
        return
    put(table(pd.DataFrame(rows), _("What the agent did lately"), set()))


def _row(context: Context, deed: Deed, offer: StandingOffer) -> dict[str, str]:
    fmt, begin = context.fmt, deed.session * SLOT_SECONDS
    end = fmt.time(begin + deed.slots * SLOT_SECONDS)
    state, _tone = words.state_in_words(deed)
    return {
        _("Delivery"): f"{fmt.moment(begin)}–{end}",
        _("Offer"): _("Sell") if deed.side == ASK else _("Buy"),
        _("State"): state,
        _("Why"): words.deed_in_words(offer, deed, fmt),
    }


# A new one


@dataclass(frozen=True)
class _Draft:
    """A wish with all that follows from it before anything is signed."""

    offer: StandingOffer
    week: standing.PastWeek
    terms: Terms
    mandate: Mandate


def _new(context: Context, home: Home) -> None:
    taken = {one.offer.side for one in home.offers if not one.offer.withdrawn}
    section(
        _("A new offer"),
        _("It replaces the one of the same kind that you have.") if taken else "",
    )
    if not home.sessions:
        empty(_("No session is announced"), _("Come back when the next day is announced."))
        return
    wish = _form(context)
    if wish is None:
        return
    terms = home.sessions[0]
    offer = standing.offer_of(wish, home.account, home.next_version[wish.side], 1, LOCAL.key)
    try:
        week = week_of(
            context.settings,
            offer,
            context.zone,
            context.now,
            context.events.version[0],
            terms,
            context.tariffs,
        )
    except GridCommonsError:
        error_box(
            _("Your readings cannot be read now."),
            _("They are as they were; nothing was signed or sent."),
            _("Load the page again. If it stays like this, tell the operator."),
        )
        return
    section(
        _("What it would have been"),
        _(
            "Worked out from your own readings of the last 7 days, as if your orders had not moved "
            "the price."
        ),
    )
    _week(context, offer, week)
    section(
        _("Two signatures"),
        _(
            "The first lets the agent order for you inside limits that the chain enforces. The "
            "second is the offer itself. Either can be ended at any time."
        ),
    )
    cap = _cap(context, offer, week)
    mandate = standing.mandate_for(offer, home.agent, cap)
    _steps(context, home, _Draft(offer, week, terms, mandate))


def _form(context: Context) -> Wish | None:
    """The wish as it is filled in, None where a part of it is missing."""
    tariffs = context.tariffs
    sides = {ASK: _("Sell what I do not need"), BID: _("Buy what I need")}
    side = st.radio(
        _("What"),
        tuple(sides),
        index=None,
        format_func=lambda one: sides[one],
        horizontal=True,
        key="standing.side",
        label_visibility="collapsed",
    )
    if side not in sides:
        lead(_("Choose what the agent is to do for you: you then see what it would have been."))
        return None
    selling = side == ASK
    middle = tariffs.feed_in + 30 if selling else tariffs.retail - 60
    name = "sell" if selling else "buy"
    one, two, three = st.columns(3)
    price = one.number_input(
        _("For at least, ct/kWh") if selling else _("For at most, fee included, ct/kWh"),
        min_value=0.0,
        max_value=_MOST_CT,
        value=round(middle / 5) / 2,
        step=0.5,
        format="%.1f",
        key=f"standing.{name}.price",
    )
    amount = two.number_input(
        _("Keep for myself, kWh a day") if selling else _("At most, kWh a day"),
        min_value=0.0,
        max_value=10_000.0,
        value=0.0 if selling else 5.0,
        step=0.5,
        format="%.1f",
        key=f"standing.{name}.daily",
    )
    names = words.caution_names()
    caution = three.selectbox(
        _("How careful"),
        tuple(CAUTION[side]),
        index=1,
        format_func=lambda level: names[level],
        key=f"standing.{name}.caution",
        help=_(
            "Careful counts only on what every one of your recent days reached. Bold counts on "
            "what every second day reached: more is traded, and more often it is not there."
        ),
    )
    four, five, six = st.columns(3)
    begin = four.selectbox(
        _("From"), range(24), format_func=lambda h: f"{h}:00", key=f"standing.{name}.hour_from"
    )
    end = five.selectbox(
        _("Until"),
        range(1, 25),
        index=23,
        format_func=lambda h: f"{h}:00",
        key=f"standing.{name}.hour_to",
    )
    today = datetime.fromtimestamp(context.now, UTC).astimezone(LOCAL).date()
    until = six.date_input(
        _("Until the end of"),
        value=today + timedelta(days=30),
        min_value=today,
        max_value=today + timedelta(days=366),
        format=context.fmt.picker,
        key=f"standing.{name}.until",
    )
    complete = None not in (price, amount, caution, begin, end) and isinstance(until, date)
    if not complete:
        lead(_("Fill in all fields."))
        return None
    assert isinstance(until, date)
    if not (today <= until <= today + timedelta(days=366) and caution in CAUTION[side]):
        return None
    return Wish(side, round(price * 10), round(amount * 1_000), begin, end % 24, until, caution)


def _week(context: Context, offer: StandingOffer, week: standing.PastWeek) -> None:
    fmt = context.fmt
    ordered = week.total("ordered_wh")
    if not week.days:
        empty(
            _("There are no readings of your home yet"),
            _("The agent needs four whole days of them before it orders anything."),
        )
        return
    selling = offer.side == ASK
    if not ordered:
        empty(
            _("Over the last 7 days nothing would have been ordered"),
            _("Your home fed in {flow} in these hours.").format(flow=fmt.kwh(week.total("flow_wh")))
            if selling
            else _("Your home drew {flow} in these hours.").format(
                flow=fmt.kwh(week.total("flow_wh"))
            ),
        )
        return
    flow = fmt.kwh(week.total("flow_wh"))
    shown = [
        Figure(
            _("Offered") if selling else _("Asked for"),
            fmt.kwh(ordered),
            (_("of {flow} fed in") if selling else _("of {flow} drawn")).format(flow=flow),
        )
    ]
    unpriced = week.total("unpriced_wh")
    if unpriced < ordered:
        shown += [
            Figure(
                _("Sold") if selling else _("Bought"),
                fmt.kwh(week.total("traded_wh")),
                _("where the price of the day allowed it"),
            ),
            Figure(
                _("Delivered") if selling else _("Really used"),
                fmt.kwh(week.total("kept_wh")),
                _("the rest costs the penalty") if selling else _("the rest is paid all the same"),
            ),
            Figure(
                _("More than feed-in") if selling else _("Less than retail"),
                fmt.euro(week.total("gain")),
                _("over the last 7 days, fees and penalties paid"),
            ),
        ]
    figures(shown)
    if unpriced:
        lead(
            _("For {energy} no price is known; they count as not traded.").format(
                energy=fmt.kwh(unpriced)
            )
        )
    _days(context, selling, week)


def _days(context: Context, selling: bool, week: standing.PastWeek) -> None:
    fmt = context.fmt
    frame = pd.DataFrame(
        [
            {
                _("Day"): f"{day.day:%d.%m.}",
                _("Fed in") if selling else _("Drawn"): fmt.kwh(day.flow_wh),
                _("Offered") if selling else _("Asked for"): fmt.kwh(day.ordered_wh),
                _("Sold") if selling else _("Bought"): fmt.kwh(day.traded_wh),
                _("Gain"): fmt.euro(day.gain),
            }
            for day in week.days
        ]
    )
    told = table(frame, _("Day by day"), set(frame.columns[1:]))
    put(f"<details><summary>{escape(_('Day by day'))}</summary>{told}</details>")


def _cap(context: Context, offer: StandingOffer, week: standing.PastWeek) -> int:
    """The mandate's daily cap, token units: suggested from the week, changed by whoever wants."""
    name = "sell" if offer.side == ASK else "buy"
    suggested = standing.daily_cap(offer, week)
    with st.expander(_("Limit for each day: {cap}").format(cap=context.fmt.euro(suggested))):
        chosen = st.number_input(
            _("The agent may put up at most, € a day"),
            min_value=0.1,
            max_value=409.5,
            value=None,
            placeholder=f"{suggested / 1e6:.2f}",
            step=0.1,
            key=f"standing.{name}.cap",
            help=_(
                "To sell, collateral is put up for the case that nothing is delivered; to buy, the "
                "price. What is not used comes back."
            ),
        )
    return suggested if chosen is None else round(chosen * 10) * CAP_UNIT


def _steps(context: Context, home: Home, draft: _Draft) -> None:
    offer = draft.offer
    number, granted, on_its_way = home.mandate_for(draft.mandate)
    state, tone = (_("To sign"), "open")
    if granted:
        state, tone = (_("Done"), "good")
    elif on_its_way:
        state, tone = (_("Signed, on its way to the chain"), "good")
    _step(_("Step 1: the mandate"), state, tone, _limits_words(context, draft.mandate))
    if not (granted or on_its_way):
        _first_step(context, home, draft, number)
    chosen = replace(offer, mandate=number)
    said = words.offer_in_words(chosen, context.fmt)
    if not (granted or on_its_way):
        _step(_("Step 2: the offer"), _("After step 1"), "plain", said)
        return
    held = [replace(one.offer, version=chosen.version) for one in home.offers]
    if chosen in held:
        _step(_("Step 2: the offer"), _("Done"), "good", _("This is the offer that you have."))
        return
    _step(_("Step 2: the offer"), _("To sign"), "open", said)
    name = "sell" if offer.side == ASK else "buy"
    answer = _sign_offer(
        context, home, chosen, _("2. Sign the offer"), f"standing.{name}.offer", kind="primary"
    )
    if answer is not None and answer.fresh and answer.ok:
        st.rerun()


def _step(name: str, state: str, tone: str, said: str) -> None:
    put(
        f'<article class="gc-vote"><header><h3>{escape(name)}</h3>{pill(state, tone)}</header>'
        f"<p>{escape(said)}</p></article>"
    )


def _first_step(context: Context, home: Home, draft: _Draft, number: int) -> None:
    settings, person = context.settings, context.person
    assert settings.deployment is not None
    assert settings.chain_id is not None
    assert person is not None
    market = settings.deployment["EnergyMarket"]
    document = standing.mandate_document(
        settings.chain_id, market, home.account, number, draft.mandate
    )
    name = "sell" if draft.offer.side == ASK else "buy"
    answer = wallet.button(
        _("1. Let the agent order"),
        request=wallet.SignTypedData(
            document,
            person.address,
            wallet.Deliver(
                "/relay/v1/mandates", standing.mandate_request(home.account, number, draft.mandate)
            ),
        ),
        key=f"standing.{name}.mandate",
    )
    if answer is not None and answer.fresh and answer.ok and not _refused(answer):
        st.rerun()
    _complain(answer)


def _sign_offer(
    context: Context, home: Home, offer: StandingOffer, label: str, key: str, kind: str
) -> wallet.Answer | None:
    settings, person = context.settings, context.person
    assert settings.deployment is not None
    assert settings.chain_id is not None
    assert person is not None
    document = typed_data(settings.chain_id, settings.deployment["EnergyMarket"], offer)
    answer = wallet.button(
        label,
        request=wallet.SignTypedData(
            document,
            person.address,
            wallet.Deliver("/agent/v1/offers", {"document": document, "signature": "$signature"}),
        ),
        key=key,
        kind="primary" if kind == "primary" else "secondary",
    )
    _complain(answer)
    return answer


def _end_mandate(context: Context, home: Home, number: int, key: str) -> wallet.Answer | None:
    settings, person = context.settings, context.person
    assert settings.deployment is not None
    assert settings.chain_id is not None
    assert person is not None
    document = standing.mandate_end_document(
        settings.chain_id, settings.deployment["EnergyMarket"], home.account, number
    )
    body = {"account": home.account, "number": number, "signature": "$signature"}
    return wallet.button(
        _("End the mandate"),
        request=wallet.SignTypedData(
            document, person.address, wallet.Deliver("/relay/v1/mandate-ends", body)
        ),
        key=key,
        kind="secondary",
    )


def _refused(answer: wallet.Answer) -> bool:
    return answer.delivered is not None and int(answer.delivered.get("status", 0)) >= 400


def _complain(answer: wallet.Answer | None) -> None:
    """Say what was not taken. What the wallet said of itself is the button's to show."""
    if answer is None or not _refused(answer):
        return
    error_box(
        _("What you signed was not taken."),
        _("Nothing was ordered, and no money moved."),
        _("Load the page again and look at the values; then sign anew."),
    )
