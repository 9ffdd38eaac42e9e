# SPDX-License-Identifier: Apache-2.0
"""Taking public money against the rules: each way is tried, and each fails for its own reason."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import boa
import pytest
from eth_utils import keccak

from meters.leaves import root_of_leaves
from meters.readings import NULL_WH, Quality
from tests.contracts.governance_fixtures import DAY, START, ZERO, deploy, reverts
from tests.contracts.treasury_world import (
    EURO,
    FINALITY,
    FIRST_SLOT,
    MONTH,
    OPEN,
    PAID,
    PLAYGROUND,
    SOLAR,
    TreasuryWorld,
    new_world,
    salt,
)

OWNER_ONLY = "ownable: caller is not the owner"


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


def owner_acts(world: TreasuryWorld) -> dict[str, tuple[Any, ...]]:
    now = boa.env.timestamp
    return {
        "pay": (SOLAR, world.payee, 1, "why"),
        "grant": (SOLAR, world.payee, [world.voted(1)], "why"),
        "release": (1, 0),
        "cancel_grant": (1,),
        "recurring": (SOLAR, world.payee, 1, DAY, 1, now, "why"),
        "end_recurring": (1,),
        "set_budget": (SOLAR, "Solar roofs", 1, DAY, now + MONTH, now + 2 * MONTH),
        "set_governor": (world.other,),
    }


# Who may


@pytest.mark.parametrize(
    "act",
    [
        "pay",
        "grant",
        "release",
        "cancel_grant",
        "recurring",
        "end_recurring",
        "set_budget",
        "set_governor",
    ],
)
@pytest.mark.parametrize("who", ["deployer", "payee", "other", "collector"])
def test_nobody_but_the_owner_acts(world: TreasuryWorld, act: str, who: str) -> None:
    arguments = owner_acts(world)[act]
    with boa.env.prank(getattr(world, who)), reverts(OWNER_ONLY):
        getattr(world.treasury, act)(*arguments)


def test_the_governor_itself_is_not_the_owner(world: TreasuryWorld) -> None:
    timelock = str(boa.env.generate_address("timelock"))
    data = world.treasury.transfer_ownership.prepare_calldata(timelock)
    world.executor.run(1, world.treasury.address, data)
    with reverts(OWNER_ONLY):
        world.pay(1)


@pytest.mark.parametrize(
    "act", ["pay", "grant", "release", "cancel_grant", "recurring", "end_recurring"]
)
def test_even_the_owner_acts_only_while_a_proposal_is_executed(
    world: TreasuryWorld, act: str
) -> None:
    world.grant(world.voted(1))
    arguments = owner_acts(world)[act]
    with (
        boa.env.prank(world.executor.address),
        reverts("treasury: no proposal is being executed"),
    ):
        getattr(world.treasury, act)(*arguments)


def test_without_a_governor_nothing_is_paid(world: TreasuryWorld) -> None:
    fresh = deploy("Treasury", world.token, world.registry, world.ledger)
    fresh.set_budget(SOLAR, "Solar roofs", 10, DAY, START, START + DAY)
    world.token.mint(fresh, 10)
    with reverts("treasury: no governor"):
        fresh.pay(SOLAR, world.payee, 1, "why")


def test_the_governor_is_a_contract(world: TreasuryWorld) -> None:
    with reverts("treasury: governor is no contract"):
        world.act("set_governor", world.other)


# To whom, and how much


def test_money_goes_to_nobody_who_cannot_use_it(world: TreasuryWorld) -> None:
    for payee, reason in (
        (ZERO, "treasury: payee is the zero address"),
        (world.treasury.address, "treasury: payee cannot use the money"),
        (world.token.address, "treasury: payee cannot use the money"),
    ):
        with reverts(reason):
            world.pay(1, payee=payee)
        with reverts(reason):
            world.grant(world.voted(1), payee=payee)


def test_no_payment_goes_beyond_the_budget(world: TreasuryWorld) -> None:
    world.pay(600 * EURO)
    with reverts("treasury: over the budget"):
        world.pay(400 * EURO + 1)
    with reverts("treasury: over the budget"):
        world.grant(world.voted(300 * EURO), world.voted(100 * EURO + 1))
    world.pay(400 * EURO)


def test_a_purpose_does_not_spend_anothers_budget(world: TreasuryWorld) -> None:
    world.budget(PLAYGROUND, 5, name="Playground")
    with reverts("treasury: over the budget"):
        world.pay(6, purpose=PLAYGROUND)
    for unknown in (0, 3, SOLAR + 2**32, SOLAR + 2**64, 2**256 - 1):
        with reverts("treasury: no budget in force"):
            world.pay(1, purpose=unknown)


def test_a_budget_is_not_saved_up_across_the_edge_of_a_period(world: TreasuryWorld) -> None:
    boa.env.timestamp = START + MONTH - 1
    world.pay(1)
    boa.env.timestamp += 1
    with reverts("treasury: over the budget"):
        world.pay(1_000 * EURO + 1)


def test_what_was_promised_before_the_edge_is_not_charged_after_it(world: TreasuryWorld) -> None:
    made = world.grant(world.voted(1_000 * EURO))
    with reverts("treasury: over the budget"):
        world.pay(1)
    boa.env.timestamp = START + MONTH
    world.act("release", made, 0)
    world.pay(1_000 * EURO)
    with reverts("treasury: over the budget"):
        world.pay(1, "more")


def test_no_payment_goes_beyond_free_money(world: TreasuryWorld) -> None:
    world.budget(PLAYGROUND, 20_000 * EURO, name="Playground")
    made = world.grant(world.voted(1_000 * EURO))
    for amount, taken in ((9_000 * EURO + 1, False), (9_000 * EURO, True)):
        if taken:
            world.pay(amount, purpose=PLAYGROUND)
        else:
            with reverts("treasury: not enough free money"):
                world.pay(amount, purpose=PLAYGROUND)
            with reverts("treasury: not enough free money"):
                world.grant(world.voted(amount), purpose=PLAYGROUND)
    # What the grant needs is still there.
    world.act("release", made, 0)
    assert world.token.balanceOf(world.treasury) == 0


def test_a_budget_lowered_below_what_is_promised_breaks_no_promise(world: TreasuryWorld) -> None:
    made = world.grant(world.voted(900 * EURO))
    world.budget(amount=0, starts_at=START + MONTH)
    boa.env.timestamp = START + MONTH
    with reverts("treasury: over the budget"):
        world.pay(1)
    world.act("release", made, 0)
    assert world.token.balanceOf(world.payee) == 900 * EURO


def test_amounts_do_not_wrap_around(world: TreasuryWorld) -> None:
    for amount in (0, 2**64, 2**256 - 1):
        with reverts("treasury: amount out of range"):
            world.pay(amount)
    world.budget(PLAYGROUND, 2**64 - 1, name="Playground")
    world.token.mint(world.treasury, 2**70)
    with reverts("treasury: amount out of range"):
        world.grant(world.voted(2**64 - 1), world.voted(2**64 - 1), purpose=PLAYGROUND)


# Twice


def test_a_milestone_is_paid_once(world: TreasuryWorld) -> None:
    made = world.grant(world.voted(EURO), world.metered(EURO, 100))
    world.act("release", made, 0)
    with reverts("treasury: milestone is closed"):
        world.act("release", made, 0)
    tree = world.measure()
    world.show(made, 1, [tree.evidence(1, FIRST_SLOT)])
    with reverts("treasury: milestone is closed"):
        world.show(made, 1, [tree.evidence(1, FIRST_SLOT + 1)])
    boa.env.timestamp += 366 * DAY
    for milestone in (0, 1):
        with reverts("treasury: milestone is closed"):
            world.treasury.lapse(made, milestone)
    with reverts("treasury: nothing left to cancel"):
        world.act("cancel_grant", made)
    assert world.token.balanceOf(world.payee) == 2 * EURO


def test_a_cancelled_or_lapsed_milestone_is_not_paid(world: TreasuryWorld) -> None:
    cancelled, lapsed = (
        world.grant(world.voted(EURO)),
        world.grant(world.voted(EURO, expires_in=1), reference="other"),
    )
    world.act("cancel_grant", cancelled)
    boa.env.timestamp += 1
    world.treasury.lapse(lapsed, 0)
    for made in (cancelled, lapsed):
        with reverts("treasury: milestone is closed"):
            world.act("release", made, 0)
        with reverts("treasury: milestone is closed"):
            world.treasury.lapse(made, 0)


def test_a_proposal_pays_the_same_once(world: TreasuryWorld) -> None:
    proposal = world.pay(5, "one")
    with reverts("treasury: proposal has decided that already"):
        world.pay(5, "one", proposal=proposal)
    world.grant(world.voted(5), proposal=proposal)
    with reverts("treasury: proposal has decided that already"):
        world.grant(world.voted(2), world.voted(3), proposal=proposal)
    terms = (SOLAR, world.payee, 5, DAY, 2, START, "rent")
    world.act("recurring", *terms, proposal=proposal)
    with reverts("treasury: proposal has decided that already"):
        world.act("recurring", *terms, proposal=proposal)


def test_a_recurring_payment_is_not_paid_past_its_end(world: TreasuryWorld) -> None:
    world.act("recurring", SOLAR, world.payee, EURO, DAY, 2, START, "rent")
    boa.env.timestamp += 100 * DAY
    assert world.treasury.pay_due(1) == 2
    boa.env.timestamp += 100 * DAY
    with reverts("treasury: nothing is due"):
        world.treasury.pay_due(1)
    assert world.token.balanceOf(world.payee) == 2 * EURO


def test_a_recurring_payment_is_not_paid_early(world: TreasuryWorld) -> None:
    world.act("recurring", SOLAR, world.payee, EURO, DAY, 2, START + 1, "rent")
    for wait, due in ((0, 0), (1, 1), (DAY - 1, 1), (1, 2)):
        boa.env.timestamp += wait
        assert world.treasury.due_of(1) == due


# Evidence that is none


def metered(world: TreasuryWorld, **others: Any) -> int:
    return world.grant(world.metered(50 * EURO, 10_000, **others))


def refused(world: TreasuryWorld, made: int, leaf: Any, reason: str) -> tuple[int, int]:
    """The leaf is refused for this reason; what the milestone stands at afterwards."""
    with reverts(f"treasury: {reason}"):
        world.show(made, 0, [leaf])
    return world.state(made, 0)


NOT_UNDER = "leaf is not under the root"
UNTOUCHED = (0, OPEN)


def test_another_meters_production_does_not_count(world: TreasuryWorld) -> None:
    made = metered(world)
    assert refused(world, made, world.measure().evidence(2, FIRST_SLOT), NOT_UNDER) == UNTOUCHED


def test_another_zones_batch_does_not_count(world: TreasuryWorld) -> None:
    made = metered(world)
    world.measure(zone=1)
    # Meter 1 is at home in zone 1; the other zone's collector writes of it too.
    foreign = world.tree(lambda meter, slot: 60_000, zone=1)
    elsewhere = replace(foreign, zone=2)
    with boa.env.prank(world.collector):
        world.ledger.commit(
            2, FIRST_SLOT, 96, root_of_leaves(elsewhere.leaves), 16, 16 * 96, [0] * 24
        )
    assert refused(world, made, elsewhere.evidence(1, FIRST_SLOT), NOT_UNDER) == UNTOUCHED


def test_another_batchs_root_does_not_count(world: TreasuryWorld) -> None:
    made = metered(world)
    world.measure(day=0)
    second = world.measure(day=1)
    _, *rest = second.evidence(1, FIRST_SLOT + 96)
    assert refused(world, made, (FIRST_SLOT, *rest), "slot outside the batch") == UNTOUCHED
    _, _, *rest = second.evidence(1, FIRST_SLOT + 96)
    assert refused(world, made, (FIRST_SLOT, FIRST_SLOT + 5, *rest), NOT_UNDER) == UNTOUCHED


@pytest.mark.parametrize("field", [1, 2, 3])
def test_another_slot_or_value_does_not_count(world: TreasuryWorld, field: int) -> None:
    made = metered(world)
    leaf = list(world.measure().evidence(1, FIRST_SLOT))
    leaf[field] += 1
    assert refused(world, made, tuple(leaf), NOT_UNDER) == UNTOUCHED


def test_another_salt_does_not_count(world: TreasuryWorld) -> None:
    made = metered(world)
    leaf = list(world.measure().evidence(1, FIRST_SLOT))
    leaf[4] = salt(1, FIRST_SLOT + 1)
    assert refused(world, made, tuple(leaf), NOT_UNDER) == UNTOUCHED


@pytest.mark.parametrize("quality", [q for q in Quality if q is not Quality.MEASURED])
def test_only_what_was_measured_counts(world: TreasuryWorld, quality: Quality) -> None:
    made = metered(world)
    tree = world.measure(quality=lambda meter, slot: quality)
    assert refused(world, made, tree.evidence(1, FIRST_SLOT), NOT_UNDER) == UNTOUCHED


def test_an_unknown_value_does_not_count_as_a_large_one(world: TreasuryWorld) -> None:
    made = metered(world)
    leaf = world.measure(lambda meter, slot: None).evidence(1, FIRST_SLOT)
    assert leaf[3] == NULL_WH
    assert refused(world, made, leaf, "slot has no reading") == UNTOUCHED


def test_a_slot_before_the_grant_does_not_count(world: TreasuryWorld) -> None:
    boa.env.timestamp = START + 899
    world.grant(world.metered(EURO, 100))
    tree = world.measure()
    assert refused(world, 1, tree.evidence(1, FIRST_SLOT), "slot before the grant") == UNTOUCHED
    world.show(1, 0, [tree.evidence(1, FIRST_SLOT + 1)])
    assert world.state(1, 0) == (100, PAID)


def test_a_slot_counts_once(world: TreasuryWorld) -> None:
    made = metered(world)
    leaf = world.measure().evidence(1, FIRST_SLOT)
    world.show(made, 0, [leaf, leaf, leaf])
    assert world.state(made, 0) == (100, OPEN)
    with reverts("treasury: nothing new to count"):
        world.show(made, 0, [leaf])


def test_a_slot_counts_once_across_grants(world: TreasuryWorld) -> None:
    made = metered(world)
    leaf = world.measure().evidence(1, FIRST_SLOT)
    with reverts("treasury: meter serves another grant"):
        metered(world)
    world.show(made, 0, [leaf])
    world.act("cancel_grant", made)
    second = metered(world)
    with reverts("treasury: nothing new to count"):
        world.show(second, 0, [leaf])


def test_a_slot_counts_once_across_milestones(world: TreasuryWorld) -> None:
    made = world.grant(world.metered(EURO, 100), world.metered(EURO, 100))
    leaf = world.measure().evidence(1, FIRST_SLOT)
    world.show(made, 0, [leaf])
    with reverts("treasury: nothing new to count"):
        world.show(made, 1, [leaf])


def test_a_slot_in_two_words_of_the_bitmap_counts_once(world: TreasuryWorld) -> None:
    # Two neighbours on either side of a multiple of 256, back and forth.
    edge = (FIRST_SLOT // 256 + 1) * 256
    made = metered(world)
    days = [world.measure(day=day) for day in range((edge - FIRST_SLOT) // 96 + 1)]
    before = days[(edge - 1 - FIRST_SLOT) // 96].evidence(1, edge - 1)
    after = days[(edge - FIRST_SLOT) // 96].evidence(1, edge)
    world.show(made, 0, [before, after, before, after, before])
    assert world.state(made, 0) == (200, OPEN)


def test_evidence_that_was_shown_cannot_be_led_to_another_milestone(world: TreasuryWorld) -> None:
    # Or whoever sees it pending could use it up where it does the payee no good.
    made = world.grant(world.metered(EURO, 100, expires_in=9 * DAY), world.metered(1, 10_000))
    leaf = world.measure().evidence(1, FIRST_SLOT)
    with reverts("treasury: an earlier milestone of the meter is open"):
        world.show(made, 1, [leaf])
    boa.env.timestamp = START + 9 * DAY
    world.show(made, 1, [leaf])
    assert world.state(made, 1) == (100, OPEN)


def test_sending_part_of_it_first_spoils_no_submission(world: TreasuryWorld) -> None:
    made = world.grant(world.metered(EURO, 1_000))
    tree = world.measure()
    leaves = [tree.evidence(1, FIRST_SLOT + i) for i in range(10)]
    world.show(made, 0, leaves[7:9], sender=str(boa.env.generate_address("hurried")))
    world.show(made, 0, leaves)
    assert world.state(made, 0) == (1_000, PAID)


def test_a_slot_that_is_not_final_does_not_count(world: TreasuryWorld) -> None:
    made = metered(world)
    leaf = world.measure(final=False).evidence(1, FIRST_SLOT)
    boa.env.timestamp = START + DAY + FINALITY - 1
    assert refused(world, made, leaf, "batch is not final") == UNTOUCHED
    boa.env.timestamp += 1
    world.show(made, 0, [leaf])
    assert world.state(made, 0) == (100, OPEN)


def test_a_batch_that_nobody_committed_does_not_count(world: TreasuryWorld) -> None:
    made = metered(world)
    tree = world.tree(lambda meter, slot: 100)
    boa.env.timestamp = START + 30 * DAY
    assert refused(world, made, tree.evidence(1, FIRST_SLOT), "no such batch") == UNTOUCHED


def test_a_path_cut_or_lengthened_leads_nowhere(world: TreasuryWorld) -> None:
    made = metered(world)
    tree = world.measure()
    *leaf, path = tree.evidence(1, FIRST_SLOT)
    root = root_of_leaves(tree.leaves)
    for other in ([], path[:-1], path[1:], [*path, root], [*path, bytes(32)], [bytes(32), *path]):
        assert refused(world, made, (*leaf, other), NOT_UNDER) == UNTOUCHED


def test_an_inner_node_does_not_pass_for_a_leaf(world: TreasuryWorld) -> None:
    # 85 bytes of a leaf against 64 of an inner node: whatever is put into the fields, the leaf is
    # hashed with its tag before it. The salt is the only field wide enough to hold a node.
    made = metered(world)
    tree = world.measure()
    *leaf, path = tree.evidence(1, FIRST_SLOT)
    first, second = tree.leaves[0], tree.leaves[1]
    inner = keccak(min(first, second) + max(first, second))
    for node in (inner, first, second):
        leaf[4] = node
        assert refused(world, made, (*leaf, path[1:]), NOT_UNDER) == UNTOUCHED
        assert refused(world, made, (*leaf, []), NOT_UNDER) == UNTOUCHED


def test_one_bad_leaf_refuses_all(world: TreasuryWorld) -> None:
    made = metered(world)
    tree = world.measure()
    good = [tree.evidence(1, FIRST_SLOT + i) for i in range(3)]
    with reverts(f"treasury: {NOT_UNDER}"):
        world.show(made, 0, [*good, tree.evidence(2, FIRST_SLOT + 3)])
    assert world.state(made, 0) == (0, OPEN)
    assert not world.treasury.has_counted(1, FIRST_SLOT)


def test_no_evidence_is_no_evidence(world: TreasuryWorld) -> None:
    made = metered(world)
    with reverts("treasury: nothing new to count"):
        world.show(made, 0, [])


def test_each_kind_of_milestone_has_its_own_way(world: TreasuryWorld) -> None:
    made = world.grant(world.voted(EURO), world.metered(EURO, 100))
    leaf = world.measure().evidence(1, FIRST_SLOT)
    with reverts("treasury: milestone asks for a vote"):
        world.show(made, 0, [leaf])
    with reverts("treasury: milestone asks for evidence"):
        world.act("release", made, 1)


def test_evidence_after_the_expiry_comes_too_late(world: TreasuryWorld) -> None:
    made = world.grant(world.metered(EURO, 100, expires_in=DAY + FINALITY))
    leaf = world.measure().evidence(1, FIRST_SLOT)
    assert boa.env.timestamp == START + DAY + FINALITY
    assert refused(world, made, leaf, "milestone has expired") == UNTOUCHED


# Tokens that misbehave

TOKEN = """
# pragma version ~=0.4.3
balanceOf: public(HashMap[address, uint256])
mode: public(uint256)
target: address
data: Bytes[1_024]
called: public(bool)

