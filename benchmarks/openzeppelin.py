# SPDX-License-Identifier: Apache-2.0
"""OpenZeppelin's Governor on the same node: as many members, the same calls, the same votes.

Its contracts are those of peers/openzeppelin; `make setup-test` fetches and compiles them, nothing
is compiled here. What ours is measured doing stands in `benchmarks.gas`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks.results import Number
from benchmarks.street import DAY, MEMBERS, Street, require
from dao.anvil import checkout_root
from dao.artifacts import Artifact
from dao.chain import Contract, LocalAccount, Receipt
from dao.eip712 import address_word, digest, domain_separator, keccak, sign_digest, word
from dao.errors import CheckFailed
from dao.governance import Call, State, Support
from dao.parameters import KEYS, rules_from

SOURCES = checkout_root() / "benchmarks" / "peers" / "openzeppelin"
COMPILED = checkout_root() / ".build" / "openzeppelin.json"

# The ordinary lane's terms as deployed.
VOTING_DELAY = DAY
VOTING_PERIOD = 5 * DAY
EXTENSION = VOTING_PERIOD // 8
TIMELOCK_DELAY = 2 * DAY
QUORUM_PERCENT = 20

# Of the members, 0 proposes, 1 and 2 vote first, 3 when the quorum is there; the others sign.
VOTING = (1, 2)
AFTER_QUORUM = 3
EXTENDED = slice(4, 5)
ONE_BY_ONE = slice(50, 100)
IN_A_BATCH = slice(100, 150)
# Admitting a member takes 123,000 gas, and a transaction holds 16.7 million.
ADMITTED_AT_ONCE = 50

PREFIX = "dao.openzeppelin_"
COMPARED = (
    "propose_1",
    "vote_first_ever",
    "vote_new_voter",
    "vote_returning",
    "ballot_batch_new",
    "ballot_batch_returning",
    "queue_1",
    "execute_1",
)
"""Figures that both have."""

NOTES = {
    f"{PREFIX}propose_1": "with GovernorStorage",
    f"{PREFIX}propose_1_plain": "without",
    f"{PREFIX}vote_after_quorum": "from when on its late quorum has nothing left to look for",
    **{
        f"{PREFIX}{figure}_{voter}": note
        for voter in ("new", "returning")
        for figure, note in (
            ("ballot_batch", f"{len(range(MEMBERS)[IN_A_BATCH])} by a contract that we wrote"),
            ("vote_by_sig", "castVoteBySig, a transaction each"),
            ("vote_by_extended_sig", "castVoteWithReasonAndParamsBySig, both empty"),
        )
    },
}

_BALLOT = keccak(b"Ballot(uint256 proposalId,uint8 support,address voter,uint256 nonce)")
_EXTENDED_BALLOT = keccak(
    b"ExtendedBallot(uint256 proposalId,uint8 support,address voter,uint256 nonce,string reason,"
    b"bytes params)"
)
_ANYBODY = "0x" + "00" * 20

Contracts = Mapping[str, Artifact]


def load(path: Path | None = None) -> Contracts:
    """The compiled contracts by name, from COMPILED when None. Raises CheckFailed where there are
    none, or where they were compiled from another GridPeer.sol than the one that lies here."""
    hint = "run `make setup-test` (or `make bench`, which begins with it)"
    try:
        kept = json.loads((path or COMPILED).read_text())
        source = kept["PeerGovernor"]["metadata"]["sources"]["GridPeer.sol"]["keccak256"]
        contracts = {
            name: Artifact(
                name,
                tuple(one["abi"]),
                bytes.fromhex(one["bytecode"]),
                bytes.fromhex(one["runtime"]),
            )
            for name, one in kept.items()
        }
    except (OSError, ValueError, KeyError, TypeError):
        raise CheckFailed(
            f"OpenZeppelin's Governor, which ours is measured against, is not there: {hint}"
        ) from None
    if source != "0x" + keccak((SOURCES / "GridPeer.sol").read_bytes()).hex():
        raise CheckFailed(
            f"OpenZeppelin's Governor was compiled from an older GridPeer.sol: {hint}"
        )
    return contracts


def measure(on: Street, contracts: Contracts) -> dict[str, Number]:
    """What the peer takes for what `benchmarks.gas` has ours do; gas by name."""
    peer = deploy(on, contracts)
    rules = peer.parameters
    call = Call(rules.address, rules.encode("set_value", KEYS["sessions_per_day"], 1))
    first = peer.propose(peer.governor, call, "One session a day is enough.")
    plain = peer.propose(peer.plain, call, "One session a day is enough.")
    figures = {"propose_1": first.gas_used, "propose_1_plain": plain.gas_used}
    peer.open(first)
    figures["vote_first_ever"], figures["vote_new_voter"] = (peer.vote(first, i) for i in VOTING)
    figures |= _signed_votes(peer, first, "new")
    figures["vote_after_quorum"] = peer.vote(first, AFTER_QUORUM)

    second = peer.propose(peer.governor, call, "The same once more, by the same people.")
    peer.open(second)
    _, figures["vote_returning"] = (peer.vote(second, i) for i in VOTING)
    figures |= _signed_votes(peer, second, "returning")

    figures["queue_1"] = peer.queue(first)
    figures["execute_1"] = peer.execute(first)
    require(rules.call("value", KEYS["sessions_per_day"]) == 1, "OpenZeppelin changed no rule")
    return {PREFIX + name: gas for name, gas in figures.items()}


def ratios(ours: Mapping[str, Number], theirs: Mapping[str, Number]) -> dict[str, Number]:
    """Our gas to the peer's."""
    found = {
        f"dao.{name}_vs_openzeppelin": ours[f"dao.{name}"] / theirs[PREFIX + name]
        for name in COMPARED
    }
    # Until the quorum is there, each of its votes looks for it, and so takes more.
    late = ours["dao.vote_new_voter"] / theirs[f"{PREFIX}vote_after_quorum"]
    found["dao.vote_new_voter_vs_openzeppelin_after_quorum"] = late
    # The batch is a contract around its governor; by itself it takes signed votes one by one.
    for voter in ("new", "returning"):
        batch, single = ours[f"dao.ballot_batch_{voter}"], theirs[f"{PREFIX}vote_by_sig_{voter}"]
        found[f"dao.ballot_batch_{voter}_vs_openzeppelin_vote_by_sig"] = batch / single
    return found


