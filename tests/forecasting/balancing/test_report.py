# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest

from dao.errors import BadUse
from dao.parameters import COMMUNITY_BATTERY
from forecasting.balancing import (
    DEMO_BATTERY,
    HOME_BATTERIES,
    Courses,
    Scenario,
    follow,
    plan,
    plan_day,
    schedule_of,
    standard_shares,
)
from forecasting.balancing.operator import spread_as_measured
from forecasting.balancing.proposal import proposal_of
from forecasting.balancing.report import Done, operator_effect, public_effect
from forecasting.zone import ZoneTotals
from tests.forecasting.balancing.conftest import DAY, Eve
from tests.forecasting.conftest import DemoZone


def battery_done(power: np.ndarray) -> Done:
    return Done(
        COMMUNITY_BATTERY, power, DEMO_BATTERY.buses, (0.5, 0.5), DEMO_BATTERY.reactive_per_active
    )


def totals_of(zone: DemoZone, day: int = DAY) -> ZoneTotals:
    part = slice(day - zone.first_slot, day - zone.first_slot + 96)
    return ZoneTotals(day, zone.net_wh[part], zone.export_wh[part].sum(1, dtype=np.int64))


def test_what_was_promised_is_held_against_what_came(eve: Eve, demo_zone: DemoZone) -> None:
    found = plan_day(eve.forecast, demo_zone.grid, eve.shares, DEMO_BATTERY, history=eve.history)
    promise = proposal_of(found, zone=1, evidence=bytes(32), homes=118).document()
    power, _ = follow(DEMO_BATTERY, schedule_of(found.windows(COMMUNITY_BATTERY), DAY, 96))
    operator = operator_effect(
        demo_zone.grid,
        demo_zone.power_w(DAY, 96),
        demo_zone.buses,
        DAY,
        [battery_done(power)],
        promise=promise,
    )
    public = public_effect(
        demo_zone.grid, eve.shares, totals_of(demo_zone), [battery_done(power)], promise=promise
    )
    direct = demo_zone.grid.states(
        demo_zone.power_w(DAY, 96), demo_zone.buses, battery_w=power, battery=DEMO_BATTERY
    )
    assert operator.over_with == direct.slots_over_limit
    assert operator.over_without > 20
    assert operator.over_with < operator.over_without / 4
    assert operator.made_worse == 0
    assert abs(public.over_without - operator.over_without) <= 4
    assert public.view == "public" != operator.view
    assert public.kept is not None
    assert public.promised is not None
    assert public.promised["if_nothing_is_done"]["mean"] == pytest.approx(
        found.before.expected, abs=0.01
    )
    assert public.energy[COMMUNITY_BATTERY][0] == power[power > 0].sum() // 4


def test_without_any_action_both_days_are_the_same(demo_zone: DemoZone) -> None:
    found = operator_effect(demo_zone.grid, demo_zone.power_w(DAY, 96), demo_zone.buses, DAY, [])
    assert found.over_with == found.over_without
    assert found.promised is None
    assert found.kept is None


def test_a_called_battery_is_taken_out_of_the_readings_that_contain_it(
    demo_zone: DemoZone,
) -> None:
    before = demo_zone.power_w(DAY, 96).copy()
    power = np.zeros(96, dtype=np.int64)
    power[36:52] = 20_000
    at = demo_zone.buses.index(83)
    read = before.copy()
    read[:, at] += power
    found = operator_effect(
        demo_zone.grid,
        read,
        demo_zone.buses,
        DAY,
        [Done(HOME_BATTERIES, power, (83,), (1.0,), inside=True)],
    )
    rest = operator_effect(demo_zone.grid, before, demo_zone.buses, DAY, [])
    assert found.over_without == pytest.approx(rest.over_with, abs=1)
    assert found.over_with < found.over_without


def test_a_promise_of_another_day_is_refused(eve: Eve, demo_zone: DemoZone) -> None:
    calm = plan([Scenario("calm", 1.0, np.zeros((96, 1)))], [83], DAY, demo_zone.grid, None)
    promise = proposal_of(calm, zone=1, evidence=bytes(32), homes=118).document()
    with pytest.raises(BadUse, match="not about the day"):
        public_effect(
            demo_zone.grid, eve.shares, totals_of(demo_zone, DAY + 96), [], promise=promise
        )
    with pytest.raises(BadUse, match="each slot"):
        public_effect(
            demo_zone.grid,
            eve.shares,
            totals_of(demo_zone),
            [battery_done(np.zeros(95, dtype=np.int64))],
        )


def test_the_operators_view_gives_each_home_its_own_hours(demo_zone: DemoZone) -> None:
    part = slice(DAY - demo_zone.first_slot - 7 * 96, DAY - demo_zone.first_slot)
    taken = demo_zone.import_wh[part].astype(np.int64)
    given = demo_zone.export_wh[part].astype(np.int64)
    day = slice(DAY - demo_zone.first_slot, DAY - demo_zone.first_slot + 96)
    export = demo_zone.export_wh[day].sum(1, dtype=np.float64)
    imported = demo_zone.import_wh[day].sum(1, dtype=np.float64)
    courses = Courses(np.ones(1), imported[None], export[None], "measured")
    spread = spread_as_measured(courses, taken, given)[0].net_w
    assert spread.sum(axis=1) == pytest.approx(4 * (imported - export))
    real = demo_zone.power_w(DAY, 96)
    shares = standard_shares(demo_zone.homes)
    standard = shares.spread(imported, export)
    buses = [int(bus) for bus in shares.buses]
    columns = [buses.index(bus) for bus in demo_zone.buses]
    assert np.abs(spread - real).mean() < np.abs(standard[:, columns] - real).mean()


def test_readings_that_are_no_whole_days_are_refused() -> None:
    courses = Courses(np.ones(1), np.ones((1, 96)), np.zeros((1, 96)), "measured")
    for taken in (np.ones((95, 2), np.int64), np.zeros((96, 2), np.int64)):
        with pytest.raises(BadUse):
            spread_as_measured(courses, taken, np.zeros_like(taken))
    with pytest.raises(BadUse, match="below zero"):
        spread_as_measured(courses, -np.ones((96, 2), np.int64), np.zeros((96, 2), np.int64))
