# SPDX-License-Identifier: Apache-2.0
"""The zone's grid as a drawing: cables by loading, buses by voltage, and what stands where.

Drawn like the charts: lines and dots as an SVG picture that stretches with its box, words as text
over it, and what is said of a bus that one points at as an attribute. The same as a table is made
here too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape

import numpy as np
import pandas as pd

from dao.slots import SLOTS_PER_DAY
from dashboard.charts import schedule_chart, tips
from dashboard.i18n import N_, Formats, _, formats, ngettext
from dashboard.plot import Dots, Drawing, Level, Line, in_url, said_as
from dashboard.services.grid import VOLTS, Basis, Flow, Picture, Side, cables
from dashboard.services.units import wall_clock
from dashboard.theme import LIGHT, Palette

_SIDE = 1_000
_ASIDE, _ABOVE, _BELOW = 45, 80, 100
_DOT = 9.0
_NARROW = "\u00a0"


@dataclass(frozen=True)
class Band:
    """A class of voltages: its name and colours, in light and in dark. ring: set apart by a ring,
    for whoever does not see the colour."""

    name: str
    light: str
    dark: str
    ring: bool = False


# Blue to grey to orange to violet: their lightness differs too, so they stay apart for colour-blind
# eyes and on paper; what is beyond a limit has a ring besides.
BANDS: Mapping[str, Band] = {
    "far": Band(N_("more than 2 V above the limit"), "#5c0a3c", "#ffc9e3", ring=True),
    "above": Band(N_("above the limit"), "#c2257a", "#ff79b6", ring=True),
    "high": Band(N_("less than 1 V below the limit"), "#dd7a1c", "#f5943a"),
    "raised": Band(N_("raised"), "#e9c46a", "#a8873a"),
    "middle": Band(N_("in the middle"), "#93a29a", "#6c7a73"),
    "lowered": Band(N_("lowered"), "#5b93d8", "#5f93d6"),
    "low": Band(N_("less than 1 V above the lower limit"), "#1f4fa3", "#9cc3ff"),
    "below": Band(N_("below the lower limit"), "#0b2350", "#d6e7ff", ring=True),
}
_NEAR, _FAR = 1.0 / VOLTS, 2.0 / VOLTS
_RAISED, _LOWERED = 1.02, 0.96


def band_of(volts: float, highest: float, lowest: float) -> str:
    """The class of a voltage; all in pu."""
    if volts > highest:
        return "far" if volts > highest + _FAR else "above"
    if volts < lowest:
        return "below"
    if volts > highest - _NEAR:
        return "high"
    if volts < lowest + _NEAR:
        return "low"
    return "raised" if volts > _RAISED else "lowered" if volts < _LOWERED else "middle"


def map_of(picture: Picture, flow: Flow, slot: int, colours: Palette, alt: str) -> str:
    """The drawing of a slot, 0 for the day's first; `alt` says the same in words."""
    dark = colours.surface != LIGHT.surface
    volts = flow.volts[slot].tolist()
    limits = picture.limits
    bands = [band_of(one, limits.highest, limits.lowest) for one in volts]
    at = {bus: _spot(place) for bus, place in zip(picture.buses, picture.place, strict=True)}
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_SIDE} {_SIDE}" '
        'preserveAspectRatio="none"><style>path{vector-effect:non-scaling-stroke;fill:none;'
        "stroke-linecap:round}</style>"
        f"{_cables(picture, flow, slot, at, colours, dark)}"
        f"{_buses(picture, bands, at, colours, dark)}</svg>"
    )
    image = f'<img src="data:image/svg+xml,{in_url(svg)}" alt="{escape(alt)}"/>'
    return (
        f'<figure class="gc-grid"><div class="gc-gridbox"'
        f"{_tips(picture, flow, slot, volts, bands, at)}>{image}"
        f"{_names(picture, flow, slot, at)}</div>{_legend(bands, colours, dark)}</figure>"
    )


