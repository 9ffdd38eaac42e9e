# SPDX-License-Identifier: Apache-2.0
"""Numbers, units, times and codes out of bytes that nobody vouches for."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from dao.errors import BadUse
from meters.adapters.fields import (
    Obis,
    duration,
    from_unix,
    instant,
    load_json,
    load_json_messages,
    load_xml,
    local_day,
    localise,
    number,
    obis,
    watt_hours,
)

VIENNA = ZoneInfo("Europe/Vienna")


def labels(day: str, *clocks: str) -> list[datetime]:
    return [datetime.fromisoformat(f"{day}T{clock}") for clock in clocks]


def starts(found: list[tuple[datetime, datetime]]) -> list[str]:
    return [f"{start:%H:%M}" for start, _ in found]


def test_the_second_pass_of_a_repeated_hour_lies_an_hour_later() -> None:
    marks = labels("2023-10-29", "01:00", "02:00", "02:00", "03:00")
    assert starts(localise(marks, [3600] * 4, VIENNA, ends=False)) == [
        "23:00",
        "00:00",
        "01:00",
        "02:00",
    ]


def test_quarter_hours_of_a_repeated_hour_are_told_by_their_place() -> None:
    passes = [f"02:{minute:02}" for minute in (0, 15, 30, 45)] * 2
    found = localise(labels("2023-10-29", *passes), [900] * 8, VIENNA, ends=False)
    assert all(b[0] - a[0] == timedelta(minutes=15) for a, b in pairwise(found))


def test_a_file_in_falling_order_is_understood_too() -> None:
    marks = labels("2023-10-29", "03:00", "02:00", "02:00", "01:00")
    found = localise(marks, [3600] * 4, VIENNA, ends=False)
    assert starts(found) == ["02:00", "01:00", "00:00", "23:00"]


@pytest.mark.parametrize(
    "clocks",
    [
        ("01:00", "02:00", "03:00", "03:00", "04:00"),  # start plus an hour
        ("01:00", "02:00", "02:00", "03:00", "04:00"),  # the clock at the end
    ],
)
def test_end_labels_of_the_long_day_are_read_the_way_that_leaves_no_break(
    clocks: tuple[str, ...],
) -> None:
    found = localise(labels("2023-10-29", *clocks), [3600] * 5, VIENNA, ends=True)
    assert starts(found) == ["22:00", "23:00", "00:00", "01:00", "02:00"]


@pytest.mark.parametrize(
    "clocks", [("01:00", "02:00", "04:00", "05:00"), ("01:00", "03:00", "04:00", "05:00")]
)
def test_end_labels_of_the_short_day_are_read_the_way_that_leaves_no_break(
    clocks: tuple[str, ...],
) -> None:
    found = localise(labels("2024-03-31", *clocks), [3600] * 4, VIENNA, ends=True)
    assert starts(found) == ["23:00", "00:00", "01:00", "02:00"]


def test_a_time_that_the_clock_skips_is_refused() -> None:
    with pytest.raises(BadUse, match="the clock skips it"):
        localise(labels("2024-03-31", "02:30"), [900], VIENNA, ends=False)


def test_a_local_day_has_23_24_or_25_hours() -> None:
    hours = [
        (end - start) // timedelta(hours=1)
        for start, end in (
            local_day(day, VIENNA)
            for day in (date(2024, 3, 31), date(2024, 4, 1), date(2024, 10, 27))
        )
    ]
    assert hours == [23, 24, 25]


def test_steps_of_months_and_days_follow_the_local_calendar() -> None:
    begin = datetime(2024, 2, 29, 23, tzinfo=UTC)  # the first of March in Vienna
    assert duration("P1M", "").after(begin, 1, VIENNA) == datetime(2024, 3, 31, 22, tzinfo=UTC)
    assert duration("PT15M", "").after(begin, 2, VIENNA) == begin + timedelta(minutes=30)


@pytest.mark.parametrize("text", ["", "P", "PT", "PT0S", "15M", "P1W", "PT1,5H", None, 5])
def test_what_is_no_duration_is_refused(text: object) -> None:
    with pytest.raises(BadUse, match="expected a duration"):
        duration(text, "resolution")


@pytest.mark.parametrize(
    ("code", "meaning"),
    [
        ("1-0:1.8.0", Obis("import", True, "")),
        ("1-0:1.8.0*255", Obis("import", True, "")),
        ("1-0:2.8.2*255", Obis("export", True, "2")),
        ("1.8.1", Obis("import", True, "1")),
        ("01-00:01.08.00.FF", Obis("import", True, "")),
        ("1-b:2.8.e", Obis("export", True, "")),
        ("1-1:1.9.0", Obis("import", False, "")),
        ("1-0:1.29.0*255", Obis("import", False, "")),
    ],
)
def test_an_obis_code_of_active_energy_is_understood(code: str, meaning: Obis) -> None:
    assert obis(code) == meaning


@pytest.mark.parametrize(
    "code", ["1-0:1.7.0", "1-0:3.8.0", "1-0:21.8.0", "7-0:1.8.0", "1-0:16.8.0", "x", "", "1-0:1.8"]
)
def test_power_reactive_energy_phases_gas_and_net_are_no_active_energy(code: str) -> None:
    assert obis(code) is None


@pytest.mark.parametrize(
    ("value", "unit", "wh"), [("1.5", "kWh", 1500), ("2", "WH", 2), ("0.001", "MWh", 1000)]
)
def test_energy_units_become_watt_hours(value: str, unit: str, wh: int) -> None:
    assert watt_hours(Decimal(value), unit, "x") == wh


def test_mean_power_becomes_energy_only_with_a_duration() -> None:
    assert watt_hours(Decimal(100), "W", "x", 900) == 25
    with pytest.raises(BadUse, match="expected Wh, kWh or MWh"):
        watt_hours(Decimal(100), "W", "x")


@pytest.mark.parametrize("unit", ["m3", "kvarh", "", None, 7])
def test_an_unknown_unit_is_refused(unit: object) -> None:
    with pytest.raises(BadUse, match="has the unit"):
        watt_hours(Decimal(1), unit, "x")


@pytest.mark.parametrize("value", ["abc", "NaN", "1e999", "-Infinity", True, [], {}, "1e-99"])
def test_what_is_no_number_of_a_meter_is_refused(value: object) -> None:
    with pytest.raises(BadUse, match=r"expected a|beyond what any meter counts"):
        number(value, "x")


def test_nothing_is_null_and_zero_is_zero() -> None:
    assert number(None, "x") is None
    assert number(" ", "x") is None
    assert number("0", "x") == 0


def test_a_time_needs_an_offset() -> None:
    assert instant("2024-04-01T02:00:00+02:00", "x") == datetime(2024, 4, 1, tzinfo=UTC)
    assert instant("2024-04-01T00:00:00.1234567Z", "x").microsecond == 123456
    with pytest.raises(BadUse, match="without a UTC offset"):
        instant("2024-04-01T02:00:00", "x")


@pytest.mark.parametrize("value", ["9999-12-31T23:59:59-05:00", "1969-12-31T23:59:59Z"])
def test_a_time_outside_the_reach_of_meters_is_refused(value: str) -> None:
    with pytest.raises(BadUse, match="1970 to 2199"):
        instant(value, "x")


@pytest.mark.parametrize("value", [None, -1, "1e30", "now"])
def test_what_are_no_unix_seconds_is_refused(value: object) -> None:
    with pytest.raises(BadUse):
        from_unix(value, "x")


@pytest.mark.parametrize(
    "text",
    [b"{", b"NaN", b"[" * 100_000, b"\xff\xfe{", b"9" * 5000, b'{"a": 1e99999999999999999999}'],
)
def test_what_is_no_json_is_refused(text: bytes) -> None:
    with pytest.raises(BadUse, match="JSON"):
        load_json(text)


def test_json_numbers_stay_exact() -> None:
    assert load_json(b"[0.1]") == [Decimal("0.1")]


def test_a_log_of_messages_is_read_line_by_line() -> None:
    assert load_json_messages(b'{"a": 1}\n\n{"a": 2}\n') == [{"a": 1}, {"a": 2}]


def test_an_xml_file_with_entities_is_refused() -> None:
    entities = "".join(f'<!ENTITY e{i} "{f"&e{i - 1};" * 10}">' for i in range(1, 12))
    for declared, used in (('<!ENTITY e SYSTEM "file:///etc/hostname">', "e"), (entities, "e11")):
        with pytest.raises(BadUse, match="XML"):
            load_xml(f"<!DOCTYPE a [<!ENTITY e0 'x'>{declared}]><a>&{used};</a>".encode())
