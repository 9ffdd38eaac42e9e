# SPDX-License-Identifier: Apache-2.0
"""Proposals as Python objects: build, propose, queue, execute, cancel, and read back.

What a proposal should do is decided in `forecasting` or by people; here it is carried out. How
people vote on it lives in `ballots`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from dao.chain import Account, Contract, Event, Receipt
from dao.eip712 import keccak, word
from dao.errors import BadUse
from dao.parameters import COMMUNITY_BATTERY, KEYS, WINDOW_NAMES

MAX_DESCRIPTION = 4_096
"""Bytes of a description that the governor takes."""

MAX_WINDOWS = 16
"""Windows of one key, zone and UTC day."""

_PROPOSER = re.compile(r"#proposer=0x[0-9a-fA-F]{40}\Z")
_SIMULATION = re.compile(r"^simulation: (0x[0-9a-f]{64})$", re.MULTILINE)


class Lane(IntEnum):
    """Which way a proposal goes: what it may call, who votes, and how fast."""

    ORDINARY = 0
    BALANCING = 1
    POLICY = 2


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
    """A proposal on chain; `id` follows from calls and description.

    `description` is the proposer's own text: bytes that are no UTF-8 stand in it as surrogate
    escapes, so that its hash still fits. `deadline` is the one set at the proposal.
    """

    id: int
    calls: tuple[Call, ...]
    description: str
    snapshot: int
    deadline: int
    proposer: str = ""

    def arguments(self) -> tuple[list[str], list[int], list[bytes], bytes]:
        """Targets, values, calldatas and the description's hash, as queue and execute take them."""
        text = self.description.encode("utf-8", "surrogateescape")
        return (*columns(self.calls), keccak(text))

    @property
    def simulation(self) -> str | None:
        """The hash of the simulation that the description names, 0x text."""
        found = _SIMULATION.findall(self.description)
        return found[-1] if found else None


@dataclass(frozen=True)
class Votes:
    """What was cast; a vote against with a veto counts in `against` too."""

    against: int
    in_favour: int
    abstain: int
    vetoes: int


@dataclass(frozen=True)
class Terms:
    """A lane's pace, in seconds."""

    voting_delay: int
    voting_period: int
    grace_period: int
    timelock_delay: int


def columns(calls: Sequence[Call]) -> tuple[list[str], list[int], list[bytes]]:
    """Targets, values and calldatas, as governor and timelock take them."""
    return [c.target for c in calls], [c.value for c in calls], [c.calldata for c in calls]


# Calls


def rule_call(parameters: Contract, name: str, value: int) -> Call:
    """The call that sets a rule. BadUse for a rule that does not exist."""
    if name not in KEYS:
        raise BadUse(f"there is no rule {name!r}; there are {', '.join(KEYS)}")
    return Call(parameters.address, parameters.encode("set_value", KEYS[name], value))


def windows_call(
    parameters: Contract, zone: int, key: int, windows: Iterable[tuple[int, int, int]]
) -> Call:
    """The call that opens windows of one key in a zone: all of them, or none.

    windows: at most 16 of (first slot, slots, value), each inside one UTC day; what a value means
    is said in `dao.parameters`. BadUse for more, for a key that takes none, and for a number that
    cannot stand in a window.
    """
    if key not in WINDOW_NAMES:
        takes = ", ".join(f"{number} {name}" for number, name in WINDOW_NAMES.items())
        raise BadUse(f"key {key} takes no window; there are {takes}")
    words = []
    for first, slots, value in windows:
        if not (0 <= first < 1 << 64 and 0 <= slots < 1 << 64):
            raise BadUse(f"{WINDOW_NAMES[key]}: no window has {slots} slots from slot {first} on")
        if abs(value) >= 1 << 127:
            raise BadUse(f"{WINDOW_NAMES[key]}: no window has the value {value}")
        words.append(first | (slots << 64) | ((value & ((1 << 128) - 1)) << 128))
    if len(words) > MAX_WINDOWS:
        raise BadUse(f"{len(words)} windows; a day of a zone has at most {MAX_WINDOWS} of one key")
    return Call(parameters.address, parameters.encode("open_windows", zone, key, words))


def battery_call(parameters: Contract, zone: int, windows: Iterable[tuple[int, int, int]]) -> Call:
    """The call that puts the community battery on a schedule, in W; positive charges."""
    return windows_call(parameters, zone, COMMUNITY_BATTERY, windows)


# Propose


def full_description(text: str, proposer: str, simulation: str | None = None) -> str:
    """The description as it is proposed: the text, the simulation's hash, and who may propose it.

    The last line keeps everybody else from proposing the same first and then cancelling it.
    Raises BadUse for an empty or too long text, or one that names another proposer.
    """
    mark = f"#proposer={proposer.lower()}"
    own = _PROPOSER.search(text)
    if own is not None and own.group().lower() != mark:
        raise BadUse(f"the description ends in {own.group()}, but {proposer} proposes")
    text = text[: own.start()] if own else text
    if not text.strip():
        raise BadUse("a description is needed: what the proposal does, and why")
    lines = [text.rstrip()]
    if simulation is not None:
        lines.append(f"simulation: {simulation}")
    made = "\n".join([*lines, mark])
    try:
        length = len(made.encode())
    except UnicodeEncodeError as error:
        raise BadUse(f"the description is not UTF-8 text: {error}") from None
    if length > MAX_DESCRIPTION:
        raise BadUse(f"the description takes {length} bytes; at most {MAX_DESCRIPTION} are taken")
    return made


