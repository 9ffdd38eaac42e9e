# SPDX-License-Identifier: Apache-2.0
"""SML files as German meters send them through their optical port, and their OBIS codes.

The library is pysml: it finds frames in a byte stream and checks their CRC. The meaning of an OBIS
code is in `fields`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any

from dao.errors import BadUse, CheckFailed
from meters.adapters.engine import Adapter, Conventions, Point, Source
from meters.adapters.fields import bounded, number, obis, shown, watt_hours

_START = bytes.fromhex("1b1b1b1b01010101")
_END = bytes.fromhex("1b1b1b1b1a")
# Longer than any file of a meter; the library looks at one window at a time.
_WINDOW = 65_536
# Where a meter names itself, best first.
_IDENTITY = ("1-0:96.1.0*255", "1-0:0.0.9*255")


def read(data: bytes, source: Source) -> Iterator[Point]:
    """Registers of every SML frame; CheckFailed if no frame's CRC holds."""
    data = _raw(data)
    begun = data.count(_START)
    if not begun:
        raise BadUse("no SML found: a file starts with 1b1b1b1b 01010101, as bytes or as hex")
    good = 0
    order = 0
    for frame in _frames(data):
        good += 1
        for message in frame:
            body = message.get("messageBody")
            if isinstance(body, dict) and "valList" in body:
                order += 1
                yield from _points(body, order, source)
    if not good:
        raise CheckFailed("no SML frame in the bytes is whole with a CRC that holds")
    if good < begun:
        source.note(f"{begun - good} of {begun} SML frames are damaged (CRC) and were left out")


def _raw(data: bytes) -> bytes:
    """The bytes themselves, or those that a hexadecimal dump stands for."""
    if _START not in data and re.fullmatch(rb"[0-9A-Fa-f\s]+", data):
        digits = b"".join(data.split())
        if len(digits) % 2 == 0:
            return bytes.fromhex(digits.decode())
    return data


def _scale(entry: Any) -> None:
    """A value times ten to its scaler, exact.

    Takes the place of the library's own scaling, which divides floats and which a scaler beyond
    SML's Integer8 keeps busy for minutes.
    """
    value, scaler = entry.get("value"), entry.get("scaler")
    if isinstance(value, int) and scaler is not None:
        if not -128 <= scaler <= 127:
            raise ValueError(f"scaler {scaler}, expected -128 to 127")
        entry["value"] = Decimal(value).scaleb(scaler)


def _frames(data: bytes) -> Iterator[list[Any]]:
    import sml

    sml.SmlListEntry.scale_value = _scale
    at = data.find(_START)
    while at >= 0:
        window = data[at : at + _WINDOW]
        try:
            end, frame = sml.SmlBase.find_frame(window)
        except Exception as error:  # a frame may hold a good CRC over what the library cannot read
            raise BadUse(f"SML cannot be read: {shown(error)}") from None
        if frame is not None:
            yield frame
        elif _END not in window and len(window) == _WINDOW:
            end = _WINDOW - len(_START)
        at = data.find(_START, at + max(end, len(_START)))


def _points(body: dict[str, Any], order: int, source: Source) -> Iterator[Point]:
    entries = [one for one in body["valList"] if isinstance(one, dict)]
    values = {one.get("objName"): one.get("value") for one in entries}
    meter = next((values[code] for code in _IDENTITY if isinstance(values.get(code), str)), None)
    clock = body.get("actSensorTime") or body.get("actGatewayTime")
    for one in entries:
        code = one.get("objName")
        code = code if isinstance(code, str) else ""
        meaning = obis(code)
        if meaning is None or "value" not in one:
            continue
        when = one.get("valTime", clock)
        # Seconds since the meter started, which most meters give, are no clock time.
        end = bounded(when, "time of the SML list") if isinstance(when, datetime) else None
        exact = number(one["value"], code)
        if "unit" not in one:
            source.note(f"{code} has no unit and was left out")
            continue
        yield Point(
            meter or body.get("serverId"),
            end,
            meaning.direction,
            watt_hours(exact, one["unit"], code),
            part=meaning.part,
            order=0 if end else order,
        )


SML = Adapter(
    name="sml",
    title="SML of German meters (optical port, bytes as on the wire or as hex)",
    conventions=Conventions(
        sign="1-0:1.8.x from the grid is import, 1-0:2.8.x to the grid is export",
        interval="none: registers only",
        time="UTC where the meter has a clock; most count seconds only, then none (use --at)",
        units="Wh, with the scaler of each entry",
        register="1.8.0 and 2.8.0, else the sum of the tariffs",
    ),
    read=read,
)