def table_of(picture: Picture, flow: Flow, slot: int) -> pd.DataFrame:
    """Every bus with its voltage, its fullest cable and what stands there; the highest first."""
    fmt = formats()
    limits = picture.limits
    loads = cables(picture, flow, slot)
    rows = sorted(zip(flow.volts[slot].tolist(), picture.buses, strict=True), reverse=True)
    return pd.DataFrame(
        [
            (
                str(bus),
                fmt.number(volts * VOLTS, 1),
                _(BANDS[band_of(volts, limits.highest, limits.lowest)].name),
                fmt.number(loads[bus], 1),
                _stands(picture, bus),
            )
            for volts, bus in rows
        ],
        columns=[
            _("Bus"),
            _("Voltage (V)"),
            _("Compared with the limits"),
            _("Fullest cable there (%)"),
            _("What stands there"),
        ],
    )


def _spot(place: tuple[int, int]) -> tuple[float, float]:
    right, down = (value / _SIDE for value in place)
    return (
        _ASIDE + right * (_SIDE - 2 * _ASIDE),
        _ABOVE + down * (_SIDE - _ABOVE - _BELOW),
    )


def _cables(
    picture: Picture,
    flow: Flow,
    slot: int,
    at: Mapping[int, tuple[float, float]],
    colours: Palette,
    dark: bool,
) -> str:
    """Thicker with loading; what is over its rating is dashed in the colour of a broken limit."""
    paths: dict[tuple[float, bool], list[str]] = {}
    for (one, other), loading in zip(picture.lines, flow.lines[slot].tolist(), strict=True):
        full = loading > picture.limits.loading
        # In steps of half a pixel, so that cables of a kind share a path.
        width = round(2 * (1.2 + 6.0 * min(loading, 150.0) / 100)) / 2
        (x, y), (to_x, to_y) = at[one], at[other]
        paths.setdefault((width, full), []).append(f"M{x:.0f} {y:.0f}L{to_x:.0f} {to_y:.0f}")
    over = BANDS["above"].dark if dark else BANDS["above"].light
    look = {True: f'stroke="{over}" stroke-dasharray="9 5"', False: f'stroke="{colours.muted}"'}
    return "".join(
        f'<path d="{"".join(those)}" {look[full]} stroke-width="{width:g}"/>'
        for (width, full), those in sorted(paths.items())
    )


def _buses(
    picture: Picture,
    bands: list[str],
    at: Mapping[int, tuple[float, float]],
    colours: Palette,
    dark: bool,
) -> str:
    dots: dict[str, list[str]] = {}
    squares = []
    for bus, band in zip(picture.buses, bands, strict=True):
        x, y = at[bus]
        dot = f"M{x:.0f} {y:.0f}h0"
        dots.setdefault(band, []).append(dot)
        if bus in picture.charge_points:
            squares.append(dot)
    square = f'<path d="{"".join(squares)}" style="stroke-linecap:square"'
    drawn = [
        f'{square} stroke="{colour}" stroke-width="{_DOT + more:g}"/>'
        for colour, more in ((colours.ink, 9), (colours.surface, 6))
    ]
    for name, look in BANDS.items():
        if name not in dots:
            continue
        path = "".join(dots[name])
        colour = look.dark if dark else look.light
        edge = (colour, colours.surface) if look.ring else (colours.surface,)
        for turn, ring in enumerate(edge):
            width = _DOT + 3 + 4 * (len(edge) - 1 - turn)
            drawn.append(f'<path d="{path}" stroke="{ring}" stroke-width="{width:g}"/>')
        drawn.append(f'<path d="{path}" stroke="{colour}" stroke-width="{_DOT:g}"/>')
    return "".join(drawn)


def _tips(
    picture: Picture,
    flow: Flow,
    slot: int,
    volts: list[float],
    bands: list[str],
    at: Mapping[int, tuple[float, float]],
) -> str:
    fmt = formats()
    loads = cables(picture, flow, slot)
    tips, spots = [], []
    for bus, value, band in zip(picture.buses, volts, bands, strict=True):
        x, y = at[bus]
        lines = [
            _("Bus {number}").format(number=bus),
            _("{volts} V, {band}").format(
                volts=fmt.number(value * VOLTS, 1), band=_(BANDS[band].name)
            ),
            _("Fullest cable: {share}").format(share=fmt.percent(loads[bus] / 100)),
        ]
        stands = _stands(picture, bus)
        tips.append("\n".join([*lines, stands] if stands else lines))
        spots.append(f"{x / 10:.1f} {y / 10:.1f}")
    return f'{said_as(tips)} data-spots="{",".join(spots)}"'


