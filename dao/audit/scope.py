# SPDX-License-Identifier: Apache-2.0
"""What a dossier speaks of: zone, period, contracts and blocks, and which events belong to it.

The rule of belonging is the same for who makes a dossier and for who checks it, so an event left
out or put in is seen. Events come from an index file; how one is filled is `dao.index`'s business.

    before                 period                          finality, 1 h
    |----- of the same length -----|------------------------|--------|
                                    first slot ... end                as of: nothing later counts

All that a period's readings and votes can still change is over at `closes_at`. What comes later (a
settlement after that, a decided dispute) is for a correction, whose `as_of` is later.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import Any, NamedTuple

from dao.audit.event_list import MARKET_CONTRACTS, SLOT_EVENTS, STANDING, WITHHELD
from dao.errors import BadUse, CheckFailed
from dao.index import EventReader
from dao.parameters import KEYS
from dao.slots import SLOT_SECONDS, SLOTS_PER_DAY, day_of, first_slot_of_day

SCORING_SECONDS = 3_600
"""After finality, for the keepers to have the days scored."""
POSTING_SECONDS = 3 * 86_400
"""No event of a slot is older than this, when the slot begins: orders come at most two days before
their day, and so do forecasts."""
MAX_DAYS = 366

_LOW_64 = (1 << 64) - 1


class EventRow(NamedTuple):
    """One event as the index has it."""

    block: int
    log_index: int
    timestamp: int
    tx: str
    contract: str
    event: str
    args: dict[str, Any]


@dataclass(frozen=True)
class Period:
    """Whole UTC days of one zone."""

    zone: int
    first_slot: int
    slots: int

    @staticmethod
    def of_days(zone: int, begin: date, end: date) -> Period:
        """From the beginning of one day to the end of another. BadUse where that is nothing."""
        first, stop = first_slot_of_day(begin), first_slot_of_day(end) + SLOTS_PER_DAY
        if stop <= first:
            raise BadUse(f"the period is empty: it ends on {end}, before it begins on {begin}")
        if stop - first > MAX_DAYS * SLOTS_PER_DAY:
            raise BadUse(f"a dossier covers at most {MAX_DAYS} days")
        return Period(zone, first, stop - first)

    @property
    def end_slot(self) -> int:
        """The first slot after it."""
        return self.first_slot + self.slots

    @property
    def begins_at(self) -> int:
        """Unix seconds."""
        return self.first_slot * SLOT_SECONDS

    @property
    def ends_at(self) -> int:
        """Unix seconds."""
        return self.end_slot * SLOT_SECONDS

    @property
    def before(self) -> int:
        """The first slot of the period before, of the same length."""
        return max(0, self.first_slot - self.slots)

    @property
    def days(self) -> tuple[date, date]:
        """First and last day."""
        return day_of(self.first_slot), day_of(self.end_slot - 1)

    def has(self, slot: int) -> bool:
        """Whether a slot lies in it."""
        return self.first_slot <= slot < self.end_slot


@dataclass(frozen=True)
class Block:
    """A block of the chain; time in unix seconds."""

    number: int
    hash: str
    timestamp: int


@dataclass(frozen=True)
class Placed:
    """A contract: its address, and keccak of the code that lies there."""

    address: str
    code: str


@dataclass(frozen=True)
class Scope:
    """Everything that fixes what a dossier has to contain.

    first_block: where the deployment begins; market_block: the first block that can hold an event
    of a slot that counts; last_block: the last one not later than `as_of`. corrects: the root of
    the dossier that this one corrects.
    """

    chain_id: int
    contracts: Mapping[str, Placed]
    period: Period
    first_block: int
    market_block: int
    last_block: Block
    as_of: int
    closes_at: int
    tariffs: Mapping[str, int]
    software: str
    language: str
    corrects: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """As the manifest has it."""
        begin, end = self.period.days
        return {
            "chain_id": self.chain_id,
            "contracts": {
                name: {"address": one.address, "code": one.code}
                for name, one in sorted(self.contracts.items())
            },
            "zone": self.period.zone,
            "first_slot": self.period.first_slot,
            "slots": self.period.slots,
            "from": begin.isoformat(),
            "to": end.isoformat(),
            "first_block": self.first_block,
            "market_block": self.market_block,
            "last_block": {
                "number": self.last_block.number,
                "hash": self.last_block.hash,
                "timestamp": self.last_block.timestamp,
            },
            "as_of": self.as_of,
            "closes_at": self.closes_at,
            "tariffs": dict(sorted(self.tariffs.items())),
            "software": self.software,
            "language": self.language,
            "corrects": self.corrects,
        }

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Scope:
        """Inverse of `as_dict`. KeyError, TypeError or ValueError for anything else."""
        block = data["last_block"]
        scope = Scope(
            chain_id=_whole(data["chain_id"]),
            contracts={
                str(name): Placed(str(one["address"]), str(one["code"]))
                for name, one in data["contracts"].items()
            },
            period=Period(_whole(data["zone"]), _whole(data["first_slot"]), _whole(data["slots"])),
            first_block=_whole(data["first_block"]),
            market_block=_whole(data["market_block"]),
            last_block=Block(
                _whole(block["number"]), str(block["hash"]), _whole(block["timestamp"])
            ),
            as_of=_whole(data["as_of"]),
            closes_at=_whole(data["closes_at"]),
            tariffs={str(name): _whole(value) for name, value in data["tariffs"].items()},
            software=str(data["software"]),
            language=str(data["language"]),
            corrects=None if data["corrects"] is None else str(data["corrects"]),
        )
        period = scope.period
        if period.slots < SLOTS_PER_DAY or period.slots > MAX_DAYS * SLOTS_PER_DAY:
            raise ValueError("slots")
        if period.first_slot % SLOTS_PER_DAY or period.slots % SLOTS_PER_DAY:
            raise ValueError("first_slot")
        if scope.as_dict() != dict(data):
            raise ValueError("the scope says more than it should")
        return scope


def _whole(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{value!r} is not a whole number")
    return value


class Rules:
    """The rules of `GridParameters` and the windows over them, replayed from its events."""

    def __init__(self, rows: Iterable[EventRow]) -> None:
        self._initial: dict[int, int] = {}
        self._changes: dict[int, list[tuple[int, int]]] = defaultdict(list)
        self._windows: dict[int, list[tuple[int, int, int, int]]] = defaultdict(list)
        for row in rows:
            args = row.args
            if row.event == "RuleDefined":
                self._initial[args["key"]] = args["initial"]
            elif row.event == "ValueChanged":
                self._changes[args["key"]].append((row.timestamp, args["current"]))
            elif row.event == "WindowOpened":
                self._windows[args["key"]].append(
                    (row.timestamp, args["first_slot"], args["slots"], args["value"])
                )

    def value(self, name: str, when: int) -> int:
        """A rule at a time, windows aside. CheckFailed where the rule was never defined."""
        key = KEYS[name]
        if key not in self._initial:
            raise CheckFailed(f"the chain defines no rule {name}")
        found = self._initial[key]
        for since, value in self._changes[key]:
            if since <= when:
                found = value
        return found

    def per_slot(self, name: str, first_slot: int, slots: int, when: int) -> list[int]:
        """A rule slot by slot as in force at a time, the windows opened until then included."""
        values = [self.value(name, when)] * slots
        for opened, first, count, value in self._windows[KEYS[name]]:
            if opened > when:
                continue
            for slot in range(max(first, first_slot), min(first + count, first_slot + slots)):
                values[slot - first_slot] = value
        return values

    def windowed(self, first_slot: int, slots: int) -> set[int]:
        """Slots inside a window of any key."""
        return {
            slot
            for windows in self._windows.values()
            for _, first, count, _ in windows
            for slot in range(max(first, first_slot), min(first + count, first_slot + slots))
        }


def closing_time(period: Period, rules: Rules) -> int:
    """When nothing of the period is open any more, unix seconds."""
    return period.ends_at + rules.value("finality", period.ends_at) + SCORING_SECONDS


# Which events belong


class Events:
    """The events of a dossier by name, each list in the chain's order."""

    def __init__(self, rows: Iterable[EventRow]) -> None:
        self.rows = sorted(rows, key=lambda row: (row.block, row.log_index))
        self._by_name: dict[str, list[EventRow]] = defaultdict(list)
        for row in self.rows:
            self._by_name[row.event].append(row)

    def of(self, name: str, contract: str | None = None) -> list[EventRow]:
        """All events called so."""
        found = self._by_name.get(name, [])
        return found if contract is None else [row for row in found if row.contract == contract]

    @cached_property
    def rules(self) -> Rules:
        """What `GridParameters` said."""
        return Rules(
            row for name in ("RuleDefined", "ValueChanged", "WindowOpened") for row in self.of(name)
        )


