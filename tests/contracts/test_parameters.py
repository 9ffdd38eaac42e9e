# SPDX-License-Identifier: Apache-2.0
"""Rules move within their bounds, step by step; windows override them slot by slot."""

from __future__ import annotations

from typing import Any

import boa
import pytest

from tests.contracts.governance_fixtures import (
    DAY,
    RULES,
    START,
    deploy,
    events,
    new_parameters,
    reverts,
    rule,
)

ZONE = 1
BAND_MIN, BAND_MAX, GRID_FEE, QUORUM, BATTERY = 5, 6, 7, 15, 1_000
TODAY = START // 900
TOMORROW = TODAY + 96


@pytest.fixture(scope="module")
def deployed() -> Any:
    boa.env.timestamp = START
    return new_parameters()


@pytest.fixture
def parameters(deployed: Any) -> Any:
    with boa.env.anchor():
        boa.env.timestamp = START + 1_000
        yield deployed


@pytest.fixture
def mallory() -> str:
    return str(boa.env.generate_address("mallory"))


def test_a_defined_rule_has_its_initial_value_for_all_the_past(parameters: Any) -> None:
    assert parameters.value(GRID_FEE) == 50
    assert parameters.value_at(GRID_FEE, 0) == 50
    assert parameters.name_of(GRID_FEE) == "GRID_FEE"
    assert tuple(parameters.bounds_of(GRID_FEE)) == (0, 100, 20, DAY, 0)


def test_a_rule_is_defined_once(parameters: Any) -> None:
    with reverts("parameters: already defined"):
        parameters.define(*rule(GRID_FEE))


def test_a_batch_of_rules_is_defined_as_a_whole(parameters: Any) -> None:
    with reverts("parameters: already defined"):
        parameters.define_batch([(30, "NEW", 1, 0, 2, 1, 0), rule(GRID_FEE)])
    with reverts("parameters: unknown key"):
        parameters.value(30)


def test_an_unknown_rule_has_no_value(parameters: Any) -> None:
    with reverts("parameters: unknown key"):
        parameters.value(42)
    with reverts("parameters: unknown key"):
        parameters.set_value(42, 1)


@pytest.mark.parametrize(
    ("definition", "reason"),
    [
        ((0, "ZERO", 1, 0, 2, 1, 0), "key out of range"),
        ((1_000, "BATTERY", 1, 0, 2, 1, 0), "key out of range"),
        ((30, "LOW", 1, 2, 3, 1, 0), "value out of bounds"),
        ((30, "HIGH", 4, 2, 3, 1, 0), "value out of bounds"),
        ((30, "WIDE", 1, 0, 2**64, 1, 0), "maximum out of range"),
        ((30, "STEP", 1, 0, 2, 2**64, 0), "step out of range"),
        ((30, "COOLDOWN", 1, 0, 2, 1, 2**40), "cooldown out of range"),
    ],
)
def test_a_definition_must_make_sense(parameters: Any, definition: Any, reason: str) -> None:
    with reverts(f"parameters: {reason}"):
        parameters.define(*definition)


def test_no_price_can_reach_the_mark_of_no_trade() -> None:
    with boa.env.anchor():
        parameters = deploy("GridParameters")
        with reverts("parameters: maximum out of range"):
            parameters.define(BAND_MAX, "PRICE_BAND_MAX", 400, 0, 65_535, 100, 0)


def test_a_quorum_is_at_most_everybody() -> None:
    with boa.env.anchor():
        parameters = deploy("GridParameters")
        with reverts("parameters: maximum out of range"):
            parameters.define(QUORUM, "QUORUM", 400, 0, 10_001, 100, 0)


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        ("define", (30, "NEW", 1, 0, 2, 1, 0)),
        ("define_batch", ([],)),
        ("set_value", (GRID_FEE, 51)),
        ("open_window", (ZONE, BATTERY, TOMORROW, 4, 1)),
        ("open_windows", (ZONE, BATTERY, [TOMORROW + (1 << 64)])),
        ("transfer_ownership", ("0x" + "11" * 20,)),
    ],
)
def test_only_the_owner_changes_anything(
    parameters: Any, mallory: str, function: str, arguments: Any
) -> None:
    with boa.env.prank(mallory), reverts("ownable: caller is not the owner"):
        getattr(parameters, function)(*arguments)


