# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from datetime import date

import numpy as np
import pytest

from dao.errors import BadUse
from dao.parameters import COMMUNITY_BATTERY
from dao.slots import day_of, first_slot_of_day
from forecasting.balancing import (
    CHARGE_POINTS,
    DEMO_BATTERY,
    HOME_BATTERIES,
    MAX_WINDOWS,
    ChargePoint,
    Flexibility,
    HomeBattery,
    KeyBounds,
    PriceRules,
    Scenario,
    follow,
    plan,
    plan_day,
    schedule_of,
    standard_shares,
)
from forecasting.grid import BatterySpec, GridLimits
from forecasting.zone import forecast_zone_day
from tests.forecasting.balancing.conftest import DAY, Eve
from tests.forecasting.conftest import DemoZone
from tests.forecasting.test_zone import totals_before


def measured(zone: DemoZone, day: int = DAY) -> list[Scenario]:
    return [Scenario("measured", 1.0, zone.power_w(day, 96))]


def evening_peak() -> list[Scenario]:
    """A home at the end of a feeder, with a peak from 18 to 19 h."""
    net = np.full((96, 1), 20_000.0)
    net[72:76] = 70_000.0
    return [Scenario("cold", 1.0, net)]


TIGHT = GridLimits(loading_max=35.0)  # of the line that feeds this end


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


def test_a_forecast_of_sunny_days_leads_to_schedules_that_mend_the_measured_ones(
    demo_zone: DemoZone,
) -> None:
    shares = standard_shares(demo_zone.homes)
    before = after = held = 0
    for number in range(8, 12):
        day = first_slot_of_day(date(2016, 6, number))
        history = totals_before(demo_zone, day)
        found = plan_day(
            forecast_zone_day(history, day),
            demo_zone.grid,
            shares,
            DEMO_BATTERY,
            history=history,
            stored_wh=held,
        )
        wanted = schedule_of(found.windows(COMMUNITY_BATTERY), day, 96)
        done, level = follow(DEMO_BATTERY, wanted, held)
        held = int(level[-1])
        net = demo_zone.power_w(day, 96)
        rest = demo_zone.grid.states(net, demo_zone.buses)
        acted = demo_zone.grid.states(net, demo_zone.buses, battery_w=done, battery=DEMO_BATTERY)
        before += rest.slots_over_limit
        after += acted.slots_over_limit
        assert found.after.expected < found.before.expected
        assert acted.slots_over_limit <= rest.slots_over_limit
    assert before > 80
    assert after < before / 5


def test_a_schedule_stays_inside_its_bounds(demo_zone: DemoZone) -> None:
    found = plan(measured(demo_zone), demo_zone.buses, DAY, demo_zone.grid, DEMO_BATTERY)
    windows = found.windows(COMMUNITY_BATTERY)
    assert 0 < len(windows) <= MAX_WINDOWS
    end = DAY
    for window in windows:
        assert isinstance(window.value, int)
        assert 0 < abs(window.value) <= DEMO_BATTERY.max_power_w
        assert window.first_slot >= end
        end = window.first_slot + window.slots
        assert day_of(end - 1) == day_of(DAY)
    done, level = follow(DEMO_BATTERY, schedule_of(windows, DAY, 96))
    assert level.max() <= DEMO_BATTERY.capacity_wh
    assert level.max() > 0
    assert (done < 0).any(), "energy is given back the same day"
    assert np.flatnonzero(done < 0).max() > np.flatnonzero(done > 0).max()


def test_with_battery_enough_no_slot_stays_over_the_limit(demo_zone: DemoZone) -> None:
    found = plan(measured(demo_zone), demo_zone.buses, DAY, demo_zone.grid, DEMO_BATTERY)
    assert found.before.expected > 20
    assert found.before.probability == 1.0
    assert found.after.expected == 0
    assert found.after.probability == 0.0
    assert found.after.limits["voltage_max"].worst[2] <= 1.055


def test_a_small_battery_mends_some_slots_and_never_breaks_others(demo_zone: DemoZone) -> None:
    small = BatterySpec(buses=(83, 121), capacity_wh=20_000, max_power_w=10_000)
    found = plan(measured(demo_zone), demo_zone.buses, DAY, demo_zone.grid, small)
    assert 0 < found.after.expected < found.before.expected
    before, after = found.flows
    assert not (after.over_limit & ~before.over_limit).any()


def test_smaller_trouble_needs_less_energy(demo_zone: DemoZone) -> None:
    net = demo_zone.power_w(DAY, 96)
    charged = []
    for scaled in (net, np.where(net < 0, 0.85 * net, net)):
        found = plan(
            [Scenario("given", 1.0, scaled)], demo_zone.buses, DAY, demo_zone.grid, DEMO_BATTERY
        )
        assert found.before.expected > 0
        assert found.after.expected == 0
        power = found.power_w[COMMUNITY_BATTERY]
        charged.append(int(power[power > 0].sum()))
    assert charged[1] < charged[0]


def test_a_day_within_its_limits_gets_no_action(demo_zone: DemoZone) -> None:
    scenario = Scenario("calm", 1.0, np.zeros((96, len(demo_zone.homes))))
    found = plan([scenario], demo_zone.buses, DAY, demo_zone.grid, DEMO_BATTERY)
    assert found.actions == ()
    assert found.before.expected == found.after.expected == 0


def test_too_much_load_in_the_evening_is_met_with_energy_stored_before(
    demo_zone: DemoZone,
) -> None:
    battery = BatterySpec(buses=(83,), capacity_wh=100_000, max_power_w=60_000)
    found = plan(evening_peak(), np.array([83]), DAY, demo_zone.grid, battery, limits=TIGHT)
    assert found.before.expected == 4
    assert found.after.expected == 0
    power = schedule_of(found.windows(COMMUNITY_BATTERY), DAY, 96)
    assert (power[72:76] < 0).all()
    assert (power[:72] > 0).any()