def rules_of(reader: EventReader) -> Rules:
    """All rules and windows that an index knows of."""
    return Rules(
        row
        for name in ("RuleDefined", "ValueChanged")
        for row in _read(reader, name, contract="GridParameters")
    )


def session_of(row: EventRow) -> tuple[int, int]:
    """Zone and first slot of the session that an event of a book names."""
    key = row.args["session"]
    return key >> 64, key & _LOW_64


def select(reader: EventReader, period: Period, as_of: int) -> Events:
    """The events that belong to a period, as of a time, from an index that reaches that far."""
    rows: list[EventRow] = []
    for name, contract in STANDING:
        rows += _read(reader, name, contract=contract, last_time=as_of)
    rows = [
        row
        for row in rows
        if row.args.get("zone", period.zone) in (0, period.zone)
        or row.event in ("MemberAdmitted", "MemberRemoved")
    ]
    rows += _slot_rows(reader, period, as_of)
    rows += _zone_rows(reader, period, rows, as_of)
    rows += _decisions(reader, period, rows, as_of)
    return Events(_shown(row) for row in rows)


def _read(reader: EventReader, name: str, **filters: Any) -> list[EventRow]:
    return [
        EventRow(
            one["block"],
            one["log_index"],
            one["timestamp"],
            one["tx"],
            one["contract"],
            one["event"],
            one["args"],
        )
        for one in reader.events(name, **filters)
    ]


