# SPDX-License-Identifier: Apache-2.0
"""The way to the collector: frames out, acknowledgements in, and when to try again.

What is sent is the outbox's. Ten thousand gateways of a city share one collector, so every wait is
random: after a quarter-hour each has its own place, after a failure it is drawn anew each time.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from dao import eip712
from dao.errors import BadUse, CheckFailed, GridCommonsError
from dao.slots import SLOT_SECONDS
from meters.acknowledgements import Acknowledgement, Busy, acknowledgement_separator, parse
from meters.frames import encode, frame_id, hex_bytes
from meters.gateway.clock import Clock
from meters.gateway.outbox import Outbox
from meters.gateway.settings import CollectorSettings, Settings
from meters.gateway.sources.readers import mqtt_client
from meters.readings import Readings
from meters.signing import Head

PACE_S = 2.0
"""Between two frames of one gateway that has much to send: each may hold six weeks."""
MAX_ANSWER = 1 << 20
_LOOK_S = 30.0
_BUSY = (429, 503)


class Unreachable(CheckFailed):
    """Nothing was delivered, or nobody knows: the frame stays."""


class Refused(CheckFailed):
    """The collector has looked at what was sent and does not take it."""


@dataclass(frozen=True)
class Backoff:
    """Full jitter: after the n-th failure in a row wait anything up to `first_s` doubled n - 1
    times, `most_s` at most. (Marc Brooker, "Exponential Backoff And Jitter", 2015.)

    A reading is worth a quarter of an hour, so the first wait may be long: what matters is that
    those who lost the same collector at the same moment do not come back at the same moment.
    """

    first_s: float
    most_s: float

    def wait(self, failures: int, draw: Callable[[], float]) -> float:
        """Seconds to wait after a failure that follows so many; draw gives numbers from 0 to 1."""
        # Beyond 2^60 no bound is left to reach.
        return draw() * min(self.most_s, self.first_s * 2.0 ** min(failures, 60))

    def when_busy(self, seconds: float, draw: Callable[[], float]) -> float:
        """The wait that a busy collector asked for, and up to as long again, `first_s` at least."""
        return seconds + draw() * max(seconds, self.first_s)


def place_in_slot(gateway: str, spread_s: float) -> float:
    """Seconds after a quarter-hour at which this gateway sends: evenly spread, always the same."""
    number = int.from_bytes(eip712.keccak(gateway.encode())[:8], "big")
    return number / 2.0**64 * spread_s


class Transport(Protocol):
    """How a frame gets to the collector and its answer back."""

    async def send(self, frame: bytes) -> Any:
        """The collector's answer, a JSON document not yet judged. Raises Unreachable."""
        ...

    async def close(self) -> None:
        """Give connections back."""
        ...


class HttpTransport:
    """`POST /v1/readings`, one connection kept."""

    def __init__(self, url: str, ca_file: Path | None, answer_s: float) -> None:
        import requests

        self._url = url.rstrip("/")
        self._session = requests.Session()
        if ca_file is not None:
            self._session.verify = str(ca_file)
        self._answer_s = answer_s

    async def send(self, frame: bytes) -> Any:
        return await asyncio.to_thread(self.post, "/v1/readings", frame)

    def post(self, path: str, body: bytes, kind: str = "application/octet-stream") -> Any:
        """One request's JSON answer. Raises Unreachable, or Refused."""
        return self._ask("POST", path, data=body, headers={"Content-Type": kind})[1]

    def head(self, meter: int) -> Head:
        """Where the collector's chain of a meter stands. Raises Unreachable, or Refused."""
        # An unknown meter (404) may have a chain that the collector has not heard of yet: no head.
        status, document = self._ask("GET", f"/v1/heads/{meter}")
        if status in _BUSY:
            raise Unreachable("the collector is busy: it does not tell heads now")
        try:
            sequence, link = document["sequence"], document["link"]
            if isinstance(sequence, bool) or not isinstance(sequence, int) or sequence < -1:
                raise BadUse("sequence is not a whole number")
            head = Head(sequence, hex_bytes(link, 32, "link"))
        except (KeyError, TypeError, BadUse) as error:
            raise Unreachable(f"the collector's answer on heads cannot be read: {error}") from None
        return Head.NONE if sequence == -1 else head

    def _ask(self, method: str, path: str, **more: Any) -> tuple[int, Any]:
        import requests

        try:
            with self._session.request(
                method, self._url + path, timeout=self._answer_s, stream=True, **more
            ) as answer:
                body = answer.raw.read(MAX_ANSWER, decode_content=True)
                status = answer.status_code
                retry = answer.headers.get("Retry-After", "")
        except (requests.RequestException, OSError) as error:
            raise Unreachable(f"the collector does not answer ({type(error).__name__})") from None
        except Exception as error:  # urllib3's own errors while a body is read
            raise Unreachable(f"the collector broke off ({type(error).__name__})") from None
        if status in _BUSY:
            return status, {"busy": int(retry) if retry.isdecimal() and len(retry) < 6 else 30}
        document = _document(body)
        if status == 422:
            raise Refused(f"the collector refuses it: {json.dumps(document)[:200]}")
        if status >= 400:
            raise Unreachable(f"the collector answered {status}: {json.dumps(document)[:200]}")
        return status, document

    async def close(self) -> None:
        self._session.close()


