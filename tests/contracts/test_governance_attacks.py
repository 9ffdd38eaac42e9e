# SPDX-License-Identifier: Apache-2.0
"""What somebody might try against the votes, on the real contracts. Wallets and hostile targets
are small contracts of this file; what each lane refuses stands in test_governor_lanes."""

from __future__ import annotations

from typing import Any

import boa
import pytest
from eth_utils import keccak

from tests.contracts.governance_fixtures import (
    AGAINST,
    DAY,
    EURO,
    FOR,
    HOUR,
    LOCAL_CHAIN,
    ORDINARY,
    VETO,
    ZERO,
    Dao,
    Proposal,
    deploy,
    events,
    new_dao,
    reverts,
)

GRID_FEE = 7
BAD_SUPPORT, EXPIRED, BAD_SIGNATURE, ALREADY_VOTED, NO_VOTES, OTHER_ZONE = range(1, 7)
CURVE_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141

# Agrees with what its owner signed, as 65 bytes r s v.
WALLET = """
# pragma version ~=0.4.3
owner: address

@deploy
def __init__(owner: address):
    self.owner = owner

@view
@external
def isValidSignature(digest: bytes32, signature: Bytes[512]) -> bytes4:
    assert len(signature) == 65
    r: uint256 = extract32(signature, 0, output_type=uint256)
    s: uint256 = extract32(signature, 32, output_type=uint256)
    v: uint256 = convert(slice(signature, 64, 1), uint256)
    if ecrecover(digest, v, r, s) == self.owner:
        return 0x1626ba7e
    return 0xffffffff
"""

# Agrees to everything, after it has read what costs nearly all of its allowance.
SPENDS = """
# pragma version ~=0.4.3
cells: HashMap[uint256, uint256]

@view
@external
def isValidSignature(digest: bytes32, signature: Bytes[512]) -> bytes4:
    total: uint256 = 0
    for i: uint256 in range(40):
        total += self.cells[i]
    assert total == 0
    return 0x1626ba7e
"""

# Answers whatever it was made with: so many bytes of a word.
ANSWERS = """
# pragma version ~=0.4.3
answer: Bytes[64]

@deploy
def __init__(answer: Bytes[64]):
    self.answer = answer

@external
@raw_return
def isValidSignature(digest: bytes32, signature: Bytes[512]) -> Bytes[64]:
    return self.answer
"""

REFUSES = """
# pragma version ~=0.4.3
@external
def isValidSignature(digest: bytes32, signature: Bytes[512]) -> bytes4:
    raise "no"
"""

BURNS = """
# pragma version ~=0.4.3
@external
def isValidSignature(digest: bytes32, signature: Bytes[512]) -> bytes4:
    hash: bytes32 = digest
    for i: uint256 in range(1_000_000):
        hash = keccak256(hash)
    return 0x1626ba7e
"""

# Votes for itself while it is asked.
REENTERS = """
# pragma version ~=0.4.3
interface Governor:
    def castVote(proposalId: uint256, support: uint8) -> uint256: nonpayable

governor: Governor
proposal: public(uint256)

@deploy
def __init__(governor: address):
    self.governor = Governor(governor)

@external
def aim(proposal: uint256):
    self.proposal = proposal

@external
def isValidSignature(digest: bytes32, signature: Bytes[512]) -> bytes4:
    extcall self.governor.castVote(self.proposal, 1)
    return 0x1626ba7e
"""

# Called by an execution, it makes a call of its own and notes what is being executed.
PUPPET = """
# pragma version ~=0.4.3
interface Governor:
    def executing() -> uint256: view

target: address
data: Bytes[8_192]
runs: public(uint256)
succeeded: public(bool)
before: public(uint256)
after: public(uint256)

@external
def aim(target: address, data: Bytes[8_192]):
    self.target = target
    self.data = data

@external
def run(governor: address):
    self.runs += 1
    self.before = staticcall Governor(governor).executing()
    if self.target != empty(address):
        self.succeeded = raw_call(self.target, self.data, revert_on_failure=False)
    self.after = staticcall Governor(governor).executing()
"""


@pytest.fixture(scope="module")
def deployed() -> Dao:
    return new_dao()


@pytest.fixture
def dao(deployed: Dao) -> Any:
    with boa.env.anchor():
        yield deployed


def fee(dao: Dao, description: str = "why", value: int = 60) -> Proposal:
    return dao.change_of(GRID_FEE, value, description)


