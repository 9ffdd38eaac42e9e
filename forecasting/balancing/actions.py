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
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from dao.errors import BadUse
from dao.parameters import (
    CHARGE_POINTS,
    COMMUNITY_BATTERY,
    FULL_POWER,
    HOME_BATTERIES,
    KEYS,
    MAX_CHARGE_POINT_W,
)
from dao.slots import SLOTS_PER_DAY
from forecasting.balancing.shares import SLOTS_PER_HOUR
from forecasting.grid import BatterySpec, FloatArray, IntArray, ZoneGrid

# Above what any charge point draws: a cap that high is none.
NO_CAP_W = MAX_CHARGE_POINT_W
# As many as GridParameters takes for a key and day.
MAX_WINDOWS = 16
# Rather than let a window both charge and give, or leave a slot of it out, all else is done first.
_MIXED = 1e12
_DROPPED = 10.0

# The battery of the demo zone 1-LV-rural3--2-sw. Its over-voltage sits at the ends of two feeders
# (bus 83 in nearly all broken quarter-hours, bus 121 next), and neither end feels what happens in
# the other: one unit at bus 83 would need 100 kW where two units of 20 kW do. At 40 kW nearly
# all broken quarter-hours of the summer can be mended; 50 kW leave room for the forecast's error.
# 300 kWh last for the nine hours of a clear June day at the power needed; with 200 kWh three times
# as many quarter-hours stay broken.
DEMO_BATTERY = BatterySpec(buses=(83, 121), capacity_wh=300_000, max_power_w=50_000)
DEMO_GRID = "1-LV-rural3--2-sw"

# Of what a home battery's own night does not use, this part may be taken out of it.
CALLED_PART = 0.5
# In a schedule of permille: nobody is called, the home's own programme runs.
NOT_CALLED = 9_999
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


