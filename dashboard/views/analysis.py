# SPDX-License-Identifier: Apache-2.0
"""The page of figures: a period of a zone, for whoever wants to know how it did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from urllib.parse import urlencode

import pandas as pd
import streamlit as st

from dao.audit.operator_rules import MIN_HOMES
from dao.audit.tables import Basis
from dao.slots import SLOTS_PER_DAY
from dao.tariffs import Tariffs
from dashboard import charts
from dashboard.context import Context
from dashboard.i18n import Formats, Locale, _, ngettext
from dashboard.plot import Drawing
from dashboard.repositories.analysis import Analysis, analysis
from dashboard.repositories.cache import cached
from dashboard.services import analysis as service
from dashboard.services.analysis import FigureLine, words_of
from dashboard.services.span import Span
from dashboard.theme import Palette
from dashboard.views.dossier import dossier, introduction, nothing
from dashboard.views.parts import (
    chart,
    empty,
    lead,
    pill,
    put,
    section,
    table,
    title,
    together,
    unfolding,
)
from dashboard.views.span import chosen_span, told

STYLE = """<style>
.gc-figures div {{ position: relative; }}
.gc-table td.num, .gc-table th.num {{ white-space: nowrap; }}
.gc-basis {{ display: inline-block; font-size: .75rem; font-weight: 600; border-radius: .3rem;
  padding: 0 .4rem; border: 1px solid {line}; color: {muted}; white-space: nowrap; }}
.gc-basis.metered {{ color: {green}; border-color: {green}; }}
.gc-basis.chain {{ color: {blue}; border-color: {blue}; }}
.gc-basis.operator {{ color: {amber}; border-color: {amber}; }}
.gc-marks {{ display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; margin: .5rem 0 0 !important;
  padding: 0 !important; font-size: .86rem; color: {muted}; list-style: none; }}
.gc-marks li {{ margin: 0 !important; }}
.gc-bases .gc-table, .gc-table.gc-checks {{ width: auto; min-width: min(100%, 34rem); }}
.gc-table tbody th {{ color: {ink}; font-size: inherit; }}
.gc-table.gc-checks td {{ padding-left: 1.6rem; }}
.gc-small {{ font-size: 1.08rem; margin: 1rem 0 0; padding: 0; font-weight: 650; }}
.gc-file {{ display: inline-block; padding: .25rem .8rem; border: 1px solid {line};
  border-radius: .6rem; color: {ink} !important; text-decoration: none !important;
  background: {surface}; margin-right: .5rem; }}
.gc-file:hover, .gc-file:focus-visible {{ border-color: {green}; color: {green} !important; }}
.gc-dossiers {{ list-style: none; margin: .6rem 0 0 !important; padding: 0 !important; }}
.gc-dossiers li {{ margin: 0 0 .6rem !important; padding: 0; }}
.gc-verdict {{ border-radius: .6rem; padding: .9rem 1.1rem; margin: .8rem 0 .4rem;
  border: 1px solid {line}; }}
