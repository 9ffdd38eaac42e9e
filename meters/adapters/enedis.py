# SPDX-License-Identifier: Apache-2.0
"""Enedis Data Connect of France: load curves and daily energies as JSON.

A load curve gives mean power, stamped at the end of each interval, and its resolution may change
from one point to the next. The answer does not say whether it is consumption or production.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import Any

from dao.errors import BadUse
from meters.adapters.engine import Adapter, Conventions, Point, Source
from meters.adapters.fields import (
    duration,
    load_json_messages,
    local_day,
    localise,
    member,
    name_of,
    number,
    objects,
    shown,
    wall_clock,
    watt_hours,
    zone_or,
)
from meters.readings import Quality

_ZONE = "Europe/Paris"
# measure_type: B raw, R real, C corrected, H, P and D rebuilt or entered by Enedis, E estimated, K
# computed; S, T, F and G mark a power cut, within which nothing flowed.
_QUALITY = {
    **dict.fromkeys("BRSTFG", Quality.MEASURED),
    **dict.fromkeys("CHPD", Quality.SUBSTITUTED),
    **dict.fromkeys("EK", Quality.ESTIMATED),
}
_DAY = "P1D"


def read(data: bytes, source: Source) -> Iterator[Point]:
    for message in load_json_messages(data):
        body = member(message, "meter_reading")
        body = body if body is not None else message
        if not isinstance(body, dict) or "interval_reading" not in body:
            raise BadUse(
                'no Enedis answer: expected {"meter_reading": {"interval_reading": [...]}}'
            )
        yield from _series(body, source)


def _series(body: dict[str, Any], source: Source) -> Iterator[Point]:
    kind = body.get("reading_type")
    kind = kind if isinstance(kind, dict) else {}
    unit = kind.get("unit")
    if unit not in ("W", "kW", "Wh", "kWh"):
        source.note(f"unit {shown(unit)} is no energy and no mean power, left out")
        return
    if unit in ("W", "kW") and kind.get("aggregate") not in ("average", None):
        source.note(f"{kind.get('aggregate')} power is no energy and was left out")
        return
    default = kind.get("interval_length") or kind.get("measuring_period") or _DAY
    points = objects(body["interval_reading"], "interval_reading")
    zone = zone_or(source.options.timezone, _ZONE)
    steps = [duration(one.get("interval_length") or default, "interval_length") for one in points]
    curve = [i for i, step in enumerate(steps) if step.seconds]
    spans = dict(
        zip(
            curve,
            localise(
                [wall_clock(points[i].get("date"), "date") for i in curve],
                [steps[i].seconds for i in curve],
                zone,
                ends=True,
            ),
            strict=True,
        )
    )
    for i, one in enumerate(points):
        if i not in spans and (steps[i].days, steps[i].months) != (1, 0):
            raise BadUse("an interval is longer than a day, expected minutes, hours or P1D")
        start, end = spans[i] if i in spans else local_day(_day(one.get("date")), zone)
        code = name_of(one.get("measure_type")) or name_of(body.get("quality"))
        codes = {**_QUALITY, "BRUT": Quality.MEASURED, "CORRIGE": Quality.SUBSTITUTED}
        value = number(one.get("value"), "value")
        seconds = int((end - start).total_seconds())
        yield Point(
            name_of(body.get("usage_point_id")),
            end,
            source.unsaid_direction,
            watt_hours(value, unit, "unit", seconds),
            start=start,
            quality=source.quality(codes, code),
            source_quality=code,
        )


def _day(value: object) -> date:
    return wall_clock(value, "date").date()


ENEDIS = Adapter(
    name="enedis",
    title="France: Enedis Data Connect load curves and daily energies (JSON)",
    conventions=Conventions(
        sign="consumption (import) unless --export is given: the answer does not say",
        interval="load curve: date is the end, interval_length the length; daily: the local day",
        time="local time of Paris; the repeated hour is told by its place",
        units="W as a mean over the interval, or Wh",
        register="none: intervals only",
    ),
    read=read,
)