def rejections(dao: Dao) -> list[tuple[str, int]]:
    return [(event.voter, event.reason) for event in events(dao.governor, "BallotRejected")]


def word(number: int) -> bytes:
    return number.to_bytes(32, "big")


def signature_of(dao: Dao, index: int, message: Any) -> bytes:
    """65 bytes r s v."""
    return bytes(dao.keys[index].sign_message(message).signature)


def carry(
    dao: Dao, proposal: Proposal, voter: str, signature: bytes, relay: str | None = None
) -> None:
    """Somebody else's ballot for the proposal, good for an hour."""
    deadline = boa.env.timestamp + HOUR
    with boa.env.prank(relay or dao.outsider):
        dao.governor.castVoteBySig(proposal.id, FOR, voter, "", deadline, signature)


# -- votes that came too late ------------------------------------------------------------------


def test_a_vote_admitted_in_the_second_of_the_snapshot_counts_and_none_after(dao: Dao) -> None:
    late = str(boa.env.generate_address("late"))
    meters = [dao.announce(dao.outsider), dao.announce(late)]
    dao.pass_time(HOUR)
    proposal = dao.propose(fee(dao))
    boa.env.timestamp = dao.governor.proposalSnapshot(proposal.id)
    dao.membership.complete(meters[:1])
    dao.pass_time(1)
    dao.membership.complete(meters[1:])
    dao.pass_time(1)
    with boa.env.prank(dao.outsider):
        dao.governor.castVote(proposal.id, FOR)
    with boa.env.prank(late), reverts("governor: no votes at the snapshot"):
        dao.governor.castVote(proposal.id, FOR)


def test_votes_borrowed_after_the_snapshot_do_not_count(dao: Dao) -> None:
    proposal = dao.open_vote(fee(dao))
    for index in range(1, 10):
        dao.delegate(index, 0)
    dao.pass_time(1)
    dao.vote(proposal, [0])
    assert dao.governor.proposalVotes(proposal.id) == (0, 1, 0)


def test_a_vote_lent_and_taken_back_counts_once(dao: Dao) -> None:
    dao.delegate(1, 0)
    proposal = dao.open_vote(fee(dao))
    dao.delegate(1, 1)
    dao.pass_time(1)
    dao.vote(proposal, [0])
    with reverts("governor: no votes at the snapshot"):
        dao.vote(proposal, [1])
    assert dao.governor.proposalVotes(proposal.id) == (0, 2, 0)


def test_a_member_who_moves_to_another_zone_votes_where_it_lived(dao: Dao) -> None:
    first = dao.propose(dao.window_of())
    dao.pass_time(2)
    dao.remove(dao.member(3))
    dao.admit(dao.member(3), zone=2)
    dao.pass_time(1)
    second = dao.open_vote(dao.window_of("second"))
    with reverts("governor: voter lives in another zone"):
        dao.vote(second, [3])
    dao.vote(first, [3])
    assert dao.governor.proposalVotes(first.id) == (0, 1, 0)


def test_who_voted_in_person_does_not_vote_by_signature(dao: Dao) -> None:
    proposal = dao.open_vote(fee(dao))
    dao.vote(proposal, [4])
    message = dao.ballot_message(proposal.id, dao.member(4))
    with reverts("governor: already voted"):
        carry(dao, proposal, dao.member(4), signature_of(dao, 4, message))
    assert dao.governor.castBallots(proposal.id, [dao.sign(proposal.id, 4)]) == 0


def test_who_voted_by_signature_does_not_vote_in_person(dao: Dao) -> None:
    proposal = dao.open_vote(fee(dao))
    dao.governor.castBallots(proposal.id, [dao.sign(proposal.id, 4)])
    with reverts("governor: already voted"):
        dao.vote(proposal, [4])


def test_readmission_with_a_new_point_gives_no_second_ballot(dao: Dao) -> None:
    proposal = dao.open_vote(fee(dao))
    ballot = dao.sign(proposal.id, 5, deadline=boa.env.timestamp + DAY)
    assert dao.governor.castBallots(proposal.id, [ballot]) == 1
    dao.remove(dao.member(5))
    dao.admit(dao.member(5))
    assert dao.governor.castBallots(proposal.id, [ballot]) == 0
    assert rejections(dao) == [(dao.member(5), ALREADY_VOTED)]


