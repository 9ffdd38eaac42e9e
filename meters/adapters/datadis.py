# SPDX-License-Identifier: Apache-2.0
"""Datadis of Spain: hourly or quarter-hourly consumption and surplus as JSON.

The clock time is the end of the interval, from 01:00 to 24:00.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from dao.errors import BadUse
from meters.adapters.engine import Adapter, Conventions, Direction, Point, Source
from meters.adapters.fields import (
    load_json_messages,
    localise,
    member,
    name_of,
    number,
    objects,
    shown,
    watt_hours,
    zone_or,
)
from meters.readings import Quality

_ZONE = "Europe/Madrid"
_FIELDS: tuple[tuple[Direction, str], ...] = (
    ("import", "consumptionKWh"),
    ("export", "surplusEnergyKWh"),
)
_QUALITY = {"Real": Quality.MEASURED, "Estimada": Quality.ESTIMATED}


def read(data: bytes, source: Source) -> Iterator[Point]:
    for message in load_json_messages(data):
        rows = message if isinstance(message, list) else member(message, "response")
        by_meter: dict[str | None, list[dict[str, Any]]] = {}
        for row in objects(rows, "the answer"):
            by_meter.setdefault(name_of(row.get("cups")), []).append(row)
        for meter, own in by_meter.items():
            yield from _series(meter, own, source)


def _series(meter: str | None, rows: list[dict[str, Any]], source: Source) -> Iterator[Point]:
    stamps = [_stamp(row) for row in rows]
    seconds = 900 if any(stamp.minute for stamp, _ in stamps) else 3600
    ends = True
    if any(at_midnight for _, at_midnight in stamps):
        # Some distributors count from 00:00 to 23:00: their time is the start.
        ends = False
        source.note("times run from 00:00, so they are taken as starts")
    labels = [stamp for stamp, _ in stamps]
    zone = zone_or(source.options.timezone, _ZONE)
    spans = localise(labels, [seconds] * len(labels), zone, ends)
    for row, (start, end) in zip(rows, spans, strict=True):
        code = name_of(row.get("obtainMethod"))
        for direction, field in _FIELDS:
            if field in row:
                yield Point(
                    meter,
                    end,
                    direction,
                    watt_hours(number(row[field], field), "kWh", field),
                    start=start,
                    quality=source.quality(_QUALITY, code),
                    source_quality=code,
                )


def _stamp(row: dict[str, Any]) -> tuple[datetime, bool]:
    """Local end of a row's interval, and whether it is written as 00:00."""
    day, clock = name_of(row.get("date")) or "", name_of(row.get("time")) or ""
    match = re.fullmatch(r"(\d{4})/(\d\d)/(\d\d) (\d{1,2}):(\d\d)", f"{day} {clock}")
    try:
        if match is None:
            raise ValueError
        year, month, date, hour, minute = map(int, match.groups())
        if hour > 24 or minute > 59 or (hour == 24 and minute):
            raise ValueError
        stamp = datetime(year, month, date) + timedelta(hours=hour, minutes=minute)
    except (ValueError, OverflowError):
        raise BadUse(
            f"date and time are {shown(day)} and {shown(clock)}, expected 2023/12/01 and 01:00 "
            "to 24:00"
        ) from None
    return stamp, (hour, minute) == (0, 0)


DATADIS = Adapter(
    name="datadis",
    title="Spain: Datadis consumption (JSON)",
    conventions=Conventions(
        sign="consumptionKWh is import, surplusEnergyKWh export; generation is not used",
        interval="date and time are the end, 01:00 to 24:00; from 00:00 they are the start",
        time="local time of Madrid (Canary Islands: --timezone Atlantic/Canary)",
        units="kWh",
        register="none: intervals only",
    ),
    read=read,
)
