# SPDX-License-Identifier: Apache-2.0
"""What can be done: the four kinds of action, their bounds, and what each does to power.

Each action is windows of one key of `GridParameters`. Which windows are best is `optimise`'s; here
is what devices make of them: the community battery, called home batteries, called charge points,
and people who see another price. All of it from what is public: rating, size, place, and standard
behaviour.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from dao.errors import BadUse
from dao.parameters import COMMUNITY_BATTERY, KEYS
from dao.slots import SLOTS_PER_DAY
from forecasting.balancing.shares import SLOTS_PER_HOUR
from forecasting.grid import BatterySpec, FloatArray, IntArray

# Keys of GridParameters beside COMMUNITY_BATTERY.
CHARGE_POINTS = 1_001
HOME_BATTERIES = 1_002
# Above what any charge point draws: a cap that high is none.
NO_CAP_W = 22_000
FULL_PERMILLE = 1_000
# As many as GridParameters takes for a key and day.
MAX_WINDOWS = 16

# The battery of the demo zone 1-LV-rural3--2-sw. Its over-voltage sits at the ends of two feeders
# (bus 83 in nearly all broken quarter-hours, bus 121 next), and neither end feels what happens in
# the other: one unit at bus 83 would need 100 kW where two units of 20 kW do. At 40 kW nearly
# all broken quarter-hours of the summer can be mended; 50 kW leave room for the forecast's error.
# 300 kWh last for the nine hours of a clear June day at the power needed; with 200 kWh three times
# as many quarter-hours stay broken.
DEMO_BATTERY = BatterySpec(buses=(83, 121), capacity_wh=300_000, max_power_w=50_000)

# A called home battery may be asked for this part of its size: at midnight it is taken to hold at
# least that much, which is all that the plan takes out before it puts it back.
_CALLED_PART = 0.5
# SimBench's data sheet of its home batteries: 95 % each way.
_HOME_EFFICIENCY_PERMILLE = 903
# A capped car stays plugged in and takes what it missed within these hours after the cap.
CATCH_UP_HOURS = 3

# Own-price elasticity of electricity demand in the short term: the mean over studies in Labandeira,
# Labeaga and Lopez-Otero, "A meta-analysis on the price elasticity of energy demand",
# Energy Policy 102 (2017) 549-568. A few hours' notice is shorter than their short term.
SHORT_TERM_ELASTICITY = -0.126


@dataclass(frozen=True)
class Window:
    """A run of slots with one value of a key: W, permille or µ€ per Wh, as the key says."""

    first_slot: int
    slots: int
    value: int


@dataclass(frozen=True)
class Action:
    """Windows of one key, in order, inside one UTC day."""

    key: int
    windows: tuple[Window, ...]

    @property
    def name(self) -> str:
        return NAMES[self.key]

    @property
    def slots(self) -> int:
        return sum(window.slots for window in self.windows)

    def as_dict(self) -> dict[str, Any]:
        return {
            "key": self.key,
            "name": self.name,
            "windows": [[w.first_slot, w.slots, w.value] for w in self.windows],
        }


NAMES = {
    COMMUNITY_BATTERY: "community_battery",
    CHARGE_POINTS: "charge_points",
    HOME_BATTERIES: "home_batteries",
    KEYS["grid_fee"]: "grid_fee",
    KEYS["price_band_min"]: "price_band_min",
    KEYS["price_band_max"]: "price_band_max",
}
PRICE_KEYS = (KEYS["price_band_min"], KEYS["price_band_max"], KEYS["grid_fee"])


@dataclass(frozen=True)
class HomeBattery:
    """A battery behind a home's meter: its bus, rated power in W and usable size in Wh."""

    bus: int
    rated_w: int
    capacity_wh: int


@dataclass(frozen=True)
class ChargePoint:
    """A charge point behind a home's meter: its bus and rated power in W."""

    bus: int
    rated_w: int


