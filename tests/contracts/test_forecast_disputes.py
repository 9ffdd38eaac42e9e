# SPDX-License-Identifier: Apache-2.0
"""A member disputes a forecast, a vote says who is liable, and the bond waits for it."""

from __future__ import annotations

from collections.abc import Iterator

import boa
import pytest

from tests.contracts.forecast_bench import (
    BOND,
    FINALITY,
    FIRST_DAY,
    FORECAST,
    LEAD,
    MINIMUM_BOND,
    SCORED,
    WITHDRAWAL_DELAY,
    ZONE,
    Bench,
    admit,
    commitment_of,
    new_bench,
    pack,
    rolled_back,
)
from tests.contracts.governance_fixtures import DAY, ZERO, events, reverts

OPEN, DECIDED, LAPSED = 1, 2, 3
LAST_COMPLAINT = FIRST_DAY + 1 + 14
LAPSE = 30 * DAY


@pytest.fixture(scope="module")
def deployed() -> Bench:
    return new_bench()


@pytest.fixture
def bench(deployed: Bench) -> Iterator[Bench]:
    """The first day is forecast and over."""
    with rolled_back(deployed) as bench:
        bench.revealed(FIRST_DAY, FORECAST)
        bench.at_day(FIRST_DAY + 1)
        yield bench


@pytest.fixture
def mallory() -> str:
    return str(boa.env.generate_address("mallory"))


def decide(bench: Bench, dispute: int, liable: str, amount: int) -> None:
    bench.registry.decide_dispute(dispute, liable, amount, "read at the meeting")


# -- opening -----------------------------------------------------------------------------------


def test_a_member_disputes_a_forecast(bench: Bench) -> None:
    dispute = bench.dispute(FIRST_DAY)
    (event,) = events(bench.registry, "DisputeOpened")
    assert (event.dispute_id, event.forecaster, event.zone) == (dispute, bench.forecaster, ZONE)
    assert (event.first_slot, event.complaint) == (FIRST_DAY * 96, "harm")
    assert event.complainant == bench.member
    record = bench.registry.dispute_of(dispute)
    assert (record.forecaster, record.complainant) == (bench.forecaster, bench.member)
    assert (record.zone, record.first_slot) == (ZONE, FIRST_DAY * 96)
    assert (record.opened_at, record.status) == (boa.env.timestamp, OPEN)
    assert (record.liable, record.amount) == (ZERO, 0)
    assert bench.registry.open_disputes(bench.forecaster) == 1
    assert bench.registry.is_disputed(bench.forecaster, ZONE, FIRST_DAY * 96)


def test_disputes_are_numbered_from_one(bench: Bench) -> None:
    assert not bench.registry.is_disputed(bench.forecaster, ZONE, FIRST_DAY * 96)
    assert bench.registry.dispute_count() == 0
    assert bench.dispute(FIRST_DAY) == 1
    assert bench.registry.dispute_count() == 1


def test_a_stranger_disputes_nothing(bench: Bench, mallory: str) -> None:
    for stranger in (mallory, bench.forecaster, bench.governor):
        with reverts("forecast: caller is not a member"):
            bench.dispute(FIRST_DAY, stranger)


def test_a_forecast_is_disputed_once(bench: Bench) -> None:
    dispute = bench.dispute(FIRST_DAY)
    with reverts("forecast: already disputed"):
        bench.dispute(FIRST_DAY)
    decide(bench, dispute, ZERO, 0)
    with reverts("forecast: already disputed"):
        bench.dispute(FIRST_DAY)


def test_what_was_not_forecast_is_not_disputed(bench: Bench) -> None:
    with reverts("forecast: nothing to dispute"):
        bench.dispute(FIRST_DAY - 1)


def test_a_day_is_disputed_once_it_is_over(bench: Bench) -> None:
    boa.env.timestamp -= 1
    with reverts("forecast: day is not over"):
        bench.dispute(FIRST_DAY)


