# SPDX-License-Identifier: Apache-2.0
"""From a proposal to its execution, with everything that must not happen on the way."""

from __future__ import annotations

from typing import Any

import boa
import pytest
from eth_abi import encode
from eth_utils import keccak

from tests.contracts.governance_fixtures import (
    ABSTAIN,
    AGAINST,
    BALANCING,
    DAY,
    EURO,
    FOR,
    HOUR,
    LOCAL_CHAIN,
    ORDINARY,
    POLICY,
    ZERO,
    Dao,
    event_signatures,
    events,
    new_dao,
    reverts,
)

GRID_FEE, QUORUM = 7, 15
BAD_SUPPORT, EXPIRED, BAD_SIGNATURE, ALREADY_VOTED, NO_VOTES = range(1, 6)
# n - s turns a signature into its mirror image, which recovers the same signer.
CURVE_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


@pytest.fixture(scope="module")
def deployed() -> Dao:
    return new_dao()


@pytest.fixture
def dao(deployed: Dao) -> Any:
    with boa.env.anchor():
        yield deployed


def proposal_of(dao: Dao, description: str = "why", fee: int = 60) -> Any:
    return dao.change_of(GRID_FEE, fee, description)


# -- proposing ---------------------------------------------------------------------------------


def test_a_proposal_has_openzeppelins_id_and_event(dao: Dao) -> None:
    proposal = dao.propose(proposal_of(dao))
    (created,) = events(dao.governor, "ProposalCreated")
    types = ["address[]", "uint256[]", "bytes[]", "bytes32"]
    assert proposal.id == int.from_bytes(keccak(encode(types, proposal.calls)), "big")
    assert proposal.id == dao.governor.hashProposal(*proposal.calls)
    assert (created.proposalId, created.proposer) == (proposal.id, dao.member(0))
    assert created.signatures == [""]
    assert created.voteStart == boa.env.timestamp + HOUR
    assert created.voteEnd == created.voteStart + DAY
    assert dao.governor.proposalSnapshot(proposal.id) == created.voteStart
    assert dao.governor.proposalDeadline(proposal.id) == created.voteEnd
    assert dao.governor.proposalProposer(proposal.id) == dao.member(0)
    assert dao.governor.proposalCount() == 1


def test_outsiders_do_not_propose(dao: Dao) -> None:
    with reverts("governor: proposer is not a member"):
        dao.propose(proposal_of(dao), dao.outsider)


def test_a_proposal_is_made_once(dao: Dao) -> None:
    dao.propose(proposal_of(dao))
    with reverts("governor: already proposed"):
        dao.propose(proposal_of(dao), dao.member(1))


def test_a_cancelled_proposal_is_not_made_again(dao: Dao) -> None:
    proposal = dao.propose(proposal_of(dao))
    with boa.env.prank(dao.member(0)):
        dao.governor.cancel(*proposal.calls)
    with reverts("governor: already proposed"):
        dao.propose(proposal_of(dao))


def test_a_proposal_has_calls(dao: Dao) -> None:
    with boa.env.prank(dao.member(0)), reverts("governor: no calls"):
        dao.governor.propose([], [], [], "nothing")


def test_lists_of_unequal_length_are_refused(dao: Dao) -> None:
    with boa.env.prank(dao.member(0)), reverts("governor: one value per target"):
        dao.governor.propose([ZERO], [], [b""], "")
    with boa.env.prank(dao.member(0)), reverts("governor: one calldata per target"):
        dao.governor.propose([ZERO], [0], [], "")


def test_members_who_joined_too_recently_do_not_propose(dao: Dao) -> None:
    dao.deposit(dao.outsider, 100 * EURO)
    dao.admit(dao.outsider)
    dao.pass_time(2 * HOUR - 1)
    with reverts("governor: proposer joined too recently"):
        dao.propose(proposal_of(dao), dao.outsider)
    dao.pass_time(1)
    dao.propose(proposal_of(dao), dao.outsider)


def test_a_member_who_lent_its_vote_may_propose(dao: Dao) -> None:
    dao.delegate(0, 1)
    dao.pass_time(1)
    made = dao.propose(proposal_of(dao), dao.member(0))
    assert dao.governor.proposalProposer(made.id) == dao.member(0)


# -- voting ------------------------------------------------------------------------------------


