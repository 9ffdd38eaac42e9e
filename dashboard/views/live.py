# SPDX-License-Identifier: Apache-2.0
"""The live page, from top to bottom: where the run is, money, energy, prices, the vote."""

from __future__ import annotations

from dataclasses import dataclass, replace
from html import escape
from pathlib import Path

import pandas as pd
import streamlit as st

from dao.errors import GridCommonsError
from dao.runstate import RunState
from dao.slots import SLOT_SECONDS
from dashboard import charts
from dashboard.context import Context
from dashboard.errors import plain
from dashboard.i18n import Locale, _, formats, ngettext
from dashboard.plot import Drawing
from dashboard.repositories.cache import cached
from dashboard.repositories.events import ChainEvents, Mark
from dashboard.services.energy import EnergyView, energy_view, shown_range
from dashboard.services.plan_words import summary_in_words, title_in_words
from dashboard.services.program_words import in_words
from dashboard.services.progress import ProgressView, progress_view, skill_view
from dashboard.services.trade import Balance, PriceView, balance, price_view
from dashboard.services.vote import Decisions, VoteView, chosen, decisions, effect, vote_view
from dashboard.theme import Palette
from dashboard.views.parts import (
    Figure,
    chart,
    empty,
    figures,
    gathered,
    halves,
    pill,
    put,
    section,
    table,
    title,
    together,
    unfolding,
)

REFRESH_SECONDS = 2.0


def draw(context: Context) -> None:
    """Everything on the page, read anew and drawn again every few seconds."""
    _now(context)


@st.fragment(run_every=REFRESH_SECONDS)
def _now(context: Context) -> None:
    try:
        fresh = context.renewed()
        if fresh.run is None:
            nothing_yet()
        else:
            page(fresh.run, fresh.events, fresh.colours, fresh.locale)
    except GridCommonsError as error:
        unreadable(in_words(plain(error)))


def nothing_yet() -> None:
    """The page before any run."""
    title(_("No run yet"))
    put(
        f'<div class="gc-empty" style="margin-top:1rem">'
        f"<b>{escape(_('Nothing has been recorded so far'))}</b>"
        + escape(
            _("Start one with {command}; this page fills itself as soon as it begins.")
        ).format(command="<code>make demo</code>")
        + "</div>"
    )


def unreadable(message: str) -> None:
    """The page when the state cannot be read: what happened and what to do."""
    title(_("The run cannot be shown"))
    empty(message, _("Nothing on the chain is affected. This page tries again by itself."))


@dataclass(frozen=True)
class _Views:
    """What the page shows, computed and drawn once for all who look at it in one language."""

    money: Balance
    energy: EnergyView
    scheduled: bool
    energy_chart: Drawing | None
    prices: PriceView
    price_chart: Drawing | None
    volume_chart: Drawing | None
    vote: VoteView | None
    decided: Decisions
    voltage_chart: Drawing | None
    schedule_chart: Drawing | None


