# SPDX-License-Identifier: Apache-2.0
"""The charts. Input are the frames of the services, in the units they are drawn in.

Times are the zone's own clock, wherever the browser stands. How a chart is drawn is in `plot.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from dao.tariffs import Tariffs
from dashboard.i18n import Formats, _, formats
from dashboard.plot import Area, Bars, Dots, Drawing, Level, Line
from dashboard.theme import Palette


def tips(
    times: pd.Series, said: Sequence[tuple[str, pd.Series, str, int]], *, daily: bool = False
) -> list[str]:
    """What is said of each time: its day and clock, then a line for each value that is there.

    said: name, values, unit and decimals of each line. daily: the day alone.
    """
    fmt = formats()
    when = fmt.day if daily else fmt.at
    columns = [(name, values.tolist(), unit, digits) for name, values, unit, digits in said]
    return [
        "\n".join(
            [
                when(moment),
                *(
                    f"{name}: {fmt.number(values[place], digits)}\u00a0{unit}"
                    for name, values, unit, digits in columns
                    if not pd.isna(values[place])
                ),
            ]
        )
        for place, moment in enumerate(times)
    ]


def energy_chart(frame: pd.DataFrame, colours: Palette) -> Drawing:
    """Net energy over the forecast band; behind it what homes draw (up) and feed in (down)."""
    net, forecast = frame["net_kwh"], frame["q50_kwh"]
    parts: list[Area | Line] = []
    if net.notna().any():
        parts += [
            Area(frame["used_kwh"], colours.blue, name=_("Drawn from the grid"), step=True),
            Area(-frame["fed_kwh"], colours.sun, name=_("Fed into the grid"), step=True),
        ]
    if forecast.notna().any():
        parts += [
            Area(frame["q90_kwh"], colours.green, low=frame["q10_kwh"]),
            Line(forecast, colours.green, name=_("Net, forecast"), width=1.8, dashed=True),
        ]
    if net.notna().any():
        parts.append(Line(net, colours.ink, name=_("Net, measured"), width=2.2))
    return Drawing(
        times=frame["time"],
        parts=parts,
        unit=_("kWh per quarter-hour"),
        height=290,
        tips=tips(
            frame["time"],
            [
                (_("Net"), net, "kWh", 1),
                (_("Forecast"), forecast, "kWh", 1),
                (_("10 % quantile"), frame["q10_kwh"], "kWh", 1),
                (_("90 % quantile"), frame["q90_kwh"], "kWh", 1),
                (_("Drawn"), frame["used_kwh"], "kWh", 1),
                (_("Fed in"), frame["fed_kwh"], "kWh", 1),
            ],
        ),
    )


def price_chart(
    frame: pd.DataFrame, tariffs: Tariffs, colours: Palette, *, daily: bool = False
) -> Drawing:
    """Clearing prices between the two tariffs; daily: one row is a day, not a quarter-hour."""
    fmt = formats()
    highest = frame["price_ct"].max()
    top = max(tariffs.retail / 10, 0.0 if pd.isna(highest) else float(highest)) * 1.14
    return Drawing(
        times=frame["time"],
        parts=[
            Line(frame["price_ct"], colours.green, width=1.3, step=True, opacity=0.6),
            Dots(frame["price_ct"], colours.green),
        ],
        unit="ct/kWh",
        height=210,
        levels=[
            Level(
                tariffs.retail / 10, _tariff(fmt, _("Retail tariff"), tariffs.retail), colours.muted
            ),
            Level(
                tariffs.feed_in / 10,
                _tariff(fmt, _("Feed-in tariff"), tariffs.feed_in),
                colours.muted,
                below=True,
            ),
        ],
        bounds=(0, top),
        tips=_trades(frame, daily=daily),
    )


def _tariff(fmt: Formats, name: str, price: int) -> str:
    return f"{name} {fmt.number(price / 10, 1)}"


def volume_chart(frame: pd.DataFrame, colours: Palette) -> Drawing:
    """Energy agreed in each quarter-hour; stands under the prices and shares their axis."""
    return Drawing(
        times=frame["time"],
        parts=[Area(frame["volume_kwh"], colours.blue, step=True, opacity=0.6)],
        unit=_("kWh agreed"),
        height=90,
        tips=_trades(frame),
    )


def _trades(frame: pd.DataFrame, *, daily: bool = False) -> list[str]:
    return tips(
        frame["time"],
        [
            (_("Price"), frame["price_ct"], "ct/kWh", 1),
            (_("Agreed"), frame["volume_kwh"], "kWh", 1),
        ],
        daily=daily,
    )


def voltage_chart(voltage: pd.DataFrame, limit: float, colours: Palette) -> Drawing:
    """Highest voltage in each slot without and with the schedule, and the limit."""
    before, after = voltage["before"], voltage["after"]
    low = float(min(before.min(), after.min(), limit)) - 0.004
    high = float(max(before.max(), after.max(), limit)) + 0.006
    return Drawing(
        times=voltage["time"],
        parts=[
            Line(before, colours.red, name=_("Without the schedule")),
            Line(after, colours.green, name=_("With the schedule")),
        ],
        unit=_("Highest voltage, per unit"),
        height=220,
        levels=[Level(limit, f"{_('Planning limit')} {formats().number(limit, 3)}", colours.muted)],
        bounds=(low, high),
        digits=3,
        tips=tips(
            voltage["time"],
            [
                (_("Without the schedule"), before, "pu", 4),
                (_("With the schedule"), after, "pu", 4),
            ],
        ),
    )


def band_chart(
    frame: pd.DataFrame, limit: float, unit: str, sign: str, digits: int, colours: Palette
) -> Drawing:
    """A quantity without and with an action, each with its interval, and its limit. sign: the
    unit's, for the tips."""
    columns = [name for name in frame.columns if name != "time"]
    low = float(min(frame[columns].min().min(), limit))
    high = float(max(frame[columns].max().max(), limit))
    room = (high - low) * 0.08 or 1.0
    return Drawing(
        times=frame["time"],
        parts=[
            Area(frame["before_q90"], colours.red, low=frame["before_q10"], opacity=0.18),
            Area(frame["after_q90"], colours.green, low=frame["after_q10"], opacity=0.22),
            Line(frame["before_q50"], colours.red, name=_("If nothing is done")),
            Line(frame["after_q50"], colours.green, name=_("With the action")),
        ],
        unit=unit,
        height=210,
        levels=[
            Level(
                limit,
                _("Limit {number}").format(number=formats().number(limit, digits)),
                colours.muted,
            )
        ],
        bounds=(low - room, high + room),
        digits=digits,
        tips=tips(
            frame["time"],
            [
                (_("If nothing is done"), frame["before_q50"], sign, digits + 1),
                (_("nine in ten stay below"), frame["before_q90"], sign, digits + 1),
                (_("With the action"), frame["after_q50"], sign, digits + 1),
                (_("nine in ten stay below"), frame["after_q90"], sign, digits + 1),
            ],
        ),
    )


