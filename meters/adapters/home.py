# SPDX-License-Identifier: Apache-2.0
"""Meters and inverters at home that speak JSON over HTTP or MQTT: HomeWizard, Fronius, Shelly,
Tasmota.

A file holds one payload, or one per line as a message log does. Each device is a table of fields;
fetching and subscribing is the gateway's business.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from dao.errors import BadUse
from meters.adapters.engine import TOTAL, Adapter, Conventions, Direction, Point, Source
from meters.adapters.fields import (
    from_unix,
    iso_time,
    load_json_messages,
    localise,
    member,
    name_of,
    number,
    objects,
    watt_hours,
)
from meters.readings import Quality


@dataclass(frozen=True)
class Field:
    """Where a payload holds a register: a path of names, its direction, unit and tariff."""

    path: str
    direction: Direction
    unit: str = "kWh"
    part: str = TOTAL


def _registers(
    node: dict[str, Any],
    fields: Iterable[Field],
    meter: str | None,
    end: datetime | None,
    order: int,
    quality: Quality = Quality.MEASURED,
) -> list[Point]:
    """A point for every field of the table that the payload has."""
    points = []
    for field in fields:
        parent, _, last = field.path.rpartition("/")
        holder = member(node, parent) if parent else node
        if not isinstance(holder, dict) or last not in holder:
            continue
        wh = watt_hours(number(holder[last], field.path), field.unit, field.path)
        points.append(
            Point(
                meter,
                end,
                field.direction,
                wh,
                quality=quality,
                part=field.part,
                order=0 if end else order,
            )
        )
    return points


def _payloads(data: bytes, what: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for order, message in enumerate(load_json_messages(data), start=1):
        if not isinstance(message, dict):
            raise BadUse(f"no {what}: expected a JSON object")
        yield order, message


def _time(value: Any, what: str, source: Source) -> datetime | None:
    """A stamp in UTC. Local time needs the caller's zone; without one the time stays unknown."""
    if value is None:
        return None
    when = iso_time(value, what)
    if when.tzinfo is not None:
        return when
    if source.options.timezone is None:
        source.note(f"{what} is local time: name its zone with --timezone")
        return None
    return localise([when], [0], source.options.timezone, ends=False)[0][0]


# HomeWizard: API v1 (/api/v1/data) and v2 (/api/measurement).
_HOMEWIZARD = (
    Field("total_power_import_kwh", "import"),
    Field("total_power_import_t1_kwh", "import", part="1"),
    Field("total_power_import_t2_kwh", "import", part="2"),
    Field("total_power_import_t3_kwh", "import", part="3"),
    Field("total_power_import_t4_kwh", "import", part="4"),
    Field("total_power_export_kwh", "export"),
    Field("total_power_export_t1_kwh", "export", part="1"),
    Field("total_power_export_t2_kwh", "export", part="2"),
    Field("total_power_export_t3_kwh", "export", part="3"),
    Field("total_power_export_t4_kwh", "export", part="4"),
    Field("energy_import_kwh", "import"),
    Field("energy_import_t1_kwh", "import", part="1"),
    Field("energy_import_t2_kwh", "import", part="2"),
    Field("energy_import_t3_kwh", "import", part="3"),
    Field("energy_import_t4_kwh", "import", part="4"),
    Field("energy_export_kwh", "export"),
    Field("energy_export_t1_kwh", "export", part="1"),
    Field("energy_export_t2_kwh", "export", part="2"),
    Field("energy_export_t3_kwh", "export", part="3"),
    Field("energy_export_t4_kwh", "export", part="4"),
)


def read_homewizard(data: bytes, source: Source) -> Iterator[Point]:
    for order, payload in _payloads(data, "HomeWizard payload"):
        # v1 has the gas meter's time only; v2 has its own, local.
        end = _time(payload.get("timestamp"), "timestamp", source)
        meter = name_of(payload.get("unique_id")) or name_of(payload.get("serial"))
        points = _registers(payload, _HOMEWIZARD, meter, end, order)
        if not points:
            raise BadUse("no HomeWizard payload: expected total_power_import_kwh and the like")
        yield from points


