# SPDX-License-Identifier: Apache-2.0
"""The full power flow of all courses of a day at once, with whatever devices change.

The judge of every plan: what the linear picture hopes for counts only as far as it holds here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from forecasting.balancing.actions import HomeBattery, Store
from forecasting.balancing.scenarios import Scenario, check_weights
from forecasting.grid import (
    REACTIVE_PER_ACTIVE,
    FloatArray,
    GridLimits,
    GridResult,
    IntArray,
    ZoneGrid,
)


@dataclass(frozen=True)
class Change:
    """Power that an action adds, in W: per slot for units in fixed parts, alike in every course;
    or per course and slot. reactive_per_active: what the units draw of it besides."""

    power_w: FloatArray
    buses: tuple[int, ...]
    parts: tuple[float, ...]
    reactive_per_active: float = 0.0


def change_of(store: Store, power_w: npt.ArrayLike) -> Change:
    """What a store's schedule of power adds, in W."""
    return Change(
        np.asarray(power_w, dtype=np.float64), store.buses, store.parts, store.reactive_per_active
    )


class Bench:
    """One day's courses on one grid. Rows of every result: all slots of the first course, ..."""

    def __init__(
        self,
        grid: ZoneGrid,
        scenarios: Sequence[Scenario],
        buses: Sequence[int] | IntArray,
        limits: GridLimits,
    ) -> None:
        self.grid = grid
        self.limits = limits
        self.weights = check_weights(scenarios)
        self.courses = len(scenarios)
        self.slots = int(scenarios[0].net_w.shape[0])
        net = np.concatenate([scenario.net_w for scenario in scenarios])
        self.net_w = net.sum(axis=1).reshape(self.courses, self.slots)
        self.drawn_w = np.maximum(net, 0.0).sum(axis=1).reshape(self.courses, self.slots)
        self._active = grid.at_buses(net, buses)
        self._reactive = grid.at_buses(REACTIVE_PER_ACTIVE * np.maximum(net, 0.0), buses)
        self._column = {int(bus): at for at, bus in enumerate(grid.buses)}

    def flow(self, changes: Sequence[Change] = ()) -> GridResult:
        """States of every slot of every course under the changes together."""
        active, reactive = self.powers(changes)
        return self.grid.states(active, reactive_var=reactive, limits=self.limits)

    def powers(self, changes: Sequence[Change] = ()) -> tuple[FloatArray, FloatArray]:
        """W and var at each of the grid's buses under the changes together."""
        active, reactive = self._active, self._reactive
        if changes:
            active, reactive = active.copy(), reactive.copy()
        for change in changes:
            self.grid.at_buses(np.zeros((0, len(change.buses))), change.buses)  # names a bad bus
            power = np.broadcast_to(change.power_w, (self.courses, self.slots)).reshape(-1)
            for bus, part in zip(change.buses, change.parts, strict=True):
                at = self._column[int(bus)]
                active[:, at] += part * power
                reactive[:, at] += part * change.reactive_per_active * np.abs(power)
        return active, reactive

    def expected_at(self, batteries: Sequence[HomeBattery]) -> FloatArray:
        """Mean net power of the courses at each battery's home, (slots, batteries) W.

        Batteries at one bus share what is there by their rating.
        """
        mean = np.tensordot(
            self.weights, self._active.reshape(self.courses, self.slots, -1), axes=1
        )
        at_bus: dict[int, int] = {}
        for one in batteries:
            at_bus[one.bus] = at_bus.get(one.bus, 0) + one.rated_w
        self.grid.at_buses(np.zeros((0, len(at_bus))), list(at_bus))  # names a bad bus
        found = np.zeros((self.slots, len(batteries)))
        for at, one in enumerate(batteries):
            found[:, at] = mean[:, self._column[one.bus]] * one.rated_w / at_bus[one.bus]
        return found

    def state(self, row: int) -> tuple[FloatArray, FloatArray]:
        """Active and reactive power per bus of one row, as `ZoneGrid.sensitivity` takes them."""
        return self._active[row], self._reactive[row]

    def expected_slots(self, result: GridResult) -> float:
        """Quarter-hours over a limit, weighed by how likely each course is."""
        return float(self.weights @ result.over_limit.reshape(self.courses, self.slots).sum(axis=1))