class MqttTransport:
    """Frames and acknowledgements under the gateway's topics, QoS 1, over one kept connection."""

    def __init__(self, settings: Settings, password: str | None) -> None:
        assert settings.collector.mqtt is not None
        self._settings = settings
        self._address = settings.collector.mqtt
        self._password = password
        stem = f"gridcommons/{settings.zone}"
        self._out = f"{stem}/readings/{settings.id}"
        self._back = f"{stem}/acknowledgements/{settings.id}"
        self._stack: AsyncExitStack | None = None
        self._client: Any = None
        self._answers: dict[str, asyncio.Future[Any]] = {}

    async def send(self, frame: bytes) -> Any:
        import aiomqtt

        name = "0x" + frame_id(frame).hex()
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._answers[name] = answer
        try:
            if self._client is None:
                await self._connect()
            await self._client.publish(self._out, frame, qos=1)
            async with asyncio.timeout(self._settings.collector.answer_s):
                return await answer
        except TimeoutError:
            await self.close()
            raise Unreachable("no acknowledgement came over MQTT") from None
        except (aiomqtt.MqttError, OSError, ValueError) as error:
            await self.close()
            text = " ".join(str(error).split())[:200]
            raise Unreachable(f"the broker {self._address}: {text}") from None
        finally:
            del self._answers[name]

    async def _connect(self) -> None:
        stack = AsyncExitStack()
        collector = self._settings.collector
        client = mqtt_client(
            self._address, self._password, collector.ca_file, f"gridcommons-{self._settings.id}"
        )
        try:
            await stack.enter_async_context(client)
            await client.subscribe(self._back, qos=1)
        except BaseException:
            await _leave(stack)
            raise
        listening = asyncio.create_task(self._listen(client))
        stack.push_async_callback(_ended, listening)
        self._stack, self._client = stack, client

    async def _listen(self, client: Any) -> None:
        """Hand answers to who waits for them; what nobody waits for is an old one."""
        import aiomqtt

        with contextlib.suppress(aiomqtt.MqttError):
            async for message in client.messages:
                payload = message.payload
                if not isinstance(payload, bytes | bytearray) or len(payload) > MAX_ANSWER:
                    continue
                try:
                    document = _document(bytes(payload))
                except Unreachable:
                    continue
                name = document.get("frame") if isinstance(document, dict) else None
                waiting = self._answers.get(name) if isinstance(name, str) else None
                # A busy collector may not name the frame: there is one under way at a time.
                if waiting is None and isinstance(document, dict) and "busy" in document:
                    waiting = next(iter(self._answers.values()), None)
                if waiting is not None and not waiting.done():
                    waiting.set_result(document)

    async def publish(self, kind: str, document: Any) -> None:
        """One JSON document under the gateway's topic of a kind, QoS 1. Raises Unreachable."""
        import aiomqtt

        topic = f"gridcommons/{self._settings.zone}/{kind}/{self._settings.id}"
        try:
            if self._client is None:
                await self._connect()
            await self._client.publish(topic, json.dumps(document), qos=1)
        except (aiomqtt.MqttError, OSError, ValueError) as error:
            await self.close()
            raise Unreachable(f"the broker {self._address}: {type(error).__name__}") from None

    async def close(self) -> None:
        stack, self._stack, self._client = self._stack, None, None
        if stack is not None:
            await _leave(stack)