@dataclass(frozen=True)
class Flexibility:
    """Devices that people let be called. `use`: standard share of the charge points' rated power
    that is drawn in each hour of a UTC day, (24,)."""

    home_batteries: tuple[HomeBattery, ...] = ()
    charge_points: tuple[ChargePoint, ...] = ()
    use: tuple[float, ...] = field(default=(0.0,) * 24)

    def __post_init__(self) -> None:
        if len(self.use) != 24 or not all(0.0 <= share <= 1.0 for share in self.use):
            raise BadUse("the standard use of charge points needs 24 shares between 0 and 1")
        ratings = [d.rated_w for d in self.home_batteries] + [d.rated_w for d in self.charge_points]
        if any(rated <= 0 for rated in ratings):
            raise BadUse("a device needs a rated power above zero")
        if any(battery.capacity_wh <= 0 for battery in self.home_batteries):
            raise BadUse("a home battery needs a size above zero")


@dataclass(frozen=True)
class Store:
    """Batteries that follow one schedule in step, as one: the community's, or the called homes'.

    buses, parts: where the units stand and their part of the power, summing to 1. full: the key's
    value at full power. must_return: what was taken out has to go back in the same day, because
    it belongs to somebody else.
    """

    key: int
    buses: tuple[int, ...]
    parts: tuple[float, ...]
    max_power_w: int
    capacity_wh: int
    efficiency_permille: int
    reactive_per_active: float
    stored_wh: int
    full: int
    step: int
    must_return: bool

    def power_of(self, values: npt.ArrayLike) -> IntArray:
        """The key's values as W of all units together."""
        asked = np.asarray(values, dtype=np.int64)
        return asked * self.max_power_w // self.full

    def follow(self, power_w: npt.ArrayLike) -> tuple[IntArray, IntArray]:
        """What the units really do, and what they then hold: see `follow`."""
        spec = BatterySpec(self.buses, self.capacity_wh, self.max_power_w, self.efficiency_permille)
        return follow(spec, power_w, self.stored_wh)


def community_store(battery: BatterySpec, stored_wh: int) -> Store:
    """The community battery at the beginning of a day."""
    if not 0 <= stored_wh <= battery.capacity_wh:
        raise BadUse(f"a battery of {battery.capacity_wh} Wh cannot hold {stored_wh} Wh")
    count = len(battery.buses)
    return Store(
        key=COMMUNITY_BATTERY,
        buses=battery.buses,
        parts=(1.0 / count,) * count,
        max_power_w=battery.max_power_w,
        capacity_wh=battery.capacity_wh,
        efficiency_permille=battery.efficiency_permille,
        reactive_per_active=battery.reactive_per_active,
        stored_wh=stored_wh,
        full=battery.max_power_w,
        step=100,
        must_return=False,
    )


def home_store(flexibility: Flexibility) -> Store | None:
    """The called home batteries as one; None where there are none.

    Only the half of each that it is taken to hold at midnight is used: first out, then in again.
    Nothing is known of the other half, and a home's own programme keeps it.
    """
    batteries = flexibility.home_batteries
    if not batteries:
        return None
    power = sum(battery.rated_w for battery in batteries)
    usable = int(_CALLED_PART * sum(battery.capacity_wh for battery in batteries))
    return Store(
        key=HOME_BATTERIES,
        buses=tuple(battery.bus for battery in batteries),
        parts=tuple(battery.rated_w / power for battery in batteries),
        max_power_w=power,
        capacity_wh=usable,
        efficiency_permille=_HOME_EFFICIENCY_PERMILLE,
        reactive_per_active=0.0,
        stored_wh=usable,
        full=FULL_PERMILLE,
        step=10,
        must_return=True,
    )


def schedule_of(windows: Sequence[Window], first_slot: int, slots: int, rest: int = 0) -> IntArray:
    """Value per slot, `rest` outside the windows: (slots,) int64."""
    values = np.full(slots, rest, dtype=np.int64)
    for window in windows:
        begin = max(0, window.first_slot - first_slot)
        end = max(0, window.first_slot + window.slots - first_slot)
        values[begin:end] = window.value
    return values


def windows_of(values: npt.ArrayLike, first_slot: int, rest: int = 0) -> tuple[Window, ...]:
    """Runs of one value other than `rest` as windows: the inverse of `schedule_of`."""
    table = np.asarray(values, dtype=np.int64)
    edges = np.flatnonzero(np.diff(table)) + 1
    return tuple(
        Window(first_slot + begin, end - begin, int(table[begin]))
        for begin, end in zip([0, *edges.tolist()], [*edges.tolist(), table.size], strict=True)
        if end > begin and table[begin] != rest
    )


