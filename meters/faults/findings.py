# SPDX-License-Identifier: Apache-2.0
"""What looks like tampering or a fault in a zone's committed rows and in its collector's evidence.

Each finding names the slots that it rests on; only those are opened. Nothing here accuses anybody:
a value that stands still has many causes, and a dossier says what was seen.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dao.errors import BadUse, CheckFailed
from dao.slots import SLOT_SECONDS, SLOTS_PER_DAY
from meters import frames
from meters.lake import LakeLike, batch_files, read_batch
from meters.readings import NULL_WH, Reading, Readings
from meters.signing import digests, recover_all
from meters.vee.flags import (
    CLEAR_DAYS,
    CLEAR_SHARE,
    FLAGS,
    FROZEN_SLOTS,
    MIDDAY_LEAST_WH,
    MIDDAY_SLOTS,
    Flag,
    batch_flags,
    day_flags,
)
from meters.vee.history import IntArray, LakeHistory
from meters.vee.signs import PAST_DAYS
from meters.vee.table import Table, known

DeviceAt = Callable[[int, int], bytes]
"""(meter, unix seconds) to the 20-byte address of the device registered then; zeros for none."""

KINDS: Mapping[str, str] = {
    "frozen": FLAGS["frozen"],
    "dead_inverter": "no export on a clear midday, while all others together did",
    "signature": "signed, but not by the meter's device key of that time",
    "gap": "numbers of the meter's chain that never arrived",
    "fork": "two readings of one device under one number",
    "link": "two readings of one device in a row that do not fit each other",
}
"""Kind of finding and what it says."""


@dataclass(frozen=True, order=True)
class Finding:
    """What was found of a meter in slots [first_slot, first_slot + slots).

    opened: the slots that it rests on. records: signed readings that are in no batch, as in a
    frame; numbers: of a `gap`, the first and the last that never arrived.
    """

    meter: int
    kind: str
    first_slot: int
    slots: int
    opened: tuple[int, ...] = ()
    records: tuple[bytes, ...] = ()
    numbers: tuple[int, int] | None = None

    @property
    def message(self) -> str:
        where = f"slot {self.first_slot}"
        if self.slots > 1:
            where = f"slots {self.first_slot}..{self.first_slot + self.slots - 1}"
        return f"meter {self.meter}, {where}: {self.kind}: {KINDS[self.kind]}"


@dataclass(frozen=True)
class Rows:
    """A zone's committed rows of a time. wh: (meters, slots); signed: all rows with a signature."""

    meters: IntArray
    first_slot: int
    import_wh: IntArray
    export_wh: IntArray
    quality: IntArray
    signed: Readings

    @property
    def slots(self) -> int:
        return int(self.import_wh.shape[1])

    @property
    def measured(self) -> npt.NDArray[np.bool_]:
        """Where both import and export were measured."""
        both: npt.NDArray[np.bool_] = (
            known(self.import_wh, self.export_wh, self.quality)
            & (self.import_wh != NULL_WH)
            & (self.export_wh != NULL_WH)
        )
        return both


def read_rows(lake: LakeLike, zone: int, first_slot: int, slots: int, separator: bytes) -> Rows:
    """The newest committed rows of the zone. CheckFailed where a slot of the time is not there."""
    files = batch_files(lake, zone, first_slot, slots)
    at = first_slot
    signed, meters = [], []
    for file in files:
        if file.first_slot > at:
            break
        rows = read_batch(file.path, lake, separator=separator).readings
        meters.append(np.unique(rows.meter))
        inside = (rows.slot >= first_slot) & (rows.slot < first_slot + slots)
        signed.append(rows.take(inside & rows.signature.any(axis=1)))
        at = file.first_slot + file.slots
    if at < first_slot + slots:
        raise CheckFailed(f"the lake of zone {zone} has no batch with slot {at}")
    everyone = np.unique(np.concatenate(meters))
    columns = LakeHistory(lake, zone).block(everyone, first_slot, slots)
    return Rows(everyone, first_slot, *columns, Readings.concat(signed))


def find(
    rows: Rows,
    history: LakeHistory,
    *,
    separator: bytes,
    device_at: DeviceAt | None = None,
    inbox: Path | None = None,
    meters: Iterable[int] | None = None,
) -> list[Finding]:
    """Everything that is found, in the order of meters.

    device_at: without it signatures are not looked at; inbox: a collector's, for gaps and forks;
    meters: of these only.
    """
    found = [*_flagged(rows, history)]
    if device_at is not None:
        found += _signatures(rows, separator, device_at)
    if inbox is not None:
        found += _inbox_findings(rows, inbox)
    if meters is not None:
        wanted = set(meters)
        found = [finding for finding in found if finding.meter in wanted]
    return sorted(found, key=lambda one: (one.meter, one.kind, one.first_slot, one.opened))


# values