def _stands(picture: Picture, bus: int) -> str:
    """What stands at a bus, in words."""
    parts = []
    if bus == picture.low_bus:
        parts.append(_("transformer"))
    homes = picture.homes.get(bus, 0)
    if homes:
        parts.append(ngettext("{number} home", "{number} homes", homes).format(number=homes))
    if bus in picture.battery_buses:
        parts.append(_("community battery"))
    if bus in picture.charge_points:
        parts.append(_("charge point"))
    return ", ".join(parts)


def _names(picture: Picture, flow: Flow, slot: int, at: Mapping[int, tuple[float, float]]) -> str:
    """The transformer and the battery's units by name, with what they do in the slot."""
    fmt = formats()
    x, y = at[picture.low_bus]
    said = _("Transformer {share}").format(share=fmt.percent(flow.transformer[slot] / 100))
    found = [_name(x, y, said, over=bool(flow.transformer[slot] > picture.limits.loading))]
    power = int(flow.battery_w[slot]) / len(picture.battery_buses) if picture.battery_buses else 0
    for bus in picture.battery_buses:
        x, y = at[bus]
        found.append(_name(x, y, _battery(fmt, power), down=True))
    return "".join(found)


def _battery(fmt: Formats, watts: float) -> str:
    if watts > 0:
        return _("Battery takes {power}").format(power=kw(fmt, watts))
    if watts < 0:
        return _("Battery gives {power}").format(power=kw(fmt, -watts))
    return _("Battery rests")


def kw(fmt: Formats, watts: float) -> str:
    """Power in W as `12.5 kW`."""
    return f"{fmt.number(watts / 1_000, 1)}{_NARROW}kW"


def _name(x: float, y: float, words: str, *, down: bool = False, over: bool = False) -> str:
    side = "left" if x > _SIDE * 0.75 else "right" if x < _SIDE * 0.25 else "middle"
    classes = f"{side} {'down' if down else 'up'}{' over' if over else ''}"
    return f'<b class="{classes}" style="left:{x / 10:.1f}%;top:{y / 10:.1f}%">{escape(words)}</b>'


def _legend(bands: list[str], colours: Palette, dark: bool) -> str:
    """The classes that there are, with how many buses each has; frames and thick cables."""
    fmt = formats()
    count = {name: bands.count(name) for name in BANDS if name in bands}
    entries = "".join(
        f'<span><i class="{"ring" if BANDS[name].ring else ""}" '
        f'style="color:{BANDS[name].dark if dark else BANDS[name].light}"></i>'
        f"{escape(_(BANDS[name].name))} <b>{fmt.number(number)}</b></span>"
        for name, number in count.items()
    )
    return (
        f'<figcaption><span class="unit">{escape(_("Buses by voltage"))}</span>{entries}'
        f'<span><i class="frame"></i>{escape(_("charge point"))}</span>'
        f'<span><i class="cable"></i>{escape(_("cable: the thicker, the fuller"))}</span>'
        "</figcaption>"
    )