.gc-verdict.good {{ background: {green_soft}; border-color: {green}; }}
.gc-verdict.open {{ background: {amber_soft}; border-color: {amber}; }}
.gc-verdict.bad {{ background: {red_soft}; border-color: {red}; }}
.gc-verdict p {{ margin: .3rem 0 0; }}
.gc-verdict .gc-address {{ color: {ink}; }}
@media (max-width: 760px) {{ .gc-bases td:not(.num) {{ min-width: 0; }} }}
</style>"""


@dataclass(frozen=True)
class _Views:
    """What the page shows of a period, made once for all who look at it in one language."""

    one: Analysis
    key: list[FigureLine]
    every: list[FigureLine]
    balance: service.Balance
    balance_chart: Drawing | None
    price_chart: Drawing | None
    clearing: list[tuple[str, str, bool | None]]
    quality: pd.DataFrame
    anomalies: pd.DataFrame
    payments: pd.DataFrame
    groups: service.Groups


@cached(ttl=600, max_entries=16)
def _views(one: Analysis, tariffs: Tariffs, colours: Palette, locale: Locale) -> _Views:
    """An analysis is one for all who ask, so it is known by itself."""
    fmt, words = Formats(locale), words_of(locale.language)
    daily = not service.is_fine(one)
    balance, prices = service.balance(one), service.prices(one)
    traded = bool(len(prices)) and bool(prices["price_ct"].notna().any())
    return _Views(
        one=one,
        key=service.figure_lines(one, words, service.KEY_FIGURES),
        every=service.figure_lines(one, words),
        balance=balance,
        balance_chart=None
        if balance.is_empty
        else charts.balance_chart(balance.frame, colours, daily=daily),
        price_chart=charts.price_chart(prices, tariffs, colours, daily=daily) if traded else None,
        clearing=service.clearing_rows(one, words),
        quality=service.quality_frame(one, fmt),
        anomalies=service.anomaly_frame(one, words, fmt),
        payments=service.payment_frame(one, words, fmt),
        groups=service.groups(one, words, fmt),
    )


def draw(context: Context) -> None:
    """The page."""
    title(
        _("Figures"),
        _("What this neighbourhood drew, fed in, traded, decided and spent, and how well it did."),
    )
    st.html(STYLE.format(**vars(context.colours)))
    span = chosen_span(context, "analysis")
    told(span)
    one = analysis(context.settings.home, span.period, vars(context.tariffs))
    if one is None:
        nothing()
        return
    views = _views(one, context.tariffs, context.colours, context.locale)
    if views.balance.is_empty:
        nothing()
        return
    comparable = service.is_comparable(views.one)
    with together():
        _state(context, views)
        _key_figures(views, comparable)
    unfolding("analysis.figures", lambda: _every_figure(views, comparable), _("All figures"))
    with together():
        _balance(views)
        _prices(views)
        _clearing(views)
        _forecasts(context, views, span)
        _meters(views)
        _spending(views)
        _groups(views)
        introduction()
    dossier(context, span, final_end=one.final_end)


def _state(context: Context, views: _Views) -> None:
    """Whether all of it is over for good, and what the marks mean."""
    fmt = context.fmt
    if views.one.is_final:
        words, said, tone = _("Final"), _("Nothing of these days can change any more."), "good"
    else:
        words, tone = _("Not final"), "open"
        said = _("As of {moment}; readings and settlements of the last days can still change.")
        said = said.format(moment=fmt.moment(views.one.as_of))
    marks = "".join(
        f"<li>{_mark(basis)} {escape(service.basis_meaning(basis))}</li>" for basis in Basis
    )
    put(f'<p>{pill(words, tone)} {escape(said)}</p><ul class="gc-marks">{marks}</ul>')


def _mark(basis: Basis) -> str:
    return f'<span class="gc-basis {basis}">{escape(service.basis_words(basis))}</span>'


def _cards(lines: Sequence[FigureLine], against: str = "") -> str:
    """Figures side by side, each with its mark and its change."""
    cards = ""
    for one in lines:
        change = f"{one.change} {against}" if one.change and against else ""
        cards += (
            f'<div><dt>{escape(one.name)}</dt><dd class="value">{escape(one.value)}</dd>'
            f'<dd class="note">{_mark(one.basis)} {escape(change)}</dd></div>'
        )
    return f'<dl class="gc-figures">{cards}</dl>'


def _key_figures(views: _Views, comparable: bool) -> None:
    days = views.one.period.slots // SLOTS_PER_DAY
    against = ngettext("against the day before", "against the {number} days before", days).format(
        number=days
    )
    put(_cards(views.key, against))
    if not comparable:
        lead(
            _(
                "No comparison: readings of some of these days, or of as many days before, are "
                "not on the chain."
            )
        )


def _every_figure(views: _Views, comparable: bool) -> str:
    heads = [(_("Figure"), ""), (_("These days"), "num")]
    if comparable:
        heads += [(_("Before"), "num"), (_("Change"), "num")]
    heads.append((_("Mark"), ""))
    rows = "".join(
        f"<tr><td>{escape(one.name)}</td>"
        + "".join(
            f'<td class="num">{escape(value)}</td>'
            for value in ((one.value, one.before, one.change) if comparable else (one.value,))
        )
        + f"<td>{_mark(one.basis)}</td></tr>"
        for one in views.every
    )
    head = "".join(f'<th scope="col" class="{kind}">{escape(name)}</th>' for name, kind in heads)
    name = escape(_("All figures"))
    return (
        f'<div class="gc-scroll gc-bases" role="region" aria-label="{name}" tabindex="0">'
        f'<table class="gc-table" aria-label="{name}"><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _balance(views: _Views) -> None:
    section(
        _("Energy"),
        _(
            "Where the energy came from that the homes drew, and below the line what the "
            "neighbourhood gave away. What a home uses behind its own meter nobody measures, so "
            "it is not here."
        ),
    )
    if views.balance_chart is None:
        return
    notes = []
    if views.balance.unknown:
        notes.append(
            ngettext(
                "{number} quarter-hour is not on the chain.",
                "{number} quarter-hours are not on the chain.",
                views.balance.unknown,
            ).format(number=views.balance.unknown)
        )
    if views.balance.unsettled:
        notes.append(
            ngettext(
                "{number} quarter-hour is not settled yet; its trades count as “without”.",
                "{number} quarter-hours are not settled yet; their trades count as “without”.",
                views.balance.unsettled,
            ).format(number=views.balance.unsettled)
        )
    chart(
        views.balance_chart,
        alt=_("Energy of the neighbourhood by where it came from and where it went."),
        key="analysis-balance",
        note=" ".join(notes),
    )


def _prices(views: _Views) -> None:
    section(
        _("Prices"),
        _("What a neighbour’s kWh cost, between the two tariffs; days are means by energy."),
    )
    if views.price_chart is None:
        empty(_("No trade in these days"), _("Prices appear once orders meet in an auction."))
        return
    chart(views.price_chart, alt=_("Prices between the two tariffs."), key="analysis-prices")


def _clearing(views: _Views) -> None:
    section(
        _("Auctions"),
        _("Every auction was cleared again just now, by a program that is not the contract’s."),
    )
    marks = {
        None: "",
        True: pill(_("as it has to be"), "good"),
        False: pill(_("wrong"), "bad"),
    }
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td class="num">{escape(value)}</td>'
        f"<td>{marks[sound]}</td></tr>"
        for name, value, sound in views.clearing
    )
    name = escape(_("Quality of the auctions"))
    put(
        f'<div class="gc-scroll" role="region" aria-label="{name}" tabindex="0">'
        f'<table class="gc-table gc-checks" aria-label="{name}"><tbody>{rows}</tbody></table></div>'
    )


def _forecasts(context: Context, views: _Views, span: Span) -> None:
    section(_("Forecasts"), _("How well the committed forecasts met what was then metered."))
    wanted = ("forecast_loss_of_naive_ppm", "forecast_coverage_ppm", "forecast_bias_wh")
    lines = service.figure_lines(views.one, words_of(context.locale.language), wanted)
    put(_cards(lines))
    put(
        f'<p><a href="/forecast-record?{escape(urlencode(span.query))}" target="_self">'
        f"{escape(_('The whole record of the forecasts'))}</a></p>"
    )


def _meters(views: _Views) -> None:
    section(
        _("Meters, and what went wrong"),
        _("Counts of readings, for groups of at least {number} homes; never a home’s own.").format(
            number=MIN_HOMES
        ),
    )
    _operators_word(views)
    if not views.quality.empty:
        caption = _("Readings by quality")
        counts = list(views.quality.columns)[1:]
        shown = table(views.quality, caption, set(counts), {_("kept back")})
        put(f"<p>{_mark(Basis.OPERATOR)}</p>{shown}")
    head = f'<h3 class="gc-small">{escape(_("On record"))} {_mark(Basis.CHAIN)}</h3>'
    if views.anomalies.empty:
        put(head)
        lead(_("Nothing is on record that should not have been."))
        return
    total = views.one.tables["anomalies"].num_rows
    put(head + table(views.anomalies, _("What went wrong"), ()))
    _more(len(views.anomalies), total)


def _operators_word(views: _Views) -> None:
    """What is not there of the operator's part, and why."""
    one = views.one
    if one.missing:
        lead(_("The lake cannot be read just now, so counts and groups are left out."))
    elif one.final_end <= one.period.first_slot:
        lead(
            _(
                "Counts and groups are told of days that are over for good, so that nobody can "
                "take one moment’s sums from another’s. None of these days is."
            )
        )
    elif not one.is_final:
        lead(_("Counts and groups are told of days that are over for good; the last are not yet."))