def fewer_windows(values: npt.ArrayLike, most: int) -> IntArray:
    """The schedule in at most `most` windows: neighbours that differ least become one.

    Only neighbours of one sign do, and the one that charges more or gives less stands for both.
    Where signs alone make too many windows, the shortest work least and are dropped.
    """
    table = np.array(values, dtype=np.int64)
    while len(found := windows_of(table, 0)) > most:
        pairs = [
            (abs(one.value - two.value) * min(one.slots, two.slots), at)
            for at, (one, two) in enumerate(pairwise(found))
            if one.first_slot + one.slots == two.first_slot and one.value * two.value > 0
        ]
        if pairs:
            one, two = found[min(pairs)[1] : min(pairs)[1] + 2]
            table[one.first_slot : two.first_slot + two.slots] = max(one.value, two.value)
        else:
            least = min(found, key=lambda window: abs(window.value) * window.slots)
            table[least.first_slot : least.first_slot + least.slots] = 0
    return table


def follow(
    battery: BatterySpec, power_w: npt.ArrayLike, stored_wh: int = 0
) -> tuple[IntArray, IntArray]:
    """What a battery really does with a schedule: power in W and energy held in Wh after each slot.

    It stops charging when full and discharging when empty, and never exceeds its power.
    """
    asked = np.asarray(power_w, dtype=np.int64)
    done = np.zeros_like(asked)
    held = np.zeros_like(asked)
    level = stored_wh * 1000  # in mWh, so that rounding never creates energy
    for at, power in enumerate(asked.tolist()):
        power = max(-battery.max_power_w, min(battery.max_power_w, power))
        if power > 0:
            room = battery.capacity_wh * 1000 - level
            power = min(power, room * SLOTS_PER_HOUR // battery.efficiency_permille)
            level += power * battery.efficiency_permille // SLOTS_PER_HOUR
        elif power < 0:
            power = -min(-power, level * SLOTS_PER_HOUR // 1000)
            level -= -power * 1000 // SLOTS_PER_HOUR
        done[at] = power
        held[at] = level // 1000
    return done, held


def charging_change(flexibility: Flexibility, caps_w: npt.ArrayLike, first_slot: int) -> FloatArray:
    """What caps do to the charge points together, in expectation: (slots,) W, negative is less.

    A point draws its rated power in a standard share of its slots. Under a cap it draws the cap
    then; what it missed it takes in equal parts in the hours after, while the cap is off, or else
    not at all that day. caps_w: (slots,), NO_CAP_W for none.
    """
    caps = np.asarray(caps_w, dtype=np.float64)
    hours = (np.arange(first_slot, first_slot + caps.size) % SLOTS_PER_DAY) // SLOTS_PER_HOUR
    use = np.array(flexibility.use)[hours]
    missed = np.zeros(caps.size)
    for point in flexibility.charge_points:
        missed += use * np.maximum(0.0, point.rated_w - caps)
    change = -missed
    reach = CATCH_UP_HOURS * SLOTS_PER_HOUR
    free = caps >= NO_CAP_W
    for at in np.flatnonzero(missed > 0.0).tolist():
        later = np.flatnonzero(free[at + 1 :])
        if not later.size:
            continue
        begin = at + 1 + int(later[0])
        open_slots = np.flatnonzero(free[begin : begin + reach]) + begin
        change[open_slots] += missed[at] / reach
    return change


def price_response(
    import_w: npt.ArrayLike, before: float, after: float, elasticity: float
) -> FloatArray:
    """How much more is drawn at another price, in W: constant elasticity, (after / before)^e - 1.

    before, after: what a bought Wh costs all in, µ€. Zero elasticity gives zeros.
    """
    if before <= 0.0 or after <= 0.0:
        raise BadUse("a price response needs prices above zero")
    taken = np.maximum(np.asarray(import_w, dtype=np.float64), 0.0)
    found: FloatArray = taken * (math.pow(after / before, elasticity) - 1.0)
    return found
