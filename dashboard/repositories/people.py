# SPDX-License-Identifier: Apache-2.0
"""Who owns which metering point, as the registry's events say. Owners never change there."""

from __future__ import annotations

from pathlib import Path

from dao.demo_people import owner_account
from dao.index import EventReader
from dashboard.repositories.cache import cached

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