def test_called_home_batteries_mend_where_there_is_no_community_battery(
    demo_zone: DemoZone,
) -> None:
    """Roofs overload the transformer, as in SimBench's rural1: here with a smaller one."""
    homes = Flexibility(tuple(HomeBattery(bus, 10_000, 20_000) for bus in (83, 121, 40, 67)))
    limits = GridLimits(voltage_max=1.10, loading_max=24.0)
    found = plan(
        measured(demo_zone),
        demo_zone.buses,
        DAY,
        demo_zone.grid,
        None,
        flexibility=homes,
        limits=limits,
    )
    assert found.before.worst_limit == "transformer"
    assert [action.key for action in found.actions] == [HOME_BATTERIES]
    assert found.after.expected < found.before.expected / 2
    power = found.power_w[HOME_BATTERIES]
    first_charge = int(np.flatnonzero(power > 0)[0])
    assert (power[:first_charge] <= 0).all()
    taken, given = power[power > 0].sum(), -power[power < 0].sum()
    assert taken * 0.903 == pytest.approx(given, rel=0.01), "what was taken out goes back"
    assert all(-1000 <= w.value <= 1000 for w in found.windows(HOME_BATTERIES))


def test_nobody_is_called_where_the_community_battery_suffices(demo_zone: DemoZone) -> None:
    homes = Flexibility(tuple(HomeBattery(83, 10_000, 20_000) for _ in range(8)))
    found = plan(
        measured(demo_zone), demo_zone.buses, DAY, demo_zone.grid, DEMO_BATTERY, flexibility=homes
    )
    assert [action.key for action in found.actions] == [COMMUNITY_BATTERY]


def test_home_batteries_that_cannot_reach_the_fault_are_left_alone(demo_zone: DemoZone) -> None:
    """At the transformer's busbar a small battery moves the feeder's end by next to nothing."""
    low = int(demo_zone.grid.low_bus)
    far = Flexibility((HomeBattery(low, 2_000, 4_000),))
    found = plan(measured(demo_zone), demo_zone.buses, DAY, demo_zone.grid, None, flexibility=far)
    assert found.actions == ()


def test_charge_points_are_capped_in_the_hour_that_breaks_and_catch_up(
    demo_zone: DemoZone,
) -> None:
    points = Flexibility(
        charge_points=tuple(ChargePoint(83, 11_000) for _ in range(10)), use=(0.5,) * 24
    )
    # Half of it is charging; what is missed comes back within what the line can carry.
    found = plan(
        evening_peak(),
        np.array([83]),
        DAY,
        demo_zone.grid,
        None,
        flexibility=points,
        limits=TIGHT,
    )
    assert [action.key for action in found.actions] == [CHARGE_POINTS]
    caps = schedule_of(found.windows(CHARGE_POINTS), DAY, 96)
    assert (caps[72:76] > 0).all()
    assert found.before.expected == 4
    assert found.after.expected == 0


def rules(shares: object, elasticity: float) -> PriceRules:
    return PriceRules(
        fee=KeyBounds(110, 0, 500, 50),
        band_min=KeyBounds(0, 0, 100, 50),
        band_max=KeyBounds(1_000, 150, 5_000, 500),
        market_price=150,
        shares=shares,  # type: ignore[arg-type]
        elasticity=elasticity,
    )


def test_a_price_window_comes_on_top_and_changes_none_of_the_figures_voted_on(
    demo_zone: DemoZone,
) -> None:
    shares = standard_shares(demo_zone.homes)
    export = demo_zone.export_wh[DAY - demo_zone.first_slot :][:96].sum(1)
    taken = demo_zone.import_wh[DAY - demo_zone.first_slot :][:96].sum(1)
    scenario = [Scenario("shares", 1.0, shares.spread(taken, export))]
    # Ten times what people really answer, so that there is something to see.
    found = plan(
        scenario, shares.buses, DAY, demo_zone.grid, None, prices=rules(shares, -10 * 0.126)
    )
    without = plan(scenario, shares.buses, DAY, demo_zone.grid, None)
    assert [(a.key, a.windows[0].value) for a in found.actions] == [(7, 60)]
    assert found.after.expected == without.after.expected == found.before.expected
    assert found.with_prices is not None
    assert found.with_prices.expected < found.after.expected
    silent = plan(scenario, shares.buses, DAY, demo_zone.grid, None, prices=rules(shares, 0.0))
    assert silent.actions == ()


def test_the_same_day_gives_the_same_plan(eve: Eve, demo_zone: DemoZone) -> None:
    first, second = (
        plan_day(eve.forecast, demo_zone.grid, eve.shares, DEMO_BATTERY, history=eve.history)
        for _ in range(2)
    )
    assert first.actions == second.actions
    assert first.before.as_dict() == second.before.as_dict()
    assert first.after.as_dict() == second.after.as_dict()


def test_a_plan_does_not_cross_midnight(demo_zone: DemoZone) -> None:
    with pytest.raises(BadUse, match="one UTC day"):
        plan(
            [Scenario("given", 1.0, np.zeros((96, 1)))],
            np.array([83]),
            DAY + 1,
            demo_zone.grid,
            DEMO_BATTERY,
        )


def test_a_device_at_an_unknown_bus_is_refused(demo_zone: DemoZone) -> None:
    with pytest.raises(BadUse, match="no low-voltage bus 9999"):
        plan(
            measured(demo_zone),
            demo_zone.buses,
            DAY,
            demo_zone.grid,
            BatterySpec((9999,), 1000, 1000),
        )
