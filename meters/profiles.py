# SPDX-License-Identifier: Apache-2.0
"""A zone's homes and what their meters would show, made from a SimBench grid.

This is demonstration data and says so (`SOURCE`). SimBench gives all households of a grid five load
shapes and all roofs four, so homes are told apart by a seeded scale each, and a seeded shift of
their behaviour by whole weeks:

* A home's scale for what it consumes is lognormal around 1 (sigma 0.25), its roof's scale is drawn
  apart (sigma 0.10). Both are cut at 0.5 and 2 and rounded to a thousandth.
* Household, business and charging loads are shifted by -6 to +6 whole weeks: the weekday stays, and
  so, nearly, does the season. Heat pumps and roofs are not shifted, the whole street has one
  weather.
* A home with a battery is not shifted, and its roof and battery take the scale of its load:
  SimBench's storage profile covers the evening of exactly that household shape, and pulled apart
  the battery would export at night.

Any date can be played. The profile year (2016, 35,136 slots from 2015-12-31T23:00Z) repeats every
52 whole weeks on the UTC axis, so a requested slot meets a profile slot of the same weekday and
time of day in UTC; dates drift against the season by a day or two per year, and on the few days
between two years' clock changes by an hour against local time. The last two days of the profile
year are never played.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from dao.errors import BadUse
from meters.simbench import Element, Grid, load_grid

SOURCE = "SimBench profiles, 2016 (demonstration data)"

WEEK_SLOTS = 7 * 96
PERIOD_SLOTS = 52 * WEEK_SLOTS  # 34,944
MAX_SHIFT_WEEKS = 6
LOAD_SIGMA = 0.25
SOLAR_SIGMA = 0.10
_SCALE_BOUNDS = (0.5, 2.0)

_WH_PER_MW_SLOT = 1_000_000 / 4
_HEAT_PUMPS = ("Air_", "Soil_")
_HOUSEHOLD = "H0-"


@dataclass(frozen=True)
class Home:
    """One metering point: a bus and everything behind its meter. `solar_wp` in W, as scaled."""

    index: int
    name: str
    bus: int
    kind: str
    has_solar: bool
    has_battery: bool
    solar_wp: int
    annual_load_kwh: int


@dataclass(frozen=True)
class ZoneProfiles:
    """What each home's meter shows per slot: Wh, int32, shape (slots, homes), slots in UTC.

    In one slot a home either imports or exports, never both.
    """

    code: str
    homes: tuple[Home, ...]
    first_slot: int
    import_wh: np.ndarray
    export_wh: np.ndarray

    @property
    def slots(self) -> int:
        return int(self.import_wh.shape[0])

    @property
    def net_wh(self) -> np.ndarray:
        """Import minus export of the whole zone, int64 of shape (slots,); positive draws."""
        net: np.ndarray = self.import_wh.sum(1, dtype=np.int64) - self.export_wh.sum(
            1, dtype=np.int64
        )
        return net

    def window(self, first_slot: int, slots: int) -> ZoneProfiles:
        """The part that begins at `first_slot`. Raises BadUse if it was not asked for before."""
        start = first_slot - self.first_slot
        if start < 0 or slots < 0 or start + slots > self.slots:
            raise BadUse(
                f"slots {first_slot}..{first_slot + slots} lie outside the profiles' "
                f"{self.first_slot}..{self.first_slot + self.slots}"
            )
        return ZoneProfiles(
            self.code,
            self.homes,
            first_slot,
            self.import_wh[start : start + slots],
            self.export_wh[start : start + slots],
        )


def zone_profiles(
    code: str, first_slot: int, slots: int, seed: int, cache: Path | None
) -> ZoneProfiles:
    """The homes of SimBench zone `code` and their meters over `slots` slots from `first_slot`.

    `cache` is a folder for the extract (None: read from the package each time). The same arguments
    give the same values, and overlapping requests agree on every slot. Raises BadUse for an unknown
    code or a negative range or seed.
    """
    if slots < 0 or first_slot < 0:
        raise BadUse(f"a range of slots cannot be negative: {slots} slots from {first_slot}")
    if seed < 0:
        raise BadUse(f"the seed must not be negative: {seed}")
    homes, origin, net = _period(code, seed, cache)
    rows = (np.arange(first_slot, first_slot + slots, dtype=np.int64) - origin) % PERIOD_SLOTS
    window = net[rows]
    return ZoneProfiles(
        code, homes, first_slot, np.maximum(window, 0), np.maximum(-window, 0).astype(np.int32)
    )


def roof_wh(
    code: str, index: int, first_slot: int, slots: int, seed: int, cache: Path | None
) -> np.ndarray:
    """What the inverter of home `index` yields: Wh per slot, int64 (slots,); zeros without a roof.

    The roof inside `zone_profiles`, as its own meter would count it. Where the profile carries roof
    and battery together, it is what both feed in. Rounded by itself, so within a Wh of the net.
    """
    grid = _grid(code, cache)
    column = {name: i for i, name in enumerate(grid.profiles)}
    homes, origin, _ = _period(code, seed, cache)
    if not 0 <= index < len(homes):
        raise BadUse(f"home {index} is not one of 0 to {len(homes) - 1}")
    bus = homes[index].bus
    stores = [one for one in grid.storages if one.bus == bus]
    scale, roof_scale, _ = _draw(seed, index)
    yielded = np.zeros(PERIOD_SLOTS)
    for one in (*(one for one in grid.generators if one.bus == bus), *stores):
        shape = grid.values[:PERIOD_SLOTS, column[one.profile]] * _WH_PER_MW_SLOT
        yielded += np.abs(shape * one.power_mw) * (scale if stores else roof_scale)
    rows = (np.arange(first_slot, first_slot + slots, dtype=np.int64) - origin) % PERIOD_SLOTS
    return whole_wh(yielded)[rows]


def whole_wh(energy_wh: np.ndarray) -> np.ndarray:
    """Energies in Wh (float, per slot along axis 0) as whole Wh, int64, by cumulative rounding.

    Every running sum is the rounded running sum of the input, so a whole series is off by at most
    half a Wh. A value never changes sign: rounding is monotone.
    """
    running = np.floor(np.cumsum(energy_wh, axis=0) + 0.5).astype(np.int64)
    return np.diff(running, axis=0, prepend=np.zeros_like(running[:1]))


@lru_cache(maxsize=1)
def _grid(code: str, cache: Path | None) -> Grid:
    """A grid for one home's roof after the other."""
    return load_grid(code, cache)


