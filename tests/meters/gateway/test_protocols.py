# SPDX-License-Identifier: Apache-2.0
"""A day of a home over each protocol, read from a device on a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from meters.readings import Quality
from meters.simulate.clock import ManualClock
from meters.simulate.http import FroniusInverter, HomeWizardMeter, ShellyMeter
from meters.simulate.p1 import P1Meter
from meters.simulate.sml import SmlMeter
from meters.simulate.sunspec import SunSpecInverter
from meters.simulate.truth import Truth
from tests.meters.gateway.house import (
    START,
    Collector,
    House,
    day,
    delivered,
    expected,
    play,
    source,
    told,
)


def _sunspec(truth: Truth, clock: ManualClock) -> SunSpecInverter:
    return SunSpecInverter(day(seed=8), clock, meter=truth)


DEVICES: dict[str, tuple[Callable[..., Any], Callable[[Any], str]]] = {
    "p1": (P1Meter, lambda d: source("p1", f"tcp://{d.address}")),
    "sml": (SmlMeter, lambda d: source("sml", f"tcp://{d.address}")),
    "sml with a clock": (
        lambda truth, clock: SmlMeter(truth, clock, with_clock=True),
        lambda d: source("sml", f"tcp://{d.address}"),
    ),
    "sunspec": (
        _sunspec,
        lambda d: source("sunspec", f"tcp://{d.address}", channels=["GC-INV-1/meter"], every_s=900),
    ),
    "homewizard": (
        HomeWizardMeter,
        lambda d: source("homewizard", f"{d.address}/api/v1/data", every_s=900),
    ),
    "shelly": (
        ShellyMeter,
        lambda d: source("shelly", f"{d.address}/rpc/Shelly.GetStatus", every_s=900),
    ),
    "fronius": (
        FroniusInverter,
        lambda d: source(
            "fronius",
            f"{d.address}/solar_api/v1/GetMeterRealtimeData.cgi?Scope=System",
            every_s=900,
        ),
    ),
}


@pytest.mark.parametrize("kind", DEVICES)
def test_a_day_gives_exactly_the_wh_of_every_slot(kind: str, tmp_path: Path) -> None:
    make, describe = DEVICES[kind]
    truth = day()

    async def run() -> None:
        clock = ManualClock(START - 900)
        with Collector("0x" + "00" * 20) as collector:
            house = House(tmp_path, collector)
            async with make(truth, clock) as device:
                gateway = house.gateway(house.settings(describe(device)), clock)
                async with gateway.running():
                    await play(gateway, clock, START)
                    step = 450 if kind == "p1" else 900
                    await play(gateway, clock, START + 86_400, step)
                    await delivered(gateway, collector, clock, 96)
        assert told(collector) == expected(truth)
        assert {row.quality for row in collector.readings.values()} == {Quality.MEASURED}
        assert collector.forks == []
        assert sorted(collector.readings) == list(range(len(collector.readings)))

    asyncio.run(run())
