# SPDX-License-Identifier: Apache-2.0
"""What the members agree to once, and what may be done under it unless they object."""

from __future__ import annotations

from typing import Any

import boa
import pytest

from dao.parameters import neutral_distance
from tests.contracts.governance_fixtures import (
    AGAINST,
    DAY,
    FOR,
    HOUR,
    POLICY,
    VETO,
    Dao,
    Proposal,
    events,
    new_dao,
    reverts,
)

GRID_FEE, BATTERY, VETO_SHARE = 7, 1_000, 20
CHARGE_POINTS, HOME_BATTERIES = 1_001, 1_002
MONTH, YEAR = 30 * DAY, 366 * DAY
WATT = 20_000
TERMS = {
    "zone": 1,
    "key": BATTERY,
    "lowest": -WATT,
    "highest": 30_000,
    "max_slots": 16,
    "budget": 24 * WATT,
    "veto_hours": 3,
    "life": 100 * DAY,
}


def adopt(dao: Dao, **changes: int) -> int:
    terms = TERMS | changes
    terms["life"] += boa.env.timestamp
    with dao.by_vote():
        return int(dao.policies.adopt(*terms.values()))


def action(dao: Dao, policy: int = 1, description: str = "charge", **changes: int) -> Proposal:
    """Eight slots of discharging at 20 kW, under the policy."""
    proposal = dao.window_of(description, **changes)
    proposal.lane, proposal.policy = POLICY, policy
    return proposal


def calls(proposal: Proposal) -> tuple[list[str], list[int], list[bytes]]:
    return proposal.targets, proposal.values, proposal.calldatas


@pytest.fixture(scope="module")
def deployed() -> Dao:
    dao = new_dao()
    adopt(dao)
    return dao


@pytest.fixture
def dao(deployed: Dao) -> Any:
    with boa.env.anchor():
        yield deployed


# -- adoption ----------------------------------------------------------------------------------


def test_a_policy_reads_as_it_was_adopted(dao: Dao) -> None:
    policy = adopt(dao, key=GRID_FEE, zone=1_023, lowest=-(2**31), highest=2**31 - 1)
    assert policy == 2 == dao.policies.policy_count()
    found = dao.policies.policy_of(policy)
    assert (found.zone, found.key, found.lowest, found.highest) == (
        1_023,
        GRID_FEE,
        -(2**31),
        2**31 - 1,
    )
    assert (found.max_slots, found.budget, found.veto_hours) == (16, 24 * WATT, 3)
    assert found.adopted_at == boa.env.timestamp
    assert found.expires_at == boa.env.timestamp + 100 * DAY
    assert not found.ended


def test_a_policy_is_adopted_by_a_vote(dao: Dao) -> None:
    terms = list(TERMS.values())
    terms[-1] += boa.env.timestamp
    proposal = dao.ready(dao.call_of(dao.policies, "adopt", *terms))
    dao.governor.execute(*proposal.calls)
    assert dao.policies.policy_of(2).expires_at == terms[-1]


@pytest.mark.parametrize("who", ["deployer", "forecaster", "guardian", "outsider"])
def test_nobody_else_adopts_or_ends_a_policy(dao: Dao, who: str) -> None:
    with boa.env.prank(getattr(dao, who)):
        with reverts("ownable: caller is not the owner"):
            dao.policies.adopt(1, BATTERY, 0, 1, 1, 1, 1, boa.env.timestamp + DAY)
        with reverts("ownable: caller is not the owner"):
            dao.policies.end(1)
        with reverts("ownable: caller is not the owner"):
            dao.policies.set_governor(dao.outsider)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"zone": 0}, "zone out of range"),
        ({"zone": 1_024}, "zone out of range"),
        ({"key": 4}, "key takes no window"),
        ({"key": 8}, "key takes no window"),
        ({"key": 999}, "key takes no window"),
        ({"key": 1_003}, "key takes no window"),
        ({"lowest": -(2**31) - 1}, "value out of range"),
        ({"highest": 2**31}, "value out of range"),
        ({"lowest": 30_001}, "lowest above highest"),
        ({"max_slots": 0}, "slots out of range"),
        ({"max_slots": 1_345}, "slots out of range"),
        ({"budget": 0}, "budget out of range"),
        ({"budget": 2**64}, "budget out of range"),
        ({"veto_hours": 0}, "veto hours out of range"),
        ({"veto_hours": 25}, "veto hours out of range"),
        ({"life": 0}, "expiry has passed"),
        ({"life": YEAR + 1}, "expiry is too far ahead"),
    ],
)
def test_a_policy_has_bounds(dao: Dao, changes: dict[str, int], reason: str) -> None:
    with reverts(f"policies: {reason}"):
        adopt(dao, **changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"zone": 1_023},
        {"key": 5},
        {"key": 7},
        {"key": 1_002},
        {"lowest": 30_000},
        {"max_slots": 1_344},
        {"budget": 2**64 - 1},
        {"veto_hours": 24},
        {"life": YEAR},
    ],
)
def test_a_policy_may_go_to_its_bounds(dao: Dao, changes: dict[str, int]) -> None:
    found = dao.policies.policy_of(adopt(dao, **changes))
    for name, value in changes.items():
        if name != "life":
            assert getattr(found, name) == value


