# SPDX-License-Identifier: Apache-2.0
"""SML as on the wire."""

from __future__ import annotations

import pytest

from dao.errors import BadUse, CheckFailed
from tests.meters.adapters.helpers import energies, only, parsed, rows
from tests.meters.adapters.records import (
    SML_CLOCK,
    SML_SECONDS,
    Unsigned,
    sml_entry,
    sml_frame,
    sml_list,
)


def test_registers_are_scaled_and_have_no_time_where_the_meter_has_no_clock() -> None:
    row = only("sml", SML_SECONDS)
    assert row["meter"] == "1 EMH00 1059 7059"
    assert (row["import_wh"], row["export_wh"]) == (12345679, 0)  # 12345678.9 and 0.5
    assert (row["end"], row["register"]) == (None, True)


def test_the_time_of_reading_can_be_given() -> None:
    found = parsed("sml", SML_SECONDS)
    assert "--at" in found.notes[-1]


def test_tariffs_are_added_at_the_meters_own_clock() -> None:
    row = only("sml", SML_CLOCK)
    assert (row["import_wh"], row["end"]) == (1234, "2024-04-01T10:00:00Z")


def test_a_hexadecimal_dump_is_the_same_record() -> None:
    dump = SML_CLOCK.hex(" ").upper().encode()
    assert only("sml", dump) == only("sml", SML_CLOCK)


def test_readings_of_a_stream_stay_apart_and_in_order() -> None:
    frames = b"".join(sml_frame(sml_list([sml_entry("1.0.1.8.0", v, scaler=0)])) for v in (1, 1, 2))
    assert energies(rows("sml", b"\x00noise" + frames)) == [(1, None), (1, None), (2, None)]


def test_a_damaged_frame_is_left_out_and_told() -> None:
    broken = bytearray(SML_CLOCK)
    broken[60] ^= 1
    found = parsed("sml", bytes(broken) + SML_CLOCK)
    assert len(found.readings) == 1
    assert "1 of 2 SML frames are damaged" in found.notes[0]
    with pytest.raises(CheckFailed, match="CRC"):
        parsed("sml", bytes(broken))


def test_a_large_register_stays_exact() -> None:
    entry = sml_entry("1.0.1.8.0", Unsigned(98765432101234), scaler=-1)
    assert only("sml", sml_frame(sml_list([entry])))["import_wh"] == 9876543210123


def test_escape_bytes_within_a_value_are_taken_back() -> None:
    entry = sml_entry("1.0.1.8.0", Unsigned(0x1B1B1B1B), scaler=0)
    assert only("sml", sml_frame(sml_list([entry])))["import_wh"] == 0x1B1B1B1B


def test_a_register_without_a_unit_is_left_out_and_told() -> None:
    entries = [sml_entry("1.0.1.8.0", 1, unit=None), sml_entry("1.0.2.8.0", 2, scaler=0)]
    found = parsed("sml", sml_frame(sml_list(entries)))
    assert [(r.import_wh, r.export_wh) for r in found.readings] == [(None, 2)]
    assert "no unit" in found.notes[0]


def test_a_register_in_another_unit_is_refused() -> None:
    with pytest.raises(BadUse, match="unit"):
        parsed("sml", sml_frame(sml_list([sml_entry("1.0.1.8.0", 1, unit=13)])))


def test_a_scaler_beyond_its_byte_is_refused_at_once() -> None:
    with pytest.raises(BadUse, match="scaler"):
        parsed("sml", sml_frame(sml_list([sml_entry("1.0.1.8.0", 1, scaler=-1_000_000_000)])))
