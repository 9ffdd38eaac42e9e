# SPDX-License-Identifier: Apache-2.0
"""Inverter and battery over Modbus TCP, read and commanded by SunSpec's own client."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from sunspec2.modbus.client import SunSpecModbusClientDeviceTCP
from sunspec2.modbus.modbus import ModbusClientException

from dao.errors import BadUse
from meters.adapters.engine import parse
from meters.adapters.sunspec import SUNSPEC
from meters.devices import CommunityBattery
from meters.simulate.clock import ManualClock
from meters.simulate.faults import Fault, FaultKind
from meters.simulate.modbus import BASE, SunSpecDevice
from meters.simulate.street import Street
from meters.simulate.sunspec import SunSpecBattery, SunSpecInverter
from meters.simulate.truth import Truth
from tests.meters.simulate.conftest import BEGIN, FIRST, SLOTS, edges, run

PACK = CommunityBattery(10_000, 5_000, soc_wh=3_000)


@contextmanager
def client(device: SunSpecDevice) -> Iterator[Any]:
    """SunSpec's reference client, having found the models."""
    one = SunSpecModbusClientDeviceTCP(
        slave_id=1, ipaddr=device.host, ipport=device.port, timeout=10
    )
    one.scan()
    try:
        yield one
    finally:
        one.close()


def command(one: Any, watts: int, seconds: int = 900) -> None:
    """Set a power; positive charges, which SunSpec counts below zero."""
    control = one.models[704][0]
    control.WSetMod.value = 1
    control.WSet.value = -watts
    control.WSetRvrtTms.value = seconds
    control.WSetEna.value = 1
    control.write()


def counters(one: Any) -> tuple[int, int]:
    measured = one.models[701][0]
    measured.read()
    return measured.TotWhAbs.value, measured.TotWhInj.value


def test_a_day_of_inverter_and_meter_is_the_truth_to_the_wh(
    truth: Truth, clock: ManualClock
) -> None:
    roof = Truth(FIRST, np.zeros_like(truth.export_wh), truth.export_wh * 2, 0, 1_000_000)
    inverter = SunSpecInverter(roof, clock, meter=truth)
    with Street([inverter]), client(inverter) as one:
        for i in range(SLOTS + 1):
            for number in (103, 203):
                one.models[number][0].read()
            meter = one.models[203][0]
            assert (meter.TotWhImp.cvalue, meter.TotWhExp.cvalue) == edges(truth)[i]
            assert one.models[103][0].WH.cvalue == edges(roof)[i][1]
            clock.advance(900)


def test_every_model_is_whole_and_the_client_finds_no_fault_with_it(
    truth: Truth, clock: ManualClock
) -> None:
    inverter, battery = SunSpecInverter(truth, clock, meter=truth), SunSpecBattery(PACK, clock)
    with Street([inverter, battery]):
        for device, expected in ((inverter, [1, 103, 203]), (battery, [1, 701, 702, 704, 713])):
            with client(device) as one:
                assert [model.model_id for model in one.model_list] == expected
                assert [model.error_info for model in one.model_list] == [""] * len(expected)


def test_our_adapter_reads_the_registers_as_they_come(truth: Truth, clock: ManualClock) -> None:
    inverter = SunSpecInverter(truth, clock, meter=truth, serial="X9")
    clock.advance(900 * 7)
    with Street([inverter]), client(inverter) as one:
        length = len(inverter.image.registers)
        image = b"".join(one.read(BASE + at, min(100, length - at)) for at in range(0, length, 100))
    parsed = parse(SUNSPEC, [("socket", image)])
    found = {reading.meter: (reading.import_wh, reading.export_wh) for reading in parsed.readings}
    assert found == {"X9": (None, edges(truth)[7][1]), "X9/meter": edges(truth)[7]}