HOMEWIZARD = Adapter(
    name="homewizard",
    title="HomeWizard P1 and kWh meters, local API v1 and v2",
    conventions=Conventions(
        sign="import is from the grid, export to the grid",
        interval="none: registers only",
        time="v1 none (use --at); v2 local time (--timezone)",
        units="kWh",
        register="the total, else the sum of the tariffs",
    ),
    read=read_homewizard,
)


# Fronius Solar API v1. Plus and Minus are seen from the system, whatever the way the meter is
# mounted; Consumed and Produced are what its own display shows.
_FRONIUS_METER = (
    (
        Field("EnergyReal_WAC_Plus_Absolute", "import", "Wh"),
        Field("EnergyReal_WAC_Minus_Absolute", "export", "Wh"),
    ),
    (
        Field("EnergyReal_WAC_Sum_Consumed", "import", "Wh"),
        Field("EnergyReal_WAC_Sum_Produced", "export", "Wh"),
    ),
    (
        Field("SMARTMETER_ENERGYACTIVE_CONSUMED_SUM_F64", "import", "Wh"),
        Field("SMARTMETER_ENERGYACTIVE_PRODUCED_SUM_F64", "export", "Wh"),
    ),
)
# 0 stands at the grid, 1 in the path of consumption; 3 and more count a generator or one load.
_AT_THE_GRID = (0, None)


def read_fronius(data: bytes, source: Source) -> Iterator[Point]:
    for order, payload in _payloads(data, "Fronius payload"):
        body = member(payload, "Body/Data")
        status = member(payload, "Head/Status/Code")
        if status not in (0, None):
            reason = name_of(member(payload, "Head/Status/Reason")) or "no reason given"
            raise BadUse(f"the device answered with error {status} ({reason}) instead of data")
        if not isinstance(body, dict):
            raise BadUse("no Fronius payload: expected Head and Body.Data")
        end = _time(member(payload, "Head/Timestamp"), "Timestamp", source)
        device = name_of(member(payload, "Head/RequestArguments/DeviceId"))
        yield from _fronius(body, device, end, order, source)


def _fronius(
    body: dict[str, Any], device: str | None, end: datetime | None, order: int, source: Source
) -> Iterator[Point]:
    if "TOTAL_ENERGY" in body:
        yield from _fronius_inverter(body["TOTAL_ENERGY"], device, end, order)
    elif isinstance(body.get("Site"), dict):
        inverters = body.get("Inverters")
        if isinstance(inverters, dict) and inverters:
            for key, one in inverters.items():
                if isinstance(one, dict):
                    field = Field("E_Total", "export", "Wh")
                    yield from _registers(one, [field], f"inverter-{key}", end, order)
        else:
            field = Field("E_Total", "export", "Wh")
            yield from _registers(body["Site"], [field], "site", end, order)
    elif any(field.path in body for table in _FRONIUS_METER for field in table):
        yield from _fronius_meter(body, device, end, order, source)
    elif body and all(isinstance(one, dict) for one in body.values()):
        for key, one in body.items():
            if any(field.path in one for table in _FRONIUS_METER for field in table):
                yield from _fronius_meter(one, key, end, order, source)
            else:
                source.note(f"device {key} gives no energy and was left out")
    else:
        raise BadUse(
            "no energy in this Fronius answer: expected meter, inverter or power flow data"
        )


def _fronius_inverter(
    total: Any, device: str | None, end: datetime | None, order: int
) -> Iterator[Point]:
    """TOTAL_ENERGY of one inverter (Value) or of all (Values, by device)."""
    if not isinstance(total, dict):
        raise BadUse("TOTAL_ENERGY is no object with Unit and Value")
    values = total.get("Values", {device: total.get("Value")})
    if not isinstance(values, dict):
        raise BadUse("TOTAL_ENERGY/Values is no object with a value per device")
    for key, value in values.items():
        wh = watt_hours(number(value, "TOTAL_ENERGY"), total.get("Unit"), "TOTAL_ENERGY")
        meter = f"inverter-{key}" if key is not None else None
        yield Point(meter, end, "export", wh, order=0 if end else order)


