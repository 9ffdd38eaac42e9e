# SPDX-License-Identifier: Apache-2.0
"""AIIDA records of the EDDIE framework: a meter's registers as JSON, tagged with OBIS codes.

AIIDA reads Austrian, French and Dutch meters at home and gives all of them this one form.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dao.errors import BadUse
from meters.adapters.engine import Adapter, Conventions, Point, Source
from meters.adapters.fields import (
    instant,
    load_json_messages,
    member,
    name_of,
    number,
    obis,
    objects,
    watt_hours,
)

_SERIAL = "0-0:96.1.0"


def read(data: bytes, source: Source) -> Iterator[Point]:
    for message in load_json_messages(data):
        for record in message if isinstance(message, list) else [message]:
            yield from read_record(record)


def read_record(record: Any) -> Iterator[Point]:
    """Registers of one record."""
    values = objects(member(record, "values"), "values") if isinstance(record, dict) else None
    if values is None:
        raise BadUse('no AIIDA record: expected {"timestamp": ..., "values": [...]}')
    end = instant(record.get("timestamp"), "timestamp")
    serial = next(
        (name_of(one.get("value")) for one in values if one.get("dataTag") == _SERIAL), None
    )
    meter = name_of(record.get("meterId")) or serial
    for one in values:
        code = name_of(one.get("dataTag")) or ""
        meaning = obis(code)
        if meaning is None:
            continue
        wh = watt_hours(number(one.get("value"), code), one.get("unitOfMeasurement"), code)
        if meaning.register:
            yield Point(meter, end, meaning.direction, wh, part=meaning.part)


AIIDA = Adapter(
    name="aiida",
    title="EDDIE/AIIDA real-time records (JSON with OBIS tags)",
    conventions=Conventions(
        sign="1-0:1.8.x is import, 1-0:2.8.x export",
        interval="none: registers only",
        time="timestamp, with offset",
        units="unitOfMeasurement: Wh or kWh",
        register="1.8.0 and 2.8.0, else the sum of the tariffs",
    ),
    read=read,
)