def test_votes_are_counted_by_support(dao: Dao) -> None:
    proposal = dao.open_vote(proposal_of(dao))
    dao.vote(proposal, [0], AGAINST)
    dao.vote(proposal, [1, 2, 3], FOR)
    dao.vote(proposal, [4, 5], ABSTAIN)
    assert dao.governor.proposalVotes(proposal.id) == (1, 3, 2)
    assert dao.governor.hasVoted(proposal.id, dao.member(5))
    assert not dao.governor.hasVoted(proposal.id, dao.member(6))


def test_a_vote_carries_its_reason(dao: Dao) -> None:
    proposal = dao.open_vote(proposal_of(dao))
    with boa.env.prank(dao.member(3)):
        dao.governor.castVoteWithReason(proposal.id, AGAINST, "too dear")
    (cast,) = events(dao.governor, "VoteCast")
    assert (cast.voter, cast.proposalId, cast.support) == (dao.member(3), proposal.id, AGAINST)
    assert (cast.weight, cast.reason) == (1, "too dear")


def test_nobody_votes_before_the_snapshot(dao: Dao) -> None:
    proposal = dao.propose(proposal_of(dao))
    dao.pass_time(HOUR)
    with reverts("governor: vote not active"):
        dao.vote(proposal, [0])


def test_the_last_second_counts(dao: Dao) -> None:
    proposal = dao.open_vote(proposal_of(dao))
    boa.env.timestamp = dao.governor.proposalDeadline(proposal.id)
    dao.vote(proposal, [0])
    assert dao.governor.proposalVotes(proposal.id)[FOR] == 1


def test_nobody_votes_after_the_deadline(dao: Dao) -> None:
    proposal = dao.open_vote(proposal_of(dao))
    boa.env.timestamp = dao.governor.proposalDeadline(proposal.id) + 1
    with reverts("governor: vote not active"):
        dao.vote(proposal, [0])


def test_nobody_votes_twice(dao: Dao) -> None:
    proposal = dao.open_vote(proposal_of(dao))
    dao.vote(proposal, [0])
    with reverts("governor: already voted"):
        dao.vote(proposal, [0], AGAINST)


def test_a_vote_is_for_against_or_abstain(dao: Dao) -> None:
    proposal = dao.open_vote(proposal_of(dao))
    with reverts("governor: support is not 0, 1, 2 or 3"):
        dao.vote(proposal, [0], 4)


def test_outsiders_do_not_vote(dao: Dao) -> None:
    proposal = dao.open_vote(proposal_of(dao))
    with boa.env.prank(dao.outsider), reverts("governor: no votes at the snapshot"):
        dao.governor.castVote(proposal.id, FOR)


def test_whoever_joins_after_the_snapshot_does_not_vote(dao: Dao) -> None:
    proposal = dao.open_vote(proposal_of(dao))
    dao.admit(dao.outsider)
    dao.pass_time(10)
    with boa.env.prank(dao.outsider), reverts("governor: no votes at the snapshot"):
        dao.governor.castVote(proposal.id, FOR)


def test_a_vote_delegated_after_the_snapshot_stays_where_it_was(dao: Dao) -> None:
    proposal = dao.open_vote(proposal_of(dao))
    dao.delegate(1, 0)
    dao.pass_time(10)
    dao.vote(proposal, [0, 1])
    assert dao.governor.proposalVotes(proposal.id) == (0, 2, 0)


def test_a_delegate_votes_for_all_who_trust_it(dao: Dao) -> None:
    for index in (1, 2):
        dao.delegate(index, 0)
    proposal = dao.open_vote(proposal_of(dao))
    dao.vote(proposal, [0])
    assert dao.governor.proposalVotes(proposal.id) == (0, 3, 0)
    with reverts("governor: no votes at the snapshot"):
        dao.vote(proposal, [1])


def test_readmission_gives_no_second_vote(dao: Dao) -> None:
    proposal = dao.open_vote(proposal_of(dao))
    dao.vote(proposal, [0])
    dao.remove(dao.member(0))
    dao.admit(dao.member(0))
    dao.pass_time(10)
    with reverts("governor: already voted"):
        dao.vote(proposal, [0])


def test_an_unknown_proposal_takes_no_vote(dao: Dao) -> None:
    with boa.env.prank(dao.member(0)), reverts("governor: unknown proposal"):
        dao.governor.castVote(1, FOR)