@external
def mint(to: address, amount: uint256):
    self.balanceOf[to] += amount

@external
def vanish(holder: address, amount: uint256):
    self.balanceOf[holder] -= amount

@external
def behave(mode: uint256):
    self.mode = mode

@external
def call_back(target: address, data: Bytes[1_024]):
    self.target = target
    self.data = data

@external
@raw_return
def transfer(to: address, amount: uint256) -> Bytes[32]:
    # 0 honest, 1 says false and moves nothing, 2 says nothing, 3 takes a fee from what arrives,
    # 4 takes a fee from what stays, 5 calls back, 6 says true and moves nothing
    if self.mode == 1:
        return abi_encode(False)
    if self.mode == 6:
        return abi_encode(True)
    self.balanceOf[msg.sender] -= amount
    self.balanceOf[to] += amount
    if self.mode == 3:
        self.balanceOf[to] -= 1
    if self.mode == 4:
        self.balanceOf[msg.sender] -= 1
    if self.mode == 5:
        self.called = True
        raw_call(self.target, self.data)
    if self.mode == 2:
        return b""
    return abi_encode(True)
"""


@pytest.fixture
def strange() -> Iterator[TreasuryWorld]:
    with boa.env.anchor():
        world = new_world(boa.loads(TOKEN))
        world.budget()
        yield world
    boa.env.timestamp = START


def test_a_token_that_returns_false_pays_nothing(strange: TreasuryWorld) -> None:
    strange.token.behave(1)
    with reverts("treasury: transfer failed"):
        strange.pay(1)
    assert strange.treasury.payment_count() == 0


def test_a_token_that_returns_nothing_pays(strange: TreasuryWorld) -> None:
    strange.token.behave(2)
    strange.pay(7)
    assert strange.token.balanceOf(strange.payee) == strange.treasury.total_paid() == 7


@pytest.mark.parametrize("mode", [3, 4, 6])
def test_a_token_that_takes_a_fee_or_moves_nothing_pays_nothing(
    strange: TreasuryWorld, mode: int
) -> None:
    made = strange.grant(strange.voted(5))
    strange.token.behave(mode)
    with reverts("treasury: token took a fee"):
        strange.pay(7)
    with reverts("treasury: token took a fee"):
        strange.act("release", made, 0)
    assert strange.state(made, 0) == (0, OPEN)


def test_a_token_that_calls_back_is_locked_out(strange: TreasuryWorld) -> None:
    """Every entry that anyone may use, and all others for the owner's sake."""
    world = strange
    made = world.grant(world.voted(5, expires_in=DAY), world.voted(6), world.metered(7, 100))
    world.act("recurring", SOLAR, world.payee, 3, DAY, 5, START, "rent")
    leaf = world.measure().evidence(1, FIRST_SLOT)
    world.token.behave(5)
    treasury = world.treasury
    for data in (
        treasury.lapse.prepare_calldata(made, 0),
        treasury.pay_due.prepare_calldata(1),
        treasury.submit_evidence.prepare_calldata(made, 2, [leaf]),
    ):
        world.token.call_back(treasury.address, data)
        for call in (
            lambda: world.pay(1),
            lambda: world.act("release", made, 1),
            lambda: treasury.pay_due(1),
            lambda: world.show(made, 2, [leaf]),
        ):
            with pytest.raises(boa.BoaError):
                call()
    # The same calls go through when they are not made from within: it was the lock.
    world.token.call_back(treasury.address, treasury.free.prepare_calldata())
    world.act("release", made, 1)
    assert world.token.called()
    assert treasury.pay_due(1) == 5
    world.show(made, 2, [leaf])
    treasury.lapse(made, 0)


def test_a_token_that_calls_the_executor_back_pays_once(strange: TreasuryWorld) -> None:
    world = strange
    data = world.treasury.pay.prepare_calldata(SOLAR, world.payee, 5, "one")
    again = world.executor.run.prepare_calldata(9, world.treasury.address, data)
    world.token.behave(5)
    world.token.call_back(world.executor.address, again)
    with pytest.raises(boa.BoaError):
        world.executor.run(9, world.treasury.address, data)
    assert world.treasury.payment_count() == 0


def test_a_token_that_shrinks_by_itself_leaves_the_views_readable(strange: TreasuryWorld) -> None:
    made = strange.grant(strange.voted(900 * EURO))
    strange.token.vanish(strange.treasury, strange.token.balanceOf(strange.treasury) - 5)
    assert strange.treasury.free() == 0
    assert strange.treasury.reserved() == 900 * EURO
    with pytest.raises(boa.BoaError):
        strange.act("release", made, 0)
