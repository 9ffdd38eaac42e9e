# SPDX-License-Identifier: Apache-2.0
"""Numbers, units, times, OBIS codes, JSON and XML out of bytes that nobody vouches for.

Every function here raises BadUse with what was found and what would be accepted, and nothing else.
What a value means is each adapter's business.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from dao.errors import BadUse
from dao.json_input import is_too_deep
from meters.adapters.engine import TOTAL, Direction

if TYPE_CHECKING:
    from lxml.etree import _Element

# Far beyond any meter, and small enough that no arithmetic on it takes long.
_MAX_DIGITS = 30
_LATEST = datetime(2200, 1, 1, tzinfo=UTC)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_ENERGY_WH = {"wh": 1, "whr": 1, "kwh": 1000, "mwh": 10**6, "gwh": 10**9}
_POWER_W = {"w": 1, "wtt": 1, "kw": 1000, "kwt": 1000, "mw": 10**6, "maw": 10**6}


def shown(value: object) -> str:
    """A value in a message: its text, short and on one line."""
    text = " ".join(str(value).split())
    return repr(text if len(text) <= 40 else text[:37] + "...")


def number(value: object, what: str) -> Decimal | None:
    """An exact number out of a JSON value or a text; None for null or nothing."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    if isinstance(value, bool) or not isinstance(value, (int, str, Decimal, float)):
        raise BadUse(f"{what} is {shown(value)}, expected a number")
    try:
        found = Decimal(str(value).strip())
    except (InvalidOperation, ValueError):
        raise BadUse(f"{what} is {shown(value)}, expected a number") from None
    if not found.is_finite():
        raise BadUse(f"{what} is {shown(value)}, expected a finite number")
    exponent = found.as_tuple().exponent
    if found.adjusted() > _MAX_DIGITS or not isinstance(exponent, int) or exponent < -_MAX_DIGITS:
        raise BadUse(f"{what} is {shown(value)}, beyond what any meter counts")
    return found


def integer(value: object, what: str) -> int:
    """A whole number; BadUse for anything else, null too."""
    found = number(value, what)
    if found is None or found != found.to_integral_value():
        raise BadUse(f"{what} is {shown(value)}, expected a whole number")
    return int(found)


def is_energy(unit: object) -> bool:
    return isinstance(unit, str) and unit.strip().lower() in _ENERGY_WH


def watt_hours(
    value: Decimal | None, unit: object, what: str, seconds: int | None = None
) -> Decimal | None:
    """Energy in Wh of a value in an energy unit, or in a power unit as the mean over `seconds`."""
    name = unit.strip().lower() if isinstance(unit, str) else ""
    if name in _ENERGY_WH:
        return None if value is None else value * _ENERGY_WH[name]
    if name in _POWER_W and seconds is not None:
        return None if value is None else value * _POWER_W[name] * seconds / 3600
    accepted = "Wh, kWh or MWh" + (", or W, kW or MW as a mean" if seconds is not None else "")
    raise BadUse(f"{what} has the unit {shown(unit)}, expected {accepted}")


def seconds_between(start: datetime, end: datetime, what: str) -> int:
    """Length of an interval in seconds; BadUse unless it has one."""
    seconds = int((end - start).total_seconds())
    if seconds <= 0:
        raise BadUse(f"{what} ends at {end} before it starts at {start}")
    return seconds


def instant(value: object, what: str) -> datetime:
    """An aware UTC time out of ISO 8601 with an offset. BadUse without one."""
    found = _iso(value, what)
    if found.tzinfo is None:
        raise BadUse(f"{what} is {shown(value)}: without a UTC offset its time is not known")
    return bounded(found, what)


def wall_clock(value: object, what: str) -> datetime:
    """A time without offset out of ISO 8601, for `localise`."""
    found = _iso(value, what)
    if found.tzinfo is not None:
        raise BadUse(f"{what} is {shown(value)}, expected a local time without offset")
    return found


def iso_time(value: object, what: str) -> datetime:
    """ISO 8601 with or without offset: aware UTC, or naive."""
    found = _iso(value, what)
    return found if found.tzinfo is None else bounded(found, what)


def _iso(value: object, what: str) -> datetime:
    if isinstance(value, str):
        text = value.strip()
        # Python reads six digits of a second at most; some systems write seven.
        text = re.sub(r"([.,]\d{6})\d+", r"\1", text)
        try:
            return datetime.fromisoformat(text)
        except (ValueError, OverflowError):
            pass
    raise BadUse(f"{what} is {shown(value)}, expected a time like 2024-04-01T00:15:00+02:00")


def from_unix(value: object, what: str) -> datetime:
    """Unix seconds, whole or with a fraction, as an aware UTC time."""
    seconds = number(value, what)
    if seconds is None or not 0 <= seconds < Decimal(_LATEST.timestamp()):
        raise BadUse(f"{what} is {shown(value)}, expected unix seconds")
    return _EPOCH + timedelta(milliseconds=int(seconds * 1000))


