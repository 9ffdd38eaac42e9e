# SPDX-License-Identifier: Apache-2.0
"""How points become readings, whatever their format."""

from __future__ import annotations

import tomllib
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from dao.errors import BadUse, CheckFailed
from meters.adapters import engine
from meters.adapters.engine import (
    BUILT_IN,
    Adapter,
    Conventions,
    Options,
    Point,
    as_dict,
    combine,
    load_adapter,
    parse,
    review,
    stamp,
    worst,
)
from meters.readings import Quality

ROOT = Path(__file__).resolve().parents[3]
NOON = datetime(2024, 4, 1, 12, tzinfo=UTC)
QUARTER = timedelta(minutes=15)


def register(wh: str | None, direction: Any = "import", at: datetime = NOON, **more: Any) -> Point:
    return Point("M", at, direction, None if wh is None else Decimal(wh), **more)


def interval(wh: str | None, number: int = 0, direction: Any = "import", **more: Any) -> Point:
    start = NOON + number * QUARTER
    return register(wh, direction, start + QUARTER, start=start, **more)


def test_import_and_export_of_one_time_are_one_reading() -> None:
    (reading,), notes = combine([interval("1"), interval("2", direction="export")])
    assert (reading.import_wh, reading.export_wh) == (1, 2)
    assert (reading.start, reading.end) == (NOON, NOON + QUARTER)
    assert notes == []


def test_a_direction_that_was_not_measured_is_null_and_not_zero() -> None:
    (reading,), _ = combine([interval("1")])
    assert reading.export_wh is None


@pytest.mark.parametrize(
    ("exact", "whole"), [("0.5", 0), ("1.5", 2), ("2.5", 2), ("2.51", 3), ("0.49", 0)]
)
def test_energy_is_rounded_half_to_even(exact: str, whole: int) -> None:
    (reading,), _ = combine([interval(exact)])
    assert reading.import_wh == whole


def test_tariffs_are_added_before_they_are_rounded() -> None:
    (reading,), _ = combine([register("0.4", part="1"), register("0.4", part="2")])
    assert reading.import_wh == 1


def test_a_total_stands_for_its_tariffs() -> None:
    points = [register("10"), register("4", part="1"), register("5", part="2")]
    (reading,), _ = combine(points)
    assert reading.import_wh == 10


def test_a_missing_tariff_makes_the_sum_unknown() -> None:
    later = NOON + QUARTER
    points = [
        register("1", part="1"),
        register("2", part="2"),
        register("3", at=later, part="1"),
    ]
    readings, notes = combine(points)
    assert [(r.import_wh, r.quality) for r in readings] == [
        (3, Quality.MEASURED),
        (None, Quality.MISSING),
    ]
    assert "a tariff is missing" in notes[0]


def test_the_same_value_twice_counts_once() -> None:
    (reading,), notes = combine([interval("7"), interval("7")])
    assert reading.import_wh == 7
    assert "counted once" in notes[0]


def test_of_two_values_that_contradict_each_other_neither_is_taken() -> None:
    (reading,), notes = combine([interval("7"), interval("8")])
    assert (reading.import_wh, reading.quality) == (None, Quality.INVALID)
    assert "neither is taken" in notes[0]


@pytest.mark.parametrize(
    "other",
    [interval("8", quality=Quality.ESTIMATED, source_quality="E"), interval(None)],
    ids=["estimate", "null"],
)
def test_a_measured_value_takes_the_place_of_an_estimate_or_of_none(other: Point) -> None:
    for points in ([other, interval("7")], [interval("7"), other]):
        (reading,), notes = combine(points)
        assert (reading.import_wh, reading.quality) == (7, Quality.MEASURED)
        assert reading.source_quality is None
        assert "the better one is taken" in notes[0]


def test_energy_below_zero_is_invalid() -> None:
    (reading,), notes = combine([interval("-1")])
    assert (reading.import_wh, reading.quality) == (None, Quality.INVALID)
    assert "below zero" in notes[0]


def test_a_null_value_is_missing_whatever_its_source_calls_it() -> None:
    (reading,), _ = combine([interval(None, source_quality="OK")])
    assert (reading.import_wh, reading.quality, reading.source_quality) == (
        None,
        Quality.MISSING,
        "OK",
    )


def test_a_reading_is_as_good_as_its_worst_value() -> None:
    points = [
        interval("1", quality=Quality.MEASURED, source_quality="L1"),
        interval("2", direction="export", quality=Quality.ESTIMATED, source_quality="L3"),
    ]
    (reading,), _ = combine(points)
    assert (reading.quality, reading.source_quality) == (Quality.ESTIMATED, "L1/L3")


def test_missing_beside_a_value_does_not_spoil_it() -> None:
    assert worst([Quality.MISSING, Quality.ESTIMATED]) == Quality.ESTIMATED
    assert worst([Quality.MISSING]) == Quality.MISSING