def test_a_complaint_may_come_two_weeks_after_the_day(bench: Bench) -> None:
    bench.at_day(LAST_COMPLAINT, -1)
    bench.dispute(FIRST_DAY)
    assert bench.registry.open_disputes(bench.forecaster) == 1


def test_a_later_complaint_comes_too_late(bench: Bench) -> None:
    bench.at_day(LAST_COMPLAINT)
    with reverts("forecast: too late to dispute"):
        bench.dispute(FIRST_DAY)


def test_a_disputed_forecast_is_still_scored(bench: Bench) -> None:
    bench.dispute(FIRST_DAY)
    bench.finish(FIRST_DAY)
    bench.score(FIRST_DAY, FORECAST)
    assert bench.status(FIRST_DAY) == SCORED
    with reverts("forecast: already disputed"):
        bench.dispute(FIRST_DAY)


def test_a_disputed_forecast_can_still_be_revealed_or_missed(bench: Bench) -> None:
    for day in (FIRST_DAY + 2, FIRST_DAY + 3):
        bench.at_day(FIRST_DAY + 2, -LEAD - 1)
        bench.commit(day, FORECAST)
    bench.at_day(FIRST_DAY + 4)
    bench.dispute(FIRST_DAY + 2)
    bench.dispute(FIRST_DAY + 3)
    bench.reveal(FIRST_DAY + 2, FORECAST)
    bench.at_day(FIRST_DAY + 4, FINALITY)
    bench.miss(FIRST_DAY + 3)
    with reverts("forecast: already disputed"):
        bench.dispute(FIRST_DAY + 3)


# -- deciding ----------------------------------------------------------------------------------


def test_a_liable_forecaster_pays_out_of_its_bond(bench: Bench) -> None:
    dispute = bench.dispute(FIRST_DAY)
    decide(bench, dispute, bench.forecaster, 700_000)
    (event,) = events(bench.registry, "DisputeDecided")
    assert (event.dispute_id, event.liable) == (dispute, bench.forecaster)
    assert (event.amount, event.slashed) == (700_000, 700_000)
    assert event.finding == "read at the meeting"
    record = bench.registry.dispute_of(dispute)
    assert (record.status, record.liable, record.amount) == (DECIDED, bench.forecaster, 700_000)
    assert bench.bond() == BOND - 700_000
    assert bench.registry.reward_pool() == 700_000
    assert bench.registry.open_disputes(bench.forecaster) == 0


def test_nobody_pays_beyond_the_bond(bench: Bench) -> None:
    dispute = bench.dispute(FIRST_DAY)
    decide(bench, dispute, bench.forecaster, 10 * BOND)
    (event,) = events(bench.registry, "DisputeDecided")
    assert (event.amount, event.slashed) == (10 * BOND, BOND)
    assert bench.bond() == 0
    assert bench.registry.reward_pool() == BOND
    assert bench.bond(bench.collector) == BOND


def test_an_amount_beyond_all_measure_takes_the_bond_and_no_more(bench: Bench) -> None:
    decide(bench, bench.dispute(FIRST_DAY), bench.forecaster, 2**256 - 1)
    assert (bench.bond(), bench.registry.reward_pool()) == (0, BOND)


def test_another_liable_person_is_only_recorded(bench: Bench) -> None:
    dispute = bench.dispute(FIRST_DAY)
    # The collector has a bond here too; it stands for its own forecasts only.
    decide(bench, dispute, bench.collector, 500)
    record = bench.registry.dispute_of(dispute)
    assert (record.status, record.liable, record.amount) == (DECIDED, bench.collector, 500)
    assert bench.bond() == bench.bond(bench.collector) == BOND
    assert bench.registry.reward_pool() == 0


