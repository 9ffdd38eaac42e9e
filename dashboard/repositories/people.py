# SPDX-License-Identifier: Apache-2.0
"""Who owns which metering point, as the registry's events say (owners never change there), and
which of the demo's homes have something to sell."""

from __future__ import annotations

import logging
from pathlib import Path

from dao.demo_people import owner_account
from dao.index import EventReader
from dashboard.repositories.cache import cached

log = logging.getLogger(__name__)

# Whoever fed nothing in over the newest days has no panels.
_DAYS = 3
# As many as the registry takes in a zone that a dashboard can show.
MAX_POINTS = 10_000


@cached(ttl=20, max_entries=8)
def owners(index: Path, zone: int) -> dict[int, str]:
    """By metering point of a zone its owner's address, with checksum."""
    rows = EventReader(index).events("MeterRegistered", match={"zone": zone}, limit=MAX_POINTS)
    return {int(row["args"]["meter"]): str(row["args"]["owner"]) for row in rows}


@cached(ttl=20, max_entries=8)
def seeded(index: Path, zone: int, seed: int) -> dict[int, str]:
    """The metering points whose owner is the demo's person of that seed, with the address."""
    return {
        meter: owner
        for meter, owner in owners(index, zone).items()
        if owner_account(seed, meter).address == owner
    }


@cached(ttl=300, max_entries=8)
def feeding_in(lake: Path, zone: int) -> frozenset[int]:
    """The metering points that fed anything in on the newest days of the lake."""
    import duckdb

    days = sorted(lake.glob(f"zone={zone}/day=*"))[-_DAYS:]
    files = [str(file) for day in days for file in day.glob("*.parquet")]
    if not files:
        return frozenset()
    try:
        with duckdb.connect() as db:
            rows = db.execute(
                "SELECT DISTINCT meter FROM read_parquet(?) WHERE export_wh > 0", [files]
            ).fetchall()
    except duckdb.Error as error:
        # Only a hint beside a name is lost.
        log.warning("cannot read %s: %s", lake, error)
        return frozenset()
    return frozenset(int(row[0]) for row in rows)
