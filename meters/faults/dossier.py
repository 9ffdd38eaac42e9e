# SPDX-License-Identifier: Apache-2.0
"""The dossier of faults: findings, the slots that they rest on, opened, and the feeder's balance.

One JSON file, the same bytes for the same content; its keccak is what a proposal names. It opens
what `Finding.opened` names and nothing else of a home. Checking one is in `check.py`.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dao.eip712 import checksum_address, keccak
from dao.errors import BadUse, CheckFailed
from dao.json_input import fields_of, list_of, parse, whole_number
from dao.node import Addresses
from dao.slots import SLOTS_PER_DAY
from meters import disclosure
from meters.disclosure import Disclosure
from meters.faults.balance import Balance, Suspect
from meters.faults.findings import KINDS, Finding
from meters.frames import RECORD_BYTES
from meters.lake import LakeLike
from meters.secrets import MonthSecrets

FORMAT = "gridcommons faults 1"
MAX_BYTES = 1 << 28
MAX_DAYS = 62
_MAX_SLOTS = MAX_DAYS * SLOTS_PER_DAY
_MAX_ENTRIES = 100_000
_SIDES = ("low", "high")


@dataclass(frozen=True)
class Dossier:
    """looked_for: the kinds that could be looked for; meters: the only ones looked at, if told."""

    addresses: Addresses
    zone: int
    first_slot: int
    slots: int
    looked_for: tuple[str, ...]
    meters: tuple[int, ...] | None
    findings: tuple[Finding, ...]
    opened: tuple[Disclosure, ...]
    balance: Balance | None


def open_findings(
    findings: Sequence[Finding],
    lake: LakeLike,
    secrets: MonthSecrets,
    addresses: Addresses,
    zone: int,
) -> tuple[list[Finding], list[Disclosure], list[str]]:
    """The findings whose slots could be opened, these slots by meter, and why others could not."""
    by_meter: dict[int, list[Finding]] = defaultdict(list)
    for finding in findings:
        by_meter[finding.meter].append(finding)
    kept: list[Finding] = []
    opened: list[Disclosure] = []
    lost: list[str] = []
    for meter, found in by_meter.items():

        def reveal(slots: set[int], meter: int = meter) -> Disclosure:
            return disclosure.disclose(lake, secrets, addresses, zone, meter, slots)

        try:
            whole = reveal(_needed(found)) if _needed(found) else None
            good = found
        except CheckFailed:
            # Something of it cannot be opened, an erased month for one: the rest can.
            good = []
            for finding in found:
                try:
                    if finding.opened:
                        reveal(set(finding.opened))
                    good.append(finding)
                except CheckFailed as error:
                    lost.append(f"{finding.message}: {error}")
            whole = reveal(_needed(good)) if _needed(good) else None
        kept += good
        opened += [] if whole is None else [whole]
    return kept, opened, lost


def _needed(findings: Sequence[Finding]) -> set[int]:
    return {slot for finding in findings for slot in finding.opened}


def encode(dossier: Dossier) -> bytes:
    """The dossier as a file. The same dossier gives the same bytes."""
    text = json.dumps(_document(dossier), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.encode() + b"\n"


def file_hash(data: bytes) -> bytes:
    """What a proposal names: keccak of the file's bytes, 32 bytes."""
    return keccak(data)


def _document(dossier: Dossier) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "chain_id": dossier.addresses.chain_id,
        "ledger": dossier.addresses["ReadingLedger"],
        "registry": dossier.addresses["MeterRegistry"],
        "zone": dossier.zone,
        "first_slot": dossier.first_slot,
        "slots": dossier.slots,
        "looked_for": list(dossier.looked_for),
        "meters": None if dossier.meters is None else list(dossier.meters),
        "findings": [
            {
                "meter": one.meter,
                "kind": one.kind,
                "first_slot": one.first_slot,
                "slots": one.slots,
                "opened": list(one.opened),
                "records": ["0x" + record.hex() for record in one.records],
                "numbers": None if one.numbers is None else list(one.numbers),
            }
            for one in dossier.findings
        ],
        "opened": [disclosure.document(one) for one in dossier.opened],
        "balance": None if dossier.balance is None else _balance_document(dossier.balance),
    }


def _balance_document(balance: Balance) -> dict[str, Any]:
    return {
        "side": _SIDES[balance.high_side],
        "homes": balance.homes,
        "slots": list(balance.slots),
        "feeder_wh": list(balance.feeder_wh),
        "import_wh": list(balance.import_wh),
        "export_wh": list(balance.export_wh),
        "losses_wh": list(balance.losses_wh),
        "suspects": [vars(one) for one in balance.suspects],
    }