def test_a_counter_of_two_registers_is_never_torn(clock: ManualClock) -> None:
    # Around 65,536 Wh the upper register moves while the lower one falls.
    roof = Truth(FIRST, np.zeros(4, dtype=np.int64), np.full(4, 30_000), 0, 65_000)
    inverter = SunSpecInverter(roof, clock)
    seen = []
    with Street([inverter]), client(inverter) as one:
        model = one.models[103][0]
        for _ in range(300):
            clock.advance(0.5)
            model.read()
            seen.append(model.WH.value)
    expected = [roof.registers(BEGIN + (i + 1) / 2)[1] for i in range(300)]
    assert seen == expected
    assert seen[0] < 65_536 < seen[-1]


def test_a_battery_does_what_the_schedule_of_the_vote_computes(clock: ManualClock) -> None:
    random = np.random.default_rng(5)
    some = [int(watts) for watts in random.integers(-6_000, 6_000, SLOTS - 24)]
    wanted = [6_000] * 12 + some + [-6_000] * 12
    battery = SunSpecBattery(PACK, clock)
    seen = []
    with Street([battery]), client(battery) as one:
        before = counters(one)
        for watts in wanted:
            command(one, watts)
            clock.advance(900)
            after = counters(one)
            seen.append((after[0] - before[0], after[1] - before[1]))
            before = after
    expected = PACK.run({FIRST + i: w for i, w in enumerate(wanted)}, FIRST, SLOTS)
    assert seen == list(zip(expected.import_wh, expected.export_wh, strict=True))
    assert battery.state().soc_wh == expected.after.soc_wh
    assert max(expected.soc_wh) == PACK.capacity_wh
    assert min(expected.soc_wh) == 0


def test_energy_is_kept_whenever_a_set_point_comes(clock: ManualClock) -> None:
    random = np.random.default_rng(6)
    battery = SunSpecBattery(PACK, clock)
    with Street([battery]), client(battery) as one:
        for _ in range(150):
            command(one, int(random.integers(-5_000, 5_001)), int(random.integers(1, 2_000)))
            clock.advance(float(random.integers(1, 1_500)) + 0.25)
            now = battery.state()
            rise = now.soc_wh - PACK.soc_wh
            assert now.import_wh == now.export_wh + rise + now.loss_wh
            assert counters(one) == (now.import_wh, now.export_wh)
            assert 0 <= now.soc_wh <= PACK.capacity_wh


def test_a_battery_that_nobody_commands_any_more_rests(clock: ManualClock) -> None:
    battery = SunSpecBattery(PACK, clock)
    with Street([battery]), client(battery) as one:
        command(one, 3_600, 100)
        control = one.models[704][0]
        clock.advance(40)
        control.read()
        assert (control.WSetEna.value, control.WSetRvrtRem.value) == (1, 60)
        clock.advance(60)
        control.read()
        assert (control.WSetEna.value, control.WSetRvrtRem.value) == (0, 0)
        clock.advance(10_000)
        assert counters(one) == (100, 0)
        assert battery.state().wanted_w == 0


def test_a_set_point_that_is_refreshed_runs_on_unbroken(clock: ManualClock) -> None:
    battery = SunSpecBattery(PACK, clock)
    with Street([battery]), client(battery) as one:
        for _ in range(90):
            command(one, 1_001, 60)
            clock.advance(10)
        # 1,001 W over a slot are 250.25 Wh; cut in ninety parts it would be 180.
        assert counters(one) == (250, 0)


def test_a_set_point_can_be_a_share_of_the_rated_power(clock: ManualClock) -> None:
    battery = SunSpecBattery(PACK, clock)
    with Street([battery]), client(battery) as one:
        control = one.models[704][0]
        control.WSetMod.value = 0
        control.WSetPct.value = 1000
        control.WSetEna.value = 1
        control.write()
        assert battery.state().wanted_w == -5_000
        clock.advance(60)
        assert battery.state().export_wh == 83


