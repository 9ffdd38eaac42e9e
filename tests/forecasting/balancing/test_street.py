# SPDX-License-Identifier: Apache-2.0
"""The devices that the benchmark lets act: whether they are those that SimBench has."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import pytest

from benchmarks.balancing_street import Street
from dao.slots import first_slot_of_day
from forecasting.balancing import NO_CAP_W
from forecasting.balancing.actions import NOT_CALLED
from forecasting.balancing.flexibility import flexibility_of
from meters.profiles import zone_profiles
from meters.simbench import load_grid
from tests.forecasting.conftest import CODE

FIRST = first_slot_of_day(date(2016, 6, 6))


@pytest.fixture(scope="module")
def street(cache: Path) -> Street:
    return Street(load_grid(CODE, cache), zone_profiles(CODE, FIRST, 2 * 96, 1, cache))


def test_a_zones_devices_are_those_of_its_tables(cache: Path) -> None:
    grid = load_grid(CODE, cache)
    homes = zone_profiles(CODE, FIRST, 0, 1, cache).homes
    found = flexibility_of(grid, homes)
    assert len(found.home_batteries) == 16
    assert len(found.charge_points) == 17
    scaled = {home.bus: home.solar_wp for home in homes if home.has_battery}
    assert {one.bus: one.rated_w for one in found.home_batteries} == scaled
    assert all(one.capacity_wh == 2 * one.rated_w for one in found.home_batteries)
    assert 0.005 < float(np.mean(found.use)) < 0.05


def test_uncalled_devices_change_nothing(street: Street) -> None:
    levels = street.levels()
    rest, free = np.full(96, NOT_CALLED), np.full(96, NO_CAP_W)
    assert not street.day(FIRST, rest, free, levels).any()


def test_a_called_battery_does_what_it_is_told_as_far_as_its_energy_goes(street: Street) -> None:
    levels = street.levels()
    before = levels.called.copy()
    orders = np.full(96, NOT_CALLED)
    orders[8:16] = -500
    change = street.day(FIRST, orders, np.full(96, NO_CAP_W), levels)
    assert (change[8:12].sum(axis=1) < 0).all()
    assert (levels.called >= -1e-6).all()
    assert (levels.called <= 2 * before + 1e-6).all()
    assert not change[:8].any()


def test_a_capped_car_takes_what_it_missed_once_the_cap_is_off(street: Street) -> None:
    levels = street.levels()
    rest = np.full(96, NOT_CALLED)
    capped = street.day(FIRST, rest, np.full(96, 1_400), levels)
    missed = levels.missed.sum()
    assert missed > 0
    assert capped.sum() == pytest.approx(-missed)
    free = street.day(FIRST + 96, rest, np.full(96, NO_CAP_W), levels)
    assert free.sum() == pytest.approx(missed)
    assert levels.missed.sum() == pytest.approx(0.0, abs=1e-6)