async def _leave(stack: AsyncExitStack) -> None:
    import aiomqtt

    with contextlib.suppress(aiomqtt.MqttError, OSError):
        await stack.aclose()


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _document(body: bytes) -> Any:
    from meters.adapters.fields import load_json

    try:
        return load_json(body)
    except BadUse as error:
        raise Unreachable(f"the collector's answer is no JSON: {error}") from None


class Uplink:
    """Sends what waits in the outbox until it is acknowledged, for ever."""

    def __init__(
        self,
        settings: Settings,
        outbox: Outbox,
        clock: Clock,
        transport: Transport,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._settings: CollectorSettings = settings.collector
        self._outbox = outbox
        self._clock = clock
        self._transport = transport
        self._draw = draw
        self._backoff = Backoff(settings.collector.first_s, settings.collector.most_s)
        self._place = place_in_slot(settings.id, settings.collector.spread_s)
        self._separator = acknowledgement_separator(settings.chain.chain_id, settings.chain.ledger)
        self._wake = asyncio.Event()
        self.failures = 0
        self.problem: str | None = None
        self.acknowledged_at: float | None = None
        self.faults: Counter[str] = Counter()

    def wake(self) -> None:
        """There is something new to send."""
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled. The first frame waits too: a power cut ends for a whole street."""
        await self._rest(self._draw() * self._settings.spread_s)
        while True:
            if not len(self._outbox.waiting(self._clock(), 1)):
                await self._until_new()
            await self._rest(await self.attempt(self._outbox.waiting(self._clock())))

    async def attempt(self, readings: Readings) -> float:
        """Send one frame; the seconds to wait before the next."""
        frame = encode(readings)
        try:
            answer = parse(await self._transport.send(frame))
            if isinstance(answer, Busy):
                self.problem = f"the collector is busy for {answer.seconds:g} s"
                self.faults["busy"] += 1
                return self._backoff.when_busy(answer.seconds, self._draw)
            self._accept(readings, frame, answer)
        except GridCommonsError as error:
            self.problem = str(error)
            self.faults["failed"] += 1
            wait = self._backoff.wait(self.failures, self._draw)
            self.failures += 1
            return wait
        self.failures = 0
        self.problem = None
        self.acknowledged_at = self._clock()
        return PACE_S * (0.5 + self._draw())

    def _accept(self, readings: Readings, frame: bytes, answer: Acknowledgement) -> None:
        """Believe an acknowledgement that is the collector's and speaks of just this frame."""
        answer.verify(self._separator, self._settings.address, frame_id(frame))
        refused = {finding.sequence: finding.rule for finding in answer.rejected}
        sent = set(readings.sequence.tolist())
        whole = answer.accepted + answer.duplicates + len(answer.rejected) == len(readings)
        if not whole or not refused.keys() <= sent or len(refused) != len(answer.rejected):
            raise CheckFailed("the acknowledgement does not cover the frame")
        self._outbox.settle(readings, refused, self._clock(), self._draw())
        for rule in refused.values():
            self.faults[f"refused_{rule}"] += 1
        theirs = answer.heads.get(self._outbox.meter)
        if theirs is not None:
            self.compare(theirs)

    def compare(self, theirs: Head) -> None:
        """Hold the collector's head against ours: another device may sign with this key."""
        own = self._outbox.head
        if own is None or theirs.sequence > own.sequence:
            if own is not None:
                self.faults["head_ahead"] += 1
            self._outbox.begin_at(theirs)
        elif theirs.sequence == own.sequence and theirs.link != own.link:
            self.faults["fork"] += 1

    async def _until_new(self) -> None:
        """Wait for something to send, and then for this gateway's place in the quarter-hour."""
        while not len(self._outbox.waiting(self._clock(), 1)):
            self._wake.clear()
            # What the collector wants later comes due without anybody waking us.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S):
                    await self._wake.wait()
        now = self._clock()
        await self._rest(now // SLOT_SECONDS * SLOT_SECONDS + self._place - now)

    async def _rest(self, seconds: float) -> None:
        if seconds > 0:
            await self._clock.sleep_until(self._clock() + seconds)
