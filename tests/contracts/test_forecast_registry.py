# SPDX-License-Identifier: Apache-2.0
"""A forecaster says it once, before the deadline, and is judged by arithmetic anyone can repeat."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import boa
import pytest
from eth_utils import keccak

from tests.contracts.forecast_bench import (
    BOND,
    COMMITTED,
    EVIDENCE,
    FINALITY,
    FIRST_DAY,
    FORECAST,
    LEAD,
    MAX_EXEMPT,
    MINIMUM_BOND,
    NONE,
    REVEALED,
    SALT,
    SCORED,
    SPREAD,
    UNSCORED,
    WITHDRAWAL_DELAY,
    ZONE,
    Bench,
    commitment_of,
    forecast,
    losses_of,
    new_bench,
    outcome_of,
    pack,
    rolled_back,
    skilled,
)
from tests.contracts.governance_fixtures import DAY, events, reverts


@pytest.fixture(scope="module")
def deployed() -> Bench:
    return new_bench()


@pytest.fixture
def bench(deployed: Bench) -> Iterator[Bench]:
    with rolled_back(deployed) as bench:
        yield bench


@pytest.fixture
def mallory() -> str:
    return str(boa.env.generate_address("mallory"))


# -- committing --------------------------------------------------------------------------------


def test_a_forecast_is_committed_for_a_day(bench: Bench) -> None:
    bench.committed(FIRST_DAY, FORECAST)
    (event,) = events(bench.registry, "ForecastCommitted")
    assert (event.forecaster, event.zone) == (bench.forecaster, ZONE)
    assert event.first_slot == FIRST_DAY * 96
    status, when, digest = bench.registry.forecast_of(bench.forecaster, ZONE, FIRST_DAY * 96)
    commitment = commitment_of(pack(FORECAST), FIRST_DAY * 96, bench.forecaster)
    assert (status, when) == (COMMITTED, boa.env.timestamp)
    assert digest == int.from_bytes(commitment, "big") >> 48


def test_the_last_second_before_the_deadline_is_in_time(bench: Bench) -> None:
    bench.at_day(FIRST_DAY, -LEAD - 1)
    bench.commit(FIRST_DAY, FORECAST)
    assert bench.registry.forecast_of(bench.forecaster, ZONE, FIRST_DAY * 96)[0] == COMMITTED


def test_at_the_deadline_it_is_too_late(bench: Bench) -> None:
    bench.at_day(FIRST_DAY, -LEAD)
    with reverts("forecast: too late to commit"):
        bench.commit(FIRST_DAY, FORECAST)


def test_a_day_is_not_forecast_long_ahead(bench: Bench) -> None:
    bench.at_day(FIRST_DAY, -2 * DAY - 1)
    with reverts("forecast: too early to commit"):
        bench.commit(FIRST_DAY, FORECAST)


def test_a_commitment_is_final(bench: Bench) -> None:
    bench.committed(FIRST_DAY, FORECAST)
    with reverts("forecast: already committed"):
        bench.commit(FIRST_DAY, forecast(2))


def test_only_whole_days_are_forecast(bench: Bench) -> None:
    with boa.env.prank(bench.forecaster), reverts("forecast: not the first slot of a day"):
        bench.registry.commit(ZONE, FIRST_DAY * 96 + 4, SALT)


def test_only_forecasters_commit(bench: Bench, mallory: str) -> None:
    bench.at_day(FIRST_DAY, -DAY // 2)
    with reverts("forecast: caller is not a forecaster"):
        bench.commit(FIRST_DAY, FORECAST, mallory)


def test_the_collector_does_not_forecast_its_zone(bench: Bench) -> None:
    bench.at_day(FIRST_DAY, -DAY // 2)
    with reverts("forecast: collector may not forecast"):
        bench.commit(FIRST_DAY, FORECAST, bench.collector)


def test_a_barred_forecaster_commits_no_more(bench: Bench) -> None:
    bench.registry.set_forecaster(bench.forecaster, False)
    bench.at_day(FIRST_DAY, -DAY // 2)
    with reverts("forecast: caller is not a forecaster"):
        bench.commit(FIRST_DAY, FORECAST)
    assert bench.registry.bond_of(bench.forecaster)[0] == BOND


def test_a_bond_below_the_minimum_backs_no_forecast(bench: Bench) -> None:
    bench.registry.set_minimum_bond(BOND + 1)
    bench.at_day(FIRST_DAY, -DAY // 2)
    with reverts("forecast: bond too small"):
        bench.commit(FIRST_DAY, FORECAST)


def test_a_leaving_bond_backs_no_forecast(bench: Bench) -> None:
    with boa.env.prank(bench.forecaster):
        bench.registry.announce_withdrawal(BOND - MINIMUM_BOND + 1)
    bench.at_day(FIRST_DAY, -DAY // 2)
    with reverts("forecast: bond too small"):
        bench.commit(FIRST_DAY, FORECAST)


# -- revealing ---------------------------------------------------------------------------------


def test_a_forecast_is_revealed_after_the_deadline(bench: Bench) -> None:
    bench.revealed(FIRST_DAY, FORECAST)
    (event,) = events(bench.registry, "ForecastRevealed")
    assert event.evidence_hash == EVIDENCE
    assert list(event.words) == pack(FORECAST)
    assert bench.status(FIRST_DAY) == REVEALED


def test_nothing_is_revealed_before_the_deadline(bench: Bench) -> None:
    bench.committed(FIRST_DAY, FORECAST)
    bench.at_day(FIRST_DAY, -LEAD - 1)
    with reverts("forecast: too early to reveal"):
        bench.reveal(FIRST_DAY, FORECAST)


def test_nothing_is_revealed_once_the_totals_are_final(bench: Bench) -> None:
    bench.committed(FIRST_DAY, FORECAST)
    bench.at_day(FIRST_DAY + 1, FINALITY)
    with reverts("forecast: too late to reveal"):
        bench.reveal(FIRST_DAY, FORECAST)


def test_nothing_else_is_revealed_than_was_committed(bench: Bench) -> None:
    bench.committed(FIRST_DAY, FORECAST)
    bench.at_day(FIRST_DAY)
    altered = list(FORECAST)
    altered[95] = (altered[95][0], altered[95][1], altered[95][2] + 1)
    with reverts("forecast: not what was committed"):
        bench.reveal(FIRST_DAY, altered)


def test_the_evidence_is_that_of_the_commitment(bench: Bench) -> None:
    bench.committed(FIRST_DAY, FORECAST)
    bench.at_day(FIRST_DAY)
    with reverts("forecast: not what was committed"):
        bench.reveal(FIRST_DAY, FORECAST, keccak(text="made up later"))


def test_a_copied_commitment_is_worth_nothing(bench: Bench, mallory: str) -> None:
    bench.registry.set_forecaster(mallory, True)
    bench.registry.set_minimum_bond(0)
    bench.committed(FIRST_DAY, FORECAST)
    with boa.env.prank(mallory):
        copied = commitment_of(pack(FORECAST), FIRST_DAY * 96, bench.forecaster)
        bench.registry.commit(ZONE, FIRST_DAY * 96, copied)
    bench.at_day(FIRST_DAY)
    with reverts("forecast: not what was committed"):
        bench.reveal(FIRST_DAY, FORECAST, who=mallory)


def test_nothing_is_revealed_twice(bench: Bench) -> None:
    bench.revealed(FIRST_DAY, FORECAST)
    with reverts("forecast: nothing to reveal"):
        bench.reveal(FIRST_DAY, FORECAST)


@pytest.mark.parametrize("wrong", [(5, 4, 6), (4, 6, 5), (1, 0, -1), (-1, -2, 0)])
@pytest.mark.parametrize("slot", [0, 95])
def test_quantiles_are_monotone(bench: Bench, slot: int, wrong: tuple[int, int, int]) -> None:
    quantiles = list(FORECAST)
    quantiles[slot] = wrong
    bench.committed(FIRST_DAY, quantiles)
    bench.at_day(FIRST_DAY)
    with reverts("forecast: quantiles are not monotone"):
        bench.reveal(FIRST_DAY, quantiles)


def test_quantiles_may_coincide(bench: Bench) -> None:
    bench.revealed(FIRST_DAY, [(-(2**31), 2**31 - 1, 2**31 - 1), (0, 0, 0)] * 48)
    assert bench.registry.forecast_of(bench.forecaster, ZONE, FIRST_DAY * 96)[0] == REVEALED


def test_a_word_has_nothing_above_its_two_slots(bench: Bench) -> None:
    words = pack(FORECAST)
    words[47] |= 1 << 192
    bench.at_day(FIRST_DAY, -DAY // 2)
    slot = FIRST_DAY * 96
    with boa.env.prank(bench.forecaster):
        bench.registry.commit(ZONE, slot, commitment_of(words, slot, bench.forecaster))
        bench.at_day(FIRST_DAY)
        with reverts("forecast: word is not canonical"):
            bench.registry.reveal(ZONE, slot, words, EVIDENCE, SALT)


# -- scoring -----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_score_is_the_textbooks(bench: Bench, seed: int) -> None:
    quantiles = forecast(seed)
    result = bench.scored(FIRST_DAY, quantiles)
    expected = losses_of(quantiles, bench.net[FIRST_DAY], bench.net[FIRST_DAY - 7], set())
    assert result == expected
    assert bench.status(FIRST_DAY) == SCORED


def test_a_perfect_forecast_loses_nothing(bench: Bench) -> None:
    actual = outcome_of(FIRST_DAY)
    loss, naive_loss = bench.scored(FIRST_DAY, [(value, value, value) for value in actual])
    assert bench.net[FIRST_DAY] == actual
    assert loss == 0
    assert naive_loss > 0
    assert bench.registry.skill(bench.forecaster, ZONE) == (1_000, 1)


def test_extreme_values_do_not_overflow(bench: Bench) -> None:
    bench.at_day(FIRST_DAY)
    bench.meter(FIRST_DAY - 1)
    bench.at_day(FIRST_DAY, -DAY // 2)
    low = [(-(2**31), -(2**31), -(2**31))] * 96
    bench.revealed(FIRST_DAY, low)
    bench.at_day(FIRST_DAY + 1, FINALITY)
    bench.meter(FIRST_DAY, [2**31 - 1] * 96)
    bench.score(FIRST_DAY, low)
    (event,) = events(bench.registry, "ForecastScored")
    assert event.loss == 1_500 * (2**32 - 1) * 96


def test_nothing_is_scored_before_it_is_final(bench: Bench) -> None:
    bench.revealed(FIRST_DAY, FORECAST)
    bench.finish(FIRST_DAY)
    boa.env.timestamp -= 1
    with reverts("forecast: totals are not final"):
        bench.score(FIRST_DAY, FORECAST)


def test_nothing_is_scored_before_it_is_metered(bench: Bench) -> None:
    bench.revealed(FIRST_DAY, FORECAST)
    bench.at_day(FIRST_DAY + 1, FINALITY)
    with reverts("forecast: day is not metered"):
        bench.score(FIRST_DAY, FORECAST)


def test_nothing_is_scored_twice(bench: Bench) -> None:
    bench.scored(FIRST_DAY, FORECAST)
    with reverts("forecast: nothing to score"):
        bench.score(FIRST_DAY, FORECAST)


def test_nothing_is_scored_unrevealed(bench: Bench) -> None:
    bench.committed(FIRST_DAY, FORECAST)
    bench.finish(FIRST_DAY)
    with reverts("forecast: nothing to score"):
        bench.score(FIRST_DAY, FORECAST)


def test_nothing_else_is_scored_than_was_revealed(bench: Bench) -> None:
    bench.revealed(FIRST_DAY, FORECAST)
    bench.finish(FIRST_DAY)
    with reverts("forecast: not what was revealed"):
        bench.score(FIRST_DAY, forecast(2))


def test_anyone_may_have_a_forecast_scored(bench: Bench, mallory: str) -> None:
    bench.revealed(FIRST_DAY, FORECAST)
    bench.finish(FIRST_DAY)
    with boa.env.prank(mallory):
        bench.score(FIRST_DAY, FORECAST)
    (event,) = events(bench.registry, "ForecastScored")
    assert event.slots_scored == 96


def test_slots_inside_a_window_are_left_out_up_to_the_cap(bench: Bench) -> None:
    bench.at_day(FIRST_DAY, -DAY)
    # Six slots in windows, two of them in those of several keys; the first four are excused.
    bench.parameters.open_window(ZONE, 1_000, FIRST_DAY * 96 + 50, 3, 1)
    bench.parameters.open_window(ZONE, 1_001, FIRST_DAY * 96 + 51, 2, 3_700)
    bench.parameters.open_window(ZONE, 1_002, FIRST_DAY * 96 + 11, 1, -500)
    bench.parameters.open_window(ZONE, 7, FIRST_DAY * 96 + 10, 3, 45)
    result = bench.scored(FIRST_DAY, FORECAST)
    skip = {10, 11, 12, 50}
    assert len(skip) == MAX_EXEMPT
    actual, last_week = bench.net[FIRST_DAY], bench.net[FIRST_DAY - 7]
    assert result == losses_of(FORECAST, actual, last_week, skip)


def test_a_rule_changed_after_the_commitment_does_not_change_the_score(bench: Bench) -> None:
    bench.revealed(FIRST_DAY, FORECAST)
    bench.parameters.set_value(13, SPREAD + 1_000)
    bench.parameters.set_value(18, MAX_EXEMPT + 8)
    bench.finish(FIRST_DAY)
    bench.score(FIRST_DAY, FORECAST)
    (event,) = events(bench.registry, "ForecastScored")
    expected = losses_of(FORECAST, bench.net[FIRST_DAY], bench.net[FIRST_DAY - 7], set())
    assert (event.loss, event.naive_loss) == expected


def test_a_day_with_too_few_homes_is_not_scored(bench: Bench) -> None:
    bench.parameters.set_value(19, 21)
    loss, naive_loss = bench.scored(FIRST_DAY, FORECAST)
    assert (loss, naive_loss) == (0, 0)
    assert bench.status(FIRST_DAY) == UNSCORED
    assert bench.registry.skill(bench.forecaster, ZONE) == (0, 0)


def test_a_day_without_a_week_before_it_is_not_scored(bench: Bench) -> None:
    day = FIRST_DAY - 1
    bench.at_day(day, -DAY // 2)
    bench.revealed(day, FORECAST)
    bench.finish(day)
    bench.score(day, FORECAST)
    (event,) = events(bench.registry, "DayUnscored")
    assert event.first_slot == day * 96


# -- skill -------------------------------------------------------------------------------------


def test_whoever_never_forecast_has_no_skill(bench: Bench, mallory: str) -> None:
    assert bench.registry.skill(mallory, ZONE) == (0, 0)


def test_skill_is_one_minus_the_ratio_of_sums(bench: Bench) -> None:
    results = [skilled(bench, FIRST_DAY + day, Fraction(day, 10)) for day in range(5)]
    loss = sum(loss for loss, _ in results)
    naive_loss = sum(naive for _, naive in results)
    expected = 1_000 * (naive_loss - loss) // naive_loss
    assert expected > 0
    assert bench.registry.skill(bench.forecaster, ZONE) == (expected, 5)


def test_a_missed_day_counts_as_no_skill(bench: Bench) -> None:
    results = [skilled(bench, FIRST_DAY + day, Fraction(day, 10)) for day in (0, 1, 3)]
    loss = sum(loss for loss, _ in results)
    naive_loss = sum(naive for _, naive in results)
    # Three days of four: the missed one becomes due a day after it could have been scored.
    bench.at_day(FIRST_DAY + 4, FINALITY + DAY)
    expected = 1_000 * (naive_loss - loss) // naive_loss * 3 // 4
    assert bench.registry.skill(bench.forecaster, ZONE) == (expected, 3)


def test_a_missed_day_mends_no_negative_skill(bench: Bench) -> None:
    bench.scored(FIRST_DAY, [(30_000, 30_000, 30_000)] * 96)
    before = bench.registry.skill(bench.forecaster, ZONE)
    assert before[0] < 0
    bench.at_day(FIRST_DAY + 4, FINALITY + DAY)
    assert bench.registry.skill(bench.forecaster, ZONE) == before


def test_skill_fades_for_whoever_stops(bench: Bench) -> None:
    skilled(bench, FIRST_DAY, Fraction(0))
    assert bench.registry.skill(bench.forecaster, ZONE) == (1_000, 1)
    bench.at_day(FIRST_DAY + 10, FINALITY + DAY)
    assert bench.registry.skill(bench.forecaster, ZONE) == (100, 1)
    bench.at_day(FIRST_DAY + 28, FINALITY + DAY)
    assert bench.registry.skill(bench.forecaster, ZONE) == (35, 1)
    bench.at_day(FIRST_DAY + 29, FINALITY + DAY)
    assert bench.registry.skill(bench.forecaster, ZONE) == (0, 0)


def test_a_day_leaves_the_ring_after_four_weeks(bench: Bench) -> None:
    skilled(bench, FIRST_DAY, Fraction(0))
    bench.finish(FIRST_DAY + 27)
    skilled(bench, FIRST_DAY + 28, Fraction(1, 2))
    status, _, _ = bench.registry.result_of(bench.forecaster, ZONE, FIRST_DAY * 96)
    assert status == NONE
    assert bench.registry.skill(bench.forecaster, ZONE)[1] == 1


def test_a_late_result_does_not_push_out_a_newer_one(bench: Bench) -> None:
    bench.revealed(FIRST_DAY, FORECAST)
    bench.finish(FIRST_DAY + 27)
    newer = skilled(bench, FIRST_DAY + 28, Fraction(1, 2))
    bench.score(FIRST_DAY, FORECAST)
    result = bench.registry.result_of(bench.forecaster, ZONE, (FIRST_DAY + 28) * 96)
    assert result == (SCORED, *newer)


# -- bonds -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        ("set_forecaster", ("0x" + "11" * 20, True)),
        ("set_minimum_bond", (1,)),
        ("set_governor", ("0x" + "11" * 20,)),
        ("transfer_ownership", ("0x" + "11" * 20,)),
    ],
)
def test_only_the_owner_decides_who_forecasts_and_proposes(
    bench: Bench, mallory: str, function: str, arguments: Any
) -> None:
    with boa.env.prank(mallory), reverts("ownable: caller is not the owner"):
        getattr(bench.registry, function)(*arguments)


def test_only_forecasters_deposit(bench: Bench, mallory: str) -> None:
    with boa.env.prank(mallory), reverts("forecast: caller is not a forecaster"):
        bench.registry.deposit_bond(1)


def test_a_bond_is_paid_in(bench: Bench) -> None:
    held = bench.token.balanceOf(bench.registry.address)
    with boa.env.prank(bench.forecaster):
        bench.registry.deposit_bond(5)
    assert bench.token.balanceOf(bench.registry.address) == held + 5
    assert bench.registry.bond_of(bench.forecaster) == (BOND + 5, 0, 0)


def test_a_bond_that_is_not_paid_is_not_booked(bench: Bench) -> None:
    with boa.env.prank(bench.forecaster), reverts("erc20: insufficient allowance"):
        bench.registry.deposit_bond(10 * BOND)


def test_a_bond_leaves_seventeen_days_after_the_announcement(bench: Bench) -> None:
    with boa.env.prank(bench.forecaster):
        bench.registry.announce_withdrawal(400)
        boa.env.timestamp += WITHDRAWAL_DELAY
        bench.registry.withdraw_bond()
    assert bench.token.balanceOf(bench.forecaster) == BOND + 400
    assert bench.registry.bond_of(bench.forecaster) == (BOND - 400, 0, 0)
    assert bench.registry.is_forecaster(bench.forecaster)


def test_a_bond_does_not_leave_earlier(bench: Bench) -> None:
    with boa.env.prank(bench.forecaster):
        bench.registry.announce_withdrawal(400)
        boa.env.timestamp += WITHDRAWAL_DELAY - 1
        with reverts("forecast: bond is still locked"):
            bench.registry.withdraw_bond()


def test_a_bond_leaves_once(bench: Bench) -> None:
    with boa.env.prank(bench.forecaster):
        bench.registry.announce_withdrawal(400)
        boa.env.timestamp += WITHDRAWAL_DELAY
        bench.registry.withdraw_bond()
        with reverts("forecast: nothing announced"):
            bench.registry.withdraw_bond()


def test_a_new_announcement_starts_the_wait_again(bench: Bench) -> None:
    with boa.env.prank(bench.forecaster):
        bench.registry.announce_withdrawal(1)
        boa.env.timestamp += WITHDRAWAL_DELAY
        bench.registry.announce_withdrawal(BOND)
        with reverts("forecast: bond is still locked"):
            bench.registry.withdraw_bond()


def test_nobody_takes_out_more_than_the_bond(bench: Bench, mallory: str) -> None:
    with boa.env.prank(bench.forecaster), reverts("forecast: more than the bond"):
        bench.registry.announce_withdrawal(BOND + 1)
    with boa.env.prank(mallory), reverts("forecast: nothing announced"):
        bench.registry.withdraw_bond()