def test_votes_on_many_proposals_stay_apart(dao: Dao) -> None:
    first = dao.propose(proposal_of(dao, "first"))
    second = dao.open_vote(proposal_of(dao, "second"))
    dao.vote(first, [0])
    assert not dao.governor.hasVoted(second.id, dao.member(0))
    dao.vote(second, [0], AGAINST)
    assert dao.governor.proposalVotes(first.id) == (0, 1, 0)
    assert dao.governor.proposalVotes(second.id) == (1, 0, 0)


# -- signed ballots ----------------------------------------------------------------------------


def word(number: int) -> bytes:
    return number.to_bytes(32, "big")


def by_signature(dao: Dao, ballot: Any, proposal_id: int, reason: str = "") -> None:
    head, _, r, vs = ballot
    voter = "0x" + (head >> 96).to_bytes(20, "big").hex()
    deadline = (head >> 48) & (2**40 - 1)
    support = (head >> 88) & 255
    with boa.env.prank(dao.outsider):
        dao.governor.castVoteBySig(
            proposal_id, support, voter, reason, deadline, word(r) + word(vs)
        )


def test_anyone_carries_a_signed_ballot(dao: Dao) -> None:
    proposal = dao.open_vote(proposal_of(dao))
    by_signature(dao, dao.sign(proposal.id, 4, reason="for the roof"), proposal.id, "for the roof")
    (cast,) = events(dao.governor, "VoteCast")
    assert (cast.voter, cast.reason) == (dao.member(4), "for the roof")


def test_a_signed_ballot_counts_once(dao: Dao) -> None:
    proposal = dao.open_vote(proposal_of(dao))
    ballot = dao.sign(proposal.id, 4)
    by_signature(dao, ballot, proposal.id)
    with reverts("governor: already voted"):
        by_signature(dao, ballot, proposal.id)


def test_a_ballot_covers_its_reason(dao: Dao) -> None:
    proposal = dao.open_vote(proposal_of(dao))
    with reverts("governor: bad signature"):
        by_signature(dao, dao.sign(proposal.id, 4, reason="mine"), proposal.id, "another's")


def test_a_ballot_is_for_one_proposal(dao: Dao) -> None:
    first = dao.propose(proposal_of(dao, "first"))
    second = dao.open_vote(proposal_of(dao, "second"))
    with reverts("governor: bad signature"):
        by_signature(dao, dao.sign(first.id, 4), second.id)


@pytest.mark.parametrize(
    "domain", [{"chainId": 1}, {"verifyingContract": ZERO}, {"version": "2"}, {"name": "Governor"}]
)
def test_a_ballot_is_for_one_governor_on_one_chain(dao: Dao, domain: dict[str, Any]) -> None:
    proposal = dao.open_vote(proposal_of(dao))
    with reverts("governor: bad signature"):
        by_signature(dao, dao.sign(proposal.id, 4, **domain), proposal.id)


def test_a_ballot_expires(dao: Dao) -> None:
    proposal = dao.open_vote(proposal_of(dao))
    ballot = dao.sign(proposal.id, 4, deadline=boa.env.timestamp + 5)
    dao.pass_time(6)
    with reverts("governor: ballot expired"):
        by_signature(dao, ballot, proposal.id)


def test_the_domain_can_be_read(dao: Dao) -> None:
    _, name, version, chain, contract, _, _ = dao.governor.eip712Domain()
    assert (name, version, chain, contract) == (
        "GridGovernor",
        "1",
        LOCAL_CHAIN,
        dao.governor.address,
    )


def rejections(dao: Dao) -> list[tuple[str, int]]:
    return [(event.voter, event.reason) for event in events(dao.governor, "BallotRejected")]


def test_a_batch_counts_every_good_ballot(dao: Dao) -> None:
    proposal = dao.open_vote(proposal_of(dao))
    ballots = [dao.sign(proposal.id, index, support=index % 3) for index in range(12)]
    assert dao.governor.castBallots(proposal.id, ballots) == 12
    assert len(events(dao.governor, "VoteCast")) == 12
    assert dao.governor.proposalVotes(proposal.id) == (4, 4, 4)
    assert all(dao.governor.hasVoted(proposal.id, dao.member(index)) for index in range(12))


def test_a_batch_adds_to_the_votes_before_it(dao: Dao) -> None:
    proposal = dao.open_vote(proposal_of(dao))
    dao.vote(proposal, [9])
    dao.governor.castBallots(proposal.id, [dao.sign(proposal.id, index) for index in (1, 2)])
    assert dao.governor.proposalVotes(proposal.id) == (0, 3, 0)


