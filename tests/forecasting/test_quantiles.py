# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest

from forecasting.features import History
from forecasting.model import Settings, forecast
from forecasting.quantiles import Band, mixed, recent_quantiles, residual_quantiles
from forecasting.series import IntervalSeries, calendar

START = 1_451_606_400  # 2016-01-01T00:00Z, a Friday
BERLIN = Settings(timezone="Europe/Berlin", country="DE")


def band(centre: float, width: float, past: int = 200, ahead: int = 4) -> Band:
    levels = centre + width * np.array([[-1.0], [0.0], [1.0]])
    return Band(np.tile(levels, (1, past)), np.tile(levels, (1, ahead)))


def came(centre: float, count: int = 200) -> np.ndarray:
    return centre + np.random.default_rng(0).standard_normal(count)


def mix(bands: list[Band], usual: list[float], values: np.ndarray) -> np.ndarray:
    """All days of one type."""
    ahead = bands[0].ahead.shape[1]
    return mixed(bands, usual, values, np.ones(values.size, bool), np.ones(ahead, bool))


def test_the_weights_go_to_the_band_that_the_past_bears_out() -> None:
    good, bad = band(5.0, 1.3), band(9.0, 1.3)
    made = mix([bad, good], [1.0, 0.0], came(5.0))
    np.testing.assert_allclose(made, good.ahead)


def test_weights_stay_where_they_are_unless_others_save_enough() -> None:
    usual, other = band(5.0, 1.3), band(5.0, 1.25)
    np.testing.assert_allclose(mix([usual, other], [1.0, 0.0], came(5.0)), usual.ahead)
    np.testing.assert_allclose(
        mix([usual, other], [0.5, 0.5], came(5.0)), (usual.ahead + other.ahead) / 2
    )


def test_each_type_of_day_has_its_own_weights() -> None:
    one, other = band(5.0, 1.3), band(9.0, 1.3)
    types = np.arange(400) < 200
    values = np.concatenate([came(5.0), came(9.0)])
    bands = [Band(np.tile(part.past, 2), part.ahead) for part in (one, other)]
    ahead = np.array([True, True, False, False])
    made = mixed(bands, [0.5, 0.5], values, types, ahead)
    np.testing.assert_allclose(made[1], [5.0, 5.0, 9.0, 9.0])
    # A type that the past does not have keeps the usual weights.
    made = mixed(bands, [0.5, 0.5], values, np.ones(400, bool), ahead)
    np.testing.assert_allclose(made[1, 2:], 7.0)


def test_bands_that_miss_on_either_side_are_averaged() -> None:
    low, high = band(4.0, 1.3), band(6.0, 1.3)
    np.testing.assert_allclose(mix([low, high], [1.0, 0.0], came(5.0))[1], 5.0)


def test_residuals_of_days_off_count_for_days_off() -> None:
    rng = np.random.default_rng(1)
    hours = np.tile(np.arange(24), 70)
    workday = np.repeat(np.arange(70) % 7 < 5, 24)
    residuals = rng.standard_normal(hours.size) * np.where(workday, 10.0, 0.1)
    at = np.array([12, 12])
    made = residual_quantiles(np.zeros(2), at, np.array([True, False]), residuals, hours, workday)
    working, off = made[2] - made[0]
    assert working > 1.5 * off


def test_recent_quantiles_read_nothing_at_or_after_an_origin() -> None:
    count, size = 30 * 24, 20 * 24
    clock = calendar(START, 3600, count, "UTC", None, None)
    values = np.arange(size, dtype=np.float64)
    rows = np.arange(size - 48, size - 24)  # a past day, forecast from its midnight
    leads = np.arange(24)
    origin = size - 48
    spiked = values.copy()
    spiked[origin:] += 1e9
    for history in (History(values, 3600, clock), History(spiked, 3600, clock)):
        days = [rows - 24 * back for back in range(1, 8)]
        quantiles, number = recent_quantiles(history, rows, leads, days, 3600)
        assert quantiles.max() < size
        # The hour after the last one before midnight is not known yet.
        assert number.tolist() == [21] * 23 + [20]


def test_a_shop_is_forecast_narrowly_on_the_days_it_is_closed() -> None:
    rng = np.random.default_rng(2)
    days, per_day = 63, 24
    at = np.arange(days * per_day)
    open_ = ((at // per_day + 4) % 7 < 5) & (at % per_day >= 8) & (at % per_day < 18)
    values = 1.0 + 0.02 * rng.random(at.size) + open_ * rng.gamma(4.0, 2.0, at.size)
    # From Friday to the Sunday after; Berlin's midnight is 23:00 UTC.
    made = forecast(IntervalSeries(START, 3600, values), 24 * 4, BERLIN)
    friday, sunday = slice(10, 16), slice(2 * 24 + 10, 2 * 24 + 16)
    width = made.q90 - made.q10
    assert width[sunday].max() < 0.3 * width[friday].min()
    np.testing.assert_allclose(made.q50[sunday], 1.0, atol=0.1)


@pytest.mark.parametrize("often", [0.01, 0.05])
def test_a_charger_that_mostly_rests_has_a_median_of_nothing(often: float) -> None:
    rng = np.random.default_rng(3)
    values = np.where(rng.random(90 * 96) < often, 11.0, 0.0)
    made = forecast(IntervalSeries(START, 900, values), 96, BERLIN)
    assert made.model == "prophet"
    assert made.q50.max() < 0.1
    assert made.q10.max() < 0.1
