# SPDX-License-Identifier: Apache-2.0
"""Lines and sockets: where telegrams begin and end, which clock counts, and who may speak."""

from __future__ import annotations

import asyncio
import os
import pty
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Subprotocol

from dao.processes import free_port
from meters.gateway.intervals import PowerSample, Sample
from meters.gateway.settings import SourceSettings
from meters.gateway.sources.framing import MAX_BUFFER, P1Framer, SmlFramer
from meters.gateway.sources.samples import Sampler
from meters.simulate.charging import Car
from meters.simulate.clock import ManualClock
from meters.simulate.faults import FaultKind
from meters.simulate.http import FroniusInverter, HomeWizardMeter
from meters.simulate.ocpp import ChargePoint
from meters.simulate.p1 import P1Meter
from meters.simulate.sml import SmlMeter
from tests.meters.gateway.house import (
    FIRST_SLOT,
    START,
    Collector,
    House,
    day,
    delivered,
    expected,
    play,
    source,
    told,
    until,
)

CLOCK = ManualClock(START)
P1 = [P1Meter(day(), CLOCK).telegram(START + i * 10) for i in range(4)]
SML = [SmlMeter(day(), CLOCK).telegram(START + i) for i in range(4)]
# DLMS frames as Luxembourg's ports send them: tag, title, length of the rest, rest.
CIPHER = [b"\xdb\x08SYSTEMID\x82\x01\x2c" + bytes([65 + i]) * 300 for i in range(3)]


@pytest.mark.parametrize(
    ("framer", "telegrams"), [(P1Framer, P1), (SmlFramer, SML), (P1Framer, CIPHER)]
)
@settings(max_examples=60, deadline=None)
@given(st.data())
def test_telegrams_are_found_however_the_bytes_arrive(
    framer: Callable[[], Any], telegrams: list[bytes], data: st.DataObject
) -> None:
    stream = b"".join(telegrams)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    reading = framer()
    found = []
    for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += reading.feed(stream[begin:end])
    assert found == telegrams


@pytest.mark.parametrize(("framer", "telegrams"), [(P1Framer, P1), (SmlFramer, SML)])
@settings(max_examples=60, deadline=None)
@given(noise=st.binary(max_size=300), cut=st.integers(1, 200))
def test_after_noise_and_a_broken_telegram_the_next_ones_are_whole(
    framer: Callable[[], Any], telegrams: list[bytes], noise: bytes, cut: int
) -> None:
    reading = framer()
    found = reading.feed(noise.replace(b"\xdb\x08", b"") + telegrams[0][:cut])
    found += reading.feed(b"".join(telegrams[1:]))
    assert found[-2:] == telegrams[2:]


@pytest.mark.parametrize("framer", [P1Framer, SmlFramer])
def test_a_line_that_never_ends_a_telegram_does_not_fill_the_memory(
    framer: Callable[[], Any],
) -> None:
    reading = framer()
    for _ in range(100):
        reading.feed(b"/\x1b\x1b\x1b\x1b\x01\x01\x01\x01" + b"x" * 4_000)
    assert len(reading._buffer) <= MAX_BUFFER


def sampler(kind: str = "p1", **more: Any) -> Sampler:
    from meters.gateway.settings import Endpoint

    return Sampler(SourceSettings("m", kind, Endpoint("tcp://127.0.0.1:9"), **more))


def test_a_devices_clock_is_believed_as_long_as_it_agrees_with_ours() -> None:
    one = sampler()
    [(name, sample)] = one.take(P1[0], START + 3.2)
    assert (name, sample.at) == ("m", START)
    assert isinstance(sample, Sample)


def test_a_clock_that_is_off_is_told_and_ours_is_taken() -> None:
    one = sampler()
    assert one.take(P1[0], START + 3_600) == []
    [(_, sample)] = one.take(P1[1], START + 3_610)
    assert sample.at == START + 3_610
    assert one.drift_s == -3_600
    assert one.faults["clock"] == 1


def test_where_the_clocks_are_hours_apart_neither_is_believed() -> None:
    one = sampler()
    for at in range(5):
        assert one.take(P1[at % 4], START + 86_400 + at * 10) == []
    assert one.faults == {"clock_apart": 5}


def test_a_telegram_that_comes_again_and_again_is_stale() -> None:
    one = sampler()
    assert len(one.take(P1[0], START)) == 1
    assert one.take(P1[0], START + 600) == []
    assert one.take(P1[0], START + 1_200) == []
    assert one.faults["stale"] == 2


