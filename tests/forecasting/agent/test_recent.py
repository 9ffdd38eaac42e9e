# SPDX-License-Identifier: Apache-2.0
"""What a home did lately, from lake and inbox: unknown is never taken for used or exported."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dao.errors import CheckFailed
from dao.slots import SLOT_SECONDS, SLOTS_PER_DAY
from forecasting.agent.recent import HomeReadings, Recent, TooLittle, recent_days
from meters.lake import write_batch
from meters.readings import NULL_WH, Quality, Reading, Readings
from tests.meters.batch_rows import leaves, rows
from tests.meters.conftest import SmallZone, small_readings, zone

__all__ = ["small_readings", "zone"]  # fixtures

FIRST = 20 * SLOTS_PER_DAY
NOW = FIRST + 20 * SLOTS_PER_DAY


def readings(days: int, until: int = NOW) -> list[Reading]:
    """As many whole days until a slot, each slot with its day's and its own number."""
    return [
        Reading(7, slot, import_wh=slot % 96, export_wh=(until - slot - 1) // 96)
        for slot in range(until - days * SLOTS_PER_DAY, until)
    ]


def recent(rows: list[Reading]) -> Recent:
    found = recent_days(rows, NOW)
    assert isinstance(found, Recent), found
    return found


def test_the_last_seven_days_count_and_end_with_the_newest_reading() -> None:
    found = recent(readings(12, NOW - 5))
    assert (found.days, found.end_slot) == (7, NOW - 5)
    assert found.export_wh.reshape(-1, 96)[:, 0].tolist() == [6, 5, 4, 3, 2, 1, 0]
    assert found.import_wh[found.position(NOW + 30)] == (NOW + 30) % 96


@pytest.mark.parametrize(
    "unknown",
    [
        {"import_wh": None, "export_wh": None, "quality": Quality.MISSING},
        {"quality": Quality.INVALID},
        {"import_wh": None},
        {"export_wh": None},
    ],
)
def test_a_slot_not_known_promises_nothing(unknown: dict[str, object]) -> None:
    held = [replace(one, export_wh=500) for one in readings(7)]
    held[100] = replace(held[100], **unknown)  # type: ignore[arg-type]
    found = recent(held)
    assert (found.import_wh[100], found.export_wh[100]) == (0, 0)
    assert found.export_wh.sum() == 500 * (7 * 96 - 1)


def test_a_day_that_is_mostly_missing_is_passed_over_for_an_older_one() -> None:
    held = readings(8)
    del held[-150:-110]
    found = recent(held)
    assert found.days == 7
    assert found.export_wh.reshape(-1, 96)[:, 0].tolist() == [7, 6, 5, 4, 3, 2, 0]


def test_too_few_days_none_and_old_ones_are_told_apart() -> None:
    assert recent_days(readings(3), NOW) == TooLittle(3, NOW - 1)
    assert recent_days([], NOW) == TooLittle(0, None)
    old = NOW - 2 * SLOTS_PER_DAY - 1
    assert recent_days(readings(7, old + 1), NOW) == TooLittle(0, old)
    assert recent(readings(7, old + 2)).days == 7


def test_a_reading_of_the_future_is_not_believed() -> None:
    ahead = [Reading(7, NOW + i, 0, 9_999) for i in range(200)]
    assert recent([*readings(7), *ahead]).export_wh.max() < 100


def _day(lake: Path, first: int, export: int, version: int = 1) -> None:
    held = rows(first, SLOTS_PER_DAY, 3)
    held.export_wh[:] = np.where(held.meter == 2, export, 9)
    write_batch(lake, 1, first, SLOTS_PER_DAY, held, leaves(3 * 96), version=version)


def test_the_lake_gives_one_home_and_the_newest_version_of_it(tmp_path: Path) -> None:
    for day in range(7):
        _day(tmp_path, FIRST + day * SLOTS_PER_DAY, 100 + day)
    _day(tmp_path, FIRST + 6 * SLOTS_PER_DAY, 999, version=2)
    home = HomeReadings(tmp_path, 1)
    found = home.recent(2, (FIRST + 7 * SLOTS_PER_DAY) * SLOT_SECONDS + 5)
    assert isinstance(found, Recent)
    assert sorted(set(found.export_wh.tolist())) == [100, 101, 102, 103, 104, 105, 999]
    assert isinstance(home.recent(4, FIRST * SLOT_SECONDS), TooLittle)


def test_what_waits_in_the_inbox_is_read_beside_its_collector(
    zone: SmallZone, tmp_path: Path
) -> None:
    with zone.collector() as collector:
        collector.receive(zone.readings)
        later = zone.signed(3, zone.first_slot + 4, 11, 22)
        collector.receive(later)
        home = HomeReadings(tmp_path / "lake", 1, tmp_path / "inbox.sqlite")
        found = home.rows(3, zone.first_slot, 5)
        assert [one.meter for one in found] == [3] * 5
        assert (found[-1].import_wh, found[-1].export_wh) == (11, 22)
        batch = collector.close_batch(zone.first_slot, 4)
        collector.mark_committed(batch)
        assert len(home.rows(3, zone.first_slot, 5)) == 5


def test_an_inbox_that_is_none_is_said_so(tmp_path: Path) -> None:
    broken = tmp_path / "inbox.sqlite"
    broken.write_bytes(b"x" * 5_000)
    with pytest.raises(CheckFailed, match="cannot read the inbox"):
        HomeReadings(tmp_path / "lake", 1, broken).rows(3, 0, 4)
    assert HomeReadings(tmp_path / "lake", 1, tmp_path / "none").rows(3, 0, 4) == []


def test_the_mark_of_null_is_not_an_amount(tmp_path: Path) -> None:
    held = rows(FIRST, SLOTS_PER_DAY, 3)
    held.export_wh[held.meter == 2] = NULL_WH
    write_batch(tmp_path, 1, FIRST, SLOTS_PER_DAY, held, leaves(3 * 96))
    found = HomeReadings(tmp_path, 1).rows(2, FIRST, SLOTS_PER_DAY)
    assert {one.export_wh for one in found} == {None}
    assert isinstance(Readings.of(found), Readings)
