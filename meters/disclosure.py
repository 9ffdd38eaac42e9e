# SPDX-License-Identifier: Apache-2.0
"""Opening some slots of one home to somebody: a file that proves itself against the chain.

`disclose` makes it from lake and secrets, `document` and `read` bring it to JSON and back; it is
checked in `verification.py`. A salt per slot opens that slot and no other; the month's secret stays
with its keeper. Who may see what is a matter of `grants.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dao.eip712 import checksum_address
from dao.errors import BadUse, CheckFailed
from dao.json_input import fields_of, list_of, parse, whole_number
from dao.leaves import NULL_WH, leaf_of
from dao.node import Addresses
from dao.slots import slot_start
from meters.leaves import month_at, proofs_of, record_leaf, salt_of, stored_record_salt
from meters.readings import MAX_WH, Quality, Reading
from meters.secrets import ErasedSecret, MonthSecrets, month_name, secrets_of
from meters.signing import reading_separator

if TYPE_CHECKING:
    from meters.lake import BatchFile, Lake, LakeLike, StoredBatch

FORMAT = "gridcommons disclosure 1"
MAX_SLOTS = 40_000
"""Of one file: more than a year."""
MAX_BYTES = 1 << 28
MAX_PATH = 64


@dataclass(frozen=True)
class Root:
    """A batch that slots are opened of."""

    first_slot: int
    slots: int
    version: int
    root: bytes


@dataclass(frozen=True)
class OpenedRecord:
    """An edit record with what proves it."""

    canonical: bytes
    salt: bytes
    path: tuple[bytes, ...]


@dataclass(frozen=True)
class OpenedSlot:
    """One slot with what proves it: `batch` is an index into the roots, `edits` the number of
    edit records behind the value, opened or not."""

    reading: Reading
    salt: bytes
    batch: int
    path: tuple[bytes, ...]
    edits: int = 0
    records: tuple[OpenedRecord, ...] = ()


@dataclass(frozen=True)
class Disclosure:
    """Some slots of one home, opened."""

    addresses: Addresses
    zone: int
    meter: int
    roots: tuple[Root, ...]
    slots: tuple[OpenedSlot, ...]

    @property
    def separator(self) -> bytes:
        """The EIP-712 domain that the device signed in."""
        return reading_separator(self.addresses.chain_id, self.addresses["MeterRegistry"])


# Making one


def zone_of(lake: LakeLike, meter: int) -> int:
    """The zone whose batches have rows of a meter. CheckFailed where none has."""
    from meters.lake import Lake

    held = Lake.of(lake)
    for zone in held.zones():
        for file in reversed(held.zone_batches(zone)):
            if _has_meter(held, file, meter):
                return zone
            break
    for zone in held.zones():
        if any(_has_meter(held, file, meter) for file in held.zone_batches(zone)):
            return zone
    raise CheckFailed(f"the lake has no rows of meter {meter}")


def _has_meter(lake: Lake, file: BatchFile, meter: int) -> bool:
    import pyarrow.parquet as pq

    with lake.reading(file.path) as source:
        table = pq.read_table(source, columns=["meter"], filters=[("meter", "==", meter)])
    return bool(table.num_rows)


def disclose(
    lake: LakeLike,
    secrets: MonthSecrets,
    addresses: Addresses,
    zone: int,
    meter: int,
    slots: Iterable[int],
    *,
    with_records: bool = False,
) -> Disclosure:
    """Open these slots of a meter, and no other.

    with_records: also the edit records behind edited values; they quote the slots that the value
    was made from, so they open more. CheckFailed for a slot that is not in the lake, that has no
    row of the meter, that was erased, or that the secrets do not open.
    """
    from meters.lake import batch_files, read_batch

    wanted = sorted(set(slots))
    if not wanted:
        raise BadUse("no slot to disclose was named")
    if len(wanted) > MAX_SLOTS:
        raise BadUse(f"a disclosure opens at most {MAX_SLOTS:,} slots, not {len(wanted):,}")
    separator = reading_separator(addresses.chain_id, addresses["MeterRegistry"])
    roots: list[Root] = []
    opened: list[OpenedSlot] = []
    for file in batch_files(lake, zone, wanted[0], wanted[-1] - wanted[0] + 1):
        here = [slot for slot in wanted if file.first_slot <= slot < file.end_slot]
        if not here:
            continue
        stored = read_batch(file.path, lake, separator=separator)
        opened += _opened(stored, secrets, meter, here, len(roots), with_records)
        roots.append(Root(file.first_slot, file.slots, file.version, stored.root()))
    found = {one.reading.slot for one in opened}
    absent = [slot for slot in wanted if slot not in found]
    if absent:
        raise CheckFailed(
            f"the lake of zone {zone} has no row of meter {meter} for slot {absent[0]} "
            f"({slot_start(absent[0]):%Y-%m-%d %H:%M} UTC)"
        )
    return Disclosure(addresses, zone, meter, tuple(roots), tuple(opened))


def _opened(
    stored: StoredBatch,
    secrets: MonthSecrets,
    meter: int,
    slots: Sequence[int],
    batch: int,
    with_records: bool,
) -> list[OpenedSlot]:
    rows = stored.readings
    mine = np.flatnonzero((rows.meter == meter) & np.isin(rows.slot, slots)).tolist()
    places = {int(rows.slot[row]): row for row in mine}
    picked = list(places.values())
    for slot, row in places.items():
        if stored.erased[row]:
            raise CheckFailed(
                f"meter {meter}'s values of {month_name(month_at(slot))} were erased: nothing of "
                "them can be opened"
            )
    records = {row: (stored.record_rows == row).nonzero()[0].tolist() for row in picked}
    hashes = [len(stored.leaves) + at for found in records.values() for at in found]
    indices = [*picked, *(hashes if with_records else ())]
    proofs = dict(zip(indices, proofs_of(stored.tree, indices), strict=True))
    known = secrets_of(secrets, {(meter, month_at(slot)) for slot in places})
    opened = []
    for reading, row in zip(rows.take(np.array(picked, dtype=np.int64)), picked, strict=True):
        salt = salt_of(known[meter, month_at(reading.slot)], reading.slot)
        if leaf(reading, salt) != stored.leaves[row]:
            raise CheckFailed(
                f"the secrets do not open slot {reading.slot} of meter {meter}: they are another "
                "zone's, or the lake was changed"
            )
        found = [] if not with_records else _records(stored, secrets, meter, records[row], proofs)
        path = tuple(proofs[row])
        opened.append(OpenedSlot(reading, salt, batch, path, len(records[row]), tuple(found)))
    return opened


def _records(
    stored: StoredBatch,
    secrets: MonthSecrets,
    meter: int,
    places: Sequence[int],
    proofs: Mapping[int, list[bytes]],
) -> list[OpenedRecord]:
    found = []
    for index, place in enumerate(places):
        canonical = stored.records[place]
        if canonical is None:
            continue  # a slot that it quoted was erased, and the record with it
        slot = int(stored.readings.slot[stored.record_rows[place]])
        try:
            salt = stored_record_salt(canonical, meter, slot, index, secrets)
        except ErasedSecret:
            continue  # it reaches over a month that was erased
        if record_leaf(canonical, salt) != stored.record_leaves[place]:
            raise CheckFailed(f"the secrets do not open an edit record of slot {slot}")
        found.append(OpenedRecord(canonical, salt, tuple(proofs[len(stored.leaves) + place])))
    return found


def leaf(reading: Reading, salt: bytes) -> bytes:
    """The reading's leaf under a salt, 32 bytes."""
    imported, exported = (
        NULL_WH if value is None else value for value in (reading.import_wh, reading.export_wh)
    )
    return leaf_of(reading.meter, reading.slot, imported, exported, int(reading.quality), salt)


