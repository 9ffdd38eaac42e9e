# SPDX-License-Identifier: Apache-2.0
"""Mijn Aansluiting of the Netherlands: daily registers of a connection as JSON."""

from __future__ import annotations

from collections.abc import Iterator

from dao.errors import BadUse
from meters.adapters.engine import Adapter, Conventions, Point, Source
from meters.adapters.fields import (
    instant,
    is_energy,
    load_json_messages,
    member,
    name_of,
    number,
    obis,
    objects,
    watt_hours,
)


def read(data: bytes, source: Source) -> Iterator[Point]:
    for message in load_json_messages(data):
        for one in objects(message if isinstance(message, list) else [message], "the answer"):
            point = one.get("MarketEvaluationPoint")
            if not isinstance(point, dict):
                raise BadUse(
                    "no Mijn Aansluiting answer: expected a list with MarketEvaluationPoint"
                )
            meter = name_of(point.get("MRID"))
            for register in objects(point.get("RegisterList"), "RegisterList"):
                code = name_of(register.get("MRID")) or ""
                meaning = obis(code)
                for reading in objects(register.get("ReadingList"), "ReadingList"):
                    prefix = name_of(member(reading, "ReadingType/Multiplier")) or ""
                    unit = f"{prefix}{name_of(member(reading, 'ReadingType/Unit')) or ''}"
                    if meaning is None or not meaning.register or not is_energy(unit):
                        source.note(f"register {code} in {unit} is no electrical energy, left out")
                        continue
                    yield Point(
                        meter,
                        instant(member(reading, "DateAndOrTime/DateTime"), "DateTime"),
                        meaning.direction,
                        watt_hours(number(reading.get("Value"), "Value"), unit, "Unit"),
                        part=meaning.part,
                    )


MIJN_AANSLUITING = Adapter(
    name="mijn-aansluiting",
    title="Netherlands: Mijn Aansluiting registers (JSON)",
    conventions=Conventions(
        sign="1.8.x is import, 2.8.x export",
        interval="none: registers only",
        time="with offset",
        units="Multiplier and Unit: kWh; gas in m3 is left out",
        register="sum of the tariffs at the same time",
    ),
    read=read,
)
