# SPDX-License-Identifier: Apache-2.0
"""What all simulated devices share: a life as a context manager, a TCP server, faults of the wire.

What a telegram says is each device's own module.
"""

from __future__ import annotations

import asyncio
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import ClassVar, Self

from dao.errors import BadUse
from meters.simulate.clock import Clock, ticks
from meters.simulate.faults import Fault, FaultKind, Faults, Shown


@dataclass(frozen=True)
class State:
    """What the device shows at `at`, true time: registers in whole Wh, and W of the moment."""

    at: float
    import_wh: int
    export_wh: int
    import_w: int
    export_w: int

    @staticmethod
    def of(at: float, shown: Shown) -> State:
        return State(
            at,
            shown.import_register // shown.per_wh,
            shown.export_register // shown.per_wh,
            shown.import_w,
            shown.export_w,
        )


class Device(ABC):
    """A device between `async with` and its end. Made anywhere, entered in a running loop."""

    kind: ClassVar[str]

    def __init__(self, clock: Clock, faults: Iterable[Fault] = ()) -> None:
        self.clock = clock
        self.faults = Faults(faults)
        self._tasks: set[asyncio.Task[None]] = set()
        self._failure: BaseException | None = None

    @property
    @abstractmethod
    def address(self) -> str:
        """Where a client finds it, once entered."""

    @abstractmethod
    def state(self) -> State:
        """What its registers show now."""

    @abstractmethod
    async def _start(self) -> None: ...

    async def _stop(self) -> None:
        """End what `_start` began; called even if that failed half-way."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def inject(self, kind: FaultKind, seconds: float = float("inf")) -> None:
        """From now on, or for some seconds of device time, show a fault."""
        now = self.clock()
        self.faults.inject(Fault(kind, now, now + seconds))

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stop()
        # A device that broke down under way says so; until now nobody was there to be told.
        if self._failure is not None and error is None:
            raise self._failure

    def _own(self, task: asyncio.Task[None]) -> None:
        """Keep a task alive, and end it with the device."""
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._failure = task.exception()


class TcpDevice(Device):
    """A device that listens; port 0 takes a free one."""

    def __init__(
        self, clock: Clock, *, host: str = "127.0.0.1", port: int = 0, faults: Iterable[Fault] = ()
    ) -> None:
        super().__init__(clock, faults)
        if not 0 <= port <= 65535:
            raise BadUse(f"port {port} does not exist: 0 to 65535")
        self.host = host
        self.port = port
        self._server: asyncio.Server | None = None

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    async def _start(self) -> None:
        try:
            self._server = await asyncio.start_server(self._accept, self.host, self.port)
        except OSError as error:
            raise cannot_listen(self.host, self.port, error) from None
        self.port = self._server.sockets[0].getsockname()[1]

    async def _stop(self) -> None:
        if self._server is not None:
            self._server.close()
        await super()._stop()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._own(task)
        try:
            with suppress(ConnectionError, TimeoutError, asyncio.IncompleteReadError):
                await self._serve(reader, writer)
        except asyncio.CancelledError:
            # The device ends. asyncio would report a cancelled connection as an error.
            pass
        finally:
            # Not waited for: a client that does not read could hold up the end.
            writer.transport.abort() if writer.transport.get_write_buffer_size() else writer.close()

    @abstractmethod
    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, until it ends."""

    async def _send(self, writer: asyncio.StreamWriter, data: bytes, at: float) -> None:
        """One telegram, as far as the faults at `at` let it through."""
        if self.faults.active(FaultKind.SILENT, at):
            return
        if self.faults.active(FaultKind.CORRUPT, at):
            data = corrupted(data)
        if self.faults.active(FaultKind.DROP, at):
            writer.write(data[: len(data) // 2])
            await writer.drain()
            raise ConnectionAbortedError
        if self.faults.active(FaultKind.SLOW, at):
            for i in range(len(data)):
                writer.write(data[i : i + 1])
                await writer.drain()
                await self.clock.sleep_until(self.clock() + 1)
            return
        writer.write(data)
        await writer.drain()


class PushDevice(TcpDevice):
    """Sends a telegram to every client as it connects, then one per period of device time."""

    period: int

    @abstractmethod
    def telegram(self, at: float) -> bytes:
        """The telegram of a moment."""

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sending = asyncio.current_task()
        assert sending is not None

        async def hang_up() -> None:
            # What a client sends is thrown away; its end must be seen while the clock stands still.
            with suppress(ConnectionError):
                while await reader.read(4096):
                    pass
            sending.cancel()

        self._own(asyncio.create_task(hang_up()))
        async for at in ticks(self.clock, self.period):
            await self._send(writer, self.telegram(at), at)


def corrupted(data: bytes) -> bytes:
    """The bytes with one bit in the middle flipped; text stays text."""
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def cannot_listen(host: str, port: int, error: OSError) -> BadUse:
    reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
    return BadUse(f"cannot listen on {host}:{port}: {reason}")


def crc16(data: bytes, polynomial: int, start: int = 0) -> int:
    """A CRC of 16 bits, bits of each byte taken from the lowest (reflected); not inverted."""
    table = _crc_table(polynomial)
    crc = start
    for byte in data:
        crc = (crc >> 8) ^ table[(crc ^ byte) & 0xFF]
    return crc


_TABLES: dict[int, tuple[int, ...]] = {}


def _crc_table(polynomial: int) -> tuple[int, ...]:
    if polynomial not in _TABLES:
        rows = []
        for row in range(256):
            for _ in range(8):
                row = row >> 1 ^ (polynomial if row & 1 else 0)
            rows.append(row)
        _TABLES[polynomial] = tuple(rows)
    return _TABLES[polynomial]