def test_an_unknown_policy_is_refused(dao: Dao) -> None:
    for policy in (0, 2):
        with reverts("policies: unknown policy"):
            dao.policies.policy_of(policy)
        with reverts("policies: unknown policy"):
            dao.policies.remaining(policy)
        with reverts("policies: unknown policy"):
            dao.propose(action(dao, policy))


# -- use ---------------------------------------------------------------------------------------


def test_an_action_is_carried_out_unless_somebody_objects(dao: Dao) -> None:
    noon = dao.noon()
    proposal = dao.open_vote(action(dao))
    dao.close(proposal)
    assert dao.state(proposal) == "Succeeded"
    dao.governor.queue(*proposal.calls)
    dao.pass_time(900)
    dao.governor.execute(*proposal.calls)
    assert dao.parameters.window_at(1, BATTERY, noon) == (True, -WATT)


def test_an_action_says_its_policy_zone_and_time_to_object(dao: Dao) -> None:
    policy = adopt(dao, veto_hours=7)
    proposal = dao.propose(action(dao, policy))
    (under,) = events(dao.governor, "ProposedUnderPolicy")
    assert (under.proposalId, under.policyId) == (proposal.id, policy)
    assert dao.governor.proposalLane(proposal.id) == POLICY
    assert dao.governor.proposalZone(proposal.id) == 1
    snapshot = dao.governor.proposalSnapshot(proposal.id)
    assert dao.governor.proposalDeadline(proposal.id) == snapshot + 7 * HOUR


def test_a_forecaster_acts_under_a_policy_within_its_allowance(dao: Dao) -> None:
    dao.propose(action(dao), dao.forecaster)
    with reverts("forecast: no allowance left today"):
        dao.propose(action(dao, description="again"), dao.forecaster)


def test_a_member_acts_under_a_policy_with_a_bond(dao: Dao) -> None:
    proposal = dao.propose(action(dao))
    assert dao.governor.proposalBond(proposal.id) == 20_000_000


def test_a_stranger_does_not_act_under_a_policy(dao: Dao) -> None:
    with reverts("forecast: proposer is not a forecaster"):
        dao.propose(action(dao), dao.outsider)
    assert dao.policies.remaining(1) == 24 * WATT


def test_only_the_governor_uses_a_policy(dao: Dao) -> None:
    for who in (dao.member(0), dao.forecaster, dao.timelock.address, dao.deployer):
        with boa.env.prank(who), reverts("policies: caller is not the governor"):
            dao.policies.use(1, who, *calls(action(dao)))


def test_an_action_is_taken_off_the_budget(dao: Dao) -> None:
    proposal = action(dao)
    with boa.env.prank(dao.governor.address):
        assert dao.policies.use(1, dao.member(3), *calls(proposal)) == 3 << 32 | 1
    (used,) = events(dao.policies, "PolicyUsed")
    assert (used.policy_id, used.proposer) == (1, dao.member(3))
    assert (used.slots, used.deviation, used.remaining) == (8, 8 * WATT, 16 * WATT)
    assert dao.policies.remaining(1) == 16 * WATT


def test_charging_and_discharging_both_use_the_budget(dao: Dao) -> None:
    both = action(dao) + action(dao, first_slot=dao.noon() + 8, value=WATT)
    dao.propose(both)
    assert dao.policies.remaining(1) == 8 * WATT


