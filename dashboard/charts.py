# SPDX-License-Identifier: Apache-2.0
"""The charts. Input are the frames of the services, in the units they are drawn in.

Wall-clock times go to the browser marked as UTC, and axes and tooltips show UTC: so the page shows
the zone's own clock, wherever the browser stands.
"""

from __future__ import annotations

from typing import Any, Literal

import altair as alt
import pandas as pd

from dao.tariffs import Tariffs
from dashboard.i18n import _
from dashboard.theme import Palette, chart_config

# Midnight carries the day's name, other hours the clock.
_CLOCK = alt.Axis(
    title=None,
    tickCount=8,
    labelExpr="utchours(datum.value) == 0 && utcminutes(datum.value) == 0"
    " ? utcFormat(datum.value, '%a %d') : utcFormat(datum.value, '%H:%M')",
)
_WHEN = alt.Tooltip(
    "time:T", timeUnit="utcyearmonthdatehoursminutes", title="When", format="%a %d %b, %H:%M"
)


def _marked(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with its wall-clock times marked as UTC."""
    return frame.assign(time=frame["time"].dt.tz_localize("UTC"))


def _time() -> alt.X:
    return alt.X("time:T", scale=alt.Scale(type="utc", nice=False), axis=_CLOCK)


def _finish(chart: Any, height: int, unit: str, colours: Palette) -> alt.Chart:
    """Size, unit and configuration. The unit stands above the plot, where it cannot overlap."""
    title = alt.Title(text=unit, anchor="start", frame="group", dx=-30)
    done: alt.Chart = chart.properties(height=height, title=title, width="container").configure(
        **chart_config(colours)
    )
    return done


def energy_chart(frame: pd.DataFrame, colours: Palette) -> alt.Chart:
    """Net energy over the forecast band; behind it what homes draw (up) and feed in (down)."""
    names = ["Drawn from the grid", "Fed into the grid", "Net, measured", "Net, forecast"]
    shades = [colours.blue, colours.amber, colours.ink, colours.green]
    data = _marked(frame).assign(
        given_kwh=-frame["fed_kwh"],
        drawn=names[0],
        fed=names[1],
        net=names[2],
        forecast=names[3],
    )
    key = alt.Scale(domain=names, range=shades)
    legend = alt.Legend(symbolType="square", columns=2, symbolOpacity=1)

    def colour(field: str) -> alt.Color:
        return alt.Color(f"{field}:N", scale=key, legend=legend)

    base = alt.Chart(data).encode(x=_time())
    tooltip = [
        _WHEN,
        alt.Tooltip("net_kwh:Q", title="Net (kWh)", format=",.1f"),
        alt.Tooltip("q50_kwh:Q", title="Forecast (kWh)", format=",.1f"),
        alt.Tooltip("q10_kwh:Q", title="10 % quantile", format=",.1f"),
        alt.Tooltip("q90_kwh:Q", title="90 % quantile", format=",.1f"),
        alt.Tooltip("used_kwh:Q", title="Drawn (kWh)", format=",.1f"),
        alt.Tooltip("fed_kwh:Q", title="Fed in (kWh)", format=",.1f"),
    ]
    layers = []
    if frame["net_kwh"].notna().any():
        layers += [
            base.mark_area(opacity=0.22, interpolate="step-after").encode(
                y=alt.Y("used_kwh:Q", axis=alt.Axis(title=None)), color=colour("drawn")
            ),
            base.mark_area(opacity=0.28, interpolate="step-after").encode(
                y="given_kwh:Q", color=colour("fed")
            ),
        ]
    if frame["q50_kwh"].notna().any():
        layers += [
            base.mark_area(opacity=0.24, interpolate="monotone").encode(
                y=alt.Y("q10_kwh:Q", axis=alt.Axis(title=None)),
                y2="q90_kwh:Q",
                color=colour("forecast"),
            ),
            base.mark_line(strokeWidth=1.8, strokeDash=[5, 3], interpolate="monotone").encode(
                y="q50_kwh:Q", color=colour("forecast")
            ),
        ]
    layers += [
        base.mark_line(strokeWidth=2.2, interpolate="monotone").encode(
            y=alt.Y("net_kwh:Q", axis=alt.Axis(title=None)), color=colour("net")
        ),
        alt.Chart(pd.DataFrame({"zero": [0]})).mark_rule(strokeWidth=1).encode(y="zero:Q"),
        base.mark_rule(strokeWidth=12, opacity=0).encode(tooltip=tooltip),
    ]
    return _finish(alt.layer(*layers), 330, "kWh per quarter-hour", colours)


def _reference(level: float, label: str, scale: alt.Scale, colours: Palette, dy: int) -> list[Any]:
    """A dashed line at `level` with its label `dy` pixels off it: above, or below where dy > 0."""
    base = alt.Chart(pd.DataFrame({"level": [level], "label": [label]}))
    at = alt.Y("level:Q", scale=scale, axis=alt.Axis(title=None))
    side: Literal["bottom", "top"] = "bottom" if dy < 0 else "top"
    return [
        base.mark_rule(strokeDash=[4, 3], strokeWidth=1.4).encode(y=at),
        base.mark_text(align="right", baseline=side, dy=dy, color=colours.muted).encode(
            y=at, x=alt.value("width"), text="label:N"
        ),
    ]


def price_chart(frame: pd.DataFrame, tariffs: Tariffs, colours: Palette) -> alt.Chart:
    """Clearing prices between the two tariffs."""
    feed_in, retail = tariffs.feed_in / 10, tariffs.retail / 10
    highest = frame["price_ct"].max()
    top = max(retail, 0.0 if pd.isna(highest) else float(highest)) * 1.14
    scale = alt.Scale(domain=[0, top], nice=False)
    base = alt.Chart(_marked(frame)).encode(
        x=_time(),
        y=alt.Y("price_ct:Q", scale=scale, axis=alt.Axis(title=None)),
    )
    line = base.mark_line(
        interpolate="step-after", strokeWidth=1.2, opacity=0.55, color=colours.green
    )
    dots = base.mark_circle(size=30, opacity=1, color=colours.green).encode(
        tooltip=_trade_tooltip()
    )
    layers = [
        *_reference(retail, f"Retail tariff {retail:.1f}", scale, colours, -3),
        *_reference(feed_in, f"Feed-in tariff {feed_in:.1f}", scale, colours, 4),
        line,
        dots,
    ]
    return _finish(alt.layer(*layers), 230, "ct/kWh", colours)


def volume_chart(frame: pd.DataFrame, colours: Palette) -> alt.Chart:
    """Energy agreed in each quarter-hour; stands under the prices and shares their axis."""
    bars = (
        alt.Chart(_marked(frame))
        .mark_area(color=colours.blue, opacity=0.6, interpolate="step-after")
        .encode(
            x=_time(),
            y=alt.Y("volume_kwh:Q", axis=alt.Axis(title=None, tickCount=3)),
            tooltip=_trade_tooltip(),
        )
    )
    return _finish(bars, 110, "kWh agreed", colours)


def _trade_tooltip() -> list[alt.Tooltip]:
    return [
        _WHEN,
        alt.Tooltip("price_ct:Q", title="Price (ct/kWh)", format=".1f"),
        alt.Tooltip("volume_kwh:Q", title="Agreed (kWh)", format=",.1f"),
    ]


def voltage_chart(voltage: pd.DataFrame, limit: float, colours: Palette) -> alt.Chart:
    """Highest voltage in each slot without and with the schedule, and the limit."""
    names = ["Without the schedule", "With the schedule"]
    long = pd.concat(
        [
            pd.DataFrame({"time": voltage["time"], "pu": voltage["before"], "case": names[0]}),
            pd.DataFrame({"time": voltage["time"], "pu": voltage["after"], "case": names[1]}),
        ]
    )
    low = float(min(long["pu"].min(), limit)) - 0.004
    high = float(max(long["pu"].max(), limit)) + 0.006
    scale = alt.Scale(domain=[low, high], nice=False, zero=False)
    reference = _reference(limit, f"Planning limit {limit:.3f}", scale, colours, -3)
    curves = (
        alt.Chart(_marked(long))
        .mark_line(strokeWidth=2, interpolate="monotone")
        .encode(
            x=_time(),
            y=alt.Y("pu:Q", scale=scale, axis=alt.Axis(title=None, format=".3f")),
            color=alt.Color(
                "case:N",
                scale=alt.Scale(domain=names, range=[colours.red, colours.green]),
                legend=alt.Legend(symbolType="stroke"),
            ),
            tooltip=[
                _WHEN,
                alt.Tooltip("case:N", title="Case"),
                alt.Tooltip("pu:Q", title="Voltage (pu)", format=".4f"),
            ],
        )
    )
    layers = alt.layer(*reference, curves)
    return _finish(layers, 240, "Highest voltage, per unit", colours)


def schedule_chart(schedule: pd.DataFrame, colours: Palette) -> alt.Chart:
    """The battery's power over the day: charging up, giving back down."""
    base = alt.Chart(
        _marked(schedule).assign(
            charge=schedule["power_kw"].clip(lower=0), give=schedule["power_kw"].clip(upper=0)
        )
    ).encode(
        x=_time(),
        tooltip=[_WHEN, alt.Tooltip("power_kw:Q", title="Power (kW)", format="+.1f")],
    )
    axis = alt.Axis(title=None, tickCount=3)
    layers = [
        base.mark_area(interpolate="step-after", opacity=0.7, color=shade).encode(
            y=alt.Y(f"{side}:Q", axis=axis)
        )
        for side, shade in (("charge", colours.blue), ("give", colours.amber))
    ]
    zero = alt.Chart(pd.DataFrame({"zero": [0]})).mark_rule(strokeWidth=1).encode(y="zero:Q")
    return _finish(
        alt.layer(*layers, zero), 120, "Battery, kW: charging up, giving back down", colours
    )


def home_chart(frame: pd.DataFrame, unit: str, colours: Palette, *, daily: bool) -> alt.Chart:
    """A home's energy in bars: drawn from the grid up, fed into it down; a gap is left empty."""
    names = [_("Drawn from the grid"), _("Fed into the grid")]
    data = _marked(frame).assign(given_kwh=-frame["fed_kwh"], drawn=names[0], fed=names[1])
    key = alt.Scale(domain=names, range=[colours.blue, colours.amber])
    legend = alt.Legend(symbolType="square", columns=2, symbolOpacity=1)
    axis = alt.Axis(title=None, tickCount=8, format="%d %b") if daily else _CLOCK
    base = alt.Chart(data).encode(
        x=alt.X("time:T", scale=alt.Scale(type="utc", nice=False, padding=6), axis=axis)
    )
    count = max(1, len(frame))
    width = max(1.0, min(22.0, 620 / count))
    tooltip = [
        alt.Tooltip(
            "time:T",
            timeUnit="utcyearmonthdate" if daily else "utcyearmonthdatehoursminutes",
            title=_("When"),
            format="%a %d %b" if daily else "%a %d %b, %H:%M",
        ),
        alt.Tooltip("drawn_kwh:Q", title=_("Drawn (kWh)"), format=",.2f"),
        alt.Tooltip("fed_kwh:Q", title=_("Fed in (kWh)"), format=",.2f"),
    ]

    def bars(value: str, name: str) -> alt.Chart:
        made: alt.Chart = base.mark_bar(size=width).encode(
            y=alt.Y(f"{value}:Q", axis=alt.Axis(title=None)),
            color=alt.Color(f"{name}:N", scale=key, legend=legend),
            tooltip=tooltip,
        )
        return made

    zero = alt.Chart(pd.DataFrame({"zero": [0]})).mark_rule(strokeWidth=1).encode(y="zero:Q")
    layers = [bars("drawn_kwh", "drawn"), bars("given_kwh", "fed"), zero]
    return _finish(alt.layer(*layers), 260, unit, colours)


def market_chart(
    frame: pd.DataFrame,
    tariffs: Tariffs,
    fee: int,
    colours: Palette,
    *,
    limit: float | None = None,
) -> alt.Chart:
    """Prices of the last days between the tariffs. The upper line is what a neighbour may pay at
    most to be better off than at retail once the grid fee is paid; limit: the ticket's, ct/kWh."""
    feed_in, net = tariffs.feed_in / 10, (tariffs.retail - fee) / 10
    highest = frame["price_ct"].max()
    tops = [net, limit or 0.0, 0.0 if pd.isna(highest) else float(highest)]
    scale = alt.Scale(domain=[0, max(tops) * 1.16], nice=False)
    base = alt.Chart(_marked(frame)).encode(
        x=_time(), y=alt.Y("price_ct:Q", scale=scale, axis=alt.Axis(title=None))
    )
    layers = [
        *_reference(
            net, _("Retail less grid fee {price:.1f}").format(price=net), scale, colours, -3
        ),
        *_reference(
            feed_in, _("Feed-in tariff {price:.1f}").format(price=feed_in), scale, colours, 4
        ),
        base.mark_line(
            interpolate="step-after", strokeWidth=1.2, opacity=0.55, color=colours.green
        ),
        base.mark_circle(size=26, opacity=1, color=colours.green).encode(tooltip=_trade_tooltip()),
    ]
    if limit is not None:
        layers.append(
            alt.Chart(pd.DataFrame({"limit": [limit]}))
            .mark_rule(strokeWidth=2, color=colours.amber)
            .encode(y=alt.Y("limit:Q", scale=scale))
        )
    return _finish(alt.layer(*layers), 210, "ct/kWh", colours)
