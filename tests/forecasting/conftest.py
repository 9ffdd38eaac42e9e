# SPDX-License-Identifier: Apache-2.0
"""What the forecasting tests share: made-up series, and the demo zone read once per run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from dao.slots import first_slot_of_day
from forecasting.grid import ZoneGrid, load_grid
from forecasting.series import IntervalSeries
from meters.profiles import Home, zone_profiles
from tests.kept import bring_extract

CODE = "1-LV-rural3--2-sw"


@pytest.fixture(scope="session")
def made_up() -> Callable[..., IntervalSeries]:
    """A household-like series: two peaks a day, quieter weekends, weather that lingers, noise."""

    def build(
        days: int, step: int = 900, seed: int = 0, start: int = 1_451_606_400
    ) -> IntervalSeries:  # 2016-01-01T00:00Z
        rng = np.random.default_rng(seed)
        per_day = 86_400 // step
        at = np.arange(days * per_day)
        hour = at % per_day * 24 / per_day
        weekend = (at // per_day + 4) % 7 >= 5
        shape = 300 + 200 * np.exp(-((hour - 8) ** 2) / 4) + 500 * np.exp(-((hour - 19) ** 2) / 6)
        level = np.ones(days)
        for day in range(1, days):
            level[day] = 1 + 0.8 * (level[day - 1] - 1) + 0.08 * rng.standard_normal()
        values = shape * np.where(weekend, 0.8, 1.0) * np.repeat(level, per_day)
        return IntervalSeries(
            start, step, np.maximum(values + 30 * rng.standard_normal(at.size), 0)
        )

    return build


@dataclass(frozen=True)
class DemoZone:
    """Measured homes of the demo zone, in UTC slots from first_slot on; Wh per slot and home."""

    grid: ZoneGrid
    homes: tuple[Home, ...]
    first_slot: int
    import_wh: np.ndarray
    export_wh: np.ndarray

    @property
    def net_wh(self) -> np.ndarray:
        return self.import_wh.sum(1, dtype=np.int64) - self.export_wh.sum(1, dtype=np.int64)

    @property
    def buses(self) -> list[int]:
        return [home.bus for home in self.homes]

    def power_w(self, first_slot: int, slots: int) -> np.ndarray:
        at = first_slot - self.first_slot
        return (self.import_wh[at : at + slots] - self.export_wh[at : at + slots]) * 4.0


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bring_extract(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def demo_zone(cache: Path) -> DemoZone:
    first = first_slot_of_day(date(2016, 4, 4))
    days = 84
    profiles = zone_profiles(CODE, first, days * 96, seed=1, cache=cache)
    return DemoZone(
        load_grid(CODE, cache), profiles.homes, first, profiles.import_wh, profiles.export_wh
    )