def _slot_rows(reader: EventReader, period: Period, as_of: int) -> list[EventRow]:
    """What speaks of the period's slots, and of totals and prices of the period before."""
    found: list[EventRow] = []
    for name, contract, key, also_before in SLOT_EVENTS:
        first = period.before if also_before else period.first_slot
        since = None  # a window may be opened a fortnight ahead
        if contract in MARKET_CONTRACTS:
            since = first * SLOT_SECONDS - POSTING_SECONDS
        rows = _read(reader, name, contract=contract, first_time=since, last_time=as_of)
        for row in rows:
            if key == "session":
                zone, slot = session_of(row)
            else:
                zone, slot = row.args["zone"], row.args[key]
            length = row.args.get("slots", 1) if key == "first_slot" else 1
            if zone == period.zone and slot < period.end_slot and slot + length > first:
                found.append(row)
    return found


def _zone_rows(
    reader: EventReader, period: Period, standing: list[EventRow], as_of: int
) -> list[EventRow]:
    """What happened to the zone's meters and accounts in the period."""
    meters = {row.args["meter"] for row in standing if row.event == "MeterRegistered"}
    span = {"first_time": period.begins_at, "last_time": min(period.ends_at - 1, as_of)}
    found = []
    for name, key in (
        ("Deposited", "account"),
        ("Withdrawn", "account"),
        ("KeySuspended", "meter"),
    ):
        contract = "MeterRegistry" if key == "meter" else "EnergyMarket"
        found += [
            row for row in _read(reader, name, contract=contract, **span) if row.args[key] in meters
        ]
    for row in _read(reader, "ReceiptConflict", contract="MeterRegistry", last_time=as_of):
        if row.args["meter"] in meters and period.has(row.args["slot"]):
            found.append(row)
    for name in ("FeesCollected", "Paused"):
        found += _read(reader, name, contract="EnergyMarket", **span)
    disputed = set()
    for row in _read(reader, "DisputeOpened", contract="ForecastRegistry", last_time=as_of):
        if row.args["zone"] == period.zone and period.has(row.args["first_slot"]):
            disputed.add(row.args["dispute_id"])
            found.append(row)
    for name in ("DisputeDecided", "DisputeLapsed"):
        rows = _read(reader, name, contract="ForecastRegistry", last_time=as_of)
        found += [row for row in rows if row.args["dispute_id"] in disputed]
    return found


def _decisions(
    reader: EventReader, period: Period, chosen: list[EventRow], as_of: int
) -> list[EventRow]:
    """Proposals made or carried out in the period, that spent in it, or whose windows lie in it."""
    created = _read(reader, "ProposalCreated", contract="GridGovernor", last_time=as_of)
    executed = _read(reader, "ProposalExecuted", contract="GridGovernor", last_time=as_of)
    inside = range(period.begins_at, period.ends_at)
    windows = {row.tx for row in chosen if row.event == "WindowOpened"}
    ids = {row.args["proposalId"] for row in created if row.timestamp in inside}
    ids |= {
        row.args["proposalId"] for row in executed if row.timestamp in inside or row.tx in windows
    }
    ids |= {
        row.args["proposal"]
        for row in chosen
        if row.event == "Payment" and row.args["paid_at"] in inside
    }
    found = [row for row in (*created, *executed) if row.args["proposalId"] in ids]
    since = min((row.timestamp for row in found), default=as_of)
    for name in (
        *("ProposalLane", "ProposedUnderPolicy", "ProposalQueued", "ProposalCanceled"),
        *("ProposalExtended", "VoteCast", "BallotReason", "BallotRejected", "BondForfeited"),
    ):
        rows = _read(reader, name, contract="GridGovernor", first_time=since, last_time=as_of)
        found += [row for row in rows if row.args["proposalId"] in ids]
    return found


def _shown(row: EventRow) -> EventRow:
    """The event without what would be a reading: that is on chain, and not repeated."""
    hidden = WITHHELD.get(row.event)
    if hidden is None:
        return row
    return row._replace(args={k: v for k, v in row.args.items() if k not in hidden})


def args_text(args: Mapping[str, Any]) -> str:
    """An event's arguments as the dossier writes them: compact JSON, keys sorted."""
    return json.dumps(args, sort_keys=True, separators=(",", ":"))
