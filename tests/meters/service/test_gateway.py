# SPDX-License-Identifier: Apache-2.0
"""From a meter's own telegrams to the collector's inbox: device, gateway and service, all real."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace

from meters.acknowledgements import acknowledgement_separator
from meters.collector import Collector
from meters.readings import Quality, Readings
from meters.registry import KeyPeriods
from meters.secrets import DerivedSecrets
from meters.service.intake import Intake
from meters.service.metrics import Metrics
from meters.service.writer import Writer
from meters.simulate.clock import ManualClock
from meters.simulate.p1 import P1Meter
from tests.meters.gateway.house import (
    CHAIN,
    COLLECTOR,
    FIRST_SLOT,
    LEDGER,
    METER,
    SEPARATOR,
    START,
    House,
    day,
    expected,
    passing,
    play,
    source,
)
from tests.meters.service.served import served

SLOTS = 24


def test_a_homes_day_arrives_whole_and_is_believed(tmp_path: Path) -> None:
    truth, clock = day(SLOTS), ManualClock(START - 900)
    house = House(tmp_path)
    periods = KeyPeriods.fixed({METER: house.key.address})

    def make() -> Collector:
        secrets = DerivedSecrets(b"a secret for the tests only")
        inbox = tmp_path / "inbox.sqlite"
        return Collector(1, periods, secrets, SEPARATOR, tmp_path / "lake", inbox, clock=clock)

    writer = Writer(make)
    writer.start()
    seal = acknowledgement_separator(CHAIN, LEDGER)
    intake = Intake(writer, lambda made: made.signed(COLLECTOR, seal), Metrics())

    async def run(url: str) -> int:
        house.collector = SimpleNamespace(url=url)  # type: ignore[assignment]
        async with P1Meter(truth, clock) as device:
            gateway = house.gateway(house.settings(source("p1", f"tcp://{device.address}")), clock)
            async with gateway.running():
                await play(gateway, clock, START)
                await play(gateway, clock, START + SLOTS * 900, 450)
                await passing(
                    clock,
                    lambda: (
                        intake.metrics.accepted >= SLOTS and not gateway.outbox.counts().waiting
                    ),
                    "the acknowledgement of the last slot",
                )
                return gateway.outbox.counts().refused

    with served(writer, intake=intake, periods=periods) as at:
        assert asyncio.run(run(at.url)) == 0
    held: Readings = writer.call(
        lambda collector: collector.inbox.readings(FIRST_SLOT, FIRST_SLOT + SLOTS)
    )
    told = {row.slot: (row.import_wh, row.export_wh) for row in held}
    assert told == expected(truth)
    assert {row.quality for row in held} == {Quality.MEASURED}
    assert writer.call(lambda collector: collector.inbox.tallies())["gaps"] == 0
    assert writer.stop()
