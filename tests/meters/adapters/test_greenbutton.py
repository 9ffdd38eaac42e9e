# SPDX-License-Identifier: Apache-2.0
"""Green Button feeds."""

from __future__ import annotations

import pytest

from dao.errors import BadUse, CheckFailed
from tests.meters.adapters.helpers import energies, only, parsed, rows
from tests.meters.adapters.records import GREENBUTTON, espi, espi_kind, espi_reading

START = 1711965600


def test_an_interval_is_scaled_and_placed_in_utc() -> None:
    first, second = rows("greenbutton", GREENBUTTON)
    assert first == {
        "meter": "41",
        "start": "2024-04-01T10:00:00Z",
        "end": "2024-04-01T10:15:00Z",
        "import_wh": 273,
        "export_wh": None,
        "register": False,
        "quality": "measured",
        "source_quality": None,
    }
    assert (second["import_wh"], second["quality"], second["source_quality"]) == (
        1,
        "estimated",
        "8",
    )


@pytest.mark.parametrize(
    ("flow", "value", "energy"),
    [
        (1, "5", (5, None)),
        (19, "5", (None, 5)),
        (4, "5", (5, 0)),
        (4, "-5", (0, 5)),
    ],
)
def test_the_flow_direction_decides(
    flow: int, value: str, energy: tuple[int | None, int | None]
) -> None:
    data = espi(espi_kind(flow=flow), espi_reading(START, value))
    assert energies(rows("greenbutton", data)) == [energy]


def test_reverse_energy_below_zero_is_invalid() -> None:
    row = only("greenbutton", espi(espi_kind(flow=19), espi_reading(START, "-5")))
    assert (row["export_wh"], row["quality"]) == (None, "invalid")


@pytest.mark.parametrize("behaviour", [1, 2, 3, 9])
def test_bulk_and_cumulative_quantities_are_registers(behaviour: int) -> None:
    row = only("greenbutton", espi(espi_kind(behaviour=behaviour), espi_reading(START, "5")))
    assert (row["register"], row["start"], row["end"]) == (True, None, "2024-04-01T10:15:00Z")


@pytest.mark.parametrize(("power", "wh"), [(-3, 5), (0, 5000), (3, 5_000_000)])
def test_the_power_of_ten_multiplies(power: int, wh: int) -> None:
    row = only("greenbutton", espi(espi_kind(power=power), espi_reading(START, "5000")))
    assert row["import_wh"] == wh


def test_mean_power_becomes_energy() -> None:
    row = only("greenbutton", espi(espi_kind(unit=38), espi_reading(START, "1000")))
    assert row["import_wh"] == 250


@pytest.mark.parametrize("kind", [espi_kind(unit=119), espi_kind(behaviour=12), espi_kind(flow=2)])
def test_what_is_no_energy_is_left_out_and_told(kind: str) -> None:
    with pytest.raises(CheckFailed, match="left out"):
        parsed("greenbutton", espi(kind, espi_reading(START, "5")))


def test_gas_is_left_out() -> None:
    data = espi(espi_kind(), espi_reading(START, "5")).replace(b"<kind>0<", b"<kind>1<")
    with pytest.raises(CheckFailed, match="not electricity"):
        parsed("greenbutton", data)


@pytest.mark.parametrize(
    ("code", "quality"),
    [(0, "measured"), (14, "measured"), (7, "substituted"), (9, "estimated"), (10, "invalid")],
)
def test_reading_qualities_are_translated(code: int, quality: str) -> None:
    data = espi(espi_kind(), espi_reading(START, "5", quality=code))
    assert only("greenbutton", data)["quality"] == quality


def test_an_unknown_quality_is_only_an_estimate_and_told() -> None:
    found = parsed("greenbutton", espi(espi_kind(), espi_reading(START, "5", quality=99)))
    assert found.readings[0].quality.name == "ESTIMATED"
    assert "unknown quality code '99'" in found.notes[0]


def test_a_reading_without_a_value_is_missing() -> None:
    row = only("greenbutton", espi(espi_kind(), espi_reading(START, "")))
    assert (row["import_wh"], row["quality"]) == (None, "missing")


def test_readings_without_times_follow_their_block() -> None:
    block = f"<interval><duration>1800</duration><start>{START}</start></interval>"
    readings = "<IntervalReading><value>1</value></IntervalReading>" * 2
    found = rows("greenbutton", espi(espi_kind(), block, readings))
    assert [row["start"] for row in found] == ["2024-04-01T10:00:00Z", "2024-04-01T10:15:00Z"]


def test_two_usage_points_stay_two_meters() -> None:
    one = espi(espi_kind(), espi_reading(START, "1"))
    two = espi(espi_kind(flow=19), espi_reading(START, "2"))
    two = two.replace(b"UsagePoint/41", b"UsagePoint/42").replace(b"Type/9", b"Type/8")
    joined = one.removesuffix(b"</feed>") + two.partition(b">")[2]
    assert [(r["meter"], r["import_wh"], r["export_wh"]) for r in rows("greenbutton", joined)] == [
        ("41", 1, None),
        ("42", None, 2),
    ]


def test_a_feed_without_blocks_is_refused() -> None:
    with pytest.raises(BadUse, match="no Green Button feed"):
        parsed("greenbutton", b"<feed/>")
