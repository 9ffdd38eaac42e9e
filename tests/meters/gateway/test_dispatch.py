# SPDX-License-Identifier: Apache-2.0
"""A schedule reaches a battery and charge points over their own protocols, and the report says
what they really did."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from dao.errors import BadUse, CheckFailed
from dao.processes import free_port
from meters.devices import CommunityBattery
from meters.dispatch import NONE, DispatchReport, Schedule
from meters.gateway.chain import Window
from meters.gateway.drivers.battery import SunSpecBattery as BatteryDriver
from meters.gateway.drivers.counting import Counting
from meters.gateway.intervals import Interval, Sample
from meters.gateway.outbox import REFUSED
from meters.gateway.run import Gateway
from meters.gateway.settings import Settings
from meters.simulate.charging import Car
from meters.simulate.clock import ManualClock
from meters.simulate.faults import FaultKind
from meters.simulate.ocpp import ChargePoint
from meters.simulate.sunspec import SunSpecBattery
from tests.meters.gateway.house import (
    FIRST_SLOT,
    METER,
    PARAMETERS,
    SEPARATOR,
    START,
    Collector,
    House,
    passing,
    source,
    told,
    until,
)

ON_CHAIN = f'parameters = "{PARAMETERS}"\nrpc = "http://127.0.0.1:9"'
BATTERY = CommunityBattery(20_000, 5_000, soc_wh=6_000)


class Windows(list[Window]):
    """A schedule that is given, instead of read from a node."""

    def windows(self, zone: int, key: int, slot: int) -> list[Window]:
        if any(window is None for window in self):
            raise CheckFailed("the node does not answer")
        return list(self)


def device(kind: str, **more: object) -> str:
    fields = {"kind": kind, **more}
    lines = (f'{k} = "{v}"' if isinstance(v, str) else f"{k} = {v}" for k, v in fields.items())
    return "[[device]]\n" + "\n".join(lines) + "\n"


def battery_settings(house: House, battery: SunSpecBattery, kind: str) -> Settings:
    address = f"tcp://{battery.address}"
    return house.settings(
        source("sunspec", address, every_s=150),
        device(kind, address=address, revert_s=900),
        chain=ON_CHAIN,
    )


async def steer(gateway: Gateway, clock: ManualClock, end: float, step: float = 150) -> None:
    """Move time on, waiting at each step until the schedule was looked at and counters read."""

    def done(now: float) -> bool:
        for one in gateway.dispatchers:
            driver = one.driver
            is_read = not isinstance(driver, BatteryDriver) or driver.counting.read_at >= now
            if one.looked_at < now - 299 or not is_read:
                return False
            if now % 300 == 0 and one.looked_at < now:
                return False
        return True

    while clock() < end:
        now = clock.set(min((clock() // step + 1) * step, end))
        await until(lambda now=now: done(now), f"the turn at {now - START:+.0f} s")


def reports(collector: Collector) -> dict[int, DispatchReport]:
    return {one["slot"]: DispatchReport.from_json(one) for one in collector.reports}


@asynccontextmanager
async def run_battery(
    tmp_path: Path, windows: Sequence[Window], kind: str = "community_battery"
) -> AsyncIterator[tuple[Gateway, ManualClock, SunSpecBattery, Collector]]:
    clock = ManualClock(START - 900)
    with Collector("0x" + "00" * 20) as collector:
        house = House(tmp_path, collector)
        async with SunSpecBattery(BATTERY, clock) as battery:
            settings = battery_settings(house, battery, kind)
            gateway = house.gateway(settings, clock, schedule=windows)
            async with gateway.running():
                yield gateway, clock, battery, collector


def test_a_battery_obeys_its_windows_and_the_report_agrees_with_its_meter(tmp_path: Path) -> None:
    windows = Windows([Window(FIRST_SLOT + 1, 3, 4_000), Window(FIRST_SLOT + 5, 2, -3_000)])
    # What the same battery does by itself under the same schedule.
    wanted = {FIRST_SLOT + i: 4_000 for i in (1, 2, 3)} | {FIRST_SLOT + i: -3_000 for i in (5, 6)}
    truly = BATTERY.run(wanted, FIRST_SLOT, 9)

    async def run() -> None:
        async with run_battery(tmp_path, windows) as (gateway, clock, battery, collector):
            await steer(gateway, clock, START + 9 * 900)
            assert battery.state().wanted_w == 0
            await passing(clock, lambda: len(collector.reports) == 5)
            await passing(clock, lambda: FIRST_SLOT + 8 in collector.by_slot())
            key = gateway.keys.of(FIRST_SLOT)
            assert key is not None
        found, metered = reports(collector), told(collector)
        assert found.keys() == wanted.keys()
        for slot, report in found.items():
            report.verify(SEPARATOR, key.address)
            at = slot - FIRST_SLOT
            assert report.meter == METER
            assert report.wanted == report.acknowledged == wanted[slot]
            assert report.done_wh == truly.import_wh[at] - truly.export_wh[at]
            imported, exported = metered[slot]
            assert imported is not None
            assert exported is not None
            assert report.done_wh == imported - exported

    asyncio.run(run())


@pytest.mark.parametrize(("scale", "raw", "held"), [(-1, 40_500, 4_050), (2, 40, 4_000)])
def test_a_set_point_is_written_in_the_steps_that_the_device_names(
    scale: int, raw: int, held: int, tmp_path: Path
) -> None:
    async def run() -> None:
        windows = Windows([Window(FIRST_SLOT, 1, 4_050)])
        clock = ManualClock(START - 900)
        house = House(tmp_path)
        battery = SunSpecBattery(BATTERY, clock)
        battery.image.put(battery.image.registers, {(704, "WSet_SF"): scale})
        async with battery:
            settings = battery_settings(house, battery, "community_battery")
            gateway = house.gateway(settings, clock, schedule=windows)
            async with gateway.running():
                await steer(gateway, clock, START + 300)
                # The simulated one counts in W whatever its scale says: this is what was written.
                assert battery.state().wanted_w == raw
                assert gateway.dispatchers[0]._open[FIRST_SLOT][1] == held

    asyncio.run(run())


def test_a_home_battery_takes_a_share_of_its_rating(tmp_path: Path) -> None:
    async def run() -> None:
        windows = Windows([Window(FIRST_SLOT, 2, 333)])
        async with run_battery(tmp_path, windows, "home_battery") as (gateway, clock, battery, _):
            await steer(gateway, clock, START + 300)
            assert battery.state().wanted_w == 5_000 * 333 // 1_000
            await steer(gateway, clock, START + 1_800)
            assert battery.state().wanted_w == 0
            [first, *_] = gateway.outbox.reports(None)
            assert (first["wanted"], first["acknowledged"]) == (333, 333)

    asyncio.run(run())


def test_a_report_that_a_busy_collector_did_not_take_comes_again(tmp_path: Path) -> None:
    async def run() -> None:
        windows = Windows([Window(FIRST_SLOT, 1, 1_000)])
        async with run_battery(tmp_path, windows) as (gateway, clock, _, collector):
            collector.mode = "down"
            await steer(gateway, clock, START + 1_200)
            busy = "the collector does not take reports now"
            await passing(clock, lambda: gateway.problems.get("dispatch reports") == busy)
            assert [one["slot"] for one in gateway.outbox.reports()] == [FIRST_SLOT]
            collector.mode = "ok"
            await passing(clock, lambda: not gateway.outbox.reports())
            assert reports(collector).keys() == {FIRST_SLOT}

    asyncio.run(run())


def test_a_refused_report_comes_again_seldom_and_is_given_up_after_a_day(tmp_path: Path) -> None:
    early, late = FIRST_SLOT, FIRST_SLOT + 6

    async def run() -> None:
        windows = Windows([Window(early, 1, 1_000), Window(late, 1, 1_000)])
        async with run_battery(tmp_path, windows) as (gateway, clock, _, collector):
            collector.mode = "refusing"
            await steer(gateway, clock, START + 900 + 150)
            await passing(clock, lambda: collector.asked == [early])
            for _ in range(20):
                clock.advance(5)
                await asyncio.sleep(0.01)
            assert collector.asked == [early]
            assert "no such meter" in gateway.problems["dispatch reports"]
            collector.mode = "ok"
            await passing(clock, lambda: not gateway.outbox.reports(), step=60)
            assert reports(collector).keys() == {early}
            await passing(clock, lambda: "dispatch reports" not in gateway.problems)
            collector.mode = "refusing"
            await steer(gateway, clock, START + 7 * 900 + 150)
            await passing(clock, lambda: late in collector.asked)
            clock.advance(86_400)
            await passing(clock, lambda: not gateway.outbox.reports(), step=60)
            assert [one["slot"] for one in gateway.outbox.reports(REFUSED)] == [late]
            assert gateway.faults["report_refused"] == collector.asked.count(late) + 1

    asyncio.run(run())


@pytest.mark.parametrize("kind", [FaultKind.REFUSE, FaultKind.DROP])
def test_a_device_that_refuses_or_is_away_is_reported_as_such(
    kind: FaultKind, tmp_path: Path
) -> None:
    async def run() -> None:
        windows = Windows([Window(FIRST_SLOT, 1, 2_000)])
        async with run_battery(tmp_path, windows) as (gateway, clock, battery, collector):
            await until(lambda: gateway.dispatchers[0].looked_at >= START - 900)
            if kind is FaultKind.DROP:
                await battery._stop()
            else:
                battery.inject(kind)
            # Half an hour later nobody waits for its counters any more.
            for at in range(0, 4_501, 300):
                clock.set(START + at)
                await until(lambda at=at: gateway.dispatchers[0].looked_at >= START + at)
            await passing(clock, lambda: len(collector.reports) == 1)
        [report] = reports(collector).values()
        assert report.acknowledged is None
        assert report.wanted == 2_000
        if kind is FaultKind.REFUSE:
            assert report.detail.startswith("refused")
            assert report.done_wh == 0
        else:
            assert report.detail.startswith("no answer")
            assert report.done_wh is None

    asyncio.run(run())


def test_a_restart_in_the_middle_of_a_window_goes_on_without_a_node(tmp_path: Path) -> None:
    async def run() -> None:
        clock = ManualClock(START - 900)
        with Collector("0x" + "00" * 20) as collector:
            house = House(tmp_path, collector)
            async with SunSpecBattery(BATTERY, clock) as battery:
                settings = battery_settings(house, battery, "community_battery")
                windows = Windows([Window(FIRST_SLOT, 3, 1_000)])
                gateway = house.gateway(settings, clock, schedule=windows)
                async with gateway.running():
                    await steer(gateway, clock, START + 900 + 300)
                away = Windows([None])  # type: ignore[list-item]
                gateway = house.gateway(settings, clock, schedule=away)
                async with gateway.running():
                    await steer(gateway, clock, START + 4 * 900)
                    assert battery.state().wanted_w == 0
                    assert gateway.dispatchers[0].problem == "the node does not answer"
                    found = gateway.outbox.reports(None)
        assert [(one["slot"] - FIRST_SLOT, one["done_wh"]) for one in found] == [
            (0, 250),
            (1, 250),
            (2, 250),
        ]

    asyncio.run(run())


def test_a_battery_rests_by_itself_when_its_gateway_is_gone(tmp_path: Path) -> None:
    async def run() -> None:
        windows = Windows([Window(FIRST_SLOT, 90, 1_000)])
        clock = ManualClock(START - 900)
        with Collector("0x" + "00" * 20) as collector:
            house = House(tmp_path, collector)
            async with SunSpecBattery(BATTERY, clock) as battery:
                settings = battery_settings(house, battery, "community_battery")
                gateway = house.gateway(settings, clock, schedule=windows)
                async with gateway.running():
                    await steer(gateway, clock, START + 300)
                assert battery.state().wanted_w == 1_000
                clock.advance(901)
                assert battery.state().wanted_w == 0

    asyncio.run(run())


def test_charge_points_keep_under_the_cap_and_are_freed_after_it(tmp_path: Path) -> None:
    async def run() -> None:
        clock = ManualClock(START - 900)
        port = free_port()
        with Collector("0x" + "00" * 20) as collector:
            house = House(tmp_path, collector)
            settings = house.settings(
                source(
                    "ocpp",
                    f"ws://127.0.0.1:{port}",
                    name="wallbox",
                    directions=["import"],
                    channels=["GC-CP-1/1"],
                ),
                device("charge_points", source="wallbox"),
                gateway='absent = ["export"]',
                chain=ON_CHAIN,
            )
            windows = Windows([Window(FIRST_SLOT + 1, 2, 3_700)])
            gateway = house.gateway(settings, clock, schedule=windows)
            car = Car(START - 800, START + 20 * 900, 60_000)
            csms = f"ws://127.0.0.1:{port}"
            async with gateway.running(), ChargePoint([car], clock, csms=csms) as point:
                system = gateway._systems["wallbox"]
                await until(lambda: system.connected == ["GC-CP-1"] and point.connected)
                await until(lambda: point.outlet.aligned_seconds == 60, "the configuration")
                limits = {}
                for at in range(-840, 6 * 900 + 1, 60):
                    clock.set(START + at)
                    await until(lambda at=at: gateway._seen.get("wallbox", 0) >= START + at)
                    if at % 300 == 0:
                        await until(lambda at=at: gateway.dispatchers[0].looked_at >= START + at)
                    limits[at] = point.state().limit_w
                assert limits[0] is None
                assert limits[960] == limits[1_800] == limits[2_640] == 3_700
                assert limits[2_760] is None
                await passing(clock, lambda: len(collector.reports) == 2)
        assert [(r.wanted, r.acknowledged, r.done_wh) for r in reports(collector).values()] == 2 * [
            (3_700, 3_700, 925)
        ]
        imports = {slot - FIRST_SLOT: wh[0] for slot, wh in told(collector).items()}
        assert imports[0] == 11_000 // 4
        assert imports[1] == imports[2] == 925
        assert imports[3] == 11_000 // 4

    asyncio.run(run())


def test_a_report_that_was_changed_or_is_by_somebody_else_is_refused() -> None:
    key, other = b"\x01" * 32, b"\x02" * 32
    from dao.eip712 import address_of

    report = DispatchReport(METER, FIRST_SLOT, -5, None, None).signed(key, SEPARATOR)
    DispatchReport.from_json(report.to_json()).verify(SEPARATOR, address_of(key))
    with pytest.raises(CheckFailed):
        report.verify(SEPARATOR, address_of(other))
    with pytest.raises(CheckFailed):
        DispatchReport.from_json(report.to_json() | {"done_wh": 0}).verify(
            SEPARATOR, address_of(key)
        )


@pytest.mark.parametrize(
    "change",
    [{"slot": -1}, {"wanted": NONE}, {"wanted": 1.5}, {"signature": "0x00"}, {"done_wh": "1"}],
)
def test_a_malformed_report_is_bad_use(change: dict[str, object]) -> None:
    report = DispatchReport(METER, FIRST_SLOT, 1, 1, 1).signed(b"\x01" * 32, SEPARATOR)
    with pytest.raises(BadUse):
        DispatchReport.from_json({**report.to_json(), **change})


def test_a_schedule_knows_zero_from_no_window() -> None:
    schedule = Schedule.of(1, 1_000, 10, 5, [Window(8, 4, 0), Window(14, 9, -7)])
    assert [schedule.value(slot) for slot in range(9, 16)] == [None, 0, 0, None, None, -7, None]
    with pytest.raises(BadUse):
        Schedule(1, 1_000, 10, 5, np.zeros(4, np.int64), np.zeros(5, bool))


def test_registers_count_as_read_only_once_their_slots_are_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counting = Counting()
    counting.add(FIRST_SLOT * 900.0, 0, 0)
    added = counting._assembler.add
    seen: list[float] = []

    def watched(feed: str, sample: Sample) -> Sequence[Interval]:
        seen.append(counting.read_at)
        return list(added(feed, sample))

    monkeypatch.setattr(counting._assembler, "add", watched)
    counting.add((FIRST_SLOT + 1) * 900.0, 7, 0)
    assert seen == [FIRST_SLOT * 900.0]
    assert counting.read_at == (FIRST_SLOT + 1) * 900.0
    assert counting.done(FIRST_SLOT) == (7, 0)
