# SPDX-License-Identifier: Apache-2.0
"""Charts as SVG, in the house's colours, told apart by lightness so that they read in grey too.

Functions of plain lists: what they mean is in the chapters. Every number is written with two
decimals, so the same input gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import floor, log10
from xml.sax.saxutils import escape

# The page's own colours (dashboard/theme.py, light); imports point the other way.
INK, MUTED, LINE = "#1b2420", "#5a6861", "#dde2da"
GREEN, AMBER, BLUE, RED = "#1a7a57", "#b56f00", "#3d62b3", "#b3372b"

WIDTH = 480.0
FONT = "Libertinus Serif"
SIZE = 8.5
_LETTER = 0.47 * SIZE
"""Mean width of a letter."""

STROKES = {
    "line": (1.4, ""),
    "thick": (2.4, ""),
    "thin": (0.9, ""),
    "dash": (1.4, "4 2.5"),
    "dots": (1.4, "1 2.5"),
}
"""Width and dashes of a line by style."""

Values = Sequence[float | None]
Format = Callable[[float, float], str]
"""A number of an axis, given the step between such numbers."""


def tint(colour: str, share: float) -> str:
    """A colour thinned with white; share 1 is the colour itself."""
    parts = [int(colour[at : at + 2], 16) for at in (1, 3, 5)]
    return "#" + "".join(f"{round(255 - (255 - part) * share):02x}" for part in parts)


DARK, MIDDLE, PALE = GREEN, tint(AMBER, 0.72), tint(BLUE, 0.3)
"""Three fills whose lightness differs as much as their colour."""


@dataclass(frozen=True)
class Series:
    """One row of values by bin; None where nothing is known."""

    name: str
    values: Values
    colour: str


@dataclass
class Drawing:
    """Elements of one picture."""

    height: float
    parts: list[str] = field(default_factory=list)

    def rect(self, x: float, y: float, w: float, h: float, fill: str, stroke: str = "none") -> None:
        """A box; nothing where it has no area."""
        if w > 0 and h > 0:
            self.parts.append(
                f'<rect x="{x:.2f}" y="{y:.2f}" width="{w:.2f}" height="{h:.2f}" fill="{fill}" '
                f'stroke="{stroke}" stroke-width="0.5"/>'
            )

    def line(
        self,
        x1: float,
        y1: float,
        x2: float,
        y2: float,
        colour: str,
        width: float = 0.6,
        dash: str = "",
    ) -> None:
        """A straight line."""
        dashes = f' stroke-dasharray="{dash}"' if dash else ""
        self.parts.append(
            f'<line x1="{x1:.2f}" y1="{y1:.2f}" x2="{x2:.2f}" y2="{y2:.2f}" stroke="{colour}" '
            f'stroke-width="{width:.2f}"{dashes}/>'
        )

    def path(
        self,
        points: Sequence[tuple[float, float]],
        *,
        stroke: str = "none",
        fill: str = "none",
        width: float = 1.4,
        dash: str = "",
    ) -> None:
        """A line through points, closed where it is filled."""
        if len(points) < 2:
            return
        steps = "L".join(f"{x:.2f} {y:.2f}" for x, y in points)
        end = "Z" if fill != "none" else ""
        dashes = f' stroke-dasharray="{dash}"' if dash else ""
        self.parts.append(
            f'<path d="M{steps}{end}" fill="{fill}" stroke="{stroke}" stroke-width="{width:.2f}" '
            f'stroke-linejoin="round" stroke-linecap="round"{dashes}/>'
        )

    def dot(self, x: float, y: float, r: float, fill: str, stroke: str = "none") -> None:
        """A round mark."""
        self.parts.append(
            f'<circle cx="{x:.2f}" cy="{y:.2f}" r="{r:.2f}" fill="{fill}" stroke="{stroke}" '
            f'stroke-width="1.2"/>'
        )

    def text(
        self, x: float, y: float, text: str, anchor: str = "start", colour: str = MUTED
    ) -> None:
        """A word at a place; its foot stands at y."""
        self.parts.append(
            f'<text x="{x:.2f}" y="{y:.2f}" text-anchor="{anchor}" fill="{colour}" '
            f'font-size="{SIZE}">{escape(text)}</text>'
        )

    def note(self, x: float, y: float, text: str) -> None:
        """A word over lines, on white."""
        self.rect(x - 2, y - SIZE + 1, len(text) * _LETTER + 5, SIZE + 1.5, "#ffffff")
        self.text(x, y, text, colour=INK)

    def svg(self) -> str:
        """The whole picture."""
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH:.0f}" '
            f'height="{self.height:.0f}" viewBox="0 0 {WIDTH:.0f} {self.height:.0f}" '
            f'font-family="{FONT}">{"".join(self.parts)}</svg>'
        )


def ticks(low: float, high: float, wanted: int = 4) -> list[float]:
    """Round numbers that span low to high."""
    if high <= low:
        high = low + 1
    rough = (high - low) / wanted
    power = 10.0 ** floor(log10(rough))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= rough * 0.999)
    first, last = floor(low / step + 1e-9), -floor(-high / step + 1e-9)
    return [n * step for n in range(first, last + 1)]


@dataclass
class _Axes:
    """A plot area with a scale for its bins and one for its values."""

    drawing: Drawing
    left: float
    top: float
    bottom: float
    bins: int
    low: float
    high: float

    def x(self, at: float) -> float:
        """Where a bin begins."""
        return self.left + (WIDTH - self.left - 6) * at / self.bins

    def mid(self, at: int) -> float:
        """The middle of a bin."""
        return self.x(at + 0.5)

    def y(self, value: float) -> float:
        """The height of a value."""
        return self.bottom - (self.bottom - self.top) * (value - self.low) / (self.high - self.low)


def _axes(
    height: float,
    labels: Sequence[str],
    low: float,
    high: float,
    unit: str,
    shown: Format,
    *,
    legend: bool = True,
) -> _Axes:
    """The frame of a chart: grid lines with their values, the unit, the bins' labels."""
    marks = ticks(low, high)
    step = marks[1] - marks[0]
    # What hangs a little below zero needs no whole step of room.
    foot = max(marks[0], low - step / 8)
    marks = [mark for mark in marks if mark >= foot]
    texts = [shown(mark, step) for mark in marks]
    drawing = Drawing(height)
    left = max(len(text) for text in texts) * _LETTER + 9
    axes = _Axes(drawing, left, 32.0 if legend else 18.0, height - 16, len(labels), foot, marks[-1])
    drawing.text(0, SIZE, unit)
    for mark, text in zip(marks, texts, strict=True):
        at = axes.y(mark)
        drawing.line(left, at, WIDTH - 6, at, MUTED if mark == 0 else LINE, 0.6)
        drawing.text(left - 5, at + 3, text, "end")
    _bin_labels(axes, labels)
    return axes


