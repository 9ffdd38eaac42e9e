# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import copy
import json
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

from dao.errors import BadUse, CheckFailed
from forecasting.grid import REACTIVE_PER_ACTIVE, BatterySpec, GridLimits, ZoneGrid, load_grid
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


def some_states(zone: DemoZone, slots: int) -> tuple[np.ndarray, np.ndarray]:
    """W and var per bus: every bus draws or feeds, from none to far more than the zone knows."""
    random = np.random.default_rng(7)
    active = random.normal(0.0, 1_500.0, (slots, zone.grid.buses.size))
    return active * np.linspace(0.0, 1.0, slots)[:, None], 0.2 * np.abs(active)


@pytest.mark.parametrize("tap", [-2, 2])
def test_states_are_power_grid_models_in_rings_and_at_any_tap(
    demo_zone: DemoZone, tap: int
) -> None:
    document = copy.deepcopy(demo_zone.grid.document)
    document["transformer"]["tap_pos"] = tap
    line = document["lines"][0]
    for one, other in ((83, 121), (121, int(demo_zone.grid.buses[5]))):
        document["lines"].append({**line, "from_bus": one, "to_bus": other})
    meshed = ZoneGrid(document)
    active, reactive = some_states(demo_zone, 50)
    ours = meshed.states(active, reactive_var=reactive)
    theirs = meshed.reference(active, reactive)
    assert np.abs(ours.voltages - theirs.voltages).max() < 1e-7
    assert np.abs(ours.transformer_loading - theirs.transformer).max() < 1e-4
    assert np.abs(ours.line_loading - theirs.line).max() < 1e-4


@pytest.mark.parametrize("tap", [-2, 2])
def test_losses_are_what_power_grid_model_finds_in_its_branches(
    demo_zone: DemoZone, tap: int
) -> None:
    import power_grid_model as pgm

    document = copy.deepcopy(demo_zone.grid.document)
    document["transformer"]["tap_pos"] = tap
    grid = ZoneGrid(document)
    net = demo_zone.power_w(demo_zone.first_slot, 96)
    ours = grid.losses(net, demo_zone.buses)
    component = pgm.ComponentType
    engine = grid._engine()
    update = pgm.initialize_array(pgm.DatasetType.update, component.sym_load, (96, grid.buses.size))
    update["id"] = grid._load_ids
    update["p_specified"] = grid.at_buses(net, demo_zone.buses)
    update["q_specified"] = grid.at_buses(
        REACTIVE_PER_ACTIVE * np.maximum(net, 0.0), demo_zone.buses
    )
    found = engine.calculate_power_flow(
        error_tolerance=1e-10,
        calculation_method=pgm.CalculationMethod.newton_raphson,
        update_data={component.sym_load: update},
        output_component_types={
            branch: ["p_from", "p_to"] for branch in (component.line, component.transformer)
        },
    )
    for branch, losses in ((component.line, ours.lines), (component.transformer, ours.transformer)):
        theirs = (found[branch]["p_from"] + found[branch]["p_to"]).sum(axis=1)
        assert np.abs(losses - theirs).max() < 0.01
    assert ours.lines.min() > 0
    assert ours.lines.max() > 100  # W: the test would be worth nothing on losses near zero


def test_losses_of_power_that_the_grid_cannot_carry_are_refused(demo_zone: DemoZone) -> None:
    with pytest.raises(CheckFailed, match="found no state"):
        demo_zone.grid.losses([[5e6]], [83])


def test_a_state_does_not_depend_on_the_slots_beside_it(demo_zone: DemoZone) -> None:
    active, reactive = some_states(demo_zone, 2_500)
    together = demo_zone.grid.states(active, reactive_var=reactive)
    for slot in (0, 1_023, 1_024, 2_499):
        alone = demo_zone.grid.states(active[[slot]], reactive_var=reactive[[slot]])
        assert np.abs(alone.voltages[0] - together.voltages[slot]).max() < 1e-7
        assert alone.line_loading[0] == pytest.approx(together.line_loading[slot], abs=1e-4)


def test_a_bus_without_feed_has_no_voltage_and_breaks_the_limit(demo_zone: DemoZone) -> None:
    document = copy.deepcopy(demo_zone.grid.document)
    document["buses"].append({"index": 500, "vn_v": 400.0})
    result = ZoneGrid(document).states([[1_000.0]], [83])
    assert result.voltage_min_bus[0] == 500
    assert result.voltage_min[0] == 0
    assert result.over_limit[0]


def test_power_that_the_grid_cannot_carry_is_refused(demo_zone: DemoZone) -> None:
    with pytest.raises(CheckFailed, match="found no state"):
        demo_zone.grid.states([[0.0], [5e6]], [83])


def test_the_sensitivity_of_each_location_is_the_change_that_the_reference_finds(
    demo_zone: DemoZone,
) -> None:
    grid = demo_zone.grid
    active, reactive = (table[-1] for table in some_states(demo_zone, 2))
    found = grid.sensitivity(active, reactive)
    step_w = 100.0
    beside = np.tile(reactive, (grid.buses.size, 1))
    steps = step_w * np.eye(grid.buses.size)
    more = grid.reference(active + steps, beside).voltages
    less = grid.reference(active - steps, beside).voltages
    assert np.abs(found - 1e3 * (more - less).T / (2 * step_w)).max() < 1e-7
    assert found.min() < -1e-4  # the test would be worth nothing on changes near zero


def test_a_sensitivity_wants_one_value_per_bus(demo_zone: DemoZone) -> None:
    with pytest.raises(BadUse, match="128 finite numbers"):
        demo_zone.grid.sensitivity([1.0], [0.0])


def test_the_sensitivity_of_a_state_that_does_not_exist_is_refused(demo_zone: DemoZone) -> None:
    drawn = np.full(demo_zone.grid.buses.size, 1e6)
    with pytest.raises(CheckFailed, match="found no state"):
        demo_zone.grid.sensitivity(drawn, 0.0 * drawn)


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
