# SPDX-License-Identifier: Apache-2.0
"""Green Button (ESPI, NAESB REQ.21): energy usage of North American utilities as an Atom feed.

A feed's entries find each other through their links. XML is read with lxml; downloading is the
portal's business.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING

from dao.errors import BadUse
from meters.adapters.engine import Adapter, Conventions, Direction, Point, Source, worst
from meters.adapters.fields import (
    after,
    child_text,
    children,
    descendants,
    from_unix,
    integer,
    load_xml,
    number,
    tag,
    watt_hours,
)
from meters.readings import Quality

if TYPE_CHECKING:
    from lxml.etree import _Element

# QualityOfReading. Raw (14) and validated (17, 18, 19) are measured; derived, projected and mixed
# values are not what one meter showed in that interval.
_QUALITY = {
    "0": Quality.MEASURED,
    "7": Quality.SUBSTITUTED,
    "8": Quality.ESTIMATED,
    "9": Quality.ESTIMATED,
    "10": Quality.INVALID,
    "11": Quality.ESTIMATED,
    "12": Quality.ESTIMATED,
    "13": Quality.ESTIMATED,
    "14": Quality.MEASURED,
    "15": Quality.ESTIMATED,
    "16": Quality.ESTIMATED,
    "17": Quality.MEASURED,
    "18": Quality.MEASURED,
    "19": Quality.MEASURED,
}
_UNITS = {"72": "Wh", "38": "W"}
_FORWARD, _NET, _REVERSE = "1", "4", "19"
# AccumulationKind: what the value of an interval reading stands for.
_INTERVAL = ("0", "4", None)
_REGISTER = ("1", "2", "3", "9")
_ELECTRICITY = ("0", "1", "2", None)


@dataclass
class _Entry:
    """One Atom entry: what it holds, and its links by their kind."""

    kind: str
    contents: list[_Element]
    links: dict[str, list[str]] = field(default_factory=dict)

    def own(self) -> str:
        return next(iter(self.links.get("self", [])), "")

    def up(self) -> str:
        return next(iter(self.links.get("up", [])), "")


def read(data: bytes, source: Source) -> Iterator[Point]:
    """Interval readings and registers of every electricity usage point in the feed."""
    root = load_xml(data)
    entries = [_entry(one) for one in descendants(root, "entry")]
    readings = [one for one in entries if one.kind == "MeterReading"]
    types = [one for one in entries if one.kind == "ReadingType"]
    usage_points = [one for one in entries if one.kind == "UsagePoint"]
    blocks = [one for one in entries if one.kind == "IntervalBlock"]
    if not blocks:
        raise BadUse(f"no Green Button feed with an IntervalBlock (root is {tag(root)})")
    for block in blocks:
        reading = _above(block, readings)
        kind = _linked(reading, types) if reading else None
        kind = kind or _linked(block, types) or (types[0] if len(types) == 1 else None)
        if kind is None:
            raise BadUse("an IntervalBlock has no ReadingType, so its unit is not known")
        usage_point = _above(reading, usage_points) if reading else None
        usage_point = usage_point or (usage_points[0] if len(usage_points) == 1 else None)
        if usage_point and child_text(usage_point.contents[0], "ServiceCategory/kind") not in (
            "0",
            None,
        ):
            source.note("a usage point that is not electricity was left out")
            continue
        meter = usage_point.own().rstrip("/").rpartition("/")[2] or None if usage_point else None
        for content in block.contents:
            yield from _block(content, kind.contents[0], meter, source)


def _entry(element: _Element) -> _Entry:
    contents = [one for holder in children(element, "content") for one in holder]
    entry = _Entry(tag(contents[0]) if contents else "", contents)
    for link in children(element, "link"):
        entry.links.setdefault(link.get("rel", ""), []).append(link.get("href", ""))
    return entry


def _above(entry: _Entry, candidates: list[_Entry]) -> _Entry | None:
    """The entry above: it links to the collection this one lies in, or its address begins it."""
    for one in candidates:
        if entry.up() and entry.up() in one.links.get("related", []):
            return one
    inside = [
        one
        for one in candidates
        if one.own() and f"{entry.up() or entry.own()}/".startswith(f"{one.own()}/")
    ]
    if inside:
        return max(inside, key=lambda one: len(one.own()))
    return candidates[0] if len(candidates) == 1 else None


def _linked(entry: _Entry, candidates: list[_Entry]) -> _Entry | None:
    related = entry.links.get("related", [])
    return next((one for one in candidates if one.own() and one.own() in related), None)


def _block(block: _Element, kind: _Element, meter: str | None, source: Source) -> Iterator[Point]:
    def said(name: str) -> str | None:
        return child_text(kind, name)

    if said("commodity") not in _ELECTRICITY:
        source.note(f"commodity {said('commodity')} is not electricity and was left out")
        return
    unit = _UNITS.get(said("uom") or "")
    behaviour = said("accumulationBehaviour")
    if unit is None or behaviour not in (*_INTERVAL, *_REGISTER):
        source.note(f"uom {said('uom')} with accumulation {behaviour} is no energy, left out")
        return
    direction = said("flowDirection")
    if direction not in (_FORWARD, _REVERSE, _NET, None):
        source.note(f"flow direction {direction} is neither import, export nor net, left out")
        return
    power = integer(said("powerOfTenMultiplier") or "0", "powerOfTenMultiplier")
    if not -12 <= power <= 12:
        raise BadUse(f"powerOfTenMultiplier is {power}, expected -12 to 12")
    length = integer(said("intervalLength") or "0", "intervalLength")
    begin = child_text(block, "interval/start")
    running = from_unix(begin, "interval start") if begin else None
    for one in children(block, "IntervalReading"):
        start_text = child_text(one, "timePeriod/start")
        start = from_unix(start_text, "start") if start_text else running
        if start is None:
            raise BadUse("an IntervalReading has neither a timePeriod nor an interval before it")
        seconds = integer(child_text(one, "timePeriod/duration") or length, "duration")
        if not 0 <= seconds <= 400 * 86400:
            raise BadUse(f"duration is {seconds} s, expected 0 s to 400 days")
        end = running = after(start, seconds)
        raw = number(child_text(one, "value"), "value")
        scaled = None if raw is None else raw.scaleb(power)
        register = behaviour in _REGISTER
        if not register and seconds == 0:
            raise BadUse("an IntervalReading lasts 0 s, so it is no energy of an interval")
        wh = watt_hours(scaled, unit, "uom", None if register else seconds)
        codes = [c for q in children(one, "ReadingQuality") if (c := child_text(q, "quality"))]
        quality = worst(source.quality(_QUALITY, code) for code in codes or (None,))
        for side, value in _sides(direction, wh, register, source):
            yield Point(
                meter,
                end,
                side,
                value,
                start=None if register else start,
                quality=quality,
                source_quality="/".join(codes) or None,
            )


def _sides(
    direction: str | None, wh: Decimal | None, register: bool, source: Source
) -> list[tuple[Direction, Decimal | None]]:
    """Import, export, or the one of both that a net value shows."""
    if direction == _NET:
        if register:
            source.note("a net register is neither import nor export and was left out")
            return []
        source.note("net values: import and export within one interval are not known apart")
        if wh is None:
            return [("import", None), ("export", None)]
        return [("import", max(wh, Decimal(0))), ("export", max(-wh, Decimal(0)))]
    return [("export" if direction == _REVERSE else "import", wh)]


GREENBUTTON = Adapter(
    name="greenbutton",
    title="Green Button (ESPI) XML",
    conventions=Conventions(
        sign="flowDirection 1 is import, 19 export, 4 net: positive is import",
        interval="timePeriod: start and duration",
        time="unix seconds, UTC",
        units="Wh (uom 72), or W as a mean (38), times 10 to powerOfTenMultiplier",
        register="accumulationBehaviour 1, 2, 3 and 9 are registers, 4 an interval",
    ),
    read=read,
)