@dataclass(frozen=True, eq=False)
class Store:
    """Batteries that follow one schedule in step, as one: the community's, or the called homes'.

    buses, parts: where the units stand and their part of the power, summing to 1. full: the key's
    value at full power. own_w: what the units do when nobody calls them, (slots,) W, as it is in
    the forecast already. Everything else is about the departure from that: stored_wh is what there
    is to give at first, capacity_wh the most there can be, floor_wh the least there may be after
    each slot, (slots,). rest: what the schedule says where nobody is called. must_return: what was
    taken out has to go back in the same day, because it belongs to somebody else.
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
    own_w: FloatArray
    floor_wh: FloatArray
    rest: int
    must_return: bool

    def values_of(self, departure_w: IntArray) -> IntArray:
        """The key's value per slot for a departure from the units' own doing, in W.

        Called units do what they are told and nothing else: between the first slot that departs
        and the last one every slot is told. The community battery has no own doing to tell.
        """
        values = np.full(departure_w.size, self.rest, dtype=np.int64)
        told = np.flatnonzero(departure_w)
        if told.size:
            part = slice(int(told[0]), int(told[-1]) + 1)
            power = departure_w[part] + self.own_w[part]
            steps = np.rint(power * self.full / self.max_power_w / self.step)
            values[part] = np.clip(steps * self.step, -self.full, self.full)
        return values

    def departure_of(self, values: IntArray) -> IntArray:
        """The departure that the schedule asks for, in W."""
        asked = np.rint(values * (self.max_power_w / self.full) - self.own_w)
        return np.where(values == self.rest, 0, asked).astype(np.int64)

    def follow(self, departure_w: npt.ArrayLike) -> tuple[IntArray, IntArray]:
        """The departure as far as energy allows, and what is then there to give: see `follow`."""
        spec = BatterySpec(self.buses, self.capacity_wh, self.max_power_w, self.efficiency_permille)
        return follow(spec, departure_w, self.stored_wh)


def battery_of(grid: ZoneGrid) -> BatterySpec:
    """The community battery that a demonstration's zone is given; SimBench has none.

    In other grids than the demo's the same battery stands in the middle and at the end of the list
    of buses, which is an assumption and no advice.
    """
    known = {int(bus) for bus in grid.buses}
    if grid.code == DEMO_GRID and known.issuperset(DEMO_BATTERY.buses):
        return DEMO_BATTERY
    buses = sorted(known)
    return replace(DEMO_BATTERY, buses=(buses[len(buses) // 2], buses[-1]))


def community_store(battery: BatterySpec, stored_wh: int, slots: int) -> Store:
    """The community battery at the beginning of a day; it rests unless it is told."""
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
        own_w=np.zeros(slots),
        floor_wh=np.zeros(slots),
        rest=0,
        must_return=False,
    )


def home_store(
    batteries: Sequence[HomeBattery], net_w: FloatArray, called_part: float = CALLED_PART
) -> Store | None:
    """The called home batteries as one; None where there are none.

    net_w: expected net power at each battery's home, (slots, batteries) W, which says what its own
    programme does (`own_programme`). What a battery holds is not public. It is taken to hold at
    midnight what it will be used for until sunrise, and of the rest a part (called_part): that
    much may be taken out and has to go back. What its own programme would charge in the morning
    may be held back for later, which costs nobody anything.
    """
    if not batteries:
        return None
    rated = np.array([battery.rated_w for battery in batteries], dtype=np.float64)
    size = np.array([battery.capacity_wh for battery in batteries], dtype=np.float64)
    own, used = own_programme(rated, size, net_w)
    # By the hour, as it is told: a standard is no finer.
    hour = np.arange(len(own)) // SLOTS_PER_HOUR
    own = np.stack([np.bincount(hour, column) / np.bincount(hour) for column in own.T], axis=1)[
        hour
    ]
    spare = called_part * float((size - used).sum())
    charged = np.cumsum(np.maximum(own, 0.0).sum(axis=1)) / SLOTS_PER_HOUR
    held_back = charged * _HOME_EFFICIENCY_PERMILLE / 1000.0
    usable = max(1, int(spare + float(held_back[-1])))
    return Store(
        key=HOME_BATTERIES,
        buses=tuple(battery.bus for battery in batteries),
        parts=tuple((rated / rated.sum()).tolist()),
        max_power_w=int(rated.sum()),
        capacity_wh=usable,
        efficiency_permille=_HOME_EFFICIENCY_PERMILLE,
        reactive_per_active=0.0,
        stored_wh=usable,
        full=FULL_POWER,
        step=10,
        own_w=own.sum(axis=1),
        floor_wh=np.clip(usable - spare - held_back, 0.0, usable),
        rest=NOT_CALLED,
        must_return=True,
    )


def own_programme(
    rated_w: FloatArray, capacity_wh: FloatArray, net_w: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """What home batteries do by themselves, by standard: (slots, batteries) W; Wh used by night.

    They give what their home draws in the dark, as far as rating and size go, and take it back from
    the first surplus of the morning on, before anything is fed into the grid. The coming evening
    stands for the one before.
    """
    drawn = np.minimum(np.maximum(net_w, 0.0), rated_w)
    surplus = np.minimum(np.maximum(-net_w, 0.0), rated_w)
    sunny = surplus.sum(axis=1) > 0.0
    own = np.zeros(net_w.shape)
    if not sunny.any():
        return own, np.zeros(rated_w.size)
    dawn, dusk = int(np.flatnonzero(sunny)[0]), int(np.flatnonzero(sunny)[-1])
    dark = np.ones(len(net_w), dtype=bool)
    dark[dawn : dusk + 1] = False
    used = np.minimum(drawn[dark].sum(axis=0) / SLOTS_PER_HOUR, capacity_wh)
    scale = used / np.maximum(drawn[dark].sum(axis=0) / SLOTS_PER_HOUR, 1e-9)
    own[dark] = -drawn[dark] * scale
    left = used.copy()
    for slot in range(dawn, dusk + 1):
        own[slot] = np.minimum(surplus[slot], left * SLOTS_PER_HOUR)
        left -= own[slot] / SLOTS_PER_HOUR
    return own, used


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


def fewer_windows(values: npt.ArrayLike, most: int, rest: int = 0) -> IntArray:
    """The schedule in at most `most` windows, as little changed as can be.

    The slot that charges most or gives least stands for all of its window, so a window charges
    more or gives less than the schedule did. A slot becomes one of `rest` where windows do not
    suffice, and none stops being one. Slots that charge and slots that give share a window only
    where nothing is at rest between and nothing else is left.
    """
    table = np.array(values, dtype=np.int64)
    if len(windows_of(table, 0, rest)) <= most:
        return table
    n = table.size
    resting = table == rest
    # What it costs to make slots i to j one window, and what its value then is.
    cost, value = np.full((n, n + 1), np.inf), np.zeros((n, n + 1), dtype=np.int64)
    for i in range(n):
        end = i + int(np.argmax(np.append(resting[i:], True)))
        part = table[i:end]
        highest, lowest = np.maximum.accumulate(part), np.minimum.accumulate(part)
        spread = highest * np.arange(1, part.size + 1) - np.cumsum(part)
        cost[i, i + 1 : end + 1] = spread + _MIXED * ((highest > 0) & (lowest < 0))
        value[i, i + 1 : end + 1] = highest
    idle = np.where(resting, 0.0, _MIXED if rest else _DROPPED * np.abs(table))
    # least[k, j]: of the first j slots in k windows; by which window it ends, or -1 for a rest.
    least, last = np.full((most + 1, n + 1), np.inf), np.full((most + 1, n + 1), -1)
    least[:, 0] = 0.0
    for j in range(1, n + 1):
        least[:, j] = least[:, j - 1] + idle[j - 1]
        ways = least[:-1, :j] + cost[None, :j, j]
        best = ways.argmin(axis=1)
        better = ways[np.arange(most), best] < least[1:, j]
        last[1:, j] = np.where(better, best, -1)
        least[1:, j] = np.where(better, ways[np.arange(most), best], least[1:, j])
    found, k, j = np.full(n, rest, dtype=np.int64), most, n
    while j:
        i = int(last[k, j])
        if i < 0:
            j -= 1
        else:
            found[i:j], k, j = value[i, j], k - 1, i
    return found


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
