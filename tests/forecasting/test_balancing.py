# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from datetime import date

import numpy as np
import pytest

from dao.errors import BadUse
from dao.slots import day_of, first_slot_of_day
from forecasting.balancing import (
    DEMO_BATTERY,
    MAX_WINDOWS,
    BatteryWindow,
    Scenario,
    assess,
    follow,
    plan,
    plan_day,
    schedule_of,
    standard_shares,
)
from forecasting.grid import BatterySpec, GridLimits
from forecasting.zone import forecast_zone_day
from tests.forecasting.conftest import DemoZone
from tests.forecasting.test_zone import totals_before

DAY = first_slot_of_day(date(2016, 6, 8))


def measured(zone: DemoZone, day: int) -> list[Scenario]:
    return [Scenario("measured", 1.0, zone.power_w(day, 96))]


def test_public_shares_lead_to_nearly_the_voltages_of_the_readings(demo_zone: DemoZone) -> None:
    shares = standard_shares(demo_zone.homes)
    assert shares.import_share.sum() == pytest.approx(1.0)
    assert shares.export_share.sum() == pytest.approx(1.0)
    export = demo_zone.export_wh.sum(1, dtype=np.int64)
    spread = shares.spread(demo_zone.net_wh + export, export)
    public = demo_zone.grid.states(spread, shares.buses)
    actual = demo_zone.grid.states(
        demo_zone.power_w(demo_zone.first_slot, export.size), demo_zone.buses
    )
    assert (public.over_limit == actual.over_limit).mean() > 0.95
    assert abs((public.voltage_max - actual.voltage_max)[actual.over_limit].mean()) < 1e-3


def test_a_forecast_of_a_sunny_week_leads_to_schedules_that_mend_the_measured_days(
    demo_zone: DemoZone,
) -> None:
    shares = standard_shares(demo_zone.homes)
    before = after = held = 0
    for number in range(6, 13):
        day = first_slot_of_day(date(2016, 6, number))
        made = forecast_zone_day(totals_before(demo_zone, day), day)
        found = plan_day(made, demo_zone.grid, shares, DEMO_BATTERY, stored_wh=held)
        real = assess(
            demo_zone.grid,
            demo_zone.power_w(day, 96),
            demo_zone.buses,
            DEMO_BATTERY,
            found.windows,
            day,
            stored_wh=held,
        )
        _, level = follow(DEMO_BATTERY, schedule_of(found.windows, day, 96), held)
        held = int(level[-1])
        before += real.slots_over_before
        after += real.slots_over_after
        assert found.assessment.slots_over_after < found.assessment.slots_over_before
        assert real.slots_over_after <= real.slots_over_before
    assert before > 100
    assert after < before / 3


def test_a_schedule_stays_inside_its_bounds(demo_zone: DemoZone) -> None:
    found = plan(measured(demo_zone, DAY), demo_zone.buses, DAY, demo_zone.grid, DEMO_BATTERY)
    assert 0 < len(found.windows) <= MAX_WINDOWS
    end = DAY
    for window in found.windows:
        assert isinstance(window.power_w, int)
        assert 0 < abs(window.power_w) <= DEMO_BATTERY.max_power_w
        assert window.first_slot >= end
        end = window.first_slot + window.slots
        assert day_of(end - 1) == day_of(DAY)
    power = schedule_of(found.windows, DAY, 96)
    done, level = follow(DEMO_BATTERY, power)
    assert (done == power).all(), "the battery can do what is asked of it"
    assert level.max() <= DEMO_BATTERY.capacity_wh
    assert level.max() > 0
    assert (done < 0).any(), "energy is given back the same day"
    charging = np.flatnonzero(done > 0)
    assert np.flatnonzero(done < 0).min() > charging.max()


def test_with_battery_enough_no_slot_stays_over_the_limit(demo_zone: DemoZone) -> None:
    found = plan(measured(demo_zone, DAY), demo_zone.buses, DAY, demo_zone.grid, DEMO_BATTERY)
    assert found.assessment.slots_over_before > 20
    assert found.assessment.slots_over_after == 0
    assert found.assessment.voltage_max_after <= 1.055
    assert "quarter-hours" in found.assessment.summary
    assert "bus 83" in found.assessment.summary


