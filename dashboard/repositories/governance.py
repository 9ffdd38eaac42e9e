# SPDX-License-Identifier: Apache-2.0
"""What was proposed, who voted how, and who may vote: from the index of events, kept until it
changes. Two numbers that no event tells, a vote's quorum and expiry, are the node's.

What follows from them is in `services/votes.py`.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dao.errors import CheckFailed
from dao.governance import reasons
from dao.governance.proposals import Call, Lane
from dao.index import EventReader
from dao.node import Node
from dao.rpc import Refused
from dashboard.repositories.cache import Version, cached, version
from dashboard.repositories.events import Mark, mark_of
from dashboard.settings import Settings

GOVERNOR = "GridGovernor"
MEMBERSHIP = "Membership"

MAX_PROPOSALS = 200
"""The newest; an older one is found by its id as long as it is among MAX_SEARCHED."""
MAX_SEARCHED = 5_000
MAX_REASONS = 200
MAX_MEMBER_EVENTS = 400_000
_STEP = 5_000
_KEPT_S = 3_600.0
_PATIENCE_S = 5.0
_AWAY_S = 10.0

Place = tuple[int, int]
"""Block and log index of an event."""


@dataclass(frozen=True)
class Happened:
    """An event: when, unix seconds, and in which transaction."""

    at: int
    tx: str


@dataclass(frozen=True)
class Made:
    """A proposal with what became of it. deadline: as extended by a late quorum. Times in unix
    seconds; zone 0 stands for all members; eta: from when it can be executed once queued."""

    id: int
    proposer: str
    calls: tuple[Call, ...]
    description: str
    snapshot: int
    deadline: int
    lane: Lane
    zone: int
    place: Place
    made: Happened
    policy: int | None = None
    extended: bool = False
    eta: int | None = None
    queued: Happened | None = None
    executed: Happened | None = None
    cancelled: Happened | None = None

    @property
    def under_policy(self) -> bool:
        """Whether it takes effect unless enough object."""
        return self.lane is Lane.POLICY


@dataclass(frozen=True)
class Tally:
    """Votes cast; `against` counts those with a veto too. ballots: how many members cast them."""

    against: int = 0
    in_favour: int = 0
    abstain: int = 0
    vetoes: int = 0
    ballots: int = 0

    def plus(self, support: int, weight: int) -> Tally:
        """With one ballot more."""
        return Tally(
            self.against + weight * (support in (0, 3)),
            self.in_favour + weight * (support == 1),
            self.abstain + weight * (support == 2),
            self.vetoes + weight * (support == 3),
            self.ballots + 1,
        )


@dataclass(frozen=True)
class Ballot:
    """A ballot on the chain. reason_hash: of one that came in a batch, whose text is elsewhere."""

    proposal: int
    voter: str
    support: int
    weight: int
    reason: str
    at: int
    tx: str
    place: Place
    reason_hash: str | None = None


@dataclass(frozen=True)
class Lent:
    """A vote handed on. to: the member itself where it was taken back."""

    delegator: str
    to: str
    at: int
    tx: str


@dataclass(frozen=True)
class Members:
    """Who was a member, where, and with how many votes, at any past time.

    Each address has its changes in order: (unix seconds, value). A value holds from its second on,
    which is how the contract's checkpoints count at a snapshot in the past.
    """

    zones: Mapping[str, Sequence[tuple[int, int]]] = field(default_factory=dict)
    votes: Mapping[str, Sequence[tuple[int, int]]] = field(default_factory=dict)
    lent: Sequence[Lent] = ()
    counts: Mapping[int, Sequence[tuple[int, int]]] = field(default_factory=dict)
    meters: Mapping[str, int] = field(default_factory=dict)

    def zone(self, account: str, at: int) -> int:
        """Where the account is a member, 0 for nowhere."""
        return _value(self.zones.get(account, ()), at)

    def power(self, account: str, at: int, zone: int) -> int:
        """Votes that count in a zone's vote (0: in one of all members)."""
        home = self.zone(account, at)
        if not home or zone not in (0, home):
            return 0
        return _value(self.votes.get(account, ()), at)

    def electorate(self, zone: int, at: int) -> int:
        """Members who could vote."""
        return _value(self.counts.get(zone, ()), at)

    def delegates(self, at: int) -> dict[str, str]:
        """For whom each member who ever delegated votes now, or who votes for it."""
        found: dict[str, str] = {}
        for one in self.lent:
            if one.at <= at:
                found[one.delegator] = one.to
        return found


