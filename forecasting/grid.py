# SPDX-License-Identifier: Apache-2.0
"""A SimBench zone's low-voltage grid: power flow of many slots at once, against its limits.

The grid is read once from the installed `simbench` package, written as JSON into the cache folder,
and from then on needs neither simbench nor pandapower. Whose power flows where is not decided
here: callers pass net power per home and the bus each home stands on (pandapower bus index).

The states come from the current iteration that `power-grid-model` calls iterative_current, over
many slots at a time: a slot alone is too little work for its own call. power-grid-model itself is
the reference, and takes over the slots that the iteration does not settle.

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
ComplexArray = npt.NDArray[np.complex128]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

# One more whenever the document changes: an older cache file is then made anew.
FORMAT = 2
# Yearly reactive over yearly active energy of all loads in SimBench's 1-LV-rural3--2-sw
# (430 Mvarh over 1874 MWh in quarter-hour units): cos phi 0.975.
REACTIVE_PER_ACTIVE = 0.2294
# Stiff enough that the medium-voltage busbar keeps its set voltage, as pandapower's ext_grid does.
_STIFF_SOURCE_VA = 1e14
_FREQUENCY = 50.0
_BASE_VA = 1e6
# A state is found when no voltage moves by more, in pu; one that exists takes about six rounds.
_TOLERANCE = 1e-8
_MAX_ROUNDS = 50
# What is worked on at a time fits into the cache of a core, and calls still cost less than work.
_CHUNK_SLOTS = 1024
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


@dataclass(frozen=True)
class Flows:
    """Voltages in pu, loading of transformer and of the fullest line in percent, per slot."""

    voltages: FloatArray  # (slots, low-voltage buses)
    transformer: FloatArray
    line: FloatArray


@dataclass(frozen=True)
class Losses:
    """Active power that does not arrive, W per slot: in lines, and in the transformer."""

    lines: FloatArray
    transformer: FloatArray


class _Network:
    """The grid as admittances in pu, its elimination done once.

    The busbar before the transformer holds its voltage, so it is no unknown. The transformer's
    phase shift is left out: it turns all low-voltage phasors alike, and only sizes are read.
    """

    def __init__(self, document: dict[str, Any], buses: IntArray) -> None:
        trafo = document["transformer"]
        rows = {int(bus): at for at, bus in enumerate(buses)}
        rated = {bus["index"]: bus["vn_v"] for bus in document["buses"]}
        source: float = document["source_pu"]
        y = np.zeros((len(rows), len(rows)), dtype=np.complex128)
        lines = document["lines"]
        self._from = np.array([rows[line["from_bus"]] for line in lines], dtype=np.int64)
        self._to = np.array([rows[line["to_bus"]] for line in lines], dtype=np.int64)
        base = np.array([rated[line["from_bus"]] for line in lines])
        ohm = np.array([complex(line["r_ohm"], line["x_ohm"]) for line in lines])
        farad = np.array([line["c_farad"] for line in lines])
        # Half of a line's capacitance stands at either end.
        self._series = (base**2 / _BASE_VA / ohm)[:, None]
        self._shunt = (1j * math.pi * _FREQUENCY * farad * base**2 / _BASE_VA)[:, None]
        rated_a = np.array([line["rated_a"] for line in lines])
        self._per_rated = (_BASE_VA / (math.sqrt(3.0) * base * rated_a))[:, None]
        for at, (one, other) in enumerate(zip(self._from, self._to, strict=True)):
            y[one, one] += self._series[at, 0] + self._shunt[at, 0]
            y[other, other] += self._series[at, 0] + self._shunt[at, 0]
            y[one, other] -= self._series[at, 0]
            y[other, one] -= self._series[at, 0]

        # Impedances of the transformer are those of its low-voltage side.
        tapped = (trafo["tap_pos"] - trafo["tap_nom"]) * trafo["tap_size_v"]
        high, low = rated[trafo["hv_bus"]], rated[trafo["lv_bus"]]
        ratio = (trafo["u1_v"] + tapped) / trafo["u2_v"] * low / high
        size = (low / trafo["u2_v"]) ** 2 * trafo["sn_va"] / _BASE_VA
        resistance = trafo["pk_w"] / trafo["sn_va"]
        series = size / complex(resistance, math.sqrt(trafo["uk"] ** 2 - resistance**2))
        loss = trafo["p0_w"] / trafo["sn_va"]
        shunt = size * complex(loss, -math.sqrt(max(0.0, trafo["i0"] ** 2 - loss**2))) / 2.0
        self._source = source
        self._low = rows[trafo["lv_bus"]]
        self._end = series + shunt
        y[self._low, self._low] += self._end
        # Currents that the busbar alone drives, into the low-voltage side and into the high one.
        self._fed = series / ratio * source
        self._high_alone = self._end / ratio**2 * source
        self._high_per_low = series / ratio
        # Rated at the nameplate voltages, as pandapower's trafo_loading="current" does.
        self._high_rated = 100.0 * _BASE_VA / high * trafo["u1_v"] / trafo["sn_va"]
        self._low_rated = 100.0 * _BASE_VA / low * trafo["u2_v"] / trafo["sn_va"]
        self._steps = _eliminate(y)
        still = np.zeros((len(rows), 1), dtype=np.complex128)
        still[self._low] = self._fed
        self._solve(still)
        self._no_load = still

    def _solve(self, currents: ComplexArray) -> None:
        """Turn currents (buses, slots) into the voltages that they cause, in place."""
        rows = list(currents)
        part = np.empty_like(rows[0])
        with np.errstate(all="ignore"):
            for at, _, links in self._steps:
                for other, factor in links:
                    np.multiply(rows[at], factor, out=part)
                    np.subtract(rows[other], part, out=rows[other])
            for at, inverse, links in reversed(self._steps):
                np.multiply(rows[at], inverse, out=rows[at])
                for other, factor in links:
                    np.multiply(rows[other], factor, out=part)
                    np.subtract(rows[at], part, out=rows[at])

    def flows(self, active: FloatArray, reactive: FloatArray) -> Flows | None:
        """States of (slots, buses) W and var; None where the iteration does not settle."""
        volts = self._settle(_drawn(active, reactive))
        return None if volts is None else self._read(volts)

    def sensitivity(self, active: FloatArray, reactive: FloatArray) -> FloatArray | None:
        """Change of every voltage with active power at every bus, (buses, buses) pu per W.

        The derivative at one state of (1, buses) W and var: the same equations, made linear. A
        change of voltage changes the currents of constant powers, so real and imaginary parts
        are unknowns of their own.
        """
        taken = _drawn(active, reactive)
        volts = self._settle(taken)
        if volts is None:
            return None
        size = volts.shape[0]
        impedance = np.eye(size, dtype=np.complex128)
        self._solve(impedance)
        per_watt = impedance * (-1.0 / _BASE_VA / volts[:, 0].conj())
        back = impedance * (taken[:, 0] / volts[:, 0].conj() ** 2)
        each = np.eye(size)
        moved = np.linalg.solve(
            np.block([[each + back.real, back.imag], [back.imag, each - back.real]]),
            np.concatenate([per_watt.real, per_watt.imag]),
        )
        along = volts / np.sqrt(_squares(volts))
        change: FloatArray = along.real * moved[:size] + along.imag * moved[size:]
        return change

    def losses(self, active: FloatArray, reactive: FloatArray) -> Losses | None:
        """What is lost at (slots, buses) W and var; None where the iteration does not settle."""
        volts = self._settle(_drawn(active, reactive))
        if volts is None:
            return None
        below = volts[self._low]
        given = _BASE_VA * (below * (self._fed - self._end * below).conj()).real
        high = self._high_alone - self._high_per_low * below
        taken = _BASE_VA * (self._source * high.conj()).real
        return Losses(given - active.sum(axis=1), taken - given)

    def _settle(self, taken: ComplexArray) -> ComplexArray | None:
        """Voltages (buses, slots) under constant powers, as `_drawn` gives them."""
        volts = np.repeat(self._no_load, taken.shape[1], axis=1)
        with np.errstate(all="ignore"):
            for _ in range(_MAX_ROUNDS):
                after = volts * taken
                inverse = 1.0 / _squares(volts)
                after.real *= inverse
                after.imag *= inverse
                after[self._low] += self._fed
                self._solve(after)
                volts -= after
                moved = _squares(volts).max()
                volts = after
                if moved < _TOLERANCE**2:
                    return volts
                if not np.isfinite(moved):
                    return None
        return None

    def lines(self, active: FloatArray, reactive: FloatArray) -> FloatArray | None:
        """Loading of every line in percent, (slots, lines); None where no state settles."""
        volts = self._settle(_drawn(active, reactive))
        return None if volts is None else 100.0 * np.sqrt(self._carried(volts)).T

    def _carried(self, volts: ComplexArray) -> FloatArray:
        """Squared current of each line at its fuller end over its rated one, (lines, slots)."""
        start, end = volts[self._from], volts[self._to]
        through = (start - end) * self._series
        start *= self._shunt
        start += through
        end *= self._shunt
        end -= through
        fullest: FloatArray = np.maximum(_squares(start), _squares(end))
        fullest *= self._per_rated**2
        return fullest

    def _read(self, volts: ComplexArray) -> Flows:
        fullest = self._carried(volts)
        below = volts[self._low]
        low = self._end * below - self._fed
        high = self._high_alone - self._high_per_low * below
        return Flows(
            voltages=np.sqrt(_squares(volts)).T,
            transformer=np.maximum(self._high_rated * np.abs(high), self._low_rated * np.abs(low)),
            line=100.0 * np.sqrt(fullest.max(axis=0, initial=0.0)),
        )


def _drawn(active: FloatArray, reactive: FloatArray) -> ComplexArray:
    """(slots, buses) W and var as (buses, slots): conjugate power into the grid, in pu."""
    taken = np.empty(active.shape[::-1], dtype=np.complex128)
    np.divide(active.T, -_BASE_VA, out=taken.real)
    np.divide(reactive.T, _BASE_VA, out=taken.imag)
    return taken


def _squares(values: ComplexArray) -> FloatArray:
    """Squared sizes, without the square root that abs() takes."""
    squares = np.square(values.real)
    squares += np.square(values.imag)
    return squares


def _eliminate(y: ComplexArray) -> list[tuple[int, complex, list[tuple[int, complex]]]]:
    """Gauss on a symmetric matrix, the bus with the fewest links next: a tree gains none.

    Per step its bus, one over the pivot, and each bus still linked to it with its factor. A bus
    without any feed leaves a pivot of zero, and voltages that are not finite.
    """
    y = y.copy()
    left = np.ones(y.shape[0], dtype=bool)
    steps = []
    for _ in range(y.shape[0]):
        links = ((y != 0) & left).sum(axis=1)
        at = int(np.where(left, links, y.shape[0] + 1).argmin())
        left[at] = False
        others = np.flatnonzero((y[at] != 0) & left)
        with np.errstate(all="ignore"):
            inverse = 1.0 / y[at, at]
            factors = y[at, others] * inverse
        y[np.ix_(others, others)] -= np.outer(factors, y[at, others])
        factor_of = list(zip(others.tolist(), factors.tolist(), strict=True))
        steps.append((at, complex(inverse), factor_of))
    return steps


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
        self._network = _Network(document, self.buses)

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
            system_frequency=_FREQUENCY,
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
        for first in range(0, table.shape[0], _CHUNK_SLOTS):
            part = slice(first, first + _CHUNK_SLOTS)
            for at, column in enumerate(columns):
                result[part, column] += table[part, at]
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
        slots = active.shape[0]
        if slots == 0:
            nothing, nowhere = np.zeros(0), np.zeros(0, dtype=np.int64)
            return GridResult(
                nothing, nowhere, nothing, nowhere, nothing, nothing,
                np.zeros(0, dtype=bool), np.zeros((0, self.buses.size)),
            )  # fmt: skip
        voltages = np.empty((slots, self.buses.size))
        transformer, line = np.empty(slots), np.empty(slots)
        for first in range(0, slots, _CHUNK_SLOTS):
            part = slice(first, first + _CHUNK_SLOTS)
            flows = self._network.flows(active[part], reactive[part])
            if flows is None:
                flows = self.reference(active[part], reactive[part])
            voltages[part] = flows.voltages
            transformer[part], line[part] = flows.transformer, flows.line
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

    def line_loadings(self, active_w: FloatArray, reactive_var: FloatArray) -> FloatArray:
        """Loading of every line in percent, (slots, lines) in the order of the document.

        active_w, reactive_var: (slots, buses), a value per bus of `self.buses`. Raises CheckFailed
        where no state exists.
        """
        found = self._network.lines(active_w, reactive_var)
        if found is None:
            raise CheckFailed(f"power flow of zone {self.code} found no state")
        return found

    def losses(self, net_w: npt.ArrayLike, buses: Sequence[int] | IntArray) -> Losses:
        """What lines and transformer lose while homes draw net_w: (slots, homes) W, at their buses.

        Losses grow with the square of the current: those of a mean power lie below the mean of the
        losses. Raises BadUse and CheckFailed as `states` does.
        """
        net = np.asarray(net_w, dtype=np.float64)
        active = self.at_buses(net, buses)
        if not np.isfinite(active).all():
            raise BadUse("net power holds a value that is not a finite number")
        reactive = self.at_buses(REACTIVE_PER_ACTIVE * np.maximum(net, 0.0), buses)
        lines, transformer = np.empty(len(active)), np.empty(len(active))
        for first in range(0, len(active), _CHUNK_SLOTS):
            part = slice(first, first + _CHUNK_SLOTS)
            found = self._network.losses(active[part], reactive[part])
            if found is None:
                raise CheckFailed(f"power flow of zone {self.code} found no state")
            lines[part], transformer[part] = found.lines, found.transformer
        return Losses(lines, transformer)

    def sensitivity(self, active_w: npt.ArrayLike, reactive_var: npt.ArrayLike) -> FloatArray:
        """How far one more kW drawn at each location moves each voltage, in pu per kW.

        active_w, reactive_var: one state, a value per bus of `self.buses`. The result is (buses,
        buses): a row per voltage, a column per location; reactive power stays as it is. It holds
        for small changes. Raises BadUse for shapes that do not fit, CheckFailed where no state
        exists.
        """
        shape = (1, self.buses.size)
        state = [np.asarray(part, dtype=np.float64) for part in (active_w, reactive_var)]
        if any(part.shape != shape[1:] or not np.isfinite(part).all() for part in state):
            raise BadUse(f"a state needs {shape[1]} finite numbers, one per low-voltage bus")
        change = self._network.sensitivity(state[0].reshape(shape), state[1].reshape(shape))
        if change is None:
            raise CheckFailed(f"power flow of zone {self.code} found no state to vary")
        return 1e3 * change

    def reference(self, active_w: FloatArray, reactive_var: FloatArray) -> Flows:
        """The same by power-grid-model, of (slots, low-voltage buses) W and var.

        Raises CheckFailed where no state exists.
        """
        import power_grid_model as pgm

        engine = self._engine()
        component = pgm.ComponentType
        slots = active_w.shape[0]
        update = pgm.initialize_array(
            pgm.DatasetType.update, component.sym_load, (slots, self.buses.size)
        )
        update["id"] = self._load_ids
        update["p_specified"] = active_w
        update["q_specified"] = reactive_var
        try:
            output = engine.calculate_power_flow(
                symmetric=True,
                error_tolerance=_TOLERANCE,
                max_iterations=_MAX_ROUNDS,
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
        lines = np.asarray(output[component.line]["loading"])
        trafo = self.document["transformer"]
        # Rated at the nameplate voltages, as pandapower's trafo_loading="current" does.
        root = math.sqrt(3.0)
        high = np.asarray(output[component.transformer]["i_from"])[:, 0] * root * trafo["u1_v"]
        low = np.asarray(output[component.transformer]["i_to"])[:, 0] * root * trafo["u2_v"]
        return Flows(
            voltages=np.asarray(output[component.node]["u_pu"])[:, self._node_at],
            transformer=100.0 * np.maximum(high, low) / self.rated_va,
            line=100.0 * lines.max(axis=1) if lines.shape[1] else np.zeros(slots),
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
    places = {
        int(index): json.loads(text)["coordinates"]
        for index, text in net.bus.geo.items()
        if isinstance(text, str)
    }
    points = np.array(list(places.values()), dtype=np.float64)
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
            {
                "index": int(index),
                "vn_v": float(bus.vn_kv) * 1e3,
                # Longitude and latitude, None where the net carries none.
                "place": places.get(int(index)),
            }
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
