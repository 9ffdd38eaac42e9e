# SPDX-License-Identifier: Apache-2.0
"""Ballots: cast in person, or signed, packed and carried to the chain by anyone.

What is voted on lives in `proposals`.
"""

from __future__ import annotations

from collections.abc import Sequence
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

MAX_BALLOTS = 128

_BALLOT_TYPEHASH = keccak(
    b"Ballot(uint256 proposalId,uint8 support,address voter,bytes32 reasonHash,uint256 deadline)"
)


class Support(IntEnum):
    """How a ballot counts: the first three as in OpenZeppelin's Governor.

    VETO counts as AGAINST and says beside it that the proposal is an abuse: where enough say so,
    its proposer loses the bond.
    """

    AGAINST = 0
    FOR = 1
    ABSTAIN = 2
    VETO = 3


@dataclass(frozen=True)
class Ballot:
    """A signed vote that anyone may carry to the chain."""

    voter: str
    support: Support
    reason: str
    deadline: int
    signature: bytes

    def packed(self) -> tuple[int, bytes, int, int]:
        """The contract's `Ballot` struct: head, hash of the reason, r, vs."""
        head = int.from_bytes(address_word(self.voter), "big") << 96
        head |= (int(self.support) << 88) | (self.deadline << 48)
        r, vs = compact(self.signature)
        return (
            head,
            keccak(self.reason.encode()),
            int.from_bytes(r, "big"),
            int.from_bytes(vs, "big"),
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


def cast_vote(
    governor: Contract, proposal_id: int, support: Support, voter: Account, reason: str = ""
) -> int:
    """Vote in person; returns the votes that counted. Raises ContractReverted with the reason."""
    if reason:
        receipt = governor.transact(
            "castVoteWithReason", proposal_id, int(support), reason, sender=voter
        )
    else:
        receipt = governor.transact("castVote", proposal_id, int(support), sender=voter)
    return int(receipt.event("VoteCast").args["weight"])


def cast_ballots(
    governor: Contract, proposal_id: int, ballots: Sequence[Ballot], relay: Account
) -> list[Receipt]:
    """Carry signed ballots to the chain, as few transactions as possible; the relay pays."""
    receipts = []
    for start in range(0, len(ballots), MAX_BALLOTS):
        part = [b.packed() for b in ballots[start : start + MAX_BALLOTS]]
        receipts.append(governor.transact("castBallots", proposal_id, part, sender=relay))
    return receipts