def bad_ballot(dao: Dao, proposal_id: int, kind: str) -> tuple[Any, int]:
    """A ballot of member 5, or in its name, that must not count, and why not."""
    head, reason_hash, r, vs = good = dao.sign(proposal_id, 5)
    if kind == "unknown support":
        return dao.sign(proposal_id, 5, support=4), BAD_SUPPORT
    if kind == "expired":
        return dao.sign(proposal_id, 5, deadline=boa.env.timestamp - 1), EXPIRED
    if kind == "signed by another":
        return dao.sign(proposal_id, 6, voter=dao.member(5)), BAD_SIGNATURE
    if kind == "turned around":
        return (head ^ (1 << 88), reason_hash, r, vs), BAD_SIGNATURE
    if kind == "another reason":
        return (head, keccak(text="another"), r, vs), BAD_SIGNATURE
    if kind == "mirrored":
        mirrored = (CURVE_ORDER - (vs & (2**255 - 1))) | ((vs >> 255 ^ 1) << 255)
        return (head, reason_hash, r, mirrored), BAD_SIGNATURE
    if kind == "no signature":
        return (head, reason_hash, 0, 0), BAD_SIGNATURE
    if kind == "of nobody":
        return (head & (2**96 - 1), reason_hash, 0, 0), BAD_SIGNATURE
    if kind == "voted already":
        dao.governor.castBallots(proposal_id, [good])
        return good, ALREADY_VOTED
    raise AssertionError(kind)


@pytest.mark.parametrize(
    "kind",
    [
        "unknown support",
        "expired",
        "signed by another",
        "turned around",
        "another reason",
        "mirrored",
        "no signature",
        "of nobody",
        "voted already",
    ],
)
def test_a_bad_ballot_is_left_out_and_the_rest_counts(dao: Dao, kind: str) -> None:
    proposal = dao.open_vote(proposal_of(dao))
    bad, why = bad_ballot(dao, proposal.id, kind)
    before = dao.governor.proposalVotes(proposal.id)[FOR]
    batch = [dao.sign(proposal.id, 1), bad, dao.sign(proposal.id, 2)]
    assert dao.governor.castBallots(proposal.id, batch) == 2
    voter = "0x" + (bad[0] >> 96).to_bytes(20, "big").hex()
    assert [(who.lower(), code) for who, code in rejections(dao)] == [(voter, why)]
    assert dao.governor.proposalVotes(proposal.id)[FOR] == before + 2


def test_a_ballot_twice_in_a_batch_counts_once(dao: Dao) -> None:
    proposal = dao.open_vote(proposal_of(dao))
    ballot = dao.sign(proposal.id, 5)
    assert dao.governor.castBallots(proposal.id, [ballot, ballot]) == 1
    assert rejections(dao) == [(dao.member(5), ALREADY_VOTED)]


def test_a_ballot_of_one_who_joined_late_is_left_out(dao: Dao) -> None:
    dao.remove(dao.member(5))
    proposal = dao.open_vote(proposal_of(dao))
    dao.admit(dao.member(5))
    assert dao.governor.castBallots(proposal.id, [dao.sign(proposal.id, 5)]) == 0
    assert rejections(dao) == [(dao.member(5), NO_VOTES)]


def test_a_batch_keeps_the_hash_of_a_reason(dao: Dao) -> None:
    proposal = dao.open_vote(proposal_of(dao))
    dao.governor.castBallots(proposal.id, [dao.sign(proposal.id, 5, reason="because")])
    (reason,) = events(dao.governor, "BallotReason")
    assert reason.reasonHash == keccak(text="because")


def test_a_batch_comes_while_the_vote_is_open(dao: Dao) -> None:
    proposal = dao.propose(proposal_of(dao))
    with reverts("governor: vote not active"):
        dao.governor.castBallots(proposal.id, [dao.sign(proposal.id, 5)])


# -- outcome -----------------------------------------------------------------------------------


def test_a_proposal_passes_through_its_states(dao: Dao) -> None:
    proposal = dao.propose(proposal_of(dao))
    assert dao.state(proposal) == "Pending"
    dao.pass_time(HOUR + 1)
    assert dao.state(proposal) == "Active"
    dao.vote(proposal, range(10))
    dao.pass_time(DAY)
    assert dao.state(proposal) == "Succeeded"
    dao.governor.queue(*proposal.calls)
    assert [event.proposalId for event in events(dao.governor, "ProposalQueued")] == [proposal.id]
    assert dao.state(proposal) == "Queued"
    assert dao.governor.proposalEta(proposal.id) == boa.env.timestamp + DAY
    dao.pass_time(DAY)
    with boa.env.prank(dao.outsider):
        dao.governor.execute(*proposal.calls)
    assert len(events(dao.governor, "ProposalExecuted")) == 1
    assert dao.state(proposal) == "Executed"
    assert dao.parameters.value(GRID_FEE) == 60