def test_a_change_holds_from_now_on(parameters: Any) -> None:
    parameters.set_value(GRID_FEE, 60)
    assert events(parameters, "ValueChanged")
    assert parameters.value(GRID_FEE) == 60
    assert parameters.value_at(GRID_FEE, boa.env.timestamp) == 60
    assert parameters.value_at(GRID_FEE, boa.env.timestamp - 1) == 50


def test_a_value_stays_within_its_bounds(parameters: Any) -> None:
    parameters.set_value(BAND_MIN, 50)
    boa.env.timestamp += DAY
    parameters.set_value(BAND_MIN, 100)
    boa.env.timestamp += DAY
    with reverts("parameters: value out of bounds"):
        parameters.set_value(BAND_MIN, 101)


def test_a_value_stays_above_its_minimum(parameters: Any) -> None:
    with reverts("parameters: value out of bounds"):
        parameters.set_value(BAND_MAX, 149)


def test_the_largest_step_is_allowed_and_no_more(parameters: Any) -> None:
    for too_far in (29, 71):
        with reverts("parameters: step too large"):
            parameters.set_value(GRID_FEE, too_far)
    parameters.set_value(GRID_FEE, 70)


def test_a_rule_cools_down_between_changes(parameters: Any) -> None:
    parameters.set_value(GRID_FEE, 60)
    boa.env.timestamp += DAY - 1
    with reverts("parameters: cooling down"):
        parameters.set_value(GRID_FEE, 61)
    boa.env.timestamp += 1
    parameters.set_value(GRID_FEE, 61)


def test_every_past_value_can_be_read(parameters: Any) -> None:
    # moment -> value, kept plainly
    history = {0: 50}
    for step in range(15):
        boa.env.timestamp += DAY + step
        history[boa.env.timestamp] = value = 60 + step % 2 * 15
        parameters.set_value(GRID_FEE, value)
    boa.env.timestamp += 1
    for moment in history:
        for when in (max(moment - 1, 0), moment, moment + 1):
            expected = history[max(m for m in history if m <= when)]
            assert parameters.value_at(GRID_FEE, when) == expected


def test_two_changes_within_a_second_leave_the_last() -> None:
    with boa.env.anchor():
        parameters = deploy("GridParameters")
        parameters.define(30, "FREE", 1, 0, 9, 9, 0)
        before = boa.env.timestamp - 1
        parameters.set_value(30, 2)
        parameters.set_value(30, 3)
        assert parameters.value_at(30, boa.env.timestamp) == 3
        assert parameters.value_at(30, before) == 1


def test_the_future_is_not_told(parameters: Any) -> None:
    with reverts("parameters: future lookup"):
        parameters.value_at(GRID_FEE, boa.env.timestamp + 1)


def test_a_window_holds_for_its_slots_only(parameters: Any) -> None:
    parameters.open_window(ZONE, GRID_FEE, TOMORROW + 4, 3, 40)
    assert events(parameters, "WindowOpened")
    fees = [parameters.effective(ZONE, GRID_FEE, TOMORROW + slot) for slot in range(3, 8)]
    assert fees == [50, 40, 40, 40, 50]
    assert parameters.effective(2, GRID_FEE, TOMORROW + 4) == 50


def test_a_window_is_known_from_its_opening_on(parameters: Any) -> None:
    parameters.open_window(ZONE, GRID_FEE, TOMORROW, 1, 40)
    now = boa.env.timestamp
    assert parameters.effective_at(ZONE, GRID_FEE, TOMORROW, now) == 40
    assert parameters.effective_at(ZONE, GRID_FEE, TOMORROW, now - 1) == 50


@pytest.mark.parametrize("power", [-50_000, -1, 0, 50_000])
def test_the_battery_takes_power_either_way(parameters: Any, power: int) -> None:
    parameters.open_window(ZONE, BATTERY, TOMORROW + 40, 8, power)
    assert parameters.window_at(ZONE, BATTERY, TOMORROW + 47) == (True, power)
    assert parameters.window_at(ZONE, BATTERY, TOMORROW + 48) == (False, 0)


