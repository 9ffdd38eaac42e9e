# SPDX-License-Identifier: Apache-2.0
"""What the operator's tables have to satisfy: sums that the ledger knows, and groups large enough.

They rest on the operator's word; a word that contradicts the ledger or itself is caught here, and
one that was changed after it was given by the anchor.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from dao.audit.scope import Scope
from dao.slots import day_of

if TYPE_CHECKING:
    import pyarrow as pa

MIN_HOMES = 15
"""Of any group that is shown; as the ledger has it for the whole zone."""
QUALITIES = ("measured", "estimated", "substituted", "missing", "invalid", "erased")
_SUMS = ("import_wh", "export_wh", "sold_wh", "bought_wh", "taken_wh")


def fault_of_operator(tables: Mapping[str, pa.Table], scope: Scope) -> str | None:
    """The first thing that does not fit, None where all does."""
    for check in (_contents, _quality, _edits, _groups, _promises):
        if (fault := check(tables, scope)) is not None:
            return fault
    return None


def _contents(tables: Mapping[str, pa.Table], scope: Scope) -> str | None:
    told = {row["first_slot"]: row for row in tables["contents"].to_pylist()}
    if not told:
        return None
    if len(told) != tables["contents"].num_rows:
        return "data/contents.parquet: a batch stands twice"
    newest = [row for row in tables["batches"].to_pylist() if row["newest"]]
    for batch in newest:
        row = told.pop(batch["first_slot"], None)
        where = f"data/contents.parquet: batch {batch['first_slot']}"
        if row is None:
            return f"{where} is missing"
        if row["slots"] != batch["slots"]:
            return f"{where} has other slots than on the ledger"
        if row["rows"] + row["records"] != batch["leaves"]:
            return (
                f"{where}: rows and records are {row['rows'] + row['records']}, the ledger has "
                f"{batch['leaves']} leaves"
            )
        if not 0 <= row["erased"] <= row["rows"] or row["records"] < 0:
            return f"{where}: more rows erased than there are"
    if told:
        return f"data/contents.parquet: batch {min(told)} is not on the ledger"
    return None


def _quality(tables: Mapping[str, pa.Table], scope: Scope) -> str | None:
    rows = tables["quality"].to_pylist()
    if not rows:
        return "data/quality.parquet is empty" if tables["contents"].num_rows else None
    slots = [row["slot"] for row in rows]
    period = scope.period
    if slots != list(range(period.first_slot, period.end_slot)):
        return "data/quality.parquet does not hold each slot of the period once, in order"
    for row in rows:
        where = f"data/quality.parquet: slot {row['slot']}"
        counts = [row[name] for name in QUALITIES]
        if row["meters"] < MIN_HOMES:
            if any(count is not None for count in counts):
                return f"{where} shows a group of {row['meters']}"
        elif any(count is None or count < 0 for count in counts) or sum(counts) != row["meters"]:
            return f"{where}: the counts do not sum to its {row['meters']} metering points"
    held = sum(row["rows"] for row in tables["contents"].to_pylist())
    found = sum(row["meters"] for row in rows)
    # A batch may reach beyond the period.
    if found > held:
        return f"data/quality.parquet counts {found} readings, the batches hold {held}"
    return None


def _edits(tables: Mapping[str, pa.Table], scope: Scope) -> str | None:
    records = sum(row["records"] for row in tables["edits"].to_pylist())
    held = sum(row["records"] for row in tables["contents"].to_pylist())
    if records > held or any(row["records"] <= 0 for row in tables["edits"].to_pylist()):
        return f"data/edits.parquet tells of {records} records, the batches hold {held}"
    return None


def _groups(tables: Mapping[str, pa.Table], scope: Scope) -> str | None:
    days: dict[str, list[dict[str, int | None]]] = defaultdict(list)
    for row in tables["groups"].to_pylist():
        days[row["day"]].append(row)
    if not days:
        return None
    first = scope.period.first_slot
    slots = tables["slots"]
    place = {
        day_of(first + 96 * at).isoformat(): slice(96 * at, 96 * at + 96)
        for at in range(scope.period.slots // 96)
    }
    totals = {name: np.asarray(slots[name]) for name in ("import_wh", "export_wh")}
    for day, rows in sorted(days.items()):
        where = f"data/groups.parquet: {day}"
        if day not in place:
            return f"{where} lies outside the period"
        shown = [row for row in rows if row["homes"] is not None]
        if any((row["homes"] or 0) < MIN_HOMES for row in shown):
            return f"{where} shows a group below {MIN_HOMES} homes"
        if shown and len(shown) != len(rows):
            return f"{where}: what is hidden is the zone's total less what is shown"
        for row in rows:
            values = [row[name] for name in row if name not in ("day", "group", "homes")]
            if any((value is None) != (row["homes"] is None) for value in values):
                return f"{where}: a group is shown in part"
        if shown:
            for name, values_ in totals.items():
                said = sum(row[name] or 0 for row in shown)
                if said != int(values_[place[day]].sum()):
                    return f"{where}: {name} of the groups is {said}, of the zone another"
        for row in shown:
            if any((row[name] or 0) < 0 for name in _SUMS) or (row["taken_wh"] or 0) > (
                row["bought_wh"] or 0
            ):
                return f"{where}: a group took more than it bought"
    return None


def _promises(tables: Mapping[str, pa.Table], scope: Scope) -> str | None:
    for row in tables["promises"].to_pylist():
        parts = row["posted"] + row["withdrawn"] + row["not_posted"]
        if parts != row["promised"] or min(row.values()) < 0:
            return f"data/promises.parquet: session {row['session']} does not add up"
    return None
