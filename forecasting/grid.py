# SPDX-License-Identifier: Apache-2.0
"""A SimBench zone's low-voltage grid: power flow of many slots at once, against its limits.

The grid is read once from the installed `simbench` package, written as JSON into the cache folder,
and from then on needs neither simbench nor pandapower. Whose power flows where is not decided
here: callers pass net power per home and the bus each home stands on (pandapower bus index).

Sign: positive is consumption, in W. Balanced three-phase, constant power.

Reactive power is not metered. A drawing home draws `REACTIVE_PER_ACTIVE` of its active power as
reactive power too; a feeding home feeds at cos phi = 1, as SimBench's solar roofs do. Leaving out
the reactive draw of what runs behind a feeding home puts its voltage slightly too high, which is
the safe side.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dao.errors import BadUse, CheckFailed

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

FORMAT = 1
# Yearly reactive over yearly active energy of all loads in SimBench's 1-LV-rural3--2-sw
# (430 Mvarh over 1874 MWh in quarter-hour units): cos phi 0.975.
REACTIVE_PER_ACTIVE = 0.2294
# Stiff enough that the medium-voltage busbar keeps its set voltage, as pandapower's ext_grid does.
_STIFF_SOURCE_VA = 1e14
_LOW_VOLTAGE_CODE = re.compile(r"1-LV-(rural[123]|semiurb[45]|urban6)--[012]-(sw|no_sw)")


@dataclass(frozen=True)
class GridLimits:
    """What counts as broken.

    voltage_max: 1.055 pu, a planning limit that leaves the rest of EN 50160's +10 % to what the
    medium voltage does; SimBench sets the same value as `max_vm_pu` of the medium-voltage busbar.
    voltage_min: 0.90 pu, the lower end of EN 50160 and SimBench's `min_vm_pu`.
    loading_max: percent of the rated current of transformer and lines.
    """

    voltage_max: float = 1.055
    voltage_min: float = 0.90
    loading_max: float = 100.0


@dataclass(frozen=True)
class BatterySpec:
    """A community battery: one schedule, carried out in equal parts by units at `buses`.

    capacity_wh: usable; max_power_w: of all units together; efficiency_permille: energy given back
    per energy taken in. power_factor_permille: charging or discharging, the inverter draws reactive
    power at this cos phi (VDE-AR-N 4105 asks inverters above 4.6 kVA to be able to do 0.90): that
    lowers the voltage while charging and holds it down while discharging.
    """

    buses: tuple[int, ...]
    capacity_wh: int
    max_power_w: int
    efficiency_permille: int = 900
    power_factor_permille: int = 900

    def __post_init__(self) -> None:
        if not self.buses or self.capacity_wh <= 0 or self.max_power_w <= 0:
            raise BadUse("a battery needs a bus, a capacity and a power above zero")
        if not (0 < self.efficiency_permille <= 1000 and 0 < self.power_factor_permille <= 1000):
            raise BadUse("efficiency and power factor of a battery lie between 1 and 1000 permille")

    @property
    def bus(self) -> int:
        """Where its first unit stands."""
        return self.buses[0]

    @property
    def reactive_per_active(self) -> float:
        factor = self.power_factor_permille / 1000.0
        return math.sqrt(1.0 - factor * factor) / factor


@dataclass(frozen=True)
class GridResult:
    """One entry per slot. Voltages in pu with the bus they occur at, loadings in percent."""

    voltage_max: FloatArray
    voltage_max_bus: IntArray
    voltage_min: FloatArray
    voltage_min_bus: IntArray
    transformer_loading: FloatArray
    line_loading: FloatArray
    over_limit: BoolArray
    voltages: FloatArray  # (slots, buses) of the low-voltage side, in the order of ZoneGrid.buses

    @property
    def slots_over_limit(self) -> int:
        return int(self.over_limit.sum())


class ZoneGrid:
    """The grid of one zone, ready to compute. `buses`: low-voltage bus indices, ascending."""

    def __init__(self, document: dict[str, Any]) -> None:
        if document.get("format") != FORMAT:
            raise ValueError("grid file of another format")
        self.document = document
        self.code: str = document["code"]
        self.latitude: float | None = document["latitude"]
        self.longitude: float | None = document["longitude"]
        self.high_bus: int = document["transformer"]["hv_bus"]
        self.low_bus: int = document["transformer"]["lv_bus"]
        self.rated_va: float = document["transformer"]["sn_va"]
        every = [bus["index"] for bus in document["buses"]]
        self.buses = np.array(sorted(bus for bus in every if bus != self.high_bus), dtype=np.int64)
        self._column = {int(bus): at for at, bus in enumerate(self.buses)}
        self._model: Any = None
        self._types: Any = None

    def _engine(self) -> Any:
        """The power-grid-model, built at the first use. Ids: buses as they are, then the rest."""
        if self._model is not None:
            return self._model
        import power_grid_model as pgm

        document = self.document
        component = pgm.ComponentType

        def table(kind: Any, rows: list[dict[str, Any]]) -> Any:
            array = pgm.initialize_array(pgm.DatasetType.input, kind, len(rows))
            for at, row in enumerate(rows):
                for name, value in row.items():
                    array[name][at] = value
            return array

        buses = document["buses"]
        after = max(bus["index"] for bus in buses) + 1
        trafo = document["transformer"]
        nodes = [{"id": bus["index"], "u_rated": bus["vn_v"]} for bus in buses]
        lines = [
            {
                "id": after + at,
                "from_node": line["from_bus"],
                "to_node": line["to_bus"],
                "from_status": 1,
                "to_status": 1,
                "r1": line["r_ohm"],
                "x1": line["x_ohm"],
                "c1": line["c_farad"],
                "tan1": 0.0,
                "i_n": line["rated_a"],
            }
            for at, line in enumerate(document["lines"])
        ]
        after += len(lines)
        transformer = {
            "id": after,
            "from_node": trafo["hv_bus"],
            "to_node": trafo["lv_bus"],
            "from_status": 1,
            "to_status": 1,
            "u1": trafo["u1_v"],
            "u2": trafo["u2_v"],
            "sn": trafo["sn_va"],
            "uk": trafo["uk"],
            "pk": trafo["pk_w"],
            "i0": trafo["i0"],
            "p0": trafo["p0_w"],
            "winding_from": pgm.WindingType.delta,
            "winding_to": pgm.WindingType.wye_n,
            "clock": trafo["clock"],
            "tap_side": pgm.BranchSide.from_side,
            "tap_pos": trafo["tap_pos"],
            "tap_min": trafo["tap_min"],
            "tap_max": trafo["tap_max"],
            "tap_nom": trafo["tap_nom"],
            "tap_size": trafo["tap_size_v"],
        }
        source = {
            "id": after + 1,
            "node": trafo["hv_bus"],
            "status": 1,
            "u_ref": document["source_pu"],
            "sk": _STIFF_SOURCE_VA,
        }
        loads = [
            {
                "id": after + 2 + at,
                "node": int(bus),
                "status": 1,
                "type": pgm.LoadGenType.const_power,
                "p_specified": 0.0,
                "q_specified": 0.0,
            }
            for at, bus in enumerate(self.buses)
        ]
        self._load_ids = np.array([load["id"] for load in loads], dtype=np.int32)
        node_ids = [bus["index"] for bus in buses]
        self._node_at = np.array([node_ids.index(int(bus)) for bus in self.buses])
        self._model = pgm.PowerGridModel(
            {
                component.node: table(component.node, nodes),
                component.line: table(component.line, lines),
                component.transformer: table(component.transformer, [transformer]),
                component.source: table(component.source, [source]),
                component.sym_load: table(component.sym_load, loads),
            },
            system_frequency=50.0,
        )
        return self._model

    def at_buses(self, power: npt.ArrayLike, buses: Sequence[int] | IntArray) -> FloatArray:
        """Sum columns by bus: (slots, columns) to (slots, low-voltage buses). BadUse if unknown."""
        table = np.asarray(power, dtype=np.float64)
        if table.ndim != 2 or table.shape[1] != len(buses):
            raise BadUse(f"net power of shape {table.shape}: expected one column per home")
        columns = []
        for bus in buses:
            if int(bus) not in self._column:
                raise BadUse(f"zone {self.code} has no low-voltage bus {int(bus)}")
            columns.append(self._column[int(bus)])
        result = np.zeros((table.shape[0], self.buses.size))
        for at, column in enumerate(columns):
            result[:, column] += table[:, at]
        return result

    def states(
        self,
        net_w: npt.ArrayLike,
        buses: Sequence[int] | IntArray | None = None,
        *,
        battery_w: npt.ArrayLike | None = None,
        battery: BatterySpec | None = None,
        reactive_var: npt.ArrayLike | None = None,
        limits: GridLimits | None = None,
    ) -> GridResult:
        """Power flow of every slot.

        net_w: (slots, homes) W, positive draws; buses: the bus of each home, or None when the
        columns are `self.buses` already; battery_w: (slots,) W of the whole battery, positive
        charges; reactive_var: (slots, homes) var instead of the assumption above.
        Raises BadUse for shapes and buses that do not fit, CheckFailed where no state exists.
        """
        import power_grid_model as pgm

        bound = limits or GridLimits()
        columns = self.buses if buses is None else buses
        net = np.asarray(net_w, dtype=np.float64)
        active = self.at_buses(net, columns)
        if not np.isfinite(active).all():
            raise BadUse("net power holds a value that is not a finite number")
        # Per home, not per bus sum: two homes on one bus do not cancel their reactive power.
        drawn = REACTIVE_PER_ACTIVE * np.maximum(net, 0.0) if reactive_var is None else reactive_var
        reactive = self.at_buses(drawn, columns)
        if battery_w is not None:
            if battery is None:
                raise BadUse("battery power without a battery")
            power = np.asarray(battery_w, dtype=np.float64)
            if power.shape != (active.shape[0],):
                raise BadUse("battery power needs one value per slot")
            share = 1.0 / len(battery.buses)
            for bus in battery.buses:
                if bus not in self._column:
                    raise BadUse(f"zone {self.code} has no low-voltage bus {bus} for a battery")
                at = self._column[bus]
                active[:, at] += share * power
                reactive[:, at] += share * battery.reactive_per_active * np.abs(power)
        engine = self._engine()
        component = pgm.ComponentType
        slots = active.shape[0]
        if slots == 0:
            nothing, nowhere = np.zeros(0), np.zeros(0, dtype=np.int64)
            return GridResult(
                nothing, nowhere, nothing, nowhere, nothing, nothing,
                np.zeros(0, dtype=bool), np.zeros((0, self.buses.size)),
            )  # fmt: skip
        update = pgm.initialize_array(
            pgm.DatasetType.update, component.sym_load, (slots, self.buses.size)
        )
        update["id"] = self._load_ids
        update["p_specified"] = active
        update["q_specified"] = reactive
        try:
            output = engine.calculate_power_flow(
                symmetric=True,
                error_tolerance=1e-8,
                max_iterations=50,
                calculation_method=pgm.CalculationMethod.iterative_current,
                update_data={component.sym_load: update},
                output_component_types={
                    component.node: ["u_pu"],
                    component.line: ["loading"],
                    component.transformer: ["i_from", "i_to"],
                },
                threading=0,
            )
        except Exception as error:  # the engine has one exception type per cause
            text = str(error).strip().splitlines()
            raise CheckFailed(
                f"power flow of zone {self.code} found no state: {text[0] if text else error!r}"
            ) from error
        voltages = np.asarray(output[component.node]["u_pu"])[:, self._node_at]
        lines = np.asarray(output[component.line]["loading"])
        trafo = self.document["transformer"]
        # Rated at the nameplate voltages, as pandapower's trafo_loading="current" does.
        root = math.sqrt(3.0)
        high = np.asarray(output[component.transformer]["i_from"])[:, 0] * root * trafo["u1_v"]
        low = np.asarray(output[component.transformer]["i_to"])[:, 0] * root * trafo["u2_v"]
        transformer = 100.0 * np.maximum(high, low) / self.rated_va
        line = 100.0 * lines.max(axis=1) if lines.shape[1] else np.zeros(slots)
        highest = voltages.argmax(axis=1)
        lowest = voltages.argmin(axis=1)
        each = np.arange(slots)
        top, bottom = voltages[each, highest], voltages[each, lowest]
        over = (
            (top > bound.voltage_max)
            | (bottom < bound.voltage_min)
            | (transformer > bound.loading_max)
            | (line > bound.loading_max)
        )
        return GridResult(
            voltage_max=top,
            voltage_max_bus=self.buses[highest],
            voltage_min=bottom,
            voltage_min_bus=self.buses[lowest],
            transformer_loading=transformer,
            line_loading=line,
            over_limit=over,
            voltages=voltages,
        )


def load_grid(code: str, cache: Path | None = None) -> ZoneGrid:
    """The grid of a SimBench zone, from the cache folder or else from the installed package.

    Raises BadUse for a code that SimBench does not have, or whose grid is not one zone behind one
    transformer.
    """
    path = None if cache is None else cache / f"grid-{_file_name(code)}.json"
    if path is not None and path.exists():
        try:
            return ZoneGrid(json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, KeyError, TypeError, OSError):
            pass  # cut off or of an older format: build it again, below
    document = _from_simbench(code)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.{os.getpid()}.part")
        part.write_text(json.dumps(document), encoding="utf-8")
        part.replace(path)
    return ZoneGrid(document)


def _file_name(code: str) -> str:
    return "".join(sign if sign.isalnum() or sign in "-_" else "_" for sign in code)


def _from_simbench(code: str) -> dict[str, Any]:
    import logging
    import warnings

    # Importing simbench takes ten seconds; a mistyped code should not have to wait for it.
    if not _LOW_VOLTAGE_CODE.fullmatch(code):
        raise BadUse(
            f"unknown zone {code!r}; expected a SimBench low-voltage code like 1-LV-rural3--2-sw"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import simbench

        previous = logging.root.manager.disable
        logging.disable(logging.WARNING)
        try:
            net = simbench.get_simbench_net(code)
        finally:
            logging.disable(previous)
    return document_of(net, code)


def document_of(net: Any, code: str) -> dict[str, Any]:
    """The tables of a pandapower net as plain numbers in SI units.

    Closed switches are dropped; a line with an open switch at either end is left out. Raises
    BadUse for what a zone cannot be: no or several transformers, bus-to-bus switches.
    """
    if len(net.trafo) != 1 or len(net.ext_grid) != 1:
        raise BadUse(f"zone {code!r} is not fed by exactly one transformer")
    trafo = net.trafo.iloc[0]
    switch = net.switch
    if (switch.et == "b").any():
        raise BadUse(f"zone {code!r} has switches between buses, which are not supported")
    open_lines = set(switch.element[(switch.et == "l") & ~switch.closed].astype(int))
    places = [json.loads(text) for text in net.bus.geo if isinstance(text, str)]
    points = np.array([place["coordinates"] for place in places], dtype=np.float64)
    sn_va = float(trafo.sn_mva) * 1e6 * int(trafo.parallel)
    lines = []
    for index, line in net.line.iterrows():
        if not line.in_service or int(index) in open_lines:
            continue
        count = int(line.parallel)
        lines.append(
            {
                "index": int(index),
                "from_bus": int(line.from_bus),
                "to_bus": int(line.to_bus),
                "r_ohm": float(line.r_ohm_per_km * line.length_km / count),
                "x_ohm": float(line.x_ohm_per_km * line.length_km / count),
                "c_farad": float(line.c_nf_per_km * line.length_km * count * 1e-9),
                "rated_a": float(line.max_i_ka * 1e3 * count * line.df),
            }
        )
    return {
        "format": FORMAT,
        "code": code,
        "source_pu": float(net.ext_grid.vm_pu.iloc[0]),
        # The middle of the zone's buses; None where the net carries no coordinates.
        "latitude": float(points[:, 1].mean()) if points.size else None,
        "longitude": float(points[:, 0].mean()) if points.size else None,
        "buses": [
            {"index": int(index), "vn_v": float(bus.vn_kv) * 1e3}
            for index, bus in net.bus.iterrows()
            if bus.in_service
        ],
        "lines": lines,
        "transformer": {
            "hv_bus": int(trafo.hv_bus),
            "lv_bus": int(trafo.lv_bus),
            "sn_va": sn_va,
            "u1_v": float(trafo.vn_hv_kv) * 1e3,
            "u2_v": float(trafo.vn_lv_kv) * 1e3,
            "uk": float(trafo.vk_percent) / 100.0,
            "pk_w": float(trafo.vkr_percent) / 100.0 * sn_va,
            "i0": float(trafo.i0_percent) / 100.0,
            "p0_w": float(trafo.pfe_kw) * 1e3 * int(trafo.parallel),
            "clock": round(float(trafo.shift_degree) / 30.0) % 12,
            "tap_pos": int(trafo.tap_pos),
            "tap_min": int(trafo.tap_min),
            "tap_max": int(trafo.tap_max),
            "tap_nom": int(trafo.tap_neutral),
            "tap_size_v": float(trafo.tap_step_percent) / 100.0 * float(trafo.vn_hv_kv) * 1e3,
        },
    }