def test_a_price_deviates_from_what_the_rule_says_now(dao: Dao) -> None:
    policy = adopt(dao, key=GRID_FEE, lowest=30, highest=70, budget=200)
    dao.propose(action(dao, policy, "dearer", key=GRID_FEE, value=60))
    assert dao.policies.remaining(policy) == 120
    dao.set_rule(GRID_FEE, 60)
    dao.propose(action(dao, policy, "back", key=GRID_FEE, value=50, first_slot=dao.noon() + 8))
    assert dao.policies.remaining(policy) == 40


@pytest.mark.parametrize(
    ("key", "value", "a_slot"),
    [
        (CHARGE_POINTS, 22_000, 0),
        (CHARGE_POINTS, 3_700, 18_300),
        (CHARGE_POINTS, 0, 22_000),
        (HOME_BATTERIES, 0, 1_000),
        (HOME_BATTERIES, 250, 1_250),
        (HOME_BATTERIES, -1_000, 2_000),
    ],
)
def test_devices_cost_how_far_they_may_be_moved(
    dao: Dao, key: int, value: int, a_slot: int
) -> None:
    """From no cap; and from whatever the homes' own programmes may be, full power the other way."""
    policy = adopt(dao, key=key, lowest=-1_000, highest=22_000, budget=8 * 22_000)
    dao.propose(action(dao, policy, key=key, value=value))
    assert dao.policies.remaining(policy) == 8 * (22_000 - a_slot)
    assert neutral_distance(key, value) == a_slot


def test_called_devices_do_as_the_policy_says_unless_somebody_objects(dao: Dao) -> None:
    noon = dao.noon()
    terms = {"lowest": 0, "highest": 22_000, "budget": 8 * 22_000}
    policy = adopt(dao, key=CHARGE_POINTS, **terms)
    proposal = dao.open_vote(action(dao, policy, "cap", key=CHARGE_POINTS, value=3_700))
    dao.close(proposal)
    dao.governor.queue(*proposal.calls)
    dao.pass_time(900)
    dao.governor.execute(*proposal.calls)
    assert dao.parameters.window_at(1, CHARGE_POINTS, noon) == (True, 3_700)


def test_a_budget_is_used_to_the_last_and_no_further(dao: Dao) -> None:
    policy = adopt(dao, budget=16 * WATT + 1)
    dao.propose(action(dao, policy, "first"))
    dao.propose(action(dao, policy, "second"))
    assert dao.policies.remaining(policy) == 1
    with reverts("policies: budget is used up"):
        dao.propose(action(dao, policy, "third", slots=1, value=2))
    dao.propose(action(dao, policy, "fourth", slots=1, value=1))
    assert dao.policies.remaining(policy) == 0


def test_a_budget_returns_every_thirty_days_and_is_not_saved_up(dao: Dao) -> None:
    policy = adopt(dao, budget=8 * WATT)
    adopted = boa.env.timestamp
    boa.env.timestamp = adopted + 2 * MONTH - 1
    dao.propose(action(dao, policy, "first"))
    with reverts("policies: budget is used up"):
        dao.propose(action(dao, policy, "second"))
    boa.env.timestamp = adopted + 2 * MONTH
    assert dao.policies.remaining(policy) == 8 * WATT
    dao.propose(action(dao, policy, "second"))
    with reverts("policies: budget is used up"):
        dao.propose(action(dao, policy, "third"))


def test_what_was_objected_to_stays_used(dao: Dao) -> None:
    proposal = dao.open_vote(action(dao))
    dao.vote(proposal, range(10), VETO)
    dao.close(proposal)
    assert dao.state(proposal) == "Defeated"
    assert dao.policies.remaining(1) == 16 * WATT


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"zone": 2}, "another zone"),
        ({"zone": 2**40 + 1}, "another zone"),
        ({"key": GRID_FEE, "value": 60}, "another key"),
        ({"key": CHARGE_POINTS}, "another key"),
        ({"key": 2**10 + BATTERY}, "another key"),
        ({"value": -WATT - 1}, "value outside the bounds"),
        ({"value": 30_001}, "value outside the bounds"),
        ({"slots": 17, "value": 1}, "too many slots"),
        ({"slots": 2**63, "value": 0}, "window ends after the policy"),
        ({"first_slot": 2**64 - 1}, "window ends after the policy"),
        ({"first_slot": 2**64}, "slot out of range"),
        ({"slots": 2**64, "value": 0}, "slot out of range"),
        ({"value": 2**128}, "value out of range"),
    ],
)
def test_an_action_stays_inside_the_policy(dao: Dao, changes: dict[str, int], reason: str) -> None:
    with reverts(f"policies: {reason}"):
        dao.propose(action(dao, 1, "charge", **changes))


