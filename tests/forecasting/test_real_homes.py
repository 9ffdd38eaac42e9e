# SPDX-License-Identifier: Apache-2.0
"""Real homes and substations, where the shared data lies beside the checkout; skipped elsewhere."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks import forecast_data
from forecasting.backtest import accuracy, fairness, origins_of, roll
from forecasting.checks import examine
from forecasting.model import Settings

pytestmark = pytest.mark.skipif(
    not forecast_data.FONTANA.exists(), reason="the shared data does not lie beside the checkout"
)

LOAD = Settings(timezone=forecast_data.FONTANA_ZONE, country="US")
SOLAR = replace(LOAD, kind="solar", location=forecast_data.FONTANA_PLACE)


def test_homes_are_forecast_better_than_by_yesterday_and_none_is_left_behind() -> None:
    loads, _, _ = forecast_data.fontana()
    runs = []
    for home in loads[::4]:
        origins = origins_of(home.series, 24, LOAD, test_from=forecast_data.FONTANA_TEST_FROM)
        runs.append(roll(home, origins[::12], 24, LOAD))
    found = fairness(runs)
    assert found.ratio < 0.85
    assert found.left_behind == 0.0
    assert 0.74 < found.coverage < 0.88


def test_the_defects_that_the_source_names_are_found() -> None:
    _, roofs, _ = forecast_data.fontana()
    h07 = next(home for home in roofs if home.name == "h07")
    found = examine(h07.series.values, 3600, signed=False, solar=True).findings
    assert "dead" in [finding.name for finding in found]
    others = [home for home in roofs if home.name not in ("h07", "h15")]
    for home in others:
        names = [
            one.name for one in examine(home.series.values, 3600, signed=False, solar=True).findings
        ]
        assert set(names) <= {"missing"}, home.name


def test_a_district_is_forecast_better_than_by_yesterday() -> None:
    _, _, district = forecast_data.fontana()
    net = replace(SOLAR, kind="net")
    origins = origins_of(district.series, 24, net, test_from=forecast_data.FONTANA_TEST_FROM)
    assert accuracy(roll(district, origins[::10], 24, net)).ratio < 0.9
