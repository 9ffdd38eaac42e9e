# SPDX-License-Identifier: Apache-2.0
"""Tables of what members decided: proposals, ballots, balancing actions, delegation, spending.

Everything follows from events; a proposal's outcome is told by what was done with it, and where
nothing was, by the count and the quorum of its lane (docs/governance.md).
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

from dao.audit.energy import totals
from dao.audit.market import start_text
from dao.audit.scope import EventRow, Events, Period, Scope
from dao.audit.tables import TABLES
from dao.eip712 import keccak
from dao.forecasts import unpack_quantiles
from dao.json_input import loads
from dao.parameters import COMMUNITY_BATTERY, WINDOW_NAMES

if TYPE_CHECKING:
    import pyarrow as pa

LANES = ("ordinary", "balancing", "policy")
SUPPORT = ("against", "for", "abstain", "veto")
KINDS = ("single", "voted milestone", "metered milestone", "recurring")

_FOR = [column.name for column in TABLES["proposals"].columns].index("votes_for")

_NOBODY = "0x" + "00" * 20


def decision_tables(events: Events, scope: Scope) -> dict[str, pa.Table]:
    """The tables proposals, ballots, actions, delegates, payments and budgets."""
    period = scope.period
    proposals = _proposals(events, scope)
    votes = {row[0]: (row[_FOR], row[_FOR + 1]) for row in proposals}
    return {
        "proposals": TABLES["proposals"].of_rows(proposals),
        "ballots": _ballots(events),
        "actions": _actions(events, period),
        "delegates": _delegates(events, period.ends_at),
        "payments": _payments(events, period, votes),
        "budgets": _budgets(events, period),
    }


class Members:
    """Who was a member when, and who had whose vote."""

    def __init__(self, events: Events) -> None:
        names = ("MemberAdmitted", "MemberRemoved", "DelegateChanged")
        rows = [row for name in names for row in events.of(name, "Membership")]
        self._rows = sorted(rows, key=lambda row: (row.block, row.log_index))

    def count(self, when: int, zone: int = 0) -> int:
        """Members at the end of a second; of one zone, or of all."""
        found = 0
        for row in self._rows:
            if row.timestamp > when:
                break
            if row.event != "DelegateChanged" and zone in (0, row.args["zone"]):
                found += 1 if row.event == "MemberAdmitted" else -1
        return found

    def delegation(self, when: int) -> dict[str, str]:
        """Member to who has its vote, at the end of a second."""
        members: set[str] = set()
        to: dict[str, str] = {}
        for row in self._rows:
            if row.timestamp > when:
                break
            if row.event == "MemberAdmitted":
                members.add(row.args["member"])
            elif row.event == "MemberRemoved":
                members.discard(row.args["member"])
            else:
                to[row.args["delegator"]] = row.args["toDelegate"]
        return {one: to[one] for one in members if to.get(one, _NOBODY) != _NOBODY}


def _by_proposal(events: Events, name: str) -> dict[int, list[EventRow]]:
    found: dict[int, list[EventRow]] = defaultdict(list)
    for row in events.of(name, "GridGovernor"):
        found[row.args["proposalId"]].append(row)
    return found


def _proposals(events: Events, scope: Scope) -> list[tuple[Any, ...]]:
    members = Members(events)
    told = {
        name: _by_proposal(events, name)
        for name in (
            *("ProposalLane", "ProposedUnderPolicy", "ProposalQueued", "ProposalExecuted"),
            *("ProposalCanceled", "ProposalExtended", "VoteCast"),
        )
    }
    names = {one.address: name for name, one in scope.contracts.items()}
    rows = []
    for row in events.of("ProposalCreated", "GridGovernor"):
        args = row.args
        number = args["proposalId"]
        lane, zone = 0, 0
        for one in told["ProposalLane"].get(number, ()):
            lane, zone = one.args["lane"], one.args["zone"]
        if told["ProposedUnderPolicy"].get(number):
            lane = 2
        deadline = args["voteEnd"]
        for one in told["ProposalExtended"].get(number, ()):
            deadline = one.args["extendedDeadline"]
        votes = Counter[str]()
        ballots = told["VoteCast"].get(number, [])
        for one in ballots:
            votes[SUPPORT[one.args["support"]]] += one.args["weight"]
        against = votes["against"] + votes["veto"]
        count = members.count(args["voteStart"], zone)
        quorum = _quorum(events, lane, count, args["voteStart"])
        executed = told["ProposalExecuted"].get(number, [])
        outcome = "open"
        if executed:
            outcome = "executed"
        elif told["ProposalCanceled"].get(number):
            outcome = "canceled"
        elif deadline < scope.as_of:
            outcome = "defeated"
            if lane == 2:
                passed = count > 0 and against < quorum
            else:
                passed = votes["for"] > against and votes["for"] + votes["abstain"] >= quorum
            if passed:
                outcome = "passed"
        cast = votes["for"] + against + votes["abstain"]
        description = args["description"]
        rows.append(
            (
                str(number),
                LANES[lane],
                zone,
                args["proposer"],
                title_of(description),
                description,
                _calls(args, names),
                row.timestamp,
                args["voteStart"],
                deadline,
                count,
                len(ballots),
                votes["for"],
                against,
                votes["abstain"],
                votes["veto"],
                quorum,
                cast * 1_000_000 // count if count else None,
                outcome,
                executed[0].timestamp if executed else None,
                row.block,
                row.tx,
                executed[0].tx if executed else None,
            )
        )
    return rows


def title_of(description: str) -> str:
    """The first line, or the title where the description is a JSON document that has one."""
    first: str = description.partition("\n")[0]
    try:
        document = loads(description.partition("#proposer=")[0])
        first = str(document["title"])
    except (ValueError, KeyError, TypeError):
        pass
    return first[:200]


def _quorum(events: Events, lane: int, members: int, when: int) -> int:
    """Votes that it needs; under a policy the objections that stop it."""
    rules = events.rules
    share = rules.value("quorum", when)
    if lane == 1 and rules.value("zone_quorum", when):
        share = rules.value("zone_quorum", when)
    if lane == 2:
        share = rules.value("veto_share", when)
    return -(-members * share // 10_000)


def _calls(args: dict[str, Any], names: dict[str, str]) -> str:
    calls = []
    for target, value, data in zip(args["targets"], args["values"], args["calldatas"], strict=True):
        raw = bytes.fromhex(data[2:])
        calls.append(
            {
                "target": names.get(target, target),
                "selector": "0x" + raw[:4].hex(),
                "hash": "0x" + keccak(raw).hex(),
                "value": str(value),
            }
        )
    return json.dumps(calls, sort_keys=True, separators=(",", ":"))


def _ballots(events: Events) -> pa.Table:
    hashes = {
        (row.args["proposalId"], row.args["voter"]): row.args["reasonHash"]
        for row in events.of("BallotReason", "GridGovernor")
    }
    return TABLES["ballots"].of_rows(
        (
            str(row.args["proposalId"]),
            row.args["voter"],
            SUPPORT[row.args["support"]],
            row.args["weight"],
            row.args["reason"] or None,
            hashes.get((row.args["proposalId"], row.args["voter"])),
            row.timestamp,
            row.block,
            row.tx,
        )
        for row in events.of("VoteCast", "GridGovernor")
    )


def _actions(events: Events, period: Period) -> pa.Table:
    executed = {row.tx: row.args["proposalId"] for row in events.of("ProposalExecuted")}
    first, end = period.first_slot, period.end_slot
    net, _, homes = totals(events, first, end)
    quantiles: dict[int, Any] = {}
    for row in events.of("ForecastRevealed", "ForecastRegistry"):
        quantiles.setdefault(row.args["first_slot"], unpack_quantiles(row.args["words"]))
    rows = []
    for row in events.of("WindowOpened", "GridParameters"):
        args = row.args
        begin, stop = args["first_slot"], args["first_slot"] + args["slots"]
        day = begin - begin % 96
        measured = None
        if begin >= first and stop <= end and (homes[begin - first : stop - first] > 0).all():
            measured = int(net[begin - first : stop - first].sum())
        forecast: list[int | None] = [None, None, None]
        if day in quantiles:
            forecast = quantiles[day][:, begin - day : stop - day].sum(axis=1).tolist()
        ordered = None
        if args["key"] == COMMUNITY_BATTERY:
            ordered = args["value"] * args["slots"] // 4
        without = None if measured is None or ordered is None else measured - ordered
        proposal = executed.get(row.tx)
        rows.append(
            (
                begin,
                start_text(begin),
                args["slots"],
                args["key"],
                WINDOW_NAMES.get(args["key"], "unknown"),
                args["value"],
                None if proposal is None else str(proposal),
                row.timestamp,
                *forecast,
                ordered,
                measured,
                without,
                row.tx,
            )
        )
    return TABLES["actions"].of_rows(rows)


def _delegates(events: Events, when: int) -> pa.Table:
    delegation = Members(events).delegation(when)
    votes = Counter(delegation.values())
    return TABLES["delegates"].of_rows(
        (who, count, who in delegation) for who, count in votes.items()
    )


def _payments(events: Events, period: Period, votes: dict[str, tuple[int, int]]) -> pa.Table:
    names = {row.args["purpose"]: row.args["name"] for row in events.of("BudgetSet", "Treasury")}
    rows = []
    for row in events.of("Payment", "Treasury"):
        args = row.args
        if not period.begins_at <= args["paid_at"] < period.ends_at:
            continue
        favour, against = votes.get(str(args["proposal"]), (None, None))
        rows.append(
            (
                args["number"],
                str(args["proposal"]),
                args["purpose"],
                names.get(args["purpose"], ""),
                args["payee"],
                args["amount"],
                KINDS[args["kind"]] if args["kind"] < len(KINDS) else str(args["kind"]),
                args["source"],
                args["paid_at"],
                args["reference"],
                favour,
                against,
                row.block,
                row.tx,
            )
        )
    return TABLES["payments"].of_rows(rows)


def _budgets(events: Events, period: Period) -> pa.Table:
    paid = Counter[int]()
    for row in events.of("Payment", "Treasury"):
        if period.begins_at <= row.args["paid_at"] < period.ends_at:
            paid[row.args["purpose"]] += row.args["amount"]
    return TABLES["budgets"].of_rows(
        (
            row.args["purpose"],
            row.args["edition"],
            row.args["name"],
            str(row.args["proposal"]),
            row.args["amount"],
            row.args["period_seconds"],
            row.args["starts_at"],
            row.args["ends_at"],
            paid[row.args["purpose"]],
        )
        for row in events.of("BudgetSet", "Treasury")
        if row.args["starts_at"] < period.ends_at and row.args["ends_at"] > period.begins_at
    )