def decode(data: bytes, name: str) -> Dossier:
    """The dossier in the bytes of a file. BadUse for anything else, naming what is wrong."""
    try:
        made = _dossier(parse(data, MAX_BYTES))
    except (ValueError, BadUse) as error:
        raise BadUse(f"{name} is no dossier of faults: {error}") from None
    if encode(made) != data:
        raise BadUse(f"{name} is no dossier of faults: not as one is written")
    return made


def _dossier(given: Any) -> Dossier:
    names = {"format", "chain_id", "ledger", "registry", "zone", "first_slot", "slots"}
    fields = fields_of(
        given, "the document", names | {"looked_for", "meters", "findings", "opened", "balance"}
    )
    if fields["format"] != FORMAT:
        raise ValueError(f'its format is not "{FORMAT}"')
    looked = tuple(_kind(kind) for kind in _list(fields["looked_for"], "looked_for"))
    meters = None
    if fields["meters"] is not None:
        meters = tuple(_meter(entry) for entry in _list(fields["meters"], "meters"))
    contracts = {
        "ReadingLedger": checksum_address(str(fields["ledger"])),
        "MeterRegistry": checksum_address(str(fields["registry"])),
    }
    balance = fields["balance"]
    return Dossier(
        Addresses(whole_number(fields["chain_id"], "chain_id", 1, 2**64 - 1), contracts),
        whole_number(fields["zone"], "zone", 1, 1_023),
        whole_number(fields["first_slot"], "first_slot", 0, 2**40),
        whole_number(fields["slots"], "slots", 1, _MAX_SLOTS),
        looked,
        meters,
        tuple(_finding(entry) for entry in _list(fields["findings"], "findings")),
        tuple(
            disclosure.read(json.dumps(entry).encode(), "what it opens")
            for entry in _list(fields["opened"], "opened")
        ),
        None if balance is None else _balance(balance),
    )


def _finding(entry: Any) -> Finding:
    fields = fields_of(
        entry,
        "a finding",
        {"meter", "kind", "first_slot", "slots", "opened", "records", "numbers"},
    )
    numbers = fields["numbers"]
    if numbers is not None:
        first, last = (whole_number(n, "numbers", 0, 2**63 - 1) for n in _list(numbers, "numbers"))
        numbers = (first, last)
    return Finding(
        _meter(fields["meter"]),
        _kind(fields["kind"]),
        whole_number(fields["first_slot"], "first_slot", 0, 2**40),
        whole_number(fields["slots"], "slots", 1, _MAX_SLOTS),
        tuple(whole_number(slot, "a slot", 0, 2**40) for slot in _list(fields["opened"], "opened")),
        tuple(_record(text) for text in _list(fields["records"], "records")),
        numbers,
    )


def _balance(entry: Any) -> Balance:
    series = ("slots", "feeder_wh", "import_wh", "export_wh", "losses_wh")
    fields = fields_of(entry, "the balance", {"side", "homes", "suspects", *series})
    if fields["side"] not in _SIDES:
        raise ValueError("the side of the transformer is low or high")
    values = {}
    for name in series:
        least = -(2**40) if name == "feeder_wh" else 0
        values[name] = tuple(
            whole_number(value, name, least, 2**40) for value in _list(fields[name], name)
        )
    if len({len(column) for column in values.values()}) != 1:
        raise ValueError("the columns of the balance are of different length")
    if list(values["slots"]) != sorted(set(values["slots"])):
        raise ValueError("the slots of the balance are not each one once, in order")
    return Balance(
        high_side=fields["side"] == "high",
        homes=whole_number(fields["homes"], "homes", 1, 2**32),
        suspects=tuple(_suspect(one) for one in _list(fields["suspects"], "suspects")),
        **values,
    )


def _suspect(entry: Any) -> Suspect:
    names = ("meter", "part_permille", "z_tenths", "correlation_permille")
    fields = fields_of(entry, "a suspect", set(names))
    return Suspect(*(whole_number(fields[name], name, -1_000, 2**32) for name in names))


def _list(value: Any, name: str) -> list[Any]:
    return list_of(value, name, _MAX_ENTRIES)


def _kind(value: Any) -> str:
    if not isinstance(value, str) or value not in KINDS:
        raise ValueError(f"a kind of finding is one of {', '.join(KINDS)}")
    return value


def _meter(value: Any) -> int:
    return whole_number(value, "meter", 1, 2**32 - 1)


def _record(text: Any) -> bytes:
    if not isinstance(text, str) or len(text) != 2 + 2 * RECORD_BYTES or text[:2] != "0x":
        raise ValueError(f"a record is 0x and {2 * RECORD_BYTES} hex digits")
    return bytes.fromhex(text[2:])
