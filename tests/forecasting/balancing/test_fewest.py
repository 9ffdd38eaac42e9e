# SPDX-License-Identifier: Apache-2.0
"""A slot used is a cost: the choice of slots alone, and in a day's plan."""

from __future__ import annotations

import numpy as np
import pytest

from dao.parameters import COMMUNITY_BATTERY
from forecasting.balancing import DEMO_BATTERY, Plan, Scenario, plan, plan_day
from forecasting.balancing.fewest import Blocks, Choices, in_fewest_slots
from forecasting.balancing.plan import EXEMPT_SLOTS
from forecasting.grid import FloatArray
from tests.forecasting.balancing.conftest import DAY, Eve
from tests.forecasting.conftest import DemoZone

# Twelve blocks of one slot: two that take in, a tenth of the battery each, and ten that give.
FILLING = np.array([-0.1] * 4 + [0.1] * 2 + [-0.1] * 6)
NOTHING_BROKEN = Choices(np.zeros(0, dtype=np.int64), np.zeros(0), np.zeros(0))


def day(upper: FloatArray, stored: float = 0.5) -> Blocks:
    """A day in which giving earns as it does for the community battery, and taking in costs."""
    cost = np.where(FILLING > 0.0, 0.3 * FILLING, 0.2 * FILLING)
    return Blocks(FILLING, cost, upper, np.full(12, -stored), np.full(12, 1.0 - stored))


def chosen(blocks: Blocks, most_slots: int, need: float = 0.0) -> FloatArray:
    return in_fewest_slots(
        np.zeros(12), NOTHING_BROKEN, blocks, np.ones(12), most_slots, need=need, called=False
    )


def test_energy_goes_in_few_slots_at_full_power_not_in_many_at_little() -> None:
    power = chosen(day(np.ones(12), stored=0.3), 12)
    assert power[power > 0.0] == pytest.approx([1.0, 1.0, 1.0])


def test_a_slot_that_hardly_moves_anything_is_left_out() -> None:
    upper = np.where(np.arange(12) % 2 == 0, 1.0, 0.05)
    power = chosen(day(upper, stored=1.0), 12)
    assert (power > 0.0).tolist() == [True, False, True, False, False, False] + [True, False] * 3


def test_no_more_slots_are_used_than_are_exempt_only_to_give_energy_back() -> None:
    assert (chosen(day(np.ones(12), stored=1.0), 4) > 0.0).sum() == 4


def test_room_that_tomorrow_needs_is_worth_more_slots_than_are_exempt() -> None:
    power = chosen(day(np.ones(12), stored=1.0), 4, need=0.8)
    assert -FILLING @ power == pytest.approx(0.8)


def test_what_mends_is_taken_in_at_the_least_power_that_mends_the_same() -> None:
    choices = Choices(np.array([4, 4, 4]), np.array([0.0, 0.6, 0.8]), np.array([2.0, 1.0, 0.0]))
    found = np.where(np.arange(12) == 4, 1.0, 0.0)
    power = in_fewest_slots(
        found, choices, day(np.ones(12)), np.ones(12), 12, need=0.0, called=False
    )
    assert power[4] == pytest.approx(0.8)


def test_a_quarter_hour_mended_is_worth_a_slot_over_the_exempt_ones() -> None:
    choices = Choices(np.array([4, 4]), np.array([0.0, 1.0]), np.array([1.0, 0.0]))
    found = np.where(np.arange(12) == 4, 1.0, 0.0)
    power = in_fewest_slots(
        found, choices, day(np.ones(12)), np.ones(12), 0, need=0.0, called=False
    )
    assert np.flatnonzero(power).tolist() == [4]


def test_slots_of_people_s_batteries_are_one_run() -> None:
    """Between the first slot that they are told and the last, every slot is told."""
    upper = np.where(np.isin(np.arange(12), [0, 11]), 1.0, 0.2)
    power = in_fewest_slots(
        np.zeros(12), NOTHING_BROKEN, day(upper, stored=0.2), np.ones(12), 12, need=0.0, called=True
    )
    told = np.flatnonzero(power)
    assert told.size == 1 or (np.diff(told) == 1).all()
    assert -FILLING @ power > 0.0


def test_tomorrow_is_left_no_more_room_than_is_worth_it() -> None:
    choices = Choices(np.array([4, 4, 4]), np.array([0.0, 0.5, 1.0]), np.array([1.2, 0.1, 0.0]))
    found = np.where(np.arange(12) == 4, 1.0, 0.0)
    assert choices.worth_taking(found, day(np.ones(12))) == pytest.approx(0.05)


def slots_of(found: Plan) -> int:
    action = found.action(COMMUNITY_BATTERY)
    assert action is not None
    return action.slots


def test_a_sunny_day_is_mended_within_the_slots_exempt_from_the_score(
    eve: Eve, demo_zone: DemoZone
) -> None:
    def planned(most_slots: int) -> Plan:
        return plan_day(
            eve.forecast,
            demo_zone.grid,
            eve.shares,
            DEMO_BATTERY,
            history=eve.history,
            stored_wh=60_000,
            most_slots=most_slots,
        )

    exempt, free = planned(EXEMPT_SLOTS), planned(96)
    assert slots_of(exempt) <= EXEMPT_SLOTS < slots_of(free)
    assert exempt.after.expected <= free.after.expected + 0.5


def test_fewer_slots_than_mend_the_day_mend_it_all_the_same(demo_zone: DemoZone) -> None:
    scenarios = [Scenario("measured", 1.0, demo_zone.power_w(DAY, 96))]
    found = plan(scenarios, demo_zone.buses, DAY, demo_zone.grid, DEMO_BATTERY, most_slots=8)
    assert found.after.expected == 0.0
    power = found.power_w[COMMUNITY_BATTERY]
    assert (power > 0).sum() > 8
    assert (power < 0).sum() == 0
