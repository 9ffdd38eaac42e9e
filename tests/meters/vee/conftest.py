# SPDX-License-Identifier: Apache-2.0
"""The demo zone's year, and its history, read once."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from dao.slots import first_slot_of_day
from meters.profiles import PERIOD_SLOTS, ZoneProfiles, zone_profiles
from meters.vee.history import ReadingsHistory
from tests.meters.conftest import CODE
from tests.meters.vee.zone import rows_of

FIRST = first_slot_of_day(date(2016, 1, 4))


@pytest.fixture(scope="session")
def year(cache: Path) -> ZoneProfiles:
    return zone_profiles(CODE, FIRST, PERIOD_SLOTS, 7, cache)


@pytest.fixture(scope="session")
def history(year: ZoneProfiles) -> ReadingsHistory:
    return ReadingsHistory(rows_of(year, FIRST, year.slots))