def _more(shown: int, total: int) -> None:
    if total > shown:
        lead(
            _("The newest {shown} of {total}; the dossier has all.").format(
                shown=shown, total=total
            )
        )


def _spending(views: _Views) -> None:
    section(_("Public spending"), _("What the treasury paid, and the votes that decided it."))
    if views.payments.empty:
        lead(_("Nothing was paid in these days."))
        return
    rows = table(views.payments, _("Payments"), {_("Amount"), _("For : against")})
    put(f"<p>{_mark(Basis.CHAIN)}</p>{rows}")
    _more(len(views.payments), views.one.tables["payments"].num_rows)


def _groups(views: _Views) -> None:
    section(
        _("Who gains"),
        _(
            "Homes with solar fed in on the day or in the four weeks before. Gain is against the "
            "feed-in tariff, saving against retail."
        ),
    )
    those = views.groups
    if those.hidden:
        lead(
            ngettext(
                "Kept back for {number} day: a group had fewer than {homes} homes, or a reading "
                "was erased.",
                "Kept back for {number} days: a group had fewer than {homes} homes, or a reading "
                "was erased.",
                those.hidden,
            ).format(number=those.hidden, homes=MIN_HOMES)
        )
    if those.frame.empty:
        if not those.hidden:
            lead(_("No groups are known of these days."))
        return
    numbers = list(those.frame.columns)[1:]
    head = f"<p>{_mark(Basis.OPERATOR)} {escape(service.days_words(those.days))}</p>"
    put(head + table(those.frame, _("Who gains"), set(numbers)))
