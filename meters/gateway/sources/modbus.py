# SPDX-License-Identifier: Apache-2.0
"""SunSpec over Modbus TCP: finding a device's models, reading them, and writing control points.

A value of several registers is read and written in one request, so that it is never torn. The
meaning of energy points is the `sunspec` adapter's, the use of control points the drivers'.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from meters.gateway.clock import Clock, every
from meters.gateway.settings import Endpoint, SourceSettings
from meters.gateway.sources.readers import Lost, Payload

BASES = (40_000, 0, 50_000)
"""Where a SunSpec map may begin, as Modbus counts from zero."""
_MARK = b"SunS"
_END = 0xFFFF
_COMMON = 1
ENERGY_MODELS = frozenset((101, 102, 103, 111, 112, 113, *range(201, 205), *range(211, 215), 701))
_MOST_REGISTERS = 125
_MOST_MODELS = 60
_TIMEOUT_S = 5.0


class Refused(Exception):
    """The device answered a request with a Modbus exception."""

    def __init__(self, code: int) -> None:
        super().__init__(f"Modbus exception {code}")


@dataclass(frozen=True)
class ModelAt:
    """A model in the device's map: its number, where its points begin, and how many registers."""

    number: int
    at: int
    length: int


@dataclass(frozen=True)
class PointAt:
    """A point of a model: its first register from the model's ID on, its size, and its codec."""

    offset: int
    size: int
    info: Any


class SunSpecClient:
    """A connection to one unit, for one task at a time."""

    def __init__(self, address: Endpoint, unit: int) -> None:
        from pymodbus.client import AsyncModbusTcpClient

        # Its log names every lost packet; what matters is raised.
        logging.getLogger("pymodbus.logging").setLevel(logging.CRITICAL)
        self._address = address
        self._unit = unit
        self.models: list[ModelAt] = []
        self._client = AsyncModbusTcpClient(
            address.host,
            port=address.port(502),
            timeout=_TIMEOUT_S,
            retries=0,
            reconnect_delay=0,
        )

    async def open(self) -> None:
        """Connect and find the models. Raises Lost."""
        if not await self._client.connect():
            raise Lost(f"{self._address}: no Modbus connection")
        base = await self._base()
        at = base + 2
        self.models = []
        while len(self.models) < _MOST_MODELS:
            number, length = await self._words(at, 2)
            if number == _END:
                return
            self.models.append(ModelAt(number, at, length))
            at += 2 + length
        raise Lost(f"{self._address}: the list of its models has no end")

    async def _base(self) -> int:
        for base in BASES:
            try:
                words = await self._words(base, 2)
            except Refused:
                continue
            if _bytes(words) == _MARK:
                return base
        raise Lost(f"{self._address}: no SunSpec device (no SunS at {', '.join(map(str, BASES))})")

    def close(self) -> None:
        """End the connection."""
        self._client.close()

    @property
    def is_open(self) -> bool:
        return bool(self._client.connected)

    def find(self, *numbers: int) -> ModelAt | None:
        """The first of the models that the device has, in the order asked for."""
        for number in numbers:
            for model in self.models:
                if model.number == number:
                    return model
        return None

    async def image(self, models: Iterable[ModelAt]) -> bytes:
        """The register map of some models, as the adapter takes it."""
        parts = [_MARK]
        for model in models:
            words: list[int] = []
            for begin, count in _pieces(model):
                words += await self._words(model.at + begin, count)
            parts.append(_bytes(words))
        parts.append(_END.to_bytes(2, "big") + bytes(2))
        return b"".join(parts)

    async def read(self, model: ModelAt, names: Iterable[str]) -> dict[str, int | None]:
        """Points by name, unscaled; None where the device does not implement one."""
        places = points_of(model.number)
        found: dict[str, int | None] = {}
        for name in names:
            place = places[name]
            if place.offset + place.size > model.length + 2:
                found[name] = None
                continue
            data = _bytes(await self._words(model.at + place.offset, place.size))
            value = place.info.data_to(data)
            found[name] = int(value) if place.info.is_impl(value) else None
        return found

    async def write(self, model: ModelAt, values: Mapping[str, int]) -> None:
        """Set points, neighbours in one request, in the model's order. Raises Refused or Lost."""
        places = points_of(model.number)
        runs: list[tuple[int, list[int]]] = []
        for name in sorted(values, key=lambda one: places[one].offset):
            place = places[name]
            try:
                words = _words_of(place.info.to_data(values[name], place.size * 2))
            except struct.error:
                raise Lost(f"{self._address}: {name} cannot hold {values[name]}") from None
            if runs and runs[-1][0] + len(runs[-1][1]) == place.offset:
                runs[-1][1].extend(words)
            else:
                runs.append((place.offset, words))
        for offset, words in runs:
            answer = await self._ask(
                self._client.write_registers(model.at + offset, words, device_id=self._unit)
            )
            if answer.isError():
                raise Refused(answer.exception_code)

    async def _words(self, at: int, count: int) -> list[int]:
        answer = await self._ask(
            self._client.read_holding_registers(at, count=count, device_id=self._unit)
        )
        if answer.isError():
            raise Refused(answer.exception_code)
        if len(answer.registers) != count:
            raise Lost(f"{self._address}: {len(answer.registers)} registers instead of {count}")
        return list(answer.registers)

    async def _ask(self, request: Any) -> Any:
        from pymodbus.exceptions import ModbusException

        try:
            return await request
        except (ModbusException, OSError, TimeoutError, asyncio.InvalidStateError) as error:
            # The library turns a cancelled request into an error of its own.
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise asyncio.CancelledError from None
            raise Lost(f"{self._address}: {' '.join(str(error).split())[:200]}") from None