def test_an_unknown_proposal_has_no_state(dao: Dao) -> None:
    with reverts("governor: unknown proposal"):
        dao.governor.state(1)


def test_the_quorum_is_a_quarter_of_the_members_here(dao: Dao) -> None:
    assert dao.governor.quorum(boa.env.timestamp - 1) == 5


def test_the_quorum_is_rounded_up(dao: Dao) -> None:
    dao.admit(dao.outsider)
    dao.pass_time(1)
    assert dao.governor.quorum(boa.env.timestamp - 1) == 6


@pytest.mark.parametrize(("votes", "outcome"), [(4, "Defeated"), (5, "Succeeded")])
def test_a_vote_below_the_quorum_fails(dao: Dao, votes: int, outcome: str) -> None:
    proposal = dao.open_vote(proposal_of(dao))
    dao.vote(proposal, range(votes))
    dao.pass_time(DAY)
    assert dao.state(proposal) == outcome


def test_abstentions_count_towards_the_quorum(dao: Dao) -> None:
    proposal = dao.open_vote(proposal_of(dao))
    dao.vote(proposal, [0])
    dao.vote(proposal, [1, 2, 3, 4], ABSTAIN)
    dao.pass_time(DAY)
    assert dao.state(proposal) == "Succeeded"


def test_votes_against_do_not_count_towards_the_quorum(dao: Dao) -> None:
    proposal = dao.open_vote(proposal_of(dao))
    dao.vote(proposal, [0, 1, 2, 3])
    dao.vote(proposal, [4, 5], AGAINST)
    dao.pass_time(DAY)
    assert dao.state(proposal) == "Defeated"


def test_a_tie_fails(dao: Dao) -> None:
    proposal = dao.open_vote(proposal_of(dao))
    dao.vote(proposal, range(10))
    dao.vote(proposal, range(10, 20), AGAINST)
    dao.pass_time(DAY)
    assert dao.state(proposal) == "Defeated"


def test_nothing_passes_without_members(dao: Dao) -> None:
    meters = dao.announce_removal(*[dao.member(index) for index in range(20)])
    dao.pass_time(HOUR)
    proposal = dao.propose(proposal_of(dao))
    dao.membership.complete(meters)
    dao.pass_time(HOUR + DAY + 1)
    assert dao.governor.quorum(dao.governor.proposalSnapshot(proposal.id)) == 0
    assert dao.state(proposal) == "Defeated"


def test_a_quorum_changed_during_a_vote_does_not_touch_it(dao: Dao) -> None:
    proposal = dao.open_vote(proposal_of(dao))
    dao.vote(proposal, range(5))
    dao.set_rule(QUORUM, 3_500)
    dao.pass_time(DAY)
    assert dao.state(proposal) == "Succeeded"
    assert dao.governor.quorum(boa.env.timestamp - 1) == 7


def test_members_who_join_during_a_vote_do_not_raise_its_quorum(dao: Dao) -> None:
    proposal = dao.open_vote(proposal_of(dao))
    dao.vote(proposal, range(5))
    meters = [dao.announce(str(boa.env.generate_address())) for _ in range(20)]
    dao.pass_time(HOUR)
    dao.membership.complete(meters)
    dao.pass_time(DAY)
    assert dao.state(proposal) == "Succeeded"


# -- queue and execution -----------------------------------------------------------------------


def test_only_what_passed_is_queued(dao: Dao) -> None:
    proposal = dao.open_vote(proposal_of(dao))
    dao.vote(proposal, range(10))
    with reverts("governor: proposal has not succeeded"):
        dao.governor.queue(*proposal.calls)


def test_what_was_rejected_is_not_queued(dao: Dao) -> None:
    proposal = dao.open_vote(proposal_of(dao))
    dao.vote(proposal, range(10), AGAINST)
    dao.pass_time(DAY)
    with reverts("governor: proposal has not succeeded"):
        dao.governor.queue(*proposal.calls)


def test_nothing_is_queued_twice(dao: Dao) -> None:
    proposal = dao.enqueue(proposal_of(dao))
    with reverts("governor: proposal has not succeeded"):
        dao.governor.queue(*proposal.calls)


