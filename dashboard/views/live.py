# SPDX-License-Identifier: Apache-2.0
"""The live page, from top to bottom: where the run is, money, energy, prices, the vote."""

from __future__ import annotations

from html import escape

import streamlit as st

from dao.errors import GridCommonsError
from dao.runstate import RunState
from dao.slots import SLOT_SECONDS
from dashboard import charts
from dashboard.context import Context
from dashboard.errors import plain
from dashboard.i18n import _
from dashboard.repositories.events import ChainEvents
from dashboard.services.energy import energy_view, shown_range
from dashboard.services.progress import ProgressView, progress_view, skill_view
from dashboard.services.trade import Balance, balance, price_view
from dashboard.services.units import count, ct_per_kwh, euro, kwh
from dashboard.services.vote import VoteView, chosen, decisions, effect, vote_view
from dashboard.theme import Palette
from dashboard.views.parts import empty, pill, put, section, table, title

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
            page(fresh.run, fresh.events, fresh.colours)
    except GridCommonsError as error:
        unreadable(plain(error))


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


def page(state: RunState, events: ChainEvents, colours: Palette) -> None:
    """The page of a run."""
    _progress(progress_view(state))
    _money(balance(events.settled(), state.tariffs, state.money), state)
    _energy(state, events, colours)
    left, right = st.columns([3, 2], gap="large")
    prices = price_view(events.clearings(), events.settlements())
    with left:
        section(
            "Prices",
            "One price for each quarter-hour, the same for all. Between the two tariffs, seller "
            "and buyer are both better off; "
            f"the buyer also pays {ct_per_kwh(state.tariffs.grid_fee)} grid fee.",
        )
        if prices.is_empty:
            empty("No price yet", "The first gate closes an hour before the first quarter-hour.")
        else:
            st.altair_chart(
                charts.price_chart(prices.frame, state.tariffs, colours),
                theme=None,
                alt="Clearing price per quarter-hour between feed-in and retail tariff",
                key="prices",
            )
            st.altair_chart(
                charts.volume_chart(prices.frame, colours),
                theme=None,
                alt="Energy agreed per quarter-hour",
                key="volumes",
            )
    with right:
        lead = "Agreed at the gate, delivered as the sellers’ meters proved."
        if prices.mean_ct is not None:
            lead = f"On average {prices.mean_ct:.1f} ct/kWh over the last two days."
        section("Last clearings", lead)
        if prices.table.empty:
            empty("Nothing traded yet", "Trade appears when offers and bids of a slot cross.")
        else:
            put(table(prices.table, "Last clearings", {"Price", "Agreed", "Delivered"}))
    _vote(state, colours)
    _source(state, events)


def _progress(view: ProgressView) -> None:
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
        f'<ol class="gc-steps" aria-label="Steps of the day">{steps}</ol>'
        f'<p class="gc-sentence">{escape(view.sentence)}</p>'
        f'<div class="gc-bar" role="progressbar" aria-label="Progress of the run" '
        f'aria-valuemin="0" aria-valuemax="100" aria-valuenow="{view.fraction * 100:.0f}">'
        f'<i style="width:{view.fraction * 100:.1f}%"></i></div>'
    )


def _money(sums: Balance, state: RunState) -> None:
    figures = [
        (
            "Traded between neighbours",
            kwh(sums.traded_wh),
            f"delivered in {count(sums.traded_slots, 'quarter-hour', 'quarter-hours')}",
        ),
        (
            "Sellers earned more",
            euro(sums.seller_gain),
            f"than the feed-in tariff of {ct_per_kwh(state.tariffs.feed_in)}",
        ),
        (
            "Buyers saved",
            euro(sums.buyer_saving),
            f"against the retail tariff of {ct_per_kwh(state.tariffs.retail)}, fees paid",
        ),
        (
            "Grid fees paid",
            euro(sums.grid_fees),
            f"and {euro(sums.turnover)} from buyers to sellers",
        ),
    ]
    put(
        '<dl class="gc-figures">'
        + "".join(
            f'<div><dt>{escape(name)}</dt><dd class="value">{escape(value)}</dd>'
            f'<dd class="note">{escape(note)}</dd></div>'
            for name, value, note in figures
        )
        + "</dl>"
    )