def test_a_full_battery_takes_nothing_and_shows_no_power(clock: ManualClock) -> None:
    battery = SunSpecBattery(PACK, clock)
    with Street([battery]), client(battery) as one:
        for _ in range(10):
            command(one, 5_000)
            clock.advance(900)
        measured, store = one.models[701][0], one.models[713][0]
        command(one, 5_000)
        measured.read()
        store.read()
        assert (measured.W.value, store.SoC.cvalue, store.WHAvail.cvalue) == (0, 100, 10_000)


@pytest.mark.parametrize(
    ("offset", "words", "code"),
    [
        (("WSet", 0), [0], 2),  # half of a value
        (("WSet", 1), [0], 2),
        (("WSetRvrtRem", 0), [0, 1], 2),  # read only
        (("WSetRvrtTms", 0), [0, 0], 3),  # a set-point without an end
        (("WSetRvrtTms", 0), [0xFFFF, 0xFFFF], 3),
        (("WSetEna", 0), [7], 3),
        (("WSetMod", 0), [2], 3),
        (("WSetPct", 0), [1001], 3),
    ],
)
def test_a_write_that_makes_no_sense_changes_nothing(
    clock: ManualClock, offset: tuple[str, int], words: list[int], code: int
) -> None:
    battery = SunSpecBattery(PACK, clock)
    point = battery.image.points[704, offset[0]]
    with Street([battery]), client(battery) as one:
        command(one, 1_000)
        before = battery.state()
        with pytest.raises(ModbusClientException, match=f"exception: {code}"):
            one.write(BASE + point.offset + offset[1], struct.pack(f">{len(words)}H", *words))
        assert battery.state() == before


def test_a_battery_that_refuses_says_so(clock: ManualClock) -> None:
    battery = SunSpecBattery(PACK, clock, faults=[Fault(FaultKind.REFUSE)])
    with Street([battery]), client(battery) as one:
        with pytest.raises(ModbusClientException, match="exception: 4"):
            command(one, 1_000)
        assert battery.state().wanted_w == 0


def test_a_large_battery_shows_its_ratings_by_scale(clock: ManualClock) -> None:
    battery = SunSpecBattery(CommunityBattery(2_000_000, 400_000, soc_wh=500_000), clock)
    with Street([battery]), client(battery) as one:
        assert one.models[702][0].WMaxRtg.cvalue == 400_000
        assert one.models[713][0].WHRtg.cvalue == 2_000_000
        command(one, 400_000)
        one.models[701][0].read()
        assert one.models[701][0].W.cvalue == -400_000


def test_bytes_that_are_no_modbus_hurt_nobody(clock: ManualClock) -> None:
    async def body() -> None:
        async with SunSpecBattery(PACK, clock) as battery:
            random = np.random.default_rng(3)
            for _ in range(20):
                _, writer = await asyncio.open_connection(battery.host, battery.port)
                writer.write(random.bytes(300))
                await writer.drain()
                writer.close()
            with_client = asyncio.to_thread(_read_once, battery)
            assert await with_client == (0, 0)

    run(body())


def _read_once(battery: SunSpecBattery) -> tuple[int, int]:
    with client(battery) as one:
        return counters(one)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"unit": 0}, "unit 0"),
        ({"port": 70_000}, "port 70000"),
        ({"revert_seconds": 0}, "time-out"),
    ],
)
def test_impossible_settings_are_told(
    clock: ManualClock, settings: dict[str, int], message: str
) -> None:
    with pytest.raises(BadUse, match=message):
        SunSpecBattery(PACK, clock, **settings)  # type: ignore[arg-type]


def test_a_modbus_port_in_use_is_told_in_one_line(clock: ManualClock) -> None:
    battery = SunSpecBattery(PACK, clock)
    with (
        Street([battery]),
        pytest.raises(BadUse, match=f"cannot listen on 127.0.0.1:{battery.port}"),
        Street([SunSpecBattery(PACK, clock, port=battery.port)]),
    ):
        pass
