# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from dao.errors import BadUse
from forecasting.model import Settings, forecast
from forecasting.series import IntervalSeries, Location

Maker = Callable[..., IntervalSeries]
BERLIN = Settings(timezone="Europe/Berlin", country="DE")


def pinball(actual: np.ndarray, quantile: np.ndarray, level: float) -> float:
    error = actual - quantile
    return float(np.maximum(level * error, (level - 1) * error).mean())


@pytest.mark.parametrize("step", [900, 1800, 3600])
def test_quantiles_are_in_order_and_better_than_last_week(made_up: Maker, step: int) -> None:
    series = made_up(100, step, seed=2)
    per_day = series.per_day
    ours = naive = 0.0
    for day in range(60, 100, 4):
        known = replace(series, values=series.values[: day * per_day])
        actual = series.values[day * per_day : (day + 1) * per_day]
        made = forecast(known, per_day, BERLIN)
        assert made.model == "prophet"
        assert (made.q10 <= made.q50).all()
        assert (made.q50 <= made.q90).all()
        assert (made.q10 >= 0).all()
        week = known.values[-7 * per_day :][:per_day]
        errors = known.values[7 * per_day :] - known.values[: -7 * per_day]
        for level, quantile in ((0.1, made.q10), (0.5, made.q50), (0.9, made.q90)):
            ours += pinball(actual, quantile, level)
            naive += pinball(actual, week + np.quantile(errors, level), level)
    assert ours < 0.9 * naive


def test_four_of_five_values_fall_between_the_outer_quantiles(made_up: Maker) -> None:
    series = made_up(100, 3600)
    inside = []
    for day in range(65, 100, 2):
        made = forecast(replace(series, values=series.values[: day * 24]), 24, BERLIN)
        actual = series.values[day * 24 : (day + 1) * 24]
        inside.append((made.q10 <= actual) & (actual <= made.q90))
    assert 0.7 < np.mean(inside) < 0.9


@pytest.mark.parametrize("gap", [0, 24, 30])
def test_a_spike_after_the_origin_does_not_move_the_forecast(made_up: Maker, gap: int) -> None:
    series = made_up(40)
    origin = 35 * 96
    settings = replace(BERLIN, kind="net", location=Location(53.65, 11.41))
    spiked = series.values.copy()
    spiked[origin:] += 1e6
    calm, wild = (
        forecast(replace(series, values=values[:origin]), 2 * 96, settings, gap=gap)
        for values in (series.values, spiked)
    )
    assert calm.q50.tobytes() == wild.q50.tobytes()
    # Cutting off is not enough: training rows must not see past their own origins either.
    from forecasting.features import History, load_features, solar_features
    from forecasting.series import calendar

    clock = calendar(series.start, 900, series.values.size, "Europe/Berlin", None, None)
    rows = np.arange(origin, origin + 3 * 96)
    leads = rows - origin + gap
    rows = rows + gap
    sky = np.ones(series.values.size)
    for build in (
        lambda values: load_features(History(values, 900, clock), rows, leads),
        lambda values: solar_features(History(values, 900, clock), sky, rows, leads),
    ):
        before, after = build(series.values), build(spiked)
        for name in before:
            assert before[name].tobytes() == after[name].tobytes(), name


def test_features_reach_back_the_fewest_whole_days_that_are_known(made_up: Maker) -> None:
    from forecasting.features import History, load_features
    from forecasting.series import calendar

    size = 40 * 96
    values = np.arange(size, dtype=np.float64)
    clock = calendar(1_451_606_400, 900, size, "UTC", None, None)
    rows = np.array([3000, 3000, 3000, 3000])
    leads = np.array([0, 95, 96, 7 * 96])
    columns = load_features(History(values, 900, clock), rows, leads)
    assert columns["day_ago"].tolist() == [3000 - 96, 3000 - 96, 3000 - 2 * 96, 3000 - 8 * 96]
    assert columns["week_ago"].tolist() == [3000 - 7 * 96] * 3 + [3000 - 14 * 96]


def test_a_lag_means_the_same_wall_clock_across_a_change_of_clocks() -> None:
    from forecasting.features import History, load_features
    from forecasting.series import calendar

    # 2016-03-27: Berlin loses an hour. 08:00 CEST is 06:00Z; the day before 08:00 CET was 07:00Z.
    start = 1_458_345_600  # 2016-03-19T00:00Z
    size = 12 * 24
    clock = calendar(start, 3600, size, "Europe/Berlin", None, None)
    values = np.arange(size, dtype=np.float64)
    row = np.array([8 * 24 + 6])
    columns = load_features(History(values, 3600, clock), row, np.array([6]))
    assert columns["day_ago"][0] == 7 * 24 + 7


def test_the_same_input_gives_the_same_bits(made_up: Maker) -> None:
    series = made_up(40)
    first, second = (forecast(series, 96, BERLIN) for _ in range(2))
    assert first.q10.tobytes() == second.q10.tobytes()
    assert first.mean.tobytes() == second.mean.tobytes()


