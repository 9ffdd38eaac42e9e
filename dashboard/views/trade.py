# SPDX-License-Identifier: Apache-2.0
"""The trade page: pick a session, fill in a ticket, see what it comes to, sign it.

Nothing is signed that the page did not show: what the relay offers for signing is compared with the
ticket, field by field.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import pandas as pd
import streamlit as st

from dao.errors import CheckFailed, GridCommonsError
from dao.slots import SLOT_SECONDS, SLOTS_PER_DAY
from dao.tariffs import Tariffs
from dashboard import charts, wallet
from dashboard.context import Context
from dashboard.i18n import Locale, _, ngettext
from dashboard.plot import Drawing
from dashboard.repositories.cache import cached
from dashboard.repositories.readings import Reading
from dashboard.repositories.relay import (
    Account,
    Book,
    Coming,
    RelayClient,
    RelayRefused,
    Sessions,
    book_of,
    sessions_of,
)
from dashboard.repositories.trades import Cleared
from dashboard.services import session, ticket
from dashboard.services.ticket import BUY, SELL, Fault, Outcome, Preview, Ticket
from dashboard.services.typed_data import NotAsAsked, checked, order_message
from dashboard.theme import Palette
from dashboard.views.parts import (
    chart,
    countdown,
    empty,
    folded,
    lead,
    put,
    section,
    table,
    title,
    together,
    unfolding,
)
from dashboard.views.resident import (
    Resident,
    from_relay,
    notes,
    relay_trouble,
    resident,
    signed_euro,
    unbroken,
    wallet_problem,
)

COUNT_SECONDS = 1.0
NEAREST, LATER = 3, -1
"""So many sessions are offered at first; the others are behind a choice of its own."""
SESSION, EVERY_SESSION = "trade.session", "trade.session.every"
BOOK_SECONDS = 10.0
RECENT_DAYS = 7
LATE_DAYS = 3
"""What a home usually gives and takes: of so many days, up to a newest reading so old at most."""
# The quantile of the recent days that is suggested, permille: how often it was reached.
CAUTION = {
    SELL: {"safe": 150, "usual": 300, "bold": 500},
    BUY: {"safe": 50, "usual": 100, "bold": 300},
}
SAID = "trade.said."


def draw(context: Context) -> None:
    """The page."""
    title(
        _("Trade"),
        _("Sell to neighbours what you do not need, or buy from them. One price for all."),
    )
    held = resident(context, "trade")
    if held is None:
        return
    relay = held.sources.relay
    found: Sessions | None = from_relay(
        lambda one: sessions_of(one, context.zone, context.now), relay
    )
    if found is None or relay is None:
        return
    coming = session.open_sessions(found.sessions, max(context.now, found.now))
    if not coming:
        empty(
            _("No session takes orders just now"),
            _("Sessions open a day ahead. This page finds the next one when you come back."),
        )
        return
    terms = _session(held, coming)
    _countdown(held, terms)
    left, right = st.columns([1, 1], gap="large")
    with left:
        _ticket(held, terms, relay)
    with right:
        _market(held, terms)


def _session(held: Resident, coming: Sequence[Coming]) -> Coming:
    """The session to order for: the next ones beside each other, the others once asked for."""
    names = {one.first_slot: _session_name(held, one.first_slot, one.slots) for one in coming}
    nearest = list(names)[:NEAREST]
    if st.session_state.get(SESSION) not in names:
        st.session_state[SESSION] = coming[0].first_slot
    whole = st.session_state.get(EVERY_SESSION) or st.session_state[SESSION] not in nearest
    more = [] if whole or len(nearest) == len(names) else [LATER]

    def turn() -> None:
        if st.session_state[SESSION] == LATER:
            st.session_state[EVERY_SESSION] = True
            st.session_state[SESSION] = coming[0].first_slot

    wanted = st.pills(
        _("Delivery"),
        [*(names if whole else nearest), *more],
        format_func=lambda slot: names.get(slot, _("Later")),
        key=SESSION,
        on_change=turn,
        required=True,
    )
    chosen = session.chosen(coming, wanted)
    assert chosen is not None
    return chosen


def _session_name(held: Resident, first_slot: int, slots: int) -> str:
    fmt = held.context.fmt
    begin = first_slot * SLOT_SECONDS
    return _("{begin} to {end}").format(
        begin=fmt.moment(begin), end=fmt.time(begin + slots * SLOT_SECONDS)
    )


@st.fragment(run_every=COUNT_SECONDS)
def _countdown(held: Resident, terms: Coming) -> None:
    """The time that is left to order, on the chain's clock."""
    try:
        now = held.context.renewed().now
    except GridCommonsError:
        now = held.context.now
    if now >= terms.orders_until:
        # The page as a whole goes on to the next session.
        st.rerun(scope="app")
    words = _("Orders until {time}. Closes in {left}").format(
        time=held.context.fmt.moment(terms.orders_until), left="\0"
    )
    before, _mark, after = words.partition("\0")
    left = countdown(terms.orders_until - now)
    put(f'<p class="gc-lead">{escape(before)}{left}{escape(after)}</p>')


