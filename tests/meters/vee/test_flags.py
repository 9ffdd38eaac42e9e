# SPDX-License-Identifier: Apache-2.0
"""Flags: what is only suspicious is named, and no value changes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dao.slots import SLOTS_PER_DAY
from meters.readings import NULL_WH, Quality, Readings
from meters.simbench import slots_of_local_stamps
from meters.vee.edit import Edited, Editor
from meters.vee.history import ReadingsHistory
from tests.meters.vee.zone import copy_of

DAY = 16_953 * SLOTS_PER_DAY
HOMES = 12
PAST_DAYS = 28
ROOFS = range(1, 6)


def rows(first: int, slots: int, seed: int = 1) -> Readings:
    """Homes with loads that vary; the first five with a roof, under one sun and no cloud."""
    meter = np.repeat(np.arange(1, HOMES + 1), slots)
    slot = np.tile(np.arange(first, first + slots), HOMES)
    phase = slot % SLOTS_PER_DAY
    noise = np.random.default_rng([seed, first]).integers(0, 90, len(slot))
    sun = np.maximum(0, 20 - np.abs(phase - 48)) * 40
    roof = np.isin(meter, ROOFS) & (sun > 0)
    return Readings.columns(
        meter, slot, np.where(roof, 0, 60 + noise), np.where(roof, sun * (8 + meter) // 10, 0)
    )


PAST = [rows(DAY - day * SLOTS_PER_DAY, SLOTS_PER_DAY) for day in range(PAST_DAYS, 0, -1)]
TODAY = rows(DAY, SLOTS_PER_DAY)
HISTORY = ReadingsHistory(Readings.concat(PAST))


def edited(change: object, slots: int = SLOTS_PER_DAY, meter: int = 2) -> Edited:
    """The day with one meter's columns changed, edited in batches; the last one's outcome."""
    whole = replace(TODAY, import_wh=TODAY.import_wh.copy(), export_wh=TODAY.export_wh.copy())
    at = slice((meter - 1) * SLOTS_PER_DAY, meter * SLOTS_PER_DAY)
    change(whole.import_wh[at], whole.export_wh[at])  # type: ignore[operator]
    history = ReadingsHistory(Readings.concat([*PAST, whole]))
    made = None
    for first in range(DAY, DAY + SLOTS_PER_DAY, slots):
        part = whole.take(np.flatnonzero((whole.slot >= first) & (whole.slot < first + slots)))
        made = Editor()(part, history)
    assert made is not None
    return made


def flags(change: object, slots: int = SLOTS_PER_DAY, meter: int = 2) -> list[str]:
    found = edited(change, slots, meter).flags
    assert all(flag.meter == meter for flag in found)
    return [flag.rule for flag in found]


def test_a_usual_day_raises_no_flag() -> None:
    assert Editor()(TODAY, HISTORY).flags == ()


@pytest.mark.parametrize("slots", [96, 24, 4])
def test_a_value_that_stands_still_for_six_hours_is_frozen(slots: int) -> None:
    def freeze(imported: np.ndarray, _: np.ndarray) -> None:
        imported[72:] = imported[72]

    found = edited(freeze, slots, meter=8).flags
    assert [(f.rule, f.meter, f.first_slot, f.slots) for f in found] == [
        ("frozen", 8, DAY + 72, 24)
    ]
    assert "six hours" in found[0].message


@pytest.mark.parametrize("value", [0, 4])
def test_a_dark_roof_and_a_home_at_rest_are_not_frozen(value: int) -> None:
    def rest(imported: np.ndarray, exported: np.ndarray) -> None:
        imported[72:] = value
        exported[72:] = 0

    assert "frozen" not in flags(rest)


def test_five_and_three_quarter_hours_are_not_yet_frozen() -> None:
    def freeze(imported: np.ndarray, _: np.ndarray) -> None:
        imported[70:93] = 77

    assert flags(freeze, meter=8) == []


def test_more_than_three_times_the_highest_is_an_outlier_and_stays() -> None:
    def spike(imported: np.ndarray, _: np.ndarray) -> None:
        imported[80] = 900

    made = edited(spike, meter=8)
    assert [(f.rule, f.first_slot) for f in made.flags] == [("outlier", DAY + 80)]
    assert made.readings.import_wh[7 * SLOTS_PER_DAY + 80] == 900
    assert made.records == ()


def test_a_roof_that_falls_silent_under_a_clear_sky_is_a_dead_inverter() -> None:
    def die(imported: np.ndarray, exported: np.ndarray) -> None:
        imported[exported > 0] = 80 + np.arange((exported > 0).sum()) % 7
        exported[:] = 0

    assert flags(die) == ["dead_inverter"]


def test_a_dark_day_kills_no_inverter() -> None:
    dark = replace(TODAY, export_wh=np.zeros_like(TODAY.export_wh))
    assert "dead_inverter" not in {flag.rule for flag in Editor()(dark, HISTORY).flags}


@pytest.mark.parametrize("by", [-8, -4, 4, 8])
def test_a_roof_whose_day_lies_an_hour_beside_the_neighbours_is_shifted(by: int) -> None:
    def shift(imported: np.ndarray, exported: np.ndarray) -> None:
        imported[:] = np.roll(imported, by)
        exported[:] = np.roll(exported, by)

    assert "shifted" in flags(shift)


def test_a_few_hours_against_the_usual_direction_are_flagged_and_stay() -> None:
    def feed(imported: np.ndarray, exported: np.ndarray) -> None:
        exported[:] = 400
        imported[:] = 0

    made = edited(feed, meter=8)
    assert "sign" in {flag.rule for flag in made.flags}
    assert made.records == ()


def test_a_flag_names_no_value() -> None:
    def spike(imported: np.ndarray, _: np.ndarray) -> None:
        imported[80] = 98_765

    for flag in edited(spike, meter=8).flags:
        assert "98" not in flag.message


def test_missing_values_are_never_taken_for_zero() -> None:
    whole = copy_of(TODAY)
    for column in (whole.import_wh, whole.export_wh):
        column[SLOTS_PER_DAY : 2 * SLOTS_PER_DAY] = NULL_WH
    whole.quality[SLOTS_PER_DAY : 2 * SLOTS_PER_DAY] = Quality.MISSING
    whole.export_wh[2 * SLOTS_PER_DAY : 3 * SLOTS_PER_DAY] = NULL_WH
    assert Editor()(whole, HISTORY).flags == ()


def test_the_hour_that_comes_twice_and_the_one_that_is_left_out_are_whole_days_in_utc() -> None:
    def stamps(day: str, hours: list[int]) -> list[str]:
        return [f"{day} {hour:02}:{minute:02}" for hour in hours for minute in (0, 15, 30, 45)]

    spring = slots_of_local_stamps(stamps("27.03.2016", [0, 1, *range(3, 24)]))
    autumn = slots_of_local_stamps(stamps("30.10.2016", [0, 1, 2, *range(2, 24)]))
    for slots, hours in ((spring, 23), (autumn, 25)):
        assert np.array_equal(np.diff(slots), np.ones(hours * 4 - 1))
        n = len(slots)
        batch = Readings.columns(np.ones(n), slots, np.arange(n), np.zeros(n))
        assert Editor()(batch, HISTORY).readings is batch
