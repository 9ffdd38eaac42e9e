# SPDX-License-Identifier: Apache-2.0
"""The notices page: what needs attention, the newest first, and what was seen."""

from __future__ import annotations

from html import escape

import streamlit as st

from dao.errors import CheckFailed
from dao.slots import SLOT_SECONDS
from dashboard.context import Context, read_state
from dashboard.i18n import Formats, _, ngettext
from dashboard.repositories.attention import notices_of
from dashboard.repositories.marks import marks
from dashboard.services.notices import Kind, Notice, unseen
from dashboard.services.plan_words import title_in_words
from dashboard.services.statement_words import month_title
from dashboard.views.parts import empty, error_box, lead, pill, put, title
from dashboard.views.resident import resident

STYLE = """<style>
.gc-notices {{ list-style: none; margin: .6rem 0 !important; padding: 0 !important; }}
.gc-notices li {{ margin: 0 !important; padding: .8rem .2rem; border-top: 1px solid {line};
  display: grid; grid-template-columns: 7.5rem 1fr auto; gap: .2rem 1rem; align-items: baseline; }}
.gc-notices p {{ margin: 0; }}
.gc-notices time {{ color: {muted}; font-size: .92rem; white-space: nowrap; }}
.gc-notices b {{ display: block; }}
.gc-notices a {{ color: {green} !important; }}
.gc-notices .seen b {{ font-weight: 400; }}
@media (max-width: 760px) {{ .gc-notices li {{ grid-template-columns: 1fr; }} }}
</style>"""


def draw(context: Context) -> None:
    """The page."""
    title(_("Notices"), _("What happened lately, and what needs you."))
    held = resident(context, "notices")
    if held is None:
        return
    st.html(STYLE.format(**vars(context.colours)))
    account, settings = held.account, context.settings
    try:
        found = notices_of(settings, read_state(), account)
        seen = marks(settings).seen(account)
    except CheckFailed:
        error_box(
            _("The notices cannot be read just now."),
            _("They are worked out anew each time: nothing is lost."),
            _("Try again in a moment."),
        )
        return
    if not found:
        empty(
            _("Nothing needs you"),
            _("Whatever concerns your meter, your orders, your money or your data appears here."),
        )
        return
    fresh = unseen(found, seen)
    if fresh:
        st.button(
            ngettext("Mark {number} as seen", "Mark all {number} as seen", len(fresh)).format(
                number=len(fresh)
            ),
            key="notices.see",
            on_click=marks(settings).see,
            args=(account, [one.id for one in found], context.now),
        )
    else:
        lead(_("You have seen all of them."))
    put(
        '<ul class="gc-notices">'
        + "".join(_item(context.fmt, one, one.id in seen) for one in found)
        + "</ul>"
    )


def _item(fmt: Formats, one: Notice, seen: bool) -> str:
    name, more = _words(fmt, one)
    label = pill(_tones()[one.tone], one.tone)
    mark = "" if seen else f' <span class="gc-pill plain">{escape(_("new"))}</span>'
    link = f'<a href="/{escape(one.page)}">{escape(_links()[one.page])}</a>'
    return (
        f'<li class="{"seen" if seen else ""}"><time>{escape(fmt.moment(one.at))}</time>'
        f"<p><b>{escape(name)}{mark}</b>{escape(more)} {link}</p><p>{label}</p></li>"
    )


def _tones() -> dict[str, str]:
    return {"bad": _("look at this"), "open": _("to know"), "good": _("good news")}


def _links() -> dict[str, str]:
    return {
        "orders": _("See orders"),
        "my-data": _("See my data"),
        "standing-offers": _("See standing offers"),
        "money": _("See money"),
        "statement": _("See statement"),
        "votes": _("See the vote"),
    }


def _words(fmt: Formats, one: Notice) -> tuple[str, str]:
    """What a notice says, and the sentence under it."""
    number, who = one.number, one.who[:60]
    kind = one.kind
    if kind in (Kind.REFUSED, Kind.PROMISE_BROKEN):
        when = fmt.moment(number * SLOT_SECONDS)
        if kind is Kind.REFUSED:
            name = _("Your order for {time} was refused").format(time=when)
            return name, _("No money moved.")
        name = _("Your order for {time} was not posted in time").format(time=when)
        more = _("The relay broke its promise. No money moved; its signed promise proves it.")
        return name, more
    if kind is Kind.SHORT:
        name = _("You delivered {energy} less than you sold").format(energy=fmt.kwh(number, 2))
        if one.other:
            return name, _("The penalty was {amount}.").format(amount=fmt.euro(one.other))
        return name, _("What was not delivered was not paid.")
    if kind in (Kind.GIVEN_BACK, Kind.GOT_BACK):
        when, amount = fmt.moment(one.other * SLOT_SECONDS), fmt.euro(number)
        if kind is Kind.GIVEN_BACK:
            name = _("{amount} was taken back").format(amount=amount)
            more = _("Your meter took back energy that it had proved for {time}.")
        else:
            name = _("You got {amount} back").format(amount=amount)
            more = _("A seller's meter took back energy that it had proved for {time}.")
        return name, more.format(time=when)
    if kind is Kind.MISSING:
        name = ngettext(
            "{number} quarter-hour of {day} has no reading",
            "{number} quarter-hours of {day} have no reading",
            number,
        ).format(number=number, day=fmt.date(one.other * SLOT_SECONDS))
        return name, _("Nothing is reckoned for them. If it happens often, look at your meter.")
    if kind is Kind.SILENT:
        name = _("Your meter is silent since {time}").format(time=fmt.moment(number))
        return name, _("What it does not prove in time counts as not delivered.")
    if kind in (Kind.OFFER_ENDS, Kind.MANDATE_ENDS):
        name = (
            _("Your standing offer ends {time}")
            if kind is Kind.OFFER_ENDS
            else _("Your agent's mandate ends {time}")
        )
        return name.format(time=fmt.moment(number)), _("From then on nothing is ordered for you.")
    if kind is Kind.LOW_BALANCE:
        name = _("Only {amount} is free in the market").format(amount=fmt.euro(number))
        return name, _("New orders may find too little to hold.")
    if kind is Kind.READ:
        name = ngettext(
            "{who} read {number} quarter-hour of yours",
            "{who} read {number} quarter-hours of yours",
            number,
        ).format(who=f"{who[:8]}…{who[-4:]}", number=fmt.number(number))
        return name, _("Under a grant of yours, which you can end at any time.")
    if kind is Kind.TRIED:
        name = _("{who} was refused your readings").format(who=f"{who[:8]}…{who[-4:]}")
        return name, _("Nothing was given out.")
    if kind is Kind.CORRECTED:
        when = fmt.moment(number * SLOT_SECONDS)
        name = _("The zone's readings from {time} were corrected").format(time=when)
        return name, _("Your statement counts the corrected ones.")
    if kind is Kind.STATEMENT:
        name = _("Your statement of {month} is final").format(month=month_title(number, fmt))
        return name, _("Nothing of it can change any more.")
    if kind is Kind.PREPARED:
        name = _("A ballot is ready for you to sign until {time}")
    elif kind is Kind.OBJECTION:
        name = _("You can object until {time}")
    else:
        name = _("A vote is open until {time}")
    return name.format(time=fmt.moment(number)), title_in_words(one.who[:200])
