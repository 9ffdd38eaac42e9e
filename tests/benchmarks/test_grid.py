# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import copy
from dataclasses import replace

import pytest

from benchmarks import grid as suite
from dao.errors import CheckFailed
from dao.paths import cache_dir
from forecasting.grid import ZoneGrid, load_grid
from tests.kept import bring_extract


@pytest.fixture(scope="module")
def june() -> suite.Year:
    """A day in June of SimBench's year: 96 states, of which two go to pandapower."""
    with suite.quiet():
        year = suite.simbench_year()
    day = slice(15_552, 15_648)
    return replace(
        year,
        profiles={name: table.iloc[day] for name, table in year.profiles.items()},
        active_w=year.active_w[day],
        reactive_var=year.reactive_var[day],
    )


@pytest.fixture(autouse=True)
def short(june: suite.Year, monkeypatch: pytest.MonkeyPatch) -> None:
    own = replace(june, net=copy.deepcopy(june.net))
    monkeypatch.setattr(suite, "simbench_year", lambda: own)


def test_the_suite_reports_rates_beside_pandapowers() -> None:
    result = suite.run()
    assert 0 < result.figures["grid.voltage_difference_pu"] < 1e-4
    ours = result.figures["grid.states_per_second"]
    theirs = result.peers["grid.pandapower_states_per_second"]
    assert result.ratios["grid.year_vs_pandapower"] == pytest.approx(ours / theirs)


def test_a_grid_with_another_tap_is_not_what_pandapower_computes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    document = copy.deepcopy(load_grid(suite.CODE, bring_extract(cache_dir())).document)
    document["transformer"]["tap_pos"] = 0
    monkeypatch.setattr(suite, "load_grid", lambda code, cache: ZoneGrid(document))
    with pytest.raises(CheckFailed, match="grid states differ"):
        suite.run()