def test_nothing_is_executed_unqueued(dao: Dao) -> None:
    proposal = dao.accept(proposal_of(dao))
    with reverts("governor: proposal is not queued"):
        dao.governor.execute(*proposal.calls)


def test_nothing_is_executed_early(dao: Dao) -> None:
    proposal = dao.enqueue(proposal_of(dao))
    dao.pass_time(DAY - 1)
    with reverts("timelock: not ready"):
        dao.governor.execute(*proposal.calls)


def test_nothing_is_executed_twice(dao: Dao) -> None:
    proposal = dao.enqueue(proposal_of(dao))
    dao.pass_time(DAY)
    dao.governor.execute(*proposal.calls)
    with reverts("governor: proposal is not queued"):
        dao.governor.execute(*proposal.calls)


def test_other_calls_are_not_executed_under_its_name(dao: Dao) -> None:
    proposal = dao.enqueue(proposal_of(dao))
    dao.pass_time(DAY)
    proposal.calldatas = proposal_of(dao, fee=70).calldatas
    with reverts("governor: unknown proposal"):
        dao.governor.execute(*proposal.calls)


def test_nobody_executes_past_the_governor(dao: Dao) -> None:
    proposal = dao.enqueue(proposal_of(dao))
    dao.pass_time(DAY)
    salt = int(dao.governor.address, 16) << 96 ^ int.from_bytes(proposal.description_hash, "big")
    with boa.env.prank(dao.outsider), reverts("access_control: account is missing role"):
        dao.timelock.executeBatch(*proposal.calls[:3], bytes(32), salt.to_bytes(32, "big"))


def test_one_failing_call_undoes_the_others(dao: Dao) -> None:
    proposal = proposal_of(dao)
    other = proposal_of(dao, fee=1_000)
    proposal.targets += other.targets
    proposal.values += other.values
    proposal.calldatas += other.calldatas
    dao.enqueue(proposal)
    dao.pass_time(DAY)
    with reverts("parameters: value out of bounds"):
        dao.governor.execute(*proposal.calls)
    assert dao.parameters.value(GRID_FEE) == 50
    assert dao.state(proposal) == "Queued"


def test_a_proposal_cannot_execute_another_within_itself(dao: Dao) -> None:
    inner = dao.propose(proposal_of(dao, "inner"))
    call = dao.governor.execute.prepare_calldata(*inner.calls)
    outer = type(inner)([dao.governor.address], [0], [call], "outer")
    dao.open_vote(outer)
    for proposal in (inner, outer):
        dao.vote(proposal, range(10))
    dao.pass_time(DAY)
    for proposal in (inner, outer):
        dao.governor.queue(*proposal.calls)
    dao.pass_time(DAY)
    with pytest.raises(boa.BoaError):
        dao.governor.execute(*outer.calls)
    assert dao.parameters.value(GRID_FEE) == 50
    dao.governor.execute(*inner.calls)
    assert dao.parameters.value(GRID_FEE) == 60


def test_what_nobody_executes_expires(dao: Dao) -> None:
    proposal = dao.enqueue(proposal_of(dao))
    boa.env.timestamp = dao.governor.proposalExpiry(proposal.id)
    assert dao.state(proposal) == "Queued"
    dao.pass_time(1)
    assert dao.state(proposal) == "Expired"
    with reverts("governor: proposal is not queued"):
        dao.governor.execute(*proposal.calls)


def test_what_nobody_queues_expires(dao: Dao) -> None:
    proposal = dao.accept(proposal_of(dao))
    boa.env.timestamp = dao.governor.proposalExpiry(proposal.id)
    assert dao.state(proposal) == "Succeeded"
    dao.pass_time(1)
    assert dao.state(proposal) == "Expired"
    with reverts("governor: proposal has not succeeded"):
        dao.governor.queue(*proposal.calls)


def test_a_longer_grace_period_revives_nothing(dao: Dao) -> None:
    proposal = dao.enqueue(proposal_of(dao))
    dao.pass_time(4 * DAY)
    with dao.by_vote():
        dao.governor.setLane(ORDINARY, HOUR, DAY, 30 * DAY, DAY)
    assert dao.state(proposal) == "Expired"


def test_a_proposal_of_the_fast_lane_waits_as_long_as_that_lane_says(dao: Dao) -> None:
    proposal = dao.enqueue(dao.window_of())
    assert dao.governor.proposalEta(proposal.id) == boa.env.timestamp + 900


