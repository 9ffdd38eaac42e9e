# SPDX-License-Identifier: Apache-2.0
"""What follows from a score: slashes, rewards, what a hidden forecast costs, and the allowance."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction

import boa
import pytest

from tests.contracts.forecast_bench import (
    BOND,
    FINALITY,
    FIRST_DAY,
    FORECAST,
    LEAD,
    MAX_ALLOWANCE,
    MAX_REWARD,
    MAX_REWARD_KEY,
    MAX_SLASH,
    MAX_SLASH_KEY,
    MINIMUM_BOND,
    MISSED,
    NAIVE_SPREAD,
    NONE,
    PROBATION_DAYS,
    SCORED,
    SKILL_THRESHOLD,
    UNSCORED,
    WITHDRAWAL_DELAY,
    ZONE,
    Bench,
    Quantiles,
    admit,
    missing_by,
    new_bench,
    rolled_back,
    skilled,
)
from tests.contracts.governance_fixtures import DAY, events, reverts

HALF = Fraction(1, 2)
POOL = 10**6
PERFECT, BAD = Fraction(0), Fraction(3)


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


def held(bench: Bench) -> int:
    return int(bench.token.balanceOf(bench.registry.address))


def set_rule(bench: Bench, key: int, value: int) -> None:
    """A vote moves a rule, and a second passes."""
    bench.parameters.set_value(key, value)
    boa.env.timestamp += 1


def scored_on_last_weeks_outcome(bench: Bench, quantiles: Quantiles) -> tuple[int, int]:
    """A day that repeats last week's to the Wh, so that the naive forecast misses by its spread."""
    set_rule(bench, NAIVE_SPREAD, 0)
    bench.revealed(FIRST_DAY, quantiles)
    bench.at_day(FIRST_DAY + 1, FINALITY)
    bench.meter(FIRST_DAY - 1)
    bench.meter(FIRST_DAY, bench.net[FIRST_DAY - 7])
    bench.score(FIRST_DAY, quantiles)
    _, loss, naive_loss = bench.registry.result_of(bench.forecaster, ZONE, FIRST_DAY * 96)
    return loss, naive_loss


# -- slashes -----------------------------------------------------------------------------------


def test_a_day_worse_than_naive_costs_in_proportion(bench: Bench) -> None:
    loss, naive_loss = skilled(bench, FIRST_DAY, Fraction(5, 4))
    assert naive_loss < loss < 2 * naive_loss
    slash = MAX_SLASH * (loss - naive_loss) // naive_loss
    assert 0 < slash < MAX_SLASH
    assert bench.bond() == BOND - slash
    assert bench.registry.reward_pool() == slash


def test_a_slash_is_told(bench: Bench) -> None:
    bench.revealed(FIRST_DAY, missing_by(bench, FIRST_DAY, BAD))
    bench.finish(FIRST_DAY)
    bench.score(FIRST_DAY, missing_by(bench, FIRST_DAY, BAD))
    (event,) = events(bench.registry, "BondSlashed")
    assert (event.forecaster, event.zone) == (bench.forecaster, ZONE)
    assert (event.first_slot, event.amount) == (FIRST_DAY * 96, MAX_SLASH)


def test_no_day_costs_more_than_the_cap(bench: Bench) -> None:
    loss, naive_loss = skilled(bench, FIRST_DAY, BAD)
    assert loss > 2 * naive_loss
    assert bench.bond() == BOND - MAX_SLASH


def test_no_day_costs_more_than_the_bond(bench: Bench) -> None:
    bench.parameters.set_value(MAX_SLASH_KEY, BOND + 1)
    boa.env.timestamp += 1
    skilled(bench, FIRST_DAY, BAD)
    assert bench.bond() == 0
    assert bench.registry.reward_pool() == BOND
    assert bench.bond(bench.collector) == BOND


def test_a_day_as_good_as_naive_costs_and_earns_nothing(bench: Bench) -> None:
    bench.fund(POOL)
    spread = 500
    naive = [(v - spread, v, v + spread) for v in bench.net[FIRST_DAY - 7]]
    loss, naive_loss = bench.scored(FIRST_DAY, naive)
    assert loss == naive_loss
    assert (bench.bond(), bench.registry.reward_pool()) == (BOND, POOL)


