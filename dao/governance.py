# SPDX-License-Identifier: Apache-2.0
"""Proposals and ballots as Python objects: build, propose, sign, relay, queue, execute.

What a proposal should do is decided in `forecasting` or by people; here it is carried out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum

from dao.chain import Account, Contract, Receipt
from dao.eip712 import (
    address_word,
    compact,
    digest,
    domain_separator,
    keccak,
    sign_digest,
    word,
)
from dao.parameters import COMMUNITY_BATTERY

MAX_BALLOTS = 128

_BALLOT_TYPEHASH = keccak(
    b"Ballot(uint256 proposalId,uint8 support,address voter,bytes32 reasonHash,uint256 deadline)"
)


class Support(IntEnum):
    """How a ballot counts, numbered as in OpenZeppelin's Governor."""

    AGAINST = 0
    FOR = 1
    ABSTAIN = 2


class State(IntEnum):
    """A proposal's state, numbered as in OpenZeppelin's Governor."""

    PENDING = 0
    ACTIVE = 1
    CANCELED = 2
    DEFEATED = 3
    SUCCEEDED = 4
    QUEUED = 5
    EXPIRED = 6
    EXECUTED = 7


@dataclass(frozen=True)
class Call:
    """One call that a proposal makes through the timelock."""

    target: str
    calldata: bytes
    value: int = 0


@dataclass(frozen=True)
class Proposal:
    """A proposal on chain; `id` follows from calls and description."""

    id: int
    calls: tuple[Call, ...]
    description: str
    snapshot: int
    deadline: int

    def arguments(self) -> tuple[list[str], list[int], list[bytes], bytes]:
        """Targets, values, calldatas and the description's hash, as queue and execute take them."""
        return (*_columns(self.calls), keccak(self.description.encode()))


@dataclass(frozen=True)
class Ballot:
    """A signed vote that anyone may carry to the chain."""

    voter: str
    support: Support
    reason: str
    deadline: int
    signature: bytes

    def packed(self) -> tuple[int, bytes, bytes, bytes]:
        """The contract's `Ballot` struct: head, hash of the reason, r, vs."""
        head = int.from_bytes(address_word(self.voter), "big") << 96
        head |= (int(self.support) << 88) | (self.deadline << 48)
        r, vs = compact(self.signature)
        return head, keccak(self.reason.encode()), r, vs


def _columns(calls: Sequence[Call]) -> tuple[list[str], list[int], list[bytes]]:
    return [c.target for c in calls], [c.value for c in calls], [c.calldata for c in calls]


def battery_call(parameters: Contract, zone: int, windows: Iterable[tuple[int, int, int]]) -> Call:
    """The call that puts the community battery on a schedule: all of it, or nothing.

    windows: at most 16 of (first slot, slots, power in W; positive charges), inside one UTC day.
    """
    words = [
        first | (slots << 64) | ((power & ((1 << 128) - 1)) << 128)
        for first, slots, power in windows
    ]
    return Call(
        parameters.address, parameters.encode("open_windows", zone, COMMUNITY_BATTERY, words)
    )


def propose(
    governor: Contract, calls: Sequence[Call], description: str, proposer: Account
) -> Proposal:
    """Put calls to the vote. Raises ContractReverted with the governor's reason."""
    receipt = governor.transact("propose", *_columns(calls), description, sender=proposer)
    created = receipt.event("ProposalCreated").args
    return Proposal(
        id=int(created["proposalId"]),
        calls=tuple(calls),
        description=description,
        snapshot=int(created["voteStart"]),
        deadline=int(created["voteEnd"]),
    )


def governor_separator(governor: Contract) -> bytes:
    """The EIP-712 domain that ballots are signed under."""
    return domain_separator("GridGovernor", "1", governor.chain.chain_id, governor.address)


def sign_ballot(
    separator: bytes,
    key: bytes,
    voter: str,
    proposal_id: int,
    support: Support,
    reason: str,
    deadline: int,
) -> Ballot:
    """Sign a vote; it covers the hash of the reason, and holds until `deadline` (unix seconds)."""
    struct = keccak(
        _BALLOT_TYPEHASH
        + word(proposal_id)
        + word(int(support))
        + address_word(voter)
        + keccak(reason.encode())
        + word(deadline)
    )
    return Ballot(voter, support, reason, deadline, sign_digest(key, digest(separator, struct)))


def cast_ballots(
    governor: Contract, proposal_id: int, ballots: Sequence[Ballot], relay: Account
) -> list[Receipt]:
    """Carry signed ballots to the chain, as few transactions as possible; the relay pays."""
    receipts = []
    for start in range(0, len(ballots), MAX_BALLOTS):
        part = [b.packed() for b in ballots[start : start + MAX_BALLOTS]]
        receipts.append(governor.transact("castBallots", proposal_id, part, sender=relay))
    return receipts


def state(governor: Contract, proposal: Proposal) -> State:
    """Where the proposal stands now."""
    return State(int(governor.call("state", proposal.id)))


def queue(governor: Contract, proposal: Proposal, sender: Account) -> int:
    """Queue a passed proposal; returns when it may be executed, unix seconds."""
    receipt = governor.transact("queue", *proposal.arguments(), sender=sender)
    return int(receipt.event("ProposalQueued").args["etaSeconds"])


def execute(governor: Contract, proposal: Proposal, sender: Account) -> Receipt:
    """Execute a queued proposal whose time has come: all of its calls, or none."""
    return governor.transact("execute", *proposal.arguments(), sender=sender)
