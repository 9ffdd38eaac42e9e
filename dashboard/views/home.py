# SPDX-License-Identifier: Apache-2.0
"""The home page: what the meter saw, what is traded, what it earned, and what needs a look."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from dao.errors import CheckFailed, GridCommonsError
from dao.slots import SLOT_SECONDS
from dashboard import charts
from dashboard.context import Context
from dashboard.i18n import _, ngettext
from dashboard.repositories.readings import Reading
from dashboard.repositories.relay import sessions_of
from dashboard.repositories.trades import Posted, Result
from dashboard.services import home, orders
from dashboard.services.home import Attention, Matter
from dashboard.services.orders import Fill
from dashboard.services.session import open_sessions
from dashboard.views.parts import (
    Figure,
    chart,
    empty,
    error_box,
    figures,
    lead,
    section,
    table,
    title,
    together,
    unfolding,
)
from dashboard.views.resident import Resident, notes, order_views, resident, session, signed_euro
from meters.readings import Quality

LIVE_SECONDS = 5.0
RANGES = {"today": 1, "week": 7, "month": 30}
# Quarter-hours in one bar of the chart: none of the charts has more than about 170.
WIDTHS = {1: 1, 7: 4, 30: 96}


def draw(context: Context) -> None:
    """The page."""
    person = context.person
    name = person.name if person is not None and person.name else _("My home")
    title(name, _("What your meter saw, and what trade made of it."))
    found = resident(context, "home")
    if found is None:
        return
    _live(found)
    _history(found)
    with together():
        _results(found)
        lead(
            _(
                "Your meter counts at the connection to the street: what comes in and what goes "
                "out. What your roof makes and you use at once never passes it. No meter for that "
                "is known here, so production and own use are not shown rather than guessed."
            )
        )


@st.fragment(run_every=LIVE_SECONDS)
def _live(held: Resident) -> None:
    """The newest reading, what is traded now, the money, the next gate, and what needs a look."""
    try:
        fresh = held.renewed()
        _now(fresh)
    except GridCommonsError:
        error_box(
            _("The newest readings cannot be read just now."),
            _("Nothing is lost: they are kept where they are."),
            _("This page tries again by itself."),
        )


def _now(held: Resident) -> None:
    context, sources, account = held.context, held.sources, held.account
    fmt, now = context.fmt, context.now
    slot = now // SLOT_SECONDS
    newest = sources.readings.newest(account, slot + 1)
    posted = sources.trades.orders([account], limit=24, since=slot - 96)
    views = order_views(held, posted)
    trading = home.trading(views, slot)
    told = sources.balance(account)
    free = None if told is None else told.amount
    gate, has_order = _next_gate(held, posted)

    shown = [_reading_figure(held, newest)]
    sold, bought = trading.sold_wh, trading.bought_wh
    begin = slot * SLOT_SECONDS
    span = _("{begin} to {end}").format(begin=fmt.time(begin), end=fmt.time(begin + SLOT_SECONDS))
    if sold is None or bought is None:
        shown.append(Figure(_("Traded this quarter-hour"), "–", _("not worked out yet")))
    elif sold:
        shown.append(Figure(_("Sold this quarter-hour"), fmt.kwh(sold, 2), span))
    elif bought:
        shown.append(Figure(_("Bought this quarter-hour"), fmt.kwh(bought, 2), span))
    else:
        shown.append(Figure(_("Traded this quarter-hour"), fmt.kwh(0), span))
    if free is None:
        balance = sources.trades.balance(account)
        shown.append(Figure(_("Free balance"), fmt.euro(balance), _("as the events have it")))
    else:
        held_money = sources.trades.escrowed(account)
        note = (
            _("and {amount} held by open orders").format(amount=fmt.euro(held_money))
            if held_money
            else _("no order holds any")
        )
        shown.append(Figure(_("Free balance"), fmt.euro(free), note))
    if gate is None:
        shown.append(Figure(_("Next gate"), "–", _("the relay does not tell")))
    else:
        note = _("at {time}; you have ordered") if has_order else _("at {time}; no order yet")
        left = fmt.duration(max(0, gate - now))
        shown.append(Figure(_("Next gate closes in"), left, note.format(time=fmt.time(gate))))
    with together():
        figures(shown)
        _attention(held, newest, free, gate, has_order)


def _reading_figure(held: Resident, newest: Reading | None) -> Figure:
    fmt = held.context.fmt
    if newest is None:
        return Figure(_("Newest reading"), "–", _("none in the last three days"))
    begin = newest.slot * SLOT_SECONDS
    when = _("{begin} to {end}").format(begin=fmt.moment(begin), end=fmt.time(begin + SLOT_SECONDS))
    if newest.quality is Quality.ESTIMATED:
        when = _("{when}, estimated").format(when=when)
    elif newest.quality is Quality.SUBSTITUTED:
        when = _("{when}, substituted").format(when=when)
    drawn, fed = newest.import_wh, newest.export_wh
    if fed and fed > (drawn or 0):
        return Figure(_("Fed into the grid"), fmt.kwh(fed, 2), when)
    if drawn is None:
        return Figure(_("Fed into the grid"), fmt.kwh(fed or 0, 2), when)
    return Figure(_("Drawn from the grid"), fmt.kwh(drawn, 2), when)


def _next_gate(held: Resident, posted: list[Posted]) -> tuple[int | None, bool]:
    """The next gate and whether something of this home stands in its book."""
    if held.sources.relay is None:
        return None, False
    try:
        found = sessions_of(held.sources.relay, held.context.zone, held.context.now)
        coming = open_sessions(found.sessions, held.context.now)
    except CheckFailed:
        return None, False
    if not coming:
        return None, False
    first = coming[0]
    return first.gate, any(one.order.session_slot == first.first_slot for one in posted)


def _attention(
    held: Resident,
    newest: Reading | None,
    free: int | None,
    gate: int | None,
    has_order: bool,
) -> None:
    context, sources, account = held.context, held.sources, held.account
    first, slots = home.day_slots(context.now, 7)
    buckets = sources.readings.buckets(account, first, slots, 96)
    week = home.totals(buckets, slots)
    day_ago = context.now - 86_400
    rejected = [one for one in sources.trades.turned_away([account]) if one.at > day_ago]
    sold = [one for one in sources.trades.results(account, first) if one.sells]
    matters = home.attention(
        newest=newest,
        now=context.now,
        week=week,
        free=free,
        rejected=len(rejected),
        short_wh=sum(one.filled_wh - one.delivered_wh for one in sold),
        next_gate=gate,
        has_order=has_order,
    )
    notes([(_tone(one), _words(context, one)) for one in matters])


def _tone(one: Attention) -> str:
    return "bad" if one.matter in (Matter.REJECTED, Matter.NO_READINGS, Matter.STALE) else ""


def _words(context: Context, one: Attention) -> str:
    fmt, number = context.fmt, one.number
    if one.matter is Matter.NO_READINGS:
        return _(
            "No reading of your meter has come in the last three days. Look whether the gateway at "
            "your meter has power and a connection."
        )
    if one.matter is Matter.STALE:
        return _(
            "The newest reading is {age} old. Look whether the gateway at your meter has power and "
            "a connection."
        ).format(age=fmt.duration(number))
    if one.matter is Matter.MISSING:
        return ngettext(
            "{number} quarter-hour of the last seven days has no reading. A gap is never counted "
            "as zero; it may still arrive.",
            "{number} quarter-hours of the last seven days have no reading. A gap is never counted "
            "as zero; they may still arrive.",
            number,
        ).format(number=fmt.number(number))
    if one.matter is Matter.NO_MONEY:
        return _(
            "Your free balance is empty. Orders need some: selling as a deposit against the "
            "penalty, buying to pay. Pay in on the Money page."
        )
    if one.matter is Matter.REJECTED:
        return ngettext(
            "{number} order was turned away in the last day. The Orders page says why.",
            "{number} orders were turned away in the last day. The Orders page says why.",
            number,
        ).format(number=number)
    if one.matter is Matter.SHORT:
        return _(
            "In the last seven days you sold {energy} more than your meter then gave. Each kWh "
            "short costs a penalty: offer a little less to be on the safe side."
        ).format(energy=fmt.kwh(number, 2))
    return _("The next gate closes in {time}, and nothing of yours stands in it yet.").format(
        time=fmt.duration(number)
    )


# History


def _history(held: Resident) -> None:
    context = held.context
    names = {"today": _("Today"), "week": _("7 days"), "month": _("30 days")}
    section(_("Energy"), _("Drawn from the grid upwards, fed into it downwards."))
    chosen = st.segmented_control(
        _("Time shown"),
        list(RANGES),
        default="week",
        format_func=lambda one: names[one],
        key="home.range",
        label_visibility="collapsed",
    )
    days = RANGES[chosen or "week"]
    width = WIDTHS[days]
    first, slots = home.day_slots(context.now, days)
    try:
        fine = 4 if width == 96 else width
        buckets = held.sources.readings.buckets(held.account, first, slots, fine)
    except CheckFailed:
        error_box(
            _("Your readings cannot be read just now."),
            _("Nothing is lost: they are kept where they are, and proved on the chain."),
            _("Try again in a moment."),
        )
        return
    sums = home.totals(buckets, slots)
    if not sums.known:
        empty(
            _("No readings in this time"),
            _("They appear here as soon as your meter has reported. Try a longer time."),
        )
        return
    shown = home.daily(buckets) if width == 96 else buckets
    if width == 96:
        frame = home.day_frame(shown)
    else:
        frame = home.chart_frame(shown, first, slots, width)
    units = {1: _("kWh per quarter-hour"), 4: _("kWh per hour"), 96: _("kWh per day")}
    with together():
        _sums(held, sums)
        chart(
            charts.home_chart(frame, units[width], context.colours, daily=width == 96),
            alt=_chart_words(),
            key="home.chart",
        )
    unfolding("home.chart", lambda: _chart_table(held, frame, daily=width == 96))


def _sums(held: Resident, sums: home.Totals) -> None:
    fmt, tariffs = held.context.fmt, held.context.tariffs
    figures(
        [
            Figure(
                _("Drawn from the grid"),
                "–" if sums.import_wh is None else fmt.kwh(sums.import_wh),
                _("retail tariff {price}").format(price=fmt.ct(tariffs.retail)),
            ),
            Figure(
                _("Fed into the grid"),
                "–" if sums.export_wh is None else fmt.kwh(sums.export_wh),
                _("feed-in tariff {price}").format(price=fmt.ct(tariffs.feed_in)),
            ),
            Figure(
                _("Readings"),
                fmt.percent(min(1.0, sums.known / max(1, sums.expected))),
                _quality(held, sums),
            ),
        ]
    )


def _chart_words() -> str:
    return _("Energy of your home over time: drawn from the grid and fed into it")


def _chart_table(held: Resident, frame: pd.DataFrame, *, daily: bool) -> str:
    """The chart's newest values that are known."""
    fmt = held.context.fmt
    known = frame[frame["drawn_kwh"].notna() | frame["fed_kwh"].notna()]
    shown = pd.DataFrame(
        {
            _("When"): [fmt.day(one) if daily else fmt.at(one) for one in known["time"]],
            _("Drawn (kWh)"): [_plain(held, value) for value in known["drawn_kwh"]],
            _("Fed in (kWh)"): [_plain(held, value) for value in known["fed_kwh"]],
        }
    )
    return table(shown.tail(200), _chart_words(), set(shown.columns[1:]))