def test_any_miss_beside_a_perfect_naive_costs_the_cap(bench: Bench) -> None:
    exact = [(value, value, value) for value in bench.net[FIRST_DAY - 7]]
    missed_by_one = [*exact[:95], (exact[95][0] - 1, exact[95][1], exact[95][2])]
    loss, naive_loss = scored_on_last_weeks_outcome(bench, missed_by_one)
    assert (loss, naive_loss) == (100, 0)
    assert bench.bond() == BOND - MAX_SLASH


def test_a_perfect_forecast_beside_a_perfect_naive_changes_nothing(bench: Bench) -> None:
    bench.fund(POOL)
    exact = [(value, value, value) for value in bench.net[FIRST_DAY - 7]]
    assert scored_on_last_weeks_outcome(bench, exact) == (0, 0)
    assert (bench.bond(), bench.registry.reward_pool()) == (BOND, POOL)


def test_the_cap_of_a_slash_is_that_of_the_commitment(bench: Bench) -> None:
    quantiles = missing_by(bench, FIRST_DAY, BAD)
    bench.revealed(FIRST_DAY, quantiles)
    set_rule(bench, MAX_SLASH_KEY, 10 * MAX_SLASH)
    bench.finish(FIRST_DAY)
    bench.score(FIRST_DAY, quantiles)
    assert bench.bond() == BOND - MAX_SLASH


def test_a_slash_may_be_set_to_nothing(bench: Bench) -> None:
    set_rule(bench, MAX_SLASH_KEY, 0)
    skilled(bench, FIRST_DAY, BAD)
    assert bench.bond() == BOND


def test_an_unscored_day_costs_and_earns_nothing(bench: Bench) -> None:
    bench.fund(POOL)
    set_rule(bench, 19, 21)
    bench.scored(FIRST_DAY, FORECAST)
    assert bench.status(FIRST_DAY) == UNSCORED
    assert (bench.bond(), bench.registry.reward_pool()) == (BOND, POOL)


def test_a_barred_forecaster_still_answers_for_what_it_committed(bench: Bench) -> None:
    quantiles = missing_by(bench, FIRST_DAY, BAD)
    bench.revealed(FIRST_DAY, quantiles)
    bench.registry.set_forecaster(bench.forecaster, False)
    bench.finish(FIRST_DAY)
    bench.score(FIRST_DAY, quantiles)
    assert bench.bond() == BOND - MAX_SLASH
    assert not bench.registry.is_forecaster(bench.forecaster)


def test_a_slash_leaves_the_office_and_open_disputes_alone(bench: Bench) -> None:
    quantiles = missing_by(bench, FIRST_DAY, BAD)
    bench.revealed(FIRST_DAY, quantiles)
    bench.at_day(FIRST_DAY + 1)
    bench.dispute(FIRST_DAY)
    bench.finish(FIRST_DAY)
    bench.score(FIRST_DAY, quantiles)
    assert bench.registry.is_forecaster(bench.forecaster)
    assert bench.registry.open_disputes(bench.forecaster) == 1


# -- rewards -----------------------------------------------------------------------------------


def test_a_day_better_than_naive_earns_in_proportion(bench: Bench) -> None:
    bench.fund(POOL)
    loss, naive_loss = skilled(bench, FIRST_DAY, HALF)
    reward = MAX_REWARD * (naive_loss - loss) // naive_loss
    assert 0 < reward < MAX_REWARD
    assert bench.bond() == BOND + reward
    assert bench.registry.reward_pool() == POOL - reward


def test_a_reward_is_told(bench: Bench) -> None:
    bench.fund(POOL)
    quantiles = missing_by(bench, FIRST_DAY, PERFECT)
    bench.revealed(FIRST_DAY, quantiles)
    bench.finish(FIRST_DAY)
    bench.score(FIRST_DAY, quantiles)
    (event,) = events(bench.registry, "BondRewarded")
    assert (event.forecaster, event.zone) == (bench.forecaster, ZONE)
    assert (event.first_slot, event.amount) == (FIRST_DAY * 96, MAX_REWARD)


