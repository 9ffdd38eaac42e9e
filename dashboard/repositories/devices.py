# SPDX-License-Identifier: Apache-2.0
"""What called devices reported.

Only the community battery is told slot by slot; it belongs to everybody. Of all others there are
sums, and none of fewer than `FEW` homes.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dao.errors import CheckFailed
from dao.json_input import loads
from dao.slots import SLOTS_PER_DAY
from dashboard.repositories.cache import Version, cached, version

BATTERY_METER = "GRIDCOMMONS_BATTERY_METER"
"""Environment variable: the metering point of the community battery, whose reports are public."""
FEW = 5
MAX_REPORTS = 2 * SLOTS_PER_DAY
MAX_SUMMED = 50_000
_KEPT_S = 3_600


@dataclass(frozen=True)
class Report:
    """What the community battery was told in a slot, took, and did: W, W, and Wh taken less given;
    None where it is not known."""

    slot: int
    wanted: int
    acknowledged: int | None
    done_wh: int | None


@dataclass(frozen=True)
class Others:
    """Sums over all devices of people on a day: devices, calls, and calls they acknowledged."""

    devices: int
    calls: int
    acknowledged: int


def reports(home: Path, first_slot: int) -> tuple[Report, ...]:
    """What the community battery's gateway reported of a day, in order: the demo's own, else what
    the collector holds of the metering point that the operator names."""
    outbox = home / "battery" / "outbox.sqlite"
    dispatches = home / "dispatch.sqlite"
    meter = battery_meter()
    found = _own(outbox, version(outbox), first_slot)
    if meter is not None:
        found = found or _sent(dispatches, version(dispatches), meter, first_slot)
    return found


def others(home: Path, first_slot: int) -> Others | None:
    """Sums over all other devices that reported on a day; None where they are fewer than `FEW`."""
    path = home / "dispatch.sqlite"
    return _others(path, version(path), battery_meter(), first_slot)


def battery_meter() -> int | None:
    """The community battery's metering point, where the operator names it."""
    named = os.environ.get(BATTERY_METER, "").strip()
    return int(named) if named.isascii() and named.isdigit() and len(named) < 10 else None


@cached(ttl=_KEPT_S, max_entries=16)
def _own(path: Path, _: Version, first_slot: int) -> tuple[Report, ...]:
    return _reports(
        path, "SELECT document FROM reports WHERE slot >= ? AND slot < ?", _span(first_slot)
    )


@cached(ttl=_KEPT_S, max_entries=16)
def _sent(path: Path, _: Version, meter: int, first_slot: int) -> tuple[Report, ...]:
    return _reports(
        path,
        "SELECT report FROM report WHERE slot >= ? AND slot < ? AND meter = ?",
        (*_span(first_slot), meter),
    )


@cached(ttl=_KEPT_S, max_entries=16)
def _others(path: Path, _: Version, meter: int | None, first_slot: int) -> Others | None:
    rows = _asked(
        path,
        "SELECT count(DISTINCT meter || ' ' || coalesce(json_extract(report, '$.device'), '')), "
        "count(DISTINCT meter), count(*), count(json_extract(report, '$.acknowledged')) FROM "
        "(SELECT meter, report FROM report WHERE slot >= ? AND slot < ? AND meter != ? "
        "AND json_valid(report) LIMIT ?)",
        (*_span(first_slot), -1 if meter is None else meter, MAX_SUMMED),
    )
    devices, homes, calls, acknowledged = rows[0] if rows else (0, 0, 0, 0)
    return Others(devices, calls, acknowledged) if homes >= FEW else None


def _span(first_slot: int) -> tuple[int, int]:
    return first_slot, first_slot + SLOTS_PER_DAY


def _reports(path: Path, sql: str, values: Sequence[int]) -> tuple[Report, ...]:
    found: dict[int, Report] = {}
    for (text,) in _asked(path, f"{sql} ORDER BY slot LIMIT {MAX_REPORTS}", values):
        try:
            row = loads(text)
            one = Report(
                int(row["slot"]),
                int(row["wanted"]),
                _number(row["acknowledged"]),
                _number(row["done_wh"]),
            )
        except (ValueError, KeyError, TypeError):
            continue
        found[one.slot] = one
    return tuple(found.values())


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _asked(path: Path, sql: str, values: Sequence[int]) -> list[tuple[Any, ...]]:
    """Rows of a file that may be written meanwhile; none where there is no file."""
    if not path.exists():
        return []
    try:
        uri = f"{path.absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, timeout=2.0)) as db:
            return list(db.execute(sql, tuple(values)).fetchall())
    except sqlite3.Error as error:
        raise CheckFailed(f"what devices reported cannot be read: {error}") from None
