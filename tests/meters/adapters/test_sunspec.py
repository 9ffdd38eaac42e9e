# SPDX-License-Identifier: Apache-2.0
"""SunSpec images, as JSON and as registers."""

from __future__ import annotations

import json
import struct

import pytest

from dao.errors import BadUse, CheckFailed
from tests.meters.adapters.helpers import only, parsed, rows
from tests.meters.adapters.records import (
    SUNSPEC_JSON,
    SUNSPEC_MAP,
    sunspec_common,
    sunspec_inverter,
    sunspec_map,
    sunspec_meter,
)


def image(*models: dict[str, object]) -> bytes:
    return json.dumps({"models": [{"ID": 1, "SN": "S"}, *models]}).encode()


def test_the_registers_of_an_inverter_and_its_meter_are_two_meters() -> None:
    found = rows("sunspec", SUNSPEC_MAP)
    assert [(row["meter"], row["import_wh"], row["export_wh"]) for row in found] == [
        ("INV-1", None, 123450),
        ("MET-1", None, 70000),
    ]


def test_the_registers_may_come_as_hex() -> None:
    assert rows("sunspec", SUNSPEC_MAP.hex().encode()) == rows("sunspec", SUNSPEC_MAP)


def test_an_accumulator_at_zero_is_not_implemented_and_so_null() -> None:
    data = sunspec_map((1, sunspec_common(b"S")), (203, sunspec_meter(0, 5, 0)))
    row = only("sunspec", data)
    assert (row["import_wh"], row["export_wh"]) == (5, None)


def test_an_unsigned_counter_at_zero_is_zero() -> None:
    row = only("sunspec", SUNSPEC_JSON)
    assert (row["meter"], row["import_wh"], row["export_wh"]) == ("DER-1", 0, 150_000)


@pytest.mark.parametrize("value", [None, 2**64 - 1])
def test_a_counter_that_is_not_implemented_is_null(value: object) -> None:
    row = only("sunspec", image({"ID": 701, "TotWhInj": value, "TotWhAbs": 1, "TotWh_SF": 0}))
    assert (row["import_wh"], row["export_wh"]) == (1, None)


@pytest.mark.parametrize("scale", [None, -32768, 11, "x"])
def test_a_value_without_a_usable_scale_factor_is_null_or_refused(scale: object) -> None:
    data = image({"ID": 701, "TotWhInj": 5, "TotWhAbs": 1, "TotWh_SF": scale})
    if scale == "x":
        with pytest.raises(BadUse):
            parsed("sunspec", data)
        return
    found = parsed("sunspec", data)
    assert [(r.import_wh, r.export_wh, r.quality.name) for r in found.readings] == [
        (None, None, "MISSING")
    ]
    assert "scale factor TotWh_SF is not usable" in found.notes[0]


@pytest.mark.parametrize(("scale", "wh"), [(-1, 1234), (0, 12345), (2, 1234500)])
def test_the_scale_factor_is_a_power_of_ten(scale: int, wh: int) -> None:
    data = sunspec_map((1, sunspec_common(b"S")), (103, sunspec_inverter(12345, scale)))
    assert only("sunspec", data)["export_wh"] == wh


def test_a_float_inverter_needs_no_scale_factor() -> None:
    body = bytearray(b"\0" * 120)
    # Model 113: WH is the float in registers 32 and 33, counted from the model's ID.
    body[60:64] = struct.pack(">f", 4321.5)
    row = only("sunspec", sunspec_map((1, sunspec_common(b"S")), (113, bytes(body))))
    assert row["export_wh"] == 4322


def test_nan_is_not_implemented() -> None:
    body = bytearray(b"\0" * 120)
    body[60:64] = b"\x7f\xc0\x00\x00"
    row = only("sunspec", sunspec_map((1, sunspec_common(b"S")), (113, bytes(body))))
    assert (row["export_wh"], row["quality"]) == (None, "missing")


def test_an_inverter_shown_in_two_models_counts_once() -> None:
    data = image(
        {"ID": 103, "WH": 149, "WH_SF": 3},
        {"ID": 701, "TotWhInj": 150, "TotWhAbs": 0, "TotWh_SF": 3},
    )
    assert only("sunspec", data)["export_wh"] == 150_000


def test_a_device_without_energy_fails_the_check_and_names_its_models() -> None:
    with pytest.raises(CheckFailed, match="models: 1, 129"):
        parsed("sunspec", image({"ID": 129}))


@pytest.mark.parametrize("cut", [5, 100, 250, len(SUNSPEC_MAP) - 2])
def test_a_register_map_that_breaks_off_is_refused(cut: int) -> None:
    with pytest.raises(BadUse, match="breaks off"):
        parsed("sunspec", SUNSPEC_MAP[:cut])