def test_no_reward_is_larger_than_the_pool(bench: Bench) -> None:
    bench.fund(7)
    skilled(bench, FIRST_DAY, PERFECT)
    assert bench.bond() == BOND + 7
    assert bench.registry.reward_pool() == 0


def test_an_empty_pool_pays_nothing(bench: Bench) -> None:
    skilled(bench, FIRST_DAY, PERFECT)
    assert bench.status(FIRST_DAY) == SCORED
    assert bench.bond() == BOND


def test_the_cap_of_a_reward_is_that_of_the_commitment(bench: Bench) -> None:
    bench.fund(POOL)
    quantiles = missing_by(bench, FIRST_DAY, PERFECT)
    bench.revealed(FIRST_DAY, quantiles)
    set_rule(bench, MAX_REWARD_KEY, 10 * MAX_REWARD)
    bench.finish(FIRST_DAY)
    bench.score(FIRST_DAY, quantiles)
    assert bench.bond() == BOND + MAX_REWARD


def test_what_one_forecaster_loses_rewards_another(bench: Bench, mallory: str) -> None:
    admit(bench, mallory)
    good, bad = missing_by(bench, FIRST_DAY, PERFECT), missing_by(bench, FIRST_DAY, BAD)
    bench.at_day(FIRST_DAY, -DAY // 2)
    bench.commit(FIRST_DAY, bad)
    bench.commit(FIRST_DAY, good, mallory)
    bench.at_day(FIRST_DAY, -LEAD)
    bench.reveal(FIRST_DAY, bad)
    bench.reveal(FIRST_DAY, good, who=mallory)
    bench.finish(FIRST_DAY)
    before = held(bench)
    bench.score(FIRST_DAY, bad)
    bench.score(FIRST_DAY, good, mallory)
    assert bench.bond(mallory) == BOND + MAX_REWARD
    assert bench.registry.reward_pool() == MAX_SLASH - MAX_REWARD
    assert held(bench) == before


def test_anyone_may_fund_rewards(bench: Bench, mallory: str) -> None:
    bench.token.mint(mallory, 9)
    before = held(bench)
    with boa.env.prank(mallory):
        bench.token.approve(bench.registry.address, 9)
        bench.registry.fund_rewards(9)
    (event,) = events(bench.registry, "RewardsFunded")
    assert (event.payer, event.amount) == (mallory, 9)
    assert held(bench) == before + 9
    assert bench.registry.reward_pool() == 9


def test_a_gift_that_is_not_paid_is_not_booked(bench: Bench, mallory: str) -> None:
    with boa.env.prank(mallory), reverts("erc20: insufficient allowance"):
        bench.registry.fund_rewards(1)
    with reverts("forecast: amount is zero"):
        bench.registry.fund_rewards(0)
    assert bench.registry.reward_pool() == 0


# -- hiding ------------------------------------------------------------------------------------


def test_a_forecast_that_was_not_revealed_costs_the_cap(bench: Bench, mallory: str) -> None:
    bench.committed(FIRST_DAY, FORECAST)
    bench.at_day(FIRST_DAY + 1, FINALITY)
    with boa.env.prank(mallory):
        bench.miss(FIRST_DAY)
    (event,) = events(bench.registry, "ForecastMissed")
    assert (event.forecaster, event.zone) == (bench.forecaster, ZONE)
    assert event.first_slot == FIRST_DAY * 96
    assert bench.status(FIRST_DAY) == MISSED
    assert bench.bond() == BOND - MAX_SLASH
    assert bench.registry.reward_pool() == MAX_SLASH


def test_nothing_is_missed_while_it_may_be_revealed(bench: Bench) -> None:
    bench.committed(FIRST_DAY, FORECAST)
    bench.at_day(FIRST_DAY + 1, FINALITY - 1)
    with reverts("forecast: may still be revealed"):
        bench.miss(FIRST_DAY)
    bench.reveal(FIRST_DAY, FORECAST)


def test_a_day_is_missed_once(bench: Bench) -> None:
    bench.committed(FIRST_DAY, FORECAST)
    bench.at_day(FIRST_DAY + 1, FINALITY)
    bench.miss(FIRST_DAY)
    with reverts("forecast: nothing is missing"):
        bench.miss(FIRST_DAY)


def test_a_revealed_forecast_is_not_missed(bench: Bench) -> None:
    bench.revealed(FIRST_DAY, FORECAST)
    bench.at_day(FIRST_DAY + 1, FINALITY)
    with reverts("forecast: nothing is missing"):
        bench.miss(FIRST_DAY)


def test_what_was_not_committed_is_not_missed(bench: Bench) -> None:
    bench.at_day(FIRST_DAY + 1, FINALITY)
    with reverts("forecast: nothing is missing"):
        bench.miss(FIRST_DAY)
    assert bench.status(FIRST_DAY) == NONE


def test_a_missed_forecast_is_never_scored(bench: Bench) -> None:
    bench.committed(FIRST_DAY, FORECAST)
    bench.finish(FIRST_DAY)
    bench.miss(FIRST_DAY)
    with reverts("forecast: nothing to score"):
        bench.score(FIRST_DAY, FORECAST)
    with reverts("forecast: nothing to reveal"):
        bench.reveal(FIRST_DAY, FORECAST)


def test_hiding_a_bad_forecast_is_no_better_than_showing_it(bench: Bench) -> None:
    skilled(bench, FIRST_DAY, PERFECT)
    bench.committed(FIRST_DAY + 4, FORECAST)
    bench.at_day(FIRST_DAY + 5, FINALITY + DAY)
    bench.miss(FIRST_DAY + 4)
    assert bench.bond() == BOND - MAX_SLASH
    # One perfect day, and four without a result: the three that were not forecast count too.
    assert bench.registry.skill(bench.forecaster, ZONE) == (1_000 // 5, 1)


def test_the_cap_of_a_missed_day_is_that_of_the_commitment(bench: Bench) -> None:
    bench.committed(FIRST_DAY, FORECAST)
    boa.env.timestamp += 1
    set_rule(bench, MAX_SLASH_KEY, 0)
    bench.at_day(FIRST_DAY + 1, FINALITY)
    bench.miss(FIRST_DAY)
    assert bench.bond() == BOND - MAX_SLASH


# -- corrections and collectors ----------------------------------------------------------------


def test_no_correction_of_the_ledger_comes_after_the_score(bench: Bench) -> None:
    before = skilled(bench, FIRST_DAY, HALF)
    bond = bench.bond()
    with boa.env.prank(bench.collector), reverts("ledger: totals are final"):
        bench.ledger.correct(ZONE, FIRST_DAY * 96, b"\x01" * 32, 20, 20 * 96, [0] * 24)
    assert bench.registry.result_of(bench.forecaster, ZONE, FIRST_DAY * 96) == (SCORED, *before)
    assert bench.bond() == bond


def test_who_became_collector_after_committing_earns_nothing(bench: Bench) -> None:
    bench.fund(POOL)
    quantiles = missing_by(bench, FIRST_DAY, PERFECT)
    bench.revealed(FIRST_DAY, quantiles)
    bench.finish(FIRST_DAY)
    bench.ledger.set_collector(ZONE, bench.forecaster)
    bench.score(FIRST_DAY, quantiles)
    assert bench.status(FIRST_DAY) == UNSCORED
    assert bench.bond() == BOND
    assert bench.registry.skill(bench.forecaster, ZONE) == (0, 0)


def test_who_became_collector_still_answers_for_a_forecast_it_hides(bench: Bench) -> None:
    bench.committed(FIRST_DAY, FORECAST)
    bench.ledger.set_collector(ZONE, bench.forecaster)
    bench.at_day(FIRST_DAY + 1, FINALITY)
    bench.miss(FIRST_DAY)
    assert bench.bond() == BOND - MAX_SLASH


def test_the_collector_makes_no_balancing_proposals_in_its_zone(bench: Bench) -> None:
    assert not bench.registry.in_good_standing(bench.collector, ZONE)
    assert bench.registry.allowance(bench.collector, ZONE) == (0, 0)
    with reverts("forecast: collector may not propose"):
        bench.propose(bench.collector)
    assert bench.registry.in_good_standing(bench.collector, ZONE + 1)


# -- bonds that back nothing -------------------------------------------------------------------


def test_a_leaving_bond_backs_no_proposal(bench: Bench) -> None:
    bench.propose()
    with boa.env.prank(bench.forecaster):
        bench.registry.announce_withdrawal(BOND - MINIMUM_BOND)
    assert bench.registry.in_good_standing(bench.forecaster, ZONE)
    with boa.env.prank(bench.forecaster):
        bench.registry.announce_withdrawal(BOND - MINIMUM_BOND + 1)
    assert not bench.registry.in_good_standing(bench.forecaster, ZONE)
    with reverts("forecast: bond too small"):
        bench.propose()


def test_a_bond_slashed_below_the_minimum_backs_nothing(bench: Bench) -> None:
    bench.registry.set_minimum_bond(BOND)
    skilled(bench, FIRST_DAY, BAD)
    with reverts("forecast: bond too small"):
        bench.propose()
    bench.at_day(FIRST_DAY + 5, -DAY // 2)
    with reverts("forecast: bond too small"):
        bench.commit(FIRST_DAY + 5, FORECAST)


def test_a_withdrawal_announced_before_a_slash_pays_what_is_left(bench: Bench) -> None:
    set_rule(bench, MAX_SLASH_KEY, BOND - 1)
    quantiles = missing_by(bench, FIRST_DAY, BAD)
    bench.revealed(FIRST_DAY, quantiles)
    with boa.env.prank(bench.forecaster):
        bench.registry.announce_withdrawal(BOND)
    bench.finish(FIRST_DAY)
    bench.score(FIRST_DAY, quantiles)
    assert bench.registry.bond_of(bench.forecaster)[:2] == (1, 1)
    before = held(bench)
    boa.env.timestamp += WITHDRAWAL_DELAY
    with boa.env.prank(bench.forecaster):
        bench.registry.withdraw_bond()
    assert held(bench) == before - 1
    assert bench.bond() == 0


def test_a_slash_takes_what_stays_before_what_leaves(bench: Bench) -> None:
    quantiles = missing_by(bench, FIRST_DAY, BAD)
    bench.revealed(FIRST_DAY, quantiles)
    with boa.env.prank(bench.forecaster):
        bench.registry.announce_withdrawal(400)
    bench.finish(FIRST_DAY)
    bench.score(FIRST_DAY, quantiles)
    assert bench.registry.bond_of(bench.forecaster)[:2] == (BOND - MAX_SLASH, 400)


def test_nothing_is_left_to_pay_after_a_slash_of_all(bench: Bench) -> None:
    set_rule(bench, MAX_SLASH_KEY, 2 * BOND)
    quantiles = missing_by(bench, FIRST_DAY, BAD)
    bench.revealed(FIRST_DAY, quantiles)
    with boa.env.prank(bench.forecaster):
        bench.registry.announce_withdrawal(BOND)
    bench.finish(FIRST_DAY)
    bench.score(FIRST_DAY, quantiles)
    boa.env.timestamp += WITHDRAWAL_DELAY
    with boa.env.prank(bench.forecaster), reverts("forecast: nothing announced"):
        bench.registry.withdraw_bond()


def test_no_bond_leaves_before_what_it_backs_can_be_scored_and_disputed(bench: Bench) -> None:
    bench.at_day(FIRST_DAY, -2 * DAY)
    bench.commit(FIRST_DAY, FORECAST)
    with boa.env.prank(bench.forecaster):
        bench.registry.announce_withdrawal(BOND)
    _, _, unlocked_at = bench.registry.bond_of(bench.forecaster)
    assert unlocked_at >= (FIRST_DAY + 1) * DAY + 14 * DAY


# -- allowance ---------------------------------------------------------------------------------


def test_a_newcomer_on_probation_has_one_proposal_a_day(bench: Bench) -> None:
    assert bench.registry.in_good_standing(bench.forecaster, ZONE)
    assert bench.registry.allowance(bench.forecaster, ZONE) == (1, 0)
    bench.propose()
    (event,) = events(bench.registry, "AllowanceUsed")
    assert (event.forecaster, event.zone) == (bench.forecaster, ZONE)
    assert (event.used, event.allowance) == (1, 1)
    assert bench.registry.allowance(bench.forecaster, ZONE) == (1, 1)


def test_an_allowance_is_used_once(bench: Bench) -> None:
    bench.propose()
    with reverts("forecast: no allowance left today"):
        bench.propose()


def test_an_allowance_is_new_every_utc_day(bench: Bench) -> None:
    bench.propose()
    boa.env.timestamp = (boa.env.timestamp // DAY + 1) * DAY - 1
    with reverts("forecast: no allowance left today"):
        bench.propose()
    boa.env.timestamp += 1
    bench.propose()


def test_an_allowance_is_one_for_each_zone(bench: Bench) -> None:
    bench.propose()
    with boa.env.prank(bench.governor):
        bench.registry.use_allowance(bench.forecaster, ZONE + 1)
    assert bench.registry.allowance(bench.forecaster, ZONE)[1] == 1
    assert bench.registry.allowance(bench.forecaster, ZONE + 1)[1] == 1


def test_only_the_governor_uses_an_allowance(bench: Bench, mallory: str) -> None:
    for stranger in (mallory, bench.forecaster, str(boa.env.eoa)):
        with boa.env.prank(stranger), reverts("forecast: caller is not the governor"):
            bench.registry.use_allowance(bench.forecaster, ZONE)


def test_the_governor_of_before_uses_no_allowance(bench: Bench, mallory: str) -> None:
    bench.registry.set_governor(mallory)
    with reverts("forecast: caller is not the governor"):
        bench.propose()
    with boa.env.prank(mallory):
        bench.registry.use_allowance(bench.forecaster, ZONE)


def test_a_stranger_has_no_allowance(bench: Bench, mallory: str) -> None:
    assert bench.registry.allowance(mallory, ZONE) == (0, 0)
    with reverts("forecast: proposer is not a forecaster"):
        bench.propose(mallory)


def test_a_barred_forecaster_has_no_allowance(bench: Bench) -> None:
    bench.registry.set_forecaster(bench.forecaster, False)
    with reverts("forecast: proposer is not a forecaster"):
        bench.propose()


def test_using_an_allowance_forgets_no_day(bench: Bench) -> None:
    skilled(bench, FIRST_DAY, HALF)
    before = bench.registry.skill(bench.forecaster, ZONE)
    bench.propose()
    assert bench.registry.skill(bench.forecaster, ZONE) == before


def test_committing_and_scoring_forget_no_proposal(bench: Bench) -> None:
    bench.revealed(FIRST_DAY, FORECAST)
    bench.finish(FIRST_DAY)
    bench.propose()
    bench.score(FIRST_DAY, FORECAST)
    boa.env.timestamp = boa.env.timestamp // DAY * DAY
    bench.commit(FIRST_DAY + 5, FORECAST)
    assert bench.registry.allowance(bench.forecaster, ZONE)[1] == 1


def with_skill(bench: Bench, share: Fraction) -> int:
    """One scored day ends probation; returns the skill that it gave."""
    set_rule(bench, PROBATION_DAYS, 1)
    skilled(bench, FIRST_DAY, share)
    permille, days = bench.registry.skill(bench.forecaster, ZONE)
    assert days == 1
    return int(permille)


def test_a_perfect_forecaster_has_the_largest_allowance(bench: Bench) -> None:
    assert with_skill(bench, PERFECT) == 1_000
    assert bench.registry.allowance(bench.forecaster, ZONE) == (4, 0)
    for _ in range(4):
        bench.propose()
    with reverts("forecast: no allowance left today"):
        bench.propose()


def test_at_the_threshold_a_forecaster_has_one_proposal(bench: Bench) -> None:
    set_rule(bench, SKILL_THRESHOLD, with_skill(bench, HALF))
    assert bench.registry.in_good_standing(bench.forecaster, ZONE)
    assert bench.registry.allowance(bench.forecaster, ZONE) == (1, 0)


def test_a_permille_under_the_threshold_a_forecaster_has_none(bench: Bench) -> None:
    set_rule(bench, SKILL_THRESHOLD, with_skill(bench, HALF) + 1)
    assert not bench.registry.in_good_standing(bench.forecaster, ZONE)
    assert bench.registry.allowance(bench.forecaster, ZONE) == (0, 0)
    with reverts("forecast: skill is below the threshold"):
        bench.propose()


@pytest.mark.parametrize(("over", "expected"), [(-1, 1), (0, 2), (1, 2)])
def test_the_next_proposal_comes_a_third_of_the_way_up(
    bench: Bench, over: int, expected: int
) -> None:
    permille = with_skill(bench, HALF) - over
    # 3 * (permille - threshold) >= 1000 - threshold, rounded up: one more of three.
    threshold = (3 * permille - 1_000) // 2
    assert 0 < threshold < permille
    set_rule(bench, SKILL_THRESHOLD, threshold)
    exact = 1 + 3 * (permille + over - threshold) // (1_000 - threshold)
    assert exact == expected
    assert bench.registry.allowance(bench.forecaster, ZONE) == (expected, 0)


def test_a_threshold_of_all_takes_a_perfect_forecaster(bench: Bench) -> None:
    with_skill(bench, PERFECT)
    set_rule(bench, SKILL_THRESHOLD, 1_000)
    assert bench.registry.allowance(bench.forecaster, ZONE) == (4, 0)


def test_a_worse_than_naive_forecaster_has_none_even_without_threshold(bench: Bench) -> None:
    assert with_skill(bench, BAD) < 0
    set_rule(bench, SKILL_THRESHOLD, 0)
    assert bench.registry.allowance(bench.forecaster, ZONE) == (0, 0)


def test_the_rule_may_leave_forecasters_no_proposal(bench: Bench) -> None:
    set_rule(bench, MAX_ALLOWANCE, 0)
    assert bench.registry.allowance(bench.forecaster, ZONE) == (0, 0)
    with reverts("forecast: no allowance left today"):
        bench.propose()


def test_an_allowance_cut_during_the_day_is_used_up(bench: Bench) -> None:
    with_skill(bench, PERFECT)
    for _ in range(3):
        bench.propose()
    bench.parameters.set_value(MAX_ALLOWANCE, 2)
    with reverts("forecast: no allowance left today"):
        bench.propose()


def test_nobody_stays_on_probation_by_forecasting_now_and_then(bench: Bench) -> None:
    skilled(bench, FIRST_DAY, Fraction(1))
    assert bench.registry.allowance(bench.forecaster, ZONE) == (1, 0)
    # Two days without a forecast end the three days of probation.
    bench.at_day(FIRST_DAY + 3, FINALITY + DAY - 1)
    assert bench.registry.in_good_standing(bench.forecaster, ZONE)
    boa.env.timestamp += 1
    assert not bench.registry.in_good_standing(bench.forecaster, ZONE)


# -- gas ---------------------------------------------------------------------------------------


def test_the_first_day_of_a_forecaster_is_affordable() -> None:
    """Execution gas with every word cold: two fresh words to commit, none to reveal; a score that
    costs some bond rewrites the bond's word and opens that of the pool."""
    now = boa.env.timestamp
    bench = new_bench()
    quantiles = missing_by(bench, FIRST_DAY, Fraction(3, 2))

    def gas_of(act: Callable[[int, Quantiles], None]) -> int:
        boa.env.reset_gas_used()
        act(FIRST_DAY, quantiles)
        return int(bench.registry._computation.get_gas_used())

    bench.at_day(FIRST_DAY, -DAY // 2)
    committed = gas_of(bench.commit)
    bench.at_day(FIRST_DAY, -LEAD)
    revealed = gas_of(bench.reveal)
    bench.finish(FIRST_DAY)
    scored = gas_of(bench.score)
    assert (bench.status(FIRST_DAY), bench.bond() < BOND) == (SCORED, True)
    boa.env.timestamp = now
    assert committed < 63_000
    assert revealed < 80_000
    assert scored < 541_000
