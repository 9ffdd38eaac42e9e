# SPDX-License-Identifier: Apache-2.0
"""Devices and the collector behind a real MQTT broker, and one that restarts in the middle."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from meters.broker import EmbeddedBroker
from meters.gateway.uplink import MqttTransport
from meters.simulate.clock import ManualClock
from meters.simulate.mqtt import ShellyPublisher, TasmotaPublisher, TasmotaScriptPublisher
from tests.meters.gateway.house import (
    START,
    Collector,
    House,
    broker,
    day,
    delivered,
    expected,
    play,
    seen,
    source,
    told,
)

MAKERS = {
    "tasmota": (TasmotaPublisher, {"timezone": "Europe/Berlin"}),
    "tasmota script": (TasmotaScriptPublisher, {"timezone": "Europe/Berlin"}),
    "shelly": (ShellyPublisher, {}),
}


@asynccontextmanager
async def answering(mqtt: EmbeddedBroker, collector: Collector) -> AsyncIterator[None]:
    """The collector's side of the broker: frames in, acknowledgements out."""
    import aiomqtt

    async def serve() -> None:
        while True:
            try:
                async with aiomqtt.Client("127.0.0.1", mqtt.port, identifier="collector") as client:
                    await client.subscribe("gridcommons/1/readings/+", qos=1)
                    await client.subscribe("gridcommons/1/dispatch/+", qos=1)
                    async for message in client.messages:
                        gateway = str(message.topic).rpartition("/")[2]
                        payload = bytes(message.payload)  # type: ignore[arg-type]
                        if "/dispatch/" in str(message.topic):
                            collector.reports.append(json.loads(payload))
                            continue
                        answer = {"busy": 1}
                        if collector.mode != "down":
                            answer = collector.receive(payload)
                        topic = f"gridcommons/1/acknowledgements/{gateway}"
                        await client.publish(topic, json.dumps(answer), qos=1)
            except aiomqtt.MqttError:
                await asyncio.sleep(0.1)

    task = asyncio.create_task(serve())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("kind", MAKERS)
def test_half_a_day_over_mqtt_gives_exactly_the_wh_of_every_slot(kind: str, tmp_path: Path) -> None:
    maker, more = MAKERS[kind]
    truth = day(48)

    async def run() -> None:
        clock = ManualClock(START - 72_000)
        async with broker() as mqtt:
            with Collector("0x" + "00" * 20) as collector:
                house = House(tmp_path, collector)
                async with (
                    maker(truth, clock, broker=mqtt.url, name="A8032AB00001", period=900) as device,
                    answering(mqtt, collector),
                ):
                    table = source(
                        kind.split()[0],
                        mqtt.url,
                        topic=device.topic,
                        **more,
                    )
                    settings = house.settings(table, link=f'mqtt = "{mqtt.url}"')
                    gateway = house.gateway(settings, clock)
                    assert isinstance(gateway.transport, MqttTransport)
                    async with gateway.running():
                        await play(gateway, clock, START + 48 * 900)
                        await delivered(gateway, collector, clock, 48)
        assert told(collector) == expected(truth)
        assert collector.forks == []

    asyncio.run(run())


def test_a_broker_that_restarts_and_a_busy_collector_lose_nothing(tmp_path: Path) -> None:
    truth = day(96)

    async def run() -> None:
        clock = ManualClock(START - 72_000)
        mqtt = broker()
        await mqtt.start()
        with Collector("0x" + "00" * 20) as collector:
            house = House(tmp_path, collector)
            async with (
                TasmotaPublisher(truth, clock, broker=mqtt.url, name="home", period=900) as device,
                answering(mqtt, collector),
            ):
                table = source("tasmota", mqtt.url, topic=device.topic, timezone="Europe/Berlin")
                settings = house.settings(table, link=f'mqtt = "{mqtt.url}"')
                gateway = house.gateway(settings, clock)
                async with gateway.running():
                    await play(gateway, clock, START + 8 * 900)
                    await mqtt.stop()
                    away = clock.advance(3_600)
                    await asyncio.sleep(0.2)
                    await mqtt.start()
                    while seen(gateway) <= away:
                        # Who comes back first, device or gateway, is left to chance.
                        assert clock() < START + 70 * 900, "no sample after the broker's return"
                        clock.advance(900)
                        await asyncio.sleep(0.3)
                    collector.mode = "down"
                    await play(gateway, clock, clock() + 8 * 900)
                    collector.mode = "ok"
                    await play(gateway, clock, clock() + 4 * 900)
                    slots = int(clock() - START) // 900
                    await delivered(gateway, collector, clock, slots)
        await mqtt.stop()
        found, wanted = told(collector), expected(truth, slots)
        assert found.keys() == wanted.keys()
        for side in (0, 1):
            assert sum(wh[side] or 0 for wh in found.values()) == sum(
                wh[side] for wh in wanted.values()
            )
        assert collector.forks == []

    asyncio.run(run())


def test_a_retained_message_is_not_taken_for_now(tmp_path: Path) -> None:
    async def run() -> None:
        import aiomqtt

        clock = ManualClock(START)
        async with broker() as mqtt, aiomqtt.Client("127.0.0.1", mqtt.port) as client:
            old, new = (
                json.dumps({"total_power_import_kwh": kwh, "unique_id": "x"}) for kwh in (1.0, 2.0)
            )
            await client.publish("home/data", old, qos=1, retain=True)
            house = House(tmp_path)
            table = source("homewizard", mqtt.url, topic="home/data", directions=["import"])
            gateway = house.gateway(house.settings(table), clock)
            async with gateway.running():
                # What is published before the gateway has subscribed is gone.
                for _ in range(1_000):
                    if gateway._seen:
                        break
                    await client.publish("home/data", new, qos=1)
                    await asyncio.sleep(0.02)
                channel = gateway.assembler.channels["homewizard"].as_dict()
                # Of two samples of one moment the first counts.
                assert channel["tracks"]["import"]["wh"] == 2_000

    asyncio.run(run())
