# SPDX-License-Identifier: Apache-2.0
"""What meters at home say in JSON: HomeWizard, Shelly and Tasmota, as their makers document it.

Payloads of one moment; who sends them, over HTTP or MQTT, is in `http` and `mqtt`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from meters.simulate.faults import Shown

WIDTH_WH = 10**9
SHELLY_PER_WH = 100
"""A Shelly counts hundredths of a Wh."""
TASMOTA_PER_WH = 10
"""Four digits after the point of kWh (EnergyRes 4)."""
VOLTS = 230.0


def homewizard(shown: Shown, serial: str) -> dict[str, Any]:
    """`/api/v1/data`: kWh with three digits, no time of its own."""
    return {
        "wifi_ssid": "simulated",
        "wifi_strength": 100,
        "smr_version": 50,
        "meter_model": "GridCommons simulated",
        "unique_id": serial,
        "active_tariff": 1,
        "total_power_import_kwh": shown.import_register / shown.per_wh / 1000,
        "total_power_import_t1_kwh": shown.import_register / shown.per_wh / 1000,
        "total_power_export_kwh": shown.export_register / shown.per_wh / 1000,
        "total_power_export_t1_kwh": shown.export_register / shown.per_wh / 1000,
        "active_power_w": shown.import_w - shown.export_w,
        "active_voltage_l1_v": VOLTS,
        "any_power_fail_count": 4,
        "long_power_fail_count": 2,
    }


def shelly_name(mac: str) -> str:
    return f"shellypro3em-{mac.lower()}"


def shelly_em(shown: Shown) -> dict[str, Any]:
    """`EM.GetStatus`: the power of the moment, all on phase A."""
    watts = float(shown.import_w - shown.export_w)
    amps = round(abs(watts) / VOLTS, 3)
    phases: dict[str, Any] = {"id": 0}
    for phase, p, i in (("a", watts, amps), ("b", 0.0, 0.0), ("c", 0.0, 0.0)):
        phases |= {
            f"{phase}_current": i,
            f"{phase}_voltage": VOLTS,
            f"{phase}_act_power": p,
            f"{phase}_aprt_power": abs(p),
            f"{phase}_pf": 1.0,
            f"{phase}_freq": 50.0,
        }
    return {
        **phases,
        "n_current": None,
        "total_current": amps,
        "total_act_power": watts,
        "total_aprt_power": abs(watts),
    }


def shelly_emdata(shown: Shown) -> dict[str, Any]:
    """`EMData.GetStatus`: the energy counters in Wh, all on phase A."""
    imported, exported = shown.import_register / shown.per_wh, shown.export_register / shown.per_wh
    return {
        "id": 0,
        "a_total_act_energy": imported,
        "a_total_act_ret_energy": exported,
        "b_total_act_energy": 0.0,
        "b_total_act_ret_energy": 0.0,
        "c_total_act_energy": 0.0,
        "c_total_act_ret_energy": 0.0,
        "total_act": imported,
        "total_act_ret": exported,
    }


def shelly_notification(shown: Shown, mac: str, topic: str) -> dict[str, Any]:
    """`NotifyStatus` as it is published on `.../events/rpc`."""
    return {
        "src": shelly_name(mac),
        "dst": f"{topic}/events",
        "method": "NotifyStatus",
        "params": {
            "ts": round(shown.clock, 2),
            "em:0": shelly_em(shown),
            "emdata:0": shelly_emdata(shown),
        },
    }


def tasmota_energy(shown: Shown, timezone: ZoneInfo) -> dict[str, Any]:
    """`tele/.../SENSOR` of an energy driver; Today and Yesterday are left at zero."""
    watts = shown.import_w - shown.export_w
    return {
        "Time": _local(shown.clock, timezone),
        "ENERGY": {
            "TotalStartTime": "2015-01-01T00:00:00",
            "Total": shown.import_register / shown.per_wh / 1000,
            "Yesterday": 0.0,
            "Today": 0.0,
            "ExportActive": shown.export_register / shown.per_wh / 1000,
            "Period": 0,
            "Power": watts,
            "ApparentPower": abs(watts),
            "ReactivePower": 0,
            "Factor": 1.0,
            "Voltage": int(VOLTS),
            "Current": round(abs(watts) / VOLTS, 3),
        },
    }


def tasmota_script(shown: Shown, timezone: ZoneInfo, serial: str) -> dict[str, Any]:
    """`tele/.../SENSOR` of the smart-meter interface, which reads a meter's SML."""
    return {
        "Time": _local(shown.clock, timezone),
        "SML": {
            "Total_in": shown.import_register / shown.per_wh / 1000,
            "Total_out": shown.export_register / shown.per_wh / 1000,
            "Power_curr": shown.import_w - shown.export_w,
            "Meter_Number": serial,
        },
    }


def _local(clock: float, timezone: ZoneInfo) -> str:
    """Local time without an offset: in autumn one hour of it comes twice, as with the real ones."""
    return (
        datetime.fromtimestamp(int(clock), UTC).astimezone(timezone).strftime("%Y-%m-%dT%H:%M:%S")
    )