@pytest.mark.parametrize("power", [-50_001, 50_001, -(2**255), 2**255 - 1])
def test_the_batterys_power_has_a_bound(parameters: Any, power: int) -> None:
    with reverts("parameters: battery power out of range"):
        parameters.open_window(ZONE, BATTERY, TOMORROW, 1, power)


@pytest.mark.parametrize(("value", "reason"), [(29, "step too large"), (71, "step too large")])
def test_a_window_is_bounded_against_the_base_value(
    parameters: Any, value: int, reason: str
) -> None:
    with reverts(f"parameters: {reason}"):
        parameters.open_window(ZONE, GRID_FEE, TOMORROW, 1, value)


@pytest.mark.parametrize("value", [-1, 101])
def test_a_window_stays_within_the_rules_bounds(parameters: Any, value: int) -> None:
    with reverts("parameters: value out of bounds"):
        parameters.open_window(ZONE, GRID_FEE, TOMORROW, 1, value)


@pytest.mark.parametrize("key", [QUORUM, 12, 999])
def test_only_what_varies_by_slot_takes_a_window(parameters: Any, key: int) -> None:
    with reverts("parameters: key takes no window"):
        parameters.open_window(ZONE, key, TOMORROW, 1, 50)


@pytest.mark.parametrize(("start", "slots"), [(8, 1), (15, 9), (0, 9), (0, 96), (11, 2)])
def test_windows_of_a_key_do_not_overlap(parameters: Any, start: int, slots: int) -> None:
    parameters.open_window(ZONE, BATTERY, TOMORROW + 8, 8, 1)
    with reverts("parameters: window overlaps another"):
        parameters.open_window(ZONE, BATTERY, TOMORROW + start, slots, 1)


def test_windows_may_touch(parameters: Any) -> None:
    for start in (8, 0, 16):
        parameters.open_window(ZONE, BATTERY, TOMORROW + start, 8, start)
    found = [parameters.window_at(ZONE, BATTERY, TOMORROW + slot)[1] for slot in (7, 8, 15, 16)]
    assert found == [0, 8, 8, 16]


def test_other_zones_and_keys_have_windows_of_their_own(parameters: Any) -> None:
    for zone, key in ((ZONE, BATTERY), (ZONE, GRID_FEE), (2, BATTERY)):
        parameters.open_window(zone, key, TOMORROW, 4, 45)


def test_a_window_lies_in_the_future(parameters: Any) -> None:
    boa.env.timestamp = TOMORROW * 900
    with reverts("parameters: window has begun"):
        parameters.open_window(ZONE, BATTERY, TOMORROW, 1, 1)


@pytest.mark.parametrize(("start", "slots"), [(95, 2), (0, 97), (3, 0), (5, 2**255)])
def test_a_window_stays_within_its_day(parameters: Any, start: int, slots: int) -> None:
    with reverts("parameters: window leaves its day"):
        parameters.open_window(ZONE, BATTERY, TOMORROW + start, slots, 1)


def test_a_day_has_at_most_sixteen_windows(parameters: Any) -> None:
    for index in range(16):
        parameters.open_window(ZONE, BATTERY, TOMORROW + 2 * index, 1, index)
    with reverts("parameters: too many windows"):
        parameters.open_window(ZONE, BATTERY, TOMORROW + 40, 1, 1)
    assert len(parameters.windows_of(ZONE, BATTERY, TOMORROW)) == 16
    assert parameters.window_at(ZONE, BATTERY, TOMORROW + 30) == (True, 15)


@pytest.mark.parametrize("zone", [0, 2**32])
def test_a_window_belongs_to_a_zone(parameters: Any, zone: int) -> None:
    with reverts("parameters: zone out of range"):
        parameters.open_window(zone, BATTERY, TOMORROW, 1, 1)


