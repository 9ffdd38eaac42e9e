# SPDX-License-Identifier: Apache-2.0
"""CSV tables, understood by their header."""

from __future__ import annotations

import pytest

from dao.errors import BadUse, CheckFailed
from tests.meters.adapters.helpers import energies, only, parsed, rows
from tests.meters.adapters.records import CSV, CSV_LOCAL


def table(*lines: str) -> bytes:
    return "\n".join(lines).encode()


def test_a_plain_table_of_intervals() -> None:
    found = rows("csv", CSV)
    assert energies(found) == [(125, 0), (None, 1500)]
    assert [row["meter"] for row in found] == ["H1", "H1"]
    assert [row["quality"] for row in found] == ["measured", "estimated"]
    assert found[0]["start"] == "2024-04-01T00:00:00Z"


def test_local_time_decimal_commas_and_the_repeated_hour() -> None:
    found = rows("csv", CSV_LOCAL, zone="Europe/Vienna")
    assert energies(found) == [(1500, 0), (1250, 0), (1750, 0), (1000500, 0)]
    assert [row["start"] for row in found] == [
        f"2023-10-{day}T{hour}:00:00Z"
        for day, hour in (("28", 23), ("29", "00"), ("29", "01"), ("29", "02"))
    ]


def test_without_a_zone_times_are_utc_and_the_repetition_is_told() -> None:
    found = parsed("csv", CSV_LOCAL)
    assert "taken as UTC" in found.notes[0]
    assert any("two different values" in note for note in found.notes)


def test_a_missing_hour_of_spring_leaves_no_gap() -> None:
    data = table("timestamp,import_kwh", "2024-03-31 01:00,1", "2024-03-31 03:00,1")
    data += b"\n2024-03-31 04:00,1"
    assert parsed("csv", data, zone="Europe/Vienna").notes == []


def test_end_alone_is_the_end() -> None:
    data = table("end,import_wh", "2024-04-01T00:15:00Z,1", "2024-04-01T00:30:00Z,2")
    assert rows("csv", data)[0]["start"] == "2024-04-01T00:00:00Z"


def test_registers_have_no_start() -> None:
    data = table("timestamp,import_register_kwh,export_register_kwh", "2024-04-01T00:00:00Z,7,1")
    row = only("csv", data)
    assert (row["register"], row["start"], row["import_wh"], row["export_wh"]) == (
        True,
        None,
        7000,
        1000,
    )


def test_a_falling_register_is_told() -> None:
    data = table("timestamp,reading (kWh)", "2024-04-01T00:00:00Z,7", "2024-04-01T01:00:00Z,6")
    assert "falls from 7000 to 6000 Wh" in parsed("csv", data).notes[0]


def test_mean_power_becomes_energy() -> None:
    data = table("timestamp,import_kw", "2024-04-01T00:00:00Z,2", "2024-04-01T00:15:00Z,4")
    assert energies(rows("csv", data)) == [(500, None), (1000, None)]


def test_unix_seconds_are_utc() -> None:
    data = table("timestamp;value_wh", "1711965600;5", "1711966500;6")
    assert rows("csv", data)[0]["start"] == "2024-04-01T10:00:00Z"


def test_a_column_without_direction_is_import_unless_said() -> None:
    data = table("timestamp,kWh", "2024-04-01T00:00:00Z,1", "2024-04-01T01:00:00Z,2")
    assert energies(rows("csv", data)) == [(1000, None), (2000, None)]
    assert energies(rows("csv", data, export=True)) == [(None, 1000), (None, 2000)]


def test_date_and_time_may_be_two_columns() -> None:
    data = table("date,time,import_kwh", "2024-04-01,00:00,1", "2024-04-01,00:30,2")
    assert [row["end"] for row in rows("csv", data)] == [
        "2024-04-01T00:30:00Z",
        "2024-04-01T01:00:00Z",
    ]


def test_two_columns_of_one_direction_are_tariffs() -> None:
    data = table(
        "start,end,import_t1_kwh,import_t2_kwh",
        "2024-04-01T00:00:00Z,2024-04-01T00:15:00Z,1,2",
    )
    assert only("csv", data)["import_wh"] == 3000


