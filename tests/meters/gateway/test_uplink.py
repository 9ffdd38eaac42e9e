# SPDX-License-Identifier: Apache-2.0
"""Ten thousand gateways that lost one collector do not come back as one, and who acknowledges is
looked at closely."""

from __future__ import annotations

import asyncio
import heapq
import random
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from dao import eip712
from meters.acknowledgements import Acknowledgement, acknowledgement_separator
from meters.frames import decode, frame_id
from meters.gateway.intervals import Interval
from meters.gateway.keystore import DeviceKey
from meters.gateway.outbox import Outbox
from meters.gateway.settings import Settings, parse
from meters.gateway.uplink import Backoff, HttpTransport, Unreachable, Uplink, place_in_slot
from meters.readings import Quality
from meters.signing import Head
from meters.simulate.clock import ManualClock, ScaledClock
from tests.meters.gateway.house import (
    CHAIN,
    COLLECTOR,
    FIRST_SLOT,
    LEDGER,
    METER,
    REGISTRY,
    SEPARATOR,
    START,
    Collector,
    until,
)

GATEWAYS = 10_000
KEY = DeviceKey.of(b"\x07" * 32)


def returning(backoff: Backoff, outage_s: float) -> list[float]:
    """Seconds after a collector's return at which each of ten thousand gateways reaches it, where
    all lost it at the same moment."""
    dice = random.Random(1)
    waiting = [(backoff.wait(0, dice.random), 1) for _ in range(GATEWAYS)]
    heapq.heapify(waiting)
    arrived = []
    while waiting:
        at, failures = heapq.heappop(waiting)
        if at >= outage_s:
            arrived.append(at - outage_s)
        else:
            heapq.heappush(waiting, (at + backoff.wait(failures, dice.random), failures + 1))
    return arrived


@pytest.mark.parametrize("outage_s", [0.0, 10.0, 600.0, 7_200.0])
def test_ten_thousand_gateways_come_back_spread_over_minutes(outage_s: float) -> None:
    backoff = Backoff(60, 900)
    per_second = Counter(int(at) for at in returning(backoff, outage_s))
    # All at once would be 10,000 in the first second; evenly over a minute are 167.
    assert max(per_second.values()) < 300
    assert max(per_second) <= 900


def test_a_quarter_hour_does_not_bring_them_all_at_once() -> None:
    places = [place_in_slot(f"home-{i}", 120) for i in range(GATEWAYS)]
    per_second = Counter(int(at) for at in places)
    assert max(per_second) < 120
    assert max(per_second.values()) < 2 * GATEWAYS / 120
    assert place_in_slot("home-1", 120) == places[1]


def test_a_busy_collector_is_given_the_time_it_asks_for() -> None:
    backoff = Backoff(2, 900)
    assert [backoff.when_busy(30, lambda u=u: u) for u in (0.0, 1.0)] == [30, 60]
    assert [backoff.when_busy(0, lambda u=u: u) for u in (0.0, 1.0)] == [0, 2]


def settings_of(folder: Path, url: str, number: int = METER, spread_s: float = 0) -> Settings:
    return parse(
        f"""
[gateway]
id = "home-{number}"
meter = {METER}
zone = 1
folder = "{number}"
[chain]
id = {CHAIN}
registry = "{REGISTRY}"
ledger = "{LEDGER}"
[collector]
url = "{url}"
address = "{eip712.address_of(COLLECTOR)}"
spread_s = {spread_s}
most_s = 120
[[source]]
kind = "p1"
address = "tcp://127.0.0.1:9"
""",
        folder / "gateway.toml",
    )


def loaded(settings: Settings) -> Outbox:
    """An outbox with one signed reading."""
    outbox = Outbox(settings.outbox, METER, SEPARATOR)
    outbox.begin_at(Head.NONE)
    outbox.record([Interval(FIRST_SLOT, 1, 2, Quality.MEASURED)], {}, lambda _: KEY)
    return outbox


class Overrun(Collector):
    """Takes a few frames at a time, is busy beyond that, and notes when who came."""

    ROOM = 20

    def __init__(self) -> None:
        super().__init__(KEY.address)
        self._server.request_queue_size = 256
        self._server.socket.listen(256)
        self.arrivals: list[float] = []
        self._room = threading.Semaphore(self.ROOM)

    def receive(self, frame: bytes) -> dict[str, Any]:
        self.arrivals.append(time.monotonic())
        if not self._room.acquire(blocking=False):
            return {"busy": 1}
        try:
            time.sleep(0.02)
            answer = Acknowledgement(frame_id(frame), len(decode(frame)), 0)
            return answer.signed(self.key, acknowledgement_separator(CHAIN, LEDGER)).to_json()
        finally:
            self._room.release()


