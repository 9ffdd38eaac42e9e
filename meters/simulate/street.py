# SPDX-License-Identifier: Apache-2.0
"""A street of simulated devices: which kinds there are, how a home's profile becomes one, and
what runs them beside a program that knows nothing of asyncio.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from dao.errors import BadUse
from dao.slots import SLOT_SECONDS, SLOTS_PER_DAY
from meters.devices import CommunityBattery
from meters.profiles import PERIOD_SLOTS, Home, ZoneProfiles, roof_wh, zone_profiles
from meters.simulate.background import Background
from meters.simulate.charging import Car
from meters.simulate.clock import Clock
from meters.simulate.faults import Fault
from meters.simulate.http import FroniusInverter, HomeWizardMeter, ShellyMeter
from meters.simulate.mqtt import (
    HomeWizardPublisher,
    MqttPublisher,
    ShellyPublisher,
    TasmotaPublisher,
    TasmotaScriptPublisher,
)
from meters.simulate.ocpp import ChargePoint
from meters.simulate.p1 import DEMO_KEY, P1Meter
from meters.simulate.sml import SmlMeter
from meters.simulate.sunspec import SunSpecBattery, SunSpecInverter
from meters.simulate.truth import Truth
from meters.simulate.wire import Device

# A device's own number, from its home's.
_HOMEWIZARD, _SHELLY = "3c39e7{:06x}", "A8032A{:06X}"


@dataclass(frozen=True)
class Zone:
    """A SimBench zone over its period of 52 weeks from `first_slot` on."""

    code: str
    first_slot: int
    seed: int = 7
    cache: Path | None = None
    slots: int = PERIOD_SLOTS

    @cached_property
    def profiles(self) -> ZoneProfiles:
        return zone_profiles(self.code, self.first_slot, self.slots, self.seed, self.cache)

    def home(self, index: int) -> Home:
        homes = self.profiles.homes
        if not 0 <= index < len(homes):
            raise BadUse(f"zone {self.code} has the homes 0 to {len(homes) - 1}, not {index}")
        return homes[index]

    def meter(self, index: int) -> Truth:
        """What flows through the home's meter."""
        self.home(index)
        return Truth.of_home(self.profiles, index)

    def roof(self, index: int) -> Truth | None:
        """What its inverter yields; None without a roof."""
        if not self.home(index).has_solar:
            return None
        made = roof_wh(self.code, index, self.first_slot, self.slots, self.seed, self.cache)
        return Truth(self.first_slot, np.zeros_like(made), made, 0, 8_765_000 + 4_241 * index)

    def cars(self, index: int) -> list[Car]:
        """A car that comes home every evening: its hours and its needs follow from the seed."""
        random = np.random.default_rng([self.seed, index, 2])
        cars = []
        for day in range(self.slots // SLOTS_PER_DAY - 1):
            begin = (self.first_slot + day * SLOTS_PER_DAY) * SLOT_SECONDS
            arrives = begin + 16 * 3600 + int(random.integers(0, 4 * 3600))
            leaves = begin + 30 * 3600 + int(random.integers(0, 2 * 3600))
            cars.append(Car(arrives, leaves, int(random.integers(4_000, 24_000))))
        return cars


@dataclass(frozen=True)
class Place:
    """What a device is made from. host and port: where it listens; broker, csms: where it calls."""

    zone: Zone
    home: int
    clock: Clock
    host: str = "127.0.0.1"
    port: int = 0
    broker: str | None = None
    csms: str | None = None
    battery: CommunityBattery = field(
        default_factory=lambda: CommunityBattery(10_000, 5_000, soc_wh=5_000)
    )
    faults: tuple[Fault, ...] = ()

    @property
    def meter(self) -> Truth:
        """What flows through the home's meter."""
        return self.zone.meter(self.home)

    @property
    def listens(self) -> dict[str, Any]:
        """What every device that listens takes."""
        return {"host": self.host, "port": self.port, "faults": self.faults}


@dataclass(frozen=True)
class Kind:
    """A kind of device: what it is, and whether it listens, or calls a broker or a CSMS."""

    title: str
    needs: str
    make: Callable[[Place], Device]
    needs_roof: bool = False


def kind_of(name: str) -> Kind:
    """The kind of this name. BadUse for an unknown one."""
    known = KINDS.get(name)
    if known is None:
        raise BadUse(f"unknown kind of device {name!r}; known are {', '.join(KINDS)}")
    return known


def make(kind: str, place: Place) -> Device:
    """A device of this kind at this place. BadUse for an unknown kind or what it lacks."""
    known = kind_of(kind)
    if known.needs == BROKER and place.broker is None:
        raise BadUse(f"{kind} publishes over MQTT: name the broker")
    if known.needs == CSMS and place.csms is None:
        raise BadUse(f"{kind} calls a central system: name its URL")
    if known.needs_roof and not place.zone.home(place.home).has_solar:
        raise BadUse(f"{kind} needs a solar roof, and home {place.home} has none")
    return known.make(place)


def _p1(place: Place, variant: str, encrypted: bool = False) -> Device:
    return P1Meter(
        place.meter,
        place.clock,
        variant=variant,
        serial=f"E{place.home:016}",
        key=DEMO_KEY if encrypted else None,
        **place.listens,
    )


def _sml(place: Place) -> Device:
    return SmlMeter(place.meter, place.clock, serial=10_000_000 + place.home, **place.listens)


def _inverter(place: Place) -> Device:
    roof = place.zone.roof(place.home)
    assert roof is not None
    return SunSpecInverter(
        roof, place.clock, meter=place.meter, serial=f"GC-INV-{place.home}", **place.listens
    )


def _battery(place: Place) -> Device:
    return SunSpecBattery(
        place.battery, place.clock, serial=f"GC-BAT-{place.home}", **place.listens
    )


def _homewizard(place: Place) -> Device:
    return HomeWizardMeter(
        place.meter, place.clock, serial=_HOMEWIZARD.format(place.home), **place.listens
    )


def _shelly(place: Place) -> Device:
    return ShellyMeter(place.meter, place.clock, mac=_SHELLY.format(place.home), **place.listens)


def _fronius(place: Place) -> Device:
    return FroniusInverter(
        place.meter,
        place.clock,
        roof=place.zone.roof(place.home),
        serial=f"1944{place.home:04}",
        **place.listens,
    )


def _publisher(place: Place, publisher: type[MqttPublisher], name: str) -> Device:
    return publisher(
        place.meter,
        place.clock,
        broker=place.broker or "",
        name=name.format(place.home),
        faults=place.faults,
    )


def _ocpp(place: Place) -> Device:
    return ChargePoint(
        place.zone.cars(place.home),
        place.clock,
        csms=place.csms or "",
        identity=f"GC-CP-{place.home}",
        faults=place.faults,
    )


LISTENS, BROKER, CSMS = "listens", "broker", "csms"

KINDS: dict[str, Kind] = {
    "p1": Kind("P1 meter on TCP, DSMR 5", LISTENS, partial(_p1, variant="dsmr5")),
    "p1-dsmr4": Kind("P1 meter on TCP, DSMR 4", LISTENS, partial(_p1, variant="dsmr4")),
    "p1-belgium": Kind("P1 meter on TCP, Belgium", LISTENS, partial(_p1, variant="belgium")),
    "p1-luxembourg": Kind(
        "P1 meter on TCP, Luxembourg, decrypted", LISTENS, partial(_p1, variant="luxembourg")
    ),
    "p1-encrypted": Kind(
        "P1 meter on TCP, Luxembourg; key 000102030405060708090a0b0c0d0e0f",
        LISTENS,
        partial(_p1, variant="luxembourg", encrypted=True),
    ),
    "sml": Kind("SML meter on TCP", LISTENS, _sml),
    "inverter": Kind(
        "solar inverter with a meter, SunSpec 103 and 203 on Modbus TCP", LISTENS, _inverter, True
    ),
    "battery": Kind("battery, SunSpec 701, 702, 704 and 713 on Modbus TCP", LISTENS, _battery),
    "homewizard": Kind("HomeWizard P1 meter, HTTP API v1", LISTENS, _homewizard),
    "shelly": Kind("Shelly Pro 3EM, RPC over HTTP", LISTENS, _shelly),
    "fronius": Kind("Fronius meter and inverter, Solar API v1 over HTTP", LISTENS, _fronius),
    "tasmota": Kind(
        "Tasmota energy meter over MQTT",
        BROKER,
        partial(_publisher, publisher=TasmotaPublisher, name="home-{}"),
    ),
    "tasmota-sml": Kind(
        "Tasmota with a smart-meter script over MQTT",
        BROKER,
        partial(_publisher, publisher=TasmotaScriptPublisher, name="meter-{}"),
    ),
    "shelly-mqtt": Kind(
        "Shelly Pro 3EM over MQTT",
        BROKER,
        partial(_publisher, publisher=ShellyPublisher, name=_SHELLY),
    ),
    "homewizard-mqtt": Kind(
        "HomeWizard as a bridge republishes it over MQTT",
        BROKER,
        partial(_publisher, publisher=HomeWizardPublisher, name=_HOMEWIZARD),
    ),
    "ocpp": Kind("charge point with a car every evening, OCPP 1.6J", CSMS, _ocpp),
}


class Street(Background):
    """Runs devices in a thread of its own, between `with` and its end.

    Either all of them run or none: what one cannot do is raised here.
    """

    def __init__(self, devices: Iterable[Device]) -> None:
        super().__init__("street")
        self.devices: Sequence[Device] = tuple(devices)

    @asynccontextmanager
    async def _life(self) -> AsyncIterator[None]:
        """All devices begin, or none stays."""
        async with AsyncExitStack() as stack:
            for device in self.devices:
                await stack.enter_async_context(device)
            yield
