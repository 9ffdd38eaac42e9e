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
    charging_change,
    community_store,
    fewer_windows,
    home_store,
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
        community_store(BatterySpec((1,), 1000, 500), 1001)


def test_only_half_of_a_home_battery_is_called_and_in_step_with_its_rating() -> None:
    store = home_store(Flexibility((HomeBattery(5, 3_000, 6_000), HomeBattery(9, 1_000, 2_000))))
    assert store is not None
    assert store.capacity_wh == store.stored_wh == 4_000
    assert store.parts == (0.75, 0.25)
    assert store.power_of([500, -1000]).tolist() == [2_000, -4_000]
    assert home_store(Flexibility()) is None


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
