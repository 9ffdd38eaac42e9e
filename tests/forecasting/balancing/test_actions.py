# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dao.errors import BadUse
from forecasting.balancing import (
    NO_CAP_W,
    ChargePoint,
    Flexibility,
    HomeBattery,
    Window,
    follow,
    schedule_of,
    windows_of,
)
from forecasting.balancing.actions import (
    NOT_CALLED,
    charging_change,
    community_store,
    fewer_windows,
    home_store,
    own_programme,
    price_response,
)
from forecasting.grid import BatterySpec


def test_a_battery_never_gives_more_than_it_holds_nor_takes_more_than_fits() -> None:
    battery = BatterySpec(buses=(1,), capacity_wh=1000, max_power_w=2000, efficiency_permille=900)
    done, level = follow(battery, [2000] * 4 + [-2000] * 4 + [9000])
    assert level.max() <= 1000
    assert level.min() >= 0
    assert done.max() <= 2000
    taken = done[done > 0][:4].sum() / 4
    given_back = -done[done < 0].sum() / 4
    assert given_back <= 0.9 * taken


def test_windows_become_power_per_slot_and_back() -> None:
    windows = (Window(8, 3, -100), Window(12, 2, 500))
    values = schedule_of(windows, 8, 6)
    assert values.tolist() == [-100, -100, -100, 0, 500, 500]
    assert windows_of(values, 8) == windows
    assert schedule_of(windows, 10, 5).tolist() == [-100, 0, 500, 500, 0]
    assert windows_of([], 8) == ()


@given(st.lists(st.integers(-3, 3), min_size=96, max_size=96), st.integers(1, 20))
def test_a_schedule_in_fewer_windows_never_changes_sign(values: list[int], most: int) -> None:
    found = fewer_windows(values, most)
    assert len(windows_of(found, 0)) <= most
    assert ((found == 0) | (np.sign(found) == np.sign(values))).all()
    if len(windows_of(values, 0)) <= most:
        assert found.tolist() == values


def test_merged_windows_charge_more_and_give_less() -> None:
    values = np.array([10, 11, 50, -5, -6, -50])
    assert fewer_windows(values, 4).tolist() == [11, 11, 50, -5, -5, -50]


@pytest.mark.parametrize("broken", [{"buses": ()}, {"capacity_wh": 0}, {"efficiency_permille": 0}])
def test_an_impossible_battery_is_refused(broken: dict[str, object]) -> None:
    options = {"buses": (1,), "capacity_wh": 10, "max_power_w": 10} | broken
    with pytest.raises(BadUse):
        BatterySpec(**options)  # type: ignore[arg-type]


def test_a_battery_cannot_begin_fuller_than_it_is_large() -> None:
    with pytest.raises(BadUse, match="cannot hold"):
        community_store(BatterySpec((1,), 1000, 500), 1001, 96)


def sunny_home(batteries: int = 1) -> np.ndarray:
    """1 kW drawn in the dark, 4 kW left over from 6 to 18 h; (96, batteries) W."""
    net = np.full((96, batteries), 1_000.0)
    net[24:72] = -4_000.0
    return net


def test_a_home_battery_by_itself_covers_the_night_and_refills_from_the_first_sun() -> None:
    own, used = own_programme(np.array([3_000.0]), np.array([6_000.0]), sunny_home())
    assert used.tolist() == [6_000.0], "the night would take 12 kWh, the battery holds six"
    assert own[:24].sum() + own[72:].sum() == pytest.approx(-4 * 6_000.0)
    assert (own[24:32] == 3_000.0).all()
    assert not own[32:72].any()
    assert own_programme(np.array([3_000.0]), np.array([6e3]), np.ones((96, 1)))[1][0] == 0.0


def test_of_home_batteries_only_what_their_own_night_leaves_is_called() -> None:
    batteries = (HomeBattery(5, 3_000, 30_000), HomeBattery(9, 1_000, 30_000))
    store = home_store(batteries, sunny_home(2))
    assert store is not None
    assert store.parts == (0.75, 0.25)
    # Each uses 12 of its 30 kWh by night; half of the rest may be taken out, and nothing more
    # before the morning's own charging can be held back.
    assert store.stored_wh - store.floor_wh[0] == pytest.approx(18_000, abs=1)
    assert store.floor_wh[-1] == 0.0
    assert store.stored_wh == pytest.approx(18_000 + 0.903 * 24_000, abs=1)
    held_only = home_store(batteries, sunny_home(2), called_part=0.0)
    assert held_only is not None
    assert held_only.floor_wh[0] == held_only.stored_wh
    assert home_store((), np.zeros((96, 0))) is None


def test_called_homes_are_told_every_slot_between_the_first_and_the_last_that_departs() -> None:
    store = home_store((HomeBattery(5, 3_000, 30_000),), sunny_home())
    assert store is not None
    departure = np.zeros(96, dtype=np.int64)
    departure[26:28], departure[44:48] = -3_000, 1_500
    values = store.values_of(departure)
    assert (values[:26] == NOT_CALLED).all()
    assert (values[48:] == NOT_CALLED).all()
    assert values[26:28].tolist() == [0, 0], "held back"
    assert values[30:34].tolist() == [1_000] * 4, "as it would do by itself"
    assert (values[44:48] == 500).all()
    assert store.departure_of(values)[44:48].tolist() == [1_500] * 4
    assert not store.departure_of(np.full(96, NOT_CALLED)).any()


def test_a_capped_car_catches_up_after_the_cap() -> None:
    flexibility = Flexibility(charge_points=(ChargePoint(3, 11_000),), use=(0.5,) * 24)
    caps = np.full(96, NO_CAP_W)
    caps[32:36] = 1_400
    change = charging_change(flexibility, caps, 96_000)
    assert (change[32:36] < 0).all()
    assert change[32:36].sum() == pytest.approx(-4 * 0.5 * 9_600)
    assert (change[36:48] > 0).all()
    assert change.sum() == pytest.approx(0.0, abs=1e-6)
    assert not charging_change(flexibility, np.full(96, NO_CAP_W), 96_000).any()


def test_a_cap_until_midnight_is_not_caught_up_that_day() -> None:
    flexibility = Flexibility(charge_points=(ChargePoint(3, 11_000),), use=(0.5,) * 24)
    caps = np.full(96, NO_CAP_W)
    caps[92:] = 1_400
    assert charging_change(flexibility, caps, 96_000).sum() < 0


def test_nobody_answers_with_an_elasticity_of_zero() -> None:
    drawn = np.array([1000.0, 0.0, -500.0])
    assert not price_response(drawn, 260, 160, 0.0).any()
    cheaper = price_response(drawn, 260, 160, -0.126)
    assert cheaper[0] == pytest.approx(1000 * ((160 / 260) ** -0.126 - 1))
    assert cheaper[0] > 0 == cheaper[1] == cheaper[2]
    with pytest.raises(BadUse):
        price_response(drawn, 0, 160, -0.1)


@pytest.mark.parametrize(
    "broken",
    [
        {"use": (0.1,) * 23},
        {"use": (1.5,) * 24},
        {"charge_points": (ChargePoint(1, 0),)},
        {"home_batteries": (HomeBattery(1, 100, 0),)},
    ],
)
def test_impossible_devices_are_refused(broken: dict[str, object]) -> None:
    with pytest.raises(BadUse):
        Flexibility(**broken)  # type: ignore[arg-type]