def test_a_member_removed_after_the_snapshot_still_votes(dao: Dao) -> None:
    proposal = dao.open_vote(fee(dao))
    dao.remove(dao.member(5))
    dao.vote(proposal, [5])
    assert dao.governor.proposalVotes(proposal.id) == (0, 1, 0)


# -- ballots -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "domain", [{"chainId": LOCAL_CHAIN + 1}, {"verifyingContract": ZERO}, {"version": "2"}]
)
def test_a_batch_counts_no_ballot_of_another_governor_or_chain(
    dao: Dao, domain: dict[str, Any]
) -> None:
    proposal = dao.open_vote(fee(dao))
    ballots = [dao.sign(proposal.id, 4, **domain), dao.sign(proposal.id, 5)]
    assert dao.governor.castBallots(proposal.id, ballots) == 1
    assert rejections(dao) == [(dao.member(4), BAD_SIGNATURE)]


def test_a_batch_counts_no_ballot_of_another_proposal(dao: Dao) -> None:
    first = dao.propose(fee(dao, "first"))
    second = dao.open_vote(fee(dao, "second"))
    assert dao.governor.castBallots(second.id, [dao.sign(first.id, 4)]) == 0
    assert rejections(dao) == [(dao.member(4), BAD_SIGNATURE)]


def test_a_batch_with_a_bad_ballot_of_every_kind_counts_the_good_ones(dao: Dao) -> None:
    proposal = dao.open_vote(dao.window_of())
    dao.vote(proposal, [9])
    forged = dao.sign(proposal.id, 6, voter=dao.member(5))
    late = dao.sign(proposal.id, 7, deadline=boa.env.timestamp - 1)
    outside = (int(dao.outsider, 16) << 96 | FOR << 88 | 2**40 - 1 << 48, bytes(32), 1, 1)
    stranger = dao.sign(proposal.id, 15)
    batch = [
        dao.sign(proposal.id, 0),
        dao.sign(proposal.id, 8, support=4),
        late,
        forged,
        dao.sign(proposal.id, 9),
        outside,
        stranger,
        dao.sign(proposal.id, 1, support=VETO),
    ]
    assert dao.governor.castBallots(proposal.id, batch) == 2
    assert rejections(dao) == [
        (dao.member(8), BAD_SUPPORT),
        (dao.member(7), EXPIRED),
        (dao.member(5), BAD_SIGNATURE),
        (dao.member(9), ALREADY_VOTED),
        (dao.outsider, BAD_SIGNATURE),
        (dao.member(15), OTHER_ZONE),
    ]
    assert dao.governor.proposalVotes(proposal.id) == (1, 2, 0)
    assert dao.governor.proposalVetoes(proposal.id) == 1


def test_the_voter_is_checked_and_not_who_carries_the_ballot(dao: Dao) -> None:
    proposal = dao.open_vote(dao.window_of())
    dao.vote(proposal, [0], AGAINST)
    for index, relay in ((1, dao.member(0)), (2, dao.member(15)), (3, dao.outsider)):
        message = dao.ballot_message(proposal.id, dao.member(index))
        carry(dao, proposal, dao.member(index), signature_of(dao, index, message), relay)
    assert dao.governor.proposalVotes(proposal.id) == (1, 3, 0)
    message = dao.ballot_message(proposal.id, dao.member(15))
    with reverts("governor: voter lives in another zone"):
        carry(dao, proposal, dao.member(15), signature_of(dao, 15, message), dao.member(4))


@pytest.mark.parametrize("form", ["r s v", "r vs"])
def test_both_forms_of_a_signature_count(dao: Dao, form: str) -> None:
    proposal = dao.open_vote(fee(dao))
    whole = signature_of(dao, 4, dao.ballot_message(proposal.id, dao.member(4)))
    _, _, r, vs = dao.sign(proposal.id, 4)
    carry(dao, proposal, dao.member(4), whole if form == "r s v" else word(r) + word(vs))
    assert dao.governor.hasVoted(proposal.id, dao.member(4))


def mirrored(signature: bytes) -> bytes:
    s = CURVE_ORDER - int.from_bytes(signature[32:64], "big")
    return signature[:32] + word(s) + bytes([55 - signature[64]])