class SunSpecReader:
    """A device's energy models, read on the grid of its period."""

    def __init__(self, settings: SourceSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock

    async def payloads(self) -> AsyncIterator[Payload]:
        client = SunSpecClient(self._settings.address, self._settings.unit)
        try:
            await client.open()
            wanted = [one for one in client.models if one.number in ENERGY_MODELS | {_COMMON}]
            if all(one.number == _COMMON for one in wanted):
                listed = ", ".join(str(one.number) for one in client.models)
                raise Lost(f"{self._settings.address}: no model counts energy (it has {listed})")
            async for _ in every(self._clock, self._settings.every_s):
                begun = self._clock()
                image = await client.image(wanted)
                yield Payload(image, (begun + self._clock()) / 2)
        except Refused as refused:
            raise Lost(f"{self._settings.address}: {refused}") from None
        finally:
            client.close()


@cache
def points_of(number: int) -> dict[str, PointAt]:
    """The points of a model by name, with their places counted from the model's ID."""
    from sunspec2 import mb
    from sunspec2.device import get_model_def

    places: dict[str, PointAt] = {}
    offset = 0
    for point in get_model_def(number)["group"]["points"]:
        info = mb.point_type_info[point["type"]]
        size = int(point.get("size") or info.len)
        places[point["name"]] = PointAt(offset, size, info)
        offset += size
    return places


def _pieces(model: ModelAt) -> list[tuple[int, int]]:
    """Runs of registers that one request can hold each, cut between points only."""
    total = model.length + 2
    pieces: list[tuple[int, int]] = []
    begin = end = 0
    for place in points_of(model.number).values():
        if place.offset + place.size > total:
            break
        if place.offset + place.size - begin > _MOST_REGISTERS:
            pieces.append((begin, end - begin))
            begin = end
        end = place.offset + place.size
    if end > begin:
        pieces.append((begin, end - begin))
    # What the definition does not know of, a longer version of the model say.
    for rest in range(end, total, _MOST_REGISTERS):
        pieces.append((rest, min(_MOST_REGISTERS, total - rest)))
    return pieces


def _bytes(words: Iterable[int]) -> bytes:
    return b"".join(word.to_bytes(2, "big") for word in words)


def _words_of(data: bytes) -> list[int]:
    return [int.from_bytes(data[i : i + 2], "big") for i in range(0, len(data), 2)]
