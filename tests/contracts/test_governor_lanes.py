# SPDX-License-Identifier: Apache-2.0
"""What the lanes share out: who may propose what, who votes on it, and what a proposer risks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import boa
import pytest
from eth_abi import encode
from vyper.compiler.output import build_abi_output

from tests.contracts.compiling import compiled
from tests.contracts.governance_fixtures import (
    ABSTAIN,
    AGAINST,
    BALANCING,
    DAY,
    EURO,
    HOUR,
    ORDINARY,
    POLICY,
    VETO,
    ZERO,
    Dao,
    Proposal,
    events,
    new_dao,
    reverts,
    selector,
)

GRID_FEE, FORFEIT_SHARE, BOND, ZONE_QUORUM = 7, 21, 22, 24
OPEN_WINDOW = selector("open_window(uint256,uint256,uint256,uint256,int256)")
OPEN_WINDOWS = selector("open_windows(uint256,uint256,uint256[])")
ZONE_2 = range(15, 20)
OTHER_ZONE = 6


@pytest.fixture(scope="module")
def deployed() -> Dao:
    return new_dao()


@pytest.fixture
def dao(deployed: Dao) -> Any:
    with boa.env.anchor():
        yield deployed


def fee(dao: Dao, description: str = "why", value: int = 60) -> Proposal:
    return dao.change_of(GRID_FEE, value, description)


def windows_of(dao: Dao, *windows: tuple[int, int, int], zone: int = 1) -> Proposal:
    """A schedule of the battery in one call; (first slot, slots, watt)."""
    words = [(value % 2**128) << 128 | slots << 64 | first for first, slots, value in windows]
    call = dao.parameters.open_windows.prepare_calldata(zone, 1_000, words)
    return Proposal([dao.parameters.address], [0], [call], "schedule", BALANCING)


# -- the balancing lane ------------------------------------------------------------------------


def test_a_proposal_says_its_lane_and_zone(dao: Dao) -> None:
    ordinary = dao.propose(fee(dao))
    assert [(e.lane, e.zone) for e in events(dao.governor, "ProposalLane")] == [(ORDINARY, 0)]
    balancing = dao.propose(dao.window_of(zone=2))
    assert [(e.lane, e.zone) for e in events(dao.governor, "ProposalLane")] == [(BALANCING, 2)]
    assert dao.governor.proposalLane(ordinary.id) == ORDINARY
    assert (
        dao.governor.proposalLane(balancing.id),
        dao.governor.proposalZone(balancing.id),
    ) == (BALANCING, 2)


def test_the_balancing_lane_is_faster(dao: Dao) -> None:
    proposal = dao.propose(dao.window_of())
    snapshot = dao.governor.proposalSnapshot(proposal.id)
    assert snapshot == boa.env.timestamp + 1
    assert dao.governor.proposalDeadline(proposal.id) == snapshot + 3 * HOUR


def test_a_schedule_of_windows_is_opened(dao: Dao) -> None:
    noon = dao.noon()
    proposal = dao.ready(windows_of(dao, (noon, 4, -20_000), (noon + 8, 4, 30_000)))
    dao.governor.execute(*proposal.calls)
    assert dao.parameters.window_at(1, 1_000, noon + 3) == (True, -20_000)
    assert dao.parameters.window_at(1, 1_000, noon + 8) == (True, 30_000)


def test_only_the_zones_members_vote_on_its_windows(dao: Dao) -> None:
    proposal = dao.open_vote(dao.window_of(zone=2))
    with reverts("governor: voter lives in another zone"):
        dao.vote(proposal, [0])
    dao.vote(proposal, [15])
    assert dao.governor.proposalVotes(proposal.id) == (0, 1, 0)


def test_a_batch_leaves_out_ballots_of_another_zone(dao: Dao) -> None:
    proposal = dao.open_vote(dao.window_of(zone=2))
    assert dao.governor.castBallots(proposal.id, [dao.sign(proposal.id, i) for i in (0, 15)]) == 1
    (rejected,) = events(dao.governor, "BallotRejected")
    assert (rejected.voter, rejected.reason) == (dao.member(0), OTHER_ZONE)


@pytest.mark.parametrize(("votes", "outcome"), [(1, "Defeated"), (2, "Succeeded")])
def test_the_quorum_of_a_zone_is_of_its_members(dao: Dao, votes: int, outcome: str) -> None:
    proposal = dao.open_vote(dao.window_of(zone=2))
    assert dao.governor.quorumOf(proposal.id) == 2
    dao.vote(proposal, ZONE_2[:votes])
    dao.close(proposal)
    assert dao.state(proposal) == outcome


def test_a_zones_quorum_may_have_its_own_fraction(dao: Dao) -> None:
    dao.set_rule(ZONE_QUORUM, 5_000)
    dao.pass_time(1)
    balancing, ordinary = dao.propose(dao.window_of(zone=2)), dao.propose(fee(dao))
    dao.pass_time(HOUR + 1)
    assert (dao.governor.quorumOf(balancing.id), dao.governor.quorumOf(ordinary.id)) == (3, 5)


def test_nothing_passes_in_a_zone_without_members(dao: Dao) -> None:
    proposal = dao.open_vote(dao.window_of(zone=3))
    assert dao.governor.quorumOf(proposal.id) == 0
    dao.close(proposal)
    assert dao.state(proposal) == "Defeated"


# -- what a lane may call ----------------------------------------------------------------------


def arguments(dao: Dao, *changed: tuple[int, int]) -> bytes:
    """The arguments of `open_window`, some words of them changed."""
    words = [1, 1_000, dao.noon(), 8, -20_000 % 2**256]
    for place, word in changed:
        words[place] = word
    return b"".join(word.to_bytes(32, "big") for word in words)


def schedule(dao: Dao, offset: int = 96, count: int = 1, words: int = 1) -> bytes:
    head = b"".join(word.to_bytes(32, "big") for word in (1, 1_000, offset, count))
    return head + (8 << 64 | dao.noon()).to_bytes(32, "big") * words


WRONG_CALLS: dict[str, tuple[Callable[[Dao], bytes], str]] = {
    "no calldata": (lambda dao: b"", "call opens no windows"),
    "a selector alone": (lambda dao: OPEN_WINDOW, "call opens no windows"),
    "another rule": (
        lambda dao: dao.parameters.set_value.prepare_calldata(GRID_FEE, 60) + bytes(100),
        "call opens no windows",
    ),
    "another owner": (
        lambda dao: dao.parameters.transfer_ownership.prepare_calldata(dao.outsider) + bytes(128),
        "call opens no windows",
    ),
    "a selector off by a bit": (
        lambda dao: bytes([OPEN_WINDOW[0] ^ 1]) + OPEN_WINDOW[1:] + arguments(dao),
        "call opens no windows",
    ),
    "bytes behind a window": (
        lambda dao: OPEN_WINDOW + arguments(dao) + b"\x00",
        "encoding is not canonical",
    ),
    "a window cut short": (
        lambda dao: OPEN_WINDOW + arguments(dao)[:-1],
        "encoding is not canonical",
    ),
    "bytes behind a schedule": (
        lambda dao: OPEN_WINDOWS + schedule(dao, words=2),
        "encoding is not canonical",
    ),
    "a schedule cut short": (
        lambda dao: OPEN_WINDOWS + schedule(dao, count=2),
        "encoding is not canonical",
    ),
    "a schedule that starts elsewhere": (
        lambda dao: OPEN_WINDOWS + schedule(dao, offset=128),
        "encoding is not canonical",
    ),
    "a schedule that folds onto itself": (
        lambda dao: OPEN_WINDOWS + schedule(dao, offset=0),
        "encoding is not canonical",
    ),
    "an empty schedule": (
        lambda dao: OPEN_WINDOWS + schedule(dao, count=0, words=0),
        "no windows, or too many",
    ),
    "a schedule without end": (
        lambda dao: OPEN_WINDOWS + schedule(dao, count=2**251),
        "no windows, or too many",
    ),
    "no zone": (lambda dao: OPEN_WINDOW + arguments(dao, (0, 0)), "zone out of range"),
    "a zone too large": (
        lambda dao: OPEN_WINDOW + arguments(dao, (0, 1_024)),
        "zone out of range",
    ),
    "a zone that folds onto another": (
        lambda dao: OPEN_WINDOW + arguments(dao, (0, 2**32 + 1)),
        "zone out of range",
    ),
    "a slot too large": (
        lambda dao: OPEN_WINDOW + arguments(dao, (2, 2**64)),
        "slot out of range",
    ),
    "a value too large": (
        lambda dao: OPEN_WINDOW + arguments(dao, (4, 2**127)),
        "value out of range",
    ),
    "a value too low": (
        lambda dao: OPEN_WINDOW + arguments(dao, (4, 2**256 - 2**127 - 1)),
        "value out of range",
    ),
}


@pytest.mark.parametrize("kind", WRONG_CALLS)
def test_the_balancing_lane_opens_windows_and_nothing_else(dao: Dao, kind: str) -> None:
    call, reason = WRONG_CALLS[kind]
    proposal = Proposal([dao.parameters.address], [0], [call(dao)], kind, BALANCING)
    with reverts(f"policies: {reason}"):
        dao.propose(proposal)


def policy_of(dao: Dao) -> int:
    """A policy for the battery of zone 1 that allows nearly anything."""
    expires_at = boa.env.timestamp + 100 * DAY
    with dao.by_vote():
        return int(
            dao.policies.adopt(1, 1_000, -(2**31), 2**31 - 1, 1_344, 2**64 - 1, 3, expires_at)
        )


@pytest.mark.parametrize("kind", WRONG_CALLS)
def test_a_policy_opens_windows_and_nothing_else(dao: Dao, kind: str) -> None:
    call, reason = WRONG_CALLS[kind]
    policy = policy_of(dao)
    proposal = Proposal([dao.parameters.address], [0], [call(dao)], kind, POLICY, policy)
    with reverts(f"policies: {reason.replace('zone out of range', 'another zone')}"):
        dao.propose(proposal)


@pytest.mark.parametrize(
    "target", ["governor", "timelock", "membership", "policies", "forecasts", "treasury", "token"]
)
@pytest.mark.parametrize("lane", [BALANCING, POLICY])
def test_a_lane_of_windows_calls_no_other_contract(dao: Dao, target: str, lane: int) -> None:
    proposal = dao.window_of()
    proposal.lane, proposal.policy = lane, policy_of(dao)
    dao.propose(proposal)
    proposal.targets = [getattr(dao, target).address]
    with reverts("policies: call opens no windows"):
        dao.propose(proposal)


def test_the_balancing_lane_sends_no_money(dao: Dao) -> None:
    proposal = dao.window_of()
    proposal.values = [1]
    with reverts("policies: call opens no windows"):
        dao.propose(proposal)


def test_the_balancing_lane_hides_nothing_behind_a_window(dao: Dao) -> None:
    with reverts("policies: call opens no windows"):
        dao.propose(dao.window_of() + fee(dao))


@pytest.mark.parametrize("lane", [BALANCING, POLICY])
@pytest.mark.parametrize("way", ["executeBatch", "scheduleBatch", "execute", "setLane"])
def test_a_lane_of_windows_reaches_nothing_through_another_contract(
    dao: Dao, way: str, lane: int
) -> None:
    inner = dao.call_of(dao.governor, "setGuardian", dao.outsider)
    batch = (inner.targets, inner.values, inner.calldatas, bytes(32), bytes(32))
    contract, arguments = {
        "executeBatch": (dao.timelock, batch),
        "scheduleBatch": (dao.timelock, (*batch, 900)),
        "execute": (dao.governor, inner.calls),
        "setLane": (dao.governor, (0, HOUR, DAY, DAY, DAY)),
    }[way]
    nested = dao.call_of(contract, way, *arguments)
    nested.lane, nested.policy = lane, policy_of(dao)
    with reverts("policies: call opens no windows"):
        dao.propose(nested)


def test_windows_of_two_zones_are_two_proposals(dao: Dao) -> None:
    with reverts("policies: another zone"):
        dao.propose(dao.window_of() + dao.window_of(zone=2))


OWNED = ("GridGovernor", "GridTimelock", "GridParameters", "Membership", "StandingPolicies")


@pytest.mark.parametrize("name", [*OWNED, "ForecastRegistry", "Treasury", "TestEuro"])
def test_no_other_function_has_the_selector_of_a_windows_call(name: str) -> None:
    functions = [
        f"{entry['name']}({','.join(given['type'] for given in entry['inputs'])})"
        for entry in build_abi_output(compiled(name).compiler_data)
        if entry["type"] == "function" and "tuple" not in str(entry["inputs"])
    ]
    shared = [one for one in functions if selector(one) in (OPEN_WINDOW, OPEN_WINDOWS)]
    assert len(shared) == (2 if name == "GridParameters" else 0)


# -- proposers ---------------------------------------------------------------------------------


def test_a_forecaster_in_good_standing_proposes_without_a_bond(dao: Dao) -> None:
    proposal = dao.propose(dao.window_of(), dao.forecaster)
    assert dao.governor.proposalProposer(proposal.id) == dao.forecaster
    assert dao.governor.proposalBond(proposal.id) == 0


def test_a_forecaster_proposes_as_often_as_its_allowance_says(dao: Dao) -> None:
    dao.propose(dao.window_of("first"), dao.forecaster)
    with reverts("forecast: no allowance left today"):
        dao.propose(dao.window_of("second"), dao.forecaster)
    dao.pass_time(DAY)
    dao.propose(dao.window_of("second"), dao.forecaster)


def test_a_dismissed_forecaster_proposes_nothing(dao: Dao) -> None:
    with dao.by_vote():
        dao.forecasts.set_forecaster(dao.forecaster, False)
    with reverts("forecast: proposer is not a forecaster"):
        dao.propose(dao.window_of(), dao.forecaster)


def test_a_forecaster_whose_bond_leaves_proposes_nothing(dao: Dao) -> None:
    with boa.env.prank(dao.forecaster):
        dao.forecasts.announce_withdrawal(1)
    with reverts("forecast: bond too small"):
        dao.propose(dao.window_of(), dao.forecaster)


def test_a_forecaster_proposes_nothing_in_the_ordinary_lane(dao: Dao) -> None:
    window = dao.window_of()
    window.lane = ORDINARY
    with reverts("governor: proposer is not a member"):
        dao.propose(window, dao.forecaster)


def test_a_stranger_proposes_no_windows(dao: Dao) -> None:
    with reverts("forecast: proposer is not a forecaster"):
        dao.propose(dao.window_of(), dao.outsider)


def test_a_member_who_forecasts_spends_its_allowance_first(dao: Dao) -> None:
    member = dao.member(0)
    with dao.by_vote():
        dao.forecasts.set_forecaster(member, True)
    dao.token.mint(member, 100 * EURO)
    with boa.env.prank(member):
        dao.token.approve(dao.forecasts.address, 100 * EURO)
        dao.forecasts.deposit_bond(100 * EURO)
    first = dao.propose(dao.window_of("first"), member)
    second = dao.propose(dao.window_of("second"), member)
    bonds = [dao.governor.proposalBond(one.id) for one in (first, second)]
    assert bonds == [0, 20 * EURO]


def test_a_member_needs_time_and_a_bond_for_windows_too(dao: Dao) -> None:
    dao.withdraw(dao.member(0), 100 * EURO)
    with reverts("governor: proposer has no free bond"):
        dao.propose(dao.window_of())


# -- descriptions ------------------------------------------------------------------------------


def test_a_description_may_name_its_proposer(dao: Dao) -> None:
    for index, style in enumerate((str.lower, str.upper, str)):
        digits = style(dao.member(index)[2:])
        proposal = fee(dao, f"why {index}\n#proposer=0x{digits}")
        with reverts("governor: description names another proposer"):
            dao.propose(proposal, dao.member(index + 1))
        dao.propose(proposal, dao.member(index))


@pytest.mark.parametrize("place", [0, 1, 30, 31, 32, 33, 38, 39])
def test_every_digit_of_the_proposers_mark_counts(dao: Dao, place: int) -> None:
    digits = dao.member(0)[2:].lower()
    other = "0" if digits[place] != "0" else "1"
    wrong = digits[:place] + other + digits[place + 1 :]
    with reverts("governor: description names another proposer"):
        dao.propose(fee(dao, f"#proposer=0x{wrong}"))


def test_a_mark_without_an_address_names_nobody(dao: Dao) -> None:
    with reverts("governor: description names another proposer"):
        dao.propose(fee(dao, "#proposer=0x" + "g" * 40))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0x" + "1" * 40,
        "#proposer=0x" + "1" * 39,
        "#proposer=0x" + "1" * 40 + ".",
        "#Proposer=0x" + "1" * 40,
        "#proposer=0X" + "1" * 40,
    ],
)
def test_other_endings_name_nobody(dao: Dao, text: str) -> None:
    made = dao.propose(fee(dao, text))
    assert dao.governor.proposalProposer(made.id) == dao.member(0)


# -- late quorum -------------------------------------------------------------------------------


EIGHTH = DAY // 8


def late(dao: Dao, proposal: Proposal, before_deadline: int) -> None:
    boa.env.timestamp = dao.governor.proposalDeadline(proposal.id) - before_deadline


def test_a_quorum_reached_late_extends_the_vote(dao: Dao) -> None:
    proposal = dao.open_vote(fee(dao))
    dao.vote(proposal, range(4))
    late(dao, proposal, 0)
    dao.vote(proposal, [4])
    (extended,) = events(dao.governor, "ProposalExtended")
    assert extended.extendedDeadline == boa.env.timestamp + EIGHTH
    assert dao.governor.proposalDeadline(proposal.id) == extended.extendedDeadline
    dao.pass_time(EIGHTH)
    dao.vote(proposal, range(5, 11), AGAINST)
    dao.pass_time(1)
    assert dao.state(proposal) == "Defeated"


@pytest.mark.parametrize(("before", "extended"), [(EIGHTH, False), (EIGHTH - 1, True)])
def test_only_the_last_eighth_is_late(dao: Dao, before: int, extended: bool) -> None:
    proposal = dao.open_vote(fee(dao))
    deadline = dao.governor.proposalDeadline(proposal.id)
    late(dao, proposal, before)
    dao.vote(proposal, range(5))
    assert len(events(dao.governor, "ProposalExtended")) == extended
    assert (dao.governor.proposalDeadline(proposal.id) > deadline) == extended


def test_a_quorum_reached_before_extends_nothing(dao: Dao) -> None:
    proposal = dao.open_vote(fee(dao))
    dao.vote(proposal, range(5))
    deadline = dao.governor.proposalDeadline(proposal.id)
    late(dao, proposal, 0)
    dao.vote(proposal, [6])
    assert dao.governor.proposalDeadline(proposal.id) == deadline


def test_a_vote_is_extended_once(dao: Dao) -> None:
    proposal = dao.open_vote(fee(dao))
    late(dao, proposal, 0)
    dao.vote(proposal, range(5))
    deadline = dao.governor.proposalDeadline(proposal.id)
    late(dao, proposal, 0)
    dao.vote(proposal, range(5, 12), ABSTAIN)
    assert dao.governor.proposalDeadline(proposal.id) == deadline
    dao.pass_time(1)
    with reverts("governor: vote not active"):
        dao.vote(proposal, [12])


def test_votes_against_make_no_quorum_and_extend_nothing(dao: Dao) -> None:
    proposal = dao.open_vote(fee(dao))
    deadline = dao.governor.proposalDeadline(proposal.id)
    late(dao, proposal, 0)
    dao.vote(proposal, range(8), AGAINST)
    dao.vote(proposal, range(8, 12), VETO)
    assert dao.governor.proposalDeadline(proposal.id) == deadline


def test_a_late_batch_extends_the_vote(dao: Dao) -> None:
    proposal = dao.open_vote(dao.window_of())
    late(dao, proposal, 0)
    dao.governor.castBallots(proposal.id, [dao.sign(proposal.id, i) for i in range(4)])
    (extended,) = events(dao.governor, "ProposalExtended")
    assert extended.extendedDeadline == boa.env.timestamp + 3 * HOUR // 8


def test_the_longest_vote_extended_in_the_last_second_still_counts(dao: Dao) -> None:
    with dao.by_vote():
        dao.governor.setLane(ORDINARY, 7 * DAY, 30 * DAY, 30 * DAY, 30 * DAY)
    proposal = dao.open_vote(fee(dao))
    late(dao, proposal, 0)
    dao.vote(proposal, range(10))
    end = boa.env.timestamp + 30 * DAY // 8
    dao.close(proposal)
    assert boa.env.timestamp == end + 1
    assert dao.governor.proposalVotes(proposal.id) == (0, 10, 0)
    assert dao.governor.proposalEta(proposal.id) == 0
    assert dao.governor.proposalExpiry(proposal.id) == end + 30 * DAY
    dao.governor.queue(*proposal.calls)
    assert dao.governor.proposalEta(proposal.id) == boa.env.timestamp + 30 * DAY
    assert dao.governor.proposalDeadline(proposal.id) == end


# -- bonds -------------------------------------------------------------------------------------


def bond(dao: Dao, index: int = 0) -> tuple[int, int]:
    return tuple(dao.governor.bondOf(dao.member(index)))


def test_a_bond_is_put_up_and_paid_out(dao: Dao) -> None:
    held = dao.token.balanceOf(dao.governor.address)
    dao.withdraw(dao.member(0), 40 * EURO)
    assert bond(dao) == (60 * EURO, 0)
    assert dao.token.balanceOf(dao.member(0)) == 40 * EURO
    assert dao.token.balanceOf(dao.governor.address) == held - 40 * EURO


def test_a_proposal_locks_a_bond(dao: Dao) -> None:
    proposal = dao.propose(fee(dao))
    assert bond(dao) == (100 * EURO, 20 * EURO)
    assert dao.governor.proposalBond(proposal.id) == 20 * EURO


def test_a_locked_bond_backs_no_other_proposal(dao: Dao) -> None:
    for number in range(5):
        dao.propose(fee(dao, f"proposal {number}"))
    with reverts("governor: proposer has no free bond"):
        dao.propose(fee(dao, "one too many"))


def test_a_locked_bond_stays(dao: Dao) -> None:
    dao.propose(fee(dao))
    with reverts("governor: more than the free bond"):
        dao.withdraw(dao.member(0), 80 * EURO + 1)
    dao.withdraw(dao.member(0), 80 * EURO)
    assert bond(dao) == (20 * EURO, 20 * EURO)


def test_nobody_withdraws_what_others_put_up(dao: Dao) -> None:
    with reverts("governor: more than the free bond"):
        dao.withdraw(dao.outsider, 1)


def test_a_bond_of_nothing_is_refused(dao: Dao) -> None:
    for function in (dao.governor.depositBond, dao.governor.withdrawBond):
        with boa.env.prank(dao.member(0)), reverts("governor: amount is zero"):
            function(0)


def test_a_bond_beyond_its_word_is_refused(dao: Dao) -> None:
    with boa.env.prank(dao.member(0)), reverts("governor: amount out of range"):
        dao.governor.depositBond(2**96 - 100 * EURO)


def test_a_bond_that_was_not_paid_is_none(dao: Dao) -> None:
    with boa.env.prank(dao.member(0)), reverts("erc20: insufficient allowance"):
        dao.governor.depositBond(1)


def test_without_the_rule_a_proposal_locks_nothing(dao: Dao) -> None:
    dao.set_rule(BOND, 0)
    dao.withdraw(dao.member(0), 100 * EURO)
    proposal = dao.propose(fee(dao))
    assert dao.governor.proposalBond(proposal.id) == 0
    dao.pass_time(3 * DAY)
    with reverts("governor: proposal locks no bond"):
        dao.governor.releaseBond(proposal.id)


def test_a_bond_is_what_the_rule_was_at_the_proposal(dao: Dao) -> None:
    proposal = dao.propose(fee(dao))
    dao.set_rule(BOND, 40)
    dao.pass_time(3 * DAY)
    dao.governor.releaseBond(proposal.id)
    assert bond(dao) == (100 * EURO, 0)


def test_the_largest_bond_fits(dao: Dao) -> None:
    for value in range(40, 1_001, 20):
        dao.set_rule(BOND, value)
        dao.pass_time(DAY)
    dao.deposit(dao.member(0), 900 * EURO)
    proposal = dao.propose(fee(dao))
    assert dao.governor.proposalBond(proposal.id) == 1_000 * EURO
    assert dao.governor.proposalSnapshot(proposal.id) == boa.env.timestamp + HOUR


def test_a_bond_is_not_released_before_the_vote_is_over(dao: Dao) -> None:
    proposal = dao.propose(fee(dao))
    with reverts("governor: vote is not over"):
        dao.governor.releaseBond(proposal.id)
    boa.env.timestamp = dao.governor.proposalDeadline(proposal.id)
    with reverts("governor: vote is not over"):
        dao.governor.releaseBond(proposal.id)


@pytest.mark.parametrize("outcome", ["Defeated", "Succeeded", "Queued", "Expired", "Executed"])
def test_anyone_releases_a_bond_once_whatever_came_out(dao: Dao, outcome: str) -> None:
    proposal = dao.open_vote(fee(dao))
    if outcome != "Defeated":
        dao.vote(proposal, range(10))
    dao.close(proposal)
    if outcome in ("Queued", "Executed"):
        dao.governor.queue(*proposal.calls)
    if outcome == "Executed":
        dao.pass_time(DAY)
        dao.governor.execute(*proposal.calls)
    if outcome == "Expired":
        dao.pass_time(2 * DAY)
    assert dao.state(proposal) == outcome
    with boa.env.prank(dao.outsider):
        dao.governor.releaseBond(proposal.id)
    (released,) = events(dao.governor, "BondReleased")
    assert (released.account, released.amount) == (dao.member(0), 20 * EURO)
    assert bond(dao) == (100 * EURO, 0)
    assert dao.state(proposal) == outcome
    with reverts("governor: proposal locks no bond"):
        dao.governor.releaseBond(proposal.id)


def test_what_was_taken_back_releases_its_bond_at_once(dao: Dao) -> None:
    proposal = dao.propose(fee(dao))
    with boa.env.prank(dao.member(0)):
        dao.governor.cancel(*proposal.calls)
    dao.governor.releaseBond(proposal.id)
    assert bond(dao) == (100 * EURO, 0)
    with reverts("governor: proposal locks no bond"):
        dao.governor.releaseBond(proposal.id)


@pytest.mark.parametrize(("vetoes", "forfeited"), [(2, False), (3, True)])
def test_a_share_of_vetoes_forfeits_the_bond(dao: Dao, vetoes: int, forfeited: bool) -> None:
    proposal = dao.open_vote(fee(dao))
    dao.vote(proposal, range(vetoes), VETO)
    dao.vote(proposal, range(vetoes, 8))
    dao.vote(proposal, [8], AGAINST)
    dao.vote(proposal, [9], ABSTAIN)
    assert dao.governor.proposalVetoes(proposal.id) == vetoes
    assert dao.governor.proposalVotes(proposal.id) == (vetoes + 1, 8 - vetoes, 1)
    dao.close(proposal)
    dao.governor.releaseBond(proposal.id)
    assert len(events(dao.governor, "BondForfeited")) == forfeited
    assert bond(dao) == ((80 if forfeited else 100) * EURO, 0)
    assert dao.token.balanceOf(dao.treasury.address) == (20 * EURO if forfeited else 0)
    assert dao.token.balanceOf(dao.governor.address) == (1_980 if forfeited else 2_000) * EURO


@pytest.mark.parametrize(("voters", "forfeited"), [(4, False), (5, True)])
def test_a_few_vetoes_in_a_vote_nobody_heeds_forfeit_nothing(
    dao: Dao, voters: int, forfeited: bool
) -> None:
    proposal = dao.open_vote(fee(dao))
    dao.vote(proposal, range(voters), VETO)
    dao.close(proposal)
    dao.governor.releaseBond(proposal.id)
    assert len(events(dao.governor, "BondForfeited")) == forfeited


def test_the_share_that_forfeits_is_that_of_the_snapshot(dao: Dao) -> None:
    proposal = dao.open_vote(fee(dao))
    dao.vote(proposal, range(3), VETO)
    dao.vote(proposal, range(3, 10))
    dao.set_rule(FORFEIT_SHARE, 4_000)
    dao.close(proposal)
    dao.governor.releaseBond(proposal.id)
    assert len(events(dao.governor, "BondForfeited")) == 1


def test_a_guardian_cannot_time_a_forfeit(dao: Dao) -> None:
    proposal = dao.open_vote(dao.window_of())
    dao.vote(proposal, range(5), VETO)
    with boa.env.prank(dao.guardian):
        dao.governor.cancel(*proposal.calls)
    dao.governor.releaseBond(proposal.id)
    assert bond(dao) == (100 * EURO, 0)


def test_a_guardian_who_cancels_after_the_vote_saves_no_bond(dao: Dao) -> None:
    proposal = dao.open_vote(dao.window_of())
    dao.vote(proposal, range(5), VETO)
    dao.vote(proposal, range(5, 15))
    dao.close(proposal)
    with boa.env.prank(dao.guardian):
        dao.governor.cancel(*proposal.calls)
    dao.governor.releaseBond(proposal.id)
    assert bond(dao) == (80 * EURO, 0)


def test_bonds_of_two_proposals_are_settled_apart(dao: Dao) -> None:
    first, second = dao.propose(fee(dao, "first")), dao.propose(fee(dao, "second"))
    dao.pass_time(HOUR + 1)
    dao.vote(first, range(10), VETO)
    dao.close(second)
    dao.governor.releaseBond(first.id)
    assert bond(dao) == (80 * EURO, 20 * EURO)
    dao.governor.releaseBond(second.id)
    assert bond(dao) == (80 * EURO, 0)


# -- the guardian ------------------------------------------------------------------------------


def test_the_guardian_leaves_the_ordinary_lane_alone(dao: Dao) -> None:
    proposal = dao.enqueue(fee(dao))
    with boa.env.prank(dao.guardian), reverts("governor: caller may not cancel"):
        dao.governor.cancel(*proposal.calls)


@pytest.mark.parametrize("moment", ["Pending", "Active", "Succeeded", "Queued"])
def test_the_guardian_stops_windows_until_they_are_opened(dao: Dao, moment: str) -> None:
    proposal = dao.window_of()
    {
        "Pending": dao.propose,
        "Active": dao.open_vote,
        "Succeeded": dao.accept,
        "Queued": dao.ready,
    }[moment](proposal)
    assert dao.state(proposal) == moment
    with boa.env.prank(dao.guardian):
        dao.governor.cancel(*proposal.calls)
    assert dao.state(proposal) == "Canceled"
    assert not dao.timelock.isOperation(dao.governor.proposalOperation(proposal.id))
    with reverts("governor: proposal is not queued"):
        dao.governor.execute(*proposal.calls)


def test_the_guardian_undoes_nothing_that_was_executed(dao: Dao) -> None:
    proposal = dao.ready(dao.window_of())
    dao.governor.execute(*proposal.calls)
    with boa.env.prank(dao.guardian), reverts("governor: too late to cancel"):
        dao.governor.cancel(*proposal.calls)


def test_the_guardian_cancels_nothing_twice(dao: Dao) -> None:
    proposal = dao.propose(dao.window_of())
    with boa.env.prank(dao.guardian):
        dao.governor.cancel(*proposal.calls)
        with reverts("governor: too late to cancel"):
            dao.governor.cancel(*proposal.calls)


def test_a_vote_removes_the_guardian(dao: Dao) -> None:
    proposal = dao.ready(dao.call_of(dao.governor, "setGuardian", ZERO))
    dao.governor.execute(*proposal.calls)
    window = dao.propose(dao.window_of())
    with boa.env.prank(dao.guardian), reverts("governor: caller may not cancel"):
        dao.governor.cancel(*window.calls)


def test_an_empty_office_lets_nobody_cancel(dao: Dao) -> None:
    with dao.by_vote():
        dao.governor.setGuardian(ZERO)
    proposal = dao.propose(dao.window_of())
    for who in (dao.guardian, dao.outsider, dao.member(1)):
        with boa.env.prank(who), reverts("governor: caller may not cancel"):
            dao.governor.cancel(*proposal.calls)


def test_window_calls_are_encoded_as_everybody_does(dao: Dao) -> None:
    arguments = [1, 1_000, dao.noon(), 8, -20_000]
    types = ["uint256", "uint256", "uint256", "uint256", "int256"]
    assert dao.window_of().calldatas == [OPEN_WINDOW + encode(types, arguments)]
