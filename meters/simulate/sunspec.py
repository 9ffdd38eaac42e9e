# SPDX-License-Identifier: Apache-2.0
"""A solar inverter and a battery that speak SunSpec over Modbus TCP.

The inverter shows model 103 and, if it has a meter at the grid, 203. The battery shows 701, 702 and
713, and is commanded through 704. SunSpec counts power from the device: positive feeds in. The
program counts a set-point the other way: positive charges.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from dao.errors import BadUse
from meters.devices import CommunityBattery
from meters.simulate.clock import Clock
from meters.simulate.faults import Fault
from meters.simulate.modbus import COMMON, Image, Refused, SunSpecDevice
from meters.simulate.storage import Storage
from meters.simulate.truth import Truth
from meters.simulate.wire import State

INVERTER, METER = 103, 203
MEASURE, CAPACITY, CONTROL, STORE = 701, 702, 704, 713
ACC32 = 2**32
"""Accumulators of models 103 and 203 count 32 bits of Wh, then start again at zero."""

_ILLEGAL_VALUE = 3
_MPPT, _SLEEPING = 4, 2
_ON, _RUNNING, _STANDBY, _CONNECTED, _THREE_PHASE = 1, 3, 7, 1, 2
_PERCENT, _WATTS = 0, 1

MAX_REVERT_SECONDS = 86_400
"""No set-point outlives a day without being written again."""


def _common(model: str, serial: str) -> dict[str, int | str]:
    return {"Mn": "GridCommons", "Md": model, "Vr": "1", "SN": serial, "DA": 1}


class SunSpecInverter(SunSpecDevice):
    """A roof's inverter. `truth.export_wh` is its yield; `meter` what flows at the grid."""

    kind = "inverter"

    def __init__(
        self,
        truth: Truth,
        clock: Clock,
        *,
        meter: Truth | None = None,
        serial: str = "GC-INV-1",
        host: str = "127.0.0.1",
        port: int = 0,
        unit: int = 1,
        faults: Iterable[Fault] = (),
    ) -> None:
        models: dict[int, dict[str, int | str]] = {
            COMMON: _common("Simulated inverter", serial),
            INVERTER: {
                "A_SF": -1,
                "V_SF": -1,
                "PhVphA": 2300,
                "PhVphB": 2300,
                "PhVphC": 2300,
                "W_SF": 1,
                "Hz": 5000,
                "Hz_SF": -2,
                "WH_SF": 0,
                "TmpCab": 30,
                "Tmp_SF": 0,
                "Evt1": 0,
                "Evt2": 0,
            },
        }
        if meter is not None:
            models[METER] = {
                "A_SF": -1,
                "V_SF": -1,
                **dict.fromkeys(("PhV", "PhVphA", "PhVphB", "PhVphC"), 2300),
                **dict.fromkeys(("PPV", "PhVphAB", "PhVphBC", "PhVphCA"), 4000),
                "Hz": 50,
                "Hz_SF": 0,
                "W_SF": 1,
                "TotWh_SF": 0,
                "Evt": 0,
            }
        super().__init__(clock, Image(models, {}), host=host, port=port, unit=unit, faults=faults)
        self.truth = truth
        self.meter = meter

    def state(self) -> State:
        """The inverter's own registers: yield is export."""
        at = self.clock()
        return State.of(at, self.faults.shown(self.truth, at, 1, ACC32))

    def _values(self, at: float) -> Mapping[tuple[int, str], int | None]:
        own = self.faults.shown(self.truth, at, 1, ACC32)
        amps = own.export_w * 10 // (3 * 230)
        values: dict[tuple[int, str], int | None] = {
            (INVERTER, "W"): _divided(own.export_w - own.import_w, 10),
            (INVERTER, "WH"): own.export_register,
            (INVERTER, "A"): amps * 3,
            (INVERTER, "AphA"): amps,
            (INVERTER, "AphB"): amps,
            (INVERTER, "AphC"): amps,
            (INVERTER, "St"): _MPPT if own.export_w else _SLEEPING,
        }
        if self.meter is not None:
            grid = self.faults.shown(self.meter, at, 1, ACC32)
            # A SunSpec meter counts import as positive power.
            watts = grid.import_w - grid.export_w
            amps = _divided(watts * 10, 3 * 230)
            values |= {
                (METER, "W"): _divided(watts, 10),
                (METER, "TotWhImp"): grid.import_register,
                (METER, "TotWhExp"): grid.export_register,
                (METER, "A"): amps * 3,
                (METER, "AphA"): amps,
                (METER, "AphB"): amps,
                (METER, "AphC"): amps,
            }
        return values


@dataclass(frozen=True)
class BatteryState(State):
    """wanted_w: the set-point in force, positive charges; expires: when it falls back to rest."""

    soc_wh: int
    loss_wh: int
    wanted_w: int
    expires: float | None


