# SPDX-License-Identifier: Apache-2.0
"""Meters at home over HTTP and through a real broker, read by an HTTP and an MQTT client and by our
adapters.
"""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import requests
from aiomqtt import Client

from dao.errors import BadUse
from meters.adapters.engine import MeterReading, Options, load_adapter, parse
from meters.simulate.clock import ManualClock
from meters.simulate.faults import FaultKind
from meters.simulate.http import FroniusInverter, HomeWizardMeter, ShellyMeter
from meters.simulate.mqtt import (
    HomeWizardPublisher,
    MqttPublisher,
    ShellyPublisher,
    TasmotaPublisher,
    TasmotaScriptPublisher,
)
from meters.simulate.street import Street
from meters.simulate.truth import Truth
from tests.meters.gateway.house import broker
from tests.meters.simulate.conftest import BEGIN, SLOTS, edges, run, until

STEP = 7
BERLIN = Options(timezone=ZoneInfo("Europe/Berlin"))


def read(adapter: str, payload: bytes) -> list[MeterReading]:
    return parse(load_adapter(adapter), [("socket", payload)], BERLIN).readings


@pytest.mark.parametrize(
    ("adapter", "made", "path", "has_time"),
    [
        ("homewizard", HomeWizardMeter, "/api/v1/data", False),
        ("shelly", ShellyMeter, "/rpc/EMData.GetStatus?id=0", False),
        ("shelly", ShellyMeter, "/rpc/Shelly.GetStatus", True),
        (
            "fronius",
            FroniusInverter,
            "/solar_api/v1/GetMeterRealtimeData.cgi?Scope=Device&DeviceId=0",
            True,
        ),
        ("fronius", FroniusInverter, "/solar_api/v1/GetMeterRealtimeData.cgi?Scope=System", True),
    ],
)
def test_a_day_read_over_http_is_the_truth_to_the_wh(
    truth: Truth, clock: ManualClock, adapter: str, made: Any, path: str, has_time: bool
) -> None:
    with Street([made(truth, clock)]) as street:
        for i in range(0, SLOTS + 1, STEP):
            answer = requests.get(street.devices[0].address + path, timeout=10)
            assert answer.headers["Content-Type"] == "application/json"
            (reading,) = read(adapter, answer.content)
            assert (reading.import_wh, reading.export_wh) == edges(truth)[i]
            assert reading.end == (datetime.fromtimestamp(clock(), UTC) if has_time else None)
            clock.advance(900 * STEP)


def test_a_fronius_inverter_tells_its_yield_apart_from_its_meter(
    truth: Truth, clock: ManualClock
) -> None:
    roof = Truth(truth.first_slot, truth.export_wh * 0, truth.export_wh, 0, 5_000_000)
    clock.advance(900 * 9)
    with Street([FroniusInverter(truth, clock, roof=roof)]) as street:
        base = street.devices[0].address + "/solar_api/v1/"
        one = requests.get(
            base + "GetInverterRealtimeData.cgi?Scope=Device&DeviceId=1"
            "&DataCollection=CommonInverterData",
            timeout=10,
        )
        flow = requests.get(base + "GetPowerFlowRealtimeData.fcgi", timeout=10)
    for answer in (one, flow):
        (reading,) = read("fronius", answer.content)
        assert (reading.import_wh, reading.export_wh) == (None, edges(roof)[9][1])


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        (b"GET /nowhere HTTP/1.1", 404),
        (b"POST /api/v1/data HTTP/1.1", 405),
        (b"GET //[ HTTP/1.1", 400),
        (b"\xff\xfe", 400),
        (b"GET /api/v1/data SPDY/9", 400),
    ],
)
def test_a_request_that_makes_no_sense_gets_its_status(
    truth: Truth, clock: ManualClock, request_line: bytes, status: int
) -> None:
    async def body() -> bytes:
        async with HomeWizardMeter(truth, clock) as meter:
            reader, writer = await asyncio.open_connection(meter.host, meter.port)
            writer.write(request_line + b"\r\n\r\n")
            answer = await reader.read()
            writer.close()
            return answer

    assert run(body()).startswith(b"HTTP/1.1 %d " % status)