@dataclass(frozen=True)
class Motion:
    """A proposal on the peer: its number, its calls, and what it took to propose."""

    id: int
    columns: tuple[list[str], list[int], list[bytes]]
    description: str
    gas_used: int

    def arguments(self) -> tuple[list[str], list[int], list[bytes], bytes]:
        """As queue and execute take them."""
        return (*self.columns, keccak(self.description.encode()))


@dataclass
class Peer:
    """The peer's contracts, and market rules that its timelock owns."""

    on: Street
    membership: Contract
    governor: Contract
    plain: Contract
    batch: Contract
    parameters: Contract

    @cached_property
    def separator(self) -> bytes:
        """EIP-712 domain of its ballots."""
        return domain_separator("GridGovernor", "1", self.on.chain.chain_id, self.governor.address)

    def propose(self, governor: Contract, call: Call, description: str) -> Motion:
        """A member proposes one call."""
        columns = [call.target], [call.value], [call.calldata]
        receipt = governor.transact("propose", *columns, description, sender=self.on.owners[0])
        proposal = governor.call("hashProposal", *columns, keccak(description.encode()))
        return Motion(int(proposal), columns, description, receipt.gas_used)

    def open(self, motion: Motion) -> None:
        """Turn the clock to where its vote is open."""
        self.on.chain.set_time(int(self.governor.call("proposalSnapshot", motion.id)) + 60)

    def vote(self, motion: Motion, member: int) -> int:
        """A member's own vote; gas."""
        voter = self.on.owners[member]
        return self._counted(motion, 1, lambda: self._cast("castVote", motion, voter))

    def vote_by_sig(self, motion: Motion, voter: LocalAccount) -> int:
        """A signed vote that the relay carries; gas."""
        signature = self.sign(motion, voter)
        return self._counted(
            motion,
            1,
            lambda: self._cast("castVoteBySig", motion, self.on.relay, voter.address, signature),
        )

    def vote_by_extended_sig(self, motion: Motion, voter: LocalAccount) -> int:
        """A vote signed with reason and parameters, both empty; gas."""
        signature = self.sign(motion, voter, _EXTENDED_BALLOT, keccak(b"") + keccak(b""))
        name = "castVoteWithReasonAndParamsBySig"
        rest = (voter.address, "", b"", signature)
        return self._counted(motion, 1, lambda: self._cast(name, motion, self.on.relay, *rest))

    def vote_in_a_batch(self, motion: Motion, voters: Sequence[LocalAccount]) -> int:
        """Signed votes that the relay carries in one transaction; gas."""
        votes = [(one.address, int(Support.FOR), self.sign(motion, one)) for one in voters]
        return self._counted(
            motion,
            len(votes),
            lambda: self.batch.transact(
                "castVotes", self.governor.address, motion.id, votes, sender=self.on.relay
            ),
        )

    def queue(self, motion: Motion) -> int:
        """Queue what passed, when its vote has ended; gas."""
        self.on.chain.set_time(int(self.governor.call("proposalDeadline", motion.id)) + 1)
        return self._step("queue", motion, State.QUEUED)

    def execute(self, motion: Motion) -> int:
        """Execute it, when its time has come; gas."""
        self.on.chain.set_time(int(self.governor.call("proposalEta", motion.id)))
        return self._step("execute", motion, State.EXECUTED)

    def sign(
        self, motion: Motion, voter: LocalAccount, typehash: bytes = _BALLOT, rest: bytes = b""
    ) -> bytes:
        """A vote in favour under the voter's next nonce."""
        nonce = int(self.governor.call("nonces", voter.address))
        vote = word(motion.id) + word(int(Support.FOR)) + address_word(voter.address)
        struct = keccak(typehash + vote + word(nonce) + rest)
        return sign_digest(voter.key, digest(self.separator, struct))

    def _cast(self, name: str, motion: Motion, sender: LocalAccount, *rest: Any) -> Receipt:
        return self.governor.transact(name, motion.id, int(Support.FOR), *rest, sender=sender)

    def _counted(self, motion: Motion, votes: int, cast: Callable[[], Receipt]) -> int:
        before = self.governor.call("proposalVotes", motion.id)[1]
        gas_used = cast().gas_used
        counted = self.governor.call("proposalVotes", motion.id)[1] - before
        require(counted == votes, f"OpenZeppelin counted {counted} of {votes} votes")
        return gas_used

    def _step(self, name: str, motion: Motion, then: State) -> int:
        receipt = self.governor.transact(name, *motion.arguments(), sender=self.on.relay)
        state = State(int(self.governor.call("state", motion.id)))
        require(state == then, f"OpenZeppelin's {name} left the proposal {state.name}")
        return receipt.gas_used


