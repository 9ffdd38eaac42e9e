# SPDX-License-Identifier: Apache-2.0
"""A year of quarter-hours of the demo zone's grid, beside pandapower's time series.

The states are SimBench's own profiles of the zone, every load, roof and storage by itself.
pandapower computes a sample of them, for the whole year would take it minutes: every 95th slot,
which meets every time of day and every week. It runs as its documentation advises for speed:
constant controllers that allow recycling, results read in one batch, numba where it is installed.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np

from benchmarks.results import Result, race, seconds
from dao.errors import CheckFailed
from dao.paths import cache_dir
from forecasting.grid import FloatArray, GridResult, IntArray, load_grid

CODE = "1-LV-rural3--2-sw"
SAMPLE_EVERY = 95
VOLTAGE_TOLERANCE_PU = 1e-4
LOADING_TOLERANCE = 0.01  # percentage points
NUMBA = find_spec("numba") is not None
LOGGED = {"res_bus": "vm_pu", "res_trafo": "loading_percent", "res_line": "loading_percent"}


@dataclass(frozen=True)
class Year:
    """The net of pandapower, its profiles, and the same as columns of W and var with their bus."""

    net: Any
    profiles: dict[tuple[str, str], Any]
    active_w: FloatArray
    reactive_var: FloatArray
    buses: IntArray


def run() -> Result:
    """Rates and differences. Raises CheckFailed where pandapower finds other states."""
    with quiet():
        year, grid = simbench_year(), load_grid(CODE, cache_dir())
        states = year.active_w.shape[0]
        rows = np.arange(0, states, SAMPLE_EVERY)
        pandapower, results = time_series(year, rows, grid.buses)
        pandapower(recycle=None)  # once for numba to compile

        def ours() -> GridResult:
            return grid.states(year.active_w, year.buses, reactive_var=year.reactive_var)

        ours_s, recycled_s, made = race(ours, partial(pandapower, recycle=None), rounds=3, repeat=2)
        voltage, loading = differences(results(), made, rows)
        plain_s, _ = seconds(partial(pandapower, recycle=False))
        powers = [grid.at_buses(table, year.buses) for table in (year.active_w, year.reactive_var)]
        grid.reference(*(table[:1] for table in powers))
        reference_s, reference = seconds(lambda: grid.reference(*powers), repeat=2)
    apart = float(np.abs(reference.voltages - made.voltages).max())
    if max(voltage, apart) > VOLTAGE_TOLERANCE_PU or loading > LOADING_TOLERANCE:
        raise CheckFailed(
            f"grid states differ: {voltage:.2g} pu and {loading:.2g} percentage points from "
            f"pandapower, {apart:.2g} pu from power-grid-model; at most {VOLTAGE_TOLERANCE_PU} pu "
            f"and {LOADING_TOLERANCE} points are accepted"
        )
    rate = states / ours_s
    compiled = "with numba" if NUMBA else "numba is not installed"
    return Result(
        figures={
            "grid.year_s": ours_s,
            "grid.states_per_second": rate,
            "grid.voltage_difference_pu": voltage,
            "grid.loading_difference_points": loading,
            "grid.reference_difference_pu": apart,
        },
        peers={
            "grid.pandapower_states_per_second": rows.size / recycled_s,
            "grid.pandapower_without_recycling_states_per_second": rows.size / plain_s,
            "grid.power_grid_model_states_per_second": states / reference_s,
        },
        ratios={
            "grid.year_vs_pandapower": rate * recycled_s / rows.size,
            "grid.year_vs_power_grid_model": reference_s / ours_s,
        },
        notes={
            "grid.year_s": f"{states:,} states of {grid.buses.size} buses, one thread",
            "grid.voltage_difference_pu": f"largest to pandapower, all buses, {rows.size} states",
            "grid.loading_difference_points": "largest, transformer and fullest line, percent",
            "grid.reference_difference_pu": "largest to power-grid-model, every state of the year",
            "grid.pandapower_states_per_second": f"run_timeseries, recycling, {compiled}",
            "grid.pandapower_without_recycling_states_per_second": f"the same without, {compiled}",
            "grid.power_grid_model_states_per_second": "one batch, all cores, sums per bus given",
            "grid.year_vs_pandapower": "times the rate, to its faster setting",
            "grid.year_vs_power_grid_model": "times the rate",
        },
    )


def simbench_year() -> Year:
    """The zone as SimBench gives it, tap included, with a leap year of quarter-hours."""
    import simbench

    net = simbench.get_simbench_net(CODE)
    # SimBench sets the tap one step up; pandapower 3 heeds it only with a named type.
    net.trafo["tap_changer_type"] = "Ratio"
    every = simbench.get_absolute_values(net, profiles_instead_of_study_cases=True)
    profiles = {name: table for name, table in every.items() if table.shape[1]}
    kinds = [("load", 1.0), ("sgen", -1.0), ("storage", 1.0)]
    active = [sign * 1e6 * profiles[kind, "p_mw"].to_numpy() for kind, sign in kinds]
    reactive = [np.zeros_like(table) for table in active]
    reactive[0] = 1e6 * profiles["load", "q_mvar"].to_numpy()
    return Year(
        net=net,
        profiles=profiles,
        active_w=np.concatenate(active, axis=1),
        reactive_var=np.concatenate(reactive, axis=1),
        buses=np.concatenate([net[kind].bus.to_numpy() for kind, _ in kinds]).astype(np.int64),
    )


def time_series(
    year: Year, rows: IntArray, buses: IntArray
) -> tuple[Callable[..., None], Callable[[], dict[str, FloatArray]]]:
    """pandapower's time series of some slots, ready to run, and its results by table.

    buses: those whose voltages are returned, in this order.
    """
    from pandapower.control import ConstControl
    from pandapower.timeseries import DFData, OutputWriter, run_timeseries

    for (element, variable), table in year.profiles.items():
        names = list(table.columns)
        ConstControl(
            year.net,
            element=element,
            variable=variable,
            element_index=names,
            profile_name=names,
            data_source=DFData(table.iloc[rows].reset_index(drop=True)),
        )
    steps = range(rows.size)
    writer = OutputWriter(year.net, time_steps=steps, output_path=None)
    for table, variable in LOGGED.items():
        writer.log_variable(table, variable)

    def go(recycle: bool | None) -> None:
        run_timeseries(year.net, time_steps=steps, verbose=False, numba=NUMBA, recycle=recycle)

    def results() -> dict[str, FloatArray]:
        tables = {table: writer.output[f"{table}.{name}"] for table, name in LOGGED.items()}
        tables["res_bus"] = tables["res_bus"][buses]
        return {name: table.to_numpy() for name, table in tables.items()}

    return go, results


def differences(
    theirs: dict[str, FloatArray], made: GridResult, rows: IntArray
) -> tuple[float, float]:
    """Largest difference of any voltage in pu, and of any loading in percentage points."""
    transformer = made.transformer_loading[rows] - theirs["res_trafo"].max(axis=1)
    line = made.line_loading[rows] - theirs["res_line"].max(axis=1)
    voltage = made.voltages[rows] - theirs["res_bus"]
    return float(np.abs(voltage).max()), float(np.abs([transformer, line]).max())


@contextmanager
def quiet() -> Iterator[None]:
    """Without the warnings of packages about their own future."""
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)