def _bin_labels(axes: _Axes, labels: Sequence[str]) -> None:
    """Under the bins, as many as have room; an empty label takes none."""
    named = [at for at, label in enumerate(labels) if label]
    widest = max((len(label) for label in labels), default=1) * _LETTER + 8
    every = max(1, -floor(-widest * len(named) / (WIDTH - axes.left - 6)))
    for at in named[::every]:
        axes.drawing.text(axes.mid(at), axes.drawing.height - 4, labels[at], "middle")


def _legend(drawing: Drawing, entries: Sequence[tuple[str, str, str]], left: float) -> None:
    """Entries: name, colour, and `box`, `dot`, `ring` or one of STROKES."""
    x = left
    for name, colour, kind in entries:
        if kind == "box":
            drawing.rect(x, 15.5, 9, 7, colour, tint(INK, 0.35))
        elif kind in ("dot", "ring"):
            drawing.dot(x + 4.5, 19, 2.8, colour if kind == "dot" else "#ffffff", colour)
        else:
            width, dash = STROKES[kind]
            drawing.line(x, 19, x + 11, 19, colour, width, dash)
        drawing.text(x + 14, 22, name, colour=INK)
        x += 14 + len(name) * _LETTER + 14


def stacked(
    labels: Sequence[str],
    up: Sequence[Series],
    unit: str,
    shown: Format,
    down: Sequence[Series] = (),
    hidden: Sequence[bool] = (),
    hidden_name: str = "",
    height: float = 165.0,
) -> str:
    """Bars upon each other by bin, and others hanging below zero. hidden: bins kept back."""
    highs = [sum(s.values[at] or 0 for s in up) for at in range(len(labels))]
    lows = [-sum(s.values[at] or 0 for s in down) for at in range(len(labels))]
    axes = _axes(height, labels, min(0, *lows, 0), max(0, *highs, 0), unit, shown)
    drawing = axes.drawing
    gap = 0.12 if len(labels) <= 120 else 0.0
    for at in range(len(labels)):
        x, w = axes.x(at + gap / 2), (axes.x(1) - axes.x(0)) * (1 - gap)
        if hidden and hidden[at]:
            drawing.rect(x, axes.top, w, axes.bottom - axes.top, "#f1f2f0", "none")
            drawing.line(x, axes.bottom, x + w, axes.top, LINE, 0.6)
            continue
        for sign, group in ((1, up), (-1, down)):
            base = 0.0
            for series in group:
                value = series.values[at] or 0
                top = base + sign * value
                upper, lower = max(base, top), min(base, top)
                drawing.rect(
                    x,
                    axes.y(upper),
                    w,
                    axes.y(lower) - axes.y(upper),
                    series.colour,
                    tint(INK, 0.35) if len(labels) <= 62 else "none",
                )
                base = top
    drawing.line(axes.left, axes.y(0), WIDTH - 6, axes.y(0), MUTED, 0.8)
    entries = [(s.name, s.colour, "box") for s in (*up, *down)]
    if any(hidden):
        entries.append((hidden_name, "#f1f2f0", "box"))
    _legend(drawing, entries, 0)
    return drawing.svg()