# As a document


def document(disclosure: Disclosure) -> dict[str, Any]:
    """The disclosure as JSON holds it."""
    return {
        "format": FORMAT,
        "chain_id": disclosure.addresses.chain_id,
        "ledger": disclosure.addresses["ReadingLedger"],
        "registry": disclosure.addresses["MeterRegistry"],
        "zone": disclosure.zone,
        "meter": disclosure.meter,
        "batches": [
            {
                "first_slot": root.first_slot,
                "slots": root.slots,
                "version": root.version,
                "root": _hex(root.root),
            }
            for root in disclosure.roots
        ],
        "slots": [_slot_document(one) for one in disclosure.slots],
    }


def _slot_document(one: OpenedSlot) -> dict[str, Any]:
    reading = one.reading
    signed = bool(reading.signature)
    return {
        "slot": reading.slot,
        "start": f"{slot_start(reading.slot):%Y-%m-%dT%H:%M:%SZ}",
        "import_wh": reading.import_wh,
        "export_wh": reading.export_wh,
        "quality": reading.quality.name.lower(),
        "salt": _hex(one.salt),
        "batch": one.batch,
        "path": [_hex(step) for step in one.path],
        "signature": _hex(reading.signature) if signed else None,
        "sequence": reading.sequence if signed else None,
        "previous": _hex(reading.previous) if signed else None,
        "edits": one.edits,
        "records": [
            {
                "record": record.canonical.decode(),
                "salt": _hex(record.salt),
                "path": [_hex(step) for step in record.path],
            }
            for record in one.records
        ],
    }


def _hex(raw: bytes) -> str:
    return "0x" + raw.hex()


