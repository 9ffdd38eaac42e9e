# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

from dao.errors import BadUse
from forecasting.grid import BatterySpec, GridLimits, ZoneGrid, load_grid
from tests.forecasting.conftest import CODE, DemoZone


def test_voltages_and_loadings_equal_pandapowers(demo_zone: DemoZone) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pandapower
        import simbench

        net = simbench.get_simbench_net(CODE)
        values = simbench.get_absolute_values(net, profiles_instead_of_study_cases=True)
        # SimBench sets the tap one step up; pandapower 3 heeds it only with a named type.
        net.trafo["tap_changer_type"] = "Ratio"
        slots = [0, 5_000, 13_048, 19_631, 32_237]
        columns = [values["load", "p_mw"], -values["sgen", "p_mw"], values["storage", "p_mw"]]
        active = np.concatenate([part.iloc[slots].to_numpy() for part in columns], axis=1) * 1e6
        drawn = values["load", "q_mvar"].iloc[slots].to_numpy() * 1e6
        reactive = np.zeros_like(active)
        reactive[:, : drawn.shape[1]] = drawn
        buses = [*net.load.bus, *net.sgen.bus, *net.storage.bus]
        ours = demo_zone.grid.states(active, buses, reactive_var=reactive)
        for at, slot in enumerate(slots):
            net.load.p_mw = values["load", "p_mw"].iloc[slot]
            net.load.q_mvar = values["load", "q_mvar"].iloc[slot]
            net.sgen.p_mw = values["sgen", "p_mw"].iloc[slot]
            net.storage.p_mw = values["storage", "p_mw"].iloc[slot]
            pandapower.runpp(net, numba=False)
            theirs = net.res_bus.vm_pu.loc[demo_zone.grid.buses].to_numpy()
            assert np.abs(ours.voltages[at] - theirs).max() < 1e-4
            transformer = net.res_trafo.loading_percent.max()
            assert ours.transformer_loading[at] == pytest.approx(transformer, abs=0.01)
            line = net.res_line.loading_percent.max()
            assert ours.line_loading[at] == pytest.approx(line, abs=0.01)
            worst = net.res_bus.vm_pu.loc[demo_zone.grid.buses]
            assert ours.voltage_max_bus[at] == worst.idxmax()
            assert ours.voltage_min_bus[at] == worst.idxmin()


def test_the_second_load_is_fast_and_needs_neither_simbench_nor_pandapower(
    demo_zone: DemoZone, cache: Path
) -> None:
    program = (
        "import sys, pathlib\n"
        "from forecasting.grid import load_grid\n"
        f"grid = load_grid({CODE!r}, pathlib.Path({str(cache)!r}))\n"
        "grid.states([[1000.0]], [int(grid.buses[0])])\n"
        "assert not {'simbench', 'pandapower', 'prophet'} & set(sys.modules), sys.modules\n"
    )
    subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        env={"PYTHONPATH": ":".join(path for path in sys.path if path)},
    )
    began = time.perf_counter()
    again = load_grid(CODE, cache)
    assert time.perf_counter() - began < 1.0
    assert again.document == demo_zone.grid.document


def test_a_damaged_cache_file_is_built_again(
    demo_zone: DemoZone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"grid-{CODE}.json"
    path.write_text('{"format": 1, "code"', encoding="utf-8")
    monkeypatch.setattr("forecasting.grid._from_simbench", lambda code: demo_zone.grid.document)
    assert load_grid(CODE, tmp_path).document == demo_zone.grid.document
    assert json.loads(path.read_text(encoding="utf-8")) == demo_zone.grid.document


def test_the_demo_zone_breaks_the_planning_limit_on_sunny_days_only(demo_zone: DemoZone) -> None:
    net = demo_zone.power_w(demo_zone.first_slot, demo_zone.import_wh.shape[0])
    result = demo_zone.grid.states(net, demo_zone.buses)
    assert result.slots_over_limit > 500
    assert ((result.voltage_max > 1.055) == result.over_limit).all()
    exporting = demo_zone.export_wh.sum(1) > 0
    assert exporting[result.over_limit].all()
    assert result.transformer_loading.max() < 100


def test_more_feed_in_raises_the_voltage_and_more_load_lowers_it(demo_zone: DemoZone) -> None:
    far = 83
    result = demo_zone.grid.states([[-20_000.0], [0.0], [20_000.0]], [far])
    assert result.voltage_max[0] > result.voltage_max[1]
    assert result.voltage_min[1] > result.voltage_min[2]
    assert result.voltage_max_bus[0] == far
    assert result.voltage_min_bus[2] == far


def test_a_broken_limit_of_each_kind_marks_the_slot(demo_zone: DemoZone) -> None:
    calm = demo_zone.grid.states([[0.0]], [83])
    assert not calm.over_limit.any()
    for limits in (
        GridLimits(voltage_max=1.0),
        GridLimits(voltage_min=1.1),
        GridLimits(loading_max=0.1),
    ):
        assert demo_zone.grid.states([[0.0]], [83], limits=limits).over_limit.all()


def test_a_charging_battery_lowers_the_voltage_where_it_stands(demo_zone: DemoZone) -> None:
    battery = BatterySpec(buses=(83,), capacity_wh=1, max_power_w=40_000)
    without = demo_zone.grid.states([[0.0]], [83])
    charging = demo_zone.grid.states([[0.0]], [83], battery_w=[40_000], battery=battery)
    column = demo_zone.grid.buses.tolist().index(83)
    assert charging.voltages[0, column] < without.voltages[0, column]


def test_no_slots_give_an_empty_result(demo_zone: DemoZone) -> None:
    assert demo_zone.grid.states(np.zeros((0, 1)), [83]).slots_over_limit == 0


@pytest.mark.parametrize(
    ("net", "buses", "words"),
    [
        ([[1.0]], [100_000], "no low-voltage bus"),
        ([[1.0, 2.0]], [83], "one column per home"),
        ([[float("nan")]], [83], "not a finite number"),
    ],
)
def test_power_that_fits_no_home_is_refused(
    demo_zone: DemoZone, net: list[list[float]], buses: list[int], words: str
) -> None:
    with pytest.raises(BadUse, match=words):
        demo_zone.grid.states(net, buses)


def test_an_unknown_zone_is_refused_at_once(tmp_path: Path) -> None:
    began = time.perf_counter()
    with pytest.raises(BadUse, match="unknown zone"):
        load_grid("1-LV-nowhere--2-sw", tmp_path)
    assert time.perf_counter() - began < 1.0
    assert not list(tmp_path.iterdir())


def test_a_file_of_another_format_is_not_read() -> None:
    with pytest.raises(ValueError, match="format"):
        ZoneGrid({"format": 0})