@pytest.mark.parametrize("payload", [b"", b"garbage", P1[0][:-30], P1[0].replace(b"1", b"2")])
def test_a_payload_that_cannot_be_read_is_counted_and_left_out(payload: bytes) -> None:
    one = sampler()
    assert one.take(payload, START) == []
    assert one.faults.total() == 1
    assert one.last_problem is not None


def test_several_meters_in_one_payload_must_be_named() -> None:
    payload = (
        b"""{"src": "x", "params": {"ts": %d, "em1data:0": {"total_act_energy": 5.0,
        "total_act_ret_energy": 1.0}, "em1data:1": {"total_act_energy": 7.0,
        "total_act_ret_energy": 2.0}}}"""
        % START
    )
    one = sampler("shelly")
    assert one.take(payload, START) == []
    assert "name those to add up under channels" in str(one.last_problem)
    both = sampler("shelly", channels=("x/em1data:0", "x/em1data:1"))
    assert both.take(payload, START) == [
        ("m/x/em1data:0", Sample(START, 5, 1)),
        ("m/x/em1data:1", Sample(START, 7, 2)),
    ]
    assert [feed.name for feed in both.feeds()] == ["m/x/em1data:0", "m/x/em1data:1"]


def test_power_is_taken_from_a_path_of_the_payload() -> None:
    one = sampler("power", power="Body/Data/Site/P_Grid")
    payload = b'{"Body": {"Data": {"Site": {"P_Grid": -1500.5}}}}'
    assert one.take(payload, START) == [("m", PowerSample(START, -1500.5))]
    assert one.take(b'{"Body": {}}', START) == []
    assert one.faults["unreadable"] == 1


def test_a_meter_on_a_serial_line_is_read(tmp_path: Path) -> None:
    async def run() -> None:
        clock = ManualClock(START - 10)
        parent, child = pty.openpty()
        try:
            with Collector("0x" + "00" * 20) as collector:
                house = House(tmp_path, collector)
                line = source("p1", f"serial://{os.ttyname(child)}")
                gateway = house.gateway(house.settings(line), clock)
                truth = day(8)
                async with gateway.running():
                    meter = P1Meter(truth, clock)
                    for at in range(0, 3 * 900 + 1, 450):
                        clock.set(START + at)
                        while gateway._seen.get("p1") != START + at:
                            # What is on the line before it is opened is thrown away.
                            os.write(parent, meter.telegram(START + at))
                            await asyncio.sleep(0.05)
                    await delivered(gateway, collector, clock, 3)
                assert told(collector) == expected(truth, 3)
        finally:
            os.close(parent)
            os.close(child)

    asyncio.run(run())


def test_power_alone_makes_quarter_hours(tmp_path: Path) -> None:
    truth = day(8)

    async def run() -> None:
        clock = ManualClock(START - 60)
        with Collector("0x" + "00" * 20) as collector:
            house = House(tmp_path, collector)
            async with FroniusInverter(truth, clock) as device:
                url = f"{device.address}/solar_api/v1/GetPowerFlowRealtimeData.fcgi"
                table = source("power", url, power="Body/Data/Site/P_Grid", every_s=30)
                gateway = house.gateway(house.settings(table), clock)
                async with gateway.running():
                    await play(gateway, clock, START + 4 * 900, step=30)
                    await delivered(gateway, collector, clock, 4)
        found = told(collector)
        for at in range(4):
            imported, exported = found[FIRST_SLOT + at]
            # Power steps at a slot's begin, which the trapezoid smears over one period of 30 s.
            assert abs((imported or 0) - truth.import_wh[at]) <= 900 * 4 * 15 / 3_600
            assert exported == truth.export_wh[at] or abs(exported or 0) <= 15

    asyncio.run(run())


