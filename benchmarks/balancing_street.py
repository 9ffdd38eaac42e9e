# SPDX-License-Identifier: Apache-2.0
"""What a street's devices really do when they are called, on SimBench's own profiles.

The other side of `forecasting.balancing`, which plans from standard behaviour: here every home
battery has the roof and the load of its home behind it, every car its own hours, and a called
device does what its energy allows. Reality for the benchmark, never an input of a plan.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dao.errors import BadUse
from forecasting.balancing.actions import NOT_CALLED
from forecasting.balancing.shares import SLOTS_PER_HOUR
from forecasting.grid import FloatArray, IntArray
from meters.profiles import PERIOD_SLOTS, ZoneProfiles
from meters.simbench import Grid

# SimBench's data sheet: 95 % each way.
_ONE_WAY = 0.95
_CHARGE_POINTS = ("HLS_", "APLS_")


@dataclass(frozen=True)
class _Store:
    """A home battery: which home it is behind, its rating, and the home's power without it."""

    home: int
    rated_w: float
    capacity_wh: float
    without_w: FloatArray


@dataclass(frozen=True)
class _Car:
    home: int
    rated_w: float
    drawn_w: FloatArray


@dataclass
class Levels:
    """What each home battery holds, in Wh, and what each car still misses; carried over midnight.

    own: had no battery ever been called.
    """

    called: FloatArray
    own: FloatArray
    missed: FloatArray


class Street:
    """The devices of a zone over the slots of `profiles`."""

    def __init__(self, grid: Grid, profiles: ZoneProfiles) -> None:
        """Raises BadUse where SimBench has no roof profile of its own for a battery's roof."""
        rows = np.arange(profiles.first_slot, profiles.first_slot + profiles.slots)
        values = grid.values[(rows - grid.first_slot) % PERIOD_SLOTS]
        column = {name: at for at, name in enumerate(grid.profiles)}
        home_at = {home.bus: at for at, home in enumerate(profiles.homes)}
        roofs: dict[int, float] = {}
        for one in (*grid.generators, *grid.storages):
            roofs[one.bus] = roofs.get(one.bus, 0.0) + abs(one.power_mw) * 1e6
        self._first_slot = profiles.first_slot
        self._net_w = (profiles.import_wh.astype(np.int64) - profiles.export_wh) * 4.0
        self._stores = []
        for one in grid.storages:
            at = home_at[one.bus]
            rated = abs(one.power_mw) * 1e6 * profiles.homes[at].solar_wp / roofs[one.bus]
            roof = one.profile.split("_")[1]
            if roof not in column:
                raise BadUse(f"{grid.code} has no profile {roof} behind {one.profile}")
            # The profile is roof and battery together; put the roof alone in its place.
            both = values[:, column[one.profile]] * rated
            without = self._net_w[:, at] + both - values[:, column[roof]] * rated
            self._stores.append(_Store(at, rated, 2.0 * rated, without))
        self._cars = [
            _Car(
                home_at[load.bus],
                load.power_mw * 1e6,
                # The homes' shifts in weeks and scales stay out: a car's own hours do not matter
                # to the sum, its being there only at times does.
                values[:, column[load.profile]] * load.power_mw * 1e6,
            )
            for load in grid.loads
            if load.profile.startswith(_CHARGE_POINTS)
        ]

    def levels(self) -> Levels:
        """Batteries half full, no car behind."""
        half = np.array([store.capacity_wh / 2.0 for store in self._stores])
        return Levels(half, half.copy(), np.zeros(len(self._cars)))

    def own_programme_w(self, first_slot: int, slots: int, levels: Levels) -> FloatArray:
        """What the batteries do uncalled, W drawn: (slots, batteries). `levels` moves on."""
        rest = np.full(slots, NOT_CALLED)
        return self._batteries(first_slot, slots, rest, levels.own)

    def day(
        self, first_slot: int, permille: IntArray, caps_w: IntArray, levels: Levels
    ) -> FloatArray:
        """How far each home's power departs from its measured profile, (slots, homes) W.

        permille: of the batteries' rated power, `NOT_CALLED` where they are not called. caps_w:
        of the charge points, NO_CAP_W where there is none. `levels` moves on.
        """
        slots = permille.size
        change = np.zeros((slots, self._net_w.shape[1]))
        own = self._batteries(first_slot, slots, np.full(slots, NOT_CALLED), levels.own)
        called = self._batteries(first_slot, slots, permille.astype(np.float64), levels.called)
        for at, store in enumerate(self._stores):
            change[:, store.home] += called[:, at] - own[:, at]
        rows = slice(first_slot - self._first_slot, first_slot - self._first_slot + slots)
        for at, car in enumerate(self._cars):
            drawn = car.drawn_w[rows]
            missed = levels.missed[at]
            for slot in range(slots):
                wanted = min(car.rated_w, drawn[slot] + missed)
                given = min(wanted, float(caps_w[slot]))
                missed += drawn[slot] - given
                change[slot, car.home] += given - drawn[slot]
            levels.missed[at] = missed
        return change

    def _batteries(
        self, first_slot: int, slots: int, permille: FloatArray, level: FloatArray
    ) -> FloatArray:
        begin = first_slot - self._first_slot
        power = np.zeros((slots, len(self._stores)))
        rated = np.array([store.rated_w for store in self._stores])
        size = np.array([store.capacity_wh for store in self._stores])
        for slot in range(slots):
            without = np.array([store.without_w[begin + slot] for store in self._stores])
            wanted = -without if permille[slot] == NOT_CALLED else permille[slot] / 1000.0 * rated
            wanted = np.clip(wanted, -rated, rated)
            room = (size - level) / _ONE_WAY * SLOTS_PER_HOUR
            held = level * _ONE_WAY * SLOTS_PER_HOUR
            done = np.clip(wanted, -held, room)
            level += np.where(done > 0.0, done * _ONE_WAY, done / _ONE_WAY) / SLOTS_PER_HOUR
            power[slot] = done
        return power