def _fronius_meter(
    body: dict[str, Any], device: str | None, end: datetime | None, order: int, source: Source
) -> Iterator[Point]:
    # The meter's own stamp is when it measured; the head's is when it was asked.
    measured = body.get("TimeStamp")
    if isinstance(measured, str):
        end = _time(measured, "TimeStamp", source)
    elif measured is not None:
        end = from_unix(measured, "TimeStamp")
    location = body.get("Meter_Location_Current")
    meter = name_of(member(body, "Details/Serial")) or device
    if location not in _AT_THE_GRID:
        source.note(f"meter {meter} does not stand at the grid (location {location})")
    table = next(t for t in _FRONIUS_METER if any(field.path in body for field in t))
    yield from _registers(body, table, meter, end, order)


FRONIUS = Adapter(
    name="fronius",
    title="Fronius Solar API v1: smart meters, inverters, power flow",
    conventions=Conventions(
        sign="meter: WAC_Plus is import, WAC_Minus export; inverter: yield is export",
        interval="none: registers only; DAY_ENERGY and YEAR_ENERGY are not used",
        time="the meter's TimeStamp, else Timestamp of the answer, with offset",
        units="Wh, or the Unit written beside",
        register="a value of null (an inverter asleep) is null",
    ),
    read=read_fronius,
)


# Shelly. Generation 1 counts emeters in Wh but plain meters of relays in watt-minutes.
_SHELLY_EMETER = (Field("total", "import", "Wh"), Field("total_returned", "export", "Wh"))
# Generation 2 and later, by the kind of component.
_SHELLY_COMPONENTS: dict[str, tuple[Field, ...]] = {
    **dict.fromkeys(
        ("switch", "cover", "light", "pm1"),
        (
            Field("aenergy/total", "import", "Wh"),
            Field("ret_aenergy/total", "export", "Wh"),
        ),
    ),
    "emdata": (
        Field("total_act", "import", "Wh"),
        Field("total_act_ret", "export", "Wh"),
    ),
    "em1data": (
        Field("total_act_energy", "import", "Wh"),
        Field("total_act_ret_energy", "export", "Wh"),
    ),
}


def read_shelly(data: bytes, source: Source) -> Iterator[Point]:
    for order, payload in _payloads(data, "Shelly payload"):
        found = False
        for point in _shelly(payload, order):
            found = True
            yield point
        if not found:
            # A message log holds answers without energy too: clocks, relays, Wi-Fi.
            source.note("a payload without energy counters was left out")


def _shelly(payload: dict[str, Any], order: int) -> Iterator[Point]:
    status = payload.get("params", payload.get("result", payload))
    if not isinstance(status, dict):
        raise BadUse("no Shelly payload: params or result is no object")
    device = next(
        (
            name_of(one)
            for one in (payload.get("src"), member(status, "sys/mac"), status.get("mac"))
            if name_of(one)
        ),
        None,
    )
    clock = next(
        (
            one
            for one in (status.get("ts"), member(status, "sys/unixtime"), status.get("unixtime"))
            if one is not None and one != 0  # zero: the device does not know the time yet
        ),
        None,
    )
    end = from_unix(clock, "time") if clock is not None else None

    def named(channel: str) -> str:
        return f"{device}/{channel}" if device else channel

    for index, one in enumerate(objects(status.get("emeters", []), "emeters")):
        quality = Quality.MEASURED if one.get("is_valid", True) is True else Quality.INVALID
        yield from _registers(one, _SHELLY_EMETER, named(f"emeter:{index}"), end, order, quality)
    for index, one in enumerate(objects(status.get("meters", []), "meters")):
        quality = Quality.MEASURED if one.get("is_valid", True) is True else Quality.INVALID
        minutes = number(one.get("total"), "total")
        if "total" in one:
            wh = None if minutes is None else minutes / Decimal(60)
            meter = named(f"relay:{index}")
            yield Point(meter, end, "import", wh, quality=quality, order=0 if end else order)
    for key, one in status.items():
        table = _SHELLY_COMPONENTS.get(key.partition(":")[0])
        if table and isinstance(one, dict):
            yield from _registers(one, table, named(key), end, order)
    if not any(isinstance(one, dict) and ":" in key for key, one in status.items()):
        # The answer of one component: it says which only by what it holds.
        for kind in ("switch", "emdata", "em1data"):
            channel = f"{kind}:{name_of(status.get('id')) or 0}"
            yield from _registers(status, _SHELLY_COMPONENTS[kind], named(channel), end, order)


