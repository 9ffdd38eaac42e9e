# SPDX-License-Identifier: Apache-2.0
"""The customer port of Linky meters."""

from __future__ import annotations

import pytest

from dao.errors import BadUse, CheckFailed
from tests.meters.adapters.helpers import energies, only, parsed, rows
from tests.meters.adapters.records import (
    AIIDA,
    LINKY_HISTORICAL,
    LINKY_STANDARD,
    tic_frame,
    tic_group,
)


def standard(*groups: tuple[str, ...]) -> bytes:
    return tic_frame(*(tic_group(*group, standard=True) for group in groups))


def test_standard_mode_gives_totals_and_the_meters_clock() -> None:
    row = only("linky", LINKY_STANDARD)
    assert (row["meter"], row["end"]) == ("041876097315", "2024-04-01T10:00:00Z")
    assert (row["import_wh"], row["export_wh"], row["register"]) == (8400123, 77, True)


def test_historical_mode_adds_the_registers_of_the_contract() -> None:
    row = only("linky", LINKY_HISTORICAL)
    assert (row["meter"], row["import_wh"], row["end"]) == ("020828368445", 2587174, None)


def test_a_stream_holds_several_frames() -> None:
    later = standard(("ADSC", "041876097315"), ("DATE", "E240401121500", ""), ("EAST", "8400125"))
    found = rows("linky", LINKY_STANDARD[20:] + LINKY_STANDARD + later)
    assert energies(found) == [(8400123, 77), (8400125, None)]


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_a_capture_of_a_terminal_is_read_too(end: bytes) -> None:
    lines = LINKY_STANDARD.strip(b"\x02\x03").replace(b"\r\n", b"\n").strip(b"\r\n")
    assert only("linky", lines.replace(b"\n", end) + end) == only("linky", LINKY_STANDARD)


def test_a_wrong_checksum_fails_the_check() -> None:
    with pytest.raises(CheckFailed, match="checksum"):
        parsed("linky", LINKY_STANDARD.replace(b"008400123", b"008400124"))


def test_a_damaged_frame_among_good_ones_is_left_out_and_told() -> None:
    found = parsed("linky", LINKY_STANDARD.replace(b"8400123", b"8400124") + LINKY_HISTORICAL)
    assert [reading.import_wh for reading in found.readings] == [2587174]
    assert "1 of 2 were left out as damaged" in found.notes[0]


def test_summer_and_winter_are_told_by_the_season_letter() -> None:
    ends = [
        only("linky", standard(("DATE", f"{season}231029023000", ""), ("EAST", "1")))["end"]
        for season in "EH"
    ]
    assert ends == ["2023-10-29T00:30:00Z", "2023-10-29T01:30:00Z"]


def test_a_doubtful_clock_is_told() -> None:
    data = standard(("DATE", "e231029023000", ""), ("EAST", "1"))
    assert "in doubt" in parsed("linky", data).notes[0]


def test_the_aiida_form_is_read_too() -> None:
    assert rows("linky", AIIDA) == rows("aiida", AIIDA)


@pytest.mark.parametrize("data", [b"hello", standard(("PAPP", "1")), standard(("DATE", "x", ""))])
def test_what_holds_no_energy_is_one_clear_error(data: bytes) -> None:
    with pytest.raises((BadUse, CheckFailed)):
        parsed("linky", data)
