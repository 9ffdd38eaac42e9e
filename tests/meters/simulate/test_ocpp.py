# SPDX-License-Identifier: Apache-2.0
"""A charge point before a central system made of the ocpp library, over a real WebSocket."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from ocpp.routing import on
from ocpp.v16 import ChargePoint as Speaker
from ocpp.v16 import call, call_result
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

from dao.errors import BadUse, CheckFailed
from meters.adapters.engine import Options, parse
from meters.adapters.ocmf import OCMF, key_bytes
from meters.simulate.charging import Car, Profile, composite, installed
from meters.simulate.clock import ManualClock
from meters.simulate.faults import Fault, FaultKind
from meters.simulate.ocpp import ChargePoint
from meters.simulate.outlet import Ended, Outlet, Sampled
from tests.meters.simulate.conftest import BEGIN, run, until

HOUR = 3600
CAR = Car(BEGIN + 600, BEGIN + 4 * HOUR, 8_000)


class System:
    """The central system: what it was told, and the connection it has."""

    def __init__(self) -> None:
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.point: Any = None
        self.port = 0
        self.welcome = "Accepted"
        self.tag = "Accepted"

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [payload for name, payload in self.told if name == kind]

    def statuses(self) -> list[str]:
        return [one["status"] for one in self.of("StatusNotification")]

    def registers(self) -> dict[int, int]:
        """Clock-aligned registers by unix second."""
        found = {}
        for one in self.of("MeterValues"):
            (value,) = one["meter_value"]
            sampled = {row["measurand"]: row for row in value["sampled_value"]}
            energy = sampled["Energy.Active.Import.Register"]
            if energy["context"] == "Sample.Clock":
                assert energy["unit"] == "Wh"
                found[round(datetime.fromisoformat(value["timestamp"]).timestamp())] = int(
                    energy["value"]
                )
        return found


def _speaker(system: System, socket: Any) -> Any:
    now = datetime.now(UTC).isoformat()

    class Point(Speaker):  # type: ignore[misc, unused-ignore]
        @on("BootNotification")
        def boot(self, **told: Any) -> Any:
            system.told.append(("BootNotification", told))
            return call_result.BootNotification(now, 3600, system.welcome)

        @on("StatusNotification")
        def status(self, **told: Any) -> Any:
            system.told.append(("StatusNotification", told))
            return call_result.StatusNotification()

        @on("StartTransaction")
        def begin(self, **told: Any) -> Any:
            system.told.append(("StartTransaction", told))
            number = 40 + len(system.of("StartTransaction"))
            return call_result.StartTransaction(number, {"status": system.tag})

        @on("StopTransaction")
        def end(self, **told: Any) -> Any:
            system.told.append(("StopTransaction", told))
            return call_result.StopTransaction()

        @on("MeterValues")
        def values(self, **told: Any) -> Any:
            system.told.append(("MeterValues", told))
            return call_result.MeterValues()

        @on("Heartbeat")
        def beat(self) -> Any:
            system.told.append(("Heartbeat", {}))
            return call_result.Heartbeat(now)

    return Point("system", socket, 10)


@asynccontextmanager
async def central(system: System, port: int = 0) -> AsyncIterator[str]:
    """A central system, and the URL that charge points are given."""

    async def meet(socket: Any) -> None:
        system.point = _speaker(system, socket)
        with suppress(ConnectionClosed):
            await system.point.start()

    async with serve(meet, "127.0.0.1", port, subprotocols=["ocpp1.6"]) as server:  # type: ignore[list-item]
        system.port = next(iter(server.sockets)).getsockname()[1]
        yield f"ws://127.0.0.1:{system.port}/ocpp"


def profile(
    periods: list[tuple[int, float]],
    *,
    start: float | None = BEGIN,
    number: int = 1,
    level: int = 0,
    purpose: str = "TxDefaultProfile",
    kind: str = "Absolute",
    unit: str = "W",
    **more: Any,
) -> dict[str, Any]:
    """A profile as a central system sends it; `more` goes beside or into the schedule."""
    schedule: dict[str, Any] = {
        "chargingRateUnit": unit,
        "chargingSchedulePeriod": [
            {"startPeriod": since, "limit": limit} for since, limit in periods
        ],
    }
    if start is not None:
        schedule["startSchedule"] = datetime.fromtimestamp(start, UTC).isoformat()
    if "duration" in more:
        schedule["duration"] = more.pop("duration")
    return {
        "chargingProfileId": number,
        "stackLevel": level,
        "chargingProfilePurpose": purpose,
        "chargingProfileKind": kind,
        "chargingSchedule": schedule,
        **more,
    }


async def told(device: ChargePoint) -> None:
    await until(lambda: device.idle, "everything told")


def test_a_car_charges_as_the_profile_allows_and_every_slot_is_told_exactly(
    clock: ManualClock,
) -> None:
    system = System()

    async def body() -> None:
        async with central(system) as url, ChargePoint([CAR], clock, csms=url) as device:
            await told(device)
            limits = profile([(0, 11_000), (900, 0), (1_800, 3_700), (2_700, 22_000)])
            answer = await system.point.call(call.SetChargingProfile(1, limits))
            assert answer.status == "Accepted"
            clock.advance(900)
            await until(lambda: device.state().import_wh == 916, "five minutes of 11 kW")
            clock.advance(5 * HOUR)
            await told(device)
            assert device.state().import_wh == 8_000

    run(body())
    assert len(system.of("BootNotification")) == 1
    expected = [0, 916, 916, 1_841, 4_591, 7_341] + [8_000] * 15
    assert [system.registers()[BEGIN + i * 900] for i in range(1, 21)] == expected[1:]
    (begun,), (ended,) = system.of("StartTransaction"), system.of("StopTransaction")
    assert (begun["meter_start"], begun["timestamp"]) == (0, "2016-10-29T22:10:00.000Z")
    assert (ended["meter_stop"], ended["transaction_id"], ended["reason"]) == (
        8_000,
        41,
        "EVDisconnected",
    )
    assert system.statuses() == [
        "Available",
        "Preparing",
        "Charging",
        "SuspendedEVSE",
        "Charging",
        "SuspendedEV",
        "Available",
    ]


def test_a_visit_ends_with_a_record_that_the_meter_has_signed(clock: ManualClock) -> None:
    system = System()

    async def body() -> str:
        async with central(system) as url, ChargePoint([CAR], clock, csms=url) as device:
            await told(device)
            clock.advance(5 * HOUR)
            await told(device)
            return device.meter.public_key

    key = key_bytes(run(body()).encode())
    (data,) = system.of("StopTransaction")[0]["transaction_data"]
    (value,) = data["sampled_value"]
    assert value["format"] == "SignedData"
    record = value["value"].encode()
    readings = parse(OCMF, [("socket", record)], Options(key=key)).readings
    assert [(one.end.timestamp(), one.import_wh) for one in readings if one.end] == [
        (CAR.arrives, 0),
        (CAR.leaves, 8_000),
    ]
    with pytest.raises(CheckFailed):
        parse(OCMF, [("socket", record.replace(b":8.0,", b":9.0,"))], Options(key=key))


def test_the_composite_schedule_is_what_the_car_then_gets(clock: ManualClock) -> None:
    system = System()

    async def body() -> list[dict[str, Any]]:
        async with central(system) as url, ChargePoint([CAR], clock, csms=url) as device:
            await told(device)
            for one in (
                profile([(0, 16), (1_000, 6)], unit="A", number=1),
                profile([(0, 5_000)], level=1, number=2, start=BEGIN + 500, duration=100),
                profile([(0, 9_000)], purpose="ChargePointMaxProfile", number=3),
            ):
                connector = 0 if one["chargingProfileId"] == 3 else 1
                answer = await system.point.call(call.SetChargingProfile(connector, one))
                assert answer.status == "Accepted"
            answer = await system.point.call(call.GetCompositeSchedule(1, 2_000, "W"))
            in_amps = await system.point.call(call.GetCompositeSchedule(1, 10, "A"))
            assert in_amps.charging_schedule["charging_schedule_period"] == [
                {"start_period": 0, "limit": 13.0}
            ]
            found: list[dict[str, Any]] = answer.charging_schedule["charging_schedule_period"]
            return found

    assert run(body()) == [
        {"start_period": 0, "limit": 9_000},
        {"start_period": 500, "limit": 5_000},
        {"start_period": 600, "limit": 9_000},
        {"start_period": 1_000, "limit": 4_140},
    ]


@pytest.mark.parametrize(
    ("connector", "payload"),
    [
        (2, profile([(0, 1)])),
        (1, profile([(0, 1)], purpose="ChargePointMaxProfile")),
        (1, profile([(0, 1)], purpose="TxProfile")),  # no car is there
        (1, profile([(5, 1)])),
        (1, profile([(0, 1), (0, 2)])),
        (1, profile([(0, -1)])),
        (1, profile([(0, 1)], level=99)),
        (1, profile([(i, 1) for i in range(97)])),
        (1, profile([(0, 1)], kind="Recurring")),
        (1, profile([(0, 1)], validFrom="2016-10-29T22:00:00")),
    ],
)
def test_a_profile_that_cannot_be_obeyed_is_rejected(
    clock: ManualClock, connector: int, payload: dict[str, Any]
) -> None:
    assert set_directly(ChargePoint([], clock, csms="ws://h"), connector, payload) == "Rejected"


def set_directly(device: ChargePoint, connector: int, payload: dict[str, Any]) -> str:
    from ocpp.charge_point import camel_to_snake_case

    return device.set_profile(connector, camel_to_snake_case(payload))


def test_a_profile_of_a_transaction_ends_with_it(clock: ManualClock) -> None:
    system = System()

    async def body() -> None:
        cars = [CAR, Car(CAR.leaves + 600, CAR.leaves + HOUR, 50_000)]
        async with central(system) as url, ChargePoint(cars, clock, csms=url) as device:
            await told(device)
            clock.advance(700)
            await until(lambda: device.transaction == 41, "the first transaction")
            wrong = profile([(0, 0)], purpose="TxProfile", start=None, transactionId=7)
            right = {**wrong, "transactionId": 41}
            for payload, status in ((wrong, "Rejected"), (right, "Accepted")):
                answer = await system.point.call(call.SetChargingProfile(1, payload))
                assert answer.status == status
            assert device.state().status == "SuspendedEVSE"
            clock.set(CAR.leaves + 700)
            await until(lambda: device.transaction == 42, "the second transaction")
            assert device.state().import_w == 11_000

    run(body())


def test_clearing_the_profiles_lets_the_car_go_on(clock: ManualClock) -> None:
    system = System()

    async def body() -> None:
        async with central(system) as url, ChargePoint([CAR], clock, csms=url) as device:
            await told(device)
            await system.point.call(call.SetChargingProfile(1, profile([(0, 0)])))
            clock.advance(900)
            await until(lambda: device.state().status == "SuspendedEVSE", "the pause")
            unknown = await system.point.call(call.ClearChargingProfile(id=9))
            known = await system.point.call(call.ClearChargingProfile(stack_level=0))
            assert (unknown.status, known.status) == ("Unknown", "Accepted")
            assert device.state().import_w == 11_000

    run(body())


def test_what_happens_while_the_system_is_away_is_told_later_in_order(
    clock: ManualClock,
) -> None:
    system = System()

    async def body() -> None:
        async with central(system) as url:
            device = await ChargePoint([CAR], clock, csms=url).__aenter__()
            await told(device)
        await until(lambda: not device.connected, "the loss of the connection")
        clock.advance(6 * HOUR)
        async with central(system, system.port):
            await until(lambda: device.connected, "the return")
            await told(device)
            await device.__aexit__(None, None, None)

    run(body())
    order = [name for name, _ in system.told if name.endswith("Transaction")]
    assert order == ["StartTransaction", "StopTransaction"]
    assert system.of("StopTransaction")[0]["transaction_id"] == 41
    assert system.of("StopTransaction")[0]["meter_stop"] == 8_000
    assert list(system.registers()) == [BEGIN + i * 900 for i in range(1, 25)]


def test_a_charge_point_that_is_not_let_in_says_nothing_else(clock: ManualClock) -> None:
    system = System()
    system.welcome = "Rejected"

    async def body() -> None:
        async with central(system) as url, ChargePoint([CAR], clock, csms=url) as device:
            await until(lambda: system.told, "a boot notification")
            clock.advance(HOUR)
            await asyncio.sleep(0.05)
            assert not device.connected

    run(body())
    assert {name for name, _ in system.told} == {"BootNotification"}


def test_a_car_whose_card_is_not_accepted_gets_nothing_more(clock: ManualClock) -> None:
    system = System()
    system.tag = "Blocked"

    async def body() -> None:
        async with central(system) as url, ChargePoint([CAR], clock, csms=url) as device:
            await told(device)
            clock.advance(660)
            await until(lambda: system.of("StopTransaction"), "the end of the transaction")
            clock.advance(HOUR)
            await told(device)

    run(body())
    (ended,) = system.of("StopTransaction")
    assert (ended["reason"], ended["meter_stop"]) == ("DeAuthorized", 183)
    assert system.registers()[BEGIN + HOUR] == 183


def test_settings_can_be_read_and_changed(clock: ManualClock) -> None:
    system = System()

    async def body() -> None:
        async with central(system) as url, ChargePoint([CAR], clock, csms=url) as device:
            await told(device)
            for key, value, status in (
                ("ClockAlignedDataInterval", "300", "Accepted"),
                ("ClockAlignedDataInterval", "-1", "Rejected"),
                ("NumberOfConnectors", "2", "Rejected"),
                ("Colour", "red", "NotSupported"),
            ):
                answer = await system.point.call(call.ChangeConfiguration(key, value))
                assert answer.status == status
            read = await system.point.call(
                call.GetConfiguration(["ClockAlignedDataInterval", "Colour"])
            )
            assert read.configuration_key[0]["value"] == "300"
            assert read.unknown_key == ["Colour"]
            clock.advance(900)
            await told(device)

    run(body())
    assert list(system.registers()) == [BEGIN + 300, BEGIN + 600, BEGIN + 900]


def test_a_meter_value_can_be_asked_for(clock: ManualClock) -> None:
    system = System()

    async def body() -> None:
        async with central(system) as url, ChargePoint([CAR], clock, csms=url) as device:
            await told(device)
            clock.advance(615)
            answer = await system.point.call(call.TriggerMessage("MeterValues", 1))
            assert answer.status == "Accepted"
            refused = await system.point.call(call.TriggerMessage("FirmwareStatusNotification"))
            assert refused.status == "NotImplemented"
            await until(lambda: system.of("MeterValues"), "the value")

    run(body())
    (value,) = system.of("MeterValues")[0]["meter_value"]
    assert value["timestamp"] == "2016-10-29T22:10:15.000Z"
    assert [row["value"] for row in value["sampled_value"]] == ["45", "11000", "11000"]


def test_a_charge_point_that_refuses_rejects_every_profile(clock: ManualClock) -> None:
    device = ChargePoint([], clock, csms="ws://h", faults=[Fault(FaultKind.REFUSE)])
    assert set_directly(device, 1, profile([(0, 5_000)])) == "Rejected"


def test_a_central_system_that_talks_nonsense_ends_no_charge_point(clock: ManualClock) -> None:
    nonsense = ["", "x", "null", "{}", "[]", "[2]", '[2,"1"]', '[2,"1","Reset"]', "[3]", "[4,1]"]
    nonsense += ['[2,"1","Nothing",{}]', '[2,"1","SetChargingProfile",{}]', '["a",{}]', "[[[["]
    nonsense += ['[2,"1","SetChargingProfile",[]]', "[2,{},[],{}]", '[3,"unknown",{}]', "[9,9,9]"]
    system = System()

    async def body() -> None:
        async with central(system) as url, ChargePoint([CAR], clock, csms=url) as device:
            for text in nonsense:
                await told(device)
                await system.point._connection.send(text)
                with suppress(ConnectionClosed):
                    await system.point._connection.send(b"\xff\x00")
                await asyncio.sleep(0.01)
            await until(lambda: device.idle, "the return")
            clock.advance(900)
            await until(lambda: BEGIN + 900 in system.registers(), "a meter value")

    run(body())
    # The car charged on as if nothing had been said.
    assert system.registers() == {BEGIN + 900: 916}


@pytest.mark.parametrize("url", ["http://h", "ws://", "h:1", ""])
def test_a_central_system_that_is_no_address_is_refused(clock: ManualClock, url: str) -> None:
    with pytest.raises(BadUse, match="expected ws://HOST:PORT/PATH"):
        ChargePoint([], clock, csms=url)


def test_two_cars_at_one_outlet_are_refused(clock: ManualClock) -> None:
    with pytest.raises(BadUse, match="two cars"):
        ChargePoint([CAR, CAR], clock, csms="ws://h")


def parsed(**settings: Any) -> Profile:
    from ocpp.charge_point import camel_to_snake_case

    payload = profile(**settings)
    return Profile.parse(1, camel_to_snake_case(payload))


@pytest.mark.parametrize(
    ("settings", "limits"),
    [
        # Limits at 0, 50, 100, 86,400 and 86,450 s after the beginning; the car came at 40 s.
        ({"periods": [(0, 5_000), (60, 6_000)]}, [5_000, 5_000, 6_000, 6_000, 6_000]),
        (
            {"periods": [(0, 5_000), (20, 6_000)], "kind": "Relative", "start": None},
            [None, 5_000, 6_000, 6_000, 6_000],
        ),
        (
            {
                "periods": [(0, 5_000)],
                "kind": "Recurring",
                "recurrencyKind": "Daily",
                "duration": 70,
            },
            [5_000, 5_000, None, 5_000, 5_000],
        ),
        ({"periods": [(0, 10)], "unit": "A"}, [6_900] * 5),
        (
            {"periods": [(0, 5_000)], "validTo": "2016-10-29T22:01:00Z"},
            [5_000, 5_000, None, None, None],
        ),
        (
            {"periods": [(0, 5_000)], "validFrom": "2016-10-29T22:01:00Z"},
            [None, None, 5_000, 5_000, 5_000],
        ),
    ],
)
def test_each_kind_of_profile_limits_when_the_standard_says(
    settings: dict[str, Any], limits: list[int | None]
) -> None:
    one = parsed(**settings)
    found = [one.limit(BEGIN + s, BEGIN + 40)[0] for s in (0, 50, 100, 86_400, 86_450)]
    if one.kind == "Relative":
        found[0] = one.limit(BEGIN, None)[0]
    assert found == limits


def test_a_limit_never_changes_before_it_was_said_to() -> None:
    rng = random.Random(4)
    for _ in range(200):
        profiles: tuple[Profile, ...] = ()
        for number in range(rng.randint(1, 5)):
            starts = sorted({0, *(rng.randrange(0, 3_000) for _ in range(rng.randint(0, 4)))})
            profiles = installed(profiles, parsed(**_any_profile(rng, number, starts)))
        at, began = float(BEGIN), BEGIN + rng.randrange(0, 500)
        while at < BEGIN + 7_000:
            watts, change = composite(profiles, at, began)
            assert change > at
            for _ in range(4):
                between = at + rng.random() * (min(change, BEGIN + 7_000) - at) * 0.999
                if between > at:
                    assert composite(profiles, between, began)[0] == watts
            at = change


def _any_profile(rng: random.Random, number: int, starts: list[int]) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "number": number,
        "level": rng.randint(0, 3),
        "purpose": rng.choice(["TxDefaultProfile", "ChargePointMaxProfile", "TxProfile"]),
        "periods": [(start, float(rng.randrange(0, 12_000))) for start in starts],
        "start": BEGIN + rng.randrange(-500, 3_000),
    }
    if rng.random() < 0.5:
        settings["duration"] = rng.randrange(1, 4_000)
    if rng.random() < 0.3:
        settings |= {"kind": "Recurring", "recurrencyKind": "Daily"}
    return settings


def test_the_meter_agrees_with_a_count_second_by_second() -> None:
    rng = random.Random(9)
    for _ in range(20):
        outlet, cars = _any_outlet(rng)
        changes = {BEGIN + rng.randrange(0, 7_200): rng.randrange(0, 14_000) for _ in range(8)}
        total, seconds, limit = 0.0, 0, 14_000
        taken: dict[Car, float] = {}
        for at in range(BEGIN, BEGIN + 7_200):
            if at in changes:
                limit = changes[at]
                one = parsed(periods=[(0, float(limit))])
                list(outlet.install(installed(outlet.profiles, one), at))
            # The plain count: what is there now, for one second.
            for car in cars:
                if car.arrives <= at < car.leaves and limit >= 1_380:
                    wh = min(limit, car.max_w, 11_000) / 3_600
                    wh = min(wh, car.needs_wh - taken.get(car, 0.0))
                    taken[car] = taken.get(car, 0.0) + wh
                    total += wh
            if rng.random() < 0.01:
                list(outlet.run_to(at + 1))
                seconds += 1
                assert abs(outlet.registers(at + 1)[0] - total) <= 1
        assert seconds > 20


def _any_outlet(rng: random.Random) -> tuple[Outlet, list[Car]]:
    cars, at = [], BEGIN
    for _ in range(3):
        arrives = at + rng.randrange(1, 1_500)
        at = arrives + rng.randrange(1, 2_500)
        cars.append(Car(arrives, at, rng.randrange(0, 4_000), rng.randrange(1_380, 12_000)))
    return Outlet(cars, 11_000, BEGIN), cars


def test_a_jump_of_a_day_leaves_no_event_out() -> None:
    def at_once(step: float) -> list[tuple[float, type]]:
        outlet = Outlet([CAR, Car(BEGIN + 20 * HOUR, BEGIN + 30 * HOUR, 9_000)], 11_000, BEGIN)
        found: list[tuple[float, type]] = []
        at = float(BEGIN)
        while at < BEGIN + 24 * HOUR:
            at += step
            found += [(event.at, type(event)) for event in outlet.run_to(at)]
        return found

    whole = at_once(24 * HOUR)
    assert whole == at_once(450)
    assert sum(kind is Sampled for _, kind in whole) == 96
    assert sum(kind is Ended for _, kind in whole) == 1


def test_a_car_that_was_there_before_the_start_charges_from_the_start() -> None:
    outlet = Outlet([Car(BEGIN - HOUR, BEGIN + HOUR, 50_000)], 11_000, BEGIN)
    list(outlet.run_to(BEGIN + 360))
    assert outlet.registers(BEGIN + 360)[0] == 1_100
