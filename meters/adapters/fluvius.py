# SPDX-License-Identifier: Apache-2.0
"""Fluvius of Belgium (Flanders): energy per quarter-hour or day as JSON.

The headpoint is the metering point; its physical meters repeat its energy.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dao.errors import BadUse
from meters.adapters.engine import TOTAL, Adapter, Conventions, Direction, Point, Source
from meters.adapters.fields import (
    instant,
    load_json_messages,
    member,
    name_of,
    number,
    objects,
    seconds_between,
    shown,
    watt_hours,
)
from meters.readings import Quality

_SERIES = ("quarterHourlyEnergy", "hourlyEnergy", "dailyEnergy")
_SIDES: tuple[tuple[str, Direction], ...] = (("offtake", "import"), ("injection", "export"))
# total, or day and night; `reactive` is no energy that anybody pays for.
_PARTS = {"total": TOTAL, "day": "day", "night": "night"}
_QUALITY = {
    "READ": Quality.MEASURED,
    "VAL": Quality.MEASURED,
    "EST": Quality.ESTIMATED,
    "CALC": Quality.ESTIMATED,
    "NVAL": Quality.INVALID,
}


def read(data: bytes, source: Source) -> Iterator[Point]:
    for message in load_json_messages(data):
        head = member(message, "data/headpoint")
        if not isinstance(head, dict):
            raise BadUse('no Fluvius answer: expected {"data": {"headpoint": {...}}}')
        if head.get("energyType") not in ("E", None):
            source.note(f"energy type {head.get('energyType')} is not electricity, left out")
            continue
        ean = name_of(head.get("ean"))
        own = list(_meter(head, ean, source))
        yield from own
        for meter in objects(head.get("physicalMeters") or [], "physicalMeters"):
            if own:
                source.note("physical meters repeat the headpoint's energy and were left out")
            else:
                yield from _meter(meter, name_of(meter.get("meterID")), source)
        for sub in objects(head.get("subHeadpoints") or [], "subHeadpoints"):
            yield from _meter(sub, f"{ean}/{name_of(sub.get('ean'))}", source)


def _meter(node: dict[str, Any], meter: str | None, source: Source) -> Iterator[Point]:
    for name in _SERIES:
        for interval in objects(node.get(name) or [], name):
            start = instant(interval.get("start"), "start")
            end = instant(interval.get("end"), "end")
            seconds_between(start, end, "an interval")
            for measurement in objects(interval.get("measurements") or [], "measurements"):
                for side, direction in _SIDES:
                    values = measurement.get(side) or {}
                    if not isinstance(values, dict):
                        raise BadUse(f"{side} is {shown(values)}, expected an object")
                    for part, value in values.items():
                        if part in _PARTS and isinstance(value, dict):
                            state = name_of(value.get("validationState"))
                            wh = watt_hours(
                                number(value.get("value"), side), value.get("unit"), side
                            )
                            yield Point(
                                meter,
                                end,
                                direction,
                                wh,
                                start=start,
                                quality=source.quality(_QUALITY, state),
                                source_quality=state,
                                part=_PARTS[part],
                            )


FLUVIUS = Adapter(
    name="fluvius",
    title="Belgium: Fluvius energy per quarter-hour or day (JSON)",
    conventions=Conventions(
        sign="offtake is import, injection export; reactive is not used",
        interval="start and end",
        time="with offset",
        units="unit: kWh as a rule",
        register="none: intervals only; day and night are added where there is no total",
    ),
    read=read,
)