# The ticket


def _ticket(held: Resident, terms: Coming, relay: RelayClient) -> None:
    context = held.context
    section(_("Your order"))
    names = {SELL: _("Sell"), BUY: _("Buy")}
    side = st.segmented_control(
        _("Sell or buy"),
        [SELL, BUY],
        format_func=lambda one: names[one],
        key="trade.side",
        label_visibility="collapsed",
    )
    if side is None:
        # Nobody shall sell who meant to buy: the ticket comes with the choice.
        _hints(held, terms)
        return
    wh = _energy(held, terms, side)
    limit = _limit(context, terms, side)
    account: Account | None = from_relay(lambda one: one.account(held.account), relay)
    if account is None:
        return
    cleared = held.sources.trades.cleared(
        terms.first_slot - (session.HISTORY_DAYS + 1) * SLOTS_PER_DAY,
        (session.HISTORY_DAYS + 1) * SLOTS_PER_DAY,
    )
    recent = session.recent_prices(cleared, terms.first_slot, terms.slots)
    made = ticket.preview(
        Ticket(side, limit, wh),
        terms,
        context.tariffs,
        free=account.available,
        now=context.now,
        recent=recent,
    )
    with together():
        _preview(context, terms, made)
    faults = [_fault(context, terms, made, one) for one in made.faults]
    if not account.nonces:
        faults.append(_("Sixteen orders of yours still wait to be posted. Wait for one of them."))
    if faults:
        tone = "" if made.faults == (Fault.NOTHING,) else "bad"
        notes([(tone, words) for words in faults])
        _said(held)
        return
    _sign(held, terms, relay, made, account)


