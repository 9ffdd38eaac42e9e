# SPDX-License-Identifier: Apache-2.0
"""The collector over MQTT: frames in, acknowledgements out, under each gateway's own topics.

The session is persistent, so a broker keeps what came while the collector was away; whatever is
lost all the same, a gateway sends again until it is acknowledged. Who may publish under which topic
is the broker's access control: see docs/operations.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import random
import re
import ssl
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from dao.errors import BadUse, GridCommonsError
from meters.adapters.fields import load_json
from meters.frames import MAX_FRAME_BYTES, frame_id
from meters.gateway.uplink import Backoff
from meters.service.dispatches import MAX_REPORT_BYTES
from meters.service.intake import Intake, Malformed
from meters.service.writer import Busy

if TYPE_CHECKING:
    import aiomqtt

log = logging.getLogger("gridcommons.collector")

_GATEWAY = re.compile(r"[A-Za-z0-9_-]{1,64}")
_BACKOFF = Backoff(1.0, 60.0)
_CONNECT_S = 10.0
_KEEPALIVE_S = 30
# Messages that wait in this process: more are dropped, and come again.
_MOST_WAITING = 1_024
_MOST_AT_WORK = 256


@dataclass(frozen=True)
class Broker:
    """Where the broker is and how to enter."""

    host: str
    port: int
    is_tls: bool = False
    username: str | None = None
    password: str | None = None
    ca_file: Path | None = None

    def __repr__(self) -> str:
        return f"{'mqtts' if self.is_tls else 'mqtt'}://{self.host}:{self.port}"

    @staticmethod
    def parse(url: str, password: str | None = None, ca_file: Path | None = None) -> Broker:
        """Of a URL, mqtt://[user@]host[:port] or mqtts://. BadUse for anything else.

        A password in the URL is refused: command lines are public on a machine.
        """
        wanted = "--mqtt: expected mqtt://[user@]host[:port], or mqtts:// with TLS"
        try:
            parts = urlsplit(url)
            port, host = parts.port, parts.hostname
        except ValueError:
            raise BadUse(wanted) from None
        if parts.scheme not in ("mqtt", "mqtts") or not host or parts.path not in ("", "/"):
            raise BadUse(wanted)
        if parts.query or parts.fragment or port == 0:
            raise BadUse(wanted)
        if parts.password is not None:
            raise BadUse(
                "--mqtt: give the password in GRIDCOMMONS_MQTT_PASSWORD or --mqtt-password-file"
            )
        is_tls = parts.scheme == "mqtts"
        if ca_file is not None and not is_tls:
            raise BadUse("--mqtt-ca is for mqtts:// only")
        if password is not None and parts.username is None:
            raise BadUse("--mqtt: a password needs a user, mqtt://user@host")
        broker = Broker(
            host, port or (8883 if is_tls else 1883), is_tls, parts.username, password, ca_file
        )
        broker.context()
        return broker

    def context(self) -> ssl.SSLContext | None:
        """TLS by the machine's authorities, or those of the file. BadUse where it holds none."""
        if not self.is_tls:
            return None
        try:
            return ssl.create_default_context(cafile=self.ca_file)
        except (OSError, ssl.SSLError) as error:
            raise BadUse(f"--mqtt-ca {self.ca_file}: no certificates ({error})") from None