def schedule_chart(schedule: pd.DataFrame, colours: Palette) -> Drawing:
    """The battery's power over the day: charging up, giving back down."""
    power = schedule["power_kw"]
    return Drawing(
        times=schedule["time"],
        parts=[
            Area(power.clip(lower=0), colours.blue, name=_("Charging"), step=True, opacity=0.7),
            Area(power.clip(upper=0), colours.sun, name=_("Giving back"), step=True, opacity=0.7),
        ],
        unit=_("Battery, kW"),
        height=100,
        tips=tips(schedule["time"], [(_("Power"), power, "kW", 1)]),
    )


def home_chart(frame: pd.DataFrame, unit: str, colours: Palette, *, daily: bool) -> Drawing:
    """A home's energy in bars: drawn from the grid up, fed into it down; a gap is left empty."""
    return Drawing(
        times=frame["time"],
        parts=[
            Bars(frame["drawn_kwh"], colours.blue, name=_("Drawn from the grid")),
            Bars(-frame["fed_kwh"], colours.sun, name=_("Fed into the grid")),
        ],
        unit=unit,
        height=230,
        tips=tips(
            frame["time"],
            [
                (_("Drawn"), frame["drawn_kwh"], "kWh", 2),
                (_("Fed in"), frame["fed_kwh"], "kWh", 2),
            ],
            daily=daily,
        ),
    )