@pytest.mark.parametrize("value", [-WATT, 30_000])
def test_an_action_may_go_to_the_policys_bounds(dao: Dao, value: int) -> None:
    before = dao.policies.remaining(1)
    dao.propose(action(dao, value=value, slots=16 if value < 0 else 1))
    assert before - dao.policies.remaining(1) == abs(value) * (16 if value < 0 else 1)


def test_slots_of_all_windows_count_together(dao: Dao) -> None:
    whole = action(dao, value=1)
    for part in (1, 2):
        whole += action(dao, value=1, first_slot=dao.noon() + 8 * part)
    with reverts("policies: too many slots"):
        dao.propose(whole)


def test_every_window_of_a_schedule_is_checked(dao: Dao) -> None:
    noon = dao.noon()
    words = [
        (value % 2**128) << 128 | 2 << 64 | first
        for first, value in ((noon, 5), (noon + 2, 31_000))
    ]
    call = dao.parameters.open_windows.prepare_calldata(1, BATTERY, words)
    proposal = Proposal([dao.parameters.address], [0], [call], "schedule", POLICY, 1)
    with reverts("policies: value outside the bounds"):
        dao.propose(proposal)


def test_a_policy_calls_nothing_but_windows(dao: Dao) -> None:
    other = dao.change_of(GRID_FEE, 60)
    for hidden in (other, dao.call_of(dao.governor, "setGuardian", dao.outsider)):
        with reverts("policies: call opens no windows"):
            dao.propose(action(dao) + hidden)


def test_a_policy_sends_no_money(dao: Dao) -> None:
    proposal = action(dao)
    proposal.values = [1]
    with reverts("policies: call opens no windows"):
        dao.propose(proposal)


def test_a_policys_calls_are_canonical(dao: Dao) -> None:
    proposal = action(dao)
    proposal.calldatas = [proposal.calldatas[0] + bytes(32)]
    with reverts("policies: encoding is not canonical"):
        dao.propose(proposal)


def test_the_last_window_ends_with_the_policy(dao: Dao) -> None:
    start = dao.noon() * 900
    policy = adopt(dao, life=start + 8 * 900 - boa.env.timestamp)
    with reverts("policies: window ends after the policy"):
        dao.propose(action(dao, policy, first_slot=dao.noon() + 1))
    dao.propose(action(dao, policy))


def test_nothing_is_left_of_an_expired_policy(dao: Dao) -> None:
    policy = adopt(dao, life=DAY)
    dao.pass_time(DAY - 1)
    assert dao.policies.remaining(policy) == 24 * WATT
    dao.pass_time(1)
    assert dao.policies.remaining(policy) == 0
    with reverts("policies: window ends after the policy"):
        dao.propose(action(dao, policy))


def test_an_ended_policy_lets_nobody_act(dao: Dao) -> None:
    with dao.by_vote():
        dao.policies.end(1)
        with reverts("policies: policy has ended"):
            dao.policies.end(1)
    assert dao.policies.policy_of(1).ended
    assert dao.policies.remaining(1) == 0
    with reverts("policies: policy has ended"):
        dao.propose(action(dao))


def test_what_was_proposed_before_a_policy_ended_goes_on(dao: Dao) -> None:
    proposal = dao.open_vote(action(dao))
    with dao.by_vote():
        dao.policies.end(1)
    dao.close(proposal)
    dao.governor.queue(*proposal.calls)
    dao.pass_time(900)
    dao.governor.execute(*proposal.calls)
    assert dao.state(proposal) == "Executed"


def test_policies_are_charged_apart(dao: Dao) -> None:
    other = adopt(dao)
    dao.propose(action(dao, other))
    assert (dao.policies.remaining(1), dao.policies.remaining(other)) == (24 * WATT, 16 * WATT)


