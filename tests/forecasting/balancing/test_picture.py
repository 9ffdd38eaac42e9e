# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import copy
import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from dao.errors import BadUse
from dao.parameters import COMMUNITY_BATTERY
from dao.slots import SLOTS_PER_DAY
from forecasting.balancing import DEMO_BATTERY, plan_day
from forecasting.balancing.actions import Window
from forecasting.balancing.picture import Question, draw, main, places, stored_at
from forecasting.evidence import read_evidence
from forecasting.grid import ZoneGrid
from forecasting.zone import ZoneTotals, canonical_json, totals_digest
from tests.forecasting.balancing.conftest import DAY, Eve
from tests.forecasting.conftest import CODE, DemoZone

TAKEN, GIVEN = 5_000, 2_000
WORKED = [[DAY + 44, TAKEN, 0], [DAY + 80, 0, GIVEN]]


@pytest.fixture(scope="module")
def question(
    eve: Eve, demo_zone: DemoZone, cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> Question:
    """The day's evidence, and one of two days on in which the battery worked."""
    folder = tmp_path_factory.mktemp("evidence")
    made = folder / "zone-1-2016-06-08.json"
    made.write_bytes(canonical_json(eve.forecast.evidence(eve.history)))
    begin, end = eve.forecast.train_first_slot, DAY + SLOTS_PER_DAY + 48
    part = slice(begin - demo_zone.first_slot, end - demo_zone.first_slot)
    export = demo_zone.export_wh.sum(axis=1, dtype=np.int64)[part]
    homes = ZoneTotals(begin, demo_zone.net_wh[part], export)
    published = ZoneTotals(begin, homes.net_wh.copy(), export.copy())
    for slot, taken, given in WORKED:
        published.net_wh[slot - begin] += taken - given
        published.export_wh[slot - begin] += given
    later = replace(
        eve.forecast,
        first_slot=DAY + 2 * SLOTS_PER_DAY,
        train_end_slot=end,
        totals_sha256=totals_digest(homes),
    )
    after = folder / "zone-1-2016-06-10.json"
    after.write_bytes(canonical_json(later.evidence(published, battery_wh=WORKED)))
    windows = ((COMMUNITY_BATTERY, DAY + 36, 24, 40_000),)
    return Question(1, DAY, CODE, 1, str(made), str(after), windows, str(cache))


@pytest.fixture(scope="module")
def picture(question: Question) -> dict:  # type: ignore[type-arg]
    return draw(question)


def test_the_course_that_is_shown_is_as_hard_as_the_plan_s_ninth_in_ten(
    picture: dict,  # type: ignore[type-arg]
    eve: Eve,
    demo_zone: DemoZone,
) -> None:
    plan = plan_day(eve.forecast, demo_zone.grid, eve.shares, DEMO_BATTERY, history=eve.history)
    shown = picture["forecast"]["without"]
    assert sum(shown["over"]) == plan.before.quantiles[2] > 0
    assert max(map(max, shown["volts"])) > 105_500


def test_the_windows_charge_the_battery_and_lower_the_voltage(
    picture: dict,  # type: ignore[type-arg]
) -> None:
    before, after = picture["forecast"]["without"], picture["forecast"]["with"]
    assert before["battery_w"] == [0] * SLOTS_PER_DAY
    assert after["battery_w"][36] == 40_000
    assert after["battery_w"][35] == after["battery_w"][60] == 0
    assert max(after["volts"][44]) < max(before["volts"][44])
    assert after["volts"][20] == before["volts"][20]


def test_the_day_as_measured_is_the_power_flow_of_the_published_totals(
    picture: dict,  # type: ignore[type-arg]
    eve: Eve,
    demo_zone: DemoZone,
) -> None:
    at = DAY - demo_zone.first_slot
    export = demo_zone.export_wh.sum(axis=1, dtype=np.int64)[at : at + SLOTS_PER_DAY]
    net = demo_zone.net_wh[at : at + SLOTS_PER_DAY]
    power = eve.shares.spread(net + export, export)
    battery_w = np.zeros(SLOTS_PER_DAY)
    battery_w[44], battery_w[80] = 4 * TAKEN, -4 * GIVEN
    resting = demo_zone.grid.states(power, eve.shares.buses)
    acted = demo_zone.grid.states(
        power, eve.shares.buses, battery_w=battery_w, battery=DEMO_BATTERY
    )
    for name, truth in (("without", resting), ("with", acted)):
        shown = picture["measured"][name]
        assert np.allclose(np.array(shown["volts"]) * 1e-5, truth.voltages, atol=6e-6)
        assert np.allclose(np.array(shown["lines"]).max(1) * 0.1, truth.line_loading, atol=0.06)
        assert np.allclose(
            np.array(shown["transformer"]) * 0.1, truth.transformer_loading, atol=0.06
        )
        assert shown["over"] == truth.over_limit.astype(int).tolist()
    assert picture["measured"]["with"]["battery_w"][44] == 4 * TAKEN


def test_every_bus_and_cable_of_the_model_has_its_place(
    picture: dict,  # type: ignore[type-arg]
    demo_zone: DemoZone,
) -> None:
    assert [row[0] for row in picture["buses"]] == demo_zone.grid.buses.tolist()
    assert all(0 <= value <= 1_000 for row in picture["buses"] for value in row[1:])
    assert len(picture["lines"]) == len(demo_zone.grid.document["lines"])
    assert sum(count for _, count in picture["homes"]) == len(demo_zone.homes)
    # Nothing in it is by home.
    assert not {"net_w", "import_wh", "export_wh", "meters"} & set(json.dumps(picture).split('"'))


def test_an_evidence_that_ends_too_early_measures_nothing(question: Question) -> None:
    assert draw(replace(question, later=question.evidence))["measured"] is None


def test_an_evidence_under_another_day_s_name_is_refused(question: Question) -> None:
    with pytest.raises(BadUse, match="another zone or day"):
        draw(replace(question, first_slot=DAY + SLOTS_PER_DAY))


def test_a_grid_without_coordinates_becomes_a_tree(demo_zone: DemoZone) -> None:
    document = copy.deepcopy(demo_zone.grid.document)
    for bus in document["buses"]:
        bus["place"] = None
    grid = ZoneGrid(document)
    found = places(grid)
    assert len(set(found.values())) == len(grid.buses)
    assert found[grid.low_bus][1] == 0
    depths = {bus: down for bus, (_, down) in found.items()}
    assert all(depths[line["from_bus"]] != depths[line["to_bus"]] for line in document["lines"])


def test_what_the_battery_holds_follows_from_evidence_and_windows(question: Question) -> None:
    assert question.later is not None
    evidence = read_evidence(Path(question.later).read_bytes(), "later")
    held = TAKEN * DEMO_BATTERY.efficiency_permille // 1_000 - GIVEN
    assert stored_at(evidence, DEMO_BATTERY, ()) == held
    # An hour at 8 kW between the evidence and its day.
    more = stored_at(evidence, DEMO_BATTERY, (Window(evidence.published.end_slot, 4, 8_000),))
    assert more == held + 7_200


def test_the_command_leaves_a_file_also_when_there_is_no_picture(
    question: Question, tmp_path: Path
) -> None:
    asked, target = tmp_path / "question", tmp_path / "picture.json"
    asked.write_text(json.dumps(asdict(replace(question, code="1-LV-nowhere--2-sw"))))
    assert main([str(asked), str(target)]) == 1
    assert "unknown zone" in json.loads(target.read_text())["error"]
    assert list(tmp_path.glob("*.part")) == []