@cached(ttl=600, max_entries=16)
def _views(
    run: RunState,
    version: tuple[Path, Mark, int],
    colours: Palette,
    locale: Locale,
) -> _Views:
    index, _version, zone = version
    events = ChainEvents(index, zone)
    first, slots = shown_range(run.sim_time // SLOT_SECONDS, run.forecasts)
    scheduled = events.scheduled(first, slots)
    energy = energy_view(events.totals(first, slots), run.forecasts, first, slots, scheduled)
    prices = price_view(events.clearings(), events.settlements())
    proposal = chosen(run.proposals)
    vote = vote_view(proposal, run.sim_time) if proposal is not None else None
    with_curves = vote is not None and not vote.voltage.empty
    return _Views(
        money=balance(events.settled(), run.tariffs, run.money),
        energy=energy,
        scheduled=bool(scheduled),
        energy_chart=None if energy.is_empty else charts.energy_chart(energy.frame, colours),
        prices=prices,
        price_chart=None
        if prices.is_empty
        else charts.price_chart(prices.frame, run.tariffs, colours),
        volume_chart=None if prices.is_empty else charts.volume_chart(prices.frame, colours),
        vote=vote,
        decided=decisions(run.proposals, proposal),
        voltage_chart=charts.voltage_chart(vote.voltage, vote.proposal.limit, colours)
        if vote is not None and with_curves
        else None,
        schedule_chart=charts.schedule_chart(vote.schedule, colours)
        if vote is not None and vote.proposal.windows
        else None,
    )


def page(state: RunState, events: ChainEvents, colours: Palette, locale: Locale) -> None:
    """The page of a run."""
    # By the minute: what is drawn has quarter-hours, and words of hours and minutes.
    minute = replace(state, sim_time=state.sim_time // 60 * 60)
    views = _views(minute, events.version, colours, locale)
    # The clock runs on, and what stands under it has nothing to do with that.
    _progress(progress_view(state))
    with together():
        _money(views.money, state)
        _energy(views)
    if views.energy_chart is not None:
        unfolding("zone.energy", lambda: _energy_table(views.energy))
    with together():
        put(
            '<p class="gc-lead">'
            + escape(_("Forecast record: {record}").format(record=skill_view(state).words))
            + "</p>"
        )
        with gathered() as left:
            _prices(views, state)
        with gathered() as right:
            _clearings(views.prices)
        put(halves(left, right))
        _vote(views)
    _source(state, events)


def _prices(views: _Views, state: RunState) -> None:
    section(
        _("Prices"),
        _(
            "One price for each quarter-hour, the same for all. Between the two tariffs, "
            "seller and buyer are both better off; the buyer also pays {fee} grid fee."
        ).format(fee=formats().ct(state.tariffs.grid_fee)),
    )
    if views.price_chart is None or views.volume_chart is None:
        empty(_("No price yet"), _("The first gate closes an hour before the first quarter-hour."))
        return
    chart(
        views.price_chart,
        alt=_("Clearing price per quarter-hour between feed-in and retail tariff"),
        key="zone.prices",
    )
    chart(views.volume_chart, alt=_("Energy agreed per quarter-hour"), key="zone.volumes")


def _clearings(prices: PriceView) -> None:
    lead = _("Agreed at the gate, delivered as the sellers’ meters proved.")
    if prices.mean_ct is not None:
        lead = _("On average {price} over the last two days.").format(
            price=formats().ct(prices.mean_ct * 10)
        )
    section(_("Last clearings"), lead)
    if prices.table.empty:
        empty(_("Nothing traded yet"), _("Trade appears when offers and bids of a slot cross."))
    else:
        numeric = set(prices.table.columns[1:])
        put(table(prices.table, _("Last clearings"), numeric, {_("not yet settled")}))


def _progress(view: ProgressView) -> None:
    of_day, of_run = _("Steps of the day"), _("Progress of the run")
    steps = "".join(
        f'<li class="{one.mark}"{" aria-current=step" if one.mark == "now" else ""}>'
        f"{escape(one.name)}</li>"
        for one in view.steps
    )
    put(
        f'<div class="gc-top"><div><h1>{escape(view.headline)} '
        f"<time>{escape(view.clock)}</time></h1>"
        f'<p class="gc-facts gc-muted">{escape(view.facts)}</p></div>'
        f"<div>{pill(view.status, view.tone, live=view.status == 'Live')}</div></div>"
        f'<ol class="gc-steps" aria-label="{escape(of_day)}">{steps}</ol>'
        f'<p class="gc-sentence">{escape(view.sentence)}</p>'
        f'<div class="gc-bar" role="progressbar" aria-label="{escape(of_run)}" '
        f'aria-valuemin="0" aria-valuemax="100" aria-valuenow="{view.fraction * 100:.0f}">'
        f'<i style="width:{view.fraction * 100:.1f}%"></i></div>'
    )


def _money(sums: Balance, state: RunState) -> None:
    fmt = formats()
    figures(
        [
            Figure(
                _("Traded between neighbours"),
                fmt.kwh(sums.traded_wh),
                ngettext(
                    "delivered in {number} quarter-hour",
                    "delivered in {number} quarter-hours",
                    sums.traded_slots,
                ).format(number=fmt.number(sums.traded_slots)),
            ),
            Figure(
                _("Sellers earned more"),
                fmt.euro(sums.seller_gain),
                _("than the feed-in tariff of {price}").format(price=fmt.ct(state.tariffs.feed_in)),
            ),
            Figure(
                _("Buyers saved"),
                fmt.euro(sums.buyer_saving),
                _("against the retail tariff of {price}, fees paid").format(
                    price=fmt.ct(state.tariffs.retail)
                ),
            ),
            Figure(
                _("Grid fees paid"),
                fmt.euro(sums.grid_fees),
                _("and {money} from buyers to sellers").format(money=fmt.euro(sums.turnover)),
            ),
        ]
    )


def _energy(views: _Views) -> None:
    view, fmt = views.energy, formats()
    lead = _("Totals of the whole zone as they stand on chain, beside the forecast made before.")
    if view.measured_slots:
        lead = _(
            "The last measured day: homes drew {drawn} from the grid and fed {fed} into it."
        ).format(drawn=fmt.kwh(view.day_used_wh), fed=fmt.kwh(view.day_fed_wh))
    if view.inside_band is not None:
        inside = (
            _(
                "{share} of the quarter-hours without a battery schedule lay inside the "
                "forecast’s 10–90 % band."
            )
            if views.scheduled
            else _("{share} of it lay inside the forecast’s 10–90 % band.")
        )
        lead += " " + inside.format(share=fmt.percent(view.inside_band))
    section(_("What the zone makes and uses"), lead)
    if views.energy_chart is None:
        empty(
            _("No totals yet"),
            _("They appear with the first committed batch; history comes before the first day."),
        )
    else:
        chart(
            views.energy_chart,
            alt=_energy_words(),
            key="zone.energy",
        )


def _energy_table(view: EnergyView) -> str:
    """The chart's full hours in words."""
    fmt = formats()
    hours = view.frame[view.frame["time"].dt.minute == 0]

    def said(values: pd.Series) -> list[str]:
        return ["–" if pd.isna(one) else fmt.number(one, 1) for one in values]

    frame = pd.DataFrame(
        {
            _("Quarter-hour from"): [fmt.at(one) for one in hours["time"]],
            _("Drawn (kWh)"): said(hours["used_kwh"]),
            _("Fed in (kWh)"): said(hours["fed_kwh"]),
            _("Net (kWh)"): said(hours["net_kwh"]),
            _("Forecast (kWh)"): said(hours["q50_kwh"]),
        }
    )
    return table(frame, _energy_words(), set(frame.columns[1:]))


def _energy_words() -> str:
    return _("Net energy of the zone per quarter-hour, measured and forecast")


def _vote(views: _Views) -> None:
    view, past = views.vote, views.decided
    if view is None:
        section(_("The vote"), _("Members decide what the community battery does about the grid."))
        empty(
            _("No vote so far"),
            _(
                "When a forecast breaks a limit of the grid, the smallest schedule that mends it "
                "is put to the vote here."
            ),
        )
        return
    section(
        _("The open vote") if view.is_open else _("The last vote"),
        ngettext(
            "{number} proposal so far, {executed} executed.",
            "{number} proposals so far, {executed} executed.",
            past.total,
        ).format(number=past.total, executed=past.executed),
    )
    with gathered() as right:
        if views.voltage_chart is not None:
            chart(
                views.voltage_chart,
                alt=_("Highest voltage in the zone with and without the proposed schedule"),
                key="zone.voltage",
            )
        if views.schedule_chart is not None:
            chart(
                views.schedule_chart,
                alt=_("Power of the community battery in the proposed schedule"),
                key="zone.schedule",
            )
    put(halves([_ballot(view)], right, wide="right"))
    if not past.table.empty:
        section(
            _("Earlier votes"),
            _("Quarter-hours over the limit: as forecast → with the schedule."),
        )
        put(table(past.table.head(8), _("Earlier votes"), set(past.table.columns[2:])))


def _ballot(view: VoteView) -> str:
    one, fmt = view.proposal, formats()
    shares = [
        ("for", _("{number} for").format(number=one.votes_for), one.votes_for),
        ("against", _("{number} against").format(number=one.votes_against), one.votes_against),
        ("abstain", _("{number} abstain").format(number=one.votes_abstain), one.votes_abstain),
    ]
    whole = max(view.votes, one.quorum, 1)
    bar = "".join(
        f'<i class="{kind}" style="width:{votes / whole * 100:.1f}%"></i>'
        for kind, _words, votes in shares
    )
    legend = "".join(
        f'<span class="{kind}"><b>{escape(words)}</b></span>' for kind, words, _votes in shares
    )
    spoken = ", ".join([*(words for _kind, words, _votes in shares), view.decided_by])
    pairs = "".join(
        f'<div><dt>{escape(name)}</dt><dd class="{_side(voltage, one.limit)}">'
        f"{fmt.number(voltage, 3)} pu</dd></div>"
        for name, voltage in (
            (_("Highest voltage without it"), one.worst_voltage_before),
            (_("Highest voltage with it"), one.worst_voltage_after),
        )
    )
    limit = _("The limit is {limit} pu.").format(limit=fmt.number(one.limit, 3))
    return f"""<article class="gc-vote">
<header><h3>{escape(title_in_words(one.title))}</h3>{pill(view.status, view.tone)}</header>
<p class="gc-muted">{escape(view.timing)}.</p>
<dl class="gc-pairs">{pairs}</dl>
<p>{escape(view.plan)} {escape(effect(one))} <span class="gc-muted">{escape(limit)}</span></p>
<div class="gc-tally" role="img" aria-label="{escape(spoken)}">{bar}</div>
<p class="gc-legend">{legend}</p>
<p class="gc-muted">{escape(view.decided_by)}.</p>
<p><a href="/proposal?id={escape(one.id)}">{escape(_("Read more and vote"))}</a></p>
<details><summary>{escape(_("What was put to the vote"))}</summary>\
<p>{escape(summary_in_words(one.summary))}</p></details>
</article>"""


def _side(voltage: float, limit: float) -> str:
    return "over" if voltage > limit else "kept"


def _source(state: RunState, events: ChainEvents) -> None:
    cursor = events.cursor()
    where = _("Chain {address}").format(address=state.rpc)
    if cursor:
        where = _("Chain {address}, indexed up to block {block}").format(
            address=state.rpc, block=formats().number(cursor[0])
        )
    data = _(
        "SimBench grid and profiles, zone {zone}, homes scaled and shifted with seed {seed} "
        "(ODbL). These are not your readings."
    ).format(zone=state.zone, seed=state.seed)
    clock = _("Simulated time, shown on the zone’s own clock (Europe/Berlin).")
    put(
        f'<footer class="gc-foot"><p><b>{escape(_("Demonstration data."))}</b> {escape(data)}</p>'
        f"<p>{escape(clock)} {escape(where)}.</p></footer>"
    )
