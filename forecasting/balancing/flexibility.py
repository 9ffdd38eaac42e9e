# SPDX-License-Identifier: Apache-2.0
"""Which devices a SimBench zone has that could be called: home batteries and charge points.

Number, place and rating are public in Germany's register of units (Marktstammdatenregister) and in
SimBench's tables. What a home's battery holds or whether a car is plugged in is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from dao.slots import SLOTS_PER_DAY
from forecasting.balancing.actions import ChargePoint, Flexibility, HomeBattery
from meters.simbench import Grid

# SimBench's storage table: two hours at rated power (max_e_mwh is twice -p_mw, every one).
_HOURS_AT_RATED = 2
# Loads that are charge points: at home, at work, and public ones.
_CHARGE_POINTS = ("HLS_", "APLS_")


class HasRoof(Protocol):
    """What of a home is public: its bus, and its installed solar power as its meter shows it."""

    @property
    def bus(self) -> int: ...
    @property
    def solar_wp(self) -> int: ...


def flexibility_of(grid: Grid, homes: Sequence[HasRoof] = ()) -> Flexibility:
    """The zone's devices; their standard use is the year's mean of SimBench's own profiles.

    homes: as `meters.profiles` makes them. A home's roof and battery are scaled alike there, so the
    batteries' ratings follow the roofs'; without homes they are SimBench's own.
    """
    roofs: dict[int, float] = {}
    for one in (*grid.generators, *grid.storages):
        roofs[one.bus] = roofs.get(one.bus, 0.0) + abs(one.power_mw) * 1e6
    scale = {home.bus: home.solar_wp / roofs[home.bus] for home in homes if home.bus in roofs}
    points = [load for load in grid.loads if load.profile.startswith(_CHARGE_POINTS)]
    use = np.zeros(24)
    rated = sum(load.power_mw for load in points)
    if rated > 0.0:
        hours = (
            np.arange(grid.first_slot, grid.first_slot + len(grid.values)) % SLOTS_PER_DAY
        ) // 4
        drawn = np.zeros(len(grid.values))
        for load in points:
            drawn += load.power_mw * grid.values[:, grid.profiles.index(load.profile)]
        for hour in range(24):
            use[hour] = round(float(np.clip(drawn[hours == hour].mean() / rated, 0.0, 1.0)), 4)
    return Flexibility(
        tuple(
            HomeBattery(one.bus, watts, _HOURS_AT_RATED * watts)
            for one in grid.storages
            if (watts := round(abs(one.power_mw) * 1e6 * scale.get(one.bus, 1.0))) > 0
        ),
        tuple(
            ChargePoint(load.bus, watts)
            for load in points
            if (watts := round(load.power_mw * 1e6)) > 0
        ),
        tuple(use.tolist()),
    )