def _value(changes: Sequence[tuple[int, int]], at: int) -> int:
    place = bisect_right(changes, at, key=lambda one: one[0])
    return changes[place - 1][1] if place else 0


class Governance:
    """The decisions of one deployment, as the index has them and the node knows them."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._index = settings.home / "index.sqlite"
        contracts = settings.deployment or {}
        self.governor = contracts.get(GOVERNOR)
        self.membership = contracts.get(MEMBERSHIP)

    def proposals(self) -> tuple[Made, ...]:
        """The newest proposals, newest first."""
        return _proposals(self._index, mark_of(self._index))

    def proposal(self, number: int) -> Made | None:
        """One proposal, None where there is none of that id among those looked through."""
        for one in self.proposals():
            if one.id == number:
                return one
        return _older(self._index, mark_of(self._index), number)

    def tally(self, made: Made) -> Tally:
        """The votes cast on a proposal."""
        return _tallies(self._index, mark_of(self._index)).get(made.id, Tally())

    def ballots(self, made: Made) -> tuple[Ballot, ...]:
        """The newest ballots of a proposal, those with a reason first read."""
        return _ballots(self._index, mark_of(self._index), made)

    def cast_by(self, voter: str) -> dict[int, Ballot]:
        """By proposal what an account voted, on those that `proposals` names."""
        made = self.proposals()
        if not made:
            return {}
        return _cast_by(self._index, mark_of(self._index), voter, made[-1].place)

    def members(self) -> Members:
        """Who may vote."""
        return _members(self._index, _member_mark(self._index, mark_of(self._index)))

    def quorum(self, made: Made, now: int) -> int | None:
        """Votes that decide: for and abstentions needed, or objections that stop it. None before
        the snapshot and where no node tells."""
        if now <= made.snapshot or self.governor is None or self._settings.rpc is None:
            return None
        # The same calls of the same proposer have the same id on every new local chain.
        mark = (made.made.at, made.place)
        found = _told(self._settings.rpc, self.governor, "quorumOf(uint256)", made.id, mark)
        return None if found is None else found[0]

    def expiry(self, made: Made) -> int | None:
        """The last moment to queue what passed, or to execute what was queued, unix seconds."""
        if self.governor is None or self._settings.rpc is None:
            return None
        # Another one once it is queued, or its vote is longer.
        mark = (made.made.at, made.place, made.eta, made.deadline)
        found = _told(self._settings.rpc, self.governor, "proposalExpiry(uint256)", made.id, mark)
        return None if found is None or not found[0] else found[0]

    def timelock_delay(self, made: Made) -> int | None:
        """Seconds between queue and execution, as the lane has it now."""
        if self.governor is None or self._settings.rpc is None:
            return None
        lane = min(int(made.lane), int(Lane.BALANCING))
        found = _told(self._settings.rpc, self.governor, "laneTerms(uint256)", lane, made.place)
        return None if found is None or len(found) != 4 else found[3]


# From the index


@cached(ttl=_KEPT_S, max_entries=4)
def _proposals(index: Path, _: Mark) -> tuple[Made, ...]:
    reader = EventReader(index)
    rows = reader.events(
        "ProposalCreated", contract=GOVERNOR, limit=MAX_PROPOSALS, newest_first=True
    )
    return tuple(_made(reader, rows))


@cached(ttl=_KEPT_S, max_entries=32)
def _older(index: Path, _: Mark, number: int) -> Made | None:
    """A proposal older than those listed."""
    reader = EventReader(index)
    rows = reader.events(
        "ProposalCreated", contract=GOVERNOR, limit=MAX_SEARCHED, newest_first=True
    )
    found = [row for row in rows if row["args"]["proposalId"] == number]
    return next(iter(_made(reader, found)), None)


def _made(reader: EventReader, rows: Sequence[Mapping[str, Any]]) -> list[Made]:
    """Proposals with what followed on them; `rows` newest first."""
    if not rows:
        return []
    first: Place = (rows[-1]["block"], rows[-1]["log_index"])

    def later(name: str) -> dict[int, Mapping[str, Any]]:
        limit = MAX_SEARCHED
        events = reader.events(name, contract=GOVERNOR, since=first, limit=limit)
        return {int(one["args"]["proposalId"]): one for one in events}

    lanes, policies = later("ProposalLane"), later("ProposedUnderPolicy")
    longer, queued = later("ProposalExtended"), later("ProposalQueued")
    executed, cancelled = later("ProposalExecuted"), later("ProposalCanceled")
    found = []
    for row in rows:
        args = row["args"]
        number = int(args["proposalId"])
        lane = lanes[number]["args"] if number in lanes else {"lane": 0, "zone": 0}
        calls = zip(args["targets"], args["calldatas"], args["values"], strict=True)
        one = Made(
            id=number,
            proposer=str(args["proposer"]),
            calls=tuple(
                Call(str(target), bytes.fromhex(data[2:]), int(value))
                for target, data, value in calls
            ),
            description=str(args["description"]),
            snapshot=int(args["voteStart"]),
            deadline=int(args["voteEnd"]),
            lane=Lane(int(lane["lane"])),
            zone=int(lane["zone"]),
            place=(row["block"], row["log_index"]),
            made=_happened(row),
            executed=_happened(executed.get(number)),
            cancelled=_happened(cancelled.get(number)),
        )
        if number in policies:
            one = replace(one, policy=int(policies[number]["args"]["policyId"]))
        if number in longer:
            end = int(longer[number]["args"]["extendedDeadline"])
            one = replace(one, deadline=end, extended=True)
        if number in queued:
            eta = int(queued[number]["args"]["etaSeconds"])
            one = replace(one, eta=eta, queued=_happened(queued[number]))
        found.append(one)
    return found


def _happened(row: Mapping[str, Any] | None) -> Any:
    return None if row is None else Happened(int(row["timestamp"]), str(row["tx"]))


_counted: dict[Path, tuple[Mapping[str, Any] | None, dict[int, Tally]]] = {}
_counting = threading.Lock()


@cached(ttl=_KEPT_S, max_entries=4)
def _tallies(index: Path, _: Mark) -> Mapping[int, Tally]:
    """Votes by proposal, counted on from the last ballot; anew where it stands no more."""
    reader = EventReader(index)
    with _counting:
        last, sums = _counted.get(index, (None, {}))
        if last is not None and not _stands(reader, last):
            last, sums = None, {}
        sums = dict(sums)
        while True:
            rows = reader.events(
                "VoteCast",
                contract=GOVERNOR,
                since=(last["block"], last["log_index"]) if last else None,
                limit=_STEP,
            )
            for row in rows:
                args = row["args"]
                number = int(args["proposalId"])
                before = sums.get(number, Tally())
                sums[number] = before.plus(int(args["support"]), int(args["weight"]))
            last = rows[-1] if rows else last
            if len(rows) < _STEP:
                _counted[index] = (last, sums)
                return sums


def _stands(reader: EventReader, event: Mapping[str, Any]) -> bool:
    before = (event["block"], event["log_index"] - 1)
    return reader.events(event["event"], contract=GOVERNOR, since=before, limit=1) == [event]


@cached(ttl=_KEPT_S, max_entries=32)
def _ballots(index: Path, _: Mark, made: Made) -> tuple[Ballot, ...]:
    reader = EventReader(index)
    rows = reader.events(
        "VoteCast",
        contract=GOVERNOR,
        since=made.place,
        last_time=made.deadline,
        limit=_STEP,
        newest_first=True,
    )
    cast = [_ballot(row) for row in rows if row["args"]["proposalId"] == made.id]
    if any(not one.reason for one in cast):
        hashes = {
            (str(row["args"]["voter"])): str(row["args"]["reasonHash"])
            for row in reader.events(
                "BallotReason",
                contract=GOVERNOR,
                since=made.place,
                last_time=made.deadline,
                limit=_STEP,
                newest_first=True,
            )
            if row["args"]["proposalId"] == made.id
        }
        cast = [
            replace(one, reason_hash=hashes.get(one.voter)) if not one.reason else one
            for one in cast
        ]
    cast.sort(key=lambda one: (not (one.reason or one.reason_hash), -one.place[0]))
    return tuple(cast[:MAX_REASONS])


@cached(ttl=_KEPT_S, max_entries=256)
def _cast_by(index: Path, _: Mark, voter: str, since: Place) -> dict[int, Ballot]:
    rows = EventReader(index).events(
        "VoteCast",
        contract=GOVERNOR,
        match={"voter": voter},
        since=since,
        limit=MAX_PROPOSALS,
        newest_first=True,
    )
    return {int(row["args"]["proposalId"]): _ballot(row) for row in rows}


def _ballot(row: Mapping[str, Any]) -> Ballot:
    args = row["args"]
    return Ballot(
        proposal=int(args["proposalId"]),
        voter=str(args["voter"]),
        support=int(args["support"]),
        weight=int(args["weight"]),
        reason=str(args["reason"]),
        at=int(row["timestamp"]),
        tx=str(row["tx"]),
        place=(row["block"], row["log_index"]),
    )


_MEMBER_EVENTS = ("MemberAdmitted", "MemberRemoved", "DelegateChanged", "DelegateVotesChanged")


@cached(ttl=_KEPT_S, max_entries=4)
def _member_mark(index: Path, _: Mark) -> tuple[Any, ...]:
    """What changes when somebody joins, leaves or delegates."""
    reader = EventReader(index)
    found = []
    for name in _MEMBER_EVENTS:
        rows = reader.events(name, contract=MEMBERSHIP, limit=1, newest_first=True)
        found += [(one["block"], one["log_index"], one["tx"]) for one in rows]
    return tuple(found)


@cached(ttl=_KEPT_S, max_entries=4)
def _members(index: Path, mark: tuple[Any, ...]) -> Members:
    reader = EventReader(index)
    rows: list[Mapping[str, Any]] = []
    for name in _MEMBER_EVENTS:
        rows += reader.events(name, contract=MEMBERSHIP, limit=MAX_MEMBER_EVENTS // 4)
    rows.sort(key=lambda one: (one["block"], one["log_index"]))
    zones: dict[str, list[tuple[int, int]]] = {}
    votes: dict[str, list[tuple[int, int]]] = {}
    counts: dict[int, list[tuple[int, int]]] = {}
    meters: dict[str, int] = {}
    lent = []

    def put(held: list[tuple[int, int]], at: int, value: int) -> None:
        # Of one second the last value counts.
        if held and held[-1][0] == at:
            held.pop()
        held.append((at, value))

    for row in rows:
        args, at = row["args"], int(row["timestamp"])
        if row["event"] in ("MemberAdmitted", "MemberRemoved"):
            joined = row["event"] == "MemberAdmitted"
            member, zone = str(args["member"]), int(args["zone"])
            put(zones.setdefault(member, []), at, zone if joined else 0)
            meters[member] = int(args["meter"])
            for group in (0, zone):
                held = counts.setdefault(group, [])
                put(held, at, (held[-1][1] if held else 0) + (1 if joined else -1))
        elif row["event"] == "DelegateVotesChanged":
            put(votes.setdefault(str(args["delegate"]), []), at, int(args["newVotes"]))
        else:
            lent.append(Lent(str(args["delegator"]), str(args["toDelegate"]), at, str(row["tx"])))
    return Members(zones, votes, tuple(lent), counts, meters)


def published(settings: Settings, number: int) -> Mapping[str, str]:
    """The texts of reasons published on a proposal, by hash."""
    path = reasons.reasons_path(number, settings.home)
    return _published(settings.home, number, version(path))


@cached(ttl=_KEPT_S, max_entries=16)
def _published(home: Path, number: int, _: Version) -> Mapping[str, str]:
    return reasons.read(number, home)


# From the node. What it does not tell is asked again; what it told of a past snapshot stays so.


@cached(ttl=_KEPT_S, max_entries=4_096)
def _asked(
    rpc: str, contract: str, view: str, number: int, mark: tuple[Any, ...] = ()
) -> list[int]:
    return Node(rpc, patience_s=_PATIENCE_S).view(contract, view, number)


# By node, when it last did not answer: one that is away is not waited for again and again.
_away: dict[str, float] = {}


def _told(
    rpc: str, contract: str, view: str, number: int, mark: tuple[Any, ...] = ()
) -> list[int] | None:
    if time.monotonic() - _away.get(rpc, -_AWAY_S) < _AWAY_S:
        return None
    try:
        return _asked(rpc, contract, view, number, mark)
    except Refused:
        return None
    except CheckFailed:
        _away[rpc] = time.monotonic()
        return None