def _plain(held: Resident, value: float) -> str:
    return "–" if pd.isna(value) else held.context.fmt.number(value, 2)


def _quality(held: Resident, sums: home.Totals) -> str:
    fmt = held.context.fmt
    parts = []
    if sums.missing:
        parts.append(
            ngettext(
                "{number} quarter-hour still open or missing",
                "{number} quarter-hours still open or missing",
                sums.missing,
            ).format(number=fmt.number(sums.missing))
        )
    if sums.estimated:
        parts.append(
            ngettext("{number} estimated", "{number} estimated", sums.estimated).format(
                number=fmt.number(sums.estimated)
            )
        )
    return ", ".join(parts) or _("complete, all measured")


# What it came to


def _results(held: Resident) -> None:
    context = held.context
    fmt = context.fmt
    section(
        _("What trade made of it"),
        _("The last 30 days, everything that is settled, grid fees and penalties counted."),
    )
    first, slots = home.day_slots(context.now, 30)
    trades = held.sources.trades
    results = trades.results(held.account, first)
    if not results:
        if trades.orders([held.account], limit=1, since=first):
            empty(
                _("Nothing is settled yet"),
                _("Money moves after delivery, once the meters have proved it."),
            )
        else:
            empty(
                _("You have not traded in this time"),
                _("Sell what you do not need, or buy from neighbours, on the Trade page."),
            )
        return
    imported: dict[int, int | None] = {}
    if any(not one.sells and one.delivered_wh for one in results):
        try:
            imported = {
                one.slot: one.import_wh
                for one in held.sources.readings.series(held.account, first, slots)
            }
        except CheckFailed:
            imported = {}
    sums = orders.sums(results, context.tariffs, imported, lambda one: _fills(held, one))
    note = (
        _("for energy that you bought and used, against {price}")
        if sums.use_known
        else _("if you used all that you bought, against {price}")
    )
    figures(
        [
            Figure(
                _("Sold"),
                fmt.kwh(sums.sold_wh),
                _("for {amount}").format(amount=fmt.euro(sums.sales)),
            ),
            Figure(
                _("Earned more"),
                signed_euro(context, sums.earned),
                _("than the feed-in tariff of {price}").format(
                    price=fmt.ct(context.tariffs.feed_in)
                ),
            ),
            Figure(
                _("Bought"),
                fmt.kwh(sums.bought_wh),
                _("for {amount}, fees paid").format(amount=fmt.euro(sums.purchases)),
            ),
            Figure(
                _("Saved"),
                signed_euro(context, sums.saved),
                note.format(price=fmt.ct(context.tariffs.retail)),
            ),
        ]
    )


def _fills(held: Resident, one: Result) -> tuple[Fill, ...]:
    """What an order got in each slot; empty where it cannot be told."""
    known, filled = session(held.sources.key(one.session))
    if known is None or filled is None:
        return ()
    return orders.fills_of(known.book[one.position], known, filled)
