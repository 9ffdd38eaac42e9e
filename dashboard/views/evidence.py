# SPDX-License-Identifier: Apache-2.0
"""The evidence on a proposal: the forecast and its forecaster, what the action would do to the grid
and to the visitor's bill, and afterwards what was metered."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import pandas as pd

from dao.errors import CheckFailed
from dao.governance.proposals import Lane
from dao.runstate import Outcome
from dao.slots import SLOT_SECONDS, SLOTS_PER_DAY
from dashboard import charts
from dashboard.i18n import _, ngettext
from dashboard.repositories.devices import Report, reports
from dashboard.repositories.forecasts import (
    Revealed,
    plan_of,
    record_of,
    revealed,
)
from dashboard.repositories.readings import HomeReadings
from dashboard.services import promise
from dashboard.services.promise import Measured, Promise, Record
from dashboard.services.proposal import Told, Window, windows_of
from dashboard.services.votes import Standing
from dashboard.views.decisions import Held, name_of
from dashboard.views.parts import Figure, chart, empty, figures, lead, put, section, table

_READ_DAYS = 7
_DAYS_SHOWN = 14


def draw(held: Held, one: Standing, said: Told) -> None:
    """The sections, as far as there is something to tell."""
    context, made = held.context, one.made
    parameters = (context.settings.deployment or {}).get("GridParameters")
    windows = windows_of(made.calls, parameters)
    if windows is None:
        if made.lane is Lane.ORDINARY:
            _no_simulation(said)
        return
    day = windows[0].first_slot // SLOTS_PER_DAY * SLOTS_PER_DAY
    zone = windows[0].zone
    forecasts = revealed(context.settings, zone, day)
    forecast = next((each for each in forecasts if each.evidence == said.evidence), None)
    found = promise.promise_of(plan_of(context.settings, made.id), said, windows)
    if found is None and context.run is not None:
        told_by_run = [each for each in context.run.proposals if each.id == str(made.id)]
        found = promise.promise_of_run(told_by_run[0]) if told_by_run else None
    if one.state is Outcome.EXECUTED:
        _after(held, windows, day, zone, forecast, found)
    _grid(held, found)
    _bill(held, found, windows, zone)
    _forecast(held, zone, day, forecast, forecasts)
    _forecaster(held, made.proposer if forecast is None else forecast.forecaster, zone)


def _no_simulation(said: Told) -> None:
    section(_("What it would change"))
    if said.simulation is None:
        lead(
            _(
                "The proposer names no simulation. Anybody with a node can run one: "
                "gridcommons dao simulate."
            )
        )
        return
    lead(
        _(
            "The proposer ran it on a copy of the chain and names the record by its hash, {hash}. "
            "Anybody with a node can make the record again: gridcommons dao simulate --check."
        ).format(hash=said.simulation[:18] + "…")
    )


# Grid


def _grid(held: Held, found: Promise | None) -> None:
    section(_("If nothing is done, and if it is done"))
    if found is None:
        empty(
            _("No plan lies beside this proposal"),
            _("What it would do to voltage and cables is not told by whoever proposed it."),
        )
        return
    fmt, colours = held.context.fmt, held.context.colours
    put(f"<p>{escape(promise.nothing_words(found))}</p><p>{escape(promise.grid_words(found))}</p>")
    told_ = []
    for name, before, after, sign, digits in (
        (_("Highest voltage"), found.before.voltage, found.after.voltage, "pu", 3),
        (_("Fullest transformer"), found.before.loading, found.after.loading, "%", 0),
    ):
        if before is not None and after is not None:
            told_.append(
                Figure(
                    name,
                    f"{fmt.number(before, digits)} → {fmt.number(after, digits)}\u00a0{sign}",
                    _("without → with it, in nine of ten courses no more"),
                )
            )
    if told_:
        figures(told_)
    for name, unit, sign, digits, alt in (
        (
            "voltage_max",
            _("Highest voltage, per unit"),
            "pu",
            3,
            _("Highest voltage of each quarter-hour without and with the action"),
        ),
        (
            "transformer",
            _("Loading of the transformer, %"),
            "%",
            0,
            _("Loading of the transformer in each quarter-hour without and with the action"),
        ),
    ):
        band = found.bands.get(name)
        if band is None:
            continue
        frame = promise.band_frame(found.first_slot, band)
        drawing = charts.band_chart(frame, band.limit, unit, sign, digits, colours)
        chart(drawing, alt=alt, key=f"proposal.{name}", frame=_hours(held, frame, digits))
    lead(
        _(
            "A simulation: the zone's published totals are spread over the homes by standard "
            "shares, and a power flow is run for many courses of the day that the forecast leaves "
            "open. The pale bands hold eight of ten of them."
        )
        if found.source == "plan"
        else _(
            "A simulation of the demonstration: nine of ten courses of the day stay below the "
            "lines. The interval itself was not kept."
        )
    )


def _hours(held: Held, frame: pd.DataFrame, digits: int) -> pd.DataFrame:
    """The chart's full hours in words."""
    fmt = held.context.fmt
    rows = frame[frame["time"].dt.minute == 0]

    def said(name: str) -> list[str]:
        return [fmt.number(value, digits) for value in rows[name]]

    return pd.DataFrame(
        {
            _("Quarter-hour from"): [fmt.at(moment) for moment in rows["time"]],
            _("If nothing is done"): said("before_q50"),
            _("With the action"): said("after_q50"),
        }
    )


