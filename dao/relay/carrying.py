# SPDX-License-Identifier: Apache-2.0
"""Carrying requests to the chain, and reading back what became of them.

The chain is the truth, as for orders: before anything is sent, its events say what is done already,
by whomever. So a crash, a reorganisation and somebody who brings the same signature first leave
nothing done twice, lost, or called failed that was done.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from dao.chain import Contract, ContractReverted
from dao.governance import MAX_BALLOTS, Ballot, Support, reasons
from dao.relay.kinds import RULES
from dao.relay.posting import in_flight
from dao.relay.reader import Relay
from dao.relay.request_fields import number
from dao.relay.request_store import LIVE, Kind, RequestState, StoredRequest

URGENT = frozenset({Kind.REVOCATION, Kind.MANDATE_END})
"""What goes out before any order: it may stop one."""
_BALLOTS = (Kind.BALLOT, Kind.OBJECTION)
# Blocks that a reorganisation may undo: what is done is looked at for so long.
_REORGANISED = 64
# In one round, so that orders never wait long for their turn.
_MOST_SENT = 16
_LONGEST_S = 30.0
# How the contracts' own reasons begin. Anything else may be the node's trouble, and is tried again
# for so long.
_GIVEN_UP_S = 3_600
_REASONS = ("market:", "governor:", "membership:", "erc20:", "reverted without a reason", "panic")
_LEFT_OUT = {
    1: "governor: support is not 0, 1, 2 or 3",
    2: "governor: ballot expired",
    3: "governor: bad signature",
    4: "governor: already voted",
    5: "governor: no votes at the snapshot",
    6: "governor: voter lives in another zone",
}


@dataclass(frozen=True)
class Sighting:
    """Where the chain shows a request as done."""

    transaction: str
    block: int


@dataclass
class Carried:
    """What one round did: requests by what became of them, and what went wrong."""

    done: int = 0
    failed: int = 0
    busy: bool = False
    in_flight: bool = False
    errors: list[str] = field(default_factory=list)


def carry(relay: Relay, now: int, *, urgent: bool | None = None, flush: bool = False) -> Carried:
    """Send what is due, and write down what became of every request.

    urgent: only what is urgent, or only what is not; None for all. now: unix seconds, the chain's.
    flush: ballots do not wait for others to share their batch. Safe to call from several processes
    and after a crash. Raises CheckFailed for an unreachable node.
    """
    report = Carried()
    if not _anything(relay):
        return report
    with relay.store.posting() as alone:
        if not alone:
            report.busy = True
            return report
        follow(relay, now, report)
        todo = [
            one
            for one in relay.store.requests.live()
            if urgent is None or (one.kind in URGENT) == urgent
        ]
        if todo and in_flight(relay.chain, relay.account):
            report.in_flight = True
            return report
        begun = time.monotonic()
        for group in _groups(relay, todo, now, flush)[:_MOST_SENT]:
            if time.monotonic() - begun > _LONGEST_S:
                break
            _send(relay, group, now, report)
    return report


def follow(relay: Relay, now: int, report: Carried | None = None) -> None:
    """Bring the requests in line with the chain: what it shows is done, what it shows no longer,
    after a reorganisation, waits again."""
    report = report or Carried()
    table = relay.store.requests
    # In this order: a transaction that is mined in between shows up in the events.
    flying = in_flight(relay.chain, relay.account)
    recent = table.settled_since(relay.chain.block_number() - _REORGANISED)
    requests = [*table.live(), *recent]
    seen = sightings(relay, requests)
    for one in requests:
        if (sight := seen.get(one.id)) is not None:
            if (one.state, one.transaction) != (RequestState.DONE, sight.transaction):
                _done(relay, one, sight, now, report)
        elif one.state is RequestState.DONE or (one.state is RequestState.SENT and not flying):
            table.settle(one, RequestState.RECEIVED, now)


def sightings(relay: Relay, requests: Iterable[StoredRequest]) -> dict[bytes, Sighting]:
    """Where the chain shows requests as done, by their ids; what it does not show is left out."""
    found: dict[bytes, Sighting] = {}
    by_event: dict[tuple[str, str], list[StoredRequest]] = {}
    contracts: dict[str, Contract] = {}
    for one in requests:
        contract = RULES[one.kind].contract(relay)
        if contract is not None:
            contracts[contract.address] = contract
            name, _ = RULES[one.kind].event(one)
            by_event.setdefault((contract.address, name), []).append(one)
    for (address, name), alike in by_event.items():
        for log, event in _logs(relay, contracts[address], name, alike):
            for one in alike:
                # An event alone could be an earlier one that says the same.
                _, wanted = RULES[one.kind].event(one)
                if one.id in found or any(event.args[key] != wanted[key] for key in wanted):
                    continue
                if _is_its(relay, one, log["transactionHash"], event.block):
                    found[one.id] = Sighting(log["transactionHash"], event.block)
    return found


# Inside


def _anything(relay: Relay) -> bool:
    """Whether there is a request that moves, or may move back."""
    table = relay.store.requests
    counts = table.counts()
    if any(counts[state] for state in LIVE):
        return True
    if not counts[RequestState.DONE]:
        return False
    return bool(table.settled_since(relay.chain.block_number() - _REORGANISED))


def _logs(
    relay: Relay, contract: Contract, name: str, alike: Sequence[StoredRequest]
) -> list[tuple[Any, Any]]:
    since = max(relay.first_block, min(one.received_block for one in alike) - _REORGANISED)
    logs = relay.chain.rpc(
        "eth_getLogs",
        {
            "address": contract.address,
            "fromBlock": hex(since),
            "toBlock": "latest",
            "topics": [
                contract.interface.topic(name),
                sorted({RULES[one.kind].topic(one) for one in alike}),
            ],
        },
    )
    decoded = ((log, relay.chain.decode_log(log)) for log in logs)
    return [(log, event) for log, event in decoded if event is not None]


def _is_its(relay: Relay, request: StoredRequest, transaction: str, block: int) -> bool:
    """Whether a transaction carried this very request, or did in person what it asks for."""
    mark = RULES[request.kind].mark(relay, request)
    if not mark:
        return True
    sent = relay.chain.rpc("eth_getTransactionByHash", transaction)
    if sent is not None and mark in bytes.fromhex(sent["input"][2:]):
        return True
    # A vote handed on in person after the signature came is what the signature asks for.
    return request.kind is Kind.DELEGATION and block > request.received_block


def _groups(
    relay: Relay, requests: Sequence[StoredRequest], now: int, flush: bool
) -> list[list[StoredRequest]]:
    """What goes into one transaction each, urgent ones first: ballots of one proposal together."""
    ordered = sorted(requests, key=lambda one: one.kind not in URGENT)
    groups: list[list[StoredRequest]] = []
    ballots: dict[str, list[StoredRequest]] = {}
    for one in ordered:
        # Of a wallet's signature a batch would carry 64 bytes only.
        if one.kind in _BALLOTS and one.by_key:
            ballots.setdefault(one.fields["proposal"], []).append(one)
        else:
            groups.append([one])
    for alike in ballots.values():
        parts = [alike[i : i + MAX_BALLOTS] for i in range(0, len(alike), MAX_BALLOTS)]
        groups += [
            part
            for part in parts
            if flush
            or len(part) == MAX_BALLOTS
            or now >= min(one.received_at for one in part) + relay.pace.interval
            or now >= _closes(relay, part[0]) - relay.pace.margin
        ]
    return groups


def _closes(relay: Relay, ballot: StoredRequest) -> int:
    """When the vote on a ballot's proposal ends, unix seconds."""
    assert relay.governor is not None
    return int(relay.governor.call("proposalDeadline", number(ballot.fields["proposal"])))