def test_the_timelocks_own_delay_counts_where_it_is_longer(dao: Dao) -> None:
    with dao.by_vote():
        dao.timelock.updateDelay(3 * HOUR)
    proposal = dao.enqueue(dao.window_of())
    assert dao.governor.proposalEta(proposal.id) == boa.env.timestamp + 3 * HOUR


def test_a_forecasters_window_reaches_the_parameters(dao: Dao) -> None:
    slot = dao.noon()
    proposal = dao.ready(dao.window_of(), dao.forecaster)
    dao.governor.execute(*proposal.calls)
    assert dao.parameters.window_at(1, 1_000, slot) == (True, -20_000)


# -- cancelling --------------------------------------------------------------------------------


def test_its_proposer_takes_a_pending_proposal_back(dao: Dao) -> None:
    proposal = dao.propose(proposal_of(dao))
    with boa.env.prank(dao.member(0)):
        dao.governor.cancel(*proposal.calls)
    assert len(events(dao.governor, "ProposalCanceled")) == 1
    assert dao.state(proposal) == "Canceled"
    dao.pass_time(HOUR + 1)
    with reverts("governor: vote not active"):
        dao.vote(proposal, [0])


def test_no_proposal_is_taken_back_during_the_vote(dao: Dao) -> None:
    proposal = dao.open_vote(proposal_of(dao))
    with boa.env.prank(dao.member(0)), reverts("governor: too late to cancel"):
        dao.governor.cancel(*proposal.calls)


def test_nobody_else_takes_a_proposal_back(dao: Dao) -> None:
    proposal = dao.propose(proposal_of(dao))
    with boa.env.prank(dao.member(1)), reverts("governor: caller may not cancel"):
        dao.governor.cancel(*proposal.calls)


def test_what_another_canceller_removes_from_the_timelock_is_cancelled(dao: Dao) -> None:
    proposal = dao.enqueue(proposal_of(dao))
    with boa.env.prank(dao.timelock.address):
        dao.timelock.grantRole(keccak(text="CANCELLER_ROLE"), dao.outsider)
    with boa.env.prank(dao.outsider):
        dao.timelock.cancel(dao.governor.proposalOperation(proposal.id))
    assert dao.state(proposal) == "Canceled"


def test_what_another_executor_executes_is_executed(dao: Dao) -> None:
    proposal = dao.enqueue(proposal_of(dao))
    dao.pass_time(DAY)
    with boa.env.prank(dao.timelock.address):
        dao.timelock.grantRole(keccak(text="EXECUTOR_ROLE"), dao.outsider)
    salt = int(dao.governor.address, 16) << 96 ^ int.from_bytes(proposal.description_hash, "big")
    with boa.env.prank(dao.outsider):
        dao.timelock.executeBatch(*proposal.calls[:3], bytes(32), salt.to_bytes(32, "big"))
    assert dao.state(proposal) == "Executed"
    with reverts("governor: proposal is not queued"):
        dao.governor.execute(*proposal.calls)


# -- settings ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setter", "arguments"),
    [
        ("setLane", (0, HOUR, DAY, DAY, DAY)),
        ("setGuardian", (ZERO,)),
        ("transfer_ownership", ("0x" + "11" * 20,)),
    ],
)
def test_only_the_timelock_changes_settings(dao: Dao, setter: str, arguments: Any) -> None:
    for who in (dao.deployer, dao.member(0), dao.forecaster, dao.guardian):
        with boa.env.prank(who), reverts("ownable: caller is not the owner"):
            getattr(dao.governor, setter)(*arguments)


DELAY, PERIOD, GRACE, WAIT = range(4)
LONGEST = {
    ORDINARY: (7 * DAY, 30 * DAY, 30 * DAY, 30 * DAY),
    BALANCING: (DAY, DAY, DAY, DAY),
}
SHORTEST = {ORDINARY: (HOUR, DAY, DAY, DAY), BALANCING: (1, HOUR, HOUR, 900)}


@pytest.mark.parametrize("lane", [ORDINARY, BALANCING])
@pytest.mark.parametrize("terms", [SHORTEST, LONGEST], ids=["shortest", "longest"])
def test_a_lane_takes_terms_up_to_its_bounds(dao: Dao, lane: int, terms: Any) -> None:
    other = dao.governor.laneTerms(1 - lane)
    with dao.by_vote():
        dao.governor.setLane(lane, *terms[lane])
    assert tuple(dao.governor.laneTerms(lane)) == terms[lane]
    assert dao.governor.laneTerms(1 - lane) == other
    assert dao.governor.proposalCount() == 0


