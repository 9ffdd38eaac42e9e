# SPDX-License-Identifier: Apache-2.0
"""Rules move within their bounds, step by step; windows override them slot by slot."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import boa
import pytest

from dao.parameters import KEYS, MARKET_RULES, WINDOW_NAMES, Rule, unpack_session_terms
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
CHARGE_POINTS, HOME_BATTERIES = 1_001, 1_002
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
        ((30, "WIDE", 1, 0, 2**32, 1, 0), "maximum out of range"),
        ((30, "STEP", 1, 0, 2, 2**32, 0), "step out of range"),
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


@pytest.mark.parametrize(
    ("key", "largest"),
    [
        *((key, 2**24 - 1) for key in (2, 3, 4)),
        *((key, 65_535) for key in (8, 9, 10)),
        (1, 24),
        (12, 2**32 - 1),
    ],
)
def test_a_rule_is_refused_that_would_not_fit_where_it_is_packed(key: int, largest: int) -> None:
    with boa.env.anchor():
        parameters = deploy("GridParameters")
        with reverts("parameters: maximum out of range"):
            parameters.define(key, "WIDE", 1, 0, largest + 1, 1, 0)
        parameters.define(key, "WIDE", 1, 0, largest, 1, 0)
        assert parameters.bounds_of(key).maximum == largest


@pytest.mark.parametrize("key", [QUORUM, 20, 21, 24])
def test_a_share_of_voters_is_at_most_everybody(key: int) -> None:
    with boa.env.anchor():
        parameters = deploy("GridParameters")
        with reverts("parameters: maximum out of range"):
            parameters.define(key, "SHARE", 400, 0, 10_001, 100, 0)


def test_a_proposals_bond_fits_where_the_governor_keeps_it() -> None:
    with boa.env.anchor():
        parameters = deploy("GridParameters")
        with reverts("parameters: maximum out of range"):
            parameters.define(22, "PROPOSAL_BOND", 20, 0, 4_096, 100, 0)


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


# Penalty and energy bounds hold for a whole order; the market reads them once for all slots.
@pytest.mark.parametrize("key", [1, 4, 8, 9, 10, QUORUM, 12, 999, 1_003, 2**256 - 1])
def test_only_what_varies_by_slot_takes_a_window(parameters: Any, key: int) -> None:
    with reverts("parameters: key takes no window"):
        parameters.open_window(ZONE, key, TOMORROW, 1, 50)


@pytest.mark.parametrize(
    ("key", "lowest", "highest", "reason"),
    [
        (CHARGE_POINTS, 0, 22_000, "charging power out of range"),
        (HOME_BATTERIES, -1_000, 1_000, "share of power out of range"),
    ],
)
def test_what_devices_are_told_has_bounds(
    parameters: Any, key: int, lowest: int, highest: int, reason: str
) -> None:
    for value in (lowest - 1, highest + 1, -(2**127), 2**127 - 1):
        with reverts(f"parameters: {reason}"):
            parameters.open_window(ZONE, key, TOMORROW, 1, value)
        with reverts(f"parameters: {reason}"):
            parameters.open_windows(ZONE, key, [packed(TOMORROW, 1, value)])
    parameters.open_window(ZONE, key, TOMORROW, 4, lowest)
    parameters.open_windows(ZONE, key, [packed(TOMORROW + 4, 4, highest)])
    told = [parameters.window_at(ZONE, key, TOMORROW + slot) for slot in (3, 4, 7, 8)]
    assert told == [(True, lowest), (True, highest), (True, highest), (False, 0)]


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
    devices = (BATTERY, CHARGE_POINTS, HOME_BATTERIES)
    for zone, key in ((ZONE, GRID_FEE), (2, BATTERY), *((ZONE, key) for key in devices)):
        parameters.open_window(zone, key, TOMORROW, 4, 45)
        assert parameters.window_at(zone, key, TOMORROW) == (True, 45)
    assert parameters.window_at(2, GRID_FEE, TOMORROW)[0] is False


def test_a_window_begins_within_a_fortnight(parameters: Any) -> None:
    """Else one vote could put a value in force for good, past cooldown and largest step."""
    last = (boa.env.timestamp + 14 * DAY) // 900
    with reverts("parameters: window is too far ahead"):
        parameters.open_window(ZONE, GRID_FEE, last + 1, 1, 60)
    parameters.open_window(ZONE, GRID_FEE, last, 1, 60)


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
    parameters.open_window(ZONE, CHARGE_POINTS, TOMORROW + 3, 5, 3_700)
    parameters.open_window(ZONE, HOME_BATTERIES, TOMORROW + 94, 2, -500)
    expected = sum(1 << slot for slot in (2, 3, 4, 5, 6, 7, 94, 95))
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


def test_windows_of_another_day_zone_or_key_leave_the_terms_alone(parameters: Any) -> None:
    (plain,) = set(parameters.market_terms(ZONE, TOMORROW, 96, boa.env.timestamp))
    parameters.open_window(ZONE, GRID_FEE, TOMORROW + 96, 96, 40)
    parameters.open_window(2, GRID_FEE, TOMORROW, 96, 40)
    for key in (BATTERY, CHARGE_POINTS, HOME_BATTERIES):
        parameters.open_window(ZONE, key, TOMORROW, 96, 40)
    parameters.open_window(ZONE, GRID_FEE, TOMORROW + 24, 24, 40)
    for first in (0, 48, 72):
        terms = parameters.market_terms(ZONE, TOMORROW + first, 24, boa.env.timestamp)
        assert terms == [plain] * 24


def test_market_terms_are_asked_for_within_a_day(parameters: Any) -> None:
    with reverts("parameters: slots leave their day"):
        parameters.market_terms(ZONE, TOMORROW + 90, 7, START)


def test_the_keys_have_names(parameters: Any) -> None:
    for key, (name, *_) in RULES.items():
        assert getattr(parameters, name)() == key
    told = (parameters.COMMUNITY_BATTERY, parameters.CHARGE_POINTS, parameters.HOME_BATTERIES)
    assert [key() for key in told] == [BATTERY, CHARGE_POINTS, HOME_BATTERIES]
    assert sorted(WINDOW_NAMES) == [BAND_MIN, BAND_MAX, GRID_FEE, *(key() for key in told)]


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


# What the market reads in one word. The rules of a deployment, without the wait between changes.


@pytest.fixture(scope="module")
def all_rules() -> Any:
    boa.env.timestamp = START
    parameters = deploy("GridParameters")
    parameters.define_batch([(*one.as_tuple()[:6], 0) for one in MARKET_RULES])
    return parameters


@pytest.fixture
def market_rules(all_rules: Any) -> Any:
    with boa.env.anchor():
        boa.env.timestamp = START + 1_000
        yield all_rules


def session_terms(parameters: Any, when: int) -> dict[str, int]:
    return vars(unpack_session_terms(parameters.session_terms(when)))


def step(rng: random.Random, rule: Rule, current: int) -> int:
    """A value that the rule may be given next."""
    if rule.name == "sessions_per_day":
        return rng.choice([n for n in (1, 2, 3, 4, 6, 8, 12, 24) if n != current])
    low = max(rule.minimum, current - rule.max_step)
    return rng.randint(low, min(rule.maximum, current + rule.max_step))


def test_session_terms_are_the_rules_as_they_are_defined(market_rules: Any) -> None:
    assert session_terms(market_rules, 0) == session_terms(market_rules, boa.env.timestamp) == {
        "sessions_per_day": 4,
        "gate_lead": 3_600,
        "clear_period": 3_600,
        "receipt_period": 43_200,
        "penalty": 100,
        "min_order_wh": 50,
        "max_slot_wh": 25_000,
    }  # fmt: skip


@pytest.mark.parametrize("seed", range(4))
def test_the_packed_words_agree_with_the_single_rules_at_any_time(
    market_rules: Any, seed: int
) -> None:
    rng = random.Random(seed)
    packed = [rule for rule in MARKET_RULES if rule.key <= 10]
    moments = [0, START, boa.env.timestamp]
    for _ in range(40):
        # Some changes fall into one second.
        boa.env.timestamp += rng.choice((0, 1, 7_777))
        rule = rng.choice(packed)
        market_rules.set_value(rule.key, step(rng, rule, market_rules.value(rule.key)))
        moments += [boa.env.timestamp - 1, boa.env.timestamp]
    for when in rng.sample(moments, 20) + moments[-2:]:
        told = session_terms(market_rules, when)
        assert told == {name: market_rules.value_at(KEYS[name], when) for name in told}
        high, low, fee = (market_rules.value_at(key, when) for key in (BAND_MAX, BAND_MIN, 7))
        (terms,) = market_rules.market_terms(ZONE, TOMORROW, 1, when)
        assert terms == high << 32 | low << 16 | fee


def test_largest_values_stay_inside_their_places() -> None:
    with boa.env.anchor():
        parameters = deploy("GridParameters")
        most = {1: 24, 5: 65_534, 6: 65_534, 7: 65_534, 8: 65_535, 9: 65_535, 10: 65_535}
        most |= dict.fromkeys((2, 3, 4), 2**24 - 1)
        for key, largest in most.items():
            parameters.define(key, "RULE", 1, 0, largest, largest, 0)
        for key, largest in most.items():
            # Back and forth, or a value that is left over would go unseen.
            for value in (largest, 1, largest):
                parameters.set_value(key, value)
        now = boa.env.timestamp
        told = session_terms(parameters, now)
        assert told == {name: most[KEYS[name]] for name in told}
        (terms,) = parameters.market_terms(ZONE, now // 900 + 1, 1, now)
        assert terms == 65_534 << 32 | 65_534 << 16 | 65_534


def test_a_change_of_a_rule_that_is_not_packed_leaves_the_packed_ones(market_rules: Any) -> None:
    before = session_terms(market_rules, boa.env.timestamp)
    boa.env.timestamp += 10
    market_rules.set_value(16, 8 * DAY)
    assert session_terms(market_rules, boa.env.timestamp) == before


def test_the_terms_of_the_future_are_not_told(market_rules: Any) -> None:
    with reverts("parameters: future lookup"):
        market_rules.session_terms(boa.env.timestamp + 1)
    with reverts("parameters: future lookup"):
        market_rules.market_terms(ZONE, TOMORROW, 1, boa.env.timestamp + 1)


@pytest.mark.parametrize("missing", range(1, 11))
def test_terms_are_told_only_when_each_of_their_rules_is_defined(missing: int) -> None:
    with boa.env.anchor():
        parameters = deploy("GridParameters")
        parameters.define_batch([r.as_tuple() for r in MARKET_RULES if r.key != missing])
        for_session = missing not in (BAND_MIN, BAND_MAX, GRID_FEE)
        now = boa.env.timestamp
        with reverts("parameters: unknown key"):
            if for_session:
                parameters.session_terms(now)
            else:
                parameters.market_terms(ZONE, now // 900 + 1, 1, now)
        if for_session:
            assert len(parameters.market_terms(ZONE, now // 900 + 1, 1, now)) == 1
        else:
            assert session_terms(parameters, now)


def gas_of(view: Any, *arguments: int) -> int:
    """What the view uses by itself, every word of storage cold; outside of any anchor."""
    boa.env.reset_gas_used()
    view(*arguments)
    return int(view.contract._computation.get_gas_used())


def test_the_market_reads_one_word_for_a_session_and_two_for_a_slots_price() -> None:
    boa.env.timestamp = START
    parameters = deploy("GridParameters")
    parameters.define_batch([one.as_tuple() for one in MARKET_RULES])
    for day in range(4):
        boa.env.timestamp = START + day * DAY
        parameters.set_value(8, 110 + day)
        slot = TOMORROW + 96 * day
        parameters.open_window(ZONE, BATTERY, slot, 24, 40)
        # A cold word costs 2,100 gas.
        assert gas_of(parameters.session_terms, boa.env.timestamp) < 2 * 2_100
        assert gas_of(parameters.market_terms, ZONE, slot, 1, boa.env.timestamp) < 3 * 2_100


# The lowest value in a period


def lowest(history: Sequence[tuple[int, int]], start: int, end: int) -> int:
    """Of values with the time since which they held, oldest first."""
    ends = [since for since, _ in history[1:]] + [end + 1]
    held = zip(history, ends, strict=True)
    return min(value for (since, value), until in held if since <= end and until > start)


def test_the_lowest_value_of_any_period_can_be_told(parameters: Any) -> None:
    rng = random.Random(5)
    history = [(0, 50)]
    for _ in range(20):
        boa.env.timestamp += DAY + rng.randrange(3)
        low, high = max(0, history[-1][1] - 20), min(100, history[-1][1] + 20)
        history.append((boa.env.timestamp, rng.randint(low, high)))
        parameters.set_value(GRID_FEE, history[-1][1])
    boa.env.timestamp += 5
    edges = [since + shift for since, _ in history for shift in (-1, 0, 1) if since + shift >= 0]
    for _ in range(60):
        start, end = sorted((rng.choice(edges), rng.choice(edges)))
        assert parameters.lowest_value(GRID_FEE, start, end) == lowest(history, start, end)


def test_the_lowest_value_is_asked_for_a_period_of_the_past(parameters: Any) -> None:
    now = boa.env.timestamp
    with reverts("parameters: period ends before it begins"):
        parameters.lowest_value(GRID_FEE, now, now - 1)
    with reverts("parameters: future lookup"):
        parameters.lowest_value(GRID_FEE, now, now + 1)
    with reverts("parameters: unknown key"):
        parameters.lowest_value(42, 0, now)
    assert parameters.lowest_value(GRID_FEE, now, now) == 50


def test_the_search_for_the_lowest_value_is_bounded(market_rules: Any) -> None:
    for change in range(64):
        boa.env.timestamp += 1
        market_rules.set_value(8, 100 + change % 2)
        if change == 62:
            assert market_rules.lowest_value(8, 0, boa.env.timestamp) == 100
    with reverts("parameters: too many changes"):
        market_rules.lowest_value(8, 0, boa.env.timestamp)
    assert market_rules.lowest_value(8, boa.env.timestamp, boa.env.timestamp) == 101