# Bill


def _bill(held: Held, found: Promise | None, windows: Sequence[Window], zone: int) -> None:
    fees = promise.fee_windows(windows)
    if (found is None or found.each_home is None) and not fees:
        return
    section(_("On the bill"))
    fmt = held.context.fmt
    told_ = []
    if found is not None and found.each_home is not None:
        told_.append(
            Figure(
                _("A typical home, that day"),
                fmt.euro(found.each_home),
                _("an equal share of what {homes} homes pay").format(homes=fmt.number(found.homes)),
            )
        )
    mine = _my_fee(held, fees, zone)
    if mine is not None:
        told_.append(
            Figure(
                _("Your home, that day"),
                fmt.euro(mine),
                _("for the changed grid fee, if all you draw is bought from neighbours"),
            )
        )
    elif found is not None and found.each_home is not None and _has_home(held):
        told_.append(
            Figure(
                _("Your home, that day"),
                fmt.euro(found.each_home),
                _("the treasury pays, so your home bears the same share as every other"),
            )
        )
    if told_:
        figures(told_)
    if found is not None and found.lines:
        frame = pd.DataFrame(
            {
                _("What for"): [promise.line_words(line) for line in found.lines],
                _("Paid by"): [promise.payer_words(line) for line in found.lines],
                _("Energy"): [fmt.kwh(line.energy_wh) for line in found.lines],
                _("All together"): [fmt.euro(line.cost) for line in found.lines],
                _("A typical home"): [fmt.euro(line.each_home) for line in found.lines],
            }
        )
        put(table(frame, _("On the bill"), set(frame.columns[2:])))
    lead(
        _(
            "Assumed: the day goes as the forecast expects on average, energy lost in a battery "
            "would have been sold at the feed-in tariff, and nobody changes their habits."
        )
    )


def _has_home(held: Held) -> bool:
    person = held.context.person
    return person is not None and bool(person.accounts)


def _my_fee(held: Held, fees: Sequence[Window], zone: int) -> int | None:
    """What changed grid fees would cost the visitor's homes, from what they drew lately."""
    context = held.context
    if not fees or context.person is None or not context.person.accounts:
        return None
    if zone != context.zone:
        return None
    readings = HomeReadings(
        context.settings.home / "lake", context.settings.home / "inbox.sqlite", zone
    )
    end = context.now // SLOT_SECONDS
    sums: dict[int, list[int]] = {}
    try:
        for account in context.person.accounts[:4]:
            for one in readings.series(
                account, end - _READ_DAYS * SLOTS_PER_DAY, _READ_DAYS * SLOTS_PER_DAY
            ):
                if one.import_wh is not None:
                    sums.setdefault(one.slot % SLOTS_PER_DAY, []).append(one.import_wh)
    except CheckFailed:
        return None
    mean = {place: sum(those) / _READ_DAYS for place, those in sums.items()}
    return promise.my_fee(fees, context.tariffs.grid_fee, mean)


