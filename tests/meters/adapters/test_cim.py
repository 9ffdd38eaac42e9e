# SPDX-License-Identifier: Apache-2.0
"""CIM market documents, in XML and JSON, and Energinet's."""

from __future__ import annotations

import pytest

from dao.errors import BadUse, CheckFailed
from tests.meters.adapters.helpers import energies, parsed, rows
from tests.meters.adapters.records import (
    CIM_JSON,
    CIM_XML,
    ENERGINET,
    cim_point,
    cim_xml,
    energinet,
    energinet_point,
)


def test_a_series_in_xml_is_placed_by_position_and_resolution() -> None:
    found = rows("cim", CIM_XML)
    assert energies(found) == [(100, None), (200, None), (300, None), (400, None)]
    assert (found[0]["meter"], found[3]["start"]) == ("MP1", "2024-04-01T00:45:00Z")


def test_a_series_in_json_may_give_mean_power() -> None:
    found = rows("cim", CIM_JSON)
    assert energies(found) == [(None, 1000), (None, 500)]
    assert found[0]["meter"] == "MP2"


@pytest.mark.parametrize(
    ("unit", "quantity", "wh"), [("WTT", "10.0", 2), ("KWH", "0.01", 10), ("MWH", "0.001", 1000)]
)
def test_units_are_those_of_the_un_code_list(unit: str, quantity: str, wh: int) -> None:
    assert rows("cim", cim_xml(cim_point(1, quantity), unit=unit))[0]["import_wh"] == wh


@pytest.mark.parametrize(("direction", "energy"), [("A02", (1000, None)), ("A01", (None, 1000))])
def test_down_is_import_and_up_is_export(
    direction: str, energy: tuple[int | None, int | None]
) -> None:
    assert energies(rows("cim", cim_xml(cim_point(1, "1"), direction)))[0] == energy


def test_another_direction_is_left_out_and_told() -> None:
    with pytest.raises(CheckFailed, match="flow direction A03"):
        parsed("cim", cim_xml(cim_point(1, "1"), "A03"))


def test_positions_may_count_from_zero() -> None:
    found = rows("cim", cim_xml(cim_point(0, "1") + cim_point(3, "4")))
    assert energies(found) == [(1000, None), (None, None), (None, None), (4000, None)]


def test_a_position_left_out_is_missing() -> None:
    found = rows("cim", cim_xml(cim_point(2, "2")))
    assert [row["quality"] for row in found] == ["missing", "measured", "missing", "missing"]


def test_in_variable_blocks_a_position_left_out_repeats_the_one_before() -> None:
    found = rows("cim", cim_xml(cim_point(1, "1") + cim_point(3, "3"), curve="A03"))
    assert energies(found) == [(1000, None), (1000, None), (3000, None), (3000, None)]


@pytest.mark.parametrize(
    ("code", "quality", "wh"),
    [
        ("A01", "substituted", 1000),
        ("A02", "missing", None),
        ("A03", "estimated", 1000),
        ("A04", "measured", 1000),
        ("A05", "invalid", 1000),
        ("A06", "estimated", 1000),
    ],
)
def test_quality_codes_are_translated(code: str, quality: str, wh: int | None) -> None:
    row = rows("cim", cim_xml(cim_point(1, "1", code)))[0]
    assert (row["quality"], row["source_quality"], row["import_wh"]) == (quality, code, wh)


@pytest.mark.parametrize("position", [-1, 6, 4000])
def test_a_position_outside_its_period_is_refused(position: int) -> None:
    with pytest.raises(BadUse, match="position"):
        parsed("cim", cim_xml(cim_point(position, "1")))


def test_a_document_without_series_is_refused() -> None:
    for data in (b"<a/>", b'{"MarketDocument": {"TimeSeries_Series": []}}'):
        with pytest.raises(BadUse, match="no CIM document"):
            parsed("cim", data)


def test_danish_hours() -> None:
    found = rows("energinet", ENERGINET)
    assert energies(found) == [(130, None), (200, None), (None, None), (400, None)]
    assert [row["quality"] for row in found] == ["measured", "estimated", "missing", "measured"]
    assert found[0]["meter"] == "5713"


def test_danish_production_is_export() -> None:
    start, end = "2024-02-11T23:00:00Z", "2024-02-12T00:00:00Z"
    data = energinet([energinet_point(1, "1")], "PT1H", start, end, business="A01")
    assert energies(rows("energinet", data)) == [(None, 1000)]


def test_danish_days_follow_the_clock_of_copenhagen() -> None:
    start, end = "2024-03-29T23:00:00Z", "2024-03-31T22:00:00Z"
    points = [energinet_point(1, "24"), energinet_point(2, "23")]
    found = rows("energinet", energinet(points, "P1D", start, end))
    assert [(row["start"], row["end"]) for row in found] == [
        ("2024-03-29T23:00:00Z", "2024-03-30T23:00:00Z"),
        ("2024-03-30T23:00:00Z", "2024-03-31T22:00:00Z"),
    ]


@pytest.mark.parametrize(
    ("start", "hours"), [("2024-03-30T23:00:00Z", 23), ("2024-10-26T22:00:00Z", 25)]
)
def test_a_danish_day_of_23_or_25_hours_has_no_gap(start: str, hours: int) -> None:
    end = {23: "2024-03-31T22:00:00Z", 25: "2024-10-27T23:00:00Z"}[hours]
    points = [energinet_point(i, "1") for i in range(1, hours + 1)]
    found = parsed("energinet", energinet(points, "PT1H", start, end))
    assert len(found.readings) == hours
    assert found.notes == []


def test_a_period_far_longer_than_its_points_is_refused() -> None:
    data = energinet([energinet_point(1, "1")], "PT1H", "2024-01-01T00:00Z", "2044-01-01T00:00Z")
    with pytest.raises(BadUse, match="steps"):
        parsed("energinet", data)