def test_several_meters_in_one_table_stay_apart() -> None:
    data = table(
        "meter,timestamp,import_wh",
        *(f"{m},2024-04-01T00:{q}:00Z,{w}" for m, w in (("A", 1), ("B", 2)) for q in ("00", "15")),
    )
    assert [(r["meter"], r["import_wh"]) for r in rows("csv", data)] == [
        ("A", 1),
        ("A", 1),
        ("B", 2),
        ("B", 2),
    ]


@pytest.mark.parametrize("mark", ["", "-", "null", "NaN", "n/a"])
def test_no_value_is_null(mark: str) -> None:
    data = table("start,end,import_wh", f"2024-04-01T00:00:00Z,2024-04-01T00:15:00Z,{mark}")
    row = only("csv", data)
    assert (row["import_wh"], row["quality"]) == (None, "missing")


def test_a_line_that_names_the_delimiter_is_skipped() -> None:
    assert energies(rows("csv", b"sep=,\r\n" + CSV)) == energies(rows("csv", CSV))


def test_thousands_marks_are_understood() -> None:
    data = table("timestamp,import_wh", '1711965600,"1,234.5"', '1711966500,"2,000.0"')
    assert energies(rows("csv", data)) == [(1234, None), (2000, None)]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
def test_spreadsheet_encodings_are_understood(encoding: str) -> None:
    text = "Zeitstempel;Zählerstand Bezug (kWh)\n2024-04-01T00:00:00Z;1,5\n"
    assert only("csv", text.encode(encoding))["import_wh"] == 1500


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (("timestamp,import", "2024-04-01,1"), "has no unit: name it like import_kwh"),
        (("a,b", "1,2"), "no column of energy"),
        (("import_kwh,quality", "1,a"), "no column of time"),
        (("timestamp,import_kwh",), "a header and no row"),
        (("timestamp,import_kwh", "2024-04-01T00:00:00Z"), "row 2 has 1 fields"),
        (("timestamp,import_kwh", "2024-04-01T00:00:00Z,1"), "one time and no end"),
        (("timestamp,import_kwh", "yesterday,1", "today,1"), "expected a time"),
        (("timestamp,import_kwh", "2024-04-01T00:00,x", "2024-04-01T01:00,1"), "a number"),
        (("timestamp,import_kwh", '1711965600,"1,2"', '1711966500,"1,3"'), "thousands comma"),
        (
            ("start,end,import_kwh", "2024-04-01T01:00:00Z,2024-04-01T00:00:00Z,1"),
            "before it starts",
        ),
        (
            ("timestamp,import_kwh", "2024-04-01T00:00Z,1", "2024-04-01T01:00,1"),
            "some have none",
        ),
        (
            (
                "timestamp,import_kwh",
                *(f"2024-04-01T0{h}:00Z,1" for h in (0, 1, 2)),
                "2024-04-01T02:40Z,1",
            ),
            "add a column end",
        ),
    ],
)
def test_what_cannot_be_understood_is_said(lines: tuple[str, ...], words: str) -> None:
    with pytest.raises(BadUse, match=words):
        parsed("csv", table(*lines))


def test_a_column_that_is_not_used_is_named() -> None:
    data = table("start,end,import_wh,weather", "2024-04-01T00:00Z,2024-04-01T00:15Z,1,sun")
    assert "column 'weather' is not used" in parsed("csv", data).notes[0]


def test_an_unknown_quality_word_is_only_an_estimate() -> None:
    data = table("start,end,import_wh,quality", "2024-04-01T00:00Z,2024-04-01T00:15Z,1,odd")
    assert only("csv", data)["quality"] == "estimated"


@pytest.mark.parametrize(("word", "wh"), [("invalid", 1), ("missing", None)])
def test_an_invalid_value_is_kept_and_marked_a_missing_one_is_none(
    word: str, wh: int | None
) -> None:
    data = table("start,end,import_wh,quality", f"2024-04-01T00:00Z,2024-04-01T00:15Z,1,{word}")
    row = only("csv", data)
    assert (row["import_wh"], row["quality"]) == (wh, word)


def test_an_empty_table_has_no_reading() -> None:
    with pytest.raises((BadUse, CheckFailed)):
        parsed("csv", b"\n\n")