@pytest.mark.parametrize(
    ("days", "name"),
    [(13, "seasonal-naive-week"), (3, "seasonal-naive-day"), (0.5, "constant-mean")],
)
def test_short_history_falls_back_by_name(made_up: Maker, days: float, name: str) -> None:
    series = made_up(14)
    short = replace(series, values=series.values[: int(days * 96)])
    made = forecast(short, 96, BERLIN)
    assert made.model == name
    assert f"{days:.1f} days" in made.reason
    assert (made.q10 <= made.q50).all()
    assert (made.q50 <= made.q90).all()


def test_last_weeks_values_stand_in_where_a_week_is_known(made_up: Maker) -> None:
    series = made_up(8)
    made = forecast(series, 96, BERLIN)
    np.testing.assert_allclose(made.mean, series.values[96 : 2 * 96])


def test_a_long_outage_is_said_and_survived(made_up: Maker) -> None:
    series = made_up(40)
    values = series.values.copy()
    values[-8 * 96 :] = np.nan
    made = forecast(replace(series, values=values), 96, BERLIN)
    assert made.model == "seasonal-naive-week"
    assert "no value in the last seven days" in made.reason
    assert np.isfinite(made.q50).all()


def test_scattered_missing_values_are_not_taken_for_zero(made_up: Maker) -> None:
    series = made_up(40)
    values = series.values.copy()
    values[np.random.default_rng(0).random(values.size) < 0.2] = np.nan
    whole = forecast(series, 96, BERLIN)
    holes = forecast(replace(series, values=values), 96, BERLIN)
    assert holes.model == "prophet"
    assert np.abs(holes.mean - whole.mean).mean() < 0.05 * whole.mean.mean()


def test_a_perfectly_regular_series_is_forecast_as_it_repeats() -> None:
    values = np.tile(np.arange(24.0), 40)
    made = forecast(IntervalSeries(0, 3600, values), 24)
    np.testing.assert_allclose(made.q50, np.arange(24.0), atol=0.01)


def test_a_model_that_cannot_be_fitted_falls_back_by_name(
    made_up: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    from forecasting import ridge_backend

    def refuse(*_: object) -> None:
        raise ridge_backend.NotRidge("as a test")

    monkeypatch.setattr(ridge_backend, "fit_ridge", refuse)
    made = forecast(made_up(30), 96, BERLIN)
    assert made.model == "seasonal-naive-week"
    assert "could not be fitted (as a test)" in made.reason


def test_a_constant_series_stays_constant() -> None:
    made = forecast(IntervalSeries(0, 3600, np.full(30 * 24, 5.0)), 24)
    assert made.model == "seasonal-naive-week"
    assert made.q10.tolist() == made.q90.tolist() == [5.0] * 24


def test_solar_is_never_negative_and_zero_at_night() -> None:
    from forecasting.series import clear_sky

    start, days = 1_462_060_800, 40  # 2016-05-01
    place = Location(53.65, 11.41)
    utc = start + 900 * np.arange((days + 1) * 96)
    cloud = np.repeat(np.random.default_rng(0).uniform(0.2, 1.0, days + 1), 96)
    output = clear_sky(utc, 900, place) * cloud
    series = IntervalSeries(start, 900, output[: days * 96])
    made = forecast(series, 96, Settings(kind="solar", location=place))
    assert made.model == "prophet"
    night = clear_sky(utc[days * 96 :], 900, place) == 0
    assert night.any()
    for band in (made.q10, made.q50, made.q90, made.mean):
        assert (band >= 0).all()
        assert (band[night] == 0).all()
    assert made.q90.max() > 100


def test_a_horizon_of_a_week_is_forecast_in_one_go(made_up: Maker) -> None:
    series = made_up(60, 3600)
    made = forecast(series, 7 * 24, BERLIN)
    assert made.q50.size == 7 * 24
    assert made.model == "prophet"


@pytest.mark.parametrize(
    ("horizon", "values", "words"),
    [
        (0, np.ones(100), "at least 1"),
        (-5, np.ones(100), "at least 1"),
        (32 * 24, np.ones(100), "at most 31 days"),
        (24, np.full(100, np.nan), "no value"),
    ],
)
def test_what_cannot_be_forecast_is_refused(horizon: int, values: np.ndarray, words: str) -> None:
    with pytest.raises(BadUse, match=words):
        forecast(IntervalSeries(0, 3600, values), horizon)


def test_an_interval_that_no_meter_has_is_refused() -> None:
    with pytest.raises(BadUse, match="15, 30 or 60"):
        IntervalSeries(0, 600, np.ones(10))


def test_a_series_from_before_1970_is_forecast_like_any_other(made_up: Maker) -> None:
    old = made_up(30, 3600, start=-2_208_988_800)  # 1900-01-01
    made = forecast(old, 24)
    assert made.model == "prophet"
    assert np.isfinite(made.q10).all()
