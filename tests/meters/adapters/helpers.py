# SPDX-License-Identifier: Apache-2.0
"""Short ways to parse one record and to look at what came out."""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo

from meters.adapters.engine import Options, Parsed, as_dict, load_adapter, parse


def parsed(name: str, data: bytes, zone: str | None = None, **options: Any) -> Parsed:
    timezone = ZoneInfo(zone) if zone else None
    return parse(load_adapter(name), [("record", data)], Options(timezone=timezone, **options))


def rows(name: str, data: bytes, zone: str | None = None, **options: Any) -> list[dict[str, Any]]:
    return [as_dict(reading) for reading in parsed(name, data, zone, **options).readings]


def only(name: str, data: bytes, **options: Any) -> dict[str, Any]:
    (row,) = rows(name, data, **options)
    return row


def energies(found: list[dict[str, Any]]) -> list[tuple[int | None, int | None]]:
    return [(row["import_wh"], row["export_wh"]) for row in found]