STYLE = """<style>
.gc-grid {{ margin: .3rem 0 0 !important; }}
.gc-gridbox {{ position: relative; height: 34rem; border: 1px solid {line}; border-radius: .6rem;
  background: {surface}; }}
.gc-gridbox img {{ position: absolute; inset: 0; width: 100%; height: 100%; }}
.gc-gridbox > b {{ position: absolute; font-size: .82rem; font-weight: 600; line-height: 1.25;
  padding: .08rem .45rem; border-radius: .35rem; color: {ink}; background: {surface};
  border: 1px solid {muted}; white-space: nowrap; z-index: 2; pointer-events: none;
  transform: translate(-50%, calc(-100% - .55rem)); font-variant-numeric: tabular-nums; }}
.gc-gridbox > b.down {{ transform: translate(-50%, .6rem); }}
.gc-gridbox > b.left {{ transform: translate(calc(-100% + .8rem), calc(-100% - .55rem)); }}
.gc-gridbox > b.left.down {{ transform: translate(calc(-100% + .8rem), .6rem); }}
.gc-gridbox > b.right {{ transform: translate(-.8rem, calc(-100% - .55rem)); }}
.gc-gridbox > b.right.down {{ transform: translate(-.8rem, .6rem); }}
.gc-gridbox > b.over {{ color: {red}; border-color: {red}; }}
.gc-grid figcaption {{ display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; margin-top: .5rem;
  font-size: .85rem; color: {ink}; font-variant-numeric: tabular-nums; }}
.gc-grid figcaption .unit {{ color: {muted}; }}
.gc-grid figcaption b {{ font-weight: 650; }}
.gc-grid figcaption i {{ display: inline-block; width: .7rem; height: .7rem; border-radius: 50%;
  margin-right: .4rem; background: currentColor; vertical-align: -.05rem; }}
.gc-grid figcaption i.ring {{ outline: 2px solid currentColor; outline-offset: 2px;
  margin: 0 .7rem 0 .3rem; }}
.gc-grid figcaption i.frame {{ border-radius: 0; background: none; border: 2px solid {ink}; }}
.gc-grid figcaption i.cable {{ border-radius: 0; width: 1.3rem; height: 0; background: none;
  border-top: 4px solid {muted}; vertical-align: .2rem; }}
.gc-halves .gc-chart {{ margin-top: .9rem !important; }}
.gc-told {{ margin-top: .7rem; }}
@media (max-width: 760px) {{
  .gc-gridbox {{ height: 25rem; }}
  .gc-gridbox > b {{ font-size: .74rem; padding: .05rem .3rem; }}
}}
</style>"""


def style(colours: Palette) -> str:
    """The drawing's own styles."""
    return STYLE.format(
        ink=colours.ink,
        muted=colours.muted,
        line=colours.line,
        surface=colours.surface,
        red=colours.red,
    )


def voltage_chart(
    picture: Picture, basis: Basis, side: Side, slot: int, colours: Palette
) -> Drawing:
    """The day's highest voltage without and with the action, and the slot that is looked at."""
    limit = picture.limits.highest * VOLTS
    names = {Side.WITHOUT: _("Without the action"), Side.WITH: _("With the action")}
    tones = {Side.WITHOUT: colours.amber, Side.WITH: colours.blue}
    shown = {
        one: picture.flow(basis, one).volts.max(axis=1) * VOLTS
        for one in Side
        if picture.has(basis, one)
    }
    times = wall_clock(np.arange(picture.first_slot, picture.first_slot + SLOTS_PER_DAY))
    here = np.full(SLOTS_PER_DAY, np.nan)
    here[slot] = shown.get(side, shown[Side.WITHOUT])[slot]
    whole = np.concatenate([*shown.values(), [limit]])
    return Drawing(
        times=times,
        parts=[
            *(
                Line(values, tones[one], name=names[one], dashed=one is Side.WITHOUT)
                for one, values in shown.items()
            ),
            Dots(here, colours.ink, size=11),
        ],
        unit=_("Highest voltage, V"),
        height=210,
        levels=[
            Level(
                limit,
                _("Limit {volts} V").format(volts=formats().number(limit, 1)),
                colours.muted,
            )
        ],
        bounds=(float(whole.min()) - 1, float(whole.max()) + 1.5),
        digits=0,
        tips=tips(times, [(names[one], pd.Series(v), "V", 1) for one, v in shown.items()]),
    )


def battery_chart(picture: Picture, basis: Basis, side: Side, colours: Palette) -> Drawing:
    """The community battery's power over the day."""
    watts = picture.flow(basis, side).battery_w
    slots = np.arange(picture.first_slot, picture.first_slot + SLOTS_PER_DAY)
    return schedule_chart(
        pd.DataFrame({"time": wall_clock(slots), "power_kw": watts / 1_000}), colours
    )
