# SPDX-License-Identifier: Apache-2.0
"""Whether the edit records of a batch file lead from what devices signed to what is committed.

Needs the file and nothing else. That the file's leaves are those of the root on chain, and that the
signatures are by the right keys, is checked elsewhere (`meters/lake`, `meters/disclosure.py`).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from dao.errors import BadUse, GridCommonsError
from meters.lake import StoredBatch
from meters.readings import NULL_WH, Quality
from meters.vee.records import EditRecord, replay, values_of


@dataclass(frozen=True)
class Replayed:
    """rules: how many records of each rule; erased: records that were erased with their month;
    rows: edited rows; problems: one line each, none where all is well.

    unseen: numbers of the meters' chains that neither a row nor a record shows, between the first
    and the last of each meter: a reading was corrected, went to another batch, or was left out.
    """

    rules: dict[str, int]
    rows: int
    erased: int
    unseen: int
    problems: tuple[str, ...]


def replay_batch(stored: StoredBatch) -> Replayed:
    """Compute every edit of a batch again, and hold it against the rows."""
    rows = stored.readings
    counts: Counter[str] = Counter()
    problems: list[str] = []
    erased = 0
    shares: dict[tuple[int, int, int], list[EditRecord]] = {}
    steps: dict[int, list[EditRecord]] = {}
    unreadable: set[int] = set()
    for row, data in zip(stored.record_rows.tolist(), stored.records, strict=True):
        if data is None:
            erased += 1
            unreadable.add(row)
            continue
        where = f"meter {rows.meter[row]}, slot {rows.slot[row]}"
        try:
            record = EditRecord.parse(data)
            if (record.meter, record.slot) != (rows.meter[row], rows.slot[row]):
                raise BadUse(f"the record is of meter {record.meter}, slot {record.slot}")
            result = replay(record)
        except GridCommonsError as error:
            problems.append(f"{where}: {error}")
            unreadable.add(row)
            continue
        counts[record.rule] += 1
        if result != record.result:
            problems.append(f"{where}: the rule {record.rule} gives another result than recorded")
        if record.rule == "gap_energy":
            gap = (record.meter, record.inputs["first"], record.inputs["slots"])
            shares.setdefault(gap, []).append(record)
        steps.setdefault(row, []).append(record)
    for row, records in steps.items():
        if row not in unreadable:
            problems += _row_problems(stored, row, records)
    problems += _unrecorded(stored)
    problems += _share_problems(stored, shares)
    unseen = _unseen(stored, [record for records in steps.values() for record in records])
    return Replayed(dict(sorted(counts.items())), len(steps), erased, unseen, tuple(problems))


def _unseen(stored: StoredBatch, records: list[EditRecord]) -> int:
    """Numbers left out of the meters' chains; a meter with an erased row says nothing."""
    rows = stored.readings
    told = [(r.meter, r.inputs["signed"]["sequence"]) for r in records if r.inputs.get("signed")]
    more = np.array(told, dtype=np.int64).reshape(-1, 2)
    signed = rows.signature.any(axis=1)
    meters = np.concatenate([rows.meter[signed], more[:, 0]])
    numbers = np.concatenate([rows.sequence[signed], more[:, 1]])
    kept = ~np.isin(meters, rows.meter[stored.erased])
    pairs = np.unique(np.stack([meters[kept], numbers[kept]], axis=1), axis=0)
    step = np.diff(pairs[:, 1])
    same = pairs[1:, 0] == pairs[:-1, 0]
    return int((step[same] - 1).sum())


def _row_problems(stored: StoredBatch, row: int, records: list[EditRecord]) -> list[str]:
    """The steps of a row lead from a value to the next, and the last to the row's own."""
    rows = stored.readings
    where = f"meter {rows.meter[row]}, slot {rows.slot[row]}"
    problems = [
        f"{where}: a step begins with another value than the one before ended with"
        for one, next_one in pairwise(records)
        if one.result != next_one.before
    ]
    held = values_of(rows.import_wh[row], rows.export_wh[row], rows.quality[row])
    if records[-1].result != held:
        problems.append(f"{where}: the row holds another value than its records give")
    is_signed = bool(rows.signature[row].any())
    if is_signed != (records[-1].rule == "estimated_at_source"):
        problems.append(f"{where}: an edited row carries no signature, one that was kept does")
    return problems


def _unrecorded(stored: StoredBatch) -> list[str]:
    """A row that nobody signed has values only by its records."""
    rows = stored.readings
    has_value = (rows.import_wh != NULL_WH) | (rows.export_wh != NULL_WH)
    edited = np.zeros(len(rows), dtype=bool)
    edited[stored.record_rows] = True
    marked = np.isin(rows.quality, (Quality.ESTIMATED, Quality.SUBSTITUTED))
    loose = ~stored.erased & ~edited & ((~rows.signature.any(axis=1) & has_value) | marked)
    return [
        f"meter {rows.meter[row]}, slot {rows.slot[row]}: a value without a signature or an edit "
        "record"
        for row in np.flatnonzero(loose).tolist()
    ]


def _share_problems(
    stored: StoredBatch, shares: dict[tuple[int, int, int], list[EditRecord]]
) -> list[str]:
    """The parts of a gap's energy follow each other without a gap or an overlap."""
    rows = stored.readings
    gone = stored.record_rows[[data is None for data in stored.records]]
    incomplete = {*rows.meter[stored.erased].tolist(), *rows.meter[gone].tolist()}
    problems = []
    for (meter, first, slots), records in shares.items():
        where = f"meter {meter}, slots {first}..{first + slots - 1}"
        if len(records) != slots or [r.slot for r in records] != list(range(first, first + slots)):
            # A gap lies within one batch; but a part of it may have been erased.
            if meter not in incomplete:
                problems.append(f"{where}: not every slot has its part of the energy")
            continue
        for channel in (0, 1):
            parts = [(r.inputs["energy"][channel], r.inputs["weights"][channel]) for r in records]
            energies = {energy for energy, _ in parts}
            sums = [weights for _, weights in parts if weights is not None]
            if energies == {None} and not sums:
                continue
            joined = len(sums) == slots and all(
                one[1] == next_one[0] and one[2] == next_one[2] for one, next_one in pairwise(sums)
            )
            if len(energies) != 1 or not joined or sums[0][0] != 0 or sums[-1][1] != sums[-1][2]:
                problems.append(f"{where}: the parts do not add up to the energy of the gap")
    return problems