@pytest.mark.parametrize(
    "change",
    [
        mirrored,
        lambda signature: signature[:64] + bytes([signature[64] - 27]),
        lambda signature: signature[:64] + bytes([55 - signature[64]]),
        lambda signature: signature[:64] + b"\xff",
        lambda signature: signature[:63],
        lambda signature: signature + b"\x00",
        lambda signature: bytes(65),
        lambda signature: bytes(64),
        lambda signature: b"",
    ],
    ids=[
        "mirrored",
        "v from zero",
        "other parity",
        "unknown v",
        "short",
        "long",
        "zeros",
        "64 zeros",
        "none",
    ],
)
def test_no_other_form_of_a_signature_counts(dao: Dao, change: Any) -> None:
    proposal = dao.open_vote(fee(dao))
    whole = signature_of(dao, 4, dao.ballot_message(proposal.id, dao.member(4)))
    with reverts("governor: bad signature"):
        carry(dao, proposal, dao.member(4), change(whole))
    with reverts("governor: bad signature"):
        carry(dao, proposal, ZERO, change(whole))


# -- contract wallets --------------------------------------------------------------------------


def joined(dao: Dao, source: str, *arguments: Any) -> Any:
    """A wallet that is a member."""
    wallet = boa.loads(source, *arguments)
    dao.admit(wallet.address)
    return wallet


def test_a_wallets_ballot_counts(dao: Dao) -> None:
    wallet = joined(dao, WALLET, dao.member(4))
    proposal = dao.open_vote(fee(dao))
    message = dao.ballot_message(proposal.id, wallet.address)
    carry(dao, proposal, wallet.address, signature_of(dao, 4, message))
    assert dao.governor.hasVoted(proposal.id, wallet.address)
    assert not dao.governor.hasVoted(proposal.id, dao.member(4))


def test_a_wallets_ballot_counts_in_a_batch(dao: Dao) -> None:
    wallet = joined(dao, WALLET, dao.member(4))
    proposal = dao.open_vote(fee(dao))
    batch = [dao.sign(proposal.id, 4, voter=wallet.address), dao.sign(proposal.id, 4)]
    assert dao.governor.castBallots(proposal.id, batch) == 2


def test_a_wallet_sees_through_another_keys_ballot(dao: Dao) -> None:
    wallet = joined(dao, WALLET, dao.member(4))
    proposal = dao.open_vote(fee(dao))
    assert (
        dao.governor.castBallots(proposal.id, [dao.sign(proposal.id, 5, voter=wallet.address)]) == 0
    )
    message = dao.ballot_message(proposal.id, wallet.address)
    with reverts("governor: bad signature"):
        carry(dao, proposal, wallet.address, signature_of(dao, 5, message))


