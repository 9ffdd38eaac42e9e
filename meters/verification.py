# SPDX-License-Identifier: Apache-2.0
"""Whether a disclosure holds: in itself, and against ledger and registry where a node is at hand.

Needs nothing but the document and the node: no lake, no secrets, no compiled contracts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from dao.eip712 import checksum_address
from dao.errors import CheckFailed
from dao.json_input import parse
from dao.leaves import root_above
from dao.node import Addresses, Node
from dao.slots import SLOT_SECONDS
from meters.disclosure import MAX_BYTES, Disclosure, OpenedSlot, leaf
from meters.leaves import record_leaf
from meters.readings import Reading, Readings
from meters.signing import digests, recover_all

State = Literal["passed", "failed", "not checked"]


@dataclass(frozen=True)
class Check:
    """What was looked at, how it ended, and one line about it."""

    name: str
    state: State
    detail: str


def check_file(disclosure: Disclosure) -> list[Check]:
    """What the document proves by itself: its slots, and edit records, lie under its roots."""
    for one in disclosure.slots:
        root = disclosure.roots[one.batch].root
        if root_above(leaf(one.reading, one.salt), one.path) != root:
            return [Check("leaves", "failed", f"slot {one.reading.slot} is not under its root")]
    count, batches = len(disclosure.slots), len(disclosure.roots)
    checks = [Check("leaves", "passed", f"{count} slots lead to the roots of {batches} batches")]
    opened = sum(len(one.records) for one in disclosure.slots)
    if opened:
        fault = next((text for one in disclosure.slots if (text := _fault(disclosure, one))), None)
        said = f"{opened} edit records lead to the same roots"
        checks.append(Check("records", "failed" if fault else "passed", fault or said))
    return checks


def _fault(disclosure: Disclosure, one: OpenedSlot) -> str | None:
    """What is wrong with the edit records of a slot."""
    for record in one.records:
        where = f"an edit record of slot {one.reading.slot}"
        hidden = record_leaf(record.canonical, record.salt)
        if root_above(hidden, record.path) != disclosure.roots[one.batch].root:
            return f"{where} is not under its root"
        try:
            said = parse(record.canonical, MAX_BYTES)
            own = (said["meter"], said["slot"]) == (disclosure.meter, one.reading.slot)
        except (ValueError, KeyError, TypeError):
            own = False
        if not own:
            return f"{where} speaks of another meter or slot"
    return None


def check_addresses(disclosure: Disclosure, known: Addresses | None, named: bool) -> Check:
    """Whether the contracts are those that the reader knows; a file can name any.

    named: the reader said where they are written down, so another chain is a fault too.
    """
    own = disclosure.addresses
    shown = f"ledger {own['ReadingLedger']}, registry {own['MeterRegistry']}"
    if known is None or (not named and known.chain_id != own.chain_id):
        return Check("contracts", "not checked", f"compare them with those you know: {shown}")
    if known.chain_id != own.chain_id:
        text = f"the file is of chain {own.chain_id}, the deployment of chain {known.chain_id}"
        return Check("contracts", "failed", text)
    for name in ("ReadingLedger", "MeterRegistry"):
        if known[name] != own[name]:
            return Check("contracts", "failed", f"the file's {name} {own[name]} is another one")
    return Check("contracts", "passed", shown)


def check_signatures(disclosure: Disclosure, node: Node | None) -> Check:
    """Whether each signed slot was signed by the meter's device key of its time."""
    signed = [one.reading for one in disclosure.slots if one.reading.signature]
    others = len(disclosure.slots) - len(signed)
    rest = f"; {others} carry no device's signature" if others else ""
    if not signed:
        return Check("signatures", "not checked", "no slot carries a device's signature")
    rows = Readings.of(signed)
    found = recover_all(digests(disclosure.separator, rows), rows.signature, workers=1)
    for reading, address in zip(signed, found, strict=True):
        if not address:
            return Check("signatures", "failed", f"slot {reading.slot}: not a signature")
    if node is None:
        shown = ", ".join(sorted({checksum_address(address) for address in found})[:8])
        return Check("signatures", "not checked", f"by {shown}; whose keys these are needs a node")
    registry = disclosure.addresses["MeterRegistry"]
    for begin, end, address in _runs(signed, found):
        # A key's validity is one stretch of time, so the ends of a run answer for what lies within.
        for slot in {begin, end}:
            moment = (slot + 1) * SLOT_SECONDS - 1
            if node.device_at(registry, disclosure.meter, moment) != address:
                text = f"slot {slot}: not by the meter's device key of that time"
                return Check("signatures", "failed", text)
    return Check(
        "signatures", "passed", f"{len(signed)} slots by the device key of their time{rest}"
    )


def _runs(signed: Sequence[Reading], found: Sequence[bytes]) -> list[tuple[int, int, bytes]]:
    """Stretches of slots signed by one key: first and last slot, address."""
    runs: list[tuple[int, int, bytes]] = []
    for reading, address in zip(signed, found, strict=True):
        if runs and runs[-1][2] == address:
            runs[-1] = (runs[-1][0], reading.slot, address)
        else:
            runs.append((reading.slot, reading.slot, address))
    return runs


def check_chain(disclosure: Disclosure, node: Node) -> list[Check]:
    """The roots on the ledger, and the meter's zone in the registry. CheckFailed where the node is
    of another chain or does not answer."""
    own = disclosure.addresses
    if (chain_id := node.chain_id) != own.chain_id:
        raise CheckFailed(f"the file is of chain {own.chain_id}, this node is of {chain_id}")
    ledger, zone = own["ReadingLedger"], disclosure.zone
    for root in disclosure.roots:
        first = root.first_slot
        (held,) = node.view(ledger, "root_of(uint256,uint256,uint256)", zone, first, root.version)
        if held.to_bytes(32, "big") != root.root:
            said = "no such batch" if not held else "another root"
            text = f"the ledger has {said} for the batch of zone {zone} that starts at {first}"
            return [Check("roots", "failed", text)]
        (newest,) = node.view(ledger, "version_of(uint256,uint256)", zone, first)
        if newest != root.version:
            text = f"the batch that starts at {first} was corrected since; this is an older version"
            return [Check("roots", "failed", text)]
    checks = [Check("roots", "passed", f"{len(disclosure.roots)} stand on the ledger, the newest")]
    point = node.view(own["MeterRegistry"], "metering_point(uint256)", disclosure.meter)
    if point[1] != zone:
        where = f"in zone {point[1]}" if point[1] else "unknown"
        text = f"meter {disclosure.meter} is {where} in the registry, not in zone {zone}"
        return [*checks, Check("zone", "failed", text)]
    return [*checks, Check("zone", "passed", f"meter {disclosure.meter} lies in zone {zone}")]


def verify(
    disclosure: Disclosure,
    node: Node | None = None,
    known: Addresses | None = None,
    *,
    named: bool = False,
) -> list[Check]:
    """All checks, those that a node is needed for as `not checked` where there is none."""
    checks = check_file(disclosure)
    if node is None:
        checks += [
            Check(name, "not checked", "needs a node: --rpc URL") for name in ("roots", "zone")
        ]
    else:
        checks += check_chain(disclosure, node)
    checks.append(check_signatures(disclosure, node))
    checks.append(check_addresses(disclosure, known, named))
    return checks