@dataclass(frozen=True)
class Line:
    """A line of a line chart; style: one of STROKES, dot or ring."""

    name: str
    values: Values
    colour: str
    style: str = "line"


def lines(
    labels: Sequence[str],
    rows: Sequence[Line],
    unit: str,
    shown: Format,
    band: tuple[str, Values, Values] | None = None,
    from_zero: bool = True,
    height: float = 165.0,
) -> str:
    """Lines over bins, with a band behind them."""
    known = [v for row in rows for v in row.values if v is not None]
    if band:
        known += [v for side in band[1:] for v in side if v is not None]
    low, high = min(known, default=0.0), max(known, default=1.0)
    axes = _axes(height, labels, min(low, 0) if from_zero else low, high, unit, shown)
    drawing = axes.drawing
    entries: list[tuple[str, str, str]] = []
    if band:
        name, lows, highs = band
        for run in _runs(
            [None if a is None or b is None else 1 for a, b in zip(lows, highs, strict=True)]
        ):
            edge = [(axes.mid(at), axes.y(highs[at] or 0)) for at in run]
            edge += [(axes.mid(at), axes.y(lows[at] or 0)) for at in reversed(run)]
            drawing.path(edge, fill=tint(BLUE, 0.2))
        entries.append((name, tint(BLUE, 0.2), "box"))
    for row in rows:
        for run in _runs(row.values):
            points = [(axes.mid(at), axes.y(row.values[at] or 0)) for at in run]
            if row.style == "dot" or len(points) == 1:
                for x, y in points:
                    drawing.dot(x, y, 2.2, row.colour)
            else:
                width, dash = STROKES[row.style]
                drawing.path(points, stroke=row.colour, width=width, dash=dash)
        entries.append((row.name, row.colour, row.style))
    _legend(drawing, entries, 0)
    return drawing.svg()


def _runs(values: Values) -> list[list[int]]:
    """Neighbouring places with a value."""
    found: list[list[int]] = [[]]
    for at, value in enumerate(values):
        if value is None:
            found.append([])
        else:
            found[-1].append(at)
    return [run for run in found if run]


def ranges(
    labels: Sequence[str],
    spans: Sequence[tuple[float, float, float] | None],
    marks: Sequence[Line],
    unit: str,
    shown: Format,
    names: tuple[str, str],
    height: float = 175.0,
) -> str:
    """By bin a span with its middle, and marks beside it: what was expected, and what came."""
    known = [v for span in spans if span for v in span]
    known += [v for row in marks for v in row.values if v is not None]
    axes = _axes(height, labels, min(0, *known, 0), max(0, *known, 0), unit, shown)
    drawing = axes.drawing
    w = min(14.0, (axes.x(1) - axes.x(0)) * 0.62)
    for at, span in enumerate(spans):
        if span is None:
            continue
        low, middle, high = span
        x = axes.mid(at) - w / 2
        drawing.rect(x, axes.y(high), w, max(0.6, axes.y(low) - axes.y(high)), tint(BLUE, 0.22))
        drawing.line(x, axes.y(middle), x + w, axes.y(middle), BLUE, 1.4)
    drawing.line(axes.left, axes.y(0), WIDTH - 6, axes.y(0), MUTED, 0.8)
    for row in marks:
        for at, value in enumerate(row.values):
            if value is not None:
                fill = row.colour if row.style == "dot" else "#ffffff"
                drawing.dot(axes.mid(at), axes.y(value), min(2.8, w / 3 + 0.6), fill, row.colour)
    entries = [(names[0], tint(BLUE, 0.22), "box"), (names[1], BLUE, "line")]
    _legend(drawing, [*entries, *((m.name, m.colour, m.style) for m in marks)], 0)
    return drawing.svg()