def deploy(on: Street, contracts: Contracts) -> Peer:
    """Deploy the peer and admit its members. Its timelock owns the rules that it changes, and
    the deployer keeps nothing."""
    chain = on.chain
    deployer = chain.deployer.address
    for one in on.owners[: AFTER_QUORUM + 1]:
        chain.fund(one.address)

    def put(name: str, *args: Any) -> Contract:
        artifact = contracts[name]
        code = artifact.bytecode + artifact.interface.encode_deploy(args)
        address = chain.send(None, code, what=f"deployment of {name}").contract_address
        if address is None:
            raise CheckFailed(f"deployment of {name} left no contract")
        return Contract(name, address, artifact.interface, chain)

    membership = put("PeerMembership")
    members = [one.address for one in on.owners[:MEMBERS]]
    for start in range(0, MEMBERS, ADMITTED_AT_ONCE):
        membership.transact("admit", members[start : start + ADMITTED_AT_ONCE])
    # What anybody may execute costs it one read less.
    timelock = put("TimelockController", TIMELOCK_DELAY, [], [_ANYBODY], deployer)
    terms = (VOTING_DELAY, VOTING_PERIOD, EXTENSION, QUORUM_PERCENT)
    governor, plain = (
        put(name, membership.address, timelock.address, *terms)
        for name in ("PeerGovernor", "PeerGovernorPlain")
    )
    for role in (b"PROPOSER_ROLE", b"CANCELLER_ROLE"):
        timelock.transact("grantRole", keccak(role), governor.address)
    timelock.transact("renounceRole", bytes(32), deployer)
    parameters = chain.deploy("GridParameters")
    parameters.transact("define_batch", [rule.as_tuple() for rule in rules_from({})])
    parameters.transact("transfer_ownership", timelock.address)
    # Who may propose is read from the second before.
    chain.set_time(chain.now() + 1)
    return Peer(on, membership, governor, plain, put("PeerBatch"), parameters)


def _signed_votes(peer: Peer, motion: Motion, voter: str) -> dict[str, int]:
    """Gas of a signed vote, by the way it is carried, the mean rounded up. The quorum is reached in
    the first of them, so the batch is spared what that writes."""
    owners = peer.on.owners
    one_by_one = [peer.vote_by_sig(motion, one) for one in owners[ONE_BY_ONE]]
    extended = [peer.vote_by_extended_sig(motion, one) for one in owners[EXTENDED]]
    batch = owners[IN_A_BATCH]
    return {
        f"vote_by_sig_{voter}": _mean(sum(one_by_one), len(one_by_one)),
        f"vote_by_extended_sig_{voter}": _mean(sum(extended), len(extended)),
        f"ballot_batch_{voter}": _mean(peer.vote_in_a_batch(motion, batch), len(batch)),
    }


def _mean(gas: int, share: int) -> int:
    return -(-gas // share)
