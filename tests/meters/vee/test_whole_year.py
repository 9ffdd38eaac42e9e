# SPDX-License-Identifier: Apache-2.0
"""A clean year stays as it is, and 1,000 random faults in it: what is found, what is not.

The figures are written down in docs/vee.md; the bounds here are a little below them.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np

from dao.slots import SLOTS_PER_DAY
from meters.profiles import ZoneProfiles
from meters.readings import NULL_WH
from meters.vee.edit import Editor
from meters.vee.history import ReadingsHistory
from meters.vee.records import replay
from tests.meters.vee.conftest import FIRST
from tests.meters.vee.zone import CAPACITY_W, FAULTS, FLAGGED, MENDED, copy_of, inject, rows_of

EDITOR = Editor(capacity_w=CAPACITY_W)
BEGIN_DAY = 28
FAULT_COUNT = 1_000

# Found per kind of fault, in percent, from docs/vee.md and rounded down.
AT_LEAST = {
    **dict.fromkeys(MENDED, 100),
    "one value ten times": 5,
    "ten times for a day": 70,
    "frozen for 6 h or more": 80,
    "swapped for a day": 85,
    "dead inverter, one day": 10,
    "clock off by 1 or 2 h": 5,
}


def test_a_clean_year_is_not_touched_and_raises_hardly_a_flag(
    year: ZoneProfiles, history: ReadingsHistory
) -> None:
    flags: Counter[str] = Counter()
    for day in range(BEGIN_DAY, year.slots // SLOTS_PER_DAY):
        rows = rows_of(year, FIRST + day * SLOTS_PER_DAY, SLOTS_PER_DAY)
        # What only a day shows takes as long as all the rest: every fourth day will do.
        edited = replace(EDITOR, with_day_flags=day % 4 == 0)(rows, history)
        assert edited.readings is rows
        assert edited.records == ()
        flags.update(flag.rule for flag in edited.flags)
    # 118 homes, 84 days: fewer than one flag in 1,500 days of a home.
    assert sum(flags.values()) <= 6, flags


def test_random_faults_are_found_as_often_as_the_docs_say(
    year: ZoneProfiles, history: ReadingsHistory
) -> None:
    random = np.random.default_rng(1)
    kinds = list(FAULTS)
    made: Counter[str] = Counter()
    found: Counter[str] = Counter()
    elsewhere: Counter[str] = Counter()
    missed_wh, true_wh, drift_wh = Counter[str](), Counter[str](), Counter[str]()
    while made.total() < FAULT_COUNT:
        day = int(random.integers(BEGIN_DAY, year.slots // SLOTS_PER_DAY))
        clean = rows_of(year, FIRST + day * SLOTS_PER_DAY, SLOTS_PER_DAY)
        bad = copy_of(clean)
        meters = random.choice(np.arange(1, len(year.homes) + 1), 24, replace=False)
        faults = {}
        for meter in meters.tolist():
            fault = inject(bad, SLOTS_PER_DAY, meter, str(random.choice(kinds)), random)
            if fault is not None:
                faults[meter] = fault
        edited = EDITOR(bad, history)
        usual = {(flag.meter, flag.rule) for flag in EDITOR(clean, history).flags}
        flagged = {(flag.meter, flag.rule) for flag in edited.flags}
        touched: dict[int, set[int]] = {meter: set() for meter in range(1, len(year.homes) + 1)}
        for record in edited.records:
            assert replay(record) == record.result
            touched[record.meter].add((record.slot - FIRST) % SLOTS_PER_DAY)
        for meter, columns in touched.items():
            fault = faults.get(meter)
            if fault is None:
                assert not columns, "a sound home was edited"
                continue
            made[fault.kind] += 1
            if fault.kind in MENDED:
                assert columns == set(range(fault.first, fault.end)), fault
                found[fault.kind] += 1
                at = np.arange(fault.first, fault.end) + (meter - 1) * SLOTS_PER_DAY
                assert (edited.readings.import_wh[at] != NULL_WH).all()
                true = clean.import_wh[at] - clean.export_wh[at]
                error = edited.readings.import_wh[at] - edited.readings.export_wh[at] - true
                missed_wh[fault.kind] += int(np.abs(error).sum())
                true_wh[fault.kind] += int(np.abs(true).sum())
                drift_wh[fault.kind] += int(error.sum())
            else:
                if columns:
                    assert fault.kind == "swapped for a day", fault
                found[fault.kind] += bool(columns) or (meter, FLAGGED[fault.kind]) in flagged
        for meter, rule in flagged - usual:
            # A fault may raise another flag than its own, on the very same home, and many faults
            # in a day one on a neighbour that is compared with them.
            if meter not in faults:
                elsewhere["a sound home"] += 1
            elif FLAGGED.get(faults[meter].kind) != rule:
                elsewhere[rule] += 1

    table = {kind: (made[kind], 100 * found[kind] // made[kind]) for kind in kinds}
    errors = {
        kind: (
            round(100 * missed_wh[kind] / true_wh[kind]),
            round(100 * drift_wh[kind] / true_wh[kind]),
        )
        for kind in MENDED
    }
    print(table, errors, elsewhere)
    assert all(share >= AT_LEAST[kind] for kind, (_, share) in table.items()), table
    assert elsewhere["a sound home"] <= 5, elsewhere
    assert elsewhere.total() <= 40, elsewhere