def heat(
    labels: Sequence[str],
    cells: Sequence[Values],
    shown: Format,
    title: str,
    hours: str,
    unknown: str,
) -> str:
    """By column (a day, a week) the 24 hours from midnight at the top; values 0 to 1."""
    step = 6.2
    drawing = Drawing(24 * step + 52)
    axes = _Axes(drawing, 34.0, 30.0, 30.0 + 24 * step, len(labels), 0, 1)
    drawing.text(0, SIZE, hours)
    w = axes.x(1) - axes.x(0)
    for at, column in enumerate(cells):
        for hour, value in enumerate(column):
            fill = (
                "#f1f2f0" if value is None else tint(GREEN, 0.04 + 0.96 * max(0.0, min(1.0, value)))
            )
            drawing.rect(axes.x(at), axes.top + hour * step, w + 0.1, step + 0.1, fill)
    for hour in (0, 6, 12, 18, 24):
        y = axes.top + hour * step
        drawing.line(30, y, 34, y, MUTED)
        drawing.text(27, y + 3, f"{hour:02d}", "end")
    drawing.rect(axes.left, axes.top, WIDTH - 6 - axes.left, 24 * step, "none", MUTED)
    _bin_labels(axes, labels)
    x = WIDTH - 6 - 150
    drawing.text(x - 28, 22, title, "end")
    for at in range(11):
        drawing.rect(x + at * 11, 14, 11.1, 8, tint(GREEN, 0.04 + 0.96 * at / 10))
    drawing.text(x - 4, 22, shown(0.0, 1.0), "end")
    drawing.text(x + 125, 22, shown(1.0, 1.0))
    if any(value is None for column in cells for value in column):
        drawing.rect(axes.left, 14, 9, 8, "#f1f2f0", MUTED)
        drawing.text(axes.left + 13, 22, unknown)
    return drawing.svg()


def across(
    rows: Sequence[tuple[str, Sequence[float]]],
    names: Sequence[str],
    colours: Sequence[str],
    unit: str,
    shown: Format,
    texts: Sequence[str],
    marks: Values = (),
    mark_name: str = "",
    left: float = 150.0,
) -> str:
    """Lying bars, stacked from zero, with a text at their end and a mark where one is given."""
    step = 19.0
    legend = bool(names)
    top = 30.0 if legend else 14.0
    drawing = Drawing(top + step * len(rows) + 20)
    sums = [sum(v for v in values if v > 0) for _, values in rows]
    lows = [sum(v for v in values if v < 0) for _, values in rows]
    scale = ticks(min(0, *lows, 0), max(0, *sums, *[m or 0 for m in marks], 0), 4)
    room = max((len(text) for text in texts), default=0) * _LETTER + 8
    right = WIDTH - room

    def x(value: float) -> float:
        return left + (right - left) * (value - scale[0]) / (scale[-1] - scale[0])

    drawing.text(0, SIZE, unit)
    foot = top + step * len(rows)
    for mark in scale:
        drawing.line(x(mark), top - 2, x(mark), foot, MUTED if mark == 0 else LINE)
        drawing.text(x(mark), foot + 12, shown(mark, scale[1] - scale[0]), "middle")
    for at, (name, values) in enumerate(rows):
        y = top + step * at + 3
        drawing.text(left - 6, y + 9.5, name, "end", INK)
        over, under = 0.0, 0.0
        for value, colour in zip(values, colours, strict=True):
            base = over if value >= 0 else under
            drawing.rect(
                x(min(base, base + value)),
                y,
                abs(x(base + value) - x(base)),
                step - 6,
                colour,
                tint(INK, 0.35),
            )
            if value >= 0:
                over += value
            else:
                under += value
        if marks and (wanted := marks[at]) is not None:
            drawing.line(x(wanted), y - 2.5, x(wanted), y + step - 3.5, INK, 1.6)
        end = max(x(over), x(marks[at] or 0) if marks else 0)
        drawing.note(end + 5, y + 9.5, texts[at])
    entries = [(name, colour, "box") for name, colour in zip(names, colours, strict=False)]
    if marks and mark_name:
        entries.append((mark_name, INK, "line"))
    if legend:
        _legend(drawing, entries, 0)
    return drawing.svg()