def test_several_meters_stay_apart_in_the_order_of_the_file() -> None:
    points = [Point(name, NOON, "import", Decimal(1)) for name in ("B", "A", "B")]
    readings, _ = combine(points)
    assert [reading.meter for reading in readings] == ["B", "A"]


def test_readings_are_sorted_by_time_within_a_meter() -> None:
    readings, _ = combine([interval("2", 1), interval("1", 0)])
    assert [reading.import_wh for reading in readings] == [1, 2]


def test_readings_without_a_clock_keep_their_order_and_stay_apart() -> None:
    points = [Point("M", None, "import", Decimal(5), order=i) for i in (1, 2)]
    readings, notes = combine(points)
    assert [reading.import_wh for reading in readings] == [5, 5]
    assert notes == []


def test_a_falling_register_is_told() -> None:
    readings, _ = combine([register("10"), register("4", at=NOON + QUARTER)])
    (note,) = review(readings)
    assert "falls from 10 to 4 Wh at 2024-04-01T12:15:00Z" in note


def test_a_register_that_only_rises_is_not_mentioned() -> None:
    readings, _ = combine([register("10"), register("10", at=NOON + QUARTER)])
    assert review(readings) == []


def test_a_gap_is_told() -> None:
    readings, _ = combine([interval("1", 0), interval("1", 3)])
    (note,) = review(readings)
    assert "1 gap, the first from 2024-04-01T12:15:00Z to 2024-04-01T12:45:00Z" in note


def test_mixed_resolutions_and_overlaps_are_told() -> None:
    hour = Point("M", NOON + 4 * QUARTER, "import", Decimal(4), start=NOON)
    readings, _ = combine([interval("1", 1), hour])
    notes = " ".join(review(readings))
    assert "intervals of different length (900, 3600 s)" in notes
    assert "overlap" in notes


def test_times_are_written_in_utc() -> None:
    assert stamp(NOON) == "2024-04-01T12:00:00Z"
    assert stamp(NOON + timedelta(milliseconds=5)) == "2024-04-01T12:00:00.005Z"


def test_the_published_form_has_these_keys_and_no_other() -> None:
    (reading,), _ = combine([register("10", quality=Quality.SUBSTITUTED)])
    assert as_dict(reading) == {
        "meter": "M",
        "start": None,
        "end": "2024-04-01T12:00:00Z",
        "import_wh": 10,
        "export_wh": None,
        "register": True,
        "quality": "substituted",
        "source_quality": None,
    }


def adapter_that_reads(*points: Point) -> Adapter:
    return Adapter(
        "fixed",
        "Always the same points",
        Conventions("", "", "", "", ""),
        lambda data, source: points,
    )


def test_a_file_without_a_reading_fails_the_check() -> None:
    with pytest.raises(CheckFailed, match="no reading"):
        parse(adapter_that_reads(), [("f", b"x")])


def test_an_empty_file_is_bad_use_with_its_name() -> None:
    with pytest.raises(BadUse, match=r"f\.xml: the file is empty"):
        parse(adapter_that_reads(register("1")), [("f.xml", b" \n")])


def test_what_the_caller_says_fills_only_what_the_source_does_not() -> None:
    options = Options(meter="mine", at=NOON)
    points = (Point(None, None, "import", Decimal(1), order=1), register("2"))
    named = parse(adapter_that_reads(*points), [("f", b"x")], options).readings
    assert [(r.meter, r.end) for r in named] == [("mine", NOON), ("M", NOON)]


def test_a_missing_clock_is_told() -> None:
    point = Point(None, None, "import", Decimal(1), order=1)
    assert "--at" in parse(adapter_that_reads(point), [("f", b"x")]).notes[-1]


def test_two_files_are_read_as_one() -> None:
    readings = parse(adapter_that_reads(register("1")), [("a", b"x"), ("b", b"x")]).readings
    assert len(readings) == 1


def test_every_built_in_adapter_loads_under_its_own_name() -> None:
    assert [load_adapter(name).name for name in BUILT_IN] == list(BUILT_IN)


def test_pyproject_registers_the_built_in_adapters() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"][engine.GROUP] == dict(BUILT_IN)


def test_an_unknown_adapter_is_answered_with_the_nearest_one() -> None:
    with pytest.raises(BadUse, match="did you mean dsmr"):
        load_adapter("DSMR-P1")


def plugin(monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    entry = EntryPoint("mine", place, engine.GROUP)
    monkeypatch.setattr(engine, "entry_points", lambda group: [entry])


def test_a_plugin_is_found_by_its_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    plugin(monkeypatch, "meters.adapters.sml:SML")
    assert "mine" in engine.adapter_names()
    assert load_adapter("mine").name == "sml"


@pytest.mark.parametrize("place", ["no.such.module:X", "meters.adapters.sml:read"])
def test_a_plugin_that_does_not_load_is_bad_use(
    monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    plugin(monkeypatch, place)
    with pytest.raises(BadUse, match="adapter 'mine'"):
        load_adapter("mine")