def _send(relay: Relay, group: Sequence[StoredRequest], now: int, report: Carried) -> None:
    group = relay.store.requests.claim(group, now)
    if not group:
        return
    first = group[0]
    rule = RULES[first.kind]
    contract = rule.contract(relay)
    assert contract is not None
    function, arguments = rule.call(first)
    if first.kind in _BALLOTS and first.by_key:
        packed = [_ballot(one).packed() for one in group]
        function, arguments = "castBallots", (number(first.fields["proposal"]), packed)
    try:
        # Asked first: what would fail costs nothing then.
        contract.call(function, *arguments, sender=relay.account.address)
        receipt = contract.transact(function, *arguments, sender=relay.account)
    except ContractReverted as error:
        seen = sightings(relay, group)
        for one in group:
            if one.id in seen:  # somebody else was first
                _done(relay, one, seen[one.id], now, report)
            elif error.reason.startswith(_REASONS) or now > one.received_at + _GIVEN_UP_S:
                _failed(relay, one, error.reason, now, report)
            else:
                report.errors.append(f"{one.kind} of {one.signer}: {error}")
        return
    left_out = {
        event.args["voter"]: _LEFT_OUT.get(event.args["reason"], "governor: left out")
        for event in receipt.events
        if event.name == "BallotRejected"
    }
    for one in group:
        if one.signer in left_out:
            seen = sightings(relay, [one])
            if one.id in seen:
                _done(relay, one, seen[one.id], now, report)
            else:
                _failed(relay, one, left_out[one.signer], now, report)
        else:
            _done(relay, one, Sighting(receipt.tx, receipt.block), now, report)
    if function == "castBallots":
        _publish(relay, [one for one in group if one.signer not in left_out], report)


def _publish(relay: Relay, carried: Sequence[StoredRequest], report: Carried) -> None:
    """Put the texts of a batch's reasons beside the relay's file: the chain has only hashes."""
    texts = [str(one.fields["reason"]) for one in carried]
    if not any(texts):
        return
    try:
        proposal = number(carried[0].fields["proposal"])
        reasons.publish(proposal, texts, relay.store.path.parent)
    except OSError as error:
        report.errors.append(f"reasons could not be published: {error.strerror}")


def _ballot(request: StoredRequest) -> Ballot:
    """The ballot as the governor's batch has it."""
    _, wanted = RULES[request.kind].event(request)
    return Ballot(
        voter=request.signer,
        support=Support(wanted["support"]),
        reason=request.fields["reason"],
        deadline=request.fields["deadline"],
        signature=request.signature,
    )


def _done(relay: Relay, request: StoredRequest, sight: Sighting, now: int, report: Carried) -> None:
    report.done += 1
    relay.store.requests.settle(
        request, RequestState.DONE, now, transaction=sight.transaction, block=sight.block
    )


def _failed(relay: Relay, request: StoredRequest, reason: str, now: int, report: Carried) -> None:
    report.failed += 1
    relay.store.requests.settle(
        request, RequestState.FAILED, now, reason=reason, block=relay.chain.block_number()
    )
