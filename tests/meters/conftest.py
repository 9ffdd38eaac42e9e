# SPDX-License-Identifier: Apache-2.0
"""A zone's profiles, read once from the installed SimBench package, and a small signed zone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from dao.slots import SLOTS_PER_DAY
from meters.collector import Collector
from meters.devices import Fleet
from meters.readings import Readings
from meters.registry import KeyPeriods
from meters.secrets import DerivedSecrets
from meters.signing import Head, heads_after, sign_chains
from meters.simbench import Grid, load_grid
from tests.kept import bring_extract
from tests.meters.batch_rows import DAY, SEPARATOR
from tests.meters.town import Town, built

CODE = "1-LV-rural3--2-sw"
HOMES = 16


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bring_extract(tmp_path_factory.mktemp("simbench-cache"))


@pytest.fixture(scope="session")
def grid(cache: Path) -> Grid:
    return load_grid(CODE, cache)


@dataclass(frozen=True)
class SmallZone:
    """Sixteen homes with made-up values, signed, for one session of four slots."""

    fleet: Fleet
    readings: Readings
    first_slot: int
    slots: int
    collector: Callable[..., Collector]

    def signed(
        self, meter: int, slot: int, import_wh: int, export_wh: int, after: Head | None = None
    ) -> Readings:
        """One more reading, signed by the meter's own device, at the end of its chain."""
        gateway = self.fleet.gateways[meter - 1]
        head = self.head(meter) if after is None else after
        return gateway.readings(SEPARATOR, slot, np.array([import_wh]), np.array([export_wh]), head)

    def head(self, meter: int, count: int = 4) -> Head:
        """Where the meter's chain stands after its first `count` readings."""
        if count == 0:
            return Head.NONE
        of = self.readings.meter == meter
        return heads_after(SEPARATOR, self.readings.take(np.flatnonzero(of)[:count]))[meter]


@pytest.fixture(scope="session")
def small_readings() -> tuple[Fleet, Readings]:
    fleet = Fleet.of(7, range(1, HOMES + 1))
    random = np.random.default_rng(3)
    rows = Readings.columns(
        np.repeat(np.arange(1, HOMES + 1), 4),
        np.tile(np.arange(DAY, DAY + 4), HOMES),
        random.integers(0, 900, HOMES * 4),
        random.integers(0, 300, HOMES * 4),
    )
    keys = {gateway.meter: gateway.key for gateway in fleet.gateways}
    return fleet, sign_chains(keys, SEPARATOR, rows, {})


@pytest.fixture
def zone(small_readings: tuple[Fleet, Readings], tmp_path: Path) -> SmallZone:
    fleet, readings = small_readings

    def collector(**changes: object) -> Collector:
        settings: dict[str, object] = {
            "zone": 1,
            "keys": KeyPeriods.fixed(fleet.devices),
            "secrets": DerivedSecrets(b"a secret for the tests only"),
            "separator": SEPARATOR,
            "lake": tmp_path / "lake",
            "inbox": tmp_path / "inbox.sqlite",
            "clock": lambda: (DAY + SLOTS_PER_DAY) * 900,
        }
        return Collector(**{**settings, **changes})  # type: ignore[arg-type]

    return SmallZone(fleet, readings, DAY, 4, collector)


@pytest.fixture(scope="session")
def street(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """A zone with four committed days on a real node, for `town.visited`."""
    with built(tmp_path_factory.mktemp("town")) as (_, town):
        yield town