def test_exempt_slots_are_those_inside_any_window(parameters: Any) -> None:
    parameters.open_window(ZONE, BATTERY, TOMORROW + 2, 3, 1)
    parameters.open_window(ZONE, GRID_FEE, TOMORROW + 4, 2, 45)
    parameters.open_window(ZONE, GRID_FEE, TOMORROW + 95, 1, 45)
    expected = sum(1 << slot for slot in (2, 3, 4, 5, 95))
    assert parameters.exempt_slots(ZONE, TOMORROW) == expected
    assert parameters.exempt_slots(2, TOMORROW) == 0


def test_market_terms_are_the_effective_values_slot_by_slot(parameters: Any) -> None:
    parameters.open_window(ZONE, GRID_FEE, TOMORROW + 10, 20, 40)
    parameters.open_window(ZONE, GRID_FEE, TOMORROW + 60, 8, 30)
    parameters.open_window(ZONE, BAND_MAX, TOMORROW + 24, 30, 350)
    boa.env.timestamp += 10
    parameters.open_window(ZONE, BAND_MIN, TOMORROW, 96, 20)
    for when in (boa.env.timestamp, boa.env.timestamp - 1, START):
        for first, slots in ((0, 96), (24, 24), (61, 1), (95, 1), (30, 0)):
            expected = []
            for slot in range(TOMORROW + first, TOMORROW + first + slots):
                high, low, fee = (
                    parameters.effective_at(ZONE, key, slot, when)
                    for key in (BAND_MAX, BAND_MIN, GRID_FEE)
                )
                expected.append(high << 32 | low << 16 | fee)
            assert parameters.market_terms(ZONE, TOMORROW + first, slots, when) == expected


def test_market_terms_are_asked_for_within_a_day(parameters: Any) -> None:
    with reverts("parameters: slots leave their day"):
        parameters.market_terms(ZONE, TOMORROW + 90, 7, START)


def test_the_keys_have_names(parameters: Any) -> None:
    for key, (name, *_) in RULES.items():
        assert getattr(parameters, name)() == key
    assert parameters.COMMUNITY_BATTERY() == BATTERY


def test_the_number_of_sessions_must_divide_the_day_into_whole_hours() -> None:
    parameters = deploy("GridParameters")
    with reverts("parameters: sessions split hours"):
        parameters.define(1, "sessions_per_day", 5, 1, 24, 23, 0)
    parameters.define(1, "sessions_per_day", 4, 1, 24, 23, 0)
    for sessions in (5, 7, 9, 16, 23):
        with reverts("parameters: sessions split hours"):
            parameters.set_value(1, sessions)
    for sessions in (1, 2, 3, 4, 6, 8, 12, 24):
        parameters.set_value(1, sessions)
        assert parameters.value(1) == sessions


def packed(first_slot: int, slots: int, value: int) -> int:
    return first_slot | (slots << 64) | ((value % 2**128) << 128)


def test_a_schedule_opens_all_its_windows_or_none(parameters: Any) -> None:
    good = [packed(TOMORROW + 8, 4, -5_000), packed(TOMORROW + 40, 8, 20_000)]
    with reverts("parameters: window overlaps another"):
        parameters.open_windows(ZONE, BATTERY, [*good, packed(TOMORROW + 47, 1, 1)])
    assert parameters.windows_of(ZONE, BATTERY, TOMORROW) == []
    parameters.open_windows(ZONE, BATTERY, good)
    assert parameters.window_at(ZONE, BATTERY, TOMORROW + 11) == (True, -5_000)
    assert parameters.window_at(ZONE, BATTERY, TOMORROW + 40) == (True, 20_000)
    assert parameters.window_at(ZONE, BATTERY, TOMORROW + 12) == (False, 0)


def test_a_schedule_obeys_the_bounds_of_single_windows(parameters: Any) -> None:
    limit = parameters.value(17)
    with reverts("parameters: battery power out of range"):
        parameters.open_windows(ZONE, BATTERY, [packed(TOMORROW, 1, -limit - 1)])
    with reverts("parameters: window leaves its day"):
        parameters.open_windows(ZONE, BATTERY, [packed(TOMORROW + 95, 2, 1)])
    with reverts("parameters: window has begun"):
        parameters.open_windows(ZONE, BATTERY, [packed(TODAY, 1, 1)])