def read(data: bytes, name: str) -> Disclosure:
    """A disclosure from the bytes of a file. BadUse for anything else, naming what is wrong."""
    try:
        return _parsed(parse(data, MAX_BYTES))
    except ValueError as error:
        raise BadUse(f"{name} is no disclosure: {error}") from None


def _parsed(given: Any) -> Disclosure:
    fields = fields_of(
        given,
        "the document",
        {"format", "chain_id", "ledger", "registry", "zone", "meter", "batches", "slots"},
    )
    if fields["format"] != FORMAT:
        raise ValueError(f'its format is not "{FORMAT}"')
    roots = tuple(_root(entry) for entry in list_of(fields["batches"], "batches", MAX_SLOTS))
    meter = whole_number(fields["meter"], "meter", 1, 2**32 - 1)
    slots = tuple(
        _slot(entry, meter, roots) for entry in list_of(fields["slots"], "slots", MAX_SLOTS)
    )
    numbers = [one.reading.slot for one in slots]
    if not numbers or numbers != sorted(set(numbers)):
        raise ValueError("its slots are not each one once, in order")
    contracts = {
        "ReadingLedger": _address(fields["ledger"], "ledger"),
        "MeterRegistry": _address(fields["registry"], "registry"),
    }
    return Disclosure(
        Addresses(whole_number(fields["chain_id"], "chain_id", 1, 2**64 - 1), contracts),
        whole_number(fields["zone"], "zone", 1, 1_023),
        meter,
        roots,
        slots,
    )


def _root(entry: Any) -> Root:
    fields = fields_of(entry, "a batch", {"first_slot", "slots", "version", "root"})
    return Root(
        whole_number(fields["first_slot"], "first_slot", 0, 2**40),
        whole_number(fields["slots"], "slots", 1, 96),
        whole_number(fields["version"], "version", 1, 2),
        _bytes(fields["root"], "root", 32),
    )


def _slot(entry: Any, meter: int, roots: Sequence[Root]) -> OpenedSlot:
    named = {"slot", "start", "import_wh", "export_wh", "quality", "salt", "batch", "path"}
    fields = fields_of(
        entry, "a slot", named | {"signature", "sequence", "previous", "edits", "records"}
    )
    batch = whole_number(fields["batch"], "batch", 0, len(roots) - 1)
    root = roots[batch]
    slot = whole_number(fields["slot"], "slot", root.first_slot, root.first_slot + root.slots - 1)
    names = {quality.name.lower(): quality for quality in Quality}
    if not isinstance(fields["quality"], str) or fields["quality"] not in names:
        raise ValueError(f"a quality is one of {', '.join(names)}")
    if fields["start"] != f"{slot_start(slot):%Y-%m-%dT%H:%M:%SZ}":
        raise ValueError(f"slot {slot} does not start at {str(fields['start'])[:40]}")
    signed = fields["signature"] is not None
    reading = Reading(
        meter,
        slot,
        _energy(fields["import_wh"], "import_wh"),
        _energy(fields["export_wh"], "export_wh"),
        names[fields["quality"]],
        _bytes(fields["signature"], "signature", 65) if signed else b"",
        whole_number(fields["sequence"], "sequence", 0, 2**63 - 1) if signed else 0,
        _bytes(fields["previous"], "previous", 32) if signed else bytes(32),
    )
    records = tuple(_record(one) for one in list_of(fields["records"], "records", 64))
    edits = whole_number(fields["edits"], "edits", len(records), 64)
    salt, path = _bytes(fields["salt"], "salt", 32), _path(fields["path"])
    return OpenedSlot(reading, salt, batch, path, edits, records)


def _record(entry: Any) -> OpenedRecord:
    fields = fields_of(entry, "a record", {"record", "salt", "path"})
    if not isinstance(fields["record"], str):
        raise ValueError("a record is a text")
    canonical = fields["record"].encode()
    return OpenedRecord(canonical, _bytes(fields["salt"], "salt", 32), _path(fields["path"]))


def _energy(value: Any, name: str) -> int | None:
    return None if value is None else whole_number(value, name, 0, MAX_WH)


def _bytes(value: Any, name: str, width: int) -> bytes:
    if not isinstance(value, str) or not re.fullmatch(f"0x[0-9a-f]{{{2 * width}}}", value):
        raise ValueError(f"{name} is 0x and {2 * width} hex digits in small letters")
    return bytes.fromhex(value[2:])


def _path(value: Any) -> tuple[bytes, ...]:
    return tuple(_bytes(step, "a step of a path", 32) for step in list_of(value, "path", MAX_PATH))


def _address(value: Any, name: str) -> str:
    return checksum_address(_bytes(value.lower() if isinstance(value, str) else value, name, 20))