MAGIC = bytes.fromhex("1626ba7e")
HOSTILE = {
    "nothing": (ANSWERS, b""),
    "four bytes alone": (ANSWERS, MAGIC),
    "the answer at the wrong end": (ANSWERS, bytes(28) + MAGIC),
    "true": (ANSWERS, word(1)),
    "the answer and more": (ANSWERS, MAGIC + bytes(27) + b"\x01"),
    "no": (ANSWERS, b"\xff" * 4 + bytes(28)),
    "a revert": (REFUSES,),
    "no end": (BURNS,),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_wallet_that_answers_otherwise_does_not_vote(dao: Dao, kind: str) -> None:
    wallet = joined(dao, *HOSTILE[kind])
    proposal = dao.open_vote(fee(dao))
    with reverts("governor: bad signature"):
        carry(dao, proposal, wallet.address, bytes(65))


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_wallet_that_answers_otherwise_harms_only_its_own_ballot(dao: Dao, kind: str) -> None:
    wallet = joined(dao, *HOSTILE[kind])
    proposal = dao.open_vote(fee(dao))
    batch = [
        dao.sign(proposal.id, 1),
        dao.sign(proposal.id, 4, voter=wallet.address),
        dao.sign(proposal.id, 2),
    ]
    assert dao.governor.castBallots(proposal.id, batch) == 2
    assert rejections(dao) == [(wallet.address, BAD_SIGNATURE)]


def test_the_answers_that_agree_are_taken(dao: Dao) -> None:
    wallet = joined(dao, ANSWERS, MAGIC + bytes(28))
    proposal = dao.open_vote(fee(dao))
    carry(dao, proposal, wallet.address, b"any text at all")
    assert dao.governor.hasVoted(proposal.id, wallet.address)


def test_a_wallet_burns_its_allowance_and_no_more(dao: Dao) -> None:
    wallet = joined(dao, BURNS)
    proposal = dao.open_vote(fee(dao))
    dao.governor.castBallots(proposal.id, [dao.sign(proposal.id, 4, voter=wallet.address)])
    assert 100_000 < dao.governor._computation.get_gas_used() < 135_000


def test_a_wallet_does_not_vote_while_it_is_asked(dao: Dao) -> None:
    wallet = joined(dao, REENTERS, dao.governor.address)
    proposal = dao.open_vote(fee(dao))
    wallet.aim(proposal.id)
    batch = [dao.sign(proposal.id, 4, voter=wallet.address), dao.sign(proposal.id, 5)]
    assert dao.governor.castBallots(proposal.id, batch) == 1
    assert not dao.governor.hasVoted(proposal.id, wallet.address)
    assert dao.governor.proposalVotes(proposal.id) == (0, 1, 0)


@pytest.mark.parametrize("way", ["alone", "in a batch"])
def test_too_little_gas_never_turns_a_wallets_ballot_away(dao: Dao, way: str) -> None:
    wallet = joined(dao, SPENDS)
    proposal = dao.open_vote(fee(dao))
    ballot = dao.sign(proposal.id, 4, voter=wallet.address)
    message = dao.ballot_message(proposal.id, wallet.address)
    signature = signature_of(dao, 4, message)
    deadline = boa.env.timestamp + HOUR
    outcomes = set()
    for gas in range(40_000, 240_000, 4_000):
        with boa.env.anchor():
            try:
                if way == "alone":
                    dao.governor.castVoteBySig(
                        proposal.id, FOR, wallet.address, "", deadline, signature, gas=gas
                    )
                else:
                    dao.governor.castBallots(proposal.id, [ballot], gas=gas)
            except boa.BoaError as error:
                outcomes.add("turned away" if "bad signature" in str(error) else "reverted")
            else:
                voted = dao.governor.hasVoted(proposal.id, wallet.address)
                outcomes.add("voted" if voted else "left out")
    assert outcomes == {"reverted", "voted"}


# -- proposals ---------------------------------------------------------------------------------


def test_a_marked_proposal_cannot_be_taken_from_its_proposer(dao: Dao) -> None:
    marked = fee(dao, f"mine #proposer={dao.member(0).lower()}")
    with reverts("governor: description names another proposer"):
        dao.propose(marked, dao.member(1))
    dao.propose(marked)
    assert dao.governor.proposalProposer(marked.id) == dao.member(0)


def test_a_marked_window_cannot_be_squatted_in_another_lane(dao: Dao) -> None:
    marked = dao.window_of(f"windows #proposer={dao.forecaster.lower()}")
    squatted = dao.window_of(marked.description)
    squatted.lane = ORDINARY
    with reverts("governor: description names another proposer"):
        dao.propose(squatted)
    dao.propose(marked, dao.forecaster)


def test_the_same_calls_are_one_proposal_whatever_the_lane(dao: Dao) -> None:
    dao.propose(dao.window_of())
    again = dao.window_of()
    again.lane = ORDINARY
    with reverts("governor: already proposed"):
        dao.propose(again, dao.member(1))


@pytest.mark.parametrize("end", ["cancelled", "defeated", "executed"])
def test_what_is_over_is_not_proposed_again(dao: Dao, end: str) -> None:
    proposal = fee(dao)
    if end == "executed":
        dao.governor.execute(*dao.ready(proposal).calls)
    else:
        dao.propose(proposal)
    if end == "cancelled":
        with boa.env.prank(dao.member(0)):
            dao.governor.cancel(*proposal.calls)
    dao.pass_time(10 * DAY)
    with reverts("governor: already proposed"):
        dao.propose(proposal, dao.member(1))


def test_a_refused_proposal_locks_no_bond(dao: Dao) -> None:
    dao.propose(fee(dao))
    with reverts("governor: already proposed"):
        dao.propose(fee(dao), dao.member(1))
    assert dao.governor.bondOf(dao.member(1)) == (100 * EURO, 0)


def test_proposals_with_the_same_calls_are_two_operations(dao: Dao) -> None:
    first, second = dao.propose(fee(dao, "first")), dao.propose(fee(dao, "second"))
    dao.pass_time(HOUR + 1)
    for proposal in (first, second):
        dao.vote(proposal, range(10))
    dao.close(second)
    for proposal in (first, second):
        dao.governor.queue(*proposal.calls)
    operations = {dao.governor.proposalOperation(one.id) for one in (first, second)}
    assert len(operations) == 2
    dao.pass_time(DAY)
    dao.governor.execute(*first.calls)
    assert (dao.state(first), dao.state(second)) == ("Executed", "Queued")


def salt_of(dao: Dao, proposal: Proposal) -> bytes:
    return word(
        int(dao.governor.address, 16) << 96 ^ int.from_bytes(proposal.description_hash, "big")
    )


def test_an_operation_that_somebody_else_scheduled_is_not_taken_for_the_members(dao: Dao) -> None:
    proposal = dao.accept(fee(dao))
    with dao.by_vote():
        dao.timelock.grantRole(keccak(text="PROPOSER_ROLE"), dao.outsider)
    with boa.env.prank(dao.outsider):
        dao.timelock.scheduleBatch(*proposal.calls[:3], bytes(32), salt_of(dao, proposal), 3 * HOUR)
    with reverts("timelock: already scheduled"):
        dao.governor.queue(*proposal.calls)
    assert dao.state(proposal) == "Succeeded"


# -- execution ---------------------------------------------------------------------------------


def puppet_of(dao: Dao, description: str = "puppet") -> tuple[Any, Proposal]:
    puppet = boa.loads(PUPPET)
    call = puppet.run.prepare_calldata(dao.governor.address)
    return puppet, Proposal([puppet.address], [0], [call], description)


def test_an_execution_says_which_proposal_it_is_and_only_while_it_runs(dao: Dao) -> None:
    puppet, proposal = puppet_of(dao)
    dao.governor.execute(*dao.ready(proposal).calls)
    assert puppet.before() == puppet.after() == proposal.id
    assert dao.governor.executing() == 0


def test_an_execution_does_not_execute_itself_again(dao: Dao) -> None:
    puppet, proposal = puppet_of(dao)
    puppet.aim(dao.governor.address, dao.governor.execute.prepare_calldata(*proposal.calls))
    dao.governor.execute(*dao.ready(proposal).calls)
    assert puppet.runs() == 1
    assert not puppet.succeeded()
    assert puppet.after() == proposal.id


def test_an_execution_executes_no_other_proposal_within(dao: Dao) -> None:
    inner = dao.propose(fee(dao, "inner"))
    puppet, outer = puppet_of(dao)
    dao.open_vote(outer)
    dao.vote(inner, range(10))
    dao.vote(outer, range(10))
    dao.close(outer)
    for proposal in (inner, outer):
        dao.governor.queue(*proposal.calls)
    dao.pass_time(DAY)
    puppet.aim(dao.governor.address, dao.governor.execute.prepare_calldata(*inner.calls))
    dao.governor.execute(*outer.calls)
    assert not puppet.succeeded()
    assert puppet.after() == outer.id
    assert (dao.state(inner), dao.state(outer)) == ("Queued", "Executed")
    dao.governor.execute(*inner.calls)
    assert dao.parameters.value(GRID_FEE) == 60


def test_an_execution_cannot_vote_or_cancel_itself_away(dao: Dao) -> None:
    puppet, proposal = puppet_of(dao)
    puppet.aim(dao.governor.address, dao.governor.queue.prepare_calldata(*proposal.calls))
    dao.governor.execute(*dao.ready(proposal).calls)
    assert not puppet.succeeded()
    assert dao.state(proposal) == "Executed"


def test_what_failed_can_be_executed_once_it_works(dao: Dao) -> None:
    proposal = dao.ready(fee(dao, value=65))
    dao.set_rule(GRID_FEE, 40)
    with reverts("parameters: step too large"):
        dao.governor.execute(*proposal.calls)
    assert (dao.state(proposal), dao.governor.executing()) == ("Queued", 0)
    dao.pass_time(DAY)
    dao.set_rule(GRID_FEE, 50)
    dao.pass_time(DAY)
    dao.governor.execute(*proposal.calls)
    assert dao.state(proposal) == "Executed"


def payment(dao: Dao, to: str, amount: int, description: str) -> Proposal:
    call = dao.token.transfer.prepare_calldata(to, amount)
    return Proposal([dao.token.address], [0], [call], description)


def test_an_action_that_drains_what_another_needs_undoes_both(dao: Dao) -> None:
    dao.token.mint(dao.timelock.address, 15 * EURO)
    ben, cara = (str(boa.env.generate_address(name)) for name in ("ben", "cara"))
    both = dao.ready(payment(dao, ben, 10 * EURO, "both") + payment(dao, cara, 10 * EURO, ""))
    with reverts("erc20: transfer amount exceeds balance"):
        dao.governor.execute(*both.calls)
    assert [dao.token.balanceOf(one) for one in (ben, cara)] == [0, 0]
    assert dao.state(both) == "Queued"


def test_a_proposal_that_drains_what_another_needs_leaves_it_queued(dao: Dao) -> None:
    dao.token.mint(dao.timelock.address, 15 * EURO)
    ben = str(boa.env.generate_address("ben"))
    proposals = [dao.propose(payment(dao, ben, 10 * EURO, name)) for name in ("one", "two")]
    dao.pass_time(HOUR + 1)
    for proposal in proposals:
        dao.vote(proposal, range(10))
    dao.close(proposals[1])
    for proposal in proposals:
        dao.governor.queue(*proposal.calls)
    dao.pass_time(DAY)
    dao.governor.execute(*proposals[0].calls)
    with reverts("erc20: transfer amount exceeds balance"):
        dao.governor.execute(*proposals[1].calls)
    assert dao.token.balanceOf(ben) == 10 * EURO
    assert dao.state(proposals[1]) == "Queued"


def test_stacked_windows_are_opened_once(dao: Dao) -> None:
    noon = dao.noon()
    first = dao.propose(dao.window_of("first", first_slot=noon))
    second = dao.propose(dao.window_of("second", first_slot=noon + 7, value=20_000))
    dao.pass_time(2)
    for proposal in (first, second):
        dao.vote(proposal, range(10))
    dao.close(second)
    for proposal in (first, second):
        dao.governor.queue(*proposal.calls)
    dao.pass_time(900)
    dao.governor.execute(*first.calls)
    with reverts("parameters: window overlaps another"):
        dao.governor.execute(*second.calls)
    assert dao.parameters.window_at(1, 1_000, noon + 7) == (True, -20_000)
    assert dao.state(second) == "Queued"


def test_windows_that_begin_before_they_are_executed_are_not_opened(dao: Dao) -> None:
    noon = dao.noon()
    proposal = dao.propose(dao.window_of())
    boa.env.timestamp = noon * 900 - 4 * HOUR
    other = dao.ready(dao.window_of("late", first_slot=noon))
    boa.env.timestamp = noon * 900
    with reverts("parameters: window has begun"):
        dao.governor.execute(*other.calls)
    assert dao.state(proposal) == "Defeated"


# -- bonds in another token --------------------------------------------------------------------


HOOKED = """
# pragma version ~=0.4.3
target: address
data: Bytes[8_192]
succeeded: public(bool)
answer: bool

@deploy
def __init__(answer: bool):
    self.answer = answer

@external
def aim(target: address, data: Bytes[8_192]):
    self.target = target
    self.data = data

@internal
def _hook() -> bool:
    if self.target != empty(address):
        self.succeeded = raw_call(self.target, self.data, revert_on_failure=False)
    return self.answer

@external
def transfer(to: address, amount: uint256) -> bool:
    return self._hook()

@external
def transferFrom(owner: address, to: address, amount: uint256) -> bool:
    return self._hook()
"""


def governor_in(dao: Dao, token: Any) -> Any:
    """A governor whose bonds are in another token."""
    terms = [tuple(dao.governor.laneTerms(lane)) for lane in (0, 1)]
    parts = (dao.timelock, dao.membership, dao.parameters, dao.forecasts, dao.policies)
    return deploy(
        "GridGovernor",
        *[part.address for part in parts],
        dao.treasury.address,
        token.address,
        *terms,
    )


def test_a_token_that_says_no_pays_no_bond(dao: Dao) -> None:
    token = boa.loads(HOOKED, False)
    governor = governor_in(dao, token)
    with boa.env.prank(dao.member(0)), reverts("governor: transfer failed"):
        governor.depositBond(EURO)
    assert governor.bondOf(dao.member(0)) == (0, 0)


def test_a_token_that_calls_back_pays_a_bond_once(dao: Dao) -> None:
    token = boa.loads(HOOKED, True)
    governor = governor_in(dao, token)
    with boa.env.prank(token.address):
        governor.depositBond(EURO)
    token.aim(governor.address, governor.withdrawBond.prepare_calldata(EURO))
    with boa.env.prank(token.address):
        governor.withdrawBond(EURO)
    assert not token.succeeded()
    assert governor.bondOf(token.address) == (0, 0)