def test_a_refused_proposal_uses_nothing(dao: Dao) -> None:
    dao.propose(action(dao))
    with reverts("governor: already proposed"):
        dao.propose(action(dao))
    assert dao.policies.remaining(1) == 16 * WATT


# -- objections --------------------------------------------------------------------------------


@pytest.mark.parametrize(("objections", "outcome"), [(2, "Succeeded"), (3, "Defeated")])
@pytest.mark.parametrize("support", [AGAINST, VETO])
def test_a_share_of_the_zone_stops_an_action(
    dao: Dao, objections: int, outcome: str, support: int
) -> None:
    proposal = dao.open_vote(action(dao))
    assert dao.governor.quorumOf(proposal.id) == 3
    dao.vote(proposal, range(objections), support)
    dao.vote(proposal, range(5, 15), FOR)
    dao.close(proposal)
    assert dao.state(proposal) == outcome


def test_a_veto_in_the_last_second_counts_and_none_after(dao: Dao) -> None:
    proposal = dao.open_vote(action(dao))
    dao.vote(proposal, range(2), VETO)
    deadline = dao.governor.proposalDeadline(proposal.id)
    boa.env.timestamp = deadline
    dao.vote(proposal, [2], VETO)
    assert dao.governor.proposalDeadline(proposal.id) == deadline
    dao.pass_time(1)
    assert dao.state(proposal) == "Defeated"
    with reverts("governor: vote not active"):
        dao.vote(proposal, [3], VETO)


def test_support_in_the_last_second_extends_no_time_to_object(dao: Dao) -> None:
    proposal = dao.open_vote(action(dao))
    deadline = dao.governor.proposalDeadline(proposal.id)
    boa.env.timestamp = deadline
    dao.vote(proposal, range(10), FOR)
    assert dao.governor.proposalDeadline(proposal.id) == deadline


def test_members_of_another_zone_do_not_object(dao: Dao) -> None:
    proposal = dao.open_vote(action(dao))
    with reverts("governor: voter lives in another zone"):
        dao.vote(proposal, [15], VETO)


def test_the_share_that_stops_an_action_is_that_of_the_snapshot(dao: Dao) -> None:
    proposal = dao.open_vote(action(dao))
    dao.vote(proposal, range(2), VETO)
    dao.set_rule(VETO_SHARE, 1_000)
    dao.close(proposal)
    assert dao.state(proposal) == "Succeeded"


def test_a_policy_moves_nothing_where_nobody_could_object(dao: Dao) -> None:
    policy = adopt(dao, zone=3)
    proposal = dao.open_vote(action(dao, policy, zone=3))
    dao.close(proposal)
    assert dao.state(proposal) == "Defeated"


def test_the_guardian_stops_an_action(dao: Dao) -> None:
    proposal = dao.open_vote(action(dao))
    dao.close(proposal)
    dao.governor.queue(*proposal.calls)
    with boa.env.prank(dao.guardian):
        dao.governor.cancel(*proposal.calls)
    assert dao.state(proposal) == "Canceled"


def test_an_abuse_of_a_policy_costs_the_bond(dao: Dao) -> None:
    proposal = dao.open_vote(action(dao))
    dao.vote(proposal, range(3), VETO)
    dao.close(proposal)
    dao.governor.releaseBond(proposal.id)
    assert len(events(dao.governor, "BondForfeited")) == 1


def test_two_objectors_of_fifteen_cost_no_bond(dao: Dao) -> None:
    proposal = dao.open_vote(action(dao))
    dao.vote(proposal, range(2), VETO)
    dao.close(proposal)
    dao.governor.releaseBond(proposal.id)
    assert len(events(dao.governor, "BondReleased")) == 1


# -- the check of the balancing lane -----------------------------------------------------------


def test_the_zone_of_a_schedule_is_read_from_its_calls(dao: Dao) -> None:
    both = action(dao, zone=7) + action(dao, zone=7, first_slot=dao.noon() + 8)
    assert dao.policies.zone_of(*calls(both)) == 7


def test_no_calls_are_of_no_zone(dao: Dao) -> None:
    assert dao.policies.zone_of([], [], []) == 0