def _flagged(rows: Rows, history: LakeHistory) -> Iterator[Finding]:
    whole = Table(rows.meters, rows.first_slot, rows.import_wh, rows.export_wh, rows.quality)
    for flag in batch_flags(whole, history):
        first = max(flag.first_slot, rows.first_slot)
        if flag.first_slot + flag.slots - first >= FROZEN_SLOTS:
            yield Finding(
                flag.meter, "frozen", first, FROZEN_SLOTS, tuple(range(first, first + FROZEN_SLOTS))
            )
    first_day = -(-rows.first_slot // SLOTS_PER_DAY)
    for day in range(first_day, (rows.first_slot + rows.slots) // SLOTS_PER_DAY):
        first = day * SLOTS_PER_DAY
        at = slice(first - rows.first_slot, first - rows.first_slot + SLOTS_PER_DAY)
        columns = (column[:, at] for column in (rows.import_wh, rows.export_wh, rows.quality))
        table = Table(rows.meters, first, *columns)
        for flag in day_flags(table, history):
            if flag.rule == "dead_inverter":
                yield from _dead_inverter(flag, table, history)


def _dead_inverter(flag: Flag, day: Table, history: LakeHistory) -> Iterator[Finding]:
    """The midday of the day, and of the earlier days that were the clearest."""
    total = _exported(day.export_wh)
    midday = np.sort(np.argsort(-total, kind="stable")[:MIDDAY_SLOTS])
    row = int(np.searchsorted(day.meters, flag.meter))
    days = []
    for back in range(1, PAST_DAYS + 1):
        first = day.first_slot - back * SLOTS_PER_DAY
        past = history.block(day.meters, first, SLOTS_PER_DAY)
        home = past[1][row, midday]
        if (
            known(*past)[row, midday].all()
            and (home != NULL_WH).all()
            and home.sum() >= MIDDAY_LEAST_WH * MIDDAY_SLOTS
        ):
            days.append((int(_exported(past[1])[midday].sum() - home.sum()), -back))
    clearest = sorted(days, reverse=True)[:CLEAR_DAYS]
    if len(clearest) < CLEAR_DAYS or not is_clear(int(total[midday].sum()), clearest[0][0]):
        return
    backs = [0, *(-back for _, back in clearest)]
    slots = [int(day.first_slot + at) for at in midday]
    opened = sorted(slot - back * SLOTS_PER_DAY for back in backs for slot in slots)
    yield Finding(flag.meter, "dead_inverter", slots[0], slots[-1] - slots[0] + 1, tuple(opened))


def is_clear(exported: int, best: int) -> bool:
    """Whether what all others exported over a midday is that of a clear day, beside the best one
    before it."""
    return exported > 0 and exported * CLEAR_SHARE[1] >= best * CLEAR_SHARE[0]


def _exported(export_wh: IntArray) -> IntArray:
    """The zone's export as it stands on the ledger: what is unknown adds nothing."""
    total: IntArray = np.where(export_wh == NULL_WH, 0, export_wh).sum(axis=0)
    return total


# signatures


def _signatures(rows: Rows, separator: bytes, device_at: DeviceAt) -> Iterator[Finding]:
    """Rows that were signed by another key than the device's of their time."""
    asked = lru_cache(maxsize=None)(device_at)
    found = recover_all(digests(separator, rows.signed), rows.signed.signature)
    order = np.lexsort((rows.signed.slot, rows.signed.meter)).tolist()
    meters, slots = rows.signed.meter.tolist(), rows.signed.slot.tolist()
    for run in _runs(order, meters, found):
        # A key's validity is one stretch of time: its ends answer for what lies between them.
        if all(is_device(asked, meters[at], slots[at], found[at]) for at in (run[0], run[-1])):
            continue
        for at in run:
            if not is_device(asked, meters[at], slots[at], found[at]):
                yield Finding(meters[at], "signature", slots[at], 1, (slots[at],))


def is_device(device_at: DeviceAt, meter: int, slot: int, address: bytes) -> bool:
    """Whether the address is that of the device key which must have signed the slot."""
    return bool(address) and address == device_at(meter, (slot + 1) * SLOT_SECONDS - 1)


def _runs(order: Sequence[int], meters: Sequence[int], found: Sequence[bytes]) -> list[list[int]]:
    """Rows in a row of one meter and one signer."""
    runs: list[list[int]] = []
    for at in order:
        if runs and meters[runs[-1][-1]] == meters[at] and found[runs[-1][-1]] == found[at]:
            runs[-1].append(at)
        else:
            runs.append([at])
    return runs


# the collector's evidence


def _inbox_findings(rows: Rows, inbox: Path) -> Iterator[Finding]:
    evidence, gaps = read_inbox(inbox)
    end = rows.first_slot + rows.slots
    for meter, record, other in evidence:
        if other is None:
            continue  # half of a contradiction proves nothing
        one, two = reading_of(record), reading_of(other)
        first, last = sorted((one.slot, two.slot))
        if rows.first_slot <= first and last < end:
            kind = "fork" if one.sequence == two.sequence else "link"
            yield Finding(meter, kind, first, last - first + 1, records=(record, other))
    signed = rows.signed
    for meter, first_number, last_number in gaps:
        mine = np.flatnonzero(signed.meter == meter)
        places = [
            mine[signed.sequence[mine] == number] for number in (first_number - 1, last_number + 1)
        ]
        if all(len(place) == 1 for place in places):
            ends = sorted(int(signed.slot[place[0]]) for place in places)
            numbers = (first_number, last_number)
            opened = tuple(sorted(set(ends)))
            yield Finding(meter, "gap", ends[0], ends[1] - ends[0] + 1, opened, numbers=numbers)


def read_inbox(
    path: Path,
) -> tuple[list[tuple[int, bytes, bytes | None]], list[tuple[int, int, int]]]:
    """A collector's evidence (meter, record, the record it contradicts) and the gaps of its chains
    (meter, first and last number), while it may be at work. BadUse where the file is no inbox."""
    if not path.is_file():
        raise BadUse(f"there is no inbox {path}")
    try:
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as db:
            evidence = db.execute(
                "SELECT meter, record, other FROM evidence ORDER BY meter, rule, number"
            ).fetchall()
            gaps = db.execute("SELECT meter, first, last FROM gap ORDER BY meter, first").fetchall()
    except sqlite3.Error as error:
        raise BadUse(f"{path} is not a collector's inbox: {error}") from None
    return evidence, gaps


def reading_of(record: bytes) -> Reading:
    """One reading as a frame holds it. BadUse for other bytes."""
    (reading,) = frames.readings_of(record)
    return reading
