# SPDX-License-Identifier: Apache-2.0
"""What a proposal's calls would do: run through the real timelock on a fork of the chain.

The result is a record that anybody with a node can make again and compare. Whether the effects are
wanted is for the voters; effects on grid and bills are computed by callables from outside.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from dao.abi import revert_reason
from dao.anvil import TRANSACTION_GAS_LIMIT, ForkNode
from dao.chain import Chain, Contract, ContractReverted, local_accounts
from dao.deployment import Deployment
from dao.eip712 import checksum_address, keccak
from dao.errors import BadUse, CheckFailed
from dao.governance.calls import MAX_CALLS, read_json
from dao.governance.proposals import Call, columns
from dao.parameters import MARKET_RULES
from dao.paths import ensure_parent

FORMAT = "gridcommons-simulation/1"

Record = dict[str, Any]
"""JSON: see `simulate`. Integers beyond 2**53 stand as decimal text."""

_SALT = keccak(b"GridCommons simulation")
_HOLDERS = ("Treasury", "EnergyMarket", "GridTimelock")
_EXACT = 2**53
_REQUEST_TIMEOUT = 60
_FUNDS = 10**20
_FIELDS: dict[str, Any] = {
    "format": str,
    "chain_id": int,
    "block": dict,
    "contracts": dict,
    "proposal": str,
    "calls": list,
    "queued_at": int,
    "delay": int,
    "outcome": str,
    "reason": (str, type(None)),
    "gas": int,
    "rules": dict,
    "windows": list,
    "balances": dict,
    "events": list,
    "effects": dict,
}


@dataclass(frozen=True)
class Moment:
    """The forked chain before or after the calls, readable while an effect is computed.

    rules: every rule's value by name. time: unix seconds.
    """

    deployment: Deployment
    block: int
    time: int
    rules: Mapping[str, int]

    def call(self, contract: str, function: str, *args: Any) -> Any:
        """What a view of the deployment returned at this moment."""
        return self.deployment[contract].call(function, *args, block=self.block)


Effect = Callable[[Moment, Moment], Any]
"""Computes one effect, as JSON, from the chain before and after the calls."""


@dataclass(frozen=True)
class Verdict:
    """What came of running a record again: `difference` None where nothing differs.

    unchecked: effects in the record that nobody here can compute.
    """

    difference: str | None
    unchecked: tuple[str, ...] = ()


def simulate(
    deployment: Deployment,
    calls: Sequence[Call],
    *,
    delay: int | None = None,
    queued_at: int | None = None,
    proposal: int = 0,
    block: int | None = None,
    effects: Mapping[str, Effect] | None = None,
) -> Record:
    """Run calls through the timelock on a fork of the chain, and tell what they did.

    delay: seconds in the timelock, None for its least. queued_at: when the vote is over, unix
    seconds; None for the next second. proposal: the id that contracts are told is being executed, 0
    before there is one. block: the state to start from, None for the latest. effects: by name.

    The record holds: chain id; block number, hash and time; timelock and governor; the calls;
    outcome `executed`, or `reverted` with the reason; gas of the timelock's execution; every rule
    before and after; the windows opened; the token's balances of treasury, market, timelock and of
    everybody who paid or was paid; the execution's events in order; the effects.
    Raises BadUse for calls that no proposal can hold, CheckFailed where the fork cannot be made.
    """
    if not calls:
        raise BadUse("there is nothing to simulate: no calls")
    if len(calls) > MAX_CALLS:
        raise BadUse(f"{len(calls)} calls; a proposal holds at most {MAX_CALLS}")
    number = deployment.chain.block_number() if block is None else block
    head = _header(deployment.chain, number)
    start = int(head["timestamp"], 16)
    queued = start + 1 if queued_at is None else queued_at
    if queued <= start:
        raise BadUse(f"queued at {queued}, which is not after the block's time {start}")
    with _forked(deployment, number) as fork:
        wait = int(fork["GridTimelock"].call("getMinDelay")) if delay is None else delay
        shown = proposal or int.from_bytes(_SALT, "big")
        if any(entry.get("name") == "executing" for entry in fork["GridGovernor"].interface.abi):
            _tell_execution(fork["GridGovernor"], shown)
        ran = _run(fork, calls, queued, wait)
        before = _moment(fork, number)
        after = _moment(fork, fork.chain.block_number())
        found = {
            name: _json_of(name, effect(before, after))
            for name, effect in sorted((effects or {}).items())
        }
        events = [_event(fork.chain, log) for log in ran.logs]
        record = {
            "format": FORMAT,
            "chain_id": deployment.chain.chain_id,
            "block": {"number": number, "hash": head["hash"], "time": start},
            "contracts": {
                name: deployment[name].address for name in ("GridGovernor", "GridTimelock")
            },
            "proposal": hex(proposal),
            "calls": [
                {
                    "target": checksum_address(call.target),
                    "value": str(call.value),
                    "calldata": "0x" + call.calldata.hex(),
                }
                for call in calls
            ],
            "queued_at": queued,
            "delay": wait,
            "outcome": "executed" if ran.reason is None else "reverted",
            "reason": ran.reason,
            "gas": ran.gas,
            "rules": {
                name: {"before": value, "after": after.rules[name]}
                for name, value in before.rules.items()
            },
            "windows": [e["args"] for e in events if e.get("event") == "WindowOpened"],
            "balances": _balances(fork, before.block, after.block, events),
            "events": events,
            "effects": found,
        }
    return cast(Record, _plain(record))


def canonical(record: Record) -> bytes:
    """The record's one spelling: sorted keys, no spaces, ASCII."""
    return json.dumps(record, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def record_hash(record: Record) -> str:
    """Keccak of the canonical spelling, 0x text: what a proposal's description names."""
    return "0x" + keccak(canonical(record)).hex()


def write_record(record: Record, path: Path) -> None:
    """Write a record down, for people to read; its hash does not depend on the spelling."""
    try:
        ensure_parent(path).write_text(json.dumps(record, sort_keys=True, indent=1) + "\n")
    except OSError as error:
        raise BadUse(f"cannot write {path}: {error.strerror}") from None


def parse_record(text: bytes, name: str) -> Record:
    """A record that `write_record` wrote. BadUse for anything else; `name` tells it apart."""
    record = read_json(text, name)
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise BadUse(f"{name} is no record of a simulation: expected the format {FORMAT}")
    for field, kind in _FIELDS.items():
        if not isinstance(record.get(field, ...), kind) or isinstance(record[field], bool):
            raise BadUse(f"{name}: {field} is missing or of the wrong kind")
    calls_of(record, name)
    return record


def calls_of(record: Record, name: str = "the record") -> list[Call]:
    """The calls that a record is of. BadUse where they cannot be read."""
    try:
        return [
            Call(
                checksum_address(one["target"]),
                bytes.fromhex(one["calldata"].removeprefix("0x")),
                int(one["value"]),
            )
            for one in record["calls"]
        ]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadUse(f"{name}: its calls cannot be read ({error!r})") from None


def verify(
    record: Record, deployment: Deployment, effects: Mapping[str, Effect] | None = None
) -> Verdict:
    """Run a record again from its block, and say the first thing that differs.

    Needs a node that still has the block's state. Effects that the caller cannot compute are left
    out and named. Raises CheckFailed where the fork cannot be made, BadUse for a malformed record.
    """
    chain = deployment.chain
    block = record["block"]
    if record["chain_id"] != chain.chain_id:
        return Verdict(f"chain_id: {record['chain_id']} in the record, this is {chain.chain_id}")
    try:
        number, told, proposal = (
            int(block["number"]),
            str(block["hash"]),
            int(record["proposal"], 0),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BadUse(f"the record names no block or proposal ({error!r})") from None
    head = _header(chain, number)
    if head["hash"] != told:
        return Verdict(f"block.hash: {told} in the record, {head['hash']} on this chain")
    if record["queued_at"] <= int(head["timestamp"], 16):
        return Verdict("queued_at: not after the block's time")
    known = {name: one for name, one in (effects or {}).items() if name in record["effects"]}
    unchecked = tuple(sorted(set(record["effects"]) - set(known)))
    again = simulate(
        deployment,
        calls_of(record),
        delay=record["delay"],
        queued_at=record["queued_at"],
        proposal=proposal,
        block=number,
        effects=known,
    )
    compared = {**record, "effects": {k: v for k, v in record["effects"].items() if k in known}}
    # What came of it says more than the first of the many figures that then differ too.
    for field in ("outcome", "reason"):
        if (difference := _difference(field, compared[field], again[field])) is not None:
            return Verdict(difference, unchecked)
    return Verdict(_difference("", compared, again), unchecked)


# On the fork


@dataclass(frozen=True)
class _Run:
    reason: str | None
    gas: int
    logs: Sequence[Mapping[str, Any]]


@contextmanager
def _forked(deployment: Deployment, block: int) -> Iterator[Deployment]:
    """The deployment on a node of its own that goes on from `block`."""
    with ForkNode(deployment.chain.url, block) as node, _open(node.url) as chain:
        contracts = {
            name: chain.at(name, contract.address)
            for name, contract in deployment.contracts.items()
        }
        yield replace(deployment, chain=chain, contracts=contracts)


def _open(url: str) -> Chain:
    """A chain at `url`, not through Ape, whose local network insists on a chain id of its own."""
    from web3 import HTTPProvider

    provider = HTTPProvider(url, request_kwargs={"timeout": _REQUEST_TIMEOUT})
    stand_in = cast(Any, SimpleNamespace(web3=SimpleNamespace(provider=provider)))
    return Chain(stand_in, ExitStack(), url, deployer=local_accounts()[0], is_local=True)


def _header(chain: Chain, number: int) -> Mapping[str, Any]:
    found = chain.rpc("eth_getBlockByNumber", hex(number), False)
    if found is None:
        raise CheckFailed(f"the node at {chain.url} has no block {number}")
    return cast(Mapping[str, Any], found)


def _run(fork: Deployment, calls: Sequence[Call], queued_at: int, delay: int) -> _Run:
    """Schedule and execute as the governor does."""
    governor, timelock = fork["GridGovernor"].address, fork["GridTimelock"]
    chain = fork.chain
    chain.fund(governor, _FUNDS)
    chain.rpc("anvil_impersonateAccount", governor)
    batch = (*columns(calls), bytes(32), _SALT)
    scheduled = _send(timelock, "scheduleBatch", *batch, delay, sender=governor, at=queued_at)
    if scheduled.reason is not None:
        return replace(scheduled, reason=f"not scheduled: {scheduled.reason}")
    return _send(timelock, "executeBatch", *batch, sender=governor, at=queued_at + delay)


def _send(timelock: Contract, function: str, *args: Any, sender: str, at: int) -> _Run:
    """One transaction of the governor's, in a block of that time."""
    chain = timelock.chain
    chain.rpc("evm_setNextBlockTimestamp", at)
    mined = chain.rpc(
        "eth_sendTransactionSync",
        {
            "from": sender,
            "to": timelock.address,
            "data": "0x" + timelock.encode(function, *args).hex(),
            "gas": hex(TRANSACTION_GAS_LIMIT),
        },
    )
    gas = int(mined["gasUsed"], 16)
    reason = None if int(mined["status"], 16) else _why(chain, mined["transactionHash"])
    return _Run(reason, gas, mined["logs"])


def _why(chain: Chain, transaction: str) -> str:
    trace = chain.rpc("debug_traceTransaction", transaction, {"tracer": "callTracer"})
    output = bytes.fromhex(str(trace.get("output") or "0x")[2:])
    if not output and "gas" in str(trace.get("error", "")).lower():
        return f"out of gas: more than {TRANSACTION_GAS_LIMIT:,} is needed"
    return revert_reason(output)


def _tell_execution(governor: Contract, proposal: int) -> None:
    """Let the fork's governor answer `executing()` as it does while it executes a proposal.

    Its code moves to another address and is called from there with the governor's own storage;
    before it stands a dozen instructions that know this one answer.
    """
    chain = governor.chain
    moved = checksum_address(keccak(b"GridCommons governor, moved")[12:])
    chain.rpc("anvil_setCode", moved, chain.rpc("eth_getCode", governor.address, "latest"))
    code = (
        # selector == executing()?
        bytes.fromhex("5f3560e01c63")
        + governor.encode("executing")
        + bytes.fromhex("14603b57")
        # no: delegatecall to the moved code, and pass on what it answers
        + bytes.fromhex("365f5f375f5f365f73")
        + bytes.fromhex(moved[2:])
        + bytes.fromhex("5af43d5f5f3e6037573d5ffd5b3d5ff3")
        # yes: the proposal
        + bytes.fromhex("5b7f")
        + proposal.to_bytes(32, "big")
        + bytes.fromhex("5f5260205ff3")
    )
    chain.rpc("anvil_setCode", governor.address, "0x" + code.hex())


# Before and after


def _moment(fork: Deployment, block: int) -> Moment:
    rules = {}
    for rule in MARKET_RULES:
        with suppress(ContractReverted):  # a deployment need not define all of them
            rules[rule.name] = int(fork["GridParameters"].call("value", rule.key, block=block))
    time = int(_header(fork.chain, block)["timestamp"], 16)
    return Moment(fork, block, time, rules)


def _balances(
    fork: Deployment, before: int, after: int, events: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """The token's balances of who keeps the money, and of who paid or was paid."""
    token = fork["TestEuro"]
    names = {fork[name].address: name for name in _HOLDERS if name in fork.contracts}
    for event in events:
        if event["address"] == token.address and event.get("event") == "Transfer":
            for party in list(event["args"].values())[:2]:
                if int(party, 16):
                    names.setdefault(party, _name_of(fork, party))
    return {
        address: {
            "name": name,
            "before": token.call("balanceOf", address, block=before),
            "after": token.call("balanceOf", address, block=after),
        }
        for address, name in names.items()
    }


def _name_of(fork: Deployment, address: str) -> str:
    return next((c.name for c in fork.contracts.values() if c.address == address), "")


def _event(chain: Chain, log: Mapping[str, Any]) -> dict[str, Any]:
    address = checksum_address(log["address"])
    try:
        known = chain.decode_log(log)
    except ValueError:
        known = None
    if known is None:
        return {"address": address, "topics": list(log["topics"]), "data": log["data"]}
    return {
        "address": address,
        "contract": known.contract,
        "event": known.name,
        "args": dict(known.args),
    }


# JSON


def _plain(value: Any) -> Any:
    """As JSON: bytes as 0x text, integers exact in every reader, text as text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if isinstance(value, (bytes, bytearray)):
        return "0x" + bytes(value).hex()
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > _EXACT:
        return str(value)
    return value


def _json_of(name: str, value: Any) -> Any:
    try:
        plain = _plain(value)
        return json.loads(json.dumps(plain, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise BadUse(f"the effect {name} is not JSON: {error}") from error


def _difference(where: str, told: Any, found: Any) -> str | None:
    """The first place at which two JSON values differ, keys in order; None where none does."""
    if isinstance(told, dict) and isinstance(found, dict):
        for key in sorted(set(told) | set(found)):
            place = f"{where}.{key}" if where else key
            if key not in told:
                return f"{place}: missing in the record"
            if key not in found:
                return f"{place}: in the record, but not when run again"
            if (difference := _difference(place, told[key], found[key])) is not None:
                return difference
        return None
    if isinstance(told, list) and isinstance(found, list):
        for index, (one, other) in enumerate(zip(told, found, strict=False)):
            if (difference := _difference(f"{where}.{index}", one, other)) is not None:
                return difference
        if len(told) != len(found):
            return f"{where}: {len(told)} entries in the record, {len(found)} when run again"
        return None
    left, right = json.dumps(told), json.dumps(found)
    return None if left == right else f"{where}: {left} in the record, {right} when run again"
