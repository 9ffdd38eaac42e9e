# SPDX-License-Identifier: Apache-2.0
"""What the balancing tests share: the forecast of one sunny day, made once."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import pytest

from dao.slots import first_slot_of_day
from forecasting.balancing import Shares, standard_shares
from forecasting.zone import DayForecast, ZoneTotals, forecast_zone_day
from tests.forecasting.conftest import DemoZone
from tests.forecasting.test_zone import totals_before

DAY = first_slot_of_day(date(2016, 6, 8))


@dataclass(frozen=True)
class Eve:
    """What a forecaster knows and says on the evening before DAY."""

    history: ZoneTotals
    forecast: DayForecast
    shares: Shares


@pytest.fixture(scope="session")
def eve(demo_zone: DemoZone) -> Eve:
    history = totals_before(demo_zone, DAY)
    return Eve(history, forecast_zone_day(history, DAY), standard_shares(demo_zone.homes))
