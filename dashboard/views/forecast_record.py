# SPDX-License-Identifier: Apache-2.0
"""The record of the forecasts: how good, on whose bond, and how anybody can check each of them."""

from __future__ import annotations

from html import escape

import streamlit as st

from dashboard import charts
from dashboard.context import Context
from dashboard.i18n import _, formats, ngettext
from dashboard.repositories.analysis import Analysis, analysis
from dashboard.repositories.forecasters import Standing, standings
from dashboard.services import forecast_record as service
from dashboard.services.analysis import short
from dashboard.services.forecast_record import DayLine
from dashboard.views.parts import (
    Figure,
    chart,
    empty,
    figures,
    lead,
    pill,
    put,
    section,
    table,
    title,
    together,
)
from dashboard.views.span import chosen_span, told

STYLE = """<style>
.gc-standing {{ display: flex; flex-wrap: wrap; gap: .2rem 1.4rem; align-items: baseline;
  margin: .5rem 0 0; }}
.gc-steps-how {{ margin: .4rem 0 0 !important; padding-left: 1.2rem !important; }}
.gc pre {{ white-space: pre-wrap; overflow-wrap: anywhere; background: {surface};
  border: 1px solid {line}; border-radius: .5rem; padding: .6rem .8rem; font-size: .86rem;
  color: {ink}; margin: .5rem 0 0; }}
</style>"""


def draw(context: Context) -> None:
    """The page."""
    title(
        _("Forecasts"),
        _(
            "Forecasts of the neighbourhood’s net energy are committed before the day, scored "
            "against what was then metered, and backed by a bond."
        ),
    )
    st.html(STYLE.format(**vars(context.colours)))
    span = chosen_span(context, "record")
    told(span)
    one = analysis(context.settings.home, span.period, vars(context.tariffs))
    lines = [] if one is None else service.day_lines(one)
    if one is None or not lines:
        _nothing()
        return
    with together():
        _accuracy(context, one, lines)
        _standing(context, one)
        _fairness(context, one)
        _days(context, lines)
        _verify(lines)


def _nothing() -> None:
    empty(
        _("No forecast of these days"),
        _("The first one is committed on the evening before its day. Try a longer time."),
    )


def _accuracy(context: Context, one: Analysis, lines: list[DayLine]) -> None:
    fmt, found = context.fmt, service.record(one)
    none = "–"
    figures(
        [
            Figure(
                _("Skill"),
                none if found.ratio is None else fmt.percent(1 - found.ratio),
                _("better than a forecast that repeats the week before"),
            ),
            Figure(
                _("Metered within the band"),
                none if found.coverage is None else fmt.percent(found.coverage),
                _("{share} is right for the 10 % to 90 % band").format(
                    share=fmt.percent(service.NOMINAL)
                ),
            ),
            Figure(
                _("Forecast less metered"),
                none if found.bias_wh is None else fmt.kwh(found.bias_wh, 2),
                _("mean of a quarter-hour, without actions"),
            ),
            Figure(
                _("Days scored"),
                fmt.number(found.days),
                ngettext(
                    "{number} forecast was not revealed",
                    "{number} forecasts were not revealed",
                    found.missed,
                ).format(number=found.missed)
                if found.missed
                else "",
            ),
        ]
    )
    frame = service.chart_frame(lines)
    if frame.empty:
        lead(_("No day of these has a score: that needs final readings of enough homes."))
        return
    chart(
        charts.skill_chart(frame, context.colours),
        alt=_("The forecasts’ error of each day against the simple forecast’s."),
        key="record-skill",
        note=_(
            "Error is the pinball loss of three quantiles. Below the line it is less than the "
            "simple forecast’s."
        ),
    )


def _standing(context: Context, one: Analysis) -> None:
    section(
        _("Bond and standing"),
        _("What a forecaster has at stake now, and whether it may propose balancing actions."),
    )
    who = service.record(one).forecasters
    found = standings(context.settings, one.period.zone, who)
    if found is None:
        lead(_("No node can be asked just now."))
        return
    put("".join(_stands(context, it) for it in found))


def _stands(context: Context, one: Standing) -> str:
    fmt = context.fmt
    mark = (
        pill(_("in good standing"), "good")
        if one.is_good
        else pill(_("not in good standing"), "bad")
    )
    days = ngettext("{number} day", "{number} days", one.days_scored).format(number=one.days_scored)
    facts = [
        _("Bond {money}").format(money=fmt.euro(one.bond)),
        _("Skill of the last 28 days: {share} ({days} scored)").format(
            share=fmt.percent(one.skill / 1_000), days=days
        ),
        _("Proposals today: {used} of {allowance}").format(
            used=fmt.number(one.used), allowance=fmt.number(one.allowance)
        ),
    ]
    if one.leaving:
        facts.append(_("{money} is announced to leave").format(money=fmt.euro(one.leaving)))
    if one.open_disputes:
        facts.append(
            ngettext("{number} open dispute", "{number} open disputes", one.open_disputes).format(
                number=one.open_disputes
            )
        )
    told_ = "".join(f"<span>{escape(fact)}</span>" for fact in facts)
    return (
        f'<p class="gc-standing"><b title="{escape(one.forecaster)}">'
        f"{escape(short(one.forecaster))}</b> {mark} {told_}</p>"
    )


def _fairness(context: Context, one: Analysis) -> None:
    section(
        _("Fairness"),
        _(
            "Whether the forecast is right at all times alike. Only totals of the whole "
            "neighbourhood are committed, so nobody can tell from them how it serves one home: "
            "forecasts of homes never leave the home."
        ),
    )
    frame = service.fairness_frame(one, context.fmt)
    if frame.empty:
        lead(_("No day with readings on the chain yet."))
        return
    put(table(frame, _("Accuracy by time of day"), set(frame.columns[1:])))


def _days(context: Context, lines: list[DayLine]) -> None:
    section(_("Day by day"))
    frame = service.day_frame(lines, context.fmt)
    numbers = [one for one in frame.columns if one not in (_("State"), _("Forecaster"))][1:-1]
    put(table(frame, _("Forecasts day by day"), numbers))


def _verify(lines: list[DayLine]) -> None:
    section(
        _("Check one yourself"),
        _(
            "Each forecast names the hash of its evidence: the published totals it was made from, "
            "and every setting. Whoever has that file computes the forecast again."
        ),
    )
    fmt = formats()
    hashes = "".join(
        f"<li>{escape(fmt.written_day(line.day))}: "
        f"<span class='gc-address'>{escape(line.evidence)}</span></li>"
        for line in lines
        if line.evidence
    )
    steps = (
        _("Ask the forecaster for the evidence file of the day."),
        _("Run the command below. It recomputes the forecast to the Wh and prints the hash."),
        _("Compare the hash with the one here; with a node the command does that itself."),
    )
    put(
        f'<ol class="gc-steps-how">{"".join(f"<li>{escape(one)}</li>" for one in steps)}</ol>'
        "<pre>gridcommons evidence verify FILE\n"
        "gridcommons evidence verify FILE --network URL --deployment deployment.json</pre>"
        f"<details><summary>{escape(_('Hashes of the evidence'))}</summary>"
        f"<ul>{hashes}</ul></details>"
    )
