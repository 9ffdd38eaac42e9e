# SPDX-License-Identifier: Apache-2.0
"""The statement page: a month metered, traded and billed, on screen and as files."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from dao.errors import CheckFailed
from dao.slots import SLOT_SECONDS
from dashboard.context import Context
from dashboard.i18n import _
from dashboard.repositories.months import first_session
from dashboard.services import statement_words as words
from dashboard.services.known import statement_of
from dashboard.services.my_data import month_now
from dashboard.services.statement import OrderLine, State, Statement
from dashboard.services.statement_words import Line
from dashboard.views.parts import (
    Figure,
    error_box,
    figures,
    lead,
    pill,
    put,
    section,
    table,
    title,
)
from dashboard.views.resident import Resident, evidence_link, file_link, resident, unbroken
from meters.leaves import month_at
from meters.secrets import month_name

MONTHS = 36
"""So many months back can be chosen."""
ORDERS_SHOWN = 30


def draw(context: Context) -> None:
    """The page."""
    title(
        _("Statement"),
        _("What your home drew, fed in, bought and sold in a month, and what it comes to."),
    )
    held = resident(context, "statement")
    if held is None:
        return
    month = _chosen(held)
    try:
        one = statement_of(held.sources, held.account, month, context.tariffs, context.now)
    except CheckFailed:
        error_box(
            _("The statement cannot be put together just now."),
            _("Your readings, your orders and your money are where they were."),
            _("Try again in a moment, or choose another month."),
        )
        return
    _head(context, one)
    _files(context, one)
    _part(_("Metered"), words.metered_lines(one, context.fmt))
    _part(_("Traded in the neighbourhood"), words.trade_lines(one, context.fmt))
    _part(_("With your supplier, and the result"), words.supplier_lines(one, context.fmt))
    _part(_("Your account in the market"), words.account_lines(one, context.fmt))
    _orders(context, one)
    section(_("Good to know"))
    for note in words.notes(one, context.fmt):
        lead(note)


def _chosen(held: Resident) -> int:
    """The month to look at: the newest one first, back to the first trade, and a year at least."""
    newest = month_now(held.context.now)
    first = first_session(held.sources.path, held.account)
    oldest = newest - 12 if first is None else min(newest - 1, month_at(first))
    fmt = held.context.fmt
    chosen: int = st.selectbox(
        _("Month"),
        range(newest, max(oldest, newest - MONTHS) - 1, -1),
        format_func=lambda month: words.month_title(month, fmt),
        key="statement.month",
        width=260,
    )
    return chosen


def _head(context: Context, one: Statement) -> None:
    fmt = context.fmt
    tone = {State.FINAL: "good", State.OPEN: "open", State.RUNNING: "open"}[one.state]
    name = {
        State.FINAL: _("Final"),
        State.OPEN: _("Not final"),
        State.RUNNING: _("Running"),
    }[one.state]
    put(f"<p>{pill(name, tone)} {words.state_words(one)} {words.span(one, fmt)}.</p>")
    cost = _("cost") if one.total > 0 else _("earned")
    figures(
        [
            Figure(_("The month in all"), unbroken(words.money(-one.total, fmt)), cost),
            Figure(
                _("Without the market"),
                unbroken(words.money(-one.without_market, fmt)),
                _("the same energy by tariff"),
            ),
            Figure(
                _("What trade changed"),
                unbroken(words.money(one.better, fmt)),
                _("plus is in your favour"),
            ),
        ]
    )


def _files(context: Context, one: Statement) -> None:
    base = f"/my-data/v1/statements/{one.account}/{month_name(one.month)}"
    language = context.locale.language
    put(
        '<p class="gc-files">'
        + file_link(_("Statement as PDF"), f"{base}.pdf?lang={language}", main=True)
        + file_link(_("All numbers as CSV"), f"{base}.csv")
        + "</p>"
    )


def _part(heading: str, lines: Sequence[Line]) -> None:
    section(heading)
    columns = (_("What"), _("Energy"), _("Price"), _("Amount"), _("Source"))
    rows = [
        (one.name, one.energy, one.price, one.amount, words.source_name(one.source))
        for one in lines
    ]
    # A column that no line fills takes no room.
    used = [i for i in range(len(columns)) if i in (0, 4) or any(row[i] for row in rows)]
    kept = [[row[i] for i in used] for row in rows]
    frame = pd.DataFrame(kept, columns=[columns[i] for i in used])
    numeric = {columns[i] for i in (1, 2, 3)}
    put(table(frame, heading, numeric))


def _orders(context: Context, one: Statement) -> None:
    if not one.orders:
        return
    section(
        _("The orders behind it"),
        _(
            "If one looks wrong, its evidence gathers all that there is about it: your meter's "
            "signed readings, the relay's promise, the chain's transactions, and what can still "
            "be done."
        ),
    )
    fmt = context.fmt
    shown = one.orders[-ORDERS_SHOWN:][::-1]
    rows = [
        {
            _("Delivery"): fmt.moment(line.session * SLOT_SECONDS),
            _("What"): _("Sale") if line.sells else _("Purchase"),
            _("Filled"): fmt.kwh(line.filled_wh, 2),
            _("Delivered"): fmt.kwh(line.delivered_wh, 2),
            _("Balance"): words.money(line.net, fmt),
        }
        for line in shown
    ]
    put(
        table(
            pd.DataFrame(rows),
            _("The orders behind it"),
            {_("Filled"), _("Delivered"), _("Balance")},
        )
    )
    if len(one.orders) > len(shown):
        lead(
            _("The newest {shown} of {all}; the CSV file has every one.").format(
                shown=len(shown), all=len(one.orders)
            )
        )
    chosen: OrderLine = st.selectbox(
        _("Order to gather evidence about"),
        shown,
        format_func=lambda line: _("{what}, {time}").format(
            what=_("Sale") if line.sells else _("Purchase"),
            time=fmt.moment(line.session * SLOT_SECONDS),
        ),
        key="statement.dispute",
        width=380,
    )
    put(
        f'<p class="gc-files">'
        f"{evidence_link(context, one.account, (chosen.session, chosen.position))}</p>"
    )
