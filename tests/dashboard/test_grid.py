# SPDX-License-Identifier: Apache-2.0
"""What the grid's page computes and asks, without a browser and without a power flow."""

from __future__ import annotations

import json
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dao.errors import CheckFailed
from dao.parameters import CHARGE_POINTS, COMMUNITY_BATTERY
from dao.slots import SLOT_SECONDS, SLOTS_PER_DAY
from dashboard.repositories import devices
from dashboard.repositories import grid as files
from dashboard.repositories.devices import Report
from dashboard.repositories.grid import Day
from dashboard.services import grid, grid_drawing
from dashboard.services.grid import Basis, Said, Side
from dashboard.theme import DARK, LIGHT
from tests.dashboard.sample import FIRST_SLOT, ZONE, Index, proposal

OVER = 1.06


def document(**changes: Any) -> dict[str, Any]:
    """A picture of three buses in a row, too high at noon at the far end."""
    noon = [[105_000, 105_000, 105_000] for _ in range(SLOTS_PER_DAY)]
    noon[48] = [105_000, 105_300, round(OVER * 1e5)]
    state = {
        "volts": noon,
        "lines": [[100, 200]] * 48 + [[400, 1_200]] + [[100, 200]] * 47,
        "transformer": [250] * SLOTS_PER_DAY,
        "over": [int(slot == 48) for slot in range(SLOTS_PER_DAY)],
        "battery_w": [0] * SLOTS_PER_DAY,
    }
    fields: dict[str, Any] = {
        "format": 1,
        "first_slot": FIRST_SLOT,
        "evidence": "0x" + "ab" * 32,
        "courses": 49,
        "limits": {"voltage_max": 1.055, "voltage_min": 0.9, "loading_max": 100.0},
        "low_bus": 10,
        "rated_va": 400_000.0,
        "buses": [[10, 500, 0], [11, 500, 500], [12, 500, 1_000]],
        "lines": [[10, 11], [11, 12]],
        "homes": [[11, 1], [12, 2]],
        "battery": {"buses": [12], "max_power_w": 50_000, "capacity_wh": 300_000},
        "charge_points": [[11, 11_000]],
        "home_batteries": 0,
        "forecast": {"without": state, "with": None},
        "measured": None,
    }
    return {**fields, **changes}


def day(first_slot: int) -> Day:
    return Day(first_slot, Path(f"zone-1-{first_slot}.json"))


def test_a_slot_is_told_by_its_tightest_places() -> None:
    picture = grid.picture_of(document())
    flow = picture.flow(Basis.FORECAST, Side.WITH)
    assert grid.tightest(picture, flow) == 48
    found = grid.moment(picture, flow, 48)
    assert found.highest == pytest.approx(OVER)
    assert (found.highest_bus, found.above) == (12, 1)
    assert found.line == pytest.approx(120)
    assert (found.line_ends, found.full_lines) == ((11, 12), 1)
    assert grid.moment(picture, flow, 0).above == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"format": 2},
        {"buses": [[10, 500]]},
        {"forecast": {"without": {"volts": []}, "with": None}},
        {"limits": None},
        {"battery": {}},
        {"lines": [[10]]},
    ],
)
def test_a_damaged_picture_is_one_error(changes: dict[str, Any]) -> None:
    with pytest.raises(CheckFailed, match="cannot be read"):
        grid.picture_of(document(**changes))


@pytest.mark.parametrize("colours", [LIGHT, DARK])
def test_what_is_over_a_limit_differs_by_more_than_its_colour(colours: Any) -> None:
    picture = grid.picture_of(document())
    flow = picture.flow(Basis.FORECAST, Side.WITHOUT)
    drawn = grid_drawing.map_of(picture, flow, 48, colours, '"><script>')
    calm = grid_drawing.map_of(picture, flow, 0, colours, "calm")
    assert "stroke-dasharray" in drawn
    assert "stroke-dasharray" not in calm
    assert 'class="ring"' in drawn
    assert 'class="ring"' not in calm
    assert "above the limit <b>1</b>" in drawn
    assert "<script>" not in drawn
    table = grid_drawing.table_of(picture, flow, 48)
    assert table.iloc[0].tolist()[0] == "12"
    assert "above the limit" in table.iloc[0].tolist()[2]
    assert "community battery" in table.iloc[0].tolist()[4]