def _energy(held: Resident, terms: Coming, side: str) -> tuple[int, ...]:
    """Wh in each slot: a total that follows the suggestion's shape, or hours one by one."""
    context = held.context
    recent = _recent(held)
    first, own = recent[0], _own(recent, side)
    hours = -(-terms.slots // 4)
    ways = folded(_("More or less, or by hour"), f"trade.{side}.ways")
    caution, how = "usual", "total"
    if ways.open:
        with ways:
            caution, how = _ways(side)
    advised = ticket.suggestion(own, first, terms, CAUTION[side][caution])
    total = sum(advised)
    lead(_suggestion_words(context, side, total, any(wh is not None for wh in own)))
    if total:
        st.button(
            _("Take {energy}").format(energy=context.fmt.kwh(total, 2)),
            key=f"trade.{side}.take",
            on_click=_take,
            args=(side, advised, hours),
        )
    if how == "total":
        kwh = st.number_input(
            _("Energy in kWh over the whole time"),
            min_value=0.0,
            max_value=terms.max_slot_wh * terms.slots / 1000,
            value=None,
            step=0.1,
            format="%.2f",
            placeholder=_("for example 2.50"),
            key=f"trade.{side}.kwh",
        )
        return ticket.spread(_wh(kwh), advised, terms.max_slot_wh)
    values = []
    columns = st.columns(3)
    for hour in range(hours):
        begin = (terms.first_slot + 4 * hour) * SLOT_SECONDS
        with columns[hour % 3]:
            values.append(
                st.number_input(
                    _("{begin} to {end}, kWh").format(
                        begin=context.fmt.time(begin), end=context.fmt.time(begin + 3_600)
                    ),
                    min_value=0.0,
                    max_value=terms.max_slot_wh * 4 / 1000,
                    value=None,
                    step=0.1,
                    format="%.2f",
                    key=f"trade.{side}.hour.{hour}",
                )
            )
    return ticket.hourly([_wh(value) for value in values], terms.slots, terms.max_slot_wh)


def _hints(held: Resident, terms: Coming) -> None:
    """What the home can spare and what it will need, before anything is chosen."""
    recent = _recent(held)
    said = []
    for side in (SELL, BUY):
        own = _own(recent, side)
        total = sum(ticket.suggestion(own, recent[0], terms, CAUTION[side]["usual"]))
        known = any(wh is not None for wh in own)
        said.append(_suggestion_words(held.context, side, total, known))
    with together():
        # Once, where nothing is known of either.
        for words in dict.fromkeys(said):
            lead(words)


def _ways(side: str) -> tuple[str, str]:
    """How much of the suggestion to count on, and whether to fill in hours one by one."""
    words = {"safe": _("Careful"), "usual": _("Usual"), "bold": _("Bold")}
    caution = st.segmented_control(
        _("How much to count on"),
        list(words),
        default="usual",
        format_func=lambda one: words[one],
        key=f"trade.{side}.caution",
    )
    kinds = {"total": _("In total"), "hours": _("By hour")}
    how = st.segmented_control(
        _("Energy"),
        list(kinds),
        default="total",
        format_func=lambda one: kinds[one],
        key=f"trade.{side}.how",
    )
    return caution or "usual", how or "total"


def _take(side: str, advised: Sequence[int], hours: int) -> None:
    """Fill the suggestion in, both ways."""
    st.session_state[f"trade.{side}.kwh"] = sum(advised) / 1000
    for hour in range(hours):
        st.session_state[f"trade.{side}.hour.{hour}"] = sum(advised[4 * hour : 4 * hour + 4]) / 1000


def _wh(kwh: float | None) -> int:
    return 0 if kwh is None else round(kwh * 1000)


def _recent(held: Resident) -> tuple[int, list[Reading]]:
    """Seven days up to the home's newest reading: the first slot, and what is known of them;
    nothing where it cannot be read."""
    slots = RECENT_DAYS * SLOTS_PER_DAY
    now_slot = held.context.now // SLOT_SECONDS
    late = LATE_DAYS * SLOTS_PER_DAY
    try:
        series = held.sources.readings.series(held.account, now_slot - late - slots, late + slots)
    except CheckFailed:
        return now_slot - slots, []
    known = [one.slot for one in series if not (one.import_wh is None and one.export_wh is None)]
    first = (known[-1] + 1 if known and known[-1] >= now_slot - late else now_slot) - slots
    return first, series


def _own(recent: tuple[int, list[Reading]], side: str) -> list[int | None]:
    """What the home gave or took in each slot of seven days, Wh."""
    first, series = recent
    pairs = [(one.slot, one.export_wh if side == SELL else one.import_wh) for one in series]
    return session.own_recent(pairs, first, RECENT_DAYS * SLOTS_PER_DAY)


def _suggestion_words(context: Context, side: str, total: int, known: bool) -> str:
    if not known:
        return _("No readings of your last days are known, so nothing can be suggested.")
    energy = context.fmt.kwh(total, 2)
    if side == SELL:
        if not total:
            return _("In your last seven days there was little to spare at this time of day.")
        return _("From your last seven days you can count on {energy} to spare.").format(
            energy=energy
        )
    if not total:
        return _("In your last seven days you drew next to nothing at this time of day.")
    return _("From your last seven days you will surely need {energy}.").format(energy=energy)


def _limit(context: Context, terms: Coming, side: str) -> int:
    """The limit in µ€/Wh, asked for in ct/kWh."""
    label = (
        _("Sell for at least, ct/kWh")
        if side == SELL
        else _("Pay at most, grid fee included, ct/kWh")
    )
    key = f"trade.{side}.limit"
    if key not in st.session_state:
        st.session_state[key] = ticket.first_limit(side, terms, context.tariffs) / 10
    ct = st.number_input(
        label,
        min_value=0.0,
        max_value=6_553.4,
        step=0.1,
        format="%.1f",
        key=key,
    )
    return 0 if ct is None else round(ct * 10)


# What it comes to


def _preview(context: Context, terms: Coming, made: Preview) -> None:
    fmt, sells = context.fmt, made.ticket.side == SELL
    if not made.ticket.total_wh:
        return
    tariff = fmt.ct(context.tariffs.feed_in if sells else context.tariffs.retail)
    got = unbroken(_("You get") if sells else _("You pay"))
    than = (
        _("More than feed-in at {price}").format(price=tariff)
        if sells
        else _("Less than retail at {price}").format(price=tariff)
    )

    def row(name: str, one: Outcome, better: str | None = None) -> dict[str, str]:
        money = one.money if sells else -one.money
        return {
            _("If"): name,
            _("Energy"): fmt.kwh(one.energy_wh, 2),
            got: fmt.euro(money).replace("-", "\u2212"),
            than: better if better is not None else signed_euro(context, one.better),
        }

    rows = [
        row(
            _("all of it is sold at your limit") if sells else _("all is bought at your limit"),
            made.at_limit,
        )
    ]
    if made.at_recent is not None:
        rows.append(row(_("prices are as in the last days"), made.at_recent))
    rows.append(
        row(
            _("worst case: sold, and nothing delivered")
            if sells
            else _("worst case: bought, and none of it used"),
            made.worst,
        )
    )
    section(_("What it comes to"), _("After grid fee and penalty, before you sign anything."))
    put(table(pd.DataFrame(rows), _("What the order comes to"), set(list(rows[0])[1:])))
    lines = []
    if sells:
        lines.append(
            _(
                "{escrow} is held as a deposit against the penalty of {penalty} until the meters "
                "have proved delivery; {free} stays free. What is not sold is fed in at the tariff "
                "as ever, and its part of the deposit comes back."
            ).format(
                escrow=fmt.euro(made.escrow),
                penalty=fmt.ct(terms.penalty),
                free=fmt.euro(made.free_after),
            )
        )
    else:
        lines.append(
            _(
                "{escrow} is held until it is settled; {free} stays free. Of the price at your "
                "limit {fee} is grid fee. What is not bought or not delivered is given back in "
                "full, and your supplier delivers it at retail as ever. What is delivered is paid, "
                "used or not."
            ).format(
                escrow=fmt.euro(made.escrow),
                free=fmt.euro(made.free_after),
                fee=fmt.euro(made.at_limit.fees),
            )
        )
    spoken = sum(1 for wh in made.ticket.wh if wh)
    if made.at_recent is not None and made.recent_slots < spoken:
        lines.append(
            ngettext(
                "The line on the last days rests on {known} of {all} quarter-hour that traded.",
                "The line on the last days rests on {known} of {all} quarter-hours that traded.",
                spoken,
            ).format(known=made.recent_slots, all=spoken)
        )
    for words in lines:
        lead(words)
    if made.outside_slots and Fault.OUTSIDE not in made.faults:
        notes(
            [
                (
                    "",
                    ngettext(
                        "In {number} quarter-hour your limit lies outside the allowed prices; "
                        "there it cannot trade.",
                        "In {number} quarter-hours your limit lies outside the allowed prices; "
                        "there it cannot trade.",
                        made.outside_slots,
                    ).format(number=made.outside_slots),
                )
            ]
        )
    if made.at_limit.better < 0 and not made.faults:
        notes(
            [
                (
                    "",
                    _("At this limit you could end up with less than the feed-in tariff pays.")
                    if sells
                    else _("At this limit you could pay more than at retail."),
                )
            ]
        )


def _fault(context: Context, terms: Coming, made: Preview, one: Fault) -> str:
    fmt = context.fmt
    if one is Fault.CLOSED:
        return _("This session takes no more orders.")
    if one is Fault.NOTHING:
        return _("Fill in how much energy.")
    if one is Fault.TOO_LITTLE:
        return _("An order needs at least {energy}.").format(energy=fmt.kwh(terms.min_order_wh, 2))
    if one is Fault.TOO_MUCH:
        return _("At most {energy} fit into a quarter-hour.").format(
            energy=fmt.kwh(terms.max_slot_wh)
        )
    if one is Fault.MONEY:
        return _(
            "This needs {escrow} free, and {missing} is missing. Order less, or pay in on the "
            "Money page."
        ).format(escrow=fmt.euro(made.escrow), missing=fmt.euro(-made.free_after))
    if made.ticket.side == SELL:
        return _("No price so high is allowed: at most {price}.").format(
            price=fmt.ct(max(terms.band_max))
        )
    return _("So low a limit cannot trade: the grid fee alone is {price}.").format(
        price=fmt.ct(min(terms.grid_fee))
    )


# Signing


def _sign(
    held: Resident, terms: Coming, relay: RelayClient, made: Preview, account: Account
) -> None:
    context, sources = held.context, held.sources
    fields = ticket.order_fields(made.ticket, terms, held.account, account.nonces[0])
    market, chain_id = sources.market, sources.chain_id
    if market is None or chain_id is None:
        relay_trouble(CheckFailed("no deployment"))
        return
    try:
        prospect = relay.outlook(fields)
        if prospect.problems:
            raise RelayRefused(422, prospect.problems[0])
        outlook = prospect.outlook
        if outlook is None or (outlook.energy_wh, outlook.escrow) != (
            made.ticket.total_wh,
            made.escrow,
        ):
            raise NotAsAsked("the relay expects something else of this order")
        document = checked(
            relay.typed_data("order", fields),
            "order",
            order_message(ticket.as_order(fields, terms)),
            chain_id=chain_id,
            contract=market,
            now=context.now,
        )
    except CheckFailed as error:
        relay_trouble(error)
        _said(held)
        return
    fmt, sells = context.fmt, made.ticket.side == SELL
    words = (
        _("Sign and sell {energy} for at least {price}")
        if sells
        else _("Sign and buy {energy} for at most {price}")
    )
    answer = wallet.button(
        words.format(energy=fmt.kwh(made.ticket.total_wh, 2), price=fmt.ct(made.ticket.limit)),
        request=wallet.SignTypedData(
            document,
            held.address,
            wallet.Deliver("/relay/v1/orders", {**fields, "signature": "$signature"}),
        ),
        key=f"trade.{made.ticket.side}.sign",
    )
    lead(
        _(
            "Signing costs nothing. The relay posts the order within {time} and pays the fee of "
            "the chain. Until it is posted you can take it back on the Orders page."
        ).format(time=fmt.duration(max(outlook.posted_within_s, 1)))
    )
    if answer is not None and answer.fresh:
        st.session_state[SAID + held.address] = answer
        if answer.ok:
            st.rerun()
    _said(held)


def _said(held: Resident) -> None:
    """How the last signature ended."""
    answer: Any = st.session_state.get(SAID + held.address)
    if not isinstance(answer, wallet.Answer):
        return
    if not answer.ok:
        wallet_problem(answer)
        return
    notes(
        [
            (
                "good",
                _(
                    "Your order is taken and safe at the relay, which has promised to post it "
                    "before the gate. Follow it on the Orders page."
                ),
            )
        ]
    )


# The market beside it


@st.fragment(run_every=BOOK_SECONDS)
def _market(held: Resident, terms: Coming) -> None:
    try:
        fresh = held.renewed()
    except GridCommonsError:
        fresh = held
    with together():
        traded = _prices(fresh, terms)
    if not traded.empty:
        unfolding("trade.prices", lambda: _price_table(fresh, traded))
    with together():
        book = _book(fresh, terms)
    if book is not None:
        _depth(fresh, book)


@dataclass(frozen=True)
class _Prices:
    """What the last days' prices were. frame: the quarter-hours that traded."""

    mean: float | None
    frame: pd.DataFrame
    chart: Drawing | None


@cached(ttl=600, max_entries=32)
def _price_views(
    cleared: tuple[Cleared, ...],
    now_slot: int,
    tariffs: Tariffs,
    fee: int,
    colours: Palette,
    _: Locale,
) -> _Prices:
    """One for all who look at a market in one language."""
    found = session.price_history(cleared, now_slot)
    traded = found.frame[found.frame["price_ct"].notna()]
    drawn = None
    if found.mean is not None:
        drawn = charts.market_chart(found.frame, tariffs, fee, colours)
    return _Prices(found.mean, traded, drawn)


def _prices(held: Resident, terms: Coming) -> pd.DataFrame:
    """The chart; returns the quarter-hours that traded."""
    context = held.context
    fmt = context.fmt
    now_slot = context.now // SLOT_SECONDS
    days = session.HISTORY_DAYS
    cleared = held.sources.trades.cleared(
        now_slot - days * SLOTS_PER_DAY, (days + 2) * SLOTS_PER_DAY
    )
    fee = max(terms.grid_fee)
    found = _price_views(
        tuple(cleared), now_slot, context.tariffs, fee, context.colours, context.locale
    )
    if found.chart is None or found.mean is None:
        section(_("Prices"))
        empty(
            _("Nothing has traded in the last three days"),
            _("A price appears when an offer and a bid of the same quarter-hour meet."),
        )
        return found.frame
    section(
        _("Prices"),
        _(
            "Three days, {mean} on average. A buyer also pays {fee} grid fee. Between the lines "
            "both sides gain."
        ).format(mean=fmt.ct(found.mean), fee=fmt.ct(fee)),
    )
    chart(found.chart, alt=_price_words(), key="trade.prices")
    return found.frame


def _price_words() -> str:
    return _("Price of each quarter-hour of the last days, between feed-in tariff and retail")


def _price_table(held: Resident, traded: pd.DataFrame) -> str:
    fmt = held.context.fmt
    shown = pd.DataFrame(
        {
            _("When"): [fmt.at(one) for one in traded["time"]],
            _("Price (ct/kWh)"): [fmt.number(one, 1) for one in traded["price_ct"]],
            _("Energy (kWh)"): [fmt.number(one, 2) for one in traded["volume_kwh"]],
        }
    )
    return table(shown.tail(100).iloc[::-1], _price_words(), set(shown.columns[1:]))


def _book(held: Resident, terms: Coming) -> Book | None:
    """What is on order by the hour; returns the book if there is anything in it."""
    context = held.context
    fmt = context.fmt
    section(
        _("Orders so far"),
        _("What neighbours offer and ask for, without names. The gate sets one price for all."),
    )
    book: Book | None = from_relay(
        lambda one: book_of(one, context.zone, terms.first_slot), held.sources.relay
    )
    if book is None:
        return None
    lines = session.hourly_book(session.book_lines(book))
    if not any(one.bid_wh or one.ask_wh for one in lines):
        empty(
            _("Nobody has ordered yet"),
            _("Most homes order shortly before the gate. Yours can be the first."),
        )
        return None
    dash = "–"
    frame = pd.DataFrame(
        {
            _("From"): [fmt.time(one.slot * SLOT_SECONDS) for one in lines],
            _("Offered"): [fmt.kwh(one.ask_wh, 2) if one.ask_wh else dash for one in lines],
            _("from"): [dash if one.best_ask is None else fmt.ct(one.best_ask) for one in lines],
            _("Asked for"): [fmt.kwh(one.bid_wh, 2) if one.bid_wh else dash for one in lines],
            _("up to"): [dash if one.best_bid is None else fmt.ct(one.best_bid) for one in lines],
        }
    )
    put(table(frame, _("Orders so far"), set(frame.columns[1:]), {dash}))
    return book


def _depth(held: Resident, book: Book) -> None:
    """The orders of one quarter-hour, price by price."""
    fmt, dash = held.context.fmt, "–"
    slots = [one.slot for one in book.slots]
    slot = st.selectbox(
        _("One quarter-hour in full"),
        slots,
        index=None,
        placeholder=_("Choose a quarter-hour"),
        format_func=lambda one: fmt.moment(one * SLOT_SECONDS),
        key="trade.slot",
    )
    depth = session.depth_of(book, slot) if isinstance(slot, int) else None
    if depth is None:
        return
    ladder = [
        {
            _("Side"): name,
            _("Limit"): fmt.ct(level.price),
            _("On the chain"): fmt.kwh(level.posted_wh, 2) if level.posted_wh else dash,
            _("At the relay"): fmt.kwh(level.waiting_wh, 2) if level.waiting_wh else dash,
        }
        for name, levels in (
            (_("Offered"), depth.asks[:40]),
            (_("Asked for"), depth.bids[:40]),
        )
        for level in levels
    ]
    if ladder:
        put(table(pd.DataFrame(ladder), _("Orders of this quarter-hour"), {_("Limit")}, {dash}))
