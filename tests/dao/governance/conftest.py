# SPDX-License-Identifier: Apache-2.0
"""A street whose members decide, on a real node."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from benchmarks.street import Street, street
from dao import governance
from dao.chain import Contract, Receipt
from dao.governance import Call, Lane, Proposal, Support
from dao.parameters import HOUR

VOTERS = range(50, 100)
BONDS = 1_000_000_000


@pytest.fixture(scope="module")
def on() -> Iterator[Street]:
    with street(days_before=1) as made:
        made.at(-20 * HOUR)
        _put_up_bonds(made)
        yield made


def _put_up_bonds(on: Street) -> None:
    """Money for as many proposals of the first members as a module makes."""
    token, timelock = on.deployment["TestEuro"], on.deployment["GridTimelock"].address
    on.chain.fund(timelock)
    on.chain.rpc("anvil_impersonateAccount", timelock)
    for member in on.owners[:2]:
        data = token.encode("mint", member.address, BONDS)
        request = {"from": timelock, "to": token.address, "data": "0x" + data.hex()}
        assert on.chain.rpc("eth_sendTransactionSync", request)["status"] == "0x1"
        token.transact("approve", governor(on).address, BONDS, sender=member)
        governor(on).transact("depositBond", BONDS, sender=member)


def governor(on: Street) -> Contract:
    return on.deployment["GridGovernor"]


def parameters(on: Street) -> Contract:
    return on.deployment["GridParameters"]


def propose(
    on: Street, calls: Sequence[Call], why: str, lane: Lane = Lane.ORDINARY, **more: str
) -> Proposal:
    """Proposed by the first member, who has a bond."""
    return governance.propose(governor(on), calls, why, on.owners[0], lane=lane, **more)


def accept(on: Street, proposal: Proposal) -> int:
    """Enough members vote for it, and it is queued; returns when it may be executed."""
    on.chain.set_time(max(on.chain.now(), proposal.snapshot + 1))
    separator = governance.governor_separator(governor(on))
    ballots = [
        governance.sign_ballot(
            separator, one.key, one.address, proposal.id, Support.FOR, "", proposal.deadline
        )
        for one in (on.owners[i] for i in VOTERS)
    ]
    governance.cast_ballots(governor(on), proposal.id, ballots, on.relay)
    on.chain.set_time(int(governor(on).call("proposalDeadline", proposal.id)) + 1)
    return governance.queue(governor(on), proposal, on.relay)


def carry_out(on: Street, proposal: Proposal) -> Receipt:
    """Voted, queued and executed."""
    on.chain.set_time(accept(on, proposal))
    return governance.execute(governor(on), proposal, on.relay)
