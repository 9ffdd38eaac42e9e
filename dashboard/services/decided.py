# SPDX-License-Identifier: Apache-2.0
"""Which proposal decided what: proposals as the chain's events tell them, and what an event in a
transaction goes back to. Pure; how a vote runs and looks is the votes pages' business.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dao.audit.scope import EventRow
from dao.governance.describe import plain_text
from dashboard.repositories.house import House

# Of `dao.governance.State`: those in which a proposal can still take effect.
PENDING, ACTIVE, SUCCEEDED, QUEUED = 0, 1, 4, 5
OPEN = (PENDING, ACTIVE, SUCCEEDED, QUEUED)

_GOVERNOR = "GridGovernor"


@dataclass(frozen=True)
class Decision:
    """A proposal. Times in unix seconds; `calls` are pairs of target and data; `eta` once queued,
    `ended`: executed or cancelled."""

    id: int
    title: str
    created_at: int
    created: tuple[int, int]
    """Block and log index."""
    snapshot: int
    deadline: int
    calls: tuple[tuple[str, bytes], ...]
    lane: int
    zone: int
    under_policy: bool
    eta: int | None
    ended: bool


@dataclass(frozen=True)
class Decisions:
    """All proposals by id, and the transactions that executed one."""

    by_id: Mapping[int, Decision] = field(default_factory=dict)
    _executed: Mapping[str, tuple[tuple[int, int], ...]] = field(default_factory=dict)

    def behind(self, row: EventRow) -> int | None:
        """The proposal whose execution brought an event about; None where none did."""
        found = None
        # The governor tells of an execution before it makes the calls.
        for log_index, proposal in self._executed.get(row.tx, ()):
            if log_index < row.log_index:
                found = proposal
        return found

    def title(self, proposal: int) -> str:
        """Its title, empty for one that is not known."""
        known = self.by_id.get(proposal)
        return known.title if known else ""


def decisions(house: House) -> Decisions:
    """The proposals of a house."""
    from dao.audit.decisions import title_of

    def last(name: str, key: str) -> dict[int, int]:
        return {row.args["proposalId"]: row.args[key] for row in house.of(_GOVERNOR, name)}

    lanes, zones = last("ProposalLane", "lane"), last("ProposalLane", "zone")
    policies = last("ProposedUnderPolicy", "policyId")
    etas = last("ProposalQueued", "etaSeconds")
    extended = last("ProposalExtended", "extendedDeadline")
    executed = house.of(_GOVERNOR, "ProposalExecuted")
    ended = {
        row.args["proposalId"] for row in (*executed, *house.of(_GOVERNOR, "ProposalCanceled"))
    }
    found = {}
    for row in house.of(_GOVERNOR, "ProposalCreated"):
        args = row.args
        number = args["proposalId"]
        found[number] = Decision(
            id=number,
            title=plain_text(title_of(args["description"])),
            created_at=row.timestamp,
            created=(row.block, row.log_index),
            snapshot=args["voteStart"],
            deadline=extended.get(number, args["voteEnd"]),
            calls=_calls(args["targets"], args["calldatas"]),
            lane=lanes.get(number, 0),
            zone=zones.get(number, 0),
            under_policy=number in policies,
            eta=etas.get(number),
            ended=number in ended,
        )
    by_tx: dict[str, tuple[tuple[int, int], ...]] = {}
    for row in executed:
        by_tx[row.tx] = (*by_tx.get(row.tx, ()), (row.log_index, row.args["proposalId"]))
    return Decisions(found, by_tx)


def _calls(targets: Sequence[str], datas: Sequence[str]) -> tuple[tuple[str, bytes], ...]:
    return tuple(
        (target, bytes.fromhex(data[2:])) for target, data in zip(targets, datas, strict=True)
    )


def undecided(decisions: Decisions, target: str | None) -> tuple[int, ...]:
    """Proposals that are not over as far as events tell and call `target`, the oldest first."""
    if target is None:
        return ()
    wanted = target.lower()
    return tuple(
        one.id
        for one in decisions.by_id.values()
        if not one.ended and any(to.lower() == wanted for to, _ in one.calls)
    )


def state_by_events(one: Decision, now: int, grace: int) -> int | None:
    """Its state where the events alone tell it; None: it ended without them, or is being counted.

    grace: seconds after the eta in which it can be executed.
    """
    if one.ended:
        return None
    if one.eta is not None:
        return QUEUED if now <= one.eta + grace else None
    if now <= one.snapshot:
        return PENDING
    return ACTIVE if now <= one.deadline else None


def grace_of(house: House, one: Decision) -> int:
    """The grace period of a proposal's lane as it was when it was proposed, seconds."""
    lane = 1 if one.lane else 0
    found = 0
    for row in house.of(_GOVERNOR, "LaneSet"):
        told_before = (row.block, row.log_index) < one.created
        if row.args["lane"] == lane and (told_before or not found):
            found = row.args["gracePeriod"]
    return int(found)
