# SPDX-License-Identifier: Apache-2.0
"""What the pages of rules, roles and treasury stand on: the chain's events about them, as the index
has them, and what only a contract can tell, asked of the node as of the same block.

All of it is public. Every question has a cap; an answer is kept until one of its events is added.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dao.audit.scope import EventRow
from dao.errors import CheckFailed
from dao.index import EventReader
from dao.node import Node
from dao.rpc import Refused
from dashboard.repositories.cache import Version, cached, version
from dashboard.repositories.events import stands
from dashboard.settings import Settings

MAX_ROWS = 5_000
"""Of one kind of event, the newest; `House.cut` names the kinds of which there are more."""
MAX_ASKED = 20
"""Forecasters and open proposals that the node is asked about."""
PATIENCE_S = 2
"""A node that is silent for longer is passed over, and the page says what it could not be told."""
_KEPT_S = 3_600

WANTED: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("GridParameters", ("RuleDefined", "ValueChanged", "WindowOpened")),
    (
        "GridGovernor",
        (
            "ProposalCreated",
            "ProposalLane",
            "ProposedUnderPolicy",
            "ProposalQueued",
            "ProposalExecuted",
            "ProposalCanceled",
            "ProposalExtended",
            "BondForfeited",
            "GuardianChanged",
            "LaneSet",
        ),
    ),
    (
        "Treasury",
        (
            "BudgetSet",
            "Payment",
            "GrantMade",
            "MilestoneClosed",
            "EvidenceCounted",
            "RecurringMade",
            "RecurringEnded",
        ),
    ),
    (
        "ForecastRegistry",
        (
            "ForecasterChanged",
            "BondDeposited",
            "BondWithdrawn",
            "BondSlashed",
            "BondRewarded",
            "MinimumBondChanged",
        ),
    ),
    ("Membership", ("RegistrarChanged", "MemberAdmitted", "MemberRemoved")),
    ("MeterRegistry", ("RegistrarChanged",)),
    ("ReadingLedger", ("CollectorChanged",)),
    ("EnergyMarket", ("GuardianChanged", "Paused", "FeesCollected")),
    ("GridTimelock", ("RoleGranted", "RoleRevoked")),
)
OWNED = (
    "GridParameters",
    "GridGovernor",
    "Treasury",
    "ForecastRegistry",
    "Membership",
    "MeterRegistry",
    "ReadingLedger",
    "EnergyMarket",
    "StandingPolicies",
)
"""Contracts that have an owner. A token may be somebody else's, so it is left out."""

_Kind = tuple[str, str]


@dataclass(frozen=True, eq=False)
class House:
    """The events, each kind in the chain's order. cut: kinds of which only the newest are here.
    One that is asked for again is the same, so that what follows from it can be kept."""

    rows: Mapping[_Kind, tuple[EventRow, ...]] = field(default_factory=dict)
    cut: frozenset[_Kind] = frozenset()

    def of(self, contract: str, name: str) -> tuple[EventRow, ...]:
        """All events of a kind."""
        return self.rows.get((contract, name), ())


@dataclass(frozen=True)
class Votes:
    """What was cast; those with a veto are among `against`."""

    favour: int = 0
    against: int = 0
    abstain: int = 0

    def plus(self, support: int, weight: int) -> Votes:
        """These and one more ballot, its support as the governor numbers it."""
        return Votes(
            self.favour + weight * (support == 1),
            self.against + weight * (support in (0, 3)),
            self.abstain + weight * (support == 2),
        )


@dataclass(frozen=True)
class Purse:
    """What the treasury's contract says of itself. Money in µ€. same_block: as of the block that
    the events are read up to, and not of a later one."""

    free: int
    reserved: int
    total_paid: int
    payments: int
    spending_hash: bytes
    same_block: bool


@dataclass(frozen=True)
class Record:
    """What the registry says of a forecaster in a zone: skill in permille over the days scored,
    bond and what of it is leaving in µ€."""

    skill: int
    days_scored: int
    bond: int
    leaving: int
    open_disputes: int
    in_good_standing: bool
    allowance: int
    used: int


def house(settings: Settings) -> House:
    """The events as the index has them now. CheckFailed where the file is damaged."""
    path = settings.home / "index.sqlite"
    return _house(path, _heads(path, version(path)))


@cached(ttl=_KEPT_S, max_entries=4)
def _heads(path: Path, _: Version) -> tuple[tuple[int, int, str], ...]:
    """The newest event of each kind: while they stand, so does everything before them."""
    reader = EventReader(path)
    found = []
    for contract, name in _kinds():
        for row in reader.events(name, contract=contract, newest_first=True, limit=1):
            found.append((row["block"], row["log_index"], row["tx"]))
    return tuple(found)


@cached(ttl=_KEPT_S, max_entries=4)
def _house(path: Path, _: tuple[tuple[int, int, str], ...]) -> House:
    reader = EventReader(path)
    rows, cut = {}, set()
    for kind in _kinds():
        contract, name = kind
        found = reader.events(name, contract=contract, newest_first=True, limit=MAX_ROWS + 1)
        if len(found) > MAX_ROWS:
            cut.add(kind)
        rows[kind] = tuple(_row(one) for one in reversed(found[:MAX_ROWS]))
    return House(rows, frozenset(cut))