def _energy(state: RunState, events: ChainEvents, colours: Palette) -> None:
    first, slots = shown_range(state.sim_time // SLOT_SECONDS, state.forecasts)
    scheduled = events.scheduled(first, slots)
    view = energy_view(events.totals(first, slots), state.forecasts, first, slots, scheduled)
    lead = "Totals of the whole zone as they stand on chain, beside the forecast made before."
    if view.measured_slots:
        lead = (
            f"The last measured day: homes drew {kwh(view.day_used_wh)} from the grid and fed "
            f"{kwh(view.day_fed_wh)} into it."
        )
    if view.inside_band is not None:
        where = "the quarter-hours without a battery schedule" if scheduled else "it"
        share = f"{view.inside_band * 100:.0f} %"
        lead += f" {share} of {where} lay inside the forecast’s 10–90 % band."
    section("What the zone makes and uses", lead)
    if view.is_empty:
        empty(
            "No totals yet",
            "They appear with the first committed batch; history comes before the first day.",
        )
    else:
        st.altair_chart(
            charts.energy_chart(view.frame, colours),
            theme=None,
            alt="Net energy of the zone per quarter-hour, measured and forecast",
            key="energy",
        )
    put(f'<p class="gc-lead">Forecast record: {escape(skill_view(state).words)}</p>')


def _vote(state: RunState, colours: Palette) -> None:
    proposal = chosen(state.proposals)
    past = decisions(state.proposals, proposal)
    if proposal is None:
        section("The vote", "Members decide what the community battery does about the grid.")
        empty(
            "No vote so far",
            "When a forecast breaks a limit of the grid, the smallest schedule that mends it is "
            "put to the vote here.",
        )
        return
    view = vote_view(proposal, state.sim_time)
    section(
        "The open vote" if view.is_open else "The last vote",
        f"{count(past.total, 'proposal', 'proposals')} so far, {past.executed} executed.",
    )
    left, right = st.columns([2, 3], gap="large")
    with left:
        put(_ballot(view))
    with right:
        if not view.voltage.empty:
            st.altair_chart(
                charts.voltage_chart(view.voltage, proposal.limit, colours),
                theme=None,
                alt="Highest voltage in the zone with and without the proposed schedule",
                key="voltage",
            )
        if proposal.windows:
            st.altair_chart(
                charts.schedule_chart(view.schedule, colours),
                theme=None,
                alt="Power of the community battery in the proposed schedule",
                key="schedule",
            )
    if not past.table.empty:
        section("Earlier votes", "Quarter-hours over the limit: as forecast → with the schedule.")
        put(table(past.table.head(8), "Earlier votes", {"For", "Against", "Over the limit"}))


def _ballot(view: VoteView) -> str:
    one = view.proposal
    shares = [
        ("for", "For", one.votes_for),
        ("against", "Against", one.votes_against),
        ("abstain", "Abstain", one.votes_abstain),
    ]
    whole = max(view.votes, one.quorum, 1)
    bar = "".join(
        f'<i class="{kind}" style="width:{votes / whole * 100:.1f}%"></i>'
        for kind, _, votes in shares
    )
    legend = "".join(
        f'<span class="{kind}"><b>{votes} {escape(name.lower())}</b></span>'
        for kind, name, votes in shares
    )
    return f"""<article class="gc-vote">
<header><h3>{escape(one.title)}</h3>{pill(view.status, view.tone)}</header>
<p class="gc-muted">{escape(view.timing)}.</p>
<dl class="gc-pairs">
<div><dt>Highest voltage without it</dt><dd class="{_side(one.worst_voltage_before, one.limit)}">\
{one.worst_voltage_before:.3f} pu</dd></div>
<div><dt>Highest voltage with it</dt><dd class="{_side(one.worst_voltage_after, one.limit)}">\
{one.worst_voltage_after:.3f} pu</dd></div>
</dl>
<p>{escape(view.plan)} {escape(effect(one))} \
<span class="gc-muted">The limit is {one.limit:.3f} pu.</span></p>
<div class="gc-tally" role="img" aria-label="{escape(_spoken(view))}">{bar}</div>
<p class="gc-legend">{legend}</p>
<p class="gc-muted">{escape(view.decided_by)}.</p>
<details><summary>What was put to the vote</summary><p>{escape(one.summary)}</p></details>
</article>"""


def _side(voltage: float, limit: float) -> str:
    return "over" if voltage > limit else "kept"


def _spoken(view: VoteView) -> str:
    one = view.proposal
    return (
        f"{one.votes_for} for, {one.votes_against} against, {one.votes_abstain} abstaining, "
        f"{view.decided_by.lower()}"
    )


def _source(state: RunState, events: ChainEvents) -> None:
    cursor = events.cursor()
    block = f", indexed up to block {cursor[0]:,}" if cursor else ""
    put(
        '<footer class="gc-foot">'
        f"<p><b>Demonstration data.</b> SimBench grid and profiles, zone {escape(state.zone)}, "
        f"homes scaled and shifted with seed {state.seed} (ODbL). These are not your readings.</p>"
        f"<p>Simulated time, shown on the zone’s own clock (Europe/Berlin). "
        f"Chain {escape(state.rpc)}{block}.</p></footer>"
    )
