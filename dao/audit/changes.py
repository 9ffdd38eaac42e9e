# SPDX-License-Identifier: Apache-2.0
"""What a dossier corrects in an earlier one: rows added, removed and changed, cell by cell."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dao.audit.tables import TABLES

if TYPE_CHECKING:
    import pyarrow as pa

MAX_CHANGES = 10_000
"""Lines of one table; a last line says that there are more."""


def changes(before: Mapping[str, pa.Table], after: Mapping[str, pa.Table]) -> pa.Table:
    """The table changes: what differs in `after`."""
    rows: list[tuple[Any, ...]] = []
    for name in TABLES:
        if name == "changes" or before[name].equals(after[name]):
            continue
        found = _of_table(name, before[name], after[name])
        rows += found[:MAX_CHANGES]
        if len(found) > MAX_CHANGES:
            left = len(found) - MAX_CHANGES
            rows.append((name, "changed", f"{left} more", None, None, None))
    return TABLES["changes"].of_rows(rows)


def _of_table(name: str, before: pa.Table, after: pa.Table) -> list[tuple[Any, ...]]:
    key = TABLES[name].key or (TABLES[name].columns[0].name,)
    old, new = (_by_key(table, key) for table in (before, after))
    rows: list[tuple[Any, ...]] = []
    for place in [*old, *(place for place in new if place not in old)]:
        shown = ", ".join(
            f"{column} {value}" for column, value in zip(key, place[:-1], strict=True)
        )
        if place not in new:
            rows.append((name, "removed", shown, None, _text(old[place]), None))
        elif place not in old:
            rows.append((name, "added", shown, None, None, _text(new[place])))
        else:
            rows += [
                (name, "changed", shown, column, _cell(old[place][column]), _cell(value))
                for column, value in new[place].items()
                if old[place][column] != value
            ]
    return rows


def _by_key(table: pa.Table, key: tuple[str, ...]) -> dict[tuple[Any, ...], dict[str, Any]]:
    """Rows by key; where a key stands twice, by its number there too."""
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in table.to_pylist():
        place = tuple(row[column] for column in key)
        number = 0
        while (*place, number) in found:
            number += 1
        found[(*place, number)] = row
    return found


def _cell(value: Any) -> str | None:
    return None if value is None else str(value)


def _text(row: dict[str, Any]) -> str:
    return json.dumps(row, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