# Forecast


def _forecast(
    held: Held,
    zone: int,
    day: int,
    forecast: Revealed | None,
    forecasts: Sequence[Revealed],
) -> None:
    context, fmt = held.context, held.context.fmt
    when = fmt.date(day * SLOT_SECONDS + 43_200, "full")
    section(
        _("The forecast behind it"),
        _("Net energy of zone {zone} on {day}; the band holds eight of ten outcomes.").format(
            zone=zone, day=when
        ),
    )
    shown = forecast
    if forecast is None:
        shown = forecasts[0] if forecasts else None
    if shown is None:
        empty(
            _("No forecast of that day is on the chain"),
            _("Whoever forecast it has not revealed it, or nobody did."),
        )
        return
    if forecast is None:
        lead(
            _(
                "The proposal names no evidence that fits a forecast on the chain. Shown is what "
                "{who} revealed for that day."
            ).format(who=name_of(held, shown.forecaster))
        )
    totals = context.events.totals(day, SLOTS_PER_DAY)
    if zone != context.zone:
        totals = totals.iloc[0:0]
    frame = promise.forecast_frame(day, shown.quantiles, totals)
    drawing = charts.energy_chart(frame, context.colours)
    rows = frame[frame["time"].dt.minute == 0]

    def words(name: str) -> list[str]:
        return ["–" if pd.isna(one) else fmt.number(one, 1) for one in rows[name]]

    chart(
        drawing,
        alt=_("Net energy of the zone per quarter-hour, forecast with its interval and measured"),
        key="proposal.forecast",
        frame=pd.DataFrame(
            {
                _("Quarter-hour from"): [fmt.at(moment) for moment in rows["time"]],
                _("One in ten below"): words("q10_kwh"),
                _("Forecast"): words("q50_kwh"),
                _("Nine in ten below"): words("q90_kwh"),
                _("Measured"): words("net_kwh"),
            }
        ),
    )