def test_a_device_behind_a_token_is_read_with_it_only(tmp_path: Path) -> None:
    async def run() -> None:
        clock = ManualClock(START)

        async def guarded(reader: Any, writer: Any) -> None:
            head = await reader.readuntil(b"\r\n\r\n")
            is_known = b"Authorization: Bearer open-sesame\r\n" in head
            body = b'{"unique_id": "x", "total_power_import_kwh": 1, "total_power_export_kwh": 0}'
            status = b"200 OK" if is_known else b"401 Unauthorized"
            writer.write(b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n" % (status, len(body)) + body)
            writer.close()

        server = await asyncio.start_server(guarded, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/api/v1/data"
        secret = tmp_path / "token"
        secret.write_text("open-sesame\n")
        secret.chmod(0o600)
        tables = (
            source("homewizard", url, name="with", key_file=str(secret)),
            source("homewizard", url, name="without"),
        )
        house = House(tmp_path)
        gateway = house.gateway(house.settings(*tables), clock)
        async with gateway.running():
            await until(lambda: gateway._seen.get("with") == START)
            await until(lambda: "source without" in gateway.problems)
            assert "status 401" in gateway.problems["source without"]
            assert "without" not in gateway._seen
            assert "source with" not in gateway.problems
        server.close()

    asyncio.run(run())


def test_an_answer_without_end_is_not_kept_in_memory(tmp_path: Path) -> None:
    async def run() -> None:
        clock = ManualClock(START)
        house = House(tmp_path)

        async def endless(reader: Any, writer: Any) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            try:
                for _ in range(3_000):
                    writer.write(b'{"a": ' * 100)
                    await writer.drain()
            except ConnectionError:
                pass
            writer.close()

        server = await asyncio.start_server(endless, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        table = source("homewizard", f"http://127.0.0.1:{port}/api")
        gateway = house.gateway(house.settings(table), clock)
        async with gateway.running():
            await until(lambda: "source homewizard" in gateway.problems)
            assert "an answer beyond 1 MiB" in gateway.problems["source homewizard"]
            assert gateway.samplers["homewizard"].faults.total() == 0
        server.close()

    asyncio.run(run())


def test_a_device_that_breaks_off_its_answer_is_read_again_when_well(tmp_path: Path) -> None:
    async def run() -> None:
        clock = ManualClock(START)
        house = House(tmp_path)
        async with HomeWizardMeter(day(8), clock) as device:
            device.inject(FaultKind.DROP, 60)
            table = source("homewizard", f"{device.address}/api/v1/data")
            gateway = house.gateway(house.settings(table), clock)
            async with gateway.running():
                await until(lambda: "source homewizard" in gateway.problems)
                assert "homewizard" not in gateway._seen
                clock.advance(100)
                await until(lambda: gateway._seen.get("homewizard") == START + 100)
                assert "source homewizard" not in gateway.problems

    asyncio.run(run())


def test_a_charge_point_without_the_password_or_not_named_is_turned_away(tmp_path: Path) -> None:
    async def run() -> None:
        clock = ManualClock(START)
        port = free_port()
        house = House(tmp_path)
        secret = tmp_path / "ocpp"
        secret.write_text("open-sesame\n")
        secret.chmod(0o600)
        more = {"directions": ["import"], "channels": ["GC-CP-1/1"], "key_file": str(secret)}
        table = source("ocpp", f"ws://127.0.0.1:{port}", **more)
        gateway = house.gateway(house.settings(table, gateway='absent = ["export"]'), clock)
        car = Car(START, START + 900, 1_000)
        known = f"ws://GC-CP-1:open-sesame@127.0.0.1:{port}"
        async with gateway.running():
            system = gateway._systems["ocpp"]
            for password in ("", "GC-CP-1:wrong@"):
                with pytest.raises(InvalidStatus, match="401"):
                    await connect(
                        f"ws://{password}127.0.0.1:{port}/GC-CP-1",
                        subprotocols=[Subprotocol("ocpp1.6")],
                    )
            async with ChargePoint([car], clock, csms=known, identity="GC-CP-2"):
                await until(lambda: system.faults["turned_away"] > 0)
                assert system.connected == []
                assert gateway.status()["sources"]["ocpp"]["faults"]["turned_away"] > 0
            async with ChargePoint([car], clock, csms=known) as point:
                await until(lambda: point.connected)
                assert system.connected == ["GC-CP-1"]

    asyncio.run(run())


def test_two_homewizards_of_one_home_add_up(tmp_path: Path) -> None:
    one, two = day(4, seed=1), day(4, seed=2)

    async def run() -> None:
        clock = ManualClock(START - 900)
        with Collector("0x" + "00" * 20) as collector:
            house = House(tmp_path, collector)
            async with HomeWizardMeter(one, clock) as a, HomeWizardMeter(two, clock) as b:
                tables = [
                    source("homewizard", f"{device.address}/api/v1/data", name=name, every_s=450)
                    for name, device in (("a", a), ("b", b))
                ]
                gateway = house.gateway(house.settings(*tables), clock)
                async with gateway.running():
                    await play(gateway, clock, START + 4 * 900)
                    await delivered(gateway, collector, clock, 4)
        for slot, wh in told(collector).items():
            at = slot - FIRST_SLOT
            assert wh == (
                one.import_wh[at] + two.import_wh[at],
                one.export_wh[at] + two.export_wh[at],
            )

    asyncio.run(run())