class MqttSide:
    """The service's connection to a broker. Belongs to the event loop.

    report: keeps a dispatch report.
    """

    def __init__(
        self,
        broker: Broker,
        zone: int,
        identifier: str,
        intake: Intake,
        report: Callable[[object], Awaitable[bool]],
        draw: Callable[[], float] = random.random,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self.broker = broker
        self.is_connected = False
        self.problem: str | None = None
        self.reconnects = 0
        self._steady = steady
        self.changed = steady()
        self._zone = zone
        self._identifier = identifier
        self._intake = intake
        self._report = report
        self._draw = draw
        self._at_work: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Receive until cancelled; a broker that is away is waited for."""
        import aiomqtt

        failures = 0
        while True:
            try:
                async with self._client() as client:
                    for kind in ("readings", "dispatch"):
                        await client.subscribe(f"gridcommons/{self._zone}/{kind}/+", qos=1)
                    failures = 0
                    self._stands(True, None)
                    await self._receive(client)
            except (aiomqtt.MqttError, OSError, ValueError, GridCommonsError) as error:
                self._stands(False, " ".join(str(error).split())[:200] or type(error).__name__)
            except Exception as error:
                # A defect must not end the reception, and nobody would hear of it.
                log.exception("the broker's side met a defect")
                self._stands(False, type(error).__name__)
            await asyncio.sleep(_BACKOFF.wait(failures, self._draw))
            failures += 1
            self.reconnects += 1

    async def drain(self, patience: float = 5.0) -> None:
        """Wait for the frames under way."""
        if self._at_work:
            await asyncio.wait(self._at_work, timeout=patience)

    def _client(self) -> aiomqtt.Client:
        import aiomqtt

        return aiomqtt.Client(
            self.broker.host,
            self.broker.port,
            username=self.broker.username,
            password=self.broker.password,
            identifier=self._identifier,
            clean_session=False,
            timeout=_CONNECT_S,
            keepalive=_KEEPALIVE_S,
            tls_context=self.broker.context(),
            max_queued_incoming_messages=_MOST_WAITING,
        )

    def _stands(self, connected: bool, problem: str | None) -> None:
        if connected != self.is_connected or (problem is not None) != (self.problem is not None):
            self.changed = self._steady()
            if connected:
                log.info("broker connected")
            else:
                log.error("broker away: %s", problem)
        self.is_connected, self.problem = connected, problem

    async def _receive(self, client: aiomqtt.Client) -> None:
        room = asyncio.Semaphore(_MOST_AT_WORK)
        async for message in client.messages:
            parts = str(message.topic).split("/")
            if len(parts) != 4 or not _GATEWAY.fullmatch(parts[3]):
                continue
            await room.acquire()
            task = asyncio.create_task(
                self._handle(client, parts[2], parts[3], bytes(message.payload))
            )
            self._at_work.add(task)
            task.add_done_callback(self._at_work.discard)
            task.add_done_callback(lambda _: room.release())

    async def _handle(self, client: aiomqtt.Client, kind: str, gateway: str, data: bytes) -> None:
        try:
            if kind == "readings":
                await self._answer(client, gateway, data)
            else:
                await self._keep(gateway, data)
        except Exception:
            # A defect met by one message must not end the others.
            log.exception("a message of %d bytes met a defect", len(data))

    async def _answer(self, client: aiomqtt.Client, gateway: str, frame: bytes) -> None:
        import aiomqtt

        document: dict[str, Any]
        name = "" if len(frame) > MAX_FRAME_BYTES else "0x" + frame_id(frame).hex()
        try:
            document = (await self._intake.take("mqtt", gateway, frame)).to_json()
        except Busy as busy:
            document = {"busy": busy.seconds, "frame": name}
        except Malformed as error:
            document = {"error": str(error), "frame": name}
        except GridCommonsError as error:
            log.error("%s", error)
            document = {"busy": 30, "frame": name}
        topic = f"gridcommons/{self._zone}/acknowledgements/{gateway}"
        # Where the broker has gone meanwhile the gateway sends again, and hears of duplicates.
        with contextlib.suppress(aiomqtt.MqttError, OSError):
            await client.publish(topic, json.dumps(document), qos=1)

    async def _keep(self, gateway: str, data: bytes) -> None:
        try:
            self._intake.check("mqtt", gateway)
            self._intake.charge("mqtt", gateway, 1)
            if len(data) > MAX_REPORT_BYTES:
                raise BadUse("dispatch report: too long")
            is_new = await self._report(load_json(data))
            self._intake.metrics.reported("stored" if is_new else "known")
        except Busy:
            pass
        except BadUse:
            self._intake.spoilt("mqtt", gateway)
            self._intake.metrics.reported("refused")
        except GridCommonsError as error:
            log.error("%s", error)