def test_nobody_may_be_liable(bench: Bench) -> None:
    dispute = bench.dispute(FIRST_DAY)
    decide(bench, dispute, ZERO, 0)
    record = bench.registry.dispute_of(dispute)
    assert (record.status, record.liable, record.amount) == (DECIDED, ZERO, 0)
    assert bench.bond() == BOND


def test_nobody_is_liable_for_nothing_but_nothing(bench: Bench) -> None:
    dispute = bench.dispute(FIRST_DAY)
    with reverts("forecast: an amount needs somebody liable"):
        decide(bench, dispute, ZERO, 1)


def test_a_dispute_is_decided_once(bench: Bench) -> None:
    dispute = bench.dispute(FIRST_DAY)
    decide(bench, dispute, bench.forecaster, 5)
    with reverts("forecast: dispute is not open"):
        decide(bench, dispute, bench.forecaster, 5)
    assert bench.bond() == BOND - 5


def test_only_a_vote_decides(bench: Bench, mallory: str) -> None:
    dispute = bench.dispute(FIRST_DAY)
    for stranger in (mallory, bench.member, bench.forecaster, bench.governor):
        with boa.env.prank(stranger), reverts("ownable: caller is not the owner"):
            decide(bench, dispute, ZERO, 0)


def test_there_is_nothing_to_decide_where_nothing_is_disputed(bench: Bench) -> None:
    with reverts("forecast: dispute is not open"):
        decide(bench, 1, bench.forecaster, 5)


def test_a_dispute_can_be_decided_until_it_lapses(bench: Bench) -> None:
    dispute = bench.dispute(FIRST_DAY)
    boa.env.timestamp += LAPSE - 1
    decide(bench, dispute, bench.forecaster, 5)
    assert bench.bond() == BOND - 5


def test_a_lapsed_dispute_is_not_decided(bench: Bench) -> None:
    dispute = bench.dispute(FIRST_DAY)
    boa.env.timestamp += LAPSE
    with reverts("forecast: dispute lapsed"):
        decide(bench, dispute, bench.forecaster, 5)


def test_a_decision_below_the_minimum_bond_ends_the_standing(bench: Bench) -> None:
    assert bench.registry.in_good_standing(bench.forecaster, ZONE)
    decide(bench, bench.dispute(FIRST_DAY), bench.forecaster, BOND - MINIMUM_BOND + 1)
    assert not bench.registry.in_good_standing(bench.forecaster, ZONE)


# -- lapsing -----------------------------------------------------------------------------------


def test_anyone_closes_a_lapsed_dispute(bench: Bench, mallory: str) -> None:
    dispute = bench.dispute(FIRST_DAY)
    boa.env.timestamp += LAPSE
    with boa.env.prank(mallory):
        bench.registry.close_dispute(dispute)
    (event,) = events(bench.registry, "DisputeLapsed")
    assert event.dispute_id == dispute
    assert bench.registry.dispute_of(dispute).status == LAPSED
    assert bench.registry.open_disputes(bench.forecaster) == 0
    with reverts("forecast: dispute is not open"):
        decide(bench, dispute, bench.forecaster, 5)


def test_nobody_closes_a_dispute_that_may_be_decided(bench: Bench) -> None:
    dispute = bench.dispute(FIRST_DAY)
    boa.env.timestamp += LAPSE - 1
    with reverts("forecast: dispute may be decided"):
        bench.registry.close_dispute(dispute)


def test_a_dispute_is_closed_once(bench: Bench) -> None:
    dispute = bench.dispute(FIRST_DAY)
    boa.env.timestamp += LAPSE
    bench.registry.close_dispute(dispute)
    with reverts("forecast: dispute is not open"):
        bench.registry.close_dispute(dispute)
    assert bench.registry.open_disputes(bench.forecaster) == 0


def test_a_decided_dispute_is_not_closed(bench: Bench) -> None:
    dispute = bench.dispute(FIRST_DAY)
    decide(bench, dispute, ZERO, 0)
    boa.env.timestamp += LAPSE
    with reverts("forecast: dispute is not open"):
        bench.registry.close_dispute(dispute)


