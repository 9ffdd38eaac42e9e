# SPDX-License-Identifier: Apache-2.0
"""Faults on demand: each shows as it should, begins and ends when told, and moves no energy."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
import requests
from pymodbus.exceptions import ModbusException
from sunspec2.modbus.client import SunSpecModbusClientDeviceTCP

from dao.errors import BadUse, CheckFailed
from meters.adapters.dsmr import DSMR
from meters.adapters.engine import MeterReading, parse
from meters.adapters.sml import SML
from meters.devices import CommunityBattery
from meters.simulate.clock import ManualClock
from meters.simulate.faults import ROLLOVER_MARGIN_WH, SPIKE_WH, TOLD, Fault, FaultKind
from meters.simulate.http import HomeWizardMeter
from meters.simulate.modbus import SunSpecDevice
from meters.simulate.p1 import WIDTH_WH, P1Meter
from meters.simulate.sml import SmlMeter
from meters.simulate.street import Street
from meters.simulate.sunspec import SunSpecBattery, SunSpecInverter
from meters.simulate.truth import Truth
from meters.simulate.wire import PushDevice
from tests.meters.simulate.conftest import BEGIN, edges, run

PACK = CommunityBattery(10_000, 5_000, soc_wh=3_000)


def seen(meter: P1Meter, at: float) -> MeterReading:
    return parse(DSMR, [("telegram", meter.telegram(at))]).readings[0]


def energy(meter: P1Meter, at: float) -> tuple[int | None, int | None]:
    one = seen(meter, at)
    return one.import_wh, one.export_wh


def slot(i: int) -> float:
    return BEGIN + i * 900


def test_a_frozen_register_stands_until_the_fault_ends(truth: Truth, clock: ManualClock) -> None:
    meter = P1Meter(truth, clock, faults=[Fault(FaultKind.FROZEN, slot(4), slot(8))])
    shown = [energy(meter, slot(i)) for i in range(10)]
    true = edges(truth)
    assert shown == true[:4] + [true[4]] * 4 + true[8:10]
    # Its clock goes on: a meter whose time stood still too would be another fault.
    assert seen(meter, slot(6)).end == datetime.fromtimestamp(slot(6), UTC)


def test_a_reset_register_starts_again_at_zero(truth: Truth, clock: ManualClock) -> None:
    meter = P1Meter(truth, clock, faults=[Fault(FaultKind.RESET, slot(4))])
    true = edges(truth)
    assert energy(meter, slot(3)) == true[3]
    for i in range(4, 20):
        assert energy(meter, slot(i)) == (true[i][0] - true[4][0], true[i][1] - true[4][1])


def test_a_register_rolls_over_at_its_width(truth: Truth, clock: ManualClock) -> None:
    meter = P1Meter(truth, clock, variant="luxembourg", faults=[Fault(FaultKind.ROLLOVER, BEGIN)])
    true = edges(truth)
    shown = [energy(meter, slot(i)) for i in range(40)]
    for i, both in enumerate(shown):
        for value, now, start in zip(both, true[i], true[0], strict=True):
            assert value == (now - start + WIDTH_WH - ROLLOVER_MARGIN_WH) % WIDTH_WH
    assert shown[0][0] == WIDTH_WH - ROLLOVER_MARGIN_WH
    assert shown[-1][0] == true[39][0] - true[0][0] - ROLLOVER_MARGIN_WH


def test_a_spike_is_there_for_its_time_only(truth: Truth, clock: ManualClock) -> None:
    meter = P1Meter(truth, clock, variant="luxembourg", faults=[Fault.parse("spike@900", BEGIN)])
    at = (BEGIN + 899, BEGIN + 900, BEGIN + 959, BEGIN + 960)
    for when, extra in zip(at, (0, SPIKE_WH, SPIKE_WH, 0), strict=True):
        true = truth.registers(when)
        assert energy(meter, when) == (true[0] + extra, true[1] + extra)


def test_a_meter_connected_the_wrong_way_exchanges_import_and_export(
    truth: Truth, clock: ManualClock
) -> None:
    meter = P1Meter(truth, clock, faults=[Fault(FaultKind.SIGN)])
    for i in range(10):
        assert energy(meter, slot(i)) == edges(truth)[i][::-1]


def test_a_clock_that_runs_fast_stamps_too_late(truth: Truth, clock: ManualClock) -> None:
    meter = P1Meter(truth, clock, faults=[Fault(FaultKind.DRIFT, slot(4))])
    assert seen(meter, slot(4)).end == datetime.fromtimestamp(slot(4), UTC)
    late = seen(meter, slot(8))
    assert late.end == datetime.fromtimestamp(slot(8), UTC) + timedelta(seconds=36)
    assert (late.import_wh, late.export_wh) == edges(truth)[8]


@pytest.mark.parametrize(("made", "adapter"), [(P1Meter, DSMR), (SmlMeter, SML)])
def test_a_corrupted_telegram_fails_its_checksum_and_the_next_is_good(
    truth: Truth, clock: ManualClock, made: type[PushDevice], adapter: object
) -> None:
    async def body() -> tuple[bytes, bytes]:
        async with made(truth, clock) as meter:  # type: ignore[call-arg, arg-type]
            length = len(meter.telegram(BEGIN))
            meter.inject(FaultKind.CORRUPT)
            reader, writer = await asyncio.open_connection(meter.host, meter.port)
            bad = await reader.readexactly(length)
            meter.faults.clear()
            clock.advance(900)
            good = await reader.readexactly(length)
            writer.close()
            return bad, good

    bad, good = run(body())
    with pytest.raises(CheckFailed):
        parse(adapter, [("socket", bad)])  # type: ignore[arg-type]
    (reading,) = parse(adapter, [("socket", good)]).readings  # type: ignore[arg-type]
    assert (reading.import_wh, reading.export_wh) == edges(truth)[1]


def test_a_connection_drops_in_the_middle_of_a_telegram(truth: Truth, clock: ManualClock) -> None:
    async def body() -> None:
        async with P1Meter(truth, clock) as meter:
            meter.inject(FaultKind.DROP, 10)
            reader, _ = await asyncio.open_connection(meter.host, meter.port)
            whole = meter.telegram(BEGIN)
            assert await reader.read() == whole[: len(whole) // 2]
            clock.advance(10)
            again, writer = await asyncio.open_connection(meter.host, meter.port)
            assert (await again.readuntil(b"!")).startswith(b"/")
            writer.close()

    run(body())


def test_a_silent_meter_takes_the_connection_and_says_nothing(
    truth: Truth, clock: ManualClock
) -> None:
    async def body() -> None:
        async with P1Meter(truth, clock) as meter:
            meter.inject(FaultKind.SILENT, 5)
            reader, writer = await asyncio.open_connection(meter.host, meter.port)
            for _ in range(4):
                clock.advance(1)
                await asyncio.sleep(0.01)
            clock.advance(1)
            # The first that comes is the first after the fault.
            telegram = await reader.readuntil(b"!") + await reader.readline()
            end = parse(DSMR, [("socket", telegram)]).readings[0].end
            assert end == datetime.fromtimestamp(BEGIN + 5, UTC)
            writer.close()

    run(body())


def test_a_slow_meter_sends_a_byte_a_second(truth: Truth, clock: ManualClock) -> None:
    async def body() -> None:
        async with P1Meter(truth, clock) as meter:
            meter.inject(FaultKind.SLOW)
            reader, writer = await asyncio.open_connection(meter.host, meter.port)
            whole = meter.telegram(BEGIN)
            assert await reader.read(100) == whole[:1]
            for i in range(1, 20):
                clock.advance(1)
                assert await reader.read(100) == whole[i : i + 1]
            writer.close()

    run(body())


@pytest.mark.parametrize(
    "kind", [FaultKind.SILENT, FaultKind.CORRUPT, FaultKind.DROP, FaultKind.SLOW]
)
def test_a_modbus_client_notices_each_fault_of_the_wire(
    clock: ManualClock, kind: FaultKind
) -> None:
    battery = SunSpecBattery(PACK, clock)
    with Street([battery]):
        battery.inject(kind)
        with pytest.raises(ModbusException):
            _read_with_checks(battery, 0.3)
        battery.faults.clear()
        assert _read_with_checks(battery, 30)[:4] == b"SunS"


def _read_with_checks(device: SunSpecDevice, timeout: float) -> bytes:
    """A read by a client that compares the answer's head with its question's."""
    from pymodbus.client import ModbusTcpClient

    one = ModbusTcpClient(device.host, port=device.port, timeout=timeout, retries=0)
    one.connect()
    try:
        answer = one.read_holding_registers(40_000, count=10, device_id=1)
        assert not answer.isError()
        return b"".join(word.to_bytes(2, "big") for word in answer.registers)
    finally:
        one.close()


def test_faults_of_value_show_over_modbus_and_http_too(truth: Truth, clock: ManualClock) -> None:
    inverter, meter = SunSpecInverter(truth, clock), HomeWizardMeter(truth, clock)
    with Street([inverter, meter]):
        for device in (inverter, meter):
            device.inject(FaultKind.FROZEN)
        clock.advance(9_000)
        client = SunSpecModbusClientDeviceTCP(1, ipaddr="127.0.0.1", ipport=inverter.port)
        client.scan()
        assert client.models[103][0].WH.value == edges(truth)[0][1]
        client.close()
        told = requests.get(f"{meter.address}/api/v1/data", timeout=10).json()
        assert round(told["total_power_import_kwh"] * 1000) == edges(truth)[0][0]


def test_a_faulty_battery_still_moves_its_energy(clock: ManualClock) -> None:
    battery = SunSpecBattery(PACK, clock)
    battery.storage.command(3_600, BEGIN, None)
    clock.advance(100)
    battery.inject(FaultKind.FROZEN)
    clock.advance(100)
    assert battery.state().import_wh == 100
    assert battery.state().soc_wh == 3_000 + 190
    battery.faults.clear()
    assert battery.state().import_wh == 200


def test_every_kind_of_fault_is_explained() -> None:
    assert set(TOLD) == set(FaultKind)


@pytest.mark.parametrize("text", ["", "x", "frozen@", "frozen@x", "frozen@-1", "frozen@1.5"])
def test_a_fault_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(BadUse, match="fault"):
        Fault.parse(text, BEGIN)