def test_a_head_without_end_is_hung_up_on(truth: Truth, clock: ManualClock) -> None:
    async def body() -> bytes:
        async with HomeWizardMeter(truth, clock) as meter:
            reader, writer = await asyncio.open_connection(meter.host, meter.port)
            writer.write(b"GET / HTTP/1.1\r\nX: " + b"y" * 200_000)
            try:
                return await reader.read()
            except ConnectionError:
                return b""

    assert run(body()) == b""


async def message(client: Client) -> bytes:
    one = await anext(aiter(client.messages))
    assert isinstance(one.payload, bytes)
    return one.payload


PUBLISHERS: list[tuple[str, type[MqttPublisher], str, bool]] = [
    ("tasmota", TasmotaPublisher, "tele/box/SENSOR", True),
    ("tasmota", TasmotaScriptPublisher, "tele/box/SENSOR", True),
    ("shelly", ShellyPublisher, "shellypro3em-box/events/rpc", True),
    ("homewizard", HomeWizardPublisher, "homewizard/box/data", False),
]


@pytest.mark.parametrize(("adapter", "made", "topic", "has_time"), PUBLISHERS)
def test_a_day_read_through_a_broker_is_the_truth_to_the_wh(
    truth: Truth,
    clock: ManualClock,
    adapter: str,
    made: type[MqttPublisher],
    topic: str,
    has_time: bool,
) -> None:
    # Past the hour that comes twice in local time, which Tasmota cannot tell apart.
    begun = 16
    clock.advance(900 * begun)

    async def body() -> list[tuple[float, bytes]]:
        found = []
        async with broker() as mqtt, Client("127.0.0.1", mqtt.port) as client:
            await client.subscribe(topic, qos=1)
            async with made(truth, clock, broker=mqtt.url, name="box") as device:
                assert device.address == f"{mqtt.url}/{topic}"
                for _ in range(begun, SLOTS + 1, STEP):
                    found.append((clock(), await message(client)))
                    clock.advance(900 * STEP)
        return found

    for at, payload in run(body()):
        (reading,) = read(adapter, payload)
        assert (reading.import_wh, reading.export_wh) == edges(truth)[int(at - BEGIN) // 900]
        assert reading.end == (datetime.fromtimestamp(at, UTC) if has_time else None)


def test_a_publisher_comes_back_when_the_broker_does(truth: Truth, clock: ManualClock) -> None:
    async def body() -> None:
        async with broker() as mqtt:
            device = await TasmotaPublisher(truth, clock, broker=mqtt.url, name="box").__aenter__()
            await until(lambda: device.published == 1, "the first payload")
        async with mqtt, Client("127.0.0.1", mqtt.port) as client:
            await client.subscribe("tele/box/SENSOR", qos=1)
            clock.advance(900)
            assert json.loads(await message(client))["ENERGY"]["Total"] * 1000 == pytest.approx(
                edges(truth)[1][0]
            )
            await device.__aexit__(None, None, None)

    run(body())


def test_a_tasmota_that_is_gone_is_said_to_be(truth: Truth, clock: ManualClock) -> None:
    async def body() -> list[bytes]:
        async with broker() as mqtt, Client("127.0.0.1", mqtt.port) as client:
            await client.subscribe("tele/box/LWT", qos=1)
            async with TasmotaPublisher(truth, clock, broker=mqtt.url, name="box") as device:
                seen = [await message(client)]
                # It leaves without a goodbye: the broker tells its will.
                device.inject(FaultKind.DROP)
                clock.advance(60)
                seen.append(await message(client))
            return seen

    assert run(body()) == [b"Online", b"Offline"]


@pytest.mark.parametrize("url", ["http://x", "mqtt://", "x", "mqtt://h:x", "mqtt://h:99999"])
def test_a_broker_that_is_no_address_is_refused(truth: Truth, clock: ManualClock, url: str) -> None:
    with pytest.raises(BadUse, match="expected mqtt://HOST:PORT"):
        TasmotaPublisher(truth, clock, broker=url, name="box")


@pytest.mark.parametrize("name", ["", "a/b", "a+", "#"])
def test_a_name_that_would_be_another_topic_is_refused(
    truth: Truth, clock: ManualClock, name: str
) -> None:
    with pytest.raises(BadUse, match="cannot be part of an MQTT topic"):
        TasmotaPublisher(truth, clock, broker="mqtt://h", name=name)