# -- the bond waits ----------------------------------------------------------------------------


def leaving(bench: Bench, amount: int) -> None:
    with boa.env.prank(bench.forecaster):
        bench.registry.announce_withdrawal(amount)
    boa.env.timestamp += WITHDRAWAL_DELAY


def withdraw(bench: Bench) -> None:
    with boa.env.prank(bench.forecaster):
        bench.registry.withdraw_bond()


def test_no_bond_leaves_while_a_dispute_is_open(bench: Bench) -> None:
    bench.dispute(FIRST_DAY)
    leaving(bench, BOND)
    with reverts("forecast: dispute is open"):
        withdraw(bench)


def test_the_bond_of_others_is_free(bench: Bench) -> None:
    bench.dispute(FIRST_DAY)
    with boa.env.prank(bench.collector):
        bench.registry.announce_withdrawal(BOND)
        boa.env.timestamp += WITHDRAWAL_DELAY
        bench.registry.withdraw_bond()
    assert bench.bond(bench.collector) == 0


def test_what_a_decision_left_may_leave(bench: Bench) -> None:
    dispute = bench.dispute(FIRST_DAY)
    leaving(bench, BOND)
    decide(bench, dispute, bench.forecaster, BOND - 3)
    before = bench.token.balanceOf(bench.forecaster)
    withdraw(bench)
    assert bench.token.balanceOf(bench.forecaster) == before + 3
    assert bench.token.balanceOf(bench.registry.address) == 2 * BOND - 3


def test_the_bond_is_free_once_every_dispute_is_over(bench: Bench) -> None:
    bench.at_day(FIRST_DAY + 1, DAY // 2)
    bench.commit(FIRST_DAY + 2, FORECAST)
    first = bench.dispute(FIRST_DAY)
    bench.at_day(FIRST_DAY + 3)
    second = bench.dispute(FIRST_DAY + 2)
    leaving(bench, BOND)
    decide(bench, first, ZERO, 0)
    with reverts("forecast: dispute is open"):
        withdraw(bench)
    bench.at_day(FIRST_DAY + 3, LAPSE)
    bench.registry.close_dispute(second)
    withdraw(bench)
    assert bench.bond() == 0


def test_new_announcements_and_offices_do_not_free_the_bond(bench: Bench) -> None:
    bench.dispute(FIRST_DAY)
    leaving(bench, BOND)
    bench.registry.set_forecaster(bench.forecaster, False)
    bench.registry.set_forecaster(bench.forecaster, True)
    with boa.env.prank(bench.forecaster):
        bench.registry.deposit_bond(1)
        bench.registry.announce_withdrawal(BOND)
    boa.env.timestamp += WITHDRAWAL_DELAY - 1
    assert bench.registry.open_disputes(bench.forecaster) == 1
    with reverts("forecast: bond is still locked"):
        withdraw(bench)
    boa.env.timestamp += 1
    with reverts("forecast: dispute is open"):
        withdraw(bench)


def test_two_forecasters_of_one_day_are_disputed_apart(bench: Bench, mallory: str) -> None:
    admit(bench, mallory)
    bench.at_day(FIRST_DAY + 1, DAY // 2)
    slot = (FIRST_DAY + 2) * 96
    bench.commit(FIRST_DAY + 2, FORECAST)
    with boa.env.prank(mallory):
        bench.registry.commit(ZONE, slot, commitment_of(pack(FORECAST), slot, mallory))
    bench.at_day(FIRST_DAY + 3)
    bench.dispute(FIRST_DAY + 2)
    with boa.env.prank(bench.member):
        second = bench.registry.open_dispute(mallory, ZONE, slot, "")
    decide(bench, second, mallory, 8)
    assert (bench.bond(), bench.bond(mallory)) == (BOND, BOND - 8)
    assert bench.registry.open_disputes(bench.forecaster) == 1