def _kinds() -> list[_Kind]:
    kinds = [(contract, name) for contract, names in WANTED for name in names]
    return kinds + [(contract, "OwnershipTransferred") for contract in OWNED]


def _row(one: dict[str, object]) -> EventRow:
    keys = ("block", "log_index", "timestamp", "tx", "contract", "event", "args")
    return EventRow(*(one[key] for key in keys))  # type: ignore[arg-type]


# Ballots: many, so they are counted on from where the last question ended


@dataclass(frozen=True)
class _Counted:
    """How far the ballots of an index are counted, and what they come to by proposal."""

    last: dict[str, Any] | None = None
    votes: Mapping[int, Votes] = field(default_factory=dict)


_counted: dict[Path, _Counted] = {}
_counting = threading.Lock()


def votes(settings: Settings) -> Mapping[int, Votes]:
    """Votes on each proposal, from the ballots."""
    path = settings.home / "index.sqlite"
    return _votes(path, version(path))


@cached(ttl=_KEPT_S, max_entries=4)
def _votes(path: Path, _: Version) -> Mapping[int, Votes]:
    reader = EventReader(path)
    with _counting:
        counted = _counted.get(path, _Counted())
        if counted.last is not None and not stands(reader, counted.last):
            counted = _Counted()
        while True:
            last = counted.last
            rows = reader.events(
                "VoteCast",
                contract="GridGovernor",
                since=(last["block"], last["log_index"]) if last else None,
                limit=MAX_ROWS,
            )
            found = dict(counted.votes)
            for row in rows:
                number, args = row["args"]["proposalId"], row["args"]
                found[number] = found.get(number, Votes()).plus(args["support"], args["weight"])
            counted = _Counted(rows[-1] if rows else last, found)
            _counted[path] = counted
            if len(rows) < MAX_ROWS:
                return found


# What only a contract can tell


def purse(settings: Settings) -> Purse | None:
    """The treasury as of the block that the events are read up to; None where no node can tell."""
    contract = (settings.deployment or {}).get("Treasury")
    path = settings.home / "index.sqlite"
    block = EventReader(path).cursor()
    if settings.rpc is None or contract is None or block is None:
        return None
    return _purse(settings.rpc, contract, block)


@cached(ttl=60, max_entries=8)
def _purse(rpc: str, contract: str, block: int) -> Purse | None:
    node = Node(rpc, patience_s=PATIENCE_S)
    names = ("free", "reserved", "total_paid", "payment_count", "spending_hash")
    try:
        # A node may have forgotten what was at an older block.
        for at in (block, None):
            try:
                told = [node.view(contract, f"{name}()", block=at)[0] for name in names]
            except Refused:
                continue
            free, reserved, total_paid, payments, head = told
            whole = head.to_bytes(32, "big")
            return Purse(free, reserved, total_paid, payments, whole, at is not None)
    except CheckFailed:
        pass
    finally:
        node.close()
    return None


def states(settings: Settings, proposals: tuple[int, ...]) -> dict[int, int]:
    """The governor's word on each of these proposals, numbered as `dao.governance.State`, the
    newest `MAX_ASKED` of them; empty where no node can tell."""
    contract = (settings.deployment or {}).get("GridGovernor")
    if settings.rpc is None or contract is None or not proposals:
        return {}
    path = settings.home / "index.sqlite"
    try:
        return _states(settings.rpc, contract, proposals[-MAX_ASKED:], version(path))
    except CheckFailed:
        return {}


@cached(ttl=5, max_entries=8)
def _states(rpc: str, contract: str, proposals: tuple[int, ...], _: Version) -> dict[int, int]:
    node = Node(rpc, patience_s=PATIENCE_S)
    try:
        return {one: node.view(contract, "state(uint256)", one)[0] for one in proposals}
    finally:
        node.close()


def record(settings: Settings, forecaster: str, zone: int) -> Record | None:
    """A forecaster's standing in a zone now; None where no node can tell."""
    contract = (settings.deployment or {}).get("ForecastRegistry")
    if settings.rpc is None or contract is None:
        return None
    try:
        mark = version(settings.home / "index.sqlite")
        return _record(settings.rpc, contract, forecaster, zone, mark)
    except (CheckFailed, ValueError):  # silent, or some other contract
        return None


@cached(ttl=15, max_entries=64)
def _record(rpc: str, contract: str, forecaster: str, zone: int, _: Version) -> Record:
    node = Node(rpc, patience_s=PATIENCE_S)
    who = int(forecaster, 16)
    try:
        skill, days = node.view(contract, "skill(address,uint256)", who, zone)
        bond, leaving, _unlocked = node.view(contract, "bond_of(address)", who)
        allowance, used = node.view(contract, "allowance(address,uint256)", who, zone)
        good = node.view(contract, "in_good_standing(address,uint256)", who, zone)[0]
        disputes = node.view(contract, "open_disputes(address)", who)[0]
    finally:
        node.close()
    return Record(
        skill=skill - (1 << 256) if skill >> 255 else skill,
        days_scored=days,
        bond=bond,
        leaving=leaving,
        open_disputes=disputes,
        in_good_standing=bool(good),
        allowance=allowance,
        used=used,
    )
