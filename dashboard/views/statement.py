# SPDX-License-Identifier: Apache-2.0
"""The statement page: a month metered, traded and billed, on screen and as files."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

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
    together,
)
from dashboard.views.resident import Resident, evidence_path, file_link, resident, unbroken
from meters.leaves import month_at
from meters.secrets import month_name

MONTHS = 36
"""So many months back can be chosen."""
ORDERS_SHOWN = 30
STYLE = """<style>
.gc-lines th.num, .gc-lines td.num {{ width: 8.2rem; white-space: nowrap; }}
.gc-lines td small {{ color: {muted}; margin-left: .6rem; white-space: nowrap; }}
.gc-lines tr.sum td {{ font-weight: 650; }}
.gc-lines tr.sum td small {{ font-weight: 400; }}
@media (max-width: 760px) {{
  .gc-lines th.num, .gc-lines td.num {{ width: auto; }}
  .gc-lines td small {{ display: block; margin: 0; }}
}}
</style>"""


def draw(context: Context) -> None:
    """The page."""
    title(
        _("Statement"),
        _("What your home drew, fed in, bought and sold in a month, and what it comes to."),
    )
    held = resident(context, "statement")
    if held is None:
        return
    st.html(STYLE.format(**vars(context.colours)))
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
    with together():
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
    """A part's lines as a table; whence a figure comes stands under its name."""
    section(heading)
    columns = (_("Energy"), _("Price"), _("Amount"))
    cells = [(one.energy, one.price, one.amount) for one in lines]
    # A column that no line fills takes no room.
    used = [i for i in range(len(columns)) if any(row[i] for row in cells)]
    head = f'<th scope="col">{escape(_("What"))}</th>' + "".join(
        f'<th scope="col" class="num">{escape(columns[i])}</th>' for i in used
    )
    rows = "".join(
        f'<tr class="{"sum" if one.strong else ""}"><td>{escape(one.name)}'
        f"<small>{escape(words.source_name(one.source))}</small></td>"
        + "".join(f'<td class="num">{escape(row[i])}</td>' for i in used)
        + "</tr>"
        for one, row in zip(lines, cells, strict=True)
    )
    put(
        f'<div class="gc-scroll" role="region" aria-label="{escape(heading)}" tabindex="0">'
        f'<table class="gc-table gc-lines" aria-label="{escape(heading)}">'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


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
            _("Evidence"): _evidence(context, one.account, line),
        }
        for line in shown
    ]
    put(
        table(
            pd.DataFrame(rows),
            _("The orders behind it"),
            {_("Filled"), _("Delivered"), _("Balance")},
            own={_("Evidence")},
        )
    )
    if len(one.orders) > len(shown):
        lead(
            _("The newest {shown} of {all}; the CSV file has every one.").format(
                shown=len(shown), all=len(one.orders)
            )
        )


def _evidence(context: Context, account: int, line: OrderLine) -> str:
    """The link to an order's evidence, as HTML, with the order's name for a screen reader."""
    name = _("{what}, {time}").format(
        what=_("Sale") if line.sells else _("Purchase"),
        time=context.fmt.moment(line.session * SLOT_SECONDS),
    )
    path = evidence_path(context, account, (line.session, line.position))
    said = escape(f"{_('Evidence about this order')}: {name}")
    return f'<a href="{escape(path)}" download aria-label="{said}">{escape(_("Fetch"))}</a>'
