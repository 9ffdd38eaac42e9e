# SPDX-License-Identifier: Apache-2.0
"""SunSpec devices: images of their models, as JSON or as the registers read over Modbus.

The library is pysunspec2, which knows every model's points, scale factors and marks for "not
implemented". The table below says which points are energy; Modbus itself is the gateway's business.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from dao.errors import BadUse
from meters.adapters.engine import Adapter, Conventions, Direction, Point, Source
from meters.adapters.fields import integer, load_json_messages, name_of, number, objects, shown

_COMMON = 1
_END = 0xFFFF


@dataclass(frozen=True)
class _Energy:
    """Where a model counts energy: its points by direction, and the kind of device."""

    kind: str
    points: tuple[tuple[Direction, str], ...]


_INVERTER = _Energy("inverter", (("export", "WH"),))
_METER = _Energy("meter", (("import", "TotWhImp"), ("export", "TotWhExp")))
_DER = _Energy("inverter", (("import", "TotWhAbs"), ("export", "TotWhInj")))
_MODELS = {
    **dict.fromkeys((101, 102, 103, 111, 112, 113), _INVERTER),
    **dict.fromkeys((201, 202, 203, 204, 211, 212, 213, 214), _METER),
    701: _DER,
}
# Points worth decoding: those above, their scale factors, and the serial number.
_NEEDED = {"SN", "WH_SF", "TotWh_SF"} | {name for one in _MODELS.values() for _, name in one.points}


def read(data: bytes, source: Source) -> Iterator[Point]:
    """Registers of every device in the image."""
    binary = _registers(data)
    devices = [_decode(binary)] if binary is not None else list(_json_devices(data))
    for order, models in enumerate(devices, start=1):
        yield from _device(models, order, source)


def _device(models: list[dict[str, Any]], order: int, source: Source) -> Iterator[Point]:
    """Points of one device. A common model names the models that follow it."""
    serial: str | None = None
    # A device may show one inverter in an old and in the new model: the new one stands for both.
    has_der = any(model["ID"] == 701 for model in models)
    used: set[tuple[str | None, str]] = set()
    for model in models:
        if model["ID"] == _COMMON:
            serial = name_of(model.get("SN"))
        energy = _MODELS.get(model["ID"])
        if energy is None or (has_der and energy is _INVERTER):
            continue
        kinds = {kind for name, kind in used if name == serial}
        if energy.kind in kinds:
            source.note(f"model {model['ID']} repeats the {energy.kind} and was left out")
            continue
        used.add((serial, energy.kind))
        # One serial number may cover an inverter and a meter: they stay two meters here.
        meter = f"{serial or ''}/{energy.kind}" if kinds else serial
        for direction, name in energy.points:
            yield Point(meter, None, direction, _value(model, name, source), order=order)
    if not used:
        listed = ", ".join(str(model["ID"]) for model in models) or "none"
        source.note(f"no model of the device counts energy (models: {listed})")


def _value(model: dict[str, Any], name: str, source: Source) -> Decimal | None:
    """Wh of a point, scaled; None where the device does not implement it."""
    from sunspec2 import mb, mdef
    from sunspec2.device import get_model_def

    definition = get_model_def(model["ID"])["group"]["point_defs"][name]
    what = f"model {model['ID']}, {name}"
    raw = number(model.get(name), what)
    if raw is None:
        return None
    is_float = definition["type"] == mdef.TYPE_FLOAT32
    if not is_float and raw != raw.to_integral_value():
        raise BadUse(f"{what} is {shown(raw)}, expected the register's whole number")
    # A counter that is not implemented shows zero (acc32) or all ones; both are no reading.
    if not mb.point_type_info[definition["type"]].is_impl(raw if is_float else int(raw)):
        return None
    scale_point = definition.get("sf")
    if scale_point is None:
        return raw
    scale = number(model.get(scale_point), f"model {model['ID']}, {scale_point}")
    if scale is None or not -10 <= scale <= 10 or scale != scale.to_integral_value():
        source.note(
            f"{what}: its scale factor {scale_point} is not usable, so neither is the value"
        )
        return None
    return raw.scaleb(int(scale))


def _json_devices(data: bytes) -> Iterator[list[dict[str, Any]]]:
    """Models of devices in the JSON form of pysunspec2: {"models": [{"ID": 1, ...}, ...]}."""
    for message in load_json_messages(data):
        for device in message if isinstance(message, list) else [message]:
            models = device.get("models") if isinstance(device, dict) else None
            if models is None:
                raise BadUse('no SunSpec image: expected {"models": [{"ID": 1, ...}, ...]}')
            listed = objects(models, "models")
            yield [{**one, "ID": integer(one.get("ID"), "ID of a model")} for one in listed]


def _registers(data: bytes) -> bytes | None:
    """The register map if the bytes are one, raw or hexadecimal; it starts with "SunS"."""
    if data.startswith(b"SunS"):
        return data
    digits = b"".join(data.split())
    if re.fullmatch(rb"53756[eE]53[0-9A-Fa-f]*", digits) and len(digits) % 2 == 0:
        return bytes.fromhex(digits.decode())
    return None


def _decode(data: bytes) -> list[dict[str, Any]]:
    """Models of a register map: ID and length in registers before each, 0xFFFF after the last."""
    from sunspec2 import mb
    from sunspec2.device import get_model_def

    models: list[dict[str, Any]] = []
    at = 4
    while True:
        if len(data) < at + 4:
            raise BadUse("the register map breaks off: no end model (0xFFFF)")
        number_, length = (int.from_bytes(data[i : i + 2], "big") for i in (at, at + 2))
        if number_ == _END:
            return models
        body = data[at : at + 4 + length * 2]
        if len(body) < 4 + length * 2:
            raise BadUse(f"the register map breaks off within model {number_}")
        model: dict[str, Any] = {"ID": number_}
        if number_ == _COMMON or number_ in _MODELS:
            offset = 0
            for point in get_model_def(number_)["group"]["points"]:
                info = mb.point_type_info[point["type"]]
                size = int(point.get("size", info.len)) * 2
                piece = body[offset : offset + size]
                offset += size
                if len(piece) == size and point["name"] in _NEEDED:
                    model[point["name"]] = _plain(info.data_to, piece, point["name"])
        models.append(model)
        at += 4 + length * 2


def _plain(decode: Callable[[bytes], Any], piece: bytes, name: str) -> Any:
    """A point's value, a float in its shortest decimal; NaN is "not implemented"."""
    try:
        value = decode(piece)
    except ValueError:
        raise BadUse(f"point {name} holds {piece!r}, which is no text") from None
    if isinstance(value, float):
        return None if value != value else Decimal(repr(value))
    return value


SUNSPEC = Adapter(
    name="sunspec",
    title="SunSpec model images of inverters and meters (JSON, or Modbus registers)",
    conventions=Conventions(
        sign="WH and TotWhInj (yield) and TotWhExp are export, TotWhAbs and TotWhImp import",
        interval="none: registers only",
        time="none in the image (use --at)",
        units="Wh, times ten to the power of the scale factor",
        register="not implemented (0 in acc32, all ones, NaN) is null",
    ),
    read=read,
)
