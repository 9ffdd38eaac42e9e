# SPDX-License-Identifier: Apache-2.0
"""Public money: budgets, payments, grants, recurring payments, and the chain of all payments.

Who tries to take money against the rules is in test_treasury_attacks.py.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import boa
import pytest
from eth_abi.abi import encode
from eth_utils import keccak

from dao.eip712 import keccak as keccak256
from meters.leaves import leaves_of, root_of_leaves
from meters.readings import Reading, Readings
from tests.contracts.compiling import compiled
from tests.contracts.governance_fixtures import DAY, START, ZERO, reverts
from tests.contracts.treasury_world import (
    CANCELLED,
    EURO,
    FINALITY,
    FIRST_SLOT,
    LAPSED,
    MONTH,
    OPEN,
    PAID,
    PLAYGROUND,
    SECRETS,
    SOLAR,
    YEAR,
    TreasuryWorld,
    Tree,
    new_world,
    salt,
)


@pytest.fixture(scope="module")
def opened() -> TreasuryWorld:
    return new_world()


@pytest.fixture
def world(opened: TreasuryWorld) -> Iterator[TreasuryWorld]:
    with boa.env.anchor():
        boa.env.timestamp = START
        opened.budget()
        yield opened
    boa.env.timestamp = START


# Paying


def test_a_payment_carries_proposal_purpose_and_payee(world: TreasuryWorld) -> None:
    proposal = world.pay(30 * EURO, "first invoice")
    [payment] = world.logged("Payment")
    assert (payment.number, payment.proposal, payment.payee) == (1, proposal, world.payee)
    assert (payment.purpose, payment.amount, payment.kind) == (SOLAR, 30 * EURO, 0)
    assert (payment.source, payment.paid_at) == (0, START)
    assert payment.reference == "first invoice"


def test_a_payment_reaches_the_payee_and_the_sums(world: TreasuryWorld) -> None:
    world.pay(30 * EURO)
    world.pay(12 * EURO)
    assert world.token.balanceOf(world.payee) == 42 * EURO
    assert world.treasury.total_paid() == world.treasury.paid_to_purpose(SOLAR) == 42 * EURO
    assert world.treasury.paid_to_purpose(PLAYGROUND) == 0
    assert world.treasury.payment_count() == 2
    assert world.treasury.free() == world.token.balanceOf(world.treasury) == 9_958 * EURO
    assert world.treasury.budget_of(SOLAR).spent == 42 * EURO


def test_one_proposal_may_make_different_payments(world: TreasuryWorld) -> None:
    world.pay(1, "one", proposal=7)
    world.pay(1, "other", proposal=7)
    world.pay(1, "one", payee=world.other, proposal=7)
    assert world.treasury.payment_count() == 3


# Budgets


def test_a_budget_can_be_read_with_its_running_period(world: TreasuryWorld) -> None:
    boa.env.timestamp += 2 * MONTH + 5
    world.pay(9)
    found = world.treasury.budget_of(SOLAR)
    assert (found.name, found.edition, found.amount) == ("Solar roofs", 1, 1_000 * EURO)
    assert (found.period_seconds, found.starts_at, found.ends_at) == (MONTH, START, START + YEAR)
    assert (found.period, found.spent) == (2, 9)


def test_a_new_period_has_the_whole_budget_again(world: TreasuryWorld) -> None:
    world.pay(1_000 * EURO)
    boa.env.timestamp = START + MONTH
    world.pay(1_000 * EURO)
    assert world.treasury.total_paid() == 2_000 * EURO


def test_a_budget_ends(world: TreasuryWorld) -> None:
    boa.env.timestamp = START + YEAR - 1
    world.pay(1)
    boa.env.timestamp = START + YEAR
    with reverts("treasury: no budget in force"):
        world.pay(1, "late")
    assert world.treasury.budget_of(SOLAR).edition == 0
    assert world.treasury.budget_of(SOLAR).name == "Solar roofs"


def test_a_budget_that_has_not_begun_pays_nothing(world: TreasuryWorld) -> None:
    world.budget(PLAYGROUND, starts_at=START + DAY, name="Playground")
    with reverts("treasury: no budget in force"):
        world.pay(1, purpose=PLAYGROUND)
    boa.env.timestamp = START + DAY
    world.pay(1, purpose=PLAYGROUND)


def test_a_new_edition_takes_over_where_a_period_ends(world: TreasuryWorld) -> None:
    world.pay(700 * EURO)
    world.budget(amount=5 * EURO, period=DAY, starts_at=START + MONTH)
    assert world.treasury.budget_of(SOLAR).amount == 1_000 * EURO
    boa.env.timestamp = START + MONTH
    world.pay(5 * EURO)
    with reverts("treasury: over the budget"):
        world.pay(1, "too much")
    assert world.treasury.budget_of(SOLAR).edition == 2


def test_what_a_past_period_spent_stays_readable(world: TreasuryWorld) -> None:
    world.pay(700 * EURO)
    world.budget(amount=5 * EURO, starts_at=START + MONTH)
    boa.env.timestamp = START + 2 * MONTH
    past = world.treasury.budget_in(SOLAR, 1, 0)
    assert (past.amount, past.spent, past.starts_at) == (1_000 * EURO, 700 * EURO, START)
    assert world.treasury.budget_in(SOLAR, 2, 0).spent == 0


@pytest.mark.parametrize("start", [START, START + 1, START + MONTH - 1, START + MONTH + 1])
def test_the_running_period_cannot_be_changed(world: TreasuryWorld, start: int) -> None:
    with reverts("treasury: budget begins within a period"):
        world.budget(amount=2_000 * EURO, starts_at=start)


def test_a_period_that_begins_this_second_is_running(world: TreasuryWorld) -> None:
    boa.env.timestamp = START + MONTH
    world.pay(1_000 * EURO)
    with reverts("treasury: budget begins within a period"):
        world.budget(starts_at=START + MONTH)


def test_an_edition_that_has_not_begun_is_replaced(world: TreasuryWorld) -> None:
    world.budget(amount=1, starts_at=START + MONTH)
    world.budget(amount=2, starts_at=START + 2 * MONTH)
    assert world.treasury.edition_count(SOLAR) == 2
    boa.env.timestamp = START + MONTH
    assert world.treasury.budget_of(SOLAR).amount == 1_000 * EURO
    boa.env.timestamp = START + 2 * MONTH
    assert world.treasury.budget_of(SOLAR).amount == 2


def test_after_its_end_a_purpose_may_begin_again_at_any_time(world: TreasuryWorld) -> None:
    world.budget(amount=3, starts_at=START + YEAR + 77)
    boa.env.timestamp = START + YEAR + 76
    assert world.treasury.budget_of(SOLAR).edition == 0
    boa.env.timestamp += 1
    assert world.treasury.budget_of(SOLAR).amount == 3


def test_a_purpose_keeps_its_name(world: TreasuryWorld) -> None:
    with reverts("treasury: a purpose keeps its name"):
        world.budget(name="Playground", starts_at=START + MONTH)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"purpose": 0}, "treasury: purpose out of range"),
        ({"purpose": 2**32}, "treasury: purpose out of range"),
        ({"name": ""}, "treasury: purpose has no name"),
        ({"amount": 2**64}, "treasury: amount out of range"),
        ({"period": DAY - 1}, "treasury: period out of range"),
        ({"period": 366 * DAY + 1}, "treasury: period out of range"),
        ({"starts_at": START - 1}, "treasury: budget begins in the past"),
        ({"starts_at": START + DAY, "ends_at": START + DAY}, "treasury: budget ends before it"),
        ({"ends_at": START + 15 * 366 * DAY + 1}, "treasury: budget ends too late"),
    ],
)
def test_a_budget_out_of_bounds_is_refused(
    world: TreasuryWorld, changes: dict[str, Any], reason: str
) -> None:
    if reason.endswith("before it"):
        reason += " begins"
    with reverts(reason):
        world.budget(**({"purpose": PLAYGROUND, "name": "Playground"} | changes))


def test_setting_a_budget_names_the_proposal(world: TreasuryWorld) -> None:
    proposal = world.act("set_budget", 9, "Trees", 5, DAY, START, START + DAY)
    [event] = world.logged("BudgetSet")
    assert (event.purpose, event.edition, event.proposal, event.name) == (9, 1, proposal, "Trees")


# Grants


def test_a_grant_sets_its_money_aside_and_charges_the_budget_once(world: TreasuryWorld) -> None:
    made = world.grant(world.voted(300 * EURO), world.voted(100 * EURO))
    assert world.treasury.reserved() == 400 * EURO
    assert world.treasury.free() == 9_600 * EURO
    boa.env.timestamp += MONTH
    world.act("release", made, 1)
    assert world.treasury.reserved() == 300 * EURO
    assert world.treasury.free() == 9_600 * EURO
    assert world.treasury.budget_in(SOLAR, 1, 0).spent == 400 * EURO
    assert world.treasury.budget_of(SOLAR).spent == 0


def test_a_grant_can_be_read(world: TreasuryWorld) -> None:
    milestone = world.metered(2 * EURO, 5_000, meter=3)
    proposal = world._proposals + 1
    made = world.grant(world.voted(EURO), milestone, reference="roof of the school")
    found = world.treasury.grant_of(made)
    assert (found.purpose, found.payee, found.proposal) == (SOLAR, world.payee, proposal)
    assert (found.made_at, found.milestones) == (START, 2)
    assert found.reference == "roof of the school"
    second = world.treasury.milestone_of(made, 1)
    assert tuple(second)[:5] == milestone
    assert (second.produced_wh, second.state) == (0, OPEN)
    assert world.treasury.serves(3) == made


def test_a_vote_releases_a_milestone(world: TreasuryWorld) -> None:
    made = world.grant(world.voted(3 * EURO), world.voted(EURO))
    proposal = world.act("release", made, 0)
    [payment] = world.logged("Payment")
    assert (payment.proposal, payment.amount, payment.kind) == (proposal, 3 * EURO, 1)
    assert (payment.source, payment.reference) == (made, "a roof")
    [closed] = world.logged("MilestoneClosed")
    assert (closed.grant_id, closed.milestone, closed.outcome) == (made, 0, PAID)
    assert world.state(made, 0) == (0, PAID)
    assert world.state(made, 1) == (0, OPEN)


def test_a_cancelled_grant_frees_what_is_left_and_gives_the_budget_back(
    world: TreasuryWorld,
) -> None:
    made = world.grant(world.voted(300 * EURO), world.voted(100 * EURO))
    world.act("release", made, 0)
    world.act("cancel_grant", made)
    assert world.state(made, 1) == (0, CANCELLED)
    assert world.treasury.reserved() == 0
    assert world.treasury.free() == 9_700 * EURO
    assert world.treasury.budget_of(SOLAR).spent == 300 * EURO
    with reverts("treasury: nothing left to cancel"):
        world.act("cancel_grant", made)


def test_what_lapses_is_free_again(world: TreasuryWorld) -> None:
    made = world.grant(world.voted(300 * EURO, expires_in=DAY), world.voted(100 * EURO))
    boa.env.timestamp += DAY - 1
    with reverts("treasury: milestone has not expired"):
        world.treasury.lapse(made, 0)
    boa.env.timestamp += 1
    with boa.env.prank(world.other):
        world.treasury.lapse(made, 0)
    assert world.state(made, 0) == (0, LAPSED)
    assert world.treasury.reserved() == 100 * EURO
    assert world.treasury.budget_of(SOLAR).spent == 100 * EURO


def test_what_lapses_later_does_not_swell_a_later_budget(world: TreasuryWorld) -> None:
    made = world.grant(world.voted(900 * EURO, expires_in=DAY))
    boa.env.timestamp += MONTH
    world.treasury.lapse(made, 0)
    assert world.treasury.budget_of(SOLAR).spent == 0
    world.pay(1_000 * EURO)
    with reverts("treasury: over the budget"):
        world.pay(1, "more")


def test_a_milestone_that_expired_is_not_released(world: TreasuryWorld) -> None:
    made = world.grant(world.voted(EURO, expires_in=DAY))
    boa.env.timestamp += DAY
    with reverts("treasury: milestone has expired"):
        world.act("release", made, 0)


@pytest.mark.parametrize(
    ("milestone", "reason"),
    [
        ((0, 0, 0, 0, START + DAY), "treasury: amount out of range"),
        ((2**64, 0, 0, 0, START + DAY), "treasury: amount out of range"),
        ((1, 0, 0, 0, START), "treasury: milestone's expiry out of range"),
        ((1, 0, 0, 0, START + 15 * 366 * DAY + 1), "treasury: milestone's expiry out of range"),
        ((1, 2, 0, 0, START + DAY), "treasury: unknown kind of milestone"),
        ((1, 0, 1, 0, START + DAY), "treasury: a vote measures nothing"),
        ((1, 0, 0, 1, START + DAY), "treasury: a vote measures nothing"),
        ((1, 1, 1, 0, START + DAY), "treasury: threshold out of range"),
        ((1, 1, 1, 2**48, START + DAY), "treasury: threshold out of range"),
        ((1, 1, 0, 1, START + DAY), "treasury: unknown meter"),
        ((1, 1, 33, 1, START + DAY), "treasury: unknown meter"),
        ((1, 1, 2**32 + 1, 1, START + DAY), "treasury: unknown meter"),
    ],
)
def test_a_milestone_out_of_bounds_is_refused(
    world: TreasuryWorld, milestone: tuple[int, ...], reason: str
) -> None:
    with reverts(reason):
        world.grant(world.voted(1), milestone)


def test_a_grant_has_a_milestone(world: TreasuryWorld) -> None:
    with reverts("treasury: grant has no milestone"):
        world.grant()


# Evidence


def test_what_the_meter_fed_in_pays_the_milestone(world: TreasuryWorld) -> None:
    proposal = world._proposals + 1
    made = world.grant(world.metered(50 * EURO, 1_000))
    tree = world.measure()
    world.show(made, 0, [tree.evidence(1, FIRST_SLOT + i) for i in range(10)])
    [payment] = world.logged("Payment", world.treasury)
    assert (payment.proposal, payment.payee, payment.amount) == (proposal, world.payee, 50 * EURO)
    assert (payment.kind, payment.source) == (2, made)
    [counted] = world.logged("EvidenceCounted", world.treasury)
    assert (counted.meter, counted.slots, counted.wh, counted.produced_wh) == (1, 10, 1_000, 1_000)
    assert world.token.balanceOf(world.payee) == 50 * EURO
    assert world.treasury.reserved() == 0
    assert world.treasury.serves(1) == 0


def test_evidence_adds_up_over_days_in_any_order(world: TreasuryWorld) -> None:
    made = world.grant(world.metered(50 * EURO, 20_000))
    days = [world.measure(day=day) for day in range(3)]
    for day in (2, 0):
        world.show(
            made, 0, [days[day].evidence(1, days[day].first_slot + i) for i in reversed(range(96))]
        )
    assert world.state(made, 0) == (19_200, OPEN)
    mixed = [days[1].evidence(1, days[1].first_slot + i) for i in range(7)]
    world.show(made, 0, mixed)
    assert world.state(made, 0) == (19_900, OPEN)
    world.show(made, 0, [days[1].evidence(1, days[1].first_slot + 95)])
    assert world.state(made, 0) == (20_000, PAID)


def test_one_submission_may_mix_batches(world: TreasuryWorld) -> None:
    made = world.grant(world.metered(50 * EURO, 600))
    one, two = world.measure(day=0), world.measure(day=1)
    leaves = [tree.evidence(1, tree.first_slot + i) for i in range(3) for tree in (one, two)]
    world.show(made, 0, leaves)
    assert world.state(made, 0) == (600, PAID)


def test_what_comes_after_the_threshold_is_left_for_the_next_milestone(
    world: TreasuryWorld,
) -> None:
    made = world.grant(world.metered(EURO, 250), world.metered(EURO, 200))
    tree = world.measure()
    leaves = [tree.evidence(1, FIRST_SLOT + i) for i in range(5)]
    world.show(made, 0, leaves)
    assert world.state(made, 0) == (250, PAID)
    assert [world.treasury.has_counted(1, FIRST_SLOT + i) for i in range(5)] == [True] * 3 + [
        False
    ] * 2
    world.show(made, 1, leaves)
    assert world.state(made, 1) == (200, PAID)


def test_the_corrected_batch_counts_and_not_the_first(world: TreasuryWorld) -> None:
    made = world.grant(world.metered(EURO, 5_000))
    first = world.measure(final=False)
    better = world.tree(lambda meter, slot: 999)
    boa.env.timestamp = START + DAY + FINALITY // 2
    with boa.env.prank(world.collector):
        world.ledger.correct(
            1, FIRST_SLOT, root_of_leaves(better.leaves), 16, len(better.leaves), [0] * 24
        )
    with reverts("treasury: batch is not final"):
        world.show(made, 0, [better.evidence(1, FIRST_SLOT)])
    boa.env.timestamp = START + DAY + FINALITY
    with reverts("treasury: leaf is not under the root"):
        world.show(made, 0, [first.evidence(1, FIRST_SLOT)])
    world.show(made, 0, [better.evidence(1, FIRST_SLOT)])
    assert world.state(made, 0) == (999, OPEN)


def test_a_meter_is_free_for_another_grant_once_nothing_is_open(world: TreasuryWorld) -> None:
    made = world.grant(
        world.metered(EURO, 100), world.metered(EURO, 100), world.metered(EURO, 100, expires_in=9)
    )
    with reverts("treasury: meter serves another grant"):
        world.grant(world.metered(EURO, 100))
    boa.env.timestamp += 9
    world.treasury.lapse(made, 2)
    tree = world.measure()
    world.show(made, 0, [tree.evidence(1, FIRST_SLOT + 1)])
    with reverts("treasury: meter serves another grant"):
        world.grant(world.metered(EURO, 100))
    world.act("cancel_grant", made)
    assert world.grant(world.metered(EURO, 100)) == made + 1
    assert world.treasury.serves(1) == made + 1


# Recurring payments


def recurring(world: TreasuryWorld, **changes: Any) -> int:
    terms = {
        "purpose": SOLAR,
        "payee": world.payee,
        "amount": 10 * EURO,
        "period": MONTH,
        "count": 3,
        "first_at": boa.env.timestamp,
        "reference": "rent",
    }
    world.act("recurring", *(terms | changes).values())
    return int(world.treasury.recurring_count())


def test_what_is_due_is_paid_by_anyone_each_once(world: TreasuryWorld) -> None:
    proposal = world._proposals + 1
    made = recurring(world, first_at=START + DAY)
    assert world.treasury.due_of(made) == 0
    boa.env.timestamp = START + DAY
    assert world.treasury.due_of(made) == 1
    with boa.env.prank(world.other):
        assert world.treasury.pay_due(made) == 1
    [payment] = world.logged("Payment", world.treasury)
    assert (payment.proposal, payment.payee, payment.amount) == (proposal, world.payee, 10 * EURO)
    assert (payment.kind, payment.source, payment.reference) == (3, made, "rent")
    with reverts("treasury: nothing is due"):
        world.treasury.pay_due(made)


def test_arrears_are_paid_one_entry_each(world: TreasuryWorld) -> None:
    made = recurring(world)
    boa.env.timestamp += MONTH
    assert world.treasury.pay_due(made) == 2
    numbers = [event.number for event in world.logged("Payment", world.treasury)]
    assert numbers == [1, 2]
    assert world.token.balanceOf(world.payee) == 20 * EURO
    assert world.treasury.recurring_of(made).paid == 2


def test_arrears_are_paid_as_far_as_the_budget_reaches(world: TreasuryWorld) -> None:
    made = recurring(world, amount=400 * EURO)
    boa.env.timestamp += 5 * MONTH
    assert world.treasury.pay_due(made) == 2
    with reverts("treasury: over the budget"):
        world.treasury.pay_due(made)
    boa.env.timestamp += MONTH
    assert world.treasury.pay_due(made) == 1
    assert world.treasury.due_of(made) == 0


def test_arrears_are_paid_as_far_as_free_money_reaches(world: TreasuryWorld) -> None:
    world.budget(PLAYGROUND, 9_000 * EURO, name="Playground")
    world.act("grant", PLAYGROUND, world.other, [world.voted(8_999 * EURO)], "a slide")
    made = recurring(world, amount=400 * EURO)
    world.pay(200 * EURO)
    boa.env.timestamp += MONTH
    assert world.treasury.free() == 801 * EURO
    assert world.treasury.pay_due(made) == 2
    boa.env.timestamp += MONTH
    with reverts("treasury: not enough free money"):
        world.treasury.pay_due(made)


def test_a_vote_ends_a_recurring_payment(world: TreasuryWorld) -> None:
    made = recurring(world)
    world.treasury.pay_due(made)
    boa.env.timestamp += MONTH
    proposal = world.act("end_recurring", made)
    [ended] = world.logged("RecurringEnded")
    assert (ended.recurring_id, ended.proposal, ended.paid) == (made, proposal, 1)
    with reverts("treasury: nothing is due"):
        world.treasury.pay_due(made)
    with reverts("treasury: recurring payment has ended"):
        world.act("end_recurring", made)


def test_a_recurring_payment_can_be_read(world: TreasuryWorld) -> None:
    proposal = world._proposals + 1
    found = world.treasury.recurring_of(recurring(world, count=180, period=DAY))
    assert (found.purpose, found.payee, found.proposal) == (SOLAR, world.payee, proposal)
    assert (found.amount, found.period_seconds, found.count) == (10 * EURO, DAY, 180)
    assert (found.first_at, found.paid, found.ended) == (START, 0, False)
    assert found.reference == "rent"


def test_the_longest_arrears_fit_one_transaction(world: TreasuryWorld) -> None:
    made = recurring(world, amount=EURO, period=DAY, count=180)
    boa.env.timestamp += 300 * DAY
    assert world.treasury.pay_due(made) == 180
    assert world.treasury._computation.get_gas_used() < 16_777_216


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"purpose": 99}, "treasury: unknown purpose"),
        ({"payee": ZERO}, "treasury: payee is the zero address"),
        ({"amount": 0}, "treasury: amount out of range"),
        ({"period": DAY - 1}, "treasury: period out of range"),
        ({"period": 366 * DAY + 1}, "treasury: period out of range"),
        ({"count": 0}, "treasury: count out of range"),
        ({"count": 181}, "treasury: count out of range"),
        ({"first_at": START - 1}, "treasury: first payment lies in the past"),
        ({"count": 17, "period": 366 * DAY}, "treasury: last payment is too far ahead"),
    ],
)
def test_a_recurring_payment_out_of_bounds_is_refused(
    world: TreasuryWorld, changes: dict[str, Any], reason: str
) -> None:
    with reverts(reason):
        recurring(world, **changes)


# The chain of all payments


def chained(before: bytes, payment: Any) -> bytes:
    """The head after a payment, written down independently of dao/treasury.py."""
    return bytes(
        keccak(
            encode(
                [
                    "bytes32",
                    "uint256",
                    "uint256",
                    "uint256",
                    "address",
                    *["uint256"] * 4,
                    "bytes32",
                ],
                [
                    before,
                    payment.number,
                    payment.proposal,
                    payment.purpose,
                    payment.payee,
                    payment.amount,
                    payment.kind,
                    payment.source,
                    payment.paid_at,
                    keccak(text=payment.reference),
                ],
            )
        )
    )


def test_the_head_binds_every_payment_in_order(world: TreasuryWorld) -> None:
    assert world.treasury.spending_hash() == bytes(32)
    world.pay(5, "one")
    [first] = world.logged("Payment")
    boa.env.timestamp += 60
    made = world.grant(world.voted(7))
    world.act("release", made, 0)
    [second] = world.logged("Payment")
    assert world.treasury.spending_hash() == chained(chained(bytes(32), first), second)


# What there is not


def test_unknown_numbers_are_refused(world: TreasuryWorld) -> None:
    made = world.grant(world.voted(1))
    for reason, call in (
        ("unknown grant", lambda: world.treasury.grant_of(made + 1)),
        ("unknown grant", lambda: world.act("cancel_grant", made + 1)),
        ("unknown milestone", lambda: world.treasury.milestone_of(made, 1)),
        ("unknown milestone", lambda: world.treasury.milestone_of(made + 1, 0)),
        ("unknown milestone", lambda: world.treasury.lapse(made, 8)),
        ("unknown milestone", lambda: world.act("release", made, 2**255)),
        ("unknown recurring payment", lambda: world.treasury.recurring_of(1)),
        ("unknown recurring payment", lambda: world.treasury.due_of(0)),
        ("unknown recurring payment", lambda: world.act("end_recurring", 1)),
        ("unknown edition", lambda: world.treasury.budget_in(SOLAR, 2, 0)),
        ("unknown edition", lambda: world.treasury.budget_in(SOLAR, 0, 0)),
        ("period out of range", lambda: world.treasury.budget_in(SOLAR, 1, 2**32)),
    ):
        with reverts(f"treasury: {reason}"):
            call()


# All of it at random, beside a plain model


@dataclass
class Model:
    """The treasury in plain Python: lists, and sums taken anew each time."""

    held: int
    # purpose -> (starts_at, period, ends_at, amount), newest last
    editions: dict[int, list[tuple[int, int, int, int]]] = field(default_factory=dict)
    # (purpose, period's first second) -> charged
    charged: dict[tuple[int, int], int] = field(default_factory=dict)
    # each: [grant, milestone, state, amount, meter, threshold, expires_at, shown, purpose, period]
    milestones: list[dict[str, Any]] = field(default_factory=list)
    counted: set[tuple[int, int]] = field(default_factory=set)
    recurring: list[dict[str, Any]] = field(default_factory=list)
    paid: list[tuple[int, str, int]] = field(default_factory=list)

    @property
    def reserved(self) -> int:
        return sum(one["amount"] for one in self.milestones if one["state"] == OPEN)

    @property
    def free(self) -> int:
        return self.held - self.reserved

    def running(self, purpose: int, now: int) -> tuple[int, int] | None:
        """First second and amount of the running period."""
        begun = [one for one in self.editions.get(purpose, []) if one[0] <= now]
        if not begun or now >= begun[-1][2]:
            return None
        start, period, _, amount = begun[-1]
        return now - (now - start) % period, amount

    def left(self, purpose: int, now: int) -> int:
        found = self.running(purpose, now)
        if found is None:
            return -1
        return found[1] - self.charged.get((purpose, found[0]), 0)

    def charge(self, purpose: int, amount: int, now: int) -> tuple[int, int]:
        found = self.running(purpose, now)
        assert found is not None
        key = (purpose, found[0])
        self.charged[key] = self.charged.get(key, 0) + amount
        return key

    def spend(self, purpose: int, payee: str, amount: int) -> None:
        self.held -= amount
        self.paid.append((purpose, payee, amount))


class Life:
    """One seeded life: every step is tried on the treasury and expected from the model."""

    def __init__(self, world: TreasuryWorld, seed: int) -> None:
        self.world, self.rng = world, random.Random(seed)
        self.model = Model(held=world.token.balanceOf(world.treasury))
        self.payees = [str(boa.env.generate_address()) for _ in range(3)]
        self.trees: list[Tree] = []
        self.head, self.payments = bytes(32), 0
        self.happened: dict[str, int] = {}

    @property
    def now(self) -> int:
        return int(boa.env.timestamp)

    def attempt(self, name: str, possible: bool, call: Any) -> bool:
        """Do it; it must succeed exactly where the model says so."""
        emitter = self.world.executor
        try:
            emitter = call() or emitter
        except boa.BoaError:
            assert not possible, f"{name} was refused"
            return False
        assert possible, f"{name} went through"
        self.happened[name] = self.happened.get(name, 0) + 1
        for payment in self.world.logged("Payment", emitter):
            assert payment.number == self.payments + 1
            self.payments += 1
            self.head = chained(self.head, payment)
        return True

    def begin(self) -> None:
        for _ in range(12):
            self.set_budget()

    def step(self) -> None:
        self.rng.choice(
            [
                self.set_budget,
                self.pay,
                self.pay,
                self.grant,
                self.grant,
                self.grant,
                self.release,
                self.cancel,
                self.lapse,
                self.lapse,
                self.show,
                self.show,
                self.show,
                self.agree,
                self.pay_due,
                self.pay_due,
                self.end,
                self.wait,
                self.wait,
                self.wait,
                self.measure,
                self.receive,
                self.receive,
            ]
        )()
        self.check()

    def set_budget(self) -> None:
        rng, model = self.rng, self.model
        purpose = rng.choice([1, 2, 3])
        name = {1: "Solar roofs", 2: "Playground", 3: "Trees"}[purpose]
        found = model.editions.setdefault(purpose, [])
        begun = [one for one in found if one[0] <= self.now]
        start = self.now + rng.randrange(2) * DAY
        if begun and rng.random() < 0.8:
            start = begun[-1][0] + ((self.now - begun[-1][0]) // begun[-1][1] + 1) * begun[-1][1]
        period, amount = rng.choice([1, 2, 7]) * DAY, rng.randrange(0, 900)
        ends = start + rng.choice([5, 60, 60]) * DAY
        possible = not begun or (
            start >= begun[-1][2]
            or (start > self.now and (start - begun[-1][0]) % begun[-1][1] == 0)
        )
        if self.attempt(
            "set_budget",
            possible,
            lambda: self.world.budget(purpose, amount, period, start, ends, name) and None,
        ):
            model.editions[purpose] = [*begun, (start, period, ends, amount)]

    def pay(self) -> None:
        purpose, payee = self.rng.choice([1, 2, 3]), self.rng.choice(self.payees)
        amount = self.rng.randrange(0, 100)
        model = self.model
        possible = 0 < amount <= min(model.left(purpose, self.now), model.free)
        if self.attempt(
            "pay",
            possible,
            lambda: self.world.pay(amount, purpose=purpose, payee=payee) and None,
        ):
            model.charge(purpose, amount, self.now)
            model.spend(purpose, payee, amount)

    def grant(self) -> None:
        rng, model, world = self.rng, self.model, self.world
        purpose, payee = rng.choice([1, 2, 3]), rng.choice(self.payees)
        rows = []
        for index in range(rng.randrange(1, 4)):
            metered = rng.random() < 0.7
            rows.append(
                {
                    "milestone": index,
                    "state": OPEN,
                    "amount": rng.randrange(1, 90),
                    "meter": rng.randrange(1, 6) if metered else 0,
                    "threshold": rng.randrange(1, 1_500) if metered else 0,
                    "expires": self.now + rng.randrange(2, 15) * DAY,
                    "shown": 0,
                    "purpose": purpose,
                    "payee": payee,
                    "made_at": self.now,
                }
            )
        total = sum(row["amount"] for row in rows)
        busy = {one["meter"] for one in model.milestones if one["state"] == OPEN} - {0}
        possible = total <= min(model.left(purpose, self.now), model.free) and not any(
            row["meter"] in busy for row in rows
        )
        terms = [
            (row["amount"], int(row["meter"] > 0), row["meter"], row["threshold"], row["expires"])
            for row in rows
        ]
        if self.attempt(
            "grant",
            possible,
            lambda: world.grant(*terms, purpose=purpose, payee=payee) and None,
        ):
            key = model.charge(purpose, total, self.now)
            number = world.treasury.grant_count()
            model.milestones += [row | {"grant": number, "key": key} for row in rows]

    def some(self) -> dict[str, Any] | None:
        open_ones = [one for one in self.model.milestones if one["state"] == OPEN]
        pool = open_ones if open_ones and self.rng.random() < 0.8 else self.model.milestones
        return self.rng.choice(pool) if pool else None

    def fulfil(self, one: dict[str, Any]) -> None:
        one["state"] = PAID
        self.model.spend(one["purpose"], one["payee"], one["amount"])

    def free_again(self, one: dict[str, Any], state: int) -> None:
        one["state"] = state
        self.model.charged[one["key"]] -= one["amount"]

    def release(self) -> None:
        if (one := self.some()) is None:
            return
        possible = one["state"] == OPEN and one["meter"] == 0 and self.now < one["expires"]
        if self.attempt(
            "release",
            possible,
            lambda: self.world.act("release", one["grant"], one["milestone"]) and None,
        ):
            self.fulfil(one)

    def cancel(self) -> None:
        if self.rng.random() < 0.7 or (one := self.some()) is None:
            return
        rest = [
            row
            for row in self.model.milestones
            if row["grant"] == one["grant"] and row["state"] == OPEN
        ]
        if self.attempt(
            "cancel", bool(rest), lambda: self.world.act("cancel_grant", one["grant"]) and None
        ):
            for row in rest:
                self.free_again(row, CANCELLED)

    def lapse(self) -> None:
        if (one := self.some()) is None:
            return

        def call() -> Any:
            self.world.treasury.lapse(one["grant"], one["milestone"])
            return self.world.treasury

        possible = one["state"] == OPEN and self.now >= one["expires"]
        if self.attempt("lapse", possible, call):
            self.free_again(one, LAPSED)

    def show(self) -> None:
        one = self.some()
        if one is None or one["meter"] == 0 or not self.trees:
            return
        # Mostly of a day that may count, now and then of any.
        fit = [
            tree
            for tree in self.trees
            if one["made_at"] <= tree.first_slot * 900 <= self.now - DAY - FINALITY
        ]
        tree = self.rng.choice(fit if fit and self.rng.random() < 0.9 else self.trees)
        slots = [tree.first_slot + self.rng.randrange(96) for _ in range(self.rng.randrange(1, 16))]
        meter, final = one["meter"], tree.first_slot * 900 + DAY + FINALITY <= self.now
        earlier = any(
            row["grant"] == one["grant"]
            and row["meter"] == meter
            and row["state"] == OPEN
            and row["milestone"] < one["milestone"]
            and self.now < row["expires"]
            for row in self.model.milestones
        )
        shown, new, good = one["shown"], [], True
        for slot in slots:
            if shown >= one["threshold"]:
                break
            if (meter, slot) in self.model.counted or slot in new:
                continue
            good = good and final and slot * 900 >= one["made_at"]
            new.append(slot)
            shown += export(meter, slot)
        possible = (
            one["state"] == OPEN and self.now < one["expires"] and not earlier and good
        ) and bool(new)

        def call() -> Any:
            leaves = [tree.evidence(meter, slot) for slot in slots]
            self.world.show(one["grant"], one["milestone"], leaves)
            return self.world.treasury

        if self.attempt("show", possible, call):
            one["shown"] = min(shown, one["threshold"])
            self.model.counted |= {(meter, slot) for slot in new}
            if one["shown"] == one["threshold"]:
                self.fulfil(one)
                self.happened["metered"] = self.happened.get("metered", 0) + 1

    def agree(self) -> None:
        purpose, payee = self.rng.choice([1, 2, 3]), self.rng.choice(self.payees)
        amount, count = self.rng.randrange(0, 60), self.rng.randrange(1, 6)
        period, first = self.rng.choice([1, 3]) * DAY, self.now + self.rng.randrange(3) * DAY
        possible = amount > 0 and bool(self.model.editions.get(purpose))
        if self.attempt(
            "agree",
            possible,
            lambda: (
                recurring(
                    self.world,
                    purpose=purpose,
                    payee=payee,
                    amount=amount,
                    period=period,
                    count=count,
                    first_at=first,
                )
                and None
            ),
        ):
            self.model.recurring.append(
                {
                    "purpose": purpose,
                    "payee": payee,
                    "amount": amount,
                    "times": [first + i * period for i in range(count)],
                    "paid": 0,
                    "ended": False,
                }
            )

    def pay_due(self) -> None:
        if not self.model.recurring:
            return
        index = self.rng.randrange(len(self.model.recurring))
        one = self.model.recurring[index]
        due = sum(time <= self.now for time in one["times"]) - one["paid"]
        means = min(self.model.left(one["purpose"], self.now), self.model.free) // one["amount"]
        count = 0 if one["ended"] else min(due, means)

        def call() -> Any:
            assert self.world.treasury.pay_due(index + 1) == count
            return self.world.treasury

        if self.attempt("pay_due", count > 0, call):
            one["paid"] += count
            self.model.charge(one["purpose"], count * one["amount"], self.now)
            for _ in range(count):
                self.model.spend(one["purpose"], one["payee"], one["amount"])

    def end(self) -> None:
        if self.rng.random() < 0.6 or not self.model.recurring:
            return
        index = self.rng.randrange(len(self.model.recurring))
        one = self.model.recurring[index]
        if self.attempt(
            "end",
            not one["ended"],
            lambda: self.world.act("end_recurring", index + 1) and None,
        ):
            one["ended"] = True

    def wait(self) -> None:
        boa.env.timestamp += self.rng.choice([900, 7 * 3_600, DAY, DAY - self.now % DAY])

    def measure(self) -> None:
        while self.now >= START + (len(self.trees) + 1) * DAY:
            day = len(self.trees)
            self.trees.append(self.world.measure(export, day=day, final=False))

    def receive(self) -> None:
        amount = self.rng.randrange(600)
        self.world.token.mint(self.world.treasury, amount)
        self.model.held += amount

    def check(self) -> None:
        treasury, model = self.world.treasury, self.model
        held = self.world.token.balanceOf(treasury)
        assert held == treasury.free() + treasury.reserved() == model.held
        assert treasury.reserved() == model.reserved
        assert treasury.spending_hash() == self.head
        assert treasury.payment_count() == self.payments == len(model.paid)
        assert treasury.total_paid() == sum(amount for _, _, amount in model.paid)
        for purpose in (1, 2, 3):
            spent = sum(amount for where, _, amount in model.paid if where == purpose)
            assert treasury.paid_to_purpose(purpose) == spent
            budget, running = treasury.budget_of(purpose), model.running(purpose, self.now)
            assert budget.spent <= budget.amount
            if running is None:
                assert budget.edition == 0
            else:
                assert budget.amount == running[1]
                assert budget.spent == model.charged.get((purpose, running[0]), 0)


def export(meter: int, slot: int) -> int:
    return 40 * meter + slot % 97


@pytest.mark.parametrize("seed", [4, 44])
def test_a_life_at_random_follows_the_model(seed: int) -> None:
    with boa.env.anchor():
        life = Life(new_world(money=1_500), seed)
        life.begin()
        for _ in range(400):
            life.step()
        for one in life.model.milestones:
            assert life.world.state(one["grant"], one["milestone"]) == (one["shown"], one["state"])
        for payee in life.payees:
            paid = sum(amount for _, to, amount in life.model.paid if to == payee)
            assert life.world.token.balanceOf(payee) == paid
        # Every kind of act happened, or the life has shown nothing.
        kinds = {
            "set_budget",
            "pay",
            "grant",
            "release",
            "cancel",
            "lapse",
            "show",
            "pay_due",
            "metered",
        }
        assert kinds <= life.happened.keys()
    boa.env.timestamp = START


# What it costs


def used(contract: Any, call: Callable[[], Any]) -> int:
    boa.env.reset_gas_used()
    call()
    return int(contract._computation.get_gas_used())


def test_a_payment_costs_what_its_entry_costs() -> None:
    """Outside of any anchor: counting afresh would lose it."""
    world = new_world()
    world.budget()
    world.pay(1)
    # The executor's own call and its calldata are part of it, the governor's and timelock's not.
    assert used(world.executor, lambda: world.pay(1, "second")) < 70_000


def test_evidence_costs_little_more_than_its_calldata() -> None:
    """96 leaves with paths of 17: a street of 1,300 homes."""
    world = new_world()
    world.budget()
    made = world.grant(world.metered(EURO, 2**40))
    rows = [Reading(1, FIRST_SLOT + i, 5, 100) for i in range(96)]
    rng = random.Random(17)
    leaves = leaves_of(Readings.of(rows), SECRETS)
    leaves += [rng.randbytes(32) for _ in range(2**17 - 96)]
    # The upper nodes are shared by all paths: each level is hashed once.
    levels = [leaves]
    while len(levels[-1]) > 1:
        pairs = zip(levels[-1][::2], levels[-1][1::2], strict=True)
        levels.append([keccak256(min(pair) + max(pair)) for pair in pairs])
    boa.env.timestamp = START + DAY
    with boa.env.prank(world.collector):
        world.ledger.commit(1, FIRST_SLOT, 96, levels[17][0], 1_300, 2**17, [0] * 24)
    boa.env.timestamp += FINALITY
    shown = [
        (
            FIRST_SLOT,
            row.slot,
            5,
            100,
            salt(1, row.slot),
            [levels[depth][(index >> depth) ^ 1] for depth in range(17)],
        )
        for index, row in enumerate(rows)
    ]
    gas = used(world.treasury, lambda: world.show(made, 0, shown))
    assert world.state(made, 0) == (9_600, OPEN)
    assert gas / 96 < 7_500
    data = world.treasury.submit_evidence.prepare_calldata(made, 0, shown)
    zeros = data.count(0)
    floor = 21_000 + 10 * zeros + 40 * (len(data) - zeros)
    standard = 21_000 + 4 * zeros + 16 * (len(data) - zeros) + gas
    # The price of the bytes alone (EIP-7623) is above what is done with them.
    assert standard < floor < 96 * 27_000


def test_the_code_fits_its_limit() -> None:
    code = compiled("Treasury").compiler_data.bytecode_runtime
    assert len(code) < 24_576
