# SPDX-License-Identifier: Apache-2.0
"""A SunSpec device on Modbus TCP: its register image, laid out by the models' own definitions, and
the server that serves it.

Every request sees one moment: all registers of an answer are made at once, and a value of several
registers can only be written whole. What the points mean is the devices' own business.
"""

from __future__ import annotations

import asyncio
import logging
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from dao.errors import BadUse
from meters.simulate.clock import Clock
from meters.simulate.faults import Fault, FaultKind
from meters.simulate.wire import Device, corrupted

BASE = 40_000
"""Where a SunSpec map begins, as Modbus counts: from zero."""
_READ, _WRITE = {3, 4}, {6, 16, 22, 23}
COMMON = 1


@dataclass(frozen=True)
class Point:
    """A point of a model in the image: its place in registers from BASE, and its codec."""

    model: int
    name: str
    offset: int
    size: int
    info: Any
    absent: bytes
    writable: bool

    def encoded(self, value: int | str | None) -> list[int]:
        """Registers of a value; None is what the standard writes for "not implemented"."""
        if value is None:
            data = self.absent
        elif isinstance(value, str):
            data = value.encode("ascii")[: self.size * 2].ljust(self.size * 2, b"\0")
        else:
            data = self.info.to_data(value, self.size * 2)
        return [int.from_bytes(data[i : i + 2], "big") for i in range(0, len(data), 2)]

    def decoded(self, registers: Sequence[int]) -> int:
        words = registers[self.offset : self.offset + self.size]
        return int(self.info.data_to(b"".join(word.to_bytes(2, "big") for word in words)))


class Image:
    """The register map of some models, in order; what is not given is not implemented."""

    def __init__(
        self,
        models: Mapping[int, Mapping[str, int | str]],
        writable: Mapping[int, frozenset[str]],
    ) -> None:
        from sunspec2 import mb
        from sunspec2.device import get_model_def

        self.points: dict[tuple[int, str], Point] = {}
        registers = [int.from_bytes(b"Su", "big"), int.from_bytes(b"nS", "big")]
        for model, values in models.items():
            begin = len(registers)
            group = get_model_def(model)["group"]
            for definition in _flat(group):
                name, kind = definition["name"], definition["type"]
                info = mb.point_type_info[kind]
                size = int(definition.get("size") or info.len)
                point = Point(
                    model,
                    name,
                    len(registers),
                    size,
                    info,
                    mb.create_unimpl_value(kind, size * 2),
                    name in writable.get(model, frozenset()),
                )
                self.points[model, name] = point
                registers += point.encoded(values.get(name))
            head = self.points[model, "ID"], self.points[model, "L"]
            for point, value in zip(head, (model, len(registers) - begin - 2), strict=True):
                registers[point.offset : point.offset + 1] = point.encoded(value)
        self.registers = [*registers, 0xFFFF, 0]

    @cached_property
    def _owners(self) -> list[Point | None]:
        """The point that each register belongs to."""
        owners: list[Point | None] = [None] * len(self.registers)
        for point in self.points.values():
            owners[point.offset : point.offset + point.size] = [point] * point.size
        return owners

    def put(self, registers: list[int], values: Mapping[tuple[int, str], int | None]) -> None:
        """Write points into a copy of the map, or into the server's own."""
        for key, value in values.items():
            point = self.points[key]
            registers[point.offset : point.offset + point.size] = point.encoded(value)

    def written(self, offset: int, words: Sequence[int]) -> dict[tuple[int, str], int] | None:
        """The points that a write sets; None if it meets one half-way or one that is read only."""
        if not 0 <= offset <= offset + len(words) <= len(self.registers):
            return None
        registers = [0] * len(self.registers)
        registers[offset : offset + len(words)] = words
        found: dict[tuple[int, str], int] = {}
        for point in dict.fromkeys(self._owners[offset : offset + len(words)]):
            if point is None or not point.writable:
                return None
            if point.offset < offset or point.offset + point.size > offset + len(words):
                return None
            found[point.model, point.name] = point.decoded(registers)
        return found