def test_a_small_battery_mends_some_slots_and_never_breaks_others(demo_zone: DemoZone) -> None:
    small = BatterySpec(buses=(83, 121), capacity_wh=20_000, max_power_w=10_000)
    scenarios = measured(demo_zone, DAY)
    found = plan(scenarios, demo_zone.buses, DAY, demo_zone.grid, small)
    assert 0 < found.assessment.slots_over_after < found.assessment.slots_over_before
    done, _ = follow(small, schedule_of(found.windows, DAY, 96))
    without = demo_zone.grid.states(scenarios[0].net_w, demo_zone.buses)
    result = demo_zone.grid.states(
        scenarios[0].net_w, demo_zone.buses, battery_w=done, battery=small
    )
    assert not (result.over_limit & ~without.over_limit).any()


def test_smaller_trouble_needs_less_energy(demo_zone: DemoZone) -> None:
    net = demo_zone.power_w(DAY, 96)
    found = [
        plan([Scenario("given", 1.0, scaled)], demo_zone.buses, DAY, demo_zone.grid, DEMO_BATTERY)
        for scaled in (net, np.where(net < 0, 0.85 * net, net))
    ]
    assert found[1].assessment.slots_over_before > 0
    assert found[1].assessment.slots_over_after == 0
    assert found[1].assessment.charged_wh < found[0].assessment.charged_wh


def test_a_day_within_its_limits_gets_no_schedule(demo_zone: DemoZone) -> None:
    scenario = Scenario("calm", 1.0, np.zeros((96, len(demo_zone.homes))))
    found = plan([scenario], demo_zone.buses, DAY, demo_zone.grid, DEMO_BATTERY)
    assert found.windows == ()
    assert "nothing needs to be done" in found.assessment.summary


def test_too_much_load_in_the_evening_is_met_with_energy_stored_before(
    demo_zone: DemoZone,
) -> None:
    net = np.full((96, 1), 20_000.0)
    net[72:76] = 70_000.0
    battery = BatterySpec(buses=(83,), capacity_wh=100_000, max_power_w=60_000)
    limits = GridLimits(loading_max=35.0)  # of the line that feeds this end
    before = demo_zone.grid.states(net, [83], limits=limits)
    assert before.over_limit[72:76].all()
    assert before.slots_over_limit == 4
    found = plan(
        [Scenario("cold", 1.0, net)],
        np.array([83]),
        DAY,
        demo_zone.grid,
        battery,
        limits=limits,
    )
    assert found.assessment.slots_over_after == 0
    power = schedule_of(found.windows, DAY, 96)
    assert (power[72:76] < 0).all()
    assert (power[:72] > 0).any()


def test_the_same_day_gives_the_same_schedule(demo_zone: DemoZone) -> None:
    scenarios = measured(demo_zone, DAY)
    first, second = (
        plan(scenarios, demo_zone.buses, DAY, demo_zone.grid, DEMO_BATTERY) for _ in range(2)
    )
    assert first == second


def test_a_battery_never_gives_more_than_it_holds_nor_takes_more_than_fits() -> None:
    battery = BatterySpec(buses=(1,), capacity_wh=1000, max_power_w=2000, efficiency_permille=900)
    done, level = follow(battery, [2000] * 4 + [-2000] * 4 + [9000])
    assert level.max() <= 1000
    assert level.min() >= 0
    assert done.max() <= 2000
    taken = done[done > 0][:4].sum() / 4
    given = -done[done < 0].sum() / 4
    assert given <= 0.9 * taken


def test_a_schedule_does_not_cross_midnight(demo_zone: DemoZone) -> None:
    with pytest.raises(BadUse, match="one UTC day"):
        plan(
            [Scenario("given", 1.0, np.zeros((96, 1)))],
            np.array([83]),
            DAY + 1,
            demo_zone.grid,
            DEMO_BATTERY,
        )


def test_windows_become_power_per_slot() -> None:
    windows = [BatteryWindow(12, 2, 500), BatteryWindow(8, 3, -100)]
    assert schedule_of(windows, 10, 5).tolist() == [-100, 0, 500, 500, 0]


@pytest.mark.parametrize("broken", [{"buses": ()}, {"capacity_wh": 0}, {"efficiency_permille": 0}])
def test_an_impossible_battery_is_refused(broken: dict[str, object]) -> None:
    options = {"buses": (1,), "capacity_wh": 10, "max_power_w": 10} | broken
    with pytest.raises(BadUse):
        BatterySpec(**options)  # type: ignore[arg-type]