def _forecaster(held: Held, address: str, zone: int) -> None:
    context, fmt = held.context, held.context.fmt
    found: Record = record_of(context.settings, address, zone, context.now // SLOT_SECONDS)
    if not found.days and not found.bond:
        return
    section(
        _("How good its forecaster was"),
        _("{who}, over the last four weeks in zone {zone}.").format(
            who=name_of(held, address), zone=zone
        ),
    )
    lead(promise.record_words(found))
    told_ = []
    if found.skill is not None:
        told_.append(
            Figure(
                _("Skill"),
                fmt.percent(found.skill / 1_000),
                _("smaller error than the naive forecast; 100 % is never wrong"),
            )
        )
    if found.bond is not None:
        told_.append(
            Figure(_("Bond"), fmt.euro(found.bond), _("what it answers with for its forecasts"))
        )
    if found.slashed or found.rewarded:
        told_.append(
            Figure(
                _("Lost and earned by scores"),
                f"\u2212{fmt.euro(found.slashed)} / +{fmt.euro(found.rewarded)}",
                _("off and on its bond so far"),
            )
        )
    if told_:
        figures(told_)
    scored = found.days[:_DAYS_SHOWN]
    if scored:
        frame = pd.DataFrame(
            {
                _("Day"): [fmt.date(day.first_slot * SLOT_SECONDS + 43_200) for day in scored],
                _("Error"): [_kwh(held, day.loss) for day in scored],
                _("Naive error"): [_kwh(held, day.naive_loss) for day in scored],
                _("Result"): [_result(day) for day in scored],
            }
        )
        rows = table(frame, _("Scores of the last days"), set(frame.columns[1:3]))
        name = escape(_("Scores of the last days"))
        put(f"<details><summary>{name}</summary>{rows}</details>")


def _kwh(held: Held, loss: int | None) -> str:
    # A loss is counted in thousandths of a Wh.
    return "–" if loss is None else held.context.fmt.kwh(loss / 1_000, 1)


def _result(day: promise.Day) -> str:
    if day.missed:
        return _("missed")
    if day.loss is None or day.naive_loss is None:
        return _("not scored")
    return _("better") if day.loss < day.naive_loss else _("no better")


# Afterwards


def _after(
    held: Held,
    windows: Sequence[Window],
    day: int,
    zone: int,
    forecast: Revealed | None,
    found: Promise | None,
) -> None:
    context = held.context
    section(
        _("Promised and metered"),
        _("Only what meters have shown; what the grid felt is computed from it, not metered."),
    )
    totals = context.events.totals(day, SLOTS_PER_DAY)
    if zone != context.zone:
        totals = totals.iloc[0:0]
    frame = None
    if forecast is not None:
        slots = range(day, day + SLOTS_PER_DAY)
        q10, q50, q90 = forecast.quantiles
        frame = pd.DataFrame({"slot": list(slots), "q10": q10, "q50": q50, "q90": q90})
    said: Sequence[Report] = ()
    if zone == context.zone:
        try:
            said = reports(context.settings.home, day)
        except CheckFailed:
            lead(_("What the devices reported cannot be read just now."))
    made = promise.measured(windows, totals, frame, said)
    if not made:
        lead(_("This action steers devices in homes; their readings are their owners’ alone."))
        return
    _metered(held, made)


def _metered(held: Held, made: Sequence[Measured]) -> None:
    fmt = held.context.fmt

    def kwh(wh: int) -> str:
        return ("+" if wh > 0 else "\u2212" if wh < 0 else "") + fmt.kwh(abs(wh))

    def battery(one: Measured) -> str:
        if one.battery_wh is None:
            return _("not reported")
        return kwh(one.battery_wh)

    def zone(one: Measured) -> str:
        if one.zone_wh is None or one.low_wh is None or one.high_wh is None:
            return _("not measured yet")
        return _("{energy} ({low} to {high})").format(
            energy=kwh(one.zone_wh), low=kwh(one.low_wh), high=kwh(one.high_wh)
        )

    frame = pd.DataFrame(
        {
            _("The community battery"): [
                _("takes in") if one.takes else _("gives back") for one in made
            ],
            _("Promised"): [kwh(one.promised_wh) for one in made],
            _("By its own meter"): [battery(one) for one in made],
            _("By the meters of the zone"): [zone(one) for one in made],
        }
    )
    quiet = {_("not reported"), _("not measured yet")}
    put(table(frame, _("Promised and metered"), set(frame.columns[1:]), quiet))
    slots, reported = sum(one.slots for one in made), sum(one.reported for one in made)
    if reported:
        lead(
            ngettext(
                "Its gateway signed a report for {reported} of {slots} quarter-hour; the battery "
                "acknowledged {acknowledged} set-points.",
                "Its gateway signed a report for {reported} of {slots} quarter-hours; the battery "
                "acknowledged {acknowledged} set-points.",
                slots,
            ).format(
                reported=reported,
                slots=slots,
                acknowledged=sum(one.acknowledged for one in made),
            )
        )
    known = sum(one.known for one in made)
    if known < slots:
        lead(
            ngettext(
                "{known} of {slots} quarter-hour is measured and on the chain so far.",
                "{known} of {slots} quarter-hours are measured and on the chain so far.",
                slots,
            ).format(known=known, slots=slots)
        )
    elif any(one.inside is not None for one in made):
        inside = all(one.inside for one in made)
        lead(
            _(
                "The zone’s meters show how much more was drawn than forecast, with what the "
                "forecast leaves open; what was promised lies within it."
            )
            if inside
            else _(
                "The zone’s meters show how much more was drawn than forecast, with what the "
                "forecast leaves open; what was promised lies outside of it."
            )
        )