def test_two_hundred_real_gateways_after_an_outage_all_deliver_and_spread(tmp_path: Path) -> None:
    count = 200

    async def run() -> None:
        # A minute of theirs is a second and a half of ours.
        clock = ScaledClock(START + 900.0, 40)
        with Overrun() as collector:
            collector.mode = "deaf"
            outboxes, tasks, uplinks = [], [], []
            for number in range(count):
                settings = settings_of(tmp_path, collector.url, number)
                outbox = loaded(settings)
                transport = HttpTransport(collector.url, None, 20)
                uplink = Uplink(settings, outbox, clock, transport)
                outboxes.append(outbox)
                uplinks.append(uplink)
                tasks.append(asyncio.create_task(uplink.run()))
            await until(lambda: min(one.failures for one in uplinks) > 0, "the outage", 120, 0.05)
            collector.mode = "ok"
            await until(
                lambda: not any(outbox.counts().waiting for outbox in outboxes),
                "everything delivered",
                120,
                0.05,
            )
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert all(outbox.counts().acknowledged == 1 for outbox in outboxes)
            for outbox in outboxes:
                outbox.close()
        began, ended = collector.arrivals[0], collector.arrivals[-1]
        tenth = (ended - began) / 10
        per_tenth = Counter(int((at - began) / tenth) for at in collector.arrivals)
        assert max(per_tenth.values()) < count * 0.6

    asyncio.run(run())


def attempt(uplink: Uplink, outbox: Outbox) -> float:
    return asyncio.run(uplink.attempt(outbox.waiting(1e12)))


class Says:
    """A transport that gives one answer to everything: made from the frame."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    async def send(self, frame: bytes) -> Any:
        return self.answer(frame) if callable(self.answer) else self.answer

    async def close(self) -> None:
        pass


def acknowledged(frame: bytes, key: bytes = COLLECTOR, accepted: int = 1, **more: Any) -> Any:
    answer = Acknowledgement(frame_id(frame), accepted, 0, **more)
    return answer.signed(key, acknowledgement_separator(CHAIN, LEDGER)).to_json()


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (lambda frame: acknowledged(frame, key=b"\x01" * 32), "not signed by"),
        (lambda frame: acknowledged(frame + b"x"), "another frame"),
        (lambda frame: acknowledged(frame, accepted=2), "does not cover"),
        (lambda frame: acknowledged(frame, accepted=0), "does not cover"),
        ({"frame": "0x00"}, "acknowledgement"),
        ([], "JSON object"),
        (None, "JSON object"),
        ({"busy": "soon"}, "busy"),
    ],
)
def test_an_answer_that_is_not_the_collectors_leaves_the_reading_waiting(
    answer: Any, problem: str, tmp_path: Path
) -> None:
    settings = settings_of(tmp_path, "http://127.0.0.1:9")
    with loaded(settings) as outbox:
        uplink = Uplink(settings, outbox, ManualClock(START), Says(answer))
        attempt(uplink, outbox)
        assert problem in str(uplink.problem)
        assert uplink.failures == 1
        assert outbox.counts().waiting == 1


def test_another_head_of_the_same_number_is_a_fork_and_is_told(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, "http://127.0.0.1:9")
    with loaded(settings) as outbox:
        heads = {METER: Head(0, b"\x09" * 32)}
        says = Says(lambda frame: acknowledged(frame, heads=heads))
        uplink = Uplink(settings, outbox, ManualClock(START), says)
        attempt(uplink, outbox)
        assert uplink.faults["fork"] == 1
        assert outbox.counts().acknowledged == 1


def test_a_collector_that_is_not_there_is_unreachable() -> None:
    transport = HttpTransport("http://127.0.0.1:9", None, 1)
    with pytest.raises(Unreachable, match="does not answer"):
        transport.head(METER)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (404, b'{"error": "no such meter"}'),
        (200, b"{}"),
        (200, b'{"sequence": -2, "link": "0x00"}'),
        (200, b"[" * 5_000),
        (200, b'{"sequence": true, "link": "0x' + b"00" * 32 + b'"}'),
        (500, b"oops"),
    ],
)
def test_no_answer_but_a_head_passes_for_one(status: int, body: bytes) -> None:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            with pytest.raises(Unreachable):
                HttpTransport(f"http://127.0.0.1:{server.server_port}", None, 5).head(METER)
        finally:
            server.shutdown()
            thread.join()