def market_chart(
    frame: pd.DataFrame,
    tariffs: Tariffs,
    fee: int,
    colours: Palette,
    *,
    limit: float | None = None,
) -> Drawing:
    """Prices of the last days between the tariffs. The upper line is what a neighbour may pay at
    most to be better off than at retail once the grid fee is paid; limit: the ticket's, ct/kWh."""
    fmt = formats()
    net = tariffs.retail - fee
    highest = frame["price_ct"].max()
    tops = [net / 10, limit or 0.0, 0.0 if pd.isna(highest) else float(highest)]
    levels = [
        Level(net / 10, _tariff(fmt, _("Retail less grid fee"), net), colours.muted),
        Level(
            tariffs.feed_in / 10,
            _tariff(fmt, _("Feed-in tariff"), tariffs.feed_in),
            colours.muted,
            below=True,
        ),
    ]
    if limit is not None:
        levels.append(Level(limit, _("Your limit"), colours.amber))
    return Drawing(
        times=frame["time"],
        parts=[
            Line(frame["price_ct"], colours.green, width=1.3, step=True, opacity=0.6),
            Dots(frame["price_ct"], colours.green),
        ],
        unit="ct/kWh",
        height=210,
        levels=levels,
        bounds=(0, max(tops) * 1.16),
        tips=_trades(frame),
    )


def balance_chart(frame: pd.DataFrame, colours: Palette, *, daily: bool) -> Drawing:
    """Where the zone's energy came from, stacked upwards, and what it gave to the grid, downwards.

    frame: time, and in kWh traded, beside, grid_in, grid_out; daily: one row a day, else a slot.
    """
    names = {
        "grid_in": (_("From the grid"), colours.muted),
        "beside": (_("From neighbours, without a trade"), colours.blue),
        "traded": (_("From neighbours, traded"), colours.green),
    }
    # The tallest first: each hides what of it lies lower.
    top = frame["traded"] + frame["beside"] + frame["grid_in"]
    heights = {
        "grid_in": top,
        "beside": frame["traded"] + frame["beside"],
        "traded": frame["traded"],
    }
    lows = {"grid_in": heights["beside"], "beside": frame["traded"], "traded": None}
    parts: list[Area | Bars] = []
    for key, (name, colour) in names.items():
        if daily:
            parts.append(Bars(heights[key], colour, name=name, opacity=1))
        else:
            parts.append(Area(heights[key], colour, lows[key], name, step=True, opacity=0.85))
    below, name = -frame["grid_out"], _("To the grid")
    parts.append(
        Bars(below, colours.sun, name=name, opacity=1)
        if daily
        else Area(below, colours.sun, name=name, step=True, opacity=0.85)
    )
    said = [(name, frame[key], "kWh", 1) for key, (name, _colour) in reversed(names.items())]
    return Drawing(
        times=frame["time"],
        parts=parts,
        unit=_("kWh per day") if daily else _("kWh per quarter-hour"),
        height=290,
        tips=tips(
            frame["time"], [*said, (_("To the grid"), frame["grid_out"], "kWh", 1)], daily=daily
        ),
    )


def skill_chart(frame: pd.DataFrame, colours: Palette) -> Drawing:
    """A forecaster's error of each day, in per cent of the simple forecast's: below 100 is better.

    frame: time, loss_percent.
    """
    highest = float(frame["loss_percent"].max())
    return Drawing(
        times=frame["time"],
        parts=[Bars(frame["loss_percent"], colours.green)],
        unit=_("Error in % of the simple forecast’s"),
        height=190,
        levels=[Level(100.0, "", colours.ink)],
        bounds=(0, max(120.0, highest * 1.1)),
        tips=tips(frame["time"], [(_("Error"), frame["loss_percent"], "%", 1)], daily=True),
    )