def _flat(group: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    """Points of a group, then of the groups within it; names of the latter after their group."""
    yield from group["points"]
    for inner in group.get("groups", ()):
        for point in _flat(inner):
            yield {**point, "name": f"{inner['name']}.{point['name']}"}


class Refused(Exception):
    """A write that the device does not take; `code` is Modbus' own number for why."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class SunSpecDevice(Device):
    """Serves an image. `_values` fills it for a moment, `_write` takes what a client sets."""

    def __init__(
        self,
        clock: Clock,
        image: Image,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        unit: int = 1,
        faults: Iterable[Fault] = (),
    ) -> None:
        super().__init__(clock, faults)
        if not 0 <= port <= 65535:
            raise BadUse(f"port {port} does not exist: 0 to 65535")
        if not 1 <= unit <= 247:
            raise BadUse(f"Modbus unit {unit} does not exist: 1 to 247")
        self.host, self.port, self.unit = host, port, unit
        self.image = image
        self._server: Any = None

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    @abstractmethod
    def _values(self, at: float) -> Mapping[tuple[int, str], int | None]:
        """The points that change, at a moment."""

    def _write(self, points: Mapping[tuple[int, str], int], at: float) -> None:
        """Take what a client set, or raise `Refused`."""
        raise Refused(2)

    async def _action(
        self,
        function: int,
        start: int,
        address: int,
        count: int,
        registers: list[int],
        values: list[int] | list[bool] | None,
    ) -> Any:
        from pymodbus.constants import ExcCodes

        at = self.clock()
        if function not in _READ | _WRITE:
            return ExcCodes.ILLEGAL_FUNCTION
        if values is not None:
            points = self.image.written(address - start, [int(word) for word in values])
            if points is None:
                return ExcCodes.ILLEGAL_ADDRESS
            if self.faults.active(FaultKind.REFUSE, at):
                return ExcCodes.DEVICE_FAILURE
            try:
                self._write(points, at)
            except Refused as refused:
                return ExcCodes(refused.code)
        self.image.put(registers, self._values(at))
        return None

    async def _start(self) -> None:
        from pymodbus.server import ModbusTcpServer
        from pymodbus.simulator import DataType, SimData, SimDevice

        # It logs a client's every wrong move as an error of its own.
        logging.getLogger("pymodbus.logging").setLevel(logging.CRITICAL)
        block = SimData(BASE, values=list(self.image.registers), datatype=DataType.REGISTERS)
        unit = SimDevice(self.unit, simdata=[block], action=self._action)
        made = _connection_class()

        class Server(ModbusTcpServer):
            def callback_new_connection(server) -> Any:
                return made(self, server)

        server = Server(unit, address=(self.host, self.port))
        try:
            await server.serve_forever(background=True)
        except RuntimeError:
            raise BadUse(
                f"cannot listen on {self.host}:{self.port}: in use, or no address of this machine"
            ) from None
        self._server = server
        self.port = self._server.transport.sockets[0].getsockname()[1]

    async def _stop(self) -> None:
        if self._server is not None:
            await self._server.shutdown()
        await super()._stop()

    async def _dribble(self, transport: Any, data: bytes) -> None:
        for i in range(len(data)):
            if transport.is_closing():
                return
            transport.write(data[i : i + 1])
            await self.clock.sleep_until(self.clock() + 1)


def _connection_class() -> Any:
    """pymodbus' handler of one connection, with the wire's faults; made late, it is heavy."""
    from pymodbus.server.requesthandler import ServerRequestHandler

    class Connection(ServerRequestHandler):
        def __init__(self, device: SunSpecDevice, server: Any) -> None:
            super().__init__(server, None, None, None)
            self.device = device

        def send(self, data: bytes, addr: tuple[str, int] | None = None) -> None:
            device, at = self.device, self.device.clock()
            if device.faults.active(FaultKind.SILENT, at):
                return
            if device.faults.active(FaultKind.CORRUPT, at):
                # Modbus TCP has no checksum: what can be seen is a wrong head.
                data = corrupted(data[:4]) + data[4:]
            if device.faults.active(FaultKind.DROP, at):
                super().send(data[: len(data) // 2], addr)
                with suppress(AttributeError):
                    self.transport.close()
            elif device.faults.active(FaultKind.SLOW, at):
                task = asyncio.create_task(device._dribble(self.transport, data))
                device._own(task)
            else:
                super().send(data, addr)

    return Connection
