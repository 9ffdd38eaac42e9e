# SPDX-License-Identifier: Apache-2.0
"""SimBench data as homes and meters: time axis, signs, seeds, rounding, cache."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dao.errors import BadUse
from dao.slots import first_slot_of_day, slot_start
from meters.profiles import PERIOD_SLOTS, WEEK_SLOTS, whole_wh, zone_profiles
from meters.simbench import YEAR_SLOTS, Grid, known_codes, load_grid, slots_of_local_stamps

CODE = "1-LV-rural3--2-sw"
SUMMER = first_slot_of_day(date(2016, 6, 1))


def test_the_profile_year_becomes_contiguous_utc_slots(grid: Grid) -> None:
    import simbench

    table = Path(simbench.__file__).parent / "networks/1-complete_data-mixed-all-2-sw"
    stamps = [
        line.split(";", 1)[0] for line in (table / "StorageProfile.csv").read_text().splitlines()
    ][1:]
    slots = slots_of_local_stamps(stamps)
    assert len(slots) == YEAR_SLOTS == 35_136
    assert (np.diff(slots) == 1).all()
    assert slot_start(int(slots[0])).isoformat() == "2015-12-31T23:00:00+00:00"
    assert slots[0] == grid.first_slot
    assert len(grid.values) == YEAR_SLOTS


def test_the_missing_hour_of_march_leaves_no_gap() -> None:
    slots = slots_of_local_stamps(["27.03.2016 01:45", "27.03.2016 03:00"])
    assert [slot_start(int(s)).strftime("%H:%M") for s in slots] == ["00:45", "01:00"]


def test_the_repeated_hour_of_october_is_told_apart() -> None:
    quarters = [f"30.10.2016 02:{m:02d}" for m in (0, 15, 30, 45)]
    slots = slots_of_local_stamps(["30.10.2016 01:45", *quarters, *quarters, "30.10.2016 03:00"])
    assert (np.diff(slots) == 1).all()
    assert slot_start(int(slots[0])).strftime("%H:%M") == "23:45"


def test_the_demo_zone_has_its_homes_roofs_and_batteries(grid: Grid, cache: Path) -> None:
    homes = zone_profiles(CODE, SUMMER, 1, 1, cache).homes
    assert len(homes) == 118
    assert sum(home.has_solar for home in homes) == 27 + 16
    assert sum(home.has_battery for home in homes) == 16
    assert {home.kind for home in homes} == {"household", "business"}
    assert [home.index for home in homes] == list(range(118))
    assert all((home.solar_wp > 0) == home.has_solar for home in homes)


def test_storage_profiles_carry_a_roof_and_its_battery(grid: Grid) -> None:
    column = {name: grid.values[:, i] for i, name in enumerate(grid.profiles)}
    for storage in grid.storages:
        power = column[storage.profile] * storage.power_mw
        assert power.max() <= 0, "a storage on its own never draws from the grid"
        yearly_kwh = power.sum() / 4 * 1000
        assert yearly_kwh < -500 * abs(storage.power_mw) * 1000, "that is a roof's harvest"
        hours = np.arange(YEAR_SLOTS) // 4 % 24
        assert power[hours == 0].sum() < 0, "and at midnight no sun shines"


def test_loads_consume_and_roofs_only_generate(grid: Grid) -> None:
    column = {name: grid.values[:, i] for i, name in enumerate(grid.profiles)}
    assert all((column[e.profile] * e.power_mw).min() >= 0 for e in grid.loads)
    assert all((column[e.profile] * e.power_mw).min() >= 0 for e in grid.generators)


def test_the_zone_exports_at_a_summer_noon_and_draws_at_night(grid: Grid, cache: Path) -> None:
    day = zone_profiles(CODE, SUMMER, 96, 1, cache).net_wh.reshape(24, 4).sum(1)
    assert day[10:13].sum() < 0 < day[0:3].sum()


def test_a_meter_never_imports_and_exports_in_one_slot(grid: Grid, cache: Path) -> None:
    year = zone_profiles(CODE, SUMMER, PERIOD_SLOTS, 1, cache)
    assert year.import_wh.dtype == year.export_wh.dtype == np.int32
    assert year.import_wh.min() == year.export_wh.min() == 0
    assert not ((year.import_wh > 0) & (year.export_wh > 0)).any()
    assert max(year.import_wh.max(), year.export_wh.max()) < 1 << 16


def test_a_battery_still_covers_its_homes_evening_after_scaling(grid: Grid, cache: Path) -> None:
    summer = zone_profiles(CODE, SUMMER, 60 * 96, 5, cache)
    night = (np.arange(60 * 96) % 96) < 8
    for home in summer.homes:
        if home.has_battery:
            exported = summer.export_wh[:, home.index]
            assert exported[night].sum() < 0.001 * exported.sum()


def test_overlapping_requests_agree_on_every_slot(grid: Grid, cache: Path) -> None:
    long = zone_profiles(CODE, SUMMER, 5 * 96, 1, cache)
    short = zone_profiles(CODE, SUMMER + 100, 50, 1, cache)
    part = long.window(SUMMER + 100, 50)
    assert np.array_equal(part.import_wh, short.import_wh)
    assert np.array_equal(part.export_wh, short.export_wh)


def test_any_date_is_played_with_its_weekday_kept(grid: Grid, cache: Path) -> None:
    here = zone_profiles(CODE, SUMMER, 96, 1, cache)
    for years in (-3, 1, 10):
        shifted = SUMMER + years * PERIOD_SLOTS
        assert slot_start(shifted).weekday() == slot_start(SUMMER).weekday()
        there = zone_profiles(CODE, shifted, 96, 1, cache)
        assert np.array_equal(here.import_wh, there.import_wh)
        assert there.first_slot == shifted
    assert PERIOD_SLOTS == 52 * WEEK_SLOTS


def test_the_seed_decides_the_homes(grid: Grid, cache: Path) -> None:
    one, again, other = (zone_profiles(CODE, SUMMER, 96, seed, cache) for seed in (1, 1, 2))
    assert np.array_equal(one.import_wh, again.import_wh)
    assert one.homes == again.homes
    assert not np.array_equal(one.import_wh, other.import_wh)


def test_no_two_homes_of_one_shape_are_alike(grid: Grid, cache: Path) -> None:
    week = zone_profiles(CODE, SUMMER, 7 * 96, 1, cache)
    net = week.import_wh - week.export_wh
    assert len({column.tobytes() for column in net.T}) == len(week.homes)


def test_scaling_keeps_the_zones_size(grid: Grid, cache: Path) -> None:
    year = zone_profiles(CODE, SUMMER, PERIOD_SLOTS, 1, cache)
    column = {name: grid.values[:PERIOD_SLOTS, i] for i, name in enumerate(grid.profiles)}
    raw = sum(
        sign * (column[e.profile] * e.power_mw).sum() * 250_000
        for elements, sign in ((grid.loads, 1), (grid.generators, -1), (grid.storages, 1))
        for e in elements
    )
    assert abs(year.net_wh.sum() - raw) < 0.15 * abs(raw)


@given(st.lists(st.floats(-5_000, 5_000, allow_nan=False, width=32), min_size=1, max_size=200))
def test_cumulative_rounding_keeps_every_running_sum_and_sign(energies: list[float]) -> None:
    energy = np.array(energies, dtype=np.float64)
    whole = whole_wh(energy)
    assert np.abs(np.cumsum(whole) - np.cumsum(energy)).max() <= 0.5 + 1e-6
    assert (whole[energy >= 0] >= 0).all()
    assert (whole[energy <= 0] <= 0).all()


def test_an_unknown_zone_is_named_with_the_way_to_list_the_known() -> None:
    with pytest.raises(BadUse, match=r"1-LV-moon--2-sw.*known_codes"):
        zone_profiles("1-LV-moon--2-sw", SUMMER, 1, 1, None)


def test_the_known_codes_are_simbenchs_own() -> None:
    import simbench

    listed = simbench.collect_all_simbench_codes(hv_level="LV")
    assert set(known_codes()) == {code for code in listed if code.startswith("1-LV-")}


@pytest.mark.parametrize(("first", "slots", "seed"), [(0, -1, 1), (-5, 1, 1), (0, 1, -1)])
def test_negative_arguments_are_refused(first: int, slots: int, seed: int) -> None:
    with pytest.raises(BadUse, match="negative"):
        zone_profiles(CODE, first, slots, seed, None)


def test_a_second_load_is_fast_and_needs_no_simbench(grid: Grid, cache: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path\n"
        "from meters.profiles import zone_profiles\n"
        "begin = time.process_time()\n"
        f"zone_profiles({CODE!r}, {SUMMER}, 96, 1, Path({str(cache)!r}))\n"
        "assert 'simbench' not in sys.modules and 'pandapower' not in sys.modules\n"
        "print(time.process_time() - begin)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 1.0


def test_a_damaged_cache_is_made_anew(grid: Grid, tmp_path: Path, cache: Path) -> None:
    file = tmp_path / next(cache.glob("*.npz")).name
    file.write_bytes(b"PK\x03\x04 not a cache")
    again = load_grid(CODE, tmp_path)
    assert np.array_equal(again.values, grid.values)
    assert again.loads == grid.loads
    assert [p.name for p in tmp_path.iterdir()] == [file.name], "no temporary file stays"
