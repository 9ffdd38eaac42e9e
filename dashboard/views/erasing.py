# SPDX-License-Identifier: Apache-2.0
"""Erasing a month, on the page about one's own data: what goes and what stays, told beforehand;
why not yet; and the owner's signature that does it."""

from __future__ import annotations

from datetime import UTC, datetime
from html import escape

import streamlit as st

from dao.errors import GridCommonsError
from dashboard.errors import plain
from dashboard.i18n import _, ngettext
from dashboard.repositories.own_data import Holdings, NoChain, OwnData
from dashboard.services import my_data
from dashboard.services.program_words import in_words
from dashboard.services.statement_words import month_title
from dashboard.services.typed_data import deadline
from dashboard.views.parts import error_box, lead, put, section
from dashboard.views.resident import Resident, notes
from dashboard.views.signing import sign
from meters.consent import erasure_data
from meters.erasure import SETTLING_SECONDS, Erasure
from meters.secrets import month_name


def draw(held: Resident) -> None:
    """The section."""
    section(
        _("Erase a month"),
        _("Whole past months, once nothing of them can be corrected or settled any more."),
    )
    try:
        data = OwnData.of(held.context.settings)
        months = data.months(held.context.zone)
    except NoChain:
        lead(_("No chain is known here, so nobody can be asked whose readings these are."))
        return
    except GridCommonsError:
        _unreadable()
        return
    fmt = held.context.fmt
    month = st.selectbox(
        _("Month to erase"),
        months,
        index=None,
        placeholder=_("Choose a month"),
        format_func=lambda one: month_title(one, fmt),
        key="my-data.erase.month",
        width=260,
    )
    if month is None or month not in months:
        lead(_("You see what goes and what stays before you sign anything."))
        return
    try:
        before = data.erasure(held.account, month)
        if before is not None and before.finished_at is not None:
            _done(held, before, month)
            return
        if before is not None:
            notes([("", _("This erasure has begun. If it broke off, signing again completes it."))])
        _preview(held, data.holdings(held.context.zone, held.account, month), month)
        now = data.node.now()
        _sign(held, data, month, now)
    except GridCommonsError:
        _unreadable()


def _unreadable() -> None:
    error_box(
        _("What could be erased cannot be told just now."),
        _("Nothing was erased, everything is where it was."),
        _("Try again in a moment."),
    )


def _done(held: Resident, erasure: Erasure, month: int) -> None:
    fmt = held.context.fmt
    words = _("{month} was erased, finished {time}. Its secret and its values are gone.")
    notes(
        [
            (
                "good",
                words.format(
                    month=month_title(month, fmt), time=fmt.moment(erasure.finished_at or 0)
                ),
            )
        ]
    )


def _preview(held: Resident, holdings: Holdings, month: int) -> None:
    """What goes and what stays, side by side."""
    fmt = held.context.fmt
    goes = [
        ngettext(
            "{number} reading in the operator's archive, with its signature and edits",
            "{number} readings in the operator's archive, with their signatures and edits",
            holdings.lake,
        ).format(number=fmt.number(holdings.lake)),
    ]
    if holdings.inbox:
        goes.append(
            ngettext(
                "{number} report in the inbox", "{number} reports in the inbox", holdings.inbox
            ).format(number=fmt.number(holdings.inbox))
        )
    if holdings.relay:
        goes.append(
            ngettext(
                "{number} receipt at the relay", "{number} receipts at the relay", holdings.relay
            ).format(number=fmt.number(holdings.relay))
        )
    goes += [
        _("what your battery or charger reported"),
        _("the month's secret, without which no proof of it can be made"),
    ]
    stays = [
        _("the chain: your orders, fills, payments, and your sales' receipts in clear"),
        _(
            "the zone's totals: whoever has all other homes' readings can subtract them, the "
            "operator above all"
        ),
        _("what was given out: files you opened, answers to grants, your own exports"),
        _("copies outside: backups, until they are overwritten"),
        _("estimates of other months made from these values, without their record"),
        _("that there was a reading in each quarter-hour, and who read when"),
    ]
    put(
        '<div class="gc-goes">'
        + "".join(
            f"<div><h3>{escape(heading)}</h3><ul>"
            + "".join(f"<li>{escape(item)}</li>" for item in items)
            + "</ul></div>"
            for heading, items in ((_("This goes"), goes), (_("This stays"), stays))
        )
        + "</div>"
    )
    st.html(
        "<style>.gc-goes { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, "
        "minmax(min(20rem, 100%), 1fr)); } .gc-goes h3 { font-size: 1.05rem; margin: 0; "
        "padding: 0; }</style>"
    )


def _sign(held: Resident, data: OwnData, month: int, now: int) -> None:
    try:
        data.check_final(held.account, month, now)
    except GridCommonsError as error:
        over = my_data.month_start(month + 1)
        ready = over + SETTLING_SECONDS
        if now < over:
            reason = _("the month is not over")
        elif now < ready:
            reason = _("sessions of it may still be settled")
        elif "node" in plain(error):
            reason = _("the chain does not answer")
        else:
            reason = in_words(plain(error))
        error_box(
            _("This month cannot be erased yet."),
            _("Nothing was erased, everything is where it was."),
            _("The earliest day is {day} (UTC). The reason: {reason}.").format(
                day=datetime.fromtimestamp(ready, UTC).date().isoformat(), reason=reason
            ),
        )
        return
    agreed = st.checkbox(
        _("I have read what goes and what stays. It cannot be undone."), key="my-data.erase.agreed"
    )
    until = deadline(now)
    document = erasure_data(held.account, month, until, data.addresses.chain_id, data.registry)
    sign(
        held,
        _("Sign and erase {month}").format(month=month_title(month, held.context.fmt)),
        document,
        "erasures",
        {"meter": held.account, "month": month_name(month), "deadline": until},
        key="my-data.erase",
        disabled=not agreed,
    )
