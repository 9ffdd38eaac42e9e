# SPDX-License-Identifier: Apache-2.0
"""Devices at home that speak JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dao.errors import BadUse, CheckFailed
from tests.meters.adapters.helpers import energies, only, parsed, rows
from tests.meters.adapters.records import FRONIUS_METERS, HOMEWIZARD, SHELLY, TASMOTA


def dump(*payloads: dict[str, Any]) -> bytes:
    return b"\n".join(json.dumps(payload).encode() for payload in payloads)


def test_homewizard_adds_tariffs_and_leaves_the_gas_meters_clock_alone() -> None:
    row = only("homewizard", HOMEWIZARD)
    assert (row["meter"], row["import_wh"], row["export_wh"]) == ("HW1", 13779338, 0)
    assert row["end"] is None


def test_homewizard_v2_gives_its_time_in_its_own_zone() -> None:
    payload = dump({"timestamp": "2024-07-01T12:00:00", "energy_import_kwh": 1.5})
    assert only("homewizard", payload, zone="Europe/Amsterdam")["end"] == "2024-07-01T10:00:00Z"
    assert "--timezone" in parsed("homewizard", payload).notes[0]


def test_a_null_counter_is_null() -> None:
    row = only("homewizard", dump({"total_power_import_kwh": None}))
    assert (row["import_wh"], row["quality"]) == (None, "missing")


def test_fronius_meters_are_told_apart_and_seen_from_the_system() -> None:
    found = rows("fronius", FRONIUS_METERS)
    assert [(r["meter"], r["import_wh"], r["export_wh"], r["end"]) for r in found] == [
        ("A", 100, 200, "2024-04-01T10:00:00Z"),
        ("B", 7, None, "2024-04-01T10:00:00Z"),
    ]
    assert "meter B does not stand at the grid" in parsed("fronius", FRONIUS_METERS).notes[0]


def fronius(data: dict[str, Any], code: int = 0, **arguments: str) -> bytes:
    head = {"Status": {"Code": code, "Reason": "x"}, "Timestamp": "2024-04-01T12:00:00+02:00"}
    return dump({"Body": {"Data": data}, "Head": {**head, "RequestArguments": arguments}})


def test_the_yield_of_an_inverter_is_export() -> None:
    data = fronius({"TOTAL_ENERGY": {"Unit": "Wh", "Value": 4418}}, DeviceId="1")
    row = only("fronius", data)
    assert (row["meter"], row["import_wh"], row["export_wh"]) == ("inverter-1", None, 4418)
    assert row["end"] == "2024-04-01T10:00:00Z"


def test_an_inverter_asleep_gives_null_and_not_zero() -> None:
    row = only("fronius", fronius({"TOTAL_ENERGY": {"Unit": "Wh", "Value": None}}, DeviceId="1"))
    assert (row["export_wh"], row["quality"]) == (None, "missing")


def test_all_inverters_of_a_system_are_one_meter_each() -> None:
    data = fronius({"TOTAL_ENERGY": {"Unit": "kWh", "Values": {"1": 1.5, "2": 2}}})
    assert [(r["meter"], r["export_wh"]) for r in rows("fronius", data)] == [
        ("inverter-1", 1500),
        ("inverter-2", 2000),
    ]


def test_the_power_flow_gives_the_total_of_its_inverters() -> None:
    data = fronius({"Site": {"E_Total": 9}, "Inverters": {"1": {"E_Total": 7}}})
    assert energies(rows("fronius", data)) == [(None, 7)]
    assert energies(rows("fronius", fronius({"Site": {"E_Total": 9}}))) == [(None, 9)]


def test_a_fronius_meter_may_write_its_time_in_words() -> None:
    data = fronius({"EnergyReal_WAC_Plus_Absolute": 1, "TimeStamp": "2024-04-01T11:59:00+02:00"})
    assert only("fronius", data)["end"] == "2024-04-01T09:59:00Z"


def test_an_error_of_the_device_is_no_reading() -> None:
    with pytest.raises(BadUse, match=r"error 8 \(x\)"):
        parsed("fronius", fronius({}, code=8))


def test_shelly_channels_are_meters_and_each_generation_has_its_units() -> None:
    assert [(r["meter"], r["import_wh"], r["export_wh"]) for r in rows("shelly", SHELLY)] == [
        ("shellypro3em-1/emdata:0", 1235, 7),
        ("AABB/emeter:0", 10, 2),
        ("AABB/emeter:1", 5, 0),
        ("AABB/relay:0", 100, None),  # 6,000 watt-minutes
    ]


def test_a_shelly_channel_that_is_not_valid_is_invalid() -> None:
    assert [row["quality"] for row in rows("shelly", SHELLY)][2] == "invalid"


def test_shelly_switches_report_returned_energy_too() -> None:
    status = {"switch:0": {"aenergy": {"total": 5.2}, "ret_aenergy": {"total": 1}}}
    row = only("shelly", dump({**status, "sys": {"mac": "M", "unixtime": 1711965600}}))
    assert (row["meter"], row["import_wh"], row["export_wh"]) == ("M/switch:0", 5, 1)
    assert row["end"] == "2024-04-01T10:00:00Z"


def test_the_answer_of_one_shelly_component_is_read() -> None:
    row = only("shelly", dump({"id": 1, "total_act": 12, "total_act_ret": 3}))
    assert (row["meter"], row["import_wh"], row["export_wh"]) == ("emdata:1", 12, 3)


def test_a_shelly_that_does_not_know_the_time_has_none() -> None:
    assert only("shelly", dump({"unixtime": 0, "emeters": [{"total": 1}]}))["end"] is None


def test_a_payload_without_counters_is_left_out_of_a_log() -> None:
    found = parsed("shelly", dump({"switch:0": {"output": True}}) + b"\n" + SHELLY)
    assert len(found.readings) == 4
    assert "without energy counters" in found.notes[0]
    with pytest.raises(CheckFailed, match="no reading"):
        parsed("shelly", dump({"switch:0": {"output": True}}))


def test_tasmota_gives_its_own_meter_and_those_of_its_script() -> None:
    found = rows("tasmota", TASMOTA, zone="Europe/Berlin")
    assert [(r["meter"], r["import_wh"], r["export_wh"]) for r in found] == [
        ("ENERGY", 3185, 250),
        ("0901454d4800", 10500, 0),
    ]
    assert {row["end"] for row in found} == {"2024-04-01T10:00:00Z"}


def test_the_local_time_of_tasmota_needs_a_zone() -> None:
    found = parsed("tasmota", TASMOTA)
    assert {reading.end for reading in found.readings} == {None}
    assert "--timezone" in found.notes[0]


@pytest.mark.parametrize(
    ("names", "values"),
    [
        (("Total_in", "Total_out"), (1.5, 0.5)),
        (("1_8_0", "2_8_0"), (1.5, 0.5)),
        (("Bezug", "Einspeisung"), (1.5, 0.5)),
    ],
)
def test_tasmota_scripts_name_their_registers_freely(
    names: tuple[str, str], values: tuple[float, float]
) -> None:
    payload = {"Time": "2024-04-01T10:00:00Z", "SML": dict(zip(names, values, strict=True))}
    assert energies(rows("tasmota", dump({"StatusSNS": payload}))) == [(1500, 500)]


def test_each_channel_of_a_tasmota_device_is_a_meter() -> None:
    payload = {"Time": "2024-04-01T10:00:00Z", "ENERGY": {"Total": [1, 2.5], "Today": [0, 0]}}
    assert energies(rows("tasmota", dump(payload))) == [(1000, None), (2500, None)]


def test_a_falling_counter_in_a_log_is_told() -> None:
    log = dump(*({"Time": f"2024-04-01T1{i}:00:00Z", "ENERGY": {"Total": 5 - i}} for i in (0, 1)))
    assert "falls from 5000 to 4000 Wh" in parsed("tasmota", log).notes[0]


@pytest.mark.parametrize("name", ["homewizard", "fronius", "shelly", "tasmota"])
def test_a_payload_of_another_kind_is_refused(name: str) -> None:
    for payload in (b"[1]", b"{}", b'"x"', b"no json"):
        with pytest.raises((BadUse, CheckFailed)):
            parsed(name, payload)
