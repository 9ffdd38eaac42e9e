# SPDX-License-Identifier: Apache-2.0
"""Readers: one connection to one device, for as long as it lasts. They hand on raw payloads.

A reader ends by raising `Lost`; whoever runs it connects again (`follow`). What the payloads say is
not looked at here.
"""

from __future__ import annotations

import asyncio
import os
import random
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from dao.errors import BadUse
from meters.gateway.clock import Clock, every
from meters.gateway.settings import Endpoint, SourceSettings
from meters.gateway.sources.framing import Framer, P1Framer, SmlFramer

if TYPE_CHECKING:
    import aiomqtt
    from requests import Session

MAX_PAYLOAD = 1 << 20
_CHUNK = 4096
_CONNECT_S = 10.0
_FIRST_RETRY_S, _LONGEST_RETRY_S = 0.2, 30.0


class Lost(Exception):
    """The connection is gone or was never made; the text says why."""


@dataclass(frozen=True)
class Payload:
    """Bytes of a device and when they came, unix seconds."""

    data: bytes
    received: float


class Reader(Protocol):
    """One kind of line or socket."""

    def payloads(self) -> AsyncIterator[Payload]:
        """Connect and yield payloads until the connection is lost."""
        ...


async def follow(
    reader: Reader, take: Callable[[Payload], None], told: Callable[[str | None], None]
) -> None:
    """Read for ever: connect again whenever the line is lost, at random after longer and longer.

    told: is given why there is no connection, and None once payloads come.
    """
    wait = _FIRST_RETRY_S
    while True:
        try:
            async for payload in reader.payloads():
                told(None)
                wait = _FIRST_RETRY_S
                take(payload)
        except Lost as lost:
            told(str(lost))
        else:
            told("the connection was closed")
        await asyncio.sleep(wait * random.uniform(0.5, 1.0))
        wait = min(wait * 2, _LONGEST_RETRY_S)


class StreamReader:
    """A meter that pushes telegrams over TCP or a serial line."""

    def __init__(self, settings: SourceSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock

    async def payloads(self) -> AsyncIterator[Payload]:
        framer: Framer = P1Framer() if self._settings.kind == "p1" else SmlFramer()
        chunks = self._tcp() if self._settings.address.scheme == "tcp" else self._serial()
        try:
            async for chunk in chunks:
                for telegram in framer.feed(chunk):
                    yield Payload(telegram, self._clock())
        finally:
            await chunks.aclose()

    async def _tcp(self) -> AsyncGenerator[bytes, None]:
        address = self._settings.address
        try:
            async with asyncio.timeout(_CONNECT_S):
                reader, writer = await asyncio.open_connection(address.host, address.port(0))
        except (OSError, TimeoutError) as error:
            raise Lost(f"{address}: {_why(error)}") from None
        try:
            while True:
                try:
                    async with asyncio.timeout(self._settings.silent_s):
                        chunk = await reader.read(_CHUNK)
                except TimeoutError:
                    raise Lost(f"{address}: silent for {self._settings.silent_s:g} s") from None
                except OSError as error:
                    raise Lost(f"{address}: {_why(error)}") from None
                if not chunk:
                    raise Lost(f"{address}: the device closed the connection")
                yield chunk
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _serial(self) -> AsyncGenerator[bytes, None]:
        import serial

        path = self._settings.address.parts.path
        try:
            line = serial.Serial(path, self._settings.baud, timeout=1)
        except (serial.SerialException, OSError, ValueError) as error:
            raise Lost(f"{path}: {_why(error)}") from None
        try:
            while True:
                try:
                    # A read waits for its first byte only, and for a second at most.
                    chunk = await asyncio.to_thread(_read_some, line)
                except (serial.SerialException, OSError) as error:
                    raise Lost(f"{path}: {_why(error)}") from None
                if chunk:
                    yield chunk
        finally:
            line.close()


def _read_some(line: object) -> bytes:
    first: bytes = line.read(1)  # type: ignore[attr-defined]
    return first + line.read(line.in_waiting) if first else b""  # type: ignore[attr-defined]


class HttpReader:
    """A device that answers GET with JSON, asked on the grid of its period."""

    def __init__(self, settings: SourceSettings, clock: Clock, token: str | None) -> None:
        self._settings = settings
        self._clock = clock
        self._token = token

    async def payloads(self) -> AsyncIterator[Payload]:
        import requests
        import urllib3

        with requests.Session() as session:
            if self._token is not None:
                session.headers["Authorization"] = f"Bearer {self._token}"
            async for _ in every(self._clock, self._settings.every_s):
                begun = self._clock()
                try:
                    data = await asyncio.to_thread(_get, session, self._settings.address.url)
                # What breaks off in the body is told by urllib3 or the socket itself.
                except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
                    raise Lost(f"{self._settings.address}: {_why(error)}") from None
                if len(data) > MAX_PAYLOAD:
                    raise Lost(f"{self._settings.address}: an answer beyond 1 MiB")
                yield Payload(data, (begun + self._clock()) / 2)


def _get(session: Session, url: str) -> bytes:
    with session.get(url, timeout=_CONNECT_S, stream=True) as answer:
        answer.raise_for_status()
        data: bytes = answer.raw.read(MAX_PAYLOAD + 1, decode_content=True)
    return data


class MqttReader:
    """A device that publishes JSON under a topic."""

    def __init__(self, settings: SourceSettings, clock: Clock, password: str | None) -> None:
        self._settings = settings
        self._clock = clock
        self._password = password

    async def payloads(self) -> AsyncIterator[Payload]:
        import aiomqtt

        client = mqtt_client(self._settings.address, self._password, None, None)
        try:
            async with client:
                assert self._settings.topic is not None
                await client.subscribe(self._settings.topic)
                async for message in client.messages:
                    # A retained message may be of any age: its time is not now.
                    if message.retain or not isinstance(message.payload, bytes | bytearray):
                        continue
                    if len(message.payload) <= MAX_PAYLOAD:
                        yield Payload(bytes(message.payload), self._clock())
        except (aiomqtt.MqttError, OSError, ValueError) as error:
            raise Lost(f"{self._settings.address}: {_why(error)}") from None


def mqtt_client(
    address: Endpoint, password: str | None, ca_file: Path | None, identifier: str | None
) -> aiomqtt.Client:
    """A client for a broker; `mqtts` with TLS, by the machine's authorities or those of a file."""
    import aiomqtt

    is_tls = address.scheme == "mqtts"
    try:
        context = ssl.create_default_context(cafile=ca_file) if is_tls else None
    except (OSError, ssl.SSLError) as error:
        raise BadUse(f"cannot use the certificates in {ca_file}: {_why(error)}") from None
    return aiomqtt.Client(
        address.host,
        address.port(8883 if is_tls else 1883),
        username=address.parts.username,
        password=password,
        identifier=identifier,
        timeout=_CONNECT_S,
        tls_context=context,
    )


def _why(error: BaseException) -> str:
    """An error in a few words, on one line, without a URL's secrets."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError) and error.errno and error.errno > 0:
        return os.strerror(error.errno)
    if (answer := getattr(error, "response", None)) is not None:
        return f"it answers with status {answer.status_code}"
    name = type(error).__name__
    return name if "http" in str(error) else f"{name}: {' '.join(str(error).split())[:200]}"
