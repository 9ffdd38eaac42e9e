# SPDX-License-Identifier: Apache-2.0
"""Charts over time, drawn here and sent as a few kilobytes of HTML and SVG.

No script draws them: they stand as soon as the page does, at any width, under any policy. The
curves stretch with their box; words and numbers are text beside them. What a chart says when one
points at it is an attribute, which `assets/tips.js` reads, and not hundreds of elements. What is
drawn for whom is said in `charts.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from html import escape

import numpy as np
import pandas as pd

from dashboard.i18n import Formats, formats

_HOUR = 3_600
# Steps between two marks of the time axis, and how many marks are too many.
_TIME_STEPS = tuple(_HOUR * one for one in (1, 2, 3, 6, 12, 24, 48, 96, 168, 336, 720))
_MOST_TIMES = 9
# Pixels between two marks of the other axis, at least.
_MARK_HEIGHT = 50
# The drawing's own units, whatever size it is shown at.
_SIDE = 1_000
_EPOCH = datetime(1970, 1, 1)


@dataclass(frozen=True)
class Line:
    """A curve: one value for each time, NaN where there is none. step: level until the next."""

    values: Sequence[float] | np.ndarray | pd.Series
    colour: str
    name: str = ""
    width: float = 2.0
    dashed: bool = False
    step: bool = False
    opacity: float = 1.0


@dataclass(frozen=True)
class Area:
    """The space between two curves; `low` is zero where it is left out."""

    high: Sequence[float] | np.ndarray | pd.Series
    colour: str
    low: Sequence[float] | np.ndarray | pd.Series | None = None
    name: str = ""
    step: bool = False
    opacity: float = 0.25


@dataclass(frozen=True)
class Dots:
    """A dot at each value."""

    values: Sequence[float] | np.ndarray | pd.Series
    colour: str
    name: str = ""
    size: float = 5.0
    step: bool = False


@dataclass(frozen=True)
class Bars:
    """A bar from zero to each value, a little narrower than its time is long."""

    values: Sequence[float] | np.ndarray | pd.Series
    colour: str
    name: str = ""
    opacity: float = 0.8


@dataclass(frozen=True)
class Level:
    """A level across the whole chart, with its name above it or, where `below`, under it."""

    value: float
    name: str
    colour: str
    below: bool = False


Part = Line | Area | Bars | Dots


@dataclass(frozen=True)
class Drawing:
    """A chart: what `parts.chart` puts on a page.

    times: wall-clock times without a zone, one for each value, in order. unit: what the numbers
    are. tips: what is said of each time when one points at it, lines parted by a line feed.
    bounds: lowest and highest value shown, by default as the values are. digits: decimals of the
    numbers beside it. Colours are `#rrggbb`, or with `#rrggbbaa` paler.
    """

    times: pd.Series
    parts: Sequence[Part]
    unit: str
    height: int
    levels: Sequence[Level] = ()
    tips: Sequence[str] = ()
    bounds: tuple[float, float] | None = None
    digits: int | None = None
    faint: str = "#80808040"
    strong: str = "#808080"
    _made: dict[str, str] = field(default_factory=dict, compare=False, repr=False)

    def html(self, alt: str) -> str:
        """The chart, with `alt` in place of the picture for whoever cannot see it. Made once."""
        if alt not in self._made:
            self._made[alt] = self._html(alt)
        return self._made[alt]

    def _html(self, alt: str) -> str:
        marks, low, high = self._marks()
        axis = _Axis(self.times, low, high)
        keys = dict.fromkeys((one.name, one.colour) for one in self.parts if one.name)
        legend = "".join(
            f'<span><i style="background:{escape(colour)}"></i>{escape(name)}</span>'
            for name, colour in keys
        )
        digits = self.digits if self.digits is not None else _digits(marks)
        beside = "".join(
            f'<span style="top:{100 - axis.up(mark) / 10:.2f}%">'
            f"{escape(formats().number(mark, digits))}</span>"
            for mark in marks
        )
        below = "".join(
            f'<span class="{"minor" if minor else ""}" style="left:{x / 10:.2f}%">'
            f"{escape(words)}</span>"
            for x, words, minor in _time_marks(axis, formats())
        )
        return (
            '<figure class="gc-chart">'
            f'<figcaption><span class="unit">{escape(self.unit)}</span>{legend}</figcaption>'
            f'<div class="gc-plot" style="height:{self.height}px">'
            f'<div class="gc-beside" aria-hidden="true">{beside}</div>'
            f'<div class="gc-field"{self._tips(axis)}>{self._picture(axis, marks, alt)}'
            f"{self._names(axis)}</div></div>"
            f'<div class="gc-below" aria-hidden="true">{below}</div></figure>'
        )

    def _marks(self) -> tuple[list[float], float, float]:
        """The numbers beside the chart, its lowest and its highest value."""
        if self.bounds is not None:
            low, high = self.bounds
        else:
            found = [np.zeros(1)]
            for one in self.parts:
                found += [_floats(one.high), _floats(one.low)] if isinstance(one, Area) else []
                found += [_floats(one.values)] if not isinstance(one, Area) else []
            found.append(_floats([one.value for one in self.levels]))
            whole = np.concatenate(found)
            whole = whole[np.isfinite(whole)]
            low, high = float(whole.min()), float(whole.max())
        if high <= low:
            high = low + 1
        step = _nice((high - low) / max(2, self.height // _MARK_HEIGHT))
        if self.bounds is None:
            low, high = math.floor(low / step) * step, math.ceil(high / step) * step
        first = math.ceil(low / step - 1e-9)
        return [n * step for n in range(first, math.floor(high / step + 1e-9) + 1)], low, high

    def _picture(self, axis: _Axis, marks: Sequence[float], alt: str) -> str:
        """The curves, as an image: what a page may hold of HTML has no SVG in it."""
        lines = "".join(
            f'<path d="M0 {_SIDE - axis.up(mark):.1f}H{_SIDE}" '
            f'stroke="{self.strong if mark == 0 else self.faint}"/>'
            for mark in marks
        )
        drawn = "".join(_part(axis, one) for one in self.parts)
        levels = "".join(
            f'<path d="M0 {_SIDE - axis.up(one.value):.1f}H{_SIDE}" fill="none" '
            f'stroke="{one.colour}" stroke-width="1.4" stroke-dasharray="4 3"/>'
            for one in self.levels
        )
        svg = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_SIDE} {_SIDE}" '
            'preserveAspectRatio="none"><style>path{vector-effect:non-scaling-stroke}</style>'
            f"{lines}{drawn}{levels}</svg>"
        )
        return f'<img src="data:image/svg+xml,{in_url(svg)}" alt="{escape(alt)}"/>'

    def _names(self, axis: _Axis) -> str:
        return "".join(
            f'<span class="gc-level{" below" if one.below else ""}" aria-hidden="true" '
            f'style="top:{100 - axis.up(one.value) / 10:.2f}%">{escape(one.name)}</span>'
            for one in self.levels
        )

    def _tips(self, axis: _Axis) -> str:
        """What is said of each time when one points at it, as attributes for `assets/tips.js`."""
        if not len(self.tips):
            return ""
        if len(self.tips) != len(axis.x):
            raise ValueError(f"{len(self.tips)} tips for {len(axis.x)} times")
        edges = ""
        if not axis.is_even:
            edges = f' data-edges="{",".join(f"{x / 10:.2f}" for x in axis.x)}"'
        return said_as(self.tips) + edges


def said_as(tips: Sequence[str]) -> str:
    """Tips as an attribute, parted by empty lines; there is none within one."""
    whole = "\n\n".join(tips)
    return f' data-tips="{escape(whole)}"'


class _Axis:
    """Where times and values lie in the drawing. x: left edges; width: of one time's strip;
    is_even: all are equally long, and they fill it without a gap."""

    def __init__(self, times: pd.Series, low: float, high: float) -> None:
        seconds = times.to_numpy().astype("datetime64[s]").astype(np.int64)
        gaps = np.diff(seconds)
        gaps = gaps[gaps > 0]
        step = int(np.median(gaps)) if len(gaps) else _HOUR
        self.first = int(seconds[0])
        self.last = int(seconds[-1]) + step
        scale = _SIDE / (self.last - self.first)
        self.x = (seconds - self.first) * scale
        self.width = step * scale
        self.is_even = bool((gaps == step).all()) and len(gaps) == len(seconds) - 1
        self._low, self._high = low, high

    def at(self, second: int) -> float:
        """Where a time lies."""
        return (second - self.first) / (self.last - self.first) * _SIDE

    def up(self, value: float) -> float:
        """How far above the lower edge a value lies."""
        return (value - self._low) / (self._high - self._low) * _SIDE

    def y(self, values: np.ndarray) -> np.ndarray:
        """Where values lie, counted from above."""
        part = (np.asarray(values) - self._low) / (self._high - self._low)
        return _SIDE - np.clip(part, -0.02, 1.02) * _SIDE


def _part(axis: _Axis, one: Part) -> str:
    if isinstance(one, Area):
        high = _floats(one.high)
        low = _floats(one.low) if one.low is not None else np.where(np.isnan(high), np.nan, 0.0)
        path = "".join(
            _edge(axis, piece, high, one.step)
            + _edge(axis, piece, low, one.step, back=True).replace("M", "L", 1)
            + "Z"
            for piece in _pieces(np.isfinite(high) & np.isfinite(low))
        )
        return f'<path d="{path}" fill="{one.colour}" fill-opacity="{one.opacity:g}"/>'
    values = _floats(one.values)
    there = np.isfinite(values)
    if isinstance(one, Bars):
        left, gap = axis.x + axis.width * 0.08, axis.width * 0.84
        zero = axis.y(np.zeros(1))[0]
        path = "".join(
            f"M{x:.1f} {zero:.1f}V{y:.1f}h{gap:.1f}V{zero:.1f}Z"
            for x, y in zip(left[there], axis.y(values[there]), strict=True)
        )
        return f'<path d="{path}" fill="{one.colour}" fill-opacity="{one.opacity:g}"/>'
    if isinstance(one, Dots):
        middle = axis.x + axis.width / 2
        path = "".join(
            f"M{x:.1f} {y:.1f}h0" for x, y in zip(middle[there], axis.y(values[there]), strict=True)
        )
        # A line of no length with round ends is a dot, and stays round in a stretched drawing.
        more = f'stroke-width="{one.size:g}" stroke-linecap="round"'
    else:
        path = "".join(_edge(axis, piece, values, one.step) for piece in _pieces(there))
        more = f'stroke-width="{one.width:g}" stroke-opacity="{one.opacity:g}"'
        more += ' stroke-dasharray="5 3"' if one.dashed else ""
    return f'<path d="{path}" fill="none" stroke="{one.colour}" {more}/>'


def _edge(axis: _Axis, piece: slice, values: np.ndarray, step: bool, back: bool = False) -> str:
    """The path along some values, from the right to the left where `back`."""
    x, y = axis.x[piece], axis.y(values[piece])
    if step:
        x = np.repeat(np.append(x, x[-1] + axis.width), 2)[1:-1]
        y = np.repeat(y, 2)
    else:
        x = x + axis.width / 2
    points = [f"{a:.1f} {b:.1f}" for a, b in zip(x, y, strict=True)]
    return "M" + "L".join(points[::-1] if back else points)


def _pieces(there: np.ndarray) -> list[slice]:
    """The runs of values that are there."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], there, [False]]).astype(np.int8)))
    return [slice(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def _floats(values: Sequence[float] | np.ndarray | pd.Series | None) -> np.ndarray:
    if values is None:
        return np.zeros(0)
    return pd.Series(values).astype("Float64").to_numpy(dtype=float, na_value=np.nan)


def in_url(svg: str) -> str:
    """A drawing as part of a data URL, itself inside double quotes."""
    for sign, code in (("%", "%25"), ("#", "%23"), ("<", "%3C"), (">", "%3E"), ("&", "%26")):
        svg = svg.replace(sign, code)
    return svg.replace('"', "'")


def _nice(step: float) -> float:
    """The next of 1, 2, 2.5, 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(power * one for one in (1, 2, 2.5, 5, 10) if power * one >= step * 0.999)


def _digits(marks: Sequence[float]) -> int:
    """Decimals that tell the marks apart."""
    for digits in range(4):
        if all(abs(round(mark, digits) - mark) < 1e-9 for mark in marks):
            return digits
    return 4


def _time_marks(axis: _Axis, fmt: Formats) -> list[tuple[float, str, bool]]:
    """Place and words of the marks below: days by name, hours by the clock. Every other one is
    minor, left out where there is little room; the days stay."""
    span = axis.last - axis.first
    step = next((one for one in _TIME_STEPS if span / one <= _MOST_TIMES), _TIME_STEPS[-1])
    start = _EPOCH + timedelta(seconds=axis.first)
    midnight = start.replace(hour=0, minute=0, second=0)
    moment = midnight + timedelta(
        seconds=math.ceil((start - midnight).total_seconds() / step) * step
    )
    found: list[tuple[float, datetime]] = []
    while (x := axis.at(int((moment - _EPOCH).total_seconds()))) <= _SIDE - 10:
        found.append((x, moment))
        moment += timedelta(seconds=step)
    days = [place for place, (_, at) in enumerate(found) if at.hour == 0 and at.minute == 0]
    even = days[0] % 2 if days else 0
    return [(x, fmt.clock(at), place % 2 != even) for place, (x, at) in enumerate(found)]