@lru_cache(maxsize=2)
def _period(code: str, seed: int, cache: Path | None) -> tuple[tuple[Home, ...], int, np.ndarray]:
    """Homes, origin slot and net Wh of all 34,944 slots, int32 of shape (slots, homes).

    Rounding runs over the whole period, not over what was asked for: only so do two requests agree.
    """
    grid = load_grid(code, cache)
    column = {name: i for i, name in enumerate(grid.profiles)}
    values = grid.values[:PERIOD_SLOTS] * _WH_PER_MW_SLOT
    loads, generators, storages = (
        _by_bus(elements) for elements in (grid.loads, grid.generators, grid.storages)
    )
    buses = sorted(loads.keys() | generators.keys() | storages.keys())

    homes: list[Home] = []
    net = np.empty((PERIOD_SLOTS, len(buses)), dtype=np.int32)
    for index, bus in enumerate(buses):
        roof, store = generators.get(bus, ()), storages.get(bus, ())
        scale, roof_scale, weeks = _draw(seed, index)
        if store:
            roof_scale, weeks = scale, 0
        consumed = np.zeros(PERIOD_SLOTS)
        for load in loads.get(bus, ()):
            shape = values[:, column[load.profile]] * (load.power_mw * scale)
            if not load.profile.startswith(_HEAT_PUMPS):
                shape = np.roll(shape, weeks * WEEK_SLOTS)
            consumed += shape
        energy = consumed.copy()
        for generator in roof:
            energy -= values[:, column[generator.profile]] * (generator.power_mw * roof_scale)
        for storage in store:
            # Relative to a negative power SimBench's storage profiles are positive: the product is
            # negative while the home generates, and adds to consumption with its own sign.
            energy += values[:, column[storage.profile]] * (storage.power_mw * roof_scale)
        net[:, index] = whole_wh(energy)

        solar = [e for e in roof if e.profile.startswith("PV")] + list(store)
        homes.append(
            Home(
                index=index,
                name=grid.bus_names[bus],
                bus=bus,
                kind=_kind(loads.get(bus, ())),
                has_solar=bool(solar),
                has_battery=bool(store),
                solar_wp=round(sum(abs(e.power_mw) for e in solar) * roof_scale * 1e6),
                annual_load_kwh=round(consumed.sum() / 1000),
            )
        )
    net.setflags(write=False)
    return tuple(homes), grid.first_slot, net


def _by_bus(elements: tuple[Element, ...]) -> dict[int, tuple[Element, ...]]:
    buses: dict[int, tuple[Element, ...]] = {}
    for element in elements:
        buses[element.bus] = (*buses.get(element.bus, ()), element)
    return buses


def _kind(loads: tuple[Element, ...]) -> str:
    """A bus with any household load is a household; shops, farms and bare chargers are not."""
    return "household" if any(e.profile.startswith(_HOUSEHOLD) for e in loads) else "business"


def _draw(seed: int, index: int) -> tuple[float, float, int]:
    """A home's load scale, roof scale and shift in weeks, from its own random stream."""
    random = np.random.default_rng([seed, index])
    load, roof = (
        round(float(np.clip(random.lognormal(-sigma * sigma / 2, sigma), *_SCALE_BOUNDS)), 3)
        for sigma in (LOAD_SIGMA, SOLAR_SIGMA)
    )
    return load, roof, int(random.integers(-MAX_SHIFT_WEEKS, MAX_SHIFT_WEEKS + 1))