SHELLY = Adapter(
    name="shelly",
    title="Shelly meters and plugs, generation 1 status and generation 2+ status and MQTT",
    conventions=Conventions(
        sign="total energy is import, returned energy export",
        interval="none: registers only",
        time="unix seconds of the message or system; none until the device knows it",
        units="Wh; watt-minutes for `meters` of generation 1",
        register="one meter per channel, named device/channel",
    ),
    read=read_shelly,
)


# Tasmota: ENERGY of its own meters, and whatever names a smart-meter script gives.
_TASMOTA_IMPORT = re.compile(
    r"(?:e|energy|total|zaehler)?_?(?:in|import|bezug|verbrauch)(?:_?kwh)?|1[._]?8[._]?0|total",
    re.IGNORECASE,
)
_TASMOTA_EXPORT = re.compile(
    r"(?:e|energy|total|zaehler)?_?(?:out|export|einspeisung|lieferung)(?:_?kwh)?|2[._]?8[._]?0",
    re.IGNORECASE,
)
_TASMOTA_SERIAL = re.compile(r"(?:meter_?)?(?:id|number|nr|serial|server_?id)", re.IGNORECASE)


def read_tasmota(data: bytes, source: Source) -> Iterator[Point]:
    for order, payload in _payloads(data, "Tasmota payload"):
        # `Status 10` wraps the same sensors once more.
        payload = next(
            (
                payload[key]
                for key in ("StatusSNS", "StatusSTS")
                if isinstance(payload.get(key), dict)
            ),
            payload,
        )
        end = _time(payload.get("Time"), "Time", source)
        found = False
        for name, sensor in payload.items():
            if isinstance(sensor, dict):
                for point in _tasmota(name, sensor, end, order):
                    found = True
                    yield point
        if not found:
            source.note("a payload without energy counters was left out")


def _tasmota(
    name: str, sensor: dict[str, Any], end: datetime | None, order: int
) -> Iterator[Point]:
    if name == "ENERGY":
        for key, direction in (("Total", "import"), ("ExportActive", "export")):
            yield from _tasmota_energy(sensor, key, direction, end, order)  # type: ignore[arg-type]
        return
    serial = next((name_of(v) for k, v in sensor.items() if _TASMOTA_SERIAL.fullmatch(k)), None)
    fields = [
        Field(key, "import" if _TASMOTA_IMPORT.fullmatch(key) else "export")
        for key, value in sensor.items()
        if isinstance(value, (int, Decimal, str))
        and (_TASMOTA_IMPORT.fullmatch(key) or _TASMOTA_EXPORT.fullmatch(key))
    ]
    yield from _registers(sensor, fields, serial or name, end, order)


def _tasmota_energy(
    sensor: dict[str, Any], key: str, direction: Direction, end: datetime | None, order: int
) -> Iterator[Point]:
    """ENERGY/Total in kWh: a number, or a list with one per phase or channel of the device."""
    if key not in sensor:
        return
    value = sensor[key]
    values = value if isinstance(value, list) else [value]
    for index, one in enumerate(values):
        wh = watt_hours(number(one, f"ENERGY/{key}"), "kWh", key)
        meter = "ENERGY" if len(values) == 1 else f"ENERGY/{index + 1}"
        yield Point(meter, end, direction, wh, order=0 if end else order)


TASMOTA = Adapter(
    name="tasmota",
    title="Tasmota energy meters and smart-meter scripts (SENSOR and Status 10)",
    conventions=Conventions(
        sign="Total, E_in, 1_8_0 and the like are import; ExportActive, E_out, 2_8_0 export",
        interval="none: registers only; Today, Yesterday and Period are not used",
        time="local time of the device (--timezone), unless it sends an offset",
        units="kWh",
        register="lists are one meter per channel",
    ),
    read=read_tasmota,
)
