# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from dao.errors import BadUse
from forecasting.homes import HomeInput, add_up, forecast_homes, forecast_street
from forecasting.model import Settings, forecast
from forecasting.series import IntervalSeries

Maker = Callable[..., IntervalSeries]
BERLIN = Settings(timezone="Europe/Berlin", country="DE")


def street(made_up: Maker, homes: int, days: int = 40) -> list[IntervalSeries]:
    """Homes of one street: own noise on a shape they share, each at its own height."""
    return [
        replace(series, values=series.values * (1 + at))
        for at, series in enumerate(made_up(days, 3600, seed=seed) for seed in range(homes))
    ]


def last(series: IntervalSeries, intervals: int) -> IntervalSeries:
    return IntervalSeries(
        series.end - intervals * series.step, series.step, series.values[-intervals:]
    )


def test_homes_are_forecast_each_as_alone_whatever_the_processes(made_up: Maker) -> None:
    homes = [HomeInput(series, BERLIN) for series in street(made_up, 3)]
    here, there = (forecast_homes(homes, 24, workers=workers) for workers in (1, 2))
    for home, one, other in zip(homes, here, there, strict=True):
        alone = forecast(home.series, 24, BERLIN)
        assert one.q10.tobytes() == other.q10.tobytes() == alone.q10.tobytes()


def test_a_young_home_borrows_its_neighbours_shape_at_its_own_height(made_up: Maker) -> None:
    full = street(made_up, 5)
    known = [last(replace(one, values=one.values[:-24]), 39 * 24) for one in full[:-1]]
    grown = replace(full[-1], values=full[-1].values[:-24])
    young = last(grown, 5 * 24)
    homes = [HomeInput(series, BERLIN) for series in (*known, young)]
    made = forecast_homes(homes, 24)[-1]
    assert made.model == "neighbours"
    assert "5.0 days" in made.reason
    assert (made.q10 <= made.q50).all()
    assert (made.q50 <= made.q90).all()
    actual = full[-1].values[-24:]
    alone = forecast(young, 24, BERLIN)
    assert alone.model == "seasonal-naive-day"
    assert np.abs(made.mean - actual).mean() < np.abs(alone.mean - actual).mean()


def test_a_home_without_neighbours_of_its_kind_falls_back_alone(made_up: Maker) -> None:
    old, young = street(made_up, 2)
    homes = [HomeInput(old, replace(BERLIN, kind="solar")), HomeInput(last(young, 120), BERLIN)]
    assert forecast_homes(homes, 24)[-1].model == "seasonal-naive-day"


@pytest.mark.parametrize("factor", [0.7, 1.3])
def test_homes_add_up_to_the_zone_in_the_mean(made_up: Maker, factor: float) -> None:
    made = forecast_homes([HomeInput(series, BERLIN) for series in street(made_up, 3)], 24)
    zone = factor * sum(one.mean for one in made)
    fitted = add_up(made, zone)
    np.testing.assert_allclose(sum(one.mean for one in fitted), zone)
    for before, after in zip(made, fitted, strict=True):
        assert (after.mean >= 0.0).all()
        assert after.q50.tobytes() == before.q50.tobytes()
    with pytest.raises(BadUse, match="12 values of the zone"):
        add_up(made, zone[:12])


def test_a_street_begins_where_the_last_home_ends_and_adds_up(made_up: Maker) -> None:
    whole = street(made_up, 3, days=30)
    early = replace(whole[2], values=whole[2].values[:-48])
    series = [whole[0], whole[1], early, last(whole[0], 72)]
    made = forecast_street([HomeInput(one, BERLIN) for one in series], 24, workers=1)
    assert {one.start for one in made.homes} == {whole[0].end}
    assert made.counted == (0, 1, 2)
    assert made.zone is not None
    np.testing.assert_allclose(sum(made.homes[at].mean for at in made.counted), made.zone.mean)


def test_where_a_home_misses_values_the_others_stand_for_it_in_the_sum(made_up: Maker) -> None:
    whole = street(made_up, 12, days=30)
    holes = whole[1].values.copy()
    holes[np.random.default_rng(0).random(holes.size) < 0.3] = np.nan
    sums = []
    for second in (whole[1], replace(whole[1], values=holes)):
        homes = [HomeInput(one, BERLIN) for one in (whole[0], second, *whole[2:])]
        made = forecast_street(homes, 24, workers=1)
        assert made.zone is not None
        sums.append(made.zone.mean)
    np.testing.assert_allclose(sums[1], sums[0], rtol=0.01)


def test_homes_without_a_history_are_fitted_to_no_sum(made_up: Maker) -> None:
    young = [last(one, 72) for one in street(made_up, 2)]
    made = forecast_street([HomeInput(one, BERLIN) for one in young], 24, workers=1)
    assert made.zone is None
    assert {one.model for one in made.homes} == {"seasonal-naive-day"}
    half = made_up(30, 1800)
    with pytest.raises(BadUse, match="one length for all"):
        forecast_street([HomeInput(young[0], BERLIN), HomeInput(half, BERLIN)], 24)