def test_bands_of_voltage_lie_in_order() -> None:
    names = [grid_drawing.band_of(one, 1.055, 0.9) for one in np.arange(1.09, 0.88, -0.002)]
    assert list(dict.fromkeys(names)) == list(grid_drawing.BANDS)


@pytest.mark.parametrize(
    ("asked", "odd"),
    [
        ({}, False),
        ({"lang": "de"}, False),
        ({"day": "2016-06-07", "slot": "95", "shown": "measured", "action": "with"}, False),
        ({"day": "../../etc/passwd"}, True),
        ({"day": "2016-13-45"}, True),
        ({"day": "9999-12-31"}, True),
        ({"slot": "96"}, True),
        ({"slot": "-1"}, True),
        ({"slot": "9" * 5_000}, True),
        ({"slot": "４８"}, True),
        ({"shown": "<script>", "action": "'; DROP TABLE"}, True),
    ],
)
def test_an_address_is_taken_for_what_makes_sense_in_it(asked: dict[str, str], odd: bool) -> None:
    there = [day(FIRST_SLOT)]
    wish = grid.wish_of(asked, there)
    assert wish.odd == odd
    assert wish.day in (None, there[0])
    assert wish.slot is None or 0 <= wish.slot < SLOTS_PER_DAY


def test_the_day_that_is_comes_first_and_else_the_newest() -> None:
    there = [day(FIRST_SLOT + SLOTS_PER_DAY), day(FIRST_SLOT)]
    assert grid.day_of_now(there, (FIRST_SLOT + 5) * SLOT_SECONDS) == there[1]
    assert grid.day_of_now(there, 0) == there[0]
    assert grid.later_evidence(there, there[1]) is None
    later = day(FIRST_SLOT + 3 * SLOTS_PER_DAY)
    assert grid.later_evidence([later, *there], there[1]) == later


def test_windows_in_force_go_before_a_proposal() -> None:
    put = proposal(FIRST_SLOT)
    rows = ((COMMUNITY_BATTERY, FIRST_SLOT + 4, 2, 1_000),)
    before = ((COMMUNITY_BATTERY, FIRST_SLOT - 4, 2, 7),)
    voted = grid.action_of(rows, [put], FIRST_SLOT)
    assert voted.in_force
    assert voted.of_day(COMMUNITY_BATTERY, FIRST_SLOT) == {
        FIRST_SLOT + 4: 1_000,
        FIRST_SLOT + 5: 1_000,
    }
    assert voted.of_day(CHARGE_POINTS, FIRST_SLOT) == {}
    proposed = grid.action_of(before, [put], FIRST_SLOT)
    assert not proposed.in_force
    assert proposed.proposal == put
    assert len(proposed.of_day(COMMUNITY_BATTERY, FIRST_SLOT)) == 29
    assert grid.action_of(before, [], FIRST_SLOT).of_day(COMMUNITY_BATTERY, FIRST_SLOT) == {}


def test_a_device_s_word_is_held_against_its_schedule() -> None:
    schedule = dict.fromkeys(range(FIRST_SLOT, FIRST_SLOT + 5), 1_000)
    reports = [
        Report(FIRST_SLOT, 1_000, 1_000, 250),
        Report(FIRST_SLOT + 1, 1_000, 900, 225),
        Report(FIRST_SLOT + 2, 1_000, None, None),
    ]
    now = (FIRST_SLOT + 4) * SLOT_SECONDS + grid.REPORT_PATIENCE_S + 1
    said = [one.said for one in grid.told(schedule, reports, now)]
    assert said == [Said.TOOK, Said.OTHER, Said.SILENT, Said.MISSING, Said.TO_COME]


