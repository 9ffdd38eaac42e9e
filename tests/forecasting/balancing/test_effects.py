# SPDX-License-Identifier: Apache-2.0
"""What a proposal's windows do, asked through the real timelock on a fork of a real node."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from benchmarks.street import DAY_SLOT, ZONE, Street, street
from dao.governance import battery_call
from dao.governance.simulate import simulate, verify
from dao.parameters import HOUR
from forecasting.balancing import (
    DEMO_BATTERY,
    KeyBounds,
    PriceRules,
    Scenario,
    plan,
    standard_shares,
)
from forecasting.balancing.effects import Setting, effects_of
from tests.forecasting.balancing.conftest import DAY
from tests.forecasting.conftest import DemoZone


@pytest.fixture(scope="module")
def on() -> Iterator[Street]:
    with street(days_before=1) as made:
        made.at(-20 * HOUR)
        yield made


@pytest.fixture(scope="module")
def setting(demo_zone: DemoZone) -> Setting:
    shares = standard_shares(demo_zone.homes)
    part = slice(DAY - demo_zone.first_slot, DAY - demo_zone.first_slot + 96)
    net = shares.spread(demo_zone.import_wh[part].sum(1), demo_zone.export_wh[part].sum(1))
    bounds = KeyBounds(110, 0, 500, 50)
    return Setting(
        zone=ZONE,
        first_slot=DAY_SLOT,
        grid=demo_zone.grid,
        scenarios=[Scenario("sunny", 1.0, net)],
        buses=shares.buses,
        homes=118,
        battery=DEMO_BATTERY,
        prices=PriceRules(
            bounds, KeyBounds(0, 0, 100, 50), KeyBounds(1_000, 150, 5_000, 500), 150, shares
        ),
    )


def test_a_battery_schedule_shows_what_it_does_to_grid_and_bill(
    on: Street, setting: Setting
) -> None:
    found = plan(setting.scenarios, setting.buses, DAY_SLOT, setting.grid, DEMO_BATTERY)
    windows = [(w.first_slot, w.slots, w.value) for w in found.windows(1_000)]
    call = battery_call(on.deployment["GridParameters"], ZONE, windows)
    effects = effects_of(setting)
    record = simulate(on.deployment, [call], effects=effects)
    assert record["outcome"] == "executed"
    grid, bill = record["effects"]["grid"], record["effects"]["bill"]
    assert grid["before"]["quarter_hours"]["mean"] == found.before.expected
    assert grid["after"]["quarter_hours"]["mean"] == found.after.expected
    assert grid["after"]["quarter_hours"]["mean"] < grid["before"]["quarter_hours"]["mean"]
    assert bill["before"]["cost"] == 0
    assert bill["after"]["cost"] > 0
    assert verify(record, on.deployment, effects).difference is None


def test_a_cheaper_grid_fee_changes_the_bill_and_the_grid_only_if_people_answer(
    on: Street, setting: Setting
) -> None:
    parameters = on.deployment["GridParameters"]
    from dao.governance import Call

    call = Call(
        parameters.address, parameters.encode("open_window", ZONE, 7, DAY_SLOT + 40, 16, 60)
    )
    record = simulate(on.deployment, [call], effects=effects_of(setting))
    grid, bill = record["effects"]["grid"], record["effects"]["bill"]
    assert grid["after"] == grid["before"]
    assert grid["after_if_people_answer"]["elasticity"] == -0.126
    answered, silent = (
        grid[name]["limits"]["voltage_max"]["worst"]["q90"]
        for name in ("after_if_people_answer", "after")
    )
    assert answered <= silent
    assert {line["paid_by"] for line in bill["after"]["lines"]} == {"buyers", "treasury"}
    assert bill["after"]["cost"] == 0, "what buyers save the treasury misses"
    assert bill["after"]["each_home"] < 0
    assert np.isclose(bill["before"]["each_home"], 0)


def test_windows_of_another_day_change_nothing(on: Street, setting: Setting) -> None:
    call = battery_call(on.deployment["GridParameters"], ZONE, [(DAY_SLOT + 96 + 40, 8, 20_000)])
    record = simulate(on.deployment, [call], effects=effects_of(setting))
    assert record["effects"]["grid"]["after"] == record["effects"]["grid"]["before"]
