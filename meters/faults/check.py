# SPDX-License-Identifier: Apache-2.0
"""Whether a dossier of faults holds: its slots under their roots, and each finding by its own rule.

Needs the file and, for the ledger and the keys, a node. What nobody but the operator can compute
again is said to be so: the losses, which homes fit what is missing, and what is not there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

from dao.node import Addresses, Node
from dao.slots import SLOTS_PER_DAY
from meters import verification
from meters.disclosure import Disclosure, OpenedSlot
from meters.faults.dossier import Dossier
from meters.faults.findings import Finding, is_clear, is_device, reading_of
from meters.readings import Quality, Reading, Readings
from meters.signing import digests, links, reading_separator, recover_all
from meters.vee.flags import (
    CLEAR_DAYS,
    FROZEN_LEAST_WH,
    FROZEN_SLOTS,
    MIDDAY_LEAST_WH,
    MIDDAY_SLOTS,
)
from meters.vee.signs import PAST_DAYS
from meters.verification import Check

Slots = dict[tuple[int, int], OpenedSlot]


def verify(
    dossier: Dossier,
    node: Node | None = None,
    known: Addresses | None = None,
    *,
    named: bool = False,
) -> list[Check]:
    """All checks, those that a node is needed for as `not checked` where there is none."""
    checks = [*_opened(dossier, node)]
    slots = {(one.meter, slot.reading.slot): slot for one in dossier.opened for slot in one.slots}
    checks.append(_nothing_more(dossier, slots))
    checks += [_finding(dossier, finding, slots, node) for finding in dossier.findings]
    if dossier.balance is not None:
        checks += _balance(dossier, node)
    own = Disclosure(dossier.addresses, dossier.zone, 1, (), ())
    checks.append(verification.check_addresses(own, known, named))
    return checks


def _opened(dossier: Dossier, node: Node | None) -> Iterator[Check]:
    """What is opened of each meter: leaves, roots, zone, and who signed."""
    forged = {
        (one.meter, slot)
        for one in dossier.findings
        if one.kind == "signature"
        for slot in one.opened
    }
    for one in dossier.opened:
        same = (one.addresses, one.zone) == (dossier.addresses, dossier.zone)
        if not same:
            yield Check(f"meter {one.meter}", "failed", "is of another zone or other contracts")
            continue
        checks = verification.check_file(one)
        if node is not None:
            checks += verification.check_chain(one, node)
        rest = [slot for slot in one.slots if (one.meter, slot.reading.slot) not in forged]
        checks.append(verification.check_signatures(replace(one, slots=tuple(rest)), node))
        failed = [check for check in checks if check.state == "failed"]
        if failed:
            text = "; ".join(f"{check.name}: {check.detail}" for check in failed)
            yield Check(f"meter {one.meter}", "failed", text)
        elif node is None:
            text = f"{checks[0].detail}; roots, zone and keys need a node: --rpc URL"
            yield Check(f"meter {one.meter}", "not checked", text)
        else:
            text = f"{checks[0].detail}, which stand on the ledger; signed by the meter's device"
            yield Check(f"meter {one.meter}", "passed", text)


def _nothing_more(dossier: Dossier, slots: Slots) -> Check:
    """A dossier opens what its findings rest on, and no other slot of a home."""
    needed = {(one.meter, slot) for one in dossier.findings for slot in one.opened}
    if missing := sorted(needed - set(slots)):
        text = f"slot {missing[0][1]} of meter {missing[0][0]} is named and not opened"
        return Check("openings", "failed", text)
    if extra := sorted(set(slots) - needed):
        text = f"slot {extra[0][1]} of meter {extra[0][0]} is opened for no finding"
        return Check("openings", "failed", text)
    homes = len({meter for meter, _ in slots})
    return Check("openings", "passed", f"{len(slots)} slots of {homes} meters, each for a finding")


def _finding(dossier: Dossier, finding: Finding, slots: Slots, node: Node | None) -> Check:
    first, end = dossier.first_slot, dossier.first_slot + dossier.slots
    if finding.first_slot < first or finding.first_slot + finding.slots > end:
        return Check(finding.kind, "failed", f"{finding.message}: outside the dossier's time")
    if finding.kind not in dossier.looked_for:
        return Check(finding.kind, "failed", f"{finding.message}: was not looked for")
    opened = [
        slots[finding.meter, slot] for slot in finding.opened if (finding.meter, slot) in slots
    ]
    if len(opened) != len(finding.opened):
        return Check(finding.kind, "failed", f"{finding.message}: its slots are not opened")
    fault = _RULES[finding.kind](dossier, finding, [slot.reading for slot in opened], node)
    if fault:
        return Check(finding.kind, "failed", f"{finding.message}: {fault}")
    if node is None and finding.kind in _NEED_NODE:
        return Check(finding.kind, "not checked", f"{finding.message}; in full with --rpc URL")
    if finding.kind in _WORDS:
        return Check(finding.kind, "not checked", f"{finding.message}; {_WORDS[finding.kind]}")
    return Check(finding.kind, "passed", finding.message)


Rule = Callable[[Dossier, Finding, Sequence[Reading], Node | None], str]
"""What is wrong with a finding; empty where nothing is."""


def _frozen(_: Dossier, finding: Finding, readings: Sequence[Reading], __: Node | None) -> str:
    if [one.slot for one in readings] != list(
        range(finding.first_slot, finding.first_slot + FROZEN_SLOTS)
    ):
        return f"it needs {FROZEN_SLOTS} slots in a row"
    values = {(one.import_wh, one.export_wh, one.quality) for one in readings}
    if len(values) != 1:
        return "the readings differ"
    ((imported, exported, quality),) = values
    if quality != Quality.MEASURED or max(imported or 0, exported or 0) < FROZEN_LEAST_WH:
        return f"a frozen reading is measured, and {FROZEN_LEAST_WH} Wh or more"
    return ""


def _dead_inverter(
    dossier: Dossier, finding: Finding, readings: Sequence[Reading], node: Node | None
) -> str:
    days: dict[int, list[Reading]] = {}
    for one in readings:
        days.setdefault(one.slot // SLOTS_PER_DAY, []).append(one)
    own = finding.first_slot // SLOTS_PER_DAY
    phases = {tuple(one.slot % SLOTS_PER_DAY for one in day) for day in days.values()}
    before = [day for day in days if own - PAST_DAYS <= day < own]
    if (
        own not in days
        or len(before) != len(days) - 1
        or len(before) < CLEAR_DAYS
        or len(phases) != 1
        or len(next(iter(phases))) < MIDDAY_SLOTS
    ):
        return f"it needs one midday on its day and on {CLEAR_DAYS} of the {PAST_DAYS} before"
    if any(one.quality != Quality.MEASURED or one.export_wh is None for one in readings):
        return "a slot that it rests on was not measured"
    if any(one.export_wh for one in days[own]):
        return "the home exported on that midday"
    for day in before:
        if sum(one.export_wh or 0 for one in days[day]) < MIDDAY_LEAST_WH * MIDDAY_SLOTS:
            return "the home hardly exported on an earlier clear day either"
    if node is not None:
        sums = {}
        for day, rows in days.items():
            totals = _totals(node, dossier, day)
            whole = sum(totals[one.slot % SLOTS_PER_DAY][1] for one in rows)
            sums[day] = whole - sum(one.export_wh or 0 for one in rows)
        if not is_clear(sums[own], max(sums[day] for day in before)):
            return "by the ledger's totals the day was not clear"
    return ""


def _signature(
    dossier: Dossier, finding: Finding, readings: Sequence[Reading], node: Node | None
) -> str:
    if len(readings) != 1 or not readings[0].signature:
        return "it needs one slot with a signature"
    (address,) = _signers(dossier, readings)
    if node is not None and is_device(
        _keys(dossier, node), finding.meter, readings[0].slot, address
    ):
        return "it was signed by the meter's device after all"
    return ""


def _gap(_: Dossier, finding: Finding, readings: Sequence[Reading], __: Node | None) -> str:
    if finding.numbers is None or not all(one.signature for one in readings):
        return "it needs signed readings on both sides"
    first, last = finding.numbers
    if first > last or {one.sequence for one in readings} != {first - 1, last + 1}:
        return "the readings are not those before and after the missing numbers"
    return ""


def _pair(dossier: Dossier, finding: Finding, _: Sequence[Reading], node: Node | None) -> str:
    """Two signed readings of one device that cannot both belong to one chain."""
    if len(finding.records) != 2 or finding.opened:
        return "it needs two signed readings"
    pair = [reading_of(record) for record in finding.records]
    if any(one.meter != finding.meter for one in pair):
        return "a reading is of another meter"
    made = digests(_separator(dossier), Readings.of(pair))
    signers = _signers(dossier, pair)
    if not all(signers):
        return "a reading is not signed"
    if made[0] == made[1]:
        return "both readings say the same"
    if node is None:
        if signers[0] != signers[1]:
            return "the readings are not signed by one key"
    else:
        asked = _keys(dossier, node)
        for one, address in zip(pair, signers, strict=True):
            if not is_device(asked, one.meter, one.slot, address):
                return f"the reading of slot {one.slot} is not signed by the meter's device"
    if finding.kind == "fork":
        return "" if pair[0].sequence == pair[1].sequence else "the numbers differ"
    early, late = sorted(range(2), key=lambda at: pair[at].sequence)
    if pair[early].sequence + 1 != pair[late].sequence:
        return "the readings do not follow each other"
    link = links(made, Readings.of(pair).signature)[early].tobytes()
    return "the readings fit each other" if pair[late].previous == link else ""


_RULES: dict[str, Rule] = {
    "frozen": _frozen,
    "dead_inverter": _dead_inverter,
    "signature": _signature,
    "gap": _gap,
    "fork": _pair,
    "link": _pair,
}
_NEED_NODE = {"dead_inverter", "signature", "fork", "link"}
# A leaf holds values and no signature: nothing on chain says what was signed, or what never came.
_WORDS = {
    "signature": "that no other signature was there is the maker's word: one that holds refutes it",
    "gap": "both sides are signed; that nothing arrived between them is the collector's word",
}


def _balance(dossier: Dossier, node: Node | None) -> Iterator[Check]:
    balance = dossier.balance
    assert balance is not None
    first, end = dossier.first_slot, dossier.first_slot + dossier.slots
    if not balance.slots or balance.slots[0] < first or balance.slots[-1] >= end:
        yield Check("balance", "failed", "its slots lie outside the dossier's time")
        return
    text = f"{len(balance.days_over)} of {len(balance.days)} days beyond what the meters allow"
    if node is None:
        yield Check("balance", "not checked", f"{text}; the homes' sums need a node: --rpc URL")
    else:
        for day in sorted({slot // SLOTS_PER_DAY for slot in balance.slots}):
            totals = _totals(node, dossier, day)
            for at, slot in enumerate(balance.slots):
                if slot // SLOTS_PER_DAY != day:
                    continue
                net, exported = totals[slot % SLOTS_PER_DAY]
                if (balance.import_wh[at], balance.export_wh[at]) != (net + exported, exported):
                    text = f"slot {slot}: the homes' sums are not those on the ledger"
                    yield Check("balance", "failed", text)
                    return
        yield Check("balance", "passed", text)
    shown = "what the transformer's meter said and the losses are the operator's word"
    if balance.suspects:
        shown += "; so is which homes fit what is missing"
    yield Check("feeder", "not checked", shown)


def _totals(node: Node, dossier: Dossier, day: int) -> list[tuple[int, int]]:
    """Net and export Wh of a day's slots, as they stand on the ledger now."""
    words = node.view(
        dossier.addresses["ReadingLedger"],
        "totals(uint256,uint256,uint256)",
        dossier.zone,
        day * SLOTS_PER_DAY,
        SLOTS_PER_DAY,
    )
    found = []
    for word in words[2:]:
        net = word & 0xFFFF_FFFF
        found.append((net - (1 << 32) if net >> 31 else net, word >> 32))
    return found


def _separator(dossier: Dossier) -> bytes:
    return reading_separator(dossier.addresses.chain_id, dossier.addresses["MeterRegistry"])


def _signers(dossier: Dossier, readings: Sequence[Reading]) -> list[bytes]:
    rows = Readings.of(readings)
    return recover_all(digests(_separator(dossier), rows), rows.signature, workers=1)


def _keys(dossier: Dossier, node: Node) -> Callable[[int, int], bytes]:
    """The device registered for a meter at a moment, asked of the registry."""
    return partial(node.device_at, dossier.addresses["MeterRegistry"])