def propose(
    governor: Contract,
    calls: Sequence[Call],
    description: str,
    proposer: Account,
    *,
    lane: Lane = Lane.ORDINARY,
    policy: int | None = None,
    simulation: str | None = None,
) -> Proposal:
    """Put calls to the vote in a lane.

    policy: the standing policy's number, in the policy lane only. simulation: hash of the record
    that shows what the calls do (`simulate.record_hash`). Raises ContractReverted with the
    governor's reason, BadUse for a description it would not take.
    """
    if (policy is not None) != (lane is Lane.POLICY):
        raise BadUse("a standing policy's number goes with the policy lane, and only with it")
    text = full_description(description, proposer.address, simulation)
    first = () if policy is None else (policy,)
    receipt = governor.transact(_PROPOSE[lane], *first, *columns(calls), text, sender=proposer)
    return _proposal(receipt.event("ProposalCreated"))


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


def cancel(governor: Contract, proposal: Proposal, sender: Account) -> Receipt:
    """Take a proposal back: its proposer while it is pending, or the guardian where it may."""
    return governor.transact("cancel", *proposal.arguments(), sender=sender)


# Read


def list_proposals(governor: Contract, first_block: int = 0) -> list[Proposal]:
    """Every proposal of the governor, oldest first, from its own events."""
    return [_proposal(event) for event in governor.events("ProposalCreated", first_block)]


def read_proposal(governor: Contract, proposal_id: int, first_block: int = 0) -> Proposal:
    """One proposal by its id. BadUse where the governor has none of that id."""
    for proposal in list_proposals(governor, first_block):
        if proposal.id == proposal_id:
            return proposal
    raise BadUse(f"there is no proposal {proposal_id}")


def find_proposal(proposals: Sequence[Proposal], text: str) -> Proposal:
    """The proposal that `text` names: its id in decimal or 0x-hex, or the only one that begins so.

    BadUse where none does, or several.
    """
    wanted = text.strip().lower()
    if not re.fullmatch(r"0x[0-9a-f]{1,64}|[0-9]{1,78}", wanted):
        raise BadUse(f"{text!r} is no proposal's id: expected digits, or 0x and hex digits")
    exact = int(wanted, 0 if wanted.startswith("0x") else 10)
    for one in proposals:
        if one.id == exact:
            return one
    hexadecimal = wanted.startswith("0x")
    found = [
        one
        for one in proposals
        if (hex_id(one.id) if hexadecimal else str(one.id)).startswith(wanted)
    ]
    if len(found) != 1:
        many = f"{len(found)} proposals begin" if found else "no proposal begins"
        raise BadUse(f"{many} with {wanted}; `gridcommons dao list` shows all ids")
    return found[0]


def hex_id(proposal_id: int) -> str:
    """An id as 0x and 64 hex digits."""
    return "0x" + word(proposal_id).hex()


def _proposal(event: Event) -> Proposal:
    args = event.args
    calls = zip(args["targets"], args["calldatas"], args["values"], strict=True)
    return Proposal(
        id=int(args["proposalId"]),
        calls=tuple(Call(*call) for call in calls),
        description=args["description"],
        snapshot=int(args["voteStart"]),
        deadline=int(args["voteEnd"]),
        proposer=args["proposer"],
    )


# What differs between lanes

_PROPOSE = {
    Lane.ORDINARY: "propose",
    Lane.BALANCING: "proposeBalancing",
    Lane.POLICY: "proposeUnderPolicy",
}


def lane_of(governor: Contract, proposal_id: int) -> Lane:
    """The lane that a proposal was made in."""
    return Lane(int(governor.call("proposalLane", proposal_id)))


def zone_of(governor: Contract, proposal_id: int) -> int:
    """The zone whose members vote on a proposal, 0 for all members."""
    return int(governor.call("proposalZone", proposal_id))


def terms_of(governor: Contract, lane: Lane) -> Terms:
    """A lane's pace now. The policy lane has the balancing lane's but for its voting period."""
    found: Any = governor.call("laneTerms", int(min(lane, Lane.BALANCING)))
    values = found.values() if isinstance(found, dict) else found
    return Terms(*(int(value) for value in values))


def votes_of(governor: Contract, proposal_id: int) -> Votes:
    """The votes cast so far."""
    against, in_favour, abstain = governor.call("proposalVotes", proposal_id)
    return Votes(against, in_favour, abstain, int(governor.call("proposalVetoes", proposal_id)))
