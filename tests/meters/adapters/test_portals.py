# SPDX-License-Identifier: Apache-2.0
"""Portal files of Austria, France, Spain, Belgium and the Netherlands."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dao.errors import BadUse, CheckFailed
from tests.meters.adapters.helpers import energies, only, parsed, rows
from tests.meters.adapters.records import (
    AIIDA,
    DATADIS,
    EDA,
    EDA_FIRST,
    ENEDIS,
    FLUVIUS,
    MIJN_AANSLUITING,
    datadis,
    eda,
    eda_series,
    enedis,
    enedis_point,
    fluvius_interval,
    fluvius_value,
)


def test_austrian_directions_come_from_the_meter_code() -> None:
    first, second = rows("eda", EDA)
    assert (first["meter"], first["start"], first["end"]) == (
        "AT001",
        "2024-03-31T22:00:00Z",
        "2024-03-31T22:15:00Z",
    )
    assert energies([first, second]) == [(125, 0), (250, 1)]
    assert (first["quality"], first["source_quality"]) == ("measured", "L1")
    assert (second["quality"], second["source_quality"]) == ("substituted", "L3/L2")


@pytest.mark.parametrize(
    ("method", "quality"),
    [("L1", "measured"), ("L2", "substituted"), ("L3", "estimated"), ("L9", "estimated")],
)
def test_austrian_metering_methods_are_translated(method: str, quality: str) -> None:
    data = eda(eda_series("1-1:1.9.0 P.01", (*EDA_FIRST, method, "1")))
    assert only("eda", data)["quality"] == quality


def test_shares_of_an_energy_community_are_no_measurement() -> None:
    codes = ("1-1:2.9.0 G.01", "1-1:2.9.0 P.01", "1-1:2.9.0 G.02", "1-1:2.9.0 G.01T")
    data = eda(
        "".join(eda_series(code, (*EDA_FIRST, "L1", f"{i}.5")) for i, code in enumerate(codes))
    )
    found = parsed("eda", data)
    assert [(r.import_wh, r.export_wh) for r in found.readings] == [(None, 500)]
    assert sum("is a share" in note for note in found.notes) == 3


def test_an_austrian_register_is_read_at_the_end() -> None:
    row = only("eda", eda(eda_series("1-1:1.8.0 P.01", (*EDA_FIRST, "L1", "100"))))
    assert (row["register"], row["end"], row["import_wh"]) == (True, "2024-03-31T22:15:00Z", 100000)


def test_austrian_gas_and_reactive_energy_are_left_out() -> None:
    for data in (
        eda(eda_series("7-1:1.9.0 P.01", (*EDA_FIRST, "L1", "1"))),
        eda(eda_series("1-1:3.9.0 P.01", (*EDA_FIRST, "L1", "1"), unit="KVARH")),
        eda(eda_series("1-1:1.9.0 P.01", (*EDA_FIRST, "L1", "1")), sector="02"),
    ):
        with pytest.raises(CheckFailed, match="left out"):
            parsed("eda", data)


def test_another_austrian_document_is_refused_by_name() -> None:
    with pytest.raises(BadUse, match="root element is ECMPList"):
        parsed("eda", b"<ECMPList/>")


def test_french_power_is_stamped_at_its_end_and_may_change_resolution() -> None:
    found = rows("enedis", ENEDIS)
    assert energies(found) == [(500, None), (250, None), (100, None)]
    assert [(row["start"], row["end"]) for row in found] == [
        ("2024-03-31T22:00:00Z", "2024-03-31T22:30:00Z"),
        ("2024-03-31T22:30:00Z", "2024-03-31T23:00:00Z"),
        ("2024-03-31T23:00:00Z", "2024-03-31T23:10:00Z"),
    ]
    assert [row["quality"] for row in found] == ["measured", "estimated", "measured"]
    assert "intervals of different length" in parsed("enedis", ENEDIS).notes[0]


def test_french_production_is_export_when_the_caller_says_so() -> None:
    assert energies(rows("enedis", ENEDIS, export=True))[0] == (None, 500)


def test_a_french_curve_crosses_both_clock_changes_without_a_gap() -> None:
    spring = [f"2024-03-31 {clock}:00" for clock in ("01:30", "03:00", "03:30", "04:00")]
    spring[1:2] = ["2024-03-31 03:00:00"]
    autumn = [
        f"2023-10-29 {clock}:00" for clock in ("02:00", "02:30", "03:00", "02:30", "03:00", "03:30")
    ]
    for marks in (spring, autumn):
        found = parsed("enedis", enedis([enedis_point(mark, "10") for mark in marks]))
        assert [note for note in found.notes if "gap" in note or "overlap" in note] == []


def test_french_daily_energy_is_of_the_local_day() -> None:
    points = [{"value": "14511", "date": "2024-03-31"}]
    kind = {"unit": "Wh", "measurement_kind": "energy", "measuring_period": "P1D"}
    row = only("enedis", enedis(points, reading_type=kind, quality="BRUT"))
    assert (row["start"], row["end"]) == ("2024-03-30T23:00:00Z", "2024-03-31T22:00:00Z")
    assert (row["import_wh"], row["quality"]) == (14511, "measured")


@pytest.mark.parametrize("kind", [{"unit": "VA"}, {"unit": "W", "aggregate": "maximum"}])
def test_french_peak_power_is_no_energy(kind: dict[str, str]) -> None:
    with pytest.raises(CheckFailed, match="left out"):
        parsed("enedis", enedis([enedis_point("2024-04-01 00:30:00", "1")], reading_type=kind))


def test_a_french_point_without_value_is_missing() -> None:
    row = only("enedis", enedis([enedis_point("2024-04-01 00:30:00", None)]))
    assert (row["import_wh"], row["quality"]) == (None, "missing")


def test_spanish_times_are_ends_and_the_last_is_24() -> None:
    found = rows("datadis", DATADIS)
    assert [row["start"] for row in found] == [
        "2023-11-30T23:00:00Z",
        "2023-12-01T00:00:00Z",
        "2023-12-01T22:00:00Z",
    ]
    assert energies(found) == [(979, 0), (500, 1250), (None, 0)]
    assert [row["quality"] for row in found] == ["measured", "estimated", "measured"]


def test_spanish_quarter_hours_are_seen_by_their_minutes() -> None:
    data = datadis([("2024/04/01", f"00:{m}", 1, 0, "Real") for m in (15, 30, 45)])
    assert [row["start"] for row in rows("datadis", data)] == [
        f"2024-03-31T22:{m}:00Z" for m in ("00", "15", "30")
    ]


def test_spanish_times_from_midnight_are_starts() -> None:
    data = datadis([("2024/04/01", f"0{h}:00", h, 0, "Real") for h in range(3)])
    assert rows("datadis", data)[0]["start"] == "2024-03-31T22:00:00Z"
    assert "taken as starts" in parsed("datadis", data).notes[0]


@pytest.mark.parametrize(
    ("day", "hours"),
    [
        ("2023/10/29", [1, 2, 3, 3, *range(4, 25)]),
        ("2024/03/31", [1, 2, *range(4, 25)]),
        ("2024/04/01", [*range(1, 25)]),
    ],
)
def test_a_spanish_day_of_any_length_has_no_gap(day: str, hours: list[int]) -> None:
    found = parsed("datadis", datadis([(day, f"{h:02}:00", 1, 0, "Real") for h in hours]))
    assert len(found.readings) == len(hours)
    assert found.notes == []


def test_the_canary_islands_have_their_own_time() -> None:
    row = rows("datadis", DATADIS, zone="Atlantic/Canary")[0]
    assert row["start"] == "2023-12-01T00:00:00Z"


@pytest.mark.parametrize("clock", ["25:00", "24:15", "1", "", "01:60"])
def test_a_spanish_time_off_the_clock_is_refused(clock: str) -> None:
    with pytest.raises(BadUse, match="expected 2023/12/01 and 01:00 to 24:00"):
        parsed("datadis", datadis([("2023/12/01", clock, 1, 0, "Real")]))


def headpoint(**content: Any) -> bytes:
    return json.dumps(
        {"data": {"headpoint": {"ean": "5414", "energyType": "E", **content}}}
    ).encode()


FIRST = ("2024-12-01T00:00:00Z", "2024-12-01T00:15:00Z")


def test_belgian_day_and_night_are_added_and_reactive_is_not_used() -> None:
    row = only("fluvius", FLUVIUS)
    assert (row["meter"], row["import_wh"], row["export_wh"]) == ("5414", 10, 0)
    assert row["quality"] == "estimated"


def test_belgian_physical_meters_stand_in_only_where_the_headpoint_is_silent() -> None:
    energy = [fluvius_interval(*FIRST, offtake={"total": fluvius_value(1)})]
    meters = [{"meterID": "P", "quarterHourlyEnergy": energy}]
    alone = only("fluvius", headpoint(physicalMeters=meters))
    both = only("fluvius", headpoint(physicalMeters=meters, quarterHourlyEnergy=energy))
    assert (alone["meter"], both["meter"]) == ("P", "5414")


def test_a_belgian_submeter_is_a_meter_of_its_own() -> None:
    energy = [fluvius_interval(*FIRST, injection={"total": fluvius_value(2)})]
    row = only("fluvius", headpoint(subHeadpoints=[{"ean": "7", "quarterHourlyEnergy": energy}]))
    assert (row["meter"], row["export_wh"]) == ("5414/7", 2000)


@pytest.mark.parametrize(
    ("state", "quality"),
    [("READ", "measured"), ("EST", "estimated"), ("NVAL", "invalid"), ("NEW", "estimated")],
)
def test_belgian_validation_states_are_translated(state: str, quality: str) -> None:
    energy = [fluvius_interval(*FIRST, offtake={"total": fluvius_value(1, state)})]
    assert only("fluvius", headpoint(quarterHourlyEnergy=energy))["quality"] == quality


def test_belgian_gas_is_left_out() -> None:
    with pytest.raises(CheckFailed, match="not electricity"):
        parsed("fluvius", headpoint(energyType="G"))


def test_dutch_registers_are_added_over_tariffs_and_gas_is_left_out() -> None:
    row = only("mijn-aansluiting", MIJN_AANSLUITING)
    assert row["end"] == "2023-04-30T22:00:00Z"
    assert (row["register"], row["import_wh"], row["export_wh"]) == (True, 16942450, 5)
    assert "in m3" in parsed("mijn-aansluiting", MIJN_AANSLUITING).notes[0]


def test_an_aiida_record_gives_its_registers_and_no_power() -> None:
    row = only("aiida", AIIDA)
    assert (row["meter"], row["end"]) == ("M1", "2024-04-01T12:00:00Z")
    assert (row["import_wh"], row["export_wh"]) == (50500, 7)


@pytest.mark.parametrize("name", ["enedis", "datadis", "fluvius", "mijn-aansluiting", "aiida"])
def test_an_answer_of_another_kind_is_refused(name: str) -> None:
    for data in (b"{}", b"[1]", b'"x"', b"{", b"null"):
        with pytest.raises(BadUse):
            parsed(name, data)