def bounded(when: datetime, what: str) -> datetime:
    """An aware time in UTC. BadUse outside 1970 to 2200."""
    try:
        utc = when.astimezone(UTC)
    except (ValueError, OverflowError):
        utc = datetime.max.replace(tzinfo=UTC)
    if not _EPOCH <= utc < _LATEST:
        raise BadUse(f"{what} is {shown(when)}, expected a time from 1970 to 2199")
    return utc


def after(start: datetime, seconds: int) -> datetime:
    """The instant that many seconds after a UTC time."""
    try:
        return bounded(start + timedelta(seconds=seconds), "a time")
    except OverflowError:
        raise BadUse(f"an interval of {seconds} s is longer than any calendar") from None


@dataclass(frozen=True)
class Step:
    """A resolution: calendar months and days of local time, and seconds of real time."""

    months: int
    days: int
    seconds: int

    def after(self, start: datetime, count: int, zone: tzinfo) -> datetime:
        """The UTC instant `count` steps after an aware start; days and months follow the zone."""
        try:
            if self.months or self.days:
                local = start.astimezone(zone)
                month = local.year * 12 + local.month - 1 + self.months * count
                local = local.replace(year=month // 12, month=month % 12 + 1)
                wall = local.replace(tzinfo=None) + timedelta(days=self.days * count)
                start = wall.replace(tzinfo=zone)
            return bounded(
                start.astimezone(UTC) + timedelta(seconds=self.seconds * count), "a time"
            )
        except (ValueError, OverflowError):
            raise BadUse("a time in the file lies outside the calendar") from None


_DURATION = re.compile(
    r"P(?:(\d{1,4})Y)?(?:(\d{1,4})M)?(?:(\d{1,4})D)?"
    r"(?:T(?:(\d{1,6})H)?(?:(\d{1,6})M)?(?:(\d{1,8})(?:\.0+)?S)?)?"
)


def duration(value: object, what: str) -> Step:
    """An ISO 8601 duration such as PT15M, PT1H, P1D or P1M."""
    match = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None or not any(part and int(part) for part in match.groups()):
        raise BadUse(f"{what} is {shown(value)}, expected a duration like PT15M or P1D")
    years, months, days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return Step(years * 12 + months, days, hours * 3600 + minutes * 60 + seconds)


def local_day(day: date, zone: tzinfo) -> tuple[datetime, datetime]:
    """Start and end of a local calendar day in UTC: 23, 24 or 25 hours."""
    try:
        midnights = (
            datetime(d.year, d.month, d.day, tzinfo=zone) for d in (day, day + timedelta(1))
        )
        start, end = (bounded(midnight, "a day") for midnight in midnights)
    except (ValueError, OverflowError):
        raise BadUse(f"the day {day} lies outside the calendar") from None
    return start, end


def localise(
    labels: Sequence[datetime], seconds: Sequence[int], zone: tzinfo, ends: bool
) -> list[tuple[datetime, datetime]]:
    """UTC intervals of wall-clock labels in the order of their file, across clock changes.

    labels: naive starts, or ends where `ends`; seconds: length of each. Of an hour that comes twice
    the second pass is the one that does not lie after the label before it. End labels are written
    in two ways on the day of a change, as start plus length or as the clock at the end; the way
    that leaves fewer breaks is taken. BadUse for a label that the zone's clock never shows.
    """
    backwards = len(labels) > 1 and labels[0] > labels[-1]
    if backwards:
        labels, seconds = labels[::-1], seconds[::-1]
    lengths = [timedelta(seconds=length) for length in seconds]
    try:
        starts = [label - length for label, length in zip(labels, lengths, strict=True)]
    except OverflowError:
        raise BadUse("a time in the file lies outside the calendar") from None
    ways = []
    found, breaks = _unfold(starts if ends else labels, lengths, zone, ends=False)
    ways.append((breaks, found))
    if ends:
        found, breaks = _unfold(labels, lengths, zone, ends=True)
        ways.append((breaks, found))
    breaks, spans = min(ways, key=lambda way: way[0])
    if breaks >= _NEVER:
        wrong = next(x for x in labels if not _exists(x, zone))
        raise BadUse(f"{wrong} is no time in {zone}: the clock skips it; check the time zone")
    return spans[::-1] if backwards else spans


_NEVER = 10**9
"""Weight of a label that the zone's clock never shows."""


def _exists(label: datetime, zone: tzinfo) -> bool:
    return _utc(label, zone, 0).astimezone(zone).replace(tzinfo=None, fold=0) == label


def _utc(label: datetime, zone: tzinfo, fold: int) -> datetime:
    return bounded(label.replace(tzinfo=zone, fold=fold), "a local time")


def _unfold(
    labels: Sequence[datetime], lengths: Sequence[timedelta], zone: tzinfo, ends: bool
) -> tuple[list[tuple[datetime, datetime]], int]:
    """Intervals under one way to read the labels, and how many breaks that leaves."""
    spans: list[tuple[datetime, datetime]] = []
    breaks, last = 0, None
    for label, length in zip(labels, lengths, strict=True):
        if not _exists(label, zone):
            breaks += _NEVER
        mark = _utc(label, zone, 0)
        if last is not None and mark <= last:
            second = _utc(label, zone, 1)
            mark = second if second > last else mark
        span = (mark - length, mark) if ends else (mark, mark + length)
        if spans and span[0] != spans[-1][1]:
            breaks += 1
        spans.append(span)
        last = mark if last is None else max(last, mark)
    return spans, breaks


@dataclass(frozen=True)
class Obis:
    """What an OBIS code of active energy says: direction, register or interval, tariff."""

    direction: Direction
    register: bool
    part: str


_OBIS = re.compile(
    r"(?:(?P<a>[0-9A-Fa-f]{1,2})-(?P<b>[0-9A-Za-z]{1,2}):)?"
    r"(?P<c>[0-9A-Fa-f]{1,2})\.(?P<d>[0-9]{1,2})\.(?P<e>[0-9A-Za-z]{1,2})"
    r"(?:[*.&](?P<f>[0-9A-Za-z]{1,3}))?"
)
_DIRECTIONS: Mapping[str, Direction] = {"1": "import", "2": "export"}
# D: 8 time integral since the start of the meter, 9 since the start of the interval, 29 load
# profile. Others are power, demand, or of a billing period.
_REGISTER, _INTERVAL = "8", ("9", "29")


def obis(code: str) -> Obis | None:
    """The meaning of an OBIS code; None where it is not active energy of the whole connection."""
    match = _OBIS.fullmatch(code.strip())
    if match is None or (match["a"] or "1").lstrip("0") != "1":
        return None
    quantity, kind = match["c"].lstrip("0").upper(), match["d"].lstrip("0")
    if quantity not in _DIRECTIONS or kind not in (_REGISTER, *_INTERVAL):
        return None
    tariff = match["e"].lstrip("0").lower()
    # 0 is the total; chargers write "e" for it.
    return Obis(_DIRECTIONS[quantity], kind == _REGISTER, TOTAL if tariff == "e" else tariff)


def text_of(data: bytes) -> str:
    """Text in UTF-8, UTF-16 with its mark, or else Windows-1252 as spreadsheets write it."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", errors="replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace")


def load_json(data: bytes | str) -> Any:
    """One JSON document, numbers exact."""
    try:
        text = data if isinstance(data, str) else data.decode("utf-8-sig")
        if is_too_deep(text):
            raise BadUse("the JSON is nested too deeply")
        return json.loads(text, parse_float=Decimal, parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        raise BadUse(f"not JSON: byte {error.start} is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise BadUse(f"not JSON: {error.msg} in line {error.lineno}") from None
    except (ValueError, InvalidOperation) as error:
        raise BadUse(f"not JSON: {shown(error)}") from None


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


def load_json_messages(data: bytes) -> list[Any]:
    """One JSON document, or one per line as a message log holds them."""
    try:
        return [load_json(data)]
    except BadUse:
        lines = [line for line in data.splitlines() if line.strip()]
        if len(lines) < 2:
            raise
        try:
            return [load_json(line) for line in lines]
        except BadUse:
            pass
        raise


def member(node: object, path: str) -> Any:
    """The value under a path of names, `a/b/c`; None where the path ends early."""
    for name in path.split("/"):
        if not isinstance(node, dict):
            return None
        node = node.get(name)
    return node


def objects(node: object, what: str) -> list[dict[str, Any]]:
    """A list of JSON objects; BadUse for anything else."""
    if not isinstance(node, list) or not all(isinstance(one, dict) for one in node):
        raise BadUse(f"{what} is {shown(node)}, expected a list of objects")
    return node


def name_of(node: object) -> str | None:
    """A name or number as text; None for nothing."""
    if isinstance(node, (str, int, Decimal)) and not isinstance(node, bool):
        return str(node).strip() or None
    return None


def load_xml(data: bytes) -> _Element:
    """The root of an XML document, comments gone; no entity, DTD or network is touched."""
    from lxml import etree

    parser = etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        remove_comments=True,
        remove_pis=True,
    )
    try:
        root = etree.fromstring(data.strip(), parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise BadUse(f"not XML: {shown(error)}") from None
    if root is None:
        raise BadUse("not XML: the document is empty")
    if root.getroottree().docinfo.internalDTD is not None:
        # None of these formats has one; entities are how XML does harm.
        raise BadUse("an XML document with a DOCTYPE is not taken")
    return root


def tag(element: _Element) -> str:
    """An element's name without its namespace, whose year and version differ from file to file."""
    name = element.tag
    return name.rpartition("}")[2] if isinstance(name, str) else ""


def children(element: _Element, name: str) -> list[_Element]:
    return [child for child in element if tag(child) == name]


def descendants(element: _Element, name: str) -> Iterator[_Element]:
    return (one for one in element.iter() if tag(one) == name)


def child_text(element: _Element, path: str) -> str | None:
    """The text under a path of names, `a/b`; None for nothing."""
    for name in path.split("/"):
        found = children(element, name)
        if not found:
            return None
        element = found[0]
    return (element.text or "").strip() or None


def zone_or(given: ZoneInfo | None, name: str) -> ZoneInfo:
    """The caller's time zone, or a format's own."""
    return given if given is not None else ZoneInfo(name)
