# SPDX-License-Identifier: Apache-2.0
"""Each plausibility rule by name."""

from __future__ import annotations

import numpy as np
import pytest

from meters.readings import Quality, Reading, Readings
from meters.validation import (
    PLAUSIBLE,
    RULES,
    Finding,
    findings,
    judge,
    limits_wh,
    slot_of_interval,
)

NOW = 1_000_000 * 900  # slot 999,999 has just ended
METERS = np.array([1, 2])
LIMITS = limits_wh(METERS, {1: 10_000})


def check(rows: Readings, now: float | None = NOW) -> tuple[list[bool], list[Finding]]:
    """Which rows are plausible, and what is wrong with the others."""
    found = judge(rows, METERS, LIMITS, now)
    return (found == PLAUSIBLE).tolist(), findings(rows, found)


@pytest.mark.parametrize(
    ("reading", "rule"),
    [
        (Reading(9, 10, 1, 1), "unknown_meter"),
        (Reading(1, -1, 1, 1), "slot_range"),
        (Reading(1, 1_000_000, 1, 1), "future_slot"),
        (Reading(1, 10, None, None), "no_value"),
        (Reading(1, 10, -1, 0), "negative"),
        (Reading(1, 10, 0, -1), "negative"),
        (Reading(1, 10, 2_501, 0), "above_capacity"),
        (Reading(1, 10, None, 2_501), "above_capacity"),
        (Reading(2, 10, 0xFFFF_FFFF, 0), "above_capacity"),
        (Reading(2, 10, 17_251, 0), "above_capacity"),
        (Reading(1 << 40, 10, 1, 1), "unknown_meter"),
        (Reading(1, 10, 1, 1, Quality.MISSING), "quality"),
        (Reading(1, 10, 1, 1, Quality.INVALID), "quality"),
        (Reading(1, 10, 1, 1, sequence=-1), "sequence_range"),
        (Reading(1, 10, 1, 1, sequence=1 << 32), "sequence_range"),
    ],
)
def test_a_bad_reading_is_named_by_its_rule(reading: Reading, rule: str) -> None:
    good, found = check(Readings.of([reading]))
    assert good == [False]
    assert [f.rule for f in found] == [rule]
    assert RULES[rule] in found[0].message
    assert f"meter {reading.meter}, slot {reading.slot}" in found[0].message


@pytest.mark.parametrize(
    "reading",
    [
        Reading(1, 999_999, 0, 0),
        Reading(1, 10, 2_500, None),
        Reading(2, 10, None, 17_250, Quality.ESTIMATED),
        Reading(2, 10, 1, 1, Quality.SUBSTITUTED),
    ],
)
def test_a_plausible_reading_passes(reading: Reading) -> None:
    good, found = check(Readings.of([reading]))
    assert good == [True]
    assert found == []


def test_a_clock_may_run_a_minute_ahead() -> None:
    rows = Readings.of([Reading(1, 1_000_000, 1, 1)])
    assert check(rows, NOW + 900 - 61)[0] == [False]
    assert check(rows, NOW + 900 - 60.0)[0] == [True]


def test_a_reading_is_reported_once_and_the_good_ones_go_on() -> None:
    rows = Readings.of([Reading(9, -1, -1, -1), Reading(1, 10, 1, 1), Reading(1, 11, None, None)])
    good, found = check(rows)
    assert good == [False, True, False]
    assert [f.rule for f in found] == ["unknown_meter", "no_value"]


def test_no_readings_are_no_trouble() -> None:
    good, found = check(Readings.of([]))
    assert len(good) == len(found) == 0


@pytest.mark.parametrize(
    ("start", "end", "slot"),
    [(900, 1800, 1), (901, 1801, None), (900, 1801, None), (900, 2700, None), (1800, 900, None)],
)
def test_only_a_quarter_hour_on_the_grid_is_a_slot(start: int, end: int, slot: int | None) -> None:
    assert slot_of_interval(start, end) == slot
    assert "misaligned" in RULES


def test_every_finding_has_words() -> None:
    assert all(Finding(rule, 1, 2).message.startswith("meter 1, slot 2: ") for rule in RULES)


def test_a_zone_without_meters_knows_none() -> None:
    empty = np.zeros(0, dtype=np.int64)
    rows = Readings.of([Reading(1, 10, 1, 1)])
    assert findings(rows, judge(rows, empty, empty, None)) == [Finding("unknown_meter", 1, 10)]
