# SPDX-License-Identifier: Apache-2.0
"""CSV tables of intervals or registers, understood by their header.

A column says by its name what it holds: a time, a direction, a unit. Nothing is guessed from the
values but the delimiter, the decimal sign and, where there is no end, the length of an interval.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal
from itertools import pairwise

from dao.errors import BadUse
from meters.adapters.engine import TOTAL, Adapter, Conventions, Direction, Point, Source
from meters.adapters.fields import (
    from_unix,
    iso_time,
    localise,
    number,
    seconds_between,
    shown,
    text_of,
    watt_hours,
)
from meters.readings import Quality

_UNIT = re.compile(r"[\s_]*[(\[]?\b(gwh|mwh|kwh|wh|kw|mw|w)\b[)\]]?\s*$")
# Words of a header by what the column holds, after its unit is taken off.
_METER = {"meter", "meter id", "meterid", "metering point", "mpan", "ean", "cups", "device", "id"}
_START = {"start", "from", "begin", "start time", "interval start", "period start", "von", "desde"}
_END = {"end", "to", "until", "end time", "interval end", "period end", "bis", "hasta"}
_TIME = {"timestamp", "time", "datetime", "date time", "date and time", "zeitstempel", "datum zeit"}
_DATE, _CLOCK = {"date", "datum", "fecha", "day"}, {"time", "hour", "uhrzeit", "zeit", "hora"}
_QUALITY_COLUMN = {"quality", "status", "reading quality", "validation", "qualität", "state"}
_IMPORT = re.compile(r"import|consum|usage|offtake|afname|bezug|verbrauch|soutirage|withdraw")
_EXPORT = re.compile(
    r"export|feed ?in|inject|injectie|einspeis|surplus|generat|produc|return|teruglever"
)
_REGISTER = re.compile(
    r"register|reading|index|cumulative|counter|zählerstand|zaehlerstand|stand\b"
)
_PLAIN = re.compile(r"value|energy|power|active|wert|energie|")
_NO_VALUE = {"", "null", "none", "nan", "na", "n/a", "-", "--"}
_LONG_STEP_S = 400 * 86400

_QUALITY = {
    **dict.fromkeys(
        ("measured", "actual", "real", "read", "a", "ok", "valid", "validated", "good", "m"),
        Quality.MEASURED,
    ),
    **dict.fromkeys(("estimated", "estimate", "estimada", "e", "est"), Quality.ESTIMATED),
    **dict.fromkeys(("substituted", "substitute", "adjusted", "edited", "s"), Quality.SUBSTITUTED),
    **dict.fromkeys(("missing", "gap", "no data"), Quality.MISSING),
    **dict.fromkeys(("invalid", "error", "bad", "rejected", "questionable"), Quality.INVALID),
}


@dataclass(frozen=True)
class _Column:
    """An energy column: its place, name, direction, unit, whether it is cumulative."""

    place: int
    name: str
    direction: Direction
    unit: str
    register: bool
    comma: bool


@dataclass(frozen=True)
class _Layout:
    """Which column holds what."""

    energy: tuple[_Column, ...]
    meter: int | None
    start: int | None
    end: int | None
    clock: int | None
    quality: int | None


def read(data: bytes, source: Source) -> Iterator[Point]:
    header, rows, delimiter = _table(text_of(data))
    layout = _layout(header, rows, delimiter, source)
    by_meter: dict[str | None, list[list[str]]] = {}
    for row in rows:
        meter = row[layout.meter].strip() or None if layout.meter is not None else None
        by_meter.setdefault(meter, []).append(row)
    for meter, own in by_meter.items():
        yield from _series(meter, own, layout, source)


def _table(text: str) -> tuple[list[str], list[list[str]], str]:
    """Header, rows of its length, and the delimiter, the one that the header has most of."""
    # Spreadsheets may name the delimiter in a line of its own.
    text = re.sub(r"\A\s*\"?sep=(.)\"?\s*?\n", "", text, flags=re.IGNORECASE)
    first = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = max(",;\t|", key=first.count)
    try:
        lines = [row for row in csv.reader(io.StringIO(text), delimiter=delimiter) if any(row)]
    except csv.Error as error:
        raise BadUse(f"not CSV: {error}") from None
    header, rows = lines[0], lines[1:]
    if not rows:
        raise BadUse("the table has a header and no row")
    for place, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise BadUse(f"row {place} has {len(row)} fields, the header has {len(header)}")
    return header, rows, delimiter


def _layout(
    header: Sequence[str], rows: Sequence[Sequence[str]], delimiter: str, source: Source
) -> _Layout:
    places: dict[str, int] = {}
    energy: list[_Column] = []
    names = [" ".join(re.sub(r"[_\-./]+", " ", name.lower()).split()) for name in header]
    with_date = any(name in _DATE for name in names)
    for place, name in enumerate(names):
        unit = _UNIT.search(name)
        bare = name[: unit.start()].strip() if unit else name
        kind = (
            "meter" if name in _METER
            else "start" if name in _START
            else "end" if name in _END
            else "quality" if name in _QUALITY_COLUMN
            else "date" if name in _DATE
            else "clock" if with_date and name in _CLOCK
            else "time" if name in _TIME
            else None
        )  # fmt: skip
        if kind is not None and kind not in places:
            places[kind] = place
            continue
        exported, imported = _EXPORT.search(bare), _IMPORT.search(bare)
        register = _REGISTER.search(bare) is not None
        plain = _PLAIN.fullmatch(_REGISTER.sub("", bare).strip()) is not None
        if kind is None and (unit or exported or imported):
            if (exported and imported) or not (exported or imported or plain):
                source.note(f"column {header[place]!r} says no direction and is not used")
                continue
            if unit is None:
                better = f"{bare.replace(' ', '_')}_kwh"
                raise BadUse(f"column {header[place]!r} has no unit: name it like {better}")
            side = "export" if exported else "import" if imported else source.unsaid_direction
            comma = _decimal_comma([row[place] for row in rows], delimiter, header[place])
            energy.append(_Column(place, header[place], side, unit[1], register, comma))
        else:
            source.note(f"column {header[place]!r} is not used")
    if not energy:
        raise BadUse(
            "no column of energy: expected names like import_kwh, export_wh, import_register_kwh"
        )
    start = places.get("start", places.get("time", places.get("date")))
    if start is None and "end" not in places:
        raise BadUse("no column of time: expected timestamp, start, end, or date and time")
    return _Layout(
        energy=tuple(energy),
        meter=places.get("meter"),
        start=start,
        end=places.get("end"),
        clock=places.get("clock"),
        quality=places.get("quality"),
    )


def _decimal_comma(cells: Sequence[str], delimiter: str, name: str) -> bool:
    """Whether a column writes 1.234,5 instead of 1,234.5."""
    marked = [cell.strip() for cell in cells if "," in cell]
    if not marked:
        return False
    if any(cell.rfind(".") > cell.rfind(",") for cell in marked):
        return False
    if delimiter == "," and all("." not in cell for cell in marked):
        raise BadUse(f"column {name!r}: {shown(marked[0])} may be a decimal or a thousands comma")
    return True


def _number(cell: str, column: _Column) -> Decimal | None:
    text = cell.strip()
    if text.lower() in _NO_VALUE:
        return None
    if column.comma:
        if "." in text and not re.fullmatch(r"-?\d{1,3}(\.\d{3})+(,\d+)?", text):
            raise BadUse(f"{column.name} is {shown(text)}, expected a decimal comma as elsewhere")
        text = text.replace(".", "").replace(",", ".")
    elif "," in text:
        if not re.fullmatch(r"-?\d{1,3}(,\d{3})+(\.\d+)?", text):
            raise BadUse(f"{column.name} is {shown(text)}, expected a decimal point")
        text = text.replace(",", "")
    return number(text, column.name)


def _series(
    meter: str | None, rows: list[list[str]], layout: _Layout, source: Source
) -> Iterator[Point]:
    """The points of one meter."""
    starts = _stamps(rows, layout.start, layout.clock)
    ends = _stamps(rows, layout.end, None) if layout.end is not None else None
    intervals = [column for column in layout.energy if not column.register]
    registers = [column for column in layout.energy if column.register]
    marks = ends if ends is not None else starts
    assert marks is not None  # the layout has one of them
    instants = _instants(marks, source) if registers else []
    spans = _spans(starts, ends, source) if intervals else []
    for i, row in enumerate(rows):
        word = row[layout.quality].strip() or None if layout.quality is not None else None
        quality = source.quality(_QUALITY, word.lower() if word else None)
        for column in layout.energy:
            value = _number(row[column.place], column)
            start, end = (None, instants[i]) if column.register else spans[i]
            seconds = None if start is None else seconds_between(start, end, "an interval")
            wh = watt_hours(value, column.unit, column.name, seconds)
            yield Point(
                meter,
                end,
                column.direction,
                wh,
                start=start,
                quality=quality,
                source_quality=word,
                # Two columns of one direction and kind are two tariffs.
                part=column.name if _shared(column, layout) else TOTAL,
            )


def _shared(column: _Column, layout: _Layout) -> bool:
    alike = (column.direction, column.register)
    return sum((one.direction, one.register) == alike for one in layout.energy) > 1


def _stamps(rows: list[list[str]], place: int | None, clock: int | None) -> list[datetime] | None:
    if place is None:
        return None
    if clock is None:
        return [_stamp(row[place].strip()) for row in rows]
    return [_stamp(f"{row[place].strip()} {row[clock].strip()}") for row in rows]


_GERMAN = re.compile(r"(\d{1,2})\.(\d{1,2})\.(\d{4})[ T,]*(?:(\d{1,2}):(\d{2})(?::(\d{2}))?)?")


def _stamp(text: str) -> datetime:
    """ISO 8601 with or without offset, unix seconds, or 31.12.2024 23:45."""
    if re.fullmatch(r"\d{9,10}(\.\d+)?", text):
        return from_unix(text, "time")
    match = _GERMAN.fullmatch(text)
    if match:
        day, month, year, hour, minute, second = (int(part or 0) for part in match.groups())
        try:
            midnight = datetime(year, month, day)
            if hour > 24 or minute > 59 or second > 59:
                raise ValueError
            return midnight + timedelta(hours=hour, minutes=minute, seconds=second)
        except (ValueError, OverflowError):
            raise BadUse(f"time is {shown(text)}, which is on no calendar") from None
    return iso_time(re.sub(r"\s+", " ", text).replace("/", "-"), "time")


def _zone(source: Source) -> tzinfo:
    if source.options.timezone is not None:
        return source.options.timezone
    source.note("times without an offset are taken as UTC: name another zone with --timezone")
    return UTC


def _instants(stamps: Sequence[datetime], source: Source) -> list[datetime]:
    return [start for start, _ in _placed(stamps, [0] * len(stamps), False, source)]


def _placed(
    stamps: Sequence[datetime], seconds: Sequence[int], ends: bool, source: Source
) -> list[tuple[datetime, datetime]]:
    aware = {stamp.tzinfo is not None for stamp in stamps}
    if len(aware) > 1:
        raise BadUse("some times have an offset and some have none: give one or the other")
    if not aware.pop():
        return localise(stamps, seconds, _zone(source), ends)
    lengths = [timedelta(seconds=length) for length in seconds]
    pairs = zip(stamps, lengths, strict=True)
    return [(stamp - length, stamp) if ends else (stamp, stamp + length) for stamp, length in pairs]


def _spans(
    starts: Sequence[datetime] | None, ends: Sequence[datetime] | None, source: Source
) -> list[tuple[datetime, datetime]]:
    """Intervals from both marks, or from one and the step between the rows."""
    if starts is not None and ends is not None:
        begin, finish = _instants(starts, source), _instants(ends, source)
        return list(zip(begin, finish, strict=True))
    marks = starts if starts is not None else ends
    assert marks is not None
    step = _step(marks)
    return _placed(marks, [step] * len(marks), starts is None, source)


def _step(marks: Sequence[datetime]) -> int:
    """Seconds between rows: the most frequent step, of which all others are multiples."""
    if len({mark.tzinfo is None for mark in marks}) > 1:
        raise BadUse("some times have an offset and some have none: give one or the other")
    ordered = sorted(set(marks))
    steps = Counter(int((b - a).total_seconds()) for a, b in pairwise(ordered))
    if not steps:
        raise BadUse("one time and no end: add a column end, so that the interval has a length")
    step = max(steps, key=lambda one: (steps[one], -one))
    if step <= 0 or step > _LONG_STEP_S:
        raise BadUse(f"the step between rows is {step} s, expected 1 s to 400 days")
    odd = sorted(one for one in steps if one % step)
    if odd:
        raise BadUse(
            f"rows are {step} s apart, and {odd[0]} s elsewhere: add a column end, so that each "
            "interval has its own length"
        )
    return step


CSV = Adapter(
    name="csv",
    title="CSV tables with a header (import_kwh, export_wh, import_register_kwh, ...)",
    conventions=Conventions(
        sign="by the column's name: import, consumption; export, feed-in, injection, generation",
        interval="start and end; timestamp alone is the start, end alone the end",
        time="offset, unix seconds, or local time of --timezone (UTC without it)",
        units="in the column's name: Wh, kWh, MWh, or W, kW as a mean; none is refused",
        register="columns named register, reading, index, counter or cumulative",
    ),
    read=read,
)