@pytest.mark.parametrize("lane", [ORDINARY, BALANCING])
@pytest.mark.parametrize(
    ("field", "reason"),
    [
        (DELAY, "voting delay out of range"),
        (PERIOD, "period out of range"),
        (GRACE, "period out of range"),
        (WAIT, "timelock delay out of range"),
    ],
)
@pytest.mark.parametrize("beyond", ["short", "long"])
def test_no_lane_takes_terms_beyond_its_bounds(
    dao: Dao, lane: int, field: int, reason: str, beyond: str
) -> None:
    terms = list(SHORTEST[lane] if beyond == "short" else LONGEST[lane])
    terms[field] += -1 if beyond == "short" else 1
    with dao.by_vote(), reverts(f"governor: {reason}"):
        dao.governor.setLane(lane, *terms)


@pytest.mark.parametrize("field", [PERIOD, GRACE])
def test_periods_are_whole_hours(dao: Dao, field: int) -> None:
    terms = list(SHORTEST[BALANCING])
    terms[field] += 60
    with dao.by_vote(), reverts("governor: period is not in whole hours"):
        dao.governor.setLane(BALANCING, *terms)


def test_policies_have_no_terms_of_their_own(dao: Dao) -> None:
    with dao.by_vote(), reverts("governor: lane has no terms of its own"):
        dao.governor.setLane(POLICY, *SHORTEST[BALANCING])
    with reverts("governor: lane has no terms of its own"):
        dao.governor.laneTerms(POLICY)


def test_indexers_read_the_ordinary_lanes_terms(dao: Dao) -> None:
    with dao.by_vote():
        dao.governor.setLane(ORDINARY, 2 * HOUR, 2 * DAY, DAY, DAY)
    (delay,) = events(dao.governor, "VotingDelaySet")
    (period,) = events(dao.governor, "VotingPeriodSet")
    assert (delay.oldVotingDelay, delay.newVotingDelay) == (HOUR, 2 * HOUR)
    assert (period.oldVotingPeriod, period.newVotingPeriod) == (DAY, 2 * DAY)
    assert (dao.governor.votingDelay(), dao.governor.votingPeriod()) == (2 * HOUR, 2 * DAY)


def test_a_shorter_period_does_not_end_a_vote(dao: Dao) -> None:
    proposal = dao.open_vote(proposal_of(dao))
    deadline = dao.governor.proposalDeadline(proposal.id)
    with dao.by_vote():
        dao.governor.setLane(ORDINARY, *SHORTEST[ORDINARY])
    assert dao.governor.proposalDeadline(proposal.id) == deadline


def test_the_deployer_keeps_no_power(dao: Dao) -> None:
    assert not dao.timelock.hasRole(bytes(32), dao.deployer)
    for contract in (dao.parameters, dao.membership, dao.policies, dao.governor):
        assert contract.owner() == dao.timelock.address


def test_indexers_find_openzeppelins_events() -> None:
    assert event_signatures("GridGovernor") >= {
        "ProposalCreated(uint256,address,address[],uint256[],string[],bytes[],uint256,uint256,string)",
        "ProposalQueued(uint256,uint256)",
        "ProposalExecuted(uint256)",
        "ProposalCanceled(uint256)",
        "VoteCast(address,uint256,uint8,uint256,string)",
        "VotingDelaySet(uint256,uint256)",
        "VotingPeriodSet(uint256,uint256)",
    }


def test_indexers_find_what_they_know(dao: Dao) -> None:
    governor = dao.governor
    assert governor.COUNTING_MODE() == "support=bravo&quorum=for,abstain"
    assert governor.CLOCK_MODE() == "mode=timestamp"
    assert governor.clock() == boa.env.timestamp
    assert (governor.name(), governor.version()) == ("GridGovernor", "1")
    assert governor.proposalThreshold() == 0
    assert governor.proposalNeedsQueuing(0)
    assert governor.token() == dao.membership.address
    assert governor.bond_token() == dao.token.address
    assert governor.timelock() == dao.timelock.address
    assert governor.getVotes(dao.member(0), boa.env.timestamp - 1) == 1


def test_the_code_on_chain_fits_its_limit(dao: Dao) -> None:
    for contract in (dao.governor, dao.policies):
        assert len(boa.env.get_code(contract.address)) <= 24_576