def dispatches(folder: Path, homes: int) -> None:
    """What a collector keeps: a battery at meter 9 and `homes` other devices, all called once."""
    with closing(sqlite3.connect(folder / "dispatch.sqlite")) as db:
        db.execute(
            "CREATE TABLE report (slot INTEGER, meter INTEGER, digest BLOB, report TEXT, "
            "PRIMARY KEY (slot, meter, digest)) WITHOUT ROWID"
        )
        for meter in (9, *range(100, 100 + homes)):
            report = {
                "meter": meter,
                "slot": FIRST_SLOT,
                "wanted": 500,
                "acknowledged": None if meter == 100 else 500,
                "done_wh": 125,
                "device": "x",
            }
            db.execute(
                "INSERT INTO report VALUES (?, ?, ?, ?)",
                (FIRST_SLOT, meter, b"", json.dumps(report)),
            )
        for slot, odd in enumerate(("[]", "no JSON", '{"slot": 1}'), FIRST_SLOT + 1):
            db.execute("INSERT INTO report VALUES (?, 9, ?, ?)", (slot, b"1", odd))
        db.commit()


def test_only_the_community_s_battery_is_told_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dispatches(tmp_path, devices.FEW)
    assert devices.reports(tmp_path, FIRST_SLOT) == ()
    monkeypatch.setenv(devices.BATTERY_METER, "9")
    assert devices.reports(tmp_path, FIRST_SLOT) == (Report(FIRST_SLOT, 500, 500, 125),)
    assert devices.others(tmp_path, FIRST_SLOT) == devices.Others(5, 5, 4)
    assert devices.others(tmp_path, FIRST_SLOT + SLOTS_PER_DAY) is None


def test_sums_over_few_homes_are_not_told(tmp_path: Path) -> None:
    dispatches(tmp_path, devices.FEW - 2)
    assert devices.others(tmp_path, FIRST_SLOT) is None


def test_days_are_what_has_evidence(tmp_path: Path) -> None:
    folder = tmp_path / "evidence"
    folder.mkdir()
    for name in (
        "zone-1-2016-06-07",
        "zone-1-2016-06-08",
        "zone-2-2016-06-09",
        "zone-1-2016-99-99",
    ):
        (folder / f"{name}.json").write_text("{}")
    assert [one.first_slot for one in files.days(tmp_path, 1)] == [
        FIRST_SLOT + SLOTS_PER_DAY,
        FIRST_SLOT,
    ]
    assert files.days(tmp_path / "nowhere", 1) == ()


def test_windows_are_those_of_the_day_and_the_two_before(tmp_path: Path) -> None:
    index = Index(tmp_path / "index.sqlite")
    for first_slot in range(FIRST_SLOT - 4 * SLOTS_PER_DAY, FIRST_SLOT + 2 * SLOTS_PER_DAY, 96):
        index.open_window(COMMUNITY_BATTERY, first_slot + 3, 2, 1_000)
    index.open_window(7, FIRST_SLOT, 2, 100)
    found = files.windows(index.path, ZONE, FIRST_SLOT)
    assert [row[1] - FIRST_SLOT for row in found] == [-189, -93, 3]


def test_a_picture_that_cannot_be_made_says_why_and_is_not_asked_for_again_at_once(
    tmp_path: Path,
) -> None:
    """The child really runs: it finds that the evidence is none."""
    evidence = tmp_path / "zone-1-2016-06-07.json"
    evidence.write_text("no evidence")

    def ask() -> files.Asked:
        return files.picture(
            tmp_path, ZONE, "1-LV-rural3--2-sw", 1, Day(FIRST_SLOT, evidence), None, ()
        )

    assert not ask().is_made
    for _ in range(600):
        found = ask()
        if found.is_made:
            break
        time.sleep(0.1)
    assert found.file is None
    assert "not an evidence file" in str(found.problem)
    assert ask() == found