class SunSpecBattery(SunSpecDevice):
    """A battery that obeys model 704: WSetEna, WSetMod, WSet or WSetPct, WSetRvrtTms.

    Every write to one of these starts the time-out anew. When it is over the battery rests: one
    that nobody commands any more must not run on. A time-out of zero (never) is refused.
    """

    kind = "battery"

    def __init__(
        self,
        battery: CommunityBattery,
        clock: Clock,
        *,
        import_start_wh: int = 0,
        export_start_wh: int = 0,
        revert_seconds: int = 900,
        serial: str = "GC-BAT-1",
        host: str = "127.0.0.1",
        port: int = 0,
        unit: int = 1,
        faults: Iterable[Fault] = (),
    ) -> None:
        if not 0 < revert_seconds <= MAX_REVERT_SECONDS:
            raise BadUse(f"a set-point's time-out is 1 to {MAX_REVERT_SECONDS} s")
        self._watts_scale = _scale(battery.max_power_w)
        self._wh_scale = _scale(battery.capacity_wh)
        watts = battery.max_power_w // 10**self._watts_scale
        models: dict[int, dict[str, int | str]] = {
            COMMON: _common("Simulated battery", serial),
            MEASURE: {
                "ACType": _THREE_PHASE,
                "St": _ON,
                "ConnSt": _CONNECTED,
                "Alrm": 0,
                "LNV": 2300,
                "Hz": 5000,
                "V_SF": -1,
                "Hz_SF": -2,
                "W_SF": self._watts_scale,
                "TotWh_SF": 0,
            },
            CAPACITY: {
                **dict.fromkeys(("WMaxRtg", "WChaRteMaxRtg", "WDisChaRteMaxRtg"), watts),
                **dict.fromkeys(("WMax", "WChaRteMax", "WDisChaRteMax"), watts),
                # Bit 1: a fixed active power can be set.
                "CtrlModes": 1 << 1,
                "W_SF": self._watts_scale,
            },
            CONTROL: {
                "WSetEnaRvrt": 0,
                "WSetRvrt": 0,
                "WSet_SF": 0,
                "WSetPct_SF": -1,
                "WSetPctRvrt": 0,
            },
            STORE: {
                "WHRtg": battery.capacity_wh // 10**self._wh_scale,
                "SoH": 1000,
                "Sta": 0,
                "WH_SF": self._wh_scale,
                "Pct_SF": -1,
            },
        }
        writable = frozenset(("WSetEna", "WSetMod", "WSet", "WSetPct", "WSetRvrtTms"))
        super().__init__(
            clock,
            Image(models, {CONTROL: writable}),
            host=host,
            port=port,
            unit=unit,
            faults=faults,
        )
        self.storage = Storage(battery, import_start_wh, export_start_wh)
        self._rated_w = battery.max_power_w
        self._until: float | None = None
        self._set: dict[str, int] = {
            "WSetEna": 0,
            "WSetMod": _WATTS,
            "WSet": 0,
            "WSetPct": 0,
            "WSetRvrtTms": revert_seconds,
        }

    def state(self) -> BatteryState:
        at = self.clock()
        now = self.storage.at(at)
        one = self.faults.shown(self.storage, at, 1, 2**63)
        return BatteryState(
            at,
            one.import_register,
            one.export_register,
            one.import_w,
            one.export_w,
            now.battery.soc_wh,
            now.loss_wh,
            now.watts,
            None if now.until_ms is None else now.until_ms / 1000,
        )

    def _write(self, points: Mapping[tuple[int, str], int], at: float) -> None:
        written = {name: value for (_, name), value in points.items()}
        # The time-out may have switched it off since it was last enabled.
        wanted = self._set | {"WSetEna": self._enabled(at)} | written
        if (
            wanted["WSetEna"] not in (0, 1)
            or wanted["WSetMod"] not in (_PERCENT, _WATTS)
            or not 0 < wanted["WSetRvrtTms"] <= MAX_REVERT_SECONDS
            or not -1000 <= wanted["WSetPct"] <= 1000
        ):
            raise Refused(_ILLEGAL_VALUE)
        self._set = wanted
        self._until = at + wanted["WSetRvrtTms"] if wanted["WSetEna"] else None
        self.storage.command(self._charging(), at, wanted["WSetRvrtTms"])

    def _enabled(self, at: float) -> int:
        return int(self._until is not None and at < self._until)

    def _charging(self) -> int:
        """The set-point in W, positive charges."""
        if not self._set["WSetEna"]:
            return 0
        if self._set["WSetMod"] == _WATTS:
            return -self._set["WSet"]
        return -_divided(self._set["WSetPct"] * self._rated_w, 1000)

    def _values(self, at: float) -> Mapping[tuple[int, str], int | None]:
        now = self.storage.at(at)
        one = self.faults.shown(self.storage, at, 1, 2**63)
        enabled = self._enabled(at)
        left = math.ceil(self._until - at) if enabled and self._until is not None else 0
        capacity = now.battery.capacity_wh
        watts = _divided(one.export_w - one.import_w, 10**self._watts_scale)
        return {
            (MEASURE, "W"): watts,
            (MEASURE, "VA"): None,
            (MEASURE, "TotWhInj"): one.export_register,
            (MEASURE, "TotWhAbs"): one.import_register,
            (MEASURE, "InvSt"): _RUNNING if watts else _STANDBY,
            (STORE, "WHAvail"): now.battery.soc_wh // 10**self._wh_scale,
            (STORE, "SoC"): now.battery.soc_wh * 1000 // capacity if capacity else 0,
            **{(CONTROL, name): value for name, value in self._set.items()},
            (CONTROL, "WSetEna"): enabled,
            (CONTROL, "WSetRvrtRem"): left,
        }


def _divided(value: int, by: int) -> int:
    """Rounded towards zero: a meter at rest does not show a step of one."""
    return value // by if value >= 0 else -(-value // by)


def _scale(largest: int) -> int:
    """The power of ten that brings a value into a signed register of 16 bits."""
    scale = 0
    while largest // 10**scale > 32_000:
        scale += 1
    return scale
