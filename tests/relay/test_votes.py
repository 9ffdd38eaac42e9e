# SPDX-License-Identifier: Apache-2.0
"""Ballots, objections and delegations by signature: batched where the contract takes batches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from benchmarks.street import DAY_SLOT, HOMES, MEMBERS, ZONE, Street, street
from dao import governance, membership
from dao.governance import Call, Lane, Proposal, Support
from dao.parameters import HOUR, KEYS
from dao.relay.erasure import erase
from dao.relay.reader import Relay
from dao.relay.request_intake import submit_request, typed_request
from dao.relay.request_store import Kind, RequestState, StoredRequest
from dao.relay.service import run_round
from dao.relay.store import RelayStore
from tests.relay.signing import ask, sign, taken, wanted


@pytest.fixture(scope="module")
def village() -> Iterator[Street]:
    with street(days_before=1) as made:
        made.at(-12 * HOUR)
        yield made


@dataclass(frozen=True)
class Vote:
    """A relay on the street, and a proposal whose vote is open."""

    on: Street
    relay: Relay
    proposal: Proposal

    @property
    def id(self) -> str:
        return f"0x{self.proposal.id:064x}"

    def state(self, number: bytes) -> StoredRequest:
        found = self.relay.store.requests.get(number)
        assert found is not None
        return found

    def votes(self) -> tuple[int, int, int]:
        """Against, for, abstaining."""
        return tuple(self.on.deployment["GridGovernor"].call("proposalVotes", self.proposal.id))

    def ballot(self, member: int, **fields: Any) -> bytes:
        who = self.on.owners[member]
        given = {"proposal": self.id, "voter": who.address, "support": "for", **fields}
        return taken(self.relay, Kind.BALLOT, who, **given)


@pytest.fixture
def vote(village: Street, tmp_path: Path) -> Iterator[Vote]:
    snapshot = village.chain.rpc("evm_snapshot")
    parameters = village.deployment["GridParameters"]
    arguments = (ZONE, KEYS["grid_fee"], DAY_SLOT, 4, 120)
    call = Call(parameters.address, parameters.encode("open_window", *arguments))
    proposal = governance.propose(
        village.deployment["GridGovernor"],
        [call],
        "A higher fee.",
        village.owners[0],
        lane=Lane.BALANCING,
    )
    village.chain.set_time(proposal.snapshot + 1)
    store = RelayStore(tmp_path / "relay.sqlite")
    relay = Relay.of(village.deployment, store, ZONE, village.chain.accounts[7])
    yield Vote(village, relay, proposal)
    store.close()
    assert village.chain.rpc("evm_revert", snapshot)
    village.chain._nonces.clear()


def test_ballots_share_a_transaction(vote: Vote) -> None:
    numbers = [vote.ballot(member, reason=f"because of {member}") for member in range(10, 20)]
    before = vote.on.chain.transactions
    assert run_round(vote.relay) == ()
    assert vote.votes() == (0, 0, 0)  # they wait for company
    assert run_round(vote.relay, flush=True) == ()
    assert vote.on.chain.transactions - before == 1
    assert {vote.state(number).state for number in numbers} == {RequestState.DONE}
    assert vote.votes() == (0, 10, 0)
    assert vote.state(numbers[0]).fields["reason"] == "because of 10"
    assert vote.state(numbers[0]).account == 11


def test_an_objection_counts_against_and_a_veto_as_one(vote: Vote) -> None:
    for member, veto in ((20, False), (21, True)):
        who = vote.on.owners[member]
        given = {"proposal": vote.id, "voter": who.address, "veto": veto}
        taken(vote.relay, Kind.OBJECTION, who, **given)
    run_round(vote.relay, flush=True)
    governor = vote.on.deployment["GridGovernor"]
    assert vote.votes() == (2, 0, 0)
    assert governor.call("proposalVetoes", vote.proposal.id) == 1


def test_what_a_wallet_signs_is_what_members_sign_by_hand(vote: Vote) -> None:
    who = vote.on.owners[12]
    given = {"proposal": vote.id, "voter": who.address, "support": "veto", "reason": "no"}
    document, _ = typed_request(vote.relay, Kind.BALLOT, given)
    assert document is not None
    assert isinstance(document["message"]["proposalId"], str)
    separator = governance.governor_separator(vote.on.deployment["GridGovernor"])
    deadline = document["message"]["deadline"]
    made = governance.sign_ballot(
        separator, who.key, who.address, vote.proposal.id, Support.VETO, "no", deadline
    )
    assert sign(document, who) == "0x" + made.signature.hex()
    anvils = vote.on.chain.accounts[0]
    theirs = vote.on.chain.rpc("eth_signTypedData_v4", anvils.address, document)
    assert theirs == sign(document, anvils)


def test_a_member_votes_once(vote: Vote) -> None:
    vote.ballot(30)
    who = vote.on.owners[30]
    given = {"proposal": vote.id, "voter": who.address}
    for _ in range(2):
        answer = ask(vote.relay, Kind.BALLOT, who, **given, support="against")
        assert [problem.field for problem in answer.problems] == ["voter"]
        answer = ask(vote.relay, Kind.OBJECTION, who, **given)
        assert [problem.field for problem in answer.problems] == ["voter"]
        run_round(vote.relay, flush=True)
    assert vote.votes() == (0, 1, 0)


def test_a_ballot_that_its_voter_cast_in_person_is_done(vote: Vote) -> None:
    same, other = vote.ballot(31), vote.ballot(32)
    governor = vote.on.deployment["GridGovernor"]
    for member, support in ((31, Support.FOR), (32, Support.AGAINST)):
        vote.on.chain.fund(vote.on.owners[member].address)
        governance.cast_vote(governor, vote.proposal.id, support, vote.on.owners[member])
    run_round(vote.relay, flush=True)
    assert vote.state(same).state is RequestState.DONE
    failed = vote.state(other)
    assert (failed.state, failed.reason) == (RequestState.FAILED, "governor: already voted")


def test_who_has_no_vote_is_told_so(vote: Vote) -> None:
    assert MEMBERS < HOMES
    who = vote.on.owners[HOMES - 1]
    given = {"proposal": vote.id, "voter": who.address, "support": "for"}
    answer = ask(vote.relay, Kind.BALLOT, who, **given)
    assert answer.problems[0].problem == "governor: no votes at the snapshot"


def test_a_vote_that_is_not_open_takes_none(vote: Vote) -> None:
    who = vote.on.owners[14]
    given = {"proposal": "0x12", "voter": who.address, "support": "for"}
    answer = ask(vote.relay, Kind.BALLOT, who, **given)
    assert [problem.field for problem in answer.problems] == ["proposal"]
    late = wanted(vote.relay, Kind.BALLOT, {**given, "proposal": vote.id}, who)
    vote.on.chain.set_time(vote.proposal.deadline + 1)
    answer = submit_request(vote.relay, Kind.BALLOT, late)
    assert [problem.field for problem in answer.problems] == ["proposal"]


def test_close_to_the_end_of_a_vote_no_ballot_waits(vote: Vote) -> None:
    vote.on.chain.set_time(vote.proposal.deadline - vote.relay.pace.margin)
    number = vote.ballot(15)
    run_round(vote.relay)
    assert vote.state(number).state is RequestState.DONE
    vote.on.chain.set_time(vote.proposal.deadline - 59)
    who = vote.on.owners[16]
    given = {"proposal": vote.id, "voter": who.address, "support": "for"}
    answer = ask(vote.relay, Kind.BALLOT, who, **given)
    assert [problem.field for problem in answer.problems] == ["proposal"]


def test_a_delegation_is_carried_and_counted_once(vote: Vote) -> None:
    who, other = vote.on.owners[40], vote.on.owners[41]
    given = {"delegator": who.address, "delegatee": other.address}
    body = wanted(vote.relay, Kind.DELEGATION, given, who)
    answer = submit_request(vote.relay, Kind.DELEGATION, body)
    assert answer.stored is not None
    assert answer.stored.account == 41
    run_round(vote.relay)
    assert vote.state(answer.stored.id).state is RequestState.DONE
    members = vote.on.deployment["Membership"]
    assert members.call("delegates", who.address) == other.address
    assert membership.next_nonce(members, who.address) == 1
    # Back, and there once more: an earlier delegation to the same is not taken for the new one.
    for delegatee in (who, other):
        given = {"delegator": who.address, "delegatee": delegatee.address}
        number = taken(vote.relay, Kind.DELEGATION, who, **given)
        assert vote.state(number).state is RequestState.RECEIVED
        run_round(vote.relay)
        assert vote.state(number).state is RequestState.DONE
    assert membership.next_nonce(members, who.address) == 3


def test_a_delegation_that_somebody_else_brought_is_done(vote: Vote) -> None:
    who, other = vote.on.owners[42], vote.on.owners[43]
    given = {"delegator": who.address, "delegatee": other.address}
    number = taken(vote.relay, Kind.DELEGATION, who, **given)
    fields = vote.state(number).fields
    made = membership.Delegation(
        who.address,
        other.address,
        fields["nonce"],
        fields["expiry"],
        vote.state(number).signature,
    )
    membership.carry_delegation(vote.on.deployment["Membership"], made, vote.on.chain.accounts[8])
    run_round(vote.relay)
    assert vote.state(number).state is RequestState.DONE


def test_erasing_takes_a_ballots_reason_and_leaves_what_is_public(vote: Vote) -> None:
    who, other = vote.on.owners[46], vote.on.owners[47]
    given = {"delegator": who.address, "delegatee": other.address}
    kept = taken(vote.relay, Kind.DELEGATION, who, **given)
    ballot = vote.ballot(46, reason="my own reasons")
    run_round(vote.relay, flush=True)
    slot = vote.state(ballot).received_at // 900
    path = vote.relay.store.path
    assert erase(path, 47, slot + 1, slot + 96) == 0
    assert erase(path, 47, slot - 96, slot + 1) == 1
    assert vote.relay.store.requests.get(ballot) is None
    assert vote.state(kept).state is RequestState.DONE
    assert b"my own reasons" not in path.read_bytes()


def test_nobody_hands_on_anothers_vote(vote: Vote) -> None:
    who, thief = vote.on.owners[44], vote.on.owners[45]
    given = {"delegator": who.address, "delegatee": thief.address}
    answer = ask(vote.relay, Kind.DELEGATION, thief, **given)
    assert [problem.field for problem in answer.problems] == ["signature"]
