# SPDX-License-Identifier: Apache-2.0
"""IEC CIM market documents of measured energy: those of EDDIE, in XML or JSON, and Energinet's.

All of them hold time series of periods of points. XML is brought into the shape of the JSON first,
so that both are read by one function.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dao.errors import BadUse
from meters.adapters.engine import Adapter, Conventions, Direction, Point, Source
from meters.adapters.fields import (
    Step,
    duration,
    instant,
    integer,
    load_json_messages,
    load_xml,
    name_of,
    number,
    shown,
    tag,
    watt_hours,
    zone_or,
)
from meters.readings import Quality

if TYPE_CHECKING:
    from lxml.etree import _Element

# QualityTypeList. A05 is incomplete: less than what flowed, so not the energy of the interval.
_QUALITY = {
    "A01": Quality.SUBSTITUTED,
    "A02": Quality.MISSING,
    "A03": Quality.ESTIMATED,
    "A04": Quality.MEASURED,
    "A05": Quality.INVALID,
    "A06": Quality.ESTIMATED,
}
# DirectionTypeList: A01 up (to the grid), A02 down (from it). BusinessTypeList: A01 production,
# A04 consumption, A64 consumption by profile.
_FLOW: dict[str, Direction] = {"A01": "export", "A02": "import"}
_BUSINESS: dict[str, Direction] = {"A01": "export", "A04": "import", "A64": "import"}
_VARIABLE_BLOCKS = "A03"
# A year of five-minute values. A period far longer than its points has a wrong end or resolution.
_MAX_POINTS, _SPARSE = 110_000, 20


@dataclass(frozen=True)
class Dialect:
    """Where one family of documents names things; the first name that is there counts."""

    series: tuple[str, ...]
    periods: tuple[str, ...]
    quantity: tuple[str, ...]
    quality: tuple[str, ...]
    unit: tuple[str, ...]
    meter: tuple[str, ...]
    zone: str


_EDDIE = Dialect(
    series=("TimeSeries",),
    periods=("Series_Period", "Period"),
    quantity=("energy_Quantity.quantity", "quantity"),
    quality=("energy_Quantity.quality", "quality"),
    unit=("energy_Measurement_Unit.name", "quantity_Measurement_Unit.name"),
    meter=("marketEvaluationPoint.mRID", "registeredResource.mRID"),
    zone="UTC",
)
_ENERGINET = Dialect(
    series=("TimeSeries",),
    periods=("Period",),
    quantity=("out_Quantity.quantity",),
    quality=("out_Quantity.quality",),
    unit=("measurement_Unit.name",),
    meter=("MarketEvaluationPoint",),
    zone="Europe/Copenhagen",
)


def read_cim(data: bytes, source: Source) -> Iterator[Point]:
    yield from _documents(data, _EDDIE, source)


def read_energinet(data: bytes, source: Source) -> Iterator[Point]:
    yield from _documents(data, _ENERGINET, source)


def _documents(data: bytes, dialect: Dialect, source: Source) -> Iterator[Point]:
    if data.lstrip(b"\xef\xbb\xbf \r\n\t")[:1] == b"<":
        messages: list[Any] = [_tree(load_xml(data), 0)]
    else:
        messages = load_json_messages(data)
    found = False
    for message in messages:
        for series in _find(message, dialect.series, 0):
            found = True
            yield from _series(series, dialect, source)
    if not found:
        raise BadUse("no CIM document of measured energy: it has no TimeSeries with a Period")


def _tree(element: _Element, depth: int) -> Any:
    """An XML element in the shape of the JSON form: plain names, children in lists."""
    if depth > 50:
        raise BadUse("the XML is nested too deeply")
    if not len(element):
        return (element.text or "").strip()
    node: dict[str, Any] = {}
    for child in element:
        node.setdefault(tag(child), []).append(_tree(child, depth + 1))
    return node


def _find(node: Any, names: tuple[str, ...], depth: int) -> Iterator[dict[str, Any]]:
    """Every object under one of the names, wherever envelopes and lists put it."""
    if depth > 50:
        raise BadUse("the document is nested too deeply")
    if isinstance(node, list):
        for one in node:
            yield from _find(one, names, depth + 1)
    elif isinstance(node, dict):
        for name, one in node.items():
            if name in names:
                yield from (
                    x for x in (one if isinstance(one, list) else [one]) if isinstance(x, dict)
                )
            else:
                yield from _find(one, names, depth + 1)


def _value(node: dict[str, Any], names: tuple[str, ...]) -> str | None:
    """The text under the first name that is there; of a coded value, the value itself."""
    for name in names:
        one = node.get(name)
        while isinstance(one, list) and one:
            one = one[0]
        if isinstance(one, dict):
            for inner in ("value", "mRID", "name"):
                found = _value(one, (inner,))
                if found is not None:
                    return found
        elif (text := name_of(one)) is not None:
            return text
    return None


def _series(series: dict[str, Any], dialect: Dialect, source: Source) -> Iterator[Point]:
    flow = _value(series, ("flowDirection.direction",))
    business = _value(series, ("businessType",))
    direction = _FLOW.get(flow or "") or _BUSINESS.get(business or "")
    if flow is not None and flow not in _FLOW:
        direction = None
    if direction is None:
        source.note(f"flow direction {flow} of business type {business} is neither, left out")
        return
    for period in _find(series, dialect.periods, 0):
        yield from _period(period, series, direction, dialect, source)


def _period(
    period: dict[str, Any],
    series: dict[str, Any],
    direction: Direction,
    dialect: Dialect,
    source: Source,
) -> Iterator[Point]:
    interval = next(_find(period, ("timeInterval",), 0), None)
    if interval is None:
        raise BadUse("a Period has no timeInterval")
    begin = instant(_value(interval, ("start",)), "timeInterval start")
    finish = instant(_value(interval, ("end",)), "timeInterval end")
    step = duration(_value(period, ("resolution",)), "resolution")
    zone = zone_or(source.options.timezone, dialect.zone)
    points = {
        integer(_value(one, ("position",)), "position"): one for one in _find(period, ("Point",), 0)
    }
    # Positions count from 1; some senders count from 0.
    base = 0 if 0 in points else 1
    count = _count(step, begin, finish, zone, max(points, default=0) - base + 1)
    if min(points, default=base) < base or max(points, default=base) - base >= count:
        raise BadUse(f"a position lies outside its period of {count} steps")
    if count > _SPARSE * (len(points) + 5):
        raise BadUse(f"a period of {count} steps holds only {len(points)} points")
    meter = _value(series, dialect.meter)
    unit = _value(series, dialect.unit) or _value(period, dialect.unit)
    repeats = _value(series, ("curveType",)) == _VARIABLE_BLOCKS
    last: dict[str, Any] | None = None
    for position in range(count):
        one = points.get(position + base, last if repeats else None)
        last = one
        start, end = (step.after(begin, position + i, zone) for i in (0, 1))
        code = _value(one, dialect.quality) if one else None
        quality = source.quality(_QUALITY, code)
        raw = number(_value(one, dialect.quantity) if one else None, "quantity")
        wh = watt_hours(raw, unit, "unit", int((end - start).total_seconds()))
        yield Point(meter, end, direction, wh, start=start, quality=quality, source_quality=code)


def _count(step: Step, begin: Any, finish: Any, zone: Any, least: int) -> int:
    """How many steps the period has. A period shorter than its points (an end written as the last
    start) still holds them all, unless it is far too short."""
    if finish <= begin:
        raise BadUse(f"a period ends at {shown(finish)} before it starts")
    low, high = 0, 1
    while step.after(begin, high, zone) < finish and high <= _MAX_POINTS:
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if step.after(begin, middle, zone) < finish else (low, middle)
    if high > _MAX_POINTS:
        raise BadUse(f"a period holds more than {_MAX_POINTS} steps")
    return high if least <= high or least > high + 1 else least


CIM = Adapter(
    name="cim",
    title="CIM validated historical data of EDDIE (XML and JSON)",
    conventions=Conventions(
        sign="flowDirection A02 (down) is import, A01 (up) export; else by businessType",
        interval="timeInterval start plus position times resolution",
        time="UTC; days and months of --timezone",
        units="KWH, or KWT and WTT as a mean",
        register="none; a position left out is missing (curve type A03: repeats the one before)",
    ),
    read=read_cim,
)

ENERGINET = Adapter(
    name="energinet",
    title="Denmark: Energinet Eloverblik MyEnergyData (JSON)",
    conventions=Conventions(
        sign="businessType A04 and A64 are import, A01 export",
        interval="timeInterval start plus position times resolution",
        time="UTC; days and months of Copenhagen",
        units="KWH",
        register="none; a position left out is missing",
    ),
    read=read_energinet,
)
